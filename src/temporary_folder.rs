//! Private folders in the system's temporary directory. A process that is killed cannot remove its own; the next one does.

use std::fs::{DirBuilder, File};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::sync::IgnorePoison;

/// How old an unlocked folder must be to be taken for one whose process has ended: its process may have made it and be about to
/// lock it.
const GRACE: Duration = Duration::from_secs(60);

/// A folder that only its owner may read, and that goes with this value. Nothing is created before it is needed.
#[derive(Debug)]
pub(crate) struct TemporaryFolder {
    path: PathBuf,
    /// Locked for as long as this process lives, which shows others that the folder is in use.
    lock: Mutex<Option<File>>,
}

impl TemporaryFolder {
    /// A folder for a kind of files, under a name that cannot be guessed and taken first. Removes the folders of that kind whose
    /// processes have ended.
    pub(crate) fn new(kind: &str) -> Self {
        Self::within(&std::env::temp_dir(), kind, GRACE)
    }

    fn within(parent: &Path, kind: &str, grace: Duration) -> Self {
        let prefix = format!("satlas-serve-{kind}-");
        remove_abandoned(parent, &prefix, grace);
        // RandomState is seeded by the system.
        let unique = RandomState::new().hash_one(std::process::id());
        Self { path: parent.join(format!("{prefix}{unique:016x}")), lock: Mutex::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Creates and locks the folder, if it is not there.
    ///
    /// # Errors
    /// If it cannot be created.
    pub(crate) fn create(&self) -> io::Result<()> {
        let mut lock = self.lock.lock().ignore_poison();
        if lock.is_some() && self.path.is_dir() {
            return Ok(());
        }
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.path)?;
        // Where folders cannot be locked, none is removed either.
        *lock = File::open(&self.path).ok().filter(|folder| folder.try_lock().is_ok());
        Ok(())
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "a temporary folder cannot be removed");
        }
    }
}

/// Removes the folders below `parent` whose names begin with `prefix` and whose processes have ended. Those of other users stay.
fn remove_abandoned(parent: &Path, prefix: &str, grace: Duration) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.filter_map(Result::ok) {
        let is_named = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix));
        if !is_named || !entry.file_type().is_ok_and(|file_type| file_type.is_dir()) {
            continue;
        }
        // Held until the folder is gone, so that two new processes do not remove it together.
        let Ok(folder) = File::open(entry.path()) else { continue };
        let age = folder.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age >= grace) && folder.try_lock().is_ok() && std::fs::remove_dir_all(entry.path()).is_ok()
        {
            tracing::info!(path = %entry.path().display(), "removed what an earlier process left");
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn folders_of_processes_that_have_ended_are_removed_and_no_others() {
        let parent = tempfile::tempdir().unwrap();
        let path = |name: &str| parent.path().join(name);
        for name in ["satlas-serve-test-dead", "satlas-serve-other-dead", "foreign"] {
            std::fs::create_dir(path(name)).unwrap();
            std::fs::write(path(name).join("file"), "left").unwrap();
        }
        let fresh = TemporaryFolder::within(parent.path(), "test", GRACE);
        assert!(path("satlas-serve-test-dead").exists(), "it may be about to be locked");
        fresh.create().unwrap();
        std::fs::write(fresh.path().join("file"), "in use").unwrap();
        let next = TemporaryFolder::within(parent.path(), "test", Duration::ZERO);
        assert!(!path("satlas-serve-test-dead").exists());
        assert!(fresh.path().join("file").exists() && path("satlas-serve-other-dead").exists() && path("foreign").exists());
        assert!(next.path() != fresh.path() && !next.path().exists());
        let gone = fresh.path().to_owned();
        drop(fresh);
        assert!(!gone.exists());
    }

    #[test]
    fn a_folder_that_was_cleaned_away_is_made_again_and_is_private() {
        use std::os::unix::fs::PermissionsExt;

        let parent = tempfile::tempdir().unwrap();
        let folder = TemporaryFolder::within(parent.path(), "test", GRACE);
        for _ in 0..2 {
            folder.create().unwrap();
            assert_eq!(std::fs::metadata(folder.path()).unwrap().permissions().mode() & 0o777, 0o700);
            drop(TemporaryFolder::within(parent.path(), "test", Duration::ZERO));
            assert!(folder.path().exists(), "it is locked");
            std::fs::remove_dir_all(folder.path()).unwrap();
        }
    }
}
