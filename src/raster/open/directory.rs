//! The captures of a directory: band files, scenes, or Sentinel-2 products.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::raster::band_names::{FileRole, is_landsat_product, role_of_file, squeeze};
use crate::raster::datetime::{Timestamp, from_name};
use crate::raster::error::RasterError;
use crate::raster::open::capture::Capture;
use crate::raster::open::names::{OpenOptions, file_name, version_hash};
use crate::raster::open::safe;
use crate::raster::open::single::open_path;
use crate::raster::pixels::Raster;
use crate::raster::warp::Composite;

/// Files accepted in one directory.
const MAX_FILES: usize = 1000;

/// File extensions of rasters that are opened in a directory.
const EXTENSIONS: [&str; 4] = ["tif", "tiff", "jp2", "j2k"];

/// Where a Sentinel-1 product has its images.
const MEASUREMENT: &str = "measurement";

/// Files of one capture: each with what its name says.
type BandFiles<'a> = Vec<(&'a PathBuf, &'a FileRole)>;

/// The captures of a directory, as [`Imagery::Location`](super::Imagery::Location) says.
pub(crate) fn open_directory(directory: &Path, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    if safe::is_product(directory) {
        return safe::open(directory, options);
    }
    if directory.join(MEASUREMENT).is_dir() {
        return open_files(&directory.join(MEASUREMENT), options);
    }
    open_files(directory, options)
}

/// The captures of the files and products in a directory.
fn open_files(directory: &Path, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    let name = file_name(directory);
    let (files, products) = rasters_of(directory, &name)?;
    if !products.is_empty() {
        if let Some(file) = files.first() {
            return Err(two_kinds(&name, "products", &products[0], file));
        }
        let captures = products.iter().map(|path| open_directory(path, options)).collect::<Result<Vec<_>, _>>()?;
        return Ok(captures.into_iter().flatten().collect());
    }
    let role = |path: &PathBuf| path.file_stem().map(|stem| role_of_file(&stem.to_string_lossy()));
    let mut files: Vec<(PathBuf, FileRole)> =
        files.into_iter().filter_map(|path| role(&path).map(|role| (path, role))).collect();
    // A file that is called a mask may be all there is.
    if files.iter().any(|(_, role)| !role.bands.is_empty()) {
        files.retain(|(_, role)| !role.is_auxiliary);
    }
    let (of_bands, scenes): (Vec<_>, Vec<_>) = files.iter().partition(|(_, role)| !role.bands.is_empty());
    match (&of_bands[..], &scenes[..]) {
        ([], []) => Err(RasterError::BandMismatch {
            found: format!("{name} holds no image"),
            needed: "a directory with GeoTIFF or JPEG 2000 files, or with products, is needed".to_owned(),
        }),
        ([], scenes) => {
            let captures = scenes.iter().map(|(path, _)| open_path(path, options)).collect::<Result<Vec<_>, _>>()?;
            Ok(captures.into_iter().flatten().collect())
        }
        (of_bands, []) => {
            let mut groups: BTreeMap<Option<Timestamp>, BandFiles<'_>> = BTreeMap::new();
            for (path, role) in of_bands {
                let datetime = path.file_name().and_then(|name| from_name(&name.to_string_lossy()));
                groups.entry(datetime).or_default().push((path, role));
            }
            let scenes = groups
                .into_iter()
                .flat_map(|(datetime, files)| by_scene(files).into_iter().map(move |files| (datetime, files)));
            scenes.map(|(datetime, files)| composite(&name, datetime, &files, options)).collect()
        }
        ([(band, _), ..], [(scene, _), ..]) => Err(two_kinds(&name, "band files", band, scene)),
    }
}

/// The band files of one time as one capture, whatever else their names say, unless a band occurs twice: then as one per scene.
fn by_scene(files: BandFiles<'_>) -> Vec<BandFiles<'_>> {
    let bands: Vec<String> = files.iter().flat_map(|(_, role)| &role.bands).map(|band| comparable(band)).collect();
    if bands.iter().collect::<BTreeSet<_>>().len() == bands.len() {
        return vec![files];
    }
    let mut scenes: BTreeMap<&str, BandFiles<'_>> = BTreeMap::new();
    files.into_iter().for_each(|(path, role)| scenes.entry(&role.scene).or_default().push((path, role)));
    scenes.into_values().collect()
}

/// A band's name as it is compared: `B02` and `B2` are the same.
fn comparable(band: &str) -> String {
    squeeze(&band.to_ascii_lowercase())
}

fn two_kinds(name: &str, kind: &str, one: &Path, other: &Path) -> RasterError {
    RasterError::BandMismatch {
        found: format!("{name} holds both {kind} ({}) and others ({})", file_name(one), file_name(other)),
        needed: "a directory of one kind is needed".to_owned(),
    }
}

/// The GeoTIFF and JPEG 2000 files of a directory, and the folders in it that are products, sorted by name.
fn rasters_of(directory: &Path, name: &str) -> Result<(Vec<PathBuf>, Vec<PathBuf>), RasterError> {
    let io = |source| RasterError::of_io(name, source);
    let (mut files, mut products) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let is_raster = |extension: &std::ffi::OsStr| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known));
        if path.is_dir() {
            let is_landsat = path.file_name().is_some_and(|name| is_landsat_product(&name.to_string_lossy()));
            if is_landsat || safe::is_product(&path) || path.join(MEASUREMENT).is_dir() {
                products.push(path);
            }
        } else if path.extension().is_some_and(is_raster) {
            files.push(path);
        }
        if files.len() + products.len() > MAX_FILES {
            let (found, limit) = (MAX_FILES as u64 + 1, MAX_FILES as u64);
            return Err(RasterError::TooLarge { name: name.to_owned(), what: "files", found, limit });
        }
    }
    files.sort();
    products.sort();
    Ok((files, products))
}

/// One capture from band files, each with the names of its bands.
fn composite(
    name: &str,
    datetime: Option<Timestamp>,
    files: &[(&PathBuf, &FileRole)],
    options: &OpenOptions,
) -> Result<Capture, RasterError> {
    let (mut parts, mut descriptions): (Vec<Arc<dyn Raster>>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut versions, mut in_files) = (String::new(), None);
    for (path, FileRole { bands: names, .. }) in files {
        let mut captures = open_path(path, options)?;
        let (Some(capture), true) = (captures.pop(), captures.is_empty()) else { continue };
        let bands = capture.raster.info().bands.iter().filter(|band| !band.is_alpha).count();
        if bands != names.len() {
            return Err(RasterError::BandMismatch {
                found: format!("{} has {bands} bands", file_name(path)),
                needed: format!("its name stands for {}", names.join(", ")),
            });
        }
        if let Some(twice) =
            names.iter().find(|name| descriptions.iter().any(|other| comparable(other) == comparable(name)))
        {
            return Err(RasterError::BandMismatch {
                found: format!("{name} holds {twice} twice (the second is {})", file_name(path)),
                needed: "one file a band is needed, or a date in the names that tells captures apart".to_owned(),
            });
        }
        versions += &capture.version;
        in_files = in_files.or(capture.datetime);
        descriptions.extend(names.iter().cloned());
        parts.push(capture.raster);
    }
    let raster = Composite::new(name, parts)?.described(descriptions);
    Ok(Capture { datetime: datetime.or(in_files), version: version_hash(versions.as_bytes()), raster: Arc::new(raster) })
}
