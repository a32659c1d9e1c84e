//! [`CheckpointFiles`]: finds the checkpoint file of a model in the models directory or the hub's cache, or downloads or
//! unpacks it.

use std::path::{Path, PathBuf};

use super::archive::unpack;
use super::convert::{plain_copy, remove_leftovers};
use super::error::WeightsError;
use super::hub::{DownloadProgress, Hub, HubOptions};
use crate::zoo::{ArchiveMember, ModelSpec, WeightsSpec};

/// Finds the checkpoint files of models.
#[derive(Clone, Debug)]
pub struct CheckpointFiles {
    models_dir: PathBuf,
    copies_dir: PathBuf,
    hub: Hub,
}

impl CheckpointFiles {
    /// `models_dir` holds the user's files; `.safetensors` copies of `.pth` files are written to `copies_dir`, from which what
    /// killed processes have left is removed.
    pub fn new(models_dir: PathBuf, copies_dir: PathBuf, hub: HubOptions) -> Self {
        remove_leftovers(&copies_dir);
        Self { models_dir, copies_dir, hub: Hub::new(hub) }
    }

    /// The folder of the user's checkpoints.
    pub(crate) fn models_dir(&self) -> &Path {
        &self.models_dir
    }

    /// A model's file, if it is on this machine. Embedded models have none.
    pub(crate) fn find(&self, spec: &ModelSpec) -> Option<PathBuf> {
        self.find_file(spec, &spec.weights)
    }

    fn find_file(&self, spec: &ModelSpec, weights: &WeightsSpec) -> Option<PathBuf> {
        let (file, archive) = match weights {
            WeightsSpec::Hub { file, archive, .. } => (file, archive),
            WeightsSpec::File { path, .. } => return Some(path.clone()).filter(|path| path.exists()),
            WeightsSpec::NewHeads { base, .. } => return self.find_file(spec, base),
            WeightsSpec::OnBase { base, .. } => return self.find(base),
            WeightsSpec::Embedded { .. } => return None,
        };
        // Named after the model, or as published, with all, some or none of the folders of the published path.
        let published = Path::new(file);
        let mut names: Vec<PathBuf> = vec![
            format!("{}.safetensors", spec.id).into(),
            format!("{}.pth", spec.id).into(),
            published.with_extension("safetensors"),
        ];
        names.extend(with_fewer_folders(published));
        // In the archive every file is called `best.pth`, so without its folder that name could be any of them.
        let in_archive = archive.iter().flat_map(|member| with_fewer_folders(Path::new(&member.file)));
        names.extend(in_archive.filter(|name| name.components().count() > 1));
        let here = names.into_iter().map(|name| self.models_dir.join(name)).find(|path| path.is_file());
        here.or_else(|| match weights {
            WeightsSpec::Hub { repo, file, .. } => self.hub.cached(repo, file),
            _ => None,
        })
    }

    /// A model's file, downloaded or unpacked if needed. Embedded models have none.
    ///
    /// # Errors
    /// [`WeightsError`] if it cannot be found, downloaded or unpacked.
    pub(crate) fn fetch(
        &self,
        spec: &ModelSpec,
        progress: &mut dyn FnMut(DownloadProgress),
    ) -> Result<Option<PathBuf>, WeightsError> {
        self.fetch_file(spec, &spec.weights, progress)
    }

    fn fetch_file(
        &self,
        spec: &ModelSpec,
        weights: &WeightsSpec,
        progress: &mut dyn FnMut(DownloadProgress),
    ) -> Result<Option<PathBuf>, WeightsError> {
        if let Some(path) = self.find_file(spec, weights) {
            return Ok(Some(path));
        }
        match weights {
            WeightsSpec::Embedded { .. } => Ok(None),
            WeightsSpec::Hub { repo, file, archive } => match archive {
                Some(ArchiveMember { archive, file }) if self.models_dir.join(archive).is_file() => {
                    unpack(&self.models_dir.join(archive), file, &self.models_dir).map(Some)
                }
                _ => self.hub.fetch(repo, file, progress).map(Some),
            },
            WeightsSpec::NewHeads { base, .. } => self.fetch_file(spec, base, progress),
            WeightsSpec::OnBase { base, .. } => self.fetch(base, progress),
            WeightsSpec::File { path, .. } => {
                let source = std::io::Error::from(std::io::ErrorKind::NotFound);
                Err(WeightsError::Io { path: path.clone(), source })
            }
        }
    }

    /// The `.safetensors` copy of a checkpoint, or the checkpoint itself if no copy can be written.
    ///
    /// # Errors
    /// If the checkpoint cannot be read.
    pub(super) fn fast_copy(&self, path: PathBuf) -> Result<PathBuf, WeightsError> {
        match plain_copy(&path, &self.copies_dir) {
            Err(WeightsError::Io { path: copy, source }) if copy != path => {
                tracing::warn!(copy = %copy.display(), %source, "no .safetensors copy of the checkpoint can be written");
                Ok(path)
            }
            outcome => outcome,
        }
    }
}

/// A path, and what is left of it without its first folder, the first two, … down to the bare file name.
fn with_fewer_folders(path: &Path) -> impl Iterator<Item = PathBuf> {
    let mut rest = path.components();
    std::iter::from_fn(move || {
        let here = rest.as_path().to_owned();
        rest.next();
        Some(here).filter(|path| !path.as_os_str().is_empty())
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::zoo::pretrained_models;

    fn model(id: &str) -> ModelSpec {
        pretrained_models().unwrap().into_iter().find(|model| model.id == id).unwrap()
    }

    fn files(dir: &Path) -> CheckpointFiles {
        let mut hub = HubOptions::from_variables(|_| None);
        (hub.cache_dir, hub.offline) = (dir.join("hub"), true);
        CheckpointFiles::new(dir.to_owned(), dir.join("copies"), hub)
    }

    #[test]
    fn a_model_that_is_nowhere_is_named_and_no_socket_opened() {
        let dir = tempfile::tempdir().unwrap();
        let error = files(dir.path()).fetch(&model("Aerial_SwinB_SI"), &mut |_| ()).unwrap_err();
        assert!(matches!(&error, WeightsError::Offline { file } if file.ends_with("aerial_swinb_si.pth")), "{error}");
    }

    #[test]
    fn the_models_directory_comes_before_the_hub_cache() {
        let dir = tempfile::tempdir().unwrap();
        let spec = model("Aerial_SwinB_SI");
        let snapshot = dir.path().join("hub/models--allenai--satlas-pretrain/snapshots/abc");
        fs::create_dir_all(&snapshot).unwrap();
        fs::write(snapshot.join("aerial_swinb_si.pth"), b"").unwrap();
        assert_eq!(files(dir.path()).find(&spec), Some(snapshot.join("aerial_swinb_si.pth")));
        fs::write(dir.path().join("Aerial_SwinB_SI.pth"), b"").unwrap();
        assert_eq!(files(dir.path()).find(&spec), Some(dir.path().join("Aerial_SwinB_SI.pth")));
    }

    fn archived(spec: &ModelSpec) -> ArchiveMember {
        let WeightsSpec::Hub { archive: Some(archive), .. } = &spec.weights else { panic!("published in an archive too") };
        archive.clone()
    }

    #[test]
    fn a_fine_tuned_model_is_found_as_a_single_file_of_the_hub_or_as_in_the_archive() {
        const FOLDER: &str = "finetuned_satlas_explorer_models_2023-07-24";
        const BARE: &str = "finetuned_satlas_explorer_sentinel2_wind_turbine.pth";
        let spec = model("Satlas_wind_turbine");
        let cached = format!("hub/models--allenai--satlas-pretrain/snapshots/abc/{FOLDER}/{BARE}");
        let other_folder = "satlas_explorer_datasets/models/solar_farm/best.pth".to_owned();
        for (place, is_found) in [
            (BARE.to_owned(), true),
            (format!("{FOLDER}/{BARE}"), true),
            (cached, true),
            ("wind_turbine/best.pth".to_owned(), true),
            ("satlas_explorer_datasets/models/wind_turbine/best.pth".to_owned(), true),
            ("best.pth".to_owned(), false),
            (other_folder, false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(&place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, b"").unwrap();
            assert_eq!(files(dir.path()).find(&spec), is_found.then_some(path), "{place}");
        }
    }

    #[test]
    fn a_fine_tuned_model_is_unpacked_from_the_published_archive() {
        let dir = tempfile::tempdir().unwrap();
        let spec = model("Satlas_solar_farm");
        let ArchiveMember { archive, file } = &archived(&spec);
        let error = files(dir.path()).fetch(&spec, &mut |_| ()).unwrap_err();
        assert!(matches!(&error, WeightsError::Offline { file } if file.ends_with("_solar_farm.pth")), "{error}");

        let mut tar = tar::Builder::new(File::create(dir.path().join(archive)).unwrap());
        for (name, content) in [("elsewhere.pth", &b"no"[..]), (file, b"weights")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, content).unwrap();
        }
        tar.finish().unwrap();
        let path = files(dir.path()).fetch(&spec, &mut |_| ()).unwrap().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"weights");
        assert!(path.starts_with(dir.path()) && !dir.path().join("elsewhere.pth").exists());
    }

    #[test]
    fn an_archive_cannot_reach_out_of_the_models_directory() {
        let dir = tempfile::tempdir().unwrap();
        let models_dir = dir.path().join("models");
        fs::create_dir(&models_dir).unwrap();
        let spec = model("Satlas_solar_farm");
        let ArchiveMember { archive, file } = &archived(&spec);
        let fetch = || files(&models_dir).fetch(&spec, &mut |_| ());
        let entries = |entries: &[(&str, tar::EntryType, u64)]| {
            let mut bytes = Vec::new();
            for (name, entry_type, stated) in entries {
                let mut header = tar::Header::new_gnu();
                // The builder refuses such names, so they are written into the header directly.
                header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
                header.set_entry_type(*entry_type);
                header.set_link_name("/etc/hostname").unwrap();
                header.set_size(*stated);
                header.set_cksum();
                bytes.extend_from_slice(header.as_bytes());
                bytes.resize(bytes.len() + 512 * usize::from(*stated > 0), b'x');
            }
            fs::write(models_dir.join(archive), bytes).unwrap();
        };
        use tar::EntryType::{Link, Regular, Symlink};
        let escape = format!("../{file}");
        for hostile in
            [&[(escape.as_str(), Regular, 4)][..], &[(file.as_str(), Symlink, 0)], &[(file.as_str(), Link, 0)], &[]]
        {
            entries(hostile);
            let error = fetch().unwrap_err().to_string();
            assert!(error.contains(&format!("no {file}")), "{error}");
        }
        // An entry that states an exabyte and has one block.
        entries(&[(file, Regular, 1 << 60)]);
        assert!(matches!(fetch(), Err(WeightsError::Damaged { .. })));
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.pop().unwrap(), "models");
        assert!(left.is_empty(), "{left:?}");
        assert!(!models_dir.join(file).exists());
    }
}
