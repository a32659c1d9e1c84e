//! The name that was probably meant by one that is not known.

use strsim::osa_distance;

/// The name nearest to `wanted`: equal but for upper and lower case, reached by a few typing errors, or containing it.
pub(super) fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    // A long text of a client is no typing error, and comparing it takes time.
    const MAX_CHARS: usize = 100;
    let wanted = wanted.to_lowercase();
    let wanted_chars = wanted.chars().count();
    if wanted.is_empty() || wanted_chars > MAX_CHARS {
        return None;
    }
    let tolerated = wanted_chars.div_ceil(4);
    let rated = known.filter_map(|name| {
        let candidate = name.to_lowercase();
        // Characters to insert, remove, replace or swap with the next one.
        let errors = osa_distance(&wanted, &candidate);
        let contains = || candidate.contains(&wanted);
        // A name that only contains the text comes after all that are near it.
        let rank =
            if errors <= tolerated { errors } else { contains().then_some(MAX_CHARS + candidate.chars().count())? };
        Some((rank, name))
    });
    rated.min().map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_case_and_parts_lead_to_the_name() {
        let known = ["world", "trees", "trees_osbs", "Sentinel2_SwinB_SI_RGB", "land_cover", "water"];
        let near = |wanted: &str| nearest(wanted, known.into_iter());
        for (wanted, meant) in [
            ("word", "world"),
            ("wrold", "world"),
            ("Trees", "trees"),
            ("tree", "trees"),
            ("landcover", "land_cover"),
            ("sentinel2_swinb_si_rbg", "Sentinel2_SwinB_SI_RGB"),
            ("osbs", "trees_osbs"),
        ] {
            assert_eq!(near(wanted).as_deref(), Some(meant), "{wanted}");
        }
        for wanted in ["", "elevation", "xyz", &"w".repeat(1000)] {
            assert_eq!(near(wanted), None, "{wanted}");
        }
    }
}
