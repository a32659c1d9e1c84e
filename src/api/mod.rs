//! The HTTP API: routes, parameters, problems, documentation. No other module handles HTTP requests.
//!
//! [`router`] is the service that the server runs and the tests call; [`openapi`] describes it.

mod answer;
mod area_job;
mod area_work;
mod base_url;
mod batch;
mod byte_range;
mod change;
mod chip_fit;
mod compression;
mod conditional;
mod drain;
mod dto;
mod error;
mod extract;
mod fit;
mod form_parts;
mod gate;
mod index_work;
mod json_body;
mod mask_pairs;
mod middleware;
mod negotiate;
mod openapi;
mod prediction;
mod preference;
mod problem_kind;
mod pulse;
mod results;
mod route_metrics;
mod routes;
mod shared_jobs;
mod similar_chips;
mod spool;
mod state;
mod stored_answer;
mod stored_body;
mod tile_cache;
mod upload;
mod work;
mod zip_files;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::response::IntoResponse;
use tower::ServiceBuilder;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

pub(crate) use area_job::area_job;
pub(crate) use dto::ModelDto;
pub use gate::Peer;
pub use openapi::Document;
pub use problem_kind::{ProblemKind, Row, TABLE};
pub use state::{ApiOptions, AppState};

use self::error::Problem;
use crate::error::ErrorKind;

/// Response headers that scripts of other origins may read.
const EXPOSED_HEADERS: [HeaderName; 10] = [
    header::ETAG,
    header::RETRY_AFTER,
    header::LOCATION,
    preference::PREFERENCE_APPLIED,
    answer::CONTENT_BBOX,
    answer::CONTENT_CRS,
    answer::SERVER_TIMING,
    answer::MODEL_WEIGHTS,
    answer::INPUT_WARNINGS,
    middleware::REQUEST_ID,
];

/// The OpenAPI 3.1 document.
pub fn openapi() -> Document {
    openapi::finish(routes::all(&ApiOptions::default()).into_openapi())
}

/// The service with all routes and layers.
pub fn router(state: AppState) -> Router {
    let (open, v1) = (routes::open(), routes::v1(state.options()));
    let v1 = if state.options().api_keys.is_empty() {
        v1
    } else {
        v1.route_layer(axum::middleware::from_fn_with_state(state.clone(), middleware::require_key))
    };
    let (routes, document) = open.merge(v1).split_for_parts();
    // One stack, outermost first: layers added one by one are boxed, which costs an allocation per layer and request.
    let layers = ServiceBuilder::new()
        .layer(axum::middleware::from_fn_with_state(state.clone(), middleware::observe))
        .layer(cors(state.options().cors.as_deref()))
        .layer(axum::middleware::from_fn_with_state(state.clone(), middleware::admit))
        .map_response(conditional::weaken_if_encoded)
        .map_request(compression::take_identity)
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(compression::IsText))
        .layer(CatchPanicLayer::custom(middleware::panicked));
    routes
        .merge(documentation(document))
        .fallback(|| async { Problem::new(ErrorKind::NotFound, "there is no such route; /docs lists those there are") })
        .method_not_allowed_fallback(|method: Method| async move {
            let detail = format!("this route does not take {method}; the Allow header lists what it takes");
            Problem { kind: ProblemKind::MethodNotAllowed, detail, retry_after: None }.into_response()
        })
        .layer(layers)
        .with_state(state)
}

/// The pages at `/docs` and the document they show. Like the viewer, they get everything from this server.
fn documentation(document: utoipa::openapi::OpenApi) -> Router<AppState> {
    const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; frame-ancestors 'self'; base-uri 'self'",
    );
    let pages: Router<AppState> = openapi::pages(openapi::finish(document));
    pages.layer(axum::middleware::map_response(|mut response: axum::response::Response| async move {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }))
}

/// What the browser lets pages of other origins do. Without a list, all may read, and [`gate::check`] keeps them from the rest.
fn cors(origins: Option<&[String]>) -> CorsLayer {
    let is_any = origins.is_none_or(|origins| origins.iter().any(|origin| origin == "*"));
    let allowed = if is_any {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.unwrap_or_default().iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([
            header::ACCEPT,
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            middleware::API_KEY,
            preference::PREFER,
        ])
        .expose_headers(EXPOSED_HEADERS)
        .max_age(std::time::Duration::from_secs(86_400))
}
