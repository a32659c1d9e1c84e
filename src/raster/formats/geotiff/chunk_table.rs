//! Where the chunks of an image lie in its file.

use super::compression;
use super::ifd::{ImageDirectory, TagNumbers, tag};
use crate::raster::formats::error::{DecodeError, damaged};
use crate::storage::ByteSource;

/// Most chunks whose places are kept in memory: those of a directory with more are read one by one, as a file may have hundreds of
/// directories with millions of chunks each.
const MAX_KEPT_CHUNKS: usize = 16_384;

/// Offset and length in bytes of every chunk.
#[derive(Debug)]
pub(super) enum ChunkTable {
    /// In memory, with lengths that the file leaves out.
    Kept { offsets: Vec<u64>, byte_counts: Vec<u64> },
    /// Where they lie in the file.
    Stored { offsets: TagNumbers, byte_counts: TagNumbers },
}

impl ChunkTable {
    /// Reads the table of `chunks` chunks. `plain_bytes` is the size of an uncompressed chunk.
    ///
    /// Some writers leave out the lengths, or state 0; like libtiff, take an uncompressed chunk's size from its pixels,
    /// and the end of another from where the next one begins. More entries than chunks are ignored. A table of more than
    /// [`MAX_KEPT_CHUNKS`] must have all lengths.
    ///
    /// # Errors
    /// [`DecodeError`] if chunks are missing in the table.
    pub(super) fn read(
        source: &dyn ByteSource,
        directory: &ImageDirectory,
        chunks: usize,
        compression: u16,
        plain_bytes: impl Fn(usize) -> u64,
    ) -> Result<Self, DecodeError> {
        let (of_offsets, of_counts) = if directory.has(tag::TILE_OFFSETS) {
            (tag::TILE_OFFSETS, tag::TILE_BYTE_COUNTS)
        } else {
            (tag::STRIP_OFFSETS, tag::STRIP_BYTE_COUNTS)
        };
        let (offsets, byte_counts) = (directory.numbers(of_offsets)?, directory.numbers(of_counts)?);
        let is_kept = chunks <= MAX_KEPT_CHUNKS;
        let may_lack_lengths = is_kept && byte_counts.len() == 0;
        if offsets.len() < chunks as u64 || (!may_lack_lengths && byte_counts.len() < chunks as u64) {
            return Err(damaged(format!(
                "{chunks} chunks are needed, but there are {} offsets and {} byte counts",
                offsets.len(),
                byte_counts.len()
            )));
        }
        if !is_kept {
            return Ok(Self::Stored { offsets, byte_counts });
        }
        let (mut offsets, mut byte_counts) =
            (directory.unsigneds(source, of_offsets)?, directory.unsigneds(source, of_counts)?);
        offsets.truncate(chunks);
        byte_counts.truncate(chunks);
        let is_plain = compression == compression::NONE;
        let lacks_lengths = byte_counts.iter().all(|count| *count == 0);
        if lacks_lengths {
            let mut ends: Vec<u64> = offsets.iter().copied().chain([source.len()]).collect();
            ends.sort_unstable();
            let length = |(index, offset): (usize, &u64)| match ends.get(ends.partition_point(|end| end <= offset)) {
                _ if *offset == 0 => 0,
                _ if is_plain => plain_bytes(index),
                // What follows the last chunk is not its.
                Some(end) => (end - offset).min(2 * plain_bytes(index) + 65_536),
                None => 0,
            };
            byte_counts = offsets.iter().enumerate().map(length).collect();
        }
        Ok(Self::Kept { offsets, byte_counts })
    }

    /// Offset and length of a chunk; `None` if it was never written (a sparse file).
    ///
    /// # Errors
    /// [`DecodeError`] if the file cannot be read.
    pub(super) fn range(&self, source: &dyn ByteSource, index: usize) -> Result<Option<(u64, u64)>, DecodeError> {
        let (offset, len) = match self {
            Self::Kept { offsets, byte_counts } => (offsets[index], byte_counts[index]),
            Self::Stored { offsets, byte_counts } => (offsets.get(source, index)?, byte_counts.get(source, index)?),
        };
        Ok((offset != 0 && len != 0).then_some((offset, len)))
    }
}
