//! Completes the OpenAPI document that utoipa collects from the handlers: problems of every operation (from the same table as the
//! responses), headers, security, tags, and tile paths as clients write them.

use axum::Router;
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::server::ServerBuilder;
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, PathItem, Ref, RefOr, Required, Response,
    ResponseBuilder,
};
use utoipa_swagger_ui::SwaggerUi;

use super::base_url::PathPrefix;
use super::error::{PROBLEM_JSON, Problem, ProblemBody, ProblemKind, TABLE};
use crate::error::ErrorKind::{self, *};

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

const TAGS: [(&str, &str); 7] = [
    ("models", "List, describe and register models, load them into memory and unload them"),
    ("sources", "List, describe, register and remove imagery, and view it as map tiles"),
    ("tiles", "Inference on map tiles of a source"),
    ("predict", "Inference on uploaded rasters"),
    ("jobs", "Predictions that run in the background"),
    ("health", "For load balancers and dashboards"),
    ("viewer", "The map page"),
];

/// `/openapi.json` and the page `/docs` that shows it.
pub(super) fn pages<S: Clone + Send + Sync + 'static>(document: OpenApi) -> Router<S> {
    let json = serde_json::to_value(document).unwrap_or_default();
    let get = |PathPrefix(prefix): PathPrefix| async move {
        let mut json = json;
        // All paths in the document begin where the client found it.
        json["servers"][0]["url"] = format!("{prefix}/").into();
        axum::Json(json)
    };
    // Relative to the page, so that it is right behind any proxy.
    let page = SwaggerUi::new("/docs").config(utoipa_swagger_ui::Config::from("../openapi.json"));
    Router::new().route("/openapi.json", axum::routing::get(get)).merge(page)
}

/// Problems of an operation, in addition to [`ALWAYS`].
fn problems_of(operation_id: &str) -> &'static [ErrorKind] {
    match operation_id {
        "list_models" | "list_sources" => &[Invalid],
        "get_model" | "unload_model" => &[Invalid, NotFound, Unusable],
        "get_source" | "get_imagery_tilejson" => &[Invalid, NotFound, Unusable, Upstream, Unavailable],
        "create_model" => &[Invalid, NotFound, Conflict, TooLarge, UnsupportedMedia, Unusable],
        "create_source" => &[Invalid, NotFound, Conflict, TooLarge, UnsupportedMedia, Unusable, Upstream],
        "delete_model" | "delete_source" => &[Invalid, NotFound, Conflict],
        "load_model" => &[Invalid, NotFound, Unusable, Upstream, NotProvided, Unavailable],
        "get_imagery_tile" => &[Invalid, NotFound, NotAcceptable, Unusable, Upstream, Unavailable],
        "get_tilejson" => &[Invalid, NotFound, NotAcceptable, Unusable, Upstream, Unavailable],
        "get_tile" => {
            &[Invalid, NotFound, NotAcceptable, TooLarge, Unusable, Overloaded, Upstream, NotProvided, Unavailable]
        }
        "predict" => &[
            Invalid,
            NotFound,
            NotAcceptable,
            TooLarge,
            UnsupportedMedia,
            Unusable,
            Overloaded,
            Upstream,
            NotProvided,
            Unavailable,
        ],
        "list_jobs" => &[Invalid],
        "get_job" | "delete_job" => &[Invalid, NotFound],
        "get_job_result" => &[Invalid, NotFound, Conflict],
        "get_liveness" | "get_readiness" => &[Unavailable],
        "get_viewer" | "get_static_file" => &[NotFound],
        _ => &[],
    }
}

/// Problems of every operation.
const ALWAYS: [ErrorKind; 2] = [Internal, TimedOut];

/// Headers of successful responses: name, description, example, and the operations that send it (none listed: all).
const HEADERS: [(&str, &str, &str, &[&str]); 8] = [
    ("X-Request-Id", "Id of the request in the server's log; a client may send its own", "5f2b8c1e9a3d4706", &[]),
    ("ETag", "Identifies the response body; send it back as If-None-Match", "\"3f1c…\"", TILES),
    ("Cache-Control", "How long the response may be cached", "public, max-age=3600, must-revalidate", TILES),
    (
        "Content-Bbox",
        "Bounds of the pixels: minx,miny,maxx,maxy in the coordinate system of Content-Crs; absent without a georeference",
        "0,0,10,10",
        PIXELS,
    ),
    ("Content-Crs", "Coordinate system of Content-Bbox", "EPSG:3857", PIXELS),
    (
        "Server-Timing",
        "Milliseconds spent on reading, queueing, inference and encoding",
        "read;dur=3.1, queue;dur=0.0, infer;dur=41.2, encode;dur=0.8",
        PIXELS,
    ),
    (
        "X-Model-Weights",
        "Kind of the weights: pretrained, fine-tuned, untrained-heads, demo or synthetic",
        "demo",
        PREDICTIONS,
    ),
    ("X-Input-Warnings", "Warnings about suspicious input, separated by |", "band 1 holds zeros only", PIXELS),
];
const TILES: &[&str] = &["get_tile", "get_imagery_tile", "get_job_result"];
const PIXELS: &[&str] = &["get_tile", "get_imagery_tile", "predict", "get_job_result"];
const PREDICTIONS: &[&str] = &["get_tile", "predict", "get_job_result"];

/// Completes the document collected from the handlers.
pub(super) fn finish(mut document: OpenApi) -> OpenApi {
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
        .security_scheme("bearer", bearer())
        .security_scheme("api_key", api_key());
    for row in TABLE {
        components = components.response(row.code, problem_response(row.kind));
    }
    document.components = Some(components.build());
    for (path, item) in std::mem::take(&mut document.paths.paths) {
        let (path, item) = as_clients_write(path, item);
        let keyed = path.starts_with("/v1");
        document.paths.paths.insert(path, completed(item, keyed));
    }
    document
}

fn completed(mut item: PathItem, keyed: bool) -> PathItem {
    for operation in [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten() {
        let id = operation.operation_id.clone().unwrap_or_default();
        add_headers(operation, &id);
        let kinds = problems_of(&id).iter().chain(&ALWAYS).map(|kind| ProblemKind::Domain(*kind));
        let kinds = kinds.chain(keyed.then_some(ProblemKind::Unauthorized)).chain([ProblemKind::Forbidden]);
        let kinds = kinds.chain((id == "get_job_result").then_some(ProblemKind::UnsatisfiableRange));
        for row in kinds.map(ProblemKind::row) {
            let response = RefOr::Ref(Ref::from_response_name(row.code));
            operation.responses.responses.insert(row.status.as_u16().to_string(), response);
        }
        if keyed {
            // Either header, or neither if the server runs without keys.
            let scheme = |name: &str| SecurityRequirement::new(name, Vec::<String>::new());
            operation.security = Some(vec![scheme("bearer"), scheme("api_key"), SecurityRequirement::default()]);
        }
    }
    item
}

fn add_headers(operation: &mut Operation, id: &str) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        for (name, description, example, senders) in HEADERS {
            let everywhere = senders.is_empty();
            let only_validators = status == "304" && !matches!(name, "ETag" | "Cache-Control");
            let only_promised = status == "202";
            if everywhere || (senders.contains(&id) && !only_validators && !only_promised) {
                response.headers.insert(name.to_owned(), header(description, example).into());
            }
        }
    }
}

fn header(description: &str, example: &str) -> utoipa::openapi::Header {
    let schema = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).examples([json!(example)]);
    HeaderBuilder::new().schema(Some(schema.build())).description(Some(description)).build()
}

/// The documented response for a kind of problem.
fn problem_response(kind: ProblemKind) -> Response {
    let row = kind.row();
    let example = Problem { kind, detail: example_of(kind).to_owned(), retry_after: None }
        .body("5f2b8c1e9a3d4706", &PathPrefix::default());
    let schema = Ref::from_schema_name(<ProblemBody as ToSchema>::name());
    let content = ContentBuilder::new().schema(Some(schema)).example(serde_json::to_value(example).ok()).build();
    let mut response = ResponseBuilder::new().description(row.title).content(PROBLEM_JSON, content);
    response = response.header("X-Request-Id", header("Id of the request in the server's log", "5f2b8c1e9a3d4706"));
    if matches!(kind, ProblemKind::Domain(Overloaded | Unavailable)) {
        response = response.header("Retry-After", header("Seconds to wait before trying again", "2"));
    }
    if kind == ProblemKind::Unauthorized {
        response = response
            .header("WWW-Authenticate", header("The authentication scheme to use", "Bearer realm=\"satlas-serve\""));
    }
    response.build()
}

fn example_of(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Unauthorized => "found no valid key; Authorization: Bearer KEY or X-Api-Key: KEY is needed",
        ProblemKind::Forbidden => {
            "pages of https://other.example.org may look, but change nothing here; the server has to be started with --cors \
             https://other.example.org"
        }
        ProblemKind::UnsatisfiableRange => "Range: found one that begins behind the end of the 1024 bytes of the result",
        ProblemKind::MethodNotAllowed => "this route does not take PUT; the Allow header lists what it takes",
        ProblemKind::Domain(kind) => match kind {
            Invalid => "threshold: found \"2\"; a number from 0 to 1 is needed",
            NotFound => "there is no model \"word\"; GET /v1/models lists the 28 there are (did you mean \"world\"?)",
            NotAcceptable => "elevation cannot be answered as geojson; it can be png, webp, tif, npy",
            Conflict => "model \"world\" is built in and cannot be removed",
            TooLarge => "the body is larger than the limit of 536870912 bytes",
            UnsupportedMedia => {
                "Content-Type: found text/plain; image/tiff, image/png, image/jpeg, application/x-npy, \
                application/octet-stream or multipart/form-data is needed"
            }
            Unusable => "the file has 4 bands; model world needs 3: red, green, blue",
            Overloaded => "256 requests wait for the device already; try again in 33 s",
            Internal => "",
            Upstream => "https://example.org/harbour.tif was answered with 404: there is no such file",
            NotProvided => "Sentinel2_SwinB_SI_RGB is not on this machine, and the server runs offline",
            Unavailable => "the server is stopping",
            TimedOut => "no answer within 120 s",
        },
    }
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

/// Rewrites a tile's path: the router allows one parameter per segment, so it has `{tile}` where clients write `{y}.{format}` or
/// `{y}.png`.
fn as_clients_write(path: String, mut item: PathItem) -> (String, PathItem) {
    let Some(stem) = path.strip_suffix("{tile}") else { return (path.replace("{*path}", "{path}"), item) };
    let imagery = path.starts_with("/v1/sources/");
    if let Some(parameters) = item.get.as_mut().and_then(|get| get.parameters.as_mut()) {
        let position =
            parameters.iter().position(|parameter| matches!(parameter, RefOr::T(parameter) if parameter.name == "tile"));
        let position = position.unwrap_or(parameters.len());
        let row = path_parameter(
            "y",
            "Row, counted from the north; with `@2x` after it, the tile has 512 px",
            Type::Integer,
            json!(3),
        );
        let format = path_parameter(
            "format",
            "`png`, `webp`, `tif`, `geojson`, `mvt`, `npy`, `json` or `safetensors`",
            Type::String,
            json!("png"),
        );
        let replacement = [Some(row), (!imagery).then_some(format)];
        let end = (position + 1).min(parameters.len());
        parameters.splice(position..end, replacement.into_iter().flatten());
    }
    (format!("{stem}{}", if imagery { "{y}.png" } else { "{y}.{format}" }), item)
}

fn path_parameter(
    name: &str,
    description: &str,
    kind: Type,
    example: serde_json::Value,
) -> RefOr<utoipa::openapi::path::Parameter> {
    let schema = ObjectBuilder::new().schema_type(SchemaType::Type(kind)).build();
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(schema))
        .example(Some(example))
        .build()
        .into()
}
