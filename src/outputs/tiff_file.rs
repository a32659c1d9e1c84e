//! Writes tiled, deflate-compressed TIFF files (TIFF 6.0, little-endian, each band in tiles of its own) in the order of a
//! cloud-optimised GeoTIFF: header, all directories with their values, then tiles from the smallest overview to the image.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use rayon::prelude::*;

/// Side of a tile in pixels.
pub(super) const TILE_PX: usize = 256;

/// The sides of tiles are multiples of this (TIFF 6.0, section 15).
const TILE_STEP_PX: usize = 16;

const HEADER_BYTES: usize = 8;
const ENTRY_BYTES: usize = 12;

const NEW_SUBFILE_TYPE: u16 = 254;
const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
const BITS_PER_SAMPLE: u16 = 258;
const COMPRESSION: u16 = 259;
const SAMPLES_PER_PIXEL: u16 = 277;
const PLANAR_CONFIGURATION: u16 = 284;
const TILE_WIDTH: u16 = 322;
const TILE_LENGTH: u16 = 323;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTE_COUNTS: u16 = 325;
const EXTRA_SAMPLES: u16 = 338;

const DEFLATE: u16 = 8;
const REDUCED_RESOLUTION: u32 = 1;
const BANDS_APART: u16 = 2;
const OF_NO_STATED_MEANING: u16 = 0;

/// Tags that overviews repeat, because they say how samples are read. All others describe the file as a whole.
const PER_LEVEL: [u16; 4] = [262, 320, 339, 42113];

/// One entry of a TIFF directory.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TiffTag {
    id: u16,
    /// TIFF's number for the type: 2 ASCII, 3 SHORT, 4 LONG, 12 DOUBLE.
    kind: u16,
    count: usize,
    bytes: Vec<u8>,
}

impl TiffTag {
    pub(super) fn short(id: u16, value: u16) -> Self {
        Self::shorts(id, [value])
    }

    pub(super) fn shorts(id: u16, values: impl IntoIterator<Item = u16>) -> Self {
        let bytes: Vec<u8> = values.into_iter().flat_map(u16::to_le_bytes).collect();
        Self { id, kind: 3, count: bytes.len() / 2, bytes }
    }

    pub(super) fn doubles(id: u16, values: &[f64]) -> Self {
        Self { id, kind: 12, count: values.len(), bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect() }
    }

    /// A text; the terminating zero byte is added here.
    pub(super) fn ascii(id: u16, text: &str) -> Self {
        let bytes = [text.as_bytes(), &[0]].concat();
        Self { id, kind: 2, count: bytes.len(), bytes }
    }

    fn longs(id: u16, values: impl IntoIterator<Item = u32>) -> Self {
        let bytes: Vec<u8> = values.into_iter().flat_map(u32::to_le_bytes).collect();
        Self { id, kind: 4, count: bytes.len() / 4, bytes }
    }

    /// Bytes that the value takes outside the entry, rounded up to an even number; 0 if it fits inside.
    fn outside_bytes(&self) -> usize {
        if self.bytes.len() > 4 { self.bytes.len().next_multiple_of(2) } else { 0 }
    }
}

/// One resolution of the image, as compressed tiles.
pub(super) struct TiffImage {
    width: usize,
    height: usize,
    tile_px: usize,
    bits: usize,
    bands: usize,
    /// Band by band, row by row, from the top left.
    tiles: Vec<Vec<u8>>,
}

impl TiffImage {
    /// One band: cuts `[height, width]` samples into tiles of `tile_px`, padded with `fill`, and compresses them on all cores.
    pub(super) fn new<T: Copy + Sync, const BYTES: usize>(
        samples: &[T],
        (width, height): (usize, usize),
        tile_px: usize,
        fill: T,
        to_bytes: impl Fn(T) -> [u8; BYTES] + Sync,
    ) -> Self {
        let (columns, rows) = (width.div_ceil(tile_px), height.div_ceil(tile_px));
        let tile = |index: usize| {
            let (left, top) = (index % columns * tile_px, index / columns * tile_px);
            let mut raw = Vec::with_capacity(tile_px * tile_px * BYTES);
            for y in top..top + tile_px {
                let row = if y < height { &samples[y * width + left..y * width + width.min(left + tile_px)] } else { &[] };
                let padding = tile_px - row.len();
                raw.extend(row.iter().copied().chain(std::iter::repeat_n(fill, padding)).flat_map(&to_bytes));
            }
            deflate(&raw)
        };
        let tiles = (0..columns * rows).into_par_iter().map(tile).collect();
        Self { width, height, tile_px, bits: BYTES * 8, bands: 1, tiles }
    }

    /// The bands of `images`, which have one size and type, in one image; empty without any.
    pub(super) fn stacked(images: impl Iterator<Item = Self>) -> Self {
        let none = Self { width: 0, height: 0, tile_px: TILE_PX, bits: 0, bands: 0, tiles: Vec::new() };
        images.fold(none, |mut stack, image| {
            stack.tiles.extend(image.tiles);
            Self { bands: stack.bands + image.bands, tiles: stack.tiles, ..image }
        })
    }

    /// The directory of this image, whose tiles begin at `offset`, sorted by tag number.
    fn directory(&self, tags: &[TiffTag], reduced: bool, offset: usize) -> Vec<TiffTag> {
        let mut at = offset;
        let offsets = self.tiles.iter().map(|tile| {
            at += tile.len();
            (at - tile.len()) as u32
        });
        let mut directory = vec![
            TiffTag::longs(NEW_SUBFILE_TYPE, [if reduced { REDUCED_RESOLUTION } else { 0 }]),
            TiffTag::longs(IMAGE_WIDTH, [self.width as u32]),
            TiffTag::longs(IMAGE_LENGTH, [self.height as u32]),
            TiffTag::shorts(BITS_PER_SAMPLE, std::iter::repeat_n(self.bits as u16, self.bands)),
            TiffTag::short(COMPRESSION, DEFLATE),
            TiffTag::short(SAMPLES_PER_PIXEL, self.bands as u16),
            TiffTag::short(TILE_WIDTH, self.tile_px as u16),
            TiffTag::short(TILE_LENGTH, self.tile_px as u16),
            TiffTag::longs(TILE_OFFSETS, offsets),
            TiffTag::longs(TILE_BYTE_COUNTS, self.tiles.iter().map(|tile| tile.len() as u32)),
        ];
        if self.bands > 1 {
            directory.push(TiffTag::short(PLANAR_CONFIGURATION, BANDS_APART));
            directory.push(TiffTag::shorts(EXTRA_SAMPLES, std::iter::repeat_n(OF_NO_STATED_MEANING, self.bands - 1)));
        }
        directory.extend(tags.iter().filter(|tag| !reduced || PER_LEVEL.contains(&tag.id)).cloned());
        directory.sort_by_key(|tag| tag.id);
        directory
    }

    fn bytes(&self) -> usize {
        self.tiles.iter().map(Vec::len).sum()
    }
}

/// Side of the smallest tile that holds an image, at most [`TILE_PX`].
pub(super) fn least_tile_px(width: usize, height: usize) -> usize {
    width.max(height).next_multiple_of(TILE_STEP_PX).clamp(TILE_STEP_PX, TILE_PX)
}

/// The file of an image (first in `images`) and its overviews, with further `tags`; `None` if it would exceed 32-bit
/// offsets.
pub(super) fn write_tiles(images: &[TiffImage], tags: &[TiffTag]) -> Option<Vec<u8>> {
    let directory_bytes = |directory: &[TiffTag]| {
        let outside: usize = directory.iter().map(TiffTag::outside_bytes).sum();
        2 + directory.len() * ENTRY_BYTES + 4 + outside
    };
    // The size of a directory does not depend on the offsets in it, so the total is known before them.
    let size = |(index, image): (usize, &TiffImage)| directory_bytes(&image.directory(tags, index > 0, 0));
    let header_and_directories: usize = HEADER_BYTES + images.iter().enumerate().map(size).sum::<usize>();
    let total = header_and_directories + images.iter().map(TiffImage::bytes).sum::<usize>();
    u32::try_from(total).ok()?;

    let mut file = Vec::with_capacity(total);
    file.extend(b"II\x2a\0");
    file.extend((HEADER_BYTES as u32).to_le_bytes());
    for (index, image) in images.iter().enumerate() {
        let smaller: usize = images[index + 1..].iter().map(TiffImage::bytes).sum();
        let directory = image.directory(tags, index > 0, header_and_directories + smaller);
        let end = file.len() + directory_bytes(&directory);
        let next = if index + 1 < images.len() { end as u32 } else { 0 };
        write_directory(&mut file, &directory, next);
    }
    for tile in images.iter().rev().flat_map(|image| &image.tiles) {
        file.extend(tile);
    }
    Some(file)
}

fn write_directory(file: &mut Vec<u8>, directory: &[TiffTag], next: u32) {
    let mut outside = file.len() + 2 + directory.len() * ENTRY_BYTES + 4;
    file.extend((directory.len() as u16).to_le_bytes());
    for tag in directory {
        file.extend(tag.id.to_le_bytes());
        file.extend(tag.kind.to_le_bytes());
        file.extend((tag.count as u32).to_le_bytes());
        if tag.outside_bytes() > 0 {
            file.extend((outside as u32).to_le_bytes());
            outside += tag.outside_bytes();
        } else {
            let mut inline = [0; 4];
            inline[..tag.bytes.len()].copy_from_slice(&tag.bytes);
            file.extend(inline);
        }
    }
    file.extend(next.to_le_bytes());
    for tag in directory.iter().filter(|tag| tag.outside_bytes() > 0) {
        file.extend(&tag.bytes);
        file.extend(std::iter::repeat_n(0, tag.outside_bytes() - tag.bytes.len()));
    }
}

fn deflate(raw: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(raw).and_then(|()| encoder.finish()).expect("a Vec takes every write")
}
