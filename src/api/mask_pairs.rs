//! Pairs of image and mask in the files of a form: by their names in a zip file, or by their order in two arrays.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::Problem;
use super::upload::{UploadedFile, open_masks, open_one};
use crate::engine::MaskedChip;
use crate::raster::{OpenOptions, Raster};

/// The folders of a zip file that tell images from masks.
const FOLDERS: [&str; 2] = ["images", "masks"];

/// The pairs among the `files` of a zip file: `images/NAME` and `masks/NAME`, whose extensions may differ, in any folder. Blocks.
///
/// # Errors
/// If a file is in neither folder, has no partner or several, or is no usable raster.
pub(super) fn in_folders(files: &[UploadedFile], options: &OpenOptions) -> Result<Vec<MaskedChip>, Problem> {
    let mut pairs: BTreeMap<String, [Option<&UploadedFile>; 2]> = BTreeMap::new();
    for file in files {
        let Some((name, side)) = paired_name(&file.name) else {
            let needed = "images/NAME or masks/NAME is needed, or a part masks for an array of chips";
            return Err(Problem::unusable(format!("{}: found a file in neither folder; {needed}", file.name)));
        };
        if let Some(other) = pairs.entry(name).or_default()[side].replace(file) {
            let needed = "their names without extension have to differ";
            return Err(Problem::unusable(format!(
                "{} and {}: found two files of one name; {needed}",
                other.name, file.name
            )));
        }
    }
    let open = |(name, pair): (String, [Option<&UploadedFile>; 2])| match pair {
        [Some(image), Some(mask)] => pair_of(image, mask, options),
        [image, mask] => {
            let (found, lacking) = if image.is_some() { (image, "masks") } else { (mask, "images") };
            let found = found.map_or(name.as_str(), |file| &file.name);
            let stem = name.rsplit('/').next().unwrap_or_default();
            let needed = format!("a file {stem} of any extension in {lacking} is needed");
            Err(Problem::unusable(format!("{found}: found no partner; {needed}")))
        }
    };
    pairs.into_iter().map(open).collect()
}

/// The path of a file without the folder that says what it is and without extension, and what it is: 0 an image, 1 a mask.
fn paired_name(path: &str) -> Option<(String, usize)> {
    let mut parts: Vec<&str> = path.split('/').collect();
    let file = parts.pop()?;
    let (at, side) =
        parts.iter().enumerate().find_map(|(at, part)| Some((at, FOLDERS.iter().position(|name| name == part)?)))?;
    parts.remove(at);
    parts.push(file.rsplit_once('.').map_or(file, |(stem, _)| stem));
    Some((parts.join("/"), side))
}

fn pair_of(image: &UploadedFile, mask: &UploadedFile, options: &OpenOptions) -> Result<MaskedChip, Problem> {
    let (name, mask_name) = (image.name.clone(), mask.name.clone());
    let captures = vec![only(open_one(image, None, options)?, &name)?];
    let mask = only(open_masks(mask, options)?, &mask_name)?;
    match values_of(&*mask) {
        1 => Ok(MaskedChip { name, captures, mask_name, mask, band: 0 }),
        found => Err(bands(&mask_name, found)),
    }
}

/// The pairs of two arrays, `[N, C, H, W]` and `[N, H, W]` or `[N, 1, H, W]`, in their order. Blocks.
///
/// # Errors
/// If they are not equally many, or one of the files cannot be used.
pub(super) fn in_arrays(
    (chips, masks): (&UploadedFile, &UploadedFile),
    options: &OpenOptions,
) -> Result<Vec<MaskedChip>, Problem> {
    let chips = open_one(chips, None, options)?;
    let masks: Vec<(Arc<dyn Raster>, usize)> = match &open_masks(masks, options)?[..] {
        // The first of three dimensions is read as bands.
        [stack] => (0..values_of(&**stack)).map(|band| (stack.clone(), band)).collect(),
        several => {
            if let Some(found) = several.iter().map(|mask| values_of(&**mask)).find(|found| *found != 1) {
                return Err(bands("masks", found));
            }
            several.iter().map(|mask| (mask.clone(), 0)).collect()
        }
    };
    if masks.len() != chips.len() {
        let (found, needed) = (masks.len(), chips.len());
        return Err(Problem::unusable(format!("masks: found {found}; {needed} are needed, one for each chip")));
    }
    let mut pairs = Vec::with_capacity(chips.len());
    for (index, (chip, (mask, band))) in chips.into_iter().zip(masks).enumerate() {
        let (name, mask_name) = (format!("chip {index}"), format!("mask {index} (they are counted from 0)"));
        pairs.push(MaskedChip { name, captures: vec![chip], mask_name, mask, band });
    }
    Ok(pairs)
}

/// The only raster of a file.
fn only(rasters: Vec<Arc<dyn Raster>>, name: &str) -> Result<Arc<dyn Raster>, Problem> {
    <[Arc<dyn Raster>; 1]>::try_from(rasters)
        .map(|[raster]| raster)
        .map_err(|rasters| Problem::unusable(format!("{name}: found {} images; one is needed", rasters.len())))
}

/// How many bands hold values, and not whether a pixel has data.
fn values_of(mask: &dyn Raster) -> usize {
    mask.info().bands.iter().filter(|band| !band.is_alpha).count()
}

fn bands(name: &str, found: usize) -> Problem {
    let needed = "one with a value for each pixel is needed, such as grey or a palette";
    Problem::unusable(format!("{name}: found {found} bands; {needed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partners_have_one_name_whatever_their_extension() {
        let of = |path: &str| paired_name(path).unwrap();
        assert_eq!(of("images/a.png"), ("a".to_owned(), 0));
        assert_eq!(of("masks/a.tif"), ("a".to_owned(), 1));
        assert_eq!(of("set/train/masks/x/a.b.npy"), ("set/train/x/a.b".to_owned(), 1));
        assert_eq!(of("set/images/masks/a"), ("set/masks/a".to_owned(), 0));
        assert_eq!((paired_name("a.png"), paired_name("labels/images.png")), (None, None));
    }
}
