//! Indexes of vectors: make, list, describe, search, remove.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::IntoParams;

use super::jobs;
use crate::api::base_url::PathPrefix;
use crate::api::dto::{
    AreaIndexBody, ExampleModelParams, File, IndexDto, IndexList, JobDto, PixelParams, SimilarRows, SimilarSearch,
    TableParams,
};
use crate::api::error::Problem;
use crate::api::extract::{NoQuery, Path, Query};
use crate::api::form_parts::{ChipSearchForm, FormParts, TableForm};
use crate::api::index_work::{self, IndexCall};
use crate::api::json_body::Json;
use crate::api::middleware::RequestId;
use crate::api::similar_chips::{self, ChipSearch};
use crate::api::state::AppState;
use crate::api::work::StoredCall;
use crate::api::{stored_body, upload};
use crate::engine::{Caller, Class, EMBEDDING, Found, SimilarRequest, TableOptions};
use crate::jobs::NewJob;

/// Path of an index.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct IndexPath {
    /// Index id, as in `GET /v1/indexes`.
    #[param(example = "greece")]
    pub index: String,
}

/// List indexes
#[utoipa::path(get, path = "/v1/indexes", operation_id = "list_indexes", tag = "indexes",
    responses((status = 200, description = "The indexes, by id", body = IndexList)))]
pub(super) async fn list_indexes(State(state): State<AppState>, _: NoQuery) -> axum::Json<IndexList> {
    let indexes = state.engine().indexes().list();
    axum::Json(IndexList { indexes: indexes.iter().map(|index| IndexDto::from(&**index)).collect() })
}

/// Make an index
///
/// Of a table with a vector in each row: a Parquet file with a column of lists of floats, or an npy file `[N, D]`. In GeoParquet, rows
/// lie where their geometries (WKB, longitude and latitude) are. Rows without a vector are left out. Only the directions of vectors
/// are kept: they are compared by the cosine of the angle between them.
#[utoipa::path(post, path = "/v1/indexes", operation_id = "create_index", tag = "indexes", params(TableParams),
    request_body(description = "The table", content(
        (TableForm = "multipart/form-data"), (inline(File) = "application/vnd.apache.parquet"),
        (inline(File) = "application/x-npy"), (inline(File) = "application/octet-stream"),
    )),
    responses((status = 201, description = "The index", body = IndexDto,
        headers(("Location" = String, description = "The index's address")))))]
pub(super) async fn create_index(
    State(state): State<AppState>,
    Query((params,)): Query<(TableParams,)>,
    request: Request,
) -> Result<Response, Problem> {
    let limit = state.options().max_upload_bytes;
    let mut files = upload::read_as(FormParts::Table, request, state.spool(), limit).await?;
    let Some(file) = files.pop() else { return Err(Problem::invalid("found no table; one is needed")) };
    let TableParams { id, title, vectors, ids, times } = params;
    let engine = state.shared_engine().clone();
    let create = move || {
        let options = TableOptions { vectors, names: ids, times };
        Ok::<_, Problem>(engine.indexes().create(id, title, file.into_bytes()?, &options)?)
    };
    let index = state.engine().read_upload(create).await?;
    let location = format!("/v1/indexes/{}", index.record.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(IndexDto::from(&*index))).into_response())
}

/// Make an index of an area
///
/// The area is divided into square cells, and each becomes a row with the mean of a layer's vectors in it. The answer is a job; its result
/// is the description of the index. Cells without data are left out, and a cell at the border of a block of 1024 pixels may be in two
/// pieces.
#[utoipa::path(post, path = "/v1/indexes/area", operation_id = "index_area", tag = "indexes",
    request_body(content = AreaIndexBody, description = "Model, layer and area",
        example = json!({"id": "greece", "model": "world", "source": "world", "bbox": [19.0, 34.0, 29.0, 42.0]})),
    responses((status = 202, description = "The job", body = JobDto,
        headers(("Location" = String, description = "The job's address")))))]
pub(super) async fn index_area(
    State(state): State<AppState>,
    _: NoQuery,
    Extension(RequestId(request_id)): Extension<RequestId>,
    prefix: PathPrefix,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, Problem> {
    let input = stored_body::stored("index.json", &body)?;
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
    // A mistake is told at once and not by a job.
    let request = index_work::area_index(state.engine(), body)?;
    state.engine().plan_area_index(&request).await?;
    let stored = serde_json::to_string(&StoredCall::Index { index: IndexCall {} }).map_err(Problem::internal)?;
    let new = NewJob { model, task: EMBEDDING.to_owned(), request: stored, request_id };
    jobs::submit_new(&state, new, vec![input], &prefix).await
}

/// Describe an index
#[utoipa::path(get, path = "/v1/indexes/{index}", operation_id = "get_index", tag = "indexes", params(IndexPath),
    responses((status = 200, description = "The index", body = IndexDto)))]
pub(super) async fn get_index(
    State(state): State<AppState>,
    Path(IndexPath { index }): Path<IndexPath>,
    _: NoQuery,
) -> Result<axum::Json<IndexDto>, Problem> {
    Ok(axum::Json(IndexDto::from(&*state.engine().indexes().get(&index)?)))
}

/// Remove an index
#[utoipa::path(delete, path = "/v1/indexes/{index}", operation_id = "delete_index", tag = "indexes", params(IndexPath),
    responses((status = 204, description = "The index was removed")))]
pub(super) async fn delete_index(
    State(state): State<AppState>,
    Path(IndexPath { index }): Path<IndexPath>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    let engine = state.shared_engine().clone();
    let remove = move || engine.indexes().remove(&index);
    tokio::task::spawn_blocking(remove).await.map_err(Problem::internal)??;
    Ok(StatusCode::NO_CONTENT)
}

/// Search an index
///
/// The rows that are most like the positive examples and least like the negative ones, the best first, as GeoJSON. Every row is
/// compared; of equal scores the row with the lower number comes first. Rows that are examples themselves are among the results.
#[utoipa::path(post, path = "/v1/indexes/{index}/search", operation_id = "search_index", tag = "indexes", params(IndexPath),
    request_body(content = SimilarSearch, description = "What to search for",
        example = json!({"positive": [{"point": [23.0, 38.0]}], "limit": 10})),
    responses((status = 200, description = "The rows", body = SimilarRows, content_type = "application/geo+json")))]
pub(super) async fn search_index(
    State(state): State<AppState>,
    Path(IndexPath { index }): Path<IndexPath>,
    _: NoQuery,
    Json(search): Json<SimilarSearch>,
) -> Result<Response, Problem> {
    let index = state.engine().indexes().get(&index)?;
    let request = SimilarRequest::try_from(search)?;
    let found = state.engine().read_upload(move || index.similar(&request)).await?;
    Ok(rows(found, Vec::new()))
}

/// Search an index by chips
///
/// As `/v1/indexes/{index}/search`, with chips as examples: their embeddings are made by the model and layer that the index is of, and
/// averaged over each chip. A chip should show about as much as a cell of the index.
#[utoipa::path(post, path = "/v1/indexes/{index}/search/chips", operation_id = "search_index_by_chips", tag = "indexes",
    params(IndexPath, ExampleModelParams, PixelParams),
    request_body(content = ChipSearchForm, description = "Chips, and what else to search for", content_type = "multipart/form-data"),
    responses((status = 200, description = "The rows", body = SimilarRows, content_type = "application/geo+json")))]
pub(super) async fn search_index_by_chips(
    State(state): State<AppState>,
    Path(IndexPath { index }): Path<IndexPath>,
    Query((params, pixels)): Query<(ExampleModelParams, PixelParams)>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let index = state.engine().indexes().get(&index)?;
    let plan = similar_chips::plan(state.engine(), &index, params, pixels.upload_options()?)?;
    let caller = caller.of(Class::Upload);
    state.engine().check_batch(&plan, &caller)?;
    let limit = state.options().max_upload_bytes;
    let parts = upload::read_positions(FormParts::Examples, request, state.spool(), limit).await?;
    let (request, warnings) =
        ChipSearch::of(parts).request((state.shared_engine(), state.limits()), &plan, &caller).await?;
    let found = state.engine().read_upload(move || index.similar(&request)).await?;
    Ok(rows(found, warnings))
}

fn rows(found: Vec<Found>, warnings: Vec<String>) -> Response {
    let rows = axum::Json(SimilarRows::new(found, warnings));
    ([(header::CONTENT_TYPE, "application/geo+json")], rows).into_response()
}
