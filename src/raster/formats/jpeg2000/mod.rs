//! JPEG 2000 (ISO/IEC 15444-1) as a [`Raster`]: only the tiles that a window touches are read and decoded, at the wanted
//! resolution. Sentinel-2 bands come in such files, in tiles of 1024 x 1024 pixels.
//!
//! Boxes and markers are read here; `hayro-jpeg2000` decodes the tiles.

mod boxes;
mod codestream;
mod gml;
mod resolution;

use std::sync::Arc;

pub(crate) use self::boxes::is_jpeg2000;
use self::codestream::Codestream;
use self::resolution::Resolution;
use crate::georef::Georef;
use crate::raster::error::RasterError;
use crate::raster::formats::cache::ChunkCache;
use crate::raster::formats::chunks::{ChunkReader, Mask};
use crate::raster::formats::error::DecodeError;
use crate::raster::formats::geotiff;
use crate::raster::formats::sidecar::Sidecars;
use crate::raster::pixels::{BandInfo, Patch, PixelWindow, Raster, RasterInfo};
use crate::storage::ByteSource;

const FORMAT: &str = "JPEG 2000";

/// A JPEG 2000 file, open.
pub struct Jpeg2000 {
    reader: ChunkReader,
    info: RasterInfo,
    /// Full resolution first, then halved each time.
    levels: Vec<Resolution>,
}

impl std::fmt::Debug for Jpeg2000 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jpeg2000").field("name", &self.reader.name()).field("info", &self.info).finish_non_exhaustive()
    }
}

impl Jpeg2000 {
    /// Reads the boxes, the main header and the georeference of a file; no pixels.
    ///
    /// # Errors
    /// [`RasterError`] if the file is damaged, contradicts itself, or uses something this server cannot read.
    pub fn open(name: &str, source: Arc<dyn ByteSource>, cache: &ChunkCache) -> Result<Self, RasterError> {
        let failed = |error: DecodeError| error.in_file(name, FORMAT);
        let found = boxes::read(&*source).map_err(failed)?;
        let stream = Codestream::read(&*source, found.codestream.0, found.codestream.1).map_err(failed)?;
        let (width, height) = stream.size();
        let georef = match (&found.geo_jp2, &found.gml) {
            (Some(geo_jp2), _) => geotiff::georef_of(name, geo_jp2, width, height)?,
            (None, Some(gml)) => gml::read(name, gml, width, height)?,
            (None, None) => None,
        };
        let stream = Arc::new(stream);
        let levels: Vec<Resolution> =
            (0..=stream.reductions).map(|reduction| Resolution::new(stream.clone(), reduction, source.clone())).collect();
        let info = RasterInfo {
            width,
            height,
            bands: (0..stream.components)
                .map(|band| BandInfo { is_alpha: found.alpha == Some(band), ..BandInfo::default() })
                .collect(),
            sample_type: stream.sample_type(),
            georef,
            is_normalised: false,
            overviews: levels[1..].iter().map(Resolution::overview).collect(),
        };
        Ok(Self { reader: ChunkReader::new(name, FORMAT, cache), info, levels })
    }

    /// The same with what files beside it state.
    ///
    /// # Errors
    /// [`RasterError::BadCrs`] and [`RasterError::BadGeoreference`] if they place it where it cannot be.
    pub(crate) fn beside(mut self, name: &str, beside: &Sidecars) -> Result<Self, RasterError> {
        beside.complete(name, &mut self.info)?;
        Ok(self)
    }

    /// Properties of its bands, for completion from a catalogue.
    pub(crate) fn bands_mut(&mut self) -> &mut [BandInfo] {
        &mut self.info.bands
    }

    /// The same with a "no data" value, which the format cannot hold but product metadata can.
    pub fn with_nodata(mut self, nodata: f64) -> Self {
        self.info.bands.iter_mut().for_each(|band| band.nodata = Some(nodata));
        self
    }

    /// The same with physical value = `scale` x pixel + `offset` for every band, from product metadata.
    pub fn with_scale(mut self, scale: f64, offset: f64) -> Self {
        self.info.bands.iter_mut().for_each(|band| (band.scale, band.offset) = (scale, offset));
        self
    }

    /// The same with a georeference from product metadata, unless the file has one.
    pub fn or_placed(mut self, georef: Option<Georef>) -> Self {
        self.info.georef = self.info.georef.or(georef);
        self
    }
}

impl Raster for Jpeg2000 {
    fn info(&self) -> &RasterInfo {
        &self.info
    }

    fn read(&self, level: usize, window: PixelWindow, bands: &[usize]) -> Result<Patch, RasterError> {
        let Some(image) = self.levels.get(level) else {
            return Err(RasterError::NoSuchPart { what: "overview", index: level, count: self.levels.len() });
        };
        let alpha = self.info.bands.iter().position(|band| band.is_alpha);
        self.reader.read(image, &alpha.map_or(Mask::None, Mask::Band), &self.info.bands, window, bands)
    }
}
