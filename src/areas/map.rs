//! The rasters of a run as map tiles in one file, for web maps that need no server of ours.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rayon::prelude::*;
use serde_json::json;

use super::block_kind::BlockKind;
use super::error::AreaError;
use super::folder::Folder;
use super::job::AreaJob;
use super::pmtiles::{About, PmtilesWriter};
use crate::outputs::{Format, Render, encode, encode_imagery};
use crate::prediction::{Dense, Output, Prediction};
use crate::raster::{
    Capture, CaptureSelection, ChunkCache, Extent, Imagery, Limits, Mosaic, OpenOptions, Raster, Resampling, Source, open,
    warp,
};
use crate::tiles::{MAX_ZOOM, TileCoord, TileCover};
use crate::zoo::TaskType;

/// Blocks that are open at a time, each with its file.
const MAX_BLOCKS: usize = 512;
/// Most tiles of a map.
const MAX_TILES: u64 = 4_000_000;
/// Memory for decoded pieces of the rasters.
const CHUNK_BYTES: u64 = 256 << 20;
/// Tiles that are drawn together.
const PART: usize = 64;
const TILE_PX: usize = 256;

/// What [`write_map`] has written.
#[derive(Clone, Copy, Debug)]
pub struct MapReport {
    /// Tiles with something on them.
    pub tiles: u64,
    /// Least and greatest zoom.
    pub zooms: (u8, u8),
}

/// The map of a run's rasters.
struct ResultMap<'a> {
    job: &'a AreaJob,
    raster: Arc<Mosaic>,
    /// The rasters as pictures, in the colours of their palette.
    picture: Source,
}

/// Draws the rasters that `folder` holds as PNG tiles in their own colours, from `zooms` or from the world to the resolution of the
/// rasters, and writes them as a PMTiles archive. `report` is called with the tiles done, and all.
///
/// # Errors
/// If there are no rasters or too many, there would be too many tiles, or a file cannot be read or written.
pub fn write_map(
    (job, folder): (&AreaJob, &Folder),
    output: &Path,
    zooms: (Option<u8>, Option<u8>),
    report: impl Fn(u64, u64),
) -> Result<MapReport, AreaError> {
    let map = ResultMap::open(job, folder)?;
    let extent = map
        .raster
        .info()
        .georef
        .as_ref()
        .and_then(Extent::of)
        .ok_or_else(|| AreaError::Invalid { detail: "the area is not on a web map".to_owned() })?;
    let greatest = zooms.1.unwrap_or(extent.max_zoom);
    let zooms = zooms.0.unwrap_or(extent.min_zoom.min(greatest))..=greatest;
    if zooms.is_empty() || greatest > MAX_ZOOM {
        let (least, greatest) = (zooms.start(), zooms.end());
        let detail = format!("zooms: found {least} to {greatest}; the least one first is needed, and at most {MAX_ZOOM}");
        return Err(AreaError::Invalid { detail });
    }
    let covers: Vec<TileCover> = zooms.clone().flat_map(|zoom| TileCover::of(&extent.bounds_lon_lat, zoom)).collect();
    let total: u64 = covers.iter().map(TileCover::count).sum();
    if total > MAX_TILES {
        let detail = format!("the map has {total} tiles, and the limit is {MAX_TILES}; a smaller --max-zoom is needed");
        return Err(AreaError::Invalid { detail });
    }
    let mut tiles: Vec<TileCoord> = covers.iter().flat_map(TileCover::tiles).collect();
    tiles.sort_unstable_by_key(TileCoord::hilbert_id);
    let beside = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = || format!("writing {}", output.display());
    let mut archive = PmtilesWriter::new(beside).map_err(AreaError::io(written()))?;
    let mut done = 0;
    for part in tiles.chunks(PART) {
        let drawn: Vec<Option<Bytes>> = part.par_iter().map(|tile| map.draw(*tile)).collect::<Result<_, _>>()?;
        for (tile, png) in part.iter().zip(drawn) {
            if let Some(png) = png {
                archive.add(*tile, &png).map_err(AreaError::io(written()))?;
            }
        }
        done += part.len() as u64;
        report(done, total);
    }
    let (count, zooms) = (archive.count(), (*zooms.start(), *zooms.end()));
    let task = job.scene.task();
    let metadata = json!({
        "name": format!("{} of {}", task.name, job.request.source),
        "type": "overlay",
        "generator": concat!("satlas-serve ", env!("CARGO_PKG_VERSION")),
        "categories": task.categories,
    });
    let about = About { bounds: extent.map_bounds(), zooms, metadata };
    archive.finish(output, &about).map_err(AreaError::io(written()))?;
    Ok(MapReport { tiles: count, zooms })
}

impl<'a> ResultMap<'a> {
    fn open(job: &'a AreaJob, folder: &Folder) -> Result<Self, AreaError> {
        let (kind, is_embedding) = (job.kind, job.scene.task().task_type == TaskType::Embedding);
        let mut names: Vec<String> = folder.names_in(kind.folder())?.into_iter().collect();
        names.sort();
        if kind != BlockKind::Raster || is_embedding || names.is_empty() {
            let found = match kind {
                _ if is_embedding => "embeddings, which have no colours",
                BlockKind::Raster => "no rasters",
                BlockKind::Table => "objects",
            };
            let needed = "the rasters of a run are needed (GDAL makes vector tiles: ogr2ogr -f PMTiles map.pmtiles features/FILE.parquet)";
            return Err(AreaError::Invalid { detail: format!("the folder holds {found}; {needed}") });
        }
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
            let path = folder.path(&format!("{}/{name}", kind.folder()));
            let captures = open(Imagery::File { name: &name, path: &path }, None, &options)?;
            parts.extend(captures.into_iter().map(|capture| capture.raster));
        }
        let raster = Arc::new(Mosaic::new("rasters", parts)?);
        let capture = Capture { raster: raster.clone(), datetime: None, version: String::new() };
        let picture = Source::new("rasters", "rasters", String::new(), vec![capture])?;
        Ok(Self { job, raster, picture })
    }

    /// A tile; `None` if nothing is on it.
    fn draw(&self, tile: TileCoord) -> Result<Option<Bytes>, AreaError> {
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
