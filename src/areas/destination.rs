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

impl Destination {
    /// What an operator has written: a path, or a location such as `s3://bucket/prefix`. A folder is made if it does not exist.
    ///
    /// # Errors
    /// If the folder cannot be made, or the location or the credentials for it cannot be used.
    pub fn open(place: &str) -> Result<Self, AreaError> {
        if is_remote(place) {
            return Ok(Self::Bucket(Bucket::open(place, &ObjectStores::from_environment())?));
        }
        Ok(Self::Folder(Folder::open(Path::new(place))?))
    }

    /// `place` as it is meant in a file: a relative path lies beside it.
    pub fn beside(file: &Path, place: String) -> String {
        if is_remote(&place) {
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
