//! The images in files beside a GeoTIFF: overviews (`.ovr`) and a mask (`.msk`), both TIFF, as GDAL writes them.

use std::sync::Arc;

use super::colours::SharedColours;
use super::ifd::{self, ImageDirectory, tag};
use super::image::Image;
use super::{MASK, colours};
use crate::raster::formats::error::DecodeError;
use crate::raster::formats::xml;
use crate::storage::ByteSource;

/// GDAL's flag of a mask that holds for all bands (`GMF_PER_DATASET`).
const FOR_ALL_BANDS: u32 = 2;

/// An image, its "no data" value as stored, and the file that holds it.
pub(super) type StoredLevel = (Image, Option<f64>, Arc<dyn ByteSource>);

/// The overviews in a file beside an image, and their masks. `nodata` is the value of the image, for overviews that state none;
/// `stated` is one that comes before theirs.
///
/// # Errors
/// [`DecodeError`] if it is damaged, or holds something that cannot be read.
pub(super) fn overviews(
    file: &Arc<dyn ByteSource>,
    nodata: Option<f64>,
    stated: Option<f64>,
) -> Result<(Vec<StoredLevel>, Vec<StoredLevel>), DecodeError> {
    let (big_endian, directories) = ifd::read_directories(&**file)?;
    let shared = SharedColours { directory: &directories[0], nodata: None, indices: false };
    let level = |directory: &ImageDirectory| -> Result<StoredLevel, DecodeError> {
        let own = colours::nodata_of(&**file, directory, &shared)?.or(nodata);
        let colours = SharedColours { nodata: stated.or(own), ..shared };
        Ok((Image::read(&**file, big_endian, directory, &colours)?, own, file.clone()))
    };
    let (mut overviews, mut masks) = (Vec::new(), Vec::new());
    for directory in &directories {
        let is_mask = directory.unsigned_or(&**file, tag::SUBFILE_TYPE, 0)? & MASK != 0;
        if is_mask { &mut masks } else { &mut overviews }.push(level(directory)?);
    }
    Ok((overviews, masks))
}

/// The mask in a file beside an image, at its resolutions; empty if the file does not say that it masks all bands.
///
/// # Errors
/// [`DecodeError`] if it is damaged, or holds something that cannot be read.
pub(super) fn masks(file: &Arc<dyn ByteSource>) -> Result<Vec<StoredLevel>, DecodeError> {
    let (big_endian, directories) = ifd::read_directories(&**file)?;
    if !masks_all_bands(&directories[0].text(&**file, tag::GDAL_METADATA)?) {
        return Ok(Vec::new());
    }
    let shared = SharedColours { directory: &directories[0], nodata: None, indices: false };
    let level =
        |directory: &ImageDirectory| Ok((Image::read(&**file, big_endian, directory, &shared)?, None, file.clone()));
    directories.iter().map(level).collect()
}

/// True if the flags in a `GDALMetadata` document are those of a mask for all bands.
fn masks_all_bands(metadata: &str) -> bool {
    let Ok(document) = xml::parse(metadata) else { return false };
    let mut items = xml::elements(document.root(), "Item");
    let flags = items.find(|item| xml::attribute(*item, "name") == Some("INTERNAL_MASK_FLAGS_1"));
    flags.and_then(|flags| xml::text_of(flags).parse::<u32>().ok()).is_some_and(|flags| flags & FOR_ALL_BANDS != 0)
}
