//! Which hosts may be fetched from.

use super::{RemoteError, RemoteUrl};

/// The hosts that the operator allows; none by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemotePolicy {
    /// Host names: one (`tiles.example.org`), all its subdomains (`*.example.org`), or any (`*`). Ports are ignored.
    pub hosts: Vec<String>,
    /// Allows hosts in private networks and on this machine; see [`is_private`](super::is_private).
    pub allow_private: bool,
}

impl RemotePolicy {
    /// Whether a host is on the list.
    pub fn allows(&self, host: &str) -> bool {
        let host = plain(host);
        self.hosts.iter().map(|pattern| plain(pattern)).any(|pattern| match pattern.strip_prefix('*') {
            Some("") => true,
            Some(below) => below.starts_with('.') && host.ends_with(below) && host.len() > below.len(),
            None => pattern == host,
        })
    }

    /// Checks the host of an address, whatever it resolves to.
    ///
    /// # Errors
    /// [`RemoteError::HostNotAllowed`].
    pub(crate) fn check(&self, url: &RemoteUrl) -> Result<(), RemoteError> {
        let host = url.host();
        if self.allows(host) { Ok(()) } else { Err(RemoteError::HostNotAllowed { host: host.to_owned() }) }
    }
}

/// A host name in the form that is compared: lower case, no final dot, no brackets around addresses.
fn plain(host: &str) -> String {
    let host = host.trim().trim_start_matches('[').trim_end_matches(']');
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(pattern: &str, host: &str) -> bool {
        RemotePolicy { hosts: vec![pattern.to_owned()], allow_private: false }.allows(host)
    }

    #[test]
    fn a_host_is_allowed_by_name_by_domain_or_by_a_star() {
        for (pattern, host) in [
            ("example.org", "example.org"),
            ("example.org", "EXAMPLE.org."),
            ("Example.org", "example.org"),
            ("*.example.org", "a.example.org"),
            ("*.example.org", "b.a.example.org"),
            ("*", "anything.net"),
            ("::1", "[::1]"),
        ] {
            assert!(allows(pattern, host), "{pattern} {host}");
        }
    }

    #[test]
    fn a_host_that_only_looks_alike_is_not_allowed() {
        for (pattern, host) in [
            ("example.org", "example.org.evil.net"),
            ("example.org", "notexample.org"),
            ("example.org", "a.example.org"),
            ("*.example.org", "example.org"),
            ("*.example.org", "notexample.org"),
            ("*example.org", "notexample.org"),
            ("*.example.org", ".example.org"),
            ("", "example.org"),
        ] {
            assert!(!allows(pattern, host), "{pattern} {host}");
        }
        assert!(!RemotePolicy::default().allows("example.org"));
    }
}
