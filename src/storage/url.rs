//! Addresses of remote files: checked, resolved against each other (RFC 3986), and displayed without their secrets.

use std::fmt;
use std::sync::Arc;

use ureq::http::Uri;

use super::RemoteError;
use super::object_stores::StoreKind;

/// Longest address accepted; servers and proxies rarely accept more.
const MAX_LEN: usize = 8192;

/// An `http` or `https` address with a host.
///
/// [`fmt::Display`] and [`fmt::Debug`] leave out the query, which may hold a signature or a token.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RemoteUrl {
    uri: Arc<Uri>,
    store: StoreKind,
}

impl RemoteUrl {
    /// Checks an address. A fragment is dropped; characters that must be percent-encoded (RFC 3986, 2.1) are.
    ///
    /// # Errors
    /// [`RemoteError::BadUrl`].
    pub fn parse(text: &str) -> Result<Self, RemoteError> {
        let bad = |needed: &'static str| RemoteError::bad_url(text, needed);
        if text.len() > MAX_LEN {
            return Err(bad("at most 8192 characters are needed"));
        }
        let uri: Uri = percent_encoded(text.trim())
            .parse()
            .map_err(|_| bad("an address such as https://example.org/image.tif is needed"))?;
        let authority = uri.authority().ok_or_else(|| bad("an http or https address with a host is needed"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || authority.host().is_empty() {
            return Err(bad("an http or https address with a host is needed"));
        }
        if authority.as_str().contains('@') {
            return Err(bad("an address without a user name and password is needed"));
        }
        Ok(Self { uri: Arc::new(uri), store: StoreKind::None })
    }

    /// Its host, as written; IPv6 addresses in brackets.
    pub fn host(&self) -> &str {
        self.uri.host().unwrap_or_default()
    }

    /// Its host, with the port if one is given.
    pub fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &str {
        self.uri.scheme_str().unwrap_or_default()
    }

    /// Its path, which starts with a slash.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// Its query, without the question mark.
    pub fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    /// The last part of its path, or its host if the path is empty; for titles.
    pub fn file_name(&self) -> &str {
        let last = self.path().rsplit('/').find(|part| !part.is_empty());
        last.unwrap_or(self.host())
    }

    /// The whole address with its secrets: for requests and for storage, never for messages.
    pub fn secret(&self) -> String {
        self.uri.to_string()
    }

    /// The same address, marked as lying in a store.
    pub(super) fn in_store(self, store: StoreKind) -> Self {
        Self { store, ..self }
    }

    /// Resolves `reference` in a document at this address; on the same host it lies in the same store.
    ///
    /// # Errors
    /// [`RemoteError::BadUrl`].
    pub(crate) fn join_beside(&self, reference: &str) -> Result<Self, RemoteError> {
        let joined = self.join(reference)?;
        let is_beside = (joined.scheme(), joined.authority()) == (self.scheme(), self.authority());
        Ok(if is_beside { joined.in_store(self.store) } else { joined })
    }

    /// The store it lies in.
    pub(super) fn store(&self) -> StoreKind {
        self.store
    }

    /// The address as requests take it.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Resolves `reference` against this address.
    ///
    /// # Errors
    /// [`RemoteError::BadUrl`].
    pub fn join(&self, reference: &str) -> Result<Self, RemoteError> {
        let reference = reference.split('#').next().unwrap_or_default().trim();
        let (scheme, authority) = (self.scheme(), self.authority());
        if has_scheme(reference) {
            return Self::parse(reference);
        }
        if let Some(rest) = reference.strip_prefix("//") {
            return Self::parse(&format!("{scheme}://{rest}"));
        }
        let (path, query) = match reference.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (reference, None),
        };
        let query = if path.is_empty() { query.or(self.query()) } else { query };
        let path = match path {
            "" => self.path().to_owned(),
            path if path.starts_with('/') => without_dots(path),
            path => {
                let directory = self.path().rfind('/').map_or("/", |slash| &self.path()[..=slash]);
                without_dots(&format!("{directory}{path}"))
            }
        };
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        Self::parse(&format!("{scheme}://{authority}{path}{query}"))
    }
}

/// An address with what cannot stand in its path and query percent-encoded in UTF-8. What is encoded already stays.
fn percent_encoded(text: &str) -> String {
    let host = text.find("://").map_or(0, |at| at + 3);
    let path = text[host..].find(['/', '?']).map_or(text.len(), |at| host + at);
    let mut encoded = text[..path].to_owned();
    for c in text[path..].chars() {
        if c.is_ascii() && !r#" "<>\^`{|}"#.contains(c) {
            encoded.push(c);
        } else {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| encoded += &format!("%{byte:02X}"));
        }
    }
    encoded
}

/// True if a reference has a scheme (RFC 3986, 3.1), such as `https:` or `mailto:`.
fn has_scheme(reference: &str) -> bool {
    let Some((scheme, _)) = reference.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

/// An absolute path without `.` and `..` (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            part => kept.push(part),
        }
    }
    format!("/{}", kept.join("/"))
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.path())?;
        if self.query().is_some() { f.write_str("?…") } else { Ok(()) }
    }
}

impl fmt::Debug for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> RemoteUrl {
        RemoteUrl::parse(text).expect("an address")
    }

    #[test]
    fn an_address_is_shown_without_its_query() {
        let signed = url("https://a.org/b/c.tif?sig=topsecret#part");
        assert_eq!(signed.to_string(), "https://a.org/b/c.tif?…");
        assert_eq!(format!("{signed:?}"), "https://a.org/b/c.tif?…");
        assert_eq!(signed.secret(), "https://a.org/b/c.tif?sig=topsecret");
        assert_eq!(signed.file_name(), "c.tif");
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_its_secrets() {
        for text in [
            "",
            "a.tif",
            "/a.tif",
            "file:///etc/passwd",
            "ftp://a.org/b",
            "https://",
            "https:///b",
            "https://user:topsecret@a.org/b?sig=topsecret",
            "https://a.org/with\u{7}bell?sig=topsecret",
            "https://exa mple.org/?sig=topsecret",
            "https://müller.example/?sig=topsecret",
            "javascript:alert(1)",
        ] {
            let error = RemoteUrl::parse(text).expect_err(text).to_string();
            assert!(!error.contains("topsecret"), "{error}");
        }
        assert!(RemoteUrl::parse(&format!("https://a.org/{}", "x".repeat(MAX_LEN))).is_err());
    }

    #[test]
    fn what_must_be_percent_encoded_is() {
        for (text, wanted) in [
            ("https://a.org/größe/ß b.tif?q=ä|c", "https://a.org/gr%C3%B6%C3%9Fe/%C3%9F%20b.tif?q=%C3%A4%7Cc"),
            ("https://a.org/gr%C3%B6%C3%9Fe.tif", "https://a.org/gr%C3%B6%C3%9Fe.tif"),
            ("https://a.org?q=日本", "https://a.org/?q=%E6%97%A5%E6%9C%AC"),
        ] {
            assert_eq!(url(text).secret(), wanted, "{text}");
        }
        let item = url("https://a.org/items/é/1.json");
        assert_eq!(
            item.join("./Bänder/B 04.tif").expect("a reference").secret(),
            "https://a.org/items/%C3%A9/B%C3%A4nder/B%2004.tif"
        );
    }

    #[test]
    fn references_are_resolved_as_rfc_3986_says() {
        let base = url("http://a/b/c/d;p?q");
        // The examples of section 5.4 that stay on http.
        for (reference, wanted) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("g#s", "http://a/b/c/g"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../../g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("./g/.", "http://a/b/c/g/"),
            ("g/../h", "http://a/b/c/h"),
            ("https://other/x", "https://other/x"),
        ] {
            assert_eq!(base.join(reference).expect(reference).secret(), wanted, "{reference}");
        }
        assert!(base.join("file:///etc/passwd").is_err());
        assert!(base.join("mailto:a@b").is_err());
    }
}
