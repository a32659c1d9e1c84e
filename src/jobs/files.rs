//! The files of jobs: one directory per job, with its inputs, what its work keeps, and later its result. A result is written under a temporary
//! name and then renamed, so it is either complete or absent.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{InputContent, JobInput};
use crate::private_file;
use crate::temporary_folder::TemporaryFolder;

/// One directory per job below `root`.
#[derive(Debug)]
pub(super) struct JobFiles {
    root: PathBuf,
    /// What `root` is the path of, if it goes with this value.
    temporary: Option<TemporaryFolder>,
}

impl JobFiles {
    /// Directories below `root` that outlive the process.
    ///
    /// # Errors
    /// If `root` cannot be created.
    pub(super) fn lasting(root: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&root)?;
        Ok(Self { root, temporary: None })
    }

    /// Directories that are removed with this value. Nothing is created before the first job.
    pub(super) fn temporary() -> Self {
        let folder = TemporaryFolder::new("jobs");
        Self { root: folder.path().to_owned(), temporary: Some(folder) }
    }

    /// Writes a new job's inputs. If that fails, what was written is removed.
    ///
    /// # Errors
    /// If a file cannot be written or moved.
    pub(super) fn store_inputs(&self, id: &str, inputs: Vec<JobInput>) -> io::Result<()> {
        if let Some(folder) = &self.temporary {
            folder.create()?;
        }
        let directory = self.root.join(id);
        let write = || {
            std::fs::create_dir(&directory)?;
            for (index, input) in inputs.into_iter().enumerate() {
                let path = self.input(id, index);
                match input.content {
                    InputContent::Memory(bytes) => private_file::write(&path, &bytes)?,
                    InputContent::File(from) => take_over((*from).as_ref(), &path)?,
                }
            }
            private_file::sync_names(&directory)?;
            private_file::sync_names(&self.root)
        };
        write().inspect_err(|_| self.remove(id))
    }

    /// The path of a job's input, counted from 0.
    pub(super) fn input(&self, id: &str, index: usize) -> PathBuf {
        self.root.join(id).join(format!("input-{}", index + 1))
    }

    /// The folder in which a job's work may keep what a further run of it needs.
    pub(super) fn work(&self, id: &str) -> PathBuf {
        self.root.join(id).join("work")
    }

    pub(super) fn store_result(&self, id: &str, body: &[u8]) -> io::Result<()> {
        let (unfinished, finished) = (self.root.join(id).join("result.part"), self.result(id));
        let mut file = private_file::options().open(&unfinished)?;
        file.write_all(body)?;
        file.sync_all()?;
        std::fs::rename(unfinished, finished)?;
        private_file::sync_names(&self.root.join(id))
    }

    pub(super) fn open_result(&self, id: &str) -> io::Result<File> {
        File::open(self.result(id))
    }

    /// Removes the `count` inputs of a job, and the folder of its work.
    pub(super) fn remove_inputs(&self, id: &str, count: usize) {
        let work = self.work(id);
        warn_unless_gone(&work, std::fs::remove_dir_all(&work));
        for index in 0..count {
            let path = self.input(id, index);
            warn_unless_gone(&path, std::fs::remove_file(&path));
        }
    }

    /// Removes a job's directory.
    pub(super) fn remove(&self, id: &str) {
        let directory = self.root.join(id);
        warn_unless_gone(&directory, std::fs::remove_dir_all(&directory));
    }

    /// Removes the directories of jobs that are not `known`, which a crash between writing files and row leaves behind.
    ///
    /// # Errors
    /// If the directories cannot be listed.
    pub(super) fn remove_others(&self, known: &BTreeSet<String>) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() && !known.contains(&name) {
                self.remove(&name);
            }
        }
        Ok(())
    }

    fn result(&self, id: &str) -> PathBuf {
        self.root.join(id).join("result")
    }
}

/// Moves a file, also between file systems, and returns when it is on disk.
fn take_over(from: &Path, to: &Path) -> io::Result<()> {
    if std::fs::rename(from, to).is_ok() {
        return private_file::keep(to)?.sync_all();
    }
    std::fs::copy(from, to)?;
    // The copy has the permissions of the original, which others may read.
    private_file::keep(to)?.sync_all()?;
    std::fs::remove_file(from)
}

/// Logs a file that could not be removed: it only costs disk space.
fn warn_unless_gone(path: &Path, removed: io::Result<()>) {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "a file of a job cannot be removed");
        }
        _ => {}
    }
}
