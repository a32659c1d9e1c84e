//! An HTTP/1.1 host on loopback whose answers are scripted to the byte, which web frameworks keep one from doing.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a client asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The range asked for, first and last byte.
    pub(crate) fn range(&self) -> Option<(usize, usize)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    }
}

/// The length that an answer states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stated {
    Own,
    Other(usize),
    Nothing,
}

/// What the host answers.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// The length it states; the connection ends with the body where it is not the body's own.
    pub stated: Stated,
    /// Waits before the answer.
    pub delay: Duration,
    /// Never answers, and waits until the client hangs up.
    pub stalls: bool,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), stated: Stated::Own, delay: Duration::ZERO, stalls: false }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The part of `file` that was asked for, as a good host answers.
    pub(crate) fn part(file: &[u8], asked: &Asked) -> Self {
        match asked.range() {
            None => Self::new(200, file),
            Some((first, _)) if first >= file.len() => {
                Self::new(416, "").header("content-range", format!("bytes */{}", file.len()))
            }
            Some((first, last)) => {
                let last = last.min(file.len() - 1);
                Self::new(206, &file[first..=last]).header("content-range", format!("bytes {first}-{last}/{}", file.len()))
            }
        }
    }
}

type Script = dyn Fn(&Asked, usize) -> Reply + Send + Sync;

/// A running host. Its threads end with the process.
#[derive(Clone)]
pub(crate) struct Host {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    sent: Arc<AtomicU64>,
}

impl Host {
    /// Starts a host that answers by `script`, which is given the request and how many came before it.
    pub(crate) fn start(script: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = Self { address: listener.local_addr().unwrap(), asked: Arc::default(), sent: Arc::default() };
        let (running, script): (_, Arc<Script>) = (host.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (running, script) = (running.clone(), script.clone());
                // A client that hangs up is part of the tests.
                std::thread::spawn(move || running.serve(stream, &*script).unwrap_or_default());
            }
        });
        host
    }

    /// A host with one file at every path.
    pub(crate) fn with_file(file: Vec<u8>) -> Self {
        Self::start(move |asked, _| Reply::part(&file, asked).header("etag", "\"one\""))
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Every request so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Bytes of bodies so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    fn serve(&self, stream: TcpStream, script: &Script) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        while let Some(asked) = read(&mut reader)? {
            let before = {
                let mut all = self.asked.lock().unwrap();
                all.push(asked.clone());
                all.len() - 1
            };
            let reply = script(&asked, before);
            if reply.stalls {
                return std::io::copy(&mut reader, &mut std::io::sink()).map(drop);
            }
            std::thread::sleep(reply.delay);
            let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
            match reply.stated {
                Stated::Own => head += &format!("content-length: {}\r\n", reply.body.len()),
                Stated::Other(length) => head += &format!("content-length: {length}\r\n"),
                Stated::Nothing => head += "connection: close\r\n",
            }
            for (name, value) in &reply.headers {
                head += &format!("{name}: {value}\r\n");
            }
            writer.write_all(format!("{head}\r\n").as_bytes())?;
            // Counted first: a client that has the body may ask at once.
            self.sent.fetch_add(reply.body.len() as u64, Ordering::Relaxed);
            writer.write_all(&reply.body)?;
            if reply.stated != Stated::Own {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut asked = Asked { method, target, ..Asked::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        asked.headers.push((name.to_lowercase(), value.to_owned()));
    }
    let length = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    asked.body = vec![0; length];
    std::io::Read::read_exact(reader, &mut asked.body)?;
    Ok(Some(asked))
}
