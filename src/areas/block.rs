//! One block, from imagery to the bytes of its file.

use std::sync::Arc;

use super::error::AreaError;
use super::job::AreaJob;
use crate::engine::{Area, Caller, CellEncoding, Class, Engine, EngineError};
use crate::outputs::{Format, dense_sink, encode, encode_cells, encode_geoparquet};
use crate::prediction::Output;
use crate::zoo::{Task, TaskType};

/// What a block's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// A cloud-optimised GeoTIFF.
    Raster,
    /// A GeoParquet file.
    Table,
}

impl BlockKind {
    /// The kind that a job asks for by the name of a format (`tif` or `parquet`), or that of the task if it does not.
    ///
    /// # Errors
    /// If the task's blocks cannot be of that kind.
    pub fn of(task: &Task, format: Option<&str>) -> Result<Self, AreaError> {
        let kinds: &[Self] = match task.task_type {
            TaskType::Segment | TaskType::BinSegment | TaskType::Regress => &[Self::Raster],
            TaskType::Embedding => &[Self::Raster, Self::Table],
            _ => &[Self::Table],
        };
        let Some(format) = format else { return Ok(kinds[0]) };
        let name = |kind: &Self| kind.format().extension();
        kinds.iter().find(|kind| name(kind) == format).copied().ok_or_else(|| {
            let names = kinds.iter().map(name).collect::<Vec<_>>().join(" or ");
            let detail = format!("format: found {format:?}; blocks of {} are {names}", task.name);
            AreaError::Invalid { detail }
        })
    }

    /// The format of the file.
    pub fn format(self) -> Format {
        match self {
            Self::Raster => Format::Tif,
            Self::Table => Format::Parquet,
        }
    }

    /// The folder that its files are in.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Raster => "rasters",
            Self::Table => "features",
        }
    }

    /// The file of a block.
    pub(super) fn file(self, block: &str) -> String {
        format!("{}/{block}.{}", self.folder(), self.format().extension())
    }

    /// Its media type.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Raster => "image/tiff; application=geotiff; profile=cloud-optimized",
            Self::Table => "application/vnd.apache.parquet",
        }
    }
}

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
    let sink = dense_sink(&task, Format::Tif, &job.render);
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
