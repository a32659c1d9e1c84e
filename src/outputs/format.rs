//! The output formats, their names, and which task types have them.

use crate::zoo::TaskType;

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// PNG image: category colours, or values through a colour map.
    Png,
    /// The same picture as lossless WebP.
    Webp,
    /// GeoTIFF: categories with colour table, nodata and names, or a band per value.
    Tif,
    /// RFC 7946 features.
    Geojson,
    /// Mapbox vector tile.
    Mvt,
    /// NumPy array.
    Npy,
    /// Plain JSON.
    Json,
    /// Named tensors in a `.safetensors` file.
    Safetensors,
    /// GeoParquet with a row per cell.
    Parquet,
}

impl Format {
    /// All formats.
    pub(crate) const ALL: [Self; 9] = [
        Self::Png,
        Self::Webp,
        Self::Tif,
        Self::Geojson,
        Self::Mvt,
        Self::Npy,
        Self::Json,
        Self::Safetensors,
        Self::Parquet,
    ];

    /// The formats of a task type, its default first.
    pub fn of(task_type: TaskType) -> &'static [Format] {
        use Format::{Geojson, Json, Mvt, Npy, Parquet, Png, Safetensors, Tif, Webp};
        match task_type {
            TaskType::Segment | TaskType::BinSegment => &[Png, Webp, Tif, Geojson, Mvt, Npy],
            TaskType::Regress => &[Png, Webp, Tif, Npy],
            TaskType::Detect | TaskType::Instance => &[Geojson, Mvt, Png, Json, Safetensors],
            TaskType::Classification | TaskType::MultiLabelClassification => &[Json, Geojson],
            TaskType::Embedding => &[Json, Npy, Safetensors, Tif, Parquet],
        }
    }

    /// True if a tile of the task type can be had in this format.
    pub fn has_tiles(self, task_type: TaskType) -> bool {
        Self::of(task_type).contains(&self) && !self.has_cells(task_type)
    }

    /// True if answers of the task type are [cells](crate::prediction::CellMap) in this format.
    pub fn has_cells(self, task_type: TaskType) -> bool {
        task_type == TaskType::Embedding && matches!(self, Self::Tif | Self::Parquet)
    }

    /// The file extension, also the name that `format=` takes.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Tif => "tif",
            Self::Geojson => "geojson",
            Self::Mvt => "mvt",
            Self::Npy => "npy",
            Self::Json => "json",
            Self::Safetensors => "safetensors",
            Self::Parquet => "parquet",
        }
    }

    /// The format with this extension, such as `png`.
    pub fn by_extension(name: &str) -> Option<Format> {
        Self::ALL.into_iter().find(|format| format.extension() == name)
    }

    /// The media type of answers.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Tif => "image/tiff; application=geotiff",
            Self::Geojson => "application/geo+json",
            Self::Mvt => "application/vnd.mapbox-vector-tile",
            Self::Npy => "application/x-npy",
            Self::Json => "application/json",
            Self::Safetensors => "application/x-safetensors",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}
