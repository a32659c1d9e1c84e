//! One block, from imagery to the bytes of its file.

use std::sync::Arc;

use super::block_kind::BlockKind;
use super::error::AreaError;
use super::job::AreaJob;
use crate::engine::{Area, Caller, CellEncoding, Class, Engine, EngineError};
use crate::outputs::{Format, encode, encode_cells, encode_geoparquet};
use crate::prediction::Output;

/// The bytes of a block's file, and warnings about its imagery.
///
/// # Errors
/// If imagery cannot be read, the network fails, there is no memory, or the answer cannot be encoded.
pub(super) async fn predict(
    engine: &Engine,
    (job, part): (&AreaJob, &Area),
    encoding: Option<Arc<CellEncoding>>,
) -> Result<(Vec<u8>, Vec<String>), AreaError> {
    let (task, kind) = (job.scene.task().clone(), job.kind);
    let sink = job.sink();
    // Held until the answer is encoded.
    let memory = engine.area_memory(&job.scene, part, &*sink);
    let _memory = memory.await?;
    let caller = Caller::patient(Class::Job);
    let (prediction, _) = engine.predict_area(&job.scene, &caller, part, sink, |_| ()).await?;
    let render = job.render.clone();
    let encoded = tokio::task::spawn_blocking(move || {
        let mut prediction = prediction;
        let output = std::mem::replace(&mut prediction.output, Output::Embedding(Vec::new()));
        let bytes = match output {
            Output::Cells(cells) => {
                let cells = match &encoding {
                    Some(encoding) => encoding.projected(cells),
                    None => cells,
                };
                let scales = encoding.as_ref().and_then(|encoding| encoding.quantization.as_ref());
                encode_cells(&cells, &prediction, (kind.format(), render.precision), scales)?
            }
            output => {
                prediction.output = output;
                match kind {
                    BlockKind::Raster => encode(&prediction, &task, Format::Tif, &render)?.bytes.to_vec(),
                    BlockKind::Table => encode_geoparquet(&prediction, &task, &render)?,
                }
            }
        };
        Ok((bytes, prediction.warnings))
    });
    encoded.await.map_err(|_| EngineError::Panicked)?
}
