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
mod stored;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use self::ifd::FORMAT;
use self::image::Image;
use self::stored::StoredImage;
use crate::georef::{CrsError, Georef};
use crate::raster::datetime::{Timestamp, from_tiff_tag};
use crate::raster::error::RasterError;
use crate::raster::formats::cache::ChunkCache;
use crate::raster::formats::chunks::{ChunkReader, Mask};
use crate::raster::formats::error::DecodeError;
use crate::raster::pixels::{BandInfo, Patch, PixelWindow, Raster, RasterInfo};
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
    let placement = geo::read(name, tiff, &directories[0], width, height)?;
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
        let failed = |error: DecodeError| error.in_file(name, FORMAT);
        let (big_endian, directories) = ifd::read_directories(&*source).map_err(failed)?;
        let main = &directories[0];
        let read = |directory| Image::read(&*source, big_endian, directory, main).map_err(failed);
        let nodata = |directory, image: &Image| {
            let stored = colours::nodata_of(&*source, directory, main).map_err(failed)?;
            Ok::<_, RasterError>(stored.and_then(|nodata| image.colours.nodata(nodata)))
        };
        let pixels = read(main)?;

        let (mut overviews, mut masks) = (Vec::new(), Vec::new());
        for directory in &directories[1..] {
            let kind = directory.unsigned_or(&*source, ifd::tag::SUBFILE_TYPE, 0).map_err(failed)?;
            if kind & MASK != 0 {
                masks.push(read(directory)?);
            } else if kind & REDUCED != 0 {
                let overview = read(directory)?;
                if overview.bands == pixels.bands && overview.width < pixels.width {
                    overviews.push((nodata(directory, &overview)?, overview));
                }
            }
        }
        overviews.sort_by_key(|(_, overview)| std::cmp::Reverse(overview.width));

        let main_nodata = nodata(main, &pixels)?;
        let datetime = from_tiff_tag(&main.text(&*source, ifd::tag::DATE_TIME).map_err(failed)?);
        let placement = geo::read(name, &*source, main, pixels.width, pixels.height)?;
        let info = RasterInfo {
            width: pixels.width,
            height: pixels.height,
            bands: metadata::read(&*source, main, &pixels, main_nodata).map_err(failed)?,
            sample_type: pixels.sample_type(),
            georef: placement.georef,
            is_normalised: false,
            overviews: overviews.iter().map(|(_, overview)| (overview.width, overview.height)).collect(),
        };
        let full_size = (pixels.width, pixels.height);
        let masks: Vec<((usize, usize), Arc<StoredImage>)> = masks
            .into_iter()
            .enumerate()
            .map(|(index, mask)| {
                ((mask.width, mask.height), Arc::new(StoredImage::new(mask, 2 * index as u32 + 1, source.clone())))
            })
            .collect();
        let mask_of = |size| masks.iter().find(|(of, _)| *of == size).map(|(_, mask)| mask.clone());
        let levels = std::iter::once((main_nodata, pixels))
            .chain(overviews)
            .enumerate()
            .map(|(level, (nodata, pixels))| {
                let with_nodata = |band: &BandInfo| BandInfo { nodata, ..band.clone() };
                MaskedImage {
                    mask: mask_of((pixels.width, pixels.height)).or_else(|| mask_of(full_size)),
                    bands: (nodata != main_nodata).then(|| info.bands.iter().map(with_nodata).collect()),
                    pixels: StoredImage::new(pixels, 2 * level as u32, source.clone()),
                }
            })
            .collect();
        let unknown_crs = placement.unknown_crs;
        Ok(Self { reader: ChunkReader::new(name, FORMAT, cache), info, levels, datetime, unknown_crs })
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
        unplaced.into_iter().chain(inaccurate).collect()
    }
}
