//! A JPEG 2000 codestream (ISO/IEC 15444-1, annex A): its main header and where its tiles lie.
//!
//! The decoder takes whole codestreams, but only the tiles that a window touches are wanted, by several threads at once. So each
//! tile is passed to it as a codestream of its own: the main header with this tile only, at its position on the reference grid
//! (subbands and precincts are aligned to that), then the tile's parts.

use bytes::Bytes;

use crate::raster::formats::error::{DecodeError, damaged, unsupported};
use crate::raster::pixels::SampleType;
use crate::storage::ByteSource;

/// Marker codes.
mod marker {
    pub(super) const SOC: u16 = 0xff4f;
    pub(super) const SIZ: u16 = 0xff51;
    pub(super) const COD: u16 = 0xff52;
    pub(super) const COC: u16 = 0xff53;
    pub(super) const TLM: u16 = 0xff55;
    pub(super) const PPM: u16 = 0xff60;
    pub(super) const COM: u16 = 0xff64;
    pub(super) const SOT: u16 = 0xff90;
    pub(super) const SOD: u16 = 0xff93;
    pub(super) const EOC: u16 = 0xffd9;
}

/// Bytes of an SOT segment with its marker.
const SOT_BYTES: usize = 12;
/// Columns or rows accepted.
const MAX_SIDE: u32 = 1 << 24;
/// Bands accepted.
const MAX_BANDS: usize = 256;
/// Samples accepted in one tile, which is decoded as a whole (a file may be a single tile).
const MAX_TILE_SAMPLES: u64 = 1 << 26;
/// Decoders keep a record per code block and precinct. Accepted are one record per so many pixels of a tile, and so many in any
/// tile. A code block usually has 4096 pixels.
const PIXELS_PER_RECORD: u64 = 64;
const RECORDS_IN_ANY_TILE: u64 = 4096;
/// Main header segments accepted, and tile parts.
const MAX_SEGMENTS: usize = 4096;
const MAX_TILE_PARTS: usize = 1 << 20;

/// A rectangle on the reference grid; the right and lower edges are exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rectangle {
    left: u32,
    top: u32,
    right: u32,
    bottom: u32,
}

/// A codestream, indexed.
#[derive(Debug)]
pub(super) struct Codestream {
    /// The image area.
    area: Rectangle,
    /// Tile columns and rows: their edges on the reference grid, clipped to the image.
    columns: Vec<u32>,
    rows: Vec<u32>,
    /// Bands.
    pub(super) components: usize,
    /// Bits per sample.
    pub(super) bits: u8,
    pub(super) signed: bool,
    /// How often the resolution can be halved.
    pub(super) reductions: u8,
    /// The SIZ segment, and the segments of the main header that decoding needs, without the size.
    size: Bytes,
    segments: Vec<Bytes>,
    /// Offset and length of the parts of each tile.
    parts: Vec<Vec<(u64, u64)>>,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Codestream {
    /// Reads the main header and finds the parts of every tile between `start` and `start + len`.
    ///
    /// # Errors
    /// [`DecodeError`] if the stream contradicts itself, ends early, or uses something that is not supported.
    pub(super) fn read(source: &dyn ByteSource, start: u64, len: u64) -> Result<Self, DecodeError> {
        let end = start.saturating_add(len);
        if u16_at(&source.read_at(start, 2)?, 0) != marker::SOC {
            return Err(damaged("its codestream does not start with SOC"));
        }
        let (segments, tiles_at) = main_header(source, start + 2)?;
        let size = segments.first().filter(|(code, _)| *code == marker::SIZ).map(|(_, bytes)| bytes.clone());
        let size = size.ok_or_else(|| damaged("its first segment is not SIZ"))?;
        let mut stream = Self::sized(size)?;
        for (code, segment) in segments.into_iter().skip(1) {
            match code {
                marker::COD => stream.check_coding_style(segment.get(9..))?,
                // One byte names the component, because there are no more than MAX_BANDS.
                marker::COC => stream.check_coding_style(segment.get(6..))?,
                marker::PPM => return Err(unsupported("packed packet headers (PPM)")),
                // The lengths of all tile parts do not apply to a stream of one tile; comments are not needed.
                marker::TLM | marker::COM => continue,
                _ => {}
            }
            stream.segments.push(segment);
        }
        if stream.reductions == u8::MAX {
            return Err(damaged("it has no coding style (COD)"));
        }
        stream.find_parts(source, tiles_at, end)?;
        Ok(stream)
    }

    /// Reads the SIZ segment.
    fn sized(size: Bytes) -> Result<Self, DecodeError> {
        if size.len() < 40 || size.len() != 40 + 3 * usize::from(u16_at(&size, 38)) {
            return Err(damaged("its SIZ segment has another length than its number of components asks for"));
        }
        let [right, bottom, left, top, tile_width, tile_height, tile_left, tile_top] =
            [6, 10, 14, 18, 22, 26, 30, 34].map(|at| u32_at(&size, at));
        let in_first = |first: u32, offset: u32, side: u32| first <= offset && offset - first < side;
        if left >= right
            || top >= bottom
            || right - left > MAX_SIDE
            || bottom - top > MAX_SIDE
            || !in_first(tile_left, left, tile_width)
            || !in_first(tile_top, top, tile_height)
        {
            return Err(damaged(format!(
                "its size is {left} … {right} by {top} … {bottom} with tiles of {tile_width} x {tile_height} from {tile_left}, \
                 {tile_top}; 1 to {MAX_SIDE} columns and rows and a first tile that holds their start are accepted"
            )));
        }
        let components = usize::from(u16_at(&size, 38));
        let kinds: Vec<[u8; 3]> = size[40..].chunks_exact(3).map(|kind| [kind[0], kind[1], kind[2]]).collect();
        let Some([depth, ..]) = kinds.first().copied().filter(|_| components <= MAX_BANDS) else {
            return Err(damaged(format!("it has {components} components; 1 to {MAX_BANDS} are accepted")));
        };
        if kinds.iter().any(|kind| *kind != [depth, 1, 1]) {
            return Err(unsupported("components of different sample types or resolutions"));
        }
        let (bits, signed) = ((depth & 0x7f) + 1, depth & 0x80 != 0);
        if bits > 16 {
            return Err(unsupported(format!("{bits} bits per sample")));
        }
        let edges = |first: u32, side: u32, from: u32, to: u32| -> Vec<u32> {
            let next =
                (1..).map(|tile: u64| u64::from(first) + tile * u64::from(side)).take_while(|edge| *edge < to.into());
            std::iter::once(from).chain(next.map(|edge| edge as u32)).chain([to]).collect()
        };
        let tiles = |extent: u32, side: u32| u64::from(extent.div_ceil(side)) + 1;
        // Sixteen bits number the tiles.
        if tiles(right - left, tile_width) * tiles(bottom - top, tile_height) > 1 << 17 {
            return Err(damaged(format!("its tiles have {tile_width} x {tile_height} pixels, too little for its size")));
        }
        let (columns, rows) = (edges(tile_left, tile_width, left, right), edges(tile_top, tile_height, top, bottom));
        let samples =
            u64::from(tile_width.min(right - left)) * u64::from(tile_height.min(bottom - top)) * components as u64;
        if samples > MAX_TILE_SAMPLES {
            return Err(unsupported(format!("one tile of {samples} samples ({MAX_TILE_SAMPLES} are decoded)")));
        }
        Ok(Self {
            area: Rectangle { left, top, right, bottom },
            parts: vec![Vec::new(); (columns.len() - 1) * (rows.len() - 1)],
            columns,
            rows,
            components,
            bits,
            signed,
            reductions: u8::MAX,
            size,
            segments: Vec::new(),
        })
    }

    /// Bounds the decoder's memory for one tile, and limits `reductions` to the decomposition levels. `parameters` start at the
    /// number of decomposition levels; precinct sizes follow if the stream defines any.
    fn check_coding_style(&mut self, parameters: Option<&[u8]>) -> Result<(), DecodeError> {
        let Some([levels, block_width, block_height, _style, _transform, precincts @ ..]) = parameters else {
            return Err(damaged("its coding style ends early"));
        };
        if *levels > 32 || *block_width > 8 || *block_height > 8 {
            return Err(damaged("its coding style is out of range"));
        }
        let (width, height) = (widest(&self.columns), widest(&self.rows));
        let mut records = 0;
        for resolution in 0..=*levels {
            let shift = u32::from(levels - resolution).min(31);
            let precinct = precincts.get(usize::from(resolution)).copied().unwrap_or(0xff);
            // Precincts of higher resolutions are halved in their subbands.
            let halved = u32::from(resolution > 0);
            let cell = |exponent: u8, block: u8| {
                let precinct = 1u64 << u32::from(exponent).saturating_sub(halved);
                precinct.min(1 << (block + 2))
            };
            let (across, down) = (cell(precinct & 15, *block_width), cell(precinct >> 4, *block_height));
            records += ((width >> shift).div_ceil(across) + 1) * ((height >> shift).div_ceil(down) + 1);
        }
        let limit = width * height / PIXELS_PER_RECORD + RECORDS_IN_ANY_TILE;
        if records > limit {
            return Err(unsupported(format!(
                "code blocks and precincts so small that a tile has {records} ({limit} at most)"
            )));
        }
        // Every tile must keep at least one pixel, because the decoder is given the reduced size.
        let narrowest = [&self.columns, &self.rows].into_iter().flat_map(|edges| edges.windows(2));
        let narrowest = narrowest.map(|pair| pair[1] - pair[0]).min().unwrap_or(1);
        self.reductions = self.reductions.min(*levels).min(narrowest.ilog2() as u8);
        Ok(())
    }

    /// Indexes the tile parts between `at` and `end`.
    fn find_parts(&mut self, source: &dyn ByteSource, mut at: u64, end: u64) -> Result<(), DecodeError> {
        for _ in 0..MAX_TILE_PARTS {
            if end.saturating_sub(at) < SOT_BYTES as u64 {
                break;
            }
            let start = source.read_at(at, SOT_BYTES)?;
            if u16_at(&start, 0) != marker::SOT {
                break;
            }
            let (tile, claimed) = (usize::from(u16_at(&start, 4)), u64::from(u32_at(&start, 6)));
            let len = if claimed == 0 { end - at } else { claimed };
            if len < SOT_BYTES as u64 || len > end - at {
                let left = end - at;
                return Err(damaged(format!("a part of tile {tile} claims {len} bytes where {left} are left")));
            }
            let count = self.parts.len();
            let parts = self.parts.get_mut(tile);
            parts.ok_or_else(|| damaged(format!("it has a part of tile {tile}, but {count} tiles")))?.push((at, len));
            at += len;
        }
        match self.parts.iter().position(Vec::is_empty) {
            Some(tile) => Err(damaged(format!("its tile {tile} is missing"))),
            None => Ok(()),
        }
    }

    /// The type of its samples.
    pub(super) fn sample_type(&self) -> SampleType {
        match (self.signed, self.bits) {
            (false, ..=8) => SampleType::U8,
            (false, _) => SampleType::U16,
            (true, _) => SampleType::I16,
        }
    }

    /// The edges of tile columns in the pixels of the image at `reduction`, starting at 0.
    pub(super) fn column_edges(&self, reduction: u8) -> Vec<usize> {
        reduced(&self.columns, reduction)
    }

    /// The edges of tile rows.
    pub(super) fn row_edges(&self, reduction: u8) -> Vec<usize> {
        reduced(&self.rows, reduction)
    }

    /// A tile as a codestream of its own, and its size at full resolution.
    ///
    /// # Errors
    /// [`DecodeError`] if it cannot be read, or changes the coding style that was checked in the main header.
    pub(super) fn tile(
        &self,
        source: &dyn ByteSource,
        column: usize,
        row: usize,
    ) -> Result<(Vec<u8>, (u32, u32)), DecodeError> {
        let (left, right) = (self.columns[column], self.columns[column + 1]);
        let (top, bottom) = (self.rows[row], self.rows[row + 1]);
        let mut stream = marker::SOC.to_be_bytes().to_vec();
        let mut size = self.size.to_vec();
        for (at, value) in
            [(6, right), (10, bottom), (14, left), (18, top), (22, right - left), (26, bottom - top), (30, left), (34, top)]
        {
            size[at..at + 4].copy_from_slice(&value.to_be_bytes());
        }
        stream.extend(size);
        self.segments.iter().for_each(|segment| stream.extend_from_slice(segment));
        for (offset, len) in &self.parts[row * (self.columns.len() - 1) + column] {
            let part = source.read_at(*offset, *len as usize)?;
            check_part_header(&part)?;
            let at = stream.len();
            stream.extend_from_slice(&part);
            stream[at + 4..at + 6].copy_from_slice(&[0, 0]);
            stream[at + 6..at + 10].copy_from_slice(&(*len as u32).to_be_bytes());
        }
        stream.extend(marker::EOC.to_be_bytes());
        Ok((stream, (right - left, bottom - top)))
    }

    /// Samples of the largest tile.
    pub(super) fn tile_samples(&self) -> usize {
        (widest(&self.columns) * widest(&self.rows)) as usize * self.components
    }

    /// Column and row of the reference grid at which the image begins.
    pub(super) fn origin(&self) -> (u32, u32) {
        (self.area.left, self.area.top)
    }

    /// Columns and rows of the whole image.
    pub(super) fn size(&self) -> (usize, usize) {
        ((self.area.right - self.area.left) as usize, (self.area.bottom - self.area.top) as usize)
    }
}

/// The largest distance between neighbouring edges.
fn widest(edges: &[u32]) -> u64 {
    edges.windows(2).map(|pair| u64::from(pair[1] - pair[0])).max().unwrap_or(0)
}

/// Edges on the reference grid in the pixels of an image halved `reduction` times (equation B-14).
fn reduced(edges: &[u32], reduction: u8) -> Vec<usize> {
    let halve = |edge: u32| u64::from(edge).div_ceil(1 << reduction) as usize;
    edges.iter().map(|edge| halve(*edge) - halve(edges[0])).collect()
}

/// The segments (marker and bytes) between `at` and the first tile part, and the offset of that part.
fn main_header(source: &dyn ByteSource, mut at: u64) -> Result<(Vec<(u16, Bytes)>, u64), DecodeError> {
    let mut segments = Vec::new();
    loop {
        let start = source.read_at(at, 4)?;
        let (code, len) = (u16_at(&start, 0), usize::from(u16_at(&start, 2)));
        if code == marker::SOT {
            return Ok((segments, at));
        }
        if code < 0xff00 || len < 2 || segments.len() == MAX_SEGMENTS {
            return Err(damaged(format!("its main header has {code:#06x} where a segment must start")));
        }
        segments.push((code, source.read_at(at, len + 2)?));
        at += len as u64 + 2;
    }
}

/// Refuses tile parts that change the coding style, for which the checks of the main header would not hold.
fn check_part_header(part: &[u8]) -> Result<(), DecodeError> {
    let mut at = SOT_BYTES;
    while let Some(start) = part.get(at..at + 4) {
        match u16_at(start, 0) {
            marker::SOD => return Ok(()),
            marker::COD | marker::COC => return Err(unsupported("a coding style of single tiles")),
            _ => at += usize::from(u16_at(start, 2)) + 2,
        }
    }
    Ok(())
}
