//! STAC items and item collections as captures (SpatioTemporal Asset Catalogs, versions 1.0 and 1.1).
//!
//! The band assets of an item form one raster ([`Composite`]); items of one day and platform are scenes of one pass and become one
//! capture ([`Mosaic`]). All files of the newest item are opened, to check the hosts and learn the bands. Files of other items are
//! opened when their pixels are wanted, if the items say enough about them. An item that cannot be used is left out with a warning
//! ([`Oddities`]), unless it is the only one.

mod asset_raster;
mod assets;
mod base;
mod catalogue;
mod common_bands;
mod document;
mod item;
mod oddities;
mod pass;
mod search;
mod tolerant;

use std::collections::HashMap;
use std::sync::Arc;

use self::asset_raster::{AssetFile, AssetRaster};
use self::assets::band_assets;
pub(crate) use self::base::Base;
pub(crate) use self::catalogue::{Catalogue, open_search};
use self::common_bands::{OpenScene, restrict};
use self::document::Page;
use self::item::Item;
use self::oddities::Oddities;
use self::pass::passes_of;
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

/// Items that are tried, newest first, until the files of one can be opened.
const MAX_TRIED: usize = 10;

/// Most files that are opened at once because their items lack the `proj` extension.
const MAX_OPENED: usize = 400;

/// The captures of a document at `base`, in time order, those of unknown time first.
///
/// # Errors
/// [`RasterError`] if it is not an item or item collection, no item can be used, the items have no bands in common, or a host fails.
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

/// The files of a scene, open.
type OpenFiles = Vec<Arc<AssetRaster>>;

/// The pixels of a scene.
type SceneRaster = (Scene, Arc<dyn Raster>);

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
                needed: format!("one is needed (its assets are {})", listed(item.assets.files.keys().map(String::as_str))),
            });
        }
        Ok(Self { item, files, version: version_hash(version.as_bytes()) })
    }
}

/// The captures of a document's items.
fn captures(name: &str, page: Page, base: &Base, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    let mut oddities = Oddities::new(page.oddities);
    let mut scenes = scenes_of(page.items, base, options, &mut oddities)?;
    scenes.sort_by_key(|scene| std::cmp::Reverse(scene.item.datetime()));
    let (newest, sample) = match open_newest(name, &mut scenes, &mut oddities)? {
        Some(opened) => opened,
        None => return Err(oddities.into_error()),
    };
    let others = open_others(name, &mut scenes, &sample)?;
    let assets = std::iter::once(Ok(sample)).chain(others);
    let scenes = std::iter::once(newest).chain(scenes).zip(assets);
    let scenes = restrict(name, composites_of(scenes, &mut oddities)?, &mut oddities)?;
    let (scenes, rasters) = scenes.into_iter().unzip();
    assemble(name, scenes, rasters, Mosaicking::Day)
}

/// Items with the places of their files, without those whose files lie where they may not.
fn scenes_of(
    items: Vec<Item>,
    base: &Base,
    options: &OpenOptions,
    oddities: &mut Oddities,
) -> Result<Vec<Scene>, RasterError> {
    let mut scenes = Vec::new();
    for item in items {
        let id = item.id.clone();
        match Scene::new(item, base, options) {
            Ok(scene) => scenes.push(scene),
            Err(error) => oddities.leave_out(&id, error)?,
        }
    }
    Ok(scenes)
}

/// Takes the first scene whose files can be opened, and leaves out those before it; `None` if there is none.
fn open_newest(
    name: &str,
    scenes: &mut Vec<Scene>,
    oddities: &mut Oddities,
) -> Result<Option<(Scene, OpenFiles)>, RasterError> {
    for _ in 0..scenes.len().min(MAX_TRIED) {
        let mut scene = scenes.remove(0);
        match open_files(name, std::mem::take(&mut scene.files))?.into_iter().collect() {
            Ok(assets) => return Ok(Some((scene, assets))),
            Err(error) => oddities.leave_out(&scene.item.id, error)?,
        }
    }
    Ok(None)
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
    let passes = match mosaic {
        Mosaicking::Day => passes_of(scenes.iter().map(|(scene, _)| &scene.item)),
        Mosaicking::Newest | Mosaicking::First => vec![(0..scenes.len()).collect()],
    };
    let mut captures = Vec::new();
    for indices in passes.iter().filter(|indices| !indices.is_empty()) {
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

/// The files of scenes, or why a scene cannot be used. A file is opened now only if its item says too little about it, or `alike` has no asset of that key.
fn open_others(
    name: &str,
    scenes: &mut [Scene],
    alike: &[Arc<AssetRaster>],
) -> Result<Vec<Result<OpenFiles, RasterError>>, RasterError> {
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
        known.push(Ok(assumed));
    }
    for (scene, asset) in owners.into_iter().zip(open_files(name, unknown)?) {
        let scene: &mut Result<OpenFiles, RasterError> = &mut known[scene];
        match (&mut *scene, asset) {
            (Ok(assets), Ok(asset)) => assets.push(asset),
            (Ok(_), Err(error)) => *scene = Err(error),
            (Err(_), _) => {}
        }
    }
    Ok(known)
}

/// Scenes with their files, each as one raster; those of which a file cannot be used are left out.
fn composites_of(
    scenes: impl IntoIterator<Item = (Scene, Result<OpenFiles, RasterError>)>,
    oddities: &mut Oddities,
) -> Result<Vec<OpenScene>, RasterError> {
    let mut opened = Vec::new();
    for (scene, assets) in scenes {
        match assets.and_then(|assets| composite_of(&scene, assets)) {
            Ok((composite, bands)) => opened.push(OpenScene { scene, composite, bands }),
            Err(error) => oddities.leave_out(&scene.item.id, error)?,
        }
    }
    Ok(opened)
}

/// The files of a scene as one raster, and the names of its bands.
fn composite_of(scene: &Scene, mut assets: Vec<Arc<AssetRaster>>) -> Result<(Composite, Vec<String>), RasterError> {
    assets.sort_by(|a, b| a.key().cmp(b.key()));
    let bands = assets.iter().flat_map(|asset| asset.info().bands.iter().filter(|band| !band.is_alpha));
    let names: Vec<String> = bands.filter_map(|band| band.description.clone()).collect();
    let parts = assets.into_iter().map(|asset| asset as Arc<dyn Raster>).collect();
    Ok((Composite::new(&scene.item.id, parts)?.described(names.clone()), names))
}

/// Opens files, and says of each why it cannot be used.
///
/// # Errors
/// The first failure that may pass, and too many files.
fn open_files(name: &str, files: Vec<AssetFile>) -> Result<Vec<Result<Arc<AssetRaster>, RasterError>>, RasterError> {
    if files.len() > MAX_OPENED {
        return Err(RasterError::TooLarge {
            name: format!("{name} (whose items lack proj:code, proj:shape and proj:transform)"),
            what: "files to open",
            found: files.len() as u64,
            limit: MAX_OPENED as u64,
        });
    }
    in_parallel(files.len(), |index| match files[index].clone().open() {
        Err(error) if !error.is_lasting() => Err(error),
        opened => Ok(opened.map(Arc::new)),
    })
}

/// The first words of a list.
fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 20;
    let words: Vec<String> = words.into_iter().take(SHOWN + 1).map(|word| word.chars().take(40).collect()).collect();
    let more = if words.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", words[..words.len().min(SHOWN)].join(", "))
}
