//! Response headers that say which part of a file came, and when to ask again.

use std::time::Duration;

use ureq::http::{HeaderMap, header};

/// `Content-Range: bytes FIRST-LAST/TOTAL` as start, end (exclusive), and total size if given.
pub(crate) fn content_range(headers: &HeaderMap) -> Option<(u64, u64, Option<u64>)> {
    let (unit, rest) = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.trim().split_once(' ')?;
    let (range, total) = rest.split_once('/').filter(|_| unit.eq_ignore_ascii_case("bytes"))?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let end = last.checked_add(1).filter(|end| first < *end)?;
    Some((first, end, total.trim().parse().ok()))
}

/// `Retry-After` in seconds; dates are not read.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
