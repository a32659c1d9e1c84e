//! Where a model's weights are on this machine: the models directory, then the hub cache, then a download.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::hub::{Hub, HubOptions, Progress};
use super::{Weights, WeightsError, WeightsKind, mapped_copy};
use crate::zoo::{ModelSpec, WeightsSpec};

/// Checkpoints take some 400 MB; an archive member beyond this is not unpacked.
const MAX_MEMBER_BYTES: u64 = 16 << 30;

/// Finds and opens weights.
#[derive(Clone, Debug)]
pub struct Library {
    models_dir: PathBuf,
    copies_dir: PathBuf,
    hub: Hub,
}

impl Library {
    /// `models_dir` is the user's; `.safetensors` copies of `.pth` files go to `copies_dir`.
    pub fn new(models_dir: PathBuf, copies_dir: PathBuf, hub: HubOptions) -> Self {
        Self { models_dir, copies_dir, hub: Hub::new(hub) }
    }

    /// Where the user's checkpoints are.
    pub fn models_dir(&self) -> &Path {
        &self.models_dir
    }

    /// The file of a model where it is on this machine already; embedded ones have none.
    pub fn find(&self, spec: &ModelSpec) -> Option<PathBuf> {
        self.find_file(spec, &spec.weights)
    }

    /// Whether a model can be opened without a download.
    pub fn is_here(&self, spec: &ModelSpec) -> bool {
        matches!(spec.weights.checkpoint(), WeightsSpec::Embedded { .. }) || self.find(spec).is_some()
    }

    fn find_file(&self, spec: &ModelSpec, weights: &WeightsSpec) -> Option<PathBuf> {
        let file = match weights {
            WeightsSpec::Hub { file, .. } | WeightsSpec::Archive { file, .. } => file,
            WeightsSpec::File { path } => return Some(path.clone()).filter(|path| path.is_file()),
            WeightsSpec::NewHeads { base, .. } => return self.find_file(spec, base),
            WeightsSpec::Embedded { .. } => return None,
        };
        // Under the model's own name, under the published one, and under that in any of the folders it was published in.
        let published = Path::new(file);
        let mut names: Vec<PathBuf> = vec![
            format!("{}.safetensors", spec.id).into(),
            format!("{}.pth", spec.id).into(),
            published.with_extension("safetensors"),
        ];
        let mut rest = published.components();
        while !rest.as_path().as_os_str().is_empty() {
            let is_bare = rest.as_path().components().count() == 1;
            // Every fine-tuned model is published as `best.pth`: without its folder the name says nothing.
            if !is_bare || matches!(weights, WeightsSpec::Hub { .. }) {
                names.push(rest.as_path().to_owned());
            }
            rest.next();
        }
        let here = names.into_iter().map(|name| self.models_dir.join(name)).find(|path| path.is_file());
        here.or_else(|| match weights {
            WeightsSpec::Hub { repo, file } => self.hub.cached(repo, file),
            _ => None,
        })
    }

    /// The file of a model, downloaded or unpacked where needed; `None` for embedded ones.
    ///
    /// # Errors
    /// [`WeightsError`] where it cannot be had; for published archives it says what to download and where to put it.
    pub fn fetch(&self, spec: &ModelSpec, progress: &mut dyn FnMut(Progress)) -> Result<Option<PathBuf>, WeightsError> {
        self.fetch_file(spec, &spec.weights, progress)
    }

    fn fetch_file(
        &self,
        spec: &ModelSpec,
        weights: &WeightsSpec,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<PathBuf>, WeightsError> {
        if let Some(path) = self.find_file(spec, weights) {
            return Ok(Some(path));
        }
        match weights {
            WeightsSpec::Embedded { .. } => Ok(None),
            WeightsSpec::Hub { repo, file } => self.hub.fetch(repo, file, progress).map(Some),
            WeightsSpec::NewHeads { base, .. } => self.fetch_file(spec, base, progress),
            WeightsSpec::File { path } => {
                let source = std::io::Error::from(std::io::ErrorKind::NotFound);
                Err(WeightsError::Io { path: path.clone(), source })
            }
            WeightsSpec::Archive { archive, file } => {
                let tar = self.models_dir.join(archive);
                if tar.is_file() {
                    return self.unpack(&tar, file).map(Some);
                }
                Err(WeightsError::NotHere {
                    file: file.clone(),
                    models_dir: self.models_dir.clone(),
                    advice: format!(
                        "download {archive} (see {}) and put it there; it is unpacked when needed",
                        spec.source
                    ),
                })
            }
        }
    }

    /// Opens a model's weights; `embedded` gives the bytes of the demo bundle's files by name.
    ///
    /// # Errors
    /// [`WeightsError`] where they cannot be had or read. Whether they fit is for [`Weights::require`] to say.
    pub fn open(
        &self,
        spec: &ModelSpec,
        embedded: impl FnOnce(&str) -> Option<&'static [u8]>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Weights, WeightsError> {
        let weights = match spec.weights.checkpoint() {
            WeightsSpec::Embedded { file } => {
                let bytes = embedded(file).ok_or_else(|| WeightsError::NotHere {
                    file: file.clone(),
                    models_dir: self.models_dir.clone(),
                    advice: "this program was built without it".to_owned(),
                })?;
                Weights::embedded(file, bytes)?
            }
            _ => {
                let path = self.fetch(spec, progress)?.unwrap_or_default();
                Weights::open(&self.quick(path)?, WeightsKind::from(spec.origin))?
            }
        };
        Ok(match spec.weights {
            WeightsSpec::NewHeads { seed, .. } => weights.with_new_heads(seed),
            _ => weights,
        })
    }

    /// The file to read from: a `.safetensors` copy, or the file itself where no copy can be written.
    fn quick(&self, path: PathBuf) -> Result<PathBuf, WeightsError> {
        match mapped_copy(&path, &self.copies_dir) {
            Err(WeightsError::Io { path: copy, source }) if copy != path => {
                tracing::warn!(copy = %copy.display(), %source, "no quick copy of the checkpoint can be written");
                Ok(path)
            }
            outcome => outcome,
        }
    }

    /// Takes one member out of a published archive. The place is ours, not the archive's: no path in it is followed.
    fn unpack(&self, tar: &Path, member: &str) -> Result<PathBuf, WeightsError> {
        let damaged = |error: std::io::Error| WeightsError::Damaged {
            file: tar.display().to_string(),
            reason: format!("its tar archive: {error}"),
        };
        let place = self.models_dir.join(member);
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
                .and_then(|mut file| std::io::copy(&mut entry.take(MAX_MEMBER_BYTES), &mut file))
                .and_then(|len| {
                    if len == stated { fs::rename(&partial, &place) } else { Err(std::io::Error::other("cut short")) }
                });
            return match copied {
                Ok(()) => Ok(place),
                Err(error) => {
                    // What is left of a failed attempt is of no use; that it cannot be removed either is no news.
                    let _ = fs::remove_file(&partial);
                    Err(damaged(error))
                }
            };
        }
        Err(damaged(std::io::Error::other(format!("no {member} in it"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::HubOptions;
    use crate::zoo::pretrained_models;

    fn model(id: &str) -> ModelSpec {
        pretrained_models().unwrap().into_iter().find(|model| model.id == id).unwrap()
    }

    fn library(dir: &Path) -> Library {
        let mut hub = HubOptions::from_variables(|_| None);
        (hub.cache_dir, hub.offline) = (dir.join("hub"), true);
        Library::new(dir.to_owned(), dir.join("copies"), hub)
    }

    #[test]
    fn a_model_that_is_nowhere_is_named_and_no_socket_opened() {
        let dir = tempfile::tempdir().unwrap();
        let error = library(dir.path()).fetch(&model("Aerial_SwinB_SI"), &mut |_| ()).unwrap_err();
        assert!(matches!(&error, WeightsError::Offline { file } if file.ends_with("aerial_swinb_si.pth")), "{error}");
    }

    #[test]
    fn the_models_directory_comes_before_the_hub_cache() {
        let dir = tempfile::tempdir().unwrap();
        let spec = model("Aerial_SwinB_SI");
        let snapshot = dir.path().join("hub/models--allenai--satlas-pretrain/snapshots/abc");
        fs::create_dir_all(&snapshot).unwrap();
        fs::write(snapshot.join("aerial_swinb_si.pth"), b"").unwrap();
        assert_eq!(library(dir.path()).find(&spec), Some(snapshot.join("aerial_swinb_si.pth")));
        fs::write(dir.path().join("Aerial_SwinB_SI.pth"), b"").unwrap();
        assert_eq!(library(dir.path()).find(&spec), Some(dir.path().join("Aerial_SwinB_SI.pth")));
    }

    #[test]
    fn a_fine_tuned_model_is_unpacked_from_the_published_archive() {
        let dir = tempfile::tempdir().unwrap();
        let spec = model("Satlas_solar_farm");
        let WeightsSpec::Archive { archive, file } = &spec.weights else { panic!("published as an archive") };
        let error = library(dir.path()).fetch(&spec, &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains(archive) && error.contains("http"), "{error}");

        let mut tar = tar::Builder::new(File::create(dir.path().join(archive)).unwrap());
        for (name, content) in [("elsewhere.pth", &b"no"[..]), (file, b"weights")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, content).unwrap();
        }
        tar.finish().unwrap();
        let path = library(dir.path()).fetch(&spec, &mut |_| ()).unwrap().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"weights");
        assert!(path.starts_with(dir.path()) && !dir.path().join("elsewhere.pth").exists());
    }

    #[test]
    fn an_archive_cannot_reach_out_of_the_models_directory() {
        let dir = tempfile::tempdir().unwrap();
        let models_dir = dir.path().join("models");
        fs::create_dir(&models_dir).unwrap();
        let spec = model("Satlas_solar_farm");
        let WeightsSpec::Archive { archive, file } = &spec.weights else { panic!("published as an archive") };
        let fetch = || library(&models_dir).fetch(&spec, &mut |_| ());
        let entries = |entries: &[(&str, tar::EntryType, u64)]| {
            let mut bytes = Vec::new();
            for (name, entry_type, stated) in entries {
                let mut header = tar::Header::new_gnu();
                // The builder refuses such names, so they are written as a hostile program would.
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
        // A size of an exabyte with one block behind it.
        entries(&[(file, Regular, 1 << 60)]);
        assert!(matches!(fetch(), Err(WeightsError::Damaged { .. })));
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.pop().unwrap(), "models");
        assert!(left.is_empty(), "{left:?}");
        assert!(!models_dir.join(file).exists());
    }
}
