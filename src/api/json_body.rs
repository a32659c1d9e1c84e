//! JSON request bodies, like axum's own extractor, but with rejections that are [`Problem`]s and room that all of them share.

use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use super::error::Problem;
use super::state::AppState;
use super::upload;
use crate::error::ErrorKind;

/// Largest accepted JSON body.
const MAX_JSON_BYTES: u64 = 1 << 20;

/// A JSON request body of at most `MAX_BYTES`.
pub(super) struct Json<T, const MAX_BYTES: u64 = MAX_JSON_BYTES>(pub T);

impl<T: DeserializeOwned, const MAX_BYTES: u64> FromRequest<AppState> for Json<T, MAX_BYTES> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        match upload::essence(request.headers()) {
            Some(essence) if essence == "application/json" || essence.ends_with("+json") => {}
            found => {
                let found = found.as_deref().unwrap_or("none");
                let detail = format!("Content-Type: found {found}; application/json is needed");
                return Err(Problem::new(ErrorKind::UnsupportedMedia, detail));
            }
        }
        upload::check_declared_length(request.headers(), MAX_BYTES)?;
        let broken = |error: axum::Error| Problem::invalid(format!("the body broke off: {error}"));
        let text = state.spool().receive_in_memory(request.into_body().into_data_stream(), MAX_BYTES, broken).await?;
        // JSON of the wrong shape is 400 rather than axum's 422, which this API keeps for unusable rasters and weights.
        let axum::Json(value) =
            axum::Json::from_bytes(&text).map_err(|rejection| Problem::invalid(rejection.body_text()))?;
        Ok(Self(value))
    }
}
