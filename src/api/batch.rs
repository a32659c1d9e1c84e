//! Batches: many chips in one request, answered as one table that is sent as it grows.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;

use super::answer::{INPUT_WARNINGS, MODEL_WEIGHTS, insert};
use super::error::Problem;
use super::upload::{self, UploadedFile};
use super::zip_files::unpacked;
use crate::engine::{Caller, ChipAnswers, Chips, Engine, ScenePlan};
use crate::outputs::{ChipTable, ChipTableOptions, TableFormat};
use crate::raster::Limits;

/// Pieces of an answer that wait for the client; the device waits with them.
const PIECES: usize = 2;

/// A batch whose options have been checked, which needs only its files to run.
pub(super) struct BatchCall {
    pub(super) plan: ScenePlan,
    pub(super) format: TableFormat,
    /// Captures stacked in the bands of each chip.
    pub(super) images: usize,
    /// Most bytes that the files of a zip file may have.
    pub(super) unpacked_bytes: u64,
}

/// Answers the chips in `files`. All of them are looked at, and the first are answered, before the response begins; what goes wrong
/// after that breaks it off.
///
/// # Errors
/// If a file is no usable raster, a chip cannot be answered, or the answer would come too late.
pub(super) async fn answer(
    engine: &Arc<Engine>,
    limits: Limits,
    call: BatchCall,
    caller: &Caller,
    files: Vec<UploadedFile>,
) -> Result<Response, Problem> {
    let BatchCall { plan, format, images, unpacked_bytes } = call;
    let (files, unpacked) = unpacked(engine, files, unpacked_bytes).await?;
    let names = (files.len() > 1).then(|| files.iter().map(|file| file.name.clone()).collect());
    let chunks = upload::chunk_cache(engine.memory());
    let (of, planned) = (engine.clone(), plan.clone());
    let open = move || {
        let chips = upload::open_chips(&files, images, &limits, chunks)?;
        Ok::<_, Problem>((of.check_chips(&planned, chips)?, files))
    };
    let (chips, files) = engine.read_upload(open).await?;
    let warnings = chips.warnings().join(" | ");
    let mut table = table(&plan, format, &chips, names)?;
    let mut answers = engine.predict_chips(&plan, caller, chips).await?;
    let first = next(&mut answers).await?.unwrap_or_default();
    let (more, pieces) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        // The chips are read from the files until the last one is answered.
        let _files = (files, unpacked);
        let mut answered = Some(first);
        while let Some(rows) = answered {
            let (grown, bytes) = match add(table, rows).await {
                Ok(grown) => grown,
                Err(problem) => return broken(&more, problem).await,
            };
            table = grown;
            if !bytes.is_empty() && more.send(Ok(Bytes::from(bytes))).await.is_err() {
                // The client has gone.
                return;
            }
            answered = match next(&mut answers).await {
                Ok(rows) => rows,
                Err(problem) => return broken(&more, problem).await,
            };
        }
        match tokio::task::spawn_blocking(move || table.finish()).await.map_err(Problem::internal) {
            Ok(Ok(bytes)) => drop(more.send(Ok(Bytes::from(bytes))).await),
            Ok(Err(error)) => broken(&more, error.into()).await,
            Err(problem) => broken(&more, problem).await,
        }
    });
    let pieces = futures::stream::unfold(pieces, async |mut pieces| pieces.recv().await.map(|piece| (piece, pieces)));
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(MODEL_WEIGHTS, HeaderValue::from_static(plan.weights().as_str()));
    if !warnings.is_empty() {
        insert(headers, INPUT_WARNINGS, &warnings);
    }
    Ok(response)
}

fn table(plan: &ScenePlan, format: TableFormat, chips: &Chips, names: Option<Vec<String>>) -> Result<ChipTable, Problem> {
    let (task, have_places) = (plan.task().clone(), chips.have_places());
    Ok(ChipTable::new(ChipTableOptions { format, task, chips: chips.count(), names, have_places })?)
}

/// The answers for the next chips; `None` after the last.
async fn next(answers: &mut ChipAnswers) -> Result<Option<Vec<crate::prediction::Prediction>>, Problem> {
    Ok(answers.next().await.transpose()?)
}

/// Adds rows on a blocking thread.
async fn add(mut table: ChipTable, rows: Vec<crate::prediction::Prediction>) -> Result<(ChipTable, Vec<u8>), Problem> {
    let added = tokio::task::spawn_blocking(move || {
        let bytes = table.add(rows)?;
        Ok::<_, crate::outputs::OutputError>((table, bytes))
    });
    Ok(added.await.map_err(Problem::internal)??)
}

/// Breaks the answer off, so that no client takes a part of it for the whole.
async fn broken(more: &mpsc::Sender<Result<Bytes, std::io::Error>>, problem: Problem) {
    tracing::warn!(detail = %problem.detail, "a batch breaks off");
    // It may have gone.
    let _ = more.send(Err(std::io::Error::other(problem.detail))).await;
}
