//! One resolution of an image as chunks: a codestream's tiles, decoded one by one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};

use super::codestream::Codestream;
use crate::raster::formats::chunks::{Axis, ChunkAt, ChunkedImage, Grid, SampleOrder};
use crate::raster::formats::error::{DecodeError, damaged};
use crate::raster::formats::samples::Samples;
use crate::raster::pixels::Overview;
use crate::storage::ByteSource;

/// Decoded samples held at once while a window is read.
const BATCH_SAMPLES: usize = 1 << 26;

/// A codestream's image, halved so many times.
pub(super) struct Resolution {
    stream: Arc<Codestream>,
    reduction: u8,
    source: Arc<dyn ByteSource>,
    /// Edges of tile columns and rows in the pixels of this resolution.
    columns: Vec<usize>,
    rows: Vec<usize>,
    grid: Grid,
}

impl Resolution {
    pub(super) fn new(stream: Arc<Codestream>, reduction: u8, source: Arc<dyn ByteSource>) -> Self {
        let (columns, rows) = (stream.column_edges(reduction), stream.row_edges(reduction));
        let grid = Grid {
            columns: Axis::Edges(columns.clone()),
            rows: Axis::Edges(rows.clone()),
            layout: SampleOrder::Planes,
            batch: BATCH_SAMPLES / stream.tile_samples().max(1),
        };
        Self { stream, reduction, source, columns, rows, grid }
    }

    /// This resolution as an overview of the image.
    ///
    /// Its pixels are no averages of areas: a low-pass filter of the wavelet lies centred on every 2nd, 4th … row and column of the
    /// reference grid (ISO/IEC 15444-1, annexes B.5 and F.3), so that three halvings shift them by 3.5 pixels of the image.
    pub(super) fn overview(&self) -> Overview {
        let step = f64::from(1u32 << self.reduction);
        let (left, top) = self.stream.origin();
        let shift = |first: u32| {
            // The first row or column of the reference grid that is kept, counted from the image's own first one.
            let kept = u64::from(first).next_multiple_of(1 << self.reduction) - u64::from(first);
            0.5 - (kept as f64 + 0.5) / step
        };
        Overview {
            width: self.grid.columns.len(),
            height: self.grid.rows.len(),
            factor: (1.0 / step, 1.0 / step),
            shift: (shift(left), shift(top)),
        }
    }

    /// Decodes one tile, given as a codestream and its size at full resolution, to `pixels` samples of each band.
    fn decode_tile(&self, codestream: &[u8], size: (u32, u32), pixels: usize) -> Result<Samples, DecodeError> {
        let failed = |error: hayro_jpeg2000::DecodeError| damaged(error.to_string());
        let target_resolution = (self.reduction > 0).then_some((size.0 >> self.reduction, size.1 >> self.reduction));
        let settings = DecodeSettings { target_resolution, ..DecodeSettings::default() };
        let image = Image::new(codestream, &settings).map_err(failed)?;
        let mut context = DecoderContext::default();
        let decoded = image.decode(&mut context).map_err(failed)?;
        let bands = decoded.components();
        if bands.len() != self.stream.components || bands.iter().any(|band| band.samples().len() != pixels) {
            return Err(damaged("a tile has another size than it should"));
        }
        // The decoder makes signed samples unsigned.
        let half = if self.stream.signed { (1u32 << (self.stream.bits - 1)) as f32 } else { 0.0 };
        let most = ((1u32 << self.stream.bits) - 1) as f32;
        let values = bands.iter().flat_map(|band| band.samples()).map(|value| value.round().clamp(0.0, most) - half);
        Ok(match (self.stream.signed, self.stream.bits) {
            (false, ..=8) => Samples::U8(values.map(|value| value as u8).collect()),
            (false, _) => Samples::U16(values.map(|value| value as u16).collect()),
            (true, _) => Samples::I16(values.map(|value| value as i16).collect()),
        })
    }
}

impl ChunkedImage for Resolution {
    fn grid(&self) -> &Grid {
        &self.grid
    }

    fn number(&self, chunk: ChunkAt) -> (u32, u64) {
        (self.reduction.into(), (chunk.row * (self.columns.len() - 1) + chunk.column) as u64)
    }

    fn decode_bytes(&self, _chunk: ChunkAt) -> usize {
        // Coefficients and samples as f32, a copy of a component for the transform, and the samples as integers.
        self.stream.tile_samples() * 16
    }

    fn decode(&self, chunk: ChunkAt, _stored: Option<&Bytes>) -> Result<Samples, DecodeError> {
        let ChunkAt { column, row, .. } = chunk;
        let (codestream, size) = self.stream.tile(&*self.source, column, row)?;
        let pixels = (self.columns[column + 1] - self.columns[column]) * (self.rows[row + 1] - self.rows[row]);
        // Damaged streams can break an assertion of the decoder, which must cost this tile and nothing else.
        catch_unwind(AssertUnwindSafe(|| self.decode_tile(&codestream, size, pixels)))
            .unwrap_or_else(|_| Err(damaged(format!("tile {column}, {row} is damaged"))))
    }
}
