//! The imagery the server knows: the demo rasters, those named at start, and those registered over HTTP.
//!
//! What was registered is kept under the data directory (see [`store`]). A source that cannot be opened, because its host is
//! down or its file is gone, stays known: it is listed as unavailable and opened when it is next asked for.

mod entry;
mod id;
mod open;
mod registry;
mod store;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub use self::entry::UnavailableSource;
use self::entry::{SourceEntry, SourceOrigin, SourceState};
use self::id::{check_id, content_id};
pub use self::open::SourceOptions;
use self::registry::{SourceRegistry, unknown};
use self::store::{SourceRecord, StoredPlace, safe_file_name, sources_dir, store_error};
use super::error::EngineError;
use crate::georef::Georef;
use crate::raster::{DatetimeRange, Location, OpenOptions, RasterError, Source};
use crate::storage::{RemoteError, is_remote};

/// The store; clones share it.
#[derive(Clone)]
pub struct Sources {
    registry: Arc<SourceRegistry>,
}

impl Sources {
    /// Opens the store and what was registered before. Files are opened at once, addresses in the background.
    ///
    /// # Errors
    /// When the data directory cannot be read or made.
    pub fn open(options: &SourceOptions) -> Result<Self, EngineError> {
        let sources = Self { registry: Arc::new(SourceRegistry::new(options)) };
        let Some(root) = sources_dir(options) else { return Ok(sources) };
        let mut remote = Vec::new();
        for (id, directory, record) in store::read_all(&root).map_err(|source| EngineError::Store {
            what: format!("the data directory {}", root.display()),
            source: Arc::new(source),
        })? {
            let is_remote = matches!(record.place, StoredPlace::Url { .. });
            let entry = SourceEntry::closed(false, SourceOrigin::Record(record), Some(directory));
            sources.registry.write().insert(id.clone(), entry);
            if is_remote {
                remote.push(id);
            } else {
                // The failure is logged and kept for those who ask.
                let _ = sources.registry.try_open(&id);
            }
        }
        sources.open_in_background(remote);
        Ok(sources)
    }

    /// Every source that is open, by id.
    pub fn list(&self) -> Vec<Arc<Source>> {
        let open = |entry: &SourceEntry| match &entry.state {
            SourceState::Open(source) => Some(source.clone()),
            SourceState::Closed { .. } => None,
        };
        self.registry.read().values().filter_map(open).collect()
    }

    /// Every source that is known but not open, by id.
    pub fn unavailable(&self) -> Vec<UnavailableSource> {
        let closed = |(id, entry): (&String, &SourceEntry)| match &entry.state {
            SourceState::Open(_) => None,
            SourceState::Closed { failure } => Some(UnavailableSource {
                id: id.clone(),
                built_in: entry.built_in,
                failure: failure.as_ref().map(|(_, error)| error.clone()),
            }),
        };
        self.registry.read().iter().filter_map(closed).collect()
    }

    /// One source that is open already.
    ///
    /// # Errors
    /// [`EngineError::UnknownSource`], [`EngineError::SourceNotOpen`], or what opening it said last.
    pub fn get(&self, id: &str) -> Result<Arc<Source>, EngineError> {
        match &self.registry.read().get(id).ok_or_else(|| unknown(id))?.state {
            SourceState::Open(source) => Ok(source.clone()),
            SourceState::Closed { failure: Some((_, error)) } => Err(error.clone()),
            SourceState::Closed { failure: None } => Err(EngineError::SourceNotOpen { id: id.to_owned() }),
        }
    }

    /// One source, opened where it is not; after a failure, not again for a few seconds.
    ///
    /// # Errors
    /// [`EngineError::UnknownSource`], or what opening it says.
    pub async fn opened(&self, id: &str) -> Result<Arc<Source>, EngineError> {
        let turn = {
            let known = self.registry.read();
            let entry = known.get(id).ok_or_else(|| unknown(id))?;
            match entry.settled(&self.registry.options) {
                Some(result) => return result,
                None => entry.turn.clone(),
            }
        };
        let turn = turn.lock_owned().await;
        if let Some(result) = self.registry.read().get(id).ok_or_else(|| unknown(id))?.settled(&self.registry.options) {
            return result;
        }
        let (registry, id) = (self.registry.clone(), id.to_owned());
        // The turn goes along: a client that leaves must not let a second one begin while the first is under way.
        let open = move || {
            let _turn = turn;
            registry.try_open(&id)
        };
        tokio::task::spawn_blocking(open).await.unwrap_or(Err(EngineError::Panicked))
    }

    /// What a source has on the grid `target` within `datetime`: all of it, unless captures are searched for where somebody looks
    /// ([`Source::at`]).
    ///
    /// # Errors
    /// What the search says.
    pub async fn at(
        &self,
        source: Arc<Source>,
        target: &Georef,
        datetime: Option<DatetimeRange>,
    ) -> Result<Arc<Source>, EngineError> {
        if !source.is_searched() {
            return Ok(source);
        }
        let target = target.clone();
        let search = move || source.at(&target, datetime.as_ref()).map_err(EngineError::Raster);
        tokio::task::spawn_blocking(search).await.unwrap_or(Err(EngineError::Panicked))
    }

    /// Forgets the open state of a source whose file has changed, so that it is opened anew when next asked for.
    pub fn close(&self, source: &Arc<Source>) {
        if let Some(entry) = self.registry.write().get_mut(&source.id) {
            // What a search has found is forgotten with the search.
            let is_same =
                matches!(&entry.state, SourceState::Open(open) if Arc::ptr_eq(open, source) || open.is_searched());
            if is_same && !matches!(entry.origin, SourceOrigin::Memory) {
                entry.state = SourceState::Closed { failure: None };
            }
        }
    }

    /// Whether the source came with the server or its command line, and cannot be removed over HTTP.
    pub fn is_built_in(&self, id: &str) -> bool {
        self.registry.read().get(id).is_some_and(|entry| entry.built_in)
    }

    /// Adds a source that belongs to the server's own set-up.
    ///
    /// # Errors
    /// [`EngineError::Exists`].
    pub fn add_built_in(&self, source: Source) -> Result<Arc<Source>, EngineError> {
        self.registry.insert(Arc::new(source), true, SourceOrigin::Memory, None)
    }

    /// Adds the captures at `locations` as a source of the server's own set-up. Files are opened at once; where an address is
    /// among them, it happens in the background, and a host that is down keeps no server from starting.
    ///
    /// # Errors
    /// [`EngineError::Exists`], and files that cannot be read.
    pub fn add_locations(&self, id: &str, locations: &[Location]) -> Result<(), EngineError> {
        let origin = SourceOrigin::Locations(locations.to_vec());
        if !locations.iter().any(|location| is_remote(&location.place)) {
            let source = self.registry.options.open_origin(id, &origin, None)?;
            return self.registry.insert(Arc::new(source), true, origin, None).map(drop);
        }
        self.registry.insert_entry(id, SourceEntry::closed(true, origin, None))?;
        self.open_in_background(vec![id.to_owned()]);
        Ok(())
    }

    /// Registers an upload; without an id it is named by the hash of its content, so the same file uploaded twice is one
    /// source. `images` says how many captures are stacked in its bands.
    ///
    /// # Errors
    /// An id that is malformed or taken, a file that is no readable raster, a full store.
    pub async fn register_upload(
        &self,
        id: Option<String>,
        title: Option<String>,
        file_name: &str,
        bytes: Bytes,
        images: Option<usize>,
    ) -> Result<Arc<Source>, EngineError> {
        let id = match id {
            Some(id) => id,
            None => {
                let id = content_id(&bytes, images);
                if let Ok(source) = self.get(&id) {
                    return Ok(source);
                }
                id
            }
        };
        let file = safe_file_name(file_name);
        let title = Some(title.unwrap_or_else(|| file_name.to_owned()));
        self.register(id, SourceRecord { title, place: StoredPlace::Upload { file, images } }, Some(bytes)).await
    }

    /// Registers a file or directory under the source root.
    ///
    /// # Errors
    /// No source root, a path outside it, an id that is malformed or taken, a file that is no readable raster.
    pub async fn register_path(&self, id: String, title: Option<String>, path: &Path) -> Result<Arc<Source>, EngineError> {
        self.register(id, SourceRecord { title, place: StoredPlace::Path { path: path.to_owned() } }, None).await
    }

    /// Registers a file on another machine.
    ///
    /// # Errors
    /// A host that is not allowed, an id that is malformed or taken, what the host says, a file that is no readable raster.
    pub async fn register_url(&self, id: String, title: Option<String>, url: &str) -> Result<Arc<Source>, EngineError> {
        if !is_remote(url) {
            let needed = "an http, https, s3 or gs address is needed";
            return Err(RasterError::from(RemoteError::bad_url(url, needed)).into());
        }
        self.register(id, SourceRecord { title, place: StoredPlace::Url { url: url.to_owned() } }, None).await
    }

    async fn register(&self, id: String, record: SourceRecord, bytes: Option<Bytes>) -> Result<Arc<Source>, EngineError> {
        check_id(&id)?;
        self.registry.check_room(&id)?;
        let registry = self.registry.clone();
        let register = move || {
            // Opened before it is stored: what is no raster leaves nothing behind.
            let source = match (&record, &bytes) {
                (SourceRecord { title, place: StoredPlace::Upload { images, .. } }, Some(bytes)) => {
                    let OpenOptions { limits, chunks, .. } = &registry.options.open;
                    Source::from_bytes(&id, title.as_deref().unwrap_or(&id), bytes.clone(), *images, limits, chunks)?
                }
                (record, _) => registry.options.open_origin(&id, &SourceOrigin::Record(record.clone()), None)?,
            };
            let Some(root) = sources_dir(&registry.options) else {
                let origin = if bytes.is_some() { SourceOrigin::Memory } else { SourceOrigin::Record(record) };
                return registry.insert(Arc::new(source), false, origin, None);
            };
            let stored = store::write(&root, &id, &record, bytes.as_deref()).map_err(|error| store_error(&id, error))?;
            let (is_upload, origin) = (bytes.is_some(), SourceOrigin::Record(record));
            // From here on the stored copy is read, and the upload's memory is given back.
            let source = if is_upload { registry.options.open_origin(&id, &origin, Some(&stored))? } else { source };
            registry.insert(Arc::new(source), false, origin, Some(stored))
        };
        tokio::task::spawn_blocking(register).await.unwrap_or(Err(EngineError::Panicked))
    }

    /// Removes a registered source and what is stored of it; requests under way keep reading it.
    ///
    /// # Errors
    /// [`EngineError::UnknownSource`], [`EngineError::BuiltIn`], or what the file system says.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let entry = {
            let mut known = self.registry.write();
            if known.get(id).ok_or_else(|| unknown(id))?.built_in {
                return Err(EngineError::BuiltIn { what: "source", id: id.to_owned() });
            }
            known.remove(id).ok_or_else(|| unknown(id))?
        };
        let Some(stored) = entry.stored else { return Ok(()) };
        let what = format!("the removal of source {id:?}");
        tokio::task::spawn_blocking(move || std::fs::remove_dir_all(stored))
            .await
            .map_err(|_| EngineError::Panicked)?
            .map_err(|source| EngineError::Store { what, source: Arc::new(source) })
    }

    /// Opens sources one after another on a thread of its own.
    fn open_in_background(&self, ids: Vec<String>) {
        if ids.is_empty() {
            return;
        }
        let registry = self.registry.clone();
        let open = move || {
            for id in ids {
                let Some(turn) = registry.read().get(&id).map(|entry| entry.turn.clone()) else { continue };
                let _turn = turn.blocking_lock();
                if registry.read().get(&id).is_some_and(|entry| entry.settled(&registry.options).is_none()) {
                    // The failure is logged and kept for those who ask.
                    let _ = registry.try_open(&id);
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("sources".to_owned()).spawn(open) {
            tracing::warn!(%error, "remote sources are opened when first asked for");
        }
    }
}
