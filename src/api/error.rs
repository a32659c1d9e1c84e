//! Errors as RFC 9457 problems, and the conversions from other errors.
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
use super::problem_kind::{ProblemKind, Row, TABLE};
use crate::engine::EngineError;
use crate::error::{ErrorKind, InvalidValue, printable};
use crate::outputs::OutputError;
use crate::tiles::TileError;

/// Media type of RFC 9457 problems.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

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

    /// For a file or a part of a body that can be read and not be used.
    pub(super) fn unusable(detail: impl Display) -> Self {
        Self::new(ErrorKind::Unusable, detail)
    }

    /// For a parameter whose value is malformed or out of range.
    pub(super) fn parameter(name: &str, found: &str, needed: impl Display) -> Self {
        Self::invalid(format!("{name}: found {found:?}; {needed} is needed"))
    }

    /// For a body that has turned out to have more than `limit` bytes.
    pub(super) fn body_too_large(limit: u64) -> Self {
        Self::new(ErrorKind::TooLarge, format!("the body is larger than the limit of {limit} bytes"))
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
            EngineError::UnknownSource { .. } => {
                "; GET /v1/sources lists those there are, and an uploaded one is known to the server alone that took it"
            }
            EngineError::UnknownIndex { .. } => {
                "; GET /v1/indexes lists those of this server, and an index is known to the server alone that made it"
            }
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
