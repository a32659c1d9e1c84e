//! A STAC API whose captures are searched for on demand.
//!
//! Areas are snapped to a grid, so that neighbouring windows share a search, and search results are cached for ten minutes. One item
//! is opened at the start and defines the bands of all that are found later.

use std::sync::Arc;
use std::time::Duration;

use super::asset_raster::AssetRaster;
use super::base::Base;
use super::common_bands::OpenScene;
use super::oddities::Oddities;
use super::search::{Search, nobody};
use super::{Scene, assemble, composite_of, composites_of, open_newest, open_others, scenes_of};
use crate::georef::{Bounds, Crs, Georef};
use crate::raster::datetime::DatetimeRange;
use crate::raster::error::RasterError;
use crate::raster::extent::Footprint;
use crate::raster::open::capture::{Capture, CaptureSet};
use crate::raster::open::names::OpenOptions;
use crate::raster::open::names::version_hash;
use crate::raster::pixels::Raster;
use crate::storage::Client;

/// Side of the cells that areas are snapped to, degrees.
const CELL_DEG: f64 = 0.25;

/// How long search results are cached.
const LIFETIME: Duration = Duration::from_secs(600);

/// Most files in all cached search results.
const MAX_FILES_KEPT: u64 = 50_000;

/// Items requested at the start, of which the newest defines the bands.
const SAMPLE_ITEMS: usize = 10;

/// West, south, east and north of an area in cells, and the times asked for.
type Area = ([i32; 4], Option<DatetimeRange>);

/// Captures found in an area.
#[derive(Clone)]
struct CachedSearch {
    set: Arc<CaptureSet>,
    /// Number of files that it may have open.
    files: u32,
}

/// A search and what it has found.
pub(crate) struct Catalogue {
    search: Search,
    client: Arc<Client>,
    options: OpenOptions,
    base: Base,
    /// The files of the item that defines the bands, and those bands.
    sample: Vec<Arc<AssetRaster>>,
    bands: Vec<String>,
    areas: moka::sync::Cache<Area, CachedSearch>,
}

impl std::fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalogue").field("search", &self.search).field("bands", &self.bands).finish_non_exhaustive()
    }
}

/// The catalogue of a search, and a raster with the bands that all of its captures have.
///
/// # Errors
/// [`RasterError`] if the location is malformed, the host fails, nothing is found, or the newest item cannot be opened.
pub(crate) fn open_search(location: &str, options: &OpenOptions) -> Result<(Catalogue, Arc<dyn Raster>), RasterError> {
    let search = Search::parse(location)?;
    let client = options.remote.clone().ok_or_else(|| nobody(location))?;
    let base = Base::Url(client.locate(location)?);
    let found = search.items(&client, search.bounds.as_ref(), None, Some(SAMPLE_ITEMS))?;
    if found.items.is_empty() {
        return Err(RasterError::BandMismatch {
            found: format!("the search for {} finds no item", search.title()),
            needed: "collections, a datetime, a bbox and a max_cloud that some item has are needed".to_owned(),
        });
    }
    let mut oddities = Oddities::new(found.oddities);
    let mut scenes = scenes_of(found.items, &base, options, &mut oddities)?;
    scenes.sort_by_key(|scene| std::cmp::Reverse(scene.item.datetime()));
    let (scene, sample) = match open_newest(search.title(), &mut scenes, &mut oddities)? {
        Some(opened) => opened,
        None => return Err(oddities.into_error()),
    };
    let (reference, bands) = composite_of(&scene, sample.clone())?;
    let areas = moka::sync::Cache::builder()
        .max_capacity(MAX_FILES_KEPT)
        .weigher(|_, found: &CachedSearch| found.files.max(1))
        .time_to_live(LIFETIME)
        .build();
    let catalogue = Catalogue { search, client, options: options.clone(), base, sample, bands, areas };
    Ok((catalogue, Arc::new(reference)))
}

impl Catalogue {
    /// Its title for display.
    pub(crate) fn title(&self) -> &str {
        self.search.title()
    }

    /// Where it looks at all, in degrees; `None` for everywhere.
    pub(crate) fn bounds(&self) -> Option<Bounds> {
        self.search.bounds
    }

    /// The captures that lie on the grid `target` and were taken within `datetime`.
    ///
    /// # Errors
    /// [`RasterError`] if the search fails, or an item that it finds cannot be opened.
    pub(crate) fn at(
        &self,
        target: &Georef,
        datetime: Option<&DatetimeRange>,
    ) -> Result<Arc<CaptureSet>, Arc<RasterError>> {
        let cells = area_of(target).and_then(|area| self.cells(&area));
        let Some(cells) = cells else { return Ok(Arc::new(CaptureSet::new(version_hash(b""), Vec::new()))) };
        let search = || -> Result<CachedSearch, RasterError> {
            let (captures, files) = self.captures(&cells, datetime)?;
            let versions: String = captures.iter().map(|capture| capture.version.as_str()).collect();
            Ok(CachedSearch { set: Arc::new(CaptureSet::new(version_hash(versions.as_bytes()), captures)), files })
        };
        Ok(self.areas.try_get_with((cells, datetime.copied()), search)?.set)
    }

    /// The cells that cover an area; `None` if it lies outside the bounds of the search.
    fn cells(&self, area: &Bounds) -> Option<[i32; 4]> {
        if self.search.bounds.as_ref().is_some_and(|bounds| !bounds.intersects(area)) {
            return None;
        }
        let Bounds { min_x, min_y, max_x, max_y } = *area;
        let first = |edge: f64| (edge / CELL_DEG).floor() as i32;
        let last = |edge: f64| (edge / CELL_DEG).ceil() as i32;
        Some([first(min_x), first(min_y), last(max_x), last(max_y)])
    }

    /// The captures in cells, and the number of their files.
    fn captures(&self, cells: &[i32; 4], datetime: Option<&DatetimeRange>) -> Result<(Vec<Capture>, u32), RasterError> {
        let [min_x, min_y, max_x, max_y] = cells.map(|cell| f64::from(cell) * CELL_DEG);
        let area =
            Bounds { min_x: min_x.max(-180.0), min_y: min_y.max(-90.0), max_x: max_x.min(180.0), max_y: max_y.min(90.0) };
        let name = self.search.title();
        let found = self.search.items(&self.client, Some(&area), datetime, None)?;
        let mut oddities = Oddities::new(found.oddities);
        let items = found.items.into_iter().filter(Scene::has_bands).collect();
        let mut scenes = scenes_of(items, &self.base, &self.options, &mut oddities)?;
        let assets = open_others(name, &mut scenes, &self.sample)?;
        let mut opened = composites_of(scenes.into_iter().zip(assets), &mut oddities)?;
        for other in opened.extract_if(.., |scene| !self.bands.iter().all(|band| scene.bands.contains(band))) {
            let missing = self.bands.iter().find(|band| !other.bands.contains(band));
            let id = &other.scene.item.id;
            tracing::warn!(item = id, missing, "an item lacks a band of its source and is left out");
            oddities.extend(missing.map(|band| format!("item {id} is left out, because it lacks {band}")));
        }
        let warning = oddities.warning(name);
        let (mut kept, mut rasters): (Vec<Scene>, Vec<Arc<dyn Raster>>) = (Vec::new(), Vec::new());
        for OpenScene { scene, composite, bands } in opened {
            let composite = if bands == self.bands { composite } else { composite.only(&self.bands) };
            kept.push(scene);
            rasters.push(Arc::new(warning.iter().fold(composite, |composite, note| composite.with_warning(note))));
        }
        let files = (kept.len() * self.sample.len()) as u32;
        Ok((assemble(name, kept, rasters, self.search.mosaic)?, files))
    }
}

/// The bounds of a grid in degrees. A Web Mercator grid that reaches beyond the antimeridian is cut there, because only the halo
/// of a tile does; otherwise its bounds would be all longitudes.
fn area_of(target: &Georef) -> Option<Bounds> {
    if target.crs != Crs::web_mercator() {
        let area = Footprint::of(target).and_then(|footprint| Footprint::around([footprint]))?;
        let crosses = area.max_x > 180.0;
        return Some(if crosses { Bounds { min_x: -180.0, max_x: 180.0, ..area } } else { area });
    }
    let half = crate::tiles::WORLD_M / 2.0;
    let bounds = target.bounds();
    let corner = |x: f64, y: f64| target.crs.to_lon_lat(x.clamp(-half, half), y.clamp(-half, half));
    let ((min_x, min_y), (max_x, max_y)) = (corner(bounds.min_x, bounds.min_y)?, corner(bounds.max_x, bounds.max_y)?);
    (min_x < max_x && min_y < max_y).then_some(Bounds { min_x, min_y, max_x, max_y })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiles::TileCoord;

    #[test]
    fn the_area_of_a_tile_ends_at_the_antimeridian() {
        let area = |z: u32, x: u64, y: u64| area_of(&TileCoord::try_new(z, x, y).expect("a tile").georef(256));
        let east = area(3, 7, 3).expect("an area");
        assert!((east.min_x - 135.0).abs() < 1e-6 && (east.max_x - 180.0).abs() < 1e-6, "{east:?}");
        let mut beyond = TileCoord::try_new(3, 7, 3).expect("a tile").georef(256);
        beyond.transform.origin_x += 1e6;
        let beyond = area_of(&beyond).expect("an area");
        assert!(beyond.min_x > 135.0 && (beyond.max_x - 180.0).abs() < 1e-6, "{beyond:?}");
    }
}
