//! Captures that are stacked in the bands of one file.

use std::sync::Arc;

use crate::raster::error::RasterError;
use crate::raster::formats::BandRange;
use crate::raster::open::capture::Capture;
use crate::raster::pixels::Raster;

/// As many captures as `images` says: one file is divided by its bands, several files must be as many. Without `images` they
/// stay as they are.
///
/// # Errors
/// [`RasterError::BandMismatch`] if the bands cannot be divided, or there is another number of captures.
pub(crate) fn divide(captures: Vec<Capture>, images: Option<usize>) -> Result<Vec<Capture>, RasterError> {
    match (images, &captures[..]) {
        (Some(images), [single]) => {
            let rasters = split(&single.raster, images)?.into_iter();
            Ok(rasters.map(|raster| Capture { raster, ..single.clone() }).collect())
        }
        (Some(images), several) if images != several.len() => Err(RasterError::BandMismatch {
            found: format!("{} captures are there", several.len()),
            needed: format!("{images} images in one file were asked for"),
        }),
        _ => Ok(captures),
    }
}

/// The captures that are stacked in the bands of one raster, `images` in number.
///
/// # Errors
/// [`RasterError::BandMismatch`] if the bands cannot be divided.
pub fn split(stack: &Arc<dyn Raster>, images: usize) -> Result<Vec<Arc<dyn Raster>>, RasterError> {
    if images == 1 {
        return Ok(vec![stack.clone()]);
    }
    let bands = stack.info().bands.iter().take_while(|band| !band.is_alpha).count();
    if images == 0 || bands == 0 || bands % images != 0 {
        return Err(RasterError::BandMismatch {
            found: format!("the file has {bands} bands"),
            needed: format!("{images} images need a whole number of bands each"),
        });
    }
    let count = bands / images;
    let image = |image: usize| Arc::new(BandRange::new(stack.clone(), image * count, count)) as Arc<dyn Raster>;
    Ok((0..images).map(image).collect())
}
