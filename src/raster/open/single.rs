//! The captures of one file or address that an operator names.

use std::path::Path;
use std::sync::Arc;

use crate::raster::datetime::{Timestamp, from_name};
use crate::raster::error::RasterError;
use crate::raster::formats::{FileFormat, Mbtiles, Pmtiles, XyzTiles, is_template};
use crate::raster::open::capture::Capture;
use crate::raster::open::file::ImageFile;
use crate::raster::open::names::{OpenOptions, file_name, version_hash};
use crate::raster::open::sidecar::version_with_sidecars;
use crate::raster::open::stac::{self, Base};
use crate::storage::{HttpBytes, ObjectStores, RemoteError};

/// The captures of a file on this machine.
///
/// # Errors
/// [`RasterError`] if it cannot be read, or is nothing that holds imagery.
pub(crate) fn open_path(path: &Path, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    let name = file_name(path);
    let (file, version) = (ImageFile::on_disk(&name, path)?, version_with_sidecars(path)?);
    if file.format == FileFormat::Sqlite {
        let raster = Arc::new(Mbtiles::open(&name, path, &options.chunks)?);
        return Ok(vec![Capture { datetime: from_name(&name), version, raster }]);
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    captures_of(&file, from_name(&name), version, &Base::Directory(directory.to_owned()), options)
}

/// The captures at an address: a file, or a template of map tiles.
///
/// # Errors
/// [`RasterError::Remote`] if it may not be fetched or the host fails, and as [`open_path`].
pub(crate) fn open_remote(location: &str, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    let Some(client) = &options.remote else {
        let host = ObjectStores::default().locate(location)?.host().to_owned();
        return Err(RemoteError::HostNotAllowed { host }.into());
    };
    if is_template(location) {
        let raster = Arc::new(XyzTiles::open(location, client, &options.chunks)?);
        return Ok(vec![Capture { datetime: None, version: version_hash(location.as_bytes()), raster }]);
    }
    let url = client.locate(location)?;
    let bytes = HttpBytes::open(client, &url)?;
    let version = version_hash(bytes.identity().as_bytes());
    let (file, datetime) = (ImageFile::new(&url.to_string(), Arc::new(bytes))?, from_name(url.file_name()));
    captures_of(&file, datetime, version, &Base::Url(url), options)
}

/// The captures of a file: `datetime` is the time in its name, `base` is what references in it are relative to.
fn captures_of(
    file: &ImageFile,
    datetime: Option<Timestamp>,
    version: String,
    base: &Base,
    options: &OpenOptions,
) -> Result<Vec<Capture>, RasterError> {
    if let Some(image) = file.windowed(options, |_, _| {})? {
        let image = image.understood(&file.name)?;
        return Ok(vec![Capture { datetime: datetime.or(image.datetime), version, raster: image.raster }]);
    }
    match file.format {
        FileFormat::Pmtiles => {
            let raster = Arc::new(Pmtiles::open(&file.name, file.bytes.clone(), &options.chunks)?);
            Ok(vec![Capture { datetime, version, raster }])
        }
        FileFormat::Json => {
            options.limits.check_bytes(&file.name, file.bytes.len())?;
            stac::open(&file.name, &*file.bytes, base, options)
        }
        _ => {
            let rasters = file.decoded(options)?;
            Ok(rasters.into_iter().map(|raster| Capture { datetime, version: version.clone(), raster }).collect())
        }
    }
}
