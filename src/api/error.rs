//! Errors as RFC 9457 problems: the only table from [`ErrorKind`] to status codes, and the conversions from other errors.
//!
//! A handler's `Err(Problem)` travels to the outermost middleware as a response extension. There it gets its request id,
//! is logged if the status is 5xx, and becomes JSON.

use std::fmt::Display;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::base_url::PathPrefix;
use super::dto::words;
use crate::engine::EngineError;
use crate::error::{ErrorKind, InvalidValue, printable};
use crate::outputs::OutputError;
use crate::tiles::TileError;

/// Media type of RFC 9457 problems.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// Every kind of problem that the API reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// Reported by a module below the API.
    Domain(ErrorKind),
    /// The API key is missing or wrong.
    Unauthorized,
    /// The request comes from a web page or to a host name for which this server does nothing.
    Forbidden,
    /// The route exists, but does not support the method.
    MethodNotAllowed,
    /// The requested range of bytes begins behind the end of the body.
    UnsatisfiableRange,
}

/// How a kind of problem is reported.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Unique in the table, like `status` and `code`.
    pub kind: ProblemKind,
    /// HTTP status code.
    pub status: StatusCode,
    /// Stable identifier for programs.
    pub code: &'static str,
    /// Summary for people.
    pub title: &'static str,
    /// What happened and what the client can do: the text of `/problems/{code}`.
    pub meaning: &'static str,
}

const fn row(kind: ErrorKind, status: StatusCode, code: &'static str, title: &'static str, meaning: &'static str) -> Row {
    Row { kind: ProblemKind::Domain(kind), status, code, title, meaning }
}

/// All kinds of problems; responses, their descriptions and the OpenAPI document are built from this table.
pub const TABLE: [Row; 17] = [
    row(
        ErrorKind::Invalid,
        StatusCode::BAD_REQUEST,
        "invalid_value",
        "A value is malformed or out of range",
        "The detail names the parameter or field, what was found, and what is needed. Unknown and repeated query parameters are \
        errors too, so that a misspelt option is never ignored. Correct the request; sending it again unchanged fails again.",
    ),
    row(
        ErrorKind::NotFound,
        StatusCode::NOT_FOUND,
        "not_found",
        "There is no such thing here",
        "There is no such model, task, source, job or route, or the tile's zoom is outside the tile set. GET /v1/models, \
        /v1/sources and /v1/jobs list what there is; a TileJSON has the zooms.",
    ),
    row(
        ErrorKind::NotAcceptable,
        StatusCode::NOT_ACCEPTABLE,
        "not_acceptable",
        "The answer cannot have this format",
        "Each type of task has its own formats. The detail lists those of this task; ask for one of them with the extension of \
        the tile, with format=, or with the Accept header.",
    ),
    row(
        ErrorKind::Conflict,
        StatusCode::CONFLICT,
        "conflict",
        "It exists already or cannot be changed",
        "The id is taken, what is built in cannot be removed, or a job has no result yet. Choose another id, remove the other \
        thing first, or ask again when the job is done.",
    ),
    row(
        ErrorKind::TooLarge,
        StatusCode::PAYLOAD_TOO_LARGE,
        "too_large",
        "More than the limit",
        "The body, the raster or the answer is larger than the limit that the detail states. Send a smaller part, or ask whoever \
        runs the server to raise the limit.",
    ),
    row(
        ErrorKind::UnsupportedMedia,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "The media type is not understood",
        "The Content-Type of the body, or its encoding, is not one that this route reads. The detail lists those that it does.",
    ),
    row(
        ErrorKind::Unusable,
        StatusCode::UNPROCESSABLE_ENTITY,
        "unusable",
        "The input was read but does not fit",
        "The raster, checkpoint or manifest was understood, and does not fit the model or the request. The detail says what it \
        holds and what is needed, for example other bands.",
    ),
    row(
        ErrorKind::Overloaded,
        StatusCode::TOO_MANY_REQUESTS,
        "overloaded",
        "The answer would come too late",
        "More requests wait than the server answers in time. Send the request again after the seconds in the header Retry-After, \
        or as a job (Prefer: respond-async).",
    ),
    row(
        ErrorKind::Internal,
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "A fault of the server",
        "The server is at fault, and its log has the details under the request_id. Report both to whoever runs the server.",
    ),
    row(
        ErrorKind::Upstream,
        StatusCode::BAD_GATEWAY,
        "upstream",
        "Something the server depends on failed",
        "A host of imagery or weights did not answer as it should; the detail has what it said. Try again later, or check the \
        address.",
    ),
    row(
        ErrorKind::NotProvided,
        StatusCode::NOT_IMPLEMENTED,
        "not_provided",
        "This server was not given what it takes",
        "The server lacks something that will not come by itself, such as the weights of a model while it runs offline; the detail \
        names it. Asking again does not help; whoever runs the server can provide it.",
    ),
    row(
        ErrorKind::Unavailable,
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        "Loading or stopping",
        "The server is loading what is needed, or stopping. Send the request again after the seconds in the header Retry-After.",
    ),
    row(
        ErrorKind::TimedOut,
        StatusCode::GATEWAY_TIMEOUT,
        "timed_out",
        "It took too long",
        "The answer was not ready in the time that a request may take. Send it as a job (Prefer: respond-async), which has no \
        such limit, or ask for less.",
    ),
    Row {
        kind: ProblemKind::Unauthorized,
        status: StatusCode::UNAUTHORIZED,
        code: "unauthorized",
        title: "A valid API key is needed",
        meaning: "The server runs with API keys, and the request has none or a wrong one. Send a key in the header \
        Authorization: Bearer KEY, or in X-Api-Key: KEY.",
    },
    Row {
        kind: ProblemKind::Forbidden,
        status: StatusCode::FORBIDDEN,
        code: "forbidden",
        title: "Not for this web page or under this host name",
        meaning: "The request comes from a page of another origin that may not change anything here, or names a host that is not \
        this server's. Whoever runs the server can allow it; the detail names the option.",
    },
    Row {
        kind: ProblemKind::MethodNotAllowed,
        status: StatusCode::METHOD_NOT_ALLOWED,
        code: "method_not_allowed",
        title: "The route does not have this method",
        meaning: "The route exists and takes other methods, which the header Allow lists.",
    },
    Row {
        kind: ProblemKind::UnsatisfiableRange,
        status: StatusCode::RANGE_NOT_SATISFIABLE,
        code: "range_not_satisfiable",
        title: "There are no such bytes",
        meaning: "The header Range asks for bytes behind the end of the result; Content-Range says how many bytes there are. Ask for \
        bytes before the end, or leave the header out.",
    },
];

impl ProblemKind {
    pub(super) fn row(self) -> Row {
        TABLE.into_iter().find(|row| row.kind == self).expect("the table has a row for every kind; a test checks it")
    }
}

/// `Retry-After` if the failing module gives no estimate.
const DEFAULT_RETRY: Duration = Duration::from_secs(2);

/// An error before it becomes a response body.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub kind: ProblemKind,
    /// What was found and what is needed. For [`ErrorKind::Internal`] it is logged and not sent to the client.
    pub detail: String,
    /// Value of the `Retry-After` header.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// Overloaded and unavailable problems get the default `Retry-After`.
    pub(crate) fn new(kind: ErrorKind, detail: impl Display) -> Self {
        let retry_after = matches!(kind, ErrorKind::Overloaded | ErrorKind::Unavailable).then_some(DEFAULT_RETRY);
        Self { kind: ProblemKind::Domain(kind), detail: printable(&detail.to_string()), retry_after }
    }

    /// For a value of the request that is malformed or out of range.
    pub(super) fn invalid(detail: impl Display) -> Self {
        Self::new(ErrorKind::Invalid, detail)
    }

    /// For a parameter whose value is malformed or out of range.
    pub(super) fn parameter(name: &str, found: &str, needed: impl Display) -> Self {
        Self::invalid(format!("{name}: found {found:?}; {needed} is needed"))
    }

    /// For a fault of the server; the detail is only logged.
    pub(super) fn internal(detail: impl Display) -> Self {
        Self::new(ErrorKind::Internal, detail)
    }

    /// For a rejection by one of axum's extractors, whose status gives the kind.
    pub(super) fn rejected(status: StatusCode, detail: impl Display) -> Self {
        let row = TABLE.into_iter().find(|row| row.status == status);
        match row.map(|row| row.kind) {
            Some(ProblemKind::Domain(kind)) => Self::new(kind, detail),
            _ if status.is_server_error() => Self::internal(detail),
            _ => Self::invalid(detail),
        }
    }

    /// The detail for the client: that of internal errors is withheld, since it may contain paths or secrets.
    pub(super) fn public_detail(&self) -> String {
        match self.kind {
            ProblemKind::Domain(ErrorKind::Internal) => {
                "the details are in the server's log, under the request id".to_owned()
            }
            _ => self.detail.clone(),
        }
    }

    /// The JSON body of the response to the request with this id, which came under this prefix.
    pub(super) fn body(&self, request_id: &str, PathPrefix(prefix): &PathPrefix) -> ProblemBody {
        let Row { status, code, title, .. } = self.kind.row();
        let detail = self.public_detail();
        ProblemBody {
            problem_type: format!("{prefix}/problems/{code}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
            code: code.to_owned(),
            request_id: request_id.to_owned(),
        }
    }
}

/// An RFC 9457 problem.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// A URI reference that names the kind of problem, and under which the server describes it.
    #[serde(rename = "type")]
    #[schema(example = "/problems/invalid_value")]
    pub problem_type: String,
    /// Summary of the kind of problem, for people.
    #[schema(example = "A value is malformed or out of range")]
    pub title: String,
    /// HTTP status code of the response.
    #[schema(example = 400)]
    pub status: u16,
    /// What was found and what is needed.
    #[schema(example = "threshold: found \"2\"; a number from 0 to 1 is needed")]
    pub detail: String,
    /// Identifier of the kind of problem, for programs.
    #[schema(value_type = words::ProblemCode)]
    pub code: String,
    /// Id of the request in the server's log; also in `X-Request-Id`.
    #[schema(example = "5f2b8c1e9a3d4706")]
    pub request_id: String,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.row().status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// When memory that others hold may be free: it is given back chunk by chunk and scene by scene.
const MEMORY_RETRY: Duration = Duration::from_secs(5);

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let mut problem = Self::new(error.kind(), &error);
        let list = match error {
            EngineError::UnknownModel { .. } => "; GET /v1/models lists them",
            EngineError::UnknownSource { .. } => "; GET /v1/sources lists those there are",
            EngineError::TooLong { .. } => "; with Prefer: respond-async it runs in the background",
            _ => "",
        };
        problem.detail.push_str(list);
        if let EngineError::Overloaded { retry_after, .. } = error {
            problem.retry_after = Some(retry_after);
        } else if error.kind() == ErrorKind::Overloaded {
            problem.retry_after = Some(MEMORY_RETRY);
        }
        problem
    }
}

impl From<OutputError> for Problem {
    fn from(error: OutputError) -> Self {
        Self::new(error.kind(), error)
    }
}

impl From<InvalidValue> for Problem {
    fn from(error: InvalidValue) -> Self {
        Self::invalid(error)
    }
}

impl From<TileError> for Problem {
    fn from(error: TileError) -> Self {
        Self::new(error.kind(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_row_and_every_status_and_code_is_used_once() {
        for (index, row) in TABLE.iter().enumerate() {
            for other in &TABLE[index + 1..] {
                assert!(row.kind != other.kind && row.status != other.status && row.code != other.code, "{row:?}");
            }
        }
        use ErrorKind::*;
        for kind in [
            Invalid,
            NotFound,
            NotAcceptable,
            Conflict,
            TooLarge,
            UnsupportedMedia,
            Unusable,
            Overloaded,
            Internal,
            Upstream,
            NotProvided,
            Unavailable,
            TimedOut,
        ] {
            assert_eq!(ProblemKind::Domain(kind).row().kind, ProblemKind::Domain(kind));
        }
    }

    #[test]
    fn the_servers_own_faults_are_told_to_the_log_only() {
        let body = Problem::internal("thread 'device' said: /secret/path").body("id-1", &PathPrefix::default());
        assert!(!body.detail.contains("secret"));
        assert_eq!((body.status, body.request_id.as_str()), (500, "id-1"));
        assert!(
            Problem::invalid("threshold: found \"x\"")
                .body("id-2", &PathPrefix("/satlas".to_owned()))
                .detail
                .contains("threshold")
        );
    }
}
