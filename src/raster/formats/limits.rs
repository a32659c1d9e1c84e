//! Limits on the size of a raster, checked before anything is decoded.

use crate::raster::error::RasterError;

/// Limits on a file and the image in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file.
    pub max_bytes: u64,
    /// Pixels of one image, whatever its bands.
    pub max_pixels: u64,
}

impl Limits {
    /// No limits, for files of the operator.
    pub const NONE: Self = Self { max_bytes: u64::MAX, max_pixels: u64::MAX };

    /// Checks the size of a file.
    pub(crate) fn check_bytes(&self, name: &str, found: u64) -> Result<(), RasterError> {
        check(name, "bytes", found, self.max_bytes)
    }

    /// Checks the size of an image.
    pub(crate) fn check_pixels(&self, name: &str, width: u64, height: u64) -> Result<(), RasterError> {
        check(name, "pixels", width.saturating_mul(height), self.max_pixels)
    }
}

fn check(name: &str, what: &'static str, found: u64, limit: u64) -> Result<(), RasterError> {
    if found <= limit { Ok(()) } else { Err(RasterError::TooLarge { name: name.to_owned(), what, found, limit }) }
}
