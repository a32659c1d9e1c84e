//! Which responses are compressed, and which requests may get a compressed one.

use axum::http::header;
use tower_http::compression::predicate::Predicate;

/// Compresses text only: images are compressed already, and compressing arrays and tensors takes longer than it saves.
#[derive(Clone, Copy)]
pub(super) struct IsText;

/// A smaller body fits into one network packet, compressed or not.
const LEAST_COMPRESSED_BYTES: u64 = 1024;

impl Predicate for IsText {
    fn should_compress<B: axum::body::HttpBody>(&self, response: &axum::http::Response<B>) -> bool {
        let media_type =
            response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        // A streamed body has no size hint; its size is in Content-Length.
        let declared = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes: u64 = declared.unwrap_or_else(|| response.body().size_hint().lower());
        is_text(media_type) && bytes >= LEAST_COMPRESSED_BYTES
    }
}

/// True if bodies of this media type are compressed for clients that take it.
pub(super) fn is_text(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default();
    essence.starts_with("text/")
        || essence.ends_with("json")
        || essence.ends_with("javascript")
        || matches!(essence, "image/svg+xml" | "application/vnd.mapbox-vector-tile")
}

/// Lets a response go out uncompressed even where `Accept-Encoding` rules that out. The compression layer would turn it into 406
/// after the work is done, a source registered, a job started; RFC 9110, 12.5.3 lets a server send it as it is.
pub(super) fn take_identity<B>(mut request: axum::http::Request<B>) -> axum::http::Request<B> {
    let values = request.headers().get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let codings: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    let kept: Vec<&str> = codings.iter().copied().filter(|coding| !rules_out_identity(coding)).collect();
    let replacement = (kept.len() < codings.len()).then(|| kept.join(", ").parse());
    if let Some(Ok(value)) = replacement {
        request.headers_mut().insert(header::ACCEPT_ENCODING, value);
    }
    request
}

/// True for `identity;q=0` and `*;q=0`.
fn rules_out_identity(coding: &str) -> bool {
    let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
    let is_zero = weight.trim().to_ascii_lowercase().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0));
    is_zero && matches!(name.trim().to_ascii_lowercase().as_str(), "identity" | "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ban_on_plain_bodies_is_taken_out() {
        let taken = |value: &str| {
            let request = axum::http::Request::builder().header(header::ACCEPT_ENCODING, value).body(()).unwrap();
            let request = take_identity(request);
            request.headers()[header::ACCEPT_ENCODING].to_str().unwrap().to_owned()
        };
        assert_eq!(taken("identity;q=0"), "");
        assert_eq!(taken("gzip, Identity; q=0.000"), "gzip");
        assert_eq!(taken("gzip;q=0, *;q=0"), "gzip;q=0");
        for kept in ["gzip, br", "gzip;q=0.5, identity;q=0.1", "*", "br;q=0"] {
            assert_eq!(taken(kept), kept);
        }
    }
}
