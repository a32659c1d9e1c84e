//! Which requests are turned away because of the page, the host or the proxy that they come from.

use crate::common::{Reply, router_with, send, settings};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use satlas_serve::api::Peer;
use satlas_serve::config::ServerSettings;

const OTHER: &str = "https://other.example.org";

fn server(cors: &[&str], proxies: &[&str], host: &str) -> Router {
    let cors = cors.iter().map(|origin| (*origin).to_owned()).collect();
    let trusted_proxy = proxies.iter().map(|range| range.parse().unwrap()).collect();
    let host = host.parse().unwrap();
    router_with(settings().0, ServerSettings { cors, trusted_proxy, host, ..ServerSettings::default() })
}

/// A request that comes over the network from `peer`.
async fn ask(router: &Router, peer: &str, method_and_path: &str, headers: &[(&str, &str)]) -> Reply {
    let (method, path) = method_and_path.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(Peer(peer.trim_matches(['[', ']']).parse().unwrap()));
    send(router, request).await
}

#[tokio::test]
async fn pages_of_other_origins_change_nothing_unless_the_operator_says_so() {
    let host = ("host", "127.0.0.1:8080");
    let router = server(&[], &[], "127.0.0.1");
    for request in ["POST /v1/models/world/unload", "DELETE /v1/sources/none", "POST /v1/predict/world/water"] {
        for origin in [OTHER, "null", "http://127.0.0.1:3000", "http://127.0.0.1.evil.example:8080"] {
            let reply = ask(&router, "127.0.0.1", request, &[host, ("origin", origin)]).await;
            assert!(reply.problem(403).contains(&format!("--cors {origin}")), "{request} {origin}");
            assert_eq!(reply.header("access-control-allow-origin"), "*", "scripts may read why");
        }
        for headers in [&[host][..], &[host, ("origin", "http://127.0.0.1:8080")]] {
            assert_ne!(ask(&router, "127.0.0.1", request, headers).await.status, 403, "{request}");
        }
    }
    assert_eq!(ask(&router, "127.0.0.1", "GET /v1/models", &[host, ("origin", OTHER)]).await.status, 200);
    for (cors, status) in [(OTHER, 200), ("*", 200), ("none", 403), ("https://maps.example.org", 403)] {
        let router = server(&[cors], &[], "127.0.0.1");
        let reply = ask(&router, "127.0.0.1", "POST /v1/models/world/unload", &[host, ("origin", OTHER)]).await;
        assert_eq!(reply.status.as_u16(), status, "{cors}");
    }
}

#[tokio::test]
async fn a_server_for_this_machine_answers_to_its_names_alone() {
    let router = server(&[], &[], "127.0.0.1");
    for host in ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "maps.localhost"] {
        assert_eq!(ask(&router, "127.0.0.1", "GET /v1/models", &[("host", host)]).await.status, 200, "{host}");
    }
    let rebound = [("host", "evil.example:8080"), ("x-forwarded-host", "localhost")];
    let detail = ask(&router, "127.0.0.1", "GET /v1/models", &rebound).await.problem(403);
    assert!(detail.contains("evil.example:8080") && detail.contains("--trusted-proxy"), "{detail}");
    let open = server(&[], &[], "0.0.0.0");
    assert_eq!(ask(&open, "10.0.0.1", "GET /v1/models", &[("host", "maps.example.org")]).await.status, 200);
}

#[tokio::test]
async fn a_proxys_word_is_taken_only_where_the_operator_trusts_it() {
    let router = server(&[], &["10.1.0.0/16", "::1"], "127.0.0.1");
    let forwarded = [
        ("host", "127.0.0.1:8080"),
        ("x-forwarded-host", "maps.example.org"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-prefix", "/satlas"),
    ];
    for (peer, start) in [
        ("10.1.2.3", "https://maps.example.org/satlas/v1/"),
        ("[::1]", "https://maps.example.org/satlas/v1/"),
        ("127.0.0.1", "http://127.0.0.1:8080/v1/"),
    ] {
        let reply = ask(&router, peer, "GET /v1/sources/world/tilejson.json", &forwarded).await;
        assert!(reply.json()["tiles"][0].as_str().unwrap().starts_with(start), "{peer}: {}", reply.json()["tiles"][0]);
    }
    let write = [&forwarded[..], &[("origin", "https://maps.example.org")]].concat();
    assert_eq!(ask(&router, "10.1.2.3", "POST /v1/models/world/unload", &write).await.status, 200, "its own page");
    assert_eq!(ask(&router, "127.0.0.1", "POST /v1/models/world/unload", &write).await.status, 403);
}

#[tokio::test]
async fn the_documentation_runs_no_foreign_script() {
    let router = server(&[], &[], "127.0.0.1");
    let reply = ask(&router, "127.0.0.1", "GET /docs/", &[("host", "localhost")]).await;
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-security-policy").contains("default-src 'self'"));
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
}
