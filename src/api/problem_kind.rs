//! Every kind of problem: the only table from [`ErrorKind`] to status codes.

use axum::http::StatusCode;

use crate::error::ErrorKind;

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
}
