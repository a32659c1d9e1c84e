//! How the real binary ends: after a time of grace, requests under way are answered, for as long as `--drain` allows.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/process.rs"]
mod process;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use process::{Server, answer, text};

const IMAGE: &[u8] = include_bytes!("../static/demo/trees_osbs.tif");

/// A request whose handler is at work, because it has asked for the body, of which only the first half is sent.
fn under_way(server: &Server) -> TcpStream {
    let headers = "Content-Type: image/tiff\r\nExpect: 100-continue\r\n";
    let mut stream = server.begin("POST /v1/predict/trees/tree_crown", headers, IMAGE.len());
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    for expected in ["HTTP/1.1 100 Continue\r\n", "\r\n"] {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line of text");
        assert_eq!(line, expected);
    }
    assert!(reader.buffer().is_empty());
    stream.write_all(&IMAGE[..IMAGE.len() / 2]).expect("it takes half the body");
    stream
}

fn signal(server: &Server, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), server.id().to_string()]).status().expect("kill runs");
    assert!(sent.success());
}

/// Waits until the server takes no more connections.
fn until_closed(server: &Server) {
    while TcpStream::connect(&server.address).is_ok() {
        std::thread::yield_now();
    }
}

#[test]
fn a_signal_lets_the_request_under_way_finish_and_the_process_ends_well() {
    for name in ["TERM", "INT"] {
        let server = Server::start(&["--weights", "offline", "--stop-grace", "0s", "--drain", "10min"]);
        let mut stream = under_way(&server);
        signal(&server, name);
        until_closed(&server);
        stream.write_all(&IMAGE[IMAGE.len() / 2..]).expect("it takes the other half");
        let (status, body) = answer(stream);
        assert_eq!(status, 200, "{name}: {}", text(&body));
        let found: serde_json::Value = serde_json::from_slice(&body).expect("GeoJSON");
        assert!(found["features"].as_array().is_some_and(|features| !features.is_empty()), "{name}: {found}");
        assert_eq!(server.ended().code(), Some(0), "{name}");
    }
}

#[test]
fn a_request_that_does_not_finish_is_left_after_the_time_to_drain() {
    let server = Server::start(&["--weights", "offline", "--stop-grace", "0s", "--drain", "50ms"]);
    let _never_finished = under_way(&server);
    signal(&server, "TERM");
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn in_the_time_of_grace_everything_is_served_and_readiness_says_that_it_ends() {
    let server = Server::start(&["--weights", "offline", "--stop-grace", "10min", "--drain", "10min"]);
    assert_eq!(server.get("/health/ready").0, 200);
    signal(&server, "TERM");
    while server.get("/health/ready").0 == 200 {
        std::thread::yield_now();
    }
    assert_eq!(server.get("/health/ready").0, 503);
    assert_eq!(server.get("/health/live").0, 200);
    assert_eq!(server.get("/v1/tiles/world/water/4/8/6.png?source=world").0, 200);
    // A second signal ends the grace.
    signal(&server, "TERM");
    until_closed(&server);
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn what_still_waits_at_the_end_is_told_to_come_back() {
    let server = Server::start(&["--weights", "offline", "--stop-grace", "0s", "--drain", "10s"]);
    // Far more windows than can be done in that time, however fast the machine is.
    let side = 8000;
    let description = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': (3, {side}, {side}), }}");
    let mut picture = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    picture.extend(format!("{description:<117}\n").bytes());
    picture.resize(picture.len() + 3 * side * side, 127);
    let mut stream = server.begin("POST /v1/predict/world/water", "Content-Type: application/x-npy\r\n", picture.len());
    stream.write_all(&picture).expect("it takes bodies");
    while !text(&server.get("/metrics").1).lines().any(|line| line == "satlas_queue_depth 1") {
        std::thread::yield_now();
    }
    signal(&server, "TERM");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("an answer");
    assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
    assert!(reply.to_lowercase().contains("\r\nretry-after: "), "{reply}");
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn a_hangup_changes_nothing() {
    let server = Server::start(&["--weights", "offline"]);
    signal(&server, "HUP");
    assert_eq!(server.get("/health/ready").0, 200);
    signal(&server, "INT");
    assert_eq!(server.ended().code(), Some(0));
}
