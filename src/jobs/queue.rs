//! What [`Jobs`](super::Jobs) and the worker thread share: the rows and files of all jobs, which jobs run, and whether the
//! server is stopping.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::database::JobDatabase;
use super::files::JobFiles;
use super::{Job, JobError, JobFailure, JobOptions, JobOutcome, JobProgress, JobState};
use crate::error::ErrorKind;
use crate::private_file;
use crate::sync::IgnorePoison;

/// How many ended jobs the database keeps, however small their results are.
const MAX_ENDED: usize = 10_000;

#[derive(Debug)]
pub(super) struct JobQueue {
    pub(super) options: JobOptions,
    database: Mutex<JobDatabase>,
    pub(super) files: JobFiles,
    running: Mutex<HashMap<String, RunningJob>>,
    /// Notified when the worker has something to do.
    pub(super) wake: Notify,
    stopping: AtomicBool,
    /// Held while this process works on the jobs of a directory.
    _lock: Option<File>,
}

#[derive(Debug)]
pub(super) struct RunningJob {
    pub(super) abort: AbortHandle,
    pub(super) progress: JobProgress,
}

impl JobQueue {
    /// Opens the jobs of a directory, or an empty queue in memory. Jobs that were running when the last server died are
    /// queued again, and files without a row are removed.
    ///
    /// # Errors
    /// If the directory cannot be used or is in use, or the database cannot be read.
    pub(super) fn open(options: &JobOptions) -> Result<Self, JobError> {
        let (database, files, lock) = match &options.data_dir {
            None => (JobDatabase::open(None)?, JobFiles::temporary(), None),
            Some(data_dir) => {
                let root = data_dir.join("jobs");
                let files = JobFiles::lasting(root.clone()).map_err(JobError::io(format!("making {}", root.display())))?;
                let lock = lock(&root)?;
                let file = root.join("jobs.sqlite");
                // SQLite gives its other files the permissions of this one.
                private_file::keep(&file).map_err(JobError::io(format!("opening {}", file.display())))?;
                let database = JobDatabase::open(Some(&file))?;
                let interrupted = "the server ended twice while it worked on this job; it is not tried a third time";
                let failure = JobFailure { kind: ErrorKind::Internal, detail: interrupted.to_owned() };
                database.recover(&failure, now_ms())?;
                files.remove_others(&database.ids()?).map_err(JobError::io(format!("listing {}", root.display())))?;
                (database, files, Some(lock))
            }
        };
        let queue = Self {
            options: options.clone(),
            database: Mutex::new(database),
            files,
            running: Mutex::default(),
            wake: Notify::new(),
            stopping: AtomicBool::new(false),
            _lock: lock,
        };
        queue.expire()?;
        Ok(queue)
    }

    pub(super) fn database(&self) -> MutexGuard<'_, JobDatabase> {
        self.database.lock().ignore_poison()
    }

    pub(super) fn running(&self) -> MutexGuard<'_, HashMap<String, RunningJob>> {
        self.running.lock().ignore_poison()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Refuses new jobs from now on, and wakes the worker so that it ends.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Name and path of each of a job's inputs.
    pub(super) fn inputs(&self, id: &str, names: Vec<String>) -> Vec<(String, PathBuf)> {
        names.into_iter().enumerate().map(|(index, name)| (name, self.files.input(id, index))).collect()
    }

    /// Stores what a job has ended in, and removes its inputs. Blocks.
    pub(super) fn finish(&self, id: &str, inputs: usize, ended: Result<JobOutcome, JobFailure>, progress: &JobProgress) {
        let stored = match ended {
            Ok(outcome) => self.store_outcome(id, &outcome),
            Err(failure) => self.database().set_failed(id, &failure, progress.get(), now_ms()),
        };
        let stored = stored.or_else(|error| {
            tracing::error!(job = id, %error, "the end of a job cannot be stored");
            let failure = JobFailure { kind: ErrorKind::Internal, detail: error.to_string() };
            self.database().set_failed(id, &failure, progress.get(), now_ms())
        });
        match stored {
            Ok(true) => self.files.remove_inputs(id, inputs),
            // Cancelled meanwhile, which has removed its files.
            Ok(false) => {}
            Err(error) => tracing::error!(job = id, %error, "the end of a job cannot be stored"),
        }
        if let Err(error) = self.expire() {
            tracing::error!(%error, "old jobs cannot be removed");
        }
    }

    fn store_outcome(&self, id: &str, outcome: &JobOutcome) -> Result<bool, JobError> {
        self.files.store_result(id, &outcome.body).map_err(JobError::io("storing a job's result"))?;
        let hash = blake3::hash(&outcome.body).to_hex();
        self.database().set_done(id, &outcome.headers, &hash[..32], outcome.body.len() as u64, now_ms())
    }

    /// Removes ended jobs that are older, more or larger than the options allow.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) fn expire(&self) -> Result<(), JobError> {
        for id in self.database().expire(self.options.retention, MAX_ENDED, self.options.max_bytes)? {
            self.files.remove(&id);
        }
        Ok(())
    }

    /// Checks that a job with inputs of `needed` bytes may be queued.
    ///
    /// # Errors
    /// If too many jobs wait, the inputs leave no room, or the database fails.
    pub(super) fn check_room(&self, database: &JobDatabase, needed: u64) -> Result<(), JobError> {
        let (waiting, used) = database.load()?;
        let limit = self.options.max_bytes;
        if waiting >= self.options.max_queued {
            return Err(JobError::QueueFull { waiting });
        }
        if used.saturating_add(needed) > limit {
            return Err(JobError::StorageFull { needed, used, limit });
        }
        Ok(())
    }

    /// Fills in the progress of a running job, which the database learns only when the job ends.
    pub(super) fn with_progress(&self, mut job: Job) -> Job {
        if job.state == JobState::Running
            && let Some(running) = self.running().get(&job.id)
        {
            job.progress = running.progress.get();
        }
        job
    }
}

/// Locks a directory for this process. Two servers on one directory would both run its jobs, and each would think that the
/// other's running jobs were interrupted.
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

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// An id that cannot be guessed.
pub(super) fn new_id() -> Result<String, JobError> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(|error| JobError::io("asking the system for randomness")(error.into()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
