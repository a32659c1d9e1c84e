//! Layers around all handlers: request ids, logs, metrics, problems as JSON, API keys, time limits.
//!
//! What can be is a plain function in one of two layers: each layer costs a request several allocations and a copy of all below it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::base_url::PathPrefix;
use super::error::{PROBLEM_JSON, Problem};
use super::problem_kind::ProblemKind;
use super::state::AppState;
use super::{drain, gate};
use crate::engine::{Caller, Class, ClientId};
use crate::error::ErrorKind;

/// Identifies a request to the client, to proxies and in the log.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Carries an API key, as an alternative to `Authorization: Bearer`.
pub(super) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

const STOPPING: &str = "the server is stopping";

/// Longest request id accepted from a client.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// The request's id, as an extension for handlers.
#[derive(Clone, Debug)]
pub(super) struct RequestId(pub String);

/// The outermost layer: gives the request its id, logs and measures it, and turns a [`Problem`] into JSON.
pub(super) async fn observe(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (mut request, sent) = drain::drain_unread(request);
    gate::drop_untrusted(&mut request, state.options());
    let id = request_id(request.headers());
    request.extensions_mut().insert(RequestId(id.clone()));
    let route = request.extensions().get::<MatchedPath>().cloned();
    let (method, uri, version) = (request.method().clone(), request.uri().clone(), request.version());
    let prefix = PathPrefix::of(request.headers());
    let started = Instant::now();
    let mut response = match check_host(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    let (status, seconds) = (response.status(), started.elapsed().as_secs_f64());
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        if status.is_server_error() {
            tracing::error!(request_id = id, %method, path = uri.path(), status = status.as_u16(), detail = problem.detail, "failed");
        }
        response = as_json(&problem, &id, &prefix, response.headers().clone());
    }
    complete_headers(response.headers_mut(), &prefix);
    sent.close_unsent(version, response.headers_mut());
    if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        // The length of an empty stream is unknown, so that no `Content-Length: 0` is added, which RFC 9110, 8.6 forbids here.
        *response.body_mut() = Body::from_stream(futures::stream::empty::<Result<Bytes, Infallible>>());
    }
    tracing::debug!(request_id = id, %method, path = uri.path(), status = status.as_u16(), seconds, "answered");
    state.requests().count(route.as_ref().map_or("none", MatchedPath::as_str), status, seconds);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// What all responses have in common: nothing is cached that no handler said may be, and `Location` leads through the proxy by
/// which the request came.
fn complete_headers(headers: &mut HeaderMap, PathPrefix(prefix): &PathPrefix) {
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    let path = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).filter(|path| path.starts_with('/'));
    if let Some(Ok(location)) = path.map(|path| format!("{prefix}{path}").parse()) {
        headers.insert(header::LOCATION, location);
    }
}

/// Refuses an HTTP/1.1 request without exactly one `Host` header (RFC 9112, 3.2).
fn check_host(request: &Request) -> Result<(), Problem> {
    let count = request.headers().get_all(header::HOST).iter().count();
    if request.version() == Version::HTTP_11 && count != 1 {
        return Err(Problem::invalid(format!("found {count} Host headers; one is needed")));
    }
    Ok(())
}

/// The client's id if it is short and safe to log, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let harmless = |id: &&str| {
        (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    };
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(harmless)
        .map_or_else(new_request_id, str::to_owned)
}

/// Sixteen hexadecimal digits that no other request of this process has, and hardly one of another process.
fn new_request_id() -> String {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let parts = [now.as_nanos() as u64, u64::from(std::process::id())];
        let hash = blake3::hash(parts.map(u64::to_le_bytes).as_flattened());
        AtomicU64::new(hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
    });
    format!("{:016x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The JSON response for a problem; headers that inner layers added (CORS, Allow) are kept.
fn as_json(problem: &Problem, request_id: &str, prefix: &PathPrefix, mut headers: HeaderMap) -> Response {
    for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::ETAG] {
        headers.remove(name);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    headers.remove(header::CACHE_CONTROL);
    if let Some(after) = problem.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    if problem.kind == ProblemKind::Unauthorized {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"satlas-serve\""));
    }
    let mut response = (problem.kind.row().status, Json(problem.body(request_id, prefix))).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    response.headers_mut().extend(headers);
    response
}

/// Passes on requests that carry one of the API keys.
pub(super) async fn require_key(State(state): State<AppState>, request: Request, next: Next) -> Response {
    if given_key(request.headers()).is_some_and(|given| is_one_of(given, &state.options().api_keys)) {
        return next.run(request).await;
    }
    let detail = "found no valid key; Authorization: Bearer KEY or X-Api-Key: KEY is needed".to_owned();
    Problem { kind: ProblemKind::Unauthorized, detail, retry_after: None }.into_response()
}

fn given_key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    bearer.or_else(|| headers.get(API_KEY)?.to_str().ok())
}

/// Compares hashes in constant time, so that timing does not reveal how much of a key is right.
fn is_one_of(given: &str, keys: &[String]) -> bool {
    let given = blake3::hash(given.as_bytes());
    keys.iter().fold(false, |known, key| known | (blake3::hash(key.as_bytes()) == given))
}

/// Lets a request in or refuses it, and tells handlers who asks and until when. Answers 504 if they take longer than that, and 503
/// if the server ends before.
pub(super) async fn admit(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    if let Err(problem) = gate::check(&request, state.options()).and_then(|()| check_open(&request, &state)) {
        return problem.into_response();
    }
    let limit = state.options().request_timeout;
    let caller = Caller::waiting(Class::Tile, client(&request, &state.options().api_keys), limit);
    request.extensions_mut().insert(caller);
    let answered = tokio::select! {
        // Most answers are there at once, and nothing else has to be looked at then.
        biased;
        answered = tokio::time::timeout(limit, next.run(request)) => answered,
        () = state.ended() => return Problem::new(ErrorKind::Unavailable, STOPPING).into_response(),
    };
    answered.unwrap_or_else(|_| {
        Problem::new(ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs_f64())).into_response()
    })
}

/// Refuses requests that come once the server is closing, except those for its health.
fn check_open(request: &Request, state: &AppState) -> Result<(), Problem> {
    let path = request.uri().path();
    if state.is_closing() && !path.starts_with("/health/") && path != "/metrics" {
        return Err(Problem::new(ErrorKind::Unavailable, STOPPING));
    }
    Ok(())
}

/// Who shares the device with whom: the holder of an API key if keys are needed, else everybody at one address. Whoever has an IPv6
/// address has 2^64 of them.
fn client(request: &Request, keys: &[String]) -> ClientId {
    if let Some(key) = given_key(request.headers()).filter(|_| !keys.is_empty()) {
        return ClientId::named(key);
    }
    ClientId::named(gate::peer(request).map(|address| match address {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }))
}

/// The response for a handler that panicked.
pub(super) fn panicked(panic: Box<dyn std::any::Any + Send>) -> axum::http::Response<Body> {
    let message = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    Problem::internal(format!("a handler panicked: {}", message.unwrap_or("no message"))).into_response()
}

#[cfg(test)]
mod tests {
    use super::super::gate::Peer;
    use super::*;

    #[test]
    fn a_harmless_request_id_is_kept_and_others_are_replaced() {
        let id = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
            request_id(&headers)
        };
        assert_eq!(id(b"trace-1:2_3.4"), "trace-1:2_3.4");
        for odd in [&b""[..], b"a b", b"<script>", &[b'x'; 200], b"\xff"] {
            assert_eq!(id(odd).len(), 16);
        }
        assert_ne!(new_request_id(), new_request_id());
    }

    #[test]
    fn a_client_is_an_address_or_the_holder_of_a_key() {
        let from = |address: &str, key: &str, keys: &[String]| {
            let mut request = Request::new(Body::empty());
            request.headers_mut().insert(API_KEY, HeaderValue::from_str(key).unwrap());
            request.extensions_mut().insert(Peer(address.parse().unwrap()));
            client(&request, keys)
        };
        assert_eq!(from("192.0.2.1", "a", &[]), from("::ffff:192.0.2.1", "b", &[]), "a key that nobody checks is no name");
        assert_ne!(from("192.0.2.1", "", &[]), from("192.0.2.2", "", &[]));
        assert_eq!(from("2001:db8::1", "", &[]), from("2001:db8::2:3", "", &[]));
        assert_ne!(from("2001:db8::1", "", &[]), from("2001:db8:0:1::1", "", &[]));
        let keys = ["first-key".to_owned(), "second-key".to_owned()];
        assert_eq!(from("192.0.2.1", "first-key", &keys), from("192.0.2.2", "first-key", &keys));
        assert_ne!(from("192.0.2.1", "first-key", &keys), from("192.0.2.1", "second-key", &keys));
    }

    #[test]
    fn a_key_is_taken_from_either_header() {
        let keys = ["first-key".to_owned(), "second-key".to_owned()];
        let given = |name: HeaderName, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            given_key(&headers).is_some_and(|key| is_one_of(key, &keys))
        };
        assert!(given(header::AUTHORIZATION, "Bearer first-key") && given(API_KEY, "second-key"));
        assert!(given(header::AUTHORIZATION, "bearer second-key"));
        assert!(!given(header::AUTHORIZATION, "Basic first-key") && !given(API_KEY, "first-ke"));
    }
}
