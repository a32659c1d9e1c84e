//! The indexes that there are: kept below the data directory, found again at the next start, made and removed as a whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::index::{Index, IndexWriter, NewRow};
use super::record::{IndexOrigin, IndexRecord};
use super::table;
use super::table_columns::TableOptions;
use crate::engine::error::EngineError;
use crate::engine::near_match::nearest;
use crate::engine::sources::check_id;
use crate::private_file;
use crate::sync::IgnorePoison;
use crate::temporary_folder::TemporaryFolder;

/// Most indexes: each keeps four files open.
const MAX_INDEXES: u64 = 64;

const RECORD: &str = "index.json";

/// All indexes.
pub struct Indexes {
    root: Root,
    open: Mutex<BTreeMap<String, Arc<Index>>>,
}

/// Where the indexes lie.
enum Root {
    Kept(PathBuf),
    /// Without a data directory: gone with the process.
    Temporary(TemporaryFolder),
}

impl Root {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }

    fn create(&self) -> std::io::Result<()> {
        match self {
            Self::Kept(path) => std::fs::create_dir_all(path),
            Self::Temporary(folder) => folder.create(),
        }
    }
}

impl Indexes {
    /// Opens what is stored below the data directory, which no other process may use. What a process that died has left of an
    /// index is removed, and an index that cannot be read is logged and left out.
    pub(in crate::engine) fn open(data_dir: Option<&Path>) -> Self {
        let root = match data_dir {
            Some(data_dir) => Root::Kept(data_dir.join("indexes")),
            None => Root::Temporary(TemporaryFolder::new("indexes")),
        };
        let mut open = BTreeMap::new();
        for entry in std::fs::read_dir(root.path()).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if name.starts_with('.') {
                if let Err(error) = std::fs::remove_dir_all(&path) {
                    tracing::warn!(name, %error, "what is left of an index cannot be removed");
                }
                continue;
            }
            match read(&path) {
                Ok(index) => drop(open.insert(name, Arc::new(index))),
                Err(error) => tracing::warn!(index = name, %error, "a stored index cannot be read"),
            }
        }
        Self { root, open: Mutex::new(open) }
    }

    /// All indexes, by id.
    pub fn list(&self) -> Vec<Arc<Index>> {
        self.open.lock().ignore_poison().values().cloned().collect()
    }

    /// The index with this id.
    ///
    /// # Errors
    /// [`EngineError::UnknownIndex`].
    pub fn get(&self, id: &str) -> Result<Arc<Index>, EngineError> {
        let open = self.open.lock().ignore_poison();
        open.get(id).cloned().ok_or_else(|| unknown(id, &open))
    }

    /// Makes an index of a table: a Parquet file, or an array of numpy. Without an id it gets one from the table's bytes. Blocks.
    ///
    /// # Errors
    /// As [`Indexes::begin`], and what is wrong with the table.
    pub fn create(
        &self,
        id: Option<String>,
        title: Option<String>,
        table: Bytes,
        options: &TableOptions,
    ) -> Result<Arc<Index>, EngineError> {
        let id = id.unwrap_or_else(|| blake3::hash(&table).to_hex()[..16].to_owned());
        let mut new = self.begin(&id, title)?;
        table::read(&table, options, |row| new.add(&row))?;
        self.finish(new, IndexOrigin::Upload)
    }

    /// Whether an index of this id may be made.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for an id that is none, [`EngineError::Exists`] if it is taken, and [`EngineError::TooLarge`] if there
    /// are too many indexes.
    pub fn check_room(&self, id: &str) -> Result<(), EngineError> {
        check_id(id)?;
        let open = self.open.lock().ignore_poison();
        if open.contains_key(id) {
            return Err(EngineError::Exists { what: "index", id: id.to_owned() });
        }
        EngineError::limit("indexes", open.len() as u64 + 1, MAX_INDEXES)
    }

    /// Begins an index. It is there once it is finished; dropped before, it leaves nothing. Blocks.
    ///
    /// # Errors
    /// As [`Indexes::check_room`], and those of the file system.
    pub(super) fn begin(&self, id: &str, title: Option<String>) -> Result<NewIndex, EngineError> {
        self.check_room(id)?;
        let directory = self.root.path().join(private_file::unfinished_name(id));
        self.root.create().and_then(|()| std::fs::create_dir(&directory)).map_err(store(id))?;
        let writer = IndexWriter::create(&directory)?;
        Ok(NewIndex { id: id.to_owned(), title, writer, unfinished: Unfinished(directory) })
    }

    /// Ends an index, which can be searched from then on. Blocks.
    ///
    /// # Errors
    /// [`EngineError::Exists`] if another of its id came first, [`EngineError::Unusable`] without rows, and those of the file system.
    pub(super) fn finish(&self, new: NewIndex, origin: IndexOrigin) -> Result<Arc<Index>, EngineError> {
        let NewIndex { id, title, writer, unfinished } = new;
        let (has_places, has_times) = (writer.has_places, writer.has_times);
        let (rows, dimensions) = writer.finish()?;
        let created_ms = jiff::Timestamp::now().as_millisecond();
        let record = IndexRecord { id: id.clone(), title, rows, dimensions, has_places, has_times, created_ms, origin };
        let text = serde_json::to_vec(&record).map_err(|error| store(&id)(error.into()))?;
        private_file::write(&unfinished.0.join(RECORD), &text).map_err(store(&id))?;
        private_file::sync_names(&unfinished.0).map_err(store(&id))?;
        let finished = self.root.path().join(&id);
        // Of two requests for one id, the second fails here.
        std::fs::rename(&unfinished.0, &finished).map_err(|error| match error.kind() {
            std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::DirectoryNotEmpty => {
                EngineError::Exists { what: "index", id: id.clone() }
            }
            _ => store(&id)(error),
        })?;
        private_file::sync_names(self.root.path()).map_err(store(&id))?;
        let index = Arc::new(Index::open(&finished, record)?);
        self.open.lock().ignore_poison().insert(id, index.clone());
        Ok(index)
    }

    /// Removes an index. Searches under way end as if it were there. Blocks.
    ///
    /// # Errors
    /// [`EngineError::UnknownIndex`], and those of the file system.
    pub fn remove(&self, id: &str) -> Result<(), EngineError> {
        let hidden = self.root.path().join(private_file::unfinished_name(id));
        {
            // Of two requests for one id, the second finds none; and one that is made as soon as the name is free is not taken for it.
            let mut open = self.open.lock().ignore_poison();
            if !open.contains_key(id) {
                return Err(unknown(id, &open));
            }
            // Once it has its hidden name, it is gone, whatever happens then.
            std::fs::rename(self.root.path().join(id), &hidden).map_err(store(id))?;
            open.remove(id);
        }
        private_file::sync_names(self.root.path()).map_err(store(id))?;
        std::fs::remove_dir_all(hidden).map_err(store(id))
    }
}

/// An index that is being made.
pub(super) struct NewIndex {
    id: String,
    title: Option<String>,
    writer: IndexWriter,
    unfinished: Unfinished,
}

impl NewIndex {
    /// Adds a row; see [`IndexWriter::add`].
    ///
    /// # Errors
    /// Those of [`IndexWriter::add`].
    pub(super) fn add(&mut self, row: &NewRow<'_>) -> Result<(), EngineError> {
        self.writer.add(row)
    }
}

/// The directory of an index that is not finished, removed with this value unless it was renamed.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What is left of it is of no use, and removed at the next start at the latest.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The error of an id that none of the indexes has.
fn unknown(id: &str, open: &BTreeMap<String, Arc<Index>>) -> EngineError {
    EngineError::UnknownIndex { id: id.to_owned(), suggestion: nearest(id, open.keys().map(String::as_str)) }
}

/// For `map_err`: the error of storing an index.
fn store(id: &str) -> impl Fn(std::io::Error) -> EngineError {
    move |source| EngineError::Store { what: format!("index {id:?}"), source: Arc::new(source) }
}

fn read(directory: &Path) -> Result<Index, EngineError> {
    let store = |source| EngineError::Store { what: RECORD.to_owned(), source: Arc::new(source) };
    let text = std::fs::read(directory.join(RECORD)).map_err(store)?;
    let record: IndexRecord = serde_json::from_slice(&text).map_err(|error| store(error.into()))?;
    Index::open(directory, record)
}
