//! What the files of a job's blocks are.

use super::error::AreaError;
use super::names;
use crate::outputs::Format;
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
            TaskType::Regress => &[Self::Raster],
            TaskType::Segment | TaskType::BinSegment | TaskType::Embedding => &[Self::Raster, Self::Table],
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
            Self::Raster => names::RASTERS,
            Self::Table => names::FEATURES,
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
