//! A folder of results as one zip file, for those who fetch them over HTTP.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::error::AreaError;
use super::folder::Folder;

/// The folder's files in the order of their names. They are compressed already, so they are only stored.
///
/// # Errors
/// If a file cannot be read, or all of them have more than `limit` bytes.
pub fn archive(folder: &Folder, limit: u64) -> Result<Vec<u8>, AreaError> {
    let names = folder.names()?;
    let found = folder.bytes(&names);
    if found > limit {
        return Err(AreaError::TooManyBytes { found, limit });
    }
    let failed = |error: zip::result::ZipError| AreaError::io("writing a zip file")(error.into());
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for name in names {
        let Some(bytes) = folder.read(&name)? else { continue };
        zip.start_file(&name, options).map_err(failed)?;
        zip.write_all(&bytes).map_err(AreaError::io("writing a zip file"))?;
    }
    Ok(zip.finish().map_err(failed)?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_becomes_one_file_up_to_a_limit() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(root.path()).unwrap();
        folder.replace("b.json", b"{}").unwrap();
        folder.replace("a/1.tif", b"pixels").unwrap();
        let mut zip = zip::ZipArchive::new(Cursor::new(archive(&folder, 8).unwrap())).unwrap();
        let names: Vec<String> =
            (0..zip.len()).map(|file| zip.by_index(file).unwrap().name().unwrap().into_owned()).collect();
        assert_eq!(names, ["a/1.tif", "b.json"]);
        assert!(archive(&folder, 7).unwrap_err().to_string().contains("satlas-serve run"));
    }
}
