//! What opened imagery is called, and the options that all of it is opened with.

use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use crate::raster::error::RasterError;
use crate::raster::formats::{ChunkCache, Limits, is_template};
use crate::storage::{Client, RemoteUrl, is_remote};

/// How locations are opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Limits for files that are held in memory or come from clients.
    pub limits: Limits,
    /// Decoded chunks, shared by all rasters.
    pub chunks: ChunkCache,
    /// Fetches remote files; without it, addresses are refused.
    pub remote: Option<Arc<Client>>,
}

/// A version that changes whenever the file is written.
pub(crate) fn version_of_file(path: &Path) -> Result<String, RasterError> {
    let metadata = path.metadata().and_then(|metadata| Ok((metadata.len(), metadata.modified()?)));
    let (len, modified) = metadata.map_err(|source| RasterError::of_io(&file_name(path), source))?;
    let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    Ok(version_hash(format!("{}:{len}:{modified}", path.display()).as_bytes()))
}

/// A title for a location: its file name without extension, and without secrets of an address.
pub(crate) fn title_of(location: &str) -> String {
    let name = match RemoteUrl::parse(location) {
        Ok(url) if is_template(location) => url.host().to_owned(),
        Ok(url) if is_remote(location) => url.file_name().to_owned(),
        _ => file_name(Path::new(location)),
    };
    if is_template(location) {
        return name;
    }
    Path::new(&name).file_stem().map_or(name.clone(), |stem| stem.to_string_lossy().into_owned())
}

/// What clients are told of a path: its last part, since they need not know where the server keeps its files.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The version of what `bytes` identify: sixteen hexadecimal digits of their hash.
pub(crate) fn version_hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}
