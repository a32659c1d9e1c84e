//! Predictions that do not keep their clients waiting: list, look at, fetch, cancel.

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
use crate::api::state::AppState;
use crate::api::upload::File;
use crate::jobs::{JobAnswer, JobError, Jobs, NewJob};

/// What the client would rather have (RFC 7240).
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Which of it was done.
pub(in crate::api) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// The preference for an answer later over one that is waited for.
const RESPOND_ASYNC: &str = "respond-async";

/// A job.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct JobPath {
    /// An id of `GET /v1/jobs`.
    #[param(example = "9f2c51d07ab34e86c1d05a7e")]
    job: String,
}

/// Jobs, the newest first
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

/// One job
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

/// The result of a job
///
/// The answer that a request which waits would have got, byte by byte and with the same headers. 409 while there is none.
#[utoipa::path(get, path = "/v1/jobs/{job}/result", operation_id = "get_job_result", tag = "jobs",
    params(JobPath, ("If-None-Match" = Option<String>, Header, description = "ETag of the answer the client has")),
    responses(
        (status = 200, description = "The prediction", content(
            (Vec<u8> = "image/png"), (Vec<u8> = "image/webp"), (Vec<u8> = "image/tiff"), (serde_json::Value = "application/geo+json"),
            (Vec<u8> = "application/x-npy"), (serde_json::Value = "application/json"), (Vec<u8> = "application/x-safetensors"),
        )),
        (status = 304, description = "The client has it already"),
    ))]
pub(super) async fn get_job_result(
    State(state): State<AppState>,
    Path(JobPath { job }): Path<JobPath>,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let JobAnswer { headers: stored, hash, bytes, file } = off_the_runtime(&state, move |jobs| jobs.result(&job)).await?;
    let etag = format!("\"{hash}\"");
    // It does not change, but it can be removed.
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
/// A job that waits or runs is cancelled, and stays in the list; one that has ended is removed with its result.
#[utoipa::path(delete, path = "/v1/jobs/{job}", operation_id = "delete_job", tag = "jobs", params(JobPath),
    responses((status = 200, description = "It is cancelled", body = JobDto), (status = 204, description = "It is gone")))]
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

/// Whether the client would rather be answered later than wait.
pub(super) fn is_preferred(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut names = values.flat_map(|value| value.split(',')).map(|preference| preference.split(';').next().unwrap_or(""));
    names.any(|name| name.trim().eq_ignore_ascii_case(RESPOND_ASYNC))
}

/// Hands a prediction in: 202 with the job and its address.
///
/// # Errors
/// Too many jobs, inputs without room, a disk that is full.
pub(super) async fn submit(
    state: &AppState,
    call: &PredictCall,
    files: Vec<File>,
    request_id: String,
) -> Result<Response, Problem> {
    let request = serde_json::to_string(call).map_err(Problem::internal)?;
    let new = NewJob { model: call.model.clone(), task: call.task.clone(), request, request_id };
    let inputs = files.into_iter().map(File::into_input).collect();
    let job: JobDto = off_the_runtime(state, move |jobs| jobs.submit(&new, inputs)).await?.into();
    let headers = [
        (header::LOCATION, job.links.this.clone()),
        (PREFERENCE_APPLIED, RESPOND_ASYNC.to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((StatusCode::ACCEPTED, headers, axum::Json(job)).into_response())
}

/// Jobs use a database and files, which is nothing for the runtime's threads.
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

/// Bytes read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// The `left` bytes of a file; one that ends before is an error, so that the client sees a broken answer rather than a short one.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preference_is_read_as_rfc_7240_says() {
        let prefers = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PREFER, HeaderValue::from_static(value));
            }
            is_preferred(&headers)
        };
        for values in [&["respond-async"][..], &["Respond-Async, wait=10"], &["wait=10", "return=minimal, respond-async"]] {
            assert!(prefers(values), "{values:?}");
        }
        for values in [&[][..], &["wait=10"], &["respond-asynchronously"], &["foo=respond-async"]] {
            assert!(!prefers(values), "{values:?}");
        }
    }
}
