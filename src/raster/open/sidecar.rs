//! Finds the files that belong to an image on this machine: `scene.tif.ovr`, `scene.tif.msk`, `scene.tif.aux.xml`, and `scene.tfw` or
//! `scene.wld`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::raster::error::RasterError;
use crate::raster::formats::{Pam, Sidecars};
use crate::raster::open::names::{file_name, version_hash, version_of_file};
use crate::storage::{ByteSource, FileBytes};

/// Bytes of a world file that are read; six numbers take some 120.
const MAX_WORLD_FILE_BYTES: u64 = 4096;

/// Bytes accepted in an `.aux.xml` file, whose histograms and attribute tables may be long.
const MAX_PAM_BYTES: u64 = 16 << 20;

/// Where the files beside an image are, as far as there are any.
struct Beside {
    overviews: Option<PathBuf>,
    mask: Option<PathBuf>,
    pam: Option<PathBuf>,
    world_file: Option<PathBuf>,
}

impl Beside {
    fn of(path: &Path) -> Self {
        Self {
            overviews: appended(path, "ovr"),
            mask: appended(path, "msk"),
            pam: appended(path, "aux.xml"),
            world_file: world_file(path),
        }
    }
}

/// Opens the files beside an image. One that cannot be read is not used, and a note says so.
pub(crate) fn sidecars_of(path: &Path) -> Sidecars {
    let beside = Beside::of(path);
    let mut notes = Vec::new();
    let tiff = |path: &Path| -> Result<Arc<dyn ByteSource>, String> {
        Ok(Arc::new(FileBytes::open(path).map_err(|error| error.to_string())?))
    };
    let overviews = read(beside.overviews, &mut notes, tiff);
    let mask = read(beside.mask, &mut notes, tiff);
    let pam = read(beside.pam, &mut notes, |path| Pam::parse(&text_of(path, MAX_PAM_BYTES)?)).unwrap_or_default();
    let world_file = read(beside.world_file, &mut notes, |path| text_of(path, MAX_WORLD_FILE_BYTES));
    Sidecars { overviews, mask, world_file, pam, notes }
}

/// The version of an image and of the files beside it.
///
/// # Errors
/// [`RasterError::Io`] if one of them cannot be looked at.
pub(crate) fn version_with_sidecars(path: &Path) -> Result<String, RasterError> {
    let version = version_of_file(path)?;
    let Beside { overviews, mask, pam, world_file } = Beside::of(path);
    let others = [overviews, mask, pam, world_file].into_iter().flatten();
    let others = others.map(|other| version_of_file(&other)).collect::<Result<Vec<_>, _>>()?;
    Ok(if others.is_empty() { version } else { version_hash((version + &others.concat()).as_bytes()) })
}

/// What `read` makes of a file; `None`, with a note, if it cannot.
fn read<T>(path: Option<PathBuf>, notes: &mut Vec<String>, read: impl Fn(&Path) -> Result<T, String>) -> Option<T> {
    let path = path?;
    read(&path).map_err(|reason| notes.push(format!("{} is not used: {reason}.", file_name(&path)))).ok()
}

/// The text of a file of at most `max_bytes`.
fn text_of(path: &Path, max_bytes: u64) -> Result<String, String> {
    let file = FileBytes::open(path).map_err(|error| error.to_string())?;
    if file.len() > max_bytes {
        return Err(format!("it has {} bytes; {max_bytes} are accepted", file.len()));
    }
    let bytes = file.read_at(0, file.len() as usize).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The file that is called like `path` with an extension behind it, in lower or upper case: `scene.tif.ovr`.
fn appended(path: &Path, extension: &str) -> Option<PathBuf> {
    let named = |extension: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(".");
        name.push(extension);
        PathBuf::from(name)
    };
    [named(extension), named(&extension.to_ascii_uppercase())].into_iter().find(|path| path.is_file())
}

/// The world file of an image: its extension is the first and last letter of the image's and a `w`, or the image's and a `w`, or `wld`.
fn world_file(path: &Path) -> Option<PathBuf> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    let (first, last) = (extension.chars().next()?, extension.chars().last()?);
    let of_image = [format!("{first}{last}w"), format!("{extension}w"), "wld".to_owned()];
    let cases = of_image.into_iter().flat_map(|extension| [extension.to_ascii_uppercase(), extension]);
    cases.map(|extension| path.with_extension(extension)).find(|path| path.is_file())
}
