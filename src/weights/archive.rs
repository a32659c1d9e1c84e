//! Unpacks one file of a published tar archive.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::{WeightsError, file_name};

/// Largest member that is unpacked. Checkpoints have some 400 MB.
const MAX_MEMBER_BYTES: u64 = 16 << 30;

/// Writes the member with this path to the same path below `directory`. The archive is not trusted: only a plain file with
/// exactly this path is taken, so nothing outside `directory` can be written.
///
/// # Errors
/// [`WeightsError::Damaged`] if the archive is not readable or has no such member, or the member cannot be written;
/// [`WeightsError::Io`] if its folder cannot be created.
pub(super) fn unpack(tar: &Path, member: &str, directory: &Path) -> Result<PathBuf, WeightsError> {
    let damaged =
        |error: io::Error| WeightsError::Damaged { file: file_name(tar), reason: format!("its tar archive: {error}") };
    let place = directory.join(member);
    let io = |source| WeightsError::Io { path: place.clone(), source };
    let mut archive = tar::Archive::new(File::open(tar).map_err(damaged)?);
    for entry in archive.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let is_wanted = entry.path().is_ok_and(|path| path.strip_prefix(".").unwrap_or(&path) == Path::new(member));
        if !is_wanted || !entry.header().entry_type().is_file() {
            continue;
        }
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        let partial = place.with_extension(format!("partial-{}", std::process::id()));
        let stated = entry.size();
        let copied = File::create(&partial)
            .and_then(|mut file| io::copy(&mut entry.take(MAX_MEMBER_BYTES), &mut file))
            .and_then(|len| if len == stated { fs::rename(&partial, &place) } else { Err(io::Error::other("cut short")) });
        return match copied {
            Ok(()) => Ok(place),
            Err(error) => {
                // Best effort: the error that matters is the one above.
                let _ = fs::remove_file(&partial);
                Err(damaged(error))
            }
        };
    }
    Err(damaged(io::Error::other(format!("no {member} in it"))))
}
