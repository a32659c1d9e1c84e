//! The imagery the server knows: the demo rasters, those named at start, and those registered over HTTP.
//!
//! What was registered is kept under the data directory (see [`store`]). A source that cannot be opened, because its host is
//! down or its file is gone, stays known: it is listed as unavailable and opened when it is next asked for.

mod store;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::store::{Place, Record, safe_file_name};
use super::error::EngineError;
use crate::georef::Georef;
use crate::raster::{DatetimeRange, Limits, Location, OpenOptions, RasterError, Source};
use crate::storage::{RemoteError, is_remote};
use crate::sync::IgnorePoison;

/// Options of the source store.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Where registered sources are kept; without it they last until the process ends, and uploads live in memory.
    pub data_dir: Option<PathBuf>,
    /// The directory under which sources may be registered by path.
    pub source_root: Option<PathBuf>,
    /// Most registered sources.
    pub max_sources: usize,
    /// How long a failure to open is believed, so that a dead host is not asked by every tile.
    pub retry_after: Duration,
    /// How registered sources are opened.
    pub open: OpenOptions,
}

/// The store; clones share it.
#[derive(Clone)]
pub struct Sources {
    inner: Arc<Inner>,
}

struct Inner {
    known: RwLock<BTreeMap<String, Entry>>,
    options: SourceOptions,
}

#[derive(Clone)]
struct Entry {
    built_in: bool,
    origin: Origin,
    /// The directory to remove with the source.
    stored: Option<PathBuf>,
    state: State,
    /// Held by whoever opens the source, so that it is done once.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// How a source can be opened again.
#[derive(Clone)]
enum Origin {
    /// Not at all: it lies in memory.
    Memory,
    /// As the operator named it.
    Locations(Vec<Location>),
    /// As a client registered it.
    Record(Record),
}

#[derive(Clone)]
enum State {
    Open(Arc<Source>),
    Closed { failure: Option<(Instant, EngineError)> },
}

/// A source that is known but not open.
#[derive(Clone, Debug)]
pub struct UnavailableSource {
    /// Its id.
    pub id: String,
    /// Whether it came with the server's command line.
    pub built_in: bool,
    /// What opening it said last; `None` where that has not been tried yet.
    pub failure: Option<EngineError>,
}

/// Longest id of a source.
const MAX_ID: usize = 64;

impl Sources {
    /// Opens the store and what was registered before. Files are opened at once, addresses in the background.
    ///
    /// # Errors
    /// When the data directory cannot be read or made.
    pub fn open(options: &SourceOptions) -> Result<Self, EngineError> {
        let inner = Arc::new(Inner { known: RwLock::default(), options: options.clone() });
        let sources = Self { inner };
        let Some(root) = sources_dir(options) else { return Ok(sources) };
        let mut remote = Vec::new();
        for (id, directory, record) in store::read_all(&root).map_err(|source| EngineError::Store {
            what: format!("the data directory {}", root.display()),
            source: Arc::new(source),
        })? {
            let is_remote = matches!(record.place, Place::Url { .. });
            let entry = Entry::closed(false, Origin::Record(record), Some(directory));
            sources.inner.write().insert(id.clone(), entry);
            if is_remote {
                remote.push(id);
            } else {
                // The failure is logged and kept for those who ask.
                let _ = sources.inner.try_open(&id);
            }
        }
        sources.open_in_background(remote);
        Ok(sources)
    }

    /// Every source that is open, by id.
    pub fn list(&self) -> Vec<Arc<Source>> {
        let open = |entry: &Entry| match &entry.state {
            State::Open(source) => Some(source.clone()),
            State::Closed { .. } => None,
        };
        self.inner.read().values().filter_map(open).collect()
    }

    /// Every source that is known but not open, by id.
    pub fn unavailable(&self) -> Vec<UnavailableSource> {
        let closed = |(id, entry): (&String, &Entry)| match &entry.state {
            State::Open(_) => None,
            State::Closed { failure } => Some(UnavailableSource {
                id: id.clone(),
                built_in: entry.built_in,
                failure: failure.as_ref().map(|(_, error)| error.clone()),
            }),
        };
        self.inner.read().iter().filter_map(closed).collect()
    }

    /// One source that is open already.
    ///
    /// # Errors
    /// [`EngineError::UnknownSource`], [`EngineError::SourceNotOpen`], or what opening it said last.
    pub fn get(&self, id: &str) -> Result<Arc<Source>, EngineError> {
        match &self.inner.read().get(id).ok_or_else(|| unknown(id))?.state {
            State::Open(source) => Ok(source.clone()),
            State::Closed { failure: Some((_, error)) } => Err(error.clone()),
            State::Closed { failure: None } => Err(EngineError::SourceNotOpen { id: id.to_owned() }),
        }
    }

    /// One source, opened where it is not; after a failure, not again for a few seconds.
    ///
    /// # Errors
    /// [`EngineError::UnknownSource`], or what opening it says.
    pub async fn opened(&self, id: &str) -> Result<Arc<Source>, EngineError> {
        let turn = {
            let known = self.inner.read();
            let entry = known.get(id).ok_or_else(|| unknown(id))?;
            match entry.settled(&self.inner.options) {
                Some(result) => return result,
                None => entry.turn.clone(),
            }
        };
        let turn = turn.lock_owned().await;
        if let Some(result) = self.inner.read().get(id).ok_or_else(|| unknown(id))?.settled(&self.inner.options) {
            return result;
        }
        let (inner, id) = (self.inner.clone(), id.to_owned());
        // The turn goes along: a client that leaves must not let a second one begin while the first is under way.
        let open = move || {
            let _turn = turn;
            inner.try_open(&id)
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
        if let Some(entry) = self.inner.write().get_mut(&source.id) {
            // What a search has found is forgotten with the search.
            let is_same = matches!(&entry.state, State::Open(open) if Arc::ptr_eq(open, source) || open.is_searched());
            if is_same && !matches!(entry.origin, Origin::Memory) {
                entry.state = State::Closed { failure: None };
            }
        }
    }

    /// Whether the source came with the server or its command line, and cannot be removed over HTTP.
    pub fn is_built_in(&self, id: &str) -> bool {
        self.inner.read().get(id).is_some_and(|entry| entry.built_in)
    }

    /// Adds a source that belongs to the server's own set-up.
    ///
    /// # Errors
    /// [`EngineError::Exists`].
    pub fn add_built_in(&self, source: Source) -> Result<Arc<Source>, EngineError> {
        self.inner.insert(Arc::new(source), true, Origin::Memory, None)
    }

    /// Adds the captures at `locations` as a source of the server's own set-up. Files are opened at once; where an address is
    /// among them, it happens in the background, and a host that is down keeps no server from starting.
    ///
    /// # Errors
    /// [`EngineError::Exists`], and files that cannot be read.
    pub fn add_locations(&self, id: &str, locations: &[Location]) -> Result<(), EngineError> {
        let origin = Origin::Locations(locations.to_vec());
        if !locations.iter().any(|location| is_remote(&location.place)) {
            let source = self.inner.options.open_origin(id, &origin, None)?;
            return self.inner.insert(Arc::new(source), true, origin, None).map(drop);
        }
        self.inner.insert_entry(id, Entry::closed(true, origin, None))?;
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
        self.register(id, Record { title, place: Place::Upload { file, images } }, Some(bytes)).await
    }

    /// Registers a file or directory under the source root.
    ///
    /// # Errors
    /// No source root, a path outside it, an id that is malformed or taken, a file that is no readable raster.
    pub async fn register_path(&self, id: String, title: Option<String>, path: &Path) -> Result<Arc<Source>, EngineError> {
        self.register(id, Record { title, place: Place::Path { path: path.to_owned() } }, None).await
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
        self.register(id, Record { title, place: Place::Url { url: url.to_owned() } }, None).await
    }

    async fn register(&self, id: String, record: Record, bytes: Option<Bytes>) -> Result<Arc<Source>, EngineError> {
        check_id(&id)?;
        self.inner.check_room(&id)?;
        let inner = self.inner.clone();
        let register = move || {
            // Opened before it is stored: what is no raster leaves nothing behind.
            let source = match (&record, &bytes) {
                (Record { title, place: Place::Upload { images, .. } }, Some(bytes)) => {
                    let OpenOptions { limits, chunks, .. } = &inner.options.open;
                    Source::from_bytes(&id, title.as_deref().unwrap_or(&id), bytes.clone(), *images, limits, chunks)?
                }
                (record, _) => inner.options.open_origin(&id, &Origin::Record(record.clone()), None)?,
            };
            let Some(root) = sources_dir(&inner.options) else {
                let origin = if bytes.is_some() { Origin::Memory } else { Origin::Record(record) };
                return inner.insert(Arc::new(source), false, origin, None);
            };
            let stored = store::write(&root, &id, &record, bytes.as_deref()).map_err(|error| store_error(&id, error))?;
            let (is_upload, origin) = (bytes.is_some(), Origin::Record(record));
            // From here on the stored copy is read, and the upload's memory is given back.
            let source = if is_upload { inner.options.open_origin(&id, &origin, Some(&stored))? } else { source };
            inner.insert(Arc::new(source), false, origin, Some(stored))
        };
        tokio::task::spawn_blocking(register).await.unwrap_or(Err(EngineError::Panicked))
    }

    /// Removes a registered source and what is stored of it; requests under way keep reading it.
    ///
    /// # Errors
    /// [`EngineError::UnknownSource`], [`EngineError::BuiltIn`], or what the file system says.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let entry = {
            let mut known = self.inner.write();
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
        let inner = self.inner.clone();
        let open = move || {
            for id in ids {
                let Some(turn) = inner.read().get(&id).map(|entry| entry.turn.clone()) else { continue };
                let _turn = turn.blocking_lock();
                if inner.read().get(&id).is_some_and(|entry| entry.settled(&inner.options).is_none()) {
                    // The failure is logged and kept for those who ask.
                    let _ = inner.try_open(&id);
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("sources".to_owned()).spawn(open) {
            tracing::warn!(%error, "remote sources are opened when first asked for");
        }
    }
}

impl Entry {
    fn closed(built_in: bool, origin: Origin, stored: Option<PathBuf>) -> Self {
        Self { built_in, origin, stored, state: State::Closed { failure: None }, turn: Arc::default() }
    }

    /// The source, or why it is not worth trying to open it; `None` where it is.
    fn settled(&self, options: &SourceOptions) -> Option<Result<Arc<Source>, EngineError>> {
        match &self.state {
            State::Open(source) => Some(Ok(source.clone())),
            State::Closed { failure: Some((at, error)) } if at.elapsed() < options.retry_after => Some(Err(error.clone())),
            State::Closed { .. } => None,
        }
    }
}

impl Inner {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Entry>> {
        self.known.read().ignore_poison()
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Entry>> {
        self.known.write().ignore_poison()
    }

    /// Opens a closed source and notes how that went. The caller has its turn.
    fn try_open(&self, id: &str) -> Result<Arc<Source>, EngineError> {
        let entry = self.read().get(id).cloned().ok_or_else(|| unknown(id))?;
        let result = self.options.open_origin(id, &entry.origin, entry.stored.as_deref()).map(Arc::new);
        let state = match &result {
            Ok(source) => State::Open(source.clone()),
            Err(error) => {
                tracing::warn!(source = id, %error, "a source cannot be opened");
                State::Closed { failure: Some((Instant::now(), error.clone())) }
            }
        };
        // It may have been removed, and the id used again, in the meantime.
        if let Some(known) = self.write().get_mut(id).filter(|known| Arc::ptr_eq(&known.turn, &entry.turn)) {
            known.state = state;
        }
        result
    }

    fn check_room(&self, id: &str) -> Result<(), EngineError> {
        let known = self.read();
        if known.contains_key(id) {
            return Err(EngineError::Exists { what: "source", id: id.to_owned() });
        }
        let registered = known.values().filter(|entry| !entry.built_in).count();
        if registered >= self.options.max_sources {
            return Err(EngineError::TooLarge {
                what: "registered sources",
                found: registered as u64 + 1,
                limit: self.options.max_sources as u64,
            });
        }
        Ok(())
    }

    fn insert(
        &self,
        source: Arc<Source>,
        built_in: bool,
        origin: Origin,
        stored: Option<PathBuf>,
    ) -> Result<Arc<Source>, EngineError> {
        let state = State::Open(source.clone());
        self.insert_entry(&source.id, Entry { state, ..Entry::closed(built_in, origin, stored) })?;
        Ok(source)
    }

    fn insert_entry(&self, id: &str, entry: Entry) -> Result<(), EngineError> {
        match self.write().entry(id.to_owned()) {
            std::collections::btree_map::Entry::Occupied(_) => {
                Err(EngineError::Exists { what: "source", id: id.to_owned() })
            }
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(entry);
                Ok(())
            }
        }
    }
}

impl SourceOptions {
    /// Opens what a source stands for; `stored` is its directory where it has one.
    fn open_origin(&self, id: &str, origin: &Origin, stored: Option<&Path>) -> Result<Source, EngineError> {
        let record = match origin {
            Origin::Memory => return Err(EngineError::SourceNotOpen { id: id.to_owned() }),
            // Limits are for what comes over HTTP; whoever starts the server may serve any file.
            Origin::Locations(locations) => {
                let open = OpenOptions { limits: Limits::NONE, ..self.open.clone() };
                return Ok(Source::open(id, locations, &open)?);
            }
            Origin::Record(record) => record,
        };
        let mut source = match &record.place {
            Place::Upload { file, images } => {
                let path = stored.unwrap_or(Path::new("")).join(safe_file_name(file));
                Source::open_path(id, &path, *images, &self.open)?
            }
            Place::Path { path } => Source::open_path(id, &self.below_root(path)?, None, &self.open)?,
            Place::Url { url } => Source::open(id, &[url.as_str().into()], &self.open)?,
        };
        if let Some(title) = &record.title {
            source.title.clone_from(title);
        }
        Ok(source)
    }

    /// A client's path as one of this machine, which must lie under the source root.
    fn below_root(&self, path: &Path) -> Result<PathBuf, EngineError> {
        let invalid = |detail: String| EngineError::Invalid { detail };
        let Some(root) = &self.source_root else {
            let how = "start the server with --source-root DIR to allow paths under DIR";
            return Err(invalid(format!("sources by path are switched off: {how}")));
        };
        let outside = || invalid(format!("{} is not a file under the source root", path.display()));
        let wanted = root.join(path).canonicalize().map_err(|_| outside())?;
        let root = root.canonicalize().map_err(|_| outside())?;
        if wanted.starts_with(&root) { Ok(wanted) } else { Err(outside()) }
    }
}

fn unknown(id: &str) -> EngineError {
    EngineError::UnknownSource { id: id.to_owned() }
}

fn store_error(id: &str, error: io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
            EngineError::Exists { what: "source", id: id.to_owned() }
        }
        _ => EngineError::Store { what: format!("source {id:?}"), source: Arc::new(error) },
    }
}

fn sources_dir(options: &SourceOptions) -> Option<PathBuf> {
    options.data_dir.as_ref().map(|dir| dir.join("sources"))
}

/// The id of an upload without one: the same bytes cut into captures another way are another source.
fn content_id(bytes: &[u8], images: Option<usize>) -> String {
    let hash = blake3::hash(bytes).to_hex();
    match images.filter(|images| *images > 1) {
        None => hash[..16].to_owned(),
        Some(images) => format!("{}-{images}", &hash[..16]),
    }
}

fn check_id(id: &str) -> Result<(), EngineError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if id.is_empty() || id.len() > MAX_ID || id.starts_with('.') || !id.chars().all(fits) {
        return Err(EngineError::Invalid {
            detail: format!(
                "{id:?} is not an id: needed are 1 to {MAX_ID} letters, digits, '_', '-' or '.', not starting with '.'"
            ),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_words() {
        for id in ["", ".", "..", ".hidden", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
        assert!(check_id("scene_2024-06-01.tif").is_ok());
    }
}
