//! What every queue of blocks promises, checked on SQLite always, and on the PostgreSQL (with pgmq) that `SATLAS_TEST_DATABASE_URL` names.
//!
//! `SATLAS_TEST_BLOCKS` says how many blocks the large job has: 20,000 by default, a million in `tests/fleet/chaos.py --long`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test may report figures and fails by panicking")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use satlas_serve::fleet::{
    BlockQueue, DatabaseUrl, FleetError, FleetJob, FleetJobState, JobId, Lease, MAX_ATTEMPTS, Message, NewFleetJob,
    SendProgress, fail, hand_back,
};

const LONG: Duration = Duration::from_secs(600);
/// The shortest lease that pgmq gives, and a little more than that.
const SHORT: Duration = Duration::from_secs(1);
const BEYOND_SHORT: Duration = Duration::from_millis(1200);

/// Runs a check on each kind of database.
fn on_each(check: impl AsyncFn(Arc<dyn BlockQueue>)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let postgres = std::env::var("SATLAS_TEST_DATABASE_URL").ok();
    if postgres.is_none() {
        println!("SKIPPED on PostgreSQL: SATLAS_TEST_DATABASE_URL names none");
    }
    let file = format!("sqlite:{}", folder.path().join("jobs.db").display());
    let urls: Vec<String> = postgres.into_iter().chain([file]).collect();
    for url in urls {
        runtime.block_on(async {
            let url: DatabaseUrl = url.parse().unwrap();
            check(url.open().await.unwrap()).await;
        });
    }
}

fn job(blocks: usize) -> NewFleetJob {
    NewFleetJob {
        text: r#"{"model":"world"}"#.to_owned(),
        identity: "identity".to_owned(),
        destination: "/results".to_owned(),
        blocks: (0..blocks).map(|number| format!("block-{number:07}-0000000")).collect(),
    }
}

fn silent() -> SendProgress {
    Arc::new(|_| ())
}

async fn submit(queue: &dyn BlockQueue, blocks: usize) -> JobId {
    queue.submit(job(blocks), silent()).await.unwrap()
}

async fn claim(queue: &dyn BlockQueue, id: JobId, lease: Duration) -> Lease {
    queue.claim(id, lease).await.unwrap().expect("a message")
}

async fn found(queue: &dyn BlockQueue, id: JobId) -> FleetJob {
    queue.jobs(Some(id), 1).await.unwrap().pop().expect("the job")
}

fn counts(job: &FleetJob) -> (FleetJobState, u64, u64, u64) {
    (job.state, job.done, job.failed, job.in_work)
}

#[test]
fn a_job_ends_with_the_message_for_its_collection() {
    on_each(async |queue| {
        let queue = &*queue;
        let id = submit(queue, 3).await;
        assert_eq!(queue.stored(id).await.unwrap().text, job(0).text);
        assert!(queue.running(1000).await.unwrap().contains(&id));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(claim(queue, id, LONG).await);
        }
        let blocks: Vec<_> = held.iter().map(|lease| lease.message.block.clone().unwrap()).collect();
        assert_eq!(blocks, job(3).blocks, "in order");
        assert_eq!(queue.claim(id, LONG).await.unwrap(), None);
        assert_eq!(counts(&found(queue, id).await), (FleetJobState::Running, 0, 0, 3));
        for lease in &held {
            assert!(queue.complete(lease).await.unwrap());
            assert!(!queue.complete(lease).await.unwrap(), "it counts once");
        }
        assert_eq!(counts(&found(queue, id).await), (FleetJobState::Running, 3, 0, 0));
        let collection = claim(queue, id, LONG).await;
        assert_eq!(collection.message, Message::default());
        assert!(queue.complete(&collection).await.unwrap());
        assert!(!queue.complete(&collection).await.unwrap());
        assert_eq!(counts(&found(queue, id).await), (FleetJobState::Done, 3, 0, 0));
        assert_eq!(queue.claim(id, LONG).await.unwrap(), None);
        assert!(!queue.running(1000).await.unwrap().contains(&id));
    });
}

#[test]
fn whoever_lost_a_lease_changes_nothing() {
    on_each(async |queue| {
        let queue = &*queue;
        let id = submit(queue, 1).await;
        let old = claim(queue, id, SHORT).await;
        assert_eq!(queue.claim(id, LONG).await.unwrap(), None);
        tokio::time::sleep(BEYOND_SHORT).await;
        let new = claim(queue, id, LONG).await;
        assert_eq!((new.number, new.reads, new.attempt()), (old.number, 2, 2));
        assert!(!queue.renew(&old, Duration::from_secs(1)).await.unwrap());
        assert!(!queue.complete(&old).await.unwrap());
        assert!(!hand_back(queue, &old, Duration::ZERO).await.unwrap());
        assert!(!queue.bury(&old, "late").await.unwrap());
        tokio::time::sleep(BEYOND_SHORT).await;
        assert_eq!(queue.claim(id, LONG).await.unwrap(), None, "the new lease is as long as it was");
        assert_eq!(counts(&found(queue, id).await), (FleetJobState::Running, 0, 0, 1));
        assert!(queue.complete(&new).await.unwrap());
        assert_eq!(found(queue, id).await.done, 1);
    });
}

#[test]
fn a_lease_lasts_as_long_as_it_is_renewed() {
    on_each(async |queue| {
        let queue = &*queue;
        let id = submit(queue, 1).await;
        let held = claim(queue, id, SHORT).await;
        for _ in 0..3 {
            tokio::time::sleep(SHORT / 2).await;
            assert!(queue.renew(&held, SHORT).await.unwrap());
            assert_eq!(queue.claim(id, LONG).await.unwrap(), None);
        }
        tokio::time::sleep(BEYOND_SHORT).await;
        assert_eq!(claim(queue, id, LONG).await.attempt(), 2);
    });
}

#[test]
fn what_is_handed_back_is_there_at_once_and_is_no_attempt() {
    on_each(async |queue| {
        let queue = &*queue;
        let id = submit(queue, 1).await;
        let mut held = claim(queue, id, LONG).await;
        for reads in 2..10 {
            assert!(hand_back(queue, &held, Duration::ZERO).await.unwrap());
            // The answer was lost, so it is asked again.
            assert!(hand_back(queue, &held, Duration::ZERO).await.unwrap());
            let next = claim(queue, id, LONG).await;
            assert_eq!((next.reads, next.attempt()), (reads, 1));
            assert!(!hand_back(queue, &held, Duration::ZERO).await.unwrap(), "it is another's by now");
            held = next;
        }
        assert!(hand_back(queue, &held, LONG).await.unwrap());
        assert_eq!(queue.claim(id, LONG).await.unwrap(), None, "it waits");
        assert_eq!(found(queue, id).await.in_work, 0, "and nobody works on it");
    });
}

#[test]
fn attempts_are_capped_and_a_failed_block_is_tried_again_alone() {
    on_each(async |queue| {
        let queue = &*queue;
        let id = submit(queue, 3).await;
        for _ in 0..2 {
            let mut held = claim(queue, id, LONG).await;
            let block = held.message.block.clone();
            while held.attempt() < MAX_ATTEMPTS {
                // As `fail`, without its pause.
                let message = Message { ended: held.reads, ..held.message.clone() };
                assert!(queue.put_off(&held, &message, Duration::ZERO).await.unwrap());
                held = claim(queue, id, LONG).await;
                assert_eq!(held.message.block, block);
            }
            assert!(fail(queue, &held, "no\0 imagery").await.unwrap());
        }
        let third = claim(queue, id, LONG).await;
        assert!(!fail(queue, &third, "a first time").await.unwrap());
        assert_eq!(queue.claim(id, LONG).await.unwrap(), None, "there is a pause");
        tokio::time::sleep(BEYOND_SHORT).await;
        let third = claim(queue, id, LONG).await;
        assert_eq!((third.attempt(), third.message.reason.as_deref()), (2, Some("a first time")));
        assert!(queue.complete(&third).await.unwrap());
        let collection = claim(queue, id, LONG).await;
        assert_eq!(collection.message.block, None);
        assert!(queue.complete(&collection).await.unwrap());
        assert_eq!(counts(&found(queue, id).await), (FleetJobState::DoneWithFailures, 1, 2, 0));
        let names = job(3).blocks;
        let failures = queue.failures(id, 10).await.unwrap();
        assert_eq!(failures, [0, 1].map(|at| (Some(names[at].clone()), "no imagery".to_owned())));

        assert!(matches!(queue.retry(id, Some(&names[2])).await, Err(FleetError::Conflict { .. })));
        assert_eq!(queue.retry(id, Some(&names[1])).await.unwrap(), 1);
        assert!(matches!(queue.retry(id, None).await, Err(FleetError::Conflict { .. })), "it is running");
        assert_eq!(counts(&found(queue, id).await), (FleetJobState::Running, 1, 1, 0));
        let held = claim(queue, id, LONG).await;
        assert_eq!((held.message.block.as_ref(), held.attempt()), (Some(&names[1]), 1));
        assert!(queue.complete(&held).await.unwrap());
        let collection = claim(queue, id, LONG).await;
        // It fails too.
        assert!(queue.bury(&collection, "the folder is gone").await.unwrap());
        assert_eq!(counts(&found(queue, id).await), (FleetJobState::DoneWithFailures, 2, 1, 0));
        assert_eq!(queue.failures(id, 10).await.unwrap()[0], (None, "the folder is gone".to_owned()));

        assert_eq!(queue.retry(id, None).await.unwrap(), 1);
        let held = claim(queue, id, LONG).await;
        assert!(queue.complete(&held).await.unwrap());
        assert!(queue.complete(&claim(queue, id, LONG).await).await.unwrap());
        assert_eq!(counts(&found(queue, id).await), (FleetJobState::Done, 3, 0, 0));
    });
}

#[test]
fn a_job_that_has_ended_can_be_forgotten() {
    on_each(async |queue| {
        let queue = &*queue;
        let conflict = async |id: JobId| matches!(queue.remove(id).await, Err(FleetError::Conflict { .. }));
        // Done, done with failures, cancelled.
        let ids = [submit(queue, 1).await, submit(queue, 1).await, submit(queue, 1).await];
        for id in ids {
            assert!(conflict(id).await, "it is running");
        }
        assert!(queue.complete(&claim(queue, ids[0], LONG).await).await.unwrap());
        assert!(queue.bury(&claim(queue, ids[1], LONG).await, "no imagery").await.unwrap());
        for id in &ids[..2] {
            assert!(conflict(*id).await, "the collection is missing");
            assert!(queue.complete(&claim(queue, *id, LONG).await).await.unwrap());
        }
        queue.cancel(ids[2]).await.unwrap();
        for id in ids {
            let job = found(queue, id).await;
            assert_eq!((job.model.as_str(), job.task.as_str(), job.last_done_s.is_some()), ("world", "", id == ids[0]));
            queue.remove(id).await.unwrap();
            assert_eq!(queue.jobs(Some(id), 1).await.unwrap(), []);
            assert_eq!(queue.failures(id, 10).await.unwrap(), []);
            assert!(matches!(queue.remove(id).await, Err(FleetError::UnknownJob { .. })));
            assert_eq!(queue.claim(id, LONG).await.unwrap(), None);
        }
    });
}

#[test]
fn a_cancelled_job_takes_its_leases_with_it() {
    on_each(async |queue| {
        let queue = &*queue;
        let id = submit(queue, 120).await;
        let mut held = Vec::new();
        for _ in 0..100 {
            held.push(claim(queue, id, LONG).await);
        }
        assert_eq!(found(queue, id).await.in_work, 100);
        queue.cancel(id).await.unwrap();
        for lease in &held {
            assert!(!queue.renew(lease, LONG).await.unwrap());
            assert!(!queue.complete(lease).await.unwrap());
            assert!(!hand_back(queue, lease, Duration::ZERO).await.unwrap());
            assert!(!queue.bury(lease, "too late").await.unwrap());
        }
        assert_eq!(queue.claim(id, LONG).await.unwrap(), None);
        assert_eq!(counts(&found(queue, id).await), (FleetJobState::Cancelled, 0, 0, 0));
        assert!(matches!(queue.cancel(id).await, Err(FleetError::Conflict { .. })));
        assert!(matches!(queue.cancel(JobId::MAX).await, Err(FleetError::UnknownJob { .. })));
        assert!(matches!(queue.retry(id, None).await, Err(FleetError::Conflict { .. })));
        assert!(matches!(queue.retry(JobId::MAX, None).await, Err(FleetError::UnknownJob { .. })));
        assert!(matches!(queue.stored(JobId::MAX).await, Err(FleetError::UnknownJob { .. })));
        assert_eq!(queue.jobs(Some(JobId::MAX), 1).await.unwrap(), []);
        assert!(queue.jobs(None, 1000).await.unwrap().iter().any(|job| job.id == id));
        assert_eq!(queue.claim(JobId::MAX, LONG).await.unwrap(), None);
    });
}

#[test]
fn each_block_counts_once_when_many_work_at_a_time() {
    const BLOCKS: usize = 200;
    on_each(async |queue| {
        let id = submit(&*queue, BLOCKS).await;
        let workers = (0..8).map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut done = Vec::new();
                while let Some(held) = queue.claim(id, LONG).await.unwrap() {
                    assert!(queue.complete(&held).await.unwrap());
                    done.push(held.message.block);
                }
                done
            })
        });
        let mut done = Vec::new();
        for worker in workers.collect::<Vec<_>>() {
            done.extend(worker.await.unwrap());
        }
        done.sort();
        // The collection, then all blocks.
        assert_eq!(done.remove(0), None);
        assert_eq!(done.into_iter().flatten().collect::<Vec<_>>(), job(BLOCKS).blocks);
        assert_eq!(counts(&found(&*queue, id).await), (FleetJobState::Done, BLOCKS as u64, 0, 0));
    });
}

#[test]
fn a_large_job_is_sent_at_an_even_rate() {
    let blocks = std::env::var("SATLAS_TEST_BLOCKS").map_or(20_000, |count| count.parse().unwrap());
    on_each(async |queue| {
        let started = Instant::now();
        let sent = Arc::new(Mutex::new(vec![(0, 0.0)]));
        let noted = sent.clone();
        let progress = move |count| noted.lock().unwrap().push((count, started.elapsed().as_secs_f64()));
        let id = queue.submit(job(blocks), Arc::new(progress)).await.unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let sent = sent.lock().unwrap().clone();
        let rate = |part: &[(usize, f64)]| {
            let ((first, from), (last, to)) = (part[0], part[part.len() - 1]);
            (last - first) as f64 / (to - from)
        };
        // Of the first and the last tenth.
        let part = (sent.len() / 10).max(1);
        let (begin, end) = (rate(&sent[..=part]), rate(&sent[sent.len() - 1 - part..]));
        println!("{blocks} blocks in {seconds:.1} s: {begin:.0} blocks/s in the beginning, {end:.0} in the end");
        assert_eq!(found(&*queue, id).await.blocks, blocks as u64);
        // What workers ask of the queue for a block, four at a time.
        const TURNS: usize = 2000;
        let started = Instant::now();
        let workers = (0..4).map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                for _ in 0..TURNS / 4 {
                    let held = claim(&*queue, id, LONG).await;
                    assert!(queue.renew(&held, LONG).await.unwrap() && queue.complete(&held).await.unwrap());
                }
            })
        });
        for worker in workers.collect::<Vec<_>>() {
            worker.await.unwrap();
        }
        println!("{:.0} turns/s of lease, renewal and acknowledgement", TURNS as f64 / started.elapsed().as_secs_f64());
        if blocks >= 1_000_000 {
            assert!(seconds < 60.0 && end > begin / 2.0, "{seconds} s, {begin}/s, then {end}/s");
        }
        queue.cancel(id).await.unwrap();
    });
}
