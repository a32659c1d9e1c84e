//! One image of a file as chunks: where its bytes are read, and in which order samples lie.

use std::sync::Arc;

use bytes::Bytes;

use super::chunk;
use super::image::Image;
use crate::raster::formats::chunks::{Axis, ChunkAt, ChunkedImage, Grid, SampleOrder};
use crate::raster::formats::error::DecodeError;
use crate::raster::formats::samples::Samples;
use crate::storage::ByteSource;

/// Decoded bytes held at once while a window is read.
const BATCH_BYTES: usize = 64 << 20;

/// An image and the file that holds it.
pub(super) struct StoredImage {
    image: Image,
    /// Tells the images of a file apart.
    number: u32,
    source: Arc<dyn ByteSource>,
    grid: Grid,
}

impl StoredImage {
    pub(super) fn new(image: Image, number: u32, source: Arc<dyn ByteSource>) -> Self {
        let grid = Grid {
            columns: Axis::Even { size: image.chunk_width, before: 0, len: image.width },
            rows: Axis::Even { size: image.chunk_height, before: 0, len: image.height },
            layout: if image.planar { SampleOrder::OneBand } else { SampleOrder::Interleaved(image.bands) },
            batch: BATCH_BYTES / image.chunk_bytes().max(1),
        };
        Self { image, number, source, grid }
    }

    fn index(&self, chunk: ChunkAt) -> usize {
        self.image.chunk_index(chunk.column, chunk.row, chunk.band)
    }
}

impl ChunkedImage for StoredImage {
    fn grid(&self) -> &Grid {
        &self.grid
    }

    fn number(&self, chunk: ChunkAt) -> (u32, u64) {
        (self.number, self.index(chunk) as u64)
    }

    fn read_together(&self, chunks: &[ChunkAt]) -> Result<Vec<Bytes>, DecodeError> {
        let ranges = chunks.iter().map(|chunk| self.image.chunk_range(&*self.source, self.index(*chunk)));
        let ranges = ranges.map(|range| Ok(range?.unwrap_or_default())).collect::<Result<Vec<_>, DecodeError>>()?;
        Ok(self.source.get_ranges(&ranges)?)
    }

    fn decode_bytes(&self, chunk: ChunkAt) -> usize {
        match self.image.chunk_range(&*self.source, self.index(chunk)) {
            // The compressed bytes as they lie in the file, and as the codec takes them.
            Ok(Some((_, len))) => self.image.decode_bytes() + 2 * len,
            // Nothing is decoded, or nothing but an error comes of it.
            _ => 0,
        }
    }

    fn decode(&self, chunk: ChunkAt, stored: Option<&Bytes>) -> Result<Samples, DecodeError> {
        let index = self.index(chunk);
        // A sparse file leaves out chunks without data.
        let Some((offset, len)) = self.image.chunk_range(&*self.source, index)? else { return Ok(Samples::U8(Vec::new())) };
        match stored {
            Some(bytes) => chunk::decode(&self.image, index, bytes),
            None => chunk::decode(&self.image, index, &self.source.read_at(offset, len)?),
        }
    }
}
