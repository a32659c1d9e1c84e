//! Registered sources on disk: one directory each, `sources/<id>/`, with a small `source.json` and, for an upload, the file.
//!
//! A directory is written under another name and then renamed, and renamed again before it is removed, so that a crash never leaves
//! a partial source. What it leaves has hidden names, and is removed at the next start.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::{MAX_ID, check_id};
use crate::engine::error::EngineError;
use crate::private_file;

const RECORD: &str = "source.json";
const LOCK: &str = ".lock";

/// What is known of a registered source without opening it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SourceRecord {
    /// A title for people; `None` takes the one found on opening.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) title: Option<String>,
    #[serde(flatten)]
    pub(super) place: StoredPlace,
}

/// Where the bytes of a registered source are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum StoredPlace {
    /// Beside the record.
    Upload {
        file: String,
        /// Captures stacked in its bands, if the client said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        images: Option<usize>,
    },
    /// Under the source root, which may change when the server restarts.
    Path { path: PathBuf },
    /// A remote address; it may hold secrets, so only the owner can read a record.
    Url { url: String },
}

/// Takes the directory for this process as long as the file is open; `None` if another one works on it.
pub(super) fn lock(root: &Path) -> io::Result<Option<File>> {
    std::fs::create_dir_all(root)?;
    let file = private_file::keep(&root.join(LOCK))?;
    Ok(file.try_lock().is_ok().then_some(file))
}

/// Removes what a process that died has left: directories that were being written or removed, and sources without a record or
/// without their file. Only the process that holds the lock may do so.
pub(super) fn clean(root: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(root)?.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let is_half = name.starts_with('.') || (check_id(&name).is_ok() && is_incomplete(&path));
        if !path.is_dir() || !is_half {
            continue;
        }
        match std::fs::remove_dir_all(&path) {
            Ok(()) => tracing::info!(name, "what was left of a source that was being stored or removed is gone"),
            Err(error) => tracing::warn!(name, %error, "what is left of a source cannot be removed"),
        }
    }
    Ok(())
}

/// True if a source's directory lacks its record or the file that the record names.
fn is_incomplete(directory: &Path) -> bool {
    // Anything else that keeps them from being read may pass.
    let is_missing = |path: &Path| path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
    match read(directory) {
        Ok(SourceRecord { place: StoredPlace::Upload { file, .. }, .. }) => {
            is_missing(&directory.join(safe_file_name(&file)))
        }
        Ok(_) => false,
        Err(_) => is_missing(&directory.join(RECORD)),
    }
}

/// The records under `root` with their ids and directories; unreadable ones are logged and skipped.
pub(super) fn read_all(root: &Path) -> io::Result<Vec<(String, PathBuf, SourceRecord)>> {
    std::fs::create_dir_all(root)?;
    let mut found = Vec::new();
    for directory in std::fs::read_dir(root)?.flatten() {
        let id = directory.file_name().to_string_lossy().into_owned();
        if check_id(&id).is_err() {
            continue;
        }
        match read(&directory.path()) {
            Ok(record) => found.push((id, directory.path(), record)),
            Err(error) => tracing::warn!(source = id, %error, "a stored source cannot be read"),
        }
    }
    Ok(found)
}

fn read(directory: &Path) -> io::Result<SourceRecord> {
    Ok(serde_json::from_slice(&std::fs::read(directory.join(RECORD))?)?)
}

/// Stores a record and, for an upload, its bytes; returns the directory once it is on disk.
///
/// # Errors
/// `AlreadyExists` or `DirectoryNotEmpty` if the id is taken, and other errors of the file system.
pub(super) fn write(root: &Path, id: &str, record: &SourceRecord, upload: Option<&[u8]>) -> io::Result<PathBuf> {
    // Ids do not start with a dot, so an unfinished directory is never taken for a source.
    let (unfinished, finished) = (root.join(private_file::unfinished_name(id)), root.join(id));
    let write = || -> io::Result<()> {
        std::fs::create_dir(&unfinished)?;
        if let (StoredPlace::Upload { file, .. }, Some(bytes)) = (&record.place, upload) {
            private_file::write(&unfinished.join(file), bytes)?;
        }
        private_file::write(&unfinished.join(RECORD), &serde_json::to_vec(record)?)?;
        private_file::sync_names(&unfinished)?;
        std::fs::rename(&unfinished, &finished)?;
        private_file::sync_names(root)
    };
    write().inspect_err(|_| {
        // What is left of a failed write is of no use; the first error is the one to report.
        let _ = std::fs::remove_dir_all(&unfinished);
    })?;
    Ok(finished)
}

/// Removes a source's directory. Once it has its hidden name, the source is gone, whatever happens then.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let removed = directory.with_file_name(private_file::unfinished_name(&name));
    match std::fs::rename(directory, &removed) {
        // Somebody else has removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    if let Some(root) = directory.parent() {
        private_file::sync_names(root)?;
    }
    std::fs::remove_dir_all(removed)
}

/// The last part of a client's file name, without characters that could form a path.
pub(super) fn safe_file_name(name: &str) -> String {
    let last = Path::new(name).components().rev().find_map(|part| match part {
        Component::Normal(part) => part.to_str(),
        _ => None,
    });
    let kept: String =
        last.unwrap_or("raster").chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
    let kept = kept.trim_start_matches('.');
    let kept = if kept.is_empty() { "raster" } else { &kept[kept.len().saturating_sub(MAX_ID)..] };
    // The record itself has this name.
    if kept == RECORD { "raster".to_owned() } else { kept.to_owned() }
}

pub(super) fn sources_dir(data_dir: Option<&Path>) -> Option<PathBuf> {
    data_dir.map(|dir| dir.join("sources"))
}

pub(super) fn store_error(id: &str, error: io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
            EngineError::Exists { what: "source", id: id.to_owned() }
        }
        _ => EngineError::Store { what: format!("source {id:?}"), source: Arc::new(error) },
    }
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
            ("source.json", "raster"),
            ("", "raster"),
        ] {
            assert_eq!(safe_file_name(name), kept);
        }
    }

    #[test]
    fn records_of_every_kind_are_read_as_they_were_written() {
        let root = tempfile::tempdir().expect("a directory");
        let upload = |images| StoredPlace::Upload { file: "a.tif".to_owned(), images };
        let places = [
            upload(None),
            upload(Some(4)),
            StoredPlace::Path { path: "2024/a.tif".into() },
            StoredPlace::Url { url: "https://a.org/b.tif?sig=1".to_owned() },
        ];
        let mut wanted = Vec::new();
        for (index, place) in places.into_iter().enumerate() {
            let record = SourceRecord { title: (index > 0).then(|| format!("title {index}")), place };
            let id = format!("s{index}");
            let directory = write(root.path(), &id, &record, Some(b"bytes")).expect("room on disk");
            assert!(write(root.path(), &id, &record, None).is_err(), "an id is used once");
            wanted.push((id, directory, record));
        }
        std::fs::create_dir(root.path().join(".unfinished.1")).expect("room on disk");
        std::fs::create_dir(root.path().join("half")).expect("room on disk");
        #[cfg(unix)]
        for (_, directory, _) in &wanted {
            use std::os::unix::fs::PermissionsExt;
            for file in std::fs::read_dir(directory).expect("a directory").flatten() {
                assert_eq!(file.metadata().expect("a file").permissions().mode() & 0o777, 0o600, "{:?}", file.path());
            }
        }
        let mut found = read_all(root.path()).expect("a readable directory");
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, wanted);
        let before = serde_json::from_str::<SourceRecord>(r#"{"title":"old","file":"a.tif"}"#).expect("an older record");
        assert_eq!(before.place, upload(None));
    }

    #[test]
    fn what_a_dead_process_left_is_removed_and_whole_sources_stay() {
        let root = tempfile::tempdir().expect("a directory");
        let record = |place| SourceRecord { title: None, place };
        let upload = record(StoredPlace::Upload { file: "a.tif".to_owned(), images: None });
        write(root.path(), "whole", &upload, Some(b"bytes")).expect("room on disk");
        let gone = write(root.path(), "gone", &upload, Some(b"bytes")).expect("room on disk");
        write(root.path(), "far", &record(StoredPlace::Url { url: "https://a.org".to_owned() }), None)
            .expect("room on disk");
        write(root.path(), "no_file", &upload, None).expect("room on disk");
        std::fs::create_dir(root.path().join("no_record")).expect("room on disk");
        std::fs::create_dir(root.path().join("unreadable")).expect("room on disk");
        std::fs::write(root.path().join("unreadable").join(RECORD), "{").expect("room on disk");
        std::fs::create_dir_all(root.path().join(".half.1")).expect("room on disk");
        remove(&gone).expect("an own directory");
        remove(&gone).expect("nothing is left to do");

        let held = lock(root.path()).expect("a directory").expect("nobody else");
        assert!(lock(root.path()).expect("a directory").is_none(), "one process at a time");
        clean(root.path()).expect("a directory");
        drop(held);
        let left = std::fs::read_dir(root.path()).expect("a directory").flatten();
        let mut left: Vec<String> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        left.sort();
        assert_eq!(left, [".lock", "far", "unreadable", "whole"]);
    }
}
