//! The rows of jobs from submission to expiry.

use super::*;
use crate::error::ErrorKind;

fn new_job() -> NewJob {
    NewJob { model: "world".into(), task: "cover".into(), request: "{}".into(), request_id: "r".into() }
}

fn store_with(ids: &[&str]) -> JobDatabase {
    let store = JobDatabase::open(None).unwrap();
    for (at, id) in ids.iter().enumerate() {
        store.insert(id, &new_job(), &["a.tif".to_owned()], 10, at as i64).unwrap();
    }
    store
}

fn done(store: &JobDatabase, id: &str, bytes: u64, now: i64) {
    assert!(store.set_done(id, &[("content-type".into(), "image/png".into())], "hash", bytes, now).unwrap());
}

fn failure() -> JobFailure {
    JobFailure { kind: ErrorKind::Unusable, detail: "found 4 bands".into() }
}

#[test]
fn jobs_take_turns_in_the_order_they_came() {
    let store = store_with(&["a", "b"]);
    let turn = store.take_next(5).unwrap().unwrap();
    assert_eq!((turn.id.as_str(), turn.inputs), ("a", vec!["a.tif".to_owned()]));
    assert_eq!(store.take_next(6).unwrap().unwrap().id, "b");
    assert!(store.take_next(7).unwrap().is_none());
    assert_eq!(store.get("a").unwrap().unwrap().started_ms, Some(5));
    assert_eq!(store.load().unwrap(), (0, 20));
}

#[test]
fn whichever_end_comes_first_stays() {
    let store = store_with(&["a", "b"]);
    store.take_next(1).unwrap();
    assert!(store.set_cancelled("a", 0.5, 2).unwrap());
    assert!(!store.set_done("a", &[], "h", 1, 3).unwrap() && !store.set_failed("a", &failure(), 0.5, 3).unwrap());
    assert_eq!(store.get("a").unwrap().unwrap().state, JobState::Cancelled);
    store.take_next(4).unwrap();
    done(&store, "b", 7, 5);
    assert!(!store.set_cancelled("b", 1.0, 6).unwrap());
    assert_eq!(store.get("b").unwrap().unwrap().result_bytes, Some(7));
}

#[test]
fn a_failure_is_kept_word_by_word() {
    let store = store_with(&["a"]);
    store.take_next(1).unwrap();
    assert!(store.set_failed("a", &failure(), 0.25, 2).unwrap());
    let job = store.get("a").unwrap().unwrap();
    assert_eq!((job.state, job.failure, job.progress), (JobState::Failed, Some(failure()), 0.25));
}

#[test]
fn a_job_that_was_interrupted_twice_is_not_run_a_third_time() {
    let store = store_with(&["a"]);
    let state = || store.get("a").unwrap().unwrap().state;
    store.take_next(1).unwrap();
    store.recover(&failure(), 2).unwrap();
    assert_eq!(state(), JobState::Queued);
    store.take_next(3).unwrap();
    // A stop in good order is no attempt.
    store.put_back_running().unwrap();
    store.take_next(4).unwrap();
    store.recover(&failure(), 5).unwrap();
    assert_eq!(state(), JobState::Failed);
}

#[test]
fn old_results_make_room_for_new_ones() {
    const HOUR: Duration = Duration::from_secs(3600);
    let mut store = store_with(&["a", "b", "c", "d"]);
    // The system's clock goes back meanwhile.
    for (id, finished) in [("a", 30), ("b", 20), ("c", 10)] {
        store.take_next(1).unwrap();
        done(&store, id, 100, finished);
        store.before += HOUR;
    }
    assert!(store.expire(4 * HOUR, 10, 300).unwrap().is_empty());
    assert_eq!(store.expire(5 * HOUR / 2, 10, 300).unwrap(), ["a"], "by age");
    assert_eq!(store.expire(4 * HOUR, 10, 199).unwrap(), ["b"], "by size");
    assert!(store.expire(4 * HOUR, 10, 1).unwrap().is_empty(), "the newest stays");
    assert_eq!(store.expire(4 * HOUR, 0, 300).unwrap(), ["c"], "by number");
    assert_eq!(store.list(None, 10).unwrap().len(), 1, "what waits is never removed");
}

#[test]
fn running_time_goes_on_in_the_next_process_and_the_systems_clock_does_not_count() {
    const HOUR: Duration = Duration::from_secs(3600);
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut store = JobDatabase::open(Some(file.path())).unwrap();
    for (id, now) in [("a", i64::MAX), ("b", 0)] {
        store.insert(id, &new_job(), &[], 0, now).unwrap();
        store.take_next(now).unwrap();
        done(&store, id, 1, now);
    }
    assert!(store.expire(HOUR, 10, 10).unwrap().is_empty());
    store.before += 2 * HOUR / 3;
    assert!(store.expire(HOUR, 10, 10).unwrap().is_empty());
    let mut store = JobDatabase::open(Some(file.path())).unwrap();
    assert!(store.expire(HOUR, 10, 10).unwrap().is_empty());
    store.before += 2 * HOUR / 3;
    assert_eq!(store.expire(HOUR, 10, 10).unwrap().len(), 2);
}

#[test]
fn a_database_of_an_earlier_version_is_brought_up_to_date() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let old = Connection::open(file.path()).unwrap();
    old.execute_batch(&format!("{} PRAGMA user_version = 1;", crate::jobs::rows::VERSIONS[0])).unwrap();
    old.execute_batch(
        "INSERT INTO jobs (id, model, task, request, request_id, inputs, state, created_ms, finished_ms, bytes)
            VALUES ('a', 'world', 'cover', '{}', 'r', '[]', 'done', 1, 2, 3)",
    )
    .unwrap();
    drop(old);
    let mut store = JobDatabase::open(Some(file.path())).unwrap();
    assert!(store.expire(Duration::from_secs(60), 10, 10).unwrap().is_empty());
    store.before += Duration::from_secs(61);
    assert_eq!(store.expire(Duration::from_secs(60), 10, 10).unwrap(), ["a"]);
}

#[test]
fn the_list_is_bounded_and_newest_first() {
    let store = store_with(&["a", "b", "c"]);
    store.take_next(1).unwrap();
    let ids = |state, limit| store.list(state, limit).unwrap().into_iter().map(|job| job.id).collect::<Vec<_>>();
    assert_eq!(ids(None, 2), ["c", "b"]);
    assert_eq!(ids(Some(JobState::Running), 2), ["a"]);
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    JobDatabase::open(Some(file.path())).unwrap().connection.pragma_update(None, "user_version", 9).unwrap();
    assert!(JobDatabase::open(Some(file.path())).unwrap_err().to_string().contains("version 9"));
}
