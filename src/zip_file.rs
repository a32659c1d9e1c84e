//! Several files as one zip file in memory, the same every time.

use std::io::{self, Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A zip file that grows. What is put into it is compressed already, or small, so it is only stored.
pub(crate) struct ZipFile(ZipWriter<Cursor<Vec<u8>>>);

impl ZipFile {
    /// One without files.
    pub(crate) fn new() -> Self {
        Self(ZipWriter::new(Cursor::new(Vec::new())))
    }

    /// Adds a file.
    ///
    /// # Errors
    /// If the zip file has one of this name, or no room for it.
    pub(crate) fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        self.0.start_file(name, options)?;
        self.0.write_all(content)
    }

    /// Its bytes.
    ///
    /// # Errors
    /// If they cannot be completed.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        Ok(self.0.finish()?.into_inner())
    }
}
