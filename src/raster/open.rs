//! From a location to captures: a file, a directory of one-band files, or a directory of scenes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;

use super::bands::names_of_file;
use super::composite::Composite;
use super::datetime::{Timestamp, from_name};
use super::jpeg2000::is_jpeg2000;
use super::remote::{Client, HttpBytes, RemoteError, RemoteUrl, Storage, is_remote};
use super::tile_pyramid::{is_sqlite, is_template};
use super::upload::{MAGIC_BYTES, is_tiff};
use super::{
    ByteSource, Capture, ChunkCache, FileBytes, GeoTiff, Jpeg2000, Limits, Mbtiles, Raster, RasterError, XyzTiles,
    open_upload,
};

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

/// Files accepted in one directory.
const MAX_FILES: usize = 1000;

/// The captures at a location: a path, or an address. A file is one (an array may hold several), and so are the map tiles of an
/// archive or of a host (`https://…/{z}/{x}/{y}.png#zoom=0-18`, see [`XyzTiles`]); of a directory, files named
/// after bands (`B02.tif`, `…_20240601T104021_B8A.tif`, `…_TCI.tif`) are put together to one capture a sensing time, and other
/// files are one each.
///
/// # Errors
/// [`RasterError`] where something cannot be read, or a directory holds no raster or files of both kinds.
pub fn open_location(location: &str, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    let path = Path::new(location);
    if is_remote(location) {
        open_remote(location, options)
    } else if path.is_dir() {
        open_directory(path, options)
    } else {
        open_file(path, options)
    }
}

fn open_remote(location: &str, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    let Some(client) = &options.remote else {
        let host = Storage::default().locate(location)?.host().to_owned();
        return Err(RemoteError::HostNotAllowed { host }.into());
    };
    if is_template(location) {
        let raster = Arc::new(XyzTiles::open(location, client, &options.chunks)?);
        return Ok(vec![Capture { datetime: None, version: version(location.as_bytes()), raster }]);
    }
    let url = client.locate(location)?;
    let file = HttpBytes::open(client, &url)?;
    let version = version(file.identity().as_bytes());
    open_bytes(&url.to_string(), from_name(url.file_name()), version, Arc::new(file), options)
}

fn open_file(path: &Path, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    let name = shown(path);
    let io = |source| RasterError::of_io(&name, source);
    let (file, version) = (FileBytes::open(path).map_err(io)?, version_of_file(path)?);
    if is_sqlite(&start_of(&file).map_err(io)?) {
        let raster = Arc::new(Mbtiles::open(&name, path, &options.chunks)?);
        return Ok(vec![Capture { datetime: from_name(&name), version, raster }]);
    }
    open_bytes(&name, from_name(&name), version, Arc::new(file), options)
}

/// A version that changes whenever the file is written.
pub(super) fn version_of_file(path: &Path) -> Result<String, RasterError> {
    let metadata = path.metadata().and_then(|metadata| Ok((metadata.len(), metadata.modified()?)));
    let (len, modified) = metadata.map_err(|source| RasterError::of_io(&shown(path), source))?;
    let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    Ok(version(format!("{}:{len}:{modified}", path.display()).as_bytes()))
}

/// The bytes that tell a format.
fn start_of(file: &dyn ByteSource) -> io::Result<Bytes> {
    file.read_at(0, file.len().min(MAGIC_BYTES as u64) as usize)
}

/// The captures of a file, wherever its bytes lie; `datetime` is the one in its name.
fn open_bytes(
    name: &str,
    datetime: Option<Timestamp>,
    version: String,
    file: Arc<dyn ByteSource>,
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
    options.limits.check_bytes(name, file.len())?;
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

fn open_directory(directory: &Path, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    let name = shown(directory);
    let files = raster_files(directory, &name)?;
    let in_stem = |path: &PathBuf| path.file_stem().map(|stem| names_of_file(&stem.to_string_lossy())).unwrap_or_default();
    let (of_bands, scenes): (Vec<PathBuf>, Vec<PathBuf>) = files.into_iter().partition(|path| !in_stem(path).is_empty());
    match (&of_bands[..], &scenes[..]) {
        ([], []) => Err(RasterError::NoSuchPart { what: "raster file", index: 0, count: 0 }),
        ([], scenes) => {
            let captures = scenes.iter().map(|path| open_file(path, options)).collect::<Result<Vec<_>, _>>()?;
            Ok(captures.into_iter().flatten().collect())
        }
        (of_bands, []) => {
            let mut groups: BTreeMap<Option<Timestamp>, Vec<(&PathBuf, Vec<String>)>> = BTreeMap::new();
            for path in of_bands {
                let datetime = path.file_name().and_then(|name| from_name(&name.to_string_lossy()));
                groups.entry(datetime).or_default().push((path, in_stem(path)));
            }
            groups.into_iter().map(|(datetime, files)| composite(&name, datetime, &files, options)).collect()
        }
        ([band, ..], [scene, ..]) => Err(RasterError::BandMismatch {
            found: format!("{name} holds both band files ({}) and others ({})", shown(band), shown(scene)),
            needed: "a directory of one kind is needed".to_owned(),
        }),
    }
}

/// Extensions of the rasters that are looked for in a directory.
const EXTENSIONS: [&str; 4] = ["tif", "tiff", "jp2", "j2k"];

/// The GeoTIFF and JPEG 2000 files of a directory, by name.
fn raster_files(directory: &Path, name: &str) -> Result<Vec<PathBuf>, RasterError> {
    let io = |source| RasterError::of_io(name, source);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let is_raster = |extension: &std::ffi::OsStr| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known));
        if path.extension().is_some_and(is_raster) && path.is_file() {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            let (found, limit) = (files.len() as u64, MAX_FILES as u64);
            return Err(RasterError::TooLarge { name: name.to_owned(), what: "files", found, limit });
        }
    }
    files.sort();
    Ok(files)
}

/// One capture of band files; `names` of each are those of its bands.
fn composite(
    name: &str,
    datetime: Option<Timestamp>,
    files: &[(&PathBuf, Vec<String>)],
    options: &OpenOptions,
) -> Result<Capture, RasterError> {
    let (mut parts, mut descriptions): (Vec<Arc<dyn Raster>>, _) = (Vec::new(), Vec::new());
    let (mut versions, mut in_files) = (String::new(), None);
    for (path, names) in files {
        let mut captures = open_file(path, options)?;
        let (Some(capture), true) = (captures.pop(), captures.is_empty()) else { continue };
        let bands = capture.raster.info().bands.iter().filter(|band| !band.is_alpha).count();
        if bands != names.len() {
            return Err(RasterError::BandMismatch {
                found: format!("{} has {bands} bands", shown(path)),
                needed: format!("its name stands for {}", names.join(", ")),
            });
        }
        versions += &capture.version;
        in_files = in_files.or(capture.datetime);
        descriptions.extend(names.iter().cloned());
        parts.push(capture.raster);
    }
    let raster = Composite::new(name, parts)?.described(descriptions);
    Ok(Capture { datetime: datetime.or(in_files), version: version(versions.as_bytes()), raster: Arc::new(raster) })
}

/// Sixteen hexadecimal digits of a hash.
pub(super) fn version(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}
