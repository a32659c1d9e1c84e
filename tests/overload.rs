//! More requests than the queue takes: who is refused, and with which words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use common::{Reply, grey_square, post_to, router_with, send, settings};
use satlas_serve::config::Span;

fn router(queue: usize) -> Router {
    let (engine, mut server) = settings();
    server.queue = queue;
    server.request_timeout = Span::seconds(3000);
    router_with(engine, server)
}

async fn get(router: &Router, path: &str) -> Reply {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn more_than_the_queue_takes_is_429_with_the_time_to_come_back() {
    let router = router(2);
    // In windows of their own.
    let tiles = ["4/2/6", "4/4/6", "4/6/6", "4/8/6", "4/10/6", "4/12/6"];
    let paths = tiles.map(|tile| format!("/v1/tiles/world/water/{tile}.png?source=world"));
    let replies = futures::future::join_all(paths.iter().map(|path| get(&router, path))).await;
    let refused: Vec<&Reply> = replies.iter().filter(|reply| reply.status != 200).collect();
    assert!((1..tiles.len()).contains(&refused.len()), "{}", refused.len());
    for reply in refused {
        let detail = reply.problem(429);
        assert!(detail.contains("wait for the device already"), "{detail}");
        let seconds: u64 = reply.header("retry-after").parse().unwrap();
        assert!(seconds >= 1 && detail.ends_with(&format!("try again in {seconds} s")), "{detail}");
    }
    // Nothing is left of those who were refused.
    for path in &paths {
        assert_eq!(get(&router, path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn one_window_is_one_place_whatever_the_formats() {
    let router = router(1);
    let formats = ["png", "webp", "npy", "tif", "geojson", "mvt"];
    let paths = formats.map(|format| format!("/v1/tiles/world/water/4/8/6.{format}?source=world"));
    for reply in futures::future::join_all(paths.iter().map(|path| get(&router, path))).await {
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    }
}

#[tokio::test]
async fn a_scene_that_takes_too_long_ends_once_its_first_windows_show_it() {
    const PATH: &str = "/v1/predict/world/water?format=png";
    let predict = async |router: &Router, side| {
        let started = Instant::now();
        (post_to(router, PATH, "application/x-npy", grey_square(side)).await, started.elapsed())
    };
    let measured = router(64);
    predict(&measured, 640).await;
    let (_, window) = predict(&measured, 640).await;
    let (engine, mut server) = settings();
    // Of 36 windows.
    server.request_timeout = Span(window * 10);
    let router = router_with(engine, server);
    assert_eq!(post_to(&router, "/v1/models/world/load", "", Vec::new()).await.status, 200);
    let (reply, taken) = predict(&router, 3200).await;
    let detail = reply.problem(413);
    assert!(detail.contains("this takes about") && detail.contains("Prefer: respond-async"), "{detail}");
    assert!(taken < window * 9, "{taken:?}, a window takes {window:?}");
}
