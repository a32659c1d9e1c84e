//! Ids of sources.

use crate::engine::error::EngineError;

/// Longest id of a source.
pub(super) const MAX_ID: usize = 64;

/// The id of an upload that was given none. The same bytes with another number of captures are another source.
pub(super) fn content_id(bytes: &[u8], images: Option<usize>) -> String {
    let hash = blake3::hash(bytes).to_hex();
    match images.filter(|images| *images > 1) {
        None => hash[..16].to_owned(),
        Some(images) => format!("{}-{images}", &hash[..16]),
    }
}

pub(in crate::engine) fn check_id(id: &str) -> Result<(), EngineError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if id.is_empty() || id.len() > MAX_ID || id.starts_with('.') || !id.chars().all(fits) {
        return Err(EngineError::Invalid {
            detail: format!(
                "{id:?} is not an id: needed are 1 to {MAX_ID} letters, digits, '_', '-' or '.', not starting with '.'"
            ),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_words() {
        for id in ["", ".", "..", ".hidden", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
        assert!(check_id("scene_2024-06-01.tif").is_ok());
    }
}
