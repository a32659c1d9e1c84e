//! The base URL under which the client reaches this server, for the absolute URLs in TileJSON.

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

/// Scheme, host and path prefix, without a trailing slash.
pub(super) struct BaseUrl(pub String);

impl<S: Send + Sync> FromRequestParts<S> for BaseUrl {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(base_url(parts)))
    }
}

fn base_url(parts: &Parts) -> String {
    let header = |name: &str| {
        let value = parts.headers.get(name)?.to_str().ok()?;
        // Each proxy appends to these headers, so the first value is the one the client used.
        Some(value.split(',').next()?.trim()).filter(|value| !value.is_empty())
    };
    let scheme = header("x-forwarded-proto").filter(|scheme| matches!(*scheme, "http" | "https")).unwrap_or("http");
    let host = header("x-forwarded-host").or_else(|| header(header::HOST.as_str())).filter(|host| is_host(host));
    let host = host.or_else(|| parts.uri.authority().map(|authority| authority.as_str())).unwrap_or("localhost");
    let prefix = header("x-forwarded-prefix").filter(|prefix| is_prefix(prefix)).unwrap_or_default();
    format!("{scheme}://{host}{}", prefix.trim_end_matches('/'))
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
