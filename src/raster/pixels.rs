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

impl SampleType {
    /// Bytes of a sample in memory.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// What a band shows, by its file's colour interpretation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BandColour {
    /// Red light.
    Red,
    /// Green light.
    Green,
    /// Blue light.
    Blue,
    /// Something else that is known, such as near infrared.
    Other,
}

impl BandColour {
    /// What sentences call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Other => "another colour",
        }
    }
}

/// One band of a raster.
#[derive(Clone, Debug, PartialEq)]
pub struct BandInfo {
    /// The description in the file (`B04`, `red`), if it has one.
    pub description: Option<String>,
    /// What it shows, if the file says so.
    pub colour: Option<BandColour>,
    /// The value that stands for "no data".
    pub nodata: Option<f64>,
    /// True if the band is a mask, not data.
    pub is_alpha: bool,
    /// The file says: physical value = `scale` x pixel + `offset`. Pixels are returned unscaled.
    pub scale: f64,
    /// See `scale`.
    pub offset: f64,
}

impl Default for BandInfo {
    fn default() -> Self {
        Self { description: None, colour: None, nodata: None, is_alpha: false, scale: 1.0, offset: 0.0 }
    }
}

impl BandInfo {
    /// What the band has in a pixel that is valid because of other bands, where the band itself has no data: its "no data" value if that
    /// may as well have been measured (255 is also a bright roof), and 0 if it stands for nothing else (-9999).
    pub(crate) fn value_without_data(&self) -> f32 {
        const MOST: f64 = 1e30;
        self.nodata.filter(|nodata| (0.0..MOST).contains(nodata)).unwrap_or(0.0) as f32
    }
}

/// Properties of a raster that are known without reading pixels.
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
    /// Its georeference, if it has one.
    pub georef: Option<Georef>,
    /// True if the samples are already network input (a float array) and need no scaling.
    pub is_normalised: bool,
    /// The reduced-resolution copies, largest first.
    pub overviews: Vec<Overview>,
}

/// A reduced-resolution copy of a raster. The position (`x`, `y`) on the raster is `x * factor.0 + shift.0` and
/// `y * factor.1 + shift.1` on the overview; (0, 0) is the outer corner of the first pixel of each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overview {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Columns and rows per column and row of the raster, below 1.
    pub factor: (f64, f64),
    /// Columns and rows; 0 if each pixel stands for the area that it covers.
    pub shift: (f64, f64),
}

impl Overview {
    /// An overview whose pixels divide a raster of `full` columns and rows among them.
    pub(crate) fn of_areas((width, height): (usize, usize), full: (usize, usize)) -> Self {
        let factor = (width as f64 / full.0 as f64, height as f64 / full.1 as f64);
        Self { width, height, factor, shift: (0.0, 0.0) }
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// Whether each pixel stands for the area that it covers, and not for a place in it.
    pub(crate) fn is_of_areas(&self) -> bool {
        self.shift == (0.0, 0.0)
    }
}

/// A rectangle of pixels. It may reach beyond the raster; pixels there are invalid.
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
    /// Those of its columns that lie in a raster of `width`.
    pub(crate) fn cols_within(&self, width: usize) -> Range<usize> {
        overlap(self.col, self.width, width)
    }

    /// Those of its rows that lie in a raster of `height`.
    pub(crate) fn rows_within(&self, height: usize) -> Range<usize> {
        overlap(self.row, self.height, height)
    }

    /// Index in the window of a raster's pixel, which must lie inside.
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
    /// `[height, width, bands]`; 0 where invalid. A band that equals its "no data" value in a valid pixel keeps it, unless that is
    /// negative.
    pub pixels: Vec<f32>,
    /// `[height, width]`; true if the pixel is not masked and has data in at least one band.
    pub valid: Vec<bool>,
}

impl Patch {
    /// A patch without any data.
    pub fn empty(width: usize, height: usize, bands: usize) -> Self {
        Self { width, height, bands, pixels: vec![0.0; width * height * bands], valid: vec![false; width * height] }
    }

    /// Invalidates the pixels that are false in `covered` (`[height, width]`); an empty `covered` changes nothing.
    pub(crate) fn mask(&mut self, covered: &[bool]) {
        for (index, _) in covered.iter().enumerate().filter(|(_, covered)| !**covered) {
            self.valid[index] = false;
            self.pixels[index * self.bands..][..self.bands].fill(0.0);
        }
    }

    /// Sets invalid pixels to 0.
    pub(crate) fn blank_invalid(&mut self) {
        let pixels = self.pixels.chunks_exact_mut(self.bands.max(1)).zip(&self.valid);
        pixels.filter(|(_, valid)| !**valid).for_each(|(pixel, _)| pixel.fill(0.0));
    }

    /// True if no pixel is valid.
    pub fn is_empty(&self) -> bool {
        !self.valid.iter().any(|valid| *valid)
    }
}

/// How a warped pixel is computed from source pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Resampling {
    /// The source pixel that contains the position.
    Nearest,
    /// Weighted mean of the nearest four.
    #[default]
    Bilinear,
    /// Catmull-Rom over the nearest sixteen.
    Cubic,
    /// Mean of all that lie under the output pixel.
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
    /// Size, bands, georeference and overviews.
    fn info(&self) -> &RasterInfo;

    /// Reads `window` of the full-resolution image (`level` 0) or of overview `level - 1`, in that level's pixels;
    /// `bands` are 0-based and may repeat.
    ///
    /// # Errors
    /// [`RasterError`] if a band or level does not exist, or the file cannot be decoded there.
    fn read(&self, level: usize, window: PixelWindow, bands: &[usize]) -> Result<Patch, RasterError>;

    /// Reads on another grid. Rasters made of other rasters warp each of those straight onto it; all others return `None` and are
    /// read by window.
    fn warped(&self, _target: &Georef, _bands: &[usize], _resampling: Resampling) -> Option<Result<Patch, RasterError>> {
        None
    }

    /// Sentences about the pixels that a user of them should know.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}
