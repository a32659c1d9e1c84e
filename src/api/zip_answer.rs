//! Several files as one answer.

use std::io::{Cursor, Write};

use bytes::Bytes;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::error::Problem;

/// A zip file with these names and contents, the same every time.
///
/// # Errors
/// If they do not fit into one.
pub(super) fn zipped(files: &[(String, Bytes)]) -> Result<Vec<u8>, Problem> {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(name, options).map_err(Problem::internal)?;
        zip.write_all(content).map_err(Problem::internal)?;
    }
    Ok(zip.finish().map_err(Problem::internal)?.into_inner())
}
