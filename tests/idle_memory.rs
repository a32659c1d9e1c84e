//! An idle server gives back the memory that its forward passes were run in. Linux only: other systems do not tell what a process holds.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and may report figures")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The server releases memory after 10 seconds without a pass; the rest is patience with a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// MiB of memory that this process holds and no file stands behind.
    fn resident_mib(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() >> 10
    }
}

fn get(address: &str, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn an_idle_server_holds_less_memory_than_after_its_last_pass_and_still_answers() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_satlas-serve"))
        .args(["--port", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = process.stdout.take().unwrap();
    let server = Server(process);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let address = line.trim().rsplit("http://").next().unwrap();

    let first = get(address, "/v1/tiles/world/coast/4/8/6.png?source=world");
    assert!(first.starts_with(b"HTTP/1.1 200"));
    let busy = server.resident_mib();
    let started = Instant::now();
    let mut idle = busy;
    // What a pass of the demo keeps is far more than this, see the printed figures.
    while idle + 8 > busy && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(250));
        idle = server.resident_mib();
    }
    println!("{busy} MiB after a pass, {idle} MiB {:.1} s later", started.elapsed().as_secs_f64());
    assert!(idle + 8 <= busy, "{busy} MiB after a pass, {idle} MiB when idle");
    assert!(get(address, "/v1/tiles/world/coast/4/9/6.png?source=world").starts_with(b"HTTP/1.1 200"));
}
