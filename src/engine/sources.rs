//! The imagery the server knows: the demo rasters, those named at start, and those registered over HTTP.
//!
//! Registered uploads are stored under the data directory as `sources/<id>/<file>` beside a small `source.json`; the
//! directory is written whole under another name first, so a crash leaves either all of a source or nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::error::EngineError;
use crate::raster::{ChunkCache, Source};

/// Options of the source store.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Where uploads are kept; without it they live in memory until the process ends.
    pub data_dir: Option<PathBuf>,
    /// The directory under which sources may be registered by path.
    pub source_root: Option<PathBuf>,
    /// Most registered sources.
    pub max_sources: usize,
    /// Decoded chunks, shared by all rasters.
    pub chunks: ChunkCache,
}

/// The store.
pub struct Sources {
    known: RwLock<BTreeMap<String, Entry>>,
    options: SourceOptions,
}

#[derive(Clone)]
struct Entry {
    source: Arc<Source>,
    built_in: bool,
    /// The directory to remove with the source.
    stored: Option<PathBuf>,
}

/// What is stored beside an upload.
#[derive(Serialize, Deserialize)]
struct Stored {
    title: String,
    file: String,
}

/// Longest id of a source.
const MAX_ID: usize = 64;

impl Sources {
    /// Opens the store and what was registered before; a stored source that no longer opens is logged and left alone.
    ///
    /// # Errors
    /// When the data directory cannot be read or made.
    pub fn open(options: &SourceOptions) -> Result<Self, EngineError> {
        let mut known = BTreeMap::new();
        if let Some(root) = sources_dir(options) {
            let failed = |source: io::Error| EngineError::Store {
                what: format!("the data directory {}", root.display()),
                source: Arc::new(source),
            };
            std::fs::create_dir_all(&root).map_err(failed)?;
            for directory in std::fs::read_dir(&root).map_err(failed)?.flatten() {
                let path = directory.path();
                let id = directory.file_name().to_string_lossy().into_owned();
                if check_id(&id).is_err() {
                    continue;
                }
                match open_stored(&id, &path, &options.chunks) {
                    Ok(source) => {
                        let entry = Entry { source: Arc::new(source), built_in: false, stored: Some(path) };
                        known.insert(id, entry);
                    }
                    Err(error) => tracing::warn!(source = id, %error, "a stored source cannot be opened"),
                }
            }
        }
        Ok(Self { known: RwLock::new(known), options: options.clone() })
    }

    /// Every source, by id.
    pub fn list(&self) -> Vec<Arc<Source>> {
        self.read().values().map(|entry| entry.source.clone()).collect()
    }

    /// One source.
    ///
    /// # Errors
    /// [`EngineError::UnknownSource`].
    pub fn get(&self, id: &str) -> Result<Arc<Source>, EngineError> {
        self.read().get(id).map(|entry| entry.source.clone()).ok_or_else(|| unknown(id))
    }

    /// Whether the source came with the server or its command line, and cannot be removed over HTTP.
    pub fn is_built_in(&self, id: &str) -> bool {
        self.read().get(id).is_some_and(|entry| entry.built_in)
    }

    /// Adds a source that belongs to the server's own set-up.
    ///
    /// # Errors
    /// [`EngineError::Exists`].
    pub fn add_built_in(&self, source: Source) -> Result<Arc<Source>, EngineError> {
        self.insert(Arc::new(source), true, None)
    }

    /// Registers an upload; without an id it is named by the hash of its content, so the same file uploaded twice is one
    /// source.
    ///
    /// # Errors
    /// An id that is malformed or taken, a file that is no readable raster, a full store.
    pub async fn register_upload(
        &self,
        id: Option<String>,
        title: Option<String>,
        file_name: &str,
        bytes: Bytes,
    ) -> Result<Arc<Source>, EngineError> {
        let id = match id {
            Some(id) => id,
            None => {
                let id = blake3::hash(&bytes).to_hex()[..16].to_owned();
                if let Ok(source) = self.get(&id) {
                    return Ok(source);
                }
                id
            }
        };
        check_id(&id)?;
        self.check_room(&id)?;
        let title = title.unwrap_or_else(|| file_name.to_owned());
        let file = safe_file_name(file_name);
        let root = sources_dir(&self.options);
        let name = id.clone();
        let chunks = self.options.chunks.clone();
        let (source, stored) = tokio::task::spawn_blocking(move || -> Result<_, EngineError> {
            // Opened before it is stored: a file that is no raster leaves nothing behind.
            let source = Source::from_bytes(&name, &title, bytes.clone(), &chunks)?;
            let Some(root) = root else { return Ok((source, None)) };
            let stored = store(&root, &name, &Stored { title, file }, &bytes)
                .map_err(|source| EngineError::Store { what: format!("source {name:?}"), source: Arc::new(source) })?;
            // From here on the stored copy is read, and the upload's memory is given back.
            Ok((open_stored(&name, &stored, &chunks)?, Some(stored)))
        })
        .await
        .unwrap_or(Err(EngineError::Panicked))?;
        self.insert(Arc::new(source), false, stored)
    }

    /// Registers a file or directory under the source root.
    ///
    /// # Errors
    /// No source root, a path outside it, an id that is malformed or taken, a file that is no readable raster.
    pub async fn register_path(&self, id: String, title: Option<String>, path: &Path) -> Result<Arc<Source>, EngineError> {
        check_id(&id)?;
        self.check_room(&id)?;
        let Some(root) = self.options.source_root.clone() else {
            return Err(EngineError::Invalid {
                detail:
                    "sources by path are switched off: start the server with --source-root DIR to allow paths under DIR"
                        .to_owned(),
            });
        };
        let wanted = root.join(path);
        let chunks = self.options.chunks.clone();
        let source = tokio::task::spawn_blocking(move || -> Result<Source, EngineError> {
            let outside =
                || EngineError::Invalid { detail: format!("{} is not a file under the source root", wanted.display()) };
            let (root, path) = (root.canonicalize().map_err(|_| outside())?, wanted.canonicalize().map_err(|_| outside())?);
            if !path.starts_with(&root) {
                return Err(outside());
            }
            let mut source = Source::open_path(&id, &path, &chunks)?;
            if let Some(title) = title {
                source.title = title;
            }
            Ok(source)
        })
        .await
        .unwrap_or(Err(EngineError::Panicked))?;
        self.insert(Arc::new(source), false, None)
    }

    /// Removes a registered source and its stored copy; requests under way keep reading it.
    ///
    /// # Errors
    /// [`EngineError::UnknownSource`], [`EngineError::BuiltIn`], or what the file system says.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        let entry = {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            let entry = known.get(id).ok_or_else(|| unknown(id))?;
            if entry.built_in {
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

    fn insert(&self, source: Arc<Source>, built_in: bool, stored: Option<PathBuf>) -> Result<Arc<Source>, EngineError> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.contains_key(&source.id) {
            return Err(EngineError::Exists { what: "source", id: source.id.clone() });
        }
        known.insert(source.id.clone(), Entry { source: source.clone(), built_in, stored });
        Ok(source)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Entry>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(id: &str) -> EngineError {
    EngineError::UnknownSource { id: id.to_owned() }
}

fn sources_dir(options: &SourceOptions) -> Option<PathBuf> {
    options.data_dir.as_ref().map(|dir| dir.join("sources"))
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

/// The last part of a client's file name, without anything a file system could take for a path.
fn safe_file_name(name: &str) -> String {
    let last = Path::new(name).components().rev().find_map(|part| match part {
        Component::Normal(part) => part.to_str(),
        _ => None,
    });
    let kept: String =
        last.unwrap_or("raster").chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
    let kept = kept.trim_start_matches('.');
    if kept.is_empty() { "raster".to_owned() } else { kept[kept.len().saturating_sub(MAX_ID)..].to_owned() }
}

fn open_stored(id: &str, directory: &Path, chunks: &ChunkCache) -> Result<Source, EngineError> {
    let failed = |source: io::Error| EngineError::Store { what: format!("source {id:?}"), source: Arc::new(source) };
    let text = std::fs::read(directory.join("source.json")).map_err(failed)?;
    let stored: Stored = serde_json::from_slice(&text).map_err(|error| failed(io::Error::other(error)))?;
    let mut source = Source::open_path(id, &directory.join(safe_file_name(&stored.file)), chunks)?;
    source.title = stored.title;
    Ok(source)
}

fn store(root: &Path, id: &str, stored: &Stored, bytes: &[u8]) -> io::Result<PathBuf> {
    // Ids do not start with a dot, so an unfinished directory is never taken for a source.
    let unfinished = root.join(format!(".{id}.{}", std::process::id()));
    let finished = root.join(id);
    let write = || -> io::Result<()> {
        std::fs::create_dir(&unfinished)?;
        std::fs::write(unfinished.join(&stored.file), bytes)?;
        std::fs::write(unfinished.join("source.json"), serde_json::to_vec(stored).map_err(io::Error::other)?)?;
        std::fs::rename(&unfinished, &finished)
    };
    write().inspect_err(|_| {
        // What is left of a failed write is of no use; the first error is the one to report.
        let _ = std::fs::remove_dir_all(&unfinished);
    })?;
    Ok(finished)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_file_name_never_leaves_its_directory() {
        for (name, kept) in [
            ("a.tif", "a.tif"),
            ("../../etc/passwd", "passwd"),
            ("..", "raster"),
            ("x/../.hidden", "hidden"),
            ("", "raster"),
        ] {
            assert_eq!(safe_file_name(name), kept);
        }
    }

    #[test]
    fn ids_are_plain_words() {
        for id in ["", ".", "..", ".hidden", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
        assert!(check_id("scene_2024-06-01.tif").is_ok());
    }
}
