//! A sound TIFF around a georeference that nobody meant.

/// A TIFF of 4 x 4 grey pixels, sound but for what its georeference says: a transform of doubles, and GeoKeys with their numbers and
/// texts. The input is cut at a byte that says how long each part is.
pub(crate) fn georeferenced(input: &[u8]) -> Vec<u8> {
    let (lengths, rest) = input.split_at(input.len().min(3));
    let length = |part: usize| usize::from(lengths.get(part).copied().unwrap_or(0));
    let (transform, rest) = rest.split_at(rest.len().min(length(0) / 8 * 8));
    let (doubles, rest) = rest.split_at(rest.len().min(length(1) / 8 * 8));
    let (texts, keys) = rest.split_at(rest.len().min(length(2)));
    let scale: Vec<u8> = [1.0f64, 1.0, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let tiepoint: Vec<u8> = [0.0f64, 0.0, 0.0, 10.0, 50.0, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let long = |value: u32| value.to_le_bytes().to_vec();
    let entries: Vec<(u16, u16, Vec<u8>)> = [
        (256, 4, long(4)),
        (257, 4, long(4)),
        (258, 3, vec![8, 0]),
        (259, 3, vec![1, 0]),
        (262, 3, vec![1, 0]),
        (273, 4, long(8)),
        (277, 3, vec![1, 0]),
        (278, 4, long(4)),
        (279, 4, long(16)),
        (33550, 12, scale),
        (33922, 12, tiepoint),
        (34264, 12, transform.to_vec()),
        (34735, 3, keys.to_vec()),
        (34736, 12, doubles.to_vec()),
        (34737, 2, texts.to_vec()),
    ]
    .into_iter()
    .filter(|(_, _, value)| !value.is_empty())
    .collect();
    let mut file = b"II\x2a\0\x18\0\0\0".to_vec();
    file.extend(1..=16u8);
    let mut values_at = (file.len() + 2 + entries.len() * 12 + 4) as u32;
    file.extend((entries.len() as u16).to_le_bytes());
    let mut values = Vec::new();
    for (tag, kind, value) in entries {
        let size = match kind {
            2 => 1,
            3 => 2,
            4 => 4,
            _ => 8,
        };
        file.extend(u16::to_le_bytes(tag));
        file.extend(u16::to_le_bytes(kind));
        file.extend(((value.len() / size) as u32).to_le_bytes());
        if value.len() <= 4 {
            file.extend(value.iter().chain(&[0; 4]).take(4));
        } else {
            file.extend(values_at.to_le_bytes());
            values_at += value.len() as u32;
            values.extend(value);
        }
    }
    file.extend([0; 4]);
    file.extend(values);
    file
}
