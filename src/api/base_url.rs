//! The address under which the client reaches this server: all of it for the absolute URLs in TileJSON, its path for the links in
//! other responses.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

/// Scheme, host and path prefix, without a trailing slash.
pub(super) struct BaseUrl(pub String);

impl<S: Send + Sync> FromRequestParts<S> for BaseUrl {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(base_url(parts)))
    }
}

/// The path under which a proxy serves this server, such as `/satlas`; empty without one. Every path in a response begins with it.
#[derive(Clone, Debug, Default)]
pub(super) struct PathPrefix(pub String);

impl PathPrefix {
    /// The prefix in the headers of a request.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let prefix = first(headers, "x-forwarded-prefix").filter(|prefix| is_prefix(prefix)).unwrap_or_default();
        Self(prefix.trim_end_matches('/').to_owned())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathPrefix {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

/// The first value of a header; each proxy appends to these headers, so it is the one that the client used.
fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.split(',').next()?.trim()).filter(|value| !value.is_empty())
}

fn base_url(parts: &Parts) -> String {
    let header = |name: &str| first(&parts.headers, name);
    let scheme = header("x-forwarded-proto").filter(|scheme| matches!(*scheme, "http" | "https")).unwrap_or("http");
    let host = header("x-forwarded-host").or_else(|| header(header::HOST.as_str())).filter(|host| is_host(host));
    let host = host.or_else(|| parts.uri.authority().map(|authority| authority.as_str())).unwrap_or("localhost");
    let PathPrefix(prefix) = PathPrefix::of(&parts.headers);
    format!("{scheme}://{host}{prefix}")
}

/// True for names, IPv4 and bracketed IPv6 addresses, with or without a port: no character that could end the host part of a URL.
fn is_host(host: &str) -> bool {
    host.len() <= 255 && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-_:[]".contains(c))
}

fn is_prefix(prefix: &str) -> bool {
    prefix.starts_with('/')
        && !prefix.starts_with("//")
        && prefix.chars().all(|c| c.is_ascii_alphanumeric() || "/.-_~".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(headers: &[(&str, &str)]) -> String {
        let mut request = axum::http::Request::builder().uri("/v1/models");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        base_url(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_proxys_headers_come_first() {
        assert_eq!(base(&[("host", "127.0.0.1:8080")]), "http://127.0.0.1:8080");
        let proxied = [
            ("host", "backend:8080"),
            ("x-forwarded-host", "maps.example.org, inner"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/satlas/"),
        ];
        assert_eq!(base(&proxied), "https://maps.example.org/satlas");
        assert_eq!(base(&[("host", "[::1]:8080")]), "http://[::1]:8080");
    }

    #[test]
    fn headers_that_are_no_address_are_left_out() {
        assert_eq!(base(&[]), "http://localhost");
        assert_eq!(base(&[("host", "a/b?c"), ("x-forwarded-proto", "javascript")]), "http://localhost");
        assert_eq!(base(&[("host", "a"), ("x-forwarded-prefix", "//evil.example")]), "http://a");
    }
}
