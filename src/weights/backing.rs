//! The bytes of a checkpoint: a file that is read by position, or data in memory, such as what is embedded in the program.
//!
//! Files are not mapped: another program may truncate a file while it is read, and access to a missing page of a map ends the
//! process. Here that is a short read, which is an error.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::error::{WeightsError, file_name};
use crate::storage::{ByteSource, FileBytes};

/// No file system's clock ticks more slowly. Two writes within a tick leave the same modification time.
const TICK: Duration = Duration::from_millis(20);

/// All bytes of a checkpoint.
#[derive(Debug)]
pub(super) enum Backing {
    File { path: PathBuf, file: FileBytes, opened: FileState },
    Memory(Bytes),
}

/// What changes when somebody writes to a file.
type FileState = (u64, Option<SystemTime>);

impl Backing {
    /// Opens a file without reading it. The file may be renamed, deleted or replaced by renaming afterwards: what was opened is
    /// still read.
    ///
    /// # Errors
    /// [`WeightsError::Io`] if it cannot be opened.
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        let io = |source| WeightsError::Io { path: path.to_owned(), source };
        if state(&FileBytes::open(path).map_err(io)?).map_err(io)?.1.is_some_and(is_fresh) {
            thread::sleep(TICK);
        }
        let file = FileBytes::open(path).map_err(io)?;
        let opened = state(&file).map_err(io)?;
        Ok(Self::File { path: path.to_owned(), file, opened })
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::File { file, .. } => usize::try_from(file.len()).unwrap_or(usize::MAX),
            Self::Memory(bytes) => bytes.len(),
        }
    }

    /// The `len` bytes from `start`, as they were when the file was opened.
    ///
    /// # Errors
    /// [`WeightsError::Changed`] if the file has been written to since, [`WeightsError::Io`] if it cannot be read, or has no
    /// such bytes.
    pub(super) fn read(&self, start: usize, len: usize) -> Result<Bytes, WeightsError> {
        let bytes = self.read_unchecked(start, len);
        // What was read is only known to be good if the file is still the same after reading.
        self.check_unchanged()?;
        bytes.map_err(|source| self.io(source))
    }

    fn read_unchecked(&self, start: usize, len: usize) -> io::Result<Bytes> {
        let read = match self {
            Self::File { file, .. } => file.read_at(start as u64, len),
            Self::Memory(bytes) => bytes.read_at(start as u64, len),
        };
        read.map_err(|error| io::Error::new(io::ErrorKind::UnexpectedEof, error))
    }

    /// Checks that the file's length and modification time are those it was opened with.
    ///
    /// # Errors
    /// [`WeightsError::Changed`] if they are not.
    pub(super) fn check_unchanged(&self) -> Result<(), WeightsError> {
        match self {
            Self::File { path, file, opened } if state(file).ok().as_ref() != Some(opened) => {
                Err(WeightsError::Changed { file: file_name(path) })
            }
            _ => Ok(()),
        }
    }

    /// A reader from the first byte. What it gives is only good if [`Backing::check_unchanged`] says so afterwards.
    pub(super) fn reader(&self) -> BackingReader<'_> {
        BackingReader { backing: self, position: 0 }
    }

    fn io(&self, source: io::Error) -> WeightsError {
        let path = match self {
            Self::File { path, .. } => path.clone(),
            Self::Memory(_) => PathBuf::from("weights in memory"),
        };
        WeightsError::Io { path, source }
    }
}

fn state(file: &FileBytes) -> io::Result<FileState> {
    let metadata = file.metadata()?;
    Ok((metadata.len(), metadata.modified().ok()))
}

fn is_fresh(modified: SystemTime) -> bool {
    modified.elapsed().is_ok_and(|age| age < TICK)
}

/// Reads a backing as a file is read.
#[derive(Debug)]
pub(super) struct BackingReader<'a> {
    backing: &'a Backing,
    position: u64,
}

impl Read for BackingReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(self.position).unwrap_or(usize::MAX);
        let len = buffer.len().min(self.backing.len().saturating_sub(start));
        if len > 0 {
            buffer[..len].copy_from_slice(&self.backing.read_unchecked(start, len)?);
        }
        self.position += len as u64;
        Ok(len)
    }
}

impl Seek for BackingReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(steps) => self.position.checked_add_signed(steps),
            SeekFrom::End(steps) => (self.backing.len() as u64).checked_add_signed(steps),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
