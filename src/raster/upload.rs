//! Uploaded files: which format the bytes are, whether they are within limits, and which captures they hold.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::jpeg2000::is_jpeg2000;
use super::memory::BandRange;
use super::{ChunkCache, GeoTiff, Jpeg2000, Limits, MemoryRaster, OpenOptions, Raster, RasterError, npy, open_location};
use crate::storage::is_remote;
use crate::storage::{ByteSource, FileBytes};

/// Opens the bytes of a file as one raster per capture. The format is told by the first bytes, never by name or media type.
///
/// `images` says how many captures are stacked in the bands of a picture or GeoTIFF; a `[T, C, H, W]` array says so itself.
///
/// # Errors
/// [`RasterError::UnsupportedMedia`] for another format, [`RasterError::TooLarge`] beyond the limits,
/// [`RasterError::BandMismatch`] where the bands cannot be divided, else what the format's reader says.
pub fn open_upload(
    name: &str,
    bytes: Bytes,
    images: Option<usize>,
    limits: &Limits,
    cache: &ChunkCache,
) -> Result<Vec<Arc<dyn Raster>>, RasterError> {
    limits.check_bytes(name, bytes.len() as u64)?;
    let raster: Arc<dyn Raster> = match &bytes[..] {
        start if is_tiff(start) => open_tiff(name, Arc::new(bytes), limits, cache)?,
        start if is_jpeg2000(start) => open_jpeg2000(name, Arc::new(bytes), limits, cache)?,
        [0x89, b'P', b'N', b'G', ..] => Arc::new(MemoryRaster::from_picture(name, &bytes, true, limits)?),
        [0xff, 0xd8, 0xff, ..] => Arc::new(MemoryRaster::from_picture(name, &bytes, false, limits)?),
        start if start.starts_with(npy::MAGIC) => {
            let rasters = npy::open(name, &bytes, limits)?;
            if rasters.len() > 1 || images.is_none() {
                return match images {
                    Some(images) if images != rasters.len() => Err(RasterError::BandMismatch {
                        found: format!("the array holds {} captures", rasters.len()),
                        needed: format!("images={images} was asked for"),
                    }),
                    _ => Ok(rasters.into_iter().map(|raster| Arc::new(raster) as Arc<dyn Raster>).collect()),
                };
            }
            rasters.into_iter().next().map(|raster| Arc::new(raster) as Arc<dyn Raster>).ok_or(RasterError::NoSuchPart {
                what: "capture",
                index: 0,
                count: 0,
            })?
        }
        start => return Err(RasterError::UnsupportedMedia { name: name.to_owned(), found: looks_like(start) }),
    };
    split(raster, images.unwrap_or(1))
}

/// Opens a file of this machine as [`open_upload`] opens its bytes, `name` being what errors call it; of a TIFF or JPEG 2000
/// file, only what is asked for is ever read.
///
/// # Errors
/// What [`open_upload`] says, and [`RasterError::Io`] where the file cannot be read.
pub fn open_file(
    name: &str,
    path: &Path,
    images: Option<usize>,
    limits: &Limits,
    cache: &ChunkCache,
) -> Result<Vec<Arc<dyn Raster>>, RasterError> {
    let failed = |source: io::Error| RasterError::of_io(name, source);
    let mut start = Vec::with_capacity(MAGIC_BYTES);
    File::open(path).and_then(|file| file.take(MAGIC_BYTES as u64).read_to_end(&mut start)).map_err(failed)?;
    let is_jpeg2000 = is_jpeg2000(&start);
    if !is_jpeg2000 && !is_tiff(&start) {
        return open_upload(name, std::fs::read(path).map_err(failed)?.into(), images, limits, cache);
    }
    let file = FileBytes::open(path).map_err(failed)?;
    let found = file.len();
    if found > limits.max_bytes {
        return Err(RasterError::TooLarge { name: name.to_owned(), what: "bytes", found, limit: limits.max_bytes });
    }
    let open = if is_jpeg2000 { open_jpeg2000 } else { open_tiff };
    split(open(name, Arc::new(file), limits, cache)?, images.unwrap_or(1))
}

/// Opens what somebody names to be predicted on, a path or an address, as one raster per capture in time order; `images` as in
/// [`open_upload`].
///
/// # Errors
/// What [`open_file`] and [`open_location`] say.
pub fn open_input(place: &str, images: Option<usize>, options: &OpenOptions) -> Result<Vec<Arc<dyn Raster>>, RasterError> {
    let path = Path::new(place);
    if !is_remote(place) && !path.is_dir() {
        return open_file(place, path, images, &options.limits, &options.chunks);
    }
    let mut captures = open_location(place, options)?;
    captures.sort_by_key(|capture| capture.datetime);
    let mut rasters: Vec<Arc<dyn Raster>> = captures.into_iter().map(|capture| capture.raster).collect();
    match (images, rasters.len()) {
        (Some(images), 1) => split(rasters.remove(0), images),
        (Some(images), count) if images != count => Err(RasterError::BandMismatch {
            found: format!("{count} captures are there"),
            needed: format!("images={images} was asked for"),
        }),
        _ => Ok(rasters),
    }
}

fn open_tiff(
    name: &str,
    source: Arc<dyn ByteSource>,
    limits: &Limits,
    cache: &ChunkCache,
) -> Result<Arc<dyn Raster>, RasterError> {
    let tiff = GeoTiff::open(name, source, cache)?;
    limits.check_pixels(name, tiff.info().width as u64, tiff.info().height as u64)?;
    Ok(Arc::new(tiff))
}

fn open_jpeg2000(
    name: &str,
    source: Arc<dyn ByteSource>,
    limits: &Limits,
    cache: &ChunkCache,
) -> Result<Arc<dyn Raster>, RasterError> {
    let raster = Jpeg2000::open(name, source, cache)?;
    limits.check_pixels(name, raster.info().width as u64, raster.info().height as u64)?;
    Ok(Arc::new(raster))
}

/// Bytes that tell a TIFF or a JPEG 2000 file from everything else.
pub(super) const MAGIC_BYTES: usize = 8;

/// Whether the first four bytes are those of a TIFF or BigTIFF.
pub(super) fn is_tiff(start: &[u8]) -> bool {
    matches!(start, [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..])
}

/// Captures that are stacked in the bands of one raster.
fn split(raster: Arc<dyn Raster>, images: usize) -> Result<Vec<Arc<dyn Raster>>, RasterError> {
    if images == 1 {
        return Ok(vec![raster]);
    }
    let bands = raster.info().bands.iter().take_while(|band| !band.is_alpha).count();
    if images == 0 || bands == 0 || bands % images != 0 {
        return Err(RasterError::BandMismatch {
            found: format!("the file has {bands} bands"),
            needed: format!("images={images} needs a whole number of bands in each image"),
        });
    }
    let count = bands / images;
    Ok((0..images).map(|image| Arc::new(BandRange::new(raster.clone(), image * count, count)) as Arc<dyn Raster>).collect())
}

/// What the first bytes of an unknown file say to a person.
fn looks_like(start: &[u8]) -> String {
    let known: [(&[u8], &str); 9] = [
        (b"", "empty"),
        (b"GIF8", "a GIF"),
        (b"RIFF", "a WebP picture or another RIFF file"),
        (b"SQLite f", "an SQLite file (MBTiles are served from this machine: --source ID=FILE, or by path)"),
        (b"PK\x03\x04", "a zip archive (npz?)"),
        (b"\x1f\x8b", "gzip-compressed"),
        (b"\x89HDF", "HDF5 or netCDF"),
        (b"%PDF", "a PDF"),
        (b"BM", "a BMP"),
    ];
    let matches = |(magic, _): &&(&[u8], &str)| if magic.is_empty() { start.is_empty() } else { start.starts_with(magic) };
    known.iter().find(matches).map_or_else(
        || format!("not a known image (it starts with {:02x?})", &start[..start.len().min(4)]),
        |(_, name)| (*name).to_owned(),
    )
}
