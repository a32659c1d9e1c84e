//! Which responses are compressed.

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
        let essence = media_type.split(';').next().unwrap_or_default();
        let is_text = essence.starts_with("text/")
            || essence.ends_with("json")
            || essence.ends_with("javascript")
            || matches!(essence, "image/svg+xml" | "application/vnd.mapbox-vector-tile");
        // A streamed body has no size hint; its size is in Content-Length.
        let declared = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let bytes: u64 = declared.unwrap_or_else(|| response.body().size_hint().lower());
        is_text && bytes >= LEAST_COMPRESSED_BYTES
    }
}
