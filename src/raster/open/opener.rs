//! The one way from what people name, or send, to captures.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::raster::error::RasterError;
use crate::raster::open::capture::Capture;
use crate::raster::open::directory::open_directory;
use crate::raster::open::file::ImageFile;
use crate::raster::open::names::OpenOptions;
use crate::raster::open::sidecar::version_with_sidecars;
use crate::raster::open::single::{open_path, open_remote};
use crate::raster::open::stac::is_search;
use crate::raster::open::stacked::divide;
use crate::raster::pixels::Raster;
use crate::storage::is_remote;

/// What can be opened.
#[derive(Clone, Debug)]
pub enum Imagery<'a> {
    /// A path or an address that an operator names. A file is one capture (an array may hold several), and so are the map tiles of
    /// an archive or of a host (`https://…/{z}/{x}/{y}.png#zoom=0-18`). A STAC item or item collection holds the captures that its
    /// items name. In a directory, files named after bands (`B02.tif`, `…_20240601T104021_B8A.jp2`, `…_TCI.jp2`) form one capture
    /// per sensing time, and other files are one each; a SAFE folder is a Sentinel-2 product, and a directory of such folders
    /// holds the captures of all.
    Location(&'a str),
    /// A GeoTIFF, JPEG 2000, PNG, JPEG or npy file on disk, which must be within the limits.
    File {
        /// What errors call it.
        name: &'a str,
        /// Where it lies.
        path: &'a Path,
    },
    /// The same in memory. Its captures have an empty version.
    Bytes {
        /// What errors call it.
        name: &'a str,
        /// The file.
        bytes: Bytes,
    },
}

impl<'a> Imagery<'a> {
    /// What a person names to be predicted on: a file on this machine as [`Imagery::File`], everything else as a location.
    pub fn input(place: &'a str) -> Self {
        let path = Path::new(place);
        if is_remote(place) || path.is_dir() { Self::Location(place) } else { Self::File { name: place, path } }
    }
}

/// Opens imagery as captures in time order, those of unknown time first. The format is told by the first bytes, never by a name
/// or media type.
///
/// `images` says how many captures are stacked in the bands of a single file.
///
/// # Errors
/// [`RasterError`] if something cannot be read, a client's file has another format than is accepted or is beyond the limits, a
/// directory holds no raster or several kinds of them, or `images` does not fit.
pub fn open(imagery: Imagery<'_>, images: Option<usize>, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    let mut captures = match imagery {
        Imagery::Location(location) => open_location(location, options)?,
        Imagery::File { name, path } => {
            let file = ImageFile::on_disk(name, path)?;
            open_bounded(&file, &version_with_sidecars(path)?, options)?
        }
        Imagery::Bytes { name, bytes } => open_bounded(&ImageFile::new(name, Arc::new(bytes))?, "", options)?,
    };
    captures.sort_by_key(|capture| capture.datetime);
    divide(captures, images)
}

/// Opens a client's file whose values stand for something: of a GeoTIFF or PNG with a palette the pixels are its indices, not its colours.
///
/// # Errors
/// As [`open`], and for a location.
pub fn open_indices(imagery: Imagery<'_>, options: &OpenOptions) -> Result<Vec<Arc<dyn Raster>>, RasterError> {
    let file = match imagery {
        Imagery::File { name, path } => ImageFile::on_disk(name, path)?,
        Imagery::Bytes { name, bytes } => ImageFile::new(name, Arc::new(bytes))?,
        Imagery::Location(location) => {
            let needed = "a file in a request is needed".to_owned();
            return Err(RasterError::InvalidOption { what: "location", value: location.to_owned(), needed });
        }
    };
    options.limits.check_bytes(&file.name, file.bytes.len())?;
    let rasters = file.indexed(options)?;
    for raster in &rasters {
        options.limits.check_pixels(&file.name, raster.info().width as u64, raster.info().height as u64)?;
    }
    Ok(rasters)
}

fn open_location(location: &str, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    let path = Path::new(location);
    if is_search(location) {
        Err(RasterError::InvalidOption {
            what: "location",
            value: location.split('?').next().unwrap_or_default().to_owned(),
            needed: "a search is a source of its own, not one of several locations".to_owned(),
        })
    } else if is_remote(location) {
        open_remote(location, options)
    } else if path.is_dir() {
        open_directory(path, options)
    } else {
        open_path(path, options)
    }
}

/// The captures of a file that may come from anybody: only formats that name no other file, and nothing beyond the limits.
fn open_bounded(file: &ImageFile, version: &str, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    options.limits.check_bytes(&file.name, file.bytes.len())?;
    let rasters = match file.windowed(options, |_, _| {})? {
        Some(image) => {
            let info = image.raster.info();
            options.limits.check_pixels(&file.name, info.width as u64, info.height as u64)?;
            vec![image.raster]
        }
        None => file.decoded(options)?,
    };
    Ok(rasters.into_iter().map(|raster| Capture { datetime: None, version: version.to_owned(), raster }).collect())
}
