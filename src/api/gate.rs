//! Who may ask: the host that a request names, the proxies that speak for clients, and web pages that want to change something.
//!
//! A page of any web site can make a visitor's browser send requests to a server that only the visitor reaches. The browser says
//! which site the page is from (`Origin`), which is checked before anything is changed. A site can also let its own name point to
//! this machine (DNS rebinding), so that its page counts as this server's; hence a server that listens on this machine alone answers
//! to names of this machine alone.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::uri::Authority;

use super::error::Problem;
use super::problem_kind::ProblemKind;
use super::state::ApiOptions;

/// The address that a request came from, as an extension that the server adds.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// Headers in which a proxy says what the client asked it.
static FORWARDED: [HeaderName; 5] = [
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-proto"),
];

/// Takes from a request what only a trusted proxy may say. A request without a peer was made in this process.
pub(super) fn drop_untrusted(request: &mut Request, options: &ApiOptions) {
    if peer(request).is_some_and(|peer| !is_proxy(peer, options)) {
        FORWARDED.iter().for_each(|name| drop(request.headers_mut().remove(name)));
    }
}

/// Refuses requests that name another host than this machine, where the server listens on it alone, and changes by web pages that
/// are not this server's and that `--cors` does not name.
///
/// # Errors
/// 403, with what would let the request in.
pub(super) fn check(request: &Request, options: &ApiOptions) -> Result<(), Problem> {
    let host = host(request);
    let is_direct = peer(request).is_some_and(|peer| !is_proxy(peer, options));
    if let Some(host) = host.as_ref().filter(|host| options.is_local && is_direct && !is_this_machine(host.host())) {
        return Err(refused(format!(
            "found the host {host}; this server listens on this machine alone and has to be asked as localhost or 127.0.0.1, or \
             by a proxy that --trusted-proxy names"
        )));
    }
    if !request.method().is_safe()
        && let Some(origin) = request.headers().get(header::ORIGIN)
    {
        let origin = String::from_utf8_lossy(origin.as_bytes());
        let is_own = host.is_some_and(|host| is_origin_of(&origin, &host, request.headers()));
        if !is_own && !options.cors.as_ref().is_some_and(|allowed| allowed.iter().any(|one| one == "*" || *one == origin)) {
            let shown: String = origin.chars().take(200).collect();
            return Err(refused(format!(
                "pages of {shown} may look, but change nothing here; the server has to be started with --cors {shown}"
            )));
        }
    }
    Ok(())
}

fn refused(detail: String) -> Problem {
    Problem { kind: ProblemKind::Forbidden, detail, retry_after: None }
}

/// The address that a request came from.
pub(super) fn peer(request: &Request) -> Option<IpAddr> {
    request.extensions().get().map(|Peer(address)| address.to_canonical())
}

fn is_proxy(peer: IpAddr, options: &ApiOptions) -> bool {
    options.trusted_proxies.iter().any(|range| range.contains(peer))
}

/// The host that a request is sent to.
fn host(request: &Request) -> Option<Authority> {
    let named = |name: HeaderName| request.headers().get(name)?.to_str().ok()?.split(',').next()?.trim().parse().ok();
    // Only a trusted proxy's word has come so far.
    named(HeaderName::from_static("x-forwarded-host"))
        .or_else(|| named(header::HOST))
        .or_else(|| request.uri().authority().cloned())
}

/// True for names and addresses that stand for this machine: `localhost`, names below it, and loopback addresses.
fn is_this_machine(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or_else(
        |_| host == "localhost" || host.ends_with(".localhost"),
        |address| address.to_canonical().is_loopback(),
    )
}

/// True if an origin is that of the pages at a host: the same name and port, where 80 and 443 need not be written.
fn is_origin_of(origin: &str, host: &Authority, headers: &HeaderMap) -> bool {
    let Some((scheme, origin)) = origin.split_once("://") else { return false };
    let Ok(origin) = origin.parse::<Authority>() else { return false };
    let usual = if scheme == "https" { 443 } else { 80 };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(usual);
    let forwarded = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    let is_scheme = forwarded.is_none_or(|forwarded| forwarded.split(',').next().map(str::trim) == Some(scheme));
    is_scheme && origin.host().eq_ignore_ascii_case(host.host()) && port(&origin) == port(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_many_names_and_others_have_none_of_them() {
        for host in ["localhost", "LOCALHOST.", "maps.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "0.0.0.0", "10.0.0.1", "127.0.0.1.evil.example", ""] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn a_page_is_this_servers_if_name_and_port_agree() {
        let is_own = |origin: &str, host: &str| is_origin_of(origin, &host.parse().expect("a host"), &HeaderMap::new());
        for (origin, host) in [
            ("http://localhost:8080", "localhost:8080"),
            ("http://Maps.example.org", "maps.example.org"),
            ("https://maps.example.org", "maps.example.org:443"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(is_own(origin, host), "{origin} at {host}");
        }
        for (origin, host) in [
            ("http://localhost:3000", "localhost:8080"),
            ("http://evil.example", "maps.example.org"),
            ("http://maps.example.org.evil.example", "maps.example.org"),
            ("null", "maps.example.org"),
            ("", "maps.example.org"),
        ] {
            assert!(!is_own(origin, host), "{origin} at {host}");
        }
    }
}
