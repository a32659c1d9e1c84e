//! All routes; each handler stands next to its OpenAPI documentation.

mod area_jobs;
mod batch;
mod change;
mod fit;
mod health;
mod imagery;
mod indexes;
mod job_files;
mod jobs;
mod models;
mod pages;
mod predict;
mod problems;
mod sources;
mod tiles;

use axum::extract::DefaultBodyLimit;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::state::{ApiOptions, AppState};

/// Routes that never need an API key: health, metrics, map viewer, descriptions of problems.
pub(super) fn open() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(health::get_liveness))
        .routes(routes!(health::get_readiness))
        .routes(routes!(health::get_metrics))
        .routes(routes!(pages::get_viewer))
        .routes(routes!(pages::get_static_file))
        .routes(routes!(problems::get_problem))
}

/// Routes under `/v1`.
pub(super) fn v1(options: &ApiOptions) -> OpenApiRouter<AppState> {
    let max_upload = usize::try_from(options.max_upload_bytes).unwrap_or(usize::MAX);
    let uploads = OpenApiRouter::new()
        .routes(routes!(predict::predict))
        .routes(routes!(predict::predict_area))
        .routes(routes!(batch::predict_batch))
        .routes(routes!(fit::fit_model))
        .routes(routes!(fit::fit_chips))
        .routes(routes!(indexes::list_indexes, indexes::create_index))
        .routes(routes!(indexes::search_index_by_chips))
        .routes(routes!(sources::list_sources, sources::create_source))
        .layer(DefaultBodyLimit::max(max_upload));
    OpenApiRouter::new()
        .routes(routes!(models::list_models, models::create_model))
        .routes(routes!(models::get_model, models::delete_model))
        .routes(routes!(models::download_model))
        .routes(routes!(models::load_model))
        .routes(routes!(models::unload_model))
        .routes(routes!(fit::suggest_labels))
        .routes(routes!(change::predict_change))
        .routes(routes!(sources::get_source, sources::register_source, sources::delete_source))
        .routes(routes!(imagery::get_imagery_tilejson))
        .routes(routes!(imagery::get_imagery_tile))
        .routes(routes!(tiles::get_tilejson))
        .routes(routes!(tiles::get_tile))
        .routes(routes!(indexes::get_index, indexes::delete_index))
        .routes(routes!(indexes::search_index))
        .routes(routes!(indexes::index_area))
        .routes(routes!(jobs::list_jobs, area_jobs::create_job))
        .routes(routes!(jobs::get_job, jobs::delete_job))
        .routes(routes!(jobs::get_job_result))
        .routes(routes!(job_files::get_job_file))
        .routes(routes!(job_files::retry_job))
        .merge(uploads)
}

/// All routes, for the OpenAPI document.
pub(super) fn all(options: &ApiOptions) -> OpenApiRouter<AppState> {
    open().merge(v1(options))
}
