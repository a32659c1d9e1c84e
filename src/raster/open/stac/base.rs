//! The location of a document, and its references resolved there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::item::Item;
use crate::raster::error::RasterError;
use crate::raster::open::file::ImageFile;
use crate::raster::open::names::OpenOptions;
use crate::raster::open::names::file_name;
use crate::raster::open::sidecar::version_with_sidecars;
use crate::raster::pixels::{BandInfo, Raster};
use crate::storage::{HttpBytes, RemoteError, RemoteUrl, is_remote};

/// Where a document lies.
#[derive(Clone, Debug)]
pub(crate) enum Base {
    /// In a directory of this machine.
    Directory(PathBuf),
    /// At an address.
    Url(RemoteUrl),
}

/// A file of an item.
#[derive(Clone, Debug)]
pub(super) enum AssetLocation {
    File(PathBuf),
    Url(RemoteUrl),
}

impl Base {
    /// The base of an item's references: its own address, if it states one.
    pub(super) fn of_item(&self, item: &Item) -> Self {
        match (self, item.own_href()) {
            (Self::Url(url), Some(own)) => Self::Url(url.join_beside(own).unwrap_or_else(|_| url.clone())),
            _ => self.clone(),
        }
    }

    /// Resolves a reference. A document on this machine may name addresses, and files beside or below it; a fetched document may
    /// name addresses only.
    ///
    /// # Errors
    /// [`RasterError::Remote`] for an invalid address and a host that is not allowed, [`RasterError::InvalidOption`] for a file
    /// elsewhere, [`RasterError::Io`] for a folder.
    pub(super) fn resolve(&self, href: &str, options: &OpenOptions) -> Result<AssetLocation, RasterError> {
        match self {
            Self::Directory(directory) if !is_remote(href) => below(directory, href).map(AssetLocation::File),
            _ if names_a_folder(href) => Err(no_file(href)),
            _ => {
                let client = options.remote.as_ref().ok_or_else(|| RemoteError::bad_url(href, "a file is needed here"))?;
                let url = match self {
                    Self::Url(url) if !is_remote(href) => url.join_beside(href)?,
                    _ => client.locate(href)?,
                };
                // Files are opened when somebody looks at them, which is too late to leave an item out.
                client.policy().check(&url)?;
                Ok(AssetLocation::Url(url))
            }
        }
    }
}

/// True if an address ends where a file name is needed. What a query adds may name one.
fn names_a_folder(href: &str) -> bool {
    let path = href.split('#').next().unwrap_or_default().trim();
    !path.contains('?') && matches!(path.rsplit('/').next(), Some("" | "." | ".."))
}

/// The error for a reference to something else than a file.
fn no_file(href: &str) -> RasterError {
    let name: String = href.chars().take(200).collect();
    RasterError::of_io(&format!("{name:?}"), io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))
}

/// A file in or below a directory, after resolving symbolic links.
fn below(directory: &Path, href: &str) -> Result<PathBuf, RasterError> {
    let elsewhere = || RasterError::InvalidOption {
        what: "asset",
        value: href.chars().take(200).collect(),
        needed: "the files that an item on this machine names have to be there, beside it or below".to_owned(),
    };
    let wanted = directory.join(href.strip_prefix("file://").unwrap_or(href)).canonicalize().map_err(|_| elsewhere())?;
    let directory = directory.canonicalize().map_err(|_| elsewhere())?;
    match wanted.starts_with(&directory) {
        true if wanted.is_file() => Ok(wanted),
        true => Err(no_file(href)),
        false => Err(elsewhere()),
    }
}

impl AssetLocation {
    /// Its name for messages, without secrets.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::File(path) => file_name(path),
            Self::Url(url) => url.to_string(),
        }
    }

    /// The version of a file on this machine; empty for addresses, because telling it would cost a request.
    pub(super) fn version(&self) -> Result<String, RasterError> {
        match self {
            Self::File(path) => version_with_sidecars(path),
            Self::Url(_) => Ok(String::new()),
        }
    }

    /// Opens it as a raster. `complete` may add to what the file says of each of its bands, which are numbered from 0.
    ///
    /// # Errors
    /// [`RasterError::UnsupportedMedia`] if it is neither GeoTIFF nor JPEG 2000, and the error of the format's reader.
    pub(super) fn open(
        &self,
        options: &OpenOptions,
        complete: impl Fn(usize, &mut BandInfo),
    ) -> Result<Arc<dyn Raster>, RasterError> {
        let file = match (self, &options.remote) {
            (Self::File(path), _) => ImageFile::on_disk(&self.shown(), path)?,
            (Self::Url(url), Some(client)) => ImageFile::new(&self.shown(), Arc::new(HttpBytes::open(client, url)?))?,
            (Self::Url(url), None) => return Err(RemoteError::HostNotAllowed { host: url.host().to_owned() }.into()),
        };
        let image = file.windowed(options, complete)?.ok_or_else(|| RasterError::UnsupportedMedia {
            name: file.name.clone(),
            found: "an asset that is neither GeoTIFF nor JPEG 2000".to_owned(),
        })?;
        Ok(image.understood(&file.name)?.raster)
    }
}
