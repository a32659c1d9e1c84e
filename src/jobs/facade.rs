//! [`Jobs`]: submit, look up, cancel, remove. Its methods use the database and files and therefore block briefly.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::queue::{JobQueue, new_id, now_ms};
use super::rows::StoredResult;
use super::{Job, JobAnswer, JobError, JobInput, JobOptions, JobRunner, JobState, NewJob, worker};
use crate::sync::IgnorePoison;

/// Every job, and the thread that works on them.
#[derive(Debug)]
pub(crate) struct Jobs {
    pub(super) queue: Arc<JobQueue>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl Jobs {
    /// Opens the jobs of a directory and begins to work on those that wait.
    ///
    /// # Errors
    /// If the directory cannot be used or is in use, or the database cannot be read.
    pub(crate) fn open(options: &JobOptions, work: Arc<dyn JobRunner>) -> Result<Self, JobError> {
        let queue = Arc::new(JobQueue::open(options)?);
        let worker = worker::start(queue.clone(), work).map_err(JobError::io("starting the jobs thread"))?;
        Ok(Self { queue, worker: Mutex::new(Some(worker)) })
    }

    /// Stores a job and its inputs. It runs when those before it have ended, even if the server restarts meanwhile.
    ///
    /// # Errors
    /// If too many jobs wait, the inputs leave no room, the server is stopping, or the disk is full.
    pub(crate) fn submit(&self, job: &NewJob, inputs: Vec<JobInput>) -> Result<Job, JobError> {
        let queue = &self.queue;
        if queue.is_stopping() {
            return Err(JobError::Stopping);
        }
        let id = new_id()?;
        let sizes = inputs.iter().map(|input| input.content.len()).collect::<Result<Vec<_>, _>>();
        let needed = sizes.map_err(JobError::io("measuring a job's inputs"))?.into_iter().sum();
        let names: Vec<String> = inputs.iter().map(|input| input.name.clone()).collect();
        // Checked before the files are stored, so that a full queue costs nothing, and again with the row, since other jobs
        // may have been submitted in between.
        queue.check_room(&queue.database(), needed)?;
        queue.files.store_inputs(&id, inputs).map_err(JobError::io("storing a job's inputs"))?;
        let inserted = {
            let database = queue.database();
            queue.check_room(&database, needed).and_then(|()| {
                database.insert(&id, job, &names, needed, now_ms())?;
                database.get(&id)
            })
        };
        match inserted {
            Ok(Some(job)) => {
                queue.wake.notify_one();
                Ok(job)
            }
            Ok(None) => Err(JobError::Unknown { id }),
            Err(error) => {
                queue.files.remove(&id);
                Err(error)
            }
        }
    }

    /// The newest `limit` jobs, of one state if `state` is given.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) fn list(&self, state: Option<JobState>, limit: usize) -> Result<Vec<Job>, JobError> {
        let jobs = self.queue.database().list(state, limit)?;
        Ok(jobs.into_iter().map(|job| self.queue.with_progress(job)).collect())
    }

    /// The job with this id.
    ///
    /// # Errors
    /// [`JobError::Unknown`] if there is none, or an error of the database.
    pub(crate) fn get(&self, id: &str) -> Result<Job, JobError> {
        let job = self.queue.database().get(id)?;
        job.map(|job| self.queue.with_progress(job)).ok_or_else(|| JobError::Unknown { id: id.to_owned() })
    }

    /// The answer of a job that is done.
    ///
    /// # Errors
    /// [`JobError::NoResult`] if it is not done, [`JobError::Unknown`] if there is no such job.
    pub(crate) fn result(&self, id: &str) -> Result<JobAnswer, JobError> {
        let database = self.queue.database();
        let Some(StoredResult { headers, hash, bytes }) = database.result(id)? else {
            let job = database.get(id)?.ok_or_else(|| JobError::Unknown { id: id.to_owned() })?;
            return Err(JobError::NoResult { id: job.id, state: job.state });
        };
        // The database is still locked, so the job cannot expire in between.
        let file = self.queue.files.open_result(id).map_err(JobError::io("opening a job's result"))?;
        Ok(JobAnswer { headers, hash, bytes, file })
    }

    /// Cancels a job that has not ended, and returns it; or removes one that has, and returns `None`.
    ///
    /// # Errors
    /// [`JobError::Unknown`] if there is no such job, or an error of the database.
    pub(crate) fn cancel_or_remove(&self, id: &str) -> Result<Option<Job>, JobError> {
        let progress = self.queue.running().get(id).map_or(0.0, |running| running.progress.get());
        let cancelled = self.queue.database().set_cancelled(id, progress, now_ms())?;
        // Looked up only now: the worker may have started a queued job in the meantime.
        if let Some(running) = self.queue.running().remove(id) {
            running.abort.abort();
        }
        if cancelled {
            self.queue.files.remove(id);
            self.queue.wake.notify_one();
            return self.get(id).map(Some);
        }
        if !self.queue.database().remove_ended(id)? {
            return Err(JobError::Unknown { id: id.to_owned() });
        }
        self.queue.files.remove(id);
        Ok(None)
    }

    /// Shuts down: running jobs are queued again for the next start. Blocks until their current steps end.
    pub(crate) fn close(&self) {
        self.queue.stop();
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
