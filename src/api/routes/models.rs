//! Models: list, describe, register, remove, load, unload.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::dto::{File, ModelDto, ModelList, ModelListParams};
use crate::api::error::Problem;
use crate::api::extract::{NoQuery, Path, Query};
use crate::api::json_body::Json;
use crate::api::state::AppState;
use crate::zip_file::ZipFile;
use crate::zoo::Manifest;

/// Path of a model.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ModelPath {
    /// Model id, as in `GET /v1/models`.
    #[param(example = "world")]
    pub model: String,
}

/// List models
///
/// In pages: if an answer has a `next`, there are more models, which `after` with its value asks for.
#[utoipa::path(get, path = "/v1/models", operation_id = "list_models", tag = "models", params(ModelListParams),
    responses((status = 200, description = "The models, by id", body = ModelList)))]
pub(super) async fn list_models(
    State(state): State<AppState>,
    Query((params,)): Query<(ModelListParams,)>,
) -> Result<axum::Json<ModelList>, Problem> {
    let limit = params.limit()?;
    // Blocks: the state of each model's weights is looked up in the file system.
    let page = tokio::task::spawn_blocking(move || {
        let models = state.engine().models();
        let specs = models.after(params.after.as_deref().unwrap_or_default());
        ModelList::page(specs.into_iter().map(|spec| models.status_of(spec).into()), limit)
    });
    Ok(axum::Json(page.await.map_err(Problem::internal)?))
}

/// Describe a model
#[utoipa::path(get, path = "/v1/models/{model}", operation_id = "get_model", tag = "models", params(ModelPath),
    responses((status = 200, description = "The model", body = ModelDto)))]
pub(super) async fn get_model(
    State(state): State<AppState>,
    Path(ModelPath { model }): Path<ModelPath>,
    _: NoQuery,
) -> Result<axum::Json<ModelDto>, Problem> {
    Ok(axum::Json(state.engine().models().status(&model)?.into()))
}

/// Register a model
///
/// The manifest names either a checkpoint in the server's models directory, or a built-in model to which new heads are added. New
/// heads have random weights, determined by `seed`.
#[utoipa::path(post, path = "/v1/models", operation_id = "create_model", tag = "models",
    request_body(content = Manifest, description = "The model's manifest", example = json!({
        "id": "my_cover", "base": "world", "seed": 7, "fpn": true,
        "heads": [{"task": "cover", "type": "segment", "categories": ["land", "water"]}]
    })),
    responses((status = 201, description = "The model", body = ModelDto,
        headers(("Location" = String, description = "The model's address")))))]
pub(super) async fn create_model(
    State(state): State<AppState>,
    _: NoQuery,
    Json(manifest): Json<Manifest>,
) -> Result<impl IntoResponse, Problem> {
    let model = ModelDto::from(state.engine().register_model(manifest).await?);
    let location = format!("/v1/models/{}", model.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(model)))
}

/// Download a fitted model
///
/// A zip file with the model's manifest and the weights of its heads. Unpacked into the models directory of another server that has the
/// base model (`--models-dir`), it is the same model there. Other models are 422: their weights are files already.
#[utoipa::path(get, path = "/v1/models/{model}/files", operation_id = "download_model", tag = "models",
    params(("model" = String, Path, description = "Id of a model that a fit has made", example = "probe")),
    responses((status = 200, description = "The files", body = inline(File), content_type = "application/zip")))]
pub(super) async fn download_model(
    State(state): State<AppState>,
    Path(ModelPath { model }): Path<ModelPath>,
    _: NoQuery,
) -> Result<impl IntoResponse, Problem> {
    let mut zip = ZipFile::new();
    for (name, content) in state.engine().model_files(&model).await? {
        zip.add(&name, &content).map_err(Problem::internal)?;
    }
    let zipped = zip.finish().map_err(Problem::internal)?;
    // The id is a plain name.
    let disposition = format!("attachment; filename=\"{model}.zip\"");
    Ok(([(header::CONTENT_TYPE, "application/zip".to_owned()), (header::CONTENT_DISPOSITION, disposition)], zipped))
}

/// Remove a registered model
///
/// Built-in models cannot be removed (409).
#[utoipa::path(delete, path = "/v1/models/{model}", operation_id = "delete_model", tag = "models",
    params(("model" = String, Path, description = "Id of the model", example = "my_cover")),
    responses((status = 204, description = "The model was removed")))]
pub(super) async fn delete_model(
    State(state): State<AppState>,
    Path(ModelPath { model }): Path<ModelPath>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    state.engine().remove_model(&model).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Load a model into memory
///
/// Answers once the model is loaded. Requests for other models are served meanwhile; loading goes on if the client disconnects.
#[utoipa::path(post, path = "/v1/models/{model}/load", operation_id = "load_model", tag = "models", params(ModelPath),
    responses((status = 200, description = "The loaded model", body = ModelDto)))]
pub(super) async fn load_model(
    State(state): State<AppState>,
    Path(ModelPath { model }): Path<ModelPath>,
    _: NoQuery,
) -> Result<axum::Json<ModelDto>, Problem> {
    let models = state.engine().models();
    models.load(&model).await?;
    Ok(axum::Json(models.status(&model)?.into()))
}

/// Unload a model from memory
///
/// Running requests keep it until they are done; the next request loads it again.
#[utoipa::path(post, path = "/v1/models/{model}/unload", operation_id = "unload_model", tag = "models", params(ModelPath),
    responses((status = 200, description = "The model", body = ModelDto)))]
pub(super) async fn unload_model(
    State(state): State<AppState>,
    Path(ModelPath { model }): Path<ModelPath>,
    _: NoQuery,
) -> Result<axum::Json<ModelDto>, Problem> {
    let models = state.engine().models();
    models.unload(&model).await?;
    Ok(axum::Json(models.status(&model)?.into()))
}
