//! Where results go: a folder of this machine, or objects of a bucket. A file is put under its name once and whole; whoever comes second
//! changes nothing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::error::AreaError;
use super::folder::Folder;
use crate::engine::blocking;
use crate::storage::{Bucket, ObjectStores, is_remote};

/// A place for the results of one job. Names of files may have one level of folders, with `/`.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A folder of this machine, or one that it sees.
    Folder(Folder),
    /// Objects below a prefix.
    Bucket(Bucket),
}

/// True if a place begins as an address does.
fn has_scheme(place: &str) -> bool {
    // A single letter is a drive of Windows.
    let is_scheme =
        |scheme: &str| scheme.len() > 1 && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    place.split_once(":/").is_some_and(|(scheme, _)| is_scheme(scheme))
}

/// Refuses what is no path of a folder.
fn check_folder(place: &str) -> Result<(), AreaError> {
    let needed = "a path, or a location that begins with s3://, gs:// or az://, is needed";
    if has_scheme(place) || place.trim().is_empty() {
        return Err(AreaError::Invalid { detail: format!("destination: found {place:?}; {needed}") });
    }
    if Path::new(place).is_file() {
        return Err(AreaError::Invalid { detail: format!("destination: found the file {place:?}; a folder is needed") });
    }
    Ok(())
}

impl Destination {
    /// What an operator has written: a path, or a location such as `s3://bucket/prefix`. A folder is made if it does not exist.
    ///
    /// # Errors
    /// If the folder cannot be made, or the location or the credentials for it cannot be used.
    pub fn open(place: &str) -> Result<Self, AreaError> {
        if is_remote(place) {
            return Ok(Self::Bucket(Bucket::open(place, &ObjectStores::from_environment())?));
        }
        check_folder(place)?;
        Ok(Self::Folder(Folder::open(Path::new(place))?))
    }

    /// Whether a place can be one, so that a mistake shows before there are results: nothing is made or asked.
    ///
    /// # Errors
    /// If its scheme is not known, or there is a file.
    pub fn check(place: &str) -> Result<(), AreaError> {
        if is_remote(place) {
            Ok(Bucket::open(place, &ObjectStores::from_environment()).map(drop)?)
        } else {
            check_folder(place)
        }
    }

    /// `place` as it is meant in a file: a relative path lies beside it.
    pub fn beside(file: &Path, place: String) -> String {
        // What is no path stays as it is, for `open` to refuse it.
        if is_remote(&place) || has_scheme(&place) {
            return place;
        }
        let path = file.parent().map_or_else(|| PathBuf::from(&place), |parent| parent.join(&place));
        path.to_string_lossy().into_owned()
    }

    /// True if every machine that sees the place sees it under this name: a bucket, or an absolute path.
    pub fn is_shared(place: &str) -> bool {
        is_remote(place) || Path::new(place).is_absolute()
    }

    /// False if the place is a folder that is not there, such as one of another machine.
    pub fn exists(place: &str) -> bool {
        is_remote(place) || Path::new(place).is_dir()
    }

    /// True if there is a file of this name.
    pub(super) async fn has(&self, name: &str) -> Result<bool, AreaError> {
        match self {
            Self::Folder(files) => Ok(files.has(name)),
            Self::Bucket(bucket) => Ok(bucket.has(name).await?),
        }
    }

    /// The names of the files in one of its folders.
    pub(super) async fn names(&self, folder: &'static str) -> Result<HashSet<String>, AreaError> {
        match self {
            Self::Folder(files) => {
                let files = files.clone();
                blocking(move || files.names_in(folder)).await
            }
            Self::Bucket(bucket) => Ok(bucket.names(folder).await?.into_iter().collect()),
        }
    }

    /// The content of a file, if there is one.
    pub(super) async fn read(&self, name: &str) -> Result<Option<Bytes>, AreaError> {
        match self {
            Self::Folder(files) => {
                let (files, name) = (files.clone(), name.to_owned());
                blocking(move || Ok(files.read(&name)?.map(Bytes::from))).await
            }
            Self::Bucket(bucket) => Ok(bucket.read(name).await?),
        }
    }

    /// Puts a file where none is; returns false if one is there already, which stays.
    ///
    /// # Errors
    /// If it cannot be written; then nothing is there under its name.
    pub(super) async fn put_new(&self, name: &str, bytes: impl Into<Bytes>) -> Result<bool, AreaError> {
        let bytes = bytes.into();
        match self {
            Self::Folder(files) => {
                let (files, name) = (files.clone(), name.to_owned());
                blocking(move || files.put_new(&name, &bytes)).await
            }
            Self::Bucket(bucket) => Ok(bucket.put_new(name, bytes).await?),
        }
    }

    /// Puts a file, in place of the one that may be there.
    ///
    /// # Errors
    /// If it cannot be written; then the old one stays.
    pub(super) async fn replace(&self, name: &str, bytes: impl Into<Bytes>) -> Result<(), AreaError> {
        let bytes = bytes.into();
        match self {
            Self::Folder(files) => {
                let (files, name) = (files.clone(), name.to_owned());
                blocking(move || files.replace(&name, &bytes)).await
            }
            Self::Bucket(bucket) => Ok(bucket.replace(name, bytes).await?),
        }
    }

    /// Removes a file if there is one.
    pub(super) async fn remove(&self, name: &str) {
        match self {
            Self::Folder(files) => files.remove(name),
            Self::Bucket(bucket) => {
                if let Err(error) = bucket.remove(name).await {
                    // The next run writes over it.
                    tracing::warn!(%error, "an object cannot be removed");
                }
            }
        }
    }

    /// Removes what runs that were killed have left unfinished. Nobody else may be writing.
    pub(crate) async fn clean(&self) {
        if let Self::Folder(files) = self {
            files.clean();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_that_is_not_known_is_no_folder() {
        for place in ["gcs://bucket/results", "s3:/bucket/results", "ftp://host/results", "file:///results", "", " "] {
            let error = Destination::check(place).unwrap_err().to_string();
            assert!(error.contains("s3://, gs:// or az://"), "{place}: {error}");
            assert!(Destination::open(place).is_err(), "{place}");
        }
        let job = Path::new("jobs/water.json");
        assert_eq!(Destination::beside(job, "gcs://bucket/results".to_owned()), "gcs://bucket/results");
        assert_eq!(Destination::beside(job, "results".to_owned()), "jobs/results");
        for place in ["results/2024", "/mnt/results", "C:/results", "a:b", "s3://bucket/results"] {
            Destination::check(place).unwrap();
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Destination::check(&file.path().to_string_lossy()).unwrap_err().to_string().contains("a folder is needed"));
    }
}
