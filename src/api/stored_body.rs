//! The JSON body of a request, kept as the only input of its job, and a JSON document as the job's result.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::Problem;
use crate::jobs::{InputContent, JobInput, JobOutcome};

/// The body as a job's input.
///
/// # Errors
/// If it cannot be written as JSON.
pub(super) fn stored(name: &str, body: &impl Serialize) -> Result<JobInput, Problem> {
    let text = serde_json::to_vec(body).map_err(Problem::internal)?;
    Ok(JobInput { name: name.to_owned(), content: InputContent::Memory(text.into()) })
}

/// The body again, when the job runs: the first of its inputs.
///
/// # Errors
/// If it is not there any more.
pub(super) async fn read<T: DeserializeOwned + Send + 'static>(inputs: Vec<(String, PathBuf)>) -> Result<T, Problem> {
    let read = move || {
        let (_, path) = inputs.first().ok_or_else(|| Problem::internal("a job without its input"))?;
        let text = std::fs::read(path).map_err(Problem::internal)?;
        serde_json::from_slice(&text).map_err(Problem::internal)
    };
    tokio::task::spawn_blocking(read).await.map_err(Problem::internal)?
}

/// A document as a job's result.
///
/// # Errors
/// If it cannot be written as JSON.
pub(super) fn outcome(document: &impl Serialize) -> Result<JobOutcome, Problem> {
    let body = serde_json::to_vec(document).map_err(Problem::internal)?.into();
    Ok(JobOutcome { headers: vec![("content-type".to_owned(), "application/json".to_owned())], body })
}
