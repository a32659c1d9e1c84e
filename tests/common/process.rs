//! The real binary: one command run to its end, or a server on a free port.

#![allow(dead_code, reason = "every test file uses its own part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

/// The longest that a test waits for an answer before it fails; no assertion depends on it.
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_satlas-serve"));
    command.args(arguments).env_remove("RUST_BACKTRACE");
    command
}

pub(crate) fn run(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the binary runs")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server that ends with the test.
pub(crate) struct Server {
    process: Child,
    pub address: String,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut process = command(&[&["--port", "0"], arguments].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("stdout is piped")).read_line(&mut line).expect("a line of text");
        let address = line.trim().rsplit("http://").next().expect("an address").to_owned();
        Self { process, address }
    }

    /// Status and body of a GET request.
    pub(crate) fn get(&self, path: &str) -> (u16, Vec<u8>) {
        self.ask(&format!("GET {path}"), "", &[])
    }

    pub(crate) fn ask(&self, method_and_path: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = self.begin(method_and_path, headers, body.len());
        stream.write_all(body).expect("it takes bodies");
        answer(stream)
    }

    /// A request up to its body, which is left to the caller.
    pub(crate) fn begin(&self, method_and_path: &str, headers: &str, body_bytes: usize) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).expect("the printed address is listened on");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        let address = &self.address;
        let always = format!("Host: {address}\r\nConnection: close\r\nContent-Length: {body_bytes}\r\n");
        write!(stream, "{method_and_path} HTTP/1.1\r\n{always}{headers}\r\n").expect("it takes requests");
        stream
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until the process ends by itself.
    pub(crate) fn ended(mut self) -> ExitStatus {
        self.process.wait().expect("it was started here")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Status and body of the answer to a request.
pub(crate) fn answer(mut stream: TcpStream) -> (u16, Vec<u8>) {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let status = text(&answer[9..12]).parse().expect("a status code");
    (status, answer.split_off(head + 4))
}
