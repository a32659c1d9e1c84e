//! `Range` and `If-Range` (RFC 9110, section 14): the part of a stored body that a client asks for.

use std::io;
use std::ops::RangeInclusive;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::Stream;

use super::error::Problem;
use super::problem_kind::ProblemKind;

/// What of a body to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BodyPart {
    /// All of it (200).
    Whole,
    /// The first to the last of these bytes (206).
    Bytes(RangeInclusive<u64>),
    /// Nothing, since the range begins behind the end (416).
    Unsatisfiable,
}

/// The part of a body of `len` bytes that a request wants. `etag` is the body's strong ETag.
///
/// A header that is malformed, of another unit or of several ranges is ignored, which RFC 9110, 14.2 allows.
pub(super) fn wanted(method: &Method, headers: &HeaderMap, len: u64, etag: &str) -> BodyPart {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = text(header::RANGE).filter(|_| method == Method::GET) else { return BodyPart::Whole };
    // A date or another tag means that the client holds parts of another body.
    let is_same = headers.get(header::IF_RANGE).is_none_or(|tag| tag.as_bytes() == etag.as_bytes());
    match parse(range).filter(|_| is_same) {
        None => BodyPart::Whole,
        Some(Spec::From(first, _)) if first >= len => BodyPart::Unsatisfiable,
        Some(Spec::Last(0)) => BodyPart::Unsatisfiable,
        Some(Spec::Last(_)) if len == 0 => BodyPart::Unsatisfiable,
        Some(Spec::From(first, last)) => BodyPart::Bytes(first..=last.min(len - 1)),
        Some(Spec::Last(count)) => BodyPart::Bytes(len.saturating_sub(count)..=len - 1),
    }
}

/// A response with a part of a body of `bytes` bytes. `read` gives, from a position on, a stream of so many bytes, which are read while
/// they are sent.
///
/// # Errors
/// Those of `read`.
pub(super) fn send<S: Stream<Item = io::Result<Bytes>> + Send + 'static>(
    bytes: u64,
    part: BodyPart,
    read: impl FnOnce(u64, u64) -> Result<S, Problem>,
) -> Result<Response, Problem> {
    let (status, first, length) = match part {
        BodyPart::Whole => (StatusCode::OK, 0, bytes),
        BodyPart::Bytes(range) => (StatusCode::PARTIAL_CONTENT, *range.start(), range.end() - range.start() + 1),
        BodyPart::Unsatisfiable => {
            let detail = format!("Range: found one that begins behind the end of the {bytes} bytes of the result");
            let problem = Problem { kind: ProblemKind::UnsatisfiableRange, detail, retry_after: None };
            return Ok(([(header::CONTENT_RANGE, format!("bytes */{bytes}"))], problem).into_response());
        }
    };
    let mut response = (status, Body::from_stream(read(first, length)?)).into_response();
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {first}-{}/{bytes}", first + length - 1);
        response.headers_mut().insert(header::CONTENT_RANGE, range.parse().map_err(Problem::internal)?);
    }
    Ok(response)
}

/// One range as it is written.
enum Spec {
    /// The positions of the first and the last byte.
    From(u64, u64),
    /// So many bytes at the end.
    Last(u64),
}

fn parse(range: &str) -> Option<Spec> {
    let (unit, spec) = range.split_once('=')?;
    let (first, last) = spec.trim().split_once('-').filter(|_| unit.trim().eq_ignore_ascii_case("bytes"))?;
    match (first, last) {
        ("", count) => Some(Spec::Last(number(count)?)),
        (first, "") => Some(Spec::From(number(first)?, u64::MAX)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::From(first, last))
        }
    }
}

/// Digits only; a number beyond 64 bits is the largest there is.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(pairs: &[(header::HeaderName, &str)], len: u64) -> BodyPart {
        let headers = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        wanted(&Method::GET, &headers, len, "\"abc\"")
    }

    #[test]
    fn a_range_is_read_as_rfc_9110_says() {
        for (range, wanted) in [
            ("bytes=0-0", BodyPart::Bytes(0..=0)),
            ("bytes=2-5", BodyPart::Bytes(2..=5)),
            ("Bytes=2-", BodyPart::Bytes(2..=9)),
            ("bytes=8-99999999999999999999", BodyPart::Bytes(8..=9)),
            ("bytes=-3", BodyPart::Bytes(7..=9)),
            ("bytes=-30", BodyPart::Bytes(0..=9)),
            ("bytes=10-", BodyPart::Unsatisfiable),
            ("bytes=-0", BodyPart::Unsatisfiable),
            ("bytes=5-2", BodyPart::Whole),
            ("bytes=0-1,3-4", BodyPart::Whole),
            ("bytes=+1-2", BodyPart::Whole),
            ("rows=0-1", BodyPart::Whole),
            ("bytes", BodyPart::Whole),
        ] {
            assert_eq!(part(&[(header::RANGE, range)], 10), wanted, "{range}");
        }
        assert_eq!(part(&[(header::RANGE, "bytes=-3")], 0), BodyPart::Unsatisfiable);
        assert_eq!(part(&[], 10), BodyPart::Whole);
    }

    #[test]
    fn a_part_of_another_body_is_not_completed() {
        let range = (header::RANGE, "bytes=2-5");
        assert_eq!(part(&[range.clone(), (header::IF_RANGE, "\"abc\"")], 10), BodyPart::Bytes(2..=5));
        for other in ["\"abd\"", "W/\"abc\"", "Sat, 01 Jun 2024 10:40:21 GMT"] {
            assert_eq!(part(&[range.clone(), (header::IF_RANGE, other)], 10), BodyPart::Whole, "{other}");
        }
    }
}
