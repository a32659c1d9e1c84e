//! Descriptions of problems, to which the `type` of a problem leads.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::dto::words::ProblemCode;
use crate::api::error::Problem;
use crate::api::extract::{NoQuery, Path};
use crate::api::problem_kind::TABLE;
use crate::error::ErrorKind;

/// Path of a problem's description.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ProblemPath {
    /// Code of the problem.
    #[param(value_type = ProblemCode, example = "not_found")]
    code: String,
}

/// Read what a problem means
///
/// The page to which the `type` of a problem leads: what happened, and what the client can do.
#[utoipa::path(get, path = "/problems/{code}", operation_id = "get_problem", tag = "viewer", params(ProblemPath),
    responses((status = 200, description = "The page", body = String, content_type = "text/html")))]
pub(super) async fn get_problem(Path(ProblemPath { code }): Path<ProblemPath>, _: NoQuery) -> Result<Response, Problem> {
    let row = TABLE.iter().find(|row| row.code == code).ok_or_else(|| {
        let codes = TABLE.map(|row| row.code).join(", ");
        Problem::new(ErrorKind::NotFound, format!("there is no problem {code:?}; there are {codes}"))
    })?;
    let (title, status, meaning) = (row.title, row.status, row.meaning);
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
        <style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 3em auto; padding: 0 1em }}</style>\n\
        <h1>{title}</h1>\n<p><code>{code}</code>, HTTP {status}</p>\n<p>{meaning}</p>\n"
    );
    Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response())
}
