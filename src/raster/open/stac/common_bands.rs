//! The bands that the scenes of a document have in common.

use std::sync::Arc;

use super::oddities::Oddities;
use super::{Scene, SceneRaster, listed};
use crate::raster::band_names::is_sensor_band;
use crate::raster::error::RasterError;
use crate::raster::pixels::Raster;
use crate::raster::warp::Composite;

/// A scene whose bands are known.
pub(super) struct OpenScene {
    pub(super) scene: Scene,
    pub(super) composite: Composite,
    /// Their names in order.
    pub(super) bands: Vec<String>,
}

impl OpenScene {
    /// True if an asset of its item cannot be read, so that bands may be missing.
    fn is_damaged(&self) -> bool {
        !self.scene.item.assets.unreadable.is_empty()
    }

    /// True if a band has the name of some sensor's, not just that of its asset.
    fn names_bands(&self) -> bool {
        self.bands.iter().any(|band| is_sensor_band(band))
    }

    fn shares_a_band_with(&self, other: &Self) -> bool {
        self.bands.iter().any(|band| other.bands.contains(band))
    }
}

/// Restricts scenes, newest first, to the bands that all of them have, in the order of one of them, and warns about bands that
/// only some have. Left out are scenes that share no band with most others, and those that lack one because of an asset that
/// cannot be read.
pub(super) fn restrict(
    name: &str,
    mut scenes: Vec<OpenScene>,
    oddities: &mut Oddities,
) -> Result<Vec<SceneRaster>, RasterError> {
    let sharing = |scene: &OpenScene| scenes.iter().filter(|other| scene.shares_a_band_with(other)).count();
    // Of equals, one that says which bands it has, and of those the last: the newest.
    let Some(usual) = scenes.iter().rev().max_by_key(|scene| (!scene.is_damaged(), sharing(scene), scene.names_bands()))
    else {
        return Ok(Vec::new());
    };
    let (usual, from) = (usual.bands.clone(), usual.scene.item.id.clone());
    let fits = |scene: &OpenScene| {
        let has = |band: &String| scene.bands.contains(band);
        usual.iter().any(has) && (!scene.is_damaged() || usual.iter().all(has))
    };
    for other in scenes.extract_if(.., |scene| !fits(scene)) {
        let error = RasterError::BandMismatch {
            found: format!(
                "its bands are {}, those of item {from} are {}",
                listed(other.bands.iter().map(String::as_str)),
                listed(usual.iter().map(String::as_str))
            ),
            needed: "bands that all items have are needed".to_owned(),
        };
        oddities.leave_out(&other.scene.item.id, error)?;
    }

    let in_all = |band: &&String| scenes.iter().all(|scene| scene.bands.contains(band));
    let common: Vec<String> = usual.iter().filter(in_all).cloned().collect();
    if common.is_empty() {
        return Err(RasterError::BandMismatch {
            found: format!(
                "no band is in all items of {name} (item {from} has {})",
                listed(usual.iter().map(String::as_str))
            ),
            needed: "bands that all items have are needed".to_owned(),
        });
    }
    let bands = scenes.iter().flat_map(|scene| &scene.bands);
    let mut rare: Vec<&str> = bands.filter(|band| !common.contains(band)).map(String::as_str).collect();
    rare.sort_unstable();
    rare.dedup();
    let rare = (!rare.is_empty()).then(|| {
        format!("Not all items of {name} have the same bands; left out are those that some lack: {}.", listed(rare))
    });
    let notes: Vec<String> = rare.into_iter().chain(oddities.warning(name)).collect();
    let restricted = |OpenScene { scene, composite, bands }: OpenScene| {
        let composite = if bands == common { composite } else { composite.only(&common) };
        let composite = notes.iter().fold(composite, |composite, note| composite.with_warning(note));
        (scene, Arc::new(composite) as Arc<dyn Raster>)
    };
    Ok(scenes.into_iter().map(restricted).collect())
}
