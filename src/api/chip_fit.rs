//! Fits of heads to chips that a client has sent, from the parts of its form to the description of the new model.

use std::path::PathBuf;
use std::sync::Arc;

use super::dto::{ChipFitBody, ModelDto};
use super::error::Problem;
use super::fit::built_in;
use super::stored_body;
use super::upload::{self, UploadedFile};
use super::zip_files::unpacked;
use crate::budget::MemoryGrant;
use crate::engine::{Caller, ChipFitRequest, Class, Engine};
use crate::jobs::{JobInput, JobOutcome, JobProgress};
use crate::raster::{Limits, Raster};

/// A fit to chips that has been read.
pub(super) struct ChipFit {
    request: ChipFitRequest,
    chips: Vec<Vec<Arc<dyn Raster>>>,
    /// What the chips are read from.
    _files: Vec<UploadedFile>,
    /// Of unpacked files.
    _memory: Option<MemoryGrant>,
}

impl ChipFit {
    /// Opens the chips in `file`, an array or a zip file, and reads what to fit to them on the model `base`.
    ///
    /// # Errors
    /// If the file or what it holds cannot be used, or what is to be fitted.
    pub(super) async fn open(
        engine: &Arc<Engine>,
        limits: Limits,
        base: &str,
        body: ChipFitBody,
        file: UploadedFile,
    ) -> Result<Self, Problem> {
        let base = built_in(engine, base)?;
        let (files, memory) = unpacked(engine, vec![file], limits.max_bytes).await?;
        let in_folders = memory.is_some();
        let chunks = upload::chunk_cache(engine.memory());
        let open = move || {
            let paths: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
            let request = body.request(&base, &paths, in_folders)?;
            let chips = upload::open_chips(&files, 1, &limits, chunks)?;
            Ok::<_, Problem>(Self { request, chips, _files: files, _memory: memory })
        };
        engine.read_upload(open).await
    }

    /// Looks at everything that can be looked at without the network, so that a mistake is told before there is a job.
    ///
    /// # Errors
    /// As [`Engine::check_chip_fit`].
    pub(super) async fn check(self, engine: &Arc<Engine>) -> Result<(String, String), Problem> {
        let of = engine.clone();
        let check = move || {
            of.check_chip_fit(&self.request, self.chips.clone())?;
            let task = self.request.manifest.heads.first().map(|head| head.task.clone()).unwrap_or_default();
            Ok::<_, Problem>((self.request.manifest.id.clone(), task))
        };
        engine.read_upload(check).await
    }
}

/// What to fit, and the file with the chips, in the parts of a form; with the body as it is to be stored.
///
/// # Errors
/// If a part is missing, or the first is no description of a fit.
pub(super) fn parts(files: Vec<UploadedFile>) -> Result<(ChipFitBody, UploadedFile, JobInput), Problem> {
    let [fit, chips] = <[UploadedFile; 2]>::try_from(files).map_err(|files: Vec<UploadedFile>| {
        Problem::invalid(format!("found {} part; the parts fit and chips are needed", files.len()))
    })?;
    let text = fit.into_bytes()?;
    let body: ChipFitBody =
        serde_json::from_slice(&text).map_err(|error| Problem::invalid(format!("the part fit: {error}")))?;
    let input = stored_body::stored("fit.json", &body)?;
    Ok((body, chips, input))
}

/// Runs the fit on the model `base` whose body and chips are the inputs.
///
/// # Errors
/// As [`ChipFit::open`], and if the network fails or the labels do not suffice.
pub(super) async fn run(
    (engine, limits): (Arc<Engine>, Limits),
    base: &str,
    mut inputs: Vec<(String, PathBuf)>,
    progress: JobProgress,
) -> Result<JobOutcome, Problem> {
    let (name, path) = inputs.pop().ok_or_else(|| Problem::internal("a job without its chips"))?;
    let body = stored_body::read(inputs).await?;
    let fit = ChipFit::open(&engine, limits, base, body, UploadedFile::on_disk(name, path)).await?;
    let ChipFit { request, chips, _files, _memory } = fit;
    let report = |done, total| progress.set(done, total);
    let model = engine.fit_chips(request, chips, &Caller::patient(Class::Job), report).await?;
    stored_body::outcome(&ModelDto::from(model))
}
