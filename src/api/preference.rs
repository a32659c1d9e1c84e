//! `Prefer: respond-async` (RFC 7240), by which a client asks for a background job.

use axum::http::{HeaderMap, HeaderName};

/// The client's preferences (RFC 7240).
pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The preferences that were honoured (RFC 7240).
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// The preference for a background job over a synchronous response.
pub(super) const RESPOND_ASYNC: &str = "respond-async";

/// True if the request has `Prefer: respond-async`.
pub(super) fn is_respond_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut names = values.flat_map(|value| value.split(',')).map(|preference| preference.split(';').next().unwrap_or(""));
    names.any(|name| name.trim().eq_ignore_ascii_case(RESPOND_ASYNC))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_preference_is_read_as_rfc_7240_says() {
        let prefers = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(PREFER, HeaderValue::from_static(value));
            }
            is_respond_async(&headers)
        };
        for values in [&["respond-async"][..], &["Respond-Async, wait=10"], &["wait=10", "return=minimal, respond-async"]] {
            assert!(prefers(values), "{values:?}");
        }
        for values in [&[][..], &["wait=10"], &["respond-asynchronously"], &["foo=respond-async"]] {
            assert!(!prefers(values), "{values:?}");
        }
    }
}
