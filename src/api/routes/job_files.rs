//! What is done with the blocks of area jobs that workers did: fetch their files, try those again that failed.

use std::io;

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;
use serde::Deserialize;
use utoipa::IntoParams;

use super::jobs::{JobPath, off_the_runtime, shared};
use crate::api::base_url::PathPrefix;
use crate::api::dto::{File, JobDto};
use crate::api::error::Problem;
use crate::api::extract::{NoQuery, Path, Query};
use crate::api::state::AppState;
use crate::api::{byte_range, conditional};
use crate::areas::ResultFile;
use crate::error::ErrorKind;

/// Path of a file of a job's results.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct JobFilePath {
    /// Job id, as in `GET /v1/jobs`.
    #[param(example = "shared-7")]
    job: String,
    /// Name of the file, as the links of `collection.json` have it.
    #[param(example = "collection.json")]
    path: String,
}

/// Which blocks to try again.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RetryParams {
    /// Only the block of this name.
    block: Option<String>,
}

/// Get a file of the results of an area job
///
/// The collection, the mosaic, an item or a block of a job that workers do, if this server sees the place where it lies. With `Range`, as
/// GDAL reads a cloud-optimised GeoTIFF.
#[utoipa::path(get, path = "/v1/jobs/{job}/files/{*path}", operation_id = "get_job_file", tag = "jobs",
    params(JobFilePath,
        ("If-None-Match" = Option<String>, Header, description = "ETag of the cached file"),
        ("Range" = Option<String>, Header, description = "One range of bytes, such as `bytes=1000-`"),
        ("If-Range" = Option<String>, Header, description = "ETag of the file that the range belongs to"),
    ),
    responses(
        (status = 200, description = "The file", content(
            (inline(File) = "image/tiff"), (inline(File) = "application/vnd.apache.parquet"), (inline(File) = "application/xml"),
            (serde_json::Value = "application/json"),
        )),
        (status = 206, description = "The requested bytes of the file", body = inline(File), content_type = "application/octet-stream"),
        (status = 304, description = "The cached file is up to date"),
    ))]
pub(super) async fn get_job_file(
    State(state): State<AppState>,
    Path(JobFilePath { job, path }): Path<JobFilePath>,
    _: NoQuery,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Some((shared, number)) = shared(&state, &job)? else {
        off_the_runtime(&state, {
            let job = job.clone();
            move |jobs| jobs.get(&job)
        })
        .await?;
        let detail =
            format!("job {job:?} is done by this server, and has a result alone; those that workers do have files");
        return Err(Problem::new(ErrorKind::NotFound, detail));
    };
    let file = shared.file(number, &path).await?;
    let (etag, media_type, cache_control) = (conditional::etag(&file.version()), media_type(&path), "private, no-cache");
    if conditional::is_known(&headers, &etag) {
        return Ok(conditional::not_modified(&headers, &etag, cache_control, media_type));
    }
    let bytes = file.bytes();
    let part = byte_range::wanted(&method, &headers, bytes, &etag);
    let response = byte_range::send(bytes, part, |first, length| Ok(pieces(file, first, length)))?;
    let typed =
        ([(header::CONTENT_TYPE, media_type), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")], response).into_response();
    Ok(conditional::with_validators(typed, &etag, cache_control))
}

/// Try the failed blocks of a job again
///
/// Of an area job that workers do and that is done with failures. It then goes on with those blocks, or with one of them.
#[utoipa::path(post, path = "/v1/jobs/{job}/retry", operation_id = "retry_job", tag = "jobs", params(JobPath, RetryParams),
    responses((status = 202, description = "The job, which is running again", body = JobDto)))]
pub(super) async fn retry_job(
    State(state): State<AppState>,
    Path(JobPath { job }): Path<JobPath>,
    Query((params,)): Query<(RetryParams,)>,
    prefix: PathPrefix,
) -> Result<Response, Problem> {
    let Some((shared, number)) = shared(&state, &job)? else {
        let own = off_the_runtime(&state, move |jobs| jobs.get(&job)).await?;
        let detail = format!(
            "job {:?} is done by this server, which tries no blocks of it again; one that is sent again with its destination goes on with \
             the blocks that are missing",
            own.id
        );
        return Err(Problem::new(ErrorKind::Conflict, detail));
    };
    let job = shared.retry(number, params.block.as_deref()).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(JobDto::shared(job, &prefix))).into_response())
}

/// That of a file with this name.
fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "json" if name.starts_with("items/") => "application/geo+json",
        "json" => "application/json",
        "tif" => "image/tiff; application=geotiff; profile=cloud-optimized",
        "parquet" => "application/vnd.apache.parquet",
        "vrt" => "application/xml",
        _ => "application/octet-stream",
    }
}

/// Size of each read.
const PIECE_BYTES: u64 = 4 << 20;

/// Streams `length` bytes of a file. If one cannot be read, the stream fails, so that the client notices.
fn pieces(file: ResultFile, first: u64, length: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let end = first + length;
    futures::stream::try_unfold((file, first), move |(file, at)| async move {
        if at >= end {
            return Ok(None);
        }
        let next = end.min(at + PIECE_BYTES);
        let bytes = file.read(at..next).await.map_err(io::Error::other)?;
        Ok(Some((bytes, (file, next))))
    })
}
