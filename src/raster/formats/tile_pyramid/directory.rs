//! Directories of PMTiles (version 3, chapter 4): columns of variable-length integers that map tile numbers to positions.

use crate::raster::formats::error::{DecodeError, damaged};
/// Least size of an entry in bytes: four integers of at least one byte.
const MIN_ENTRY_BYTES: usize = 4;

/// A run of tiles with one picture, or a directory with further entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TileRun {
    first_id: u64,
    /// Number of tiles; 0 for a directory.
    run: u32,
    len: u32,
    offset: u64,
}

/// What an entry points to. Offsets count from the start of the tiles section or the directories section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Located {
    Tile { offset: u64, len: u64 },
    TileDirectory { offset: u64, len: u64 },
}

/// Entries in the order of their tiles.
#[derive(Debug)]
pub(super) struct TileDirectory(Vec<TileRun>);

impl TileDirectory {
    /// Reads an unpacked directory.
    ///
    /// # Errors
    /// [`DecodeError`] if it is cut off, or its entries are empty or out of order.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut numbers = VarintReader { bytes };
        let count = numbers.next()?;
        if count > (bytes.len() / MIN_ENTRY_BYTES) as u64 {
            return Err(damaged(format!("a directory of {} bytes claims {count} entries", bytes.len())));
        }
        let mut entries = vec![TileRun { first_id: 0, run: 0, len: 0, offset: 0 }; count as usize];
        let mut id = 0u64;
        for (index, entry) in entries.iter_mut().enumerate() {
            let step = numbers.next()?;
            id = id
                .checked_add(step)
                .filter(|_| index == 0 || step > 0)
                .ok_or_else(|| damaged("its tiles are not in order"))?;
            entry.first_id = id;
        }
        let short = |number: u64| u32::try_from(number).map_err(|_| damaged("an entry is too long"));
        for entry in &mut entries {
            entry.run = short(numbers.next()?)?;
        }
        for entry in &mut entries {
            entry.len = short(numbers.next()?)?;
            if entry.len == 0 {
                return Err(damaged("an entry has no bytes"));
            }
        }
        // The end of the entry before; `None` at the first.
        let mut end = None;
        for entry in &mut entries {
            let number = numbers.next()?;
            // 0 means directly after the entry before.
            let offset = if number == 0 { end } else { Some(number - 1) };
            entry.offset = offset.ok_or_else(|| damaged("its first entry follows none"))?;
            let next = entry.offset.checked_add(u64::from(entry.len));
            end = Some(next.ok_or_else(|| damaged("an entry lies too far"))?);
        }
        Ok(Self(entries))
    }

    /// The position of a tile, or of the directory that has it.
    pub(super) fn find(&self, id: u64) -> Option<Located> {
        let after = self.0.partition_point(|entry| entry.first_id <= id);
        let entry = self.0.get(after.checked_sub(1)?)?;
        (entry.run == 0 || id - entry.first_id < u64::from(entry.run)).then(|| entry.found())
    }

    /// The target of the entry with the longest tile, or of the first entry if there are directories only.
    pub(super) fn longest(&self) -> Option<Located> {
        let tiles = self.0.iter().filter(|entry| entry.run > 0);
        tiles.max_by_key(|entry| entry.len).or(self.0.first()).map(|entry| entry.found())
    }

    /// Size in memory, bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.0.capacity() * size_of::<TileRun>()
    }
}

impl TileRun {
    fn found(&self) -> Located {
        let (offset, len) = (self.offset, u64::from(self.len));
        if self.run == 0 { Located::TileDirectory { offset, len } } else { Located::Tile { offset, len } }
    }
}

/// Integers of seven bits a byte, the lowest first (LEB128).
struct VarintReader<'a> {
    bytes: &'a [u8],
}

impl VarintReader<'_> {
    fn next(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let (byte, rest) = self.bytes.split_first().ok_or_else(|| damaged("a directory is cut off"))?;
            self.bytes = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if bits << shift >> shift != bits {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(damaged("a number of a directory has more than 64 bits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_by_the_runs_they_stand_for() {
        // Tiles 5 to 7 share a picture, 8 follows it, and a directory knows what comes from 20 on.
        let bytes = [3, 5, 3, 12, 3, 1, 0, 10, 20, 30, 1, 0, 101];
        let directory = TileDirectory::parse(&bytes).expect("a directory");
        for (id, wanted) in [
            (4, None),
            (5, Some(Located::Tile { offset: 0, len: 10 })),
            (7, Some(Located::Tile { offset: 0, len: 10 })),
            (8, Some(Located::Tile { offset: 10, len: 20 })),
            (9, None),
            (20, Some(Located::TileDirectory { offset: 100, len: 30 })),
            (u64::MAX, Some(Located::TileDirectory { offset: 100, len: 30 })),
        ] {
            assert_eq!(directory.find(id), wanted, "{id}");
        }
        assert_eq!(TileDirectory::parse(&[0]).expect("an empty directory").find(0), None);
    }

    #[test]
    fn damaged_directories_are_errors() {
        for bytes in [
            &[][..],
            &[200, 1],
            &[1, 5, 1, 10],
            &[2, 5, 0, 1, 1, 10, 10, 1, 1],
            &[1, 5, 1, 0, 1],
            &[1, 5, 1, 10, 0],
            &[255; 30],
            &[1, 5, 1, 10, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
            &[1, 5, 255, 255, 255, 255, 255, 1, 10, 1],
        ] {
            assert!(TileDirectory::parse(bytes).is_err(), "{bytes:?}");
        }
    }
}
