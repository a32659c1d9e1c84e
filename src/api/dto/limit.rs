//! The `limit` of lists.

use crate::api::error::Problem;

/// Default of `limit`.
const DEFAULT_LIMIT: usize = 100;
/// Maximum of `limit`.
const MAX_LIMIT: usize = 1000;

/// The wanted number of entries, or the default.
///
/// # Errors
/// If the text is not a number from 1 to [`MAX_LIMIT`].
pub(super) fn parse(text: Option<&str>) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(DEFAULT_LIMIT) };
    let limit = text.parse::<usize>().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| Problem::parameter("limit", text, format!("a number from 1 to {MAX_LIMIT}")))
}
