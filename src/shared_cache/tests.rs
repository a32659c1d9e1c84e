//! Sharing, waiting, and losing the cache. Without a connection a look-up is `Missing` at once.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::fake_server::{FakeServer, until};
use super::*;
use crate::sync::IgnorePoison;

fn found(looked: Looked) -> Option<Bytes> {
    match looked {
        Looked::Found(value) => Some(value),
        Looked::Missing(_) => None,
    }
}

fn missing(looked: Looked) -> Turn {
    match looked {
        Looked::Found(value) => panic!("found {value:?}"),
        Looked::Missing(turn) => turn,
    }
}

#[tokio::test]
async fn what_one_server_makes_another_one_finds() {
    let server = FakeServer::start().await;
    let (one, two) = (server.cache().await, server.cache().await);
    let turn = missing(one.look_up("a").await);
    assert!(server.value("satlas:lease:a").is_some());
    let waits = tokio::spawn(async move { found(two.look_up("a").await) });
    turn.during(tokio::time::sleep(Duration::from_millis(60))).await;
    turn.store(Bytes::from_static(b"tile"));
    assert_eq!(waits.await.unwrap().unwrap(), "tile");
    until(|| server.value("satlas:lease:a").is_none()).await;
}

#[tokio::test]
async fn a_server_that_fails_lets_the_next_one_try() {
    let server = FakeServer::start().await;
    let (one, two) = (server.cache().await, server.cache().await);
    let turn = missing(one.look_up("a").await);
    let waits = tokio::spawn(async move { missing(two.look_up("a").await) });
    tokio::task::yield_now().await;
    drop(turn);
    let _next = waits.await.unwrap();
    assert!(server.value("satlas:lease:a").is_some(), "the one that waited has the lease now");
}

#[tokio::test]
async fn a_lease_is_kept_for_as_long_as_the_work_lasts() {
    let server = FakeServer::start().await;
    let cache = server.cache().await;
    let turn = missing(cache.look_up("a").await);
    let end = |key: &str| server.keys.lock().ignore_poison()[key].1;
    let first = end("satlas:lease:a");
    turn.during(until(|| end("satlas:lease:a") > first)).await;
}

#[tokio::test]
async fn too_large_values_are_neither_written_nor_read() {
    let server = FakeServer::start().await;
    let cache = server.cache().await;
    missing(cache.look_up("a").await).store(Bytes::from(vec![1; 1025]));
    until(|| server.value("satlas:lease:a").is_none()).await;
    assert!(server.value("satlas:tile:a").is_none());
    server.put("satlas:tile:b", &[1; 4096]);
    drop(missing(cache.look_up("b").await));
    missing(cache.look_up("c").await).store(Bytes::from(vec![1; 1024]));
    until(|| server.value("satlas:tile:c").is_some()).await;
    assert!(found(cache.look_up("c").await).is_some());
}

#[tokio::test]
async fn a_lost_server_costs_no_time_and_is_used_again_when_it_is_back() {
    let server = FakeServer::start().await;
    let cache = server.cache().await;
    let port = server.stop().await;
    // The first look-up may notice the loss only now.
    drop(missing(cache.look_up("a").await));
    let began = Instant::now();
    for _ in 0..100 {
        drop(missing(cache.look_up("a").await));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let server = FakeServer::again(port).await;
    until(|| cache.shared.link.connection().is_some()).await;
    missing(cache.look_up("a").await).store(Bytes::from_static(b"tile"));
    until(|| server.value("satlas:tile:a").is_some()).await;
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_after_a_few_questions() {
    let server = FakeServer::start().await;
    let cache = server.cache_with(Duration::from_millis(20)).await;
    server.is_silent.store(true, Ordering::Relaxed);
    for _ in 0..3 {
        assert!(cache.shared.link.connection().is_some());
        drop(missing(cache.look_up("a").await));
    }
    assert!(cache.shared.link.connection().is_none());
}
