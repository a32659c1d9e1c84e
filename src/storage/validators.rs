//! Validators (RFC 9110, 8.8), which tell one version of a file from another where a host sends them.

use ureq::http::{HeaderMap, header};

/// The validators of one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Validators {
    etag: Option<String>,
    modified: Option<String>,
}

impl Validators {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let etag: Option<String> = text(header::ETAG);
        // Servers behind one name may differ in whether they mark it as weak.
        Self { etag: etag.map(|etag| etag.trim_start_matches("W/").to_owned()), modified: text(header::LAST_MODIFIED) }
    }

    /// True if nothing both have in common says that the file is the same, and something says that it is another. Machines behind
    /// one name often differ in one of the two: their tags are made of the place on disk, or their clocks and copies differ.
    pub(super) fn contradict(&self, other: &Self) -> bool {
        let compare = |a: &Option<String>, b: &Option<String>| Some(a.as_ref()? == b.as_ref()?);
        let verdicts = [compare(&self.etag, &other.etag), compare(&self.modified, &other.modified)];
        verdicts.contains(&Some(false)) && !verdicts.contains(&Some(true))
    }

    /// Text that changes with them.
    pub(super) fn identity(&self) -> String {
        format!("{:?} {:?}", self.etag, self.modified)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validators_contradict_others_only_where_none_agrees() {
        let both = |etag: Option<&str>, modified: Option<&str>| Validators {
            etag: etag.map(str::to_owned),
            modified: modified.map(str::to_owned),
        };
        assert!(both(Some("a"), None).contradict(&both(Some("b"), None)));
        assert!(both(Some("a"), Some("x")).contradict(&both(Some("b"), Some("y"))));
        assert!(!both(Some("a"), Some("x")).contradict(&both(Some("a"), Some("y"))));
        assert!(!both(Some("a"), Some("x")).contradict(&both(Some("b"), Some("x"))));
        assert!(!both(Some("a"), None).contradict(&both(None, Some("y"))));
        assert!(both(None, Some("x")).contradict(&both(None, Some("y"))));
        assert!(!both(None, None).contradict(&both(Some("a"), Some("x"))));
    }
}
