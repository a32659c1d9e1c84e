//! Random access to a file's bytes, and the two sources on this machine: memory and disk.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

use bytes::Bytes;

use super::ReadError;

/// Random access to the bytes of one file.
pub trait ByteSource: Send + Sync {
    /// Bytes in the file.
    fn len(&self) -> u64;

    /// The `len` bytes from `offset`.
    ///
    /// # Errors
    /// [`ReadError::BeyondEnd`] if the file ends earlier (nothing is allocated then), or the failure of what holds the bytes.
    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, ReadError>;

    /// The bytes of several ranges (offset, length), in the given order. Remote sources fetch them together.
    ///
    /// # Errors
    /// As [`ByteSource::read_at`].
    fn get_ranges(&self, ranges: &[(u64, usize)]) -> Result<Vec<Bytes>, ReadError> {
        ranges.iter().map(|(offset, len)| self.read_at(*offset, *len)).collect()
    }

    /// True if the file has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Checks a range against the length of a file.
pub(super) fn check_range(offset: u64, len: usize, file_len: u64) -> Result<(), ReadError> {
    match offset.checked_add(len as u64) {
        Some(end) if end <= file_len => Ok(()),
        _ => Err(ReadError::BeyondEnd { offset, len, file_len }),
    }
}

impl ByteSource for Bytes {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, ReadError> {
        check_range(offset, len, ByteSource::len(self))?;
        let start = offset as usize;
        Ok(self.slice(start..start + len))
    }
}

/// A file on this machine, read by position so that threads need not take turns.
#[derive(Debug)]
pub struct FileBytes {
    file: File,
    len: u64,
}

impl FileBytes {
    /// Opens a file.
    ///
    /// # Errors
    /// The system's error, and [`io::ErrorKind::InvalidInput`] for what is no file: opening a pipe could wait for ever.
    pub fn open(path: &Path) -> io::Result<Self> {
        if !path.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { file, len })
    }

    /// Fills a buffer with the bytes from `offset`.
    ///
    /// # Errors
    /// As [`ByteSource::read_at`].
    pub fn read_into(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        check_range(offset, buffer.len(), self.len)?;
        Ok(read_exact_at(&self.file, offset, buffer)?)
    }

    /// What the file system knows of the file that was opened, which may have another name by now.
    ///
    /// # Errors
    /// The system's error.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
}

impl ByteSource for FileBytes {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, len: usize) -> Result<Bytes, ReadError> {
        // Checked before anything is allocated.
        check_range(offset, len, self.len)?;
        let mut buffer = vec![0; len];
        self.read_into(offset, &mut buffer)?;
        Ok(buffer.into())
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, buffer, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        offset += read as u64;
        buffer = &mut buffer[read..];
    }
    Ok(())
}
