//! Cache of encoded tiles by ETag, so that repeated and concurrent requests for a tile are computed and encoded once: in memory, and
//! behind it in the [cache that servers share](crate::shared_cache), if there is one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::HeaderValue;
use moka::future::Cache;

use super::answer::{EncodedAnswer, SERVER_TIMING};
use super::error::Problem;
use super::problem_kind::ProblemKind;
use super::stored_answer;
use crate::error::ErrorKind;
use crate::shared_cache::{Looked, SharedCache};
use crate::telemetry;

#[derive(Clone)]
pub(super) struct TileCache {
    answers: Cache<String, EncodedAnswer>,
    shared: Option<SharedCache>,
}

/// Rough size of an entry's key and headers, counted in addition to the body.
const OVERHEAD_BYTES: usize = 1024;

impl TileCache {
    /// An empty cache that holds at most `bytes`, in front of a shared one.
    pub(super) fn new(bytes: u64, shared: Option<SharedCache>) -> Self {
        let weigh =
            |_: &String, answer: &EncodedAnswer| u32::try_from(answer.body.len() + OVERHEAD_BYTES).unwrap_or(u32::MAX);
        Self { answers: Cache::builder().name("tiles").max_capacity(bytes).weigher(weigh).build(), shared }
    }

    /// The answer with this ETag; if it is not cached, `make` computes it. Concurrent callers wait for the same answer. If the
    /// computing one is dropped, or refused for its own lack of time, a waiting one starts its own `make`.
    ///
    /// # Errors
    /// The error of `make`, which every waiting caller gets; it is not cached.
    pub(super) async fn get<M>(&self, etag: &str, make: impl Fn() -> M) -> Result<EncodedAnswer, Problem>
    where
        M: Future<Output = Result<EncodedAnswer, Problem>>,
    {
        if let Some(answer) = self.answers.get(etag).await {
            return Ok(found(answer));
        }
        loop {
            let tried = AtomicBool::new(false);
            let make = async {
                tried.store(true, Ordering::Relaxed);
                self.shared_or_made(etag, &make).await
            };
            // Boxed to keep the future of a cache hit small: a prediction's state is large and would be moved with it.
            let made = Box::pin(self.answers.entry_by_ref(etag).or_try_insert_with(make)).await;
            match made {
                Err(problem)
                    if problem.kind == ProblemKind::Domain(ErrorKind::Overloaded) && !tried.load(Ordering::Relaxed) => {}
                made => {
                    let entry = made.map_err(Arc::unwrap_or_clone)?;
                    if !entry.is_fresh() {
                        return Ok(found(entry.into_value()));
                    }
                    count("miss");
                    return Ok(entry.into_value());
                }
            }
        }
    }
}

impl TileCache {
    /// The answer from the shared cache, which gets it otherwise.
    async fn shared_or_made<M>(&self, etag: &str, make: impl Fn() -> M) -> Result<EncodedAnswer, Problem>
    where
        M: Future<Output = Result<EncodedAnswer, Problem>>,
    {
        let Some(shared) = &self.shared else { return make().await };
        let name = etag.trim_matches('"');
        let turn = match shared.look_up(name).await {
            Looked::Found(value) => match stored_answer::read(&value) {
                Some(mut answer) => {
                    answer.headers.insert(SERVER_TIMING, HeaderValue::from_static(NOTHING_DONE_HERE));
                    return Ok(answer);
                }
                // Overwritten, as nobody can use it.
                None => shared.turn(name),
            },
            Looked::Missing(turn) => turn,
        };
        let answer = turn.during(make()).await?;
        if let Some(value) = stored_answer::written(&answer) {
            turn.store(value);
        }
        Ok(answer)
    }
}

/// A cached answer, with the `Server-Timing` of a hit instead of the one from its computation.
fn found(mut answer: EncodedAnswer) -> EncodedAnswer {
    count("hit");
    answer.headers.insert(SERVER_TIMING, HeaderValue::from_static(NOTHING_DONE));
    answer
}

fn count(outcome: &'static str) {
    metrics::counter!(telemetry::CACHE_LOOKUPS_TOTAL, "cache" => "tiles", "outcome" => outcome).increment(1);
}

/// `Server-Timing` of a cached answer.
const NOTHING_DONE: &str = "read;dur=0, queue;dur=0, infer;dur=0, encode;dur=0, cache;desc=hit";

/// `Server-Timing` of an answer that another server made.
const NOTHING_DONE_HERE: &str = "read;dur=0, queue;dur=0, infer;dur=0, encode;dur=0, cache;desc=shared";

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::HeaderMap;

    use super::*;

    fn answer() -> EncodedAnswer {
        EncodedAnswer { body: bytes::Bytes::from_static(b"tile"), headers: HeaderMap::new() }
    }

    #[tokio::test]
    async fn equal_requests_share_one_answer() {
        let (cache, made) = (TileCache::new(1 << 20, None), AtomicUsize::new(0));
        let ask = || {
            cache.get("a", async || {
                tokio::task::yield_now().await;
                made.fetch_add(1, Ordering::Relaxed);
                Ok(answer())
            })
        };
        let (one, two, three) = tokio::join!(ask(), ask(), ask());
        assert!(one.is_ok() && two.is_ok() && three.is_ok());
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_does_not_take_the_others_answer_with_it() {
        let cache = TileCache::new(1 << 20, None);
        let leaver = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get("a", std::future::pending).await }
        });
        tokio::task::yield_now().await;
        leaver.abort();
        assert!(cache.get("a", async || { Ok(answer()) }).await.is_ok());
    }

    #[tokio::test]
    async fn a_caller_that_is_refused_for_its_own_lack_of_time_does_not_fail_the_others() {
        let cache = TileCache::new(1 << 20, None);
        let refused = cache.get("a", async || {
            tokio::task::yield_now().await;
            Err(Problem::new(ErrorKind::Overloaded, "too late"))
        });
        let waits = cache.get("a", async || Ok(answer()));
        let (refused, served) = tokio::join!(refused, waits);
        assert!(refused.is_err() && served.is_ok());
    }

    #[tokio::test]
    async fn servers_share_what_one_of_them_has_made() {
        use crate::shared_cache::fake_server::{FakeServer, until};
        let server = FakeServer::start().await;
        let (one, two) = (server.cache().await, server.cache().await);
        let made = AtomicUsize::new(0);
        let make = async || {
            made.fetch_add(1, Ordering::Relaxed);
            let mut answer = answer();
            answer.headers.insert("content-type", HeaderValue::from_static("image/png"));
            Ok(answer)
        };
        assert!(TileCache::new(1 << 20, Some(one)).get("\"a\"", make).await.is_ok());
        until(|| server.value("satlas:tile:a").is_some()).await;
        let two = TileCache::new(1 << 20, Some(two));
        let shared = two.get("\"a\"", make).await.unwrap();
        assert_eq!((shared.body.as_ref(), made.load(Ordering::Relaxed)), (&b"tile"[..], 1));
        assert!(shared.headers[SERVER_TIMING].to_str().unwrap().ends_with("cache;desc=shared"));
        // What cannot be read is made, and replaced.
        server.put("satlas:tile:b", b"no tile");
        assert!(two.get("\"b\"", make).await.is_ok());
        until(|| server.value("satlas:tile:b").is_some_and(|value| value.ends_with(b"\ntile"))).await;
    }

    #[tokio::test]
    async fn failures_are_not_kept() {
        let cache = TileCache::new(1 << 20, None);
        assert!(cache.get("a", async || { Err(Problem::internal("no")) }).await.is_err());
        assert!(cache.get("a", async || { Ok(answer()) }).await.is_ok());
    }
}
