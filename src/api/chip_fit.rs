//! Fits of heads to chips that a client has sent, from the parts of its form to the description of the new model.

use std::path::PathBuf;
use std::sync::Arc;

use super::dto::{ChipFitBody, ModelDto};
use super::error::Problem;
use super::fit::built_in;
use super::mask_pairs;
use super::stored_body;
use super::upload::{self, UploadedFile};
use super::zip_files::unpacked;
use crate::budget::MemoryGrant;
use crate::engine::{Caller, ChipFitRequest, Class, Engine, MaskFitRequest, MaskedChip};
use crate::jobs::{JobInput, JobOutcome, JobProgress};
use crate::raster::{Limits, OpenOptions, Raster};

/// The files of a fit to chips.
pub(super) struct ChipFiles {
    /// An array or a zip file.
    pub(super) chips: UploadedFile,
    /// The masks of an array.
    pub(super) masks: Option<UploadedFile>,
}

impl ChipFiles {
    /// The same files once more.
    pub(super) fn shared(&self) -> Self {
        Self { chips: self.chips.shared(), masks: self.masks.as_ref().map(UploadedFile::shared) }
    }

    /// The files as inputs of a job.
    pub(super) fn into_inputs(self) -> impl Iterator<Item = JobInput> {
        [Some(self.chips), self.masks].into_iter().flatten().map(UploadedFile::into_input)
    }
}

/// A fit to chips that has been read.
pub(super) struct ChipFit {
    learning: Learning,
    /// What the chips are read from.
    _files: Vec<UploadedFile>,
    /// Of unpacked files.
    _memory: Option<MemoryGrant>,
}

/// What is learnt from.
enum Learning {
    /// A label for each chip.
    Chips(ChipFitRequest, Vec<Vec<Arc<dyn Raster>>>),
    /// A mask for each chip.
    Masks(MaskFitRequest, Vec<MaskedChip>),
}

impl ChipFit {
    /// Opens the chips and masks, and reads what to fit to them on the model `base`.
    ///
    /// # Errors
    /// If the files or what they hold cannot be used, or what is to be fitted.
    pub(super) async fn open(
        engine: &Arc<Engine>,
        limits: Limits,
        base: &str,
        body: ChipFitBody,
        ChipFiles { chips, masks }: ChipFiles,
    ) -> Result<Self, Problem> {
        let base = built_in(engine, base)?;
        let (mut files, memory) = unpacked(engine, vec![chips], limits.max_bytes).await?;
        let in_folders = memory.is_some();
        let chunks = upload::chunk_cache(engine.memory());
        let reader = engine.clone();
        let open = move || {
            let learning = match (body.mask_rule()?, &masks) {
                (None, Some(_)) => {
                    let needed = "labels for whole chips and no masks are needed";
                    return Err(Problem::unusable(format!("masks: found some for the type {}; {needed}", body.task_type)));
                }
                (None, None) => {
                    let paths: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
                    let request = body.request(&base, &paths, in_folders)?;
                    Learning::Chips(request, upload::open_chips(&files, 1, &limits, chunks)?)
                }
                (Some(rule), masks) => {
                    let options = OpenOptions { limits, chunks, remote: None };
                    let pairs = match (masks, &files[..]) {
                        (None, files) if in_folders => mask_pairs::in_folders(files, &options)?,
                        (Some(masks), [chips]) if !in_folders => mask_pairs::in_arrays((chips, masks), &options)?,
                        (Some(_), _) => {
                            let needed = "masks/NAME for each images/NAME in the zip file is needed instead";
                            return Err(Problem::unusable(format!(
                                "masks: found a part of its own beside a zip file; {needed}"
                            )));
                        }
                        (None, _) => {
                            let needed =
                                "a part with one for each chip is needed, or a zip file of images/NAME and masks/NAME";
                            return Err(Problem::unusable(format!("masks: found none; {needed}")));
                        }
                    };
                    let found = reader.find_mask_values(&pairs, &rule)?;
                    let names: Vec<&str> = pairs.iter().map(|pair| pair.mask_name.as_str()).collect();
                    Learning::Masks(body.mask_request(&base, (rule, found), &names)?, pairs)
                }
            };
            files.extend(masks);
            Ok::<_, Problem>(Self { learning, _files: files, _memory: memory })
        };
        engine.read_upload(open).await
    }

    /// Looks at everything that can be looked at without the network, so that a mistake is told before there is a job. Returns the id of
    /// the model and its task.
    ///
    /// # Errors
    /// As [`Engine::check_chip_fit`] and [`Engine::check_mask_fit`].
    pub(super) async fn check(self, engine: &Arc<Engine>) -> Result<(String, String), Problem> {
        let of = engine.clone();
        let check = move || {
            let manifest = match &self.learning {
                Learning::Chips(request, chips) => {
                    of.check_chip_fit(request, chips.clone())?;
                    &request.manifest
                }
                Learning::Masks(request, pairs) => {
                    of.check_mask_fit(request, pairs)?;
                    &request.manifest
                }
            };
            let task = manifest.heads.first().map(|head| head.task.clone()).unwrap_or_default();
            Ok::<_, Problem>((manifest.id.clone(), task))
        };
        engine.read_upload(check).await
    }
}

/// What to fit, and the files with the chips, in the parts of a form; with the body as it is to be stored.
///
/// # Errors
/// If a part is missing, or the first is no description of a fit.
pub(super) fn parts(files: Vec<UploadedFile>) -> Result<(ChipFitBody, ChipFiles, JobInput), Problem> {
    let mut files = files.into_iter();
    let (Some(fit), Some(chips)) = (files.next(), files.next()) else {
        return Err(Problem::invalid("the parts fit and chips are needed"));
    };
    let text = fit.into_bytes()?;
    let body: ChipFitBody =
        serde_json::from_slice(&text).map_err(|error| Problem::invalid(format!("the part fit: {error}")))?;
    let input = stored_body::stored("fit.json", &body)?;
    Ok((body, ChipFiles { chips, masks: files.next() }, input))
}

/// Runs the fit on the model `base` whose body, chips and perhaps masks are the inputs.
///
/// # Errors
/// As [`ChipFit::open`], and if the network fails or the labels do not suffice.
pub(super) async fn run(
    (engine, limits): (Arc<Engine>, Limits),
    base: &str,
    mut inputs: Vec<(String, PathBuf)>,
    progress: JobProgress,
) -> Result<JobOutcome, Problem> {
    let files = inputs.split_off(inputs.len().min(1));
    let mut files = files.into_iter().map(|(name, path)| UploadedFile::on_disk(name, path));
    let chips = files.next().ok_or_else(|| Problem::internal("a job without its chips"))?;
    let files = ChipFiles { chips, masks: files.next() };
    let body = stored_body::read(inputs).await?;
    let ChipFit { learning, _files, _memory } = ChipFit::open(&engine, limits, base, body, files).await?;
    let report = |done, total| progress.set(done, total);
    let caller = Caller::patient(Class::Job);
    let model = match learning {
        Learning::Chips(request, chips) => engine.fit_chips(request, chips, &caller, report).await?,
        Learning::Masks(request, pairs) => engine.fit_masks(request, pairs, &caller, report).await?,
    };
    stored_body::outcome(&ModelDto::from(model))
}
