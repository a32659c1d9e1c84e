//! Opening a source again from where it came from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::entry::SourceOrigin;
use super::root;
use super::store::{StoredPlace, safe_file_name};
use crate::engine::error::EngineError;
use crate::raster::{Limits, OpenOptions, Source};

/// Options for sources.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Directory for registered sources; without it they are forgotten when the process ends, and uploads are kept in memory.
    pub data_dir: Option<PathBuf>,
    /// The directory under which sources may be registered by path.
    pub source_root: Option<PathBuf>,
    /// Most registered sources.
    pub max_sources: usize,
    /// Most bytes of uploads in memory, if there is no directory for them.
    pub max_memory_bytes: u64,
    /// Pause after a failed attempt to open a source, so that not every tile asks a host that is down.
    pub retry_after: Duration,
    /// How registered sources are opened.
    pub open: OpenOptions,
}

impl SourceOptions {
    /// Opens a source from its origin; `stored` is its directory under the data directory, if it has one.
    pub(super) fn open_origin(
        &self,
        id: &str,
        origin: &SourceOrigin,
        stored: Option<&Path>,
    ) -> Result<Source, EngineError> {
        let record = match origin {
            SourceOrigin::Memory { .. } => return Err(EngineError::SourceNotOpen { id: id.to_owned() }),
            // Limits apply to what clients register; the operator may serve any file.
            SourceOrigin::Locations(locations) => {
                let open = OpenOptions { limits: Limits::NONE, ..self.open.clone() };
                return Ok(Source::open(id, locations, &open)?);
            }
            SourceOrigin::Record(record) => record,
        };
        let mut source = match &record.place {
            StoredPlace::Upload { file, images } => {
                let path = stored.unwrap_or(Path::new("")).join(safe_file_name(file));
                Source::open_path(id, &path, *images, &self.open)?
            }
            StoredPlace::Path { path } => Source::open_path(id, &self.below_root(path)?, None, &self.open)?,
            StoredPlace::Url { url } => Source::open(id, &[url.as_str().into()], &self.open)?,
        };
        if let Some(title) = &record.title {
            source.title.clone_from(title);
        }
        Ok(source)
    }

    /// Resolves a client's path, which must lie under the source root.
    fn below_root(&self, path: &Path) -> Result<PathBuf, EngineError> {
        let Some(root) = &self.source_root else {
            let how = "start the server with --source-root DIR to allow paths under DIR";
            return Err(EngineError::Invalid { detail: format!("sources by path are switched off: {how}") });
        };
        root::below(root, path)
    }
}
