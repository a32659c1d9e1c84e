//! The client: what it retries, what it refuses, what it says.

use std::sync::Arc;
use std::time::Duration;

use satlas_serve::error::ErrorKind;
use satlas_serve::storage::{
    ByteSource, Client, ClientOptions, HttpBytes, ReadError, RemoteError, RemotePolicy, RemoteUrl,
};

use super::host::{Host, Reply, Stated};

/// A client of loopback that repeats at once, and waits for an answer longer than a busy machine takes.
pub(crate) fn client() -> Client {
    client_of(&["127.0.0.1"], true)
}

pub(crate) fn client_of(hosts: &[&str], allow_private: bool) -> Client {
    client_with(hosts, allow_private, Duration::from_secs(300))
}

/// A client that gives a host up soon.
pub(crate) fn impatient_client(timeout: Duration) -> Client {
    client_with(&["127.0.0.1"], true, timeout)
}

fn client_with(hosts: &[&str], allow_private: bool, timeout: Duration) -> Client {
    let policy = RemotePolicy { hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), allow_private };
    let options = ClientOptions { timeout, retry_delay: Duration::from_millis(1), ..ClientOptions::default() };
    Client::new(policy, options)
}

fn get(client: &Client, host: &Host, path: &str) -> Result<Vec<u8>, RemoteError> {
    client.get(&RemoteUrl::parse(&host.url(path)).unwrap(), 1000).map(|bytes| bytes.to_vec())
}

#[test]
fn a_file_is_fetched_and_so_is_a_part_of_it() {
    let host = Host::with_file(b"0123456789".to_vec());
    let url = RemoteUrl::parse(&host.url("/a.tif?key=1")).unwrap();
    assert_eq!(client().get(&url, 10).unwrap(), "0123456789");
    let file = HttpBytes::open(&Arc::new(client()), &url).unwrap();
    assert_eq!(file.read_at(3, 4).unwrap(), "3456");
    assert_eq!(file.read_at(8, 2).unwrap(), "89");
    assert!(matches!(file.read_at(8, 4), Err(ReadError::BeyondEnd { file_len: 10, .. })));
    assert_eq!(host.asked()[0].target, "/a.tif?key=1");
    assert_eq!(host.sent(), 20);
}

#[test]
fn passing_failures_are_retried_and_lasting_ones_are_not() {
    let host = Host::start(|asked, before| match (asked.target.as_str(), before) {
        ("/passing", 0) => Reply::new(503, "busy").header("retry-after", "0"),
        ("/passing", 1) => Reply::new(500, "oops"),
        ("/passing", _) => Reply::new(200, "fine"),
        ("/missing", _) => Reply::new(404, "nothing"),
        _ => Reply::new(502, "never"),
    });
    assert_eq!(get(&client(), &host, "/passing").unwrap(), b"fine");
    assert_eq!(host.asked().len(), 3);
    let missing = get(&client(), &host, "/missing").unwrap_err();
    assert!(missing.is_not_found());
    assert_eq!(host.asked().len(), 4);
    let broken = get(&client(), &host, "/broken").unwrap_err();
    assert!(matches!(broken, RemoteError::Status { status: 502, .. }), "{broken}");
    assert_eq!(broken.kind(), ErrorKind::Upstream);
    assert_eq!(host.asked().len(), 7);
}

#[test]
fn an_answer_that_breaks_off_is_asked_for_again() {
    let host = Host::start(|_, before| match before {
        0 => Reply { stated: Stated::Other(10), ..Reply::new(200, "01234") },
        _ => Reply::new(200, "0123456789"),
    });
    assert_eq!(get(&client(), &host, "/a").unwrap(), b"0123456789");
    let always = Host::start(|_, _| Reply { stated: Stated::Other(10), ..Reply::new(200, "01234") });
    let error = get(&client(), &always, "/a").unwrap_err();
    assert!(matches!(error, RemoteError::Failed { .. }), "{error}");
    assert_eq!(always.asked().len(), 3);
}

#[test]
fn a_host_that_never_answers_is_given_up() {
    let host = Host::start(|_, _| Reply { stalls: true, ..Reply::new(200, "never") });
    let error = get(&impatient_client(Duration::from_millis(50)), &host, "/a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

#[test]
fn a_body_is_bounded_whatever_the_host_states() {
    let host = Host::start(|asked, _| match asked.target.as_str() {
        "/stated" => Reply::new(200, vec![0; 1001]),
        // Without a length, the body ends with the connection.
        _ => Reply { stated: Stated::Nothing, ..Reply::new(200, vec![0; 1001]) },
    });
    for path in ["/stated", "/unstated"] {
        let error = get(&client(), &host, path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    }
}

#[test]
fn only_allowed_hosts_are_asked_and_the_refusal_says_how_to_allow_them() {
    let host = Host::with_file(b"x".to_vec());
    let error = get(&client_of(&["example.org"], true), &host, "/a?token=topsecret").unwrap_err();
    assert!(error.to_string().contains("--allow-host 127.0.0.1"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(host.asked().is_empty());
}

#[test]
fn private_addresses_are_refused_however_they_are_written() {
    let host = Host::with_file(b"x".to_vec());
    let port = host.address.port();
    for name in ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0.0.0.0", "[::ffff:127.0.0.1]", "169.254.169.254"] {
        let url = RemoteUrl::parse(&format!("http://{name}:{port}/a")).unwrap();
        let error = client_of(&["*"], false).get(&url, 1000).unwrap_err();
        assert!(matches!(error, RemoteError::PrivateHost { .. }), "{name}: {error}");
        assert!(error.to_string().contains("--allow-private-hosts"), "{error}");
    }
    assert!(host.asked().is_empty());
}

#[test]
fn redirects_are_followed_to_allowed_hosts_only() {
    let target = Host::with_file(b"moved".to_vec());
    let there = target.address.port();
    let host = Host::start(move |asked, _| match asked.target.as_str() {
        "/relative" => Reply::new(302, "").header("location", "a/../here"),
        "/here" => Reply::new(200, "here"),
        "/other" => Reply::new(307, "").header("location", format!("http://127.0.0.1:{there}/x")),
        "/named" => Reply::new(302, "").header("location", format!("http://localhost:{there}/x")),
        "/file" => Reply::new(302, "").header("location", "file:///etc/passwd"),
        _ => Reply::new(301, "").header("location", "/again"),
    });
    assert_eq!(get(&client(), &host, "/relative").unwrap(), b"here");
    assert_eq!(get(&client(), &host, "/other").unwrap(), b"moved");
    let named = get(&client(), &host, "/named").unwrap_err();
    assert!(matches!(&named, RemoteError::HostNotAllowed { host } if host == "localhost"), "{named}");
    assert!(matches!(get(&client(), &host, "/file").unwrap_err(), RemoteError::BadUrl { .. }));
    let circle = get(&client(), &host, "/again").unwrap_err();
    assert!(circle.to_string().contains("redirects more than 5 times"), "{circle}");
    assert_eq!(target.asked().len(), 1);
}

#[test]
fn nothing_that_is_said_of_an_address_repeats_its_secrets() {
    let host = Host::start(|asked, _| match asked.target.split('?').next().unwrap() {
        "/cut" => Reply { stated: Stated::Other(10), ..Reply::new(200, "x") },
        "/large" => Reply::new(200, vec![0; 2000]),
        "/stalled" => Reply { stalls: true, ..Reply::new(200, "") },
        "/moved" => Reply::new(302, "").header("location", "http://elsewhere.invalid/a?sig=topsecret"),
        _ => Reply::new(403, "topsecret"),
    });
    let impatient = impatient_client(Duration::from_millis(50));
    let patient = client();
    for (path, client) in
        [("/cut", &patient), ("/large", &patient), ("/stalled", &impatient), ("/moved", &patient), ("/forbidden", &patient)]
    {
        let error = get(client, &host, &format!("{path}?sig=topsecret")).unwrap_err();
        let said = format!("{error} {error:?}");
        assert!(!said.contains("topsecret"), "{said}");
    }
}

#[test]
fn a_part_that_is_not_the_one_asked_for_is_refused() {
    let host = Host::start(|asked, _| match asked.target.as_str() {
        "/shifted" => Reply::new(206, "0123").header("content-range", "bytes 4-7/10"),
        "/longer" => Reply::new(206, "012").header("content-range", "bytes 0-3/4"),
        "/shorter" => Reply::new(206, "0123").header("content-range", "bytes 0-3/10"),
        _ => Reply::new(206, "0123"),
    });
    let client = Arc::new(client());
    for path in ["/shifted", "/longer", "/shorter", "/silent"] {
        let error = HttpBytes::open(&client, &RemoteUrl::parse(&host.url(path)).unwrap()).unwrap_err();
        assert!(matches!(error, RemoteError::Failed { .. }), "{path}: {error}");
    }
}

#[test]
fn json_is_posted() {
    let host = Host::start(|asked, _| Reply::new(200, asked.body.clone()));
    let url = RemoteUrl::parse(&host.url("/search")).unwrap();
    assert_eq!(client().post_json(&url, b"{\"limit\":1}", 100).unwrap(), "{\"limit\":1}");
    assert_eq!(host.asked()[0].header("content-type"), Some("application/json"));
    assert_eq!(host.asked()[0].method, "POST");
}
