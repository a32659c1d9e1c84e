//! Rasters and what is read out of them: patches of pixels with their validity.
//!
//! Pixels are `f32` in file units (8-, 16- and 24-bit integers are exact), channels last, with a validity mask.

use std::ops::Range;

use crate::georef::Georef;
use crate::raster::error::RasterError;

/// The type of a raster's samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampleType {
    /// Unsigned 8-bit.
    U8,
    /// Unsigned 16-bit.
    U16,
    /// Signed 16-bit.
    I16,
    /// Unsigned 32-bit.
    U32,
    /// Signed 32-bit.
    I32,
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
}

/// One band of a raster.
#[derive(Clone, Debug, PartialEq)]
pub struct BandInfo {
    /// The description in the file (`B04`, `red`), if it has one.
    pub description: Option<String>,
    /// The value that stands for "no data".
    pub nodata: Option<f64>,
    /// Whether the band is a mask rather than data.
    pub is_alpha: bool,
    /// Physical value = `scale` x pixel + `offset`, as the file says; pixels are handed out as they are.
    pub scale: f64,
    /// See `scale`.
    pub offset: f64,
}

impl Default for BandInfo {
    fn default() -> Self {
        Self { description: None, nodata: None, is_alpha: false, scale: 1.0, offset: 0.0 }
    }
}

/// What is known of a raster without reading pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct RasterInfo {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bands in file order.
    pub bands: Vec<BandInfo>,
    /// Type of every sample.
    pub sample_type: SampleType,
    /// Where it lies, if it says so.
    pub georef: Option<Georef>,
    /// Whether the samples are network input already (a float array), not pixel values that need scaling.
    pub is_normalised: bool,
    /// Sizes of the reduced-resolution copies, largest first.
    pub overviews: Vec<(usize, usize)>,
}

/// A rectangle of pixels; it may reach beyond the raster, where nothing is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelWindow {
    /// First column.
    pub col: i64,
    /// First row.
    pub row: i64,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl PixelWindow {
    /// Its columns that lie in a raster of `width`.
    pub(crate) fn cols_within(&self, width: usize) -> Range<usize> {
        overlap(self.col, self.width, width)
    }

    /// Its rows that lie in a raster of `height`.
    pub(crate) fn rows_within(&self, height: usize) -> Range<usize> {
        overlap(self.row, self.height, height)
    }

    /// Where in the window a raster's pixel lies, which must be inside.
    pub(crate) fn index_of(&self, col: usize, row: usize) -> usize {
        (row as i64 - self.row) as usize * self.width + (col as i64 - self.col) as usize
    }
}

/// The part of `start .. start + len` that lies in `0 .. size`.
fn overlap(start: i64, len: usize, size: usize) -> Range<usize> {
    let clamp = |edge: i64| edge.clamp(0, size as i64) as usize;
    clamp(start)..clamp(start.saturating_add_unsigned(len as u64))
}

/// Pixels with their validity.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bands.
    pub bands: usize,
    /// `[height, width, bands]`; 0 where invalid.
    pub pixels: Vec<f32>,
    /// `[height, width]`: whether the pixel has data: not masked, and not "no data" in all of its bands.
    pub valid: Vec<bool>,
}

impl Patch {
    /// A patch without any data.
    pub fn empty(width: usize, height: usize, bands: usize) -> Self {
        Self { width, height, bands, pixels: vec![0.0; width * height * bands], valid: vec![false; width * height] }
    }

    /// Makes invalid what `covered` (`[height, width]`) leaves out.
    pub(crate) fn mask(&mut self, covered: &[bool]) {
        for (index, _) in covered.iter().enumerate().filter(|(_, covered)| !**covered) {
            self.valid[index] = false;
            self.pixels[index * self.bands..][..self.bands].fill(0.0);
        }
    }

    /// Whether no pixel is valid.
    pub fn is_empty(&self) -> bool {
        !self.valid.iter().any(|valid| *valid)
    }
}

/// How a warped pixel is made from its neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Resampling {
    /// The pixel that holds the position.
    Nearest,
    /// Weighted mean of the four around it.
    #[default]
    Bilinear,
    /// Catmull-Rom over sixteen.
    Cubic,
    /// Mean of all that fall into the output pixel.
    Average,
}

impl std::str::FromStr for Resampling {
    type Err = RasterError;

    fn from_str(text: &str) -> Result<Self, RasterError> {
        match text {
            "nearest" => Ok(Self::Nearest),
            "bilinear" => Ok(Self::Bilinear),
            "cubic" => Ok(Self::Cubic),
            "average" => Ok(Self::Average),
            found => Err(RasterError::InvalidOption {
                what: "resampling",
                value: found.chars().take(100).collect(),
                needed: "nearest, bilinear, cubic or average is needed".to_owned(),
            }),
        }
    }
}

/// A grid of pixels that can be read by window.
pub trait Raster: Send + Sync {
    /// Size, bands, place, overviews.
    fn info(&self) -> &RasterInfo;

    /// Reads `window` of the full-resolution image (`level` 0) or of overview `level - 1`, in that level's pixels;
    /// `bands` are 0-based and may repeat.
    ///
    /// # Errors
    /// [`RasterError`] when a band does not exist or the file cannot be decoded there.
    fn read(&self, level: usize, window: PixelWindow, bands: &[usize]) -> Result<Patch, RasterError>;

    /// Reads on another grid, for rasters that are made of others: each of those is warped straight onto it. `None` for all
    /// other rasters, which [`warp`](fn@warp) reads by window.
    fn warped(&self, _target: &Georef, _bands: &[usize], _resampling: Resampling) -> Option<Result<Patch, RasterError>> {
        None
    }

    /// Sentences for whoever uses the raster's pixels, about what they are.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}
