//! What a run has made as map tiles in one file, for web maps that need no server of ours: rasters as pictures, tables as vector tiles.

use std::ops::RangeInclusive;
use std::path::Path;

use bytes::Bytes;
use rayon::prelude::*;
use serde_json::{Value, json};

use super::block_kind::BlockKind;
use super::error::AreaError;
use super::folder::Folder;
use super::job::AreaJob;
use super::map_features::FeatureMap;
use super::map_rasters::RasterMap;
use super::pmtiles::{About, PmtilesWriter, TileKind};
use crate::georef::Bounds;
use crate::tiles::{MAX_ZOOM, TileCoord, TileCover};
use crate::zoo::TaskType;

/// Most tiles of a map.
const MAX_TILES: u64 = 4_000_000;
/// Tiles that are drawn together.
const PART: usize = 64;

/// What [`write_map`] has written.
#[derive(Clone, Copy, Debug)]
pub struct MapReport {
    /// Tiles with something on them.
    pub tiles: u64,
    /// Least and greatest zoom.
    pub zooms: (u8, u8),
}

/// Writes what `folder` holds as tiles in a PMTiles archive: rasters as PNG in their own colours, objects and polygons as vector tiles
/// of one layer, which has the name of the task. Without `zooms`, they are from the one at which all is on about one tile to the one
/// that shows what there is. `report` is called with the tiles done, and all.
///
/// # Errors
/// If there is nothing that can be drawn or too much, there would be too many tiles, or a file cannot be read or written.
pub fn write_map(
    (job, folder): (&AreaJob, &Folder),
    output: &Path,
    zooms: (Option<u8>, Option<u8>),
    report: impl Fn(u64, u64),
) -> Result<MapReport, AreaError> {
    let within = job.kind.folder();
    let mut names: Vec<String> = folder.names_in(within)?.into_iter().collect();
    names.sort();
    let is_embedding = job.scene.task().task_type == TaskType::Embedding;
    if is_embedding || names.is_empty() {
        let found = if is_embedding { "embeddings, which have no colours" } else { "no results" };
        let detail = format!("the folder holds {found}; the rasters, objects or polygons of a run are needed");
        return Err(AreaError::Invalid { detail });
    }
    let map = MapWriter { output, wanted: zooms, report };
    match job.kind {
        BlockKind::Raster => {
            let rasters = RasterMap::open(job, folder, (within, &names))?;
            let extent = rasters.extent()?;
            let zooms = map.zooms(extent.min_zoom, extent.max_zoom)?;
            let covers: Vec<TileCover> =
                zooms.clone().flat_map(|zoom| TileCover::of(&extent.bounds_lon_lat, zoom)).collect();
            check_count(covers.iter().map(TileCover::count).sum())?;
            let mut tiles: Vec<TileCoord> = covers.iter().flat_map(TileCover::tiles).collect();
            tiles.sort_unstable_by_key(TileCoord::hilbert_id);
            let metadata = json!({"categories": job.scene.task().categories});
            let about = (extent.map_bounds(), zooms, about(job, metadata));
            map.write(TileKind::Png, &tiles, about, |tile| Ok((*tile, rasters.draw(*tile)?)))
        }
        BlockKind::Table => {
            let features = FeatureMap::open(job.scene.task(), folder, (within, &names))?;
            let (least, greatest) = features.zooms();
            let zooms = map.zooms(least, greatest)?;
            let tiles = features.tiles(zooms.clone())?;
            check_count(tiles.len() as u64)?;
            let layer = json!({
                "id": job.scene.task().name,
                "minzoom": zooms.start(),
                "maxzoom": zooms.end(),
                "fields": {"category": "String", "category_id": "Number", "score": "Number"},
            });
            let about = (features.bounds(), zooms, about(job, json!({"vector_layers": [layer]})));
            map.write(TileKind::Mvt, &tiles, about, |(tile, on_it)| Ok((*tile, features.draw(*tile, on_it)?)))
        }
    }
}

/// What the archive says of itself, for people and maps.
fn about(job: &AreaJob, mut more: Value) -> Value {
    more["name"] = format!("{} of {}", job.scene.task().name, job.request.source).into();
    more["type"] = "overlay".into();
    more["generator"] = concat!("satlas-serve ", env!("CARGO_PKG_VERSION")).into();
    more
}

fn check_count(found: u64) -> Result<(), AreaError> {
    if found <= MAX_TILES {
        return Ok(());
    }
    let detail = format!("the map has {found} tiles, and the limit is {MAX_TILES}; a smaller --max-zoom is needed");
    Err(AreaError::Invalid { detail })
}

struct MapWriter<'a, R> {
    output: &'a Path,
    wanted: (Option<u8>, Option<u8>),
    report: R,
}

impl<R: Fn(u64, u64)> MapWriter<'_, R> {
    /// The zooms that are wanted, or these.
    fn zooms(&self, least: u8, greatest: u8) -> Result<RangeInclusive<u8>, AreaError> {
        let greatest = self.wanted.1.unwrap_or(greatest);
        let zooms = self.wanted.0.unwrap_or(least.min(greatest))..=greatest;
        if zooms.is_empty() || greatest > MAX_ZOOM {
            let least = zooms.start();
            let detail =
                format!("zooms: found {least} to {greatest}; the least one first is needed, and at most {MAX_ZOOM}");
            return Err(AreaError::Invalid { detail });
        }
        Ok(zooms)
    }

    /// Draws `tiles`, which are in the order of their numbers, and writes those with something on them.
    fn write<T: Sync>(
        &self,
        kind: TileKind,
        tiles: &[T],
        (bounds, zooms, metadata): (Bounds, RangeInclusive<u8>, Value),
        draw: impl Fn(&T) -> Result<(TileCoord, Option<Bytes>), AreaError> + Sync,
    ) -> Result<MapReport, AreaError> {
        let beside = self.output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let written = || format!("writing {}", self.output.display());
        let mut archive = PmtilesWriter::new(beside, kind).map_err(AreaError::io(written()))?;
        let mut done = 0;
        for part in tiles.chunks(PART) {
            let drawn: Vec<(TileCoord, Option<Bytes>)> = part.par_iter().map(&draw).collect::<Result<_, _>>()?;
            for (tile, bytes) in drawn {
                if let Some(bytes) = bytes {
                    archive.add(tile, &bytes).map_err(AreaError::io(written()))?;
                }
            }
            done += part.len() as u64;
            (self.report)(done, tiles.len() as u64);
        }
        let (count, zooms) = (archive.count(), (*zooms.start(), *zooms.end()));
        archive.finish(self.output, &About { bounds, zooms, metadata }).map_err(AreaError::io(written()))?;
        Ok(MapReport { tiles: count, zooms })
    }
}
