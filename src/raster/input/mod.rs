//! From pixel values to network input: named scalings, and warnings about values that contradict them.
//!
//! SatlasPretrain was trained on the Sentinel-2 L1C true-colour image (8-bit) and on reflectances divided by 8160. Without that
//! image, AllenAI's own tools use B04, B03 and B02 divided by 3000, which is the preset `reflectance`.

mod bands;

pub use bands::BandNumbers;

use std::str::FromStr;

use self::bands::{BandChoice, choose};
use crate::raster::error::RasterError;
use crate::raster::pixels::{BandInfo, Patch, RasterInfo, SampleType};
use crate::zoo::{Band, ModelSpec};

/// Reflectance (times 10 000) that becomes 1 when B04, B03, B02 replace the true-colour image.
const REFLECTANCE_WHITE: f32 = 3000.0;

/// Ratio of pixel size to the model's training resolution from which on a warning is given.
const RESOLUTION_TOLERANCE: f64 = 1.5;

/// How pixel values become network input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Preset {
    /// The model's own offset and scale per band, with the 8-bit true-colour image for Sentinel-2's colours.
    #[default]
    Tci,
    /// B04, B03, B02 / 3000 in place of the true-colour image.
    Reflectance,
}

/// What a request says about its input.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputOptions {
    /// The scaling.
    pub preset: Preset,
    /// Added to reflectances before scaling: -1000 for Sentinel-2 baseline 04.00 and later, unless the provider has removed the
    /// offset.
    pub dn_offset: f32,
    /// 1-based bands in the model's order.
    pub bands: Option<BandNumbers>,
}

fn invalid_preset(value: &str) -> RasterError {
    RasterError::InvalidOption {
        what: "preset",
        value: value.chars().take(100).collect(),
        needed: "tci and reflectance are the choices (dn_offset=NUMBER is an option of its own)".to_owned(),
    }
}

impl FromStr for Preset {
    type Err = RasterError;

    fn from_str(text: &str) -> Result<Self, RasterError> {
        match text {
            "tci" => Ok(Self::Tci),
            "reflectance" => Ok(Self::Reflectance),
            _ => Err(invalid_preset(text)),
        }
    }
}

/// How one model's input is made from a raster: the bands to read and their scaling.
#[derive(Clone, Debug, PartialEq)]
pub struct InputPlan {
    bands: Vec<usize>,
    /// Their names in the model or the preset.
    names: Vec<String>,
    scalings: Vec<Scaling>,
    sensor: String,
    choice: BandChoice,
    sample_type: SampleType,
    is_normalised: bool,
    /// Added to reflectances, from [`InputOptions`].
    dn_offset: f32,
    /// Offset of each band, in digital numbers, that the raster declares.
    declared_offsets: Vec<Option<f32>>,
}

/// `clip((pixel + shift) / scale, 0, 1)`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scaling {
    shift: f32,
    scale: f32,
    /// True if the pixels are Sentinel-2 reflectances times 10 000.
    is_reflectance: bool,
}

impl InputPlan {
    /// Finds the model's bands in a raster.
    ///
    /// # Errors
    /// [`RasterError::BandMismatch`] if bands are missing, [`RasterError::InvalidOption`] if the preset does not fit the model.
    pub fn new(info: &RasterInfo, model: &ModelSpec, options: &InputOptions) -> Result<Self, RasterError> {
        let is_sentinel2 = model.sensor == "sentinel2";
        if !is_sentinel2 && (options.preset == Preset::Reflectance || options.dn_offset != 0.0) {
            return Err(RasterError::InvalidOption {
                what: "preset",
                value: if options.preset == Preset::Reflectance { "reflectance" } else { "dn_offset" }.to_owned(),
                needed: format!("it is for Sentinel-2, and {} reads {}", model.id, model.sensor),
            });
        }
        let rules: Vec<(&str, Scaling)> = model.bands.iter().map(|band| rule(band, is_sentinel2, options)).collect();
        let names: Vec<&str> = rules.iter().map(|(name, _)| *name).collect();
        let (bands, choice) = choose(info, &names, options.bands.as_ref()).map_err(|error| match error {
            RasterError::BandMismatch { found, needed } if is_sentinel2 && options.preset == Preset::Tci => {
                let needed = format!("{needed}; preset=reflectance takes B04, B03, B02 in place of the true-colour image");
                RasterError::BandMismatch { found, needed }
            }
            error => error,
        })?;
        let declared_offsets = bands.iter().map(|band| declared_offset(&info.bands[*band])).collect();
        Ok(Self {
            bands,
            declared_offsets,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            scalings: rules.iter().map(|(_, scaling)| *scaling).collect(),
            sensor: model.sensor.clone(),
            choice,
            sample_type: info.sample_type,
            is_normalised: info.is_normalised,
            dn_offset: options.dn_offset,
        })
    }

    /// The 0-based bands to read, in the model's order.
    pub fn bands(&self) -> &[usize] {
        &self.bands
    }

    /// Network input `[height, width, bands]` from a patch of [`InputPlan::bands`]: 0 … 1, and 0 for pixels without data. Float
    /// arrays are passed on unchanged.
    pub fn normalise(&self, patch: &Patch) -> Vec<f32> {
        if self.is_normalised {
            return patch.pixels.clone();
        }
        let mut input = vec![0.0; patch.pixels.len()];
        let pixels = patch.pixels.chunks_exact(patch.bands).zip(&patch.valid);
        for ((pixel, _), input) in pixels.zip(input.chunks_exact_mut(patch.bands)).filter(|((_, valid), _)| **valid) {
            for ((value, scaling), input) in pixel.iter().zip(&self.scalings).zip(input) {
                *input = ((value + scaling.shift) / scaling.scale).clamp(0.0, 1.0);
            }
        }
        input
    }

    /// Warnings if a patch's values contradict the scaling, or bands were taken in file order.
    pub fn warnings(&self, patch: &Patch) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.choice == BandChoice::FileOrder && self.bands.len() > 3 {
            warnings.push(format!("The bands have no names; they were taken in file order as {}.", self.names.join(", ")));
        }
        warnings.extend(self.offset_warning());
        if !patch.is_empty() {
            let ranges: Vec<Range> = (0..patch.bands).map(|band| Range::of(patch, band)).collect();
            warnings.extend(self.value_warnings(&ranges));
        }
        warnings
    }

    /// A warning if the raster declares another offset than the one asked for.
    fn offset_warning(&self) -> Option<String> {
        let differs = |declared: &Option<f32>| declared.filter(|declared| (declared - self.dn_offset).abs() > 0.5);
        let bands = self.names.iter().zip(self.declared_offsets.iter().zip(&self.scalings));
        let bands = bands.filter(|(_, (_, scaling))| scaling.is_reflectance);
        let contradicting: Vec<(&str, f32)> =
            bands.filter_map(|(name, (declared, _))| Some((name.as_str(), differs(declared)?))).collect();
        let (_, declared) = contradicting.first()?;
        let names: Vec<&str> = contradicting.iter().map(|(name, _)| *name).collect();
        let names = names.join(", ");
        Some(if self.dn_offset == 0.0 {
            format!(
                "The product declares an offset of {declared} in {names} (Sentinel-2 processing baseline 04.00 and later), which is \
                 still in the values; dn_offset={declared} takes it out."
            )
        } else {
            format!(
                "dn_offset={} was asked for, but the product declares an offset of {declared} in {names}.",
                self.dn_offset
            )
        })
    }

    fn value_warnings(&self, ranges: &[Range]) -> Vec<String> {
        let low = ranges.iter().map(|range| range.min).fold(f32::INFINITY, f32::min);
        let high = ranges.iter().map(|range| range.max).fold(f32::NEG_INFINITY, f32::max);
        let span = format!("values go from {low} to {high}");
        if self.is_normalised {
            let is_unit = low >= -1e-3 && high <= 1.0 + 1e-3;
            let sentence = format!(
                "Float arrays are taken as network input between 0 and 1, but the {span}; send integers to have pixel values scaled."
            );
            return if is_unit { vec![] } else { vec![sentence] };
        }
        if low == 0.0 && high == 0.0 {
            return vec!["All pixels are 0; if that means \"no data\", declare it in the file's nodata tag.".to_owned()];
        }
        if self.sensor == "sentinel1" && low < 0.0 {
            return vec![format!(
                "The {span}, which looks like decibels; the model reads Sentinel-1 amplitudes (0 to 255 and more)."
            )];
        }
        let is_float = matches!(self.sample_type, SampleType::F32 | SampleType::F64);
        if is_float && high <= 2.0 && self.scalings.iter().all(|scaling| scaling.scale > 2.0) {
            let advice = if self.sensor == "sentinel2" {
                "multiply them by 10000 and use preset=reflectance"
            } else {
                "the model expects digital numbers"
            };
            return vec![format!("The {span}, which looks like reflectances as fractions; {advice}.")];
        }

        let mut warnings = Vec::new();
        let zeros = self.names_where(ranges, |range, _| range.min == 0.0 && range.max == 0.0);
        if !zeros.is_empty() {
            warnings.push(format!("All pixels are 0 in {zeros}."));
        }
        // Interpolation may exceed the file's values slightly, because weights are rounded.
        let bright = self.names_where(ranges, |range, scaling| {
            scaling.scale == 255.0 && scaling.shift == 0.0 && self.sensor != "sentinel1" && range.max > 255.5
        });
        if !bright.is_empty() {
            let advice = if self.sensor == "sentinel2" { " (preset=reflectance takes B04, B03, B02 instead)" } else { "" };
            warnings.push(format!("8-bit values (0 to 255) are expected in {bright}, but they reach {high}{advice}."));
        }
        let dark = self.names_where(ranges, |_, scaling| scaling.scale > 255.0 && self.sample_type == SampleType::U8);
        if !dark.is_empty() {
            warnings.push(format!("16-bit values are expected in {dark}, but the raster is 8-bit."));
        }
        let below = self.names_where(ranges, |range, scaling| range.max + scaling.shift <= 0.0 && range.max > 0.0);
        if !below.is_empty() && dark.is_empty() {
            warnings.push(format!(
                "Every value in {below} lies below the scaling's zero, so the network sees black; the {span}."
            ));
        }
        let raised = self.names_where(ranges, |range, scaling| scaling.is_reflectance && range.min >= 1000.0);
        let is_declared = self.declared_offsets.iter().any(Option::is_some);
        if !raised.is_empty() && self.dn_offset == 0.0 && !is_declared {
            warnings.push(format!(
                "No pixel in {raised} is below 1000, as in imagery since processing baseline 04.00; dn_offset=-1000 takes that offset out."
            ));
        }
        warnings
    }

    /// Names of the bands for which `test` is true, separated by commas.
    fn names_where(&self, ranges: &[Range], test: impl Fn(&Range, &Scaling) -> bool) -> String {
        let bands = self.names.iter().zip(ranges.iter().zip(&self.scalings));
        let names: Vec<&str> =
            bands.filter(|(_, (range, scaling))| test(range, scaling)).map(|(name, _)| name.as_str()).collect();
        names.join(", ")
    }
}

/// The offset in digital numbers that follows from a band's declared scale and offset; `None` if it declares no scale.
fn declared_offset(band: &BandInfo) -> Option<f32> {
    (band.scale != 1.0 && band.scale > 0.0).then(|| (band.offset / band.scale).round() as f32)
}

/// The band that a model's band is read from, and its scaling.
fn rule<'a>(band: &'a Band, is_sentinel2: bool, options: &InputOptions) -> (&'a str, Scaling) {
    let is_tci = is_sentinel2 && band.name.starts_with("tci_");
    if is_tci && options.preset == Preset::Reflectance {
        let name = match band.name.as_str() {
            "tci_r" => "b04",
            "tci_g" => "b03",
            _ => "b02",
        };
        return (name, Scaling { shift: options.dn_offset, scale: REFLECTANCE_WHITE, is_reflectance: true });
    }
    let is_reflectance = is_sentinel2 && !is_tci;
    let dn_offset = if is_reflectance { options.dn_offset } else { 0.0 };
    (&band.name, Scaling { shift: dn_offset - band.offset, scale: band.scale, is_reflectance })
}

/// Smallest and largest valid value of a band.
struct Range {
    min: f32,
    max: f32,
}

impl Range {
    fn of(patch: &Patch, band: usize) -> Self {
        let values = patch.pixels.iter().skip(band).step_by(patch.bands).zip(&patch.valid);
        let values = values.filter(|(_, valid)| **valid).map(|(value, _)| *value);
        values.fold(Self { min: f32::INFINITY, max: f32::NEG_INFINITY }, |range, value| Self {
            min: range.min.min(value),
            max: range.max.max(value),
        })
    }
}

/// A warning if a raster's pixels are much larger or smaller on the ground than those that a model was trained on.
pub fn resolution_warning(resolution_m: f64, native_gsd_m: f64) -> Option<String> {
    let ratio = resolution_m / native_gsd_m;
    let is_near = (1.0 / RESOLUTION_TOLERANCE..=RESOLUTION_TOLERANCE).contains(&ratio);
    (!is_near && ratio.is_finite()).then(|| {
        format!("The raster's pixels are {resolution_m:.3} m wide, but the model was trained on {native_gsd_m:.3} m; expect worse results.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::pretrained_models;

    fn model(id: &str) -> ModelSpec {
        pretrained_models().unwrap().into_iter().find(|model| model.id == id).unwrap()
    }

    fn info(names: &[&str], sample_type: SampleType) -> RasterInfo {
        let band = |name: &&str| BandInfo { description: Some((*name).to_owned()), ..BandInfo::default() };
        RasterInfo {
            width: 2,
            height: 1,
            bands: names.iter().map(band).collect(),
            sample_type,
            georef: None,
            is_normalised: false,
            overviews: vec![],
        }
    }

    /// A preset, and an offset after a comma.
    fn options(text: &str) -> InputOptions {
        let (preset, offset) = text.split_once(',').unwrap_or((text, "0"));
        InputOptions { preset: preset.parse().unwrap(), dn_offset: offset.parse().unwrap(), bands: None }
    }

    /// Two pixels, the second one invalid.
    fn patch(pixel: &[f32]) -> Patch {
        let pixels = pixel.iter().chain(pixel).copied().collect();
        Patch { width: 2, height: 1, bands: pixel.len(), pixels, valid: vec![true, false] }
    }

    const BANDS: [&str; 9] = ["B04", "B03", "B02", "B05", "B06", "B07", "B08", "B11", "B12"];

    #[test]
    fn reflectance_takes_b04_b03_b02_for_the_true_colour_image() {
        let options = super::tests::options("reflectance,-1000");
        let plan = InputPlan::new(&info(&BANDS, SampleType::U16), &model("Sentinel2_SwinB_SI_MS"), &options).unwrap();
        let input = plan.normalise(&patch(&[2500.0, 900.0, 9000.0, 2632.0, 1000.0, 1000.0, 1000.0, 1000.0, 1000.0]));
        assert_eq!(input[..4], [0.5, 0.0, 1.0, 0.2]);
        assert!(input[9..].iter().all(|value| *value == 0.0), "invalid pixels are 0");
    }

    #[test]
    fn landsat_is_scaled_from_4000_to_20320() {
        let names = ["B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11"];
        let plan =
            InputPlan::new(&info(&names, SampleType::U16), &model("Landsat_SwinB_SI"), &InputOptions::default()).unwrap();
        let input = plan.normalise(&patch(&[12_160.0; 11]));
        assert!(input[..11].iter().all(|value| *value == 0.5));
        assert!(
            InputPlan::new(&info(&names, SampleType::U16), &model("Landsat_SwinB_SI"), &options("reflectance")).is_err()
        );
    }

    #[test]
    fn a_missing_true_colour_image_points_to_the_other_preset() {
        let error =
            InputPlan::new(&info(&BANDS, SampleType::U16), &model("Sentinel2_SwinB_SI_MS"), &InputOptions::default());
        assert!(error.unwrap_err().to_string().contains("preset=reflectance"));
    }

    #[test]
    fn values_that_contradict_the_scaling_are_named() {
        let warnings = |id: &str, names: &[&str], sample_type, preset: &str, pixel: &[f32]| {
            let options = super::tests::options(preset);
            InputPlan::new(&info(names, sample_type), &model(id), &options).unwrap().warnings(&patch(pixel)).join(" ")
        };
        let rgb = ["tci_r", "tci_g", "tci_b"];
        let s2 = |sample_type, pixel: &[f32]| warnings("Sentinel2_SwinB_SI_RGB", &rgb, sample_type, "tci", pixel);
        assert_eq!(s2(SampleType::U8, &[10.0, 200.0, 30.0]), "");
        assert_eq!(s2(SampleType::U8, &[255.00003, 200.0, 30.0]), "", "white pixels, interpolated");
        assert!(s2(SampleType::U8, &[0.0, 0.0, 0.0]).contains("All pixels are 0"));
        assert!(s2(SampleType::U8, &[0.0, 9.0, 9.0]).contains("0 in tci_r"));
        assert!(s2(SampleType::F32, &[0.1, 0.2, 0.3]).contains("fractions"));
        assert!(s2(SampleType::U16, &[900.0, 200.0, 3000.0]).contains("expected in tci_r, tci_b"));
        let sar = |pixel: &[f32]| warnings("Sentinel1_SwinB_SI", &["VH", "VV"], SampleType::F32, "tci", pixel);
        assert!(sar(&[-20.0, -10.0]).contains("decibels"));
        assert_eq!(sar(&[40.0, 300.0]), "");
        let ms = |preset: &str, value: f32| warnings("Sentinel2_SwinB_SI_MS", &BANDS, SampleType::U16, preset, &[value; 9]);
        assert!(ms("reflectance", 1400.0).contains("dn_offset=-1000"));
        assert_eq!(ms("reflectance,-1000", 1400.0), "");
        assert_eq!(ms("reflectance", 400.0), "");
    }

    #[test]
    fn an_offset_that_the_product_declares_must_be_asked_for() {
        let mut raster = info(&BANDS, SampleType::U16);
        raster.bands.iter_mut().for_each(|band| (band.scale, band.offset) = (1e-4, -0.1));
        let warnings = |preset: &str| {
            let options = super::tests::options(preset);
            let plan = InputPlan::new(&raster, &model("Sentinel2_SwinB_SI_MS"), &options).unwrap();
            plan.warnings(&patch(&[1400.0; 9])).join(" ")
        };
        let found = warnings("reflectance");
        assert!(found.contains("dn_offset=-1000 takes it out") && found.contains("b12"), "{found}");
        assert!(!found.contains("No pixel"), "one sentence is enough: {found}");
        assert_eq!(warnings("reflectance,-1000"), "");
        assert!(warnings("reflectance,-500").contains("declares an offset of -1000"));
    }

    #[test]
    fn a_raster_of_another_resolution_is_named() {
        assert!(resolution_warning(60.0, 9.55).unwrap().contains("60.000 m"));
        assert_eq!(resolution_warning(10.0, 9.55), None);
    }
}
