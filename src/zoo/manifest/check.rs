//! Checks that the parts of a manifest share.

use super::document::ManifestError;

const MAX_ID_LEN: usize = 64;
/// Longest free text, in bytes.
pub(super) const MAX_TEXT_LEN: usize = 1000;

/// The error of a field that has a value it cannot have.
pub(super) fn field(field: impl Into<String>, found: impl ToString, needed: impl Into<String>) -> ManifestError {
    ManifestError::Field { field: field.into(), found: found.to_string(), needed: needed.into() }
}

/// Checks a field.
///
/// # Errors
/// [`ManifestError::Field`] unless `ok`.
pub(super) fn check(
    ok: bool,
    name: impl Into<String>,
    found: impl ToString,
    needed: impl Into<String>,
) -> Result<(), ManifestError> {
    if ok { Ok(()) } else { Err(field(name, found, needed)) }
}

/// Checks that a name is safe as a URL segment and as a file name.
///
/// # Errors
/// [`ManifestError::Field`] if it is not.
pub(super) fn check_name(at: &str, name: &str) -> Result<(), ManifestError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let ok = (1..=MAX_ID_LEN).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with('.');
    check(ok, at, format!("{name:?}"), format!("1 to {MAX_ID_LEN} of A-Z a-z 0-9 _ . -, not starting with a dot"))
}
