//! The files of jobs: one directory a job, with its inputs and later its result. A result is written under another name first,
//! so that it is there whole or not at all.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Input, InputContent};
use crate::private_file;

/// The directories of jobs.
#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
    temporary: bool,
}

impl Files {
    /// Directories under `root`, which outlive the process.
    ///
    /// # Errors
    /// When `root` cannot be made.
    pub(super) fn lasting(root: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&root)?;
        Ok(Self { root, temporary: false })
    }

    /// Directories that go with this value; nothing is made before the first job comes.
    pub(super) fn temporary(unique: &str) -> Self {
        Self { root: std::env::temp_dir().join(format!("satlas-serve-jobs-{unique}")), temporary: true }
    }

    /// Writes a new job's inputs; what is left of a failed attempt is removed.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn store_inputs(&self, id: &str, inputs: Vec<Input>) -> io::Result<()> {
        if self.temporary {
            create_private_dir(&self.root)?;
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
            Ok(())
        };
        write().inspect_err(|_| self.remove(id))
    }

    /// Where a job's input lies, counted from 0.
    pub(super) fn input(&self, id: &str, index: usize) -> PathBuf {
        self.root.join(id).join(format!("input-{}", index + 1))
    }

    /// Writes a job's result.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn store_result(&self, id: &str, body: &[u8]) -> io::Result<()> {
        let (unfinished, finished) = (self.root.join(id).join("result.part"), self.result(id));
        let mut file = private_file::options().open(&unfinished)?;
        file.write_all(body)?;
        file.sync_all()?;
        std::fs::rename(unfinished, finished)
    }

    /// A job's result.
    ///
    /// # Errors
    /// What the file system says.
    pub(super) fn open_result(&self, id: &str) -> io::Result<File> {
        File::open(self.result(id))
    }

    /// Removes a job's inputs, of which there are `count`, for good.
    pub(super) fn remove_inputs(&self, id: &str, count: usize) {
        for index in 0..count {
            let path = self.input(id, index);
            warn_unless_gone(&path, std::fs::remove_file(&path));
        }
    }

    /// Removes everything of a job.
    pub(super) fn remove(&self, id: &str) {
        let directory = self.root.join(id);
        warn_unless_gone(&directory, std::fs::remove_dir_all(&directory));
    }

    /// Removes directories of jobs that are not `known`: what a crash between two steps has left.
    ///
    /// # Errors
    /// When the directories cannot be listed.
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

impl Drop for Files {
    fn drop(&mut self) {
        if self.temporary {
            warn_unless_gone(&self.root, std::fs::remove_dir_all(&self.root));
        }
    }
}

/// Temporary directories are shared by all users of a machine, and what people upload is theirs.
fn create_private_dir(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Moves a file, across file systems too.
fn take_over(from: &Path, to: &Path) -> io::Result<()> {
    if std::fs::rename(from, to).is_ok() {
        return private_file::keep(to).map(drop);
    }
    std::fs::copy(from, to)?;
    // A copy may be read by whoever might read what it is a copy of.
    private_file::keep(to)?;
    std::fs::remove_file(from)
}

/// A file that cannot be removed costs space, which is worth a line in the log and no more.
fn warn_unless_gone(path: &Path, removed: io::Result<()>) {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "a file of a job cannot be removed");
        }
        _ => {}
    }
}
