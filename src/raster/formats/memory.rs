//! Rasters of computed pixels, and single captures of a stack.

use std::sync::Arc;

use crate::georef::Georef;
use crate::raster::error::RasterError;
use crate::raster::formats::samples::{Run, Samples};
use crate::raster::pixels::{BandInfo, Patch, PixelWindow, Raster, RasterInfo};

/// A raster of computed pixels, `[height, width, bands]`.
#[derive(Clone, Debug)]
pub struct MemoryRaster {
    info: RasterInfo,
    samples: Arc<Samples>,
}

impl MemoryRaster {
    /// A raster of the given pixels.
    ///
    /// # Errors
    /// [`RasterError::BandMismatch`] if the number of values is not a multiple of the number of pixels.
    pub fn from_values(width: usize, height: usize, values: Vec<f32>, georef: Option<Georef>) -> Result<Self, RasterError> {
        let bands = values.len() / (width * height).max(1);
        if bands == 0 || bands * width * height != values.len() {
            return Err(RasterError::BandMismatch {
                found: format!("{} values for {width} x {height} pixels", values.len()),
                needed: "a whole number of values per pixel is needed".to_owned(),
            });
        }
        let samples = Samples::F32(values);
        let info = RasterInfo {
            width,
            height,
            bands: vec![BandInfo::default(); bands],
            sample_type: samples.sample_type(),
            georef,
            is_normalised: false,
            overviews: Vec::new(),
        };
        Ok(Self { info, samples: Arc::new(samples) })
    }
}

impl Raster for MemoryRaster {
    fn info(&self) -> &RasterInfo {
        &self.info
    }

    fn read(&self, level: usize, window: PixelWindow, bands: &[usize]) -> Result<Patch, RasterError> {
        let step = self.info.bands.len();
        if level > 0 {
            return Err(RasterError::NoSuchPart { what: "overview", index: level, count: 1 });
        }
        if let Some(band) = bands.iter().find(|band| **band >= step) {
            return Err(RasterError::NoSuchBand { band: band + 1, count: step });
        }
        let mut patch = Patch::empty(window.width, window.height, bands.len());
        let Patch { pixels, valid, .. } = &mut patch;
        let cols = window.cols_within(self.info.width);
        for row in window.rows_within(self.info.height) {
            let to = window.index_of(cols.start, row);
            for (slot, band) in bands.iter().enumerate() {
                let start = band + (row * self.info.width + cols.start) * step;
                let run = Run { samples: &self.samples, start, step, len: cols.len() };
                run.for_each(None, |offset, value, _| {
                    pixels[(to + offset) * bands.len() + slot] = value;
                    valid[to + offset] = true;
                });
            }
        }
        Ok(patch)
    }
}

/// Consecutive bands of a raster as a raster of their own: one capture of a stacked file.
pub(crate) struct BandRange {
    inner: Arc<dyn Raster>,
    info: RasterInfo,
    first: usize,
}

impl BandRange {
    /// `count` bands from `first`.
    pub(crate) fn new(inner: Arc<dyn Raster>, first: usize, count: usize) -> Self {
        let info = inner.info();
        let info = RasterInfo { bands: info.bands[first..first + count].to_vec(), ..info.clone() };
        Self { inner, info, first }
    }
}

impl Raster for BandRange {
    fn info(&self) -> &RasterInfo {
        &self.info
    }

    fn read(&self, level: usize, window: PixelWindow, bands: &[usize]) -> Result<Patch, RasterError> {
        if let Some(band) = bands.iter().find(|band| **band >= self.info.bands.len()) {
            return Err(RasterError::NoSuchBand { band: band + 1, count: self.info.bands.len() });
        }
        let bands: Vec<usize> = bands.iter().map(|band| band + self.first).collect();
        self.inner.read(level, window, &bands)
    }
}
