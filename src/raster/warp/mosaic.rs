//! One capture made of several scenes: those of one pass, which catalogues cut into overlapping tiles, possibly in different
//! projections.
//!
//! Scenes are warped straight onto the wanted grid, the first on top; the next is read only if pixels are still missing.

use std::sync::Arc;

use super::composite::{overviews_of, widest, window_grid};
use super::project::warp;
use crate::georef::{Bounds, Crs, GeoTransform, Georef};
use crate::raster::error::RasterError;
use crate::raster::extent::{Extent, Footprint};
use crate::raster::pixels::{Patch, PixelWindow, Raster, RasterInfo, Resampling};

/// Metres of a degree of latitude.
const METRES_PER_DEGREE: f64 = 111_195.0;

/// Several rasters as one.
pub struct Mosaic {
    info: RasterInfo,
    /// Topmost first.
    parts: Vec<(Footprint, Arc<dyn Raster>)>,
}

impl Mosaic {
    /// A raster with the bands of the first part, which is on top, on a grid around all parts.
    ///
    /// # Errors
    /// [`RasterError::NoSuchPart`] without parts, [`RasterError::NotGeoreferenced`] if one has no georeference,
    /// [`RasterError::BandMismatch`] if one has another number of bands.
    pub fn new(name: &str, parts: Vec<Arc<dyn Raster>>) -> Result<Self, RasterError> {
        let Some(first) = parts.first() else {
            return Err(RasterError::NoSuchPart { what: "scene", index: 0, count: 0 });
        };
        let bands = first.info().bands.clone();
        if let Some(other) = parts.iter().find(|part| part.info().bands.len() != bands.len()) {
            return Err(RasterError::BandMismatch {
                found: format!("scenes of {name} have {} and {} bands", bands.len(), other.info().bands.len()),
                needed: "scenes with the same bands are needed".to_owned(),
            });
        }
        let place =
            |part: &Arc<dyn Raster>| Some((part.info().georef.clone()?, Footprint::of(part.info().georef.as_ref()?)?));
        let places: Option<(Vec<Georef>, Vec<Footprint>)> = parts.iter().map(place).collect();
        let (grids, footprints) =
            places.ok_or_else(|| RasterError::NotGeoreferenced { name: format!("a scene of {name}") })?;
        let grid = grid_around(&grids, &footprints);
        let info = RasterInfo {
            width: grid.width,
            height: grid.height,
            bands,
            sample_type: widest(&parts),
            is_normalised: false,
            overviews: overviews_of(grid.width, grid.height, &parts),
            georef: Some(grid),
        };
        Ok(Self { info, parts: footprints.into_iter().zip(parts).collect() })
    }

    /// Reads `bands` (0-based) on the grid `target`.
    ///
    /// # Errors
    /// As [`warp`](fn@warp) of each part.
    fn warp(&self, target: &Georef, bands: &[usize], resampling: Resampling) -> Result<Patch, RasterError> {
        let mut whole = Patch::empty(target.width, target.height, bands.len());
        let Some(wanted) = Footprint::of(target) else { return Ok(whole) };
        for (_, part) in self.parts.iter().filter(|(footprint, _)| footprint.meets(&wanted)) {
            let below = warp(&**part, target, bands, resampling)?;
            if whole.is_empty() {
                whole = below;
            } else {
                for pixel in (0..whole.valid.len()).filter(|pixel| below.valid[*pixel]) {
                    if !whole.valid[pixel] {
                        whole.valid[pixel] = true;
                        let values = pixel * bands.len()..(pixel + 1) * bands.len();
                        whole.pixels[values.clone()].copy_from_slice(&below.pixels[values]);
                    }
                }
            }
            if whole.valid.iter().all(|valid| *valid) {
                break;
            }
        }
        Ok(whole)
    }
}

/// A grid around several, with the smallest of their pixels: in the coordinate system they share, or else in longitude and
/// latitude.
fn grid_around(grids: &[Georef], footprints: &[Footprint]) -> Georef {
    let first = &grids[0];
    let shared = grids.iter().all(|grid| grid.crs == first.crs);
    let (crs, bounds, pixel) = if shared {
        let side = |grid: &Georef| {
            let t = grid.transform;
            (t.pixel_width * t.pixel_height - t.row_skew * t.col_skew).abs().sqrt()
        };
        let finest = grids.iter().map(side).fold(f64::INFINITY, f64::min);
        let around = grids.iter().map(Georef::bounds).reduce(Bounds::union).unwrap_or_else(|| first.bounds());
        (first.crs.clone(), around, (finest, finest))
    } else {
        let around = Footprint::around(footprints.iter().copied()).unwrap_or_else(|| first.bounds());
        let finest = grids.iter().filter_map(Extent::of).map(|place| place.resolution_m).fold(f64::INFINITY, f64::min);
        let degrees = if finest.is_finite() { finest / METRES_PER_DEGREE } else { 1.0 };
        let middle = f64::midpoint(around.min_y, around.max_y).clamp(-89.0, 89.0);
        (Crs::lon_lat(), around, (degrees / middle.to_radians().cos(), degrees))
    };
    let count = |extent: f64, pixel: f64| (extent / pixel).round().clamp(1.0, 1e9) as usize;
    let (width, height) = (count(bounds.max_x - bounds.min_x, pixel.0), count(bounds.max_y - bounds.min_y, pixel.1));
    let transform = GeoTransform::north_up(bounds.min_x, bounds.max_y, pixel.0, pixel.1);
    Georef { crs, transform, width, height }
}

impl Raster for Mosaic {
    fn info(&self) -> &RasterInfo {
        &self.info
    }

    fn read(&self, level: usize, window: PixelWindow, bands: &[usize]) -> Result<Patch, RasterError> {
        self.warp(&window_grid(&self.info, level, window)?, bands, Resampling::Bilinear)
    }

    fn warped(&self, target: &Georef, bands: &[usize], resampling: Resampling) -> Option<Result<Patch, RasterError>> {
        Some(self.warp(target, bands, resampling))
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.parts.iter().flat_map(|(_, part)| part.warnings()).collect();
        warnings.dedup();
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raster::formats::MemoryRaster;

    fn scene(crs: Crs, (x, y): (f64, f64), pixel: f64, value: f32) -> Arc<dyn Raster> {
        let georef = Georef { crs, transform: GeoTransform::north_up(x, y, pixel, pixel), width: 100, height: 100 };
        Arc::new(MemoryRaster::from_values(100, 100, vec![value; 100 * 100], Some(georef)).expect("a raster"))
    }

    #[test]
    fn the_first_scene_is_on_top_and_others_fill_what_it_lacks() {
        let utm = Crs::from_epsg(32632).expect("UTM 32");
        let parts = vec![
            scene(utm.clone(), (500_000.0, 5_000_000.0), 10.0, 1.0),
            scene(utm.clone(), (500_500.0, 5_000_000.0), 10.0, 2.0),
        ];
        let mosaic = Mosaic::new("two", parts).expect("a mosaic");
        assert_eq!((mosaic.info().width, mosaic.info().height), (150, 100));
        let patch = mosaic.read(0, PixelWindow { col: 90, row: 50, width: 70, height: 1 }, &[0]).expect("pixels");
        assert_eq!((patch.pixels[0], patch.pixels[9], patch.pixels[10], patch.pixels[59]), (1.0, 1.0, 2.0, 2.0));
        assert_eq!(patch.valid.iter().filter(|valid| **valid).count(), 60);
    }

    #[test]
    fn scenes_of_two_projections_share_a_grid_of_degrees() {
        let utm = |zone: u32| Crs::from_epsg(32600 + zone).expect("a UTM zone");
        // Both lie about 12 degrees east.
        let parts =
            vec![scene(utm(32), (733_000.0, 5_000_000.0), 10.0, 1.0), scene(utm(33), (264_000.0, 5_000_000.0), 10.0, 2.0)];
        let mosaic = Mosaic::new("two", parts).expect("a mosaic");
        let info = mosaic.info();
        assert_eq!(info.georef.as_ref().map(|grid| grid.crs.epsg()), Some(Some(4326)));
        let all = PixelWindow { col: 0, row: 0, width: info.width, height: info.height };
        let patch = mosaic.read(0, all, &[0]).expect("pixels");
        for value in [1.0, 2.0] {
            assert!(patch.pixels.contains(&value), "{value} is in neither");
        }
    }

    #[test]
    fn scenes_with_other_bands_are_refused() {
        let georef = scene(Crs::lon_lat(), (0.0, 0.0), 0.1, 0.0).info().georef.clone();
        let two = MemoryRaster::from_values(100, 100, vec![0.0; 2 * 100 * 100], georef);
        let parts: Vec<Arc<dyn Raster>> =
            vec![scene(Crs::lon_lat(), (0.0, 0.0), 0.1, 0.0), Arc::new(two.expect("a raster"))];
        assert!(matches!(Mosaic::new("two", parts), Err(RasterError::BandMismatch { .. })));
        assert!(Mosaic::new("none", Vec::new()).is_err());
    }
}
