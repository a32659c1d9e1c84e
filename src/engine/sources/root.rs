//! The directory under which clients may register files by path: nothing outside of it is reached, also not by symbolic links.

use std::path::{Path, PathBuf};

use crate::engine::error::EngineError;

/// Directories within a directory that are looked at: SAFE products have images five levels down.
const MAX_DEPTH: usize = 8;
/// Entries that are looked at.
const MAX_ENTRIES: usize = 20_000;

/// Resolves a client's path, which must lie under `root`. So must everything in it, if it is a directory, and what may be read along
/// with it, if it is a file: files beside it of the same name but for the extension.
///
/// # Errors
/// [`EngineError::Invalid`] if something lies elsewhere, or if there is too much to look at.
pub(super) fn below(root: &Path, path: &Path) -> Result<PathBuf, EngineError> {
    let outside = || EngineError::Invalid { detail: format!("{} is not a file under the source root", path.display()) };
    let wanted = root.join(path).canonicalize().map_err(|_| outside())?;
    let root = root.canonicalize().map_err(|_| outside())?;
    if !wanted.starts_with(&root) {
        return Err(outside());
    }
    let mut left = MAX_ENTRIES;
    if wanted.is_dir() {
        check(&wanted, &root, "", MAX_DEPTH, &mut left)?;
    } else if let (Some(directory), Some(stem)) = (wanted.parent(), wanted.file_stem()) {
        check(directory, &root, &format!("{}.", stem.to_string_lossy()), 0, &mut left)?;
    }
    Ok(wanted)
}

/// Checks the entries of a directory whose names begin with `start`, and those of directories in it, `depth` levels down.
fn check(directory: &Path, root: &Path, start: &str, depth: usize, left: &mut usize) -> Result<(), EngineError> {
    let invalid = |detail: String| EngineError::Invalid { detail };
    let shown = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    let unreadable = |_| invalid(format!("{} cannot be read", shown(directory)));
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        *left = left.checked_sub(1).ok_or_else(|| {
            invalid(format!("{} has more than {MAX_ENTRIES} entries, more than are looked at", shown(directory)))
        })?;
        if !entry.file_name().to_string_lossy().starts_with(start) {
            continue;
        }
        let (path, kind) = (entry.path(), entry.file_type().map_err(unreadable)?);
        if kind.is_symlink() {
            // A link that leads nowhere is not followed by anybody.
            let Ok(target) = path.canonicalize() else { continue };
            if !target.starts_with(root) {
                return Err(invalid(format!("{} is a link that leads out of the source root", shown(&path))));
            }
        }
        if depth > 0 && path.is_dir() {
            check(&path, root, "", depth - 1, left)?;
        }
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_that_lead_out_of_the_root_are_refused_wherever_they_lie() {
        let (inside, outside) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let (root, secret) = (inside.path(), outside.path().join("secret.tif"));
        std::fs::write(&secret, "secret").expect("room on disk");
        for directory in ["good", "bad", "deep/one/two"] {
            std::fs::create_dir_all(root.join(directory)).expect("room on disk");
        }
        for file in ["good/a.tif", "bad/a.tif", "deep/a.tif", "alone.tif"] {
            std::fs::write(root.join(file), "pixels").expect("room on disk");
        }
        symlink("../alone.tif", root.join("good/b.tif")).expect("a link");
        symlink("nowhere", root.join("good/c.tif")).expect("a link");
        symlink(&secret, root.join("bad/b.tif")).expect("a link");
        symlink(outside.path(), root.join("deep/one/two/three")).expect("a link");
        symlink(&secret, root.join("direct.tif")).expect("a link");
        for path in ["good", "good/a.tif", "alone.tif"] {
            assert!(below(root, Path::new(path)).is_ok(), "{path}");
        }
        for path in ["bad", "deep", "direct.tif", "..", "none.tif", "/etc/passwd"] {
            let error = below(root, Path::new(path)).expect_err(path).to_string();
            assert!(error.contains("source root") && !error.contains(&root.display().to_string()), "{error}");
        }
        symlink(&secret, root.join("alone.tif.ovr")).expect("a link");
        assert!(below(root, Path::new("alone.tif")).is_err(), "what is read along with it");
    }
}
