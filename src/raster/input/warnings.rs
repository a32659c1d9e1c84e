//! Warnings for the user: values that contradict the scaling, bands taken in file order, another resolution.

use super::bands::BandChoice;
use super::plan::{InputPlan, Scaling};
use crate::raster::pixels::{Patch, SampleType};

/// Ratio of pixel size to the model's training resolution from which on a warning is given.
const RESOLUTION_TOLERANCE: f64 = 1.5;

impl InputPlan {
    /// Warnings if a patch's values contradict the scaling, or bands were taken in file order.
    pub fn warnings(&self, patch: &Patch) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.choice == BandChoice::FileOrder && self.bands.len() > 3 {
            warnings.push(format!("The bands have no names; they were taken in file order as {}.", self.names.join(", ")));
        }
        if self.choice == BandChoice::Coloured {
            let numbers: Vec<String> = self.bands.iter().map(|band| (band + 1).to_string()).collect();
            warnings.push(format!(
                "By the file's colour interpretation, its bands {} were taken as {}; the option bands takes others.",
                numbers.join(", "),
                self.names.join(", ")
            ));
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
