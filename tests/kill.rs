//! What the real binary has acknowledged outlives `kill -9`: uploads, removals, manifests and jobs, under load from several clients.
//!
//! `SATLAS_KILLS` says how often it is killed: 20 times by default, 200 times in `benches/kills.sh`.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may report figures"
)]

#[path = "common/process.rs"]
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use process::Server;
use serde_json::{Value, json};

const DEFAULT_KILLS: usize = 20;
const CLIENTS: usize = 4;
/// Acknowledgements before a kill: 1 up to this, in turn, so that kills hit every stage.
const MOST_ACKNOWLEDGED: usize = 13;

/// What a client did.
enum Event {
    /// It is about to remove a source: whether that is done is unknown until it is acknowledged.
    Removing(String),
    Acknowledged(Kept),
}

/// What the server has promised.
enum Kept {
    Source(String),
    Removal(String),
    Model(String),
    Job(String),
}

/// Everything promised so far.
#[derive(Default)]
struct Promises {
    /// By id; false where a removal has begun.
    sources: BTreeMap<String, bool>,
    removed: BTreeSet<String>,
    models: BTreeSet<String>,
    jobs: BTreeSet<String>,
}

impl Promises {
    /// Takes an event in; true if something was acknowledged.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Removing(id) => {
                self.sources.insert(id, false);
                return false;
            }
            Event::Acknowledged(Kept::Source(id)) => drop(self.sources.entry(id).or_insert(true)),
            Event::Acknowledged(Kept::Removal(id)) => {
                self.sources.remove(&id);
                self.removed.insert(id);
            }
            Event::Acknowledged(Kept::Model(id)) => drop(self.models.insert(id)),
            Event::Acknowledged(Kept::Job(id)) => drop(self.jobs.insert(id)),
        }
        true
    }

    fn check(&self, server: &Server) {
        for id in self.sources.iter().filter(|(_, is_kept)| **is_kept).map(|(id, _)| id) {
            assert_eq!(server.get(&format!("/v1/sources/{id}")).0, 200, "source {id} was acknowledged");
        }
        for id in &self.removed {
            assert_eq!(server.get(&format!("/v1/sources/{id}")).0, 404, "the removal of source {id} was acknowledged");
        }
        for id in &self.models {
            assert_eq!(server.get(&format!("/v1/models/{id}")).0, 200, "model {id} was acknowledged");
        }
        for id in &self.jobs {
            assert_eq!(server.get(&format!("/v1/jobs/{id}")).0, 200, "job {id} was acknowledged");
        }
    }
}

/// Status and body; `None` if the server was killed before it had answered.
fn ask(address: &str, method_and_path: &str, headers: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let length = body.len();
    let head = format!(
        "{method_and_path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let stated = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let stated: usize = match stated.split("content-length: ").nth(1) {
        Some(rest) => rest.lines().next()?.trim().parse().ok()?,
        None => 0,
    };
    let status = std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()?;
    let body = answer.split_off(end);
    (body.len() >= stated).then_some((status, body))
}

/// Uploads, registers, submits and removes until the server is gone. `name` is used by no other client of any round.
fn work(address: &str, name: &str, picture: &[u8], events: &Sender<Event>) -> Option<()> {
    let send = |event: Event| events.send(event).ok();
    for number in 0.. {
        let id = format!("{name}-{number}");
        let (status, _) = ask(address, &format!("POST /v1/sources?id={id}"), "Content-Type: image/png\r\n", picture)?;
        if status == 201 {
            send(Event::Acknowledged(Kept::Source(id.clone())))?;
        }
        let head = json!({"task": "mine", "type": "segment", "categories": ["a", "b"]});
        let manifest = json!({"id": id, "base": "world", "seed": 7, "heads": [head]}).to_string();
        let (status, _) = ask(address, "POST /v1/models", "Content-Type: application/json\r\n", manifest.as_bytes())?;
        if status == 201 {
            send(Event::Acknowledged(Kept::Model(id.clone())))?;
        }
        let headers = "Content-Type: image/png\r\nPrefer: respond-async\r\n";
        let (status, job) = ask(address, "POST /v1/predict/world/water?format=png", headers, picture)?;
        if status == 202 {
            let job: Value = serde_json::from_slice(&job).expect("a job");
            send(Event::Acknowledged(Kept::Job(job["id"].as_str().expect("an id").to_owned())))?;
        }
        // All but every third source go again, so that the table does not fill up.
        if number % 3 != 0 {
            send(Event::Removing(id.clone()))?;
            let (status, _) = ask(address, &format!("DELETE /v1/sources/{id}"), "", &[])?;
            if status == 204 {
                send(Event::Acknowledged(Kept::Removal(id)))?;
            }
        }
    }
    Some(())
}

/// Lets clients work until so many acknowledgements have come, then kills the server.
fn round(server: Server, number: usize, picture: &[u8], promises: &mut Promises) {
    let (events, taken): (Sender<Event>, Receiver<Event>) = channel();
    let address = server.address.clone();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (events, address) = (events.clone(), &address);
            // It ends with the server.
            scope.spawn(move || work(address, &format!("r{number}c{client}"), picture, &events).unwrap_or_default());
        }
        drop(events);
        let mut left = 1 + number % MOST_ACKNOWLEDGED;
        while left > 0 {
            left -= usize::from(promises.take(taken.recv().expect("clients go on until the kill")));
        }
        drop(server);
        for event in taken {
            promises.take(event);
        }
    });
}

/// Names of what lies half finished in a directory.
fn half_finished(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with('.') && name != ".lock").collect()
}

#[test]
fn what_was_acknowledged_outlives_kills() {
    let kills = std::env::var("SATLAS_KILLS").map_or(DEFAULT_KILLS, |kills| kills.parse().expect("a number"));
    let data = tempfile::tempdir().unwrap();
    let mut picture = Cursor::new(Vec::new());
    image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8, y as u8, 90]))
        .write_to(&mut picture, image::ImageFormat::Png)
        .unwrap();
    let picture = picture.into_inner();
    let path = data.path().to_string_lossy().into_owned();
    let start = || {
        let limits = ["--max-sources", "10000", "--max-jobs", "1000"];
        Server::start(&[&["--weights", "offline", "--data-dir", &path], &limits[..]].concat())
    };
    let mut promises = Promises::default();
    for number in 0..kills {
        let server = start();
        promises.check(&server);
        assert_eq!(half_finished(&data.path().join("sources")), Vec::<String>::new());
        round(server, number, &picture, &mut promises);
    }
    let server = start();
    promises.check(&server);
    let kept = promises.sources.values().filter(|is_kept| **is_kept).count();
    println!(
        "{kills} kills: kept {kept} sources, {} removals, {} models and {} jobs, all that were acknowledged",
        promises.removed.len(),
        promises.models.len(),
        promises.jobs.len()
    );
}
