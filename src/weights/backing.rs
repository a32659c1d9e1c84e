//! The bytes of a checkpoint: a mapped file or the program's own read-only data.

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use memmap2::Mmap;

use super::WeightsError;

/// A whole checkpoint file as bytes.
#[derive(Debug)]
pub(super) enum Backing {
    /// The map, its file, and the file's length and time of change when it was mapped.
    Mapped {
        map: Mmap,
        file: File,
        opened: (u64, Option<SystemTime>),
    },
    Embedded(&'static [u8]),
}

impl Backing {
    /// Maps a file; pages are read when a tensor is.
    ///
    /// # Errors
    /// [`WeightsError::Io`] where the file cannot be opened or mapped.
    #[expect(unsafe_code, reason = "mapping a file is unsafe because another process may change it")]
    pub(super) fn map(path: &Path) -> Result<Self, WeightsError> {
        let io = |source| WeightsError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(io(std::io::Error::other("not a file")));
        }
        let opened = (metadata.len(), metadata.modified().ok());
        // SAFETY: the map is read-only and private to this value. A checkpoint is never written in place: this program
        // replaces files by renaming, which leaves a mapped one as it was, and `is_unchanged` tells when another has not done
        // so. Its bytes are only ever read as numbers.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self::Mapped { map, file, opened })
    }

    /// Whether the file is still as it was when it was mapped. One that was cut short meanwhile must not be read: its missing
    /// pages end the process.
    pub(super) fn is_unchanged(&self) -> bool {
        match self {
            Self::Mapped { file, opened, .. } => {
                file.metadata().is_ok_and(|now| (now.len(), now.modified().ok()) == *opened)
            }
            Self::Embedded(_) => true,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Mapped { map, .. } => map,
            Self::Embedded(bytes) => bytes,
        }
    }

    /// Brings the pages of a range in at one stroke, which is cheaper than one fault after another.
    pub(super) fn prepare(&self, start: usize, len: usize) {
        #[cfg(target_os = "linux")]
        if let Self::Mapped { map, .. } = self {
            // Kernels before 5.14 do not know this advice; then the pages come as they are touched.
            let _ = map.advise_range(memmap2::Advice::PopulateRead, start, len);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (start, len);
    }

    /// Lets the system forget the pages of a range that has been copied, so that a loading model is not in memory twice.
    #[expect(unsafe_code, reason = "advice that drops pages is unsafe for maps that hold unsaved changes")]
    pub(super) fn forget(&self, start: usize, len: usize) {
        #[cfg(unix)]
        if let Self::Mapped { map, .. } = self {
            // SAFETY: the map is read-only and file-backed, so a dropped page is read again from the file when touched.
            // Failure costs only memory, so it is not reported.
            let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, len) };
        }
        #[cfg(not(unix))]
        let _ = (start, len);
    }
}
