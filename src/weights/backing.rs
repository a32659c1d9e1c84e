//! The bytes of a checkpoint: a mapped file, or data embedded in the program.

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use memmap2::Mmap;

use super::error::WeightsError;

/// All bytes of a checkpoint.
#[derive(Debug)]
pub(super) enum Backing {
    /// A mapped file. `opened` is its length and modification time when it was mapped.
    Mapped {
        map: Mmap,
        file: File,
        opened: (u64, Option<SystemTime>),
    },
    Embedded(&'static [u8]),
}

impl Backing {
    /// Maps a file. Its pages are read when they are used.
    ///
    /// # Errors
    /// [`WeightsError::Io`] if the file cannot be opened or mapped.
    #[expect(unsafe_code, reason = "mapping a file is unsafe because another process may change it")]
    pub(super) fn map(path: &Path) -> Result<Self, WeightsError> {
        let io = |source| WeightsError::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(io(std::io::Error::other("not a file")));
        }
        let opened = (metadata.len(), metadata.modified().ok());
        // SAFETY: the map is read-only and private to this value. This program never writes a checkpoint in place: it
        // replaces files by renaming, which does not affect a mapped file. If another program has written in place,
        // `is_unchanged` detects it before tensors are read. The bytes are only interpreted as numbers.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self::Mapped { map, file, opened })
    }

    /// Whether the file's length and modification time are those it was mapped with. A file that was truncated must not be
    /// read: access to the missing pages ends the process.
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

    /// Loads the pages of a range at once, which is cheaper than one page fault after another.
    pub(super) fn prepare(&self, start: usize, len: usize) {
        #[cfg(target_os = "linux")]
        if let Self::Mapped { map, .. } = self {
            // Kernels before 5.14 do not know this advice; then pages are loaded when they are touched.
            let _ = map.advise_range(memmap2::Advice::PopulateRead, start, len);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (start, len);
    }

    /// Releases the pages of a range that has been copied, so that a model is not in memory twice while it is loaded.
    #[expect(unsafe_code, reason = "advice that drops pages is unsafe for maps that hold unsaved changes")]
    pub(super) fn forget(&self, start: usize, len: usize) {
        #[cfg(unix)]
        if let Self::Mapped { map, .. } = self {
            // SAFETY: the map is read-only and backed by a file, so a released page is read from the file again when it is
            // touched. A failure only costs memory, so it is ignored.
            let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, len) };
        }
        #[cfg(not(unix))]
        let _ = (start, len);
    }
}
