//! From rasters to the network's input: selects captures and bands, scales pixel values.

use std::sync::Arc;

use super::error::EngineError;
use super::options::PixelOptions;
use crate::georef::Georef;
use crate::raster::{CaptureSelection, Extent, InputPlan, Patch, PixelWindow, Raster, Source, resolution_warning};
use crate::zoo::ModelSpec;

/// The network's input for one window.
pub(super) struct WindowPixels {
    /// `[captures, height, width, bands]`, 0 … 1.
    pub(super) values: Vec<f32>,
    /// Captures, height, width, bands.
    pub(super) shape: [usize; 4],
    /// `[height, width]`: true if any capture has data; `None` if every pixel has.
    pub(super) valid: Option<Vec<bool>>,
    /// Warnings about suspicious pixel values.
    pub(super) warnings: Vec<String>,
}

/// Reads a window of a source on the grid `target`; `None` if no capture has data there.
pub(super) fn read_source_window(
    source: &Source,
    spec: &ModelSpec,
    target: &Georef,
    options: &PixelOptions,
) -> Result<Option<WindowPixels>, EngineError> {
    // Too many captures named by number are an error; a time range or a whole series is cut to the newest with data.
    if options.captures.captures.is_some() {
        check_count(spec, source.select(&options.captures)?.len())?;
    }
    let plan = InputPlan::new(source.raster_info(), spec, &options.input())?;
    let newest = source.read_newest((&options.captures, spec.max_images), target, plan.bands(), options.resampling)?;
    let warnings = newest.warnings.into_iter().chain(newest.left_out).chain(source.undated_warning()).collect();
    Ok(input(&newest.patches, &plan, warnings))
}

/// Reads a window of uploaded captures in their own pixel grid; `None` if no capture has data there.
pub(super) fn read_scene_window(
    captures: &[Arc<dyn Raster>],
    spec: &ModelSpec,
    window: PixelWindow,
    options: &PixelOptions,
) -> Result<Option<WindowPixels>, EngineError> {
    let Some(first) = captures.first() else { return Ok(None) };
    let plan = InputPlan::new(first.info(), spec, &options.input())?;
    let place = first.info().georef.as_ref().and_then(Extent::of);
    let other_resolution = place.and_then(|place| resolution_warning(place.resolution_m, spec.native_gsd_m));
    let warnings = captures.iter().flat_map(|raster| raster.warnings()).chain(other_resolution).collect();
    let read = |raster: &Arc<dyn Raster>| Ok(raster.read(0, window, plan.bands())?);
    let patches = captures.iter().map(read).collect::<Result<Vec<Patch>, EngineError>>()?;
    Ok(input(&patches, &plan, warnings))
}

/// Scales the captures that have data and stacks them. Nothing is padded: the network would take it for a part of the image.
///
/// `warnings` about the captures come first, those about pixel values after them.
fn input(patches: &[Patch], plan: &InputPlan, mut warnings: Vec<String>) -> Option<WindowPixels> {
    let present: Vec<&Patch> = patches.iter().filter(|patch| !patch.is_empty()).collect();
    let Patch { width, height, bands, .. } = **present.first()?;
    let mut values = Vec::with_capacity(present.len() * width * height * bands);
    let mut valid = vec![false; width * height];
    warnings.dedup();
    for patch in &present {
        values.extend(plan.normalise(patch));
        valid.iter_mut().zip(&patch.valid).for_each(|(any, one)| *any |= one);
        for warning in plan.warnings(patch) {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
    }
    let complete = valid.iter().all(|valid| *valid);
    let shape = [present.len(), height, width, bands];
    Some(WindowPixels { values, shape, valid: (!complete).then_some(valid), warnings })
}

/// The requested captures of an upload, in time order.
///
/// # Errors
/// If a requested number exceeds the count of captures.
pub(super) fn chosen_captures(
    captures: &[Arc<dyn Raster>],
    wanted: &CaptureSelection,
) -> Result<Vec<Arc<dyn Raster>>, EngineError> {
    let Some(wanted) = &wanted.captures else { return Ok(captures.to_vec()) };
    if let Some(index) = wanted.iter().find(|index| **index >= captures.len()) {
        let (found, count) = (index + 1, captures.len());
        let detail =
            format!("captures: found {found}; numbers from 1 to {count}, the captures that were given, are needed");
        return Err(EngineError::Invalid { detail });
    }
    let is_wanted = |(index, _): &(usize, &Arc<dyn Raster>)| wanted.contains(index);
    Ok(captures.iter().enumerate().filter(is_wanted).map(|(_, raster)| raster.clone()).collect())
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
    let least = spec.backbone.least_side_px();
    if first.0.min(first.1) < least {
        let (width, height) = first;
        let detail =
            format!("the raster has {width} x {height} px, and model {} needs at least {least} x {least} px", spec.id);
        return Err(EngineError::Unusable { detail });
    }
    Ok(first)
}

/// Checks that a model takes so many captures.
pub(super) fn check_count(spec: &ModelSpec, count: usize) -> Result<(), EngineError> {
    if (1..=spec.max_images).contains(&count) {
        return Ok(());
    }
    let needed = match spec.max_images {
        1 => "exactly 1 capture".to_owned(),
        most => format!("1 to {most} captures"),
    };
    let hint = if count > spec.max_images { "; the option captures chooses some" } else { "" };
    Err(EngineError::Unusable { detail: format!("model {} takes {needed}, and {count} were given{hint}", spec.id) })
}
