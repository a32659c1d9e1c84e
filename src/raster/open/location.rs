//! What an operator names as imagery: where it lies and, if given, when it was taken.

use crate::raster::datetime::{Timestamp, instant_or_day};
use crate::raster::error::RasterError;
use crate::raster::open::capture::Capture;

/// A path or an address, optionally with the time of the single capture there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The path or the address.
    pub place: String,
    /// When it was taken; overrides the time in the file.
    pub datetime: Option<Timestamp>,
}

impl Location {
    /// A location whose capture was taken at `datetime`, an instant or the first instant of a day.
    ///
    /// # Errors
    /// [`RasterError::InvalidOption`] if `datetime` is neither.
    pub fn dated(place: &str, datetime: &str) -> Result<Self, RasterError> {
        Ok(Self { place: place.to_owned(), datetime: Some(instant_or_day(datetime)?) })
    }

    /// Sets the time of the capture that was found here.
    ///
    /// # Errors
    /// [`RasterError::InvalidOption`] if a time is given and there is not exactly one capture.
    pub(crate) fn date(&self, captures: &mut [Capture]) -> Result<(), RasterError> {
        let Some(datetime) = self.datetime else { return Ok(()) };
        let count = captures.len();
        let [capture] = captures else { return Err(self.misdated(&format!("{count} captures"))) };
        capture.datetime = Some(datetime);
        Ok(())
    }

    /// The error for a time given for something other than a single capture.
    pub(crate) fn misdated(&self, found: &str) -> RasterError {
        RasterError::InvalidOption {
            what: "datetime",
            value: self.datetime.map(|datetime| datetime.to_string()).unwrap_or_default(),
            needed: format!("a time can be named for a single capture, and here {found} are"),
        }
    }
}

impl From<String> for Location {
    fn from(place: String) -> Self {
        Self { place, datetime: None }
    }
}

impl From<&str> for Location {
    fn from(place: &str) -> Self {
        Self::from(place.to_owned())
    }
}
