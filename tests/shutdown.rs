//! How the real binary ends: requests under way are answered, for as long as `--drain` allows.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/process.rs"]
mod process;

use std::io::{BufRead, BufReader, Write};
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

/// Waits until the server takes no more connections, which is the first thing that a signal changes.
fn until_closed(server: &Server) {
    while TcpStream::connect(&server.address).is_ok() {
        std::thread::yield_now();
    }
}

#[test]
fn a_signal_lets_the_request_under_way_finish_and_the_process_ends_well() {
    for name in ["TERM", "INT"] {
        let server = Server::start(&["--weights", "offline", "--drain", "10min"]);
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
    let server = Server::start(&["--weights", "offline", "--drain", "50ms"]);
    let _never_finished = under_way(&server);
    signal(&server, "TERM");
    assert_eq!(server.ended().code(), Some(0));
}
