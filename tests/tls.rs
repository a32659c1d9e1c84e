//! Connections to a host whose certificate comes from a private authority. Python plays the host, since nothing in this project can.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use satlas_serve::storage::{Authorities, Client, ClientOptions, RemotePolicy};
use satlas_serve::weights::{Hub, HubOptions};

const AUTHORITY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/authority.pem");

/// Answers every request with ten bytes, as the hub would.
const HOST: &str = "
import http.server, ssl, sys
class Host(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header('ETag', '\"0123456789\"')
        self.send_header('X-Repo-Commit', '0' * 40)
        self.send_header('Content-Type', 'application/octet-stream')
        self.send_header('Content-Length', '10')
        self.end_headers()
        self.wfile.write(b'' if self.command == 'HEAD' else b'0123456789')
    do_HEAD = do_GET
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Host)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1] + '/server.pem', sys.argv[1] + '/server.key')
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
server.serve_forever()
";

struct Host {
    process: Child,
    endpoint: String,
}

impl Host {
    /// `None` where there is no Python: cargo and what it builds are all that tests may count on.
    fn start() -> Option<Self> {
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");
        let started = Command::new("python3").args(["-c", HOST, fixtures]).stdout(Stdio::piped()).spawn();
        let mut process = started.inspect_err(|error| eprintln!("skipped: python3: {error}")).ok()?;
        let mut port = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
        Some(Self { process, endpoint: format!("https://localhost:{}", port.trim()) })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn variables(authority: &str) -> impl Fn(&str) -> Option<String> {
    move |name| (name == "SSL_CERT_FILE").then(|| authority.to_owned())
}

#[test]
fn remote_imagery_comes_from_hosts_whose_authority_ssl_cert_file_names() {
    let Some(host) = Host::start() else { return };
    let get = |authorities: Authorities| {
        let policy = RemotePolicy { hosts: vec!["localhost".to_owned()], allow_private: true };
        let client = Client::new(policy, ClientOptions { authorities, attempts: 1, ..ClientOptions::default() });
        client.get(&client.locate(&format!("{}/map.tif", host.endpoint)).unwrap(), 1 << 10)
    };
    assert_eq!(get(Authorities::from_variables(variables(AUTHORITY))).unwrap(), b"0123456789"[..]);
    for strangers in [Authorities::default(), Authorities::from_variables(variables("/nowhere"))] {
        let error = get(strangers).unwrap_err().to_string();
        assert!(error.to_lowercase().contains("certificate"), "{error}");
    }
}

#[test]
fn the_hub_may_have_a_certificate_of_that_authority() {
    let Some(host) = Host::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let fetch = |authority: &str| {
        let options = HubOptions {
            cache_dir: directory.path().join(authority.len().to_string()),
            endpoint: host.endpoint.clone(),
            retry_delay: std::time::Duration::ZERO,
            ..HubOptions::from_variables(variables(authority))
        };
        Hub::new(options).fetch("owner/name", "model.pth", &mut |_| ())
    };
    assert_eq!(std::fs::read(fetch(AUTHORITY).unwrap()).unwrap(), b"0123456789");
    let error = fetch("/nowhere").unwrap_err().to_string();
    assert!(error.to_lowercase().contains("certificate"), "{error}");
}
