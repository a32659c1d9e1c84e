//! One file of pixels, wherever its bytes lie: its format, and its image.

use std::path::Path;
use std::sync::Arc;

use crate::georef::CrsError;
use crate::raster::datetime::Timestamp;
use crate::raster::error::RasterError;
use crate::raster::formats::{FileFormat, GeoTiff, Jpeg2000, MAGIC_BYTES, PictureFile, Sidecars, open_npy};
use crate::raster::open::names::OpenOptions;
use crate::raster::open::sidecar::sidecars_of;
use crate::raster::pixels::{BandInfo, Raster};
use crate::storage::{ByteSource, FileBytes};

/// A file whose format is known.
pub(crate) struct ImageFile {
    /// What errors call it.
    pub(crate) name: String,
    pub(crate) bytes: Arc<dyn ByteSource>,
    pub(crate) format: FileFormat,
    /// The files beside it on this machine.
    beside: Sidecars,
}

/// An image of which only the windows that are asked for are read.
pub(crate) struct WindowedImage {
    pub(crate) raster: Arc<dyn Raster>,
    /// When it was taken, as the file says.
    pub(crate) datetime: Option<Timestamp>,
    /// Why it has no georeference, although it states a coordinate system.
    unknown_crs: Option<CrsError>,
}

impl WindowedImage {
    /// The same, for uses that are about places.
    ///
    /// # Errors
    /// [`RasterError::BadCrs`] if it states a coordinate system that is not understood.
    pub(crate) fn understood(self, name: &str) -> Result<Self, RasterError> {
        match self.unknown_crs {
            Some(source) => Err(RasterError::BadCrs { name: name.to_owned(), source }),
            None => Ok(self),
        }
    }
}

impl ImageFile {
    /// Reads the first bytes of a file.
    ///
    /// # Errors
    /// [`RasterError`] if they cannot be read.
    pub(crate) fn new(name: &str, bytes: Arc<dyn ByteSource>) -> Result<Self, RasterError> {
        let (name, beside) = (name.to_owned(), Sidecars::default());
        let mut file = Self { name, bytes, format: FileFormat::Unknown, beside };
        file.format = FileFormat::of(&file.read(MAGIC_BYTES as u64)?);
        Ok(file)
    }

    /// Opens a file on this machine, with those beside it.
    ///
    /// # Errors
    /// [`RasterError::Io`] if it cannot be read.
    pub(crate) fn on_disk(name: &str, path: &Path) -> Result<Self, RasterError> {
        let bytes = FileBytes::open(path).map_err(|source| RasterError::of_io(name, source))?;
        Ok(Self { beside: sidecars_of(path), ..Self::new(name, Arc::new(bytes))? })
    }

    /// The image of a GeoTIFF or JPEG 2000 file; `None` for other formats. `complete` may add to what the file says of each of
    /// its bands, which are numbered from 0.
    ///
    /// # Errors
    /// [`RasterError`] if the file is damaged or uses what this server cannot read.
    pub(crate) fn windowed(
        &self,
        options: &OpenOptions,
        complete: impl Fn(usize, &mut BandInfo),
    ) -> Result<Option<WindowedImage>, RasterError> {
        let complete = |bands: &mut [BandInfo]| bands.iter_mut().enumerate().for_each(|(band, info)| complete(band, info));
        Ok(match self.format {
            FileFormat::GeoTiff => {
                let (bytes, beside) = (self.bytes.clone(), self.beside.clone());
                let mut tiff = GeoTiff::open_beside(&self.name, bytes, beside, &options.chunks)?;
                complete(tiff.bands_mut());
                let (datetime, unknown_crs) = (tiff.datetime(), tiff.unknown_crs().cloned());
                Some(WindowedImage { datetime, unknown_crs, raster: Arc::new(tiff) })
            }
            FileFormat::Jpeg2000 => {
                let image = Jpeg2000::open(&self.name, self.bytes.clone(), &options.chunks)?;
                let mut image = image.beside(&self.name, &self.beside)?;
                complete(image.bands_mut());
                Some(WindowedImage { datetime: None, unknown_crs: None, raster: Arc::new(image) })
            }
            _ => None,
        })
    }

    /// The images of a picture, which is decoded when it is looked at, or of an array: one per capture.
    ///
    /// # Errors
    /// [`RasterError::TooLarge`] beyond the limits, [`RasterError::UnsupportedMedia`] for another format, and what the format's
    /// reader says.
    pub(crate) fn decoded(&self, options: &OpenOptions) -> Result<Vec<Arc<dyn Raster>>, RasterError> {
        let limits = &options.limits;
        let is_png = match self.format {
            FileFormat::Png => true,
            FileFormat::Jpeg => false,
            FileFormat::Npy => {
                limits.check_bytes(&self.name, self.bytes.len())?;
                let rasters = open_npy(&self.name, self.bytes.clone(), limits, &options.chunks)?;
                return Ok(rasters.into_iter().map(|raster| Arc::new(raster) as Arc<dyn Raster>).collect());
            }
            _ => {
                let found = FileFormat::describe(&self.read(MAGIC_BYTES as u64)?);
                return Err(RasterError::UnsupportedMedia { name: self.name.clone(), found });
            }
        };
        limits.check_bytes(&self.name, self.bytes.len())?;
        let picture = PictureFile::open(&self.name, self.bytes.clone(), is_png, limits, &options.chunks)?;
        Ok(vec![Arc::new(picture.beside(&self.name, &self.beside)?)])
    }

    /// The same as for [`ImageFile::windowed`] or [`ImageFile::decoded`], but of a GeoTIFF or PNG with a palette the pixels are its indices.
    ///
    /// # Errors
    /// As for these.
    pub(crate) fn indexed(&self, options: &OpenOptions) -> Result<Vec<Arc<dyn Raster>>, RasterError> {
        let OpenOptions { limits, chunks, .. } = options;
        match self.format {
            FileFormat::GeoTiff => Ok(vec![Arc::new(GeoTiff::open_indices(&self.name, self.bytes.clone(), chunks)?)]),
            FileFormat::Png => {
                Ok(vec![Arc::new(PictureFile::open_indices(&self.name, self.bytes.clone(), limits, chunks)?)])
            }
            _ => match self.windowed(options, |_, _| {})? {
                Some(image) => Ok(vec![image.raster]),
                None => self.decoded(options),
            },
        }
    }

    /// Its first `len` bytes, or fewer if it is shorter.
    fn read(&self, len: u64) -> Result<bytes::Bytes, RasterError> {
        let bytes = self.bytes.read_at(0, self.bytes.len().min(len) as usize);
        bytes.map_err(|error| RasterError::of_read(&self.name, error))
    }
}
