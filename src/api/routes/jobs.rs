//! Background predictions: list, describe, fetch, cancel.

use std::io::{self, SeekFrom};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::Stream;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use utoipa::IntoParams;

use crate::api::base_url::PathPrefix;
use crate::api::byte_range::{self, BodyPart};
use crate::api::conditional;
use crate::api::dto::{FeatureCollection, File, JobDto, JobList, JobListParams, JsonResult};
use crate::api::error::Problem;
use crate::api::extract::{NoQuery, Path, Query};
use crate::api::prediction::PredictCall;
use crate::api::preference::{PREFERENCE_APPLIED, RESPOND_ASYNC};
use crate::api::problem_kind::ProblemKind;
use crate::api::state::AppState;
use crate::api::upload::UploadedFile;
use crate::jobs::{JobAnswer, JobError, JobInput, Jobs, NewJob};

/// Path of a job.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct JobPath {
    /// Job id, as in `GET /v1/jobs`.
    #[param(example = "9f2c51d07ab34e86c1d05a7e")]
    job: String,
}

/// List jobs
///
/// The newest first.
#[utoipa::path(get, path = "/v1/jobs", operation_id = "list_jobs", tag = "jobs", params(JobListParams),
    responses((status = 200, description = "The jobs", body = JobList)))]
pub(super) async fn list_jobs(
    State(state): State<AppState>,
    Query((params,)): Query<(JobListParams,)>,
    prefix: PathPrefix,
) -> Result<axum::Json<JobList>, Problem> {
    let (wanted, limit) = (params.state()?, params.limit()?);
    let jobs = off_the_runtime(&state, move |jobs| jobs.list(wanted, limit)).await?;
    Ok(axum::Json(JobList { jobs: jobs.into_iter().map(|job| JobDto::of(job, &prefix)).collect() }))
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
    let job = off_the_runtime(&state, move |jobs| jobs.get(&job)).await?;
    Ok(axum::Json(JobDto::of(job, &prefix)))
}

/// Get the result of a job
///
/// The same bytes and headers that a synchronous request would have got. 409 if the job has no result (yet). With `Range`, a
/// download that broke off is continued.
#[utoipa::path(get, path = "/v1/jobs/{job}/result", operation_id = "get_job_result", tag = "jobs",
    params(JobPath,
        ("If-None-Match" = Option<String>, Header, description = "ETag of the cached result"),
        ("Range" = Option<String>, Header, description = "One range of bytes, such as `bytes=1000-`"),
        ("If-Range" = Option<String>, Header, description = "ETag of the result that the range belongs to"),
    ),
    responses(
        (status = 200, description = "The prediction; of an area job, a zip file of its folder", content(
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
) -> Result<Response, Problem> {
    let JobAnswer { headers: stored, hash, bytes, file } = off_the_runtime(&state, move |jobs| jobs.result(&job)).await?;
    let etag = format!("\"{hash}\"");
    // A result does not change, but it can be removed, so caches must ask.
    let cache_control = "private, no-cache";
    let stored: HeaderMap =
        stored.into_iter().filter_map(|(name, value)| Some((name.parse().ok()?, value.parse().ok()?))).collect();
    if conditional::is_known(&headers, &etag) {
        let media_type = stored.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        return Ok(conditional::not_modified(&headers, &etag, cache_control, media_type));
    }
    let part = byte_range::wanted(&method, &headers, bytes, &etag);
    let mut response = send(file, bytes, part).await?;
    response.headers_mut().extend(stored);
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    Ok(conditional::with_validators(response, &etag, cache_control))
}

/// A response with a part of a file of `bytes` bytes, which is read while it is sent.
async fn send(file: std::fs::File, bytes: u64, part: BodyPart) -> Result<Response, Problem> {
    let (status, first, length) = match part {
        BodyPart::Whole => (StatusCode::OK, 0, bytes),
        BodyPart::Bytes(range) => (StatusCode::PARTIAL_CONTENT, *range.start(), range.end() - range.start() + 1),
        BodyPart::Unsatisfiable => {
            let detail = format!("Range: found one that begins behind the end of the {bytes} bytes of the result");
            let problem = Problem { kind: ProblemKind::UnsatisfiableRange, detail, retry_after: None };
            return Ok(([(header::CONTENT_RANGE, format!("bytes */{bytes}"))], problem).into_response());
        }
    };
    let mut file = tokio::fs::File::from_std(file);
    file.seek(SeekFrom::Start(first)).await.map_err(Problem::internal)?;
    let mut response = (status, Body::from_stream(chunks(file, length))).into_response();
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {first}-{}/{bytes}", first + length - 1);
        response.headers_mut().insert(header::CONTENT_RANGE, range.parse().map_err(Problem::internal)?);
    }
    Ok(response)
}

/// Cancel or remove a job
///
/// A queued or running job is cancelled and stays in the list. A job that has ended is removed together with its result.
#[utoipa::path(delete, path = "/v1/jobs/{job}", operation_id = "delete_job", tag = "jobs", params(JobPath),
    responses((status = 200, description = "The job was cancelled", body = JobDto), (status = 204, description = "The job was removed")))]
pub(super) async fn delete_job(
    State(state): State<AppState>,
    Path(JobPath { job }): Path<JobPath>,
    _: NoQuery,
    prefix: PathPrefix,
) -> Result<Response, Problem> {
    Ok(match off_the_runtime(&state, move |jobs| jobs.cancel_or_remove(&job)).await? {
        Some(cancelled) => axum::Json(JobDto::of(cancelled, &prefix)).into_response(),
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
    let location = [(header::LOCATION, format!("/v1/jobs/{}", job.id))];
    Ok((StatusCode::ACCEPTED, location, axum::Json(JobDto::of(job, prefix))).into_response())
}

/// Runs a blocking call on a blocking thread: jobs read and write a database and files.
async fn off_the_runtime<T: Send + 'static>(
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
