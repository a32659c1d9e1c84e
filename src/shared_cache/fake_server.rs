//! A server that speaks enough of the Redis protocol (RESP2) for tests: GETRANGE, SET with NX and PX, and the two scripts of leases.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{RedisUrl, SharedCache, SharedCacheOptions};
use crate::storage::Authorities;
use crate::sync::IgnorePoison;

/// A server on this machine; it ends with this.
pub(crate) struct FakeServer {
    port: u16,
    pub(crate) keys: Keys,
    /// While true, nothing is answered.
    pub(crate) is_silent: Arc<AtomicBool>,
    serving: JoinSet<()>,
}

/// Values with the end of their time.
type Keys = Arc<Mutex<HashMap<String, (Vec<u8>, Instant)>>>;

impl FakeServer {
    pub(crate) async fn start() -> Self {
        Self::on(0, Keys::default()).await
    }

    /// Stops it, closing all connections, and returns its port.
    pub(crate) async fn stop(mut self) -> u16 {
        self.serving.shutdown().await;
        self.port
    }

    /// A new one on the port of one that was stopped.
    pub(crate) async fn again(port: u16) -> Self {
        Self::on(port, Keys::default()).await
    }

    async fn on(port: u16, keys: Keys) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let is_silent = Arc::new(AtomicBool::new(false));
        let mut serving = JoinSet::new();
        let (kept, silent) = (keys.clone(), is_silent.clone());
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, kept.clone(), silent.clone()));
            }
        });
        Self { port, keys, is_silent, serving }
    }

    /// A cache on it that is connected, and has time on a busy machine.
    pub(crate) async fn cache(&self) -> SharedCache {
        self.cache_with(Duration::from_secs(20)).await
    }

    pub(super) async fn cache_with(&self, patience: Duration) -> SharedCache {
        let url: RedisUrl = format!("redis://127.0.0.1:{}", self.port).parse().unwrap();
        let options = SharedCacheOptions { url, max_entry_bytes: 1 << 10, expiry: Duration::from_secs(60), patience };
        let cache = SharedCache::new(&options, Authorities::Mozilla);
        until(|| cache.shared.link.connection().is_some()).await;
        cache
    }

    /// Puts a value, as another program might.
    pub(crate) fn put(&self, key: &str, value: &[u8]) {
        let end = Instant::now() + Duration::from_secs(60);
        self.keys.lock().ignore_poison().insert(key.to_owned(), (value.to_vec(), end));
    }

    /// The value of a key.
    pub(crate) fn value(&self, key: &str) -> Option<Vec<u8>> {
        let keys = self.keys.lock().ignore_poison();
        keys.get(key).filter(|(_, end)| *end > Instant::now()).map(|(value, _)| value.clone())
    }
}

/// Waits for a state that comes soon.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let waited = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect("it comes in time");
}

async fn serve(stream: TcpStream, keys: Keys, is_silent: Arc<AtomicBool>) {
    let mut stream = BufStream::new(stream);
    while let Some(command) = read(&mut stream).await {
        if is_silent.load(Ordering::Relaxed) {
            continue;
        }
        let reply = answer(&command, &mut keys.lock().ignore_poison());
        if stream.write_all(&reply).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

/// The words of a command.
async fn read(stream: &mut BufStream<TcpStream>) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    for _ in 0..number(stream).await? {
        let mut word = vec![0; number(stream).await? + 2];
        stream.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        words.push(word);
    }
    Some(words)
}

/// The number in a line such as `*3` or `$5`.
async fn number(stream: &mut BufStream<TcpStream>) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    line[1..].trim_end().parse().ok()
}

fn answer(command: &[Vec<u8>], keys: &mut HashMap<String, (Vec<u8>, Instant)>) -> Vec<u8> {
    keys.retain(|_, (_, end)| *end > Instant::now());
    let words: Vec<String> = command.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let end = |ms: &str| Instant::now() + Duration::from_millis(ms.parse().unwrap());
    match words[..] {
        ["GETRANGE", key, "0", last] => {
            let last: usize = last.parse().unwrap();
            let value = keys.get(key).map_or(&[][..], |(value, _)| &value[..value.len().min(last + 1)]);
            [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
        }
        ["SET", key, _, "NX", "PX", _] if keys.contains_key(key) => b"$-1\r\n".to_vec(),
        ["SET", key, _, .., "PX", ms] => {
            keys.insert(key.to_owned(), (command[2].clone(), end(ms)));
            b"+OK\r\n".to_vec()
        }
        ["EVAL", script, "1", key, token, ref rest @ ..] => {
            let is_own = keys.get(key).is_some_and(|(value, _)| value == token.as_bytes());
            match (is_own, rest) {
                (true, [ms]) if script.contains("PEXPIRE") => {
                    keys.get_mut(key).unwrap().1 = end(ms);
                }
                (true, _) if script.contains("DEL") => drop(keys.remove(key)),
                _ => {}
            }
            format!(":{}\r\n", u8::from(is_own)).into_bytes()
        }
        _ => b"-ERR unknown command\r\n".to_vec(),
    }
}
