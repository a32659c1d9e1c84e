//! STAC items and item collections as captures (SpatioTemporal Asset Catalogs, versions 1.0 and 1.1).
//!
//! The band assets of an item form one raster ([`Composite`]); items of one day and platform are scenes of one pass and become one
//! capture ([`Mosaic`]). All files of the newest item are opened, to check the hosts and learn the bands. Files of other items are
//! opened when their pixels are wanted, if the items say enough about them.

mod asset_raster;
mod assets;
mod base;
mod catalogue;
mod document;
mod search;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use self::asset_raster::{AssetFile, AssetRaster};
use self::assets::band_assets;
pub(crate) use self::base::Base;
pub(crate) use self::catalogue::{Catalogue, open_search};
use self::document::Item;
use self::search::Mosaicking;
pub(crate) use self::search::is_search;
use crate::raster::datetime::Timestamp;
use crate::raster::error::RasterError;
use crate::raster::open::capture::Capture;
use crate::raster::open::names::OpenOptions;
use crate::raster::open::names::version_hash;
use crate::raster::pixels::Raster;
use crate::raster::warp::Composite;
use crate::raster::warp::Mosaic;
use crate::storage::ByteSource;
use crate::storage::in_parallel;

/// Bytes accepted in a document.
const MAX_BYTES: u64 = 16 << 20;

/// Most files that are opened at once because their items lack the `proj` extension.
const MAX_OPENED: usize = 400;

/// The captures of a document at `base`, in time order, those of unknown time first.
///
/// # Errors
/// [`RasterError`] if it is not an item or item collection, an item has no bands, the items have no bands in common, or a file of
/// the newest item cannot be opened.
pub(crate) fn open(
    name: &str,
    file: &dyn ByteSource,
    base: &Base,
    options: &OpenOptions,
) -> Result<Vec<Capture>, RasterError> {
    if file.len() > MAX_BYTES {
        let (found, limit) = (file.len(), MAX_BYTES);
        return Err(RasterError::TooLarge { name: name.to_owned(), what: "bytes", found, limit });
    }
    let json = file.read_at(0, file.len() as usize).map_err(|error| RasterError::of_read(name, error))?;
    captures(name, document::parse(name, &json)?, base, options)
}

/// One item with its files.
struct Scene {
    item: Item,
    files: Vec<AssetFile>,
    version: String,
}

impl Scene {
    /// True if an item has band assets.
    fn has_bands(item: &Item) -> bool {
        !band_assets(item).is_empty()
    }

    fn new(item: Item, base: &Base, options: &OpenOptions) -> Result<Self, RasterError> {
        let base = base.of_item(&item);
        let (mut files, mut version) = (Vec::new(), item.identity());
        for asset in band_assets(&item) {
            let location = base.resolve(&asset.asset.href, options)?;
            version += &location.version()?;
            files.push(AssetFile::new(&item, &asset, location, options));
        }
        if files.is_empty() {
            return Err(RasterError::BandMismatch {
                found: format!("item {} has no asset that is a GeoTIFF or JPEG 2000 image", item.id),
                needed: format!("one is needed (its assets are {})", listed(item.assets.keys().map(String::as_str))),
            });
        }
        Ok(Self { item, files, version: version_hash(version.as_bytes()) })
    }

    /// Day, platform and collection, which the scenes of one pass share; `None` if the time is unknown.
    fn pass(&self) -> Option<(String, Option<String>, Option<String>)> {
        let day = self.item.datetime()?.to_string().get(..10)?.to_owned();
        Some((day, self.item.properties.platform.clone(), self.item.collection.clone()))
    }
}

/// The captures of items.
fn captures(name: &str, items: Vec<Item>, base: &Base, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    let mut scenes = items.into_iter().map(|item| Scene::new(item, base, options)).collect::<Result<Vec<_>, _>>()?;
    scenes.sort_by_key(|scene| std::cmp::Reverse(scene.item.datetime()));
    let composites = open_scenes(name, &mut scenes)?;
    assemble(name, scenes, composites, Mosaicking::Day)
}

/// Combines scenes and their rasters into captures in time order, those of unknown time first.
fn assemble(
    name: &str,
    scenes: Vec<Scene>,
    rasters: Vec<Arc<dyn Raster>>,
    mosaic: Mosaicking,
) -> Result<Vec<Capture>, RasterError> {
    let mut scenes: Vec<(Scene, Arc<dyn Raster>)> = scenes.into_iter().zip(rasters).collect();
    // Newest first; at the same instant, the later name first (catalogues number reprocessed scenes).
    scenes.sort_by(|(a, _), (b, _)| (b.item.datetime(), &b.item.id).cmp(&(a.item.datetime(), &a.item.id)));
    if mosaic == Mosaicking::First {
        scenes.reverse();
    }
    let mut passes: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (index, (scene, _)) in scenes.iter().enumerate() {
        // A scene of unknown time becomes a capture of its own.
        let alone = (mosaic == Mosaicking::Day && scene.item.datetime().is_none()).then_some(index);
        let pass = if mosaic == Mosaicking::Day { scene.pass() } else { None };
        passes.entry((alone, pass)).or_default().push(index);
    }
    let mut captures = Vec::new();
    for indices in passes.values() {
        let versions: String = indices.iter().map(|index| scenes[*index].0.version.as_str()).collect();
        let raster: Arc<dyn Raster> = match indices[..] {
            [only] => scenes[only].1.clone(),
            _ => Arc::new(Mosaic::new(name, indices.iter().map(|index| scenes[*index].1.clone()).collect())?),
        };
        let datetime: Option<Timestamp> = indices.first().and_then(|index| scenes[*index].0.item.datetime());
        captures.push(Capture { datetime, version: version_hash(versions.as_bytes()), raster });
    }
    captures.sort_by_key(|capture| capture.datetime);
    Ok(captures)
}

/// One raster per scene, with the bands that all scenes have.
fn open_scenes(name: &str, scenes: &mut [Scene]) -> Result<Vec<Arc<dyn Raster>>, RasterError> {
    let Some((newest, others)) = scenes.split_first_mut() else {
        return Err(RasterError::NoSuchPart { what: "item", index: 0, count: 0 });
    };
    let first = open_files(name, std::mem::take(&mut newest.files))?;
    let others = open_others(name, others, &first)?;
    let mut composites = Vec::new();
    for (assets, scene) in std::iter::once(first).chain(others).zip(scenes.iter()) {
        composites.push(composite_of(scene, assets)?);
    }
    Ok(with_common_bands(name, composites)?.into_iter().map(|composite| Arc::new(composite) as Arc<dyn Raster>).collect())
}

/// The files of scenes. A file is opened now only if its item says too little about it, or `alike` has no asset of that key.
fn open_others(
    name: &str,
    scenes: &mut [Scene],
    alike: &[Arc<AssetRaster>],
) -> Result<Vec<Vec<Arc<AssetRaster>>>, RasterError> {
    let alike: HashMap<&str, &Arc<AssetRaster>> = alike.iter().map(|asset| (asset.key(), asset)).collect();
    // The files of all scenes that must be opened are opened together.
    let (mut known, mut owners, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for (index, scene) in scenes.iter_mut().enumerate() {
        let mut assumed = Vec::new();
        for file in std::mem::take(&mut scene.files) {
            match alike.get(file.key.as_str()).and_then(|alike| file.assume(alike)) {
                Some(asset) => assumed.push(Arc::new(asset)),
                None => {
                    owners.push(index);
                    unknown.push(file);
                }
            }
        }
        known.push(assumed);
    }
    for (scene, asset) in owners.into_iter().zip(open_files(name, unknown)?) {
        let assets: &mut Vec<Arc<AssetRaster>> = &mut known[scene];
        assets.push(asset);
    }
    Ok(known)
}

/// The files of a scene as one raster, and the names of its bands.
fn composite_of(scene: &Scene, mut assets: Vec<Arc<AssetRaster>>) -> Result<(Composite, Vec<String>), RasterError> {
    assets.sort_by(|a, b| a.key().cmp(b.key()));
    let bands = assets.iter().flat_map(|asset| asset.info().bands.iter().filter(|band| !band.is_alpha));
    let names: Vec<String> = bands.filter_map(|band| band.description.clone()).collect();
    let parts = assets.into_iter().map(|asset| asset as Arc<dyn Raster>).collect();
    Ok((Composite::new(&scene.item.id, parts)?.described(names.clone()), names))
}

fn open_files(name: &str, files: Vec<AssetFile>) -> Result<Vec<Arc<AssetRaster>>, RasterError> {
    if files.len() > MAX_OPENED {
        return Err(RasterError::TooLarge {
            name: format!("{name} (whose items lack proj:code, proj:shape and proj:transform)"),
            what: "files to open",
            found: files.len() as u64,
            limit: MAX_OPENED as u64,
        });
    }
    in_parallel(files.len(), |index| files[index].clone().open().map(Arc::new))
}

/// The composites with only the bands that all have, in the order of the first, and a warning about those left out.
fn with_common_bands(name: &str, all: Vec<(Composite, Vec<String>)>) -> Result<Vec<Composite>, RasterError> {
    let first = all.first().map(|(_, names)| names.clone()).unwrap_or_default();
    let in_all = |band: &&String| all.iter().all(|(_, names)| names.contains(band));
    let common: Vec<String> = first.iter().filter(in_all).cloned().collect();
    if common.is_empty() {
        let other = all.iter().find(|(_, names)| !names.iter().any(|band| first.contains(band)));
        let other = other.map_or_else(|| first.clone(), |(_, names)| names.clone());
        return Err(RasterError::BandMismatch {
            found: format!(
                "items of {name} have the bands {} and {}",
                listed(first.iter().map(String::as_str)),
                listed(other.iter().map(String::as_str))
            ),
            needed: "bands that all items have are needed".to_owned(),
        });
    }
    let mut left_out: Vec<&str> =
        all.iter().flat_map(|(_, names)| names).filter(|band| !common.contains(band)).map(String::as_str).collect();
    left_out.sort_unstable();
    left_out.dedup();
    let note = (!left_out.is_empty()).then(|| {
        format!("Not all items of {name} have the same bands; left out are those that some lack: {}.", listed(left_out))
    });
    let restrict = |(composite, names): (Composite, Vec<String>)| {
        let composite = if names == common { composite } else { composite.only(&common) };
        match &note {
            Some(note) => composite.with_warning(note),
            None => composite,
        }
    };
    Ok(all.into_iter().map(restrict).collect())
}

/// The first words of a list.
fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 20;
    let words: Vec<String> = words.into_iter().take(SHOWN + 1).map(|word| word.chars().take(40).collect()).collect();
    let more = if words.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", words[..words.len().min(SHOWN)].join(", "))
}
