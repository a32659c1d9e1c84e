//! The cache that all Hugging Face tools share: `models--OWNER--NAME/{refs/main, snapshots/COMMIT/FILE, blobs/ETAG}`, where
//! the files of a snapshot are links to blobs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::weights::error::WeightsError;

/// The revision that `refs/main` stands for, and that is downloaded.
pub(super) const REVISION: &str = "main";

#[derive(Clone, Debug)]
pub(super) struct HubCache {
    pub(super) dir: PathBuf,
}

impl HubCache {
    /// A file of a repository: of the snapshot that `refs/main` names, else of the last of the snapshots that have it.
    pub(super) fn find(&self, repo: &str, file: &str) -> Option<PathBuf> {
        let snapshots = self.repo_dir(repo).join("snapshots");
        let main = fs::read_to_string(self.repo_dir(repo).join("refs").join(REVISION)).ok();
        let current = main.map(|commit| snapshots.join(commit.trim()).join(file)).filter(|path| path.is_file());
        current.or_else(|| {
            let mut found: Vec<PathBuf> =
                fs::read_dir(&snapshots).ok()?.filter_map(|entry| Some(entry.ok()?.path().join(file))).collect();
            found.retain(|path| path.is_file());
            found.sort();
            found.pop()
        })
    }

    /// The folder of the blobs of a repository, created if needed.
    ///
    /// # Errors
    /// If it cannot be created.
    pub(super) fn blobs(&self, repo: &str) -> Result<PathBuf, WeightsError> {
        let blobs = self.repo_dir(repo).join("blobs");
        create_dir(&blobs)?;
        Ok(blobs)
    }

    /// Makes a blob a file of a snapshot, by a relative link if the system has links, and points `refs/main` to the
    /// snapshot. Returns the path of the file.
    ///
    /// # Errors
    /// If the file system refuses.
    pub(super) fn link(&self, repo: &str, file: &str, commit: &str, blob: &Path) -> Result<PathBuf, WeightsError> {
        let path = self.repo_dir(repo).join("snapshots").join(commit).join(file);
        let io = |source| WeightsError::Io { path: path.clone(), source };
        if let Some(parent) = path.parent() {
            create_dir(parent)?;
        }
        // Made under a name of its own and renamed, since other threads and processes may be doing the same.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let unique = path.with_added_extension(format!("link-{}-{count}", std::process::id()));
        if fs::symlink_metadata(&unique).is_ok() {
            fs::remove_file(&unique).map_err(io)?;
        }
        #[cfg(unix)]
        {
            let depth = Path::new(file).components().count() + 1;
            let name = blob.file_name().unwrap_or_default();
            let target = PathBuf::from("../".repeat(depth)).join("blobs").join(name);
            std::os::unix::fs::symlink(target, &unique).map_err(io)?;
        }
        #[cfg(not(unix))]
        fs::copy(blob, &unique).map(drop).map_err(io)?;
        fs::rename(&unique, &path).map_err(io)?;
        let reference = self.repo_dir(repo).join("refs").join(REVISION);
        if let Some(parent) = reference.parent() {
            create_dir(parent)?;
        }
        fs::write(&reference, commit).map_err(|source| WeightsError::Io { path: reference, source })?;
        Ok(path)
    }

    fn repo_dir(&self, repo: &str) -> PathBuf {
        self.dir.join(format!("models--{}", repo.replace('/', "--")))
    }
}

fn create_dir(path: &Path) -> Result<(), WeightsError> {
    fs::create_dir_all(path).map_err(|source| WeightsError::Io { path: path.to_owned(), source })
}
