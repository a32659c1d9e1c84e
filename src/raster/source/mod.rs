//! A source: one or more captures with a name, and what a map needs to know about them.

mod newest;
mod rendering;

pub use newest::NewestCaptures;
pub use rendering::RgbaTile;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use self::rendering::Rendering;
use crate::georef::{Bounds, Georef};
use crate::raster::datetime::DatetimeRange;
use crate::raster::error::RasterError;
use crate::raster::extent::{Extent, Footprint};
use crate::raster::formats::{ChunkCache, Limits};
use crate::raster::open::{
    Capture, CaptureSet, Catalogue, Imagery, Location, OpenOptions, file_name, is_search, open, open_search, title_of,
    version_hash,
};
use crate::raster::pixels::{Patch, PixelWindow, Raster, RasterInfo, Resampling, SampleType};
use crate::raster::warp::warp;

/// Bounds of catalogues that do not restrict them.
const WORLD: Bounds = Bounds { min_x: -180.0, min_y: -90.0, max_x: 180.0, max_y: 90.0 };

/// Which captures of a source are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CaptureSelection {
    /// 0-based numbers in time order; `None` takes all.
    pub captures: Option<Vec<usize>>,
    /// When they were taken; captures of unknown time are never within a range.
    pub datetime: Option<DatetimeRange>,
}

/// Imagery with a name: captures in time order.
pub struct Source {
    /// The name in URLs.
    pub id: String,
    /// A title for display.
    pub title: String,
    /// Attribution to show on the map.
    pub attribution: Option<String>,
    /// Changes whenever the pixels do.
    pub version: String,
    found: Arc<CaptureSet>,
    /// Defines size, bands and colours: the first capture, or a sample of a catalogue.
    reference: Arc<dyn Raster>,
    rendering: Arc<OnceLock<Rendering>>,
    origin: CaptureOrigin,
}

/// Where captures come from.
#[derive(Debug)]
enum CaptureOrigin {
    /// They were opened with the source.
    Given,
    /// They are searched for on demand ([`Source::at`]); the source itself has none.
    Catalogue(Box<Catalogue>),
    /// A search of a catalogue found them.
    Found,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, version, found, origin, .. } = self;
        let mut shown = f.debug_struct("Source");
        shown.field("id", id).field("version", version).field("captures", &found.captures).field("origin", origin);
        shown.finish_non_exhaustive()
    }
}

/// A band, for display.
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

/// What is known of a source without reading pixels. Size and bands are those of its first capture.
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
    /// Where it lies, if it is georeferenced.
    pub extent: Option<Extent>,
}

impl Source {
    /// A source of open captures. `version` must change whenever their pixels do.
    ///
    /// # Errors
    /// [`RasterError::NoSuchPart`] without captures, [`RasterError::BandMismatch`] if their numbers of bands differ.
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
        let reference = first.raster.clone();
        Ok(Self::of(id, title, Arc::new(CaptureSet::new(version, captures)), reference, CaptureOrigin::Given))
    }

    fn of(id: &str, title: &str, found: Arc<CaptureSet>, reference: Arc<dyn Raster>, origin: CaptureOrigin) -> Self {
        let (id, title, version) = (id.to_owned(), title.to_owned(), found.version.clone());
        Self { id, title, attribution: None, version, found, reference, rendering: Arc::default(), origin }
    }

    /// The source of a STAC search.
    fn search(id: &str, location: &str, options: &OpenOptions) -> Result<Self, RasterError> {
        let (catalogue, reference) = open_search(location, options)?;
        let nothing = CaptureSet::new(version_hash(location.as_bytes()), Vec::new());
        let title = catalogue.title().to_owned();
        Ok(Self::of(id, &title, Arc::new(nothing), reference, CaptureOrigin::Catalogue(Box::new(catalogue))))
    }

    /// True if captures are searched for; then there are none until [`Source::at`] is called.
    pub fn is_searched(&self) -> bool {
        matches!(self.origin, CaptureOrigin::Catalogue(_))
    }

    /// The source of captures on the grid `target` taken within `datetime`. It is this source, unless captures are searched for:
    /// then a source of those found, with its own version. Search results are cached for ten minutes; otherwise this waits for the
    /// host.
    ///
    /// # Errors
    /// [`RasterError`] if the search fails.
    pub fn at(self: &Arc<Self>, target: &Georef, datetime: Option<&DatetimeRange>) -> Result<Arc<Self>, Arc<RasterError>> {
        let CaptureOrigin::Catalogue(catalogue) = &self.origin else { return Ok(self.clone()) };
        let found = catalogue.at(target, datetime)?;
        let found = Self::of(&self.id, &self.title, found, self.reference.clone(), CaptureOrigin::Found);
        Ok(Arc::new(Self { attribution: self.attribution.clone(), rendering: self.rendering.clone(), ..found }))
    }

    /// The captures of all `locations` (see [`Imagery::Location`]) in time order, those of unknown time first. A time given
    /// with a location overrides that in its file.
    ///
    /// # Errors
    /// As [`Imagery::Location`] and [`Source::new`]; a search must be the only location.
    pub fn open(id: &str, locations: &[Location], options: &OpenOptions) -> Result<Self, RasterError> {
        if let [search] = locations
            && is_search(&search.place)
        {
            return match search.datetime {
                None => Self::search(id, &search.place, options),
                Some(_) => Err(search.misdated("as many as a search finds")),
            };
        }
        let open_dated = |location: &Location| {
            let mut captures = open(Imagery::Location(&location.place), None, options)?;
            location.date(&mut captures)?;
            Ok(captures)
        };
        let mut captures: Vec<Capture> =
            locations.iter().map(open_dated).collect::<Result<Vec<_>, RasterError>>()?.into_iter().flatten().collect();
        captures.sort_by_key(|capture| capture.datetime);
        // The order of captures, and which of them a time chooses, is part of what is seen.
        let dated = locations.iter().filter_map(|location| location.datetime).map(|datetime| datetime.to_string());
        let versions: String = captures.iter().map(|capture| capture.version.clone()).chain(dated).collect();
        let title = locations.first().map_or(id.to_owned(), |location| title_of(&location.place));
        let source = Self::new(id, &title, version_hash(versions.as_bytes()), captures)?;
        if let Some(warning) = source.undated_warning() {
            tracing::warn!("source {id}: {warning}");
        }
        Ok(source)
    }

    /// A warning if captures of a time series do not say when they were taken. Those of a single file have its order.
    pub fn undated_warning(&self) -> Option<String> {
        let captures = &self.found.captures;
        let several_files = captures.windows(2).any(|pair| pair[0].version != pair[1].version);
        let undated = captures.iter().filter(|capture| capture.datetime.is_none()).count();
        (several_files && undated > 0).then(|| {
            format!(
                "{undated} of {} captures have no time in their names or tags. They count as the oldest, in the order of their names, \
                 and datetime does not find them; name the time, as in --source ID@2024-06-01=FILE.",
                captures.len()
            )
        })
    }

    /// Opens one path on this machine as [`Source::open`] does; with `images`, a file with so many captures stacked in its bands.
    ///
    /// # Errors
    /// As [`Source::open`], and as [`open`] where the bands cannot be divided.
    pub fn open_path(id: &str, path: &Path, images: Option<usize>, options: &OpenOptions) -> Result<Self, RasterError> {
        let location = path.to_string_lossy().into_owned();
        let Some(images) = images else { return Self::open(id, &[location.into()], options) };
        let captures = open(Imagery::File { name: &file_name(path), path }, Some(images), options)?;
        let version = captures.first().map(|capture| capture.version.clone()).unwrap_or_default();
        Self::new(id, &title_of(&location), version, captures)
    }

    /// A file in memory (embedded or uploaded); `images` as in [`open`].
    ///
    /// # Errors
    /// As [`open`].
    pub fn from_bytes(
        id: &str,
        title: &str,
        bytes: Bytes,
        images: Option<usize>,
        limits: &Limits,
        cache: &ChunkCache,
    ) -> Result<Self, RasterError> {
        let version = version_hash(&bytes);
        let options = OpenOptions { limits: *limits, chunks: cache.clone(), remote: None };
        let captures = open(Imagery::Bytes { name: title, bytes }, images, &options)?;
        Self::new(id, title, version, captures)
    }

    /// Reads a pixel of every capture, so that a picture that cannot be decoded is found before it is registered.
    ///
    /// # Errors
    /// What reading says.
    pub fn probe(&self) -> Result<(), RasterError> {
        let corner = PixelWindow { col: 0, row: 0, width: 1, height: 1 };
        self.found.captures.iter().try_for_each(|capture| capture.raster.read(0, corner, &[0]).map(drop))
    }

    /// The 0-based captures that `wanted` chooses, in time order.
    ///
    /// # Errors
    /// [`RasterError::NoSuchPart`] if a capture does not exist, [`RasterError::InvalidOption`] if captures are searched for and so
    /// have no numbers.
    pub fn select(&self, wanted: &CaptureSelection) -> Result<Vec<usize>, RasterError> {
        let count = self.found.captures.len();
        if let (Some(captures), CaptureOrigin::Catalogue(_) | CaptureOrigin::Found) = (&wanted.captures, &self.origin) {
            return Err(RasterError::InvalidOption {
                what: "captures",
                value: captures.iter().map(|index| (index + 1).to_string()).collect::<Vec<_>>().join(","),
                needed: "captures does not work with a STAC API; use datetime".to_owned(),
            });
        }
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
            chosen.retain(|index| self.found.captures[*index].datetime.is_some_and(|datetime| range.contains(datetime)));
        }
        Ok(chosen)
    }

    /// Says so if `wanted` has a `datetime` at which none of the captures was taken; there is nothing to show then.
    pub fn unmatched(&self, wanted: &CaptureSelection) -> Option<String> {
        wanted.datetime.as_ref()?;
        if !self.select(wanted).is_ok_and(|chosen| chosen.is_empty()) {
            return None;
        }
        let id = &self.id;
        if matches!(self.origin, CaptureOrigin::Catalogue(_) | CaptureOrigin::Found) {
            return Some(format!("datetime matches no image of this place in the catalogue of source {id}"));
        }
        let times: Vec<_> = self.found.captures.iter().filter_map(|capture| capture.datetime).collect();
        let when = match (times.iter().min(), times.iter().max()) {
            (Some(first), Some(last)) if first == last => format!("those of known time were taken at {first}"),
            (Some(first), Some(last)) => format!("those of known time were taken from {first} to {last}"),
            _ => "when they were taken is not known".to_owned(),
        };
        let which = if wanted.captures.is_some() { "chosen captures" } else { "captures" };
        Some(format!("datetime matches none of the {which} of source {id}; {when}"))
    }

    /// The captures in time order.
    pub fn captures(&self) -> &[Capture] {
        &self.found.captures
    }

    /// Size, bands and georeference of the first capture.
    pub fn raster_info(&self) -> &RasterInfo {
        self.reference.info()
    }

    /// One capture.
    ///
    /// # Errors
    /// [`RasterError::NoSuchPart`] if there are fewer.
    pub fn capture(&self, index: usize) -> Result<&Capture, RasterError> {
        let missing = RasterError::NoSuchPart { what: "capture", index, count: self.found.captures.len() };
        self.found.captures.get(index).ok_or(missing)
    }

    /// Reads `bands` (0-based) of a capture on the grid `target`. Nothing is read of a capture that does not touch the grid.
    ///
    /// # Errors
    /// As [`warp`](fn@warp), and if there is no such capture.
    pub fn read(
        &self,
        capture: usize,
        target: &Georef,
        bands: &[usize],
        resampling: Resampling,
    ) -> Result<Patch, RasterError> {
        let raster = &*self.capture(capture)?.raster;
        let lies = self.found.footprints[capture].zip(Footprint::of(target));
        if lies.is_some_and(|(capture, target)| !capture.meets(&target)) {
            return Ok(Patch::empty(target.width, target.height, bands.len()));
        }
        warp(raster, target, bands, resampling)
    }

    /// A picture on the grid `target`: 8-bit imagery unchanged, everything else stretched between percentiles of the first capture.
    /// It shows the newest of the wanted captures with data there.
    ///
    /// # Errors
    /// As [`Source::read_newest`].
    pub fn read_rgba(
        &self,
        wanted: &CaptureSelection,
        target: &Georef,
        resampling: Resampling,
    ) -> Result<RgbaTile, RasterError> {
        let rendering = match self.rendering.get() {
            Some(rendering) => rendering,
            // If two threads compute it, they get the same result.
            None => {
                let rendering = Rendering::of(&*self.reference)?;
                self.rendering.get_or_init(|| rendering)
            }
        };
        let newest = self.read_newest((wanted, 1), target, rendering.bands(), resampling)?;
        let empty = || Patch::empty(target.width, target.height, rendering.bands().len());
        let tile = rendering.paint(&newest.patches.into_iter().next().unwrap_or_else(empty));
        Ok(RgbaTile { warnings: newest.left_out, ..tile })
    }

    /// True if a capture may lie on the grid `target`; false for sources without a georeference.
    pub fn covers(&self, target: &Georef) -> bool {
        let target = Footprint::of(target);
        target.is_some_and(|target| self.found.footprints.iter().flatten().any(|footprint| footprint.meets(&target)))
    }

    /// Describes the source without reading pixels.
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
            datetimes: self.found.captures.iter().map(|capture| capture.datetime.map(|time| time.to_string())).collect(),
            extent: self.extent(),
        }
    }

    /// Its extent: resolution of the first capture, bounds of all captures.
    fn extent(&self) -> Option<Extent> {
        let place = self.raster_info().georef.as_ref().and_then(Extent::of)?;
        if let CaptureOrigin::Catalogue(catalogue) = &self.origin {
            // The zooms of one scene, because coarser tiles would need hundreds of scenes.
            return Some(Extent {
                bounds_lon_lat: catalogue.bounds().unwrap_or(WORLD),
                min_zoom: place.max_zoom.min(place.min_zoom + 2),
                ..place
            });
        }
        if self.found.captures.len() == 1 {
            return Some(place);
        }
        Some(match Footprint::around(self.found.footprints.iter().flatten().copied()) {
            Some(bounds) => place.within(bounds),
            None => place,
        })
    }
}
