//! Copies of `.pth` files as `.safetensors`, whose checksums need not be compared again at the next start.
//!
//! A copy states size and modification time of its source, and is written again when they change. It is written under a
//! temporary name and then renamed, so other processes see the old copy or the new one, never a part.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use ::safetensors::tensor::{Dtype, View, serialize_to_file};

use super::backing::Backing;
use super::checkpoint::Checkpoint;
use super::error::{WeightsError, file_name};
use super::stored_tensor::StoredTensor;
use super::{pth, safetensors};

const SOURCE_KEY: &str = "satlas-serve.source";

/// How long ago an unfinished copy must have been written to for its writer to be taken for dead.
const LEFTOVER_AGE: Duration = Duration::from_secs(600);

/// The copy of a `.pth` file in `copies_dir`, written if there is none or it is outdated. A file that is not zipped is
/// returned itself.
///
/// # Errors
/// [`WeightsError`] if the source cannot be read, or the copy cannot be written.
pub(super) fn plain_copy(source: &Path, copies_dir: &Path) -> Result<PathBuf, WeightsError> {
    if source.is_dir() || !begins_as_zip(source)? {
        return Ok(source.to_owned());
    }
    let stamp = stamp(source)?;
    let copy = copies_dir.join(copy_name(source));
    if is_current(&copy, &stamp) {
        return Ok(copy);
    }
    fs::create_dir_all(copies_dir).map_err(|error| io(copies_dir, error))?;
    write(source, &copy, stamp)?;
    Ok(copy)
}

/// Removes what killed processes have left of copies they were writing. A file that was written to in the last minutes may
/// still be in use. Failures only cost disk space.
pub(super) fn remove_leftovers(copies_dir: &Path) {
    let Ok(entries) = fs::read_dir(copies_dir) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // The library that writes safetensors files uses temporary names that begin with `.tmp`.
        let is_unfinished = name.starts_with(".tmp") || name.contains(".partial-");
        let age = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
        if is_unfinished && age.is_some_and(|age| age > LEFTOVER_AGE) {
            let _ = fs::remove_file(&path);
        }
    }
}

/// The name of a copy: that of the source, for people, and a hash of its path, since many files are called `best.pth`.
fn copy_name(source: &Path) -> String {
    const HASH_DIGITS: usize = 16;
    let place = fs::canonicalize(source).unwrap_or_else(|_| source.to_owned());
    let hash = blake3::hash(place.as_os_str().as_encoded_bytes()).to_hex();
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    format!("{stem}-{}.safetensors", &hash[..HASH_DIGITS])
}

/// Size and modification time of a file.
fn stamp(source: &Path) -> Result<String, WeightsError> {
    let metadata = fs::metadata(source).map_err(|error| io(source, error))?;
    let modified = metadata.modified().map_err(|error| io(source, error))?;
    let since_epoch = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(format!("{} bytes, changed at {} ns", metadata.len(), since_epoch.as_nanos()))
}

fn begins_as_zip(source: &Path) -> Result<bool, WeightsError> {
    let backing = Backing::open(source)?;
    Ok(backing.read(0, backing.len().min(pth::ZIP_MAGIC.len()))? == pth::ZIP_MAGIC)
}

fn is_current(copy: &Path, stamp: &str) -> bool {
    let header = Backing::open(copy).and_then(|backing| safetensors::header(&file_name(copy), &backing));
    let Ok((_, header)) = header else { return false };
    header.metadata().as_ref().and_then(|metadata| metadata.get(SOURCE_KEY)).is_some_and(|found| found == stamp)
}

fn write(source: &Path, copy: &Path, stamp: String) -> Result<(), WeightsError> {
    let checkpoint = Checkpoint::open(source)?;
    let failure = OnceCell::new();
    let (source, failed) = (&checkpoint, &failure);
    let views = checkpoint.tensors.iter().map(|(name, stored)| (name, RowMajor { stored, source, failed }));
    let metadata = HashMap::from([(SOURCE_KEY.to_owned(), stamp)]);
    let partial = copy.with_extension(format!("partial-{}", std::process::id()));
    let written = serialize_to_file(views, Some(metadata), &partial).map_err(std::io::Error::other);
    let kept = match failure.into_inner() {
        Some(error) => Err(error),
        None => written
            .and_then(|()| File::open(&partial)?.sync_all())
            .and_then(|()| fs::rename(&partial, copy))
            .map_err(|error| io(copy, error)),
    };
    if kept.is_err() {
        // Best effort: the error that matters is the one above.
        let _ = fs::remove_file(&partial);
    }
    kept
}

fn io(path: &Path, source: std::io::Error) -> WeightsError {
    WeightsError::Io { path: path.to_owned(), source }
}

/// A tensor of the source, as the writer of the copy needs it.
struct RowMajor<'a> {
    stored: &'a StoredTensor,
    source: &'a Checkpoint,
    /// Takes the first error of reading, since the writer knows none.
    failed: &'a OnceCell<WeightsError>,
}

impl View for RowMajor<'_> {
    fn dtype(&self) -> Dtype {
        self.stored.dtype.into()
    }

    fn shape(&self) -> &[usize] {
        &self.stored.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match self.source.read(self.stored) {
            Ok(bytes) => Cow::Owned(bytes.into()),
            Err(error) => {
                let _ = self.failed.set(error);
                Cow::Owned(vec![0; self.data_len()])
            }
        }
    }

    fn data_len(&self) -> usize {
        self.stored.shape.iter().product::<usize>() * self.stored.dtype.size_in_bytes()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::weights::{Weights, WeightsKind};

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints").join(name)
    }

    #[test]
    fn a_copy_holds_the_tensors_of_its_source() {
        let copies = tempfile::tempdir().unwrap();
        for name in ["plain_fp32.pth", "nested_module_bf16.pth", "lightning_fp16.pth"] {
            let copy = plain_copy(&fixture(name), copies.path()).unwrap();
            let open = |path: &Path| Weights::open(path, WeightsKind::FineTuned).unwrap();
            for (tensor, shape) in
                [("heads.0.rpn.head.conv.0.0.bias", &[4][..]), ("backbone.backbone.features.0.0.weight", &[2, 3])]
            {
                let read = |path| open(path).get(tensor, shape, &Device::Cpu).unwrap().to_string();
                assert_eq!(read(&copy), read(&fixture(name)), "{name}: {tensor}");
            }
        }
    }

    #[test]
    fn a_copy_is_kept_until_its_source_changes() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("best.pth");
        fs::copy(fixture("plain_fp32.pth"), &source).unwrap();
        let copy = plain_copy(&source, dir.path()).unwrap();
        let inode_time = || fs::metadata(&copy).unwrap().modified().unwrap();
        let first = inode_time();
        assert_eq!(plain_copy(&source, dir.path()).unwrap(), copy);
        assert_eq!(inode_time(), first);
        fs::copy(fixture("nested_module_bf16.pth"), &source).unwrap();
        plain_copy(&source, dir.path()).unwrap();
        let weights = Weights::open(&copy, WeightsKind::FineTuned).unwrap();
        let tensor = weights.get("heads.0.rpn.head.conv.0.0.bias", &[4], &Device::Cpu).unwrap();
        assert_eq!(tensor.dtype(), candle_core::DType::BF16);
    }

    #[test]
    fn a_damaged_copy_is_written_again_and_nothing_half_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        let copy = plain_copy(&fixture("plain_fp32.pth"), dir.path()).unwrap();
        fs::write(&copy, b"cut").unwrap();
        plain_copy(&fixture("plain_fp32.pth"), dir.path()).unwrap();
        assert!(Weights::open(&copy, WeightsKind::FineTuned).is_ok());
        let cut = dir.path().join("cut.pth");
        fs::write(&cut, &fs::read(fixture("plain_fp32.pth")).unwrap()[..500]).unwrap();
        assert!(plain_copy(&cut, dir.path()).is_err());
        fs::remove_file(&cut).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_conversion_left_is_removed_and_one_under_way_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, age: Duration| {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_modified(std::time::SystemTime::now() - age).unwrap();
        };
        file(".tmpAbCdEf", 2 * LEFTOVER_AGE);
        file("best-0123.partial-7", 2 * LEFTOVER_AGE);
        file(".tmpGhIjKl", Duration::ZERO);
        file("best-0123.safetensors", 2 * LEFTOVER_AGE);
        remove_leftovers(dir.path());
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".tmpGhIjKl", "best-0123.safetensors"]);
    }

    #[test]
    fn a_safetensors_file_needs_no_copy() {
        let path = fixture("plain.safetensors");
        assert_eq!(plain_copy(&path, Path::new("/nowhere")).unwrap(), path);
    }
}
