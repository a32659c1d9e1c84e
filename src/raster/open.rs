//! From a location to captures: a file here, a directory's in `directory`.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;

use super::datetime::{Timestamp, from_name};
use super::directory::open_directory;
use super::jpeg2000::is_jpeg2000;
use super::stac::{self, Base};
use super::tile_pyramid::{is_pmtiles, is_sqlite, is_template};
use super::upload::{MAGIC_BYTES, is_tiff};
use super::{Capture, ChunkCache, GeoTiff, Jpeg2000, Limits, Mbtiles, Pmtiles, RasterError, XyzTiles, open_upload};
use crate::storage::{ByteSource, FileBytes};
use crate::storage::{Client, HttpBytes, ObjectStores, RemoteError, RemoteUrl, is_remote};

/// How locations are opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// What a file that is held in memory, or taken from a client, may hold.
    pub limits: Limits,
    /// Decoded chunks, shared by all rasters.
    pub chunks: ChunkCache,
    /// What fetches remote files; without it there are none.
    pub remote: Option<Arc<Client>>,
}

/// The captures at a location: a path, or an address. A file is one (an array may hold several), and so are the map tiles of an
/// archive or of a host (`https://…/{z}/{x}/{y}.png#zoom=0-18`, see [`XyzTiles`]). A STAC item or item collection holds the
/// captures that its items name. Of a directory, files named after bands (`B02.tif`, `…_20240601T104021_B8A.jp2`, `…_TCI.jp2`)
/// are put together to one capture a sensing time, and other files are one each; a SAFE folder is a product of Sentinel-2, and a
/// directory of such folders holds the captures of all.
///
/// # Errors
/// [`RasterError`] where something cannot be read, or a directory holds no raster or those of several kinds.
pub fn open_location(location: &str, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    let path = Path::new(location);
    if stac::is_search(location) {
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
        open_file(path, options)
    }
}

fn open_remote(location: &str, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    let Some(client) = &options.remote else {
        let host = ObjectStores::default().locate(location)?.host().to_owned();
        return Err(RemoteError::HostNotAllowed { host }.into());
    };
    if is_template(location) {
        let raster = Arc::new(XyzTiles::open(location, client, &options.chunks)?);
        return Ok(vec![Capture { datetime: None, version: hash(location.as_bytes()), raster }]);
    }
    let url = client.locate(location)?;
    let file = HttpBytes::open(client, &url)?;
    let version = hash(file.identity().as_bytes());
    let (name, datetime) = (url.to_string(), from_name(url.file_name()));
    open_bytes(&name, datetime, version, Arc::new(file), &Base::Url(url), options)
}

pub(super) fn open_file(path: &Path, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    let name = shown(path);
    let io = |source| RasterError::of_io(&name, source);
    let (file, version) = (FileBytes::open(path).map_err(io)?, version_of_file(path)?);
    if is_sqlite(&start_of(&file).map_err(io)?) {
        let raster = Arc::new(Mbtiles::open(&name, path, &options.chunks)?);
        return Ok(vec![Capture { datetime: from_name(&name), version, raster }]);
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    open_bytes(&name, from_name(&name), version, Arc::new(file), &Base::Directory(directory.to_owned()), options)
}

/// A version that changes whenever the file is written.
pub(super) fn version_of_file(path: &Path) -> Result<String, RasterError> {
    let metadata = path.metadata().and_then(|metadata| Ok((metadata.len(), metadata.modified()?)));
    let (len, modified) = metadata.map_err(|source| RasterError::of_io(&shown(path), source))?;
    let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    Ok(hash(format!("{}:{len}:{modified}", path.display()).as_bytes()))
}

/// The bytes that tell a format.
fn start_of(file: &dyn ByteSource) -> io::Result<Bytes> {
    file.read_at(0, file.len().min(MAGIC_BYTES as u64) as usize)
}

/// The captures of a file, wherever its bytes lie; `datetime` is the one in its name, `base` is where its references start.
fn open_bytes(
    name: &str,
    datetime: Option<Timestamp>,
    version: String,
    file: Arc<dyn ByteSource>,
    base: &Base,
    options: &OpenOptions,
) -> Result<Vec<Capture>, RasterError> {
    let io = |source| RasterError::of_io(name, source);
    let start = start_of(&*file).map_err(io)?;
    if is_tiff(&start) {
        let tiff = GeoTiff::open(name, file, &options.chunks)?;
        let datetime = datetime.or(tiff.datetime());
        return Ok(vec![Capture { datetime, version, raster: Arc::new(tiff) }]);
    }
    if is_jpeg2000(&start) {
        let raster = Arc::new(Jpeg2000::open(name, file, &options.chunks)?);
        return Ok(vec![Capture { datetime, version, raster }]);
    }
    if is_pmtiles(&start) {
        let raster = Arc::new(Pmtiles::open(name, file, &options.chunks)?);
        return Ok(vec![Capture { datetime, version, raster }]);
    }
    options.limits.check_bytes(name, file.len())?;
    if stac::is_document(&start) {
        return stac::open(name, &*file, base, options);
    }
    let bytes = file.read_at(0, file.len() as usize).map_err(io)?;
    let rasters = open_upload(name, bytes, None, &options.limits, &options.chunks)?;
    Ok(rasters.into_iter().map(|raster| Capture { datetime, version: version.clone(), raster }).collect())
}

/// A title for what lies at a location: its file name without extension (and without what an address keeps secret).
pub(super) fn title_of(location: &str) -> String {
    let name = match RemoteUrl::parse(location) {
        Ok(url) if is_template(location) => url.host().to_owned(),
        Ok(url) if is_remote(location) => url.file_name().to_owned(),
        _ => shown(Path::new(location)),
    };
    if is_template(location) {
        return name;
    }
    Path::new(&name).file_stem().map_or(name.clone(), |stem| stem.to_string_lossy().into_owned())
}

/// A path in words for clients, who need not know where the server keeps its files.
pub(super) fn shown(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Sixteen hexadecimal digits of a hash.
pub(super) fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}
