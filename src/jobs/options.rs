//! Limits on jobs, and where they are kept.

use std::path::PathBuf;
use std::time::Duration;

/// Limits on jobs, and where they are kept.
#[derive(Clone, Debug)]
pub struct JobOptions {
    /// Where jobs survive a restart. `None`: they last as long as the process.
    pub data_dir: Option<PathBuf>,
    /// How many jobs may wait; further ones are refused.
    pub max_queued: usize,
    /// How many jobs run at once.
    pub max_running: usize,
    /// How long a job is kept after it has ended.
    pub retention: Duration,
    /// Total bytes of the inputs of queued and running jobs; a job that would exceed it is refused. Results may take as
    /// much again; when they exceed it, the oldest are removed.
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
