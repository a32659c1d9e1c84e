//! Background predictions: list, describe, fetch, cancel.

use std::io;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::Stream;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use utoipa::IntoParams;

use crate::api::conditional;
use crate::api::dto::{JobDto, JobList, JobListParams};
use crate::api::error::Problem;
use crate::api::extract::{NoQuery, Path, Query};
use crate::api::prediction::PredictCall;
use crate::api::preference::{PREFERENCE_APPLIED, RESPOND_ASYNC};
use crate::api::state::AppState;
use crate::api::upload::UploadedFile;
use crate::jobs::{JobAnswer, JobError, Jobs, NewJob};

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
) -> Result<axum::Json<JobList>, Problem> {
    let (wanted, limit) = (params.state()?, params.limit()?);
    let jobs = off_the_runtime(&state, move |jobs| jobs.list(wanted, limit)).await?;
    Ok(axum::Json(JobList { jobs: jobs.into_iter().map(JobDto::from).collect() }))
}

/// Describe a job
#[utoipa::path(get, path = "/v1/jobs/{job}", operation_id = "get_job", tag = "jobs", params(JobPath),
    responses((status = 200, description = "The job", body = JobDto)))]
pub(super) async fn get_job(
    State(state): State<AppState>,
    Path(JobPath { job }): Path<JobPath>,
    _: NoQuery,
) -> Result<axum::Json<JobDto>, Problem> {
    let job = off_the_runtime(&state, move |jobs| jobs.get(&job)).await?;
    Ok(axum::Json(job.into()))
}

/// Get the result of a job
///
/// The same bytes and headers that a synchronous request would have got. 409 if the job has no result (yet).
#[utoipa::path(get, path = "/v1/jobs/{job}/result", operation_id = "get_job_result", tag = "jobs",
    params(JobPath, ("If-None-Match" = Option<String>, Header, description = "ETag of the cached result")),
    responses(
        (status = 200, description = "The prediction", content(
            (Vec<u8> = "image/png"), (Vec<u8> = "image/webp"), (Vec<u8> = "image/tiff"), (serde_json::Value = "application/geo+json"),
            (Vec<u8> = "application/x-npy"), (serde_json::Value = "application/json"), (Vec<u8> = "application/x-safetensors"),
        )),
        (status = 304, description = "The cached result is up to date"),
    ))]
pub(super) async fn get_job_result(
    State(state): State<AppState>,
    Path(JobPath { job }): Path<JobPath>,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let JobAnswer { headers: stored, hash, bytes, file } = off_the_runtime(&state, move |jobs| jobs.result(&job)).await?;
    let etag = format!("\"{hash}\"");
    // A result does not change, but it can be removed, so caches must ask.
    let cache_control = "private, no-cache";
    if conditional::is_known(&headers, &etag) {
        return Ok(conditional::not_modified(&etag, cache_control));
    }
    let mut response = Body::from_stream(chunks(tokio::fs::File::from_std(file), bytes)).into_response();
    for (name, value) in stored {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(header::CONTENT_LENGTH, bytes.into());
    Ok(conditional::with_validators(response, &etag, cache_control))
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
) -> Result<Response, Problem> {
    Ok(match off_the_runtime(&state, move |jobs| jobs.cancel_or_remove(&job)).await? {
        Some(cancelled) => axum::Json(JobDto::from(cancelled)).into_response(),
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
    request_id: String,
) -> Result<Response, Problem> {
    let request = serde_json::to_string(call).map_err(Problem::internal)?;
    let new = NewJob { model: call.model.clone(), task: call.task.clone(), request, request_id };
    let inputs = files.into_iter().map(UploadedFile::into_input).collect();
    let job: JobDto = off_the_runtime(state, move |jobs| jobs.submit(&new, inputs)).await?.into();
    let headers = [
        (header::LOCATION, job.links.this.clone()),
        (PREFERENCE_APPLIED, RESPOND_ASYNC.to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((StatusCode::ACCEPTED, headers, axum::Json(job)).into_response())
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
