//! Connections: how many there may be, and how long one may keep the server waiting.
//!
//! A connection without a request under way is closed after a while, whether it sent nothing, half a head, or is kept for later
//! requests. So is one whose client does not read its answer. At the limit, the connection that has been idle for longest makes
//! room for a new one.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::serve::{IncomingStream, Listener};
use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tower::Service;

use crate::api::Peer;
use crate::sync::IgnorePoison;

/// How long a connection may be without a request, and how long a client may take no byte of its answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pause after the system has refused a connection, which it does while descriptors are short.
const PAUSE: Duration = Duration::from_millis(100);

/// Bounds of connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConnectionLimits {
    /// Connections at once.
    pub(super) total: usize,
    /// Connections of one address at once; `None` for no bound of its own.
    pub(super) per_peer: Option<usize>,
}

/// A listener whose connections are bounded.
pub(super) struct BoundedListener {
    listener: TcpListener,
    limits: ConnectionLimits,
    open: OpenConnections,
    patience: Duration,
    /// The number of the next connection.
    next: AtomicU64,
}

/// All open connections, the oldest first.
type OpenConnections = Arc<Mutex<BTreeMap<u64, Arc<Activity>>>>;

/// What a connection is doing.
#[derive(Debug)]
pub(super) struct Activity {
    peer: IpAddr,
    /// Requests under way.
    requests: AtomicUsize,
    /// When the last request ended, or the connection began.
    idle_since: Mutex<Instant>,
    /// Set if it must make room for another.
    is_unwanted: AtomicBool,
    reader: AtomicWaker,
}

impl Activity {
    fn new(peer: IpAddr) -> Self {
        Self {
            peer,
            requests: AtomicUsize::new(0),
            idle_since: Mutex::new(Instant::now()),
            is_unwanted: AtomicBool::new(false),
            reader: AtomicWaker::new(),
        }
    }

    /// When it became idle; `None` while a request is under way.
    fn idle_since(&self) -> Option<Instant> {
        (self.requests.load(Ordering::Relaxed) == 0).then(|| *self.idle_since.lock().ignore_poison())
    }

    fn touch(&self) {
        *self.idle_since.lock().ignore_poison() = Instant::now();
    }

    fn close(&self) {
        self.is_unwanted.store(true, Ordering::Relaxed);
        self.reader.wake();
    }
}

/// As many connections as leave a quarter of this process's descriptors to files, but no more than the server is made for.
pub(super) fn most_connections() -> usize {
    const MOST: usize = 4096;
    const UNKNOWN: usize = 1024;
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let descriptors = limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next());
    let descriptors = descriptors.and_then(|count| count.parse::<usize>().ok()).unwrap_or(UNKNOWN);
    (descriptors / 4 * 3).clamp(1, MOST)
}

impl BoundedListener {
    pub(super) fn new(listener: TcpListener, limits: ConnectionLimits) -> Self {
        Self { listener, limits, open: OpenConnections::default(), patience: PATIENCE, next: AtomicU64::new(0) }
    }

    /// A place for a connection from `peer`, or `None` if it has too many, or all others are at work.
    fn admit(&self, peer: IpAddr) -> Option<(u64, Arc<Activity>)> {
        let mut open = self.open.lock().ignore_poison();
        let longest_idle = |open: &BTreeMap<u64, Arc<Activity>>, of_peer: bool| {
            let candidates = open.iter().filter(|(_, activity)| !of_peer || activity.peer == peer);
            candidates.filter_map(|(id, activity)| Some((activity.idle_since()?, *id))).min().map(|(_, id)| id)
        };
        let of_peer = || open.values().filter(|activity| activity.peer == peer).count();
        let makes_room = if self.limits.per_peer.is_some_and(|most| of_peer() >= most) {
            Some(longest_idle(&open, true)?)
        } else if open.len() >= self.limits.total {
            Some(longest_idle(&open, false)?)
        } else {
            None
        };
        if let Some(closed) = makes_room.and_then(|id| open.remove(&id)) {
            closed.close();
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let activity = Arc::new(Activity::new(peer));
        open.insert(id, activity.clone());
        Some((id, activity))
    }
}

impl Listener for BoundedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    // Without a place the connection is closed at once.
                    let Some((id, activity)) = self.admit(address.ip()) else { continue };
                    let timer = || Box::pin(tokio::time::sleep(self.patience));
                    let (open, patience) = (self.open.clone(), self.patience);
                    let (read_timer, write_timer) = (timer(), timer());
                    let connection =
                        Connection { stream, id, activity, open, patience, read_timer, write_timer, writes: false };
                    return (connection, address);
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when it is idle, or its client does not read, for too long.
pub(super) struct Connection {
    stream: TcpStream,
    id: u64,
    activity: Arc<Activity>,
    open: OpenConnections,
    patience: Duration,
    read_timer: Pin<Box<Sleep>>,
    write_timer: Pin<Box<Sleep>>,
    /// True while bytes wait for the client.
    writes: bool,
}

impl Connection {
    /// Fails once the connection has been idle for too long or must make room; wakes the task when that may have happened.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.activity.reader.register(context.waker());
        if self.activity.is_unwanted.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        // Looked at only when the timer fires: to set it anew for each request would cost each request.
        while self.read_timer.as_mut().poll(context).is_ready() {
            let end = self.activity.idle_since().unwrap_or_else(Instant::now) + self.patience;
            if end <= Instant::now() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.read_timer.as_mut().reset(end.into());
        }
        Ok(())
    }

    /// The outcome of a write, or the failure of a client that has taken nothing for too long.
    fn written<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.writes = false;
            self.activity.touch();
            return outcome;
        }
        if !self.writes {
            self.writes = true;
            let end = tokio::time::Instant::now() + self.patience;
            self.write_timer.as_mut().reset(end);
        }
        self.write_timer.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.lock().ignore_poison().remove(&self.id);
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_idle(context)?;
        Pin::new(&mut this.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.written(context, outcome)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(context, bytes);
        this.written(context, outcome)
    }
}

/// A request's connection.
#[derive(Clone, Debug)]
pub(super) struct RequestConnection(Arc<Activity>);

impl Connected<IncomingStream<'_, BoundedListener>> for RequestConnection {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        Self(stream.io().activity.clone())
    }
}

/// Counts a request as under way until its answer begins, when the time for reading it starts. Tells handlers who sent it.
#[derive(Clone, Debug)]
pub(super) struct CountRequests<S>(pub S);

/// Ends the count also if the client leaves.
struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.touch();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S: Service<Request, Future: Send + 'static>> Service<Request> for CountRequests<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let connection = request.extensions().get().map(|ConnectInfo(RequestConnection(activity))| activity.clone());
        let under_way = connection.map(|activity| {
            activity.requests.fetch_add(1, Ordering::Relaxed);
            request.extensions_mut().insert(Peer(activity.peer));
            UnderWay(activity)
        });
        let answer = self.0.call(request);
        Box::pin(async move {
            let _under_way = under_way;
            answer.await
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use axum::{Router, ServiceExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn serve(limits: ConnectionLimits, patience: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = BoundedListener { patience, ..BoundedListener::new(listener, limits) };
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(600)).await;
            "slow"
        };
        let large = || async { vec![0u8; 64 << 20] };
        let routes =
            Router::new().route("/", get(|| async { "here" })).route("/slow", get(slow)).route("/large", get(large));
        let service = CountRequests(routes);
        let service = ServiceExt::<Request>::into_make_service_with_connect_info::<RequestConnection>(service);
        tokio::spawn(async move { axum::serve(listener, service).await });
        address
    }

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    const MANY: ConnectionLimits = ConnectionLimits { total: 100, per_peer: None };

    #[tokio::test]
    async fn silent_connections_make_room_for_others() {
        let address = serve(ConnectionLimits { total: 3, per_peer: None }, PATIENCE).await;
        let mut silent = Vec::new();
        for _ in 0..5 {
            silent.push(TcpStream::connect(address).await.unwrap());
            assert!(ask(address, "/").await.ends_with("here"));
        }
        // The first ones have been closed.
        assert!(!matches!(silent[0].read(&mut [0; 1]).await, Ok(1..)));
    }

    #[tokio::test]
    async fn an_idle_connection_ends_and_a_slow_request_does_not() {
        let address = serve(MANY, Duration::from_millis(200)).await;
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"GET / HTT").await.unwrap();
        assert!(!matches!(half.read(&mut [0; 1]).await, Ok(1..)), "half a head is no request");
        assert!(ask(address, "/slow").await.ends_with("slow"));
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_left() {
        let address = serve(MANY, Duration::from_millis(200)).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let mut answer = Vec::new();
        // Ends early, in order or not.
        let _ = client.read_to_end(&mut answer).await;
        assert!(answer.len() < 64 << 20, "{}", answer.len());
    }

    #[tokio::test]
    async fn one_address_has_no_more_than_its_share() {
        let address = serve(ConnectionLimits { total: 100, per_peer: Some(2) }, PATIENCE).await;
        let mut silent = Vec::new();
        for _ in 0..4 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        assert!(ask(address, "/").await.ends_with("here"));
        assert!(!matches!(silent[0].read(&mut [0; 1]).await, Ok(1..)));
    }
}
