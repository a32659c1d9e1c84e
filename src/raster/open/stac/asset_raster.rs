//! An asset as a raster that is opened when its pixels are first wanted, because a collection may name thousands of files of which
//! a map needs a few.

use std::sync::{Arc, Mutex};

use super::assets::BandAsset;
use super::base::AssetLocation;
use super::item::{BandNotes, Item};
use crate::georef::{Crs, GeoTransform, Georef};
use crate::raster::error::RasterError;
use crate::raster::open::names::OpenOptions;
use crate::raster::pixels::{BandInfo, Overview, Patch, PixelWindow, Raster, RasterInfo, Resampling};
use crate::raster::warp::warp;
use crate::sync::IgnorePoison;

/// An asset whose size, bands and georeference are known.
pub(super) struct AssetRaster {
    info: RasterInfo,
    file: AssetFile,
    /// Locked while it is opened, so that this happens once.
    opened: Mutex<Option<Arc<dyn Raster>>>,
}

/// An asset whose file has not been opened.
#[derive(Clone, Debug)]
pub(super) struct AssetFile {
    pub(super) key: String,
    location: AssetLocation,
    names: Vec<String>,
    notes: Vec<BandNotes>,
    /// Its grid, if the item states it.
    grid: Option<Georef>,
    options: OpenOptions,
}

impl AssetFile {
    /// The file of an asset.
    pub(super) fn new(item: &Item, asset: &BandAsset<'_>, location: AssetLocation, options: &OpenOptions) -> Self {
        let grid = item.grid(asset.asset).and_then(|(code, (width, height), [a, b, c, d, e, f])| {
            let transform =
                GeoTransform { origin_x: c, pixel_width: a, row_skew: b, origin_y: f, col_skew: d, pixel_height: e };
            transform.inverse()?;
            Some(Georef { crs: Crs::from_epsg(code).ok()?, transform, width, height })
        });
        let (key, names, notes) = (asset.key.to_owned(), asset.names.clone(), asset.notes.clone());
        Self { key, location, names, notes, grid, options: options.clone() }
    }

    /// The asset, opened.
    ///
    /// # Errors
    /// As [`AssetLocation::open`], and if the file has another number of bands than the item lists.
    pub(super) fn open(self) -> Result<AssetRaster, RasterError> {
        let opened = self.read()?;
        let mut info = opened.info().clone();
        let count = info.bands.len();
        for (index, band) in info.bands.iter_mut().enumerate() {
            let own = || if count == 1 { self.key.clone() } else { format!("{} {}", self.key, index + 1) };
            let name = self.names.get(index).cloned().or_else(|| band.description.take());
            band.description = Some(name.unwrap_or_else(own));
        }
        Ok(AssetRaster { info, file: self, opened: Mutex::new(Some(opened)) })
    }

    /// The asset without opening its file, with the bands of the asset `alike` of another item. `None` if the item says too little.
    pub(super) fn assume(&self, alike: &AssetRaster) -> Option<AssetRaster> {
        let known = &alike.info;
        let same_bands = (self.names.len(), self.notes.len()) == (alike.file.names.len(), alike.file.notes.len());
        let grid = self.grid.clone().filter(|_| same_bands)?;
        let mut bands = known.bands.clone();
        for (band, name) in bands.iter_mut().zip(&self.names) {
            band.description = Some(name.clone());
        }
        for (band, notes) in bands.iter_mut().zip(&self.notes) {
            notes.complete(band);
        }
        let (width, height) = (grid.width, grid.height);
        let halved = |level: usize| ((width >> level).max(1), (height >> level).max(1));
        let levels = 1..=known.overviews.len();
        let overviews = levels.map(|level| Overview::of_areas(halved(level), (width, height))).collect();
        let info = RasterInfo { width, height, bands, georef: Some(grid), overviews, ..known.clone() };
        Some(AssetRaster { info, file: self.clone(), opened: Mutex::default() })
    }

    fn read(&self) -> Result<Arc<dyn Raster>, RasterError> {
        let complete = |band: usize, info: &mut BandInfo| {
            if let Some(notes) = self.notes.get(band) {
                notes.complete(info);
            }
        };
        let opened = self.location.open(&self.options, complete)?;
        // Some items list the mask among the bands.
        let bands = &opened.info().bands;
        let found = bands.iter().filter(|band| !band.is_alpha).count();
        if !self.names.is_empty() && ![found, bands.len()].contains(&self.names.len()) {
            return Err(RasterError::BandMismatch {
                found: format!("{} has {found} bands", self.location.shown()),
                needed: format!("its item lists {}", self.names.join(", ")),
            });
        }
        Ok(opened)
    }
}

impl AssetRaster {
    /// The key of the asset in its item.
    pub(super) fn key(&self) -> &str {
        &self.file.key
    }

    fn opened(&self) -> Result<Arc<dyn Raster>, RasterError> {
        let mut opened = self.opened.lock().ignore_poison();
        match &*opened {
            Some(raster) => Ok(raster.clone()),
            None => Ok(opened.insert(self.file.read()?).clone()),
        }
    }
}

impl Raster for AssetRaster {
    fn info(&self) -> &RasterInfo {
        &self.info
    }

    fn read(&self, level: usize, window: PixelWindow, bands: &[usize]) -> Result<Patch, RasterError> {
        self.opened()?.read(level, window, bands)
    }

    /// Warps the file itself, whose own grid and overviews are authoritative.
    fn warped(&self, target: &Georef, bands: &[usize], resampling: Resampling) -> Option<Result<Patch, RasterError>> {
        Some(self.opened().and_then(|raster| warp(&*raster, target, bands, resampling)))
    }

    fn warnings(&self) -> Vec<String> {
        self.opened.lock().ignore_poison().as_ref().map_or_else(Vec::new, |raster| raster.warnings())
    }
}
