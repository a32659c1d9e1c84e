//! What the API tests share: a router over the demo bundle, and requests to it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and may report figures"
)]
#![allow(dead_code, reason = "every test file uses its own part")]

use std::sync::OnceLock;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use satlas_serve::api::{AppState, openapi, router};
use satlas_serve::config::{Config, EngineSettings, RemoteSettings, ServerSettings};
use satlas_serve::server;
use serde_json::Value;
use tower::ServiceExt;

/// An answer, read to its end.
pub(crate) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body[..self.body.len().min(300)])))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("header values are text"))
    }

    /// The detail of a problem of the given status; also checks what all problems have in common.
    pub(crate) fn problem(&self, status: u16) -> String {
        let text = String::from_utf8_lossy(&self.body[..self.body.len().min(300)]).into_owned();
        assert_eq!(self.status.as_u16(), status, "{text}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        for member in ["type", "title", "detail", "code", "request_id"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        problem["detail"].as_str().unwrap_or_default().to_owned()
    }
}

/// Settings that keep tests away from the network and from the user's files.
pub(crate) fn settings() -> (EngineSettings, ServerSettings) {
    let offline = "offline".parse().expect("a choice of weights");
    (EngineSettings { weights: offline, ..EngineSettings::default() }, ServerSettings::default())
}

/// Settings that let this machine be asked, its name being on the list of hosts where it is `named`.
pub(crate) fn loopback(named: bool) -> RemoteSettings {
    let allow_host = if named { vec!["127.0.0.1".to_owned()] } else { Vec::new() };
    RemoteSettings { allow_host, allow_private_hosts: true, ..RemoteSettings::default() }
}

pub(crate) fn router_with(engine: EngineSettings, server: ServerSettings) -> Router {
    let config = Config::new(engine, server).expect("the settings are valid");
    let engine = server::engine(&config).expect("the demo bundle is readable");
    router(AppState::new(engine, server::api_options(&config), None).expect("jobs need no directory"))
}

/// A router of its own, for tests that change what is served.
pub(crate) fn fresh() -> Router {
    let (engine, server) = settings();
    router_with(engine, server)
}

/// One router for all tests of a file that only read.
pub(crate) fn shared() -> Router {
    static ROUTER: OnceLock<Router> = OnceLock::new();
    ROUTER.get_or_init(fresh).clone()
}

pub(crate) async fn send(router: &Router, mut request: Request<Body>) -> Reply {
    request.headers_mut().entry("host").or_insert(HeaderValue::from_static("127.0.0.1"));
    let (method, path) = (request.method().as_str().to_lowercase(), request.uri().path().to_owned());
    let response = router.clone().oneshot(request).await.expect("a router always answers");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("bodies are whole").to_bytes().to_vec();
    assert_documented(&method, &path, parts.status);
    Reply { status: parts.status, headers: parts.headers, body }
}

pub(crate) async fn get(path: &str) -> Reply {
    send(&shared(), Request::get(path).body(Body::empty()).unwrap()).await
}

pub(crate) async fn get_with(path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(&shared(), request.body(Body::empty()).unwrap()).await
}

pub(crate) async fn post(path: &str, content_type: &str, body: impl Into<Body>) -> Reply {
    post_to(&shared(), path, content_type, body).await
}

pub(crate) async fn post_to(router: &Router, path: &str, content_type: &str, body: impl Into<Body>) -> Reply {
    let mut request = Request::post(path);
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    send(router, request.body(body.into()).unwrap()).await
}

/// A multipart body and its content type.
pub(crate) fn form(parts: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, bytes) in parts {
        body.extend(
            format!("--edge\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}.tif\"\r\n\r\n").bytes(),
        );
        body.extend_from_slice(bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--edge--\r\n");
    ("multipart/form-data; boundary=edge".to_owned(), body)
}

/// A file of the demo bundle.
pub(crate) fn demo(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/static/demo/{name}", env!("CARGO_MANIFEST_DIR"))).expect("the demo bundle is complete")
}

/// An npy file of bytes.
pub(crate) fn npy(shape: &[usize], values: &[u8]) -> Vec<u8> {
    let shape: String = shape.iter().map(|side| format!("{side}, ")).collect();
    let description = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{description:<117}\n").bytes());
    bytes.extend(values);
    bytes
}

/// A grey square as npy: `[3, side, side]` bytes.
pub(crate) fn grey_square(side: usize) -> Vec<u8> {
    npy(&[3, side, side], &vec![127; 3 * side * side])
}

/// Every status that a test sees on a documented route must be in the documentation.
fn assert_documented(method: &str, path: &str, status: StatusCode) {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    let document = DOCUMENT.get_or_init(|| serde_json::to_value(openapi()).expect("the document is JSON"));
    let paths = document["paths"].as_object().expect("there are paths");
    // A literal segment beats a parameter, as in the router.
    let matching = paths.iter().filter(|(template, _)| matches(template, path));
    let Some((template, item)) = matching.min_by_key(|(template, _)| template.matches('{').count()) else { return };
    let Some(operation) = item.get(method) else { return };
    let documented = operation["responses"].get(status.as_str()).is_some();
    assert!(documented, "{method} {template} answered {status}, which is not documented");
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(&path).all(|(pattern, found)| pattern.contains('{') || pattern == found)
}
