//! The problems of every operation, from the same table as the responses.

use utoipa::ToSchema;
use utoipa::openapi::{ContentBuilder, Ref, Response, ResponseBuilder};

use super::headers::header;
use crate::api::base_url::PathPrefix;
use crate::api::error::{PROBLEM_JSON, Problem, ProblemBody};
use crate::api::problem_kind::ProblemKind;
use crate::error::ErrorKind::{self, *};

/// Problems of an operation, in addition to [`ALWAYS`].
pub(super) fn problems_of(operation_id: &str) -> &'static [ErrorKind] {
    match operation_id {
        "list_models" | "list_sources" => &[Invalid],
        "get_model" | "unload_model" => &[Invalid, NotFound, Unusable],
        "download_model" => &[Invalid, NotFound, TooLarge, Unusable],
        "get_source" | "get_imagery_tilejson" => &[Invalid, NotFound, Unusable, Upstream, Unavailable],
        "create_model" => &[Invalid, NotFound, Conflict, TooLarge, UnsupportedMedia, Unusable, Overloaded, Unavailable],
        "fit_model" | "fit_chips" => {
            &[Invalid, NotFound, Conflict, TooLarge, UnsupportedMedia, Unusable, Overloaded, Upstream, Unavailable]
        }
        "suggest_labels" => &[Invalid, NotFound, TooLarge, UnsupportedMedia, Unusable, Overloaded, Upstream, Unavailable],
        "create_source" | "register_source" => {
            &[Invalid, NotFound, Conflict, TooLarge, UnsupportedMedia, Unusable, Overloaded, Upstream, Unavailable]
        }
        "delete_model" | "delete_source" => &[Invalid, NotFound, Conflict, Unavailable],
        "load_model" => &[Invalid, NotFound, Unusable, Upstream, NotProvided, Unavailable],
        "get_imagery_tile" => &[Invalid, NotFound, NotAcceptable, Unusable, Upstream, Unavailable],
        "get_tilejson" => &[Invalid, NotFound, NotAcceptable, Unusable, Upstream, Unavailable],
        "get_tile" => {
            &[Invalid, NotFound, NotAcceptable, TooLarge, Unusable, Overloaded, Upstream, NotProvided, Unavailable]
        }
        "predict" | "predict_area" | "predict_change" | "predict_batch" => &[
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
        "create_job" => &[
            Invalid,
            NotFound,
            Conflict,
            TooLarge,
            UnsupportedMedia,
            Unusable,
            Overloaded,
            Upstream,
            NotProvided,
            Unavailable,
        ],
        "index_area" => {
            &[Invalid, NotFound, Conflict, TooLarge, UnsupportedMedia, Unusable, Overloaded, Upstream, Unavailable]
        }
        "create_index" => &[Invalid, Conflict, TooLarge, UnsupportedMedia, Unusable, Overloaded],
        "list_indexes" => &[Invalid],
        "get_index" | "delete_index" => &[Invalid, NotFound],
        "search_index" => &[Invalid, NotFound, TooLarge, UnsupportedMedia, Overloaded],
        "search_index_by_chips" => {
            &[Invalid, NotFound, TooLarge, UnsupportedMedia, Unusable, Overloaded, Upstream, NotProvided, Unavailable]
        }
        "list_jobs" => &[Invalid],
        "get_job" | "delete_job" => &[Invalid, NotFound, NotProvided, Unavailable],
        "get_job_result" | "retry_job" => &[Invalid, NotFound, Conflict, NotProvided, Unavailable],
        "get_job_file" => &[Invalid, NotFound, Upstream, NotProvided, Unavailable],
        "get_liveness" | "get_readiness" => &[Unavailable],
        "get_problem" => &[Invalid, NotFound],
        "get_viewer" | "get_static_file" => &[NotFound],
        _ => &[],
    }
}

/// Problems of every operation.
pub(super) const ALWAYS: [ErrorKind; 2] = [Internal, TimedOut];

/// The documented response for a kind of problem.
pub(super) fn problem_response(kind: ProblemKind) -> Response {
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
