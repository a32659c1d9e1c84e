//! Reading the newest captures with data somewhere, without those that cannot be read.

use super::{CaptureSelection, Source};
use crate::georef::Georef;
use crate::raster::error::RasterError;
use crate::raster::pixels::{Patch, Resampling};

/// Captures that warnings name; all others are in the log.
const MAX_NAMED: usize = 3;

/// Captures with data at one place.
#[derive(Debug, Default)]
pub struct NewestCaptures {
    /// The pixels of each, in time order.
    pub patches: Vec<Patch>,
    /// What their rasters warn of.
    pub warnings: Vec<String>,
    /// Warnings of captures that were left out because they cannot be read.
    pub left_out: Vec<String>,
}

impl Source {
    /// Reads `bands` (0-based) of the newest `most` captures that have data on the grid `target`. A file that catalogues name and
    /// that is missing or damaged costs its capture alone, if another has data; captures that are chosen by number are all needed.
    ///
    /// # Errors
    /// As [`Source::select`] and [`Source::read`], unless the failure lasts and another capture has data.
    pub fn read_newest(
        &self,
        (wanted, most): (&CaptureSelection, usize),
        target: &Georef,
        bands: &[usize],
        resampling: Resampling,
    ) -> Result<NewestCaptures, RasterError> {
        let mut newest = NewestCaptures::default();
        let mut unreadable = None;
        for index in self.select(wanted)?.into_iter().rev() {
            match self.read(index, target, bands, resampling) {
                Ok(patch) if patch.is_empty() => {}
                Ok(patch) => {
                    newest.patches.push(patch);
                    newest.warnings.extend(self.capture(index)?.raster.warnings());
                }
                Err(error) if wanted.captures.is_some() || !error.is_lasting() => return Err(error),
                Err(error) => {
                    tracing::warn!(source = self.id, capture = index + 1, %error, "a capture is left out");
                    let time = self.capture(index)?.datetime.map_or_else(String::new, |time| format!(" of {time}"));
                    if newest.left_out.len() < MAX_NAMED {
                        newest.left_out.push(format!("Capture {}{time} is left out: {error}.", index + 1));
                    }
                    unreadable.get_or_insert(error);
                }
            }
            if newest.patches.len() == most {
                break;
            }
        }
        newest.patches.reverse();
        match unreadable {
            Some(error) if newest.patches.is_empty() => Err(error),
            _ => Ok(newest),
        }
    }
}
