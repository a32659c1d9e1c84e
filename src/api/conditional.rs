//! ETags and conditional requests (RFC 9110, section 13).

use std::hash::Hash;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use headers::{ETag, HeaderMapExt, IfNoneMatch};

use super::compression::is_text;
use crate::identity::identity_of;

/// A strong ETag from values that together determine the response body.
pub(super) fn etag(parts: &impl Hash) -> String {
    format!("\"{}\"", identity_of(parts))
}

/// True if `If-None-Match` lists this ETag or `*`; tags are compared weakly (RFC 9110, 13.1.2).
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    match (headers.typed_get::<IfNoneMatch>(), etag.parse::<ETag>()) {
        (Some(condition), Ok(etag)) => !condition.precondition_passes(&etag),
        _ => false,
    }
}

/// A 304 response with the headers that a 200 response of this media type would have: validators, and `Vary` if it could be
/// compressed (RFC 9110, 15.4.5). A compressed body has a weak ETag, so the client's spelling of the tag is the right one.
pub(super) fn not_modified(headers: &HeaderMap, etag: &str, cache_control: &str, media_type: &str) -> Response {
    let weak = format!("W/{etag}");
    let given = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_weak = given.flat_map(|value| value.split(',')).any(|tag| tag.trim() == weak);
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    if is_text(media_type) {
        response.headers_mut().insert(header::VARY, HeaderValue::from_name(header::ACCEPT_ENCODING));
    }
    with_validators(response, if is_weak { &weak } else { etag }, cache_control)
}

/// Adds `ETag` and `Cache-Control`.
pub(super) fn with_validators(mut response: Response, etag: &str, cache_control: &str) -> Response {
    for (name, text) in [(header::ETAG, etag), (header::CACHE_CONTROL, cache_control)] {
        if let Ok(value) = HeaderValue::from_str(text) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Weakens the ETag of a compressed response: compressed bytes differ, so a strong ETag must not cover both (RFC 9110, 8.8.1).
pub(super) fn weaken_if_encoded<B>(mut response: axum::http::Response<B>) -> axum::http::Response<B> {
    if response.headers().contains_key(header::CONTENT_ENCODING) {
        let etag = response.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
        let weak = etag.filter(|etag| etag.starts_with('"')).and_then(|etag| format!("W/{etag}").parse().ok());
        if let Some(weak) = weak {
            response.headers_mut().insert(header::ETAG, weak);
        }
    }
    response
}

/// `Cache-Control` of tiles: `private` if the server needs API keys, so that shared caches do not serve clients without one.
pub(super) fn cache_control(max_age: Duration, needs_key: bool) -> String {
    let scope = if needs_key { "private" } else { "public" };
    format!("{scope}, max-age={}, must-revalidate", max_age.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_is_a_list_of_tags() {
        let known = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, value.parse().unwrap());
            is_known(&headers, "\"abc\"")
        };
        assert!(known("\"abc\"") && known("\"x\", W/\"abc\"") && known("*"));
        assert!(!known("abc") && !known("\"abcd\"") && !is_known(&HeaderMap::new(), "\"abc\""));
    }
}
