//! Inference on many chips in one request.

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::batch::{self, BatchCall};
use crate::api::dto::{BatchParams, EmbeddingParams, File, PixelParams, images};
use crate::api::error::Problem;
use crate::api::extract::{Path, Query};
use crate::api::form_parts::{ChipForm, FormParts};
use crate::api::negotiate;
use crate::api::state::AppState;
use crate::api::upload;
use crate::engine::{Caller, Class, ObjectLimit, SceneRequest};

/// Most files in one form.
const MAX_FILES: usize = 4096;

/// Path of a task whose answer for a chip is one row.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct BatchPath {
    /// Model id.
    #[param(example = "world")]
    model: String,
    /// `embedding`, or a classification.
    #[param(example = "embedding")]
    task: String,
}

/// Predict on many chips
///
/// The body is one npy file `[N, C, H, W]` of N chips, a zip file with a raster for each chip, which count in the order of their paths, or a
/// form whose parts named `chip` are a raster each. The response is a table
/// with a row for each chip, in order, sent as it grows: `npy` (float32 `[N, D]`), `jsonl` (a line of JSON for each chip) or `parquet`
/// (with the chips' outlines, where they have some, GeoParquet). Embeddings have one layer, pooled; classifications the scores of all
/// categories. A chip without data has a row of NaN or null.
///
/// All chips are checked before the response begins: if one cannot be used, the problem names it, counted from 0, and nothing is
/// answered. A chip has several captures if they are stacked in its bands (`images=N`). Integers are raw pixel values; floating-point
/// npy holds normalised input, which is not scaled again.
#[utoipa::path(post, path = "/v1/predict/{model}/{task}/batch", operation_id = "predict_batch", tag = "predict",
    params(BatchPath, BatchParams, PixelParams, EmbeddingParams),
    request_body(description = "The chips", content(
        (ChipForm = "multipart/form-data"), (inline(File) = "application/x-npy"), (inline(File) = "application/zip"),
        (inline(File) = "application/octet-stream"),
    )),
    responses(
        (status = 200, description = "A row for each chip", content(
            (inline(File) = "application/x-npy"), (inline(File) = "application/x-ndjson"),
            (inline(File) = "application/vnd.apache.parquet"),
        )),
    ))]
pub(super) async fn predict_batch(
    State(state): State<AppState>,
    Path(BatchPath { model, task }): Path<BatchPath>,
    Query((params, pixels, embedding)): Query<(BatchParams, PixelParams, EmbeddingParams)>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let model = state.engine().models().task(&model, &task)?;
    let format = negotiate::table(params.format.as_deref(), request.headers())?;
    let images = images(params.images.as_deref())?.unwrap_or(1);
    let (pixels, embedding) = (pixels.upload_options()?, embedding.options()?);
    let plan = state.engine().plan_scene(SceneRequest { model, pixels, embedding, limit: ObjectLimit::default() });
    // Checked before the body is received. A table that is sent as it grows may take as long as it needs.
    let caller = Caller { deadline: None, ..caller.of(Class::Upload) };
    state.engine().check_batch(&plan, &caller)?;
    let limit = state.options().max_upload_bytes;
    let files = upload::read_as(FormParts::Chips(MAX_FILES), request, state.spool(), limit).await?;
    let call = BatchCall { plan, format, images, unpacked_bytes: limit };
    batch::answer(state.shared_engine(), state.limits(), call, &caller, files).await
}
