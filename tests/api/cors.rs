//! What scripts of other web origins may do (`--cors`), as the Fetch standard asks.

use crate::common::{Reply, router_with, send, settings};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use satlas_serve::config::ServerSettings;

const MAP: &str = "https://maps.example.org";
const OTHER: &str = "https://other.example.org";
const TILE: &str = "/v1/tiles/world/water/4/1/8.png?source=world";

/// A server with these origins, or with the default where none is given.
fn server(cors: &[&str], keys: &[&str]) -> Router {
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let cors = if cors.is_empty() { ServerSettings::default().cors } else { list(cors) };
    router_with(settings().0, ServerSettings { cors, api_key: list(keys), ..ServerSettings::default() })
}

async fn ask(router: &Router, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(router, request.body(Body::empty()).unwrap()).await
}

/// What a browser asks before it sends a request that a form could not make.
async fn preflight(router: &Router, origin: &str, method: &str, headers: &str) -> Reply {
    let asked =
        [("origin", origin), ("access-control-request-method", method), ("access-control-request-headers", headers)];
    ask(router, "OPTIONS", "/v1/predict/trees/tree_crown", &asked).await
}

/// The names in a list header, in lower case.
fn names<'a>(reply: &'a Reply, header: &str) -> Vec<String> {
    let list: &'a str = reply.header(header);
    list.split(',').map(|name| name.trim().to_lowercase()).collect()
}

#[tokio::test]
async fn a_preflight_names_what_the_routes_take() {
    let router = server(&[MAP], &[]);
    let reply = preflight(&router, MAP, "POST", "content-type,prefer,x-api-key,authorization").await;
    assert!(reply.status.is_success() && reply.body.is_empty(), "{}", reply.status);
    assert_eq!(reply.header("access-control-allow-origin"), MAP);
    for method in ["get", "head", "post", "put", "delete"] {
        assert!(names(&reply, "access-control-allow-methods").contains(&method.to_owned()), "{method}");
    }
    for header in ["accept", "authorization", "content-type", "if-none-match", "prefer", "x-api-key"] {
        assert!(names(&reply, "access-control-allow-headers").contains(&header.to_owned()), "{header}");
    }
    assert!(reply.header("access-control-max-age").parse::<u32>().unwrap() > 0);
    assert!(names(&reply, "vary").contains(&"origin".to_owned()), "another origin's answer differs");
}

#[tokio::test]
async fn another_origin_is_not_allowed() {
    let router = server(&[MAP, "https://second.example.org"], &[]);
    for origin in [OTHER, "http://maps.example.org", "https://maps.example.org.evil.example", "null"] {
        let reply = preflight(&router, origin, "POST", "content-type").await;
        assert_eq!(reply.header("access-control-allow-origin"), "", "{origin}");
        assert_eq!(ask(&router, "GET", TILE, &[("origin", origin)]).await.header("access-control-allow-origin"), "");
    }
    let second = ask(&router, "GET", TILE, &[("origin", "https://second.example.org")]).await;
    assert_eq!(second.header("access-control-allow-origin"), "https://second.example.org");
}

#[tokio::test]
async fn an_answer_says_who_may_read_it_and_which_of_its_headers() {
    let router = server(&[MAP], &[]);
    let reply = ask(&router, "GET", TILE, &[("origin", MAP)]).await;
    assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin")), (200, MAP));
    for header in ["etag", "x-request-id", "server-timing", "content-bbox", "retry-after", "location"] {
        assert!(names(&reply, "access-control-expose-headers").contains(&header.to_owned()), "{header}");
    }
    let unchanged = ask(&router, "GET", TILE, &[("origin", MAP), ("if-none-match", reply.header("etag"))]).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.header("access-control-allow-origin")), (304, MAP));
}

#[tokio::test]
async fn a_key_is_not_asked_of_preflights_and_scripts_may_read_why_they_are_refused() {
    let router = server(&[MAP], &["a-long-secret-key"]);
    let reply = preflight(&router, MAP, "POST", "x-api-key").await;
    assert!(reply.status.is_success(), "browsers send no key with it: {}", reply.status);
    for (path, status) in [(TILE, 401), ("/no/such/route", 404)] {
        let refused = ask(&router, "GET", path, &[("origin", MAP)]).await;
        refused.problem(status);
        assert_eq!(refused.header("access-control-allow-origin"), MAP);
    }
    let given = ask(&router, "GET", TILE, &[("origin", MAP), ("x-api-key", "a-long-secret-key")]).await;
    assert_eq!(given.status, 200);
}

#[tokio::test]
async fn any_origin_is_allowed_by_default_and_none_if_so_configured() {
    for cors in [&[][..], &["*"]] {
        let reply = ask(&server(cors, &[]), "GET", TILE, &[("origin", OTHER)]).await;
        assert_eq!(reply.header("access-control-allow-origin"), "*");
    }
    let router = server(&["none"], &[]);
    let reply = ask(&router, "GET", TILE, &[("origin", OTHER)]).await;
    assert_eq!((reply.status.as_u16(), reply.header("access-control-allow-origin")), (200, ""));
    assert_eq!(preflight(&router, OTHER, "POST", "content-type").await.header("access-control-allow-origin"), "");
}
