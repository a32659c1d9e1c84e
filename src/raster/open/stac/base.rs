//! Where a document lies, and what its references mean there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::Item;
use crate::raster::error::RasterError;
use crate::raster::open::file::ImageFile;
use crate::raster::open::names::OpenOptions;
use crate::raster::open::names::{file_name, version_of_file};
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
    /// What the references of an item mean: they start from its own address, where that is known to lie elsewhere.
    pub(super) fn of_item(&self, item: &Item) -> Self {
        match (self, item.own_href()) {
            (Self::Url(url), Some(own)) => Self::Url(url.join_beside(own).unwrap_or_else(|_| url.clone())),
            _ => self.clone(),
        }
    }

    /// What a reference means here. A document on this machine may name files beside or below it, and addresses; one that was
    /// fetched may name addresses alone.
    ///
    /// # Errors
    /// [`RasterError::Remote`] for what is no address, or may not be asked; [`RasterError::InvalidOption`] for a file elsewhere.
    pub(super) fn resolve(&self, href: &str, options: &OpenOptions) -> Result<AssetLocation, RasterError> {
        match self {
            Self::Directory(directory) if !is_remote(href) => below(directory, href).map(AssetLocation::File),
            Self::Url(url) if !is_remote(href) => Ok(AssetLocation::Url(url.join_beside(href)?)),
            _ => {
                let client = options.remote.as_ref().ok_or_else(|| RemoteError::bad_url(href, "a file is needed here"))?;
                Ok(AssetLocation::Url(client.locate(href)?))
            }
        }
    }
}

/// A file that lies in a directory or below it, links resolved.
fn below(directory: &Path, href: &str) -> Result<PathBuf, RasterError> {
    let elsewhere = || RasterError::InvalidOption {
        what: "asset",
        value: href.chars().take(200).collect(),
        needed: "the files that an item on this machine names have to be there, beside it or below".to_owned(),
    };
    let wanted = directory.join(href.strip_prefix("file://").unwrap_or(href)).canonicalize().map_err(|_| elsewhere())?;
    let directory = directory.canonicalize().map_err(|_| elsewhere())?;
    if wanted.starts_with(&directory) { Ok(wanted) } else { Err(elsewhere()) }
}

impl AssetLocation {
    /// What people are told; without secrets.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::File(path) => file_name(path),
            Self::Url(url) => url.to_string(),
        }
    }

    /// Changes whenever a file of this machine is written; empty for addresses, which are not asked for this.
    pub(super) fn version(&self) -> Result<String, RasterError> {
        match self {
            Self::File(path) => version_of_file(path),
            Self::Url(_) => Ok(String::new()),
        }
    }

    /// Opens it as a raster whose bands are completed by `complete`, which is given their numbers.
    ///
    /// # Errors
    /// [`RasterError::UnsupportedMedia`] where it is neither GeoTIFF nor JPEG 2000, and what the formats' readers say.
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
            name: file.name,
            found: "an asset that is neither GeoTIFF nor JPEG 2000".to_owned(),
        })?;
        Ok(image.raster)
    }
}
