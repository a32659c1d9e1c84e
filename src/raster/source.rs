//! A source: one or more captures of a place, with what a map needs to know about them.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::open::{hash, shown, title_of, version_of_file};
use super::rgb::{Rendering, RgbaTile};
use super::{
    ChunkCache, DatetimeRange, Limits, OpenOptions, Patch, Raster, RasterError, RasterInfo, Resampling, SampleType,
    Timestamp, open_file, open_location, open_upload, warp,
};
use crate::georef::{Bounds, Georef};
use crate::tiles::{MAX_ZOOM, resolution_m};

/// Mean radius of the Earth in metres, for pixel sizes.
const EARTH_RADIUS_M: f64 = 6_371_008.8;

/// Web Mercator ends here.
const MAX_MERCATOR_LAT: f64 = 85.051_128_779_806_6;

/// Side of the tiles that zoom levels are counted for.
const TILE_PX: usize = 256;

/// One image of a source.
#[derive(Clone)]
pub struct Capture {
    /// When it was taken, if that is known.
    pub datetime: Option<Timestamp>,
    /// Changes whenever its pixels do.
    pub version: String,
    /// Its pixels.
    pub raster: Arc<dyn Raster>,
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").field("datetime", &self.datetime).field("raster", self.raster.info()).finish()
    }
}

/// Which captures of a source are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CaptureSelection {
    /// 0-based numbers in time order; `None` takes all.
    pub captures: Option<Vec<usize>>,
    /// When they were taken; captures of unknown time are in no range.
    pub datetime: Option<DatetimeRange>,
}

/// Imagery with a name: captures in time order.
#[derive(Debug)]
pub struct Source {
    /// The name in URLs.
    pub id: String,
    /// One line for people.
    pub title: String,
    /// Whom the map has to name.
    pub attribution: Option<String>,
    /// Changes whenever the pixels do.
    pub version: String,
    captures: Vec<Capture>,
    rendering: OnceLock<Rendering>,
}

/// A band as people see it.
#[derive(Clone, Debug, PartialEq)]
pub struct BandSummary {
    /// 1-based number, as in `bands=`.
    pub number: usize,
    /// Its description in the file.
    pub description: Option<String>,
    /// The value that stands for "no data".
    pub nodata: Option<f64>,
    /// Whether it is a mask rather than data.
    pub is_alpha: bool,
}

/// What is known of a source without reading pixels; sizes and bands are those of its first capture.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceInfo {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bands in file order.
    pub bands: Vec<BandSummary>,
    /// Type of every sample.
    pub sample_type: SampleType,
    /// When each capture was taken, where that is known.
    pub datetimes: Vec<Option<String>>,
    /// Where it lies, if it says so.
    pub place: Option<Place>,
}

/// Where a source lies, for a web map.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// `EPSG:32612`, or a PROJ string.
    pub crs: String,
    /// Degrees; all longitudes where it crosses the antimeridian.
    pub bounds_lon_lat: Bounds,
    /// Ground size of a pixel in its middle, metres.
    pub resolution_m: f64,
    /// The zoom at which the whole source fits into about one 256 px tile.
    pub min_zoom: u8,
    /// The zoom whose 256 px tiles are nearest to its own resolution.
    pub max_zoom: u8,
}

impl Source {
    /// A source of captures that are open already. `version` must change whenever their pixels do.
    ///
    /// # Errors
    /// [`RasterError::NoSuchPart`] without any capture, [`RasterError::BandMismatch`] where captures differ in their bands.
    pub fn new(id: &str, title: &str, version: String, captures: Vec<Capture>) -> Result<Self, RasterError> {
        let Some(first) = captures.first() else {
            return Err(RasterError::NoSuchPart { what: "capture", index: 0, count: 0 });
        };
        let bands = first.raster.info().bands.len();
        if let Some(position) = captures.iter().position(|capture| capture.raster.info().bands.len() != bands) {
            let found = captures[position].raster.info().bands.len();
            return Err(RasterError::BandMismatch {
                found: format!("capture {} has {found} bands", position + 1),
                needed: format!("all captures of a source need the same number as the first ({bands})"),
            });
        }
        let (id, title) = (id.to_owned(), title.to_owned());
        Ok(Self { id, title, attribution: None, version, captures, rendering: OnceLock::new() })
    }

    /// The captures of all `locations` (see [`open_location`]) in time order, those of unknown time first, as they were named.
    ///
    /// # Errors
    /// As [`open_location`] and [`Source::new`].
    pub fn open(id: &str, locations: &[String], options: &OpenOptions) -> Result<Self, RasterError> {
        let open = |location: &String| open_location(location, options);
        let mut captures: Vec<Capture> =
            locations.iter().map(open).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        captures.sort_by_key(|capture| capture.datetime);
        let versions: String = captures.iter().map(|capture| capture.version.as_str()).collect();
        let title = locations.first().map_or(id.to_owned(), |location| title_of(location));
        Self::new(id, &title, hash(versions.as_bytes()), captures)
    }

    /// One path on this machine, as [`Source::open`]; with `images`, a file in whose bands so many captures are stacked.
    ///
    /// # Errors
    /// As [`Source::open`], and as [`open_upload`] where the bands cannot be divided.
    pub fn open_path(id: &str, path: &Path, images: Option<usize>, options: &OpenOptions) -> Result<Self, RasterError> {
        let location = path.to_string_lossy().into_owned();
        let Some(images) = images else { return Self::open(id, &[location], options) };
        let version = version_of_file(path)?;
        let rasters = open_file(&shown(path), path, Some(images), &options.limits, &options.chunks)?;
        let captures =
            rasters.into_iter().map(|raster| Capture { datetime: None, version: version.clone(), raster }).collect();
        Self::new(id, &title_of(&location), version, captures)
    }

    /// A file in memory (embedded or uploaded); `images` as in [`open_upload`].
    ///
    /// # Errors
    /// As [`open_upload`].
    pub fn from_bytes(
        id: &str,
        title: &str,
        bytes: Bytes,
        images: Option<usize>,
        limits: &Limits,
        cache: &ChunkCache,
    ) -> Result<Self, RasterError> {
        let version = hash(&bytes);
        let rasters = open_upload(title, bytes, images, limits, cache)?;
        let captures =
            rasters.into_iter().map(|raster| Capture { datetime: None, version: version.clone(), raster }).collect();
        Self::new(id, title, version, captures)
    }

    /// The 0-based captures that `wanted` chooses, in time order.
    ///
    /// # Errors
    /// [`RasterError::NoSuchPart`] for a number there is none of.
    pub fn select(&self, wanted: &CaptureSelection) -> Result<Vec<usize>, RasterError> {
        let count = self.captures.len();
        let mut chosen: Vec<usize> = match &wanted.captures {
            None => (0..count).collect(),
            Some(captures) => {
                if let Some(index) = captures.iter().find(|index| **index >= count) {
                    return Err(RasterError::NoSuchPart { what: "capture", index: index + 1, count });
                }
                captures.clone()
            }
        };
        chosen.sort_unstable();
        chosen.dedup();
        if let Some(range) = &wanted.datetime {
            chosen.retain(|index| self.captures[*index].datetime.is_some_and(|datetime| range.contains(datetime)));
        }
        Ok(chosen)
    }

    /// The captures in time order.
    pub fn captures(&self) -> &[Capture] {
        &self.captures
    }

    /// Size, bands and place of the first capture, on which the others are read.
    pub fn raster_info(&self) -> &RasterInfo {
        self.captures[0].raster.info()
    }

    /// One capture.
    ///
    /// # Errors
    /// [`RasterError::NoSuchPart`] where there are fewer.
    pub fn capture(&self, index: usize) -> Result<&Capture, RasterError> {
        let missing = RasterError::NoSuchPart { what: "capture", index, count: self.captures.len() };
        self.captures.get(index).ok_or(missing)
    }

    /// Reads `bands` (0-based) of a capture on the grid `target`.
    ///
    /// # Errors
    /// As [`warp`](fn@warp), and where there is no such capture.
    pub fn read(
        &self,
        capture: usize,
        target: &Georef,
        bands: &[usize],
        resampling: Resampling,
    ) -> Result<Patch, RasterError> {
        warp(&*self.capture(capture)?.raster, target, bands, resampling)
    }

    /// A capture on the grid `target` as colours for a map: 8-bit imagery as it is, everything else stretched between the
    /// percentiles of the first capture.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub fn read_rgba(&self, capture: usize, target: &Georef) -> Result<RgbaTile, RasterError> {
        let rendering = match self.rendering.get() {
            Some(rendering) => rendering,
            // Two threads may both compute it; they find the same.
            None => {
                let rendering = Rendering::of(&*self.captures[0].raster)?;
                self.rendering.get_or_init(|| rendering)
            }
        };
        let patch = self.read(capture, target, rendering.bands(), Resampling::Bilinear)?;
        Ok(rendering.paint(&patch))
    }

    /// Whether any of the source may lie on the grid `target`; a source without a place lies nowhere.
    pub fn covers(&self, target: &Georef) -> bool {
        let place = self.raster_info().georef.as_ref().and_then(Place::of);
        let middle_lon = |place: &Place| (place.bounds_lon_lat.min_x + place.bounds_lon_lat.max_x) / 2.0;
        place.is_some_and(|place| {
            bounds_lon_lat(target, middle_lon(&place)).is_some_and(|bounds| bounds.intersects(&place.bounds_lon_lat))
        })
    }

    /// What is known without reading pixels.
    pub fn describe(&self) -> SourceInfo {
        let info = self.raster_info();
        let bands = info.bands.iter().enumerate().map(|(index, band)| BandSummary {
            number: index + 1,
            description: band.description.clone(),
            nodata: band.nodata,
            is_alpha: band.is_alpha,
        });
        SourceInfo {
            width: info.width,
            height: info.height,
            bands: bands.collect(),
            sample_type: info.sample_type,
            datetimes: self.captures.iter().map(|capture| capture.datetime.map(|time| time.to_string())).collect(),
            place: info.georef.as_ref().and_then(Place::of),
        }
    }
}

impl Place {
    /// `None` where the grid's middle is nowhere on the Earth.
    pub fn of(georef: &Georef) -> Option<Self> {
        let (width, height) = (georef.width as f64, georef.height as f64);
        let lon_lat = |col: f64, row: f64| {
            let (x, y) = georef.transform.apply(col, row);
            georef.crs.to_lon_lat(x, y)
        };
        let middle = lon_lat(width / 2.0, height / 2.0)?;
        let (right, below) = (lon_lat(width / 2.0 + 1.0, height / 2.0)?, lon_lat(width / 2.0, height / 2.0 + 1.0)?);
        let resolution_m = (ground_distance_m(middle, right) * ground_distance_m(middle, below)).sqrt();

        let cos_lat = middle.1.clamp(-MAX_MERCATOR_LAT, MAX_MERCATOR_LAT).to_radians().cos();
        let zoom = (resolution_m > 0.0).then(|| (resolution_m_at_zoom_0() * cos_lat / resolution_m).log2())?;
        let levels = (georef.width.max(georef.height) as f64 / TILE_PX as f64).log2().ceil().max(0.0);
        let max_zoom = zoom.round().clamp(0.0, f64::from(MAX_ZOOM));
        Some(Self {
            crs: georef.crs.to_string(),
            bounds_lon_lat: bounds_lon_lat(georef, middle.0)?,
            resolution_m,
            min_zoom: (max_zoom - levels).max(0.0) as u8,
            max_zoom: max_zoom as u8,
        })
    }
}

fn resolution_m_at_zoom_0() -> f64 {
    resolution_m(0, TILE_PX)
}

/// The box around a grid of points, because edges of projected rasters bend.
fn bounds_lon_lat(georef: &Georef, middle_lon: f64) -> Option<Bounds> {
    const STEPS: usize = 20;
    let mut bounds: Option<Bounds> = None;
    for step in 0..(STEPS + 1) * (STEPS + 1) {
        let at = |index: usize, len: usize| len as f64 * index as f64 / STEPS as f64;
        let (x, y) = georef.transform.apply(at(step % (STEPS + 1), georef.width), at(step / (STEPS + 1), georef.height));
        let Some((lon, lat)) = georef.crs.to_lon_lat(x, y) else { continue };
        // Longitudes that jump from 180 to -180 within the raster are laid out on one side.
        let lon = lon + 360.0 * ((middle_lon - lon) / 360.0).round();
        let point = Bounds { min_x: lon, min_y: lat.clamp(-90.0, 90.0), max_x: lon, max_y: lat.clamp(-90.0, 90.0) };
        bounds = Some(bounds.map_or(point, |bounds| Bounds {
            min_x: bounds.min_x.min(point.min_x),
            min_y: bounds.min_y.min(point.min_y),
            max_x: bounds.max_x.max(point.max_x),
            max_y: bounds.max_y.max(point.max_y),
        }));
    }
    let bounds = bounds?;
    let crosses = bounds.min_x < -180.0 - 1e-9 || bounds.max_x > 180.0 + 1e-9;
    Some(if crosses { Bounds { min_x: -180.0, max_x: 180.0, ..bounds } } else { bounds })
}

/// Great-circle distance of two nearby points (haversine).
fn ground_distance_m(a: (f64, f64), b: (f64, f64)) -> f64 {
    let (d_lon, d_lat) = ((b.0 - a.0).to_radians(), (b.1 - a.1).to_radians());
    let h = (d_lat / 2.0).sin().powi(2) + a.1.to_radians().cos() * b.1.to_radians().cos() * (d_lon / 2.0).sin().powi(2);
    2.0 * EARTH_RADIUS_M * h.sqrt().min(1.0).asin()
}
