//! HTTP: routes, parameters, problems, documentation. The only module that knows it.
//!
//! [`router`] is what the server runs and the tests call; [`openapi`] is its description.

mod answer;
mod base_url;
mod conditional;
mod dto;
mod error;
mod extract;
mod middleware;
mod negotiate;
mod openapi;
mod prediction;
mod routes;
mod spool;
mod state;
mod tile_cache;
mod upload;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::response::IntoResponse;
use tower::ServiceBuilder;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::Predicate;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa_swagger_ui::SwaggerUi;

pub use dto::ModelDto;
pub use error::{PROBLEM_JSON, Problem, ProblemBody, ProblemKind, Row, TABLE};
pub use state::{ApiOptions, AppState};

use crate::error::ErrorKind;

/// Headers of answers that scripts of other origins may read.
const EXPOSED_HEADERS: [HeaderName; 10] = [
    header::ETAG,
    header::RETRY_AFTER,
    header::LOCATION,
    routes::PREFERENCE_APPLIED,
    answer::CONTENT_BBOX,
    answer::CONTENT_CRS,
    answer::SERVER_TIMING,
    answer::MODEL_WEIGHTS,
    answer::INPUT_WARNINGS,
    middleware::REQUEST_ID,
];

/// The OpenAPI 3.1 document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    openapi::finish(routes::all(&ApiOptions::default()).into_openapi())
}

/// Every route, over `state`.
pub fn router(state: AppState) -> Router {
    let (open, v1) = (routes::open(), routes::v1(state.options()));
    let v1 = v1.route_layer(axum::middleware::from_fn_with_state(state.clone(), middleware::require_key));
    let (routes, document) = open.merge(v1).split_for_parts();
    // One stack, the outermost first: layers that are added one by one are boxed, and cost a cached tile an allocation each.
    let layers = ServiceBuilder::new()
        .layer(axum::middleware::from_fn(middleware::observe))
        .layer(cors(&state.options().cors))
        .map_response(conditional::weaken_if_encoded)
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(IsText))
        .layer(CatchPanicLayer::custom(middleware::panicked))
        .layer(axum::middleware::from_fn_with_state(state.clone(), middleware::limit_time));
    routes
        .merge(SwaggerUi::new("/docs").url("/openapi.json", openapi::finish(document)))
        .fallback(|| async { Problem::new(ErrorKind::NotFound, "there is no such route; /docs lists those there are") })
        .method_not_allowed_fallback(|method: Method| async move {
            let detail = format!("this route does not take {method}; the Allow header lists what it takes");
            Problem { kind: ProblemKind::MethodNotAllowed, detail, retry_after: None }.into_response()
        })
        .layer(layers)
        .with_state(state)
}

fn cors(origins: &[String]) -> CorsLayer {
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
        .allow_headers([
            header::ACCEPT,
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            middleware::API_KEY,
            HeaderName::from_static("prefer"),
        ])
        .expose_headers(EXPOSED_HEADERS)
        .max_age(std::time::Duration::from_secs(86_400))
}

/// Texts are compressed; images, arrays and tensors are compact already, or cost more time than they save.
#[derive(Clone, Copy)]
struct IsText;

/// Below it, a compressed body saves no packet.
const LEAST_COMPRESSED_BYTES: u64 = 1024;

impl Predicate for IsText {
    fn should_compress<B: axum::body::HttpBody>(&self, response: &axum::http::Response<B>) -> bool {
        let media_type =
            response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default();
        let is_text = essence.starts_with("text/")
            || essence.ends_with("json")
            || essence.ends_with("javascript")
            || matches!(essence, "image/svg+xml" | "application/vnd.mapbox-vector-tile");
        // A body that is read from a file does not know its size, but its header does.
        let declared = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes: u64 = declared.unwrap_or_else(|| response.body().size_hint().lower());
        is_text && bytes >= LEAST_COMPRESSED_BYTES
    }
}
