//! The table of known sources by id, shared by every clone of [`super::Sources`].

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use super::entry::{SourceEntry, SourceOrigin, SourceState};
use super::open::SourceOptions;
use super::reservations::Reservations;
use crate::engine::documents::SharedDocuments;
use crate::engine::error::EngineError;
use crate::engine::near_match::nearest;
use crate::raster::Source;
use crate::sync::IgnorePoison;

pub(super) struct SourceRegistry {
    pub(super) known: RwLock<BTreeMap<String, SourceEntry>>,
    pub(super) options: SourceOptions,
    /// Ids that are being registered or removed.
    pub(super) reservations: Arc<Reservations>,
    /// Where servers share what clients register.
    pub(super) documents: SharedDocuments,
    /// Held while this process works on the stored sources.
    _lock: Option<File>,
}

impl SourceRegistry {
    /// A registry without sources. `lock` is held as long as it lives.
    pub(super) fn new(options: &SourceOptions, lock: Option<File>) -> Self {
        Self {
            known: RwLock::default(),
            options: options.clone(),
            reservations: Arc::default(),
            documents: SharedDocuments::default(),
            _lock: lock,
        }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, SourceEntry>> {
        self.known.read().ignore_poison()
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, SourceEntry>> {
        self.known.write().ignore_poison()
    }

    /// What is known of a source.
    ///
    /// # Errors
    /// [`EngineError::UnknownSource`].
    pub(super) fn entry(&self, id: &str) -> Result<SourceEntry, EngineError> {
        let known = self.read();
        known.get(id).cloned().ok_or_else(|| unknown(id, &known))
    }

    /// Opens a closed source and stores the result. The caller must hold its `turn`.
    pub(super) fn try_open(&self, id: &str) -> Result<Arc<Source>, EngineError> {
        let entry = self.entry(id)?;
        let result = self.options.open_origin(id, &entry.origin, entry.stored.as_deref()).map(Arc::new);
        let state = match &result {
            Ok(source) => SourceState::Open(source.clone()),
            Err(error) => {
                tracing::warn!(source = id, %error, "a source cannot be opened");
                SourceState::Closed { failure: Some((Instant::now(), error.clone())) }
            }
        };
        // It may have been removed, and the id used again, in the meantime.
        if let Some(known) = self.write().get_mut(id).filter(|known| Arc::ptr_eq(&known.turn, &entry.turn)) {
            known.state = state;
        }
        result
    }

    /// Checks that a source may be registered under an id that the caller has taken, `upload` bytes of which are sent with it.
    pub(super) fn check_room(&self, id: &str, upload: u64) -> Result<(), EngineError> {
        let known = self.read();
        if known.contains_key(id) {
            return Err(exists(id));
        }
        // Those that are being registered count, too; the caller's is among them.
        let registered = known.values().filter(|entry| !entry.built_in).count() + self.reservations.count();
        if registered > self.options.max_sources {
            return Err(EngineError::TooLarge {
                what: "registered sources",
                found: registered as u64,
                limit: self.options.max_sources as u64,
            });
        }
        let held = known.values().map(|entry| match entry.origin {
            SourceOrigin::Memory { bytes } => bytes,
            _ => 0,
        });
        let (found, limit) = (held.sum::<u64>().saturating_add(upload), self.options.max_memory_bytes);
        if self.options.data_dir.is_none() && upload > 0 && found > limit {
            return Err(EngineError::TooLarge { what: "bytes of uploaded sources in memory", found, limit });
        }
        Ok(())
    }

    pub(super) fn insert(
        &self,
        source: Arc<Source>,
        built_in: bool,
        origin: SourceOrigin,
        stored: Option<PathBuf>,
    ) -> Result<Arc<Source>, EngineError> {
        let state = SourceState::Open(source.clone());
        self.insert_entry(&source.id, SourceEntry { state, ..SourceEntry::closed(built_in, origin, stored) })?;
        Ok(source)
    }

    pub(super) fn insert_entry(&self, id: &str, entry: SourceEntry) -> Result<(), EngineError> {
        match self.write().entry(id.to_owned()) {
            Entry::Occupied(_) => Err(exists(id)),
            Entry::Vacant(place) => {
                place.insert(entry);
                Ok(())
            }
        }
    }
}

pub(super) fn exists(id: &str) -> EngineError {
    EngineError::Exists { what: "source", id: id.to_owned() }
}

pub(super) fn unknown(id: &str, known: &BTreeMap<String, SourceEntry>) -> EngineError {
    EngineError::UnknownSource { id: id.to_owned(), suggestion: nearest(id, known.keys().map(String::as_str)) }
}
