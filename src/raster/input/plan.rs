//! The bands of a raster that a model reads, and how their values are scaled.

use super::bands::{BandChoice, choose};
use super::preset::{InputOptions, Preset};
use crate::raster::error::RasterError;
use crate::raster::pixels::{BandInfo, Patch, RasterInfo, SampleType};
use crate::zoo::{Band, ModelSpec};

/// Reflectance (times 10 000) that becomes 1 when B04, B03, B02 replace the true-colour image.
const REFLECTANCE_WHITE: f32 = 3000.0;

/// How one model's input is made from a raster: the bands to read and their scaling.
#[derive(Clone, Debug, PartialEq)]
pub struct InputPlan {
    pub(super) bands: Vec<usize>,
    /// Their names in the model or the preset.
    pub(super) names: Vec<String>,
    pub(super) scalings: Vec<Scaling>,
    pub(super) sensor: String,
    pub(super) choice: BandChoice,
    pub(super) sample_type: SampleType,
    pub(super) is_normalised: bool,
    /// Added to reflectances, from [`InputOptions`].
    pub(super) dn_offset: f32,
    /// Offset of each band, in digital numbers, that the raster declares.
    pub(super) declared_offsets: Vec<Option<f32>>,
}

/// `clip((pixel + shift) / scale, 0, 1)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scaling {
    pub(super) shift: f32,
    pub(super) scale: f32,
    /// True if the pixels are Sentinel-2 reflectances times 10 000.
    pub(super) is_reflectance: bool,
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
