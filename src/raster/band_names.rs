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

/// The bands that a file's name says it holds: the last part of `T31UFU_20240601T104021_B8A`, before a resolution such as `_10m`.
/// `TCI` stands for three bands. Empty if the name is not that of a band.
pub(crate) fn names_of_file(stem: &str) -> Vec<String> {
    let is_resolution = |part: &str| {
        part.strip_suffix('m').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let lower = stem.to_ascii_lowercase();
    let last = lower.split(['_', '-', '.', ' ']).rev().find(|part| !is_resolution(part)).unwrap_or_default();
    match last {
        "tci" => ["tci_r", "tci_g", "tci_b"].map(str::to_owned).to_vec(),
        name if is_band_name(&squeeze(name)) => vec![name.to_uppercase()],
        _ => Vec::new(),
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
}
