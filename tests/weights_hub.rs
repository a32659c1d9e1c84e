//! Downloads from a server on the loopback that plays the hub: whole, slow, cut, denied, wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and may report figures"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use satlas_serve::error::ErrorKind;
use satlas_serve::weights::{Hub, HubOptions, WeightsError};
use sha2::{Digest, Sha256};

const REPO: &str = "owner/name";
const FILE: &str = "model.pth";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the server misbehaves.
#[derive(Clone, Copy, PartialEq)]
enum Play {
    Whole,
    /// Ends the connection half-way, as often as stated, then behaves.
    Cut(usize),
    /// Ends it half-way and then answers ranges with the whole file.
    CutAndNoRanges,
    /// One small piece after another.
    Slow,
    /// Says nothing after half of the file, the first time.
    Stalled,
    Status(u16),
    /// Fails with 503 as often as stated, then behaves.
    Busy(usize),
    /// Sends fewer bytes than the hub states.
    Short,
    /// Sends fewer, and answers 416 to ranges behind them, so that clients start over.
    ShortAndExact,
    /// Answers everything with a web page.
    Page,
    /// Redirects from the repository's old name to its new one.
    Moved,
    /// Sends other bytes than the hub states.
    Altered,
    /// Hands out storage at another address, which must not see the token.
    Redirect,
}

struct Server {
    address: String,
    requests: Arc<Mutex<Vec<String>>>,
}

fn content() -> Vec<u8> {
    (0..200_000u32).map(|i| ((i * i) >> 7) as u8).collect()
}

fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Server {
    fn start(play: Play) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = requests.clone();
        std::thread::spawn(move || {
            let failures = Arc::new(AtomicUsize::new(0));
            for stream in listener.incoming() {
                let (stream, failures, log) = (stream.unwrap(), failures.clone(), log.clone());
                // A client that hangs up is part of the play.
                std::thread::spawn(move || drop(answer(stream, play, &failures, &log)));
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// Answers one request and closes the connection.
fn answer(mut stream: TcpStream, play: Play, failures: &AtomicUsize, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") && reader.read_line(&mut request)? > 0 {}
    log.lock().unwrap().push(request.clone());
    let lower = request.to_lowercase();
    let whole = content();
    let hub_headers = format!(
        "x-repo-commit: {COMMIT}\r\nx-linked-etag: \"{}\"\r\nx-linked-size: {}\r\nconnection: close\r\n",
        hex_sha256(&whole),
        whole.len()
    );
    let mut status = |status: u16| write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    match play {
        Play::Status(code) => return status(code),
        Play::Busy(times) if failures.fetch_add(1, SeqCst) < times => return status(503),
        _ => {}
    }
    if play == Play::Page {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\netag: \"abc\"\r\ncontent-length: 6\r\n";
        let body = if lower.starts_with("head") { "" } else { "log in" };
        return write!(stream, "{head}connection: close\r\n\r\n{body}");
    }
    if play == Play::Moved && lower.contains("/owner/name/") {
        let path = request.split(' ').nth(1).unwrap_or_default().replace("/owner/", "/newowner/");
        let head = "content-length: 0\r\nconnection: close\r\n";
        return write!(stream, "HTTP/1.1 307 Temporary Redirect\r\nlocation: {path}\r\n{head}\r\n");
    }
    if lower.starts_with("head") {
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/storage\r\ncontent-length: 0\r\n{hub_headers}\r\n"
        );
    }
    if play == Play::Redirect && lower.contains("/resolve/") {
        let host = lower.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        let other = host.replace("127.0.0.1", "localhost");
        return write!(
            stream,
            "HTTP/1.1 302 Found\r\nlocation: http://{other}/storage\r\ncontent-length: 0\r\n{hub_headers}\r\n"
        );
    }
    let first: Option<usize> =
        lower.lines().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
    let mut body = whole.clone();
    if play == Play::Altered {
        body[100] ^= 1;
    }
    if matches!(play, Play::Short | Play::ShortAndExact) {
        body.truncate(whole.len() - 10);
    }
    let first = first.filter(|_| play != Play::CutAndNoRanges);
    if play == Play::ShortAndExact && first.is_some_and(|first| first >= body.len()) {
        let head = "content-length: 0\r\nconnection: close\r\n";
        return write!(stream, "HTTP/1.1 416 Range Not Satisfiable\r\ncontent-range: bytes */{}\r\n{head}\r\n", body.len());
    }
    let part = body.get(first.unwrap_or(0)..).unwrap_or(&[]);
    match first {
        Some(first) => write!(
            stream,
            "HTTP/1.1 206 Partial\r\ncontent-range: bytes {first}-{}/{}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len() - 1,
            body.len(),
            part.len()
        )?,
        None => write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", part.len())?,
    }
    let cuts = match play {
        Play::Cut(times) => times,
        Play::CutAndNoRanges => 1,
        _ => 0,
    };
    if cuts > 0 && failures.fetch_add(1, SeqCst) < cuts {
        return stream.write_all(&part[..part.len() / 2]);
    }
    match play {
        Play::Slow => {
            for piece in part.chunks(part.len() / 20) {
                stream.write_all(piece)?;
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        }
        Play::Stalled if failures.fetch_add(1, SeqCst) == 0 => {
            stream.write_all(&part[..part.len() / 2])?;
            // Until the client hangs up.
            std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
        }
        _ => stream.write_all(part),
    }
}

fn hub(server: &Server, cache: &Path) -> Hub {
    hub_with(server, cache, Duration::from_secs(300))
}

fn hub_with(server: &Server, cache: &Path, timeout: Duration) -> Hub {
    let mut options = HubOptions::from_variables(|name| match name {
        "HF_HUB_CACHE" => Some(cache.display().to_string()),
        "HF_ENDPOINT" => Some(server.address.clone()),
        "HF_TOKEN" => Some("secret".to_owned()),
        _ => None,
    });
    (options.timeout, options.retry_delay) = (timeout, Duration::from_millis(1));
    Hub::new(options)
}

fn fetched(play: Play) -> (Server, Result<Vec<u8>, WeightsError>, tempfile::TempDir) {
    let (server, cache) = (Server::start(play), tempfile::tempdir().unwrap());
    let outcome = hub(&server, cache.path()).fetch(REPO, FILE, &mut |_| ());
    (server, outcome.map(|path| std::fs::read(path).unwrap()), cache)
}

#[test]
fn a_file_arrives_in_the_standard_layout_and_is_not_asked_for_again() {
    let (server, outcome, cache) = fetched(Play::Whole);
    assert!(outcome.unwrap() == content());
    let repo = cache.path().join("models--owner--name");
    assert_eq!(std::fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    assert!(std::fs::read(repo.join("snapshots").join(COMMIT).join(FILE)).unwrap() == content());
    let blobs: Vec<_> = std::fs::read_dir(repo.join("blobs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(blobs, [std::ffi::OsString::from(hex_sha256(&content()))]);
    let asked = server.requests().len();
    hub(&server, cache.path()).fetch(REPO, FILE, &mut |_| ()).unwrap();
    assert_eq!(server.requests().len(), asked);
}

#[test]
fn a_cut_download_continues_where_it_ended() {
    let (server, outcome, _cache) = fetched(Play::Cut(3));
    assert!(outcome.unwrap() == content());
    let ranges: Vec<String> = server
        .requests()
        .iter()
        .filter_map(|request| Some(request.to_lowercase().split("range: bytes=").nth(1)?.split('-').next()?.to_owned()))
        .collect();
    assert_eq!(ranges, ["100000", "150000", "175000"]);
}

#[test]
fn a_server_without_ranges_makes_it_start_over() {
    assert!(fetched(Play::CutAndNoRanges).1.unwrap() == content());
}

#[test]
fn a_slow_server_is_waited_for_and_progress_told() {
    let (server, cache) = (Server::start(Play::Slow), tempfile::tempdir().unwrap());
    let mut steps = Vec::new();
    hub(&server, cache.path()).fetch(REPO, FILE, &mut |progress| steps.push(progress)).unwrap();
    assert!(steps.len() > 3 && steps.is_sorted_by_key(|progress| progress.received_bytes));
    let last = steps.last().unwrap();
    assert_eq!((last.received_bytes, last.total_bytes), (200_000, Some(200_000)));
}

#[test]
fn pull_fetches_a_model_and_tells_its_progress() {
    let (server, dir) = (Server::start(Play::Slow), tempfile::tempdir().unwrap());
    let pull = |extra: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_satlas-serve"))
            .args(["models", "pull", "Sentinel2_SwinT_SI_RGB", "--models-dir"])
            .arg(dir.path())
            .args(extra)
            .envs([("HF_ENDPOINT", server.address.as_str()), ("HF_HOME", dir.path().to_str().unwrap())])
            .output()
            .unwrap()
    };
    let refused = pull(&["--weights", "offline"]);
    assert!(!refused.status.success() && server.requests().is_empty(), "offline opens no socket");

    let pulled = pull(&[]);
    let (told, answer) = (String::from_utf8_lossy(&pulled.stderr), String::from_utf8_lossy(&pulled.stdout));
    assert!(pulled.status.success(), "{told}");
    assert!(told.lines().count() >= 2 && told.contains("195.31 KiB of 195.31 KiB"), "{told}");
    let path = answer.trim().strip_prefix("Sentinel2_SwinT_SI_RGB: ").expect("the id and the file");
    assert!(std::fs::read(path).unwrap() == content());

    let asked = server.requests().len();
    let again = pull(&[]);
    assert!(again.status.success() && again.stderr.is_empty(), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(server.requests().len(), asked, "what is here is not asked for again");
}

#[test]
fn a_stalled_server_is_left_and_asked_again() {
    let (server, cache) = (Server::start(Play::Stalled), tempfile::tempdir().unwrap());
    let path = hub_with(&server, cache.path(), Duration::from_secs(2)).fetch(REPO, FILE, &mut |_| ()).unwrap();
    assert!(std::fs::read(path).unwrap() == content());
}

#[test]
fn a_busy_server_is_asked_again() {
    assert!(fetched(Play::Busy(3)).1.unwrap() == content());
    assert!(matches!(fetched(Play::Busy(50)).1, Err(WeightsError::Download { reason, .. }) if reason.contains("503")));
}

#[test]
fn what_the_hub_denies_is_said_at_once() {
    for (status, word) in [(404, "no such file"), (401, "token"), (403, "token"), (410, "410")] {
        let (server, outcome, _cache) = fetched(Play::Status(status));
        let error = outcome.unwrap_err();
        assert!(error.to_string().contains(word) && error.to_string().contains(FILE), "{error}");
        assert_eq!((error.kind(), server.requests().len()), (ErrorKind::Upstream, 1));
    }
}

#[test]
fn wrong_bytes_are_thrown_away() {
    for (play, word) in [(Play::Altered, "SHA-256"), (Play::Short, "199990"), (Play::ShortAndExact, "attempts")] {
        let (_server, outcome, cache) = fetched(play);
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert!(!cache.path().join("models--owner--name/snapshots").exists());
    }
}

#[test]
fn a_web_page_is_no_checkpoint_and_is_not_kept() {
    let (server, outcome, cache) = fetched(Play::Page);
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("web page") && error.contains("login"), "{error}");
    assert_eq!((server.requests().len(), std::fs::read_dir(cache.path()).unwrap().count()), (1, 0));
}

#[test]
fn a_renamed_repository_is_followed() {
    assert!(fetched(Play::Moved).1.unwrap() == content());
}

#[test]
fn several_downloads_at_once_all_succeed() {
    let (server, cache) = (Server::start(Play::Whole), tempfile::tempdir().unwrap());
    std::thread::scope(|scope| {
        let fetch = || hub(&server, cache.path()).fetch(REPO, FILE, &mut |_| ()).map(|path| std::fs::read(path).unwrap());
        let downloads: Vec<_> = (0..8).map(|_| scope.spawn(fetch)).collect();
        for download in downloads {
            assert!(download.join().unwrap().unwrap() == content());
        }
    });
}

#[test]
fn the_token_goes_to_the_hub_and_not_to_its_storage() {
    let (server, outcome, _cache) = fetched(Play::Redirect);
    assert!(outcome.unwrap() == content());
    for request in server.requests() {
        let has_token = request.to_lowercase().contains("bearer secret");
        assert_eq!(has_token, request.contains("/resolve/"), "{request}");
    }
}

#[test]
fn offline_opens_no_socket() {
    let (server, cache) = (Server::start(Play::Whole), tempfile::tempdir().unwrap());
    let options = HubOptions {
        offline: true,
        ..HubOptions::from_variables(|name| match name {
            "HF_HOME" => Some(cache.path().display().to_string()),
            "HF_ENDPOINT" => Some(server.address.clone()),
            _ => None,
        })
    };
    assert_eq!(options.cache_dir, cache.path().join("hub"));
    let error = Hub::new(options).fetch(REPO, FILE, &mut |_| ()).unwrap_err();
    assert!(matches!(error, WeightsError::Offline { .. }) && server.requests().is_empty());
}
