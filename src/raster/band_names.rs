//! The names that sensors give their bands, and how files are named after them.

/// The common names of Sentinel-2 bands, as STAC's `eo` extension and QGIS write them.
pub(crate) const COMMON_NAMES: [(&str, &[&str]); 9] = [
    ("b2", &["blue"]),
    ("b3", &["green"]),
    ("b4", &["red"]),
    ("b5", &["rededge1", "re1"]),
    ("b6", &["rededge2", "re2"]),
    ("b7", &["rededge3", "re3"]),
    ("b8", &["nir"]),
    ("b11", &["swir1", "swir16"]),
    ("b12", &["swir2", "swir22"]),
];

/// Letters and digits only, without leading zeros of a band's number: `B05`, `b5` and `B_05` become the same.
pub(crate) fn squeeze(text: &str) -> String {
    let squeezed: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    match squeezed.strip_prefix('b') {
        Some(number) if number.starts_with(|c: char| c.is_ascii_digit()) => format!("b{}", number.trim_start_matches('0')),
        _ => squeezed,
    }
}

/// `b5`, `b8a`, `b12`.
pub(crate) fn is_code(name: &str) -> bool {
    let Some(number) = name.strip_prefix('b') else { return false };
    let digits = number.trim_end_matches('a');
    !digits.is_empty()
        && number.len() - digits.len() <= 1
        && digits.len() <= 2
        && digits.chars().all(|c| c.is_ascii_digit())
}

/// True if a squeezed description is the name of some sensor's band.
pub(crate) fn is_band_name(name: &str) -> bool {
    let is_common = COMMON_NAMES.iter().any(|(_, names)| names.contains(&name));
    is_common
        || is_code(name)
        || matches!(name, "vv" | "vh" | "hh" | "hv" | "tcir" | "tcig" | "tcib" | "red" | "green" | "blue")
}

/// True if a text is the name of some sensor's band.
pub(crate) fn is_sensor_band(name: &str) -> bool {
    is_band_name(&squeeze(&name.to_ascii_lowercase()))
}

/// What a file is by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileRole {
    /// The bands that it holds; empty for a scene, or what cannot be told.
    pub(crate) bands: Vec<String>,
    /// The name without the band: what the band files of one scene share.
    pub(crate) scene: String,
    /// True for quality flags, angles and the like in a product whose bands are files.
    pub(crate) is_auxiliary: bool,
}

/// The bands that a file's name says it holds: the last part of `T31UFU_20240601T104021_B8A`, before a resolution such as `_10m`.
/// `TCI` stands for three bands. Empty if the name is not that of a band.
pub(crate) fn names_of_file(stem: &str) -> Vec<String> {
    role_of_file(stem).bands
}

/// What the file `stem` (a name without extension) is, in the spelling of ESA, of USGS (Landsat Collection 2) or of anybody who writes
/// the band last.
pub(crate) fn role_of_file(stem: &str) -> FileRole {
    let lower = stem.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split(['_', '-', '.', ' ']).collect();
    if let Some((scene, rest)) = landsat_product(&parts) {
        // Surface reflectance is `sr_b4`; `st_b10` is a temperature, not the radiance of band 10, and `b6_vcid_1` is band 6 twice. Others
        // put words behind a band (`b4_clip`).
        let band = match rest {
            [band, "vcid", ..] if is_code(band) => Vec::new(),
            [band, ..] | ["sr", band, ..] if is_code(band) => vec![band.to_uppercase()],
            _ => Vec::new(),
        };
        return FileRole { is_auxiliary: band.is_empty() && !rest.is_empty(), bands: band, scene };
    }
    // `s1a-iw-grd-vv-20240601t051234-20240601t051259-054123-069abc-001`: start, end, orbit and data take; the last number counts
    // polarisations.
    if let [mission, mode, product, polarisation @ ("vv" | "vh" | "hh" | "hv"), start, _, orbit, take, ..] = parts[..]
        && mission.strip_prefix("s1").is_some_and(|unit| unit.len() == 1)
    {
        let scene = [mission, mode, product, start, orbit, take].join("-");
        return FileRole { bands: vec![polarisation.to_uppercase()], scene, is_auxiliary: false };
    }
    let is_resolution = |part: &str| {
        part.strip_suffix('m').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let mut parts: Vec<&str> = parts.into_iter().filter(|part| !is_resolution(part)).collect();
    let bands = match parts.last().copied().unwrap_or_default() {
        "tci" => ["tci_r", "tci_g", "tci_b"].map(str::to_owned).to_vec(),
        name if is_band_name(&squeeze(name)) => vec![name.to_uppercase()],
        _ => Vec::new(),
    };
    let is_auxiliary = parts.last().is_some_and(|part| AUXILIARY.contains(part));
    if !bands.is_empty() || is_auxiliary {
        parts.pop();
    }
    FileRole { bands, scene: parts.join("_"), is_auxiliary }
}

/// Names of what products hold beside their bands: flags, masks, angles, aerosol, water vapour.
const AUXILIARY: [&str; 20] = [
    "aot", "wvp", "scl", "pvi", "fmask", "cld", "snw", "bqa", "qa", "qa60", "pixel", "radsat", "lineage", "mask", "saa",
    "sza", "vaa", "vza", "cldprb", "snwprb",
];

/// True if a name is that of a Landsat product as a whole.
pub(crate) fn is_landsat_product(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split('_').collect();
    landsat_product(&parts).is_some_and(|(_, rest)| rest.is_empty())
}

/// The product that a file of Landsat Collection 2 belongs to, and what follows its identifier
/// (`LC08_L1TP_173059_20220706_20220722_02_T1`: sensor, level, path and row, acquired, processed, collection, tier).
fn landsat_product<'a, 'b>(parts: &'b [&'a str]) -> Option<(String, &'b [&'a str])> {
    let [sensor, level, path_row, acquired, processed, collection, rest @ ..] = parts else { return None };
    let are_digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_sensor = sensor.len() == 4 && sensor.starts_with('l') && sensor.is_ascii() && are_digits(&sensor[2..], 2);
    let is_product = is_sensor
        && are_digits(path_row, 6)
        && are_digits(acquired, 8)
        && are_digits(processed, 8)
        && are_digits(collection, 2);
    // The tiles of the United States' archive have a region in place of a level, and no tier.
    match rest {
        ["t1" | "t2" | "rt" | "a1" | "a2", rest @ ..] if is_product && level.starts_with('l') => {
            Some((parts[..7].join("_"), rest))
        }
        rest if is_product && matches!(*level, "cu" | "ak" | "hi") => Some((parts[..6].join("_"), rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_named_after_bands_are_known() {
        for (stem, names) in [
            ("B02", &["B02"][..]),
            ("T31UFU_20240601T104021_B8A", &["B8A"]),
            ("T31UFU_20240601T104021_B05_20m", &["B05"]),
            ("x_TCI", &["tci_r", "tci_g", "tci_b"]),
            ("s1_vv", &["VV"]),
            ("scene_2024", &[]),
            ("harbour", &[]),
        ] {
            assert_eq!(names_of_file(stem), names, "{stem}");
        }
    }

    #[test]
    fn files_of_landsat_and_sentinel_1_say_their_scene() {
        let landsat = "LC08_L1TP_173059_20220706_20220722_02_T1";
        for (rest, bands, is_auxiliary) in [
            ("_B1", &["B1"][..], false),
            ("_SR_B4", &["B4"], false),
            ("_B10", &["B10"], false),
            ("_ST_B10", &[], true),
            ("_QA_PIXEL", &[], true),
            ("_SAA", &[], true),
            ("_B4_clip", &["B4"], false),
            ("_B6_VCID_1", &[], true),
            ("_GM_B1", &[], true),
            ("", &[], false),
        ] {
            let role = role_of_file(&format!("{landsat}{rest}"));
            assert_eq!(
                (&role.bands[..], role.is_auxiliary),
                (&bands.iter().map(|band| (*band).to_owned()).collect::<Vec<_>>()[..], is_auxiliary),
                "{rest}"
            );
            assert_eq!(role.scene, landsat.to_ascii_lowercase());
        }
        let [vv, vh] = [("vv", "001"), ("vh", "002")].map(|(polarisation, number)| {
            role_of_file(&format!("s1a-iw-grd-{polarisation}-20240601t051234-20240601t051259-054123-069abc-{number}"))
        });
        assert_eq!((&vv.bands[0], &vh.bands[0], &vv.scene), (&"VV".to_owned(), &"VH".to_owned(), &vh.scene));
        let tile = role_of_file("LC08_CU_025010_20210101_20210112_02_SR_B4");
        assert_eq!((tile.bands, tile.scene.as_str()), (vec!["B4".to_owned()], "lc08_cu_025010_20210101_20210112_02"));
        assert!(role_of_file("LC08_CU_025010_20210101_20210112_02_QA_PIXEL").is_auxiliary);
        assert!(
            is_landsat_product(landsat) && !is_landsat_product("LC08") && !is_landsat_product(&format!("{landsat}_B1"))
        );
        for stem in
            ["T31UFU_20240601T104021_SCL_20m", "T31UFU_20240601T104021_AOT_10m", "HLS.S30.T31UFU.2024153T104021.v2.0.Fmask"]
        {
            assert!(role_of_file(stem).is_auxiliary, "{stem}");
        }
        assert_eq!(role_of_file("x_B05_20m").scene, "x");
        assert!(role_of_file("é_é_é").bands.is_empty());
    }
}
