//! A folder that collects results. A file is put under its name once and whole; whoever comes second changes nothing.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::error::AreaError;
use crate::private_file;

/// Where files are written before they get their names.
const UNFINISHED: &str = ".unfinished";

/// A folder for the results of one job. Names may have one level of folders, with `/`.
#[derive(Clone, Debug)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// The folder at `root`, which is made if it does not exist.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(root: &Path) -> Result<Self, AreaError> {
        let folder = Self { root: root.to_owned() };
        std::fs::create_dir_all(root).map_err(AreaError::io(format!("making {}", root.display())))?;
        Ok(folder)
    }

    /// True if there is a file of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.root.join(name).is_file()
    }

    /// Where a file of this name lies.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The names of the files in one of its folders.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub(super) fn names_in(&self, folder: &str) -> Result<HashSet<String>, AreaError> {
        let failed = |error| AreaError::io(format!("listing {folder}"))(error);
        let entries = match std::fs::read_dir(self.root.join(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(HashSet::new()),
            Err(error) => return Err(failed(error)),
        };
        let name = |entry: io::Result<std::fs::DirEntry>| {
            let entry = entry?;
            Ok((!entry.file_type()?.is_dir()).then(|| entry.file_name().to_string_lossy().into_owned()))
        };
        entries.filter_map(|entry| name(entry).transpose()).collect::<io::Result<_>>().map_err(failed)
    }

    /// The names of all files, in order.
    ///
    /// # Errors
    /// If a folder cannot be listed.
    pub(super) fn names(&self) -> Result<Vec<String>, AreaError> {
        let mut names = Vec::new();
        let listed = self.list("", &mut names);
        listed.map_err(AreaError::io(format!("listing {}", self.root.display())))?;
        names.sort();
        Ok(names)
    }

    fn list(&self, below: &str, names: &mut Vec<String>) -> io::Result<()> {
        for entry in std::fs::read_dir(self.root.join(below))? {
            let entry = entry?;
            let name = format!("{below}{}", entry.file_name().to_string_lossy());
            if name == UNFINISHED {
                continue;
            }
            match entry.file_type()?.is_dir() {
                true => self.list(&format!("{name}/"), names)?,
                false => names.push(name),
            }
        }
        Ok(())
    }

    /// Total size of files.
    pub(super) fn bytes(&self, names: &[String]) -> u64 {
        names.iter().filter_map(|name| self.root.join(name).metadata().ok()).map(|file| file.len()).sum()
    }

    /// The content of a file, if there is one.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, AreaError> {
        match std::fs::read(self.root.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(AreaError::io(format!("reading {name}"))(error)),
        }
    }

    /// Puts a file where none is; returns false if one is there already, which stays.
    ///
    /// # Errors
    /// If it cannot be written; then nothing is there under its name.
    pub(super) fn put_new(&self, name: &str, bytes: &[u8]) -> Result<bool, AreaError> {
        let target = self.root.join(name);
        let put = |unfinished: &Path| match std::fs::hard_link(unfinished, &target) {
            Ok(()) => Ok(true),
            Err(_) if target.is_file() => Ok(false),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(error),
            // Some file systems have no links. Two that come at once both write the same.
            Err(_) => std::fs::rename(unfinished, &target).map(|()| true),
        };
        self.written(name, bytes, put).map_err(AreaError::io(format!("writing {}", target.display())))
    }

    /// Puts a file, in place of the one that may be there.
    ///
    /// # Errors
    /// If it cannot be written; then the old one stays.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), AreaError> {
        let target = self.root.join(name);
        let put = |unfinished: &Path| std::fs::rename(unfinished, &target).map(|()| true);
        self.written(name, bytes, put).map(drop).map_err(AreaError::io(format!("writing {}", target.display())))
    }

    /// Removes a file if there is one.
    pub(super) fn remove(&self, name: &str) {
        // One that cannot be removed is written over by the next run.
        let _ = std::fs::remove_file(self.root.join(name));
    }

    /// Writes a file under a name of its own, hands that to `put`, and returns when all is on disk.
    fn written(&self, name: &str, bytes: &[u8], put: impl Fn(&Path) -> io::Result<bool>) -> io::Result<bool> {
        let folder = self.root.join(UNFINISHED);
        std::fs::create_dir_all(&folder)?;
        let target = self.root.join(name);
        let parent = target.parent().unwrap_or(&self.root);
        std::fs::create_dir_all(parent)?;
        let unfinished = folder.join(private_file::unfinished_name(&name.replace('/', "_")));
        let write = || {
            let mut file = File::create(&unfinished)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            let put = put(&unfinished)?;
            private_file::sync_names(parent)?;
            Ok(put)
        };
        let written = write();
        // Renamed, or of no use.
        let _ = std::fs::remove_file(&unfinished);
        written
    }

    /// Removes what runs that were killed have left unfinished. Nobody else may be writing.
    pub(super) fn clean(&self) {
        // It takes room and does no other harm.
        let _ = std::fs::remove_dir_all(self.root.join(UNFINISHED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_first_stays() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::open(&root.path().join("a/b")).unwrap();
        assert!(folder.names_in("x").unwrap().is_empty());
        assert!(folder.put_new("x/1", b"first").unwrap());
        assert!(!folder.put_new("x/1", b"second").unwrap());
        assert_eq!(folder.read("x/1").unwrap().unwrap(), b"first");
        assert_eq!(folder.names_in("x").unwrap(), ["1".to_owned()].into());
        folder.replace("x/1", b"third").unwrap();
        assert_eq!(folder.read("x/1").unwrap().unwrap(), b"third");
        folder.remove("x/1");
        assert_eq!(folder.read("x/1").unwrap(), None);
        std::fs::create_dir(folder.path("x/2")).unwrap();
        assert!(!folder.has("x/2") && folder.names_in("x").unwrap().is_empty(), "a folder is no file");
        assert!(folder.put_new("x/2", b"file").is_err());
        std::fs::remove_dir(folder.path("x/2")).unwrap();
        folder.clean();
        assert_eq!(std::fs::read_dir(root.path().join("a/b")).unwrap().count(), 1, "nothing but x");
    }
}
