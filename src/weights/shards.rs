//! Checkpoints in several files: an index in JSON, as Hugging Face libraries write it, says which file each tensor is in.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::error::{WeightsError, file_name};

/// The end of the name of an index, such as `model.safetensors.index.json`.
const INDEX_SUFFIX: &str = ".index.json";
/// Largest index that is read. That of a model with a thousand tensors has some 100 kB.
const MAX_INDEX_BYTES: u64 = 16 << 20;
/// Most files of a checkpoint, each of which stays open.
const MAX_SHARDS: usize = 64;

/// Which file each tensor of a checkpoint is in.
#[derive(Debug)]
pub(super) struct Shards {
    folder: PathBuf,
    /// Names of tensors, by the name of their file.
    names: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl Shards {
    /// The shards of an index, or of a folder with one index in it; `None` for any other file.
    ///
    /// # Errors
    /// [`WeightsError`] if the index cannot be read, or names files outside its folder; or if a folder has no index or several.
    pub(super) fn find(path: &Path) -> Result<Option<Self>, WeightsError> {
        let index = if path.is_dir() { index_of(path)? } else { path.to_owned() };
        if !is_index(&index) {
            return Ok(None);
        }
        let file = file_name(&index);
        let damaged = |reason: String| WeightsError::Damaged { file: file.clone(), reason };
        let io = |source| WeightsError::Io { path: index.clone(), source };
        let mut text = Vec::new();
        fs::File::open(&index).and_then(|file| file.take(MAX_INDEX_BYTES + 1).read_to_end(&mut text)).map_err(io)?;
        if text.len() as u64 > MAX_INDEX_BYTES {
            return Err(damaged(format!("an index of at most {MAX_INDEX_BYTES} bytes is needed")));
        }
        let ShardIndex { weight_map } =
            serde_json::from_slice(&text).map_err(|error| damaged(format!("its index of shards: {error}")))?;
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (tensor, shard) in weight_map {
            let mut parts = Path::new(&shard).components();
            if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
                return Err(damaged(format!("shard {shard:?} is not the name of a file in its folder")));
            }
            names.entry(shard).or_default().push(tensor);
        }
        if names.len() > MAX_SHARDS {
            return Err(damaged(format!("{} shards, and at most {MAX_SHARDS} are read", names.len())));
        }
        Ok(Some(Self { folder: index.parent().unwrap_or(Path::new("")).to_owned(), names }))
    }

    /// Each file with the names of the tensors that are read from it.
    pub(super) fn files(&self) -> impl Iterator<Item = (PathBuf, &[String])> {
        self.names.iter().map(|(shard, names)| (self.folder.join(shard), names.as_slice()))
    }
}

/// The files whose sizes and times tell whether a checkpoint has changed: the file itself, or, of a checkpoint in shards, every
/// file of the folder. The shards are not looked up in the index, since this is asked for every request.
///
/// # Errors
/// If the folder cannot be read.
pub(super) fn files_to_watch(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let folder = match path.parent() {
        _ if path.is_dir() => path,
        Some(parent) if is_index(path) => parent,
        _ => return Ok(vec![path.to_owned()]),
    };
    let mut files: Vec<_> = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.is_file());
    files.sort();
    Ok(files)
}

fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(INDEX_SUFFIX))
}

fn index_of(folder: &Path) -> Result<PathBuf, WeightsError> {
    let entries = fs::read_dir(folder).map_err(|source| WeightsError::Io { path: folder.to_owned(), source })?;
    let mut found: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| is_index(path)).collect();
    match (found.pop(), found.pop()) {
        (Some(index), None) => Ok(index),
        (found, _) => {
            let what = if found.is_some() { "several files" } else { "no file" };
            let reason = format!(
                "a folder with {what} called *{INDEX_SUFFIX}; one index of shards is needed, or the path of a checkpoint file"
            );
            Err(WeightsError::Refused { file: file_name(folder), reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_files_of_its_own_folder_only() {
        let dir = tempfile::tempdir().unwrap();
        let index = dir.path().join("model.safetensors.index.json");
        let find = |text: &str| {
            fs::write(&index, text).unwrap();
            Shards::find(dir.path())
        };
        let shards =
            find(r#"{"metadata": {}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "1.safetensors"}}"#);
        let shards = shards.unwrap().unwrap();
        let files: Vec<_> = shards.files().map(|(path, names)| (path, names.len())).collect();
        assert_eq!(files, [(dir.path().join("1.safetensors"), 2), (dir.path().join("2.safetensors"), 1)]);
        for hostile in ["../up.safetensors", "/etc/passwd", "", "a/b", ".."] {
            let text = serde_json::json!({"weight_map": {"a": hostile}}).to_string();
            assert!(matches!(find(&text), Err(WeightsError::Damaged { .. })), "{hostile}");
        }
        assert!(matches!(find("[]"), Err(WeightsError::Damaged { .. })));
        let many: BTreeMap<_, _> = (0..=MAX_SHARDS).map(|i| (format!("t{i}"), format!("{i}.safetensors"))).collect();
        assert!(
            find(&serde_json::json!({ "weight_map": many }).to_string()).unwrap_err().to_string().contains("65 shards")
        );
    }

    #[test]
    fn a_folder_needs_one_index() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Shards::find(dir.path()).unwrap_err().to_string().contains("no file called"));
        for name in ["a.index.json", "b.index.json"] {
            fs::write(dir.path().join(name), "{}").unwrap();
        }
        assert!(Shards::find(dir.path()).unwrap_err().to_string().contains("several files called"));
        assert!(Shards::find(&dir.path().join("absent.pth")).unwrap().is_none());
    }
}
