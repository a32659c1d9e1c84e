//! Background predictions: list, describe, fetch, cancel.

use std::io::{self, Seek, SeekFrom};

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::Stream;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use utoipa::IntoParams;

use crate::api::base_url::PathPrefix;
use crate::api::byte_range;
use crate::api::conditional;
use crate::api::dto::{FeatureCollection, File, JobDto, JobList, JobListParams, JsonResult, SharedAreaReport};
use crate::api::error::Problem;
use crate::api::extract::{NoQuery, Path, Query};
use crate::api::prediction::PredictCall;
use crate::api::preference::{PREFERENCE_APPLIED, RESPOND_ASYNC};
use crate::api::shared_jobs::{self, SharedJobs};
use crate::api::state::AppState;
use crate::api::upload::UploadedFile;
use crate::error::ErrorKind;
use crate::fleet::JobId;
use crate::jobs::{JobAnswer, JobError, JobInput, Jobs, NewJob};

/// Path of a job.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct JobPath {
    /// Job id, as in `GET /v1/jobs`.
    #[param(example = "9f2c51d07ab34e86c1d05a7e")]
    pub(super) job: String,
}

/// List jobs
///
/// The newest first: those of this server, and those that workers share.
#[utoipa::path(get, path = "/v1/jobs", operation_id = "list_jobs", tag = "jobs", params(JobListParams),
    responses((status = 200, description = "The jobs", body = JobList)))]
pub(super) async fn list_jobs(
    State(state): State<AppState>,
    Query((params,)): Query<(JobListParams,)>,
    prefix: PathPrefix,
) -> Result<axum::Json<JobList>, Problem> {
    let (wanted, limit) = (params.state()?, params.limit()?);
    let own = off_the_runtime(&state, move |jobs| jobs.list(wanted, limit)).await?;
    let mut jobs: Vec<JobDto> = own.into_iter().map(|job| JobDto::of(job, &prefix)).collect();
    let mut unavailable = None;
    if let Some(shared) = state.shared_jobs() {
        match shared.list(wanted, limit).await {
            Ok(shared) => jobs.extend(shared.into_iter().map(|job| JobDto::shared(job, &prefix))),
            Err(error) => unavailable = Some(error.to_string()),
        }
        // Times of one format and zone sort as texts.
        jobs.sort_by(|a, b| b.created.cmp(&a.created));
        jobs.truncate(limit);
    }
    Ok(axum::Json(JobList { jobs, unavailable }))
}

/// Describe a job
#[utoipa::path(get, path = "/v1/jobs/{job}", operation_id = "get_job", tag = "jobs", params(JobPath),
    responses((status = 200, description = "The job", body = JobDto)))]
pub(super) async fn get_job(
    State(state): State<AppState>,
    Path(JobPath { job }): Path<JobPath>,
    _: NoQuery,
    prefix: PathPrefix,
) -> Result<axum::Json<JobDto>, Problem> {
    Ok(axum::Json(match shared(&state, &job)? {
        Some((shared, number)) => JobDto::shared(shared.get(number).await?, &prefix),
        None => JobDto::of(off_the_runtime(&state, move |jobs| jobs.get(&job)).await?, &prefix),
    }))
}

/// Get the result of a job
///
/// The same bytes and headers that a synchronous request would have got. 409 if the job has no result (yet). With `Range`, a
/// download that broke off is continued. That of an area job that workers did is a report that says where the files lie.
#[utoipa::path(get, path = "/v1/jobs/{job}/result", operation_id = "get_job_result", tag = "jobs",
    params(JobPath,
        ("If-None-Match" = Option<String>, Header, description = "ETag of the cached result"),
        ("Range" = Option<String>, Header, description = "One range of bytes, such as `bytes=1000-`"),
        ("If-Range" = Option<String>, Header, description = "ETag of the result that the range belongs to"),
    ),
    responses(
        (status = 200, description = "The prediction; of an area job, a zip file of its folder, or a report where its results lie at a destination", content(
            (inline(File) = "image/png"), (inline(File) = "image/webp"), (inline(File) = "image/tiff"),
            (inline(File) = "application/x-npy"), (inline(File) = "application/x-safetensors"),
            (inline(File) = "application/vnd.apache.parquet"), (inline(File) = "application/zip"),
            (FeatureCollection = "application/geo+json"), (JsonResult = "application/json"),
        )),
        (status = 206, description = "The requested bytes of the result", body = inline(File), content_type = "application/octet-stream"),
        (status = 304, description = "The cached result is up to date"),
    ))]
pub(super) async fn get_job_result(
    State(state): State<AppState>,
    Path(JobPath { job }): Path<JobPath>,
    _: NoQuery,
    method: Method,
    headers: HeaderMap,
    prefix: PathPrefix,
) -> Result<Response, Problem> {
    // A result can be removed, and that of a job whose blocks are tried again changes, so caches must ask.
    let cache_control = "private, no-cache";
    if let Some((shared, number)) = shared(&state, &job)? {
        let report = SharedAreaReport::of(shared.done(number).await?, &prefix);
        return Ok(([(header::CACHE_CONTROL, cache_control)], axum::Json(report)).into_response());
    }
    let JobAnswer { headers: stored, hash, bytes, file } = off_the_runtime(&state, move |jobs| jobs.result(&job)).await?;
    let etag = format!("\"{hash}\"");
    let stored: HeaderMap =
        stored.into_iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?))).collect();
    if conditional::is_known(&headers, &etag) {
        let media_type = stored.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        return Ok(conditional::not_modified(&headers, &etag, cache_control, media_type));
    }
    let part = byte_range::wanted(&method, &headers, bytes, &etag);
    let mut response = byte_range::send(bytes, part, |first, length| {
        let mut file = file;
        file.seek(SeekFrom::Start(first)).map_err(Problem::internal)?;
        Ok(chunks(tokio::fs::File::from_std(file), length))
    })?;
    response.headers_mut().extend(stored);
    Ok(conditional::with_validators(response, &etag, cache_control))
}

/// Cancel or remove a job
///
/// A queued or running job is cancelled and stays in the list. A job that has ended is removed together with its result; files at a
/// destination stay there.
#[utoipa::path(delete, path = "/v1/jobs/{job}", operation_id = "delete_job", tag = "jobs", params(JobPath),
    responses((status = 200, description = "The job was cancelled", body = JobDto), (status = 204, description = "The job was removed")))]
pub(super) async fn delete_job(
    State(state): State<AppState>,
    Path(JobPath { job }): Path<JobPath>,
    _: NoQuery,
    prefix: PathPrefix,
) -> Result<Response, Problem> {
    let cancelled = match shared(&state, &job)? {
        Some((shared, number)) => shared.cancel_or_remove(number).await?.map(|job| JobDto::shared(job, &prefix)),
        None => off_the_runtime(&state, move |jobs| jobs.cancel_or_remove(&job)).await?.map(|job| JobDto::of(job, &prefix)),
    };
    Ok(match cancelled {
        Some(cancelled) => axum::Json(cancelled).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// Submits a prediction as a job and answers 202 with the job's description and address.
///
/// # Errors
/// If too many jobs exist, or the inputs exceed the space for jobs or cannot be written.
pub(super) async fn submit(
    state: &AppState,
    call: &PredictCall,
    files: Vec<UploadedFile>,
    (request_id, prefix): (String, PathPrefix),
) -> Result<Response, Problem> {
    let request = serde_json::to_string(call).map_err(Problem::internal)?;
    let new = NewJob { model: call.model.clone(), task: call.task.clone(), request, request_id };
    let inputs = files.into_iter().map(UploadedFile::into_input).collect();
    Ok(applied(submit_new(state, new, inputs, &prefix).await?))
}

/// The answer to a request that preferred a job and got it.
pub(super) fn applied(accepted: Response) -> Response {
    ([(PREFERENCE_APPLIED, RESPOND_ASYNC)], accepted).into_response()
}

/// Stores a job and answers 202 with its description and address.
///
/// # Errors
/// As [`submit`].
pub(super) async fn submit_new(
    state: &AppState,
    new: NewJob,
    inputs: Vec<JobInput>,
    prefix: &PathPrefix,
) -> Result<Response, Problem> {
    let job = off_the_runtime(state, move |jobs| jobs.submit(&new, inputs)).await?;
    Ok(accepted(JobDto::of(job, prefix)))
}

/// The answer to a request that has become a job: 202 with the job's description and address.
pub(super) fn accepted(job: JobDto) -> Response {
    let location = [(header::LOCATION, format!("/v1/jobs/{}", job.id))];
    (StatusCode::ACCEPTED, location, axum::Json(job)).into_response()
}

/// The shared job that an id names; `None` if it names one of this server's own.
///
/// # Errors
/// If the id is that of a shared job, and this server shares none.
pub(super) fn shared<'a>(state: &'a AppState, id: &str) -> Result<Option<(&'a SharedJobs, JobId)>, Problem> {
    let Some(number) = shared_jobs::number_of(id) else { return Ok(None) };
    let shared = state.shared_jobs().ok_or_else(|| {
        let detail = format!("there is no job {id:?}: this server shares none, for which it needs --database-url");
        Problem::new(ErrorKind::NotFound, detail)
    })?;
    Ok(Some((shared, number)))
}

/// Runs a blocking call on a blocking thread: jobs read and write a database and files.
pub(super) async fn off_the_runtime<T: Send + 'static>(
    state: &AppState,
    ask: impl FnOnce(&Jobs) -> Result<T, JobError> + Send + 'static,
) -> Result<T, Problem> {
    let state = state.clone();
    Ok(tokio::task::spawn_blocking(move || ask(state.jobs())).await.map_err(Problem::internal)??)
}

impl From<JobError> for Problem {
    fn from(error: JobError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// Size of each read from a result file.
const CHUNK_BYTES: usize = 256 << 10;

/// Streams `left` bytes of a file. If the file ends earlier, the stream fails, so that the client notices the missing bytes.
fn chunks(file: tokio::fs::File, left: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    futures::stream::try_unfold((file, left), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES.min(usize::try_from(left).unwrap_or(CHUNK_BYTES)));
        let read = file.read_buf(&mut chunk).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Some((chunk.freeze(), (file, left.saturating_sub(read as u64)))))
    })
}
