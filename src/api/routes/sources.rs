//! Sources: list, register, describe, remove.

use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::dto::{SourceDto, SourceList, SourceReference, UnavailableSourceDto, UploadParams};
use crate::api::error::Problem;
use crate::api::extract::{Json, NoQuery, Path, Query};
use crate::api::state::AppState;
use crate::api::upload::{self, RasterForm};

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
    let describe = |source: &std::sync::Arc<crate::raster::Source>| SourceDto::of(source, sources.is_built_in(&source.id));
    axum::Json(SourceList {
        sources: sources.list().iter().map(describe).collect(),
        unavailable: sources.unavailable().into_iter().map(UnavailableSourceDto::from).collect(),
    })
}

/// Register a source
///
/// To upload a raster (GeoTIFF, JPEG 2000, PNG or JPEG), send it as the body or as the part `image` of a form. To register imagery
/// that lies elsewhere, send JSON with a `path` under the server's source root or a `url` on a host that the server may connect to
/// (`--allow-host`). Remote GeoTIFFs are not downloaded as a whole: only the parts that are viewed are fetched.
#[utoipa::path(post, path = "/v1/sources", operation_id = "create_source", tag = "sources", params(UploadParams),
    request_body(description = "The raster, or its path or URL", content(
        (Vec<u8> = "image/tiff"), (Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"), (RasterForm = "multipart/form-data"),
        (SourceReference = "application/json", example = json!({"id": "harbour", "path": "2024/harbour.tif"})),
    )),
    responses((status = 201, description = "The source", body = SourceDto,
        headers(("Location" = String, description = "The source's address")))))]
pub(super) async fn create_source(
    State(state): State<AppState>,
    Query((names,)): Query<(UploadParams,)>,
    request: Request,
) -> Result<Response, Problem> {
    let sources = state.engine().sources();
    let source = if upload::essence(request.headers()).as_deref() == Some("application/json") {
        let Json(SourceReference { id, title, path, url }) = Json::from_request(request, &()).await?;
        match (path, url) {
            (Some(path), None) => sources.register_path(id, title, std::path::Path::new(&path)).await?,
            (None, Some(url)) => sources.register_url(id, title, &url).await?,
            _ => return Err(Problem::invalid("either path or url is needed")),
        }
    } else {
        let images = names.images()?;
        let mut files = upload::read(request, state.spool(), state.options().max_upload_bytes).await?;
        let count = files.len();
        let (Some(file), 1) = (files.pop(), count) else {
            return Err(Problem::invalid(format!("found {count} rasters; one is needed")));
        };
        let name = file.file_name.clone();
        let bytes = tokio::task::spawn_blocking(|| file.into_bytes()).await.map_err(Problem::internal)??;
        sources.register_upload(names.id, names.title, name.as_deref(), bytes, images).await?
    };
    let location = format!("/v1/sources/{}", source.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(SourceDto::of(&source, false))).into_response())
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
#[utoipa::path(delete, path = "/v1/sources/{source}", operation_id = "delete_source", tag = "sources", params(SourcePath),
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
