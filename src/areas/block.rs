//! One block, from imagery to the bytes of its file.

use super::error::AreaError;
use super::job::AreaJob;
use crate::engine::{Area, Caller, Class, Engine, EngineError};
use crate::outputs::{Format, dense_sink, encode, encode_geoparquet};
use crate::prediction::Prediction;
use crate::zoo::TaskType;

/// What a block's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BlockKind {
    /// A cloud-optimised GeoTIFF.
    Raster,
    /// A GeoParquet file.
    Table,
}

impl BlockKind {
    /// That of the answers of a task.
    pub(super) fn of(task_type: TaskType) -> Self {
        match task_type {
            TaskType::Segment | TaskType::BinSegment | TaskType::Regress => Self::Raster,
            _ => Self::Table,
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
        let extension = match self {
            Self::Raster => "tif",
            Self::Table => "parquet",
        };
        format!("{}/{block}.{extension}", self.folder())
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
pub(super) async fn predict(engine: &Engine, job: &AreaJob, part: &Area) -> Result<(Vec<u8>, Vec<String>), AreaError> {
    let task = job.scene.task().clone();
    let sink = dense_sink(&task, Format::Tif, &job.render);
    // Held until the answer is encoded.
    let memory = engine.area_memory(&job.scene, part, &*sink);
    let _memory = memory.await?;
    let caller = Caller::patient(Class::Job);
    let (prediction, _) = engine.predict_area(&job.scene, &caller, part, sink, |_| ()).await?;
    let render = job.render.clone();
    let encoded = tokio::task::spawn_blocking(move || {
        let Prediction { warnings, .. } = &prediction;
        let bytes = match BlockKind::of(task.task_type) {
            BlockKind::Raster => encode(&prediction, &task, Format::Tif, &render)?.bytes.to_vec(),
            BlockKind::Table => encode_geoparquet(&prediction, &task, &render)?,
        };
        Ok((bytes, warnings.clone()))
    });
    encoded.await.map_err(|_| EngineError::Panicked)?
}
