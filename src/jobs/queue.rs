//! The facade: hand in, look up, cancel, remove. Its methods use the database and files, so they block for a moment.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::files::Files;
use super::store::{Store, StoredResult};
use super::{Failure, Input, Job, JobAnswer, JobError, JobState, NewJob, Outcome, Progress, Work, worker};
use crate::error::ErrorKind;
use crate::private_file;
use crate::sync::IgnorePoison;

/// Bounds of jobs.
#[derive(Clone, Debug)]
pub struct JobOptions {
    /// Where jobs outlive a restart; without it they last as long as the process.
    pub data_dir: Option<PathBuf>,
    /// Most jobs that wait; further ones are refused.
    pub max_queued: usize,
    /// Jobs worked on at once.
    pub max_running: usize,
    /// How long an ended job is kept.
    pub retention: Duration,
    /// Most bytes of the inputs of jobs that have not ended, beyond which new jobs are refused; and as much again of results,
    /// of which the oldest are removed.
    pub max_bytes: u64,
}

impl Default for JobOptions {
    fn default() -> Self {
        Self {
            data_dir: None,
            max_queued: 64,
            max_running: 1,
            retention: Duration::from_secs(24 * 3600),
            max_bytes: 8 << 30,
        }
    }
}

/// Most ended jobs in the database, however small their results.
const MAX_ENDED: usize = 10_000;

/// Every job, and the thread that works on them.
#[derive(Debug)]
pub struct Jobs {
    shared: Arc<Shared>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

/// What the facade and the worker share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: JobOptions,
    store: Mutex<Store>,
    files: Files,
    running: Mutex<HashMap<String, Running>>,
    /// Told when there is something to do for the worker.
    pub(super) wake: Notify,
    stopping: AtomicBool,
    /// Held as long as this process works on the jobs of a directory.
    _lock: Option<File>,
}

/// A job under way.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) abort: AbortHandle,
    pub(super) progress: Progress,
}

impl Jobs {
    /// Opens the jobs of a directory and begins to work on those that wait.
    ///
    /// # Errors
    /// A directory that cannot be used or is in use, a database that cannot be read.
    pub fn open(options: &JobOptions, work: Arc<dyn Work>) -> Result<Self, JobError> {
        let shared = Arc::new(Shared::open(options)?);
        let worker = worker::start(shared.clone(), work).map_err(JobError::io("starting the jobs thread"))?;
        Ok(Self { shared, worker: Mutex::new(Some(worker)) })
    }

    /// Stores a job and its inputs; work on it begins when its turn comes, after a restart too.
    ///
    /// # Errors
    /// Too many waiting jobs, inputs that leave no room, a server that stops, a disk that is full.
    pub fn submit(&self, job: &NewJob, inputs: Vec<Input>) -> Result<Job, JobError> {
        let shared = &self.shared;
        if shared.stopping.load(Ordering::Relaxed) {
            return Err(JobError::Stopping);
        }
        let id = new_id();
        let sizes = inputs.iter().map(|input| input.content.len()).collect::<Result<Vec<_>, _>>();
        let needed = sizes.map_err(JobError::io("measuring a job's inputs"))?.into_iter().sum();
        let names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
        // Before the files, so that a full queue costs nothing, and again with the row, since others may come in between.
        shared.check_room(&shared.store(), needed)?;
        shared.files.store_inputs(&id, inputs).map_err(JobError::io("storing a job's inputs"))?;
        let inserted = {
            let store = shared.store();
            shared.check_room(&store, needed).and_then(|()| {
                store.insert(&id, job, &names, needed, now_ms())?;
                store.get(&id)
            })
        };
        match inserted {
            Ok(Some(job)) => {
                shared.wake.notify_one();
                Ok(job)
            }
            Ok(None) => Err(JobError::Unknown { id }),
            Err(error) => {
                shared.files.remove(&id);
                Err(error)
            }
        }
    }

    /// The newest `limit` jobs, or those of them in one state.
    ///
    /// # Errors
    /// When the database fails.
    pub fn list(&self, state: Option<JobState>, limit: usize) -> Result<Vec<Job>, JobError> {
        let jobs = self.shared.store().list(state, limit)?;
        Ok(jobs.into_iter().map(|job| self.shared.with_progress(job)).collect())
    }

    /// One job.
    ///
    /// # Errors
    /// [`JobError::Unknown`], or a database that fails.
    pub fn get(&self, id: &str) -> Result<Job, JobError> {
        let job = self.shared.store().get(id)?;
        job.map(|job| self.shared.with_progress(job)).ok_or_else(|| JobError::Unknown { id: id.to_owned() })
    }

    /// What a job has ended in.
    ///
    /// # Errors
    /// [`JobError::NoResult`] before or without one, [`JobError::Unknown`].
    pub fn result(&self, id: &str) -> Result<JobAnswer, JobError> {
        let store = self.shared.store();
        let Some(StoredResult { headers, hash, bytes }) = store.result(id)? else {
            let job = store.get(id)?.ok_or_else(|| JobError::Unknown { id: id.to_owned() })?;
            return Err(JobError::NoResult { id: job.id, state: job.state });
        };
        // Under the lock, so that it cannot expire in between.
        let file = self.shared.files.open_result(id).map_err(JobError::io("opening a job's result"))?;
        Ok(JobAnswer { headers, hash, bytes, file })
    }

    /// Cancels a job that has not ended, and returns it; removes one that has, and returns `None`.
    ///
    /// # Errors
    /// [`JobError::Unknown`], or a database that fails.
    pub fn cancel_or_remove(&self, id: &str) -> Result<Option<Job>, JobError> {
        let progress = self.shared.running().get(id).map_or(0.0, |running| running.progress.get());
        let cancelled = self.shared.store().set_cancelled(id, progress, now_ms())?;
        // Afterwards: a queued job whose turn came meanwhile is among the running ones by now.
        if let Some(running) = self.shared.running().remove(id) {
            running.abort.abort();
        }
        if cancelled {
            self.shared.files.remove(id);
            self.shared.wake.notify_one();
            return self.get(id).map(Some);
        }
        if !self.shared.store().remove_ended(id)? {
            return Err(JobError::Unknown { id: id.to_owned() });
        }
        self.shared.files.remove(id);
        Ok(None)
    }

    /// Stops work in good order: jobs under way are queued again for the next start. Blocks until their current steps end.
    pub fn close(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.wake.notify_one();
        let worker = self.worker.lock().ignore_poison().take();
        if worker.is_some_and(|worker| worker.join().is_err()) {
            tracing::error!("the jobs thread panicked");
        }
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn open(options: &JobOptions) -> Result<Self, JobError> {
        let (store, files, lock) = match &options.data_dir {
            None => (Store::open(None)?, Files::temporary(&new_id()), None),
            Some(data_dir) => {
                let root = data_dir.join("jobs");
                let files = Files::lasting(root.clone()).map_err(JobError::io(format!("making {}", root.display())))?;
                let lock = lock(&root)?;
                let database = root.join("jobs.sqlite");
                // SQLite lets its other files be read by those who may read this one.
                private_file::keep(&database).map_err(JobError::io(format!("opening {}", database.display())))?;
                let store = Store::open(Some(&database))?;
                let interrupted = "the server ended twice while it worked on this job; it is not tried a third time";
                let failure = Failure { kind: ErrorKind::Internal, detail: interrupted.to_owned() };
                store.recover(&failure, now_ms())?;
                files.remove_others(&store.ids()?).map_err(JobError::io(format!("listing {}", root.display())))?;
                (store, files, Some(lock))
            }
        };
        let shared = Self {
            options: options.clone(),
            store: Mutex::new(store),
            files,
            running: Mutex::default(),
            wake: Notify::new(),
            stopping: AtomicBool::new(false),
            _lock: lock,
        };
        shared.expire()?;
        Ok(shared)
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().ignore_poison()
    }

    pub(super) fn running(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().ignore_poison()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Where a job's inputs lie, under the client's names.
    pub(super) fn inputs(&self, id: &str, names: Vec<String>) -> Vec<(String, PathBuf)> {
        names.into_iter().enumerate().map(|(index, name)| (name, self.files.input(id, index))).collect()
    }

    /// Stores what a job has ended in; blocks.
    pub(super) fn finish(&self, id: &str, inputs: usize, ended: Result<Outcome, Failure>, progress: &Progress) {
        let stored = match ended {
            Ok(outcome) => self.store_outcome(id, &outcome),
            Err(failure) => self.store().set_failed(id, &failure, progress.get(), now_ms()),
        };
        let stored = stored.or_else(|error| {
            tracing::error!(job = id, %error, "the end of a job cannot be stored");
            let failure = Failure { kind: ErrorKind::Internal, detail: error.to_string() };
            self.store().set_failed(id, &failure, progress.get(), now_ms())
        });
        match stored {
            Ok(true) => self.files.remove_inputs(id, inputs),
            // Cancelled in between: its files are gone, or not needed.
            Ok(false) => {}
            Err(error) => tracing::error!(job = id, %error, "the end of a job cannot be stored"),
        }
        if let Err(error) = self.expire() {
            tracing::error!(%error, "old jobs cannot be removed");
        }
    }

    fn store_outcome(&self, id: &str, outcome: &Outcome) -> Result<bool, JobError> {
        self.files.store_result(id, &outcome.body).map_err(JobError::io("storing a job's result"))?;
        let hash = blake3::hash(&outcome.body).to_hex();
        self.store().set_done(id, &outcome.headers, &hash[..32], outcome.body.len() as u64, now_ms())
    }

    /// Removes what is older or larger than the options allow.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) fn expire(&self) -> Result<(), JobError> {
        let retention = i64::try_from(self.options.retention.as_millis()).unwrap_or(i64::MAX);
        let before = now_ms().saturating_sub(retention);
        for id in self.store().expire(before, MAX_ENDED, self.options.max_bytes)? {
            self.files.remove(&id);
        }
        Ok(())
    }

    fn check_room(&self, store: &Store, needed: u64) -> Result<(), JobError> {
        let (waiting, used) = store.load()?;
        let limit = self.options.max_bytes;
        if waiting >= self.options.max_queued {
            return Err(JobError::QueueFull { waiting });
        }
        if used.saturating_add(needed) > limit {
            return Err(JobError::StorageFull { needed, used, limit });
        }
        Ok(())
    }

    /// The database learns a running job's progress at its end only.
    fn with_progress(&self, mut job: Job) -> Job {
        if job.state == JobState::Running
            && let Some(running) = self.running().get(&job.id)
        {
            job.progress = running.progress.get();
        }
        job
    }
}

/// Two servers on one directory would both run its jobs, and each would take the other's for interrupted ones.
fn lock(root: &Path) -> Result<File, JobError> {
    let path = root.join("lock");
    let failed = || JobError::io(format!("locking {}", path.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JobError::InUse { path: root.to_owned() }),
        Err(TryLockError::Error(error)) => Err(failed()(error)),
    }
}

pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// A name that nobody guesses: hashers are seeded by the system's randomness.
fn new_id() -> String {
    let half = || RandomState::new().hash_one((std::process::id(), now_ms()));
    let bytes = [half().to_le_bytes(), RandomState::new().hash_one(half()).to_le_bytes()].concat();
    blake3::hash(&bytes).to_hex()[..24].to_owned()
}

#[cfg(test)]
mod tests;
