//! Jobs from submission to removal, with tiny implementations of [`JobRunner`].

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use super::*;
use crate::error::ErrorKind;

/// Answers with the request's text followed by the inputs; the request `fail` fails, and `panic` panics.
struct Concatenation;

impl JobRunner for Concatenation {
    fn run(&self, item: WorkItem) -> BoxFuture<'static, Result<JobOutcome, JobFailure>> {
        Box::pin(async move {
            item.progress.set(1, 2);
            match item.request.as_str() {
                "fail" => return Err(unusable()),
                "panic" => panic!("as asked"),
                _ => {}
            }
            let inputs = item.inputs.iter().flat_map(|(_, path)| std::fs::read(path).unwrap());
            let body = item.request.bytes().chain(inputs).collect::<Vec<_>>().into();
            Ok(JobOutcome { headers: vec![("content-type".into(), "text/plain".into())], body })
        })
    }

    fn busy_for(&self) -> Duration {
        Duration::from_secs(3600)
    }
}

/// [`Concatenation`] that takes one permit of a semaphore per job.
struct GatedConcatenation(Arc<Semaphore>);

impl JobRunner for GatedConcatenation {
    fn run(&self, item: WorkItem) -> BoxFuture<'static, Result<JobOutcome, JobFailure>> {
        let gate = self.0.clone();
        Box::pin(async move {
            item.progress.set(1, 4);
            gate.acquire().await.unwrap().forget();
            Concatenation.run(item).await
        })
    }

    fn busy_for(&self) -> Duration {
        Concatenation.busy_for()
    }
}

/// [`Concatenation`] on a device that has no room for the first attempts and says when it will.
struct Busy(AtomicUsize);

impl JobRunner for Busy {
    fn run(&self, item: WorkItem) -> BoxFuture<'static, Result<JobOutcome, JobFailure>> {
        let left = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        Box::pin(async move {
            match left {
                Ok(_) => Err(JobFailure { kind: ErrorKind::Overloaded, detail: "no room".into() }),
                Err(_) => Concatenation.run(item).await,
            }
        })
    }

    fn busy_for(&self) -> Duration {
        Duration::from_millis(1)
    }
}

#[test]
fn a_job_without_room_is_tried_again_when_there_will_be_some() {
    let jobs = Jobs::open(&JobOptions::default(), Arc::new(Busy(AtomicUsize::new(20)))).unwrap();
    let id = jobs.submit(&new("x"), input("y")).unwrap().id;
    until_state(&jobs, &id, JobState::Done);
    let jobs = Jobs::open(&JobOptions::default(), Arc::new(Busy(AtomicUsize::new(1000)))).unwrap();
    let id = jobs.submit(&new("x"), input("y")).unwrap().id;
    assert_eq!(until_state(&jobs, &id, JobState::Failed).failure.unwrap().kind, ErrorKind::Overloaded, "not for ever");
}

fn unusable() -> JobFailure {
    JobFailure { kind: ErrorKind::Unusable, detail: "found 4 bands; 3 are needed".into() }
}

fn new(request: &str) -> NewJob {
    NewJob { model: "m".into(), task: "t".into(), request: request.into(), request_id: "r".into() }
}

fn input(text: &'static str) -> Vec<JobInput> {
    vec![JobInput { name: "a.tif".into(), content: InputContent::Memory(Bytes::from_static(text.as_bytes())) }]
}

fn closed_gate() -> (Arc<Semaphore>, Arc<dyn JobRunner>) {
    let gate = Arc::new(Semaphore::new(0));
    (gate.clone(), Arc::new(GatedConcatenation(gate)))
}

/// Waits until `wanted` holds for a job.
fn until(jobs: &Jobs, id: &str, wanted: impl Fn(&Job) -> bool) -> Job {
    let deadline = std::time::Instant::now() + Duration::from_secs(300);
    loop {
        let job = jobs.get(id).unwrap();
        if wanted(&job) {
            return job;
        }
        assert!(std::time::Instant::now() < deadline, "{job:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn until_state(jobs: &Jobs, id: &str, state: JobState) -> Job {
    until(jobs, id, |job| job.state == state)
}

fn body(jobs: &Jobs, id: &str) -> String {
    let mut text = String::new();
    jobs.result(id).unwrap().file.read_to_string(&mut text).unwrap();
    text
}

fn files_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn lasting(directory: &tempfile::TempDir) -> JobOptions {
    JobOptions { data_dir: Some(directory.path().to_owned()), ..JobOptions::default() }
}

#[test]
fn a_job_ends_in_its_answer_and_gives_its_inputs_back() {
    let directory = tempfile::tempdir().unwrap();
    let jobs = Jobs::open(&lasting(&directory), Arc::new(Concatenation)).unwrap();
    let id = jobs.submit(&new("x"), input("yz")).unwrap().id;
    let job = until_state(&jobs, &id, JobState::Done);
    assert_eq!((job.progress, job.result_bytes), (1.0, Some(3)));
    assert_eq!(body(&jobs, &id), "xyz");
    let answer = jobs.result(&id).unwrap();
    assert_eq!(answer.headers, [("content-type".to_owned(), "text/plain".to_owned())]);
    until(&jobs, &id, |_| files_in(&directory.path().join("jobs").join(&id)) == ["result"]);
    #[cfg(unix)]
    for file in ["jobs.sqlite".to_owned(), "jobs.sqlite-wal".to_owned(), format!("{id}/result")] {
        use std::os::unix::fs::PermissionsExt;
        let found = directory.path().join("jobs").join(&file).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(found, 0o600, "{file}: what people upload, and what they are answered, is theirs");
    }
    assert!(jobs.cancel_or_remove(&id).unwrap().is_none());
    assert!(matches!(jobs.get(&id), Err(JobError::Unknown { .. })));
    assert!(!directory.path().join("jobs").join(&id).exists());
}

#[test]
fn an_input_that_is_a_file_is_moved() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spooled");
    std::fs::write(&path, "yz").unwrap();
    let jobs = Jobs::open(&lasting(&directory), Arc::new(Concatenation)).unwrap();
    let content = InputContent::File(Arc::new(path.clone()));
    let id = jobs.submit(&new("x"), vec![JobInput { name: "a.tif".into(), content }]).unwrap().id;
    until_state(&jobs, &id, JobState::Done);
    assert_eq!((body(&jobs, &id).as_str(), path.exists()), ("xyz", false));
}

#[test]
fn failures_and_panics_end_a_job_and_not_the_worker() {
    let jobs = Jobs::open(&JobOptions::default(), Arc::new(Concatenation)).unwrap();
    let ids = ["fail", "panic", "x"].map(|request| jobs.submit(&new(request), input("")).unwrap().id);
    let failed = until_state(&jobs, &ids[0], JobState::Failed);
    assert_eq!((failed.failure, failed.progress), (Some(unusable()), 0.5));
    let panicked = until_state(&jobs, &ids[1], JobState::Failed).failure.unwrap();
    assert_eq!(panicked.kind, ErrorKind::Internal);
    assert!(matches!(jobs.result(&ids[0]), Err(JobError::NoResult { state: JobState::Failed, .. })));
    until_state(&jobs, &ids[2], JobState::Done);
}

#[test]
fn a_cancelled_job_makes_room_for_the_next() {
    let (gate, work) = closed_gate();
    let jobs = Jobs::open(&JobOptions::default(), work).unwrap();
    let [first, second] = [1, 2].map(|_| jobs.submit(&new("x"), input("y")).unwrap().id);
    assert_eq!(until(&jobs, &first, |job| job.progress > 0.0).progress, 0.25);
    assert_eq!(jobs.get(&second).unwrap().state, JobState::Queued);
    assert_eq!(jobs.cancel_or_remove(&first).unwrap().unwrap().state, JobState::Cancelled);
    until_state(&jobs, &second, JobState::Running);
    gate.add_permits(1);
    until_state(&jobs, &second, JobState::Done);
    assert_eq!(jobs.get(&first).unwrap().state, JobState::Cancelled);
}

#[test]
fn a_restart_runs_what_was_queued_and_running_and_keeps_what_was_done() {
    let directory = tempfile::tempdir().unwrap();
    let (gate, work) = closed_gate();
    let jobs = Jobs::open(&lasting(&directory), work).unwrap();
    let [done, running, queued] = ["1", "2", "3"].map(|request| jobs.submit(&new(request), input("y")).unwrap().id);
    gate.add_permits(1);
    until_state(&jobs, &done, JobState::Done);
    until_state(&jobs, &running, JobState::Running);
    drop(jobs);
    // A crash between writing files and row leaves a directory without a row.
    std::fs::create_dir(directory.path().join("jobs").join("0123456789abcdef")).unwrap();
    let jobs = Jobs::open(&lasting(&directory), Arc::new(Concatenation)).unwrap();
    assert!(!directory.path().join("jobs").join("0123456789abcdef").exists());
    assert_eq!(body(&jobs, &done), "1y");
    for (id, text) in [(&running, "2y"), (&queued, "3y")] {
        until_state(&jobs, id, JobState::Done);
        assert_eq!(body(&jobs, id), text);
    }
}

#[test]
fn one_directory_serves_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let jobs = Jobs::open(&lasting(&directory), Arc::new(Concatenation)).unwrap();
    assert!(matches!(Jobs::open(&lasting(&directory), Arc::new(Concatenation)), Err(JobError::InUse { .. })));
    drop(jobs);
    Jobs::open(&lasting(&directory), Arc::new(Concatenation)).unwrap();
}

#[test]
fn a_full_queue_and_inputs_without_room_are_refused_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (_gate, work) = closed_gate();
    let jobs = Jobs::open(&JobOptions { max_queued: 1, max_bytes: 4, ..lasting(&directory) }, work).unwrap();
    let first = jobs.submit(&new("x"), input("12")).unwrap().id;
    until_state(&jobs, &first, JobState::Running);
    let refused = jobs.submit(&new("x"), input("345")).unwrap_err();
    assert!(matches!(refused, JobError::StorageFull { needed: 3, used: 2, limit: 4 }), "{refused}");
    let second = jobs.submit(&new("x"), input("34")).unwrap().id;
    let refused = jobs.submit(&new("x"), input("")).unwrap_err();
    assert!(matches!(refused, JobError::QueueFull { waiting: 1 }), "{refused}");
    let directories = files_in(&directory.path().join("jobs")).into_iter().filter(|name| name.len() == first.len());
    assert_eq!(directories.count(), 2);
    assert_eq!(jobs.list(None, 10).unwrap().into_iter().map(|job| job.id).collect::<Vec<_>>(), [second, first]);
}

#[test]
fn what_a_job_without_a_data_directory_wrote_goes_with_the_process() {
    let jobs = Jobs::open(&JobOptions::default(), Arc::new(Concatenation)).unwrap();
    let id = jobs.submit(&new("x"), input("y")).unwrap().id;
    until_state(&jobs, &id, JobState::Done);
    let root = jobs.queue.files.input(&id, 0).ancestors().nth(2).unwrap().to_owned();
    assert!(root.is_dir());
    drop(jobs);
    assert!(!root.exists());
}

#[test]
fn ended_jobs_expire() {
    let options = JobOptions { retention: Duration::ZERO, ..JobOptions::default() };
    let jobs = Jobs::open(&options, Arc::new(Concatenation)).unwrap();
    let id = jobs.submit(&new("x"), input("y")).unwrap().id;
    let deadline = std::time::Instant::now() + Duration::from_secs(300);
    while !matches!(jobs.get(&id), Err(JobError::Unknown { .. })) {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(2));
        jobs.queue.expire().unwrap();
    }
}
