//! Reads what is left of a request body that its handler did not read.
//!
//! A response may be ready before the body has arrived: an unknown model, an upload beyond the limit. If the connection were
//! closed then, the client's next write would fail, and many clients report that failure ("broken pipe") instead of the response.
//! So the rest of the body is received and thrown away, within bounds, as nginx does (`lingering_close`).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Version, header};
use futures::{Stream, StreamExt};

/// The longest that the rest of a body is received.
const MAX_TIME: Duration = Duration::from_secs(30);
/// The longest pause of the client.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Whether the body of a request is on its way: always, unless the client waits for `100 Continue`. Such a one sends none before it is
/// told to, which reading the body does.
#[derive(Clone)]
pub(super) struct Sent(Option<Arc<AtomicBool>>);

impl Sent {
    fn is_certain(&self) -> bool {
        self.0.as_ref().is_none_or(|asked| asked.load(Ordering::Relaxed))
    }

    /// Says in the answer that the connection ends with it if the client was never told to send its body: some send it all the same,
    /// and it would be taken for their next request.
    pub(super) fn close_unsent(&self, version: Version, headers: &mut HeaderMap) {
        if !self.is_certain() && version <= Version::HTTP_11 {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Lets a handler drop the body of its request without losing the client.
pub(super) fn drain_unread(request: Request) -> (Request, Sent) {
    let is_empty = request.body().is_end_stream();
    let waits = !is_empty && request.headers().get(header::EXPECT).is_some_and(is_continue);
    let sent = Sent(waits.then(Arc::default));
    if is_empty {
        return (request, sent);
    }
    let body = |body: Body| Body::from_stream(DrainedBody { chunks: body.into_data_stream(), sent: sent.clone() });
    (request.map(body), sent)
}

fn is_continue(expectation: &HeaderValue) -> bool {
    expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// A request body whose rest is received when it is dropped.
struct DrainedBody {
    chunks: BodyDataStream,
    sent: Sent,
}

impl Stream for DrainedBody {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(asked) = &self.sent.0 {
            asked.store(true, Ordering::Relaxed);
        }
        self.chunks.poll_next_unpin(context)
    }
}

impl Drop for DrainedBody {
    fn drop(&mut self) {
        if !self.sent.is_certain() {
            return;
        }
        let rest = std::mem::replace(&mut self.chunks, Body::empty().into_data_stream());
        // Without a runtime the server has ended, and nobody waits for a response.
        if let (false, Ok(runtime)) = (rest.is_end_stream(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(tokio::time::timeout(MAX_TIME, receive(rest, MAX_PAUSE)));
        }
    }
}

/// Receives a body to its end, to an error, or until the client pauses for longer than `max_pause`.
async fn receive(mut chunks: BodyDataStream, max_pause: Duration) {
    while let Ok(Some(Ok(_))) = tokio::time::timeout(max_pause, chunks.next()).await {}
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// A body of `chunks` chunks, and how many of them have been taken.
    fn counted(chunks: usize) -> (Body, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let chunk = move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from_static(b"chunk"))
        };
        (Body::from_stream(futures::stream::iter(0..chunks).map(chunk)), taken)
    }

    #[tokio::test]
    async fn what_a_handler_leaves_is_received() {
        let (body, taken) = counted(100);
        let (request, sent) = drain_unread(Request::new(body));
        drop(request);
        let mut headers = HeaderMap::new();
        sent.close_unsent(Version::HTTP_11, &mut headers);
        assert!(headers.is_empty(), "{headers:?}");
        while taken.load(Ordering::Relaxed) < 100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_body_that_waits_is_not_asked_for_and_ends_the_connection() {
        let expecting = |body| Request::builder().header(header::EXPECT, "100-Continue").body(body).unwrap();
        let (body, taken) = counted(3);
        let (request, sent) = drain_unread(expecting(body));
        drop(request);
        tokio::task::yield_now().await;
        assert_eq!(taken.load(Ordering::Relaxed), 0);
        let mut headers = HeaderMap::new();
        sent.close_unsent(Version::HTTP_2, &mut headers);
        assert!(headers.is_empty(), "{headers:?}");
        sent.close_unsent(Version::HTTP_11, &mut headers);
        assert_eq!(headers[header::CONNECTION], "close");

        let (body, taken) = counted(3);
        let (request, sent) = drain_unread(expecting(body));
        let mut chunks = request.into_body().into_data_stream();
        assert!(chunks.next().await.is_some());
        drop(chunks);
        while taken.load(Ordering::Relaxed) < 3 {
            tokio::task::yield_now().await;
        }
        let mut headers = HeaderMap::new();
        sent.close_unsent(Version::HTTP_11, &mut headers);
        assert!(headers.is_empty(), "{headers:?}");
    }

    #[tokio::test]
    async fn a_client_that_pauses_is_not_waited_for() {
        let pending = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        receive(Body::from_stream(pending).into_data_stream(), Duration::from_millis(1)).await;
    }
}
