//! Files that only their owner may read, for uploads, which are private, and for addresses, which may contain signatures.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::Path;

/// Options to create or truncate a file for writing. A new file is private; an existing one keeps its permissions.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Writes a file with these options, and returns when it is on disk.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = options().open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Returns when the names in a directory are on disk. A file that is on disk under a name that is not would be lost with the power.
pub(crate) fn sync_names(directory: &Path) -> io::Result<()> {
    // Other systems do not open directories, and write names at once.
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    Ok(())
}

/// A hidden name beside `name` that no other process or thread takes, for what is not finished.
pub(crate) fn unfinished_name(name: &str) -> String {
    // Process ids are no help: in a container, each server has the same. RandomState is seeded by the system.
    format!(".{name}.{:016x}", RandomState::new().hash_one(name))
}

/// Opens a file for writing without truncating it, creates it if needed, and makes it private.
pub(crate) fn keep(path: &Path) -> io::Result<File> {
    let file = options().truncate(false).open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(file)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_their_owners_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let mode = |path: &Path| path.metadata().expect("a file").permissions().mode() & 0o777;
        let (new, old) = (directory.path().join("new"), directory.path().join("old"));
        write(&new, b"secret").expect("room on disk");
        assert_eq!(mode(&new), 0o600);
        std::fs::write(&old, "kept").expect("room on disk");
        std::fs::set_permissions(&old, PermissionsExt::from_mode(0o644)).expect("an own file");
        keep(&old).expect("an own file");
        assert_eq!((mode(&old), std::fs::read(&old).expect("a file")), (0o600, b"kept".to_vec()));
    }
}
