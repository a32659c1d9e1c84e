//! Rasters in memory (arrays), and single captures of a stack.

use std::sync::Arc;

use crate::georef::Georef;
use crate::raster::error::RasterError;
use crate::raster::formats::samples::{Run, Samples};
use crate::raster::pixels::{BandInfo, Patch, PixelWindow, Raster, RasterInfo};

/// A raster whose samples are all in memory.
#[derive(Clone, Debug)]
pub struct MemoryRaster {
    info: RasterInfo,
    samples: Arc<Samples>,
    /// Index of the first sample, and the distances between neighbouring pixels of a row and between bands.
    start: usize,
    pixel_step: usize,
    band_step: usize,
}

impl MemoryRaster {
    /// The `[bands, height, width]` array that starts at sample `start` of a longer one.
    pub(crate) fn from_planes(
        samples: Arc<Samples>,
        start: usize,
        (bands, height, width): (usize, usize, usize),
        is_normalised: bool,
    ) -> Self {
        let info = RasterInfo {
            width,
            height,
            bands: vec![BandInfo::default(); bands],
            sample_type: samples.sample_type(),
            georef: None,
            is_normalised,
            overviews: Vec::new(),
        };
        Self { info, samples, start, pixel_step: 1, band_step: width * height }
    }

    /// A raster of computed pixels: `[height, width, bands]`.
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
        Ok(Self { info, samples: Arc::new(samples), start: 0, pixel_step: bands, band_step: 1 })
    }

    /// Calls `put(index in the window, value, has_data)` for every sample of a band that lies in the window, as [`Run::for_each`].
    fn for_each(&self, window: PixelWindow, band: usize, nodata: Option<f64>, mut put: impl FnMut(usize, f32, bool)) {
        let (cols, rows) = (window.cols_within(self.info.width), window.rows_within(self.info.height));
        for row in rows {
            let to = window.index_of(cols.start, row);
            let start = self.start + band * self.band_step + (row * self.info.width + cols.start) * self.pixel_step;
            let run = Run { samples: &self.samples, start, step: self.pixel_step, len: cols.len() };
            run.for_each(nodata, |offset, value, has_data| put(to + offset, value, has_data));
        }
    }
}

impl Raster for MemoryRaster {
    fn info(&self) -> &RasterInfo {
        &self.info
    }

    fn read(&self, level: usize, window: PixelWindow, bands: &[usize]) -> Result<Patch, RasterError> {
        if level > 0 {
            return Err(RasterError::NoSuchPart { what: "overview", index: level, count: 1 });
        }
        if let Some(band) = bands.iter().find(|band| **band >= self.info.bands.len()) {
            return Err(RasterError::NoSuchBand { band: band + 1, count: self.info.bands.len() });
        }
        let mut patch = Patch::empty(window.width, window.height, bands.len());
        for (slot, band) in bands.iter().enumerate() {
            let Patch { pixels, valid, .. } = &mut patch;
            self.for_each(window, *band, None, |index, value, _| {
                pixels[index * bands.len() + slot] = value;
                valid[index] = true;
            });
        }
        if let Some(alpha) = self.info.bands.iter().position(|band| band.is_alpha) {
            let mut covered = vec![false; patch.valid.len()];
            self.for_each(window, alpha, Some(0.0), |index, _, has_data| covered[index] = has_data);
            patch.mask(&covered);
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
