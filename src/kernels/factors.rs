//! How the factors of a product are stored in 32-bit words, on either side of the micro-kernel.
//!
//! Words come in chunks of [`CHUNK`]. What a word holds depends on what the processor multiplies fastest: an f32 value, a
//! pair of bf16 values, or a pair of bf16 parts of f32 values. The last form is for processors whose tiles multiply bf16
//! sixteen times as fast as their vectors multiply f32: an f32 value is exactly the sum of three bf16 values (8 bits each),
//! and six products of such parts give the product of two values to f32 rounding, in less than half the time of f32
//! arithmetic. (An infinite value has no such parts; it becomes NaN.)

use super::Precision;
use super::simd::{InstructionSet, Simd};

/// Contiguous words of each row on the left-hand side: [chunk][row][CHUNK].
pub(crate) const CHUNK: usize = 16;
/// Values that fill a chunk (one chunk per part, if split) for tile registers.
const TILE_VALUES: usize = 2 * CHUNK;
/// Parts that a value is split into.
const PARTS: usize = 3;

/// What the words of a product's factors hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Factors {
    /// One f32 value per word.
    F32,
    /// Values 2i and 2i + 1 as bf16 in word i.
    Bf16,
    /// As `Bf16`, in whole chunks for tile registers.
    TiledBf16,
    /// For every 32 values, one chunk of their first parts, one of their second and one of their third; values i and i + 16
    /// share a word.
    TiledSplit,
}

/// Rows that the micro-kernel multiplies at once: groups of `full` rows, the last one a smaller multiple of `step`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Groups {
    pub(crate) full: usize,
    pub(crate) step: usize,
}

impl Groups {
    /// The sizes of the groups that `rows` rows are cut into.
    #[inline(always)]
    pub(crate) fn sizes(self, rows: usize) -> impl Iterator<Item = usize> {
        let (whole, rest) = (rows / self.full, rows % self.full);
        let last = rest.next_multiple_of(self.step);
        (0..whole).map(move |_| self.full).chain((last > 0).then_some(last))
    }

    /// `rows` rounded up to the rows that its groups hold.
    pub(crate) fn padded(self, rows: usize) -> usize {
        rows.next_multiple_of(self.step)
    }
}

impl Factors {
    /// The fastest form for a precision on an instruction set.
    pub(crate) fn new(precision: Precision, instructions: InstructionSet) -> Self {
        match precision {
            Precision::F32 if instructions.has_tiles() => Self::TiledSplit,
            Precision::Bf16 if instructions.has_tiles() => Self::TiledBf16,
            _ => Self::for_vectors(precision),
        }
    }

    /// The fastest form for a precision on vector registers alone.
    pub(crate) fn for_vectors(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }

    /// Whether tile registers multiply this form.
    #[inline(always)]
    pub(crate) fn tiled(self) -> bool {
        matches!(self, Self::TiledBf16 | Self::TiledSplit)
    }

    /// The groups of rows that a micro-kernel works on, where its vector form keeps accumulators for `rows` rows.
    #[inline(always)]
    pub(crate) fn groups(self, rows: usize) -> Groups {
        if self.tiled() { Groups { full: 32, step: 32 } } else { Groups { full: rows, step: rows / 3 } }
    }

    /// Values in a unit: the fewest whose words fill whole chunks.
    #[inline(always)]
    pub(crate) fn unit_values(self) -> usize {
        match self {
            Self::F32 => CHUNK,
            Self::Bf16 | Self::TiledBf16 | Self::TiledSplit => TILE_VALUES,
        }
    }

    /// Chunks in a unit.
    #[inline(always)]
    pub(crate) fn unit_chunks(self) -> usize {
        match self {
            Self::F32 | Self::Bf16 | Self::TiledBf16 => 1,
            Self::TiledSplit => PARTS,
        }
    }

    /// Words on the right-hand side for `values` values.
    #[inline(always)]
    pub(crate) fn words(self, values: usize) -> usize {
        match self {
            Self::F32 => values,
            Self::Bf16 => values.div_ceil(2),
            Self::TiledBf16 | Self::TiledSplit => self.padded_words(values),
        }
    }

    /// Words of a row on the left-hand side for `values` values: whole chunks.
    #[inline(always)]
    pub(crate) fn padded_words(self, values: usize) -> usize {
        values.div_ceil(self.unit_values()) * self.unit_chunks() * CHUNK
    }

    /// Writes value `index` of a column of the right-hand side. The column's words lie `stride` apart and must have been
    /// zeroed.
    pub(crate) fn put(self, column: &mut [f32], stride: usize, index: usize, value: f32) {
        match self {
            Self::F32 => column[index * stride] = value,
            Self::Bf16 | Self::TiledBf16 => {
                let bits = half::bf16::from_f32(value).to_bits();
                put_half(&mut column[index / 2 * stride], index % 2, bits);
            }
            Self::TiledSplit => {
                let (unit, half, word) = (index / TILE_VALUES, index % TILE_VALUES / CHUNK, index % CHUNK);
                for (part, bits) in split(value).into_iter().enumerate() {
                    put_half(&mut column[((unit * PARTS + part) * CHUNK + word) * stride], half, bits);
                }
            }
        }
    }

    /// The offsets in a unit of the two registers of values from which [`Factors::write`] makes the words that start at
    /// `lane`.
    #[inline(always)]
    pub(crate) fn sources<S: Simd>(self, lane: usize) -> [usize; 2] {
        match self {
            Self::F32 => [lane, lane],
            Self::Bf16 | Self::TiledBf16 => [2 * lane, 2 * lane + S::LANES],
            Self::TiledSplit => [lane, CHUNK + lane],
        }
    }

    /// Writes a register of words to `to`; for split factors, one register for each part, `stride` words apart.
    ///
    /// # Safety
    /// A register must be writable at each of those addresses.
    #[inline(always)]
    pub(crate) unsafe fn write<S: Simd>(self, s: S, values: [S::V; 2], to: *mut f32, stride: usize) {
        let [first, second] = values;
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::F32 => s.store(to, first),
                Self::Bf16 | Self::TiledBf16 => s.store(to, s.to_bf16(first, second)),
                Self::TiledSplit => {
                    for (part, words) in s.split_bf16(first, second).into_iter().enumerate() {
                        s.store(to.add(part * stride), words);
                    }
                }
            }
        }
    }
}

fn put_half(word: &mut f32, half: usize, bits: u16) {
    *word = f32::from_bits(word.to_bits() | u32::from(bits) << (16 * half));
}

/// The bf16 bits of the three parts that add up to `value`: the leading 8 bits of its significand, the next 8, and the rest.
/// (Values too close to zero for that lose their last bits, as they do in the products.)
fn split(value: f32) -> [u16; PARTS] {
    let mut rest = value;
    std::array::from_fn(|_| {
        let head = f32::from_bits(rest.to_bits() & 0xffff_0000);
        rest -= head;
        (head.to_bits() >> 16) as u16
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;

    #[test]
    fn parts_add_up_to_the_value() {
        for value in reference::noise(1000, 9).into_iter().chain([0.0, -0.0, 1.0, f32::MAX, -1e-20, 16_777_215.0]) {
            let parts = split(value).map(|bits| f64::from(f32::from_bits(u32::from(bits) << 16)));
            assert_eq!(parts.iter().sum::<f64>(), f64::from(value));
        }
    }

    #[test]
    fn groups_hold_every_row() {
        for (groups, rows) in
            [(Groups { full: 12, step: 4 }, 29), (Groups { full: 32, step: 32 }, 33), (Groups { full: 6, step: 2 }, 0)]
        {
            assert_eq!(groups.sizes(rows).sum::<usize>(), groups.padded(rows));
            assert!(groups.sizes(rows).all(|size| size <= groups.full && size % groups.step == 0));
        }
    }
}
