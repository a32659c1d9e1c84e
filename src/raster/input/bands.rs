//! Finds the bands that a model reads in a raster: by the user's numbers, by description, or in file order.

use std::str::FromStr;

use crate::raster::band_names::{COMMON_NAMES, is_band_name, is_code, squeeze};
use crate::raster::error::RasterError;
use crate::raster::pixels::{BandColour, RasterInfo, SampleType};

/// Band numbers accepted in one `bands=`.
const MAX_NUMBERS: usize = 256;

/// `bands=3,2,1`: 1-based numbers in the model's order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BandNumbers(Vec<usize>);

impl FromStr for BandNumbers {
    type Err = RasterError;

    fn from_str(text: &str) -> Result<Self, RasterError> {
        let invalid = || RasterError::InvalidOption {
            what: "bands",
            value: text.chars().take(100).collect(),
            needed: format!("1 to {MAX_NUMBERS} band numbers, counted from 1 and separated by commas, such as 3,2,1"),
        };
        let number = |part: &str| part.trim().parse().ok().filter(|number: &usize| *number > 0);
        let numbers = text.split(',').map(number).collect::<Option<Vec<_>>>().ok_or_else(invalid)?;
        if numbers.len() > MAX_NUMBERS { Err(invalid()) } else { Ok(Self(numbers)) }
    }
}

/// How bands were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BandChoice {
    /// The user numbered them.
    Numbered,
    /// By their descriptions.
    Named,
    /// By their colour interpretation, which has red, green and blue in another order than the model.
    Coloured,
    /// In file order: they have no known names, but their number fits.
    FileOrder,
}

/// The 0-based bands of a raster for the `wanted` names, in that order.
///
/// # Errors
/// [`RasterError::NoSuchBand`] if the raster lacks a numbered band, [`RasterError::BandMismatch`] if names or counts do not fit.
pub(crate) fn choose(
    info: &RasterInfo,
    wanted: &[&str],
    numbers: Option<&BandNumbers>,
) -> Result<(Vec<usize>, BandChoice), RasterError> {
    let needed = format!("the model needs {}: {}", count(wanted.len()), wanted.join(", "));
    if let Some(BandNumbers(numbers)) = numbers {
        if numbers.len() != wanted.len() {
            return Err(RasterError::BandMismatch {
                found: format!("the option bands names {}", count(numbers.len())),
                needed,
            });
        }
        if let Some(band) = numbers.iter().find(|number| **number > info.bands.len()) {
            return Err(RasterError::NoSuchBand { band: *band, count: info.bands.len() });
        }
        return Ok((numbers.iter().map(|number| number - 1).collect(), BandChoice::Numbered));
    }

    let data: Vec<usize> = (0..info.bands.len()).filter(|band| !info.bands[*band].is_alpha).collect();
    let names: Vec<Option<Vec<String>>> =
        data.iter().map(|band| info.bands[*band].description.as_deref().map(spellings)).collect();
    let find = |name: &&str| {
        let accepted = accepted_names(name, info.sample_type);
        let is_named = |names: &Option<Vec<String>>| names.iter().flatten().any(|name| accepted.contains(name));
        names.iter().position(is_named).map(|position| data[position])
    };
    if let Some(bands) = wanted.iter().map(find).collect::<Option<Vec<_>>>() {
        return Ok((bands, BandChoice::Named));
    }
    // Known names of other bands contradict the model; unknown names do not.
    let are_known = names.iter().flatten().flatten().any(|name| is_band_name(name));
    if data.len() == wanted.len() && !are_known {
        match by_colour(info, &data, wanted) {
            Some(bands) if bands == data => return Ok((bands, BandChoice::FileOrder)),
            Some(bands) => return Ok((bands, BandChoice::Coloured)),
            None => {}
        }
    }
    Err(RasterError::BandMismatch {
        found: describe(info, &data),
        needed: format!("{needed} (the option bands picks them by number)"),
    })
}

/// The bands `data` in the order of the `wanted` names: red, green and blue where the file says that they are, the others as they
/// follow each other. `None` if what the file says contradicts the names.
fn by_colour(info: &RasterInfo, data: &[usize], wanted: &[&str]) -> Option<Vec<usize>> {
    let colour = |name: &str| match name {
        "tci_r" | "red" => Some(BandColour::Red),
        "tci_g" | "green" => Some(BandColour::Green),
        "tci_b" | "blue" => Some(BandColour::Blue),
        _ => None,
    };
    let is_rgb = |band: &usize| matches!(info.bands[*band].colour, Some(colour) if colour != BandColour::Other);
    let wanted: Vec<Option<BandColour>> = wanted.iter().map(|name| colour(name)).collect();
    // Models without colours, and files that do not say which bands are red, green and blue, are taken in file order.
    if !wanted.iter().any(Option::is_some) || !data.iter().any(is_rgb) {
        return Some(data.to_vec());
    }
    let mut others = data.iter().filter(|band| !is_rgb(band));
    let band_of = |colour: &Option<BandColour>| match colour {
        Some(_) => data.iter().find(|band| info.bands[**band].colour == *colour),
        None => others.next(),
    };
    wanted.iter().map(band_of).map(|band| band.copied()).collect()
}

fn count(bands: usize) -> String {
    if bands == 1 { "1 band".to_owned() } else { format!("{bands} bands") }
}

/// `the raster has 4 bands: B02, B03, 3 (no name), …`
fn describe(info: &RasterInfo, data: &[usize]) -> String {
    const SHOWN: usize = 20;
    let name = |band: &usize| match (&info.bands[*band].description, info.bands[*band].colour) {
        (Some(description), _) => description.chars().take(40).collect(),
        (None, Some(colour)) => format!("{} (no name, shows {})", band + 1, colour.name()),
        (None, None) => format!("{} (no name)", band + 1),
    };
    let names: Vec<String> = data.iter().take(SHOWN).map(name).collect();
    let more = if data.len() > SHOWN { ", …" } else { "" };
    format!("the raster has {}: {}{more}", count(data.len()), names.join(", "))
}

/// The forms in which a description is compared: the whole, and its first word (`B04` of `B04, central wavelength 665 nm`).
fn spellings(description: &str) -> Vec<String> {
    let lower = description.trim().to_ascii_lowercase();
    let bare = lower.trim_start_matches("sr_").trim_start_matches("band ").trim_start_matches("band_");
    let first = bare.split(|c: char| c.is_whitespace() || "(,;:-".contains(c)).next().unwrap_or_default();
    let first = if lower.starts_with("band") && first.chars().all(|c| c.is_ascii_digit()) {
        format!("b{first}")
    } else {
        first.to_owned()
    };
    let mut spellings = vec![squeeze(&lower), squeeze(bare)];
    // Only a code or a polarisation may stand alone: "red edge" must not become "red".
    let code = squeeze(&first);
    if is_code(&code) || matches!(code.as_str(), "vv" | "vh" | "hh" | "hv") {
        spellings.push(code);
    }
    spellings
}

/// Squeezed descriptions that are accepted for a model's band.
fn accepted_names(wanted: &str, sample_type: SampleType) -> Vec<String> {
    let own = squeeze(&wanted.to_ascii_lowercase());
    let mut names = vec![own.clone()];
    let colours = [
        ("tcir", "red", "r"),
        ("tcig", "green", "g"),
        ("tcib", "blue", "b"),
        ("red", "red", "r"),
        ("green", "green", "g"),
        ("blue", "blue", "b"),
    ];
    if let Some((tci, colour, letter)) = colours.into_iter().find(|(name, ..)| *name == own) {
        // The true-colour image is 8-bit; a 16-bit "red" is the reflectance of B04, for the other preset.
        if !tci.starts_with("tci") || sample_type == SampleType::U8 {
            names.extend([colour.to_owned(), letter.to_owned()]);
        }
    }
    // Landsat numbers its bands differently, so only names with two digits (Sentinel-2) have common names.
    if wanted.len() == 3 && is_code(&own) {
        let common = COMMON_NAMES.iter().find(|(code, _)| *code == own);
        names.extend(common.into_iter().flat_map(|(_, names)| names.iter().map(|name| (*name).to_owned())));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raster::pixels::BandInfo;

    const SENTINEL2: [&str; 9] = ["tci_r", "tci_g", "tci_b", "b05", "b06", "b07", "b08", "b11", "b12"];

    fn raster(descriptions: &[&str], sample_type: SampleType) -> RasterInfo {
        let band = |text: &&str| BandInfo {
            description: Some((*text).to_owned()).filter(|text| !text.is_empty()),
            is_alpha: *text == "alpha",
            ..BandInfo::default()
        };
        RasterInfo {
            width: 1,
            height: 1,
            bands: descriptions.iter().map(band).collect(),
            sample_type,
            georef: None,
            is_normalised: false,
            overviews: vec![],
        }
    }

    #[test]
    fn bands_are_found_by_name_in_any_order_and_spelling() {
        let file = raster(
            &["B12", "TCI_R", "tci-g", "TCI B", "b5", "B06 (740 nm)", "Band 7", "NIR", "swir16", "B8A", "alpha"],
            SampleType::U16,
        );
        let (bands, choice) = choose(&file, &SENTINEL2, None).unwrap();
        assert_eq!((bands, choice), (vec![1, 2, 3, 4, 5, 6, 7, 8, 0], BandChoice::Named));
    }

    #[test]
    fn red_edge_is_not_red() {
        let file = raster(&["Red Edge 1", "green", "blue", "red"], SampleType::U8);
        assert_eq!(choose(&file, &["red", "green", "blue"], None).unwrap().0, [3, 1, 2]);
    }

    #[test]
    fn b8a_is_not_b8() {
        let file = raster(&["B8A", "B08"], SampleType::U16);
        assert_eq!(choose(&file, &["b08"], None).unwrap().0, [1]);
    }

    #[test]
    fn sixteen_bit_red_is_not_the_true_colour_image() {
        let wanted = ["tci_r", "tci_g", "tci_b"];
        assert_eq!(choose(&raster(&["red", "green", "blue"], SampleType::U8), &wanted, None).unwrap().0, [0, 1, 2]);
        assert!(choose(&raster(&["red", "green", "blue"], SampleType::U16), &wanted, None).is_err());
    }

    #[test]
    fn names_of_other_bands_are_not_taken_in_file_order() {
        let error = choose(&raster(&["B02", "B03", "B04"], SampleType::U16), &["tci_r", "tci_g", "tci_b"], None);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("3 bands: B02, B03, B04") && text.contains("tci_r, tci_g, tci_b"), "{text}");
    }

    #[test]
    fn bands_without_names_are_taken_in_file_order_when_the_count_fits() {
        let (bands, choice) =
            choose(&raster(&["", "", "", "alpha"], SampleType::U8), &["red", "green", "blue"], None).unwrap();
        assert_eq!((bands, choice), (vec![0, 1, 2], BandChoice::FileOrder));
        assert!(choose(&raster(&["", ""], SampleType::U8), &["red", "green", "blue"], None).is_err());
    }

    #[test]
    fn the_colour_interpretation_orders_bands_without_names() {
        use BandColour::{Blue, Green, Other, Red};
        let coloured = |colours: &[Option<BandColour>]| {
            let mut info = raster(&vec![""; colours.len()], SampleType::U8);
            info.bands.iter_mut().zip(colours).for_each(|(band, colour)| band.colour = *colour);
            info
        };
        let rgb = ["tci_r", "tci_g", "tci_b"];
        let bgr = coloured(&[Some(Blue), Some(Green), Some(Red)]);
        assert_eq!(choose(&bgr, &rgb, None).unwrap(), (vec![2, 1, 0], BandChoice::Coloured));
        let in_order = coloured(&[Some(Red), Some(Green), Some(Blue)]);
        assert_eq!(choose(&in_order, &rgb, None).unwrap(), (vec![0, 1, 2], BandChoice::FileOrder));
        let infrared = coloured(&[Some(Other), Some(Red), Some(Green)]);
        let error = choose(&infrared, &rgb, None).unwrap_err().to_string();
        assert!(error.contains("1 (no name, shows another colour), 2 (no name, shows red)"), "{error}");
        let four = coloured(&[Some(Blue), None, Some(Green), Some(Red)]);
        assert_eq!(choose(&four, &["red", "green", "blue", "nir"], None).unwrap().0, [3, 2, 0, 1]);
        assert_eq!(choose(&bgr, &["vv", "vh", "hh"], None).unwrap().0, [0, 1, 2]);
    }

    #[test]
    fn numbers_count_from_one_and_may_repeat() {
        let (file, wanted) = (raster(&["", "", ""], SampleType::U8), ["red", "green", "blue"]);
        let numbers = |text: &str| text.parse::<BandNumbers>();
        assert_eq!(choose(&file, &wanted, Some(&numbers("3,2, 2").unwrap())).unwrap().0, [2, 1, 1]);
        assert!(choose(&file, &wanted, Some(&numbers("4,2,1").unwrap())).is_err());
        assert!(choose(&file, &wanted, Some(&numbers("2,1").unwrap())).is_err());
        for text in ["", "0,1,2", "a", "1,,2", "-1"] {
            assert!(numbers(text).is_err(), "{text}");
        }
    }

    #[test]
    fn landsat_bands_keep_their_own_numbers() {
        let file = raster(&["SR_B4", "B10"], SampleType::U16);
        assert_eq!(choose(&file, &["b10", "b4"], None).unwrap().0, [1, 0]);
        assert!(choose(&raster(&["red"], SampleType::U16), &["b4"], None).is_err());
    }
}
