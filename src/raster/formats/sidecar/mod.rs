//! What files beside an image add to it, with the precedence of GDAL: PAM (`scene.tif.aux.xml`) before the image itself, world files
//! (`scene.tfw`), overviews (`scene.tif.ovr`) and masks (`scene.tif.msk`) where the image has none.
//!
//! They are found in `open`; images in them are read by the format that they belong to.

mod pam;
mod world_file;

use std::sync::Arc;

pub(crate) use self::pam::Pam;
use self::world_file::transform_of;
use crate::georef::{Crs, CrsError, GeoTransform, Georef};
use crate::raster::error::RasterError;
use crate::raster::pixels::RasterInfo;
use crate::storage::ByteSource;

/// The files beside an image.
#[derive(Clone, Default)]
pub(crate) struct Sidecars {
    /// A TIFF of overviews.
    pub(crate) overviews: Option<Arc<dyn ByteSource>>,
    /// A TIFF with a mask.
    pub(crate) mask: Option<Arc<dyn ByteSource>>,
    /// The text of a world file.
    pub(crate) world_file: Option<String>,
    pub(crate) pam: Pam,
    /// Why others are not used, in sentences.
    pub(crate) notes: Vec<String>,
}

/// Where an image says its pixels lie.
#[derive(Debug, Default)]
pub(crate) struct Placement {
    /// `None` if there is no transform or no coordinate system that is understood.
    pub(crate) georef: Option<Georef>,
    /// Why the coordinate system that is stated is not understood.
    pub(crate) unknown_crs: Option<CrsError>,
}

/// True if any part of a grid is a place on the Earth: coordinates in metres, for example, are none in a system of degrees.
fn is_on_earth(georef: &Georef) -> bool {
    const STEPS: usize = 8;
    let is_place = |(lon, lat): (f64, f64)| lon.abs() <= 720.0 && lat.abs() <= 90.0;
    georef.lattice(STEPS).filter_map(|(x, y)| georef.crs.to_lon_lat(x, y)).any(is_place)
}

impl Sidecars {
    /// Where an image of `size` (columns and rows) lies that itself states a coordinate system and a transform.
    ///
    /// # Errors
    /// [`RasterError::BadGeoreference`] for a transform that cannot be used.
    pub(crate) fn place(
        &self,
        name: &str,
        crs: Result<Option<Crs>, CrsError>,
        transform: Option<GeoTransform>,
        (width, height): (usize, usize),
    ) -> Result<Placement, RasterError> {
        let bad = |reason: String| RasterError::BadGeoreference { name: name.to_owned(), reason };
        let crs = self.pam.crs.clone().map_or(crs, |crs| crs.map(Some));
        if matches!(crs, Ok(None)) {
            return Ok(Placement::default());
        }
        let transform = match (self.pam.transform.or(transform), &self.world_file) {
            (None, Some(text)) => Some(transform_of(text).map_err(bad)?),
            (stated, _) => stated,
        };
        let (crs, transform) = match (crs, transform) {
            (Err(error), Some(_)) => return Ok(Placement { georef: None, unknown_crs: Some(error) }),
            (Ok(Some(crs)), Some(transform)) => (crs, transform),
            _ => return Ok(Placement::default()),
        };
        let (x, y) = transform.apply(width as f64 / 2.0, height as f64 / 2.0);
        let georef = Georef { crs: crs.settled_at(x, y), transform, width, height };
        let bounds = georef.bounds();
        let finite = [bounds.min_x, bounds.min_y, bounds.max_x, bounds.max_y].iter().all(|edge| edge.is_finite());
        if !finite || transform.inverse().is_none_or(|inverse| !inverse.apply(0.0, 0.0).0.is_finite()) {
            return Err(bad(format!("found {transform:?}; finite numbers and an invertible transform are needed")));
        }
        if !is_on_earth(&georef) {
            let reason = format!("the middle of the raster, {x}, {y}, is no place on the Earth in it");
            let unknown_crs = Some(CrsError::Unsupported { definition: georef.crs.to_string(), reason });
            return Ok(Placement { georef: None, unknown_crs });
        }
        Ok(Placement { georef: Some(georef), unknown_crs: None })
    }

    /// Sets what is stated of an image without overviews and masks in files of their own: where it lies, and its bands.
    ///
    /// # Errors
    /// As [`Sidecars::place`], and [`RasterError::BadCrs`] for a coordinate system that is not understood.
    pub(crate) fn complete(&self, name: &str, info: &mut RasterInfo) -> Result<(), RasterError> {
        let (crs, transform) = info.georef.take().map(|georef| (georef.crs, georef.transform)).unzip();
        let placement = self.place(name, Ok(crs), transform, (info.width, info.height))?;
        if let Some(source) = placement.unknown_crs {
            return Err(RasterError::BadCrs { name: name.to_owned(), source });
        }
        info.georef = placement.georef;
        self.pam.complete(&mut info.bands);
        Ok(())
    }
}
