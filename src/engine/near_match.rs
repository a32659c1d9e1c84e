//! The name that was probably meant by one that is not known.

/// The name nearest to `wanted`: equal but for upper and lower case, reached by a few typing errors, or containing it.
pub(super) fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    // A long text of a client is no typing error, and comparing it takes time.
    const MAX_CHARS: usize = 100;
    let plain = |text: &str| text.to_lowercase().chars().collect::<Vec<char>>();
    let wanted = plain(wanted);
    if wanted.is_empty() || wanted.len() > MAX_CHARS {
        return None;
    }
    let tolerated = wanted.len().div_ceil(4);
    let rated = known.filter_map(|name| {
        let candidate = plain(name);
        let errors = typing_errors(&wanted, &candidate);
        let contains = || candidate.windows(wanted.len()).any(|part| part == wanted);
        // A name that only contains the text comes after all that are near it.
        let rank = if errors <= tolerated { errors } else { contains().then_some(MAX_CHARS + candidate.len())? };
        Some((rank, name))
    });
    rated.min().map(|(_, name)| name.to_owned())
}

/// How many characters have to be inserted, removed, replaced or swapped with the next one (optimal string alignment).
fn typing_errors(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let mut least = (row[j] + usize::from(from != to)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
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
