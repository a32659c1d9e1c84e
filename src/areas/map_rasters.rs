//! The rasters of a run as tiles of a map, in their own colours.

use std::sync::Arc;

use bytes::Bytes;

use super::error::AreaError;
use super::folder::Folder;
use super::job::AreaJob;
use crate::outputs::{Format, Render, encode, encode_imagery};
use crate::prediction::{Dense, Output, Prediction};
use crate::raster::{
    Capture, CaptureSelection, ChunkCache, Extent, Imagery, Limits, Mosaic, OpenOptions, Raster, Resampling, Source, open,
    warp,
};
use crate::tiles::TileCoord;
use crate::zoo::TaskType;

/// Blocks that are open at a time, each with its file.
const MAX_BLOCKS: usize = 512;
/// Memory for decoded pieces of the rasters.
const CHUNK_BYTES: u64 = 256 << 20;
const TILE_PX: usize = 256;

/// The map of a run's rasters.
pub(super) struct RasterMap<'a> {
    job: &'a AreaJob,
    raster: Arc<Mosaic>,
    /// The rasters as pictures, in the colours of their palette.
    picture: Source,
}

impl<'a> RasterMap<'a> {
    /// Opens the rasters with these names, in the folder `within`.
    ///
    /// # Errors
    /// If there are too many, or one cannot be read.
    pub(super) fn open(job: &'a AreaJob, folder: &Folder, (within, names): (&str, &[String])) -> Result<Self, AreaError> {
        if names.len() > MAX_BLOCKS {
            let found = names.len();
            let detail = format!(
                "the folder holds {found} rasters; a map is made of at most {MAX_BLOCKS}, so a larger block_px is needed"
            );
            return Err(AreaError::Invalid { detail });
        }
        let options = OpenOptions { limits: Limits::NONE, chunks: ChunkCache::new(CHUNK_BYTES), remote: None };
        let mut parts = Vec::with_capacity(names.len());
        for name in names {
            let path = folder.path(&format!("{within}/{name}"));
            let captures = open(Imagery::File { name, path: &path }, None, &options)?;
            parts.extend(captures.into_iter().map(|capture| capture.raster));
        }
        let raster = Arc::new(Mosaic::new("rasters", parts)?);
        let capture = Capture { raster: raster.clone(), datetime: None, version: String::new() };
        let picture = Source::new("rasters", "rasters", String::new(), vec![capture])?;
        Ok(Self { job, raster, picture })
    }

    /// Where the rasters lie.
    ///
    /// # Errors
    /// If that is not on a web map.
    pub(super) fn extent(&self) -> Result<Extent, AreaError> {
        let extent = self.raster.info().georef.as_ref().and_then(Extent::of);
        extent.ok_or_else(|| AreaError::Invalid { detail: "the area is not on a web map".to_owned() })
    }

    /// A tile as PNG; `None` if nothing is on it.
    ///
    /// # Errors
    /// If a raster cannot be read.
    pub(super) fn draw(&self, tile: TileCoord) -> Result<Option<Bytes>, AreaError> {
        let (target, task) = (tile.georef(TILE_PX), self.job.scene.task());
        let value_of = match (task.task_type, self.job.render.render) {
            (TaskType::Regress, _) => None,
            (_, Render::Probability { category_id }) => Some(category_id),
            _ => return self.draw_categories(tile),
        };
        let bands: Vec<usize> = (0..self.raster.info().bands.len()).collect();
        let patch = warp(&*self.raster, &target, &bands, Resampling::Bilinear)?;
        if patch.is_empty() {
            return Ok(None);
        }
        let channels = task.categories.len().max(1);
        let values = match value_of {
            None => patch.pixels,
            Some(category_id) => {
                let mut values = vec![0.0; TILE_PX * TILE_PX * channels];
                values.chunks_exact_mut(channels).zip(&patch.pixels).for_each(|(pixel, value)| pixel[category_id] = *value);
                values
            }
        };
        let dense = Dense { width: TILE_PX, height: TILE_PX, channels, values, valid: Some(patch.valid) };
        let (georef, warnings) = (Some(target), Vec::new());
        let prediction = Prediction { output: Output::Dense(dense), width: TILE_PX, height: TILE_PX, georef, warnings };
        Ok(Some(encode(&prediction, task, Format::Png, &self.job.render)?.bytes))
    }

    fn draw_categories(&self, tile: TileCoord) -> Result<Option<Bytes>, AreaError> {
        let target = tile.georef(TILE_PX);
        let wanted = CaptureSelection::default();
        let drawn = self.picture.read_rgba(&wanted, &target, Resampling::Nearest)?;
        let (rgb, valid) = drawn.rgb_and_valid();
        if !valid.contains(&true) {
            return Ok(None);
        }
        Ok(Some(encode_imagery(&rgb, &valid, TILE_PX, TILE_PX)?.bytes))
    }
}
