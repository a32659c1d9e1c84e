//! Where area jobs over HTTP may put their results: below one place that the operator names.

use super::error::Problem;
use crate::areas::is_of_results;

/// Most characters of a name.
const MAX_NAME: usize = 200;

/// The place below which clients may name destinations.
#[derive(Clone, Debug)]
pub(super) struct Results {
    root: Option<String>,
}

impl Results {
    /// Below a folder or a prefix of a bucket; nowhere if it is `None`.
    pub(super) fn below(root: Option<String>) -> Self {
        Self { root }
    }

    /// The place of the name that a client gives.
    ///
    /// # Errors
    /// If this server has no such place, or the name could lead out of it.
    pub(super) fn place(&self, name: &str) -> Result<String, Problem> {
        let Some(root) = &self.root else {
            let detail = "destination: this server keeps results of its jobs itself, so leave it out; its operator can name a place with \
                          --result-root, and `satlas-serve run` writes to a folder or a bucket";
            return Err(Problem::invalid(detail));
        };
        if !is_plain(name) {
            let needed = format!(
                "a name such as water/2024 of at most {MAX_NAME} characters is needed: letters, digits, _, - and . between slashes, none of \
                 them first"
            );
            return Err(Problem::invalid(format!("destination: found {name:?}; {needed}")));
        }
        if let Some(part) = name.split('/').skip(1).find(|part| is_of_results(part)) {
            let detail =
                format!("destination: found {name:?}; results have a file or folder {part}, so another name is needed");
            return Err(Problem::invalid(detail));
        }
        Ok(format!("{}/{name}", root.trim_end_matches('/')))
    }

    /// True if a place is one that [`place`](Self::place) gives: this server can read it if it sees the place at all.
    pub(super) fn has(&self, place: &str) -> bool {
        let root = self.root.as_deref().map(|root| root.trim_end_matches('/'));
        let name = root.and_then(|root| place.strip_prefix(root)?.strip_prefix('/'));
        name.is_some_and(is_plain)
    }
}

/// True if a name leads nowhere but below what it is a name in: letters, digits, `_`, `-` and `.` between slashes, none of them first.
pub(super) fn is_plain(name: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(letters);
    name.len() <= MAX_NAME && name.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_below_the_root() {
        let results = Results::below(Some("s3://bucket/results/".to_owned()));
        assert_eq!(results.place("water/2024-06").unwrap(), "s3://bucket/results/water/2024-06");
        for name in ["", "/etc", "..", "a/../b", "a//b", ".hidden", "a b", "s3://other", "a\\b", &"a".repeat(201)] {
            assert!(results.place(name).unwrap_err().detail.contains("a name such as"), "{name}");
        }
        for name in ["water/items/block-0000000-0000000.json", "water/collection.json", "a/rasters", "a/b/features/c"] {
            assert!(results.place(name).unwrap_err().detail.contains("results have a file or folder"), "{name}");
        }
        assert!(results.place("items/2024").is_ok());
        for (place, is_there) in [
            ("s3://bucket/results/water/2024-06", true),
            ("s3://bucket/results", false),
            ("s3://bucket/results-of-others/water", false),
            ("s3://bucket/results/../others", false),
            ("/bucket/results/water", false),
        ] {
            assert_eq!(results.has(place), is_there, "{place}");
        }
        assert!(!Results::below(None).has("/water"));
        assert!(Results::below(None).place("water").unwrap_err().detail.contains("--result-root"));
    }
}
