//! The imagery the server knows: the demo rasters, those named at start, and those registered over HTTP.
//!
//! Registered sources are kept under the data directory (see [`store`]). A source that cannot be opened, because its host is
//! down or its file is missing, is listed as unavailable; the next request for it tries again.

mod entry;
mod id;
mod open;
mod registry;
mod reservations;
mod root;
mod shared;
mod store;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

pub use self::entry::UnavailableSource;
use self::entry::{SourceEntry, SourceOrigin, SourceState};
pub(super) use self::id::check_id;
use self::id::content_id;
pub use self::open::SourceOptions;
use self::registry::{SourceRegistry, exists, unknown};
use self::reservations::Reservation;
use self::store::{SourceRecord, StoredPlace, safe_file_name, sources_dir, store_error};
use super::documents::{DocumentKind, DocumentName, SharedDocuments};
use super::error::EngineError;
use crate::georef::Georef;
use crate::raster::{DatetimeRange, Location, OpenOptions, RasterError, Source};
use crate::storage::{RemoteError, is_remote};

/// All known sources; clones share them.
#[derive(Clone)]
pub struct Sources {
    registry: Arc<SourceRegistry>,
}

impl Sources {
    /// Lists what was registered in earlier runs. Files are opened at once, remote ones in the background.
    ///
    /// # Errors
    /// If the data directory cannot be created or read.
    pub fn open(options: &SourceOptions) -> Result<Self, EngineError> {
        let Some(root) = sources_dir(options.data_dir.as_deref()) else {
            return Ok(Self { registry: Arc::new(SourceRegistry::new(options, None)) });
        };
        let failed = |source| EngineError::Store {
            what: format!("the data directory {}", root.display()),
            source: Arc::new(source),
        };
        let lock = store::lock(&root).map_err(failed)?;
        if lock.is_some() {
            store::clean(&root).map_err(failed)?;
        }
        let sources = Self { registry: Arc::new(SourceRegistry::new(options, lock)) };
        let mut remote = Vec::new();
        for (id, directory, record) in store::read_all(&root).map_err(failed)? {
            let is_remote = matches!(record.place, StoredPlace::Url { .. });
            let entry = SourceEntry::closed(false, SourceOrigin::Record(record), Some(directory));
            sources.registry.write().insert(id.clone(), entry);
            if is_remote {
                remote.push(id);
            } else {
                // A failure has been logged and is stored with the source.
                let _ = sources.registry.try_open(&id);
            }
        }
        sources.open_in_background(remote);
        Ok(sources)
    }

    /// Where servers share what clients register.
    pub(super) fn documents(&self) -> &SharedDocuments {
        &self.registry.documents
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

    /// One source, without opening it.
    ///
    /// # Errors
    /// [`EngineError::UnknownSource`], [`EngineError::SourceNotOpen`], or the error of the last attempt to open it.
    pub fn get(&self, id: &str) -> Result<Arc<Source>, EngineError> {
        match self.registry.entry(id)?.state {
            SourceState::Open(source) => Ok(source),
            SourceState::Closed { failure: Some((_, error)) } => Err(error),
            SourceState::Closed { failure: None } => Err(EngineError::SourceNotOpen { id: id.to_owned() }),
        }
    }

    /// One source; opens it if it is closed, but not again within [`SourceOptions::retry_after`] of a failure.
    ///
    /// # Errors
    /// [`EngineError::UnknownSource`], or if it cannot be opened.
    pub async fn opened(&self, id: &str) -> Result<Arc<Source>, EngineError> {
        let turn = {
            let known = self.registry.read();
            let entry = known.get(id).ok_or_else(|| unknown(id, &known))?;
            match entry.settled(self.registry.options.retry_after) {
                Some(result) => return result,
                None => entry.turn.clone(),
            }
        };
        let turn = turn.lock_owned().await;
        if let Some(result) = self.registry.entry(id)?.settled(self.registry.options.retry_after) {
            return result;
        }
        let (registry, id) = (self.registry.clone(), id.to_owned());
        // The lock moves into the task: if the client leaves, a second attempt must still wait for this one.
        let open = move || {
            let _turn = turn;
            registry.try_open(&id)
        };
        tokio::task::spawn_blocking(open).await.unwrap_or(Err(EngineError::Panicked))
    }

    /// The source with its captures on the grid `target` within `datetime`. Only a source that is searched per place changes
    /// ([`Source::at`]); any other is returned as it is.
    ///
    /// # Errors
    /// If the search fails.
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

    /// Closes a source whose file has changed, so that the next request opens it again.
    pub fn close(&self, source: &Arc<Source>) {
        if let Some(entry) = self.registry.write().get_mut(&source.id) {
            // A search returns a source of its own, so the stored one cannot be compared with it.
            let is_same =
                matches!(&entry.state, SourceState::Open(open) if Arc::ptr_eq(open, source) || open.is_searched());
            if is_same && !matches!(entry.origin, SourceOrigin::Memory { .. }) {
                entry.state = SourceState::Closed { failure: None };
            }
        }
    }

    /// True if the source came with the server or its command line and cannot be removed over HTTP.
    pub fn is_built_in(&self, id: &str) -> bool {
        self.registry.read().get(id).is_some_and(|entry| entry.built_in)
    }

    /// True if a client gave the source to this server alone: it was uploaded, or nothing was shared when it was registered.
    pub fn is_here_alone(&self, id: &str) -> bool {
        self.registry.read().get(id).is_some_and(|entry| !entry.built_in && entry.shared.is_none())
    }

    /// Adds a source that belongs to the server's own set-up.
    ///
    /// # Errors
    /// [`EngineError::Exists`].
    pub fn add_built_in(&self, source: Source) -> Result<Arc<Source>, EngineError> {
        self.registry.insert(Arc::new(source), true, SourceOrigin::Memory { bytes: 0 }, None)
    }

    /// Adds the captures at `locations` as a source of the server's own set-up. Files are opened at once. If any location is
    /// remote, all are opened in the background, so that the server starts even if a host is down.
    ///
    /// # Errors
    /// [`EngineError::Exists`], and if a file cannot be read.
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

    /// Registers an upload. Without an id, it is named by a hash of its content, so a file that is uploaded twice is one
    /// source. Without a title, it is called by its file name, or by its id. `images` is the number of captures stacked in its bands.
    ///
    /// # Errors
    /// If the id is malformed or taken, the file is not a readable raster, or there are too many sources.
    pub async fn register_upload(
        &self,
        id: Option<String>,
        title: Option<String>,
        file_name: Option<&str>,
        bytes: Bytes,
        images: Option<usize>,
    ) -> Result<Arc<Source>, EngineError> {
        let (id, taken) = match id {
            Some(id) => {
                let taken = self.take(&id)?;
                (id, taken)
            }
            None => {
                let id = content_id(&bytes, images);
                // Somebody may be uploading the same file, which is then the same source.
                let taken = self.registry.reservations.wait(&id).await;
                if let Ok(source) = self.get(&id) {
                    return Ok(source);
                }
                (id, taken)
            }
        };
        let file = safe_file_name(file_name.unwrap_or_default());
        let title = title.or(file_name.map(str::to_owned)).or(Some(id.clone()));
        self.register(id, taken, SourceRecord { title, place: StoredPlace::Upload { file, images } }, Some(bytes)).await
    }

    /// Registers a file or directory under the source root.
    ///
    /// # Errors
    /// If there is no source root, the path is outside it, the id is malformed or taken, the file is not a readable raster,
    /// or there are too many sources.
    pub async fn register_path(&self, id: String, title: Option<String>, path: &Path) -> Result<Arc<Source>, EngineError> {
        let taken = self.take(&id)?;
        self.register(id, taken, SourceRecord { title, place: StoredPlace::Path { path: path.to_owned() } }, None).await
    }

    /// Registers a remote file.
    ///
    /// # Errors
    /// If the host is not allowed or fails, the id is malformed or taken, the file is not a readable raster, or there are too
    /// many sources.
    pub async fn register_url(&self, id: String, title: Option<String>, url: &str) -> Result<Arc<Source>, EngineError> {
        if !is_remote(url) {
            let needed = "an http, https, s3 or gs address is needed";
            return Err(RasterError::from(RemoteError::bad_url(url, needed)).into());
        }
        let taken = self.take(&id)?;
        self.register(id, taken, SourceRecord { title, place: StoredPlace::Url { url: url.to_owned() } }, None).await
    }

    /// Takes an id for registration.
    fn take(&self, id: &str) -> Result<Reservation, EngineError> {
        check_id(id)?;
        self.registry.reservations.take(id).ok_or_else(|| exists(id))
    }

    async fn register(
        &self,
        id: String,
        taken: Reservation,
        record: SourceRecord,
        bytes: Option<Bytes>,
    ) -> Result<Arc<Source>, EngineError> {
        self.registry.check_room(&id, bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))?;
        if let (None, Some(store)) = (&bytes, self.registry.documents.store()) {
            return self.register_shared(store.clone(), (id, taken), record).await;
        }
        let registry = self.registry.clone();
        let register = move || {
            // Taken until the end, even if the client leaves.
            let _taken = taken;
            // Opened before it is stored, so that a file that is not a raster leaves nothing behind.
            let source = match (&record, &bytes) {
                (SourceRecord { title, place: StoredPlace::Upload { images, .. } }, Some(bytes)) => {
                    let OpenOptions { limits, chunks, .. } = &registry.options.open;
                    let title = title.as_deref().unwrap_or(&id);
                    let source = Source::from_bytes(&id, title, bytes.clone(), *images, limits, chunks)?;
                    source.probe()?;
                    source
                }
                (record, _) => registry.options.open_origin(&id, &SourceOrigin::Record(record.clone()), None)?,
            };
            let Some(root) = sources_dir(registry.options.data_dir.as_deref()) else {
                let memory = |bytes: Bytes| SourceOrigin::Memory { bytes: bytes.len() as u64 };
                let origin = bytes.map_or(SourceOrigin::Record(record), memory);
                return registry.insert(Arc::new(source), false, origin, None);
            };
            let stored = store::write(&root, &id, &record, bytes.as_deref()).map_err(|error| store_error(&id, error))?;
            let (is_upload, origin) = (bytes.is_some(), SourceOrigin::Record(record));
            // From here on the stored copy is read, and the upload's memory is freed.
            let source = if is_upload { registry.options.open_origin(&id, &origin, Some(&stored))? } else { source };
            registry.insert(Arc::new(source), false, origin, Some(stored))
        };
        tokio::task::spawn_blocking(register).await.unwrap_or(Err(EngineError::Panicked))
    }

    /// Removes a registered source and its stored files; running requests can finish reading it.
    ///
    /// # Errors
    /// [`EngineError::UnknownSource`], [`EngineError::BuiltIn`], or if its files cannot be deleted.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let taken = self.registry.reservations.wait(id).await;
        let shared = self.registry.entry(id)?.shared;
        if let (Some(version), Some(store)) = (shared, self.registry.documents.store()) {
            let name = DocumentName { kind: DocumentKind::Source, id: id.to_owned(), version };
            store.remove(&name).await?;
        }
        let entry = {
            let mut known = self.registry.write();
            if known.get(id).ok_or_else(|| unknown(id, &known))?.built_in {
                return Err(EngineError::BuiltIn { what: "source", id: id.to_owned() });
            }
            known.remove(id).ok_or_else(|| unknown(id, &known))?
        };
        let Some(stored) = entry.stored else { return Ok(()) };
        let what = format!("the removal of source {id:?}");
        let remove = move || {
            let _taken = taken;
            store::remove(&stored)
        };
        tokio::task::spawn_blocking(remove)
            .await
            .map_err(|_| EngineError::Panicked)?
            .map_err(|source| EngineError::Store { what, source: Arc::new(source) })
    }

    /// Opens sources one after another on a thread of its own.
    pub(super) fn open_in_background(&self, ids: Vec<String>) {
        if ids.is_empty() {
            return;
        }
        let registry = self.registry.clone();
        let open = move || {
            for id in ids {
                let Some(turn) = registry.read().get(&id).map(|entry| entry.turn.clone()) else { continue };
                let _turn = turn.blocking_lock();
                if registry.read().get(&id).is_some_and(|entry| entry.settled(registry.options.retry_after).is_none()) {
                    // A failure has been logged and is stored with the source.
                    let _ = registry.try_open(&id);
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("sources".to_owned()).spawn(open) {
            tracing::warn!(%error, "remote sources are opened when first asked for");
        }
    }
}
