//! Completes the OpenAPI document that utoipa collects from the handlers: problems, headers, security, tags, and what client
//! generators need.

mod document;
mod headers;
mod paths;
mod problems;

use axum::Router;
use utoipa::ToSchema;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::server::ServerBuilder;
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, PathItem, Ref, RefOr};
use utoipa_swagger_ui::SwaggerUi;

pub use self::document::Document;
use super::base_url::PathPrefix;
use super::dto::words;
use super::error::ProblemBody;
use super::problem_kind::{ProblemKind, TABLE};

const DESCRIPTION: &str = "Turns satellite and aerial imagery into masks, objects and embeddings with AllenAI's SatlasPretrain models.\n\n\
    Input is either a *source* (imagery registered with the server and read by XYZ tile) or a raster uploaded with the request. \
    A *model* has one or more *tasks*; every model also has the task `embedding`. Formats by task type, the default first:\n\n\
    | type | formats |\n| --- | --- |\n\
    | segment, bin_segment | png, webp, tif, geojson, mvt (tiles only), npy |\n\
    | regress | png, webp, tif, npy |\n\
    | detect, instance | geojson, mvt (tiles only), png, json, safetensors |\n\
    | classification | json, geojson |\n\
    | embedding | json, npy, safetensors |\n\n\
    Errors are RFC 9457 problems. Every response has an `X-Request-Id` header.";

const TAGS: [(&str, &str); 8] = [
    ("models", "List, describe and register models, load them into memory and unload them"),
    ("sources", "List, describe, register and remove imagery, and view it as map tiles"),
    ("tiles", "Inference on map tiles of a source"),
    ("predict", "Inference on uploaded rasters"),
    ("indexes", "Vectors of places, searched for what is like given examples"),
    ("jobs", "Predictions and fits that run in the background"),
    ("health", "For load balancers and dashboards"),
    ("viewer", "Pages for people: the map, and what problems mean"),
];

/// Completes the document collected from the handlers.
pub(super) fn finish(mut document: OpenApi) -> Document {
    document.info = InfoBuilder::new()
        .title("satlas-serve")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .build();
    document.servers = Some(vec![ServerBuilder::new().url("/").description(Some("This server")).build()]);
    let tag = |(name, description)| TagBuilder::new().name(name).description(Some(description)).build();
    document.tags = Some(TAGS.map(tag).into());
    let mut components = ComponentsBuilder::from(document.components.take().unwrap_or_default())
        .schema(<ProblemBody as ToSchema>::name(), <ProblemBody as utoipa::PartialSchema>::schema())
        .schemas_from_iter(words::schemas())
        .security_scheme("bearer", bearer())
        .security_scheme("api_key", api_key());
    for row in TABLE {
        components = components.response(row.code, problems::problem_response(row.kind));
    }
    document.components = Some(components.build());
    for (path, item) in std::mem::take(&mut document.paths.paths) {
        let (path, item) = paths::as_clients_write(path, item);
        let keyed = path.starts_with("/v1");
        document.paths.paths.insert(path, completed(item, keyed));
    }
    Document::new(&document)
}

/// `/openapi.json` and the page `/docs` that shows it.
pub(super) fn pages<S: Clone + Send + Sync + 'static>(document: Document) -> Router<S> {
    let get = |PathPrefix(prefix): PathPrefix| async move { axum::Json(document.under(&prefix)) };
    // Relative to the page, so that it is right behind any proxy.
    let page = SwaggerUi::new("/docs").config(utoipa_swagger_ui::Config::from("../openapi.json"));
    Router::new().route("/openapi.json", axum::routing::get(get)).merge(page)
}

fn completed(mut item: PathItem, keyed: bool) -> PathItem {
    for operation in [&mut item.get, &mut item.post, &mut item.put, &mut item.delete].into_iter().flatten() {
        let id = operation.operation_id.clone().unwrap_or_default();
        headers::add_headers(operation, &id);
        let kinds = problems::problems_of(&id).iter().chain(&problems::ALWAYS).map(|kind| ProblemKind::Domain(*kind));
        let kinds = kinds.chain(keyed.then_some(ProblemKind::Unauthorized)).chain([ProblemKind::Forbidden]);
        let kinds = kinds
            .chain(matches!(id.as_str(), "get_job_result" | "get_job_file").then_some(ProblemKind::UnsatisfiableRange));
        for row in kinds.map(ProblemKind::row) {
            let response = RefOr::Ref(Ref::from_response_name(row.code));
            operation.responses.responses.insert(row.status.as_u16().to_string(), response);
        }
        // Either header, or neither if the server runs without keys; open routes need none.
        let scheme = |name: &str| SecurityRequirement::new(name, Vec::<String>::new());
        let keys = || vec![scheme("bearer"), scheme("api_key"), SecurityRequirement::default()];
        operation.security = Some(if keyed { keys() } else { Vec::new() });
    }
    item
}

fn bearer() -> SecurityScheme {
    let description = "Needed on /v1 if the server runs with --api-key";
    SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build())
}

fn api_key() -> SecurityScheme {
    SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
        "X-Api-Key",
        "Alternative header for the same key",
    )))
}
