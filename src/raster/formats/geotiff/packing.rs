//! Samples that do not fill whole bytes, and bytes whose bits are in the other order.

use crate::raster::formats::samples::Samples;

/// The bytes with their bits in the order that TIFF's `FillOrder` 1 wants.
pub(super) fn reverse_bits(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| byte.reverse_bits()).collect()
}

/// Unpacks `rows` rows of `per_row` samples of 1 to 31 bits. Rows start at whole bytes; the most significant bits come first, also in
/// samples of three whole bytes, as GDAL writes them.
pub(super) fn unpack(packed: &[u8], per_row: usize, rows: usize, bits: u16) -> Samples {
    let bits = usize::from(bits);
    let row_bytes = (per_row * bits).div_ceil(8);
    let rows = packed.chunks_exact(row_bytes.max(1)).take(rows);
    let sample = move |row: &[u8], at: usize| -> u32 {
        let (first, last) = (at * bits / 8, (at * bits + bits - 1) / 8);
        // At most five bytes hold a sample of 31 bits.
        let word = row[first..=last].iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        let behind = (last + 1) * 8 - (at + 1) * bits;
        (word >> behind & ((1u64 << bits) - 1)) as u32
    };
    let samples = rows.flat_map(|row| (0..per_row).map(move |at| sample(row, at)));
    match bits {
        ..=8 => Samples::U8(samples.map(|sample| sample as u8).collect()),
        9..=16 => Samples::U16(samples.map(|sample| sample as u16).collect()),
        _ => Samples::U32(samples.collect()),
    }
}

/// The first `cols` by `rows` pixels of a picture of `from` columns and rows, with 0 where it has none.
pub(super) fn crop(samples: &[u8], from: (usize, usize), per_pixel: usize, (cols, rows): (usize, usize)) -> Vec<u8> {
    let mut cropped = vec![0; cols * rows * per_pixel];
    let kept = from.0.min(cols) * per_pixel;
    let lines = cropped.chunks_exact_mut(cols * per_pixel).zip(samples.chunks_exact(from.0 * per_pixel));
    lines.for_each(|(to, line)| to[..kept].copy_from_slice(&line[..kept]));
    cropped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_any_number_of_bits_are_unpacked_row_by_row() {
        let Samples::U8(one) = unpack(&[0b1010_0000, 0b0110_0000], 3, 2, 1) else { panic!("bytes") };
        assert_eq!(one, [1, 0, 1, 0, 1, 1]);
        let Samples::U16(twelve) = unpack(&[0xab, 0xcd, 0xef], 2, 1, 12) else { panic!("words") };
        assert_eq!(twelve, [0xabc, 0xdef]);
        let Samples::U16(fifteen) = unpack(&[0xff, 0xfe, 0x00, 0x04], 2, 1, 15) else { panic!("words") };
        assert_eq!(fifteen, [0x7fff, 1]);
        let Samples::U32(three_bytes) = unpack(&[1, 2, 3], 1, 1, 24) else { panic!("long words") };
        assert_eq!(three_bytes, [0x01_02_03]);
        let Samples::U32(odd) = unpack(&[0x80, 0, 0, 1, 0x40, 0, 0, 2], 2, 1, 31) else { panic!("long words") };
        assert_eq!(odd, [0x4000_0000, 0x5000_0000]);
    }

    #[test]
    fn a_picture_is_cut_or_continued_with_zeros() {
        let picture = [1, 2, 3, 4, 5, 6];
        assert_eq!(crop(&picture, (3, 2), 1, (2, 1)), [1, 2]);
        assert_eq!(crop(&picture, (3, 2), 1, (4, 3)), [1, 2, 3, 0, 4, 5, 6, 0, 0, 0, 0, 0]);
    }
}
