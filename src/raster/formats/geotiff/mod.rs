//! GeoTIFF and Cloud-Optimized GeoTIFF as a [`Raster`]: only the chunks a window touches are read and decoded.
//!
//! Directories and georeference are read here (TIFF 6.0, BigTIFF, OGC GeoTIFF 1.1, GDAL's metadata tags); the codecs are those
//! of the `tiff` crate.

mod chunk;
mod chunk_table;
mod colours;
mod compression;
mod geo;
mod ifd;
mod image;
mod jpeg;
mod metadata;
mod packing;
mod sidecar;
mod stored;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use self::colours::SharedColours;
use self::ifd::FORMAT;
use self::image::Image;
use self::sidecar::StoredLevel;
use self::stored::StoredImage;
use crate::georef::{CrsError, Georef};
use crate::raster::datetime::{Timestamp, from_tiff_tag};
use crate::raster::error::RasterError;
use crate::raster::formats::cache::ChunkCache;
use crate::raster::formats::chunks::{ChunkReader, Mask};
use crate::raster::formats::error::DecodeError;
use crate::raster::formats::sidecar::Sidecars;
use crate::raster::pixels::{BandInfo, Overview, Patch, PixelWindow, Raster, RasterInfo};
use crate::storage::{ByteSource, FileBytes};

/// `NewSubfileType` bits.
const REDUCED: u64 = 1;
const MASK: u64 = 4;

/// A GeoTIFF, open.
pub struct GeoTiff {
    reader: ChunkReader,
    info: RasterInfo,
    /// Full resolution first, then overviews, largest first.
    levels: Vec<MaskedImage>,
    datetime: Option<Timestamp>,
    /// Why it has no georeference, although it states a coordinate system.
    unknown_crs: Option<CrsError>,
    /// Why files beside it are not used, in sentences.
    notes: Vec<String>,
}

struct MaskedImage {
    pixels: StoredImage,
    /// Of the same size if there is one, else of the full resolution.
    mask: Option<Arc<StoredImage>>,
    /// The bands of an overview whose "no data" value is not that of the full resolution.
    bands: Option<Vec<BandInfo>>,
}

impl std::fmt::Debug for GeoTiff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GeoTiff").field("name", &self.reader.name()).field("info", &self.info).finish_non_exhaustive()
    }
}

/// The georeference in a GeoTIFF that is embedded in another format, for a raster of `width` by `height` pixels.
pub(crate) fn georef_of(name: &str, tiff: &Bytes, width: usize, height: usize) -> Result<Option<Georef>, RasterError> {
    let (_, directories) = ifd::read_directories(tiff).map_err(|error| error.in_file(name, FORMAT))?;
    let placement = geo::read(name, tiff, &directories[0], (width, height), &Sidecars::default())?;
    match placement.unknown_crs {
        Some(source) => Err(RasterError::BadCrs { name: name.to_owned(), source }),
        None => Ok(placement.georef),
    }
}

impl GeoTiff {
    /// Opens a file on this machine.
    ///
    /// # Errors
    /// As [`GeoTiff::open`], and what the system says.
    pub fn open_path(path: &Path, cache: &ChunkCache) -> Result<Self, RasterError> {
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let bytes = FileBytes::open(path).map_err(|source| RasterError::of_io(&name, source))?;
        Self::open(&name, Arc::new(bytes), cache)
    }

    /// Reads the directories and the georeference of a file; no pixels.
    ///
    /// # Errors
    /// [`RasterError`] if the file is damaged, contradicts itself, or uses something this server cannot read.
    pub fn open(name: &str, source: Arc<dyn ByteSource>, cache: &ChunkCache) -> Result<Self, RasterError> {
        Self::open_beside(name, source, Sidecars::default(), cache)
    }

    /// The same with what files beside it add.
    ///
    /// # Errors
    /// As [`GeoTiff::open`].
    pub(crate) fn open_beside(
        name: &str,
        source: Arc<dyn ByteSource>,
        beside: Sidecars,
        cache: &ChunkCache,
    ) -> Result<Self, RasterError> {
        Self::open_as(name, source, beside, cache, false)
    }

    /// The same as [`GeoTiff::open`], but the pixels of an image with a palette are its indices.
    ///
    /// # Errors
    /// As [`GeoTiff::open`].
    pub(crate) fn open_indices(name: &str, source: Arc<dyn ByteSource>, cache: &ChunkCache) -> Result<Self, RasterError> {
        Self::open_as(name, source, Sidecars::default(), cache, true)
    }

    fn open_as(
        name: &str,
        source: Arc<dyn ByteSource>,
        beside: Sidecars,
        cache: &ChunkCache,
        indices: bool,
    ) -> Result<Self, RasterError> {
        let failed = |error: DecodeError| error.in_file(name, FORMAT);
        let (big_endian, directories) = ifd::read_directories(&*source).map_err(failed)?;
        let main = &directories[0];
        let shared = SharedColours { directory: main, nodata: beside.pam.nodata_of(0), indices };
        let read = |directory| -> Result<StoredLevel, RasterError> {
            let image = Image::read(&*source, big_endian, directory, &shared).map_err(failed)?;
            let in_file = SharedColours { nodata: None, ..shared };
            let nodata = colours::nodata_of(&*source, directory, &in_file).map_err(failed)?;
            Ok((image, nodata, source.clone()))
        };
        let main_level = read(main)?;

        let (mut overviews, mut masks) = (Vec::new(), Vec::new());
        for directory in &directories[1..] {
            let kind = directory.unsigned_or(&*source, ifd::tag::SUBFILE_TYPE, 0).map_err(failed)?;
            if kind & MASK != 0 {
                masks.push(read(directory)?);
            } else if kind & REDUCED != 0 {
                overviews.push(read(directory)?);
            }
        }
        let mut notes = beside.notes.clone();
        let unused = |file: &str, error: DecodeError| format!("{} is not used.", error.in_file(file, FORMAT));
        if let (true, Some(file)) = (overviews.is_empty(), &beside.overviews) {
            match sidecar::overviews(file, main_level.1, shared.nodata) {
                Ok((levels, of_them)) => {
                    overviews.extend(levels);
                    masks.extend(of_them);
                }
                Err(error) => notes.push(unused(&format!("{name}.ovr"), error)),
            }
        }
        let pixels = &main_level.0;
        let full_size = (pixels.width, pixels.height);
        let is_masked = masks.iter().any(|(mask, ..)| (mask.width, mask.height) == full_size);
        if let (false, Some(file)) = (is_masked, &beside.mask) {
            match sidecar::masks(file) {
                Ok(levels) => masks.extend(levels),
                Err(error) => notes.push(unused(&format!("{name}.msk"), error)),
            }
        }
        overviews.retain(|(overview, ..)| overview.bands == pixels.bands && overview.width < pixels.width);
        overviews.sort_by_key(|(overview, ..)| std::cmp::Reverse(overview.width));

        let nodata_of = |(image, stored, _): &StoredLevel| stored.and_then(|nodata| image.colours.nodata(nodata));
        let main_nodata = nodata_of(&main_level);
        let datetime = from_tiff_tag(&main.text(&*source, ifd::tag::DATE_TIME).map_err(failed)?);
        let placement = geo::read(name, &*source, main, full_size, &beside)?;
        let info = RasterInfo {
            width: pixels.width,
            height: pixels.height,
            bands: metadata::read(&*source, main, pixels, main_nodata, &beside.pam).map_err(failed)?,
            sample_type: pixels.sample_type(),
            georef: placement.georef,
            is_normalised: false,
            overviews: overviews
                .iter()
                .map(|(image, ..)| Overview::of_areas((image.width, image.height), full_size))
                .collect(),
        };
        let stored = |(image, _, file): StoredLevel, number: usize| StoredImage::new(image, number as u32, file);
        let masks: Vec<((usize, usize), Arc<StoredImage>)> = masks
            .into_iter()
            .enumerate()
            .map(|(index, mask)| ((mask.0.width, mask.0.height), Arc::new(stored(mask, 2 * index + 1))))
            .collect();
        let mask_of = |size| masks.iter().find(|(of, _)| *of == size).map(|(_, mask)| mask.clone());
        let levels = std::iter::once(main_level)
            .chain(overviews)
            .enumerate()
            .map(|(number, level)| {
                let nodata = nodata_of(&level);
                let with_nodata = |band: &BandInfo| BandInfo { nodata, ..band.clone() };
                let differs = nodata != main_nodata && beside.pam.nodata.is_empty();
                MaskedImage {
                    mask: mask_of((level.0.width, level.0.height)).or_else(|| mask_of(full_size)),
                    bands: differs.then(|| info.bands.iter().map(with_nodata).collect()),
                    pixels: stored(level, 2 * number),
                }
            })
            .collect();
        let unknown_crs = placement.unknown_crs;
        Ok(Self { reader: ChunkReader::new(name, FORMAT, cache), info, levels, datetime, unknown_crs, notes })
    }

    /// Properties of its bands, for completion from a catalogue.
    pub(crate) fn bands_mut(&mut self) -> &mut [BandInfo] {
        &mut self.info.bands
    }

    /// Why it has no georeference, although it states a coordinate system.
    pub(crate) fn unknown_crs(&self) -> Option<&CrsError> {
        self.unknown_crs.as_ref()
    }

    /// The time in its `DateTime` tag, as UTC.
    pub fn datetime(&self) -> Option<Timestamp> {
        self.datetime
    }
}

impl Raster for GeoTiff {
    fn info(&self) -> &RasterInfo {
        &self.info
    }

    fn read(&self, level: usize, window: PixelWindow, bands: &[usize]) -> Result<Patch, RasterError> {
        let Some(MaskedImage { pixels, mask, bands: own_bands }) = self.levels.get(level) else {
            return Err(RasterError::NoSuchPart { what: "overview", index: level, count: self.levels.len() });
        };
        // A catalogue may know that a band marked as alpha is none.
        let mask = match (mask, self.info.bands.iter().position(|band| band.is_alpha)) {
            (Some(mask), _) => Mask::Image(&**mask),
            (None, Some(alpha)) => Mask::Band(alpha),
            (None, None) => Mask::None,
        };
        self.reader.read(pixels, &mask, own_bands.as_ref().unwrap_or(&self.info.bands), window, bands)
    }

    fn warnings(&self) -> Vec<String> {
        let unplaced = self.unknown_crs.as_ref().map(|error| format!("Positions are in pixels, because {error}."));
        let inaccurate = self.info.georef.as_ref().and_then(|georef| georef.crs.accuracy_warning());
        unplaced.into_iter().chain(inaccurate).chain(self.notes.iter().cloned()).collect()
    }
}
