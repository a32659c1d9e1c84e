//! From rasters to the network's input: which bands, which captures, which scale.

use std::sync::Arc;

use super::error::EngineError;
use super::shim::{Preset, Scaling, match_bands};
use crate::georef::Georef;
use crate::raster::{Patch, PixelWindow, Raster, RasterInfo, Resampling, Source};
use crate::zoo::ModelSpec;

/// How pixels are picked and scaled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PixelOptions {
    /// 0-based bands in the model's order; `None` matches them by name, else by count.
    pub bands: Option<Vec<usize>>,
    /// A named scaling; `None` is the model's own.
    pub preset: Option<Preset>,
    /// Added to 16-bit counts before scaling (`-1000` for Sentinel-2 baseline 04.00 and later).
    pub dn_offset: Option<i32>,
    /// 0-based captures of a source; `None` takes all, up to the model's most.
    pub captures: Option<Vec<usize>>,
}

/// The network's input for one window.
pub(super) struct WindowPixels {
    /// `[captures, height, width, bands]`, 0 … 1.
    pub(super) values: Vec<f32>,
    /// Captures, height, width, bands; the sides are padded to what the network takes.
    pub(super) shape: [usize; 4],
    /// `[height, width]` of the padded window: whether any capture has data; `None` where all of it has.
    pub(super) valid: Option<Vec<bool>>,
    /// Sentences about suspicious values.
    pub(super) warnings: Vec<String>,
}

/// Sides are padded to a multiple of this: the first convolution's stride, so that answers have a value for every pixel.
const SIDE_MULTIPLE_PX: usize = 4;
/// Least side of the network's input: its last map has 1/32 of it.
const MIN_SIDE_PX: usize = 32;

/// Reads a window of a source on the grid `target`; `None` where no capture has data there.
pub(super) fn read_source_window(
    source: &Source,
    spec: &ModelSpec,
    target: &Georef,
    options: &PixelOptions,
) -> Result<Option<WindowPixels>, EngineError> {
    let chosen: Vec<usize> = match &options.captures {
        Some(captures) => captures.clone(),
        None => (0..source.captures().len()).collect(),
    };
    check_count(spec, chosen.len())?;
    let info = source.raster_info();
    let bands = match_bands(spec, info, options.bands.as_deref())?;
    let scaling = Scaling::new(spec, options.preset, options.dn_offset)?;
    let read = |capture: &usize| Ok(source.read(*capture, target, &bands, Resampling::Bilinear)?);
    let patches = chosen.iter().map(read).collect::<Result<Vec<Patch>, EngineError>>()?;
    Ok(input(&patches, &scaling, info, target.width, target.height))
}

/// Reads a window of uploaded captures in their own pixels; `None` where no capture has data there.
pub(super) fn read_scene_window(
    captures: &[Arc<dyn Raster>],
    spec: &ModelSpec,
    window: PixelWindow,
    normalised: bool,
    options: &PixelOptions,
) -> Result<Option<WindowPixels>, EngineError> {
    let Some(first) = captures.first() else { return Ok(None) };
    let bands = match_bands(spec, first.info(), options.bands.as_deref())?;
    let scaling = if normalised { Scaling::none(spec) } else { Scaling::new(spec, options.preset, options.dn_offset)? };
    let read = |raster: &Arc<dyn Raster>| Ok(raster.read(0, window, &bands)?);
    let patches = captures.iter().map(read).collect::<Result<Vec<Patch>, EngineError>>()?;
    let side = |pixels: usize| pixels.next_multiple_of(SIDE_MULTIPLE_PX).max(MIN_SIDE_PX);
    Ok(input(&patches, &scaling, first.info(), side(window.width), side(window.height)))
}

/// Scales the captures that have data and stacks them; pixels beyond a patch are padding.
fn input(patches: &[Patch], scaling: &Scaling, info: &RasterInfo, width: usize, height: usize) -> Option<WindowPixels> {
    let present: Vec<&Patch> = patches.iter().filter(|patch| !patch.is_empty()).collect();
    let bands = present.first()?.bands;
    let mut values = Vec::with_capacity(present.len() * width * height * bands);
    let mut valid = vec![false; width * height];
    let mut warnings = Vec::new();
    for patch in &present {
        let scaled = scaling.apply(patch);
        for row in 0..height {
            let inside = row < patch.height;
            if inside {
                values.extend_from_slice(&scaled[row * patch.width * bands..][..patch.width * bands]);
                let line = &mut valid[row * width..][..patch.width];
                line.iter_mut().zip(&patch.valid[row * patch.width..]).for_each(|(any, one)| *any |= one);
            }
            values.resize(values.len() + (width - if inside { patch.width } else { 0 }) * bands, 0.0);
        }
        for warning in scaling.warnings(info, patch) {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }
    let complete = valid.iter().all(|valid| *valid);
    let shape = [present.len(), height, width, bands];
    Some(WindowPixels { values, shape, valid: (!complete).then_some(valid), warnings })
}

/// Checks that uploaded captures fit the model and each other; returns their common size.
pub(super) fn check_captures(spec: &ModelSpec, captures: &[Arc<dyn Raster>]) -> Result<(usize, usize), EngineError> {
    check_count(spec, captures.len())?;
    let sizes: Vec<(usize, usize)> = captures.iter().map(|raster| (raster.info().width, raster.info().height)).collect();
    let first = sizes[0];
    if let Some(at) = sizes.iter().position(|size| *size != first) {
        let detail = format!(
            "captures must lie on one grid: the first has {} x {} px, number {} has {} x {} px",
            first.0,
            first.1,
            at + 1,
            sizes[at].0,
            sizes[at].1
        );
        return Err(EngineError::Unusable { detail });
    }
    Ok(first)
}

fn check_count(spec: &ModelSpec, count: usize) -> Result<(), EngineError> {
    if (1..=spec.max_images).contains(&count) {
        return Ok(());
    }
    let needed = match spec.max_images {
        1 => "exactly 1 capture".to_owned(),
        most => format!("1 to {most} captures"),
    };
    let hint = if count > spec.max_images { "; choose some with captures=" } else { "" };
    Err(EngineError::Unusable { detail: format!("model {} takes {needed}, and {count} were given{hint}", spec.id) })
}
