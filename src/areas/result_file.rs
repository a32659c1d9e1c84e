//! A file of results, read in pieces for those who fetch it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;

use super::destination::Destination;
use super::error::AreaError;
use crate::engine::blocking;
use crate::storage::Bucket;

/// A file of a destination.
#[derive(Debug)]
pub struct ResultFile {
    content: Content,
    bytes: u64,
    version: String,
}

#[derive(Debug)]
enum Content {
    File(Arc<File>),
    /// An object of this name.
    Object(Bucket, String),
}

impl ResultFile {
    /// The file of this name, if there is one.
    ///
    /// # Errors
    /// If the destination cannot be read.
    pub async fn open(destination: &Destination, name: &str) -> Result<Option<Self>, AreaError> {
        match destination {
            Destination::Folder(folder) => {
                let path = folder.path(name);
                blocking(move || opened(File::open(&path)).map_err(AreaError::io(format!("opening {}", path.display()))))
                    .await
            }
            Destination::Bucket(bucket) => Ok(bucket.look_up(name).await?.map(|(bytes, version)| {
                let content = Content::Object(bucket.clone(), name.to_owned());
                Self { content, bytes, version }
            })),
        }
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Tells it from what may be put under its name later.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A part of it, which must lie within [`bytes`](Self::bytes). Parts are read one at a time.
    ///
    /// # Errors
    /// If it cannot be read, or is shorter by now.
    pub async fn read(&self, part: Range<u64>) -> Result<Bytes, AreaError> {
        match &self.content {
            Content::File(file) => {
                let file = file.clone();
                let read = move || -> io::Result<Bytes> {
                    let mut bytes = vec![0; usize::try_from(part.end - part.start).map_err(io::Error::other)?];
                    (&*file).seek(SeekFrom::Start(part.start))?;
                    (&*file).read_exact(&mut bytes)?;
                    Ok(bytes.into())
                };
                blocking(move || read().map_err(AreaError::io("reading a file of results"))).await
            }
            Content::Object(bucket, name) => Ok(bucket.read_part(name, part).await?),
        }
    }
}

fn opened(file: io::Result<File>) -> io::Result<Option<ResultFile>> {
    let file = match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let (bytes, version) = (metadata.len(), format!("{}-{}", metadata.len(), changed.as_nanos()));
    Ok(Some(ResultFile { content: Content::File(Arc::new(file)), bytes, version }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_in_parts_and_a_new_one_has_another_version() {
        let root = tempfile::tempdir().unwrap();
        let destination = Destination::open(&root.path().to_string_lossy()).unwrap();
        assert!(ResultFile::open(&destination, "items/1.json").await.unwrap().is_none());
        destination.replace("items/1.json", "0123456789").await.unwrap();
        assert!(ResultFile::open(&destination, "items").await.unwrap().is_none(), "a folder is no file");
        let file = ResultFile::open(&destination, "items/1.json").await.unwrap().unwrap();
        assert_eq!(file.bytes(), 10);
        assert_eq!(file.read(3..7).await.unwrap(), "3456");
        assert_eq!(file.read(0..10).await.unwrap(), "0123456789");
        assert!(file.read(8..12).await.is_err(), "there is no more");
        destination.replace("items/1.json", "01234").await.unwrap();
        let other = ResultFile::open(&destination, "items/1.json").await.unwrap().unwrap();
        assert_ne!(other.version(), file.version());
        assert_eq!(file.read(3..7).await.unwrap(), "3456", "what was opened stays");
    }
}
