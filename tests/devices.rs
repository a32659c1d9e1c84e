//! Several devices in one server, and full batches on one: two parts of the CPU stand for two GPUs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::OnceLock;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use common::{grey_square, npy, post_to, send, settings};
use metrics_exporter_prometheus::PrometheusHandle;
use satlas_serve::api::{AppState, router};
use satlas_serve::config::{Config, EngineSettings, ServerSettings, Span};
use satlas_serve::{server, telemetry};
use tokio::sync::Mutex;

/// The metrics are the process's, so the tests run one after another.
static ALONE: Mutex<()> = Mutex::const_new(());

fn router_on(device: &str, change: impl FnOnce(&mut ServerSettings)) -> Router {
    static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
    let metrics = METRICS.get_or_init(|| telemetry::start_metrics().unwrap()).clone();
    let (engine, mut server_settings) = settings();
    change(&mut server_settings);
    let engine = EngineSettings { device: device.parse().unwrap(), ..engine };
    let config = Config::new(engine, server_settings).unwrap();
    let engine = server::engine(&config).unwrap();
    router(AppState::new(engine, server::api_options(&config), Some(metrics)).unwrap())
}

async fn get(router: &Router, path: &str) -> common::Reply {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}

/// The value of a series in `/metrics`; 0 where there is none yet.
async fn metric(router: &Router, series: &str) -> f64 {
    let text = String::from_utf8(get(router, "/metrics").await.body).unwrap();
    let line = text.lines().find(|line| line.starts_with(series));
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// Every pixel of its own.
fn noise(side: usize) -> Vec<u8> {
    let pixels: Vec<u8> = (0..3 * side * side).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    npy(&[3, side, side], &pixels)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_same_to_the_byte_on_two_devices_as_on_one() {
    let _alone = ALONE.lock().await;
    let (one, two) = (router_on("cpu", |_| ()), router_on("cpu,cpu", |_| ()));
    // Nine windows.
    let scene = noise(1500);
    for format in ["npy", "png"] {
        let path = format!("/v1/predict/world/elevation?format={format}");
        let [expected, found] = [&one, &two].map(|router| post_to(router, &path, "application/x-npy", scene.clone()));
        let (expected, found) = (expected.await, found.await);
        assert_eq!((expected.status.as_u16(), found.status.as_u16()), (200, 200));
        assert!(expected.body == found.body, "{format}");
    }
    for device in ["cpu:0", "cpu:1"] {
        let passes = metric(&two, &format!("satlas_forward_seconds_count{{device=\"{device}\"}}")).await;
        assert!(passes >= 1.0, "{device} has run nothing");
    }
    // The second task of a window answers from the maps of the device that made them.
    for task in ["water", "coast"] {
        for tile in ["4/2/6", "4/8/6", "4/12/6"] {
            let path = format!("/v1/tiles/world/{task}/{tile}.png?source=world");
            let (expected, found) = (get(&one, &path).await, get(&two, &path).await);
            assert_eq!(found.status, 200);
            assert!(expected.body == found.body, "{path}");
        }
    }
    let bytes = async |router| get(router, "/v1/models/world").await.json()["weights"]["bytes"].as_u64().unwrap();
    assert!(bytes(&two).await > bytes(&one).await, "each device has a copy");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_windows_of_a_scene_fill_the_batches() {
    let _alone = ALONE.lock().await;
    // A batch that is not full would keep its windows waiting until the test fails.
    let router = router_on("cpu", |server| {
        (server.max_batch, server.batch_delay) = (Some(4), Some(Span::seconds(120)));
        server.request_timeout = Span::seconds(120);
    });
    let windows = async || {
        let figure = async |of| metric(&router, &format!("satlas_batch_size_{of}")).await;
        (figure("count").await, figure("sum").await)
    };
    let before = windows().await;
    // 4 x 4 windows.
    let reply = post_to(&router, "/v1/predict/world/water?format=png", "application/x-npy", grey_square(2176)).await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    let after = windows().await;
    assert_eq!((after.0 - before.0, after.1 - before.1), (4.0, 16.0));
}
