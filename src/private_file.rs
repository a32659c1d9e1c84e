//! Files that nobody but their owner may read: what people upload is theirs, and addresses may hold signatures.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// What makes a new file, or one over whatever was there. A file that was there keeps who may read it.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Writes a whole file.
///
/// # Errors
/// What the file system says.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    options().open(path)?.write_all(bytes)
}

/// A file that holds what it held, or nothing where there was none; it is private from now on.
///
/// # Errors
/// What the file system says.
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
