//! A folder of results as one zip file, for those who fetch them over HTTP.

use super::error::AreaError;
use super::folder::Folder;
use crate::zip_file::ZipFile;

/// The folder's files in the order of their names.
///
/// # Errors
/// If a file cannot be read, or all of them have more than `limit` bytes.
pub fn archive(folder: &Folder, limit: u64) -> Result<Vec<u8>, AreaError> {
    let names = folder.names()?;
    let found = folder.bytes(&names);
    if found > limit {
        return Err(AreaError::TooManyBytes { found, limit });
    }
    let failed = |error| AreaError::io("writing a zip file")(error);
    let mut zip = ZipFile::new();
    for name in names {
        let Some(bytes) = folder.read(&name)? else { continue };
        zip.add(&name, &bytes).map_err(failed)?;
    }
    zip.finish().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

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
