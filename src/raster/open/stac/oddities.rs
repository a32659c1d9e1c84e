//! What is odd about the items of a document or a search: a warning for those that are used, or the error if none is left.

use crate::raster::error::RasterError;

/// Oddities that a warning names, and characters of each.
const SHOWN: usize = 3;
const SHOWN_CHARS: usize = 300;

/// Items that were left out, and other oddities.
#[derive(Debug, Default)]
pub(super) struct Oddities {
    found: Vec<String>,
    /// Why the first item was left out.
    first: Option<RasterError>,
}

impl Oddities {
    /// Those that a document's reader found.
    pub(super) fn new(found: Vec<String>) -> Self {
        Self { found, first: None }
    }

    /// Records more of them.
    pub(super) fn extend(&mut self, found: impl IntoIterator<Item = String>) {
        self.found.extend(found);
    }

    /// Records that an item cannot be used.
    ///
    /// # Errors
    /// `error` itself if it is a failure that may pass: without the item, the answer would change when the host is well again.
    pub(super) fn leave_out(&mut self, item: &str, error: RasterError) -> Result<(), RasterError> {
        if !error.is_lasting() {
            return Err(error);
        }
        tracing::warn!(item, %error, "an item is left out");
        self.found.push(format!("item {item} is left out: {error}"));
        self.first.get_or_insert(error);
        Ok(())
    }

    /// The error if no item is left.
    pub(super) fn into_error(self) -> RasterError {
        self.first.unwrap_or(RasterError::NoSuchPart { what: "item", index: 0, count: 0 })
    }

    /// A warning for those who see the items of `name`; `None` if nothing is odd.
    pub(super) fn warning(&self, name: &str) -> Option<String> {
        let shown = self.found.iter().take(SHOWN).map(|oddity| oddity.chars().take(SHOWN_CHARS).collect::<String>());
        let shown = shown.collect::<Vec<_>>().join("; ");
        match self.found.len() {
            0 => None,
            count if count > SHOWN => Some(format!("Of {name}, {shown}; and {} more.", count - SHOWN)),
            _ => Some(format!("Of {name}, {shown}.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{RemoteError, RemoteUrl};

    fn status(status: u16) -> RasterError {
        let url = RemoteUrl::parse("https://a.org/b.tif").expect("an address");
        RasterError::from(RemoteError::Status { url, status })
    }

    #[test]
    fn what_may_pass_is_an_error_and_what_lasts_a_warning() {
        let mut oddities = Oddities::default();
        for passing in [429, 500, 503] {
            assert!(oddities.leave_out("a", status(passing)).is_err(), "{passing}");
        }
        assert_eq!(oddities.warning("x"), None);
        for item in ["a", "b", "c", "d", "e"] {
            oddities.leave_out(item, status(404)).expect("it lasts");
        }
        let warning = oddities.warning("x").expect("a warning");
        assert!(warning.starts_with("Of x, item a is left out: https://a.org/b.tif was answered with 404"), "{warning}");
        assert!(warning.ends_with("; and 2 more."), "{warning}");
        assert!(oddities.into_error().to_string().contains("404"));
    }
}
