//! Sources: list, register, describe, remove.

use std::sync::Arc;

use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::dto::{File, SourceDto, SourceList, SourceLocation, SourceReference, UnavailableSourceDto, UploadParams};
use crate::api::error::Problem;
use crate::api::extract::{NoQuery, Path, Query};
use crate::api::form_parts::SourceForm;
use crate::api::json_body::Json;
use crate::api::state::AppState;
use crate::api::upload;
use crate::engine::Sources;
use crate::raster::Source;

/// Path of a source.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct SourcePath {
    /// Source id, as in `GET /v1/sources`.
    #[param(example = "world")]
    pub source: String,
}

/// List sources
#[utoipa::path(get, path = "/v1/sources", operation_id = "list_sources", tag = "sources",
    responses((status = 200, description = "The sources, by id", body = SourceList)))]
pub(super) async fn list_sources(State(state): State<AppState>, _: NoQuery) -> axum::Json<SourceList> {
    let sources = state.engine().sources();
    let describe = |source: &Arc<Source>| SourceDto::of(source, sources.is_built_in(&source.id));
    axum::Json(SourceList {
        sources: sources.list().iter().map(describe).collect(),
        unavailable: sources.unavailable().into_iter().map(UnavailableSourceDto::from).collect(),
    })
}

/// Upload a source
///
/// Registers a raster (GeoTIFF, JPEG 2000, PNG or JPEG) that is sent as the part `image` of a form, or as the body.
#[utoipa::path(post, path = "/v1/sources", operation_id = "create_source", tag = "sources", params(UploadParams),
    request_body(description = "The raster", content(
        (SourceForm = "multipart/form-data"), (inline(File) = "image/tiff"), (inline(File) = "image/png"),
        (inline(File) = "image/jpeg"), (inline(File) = "application/octet-stream"),
    )),
    responses((status = 201, description = "The source", body = SourceDto,
        headers(("Location" = String, description = "The source's address")))))]
pub(super) async fn create_source(
    State(state): State<AppState>,
    Query((names,)): Query<(UploadParams,)>,
    request: Request,
) -> Result<Response, Problem> {
    let sources = state.engine().sources();
    // The same as PUT, which the documentation shows: generated clients have one type of body per operation.
    if upload::essence(request.headers()).as_deref() == Some("application/json") {
        let Json(reference) = Json::<SourceReference>::from_request(request, &state).await?;
        let (id, location) = reference.split();
        return Ok(created(register(sources, id, location).await?));
    }
    let images = names.images()?;
    let mut files = upload::read(request, state.spool(), state.options().max_upload_bytes).await?;
    let count = files.len();
    let (Some(file), 1) = (files.pop(), count) else {
        return Err(Problem::invalid(format!("found {count} rasters; one is needed")));
    };
    let name = file.file_name.clone();
    let bytes = tokio::task::spawn_blocking(|| file.into_bytes()).await.map_err(Problem::internal)??;
    Ok(created(sources.register_upload(names.id, names.title, name.as_deref(), bytes, images).await?))
}

/// Register a source that lies elsewhere
///
/// The imagery is a file under the server's source root (`path`), or on a host that the server may connect to (`url`). Remote
/// GeoTIFFs are not downloaded as a whole: only the parts that are viewed are fetched.
#[utoipa::path(put, path = "/v1/sources/{source}", operation_id = "register_source", tag = "sources",
    params(("source" = String, Path, description = "Id of the new source: 1 to 64 letters, digits, `_`, `-` or `.`",
        pattern = "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$", example = "harbour")),
    request_body(content = SourceLocation, description = "Where the imagery lies",
        example = json!({"title": "The harbour in June", "path": "2024/harbour.tif"})),
    responses((status = 201, description = "The source", body = SourceDto,
        headers(("Location" = String, description = "The source's address")))))]
pub(super) async fn register_source(
    State(state): State<AppState>,
    Path(SourcePath { source }): Path<SourcePath>,
    _: NoQuery,
    Json(location): Json<SourceLocation>,
) -> Result<Response, Problem> {
    Ok(created(register(state.engine().sources(), source, location).await?))
}

async fn register(sources: &Sources, id: String, location: SourceLocation) -> Result<Arc<Source>, Problem> {
    let SourceLocation { title, path, url } = location;
    match (path, url) {
        (Some(path), None) => Ok(sources.register_path(id, title, std::path::Path::new(&path)).await?),
        (None, Some(url)) => Ok(sources.register_url(id, title, &url).await?),
        _ => Err(Problem::invalid("either path or url is needed")),
    }
}

fn created(source: Arc<Source>) -> Response {
    let location = format!("/v1/sources/{}", source.id);
    (StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(SourceDto::of(&source, false))).into_response()
}

/// Describe a source
#[utoipa::path(get, path = "/v1/sources/{source}", operation_id = "get_source", tag = "sources", params(SourcePath),
    responses((status = 200, description = "The source", body = SourceDto)))]
pub(super) async fn get_source(
    State(state): State<AppState>,
    Path(SourcePath { source }): Path<SourcePath>,
    _: NoQuery,
) -> Result<axum::Json<SourceDto>, Problem> {
    let sources = state.engine().sources();
    let source = sources.opened(&source).await?;
    Ok(axum::Json(SourceDto::of(&source, sources.is_built_in(&source.id))))
}

/// Remove a source
///
/// Sources with which the server was started cannot be removed (409).
#[utoipa::path(delete, path = "/v1/sources/{source}", operation_id = "delete_source", tag = "sources",
    params(("source" = String, Path, description = "Id of the source", example = "harbour")),
    responses((status = 204, description = "The source was removed")))]
pub(super) async fn delete_source(
    State(state): State<AppState>,
    Path(SourcePath { source }): Path<SourcePath>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    state.engine().sources().remove(&source).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl From<crate::raster::RasterError> for Problem {
    fn from(error: crate::raster::RasterError) -> Self {
        Self::new(error.kind(), error)
    }
}
