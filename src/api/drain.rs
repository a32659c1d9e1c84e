//! Reads what is left of a request body that its handler did not read.
//!
//! A response may be ready before the body has arrived: an unknown model, an upload beyond the limit. If the connection were
//! closed then, the client's next write would fail, and many clients report that failure ("broken pipe") instead of the response.
//! So the rest of the body is received and thrown away, within bounds, as nginx does (`lingering_close`).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use futures::{Stream, StreamExt};

/// The longest that the rest of a body is received.
const MAX_TIME: Duration = Duration::from_secs(30);
/// The longest pause of the client.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Lets a handler drop the body of its request without losing the client.
pub(super) fn drain_unread(request: Request) -> Request {
    // A client that waits for `100 Continue` sends no body before it is told to, which reading the body would do.
    let waits = request.headers().get(header::EXPECT).is_some_and(is_continue);
    if request.body().is_end_stream() || waits {
        return request;
    }
    request.map(|body| Body::from_stream(DrainedBody { chunks: body.into_data_stream() }))
}

fn is_continue(expectation: &HeaderValue) -> bool {
    expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// A request body whose rest is received when it is dropped.
struct DrainedBody {
    chunks: BodyDataStream,
}

impl Stream for DrainedBody {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.poll_next_unpin(context)
    }
}

impl Drop for DrainedBody {
    fn drop(&mut self) {
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

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
        drop(DrainedBody { chunks: body.into_data_stream() });
        while taken.load(Ordering::Relaxed) < 100 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_client_that_pauses_is_not_waited_for() {
        let pending = futures::stream::pending::<Result<Bytes, std::io::Error>>();
        receive(Body::from_stream(pending).into_data_stream(), Duration::from_millis(1)).await;
    }
}
