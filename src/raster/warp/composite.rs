//! One capture whose bands lie in several files with different grids (Sentinel-2 has bands of 10, 20 and 60 m).
//!
//! Each file is warped straight onto the wanted grid, so no pixel is resampled twice.

use std::sync::Arc;

use rayon::prelude::*;

use super::project::warp;
use crate::georef::{GeoTransform, Georef};
use crate::raster::error::RasterError;
use crate::raster::pixels::{BandInfo, Overview, Patch, PixelWindow, Raster, RasterInfo, Resampling, SampleType};

/// The bands of several rasters as those of one.
pub struct Composite {
    info: RasterInfo,
    parts: Vec<Arc<dyn Raster>>,
    /// Part and band number there, for each band.
    places: Vec<(usize, usize)>,
    warnings: Vec<String>,
}

impl Composite {
    /// The bands of `parts` in order, on the grid of the part with the smallest pixels.
    ///
    /// # Errors
    /// [`RasterError::NoSuchPart`] without parts, [`RasterError::NotGeoreferenced`] if one has no georeference,
    /// [`RasterError::BandMismatch`] if their coordinate systems differ.
    pub fn new(name: &str, parts: Vec<Arc<dyn Raster>>) -> Result<Self, RasterError> {
        let georeferenced = |part: &Arc<dyn Raster>| part.info().georef.clone();
        let grids = parts.iter().map(georeferenced).collect::<Option<Vec<Georef>>>();
        let grids = grids.ok_or_else(|| RasterError::NotGeoreferenced { name: format!("a band file of {name}") })?;
        let area = |grid: &Georef| {
            let t = grid.transform;
            (t.pixel_width * t.pixel_height - t.row_skew * t.col_skew).abs()
        };
        let finest = grids.iter().min_by(|a, b| area(a).total_cmp(&area(b)));
        let Some(finest) = finest else { return Err(RasterError::NoSuchPart { what: "band file", index: 0, count: 0 }) };
        if let Some(other) = grids.iter().find(|grid| grid.crs != finest.crs) {
            return Err(RasterError::BandMismatch {
                found: format!("the band files of {name} lie in {} and {}", finest.crs, other.crs),
                needed: "one coordinate system is needed".to_owned(),
            });
        }
        let places: Vec<(usize, usize)> = (0..parts.len())
            .flat_map(|part| {
                let bands = &parts[part].info().bands;
                (0..bands.len()).filter(|band| !bands[*band].is_alpha).map(move |band| (part, band))
            })
            .collect();
        let bands: Vec<BandInfo> = places.iter().map(|(part, band)| parts[*part].info().bands[*band].clone()).collect();
        let info = RasterInfo {
            width: finest.width,
            height: finest.height,
            bands,
            sample_type: widest(&parts),
            georef: Some(finest.clone()),
            is_normalised: false,
            overviews: overviews_of(finest.width, finest.height, &parts),
        };
        Ok(Self { info, parts, places, warnings: Vec::new() })
    }

    /// The same with `names` as descriptions of the bands, in order.
    pub fn described(mut self, names: Vec<String>) -> Self {
        self.info.bands.iter_mut().zip(names).for_each(|(band, name)| band.description = Some(name));
        self
    }

    /// The same with only the bands that have the descriptions `names`, in that order.
    pub fn only(mut self, names: &[String]) -> Self {
        let described = |name: &String| self.info.bands.iter().position(|band| band.description.as_ref() == Some(name));
        let kept: Vec<usize> = names.iter().filter_map(described).collect();
        self.places = kept.iter().map(|band| self.places[*band]).collect();
        self.info.bands = kept.iter().map(|band| self.info.bands[*band].clone()).collect();
        self
    }

    /// The same with one more warning.
    pub fn with_warning(mut self, warning: &str) -> Self {
        self.warnings.push(warning.to_owned());
        self
    }

    /// Reads `bands` (0-based) on the grid `target`. A pixel is valid if any band has data.
    ///
    /// # Errors
    /// As [`warp`](fn@warp) of each part.
    fn warp(&self, target: &Georef, bands: &[usize], resampling: Resampling) -> Result<Patch, RasterError> {
        let count = self.places.len();
        if let Some(band) = bands.iter().find(|band| **band >= count) {
            return Err(RasterError::NoSuchBand { band: band + 1, count });
        }
        let read = |part: usize| -> Result<Option<(Vec<usize>, Patch)>, RasterError> {
            let slots: Vec<usize> = (0..bands.len()).filter(|slot| self.places[bands[*slot]].0 == part).collect();
            if slots.is_empty() {
                return Ok(None);
            }
            let own: Vec<usize> = slots.iter().map(|slot| self.places[bands[*slot]].1).collect();
            Ok(Some((slots, warp(&*self.parts[part], target, &own, resampling)?)))
        };
        let parts = (0..self.parts.len()).into_par_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let mut whole = Patch::empty(target.width, target.height, bands.len());
        for (slots, part) in parts.into_iter().flatten() {
            let without_data = slots.iter().map(|slot| self.info.bands[bands[*slot]].value_without_data());
            let without_data: Vec<f32> = without_data.collect();
            for (pixel, values) in part.pixels.chunks_exact(slots.len()).enumerate() {
                whole.valid[pixel] |= part.valid[pixel];
                let values = if part.valid[pixel] { values } else { &without_data };
                for (slot, value) in slots.iter().zip(values) {
                    whole.pixels[pixel * bands.len() + slot] = *value;
                }
            }
        }
        whole.blank_invalid();
        Ok(whole)
    }
}

/// The sample type of the part whose samples take the most bits.
pub(crate) fn widest(parts: &[Arc<dyn Raster>]) -> SampleType {
    let bits = |sample_type: &SampleType| match sample_type {
        SampleType::U8 => 8,
        SampleType::U16 | SampleType::I16 => 16,
        SampleType::U32 | SampleType::I32 => 32,
        SampleType::F32 => 33,
        SampleType::F64 => 64,
    };
    parts.iter().map(|part| part.info().sample_type).max_by_key(bits).unwrap_or(SampleType::U8)
}

/// As many halved sizes as the part with the most overviews has. Each part chooses its own level when it is warped.
pub(crate) fn overviews_of(width: usize, height: usize, parts: &[Arc<dyn Raster>]) -> Vec<Overview> {
    let levels = parts.iter().map(|part| part.info().overviews.len()).max().unwrap_or(0);
    let halved = |size: usize, level: usize| size.div_ceil(1usize.checked_shl(level as u32).unwrap_or(usize::MAX)).max(1);
    (1..=levels).map(|level| Overview::of_areas((halved(width, level), halved(height, level)), (width, height))).collect()
}

/// The grid of a window of a level, for rasters that can only be read on grids.
pub(crate) fn window_grid(info: &RasterInfo, level: usize, window: PixelWindow) -> Result<Georef, RasterError> {
    let missing = || RasterError::NoSuchPart { what: "overview", index: level, count: info.overviews.len() + 1 };
    let full = (info.width, info.height);
    let size = match level.checked_sub(1) {
        Some(index) => info.overviews.get(index).map(Overview::size).ok_or_else(missing)?,
        None => full,
    };
    let grid = info.georef.as_ref().ok_or_else(missing)?;
    let (across, down) = (full.0 as f64 / size.0 as f64, full.1 as f64 / size.1 as f64);
    let t = grid.transform.shifted(window.col as f64 * across, window.row as f64 * down);
    let transform = GeoTransform {
        pixel_width: t.pixel_width * across,
        col_skew: t.col_skew * across,
        row_skew: t.row_skew * down,
        pixel_height: t.pixel_height * down,
        ..t
    };
    Ok(Georef { crs: grid.crs.clone(), transform, width: window.width, height: window.height })
}

impl Raster for Composite {
    fn info(&self) -> &RasterInfo {
        &self.info
    }

    fn read(&self, level: usize, window: PixelWindow, bands: &[usize]) -> Result<Patch, RasterError> {
        self.warp(&window_grid(&self.info, level, window)?, bands, Resampling::Bilinear)
    }

    fn warped(&self, target: &Georef, bands: &[usize], resampling: Resampling) -> Option<Result<Patch, RasterError>> {
        Some(self.warp(target, bands, resampling))
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.iter().cloned().chain(self.parts.iter().flat_map(|part| part.warnings())).collect()
    }
}
