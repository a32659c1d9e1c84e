//! Sources by reference that servers share through a store of documents.

use std::sync::Arc;

use super::Sources;
use super::entry::{SourceEntry, SourceOrigin, SourceState};
use super::registry::exists;
use super::reservations::Reservation;
use super::store::{SourceRecord, store_error};
use crate::engine::documents::{Document, DocumentKind, DocumentName, DocumentStore};
use crate::engine::error::EngineError;
use crate::raster::Source;

impl Sources {
    /// The documents of the sources that are shared.
    pub(in crate::engine) fn shared(&self) -> Vec<DocumentName> {
        let name = |(id, entry): (&String, &SourceEntry)| {
            Some(DocumentName { kind: DocumentKind::Source, id: id.clone(), version: entry.shared? })
        };
        self.registry.read().iter().filter_map(name).collect()
    }

    /// Opens a source, so that one that cannot be read is refused, and registers it with all servers. Goes on if the client leaves.
    ///
    /// # Errors
    /// As [`Sources::register_url`], and if the store does not answer.
    pub(super) async fn register_shared(
        &self,
        store: Arc<dyn DocumentStore>,
        (id, taken): (String, Reservation),
        record: SourceRecord,
    ) -> Result<Arc<Source>, EngineError> {
        let registry = self.registry.clone();
        let register = async move {
            let _taken = taken;
            let origin = SourceOrigin::Record(record.clone());
            let (opening, opened_id, opened) = (registry.clone(), id.clone(), origin.clone());
            let open = move || opening.options.open_origin(&opened_id, &opened, None);
            let source = Arc::new(tokio::task::spawn_blocking(open).await.unwrap_or(Err(EngineError::Panicked))?);
            let text = serde_json::to_string(&record).map_err(|error| store_error(&id, error.into()))?;
            let version = store.create(DocumentKind::Source, &id, &Document { text, weights: None }).await?;
            let shared = Some(version.ok_or_else(|| exists(&id))?);
            let state = SourceState::Open(source.clone());
            registry.insert_entry(&id, SourceEntry { state, shared, ..SourceEntry::closed(false, origin, None) })?;
            Ok(source)
        };
        tokio::spawn(register).await.unwrap_or(Err(EngineError::Panicked))
    }

    /// Adds a source that another server has registered; true if it was added, and may be opened.
    ///
    /// # Errors
    /// If the store does not answer, and why the source cannot be added.
    pub(in crate::engine) async fn adopt(
        &self,
        name: &DocumentName,
        store: &Arc<dyn DocumentStore>,
    ) -> Result<bool, EngineError> {
        // What is being registered or removed here is left to whoever does that.
        let Some(_taken) = self.registry.reservations.take(&name.id) else { return Ok(false) };
        match self.registry.read().get(&name.id).map(|entry| entry.shared) {
            Some(Some(version)) if version == name.version => return Ok(false),
            Some(_) => return Err(exists(&name.id)),
            None => {}
        }
        let Some(document) = store.read(name).await? else { return Ok(false) };
        let record = serde_json::from_str(&document.text).map_err(|error| store_error(&name.id, error.into()))?;
        let entry = SourceEntry::closed(false, SourceOrigin::Record(record), None);
        self.registry.insert_entry(&name.id, SourceEntry { shared: Some(name.version), ..entry })?;
        Ok(true)
    }

    /// Drops a source that another server has removed; running requests can finish reading it.
    pub(in crate::engine) fn drop_shared(&self, name: &DocumentName) {
        let Some(_taken) = self.registry.reservations.take(&name.id) else { return };
        let mut known = self.registry.write();
        if known.get(&name.id).is_some_and(|entry| entry.shared == Some(name.version)) {
            known.remove(&name.id);
        }
    }
}
