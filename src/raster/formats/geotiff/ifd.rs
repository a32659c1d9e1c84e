//! Image file directories of TIFF 6.0 and BigTIFF: tags and their values, uninterpreted.
//!
//! Values are read on demand. Every count is checked before anything is allocated, and the chain of directories is checked for
//! loops and length.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use crate::raster::formats::error::{DecodeError, damaged};
use crate::storage::ByteSource;

/// What errors call the format.
pub(super) const FORMAT: &str = "GeoTIFF";

/// Tags this reader looks at.
pub(super) mod tag {
    pub(crate) const SUBFILE_TYPE: u16 = 254;
    pub(crate) const WIDTH: u16 = 256;
    pub(crate) const LENGTH: u16 = 257;
    pub(crate) const BITS_PER_SAMPLE: u16 = 258;
    pub(crate) const COMPRESSION: u16 = 259;
    pub(crate) const PHOTOMETRIC: u16 = 262;
    pub(crate) const FILL_ORDER: u16 = 266;
    pub(crate) const STRIP_OFFSETS: u16 = 273;
    pub(crate) const SAMPLES_PER_PIXEL: u16 = 277;
    pub(crate) const ROWS_PER_STRIP: u16 = 278;
    pub(crate) const STRIP_BYTE_COUNTS: u16 = 279;
    pub(crate) const PLANAR_CONFIGURATION: u16 = 284;
    pub(crate) const DATE_TIME: u16 = 306;
    pub(crate) const PREDICTOR: u16 = 317;
    pub(crate) const COLOR_MAP: u16 = 320;
    pub(crate) const TILE_WIDTH: u16 = 322;
    pub(crate) const TILE_LENGTH: u16 = 323;
    pub(crate) const TILE_OFFSETS: u16 = 324;
    pub(crate) const TILE_BYTE_COUNTS: u16 = 325;
    pub(crate) const INK_SET: u16 = 332;
    pub(crate) const EXTRA_SAMPLES: u16 = 338;
    pub(crate) const SAMPLE_FORMAT: u16 = 339;
    pub(crate) const JPEG_TABLES: u16 = 347;
    pub(crate) const YCBCR_SUBSAMPLING: u16 = 530;
    pub(crate) const MODEL_PIXEL_SCALE: u16 = 33550;
    pub(crate) const MODEL_TIEPOINT: u16 = 33922;
    pub(crate) const MODEL_TRANSFORMATION: u16 = 34264;
    pub(crate) const GEO_KEY_DIRECTORY: u16 = 34735;
    pub(crate) const GEO_DOUBLE_PARAMS: u16 = 34736;
    pub(crate) const GEO_ASCII_PARAMS: u16 = 34737;
    pub(crate) const GDAL_METADATA: u16 = 42112;
    pub(crate) const GDAL_NODATA: u16 = 42113;
}

/// Directories accepted in one file; an image with overviews and masks has about thirty.
const MAX_DIRECTORIES: usize = 256;

/// Entries accepted in one directory; TIFF defines a few hundred tags.
const MAX_ENTRIES: u64 = 4096;

/// Bytes accepted in one tag's value that is read at once. Offsets of chunks, of which there may be more, are read one by one.
const MAX_VALUE_BYTES: u64 = 4 << 20;

/// The header of a TIFF file: how its numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TiffHeader {
    big_endian: bool,
    big_tiff: bool,
}

impl TiffHeader {
    /// The unsigned number in `bytes`, at most eight.
    fn unsigned(self, bytes: &[u8]) -> u64 {
        let digit = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        if self.big_endian { bytes.iter().fold(0, digit) } else { bytes.iter().rev().fold(0, digit) }
    }

    /// Size of an offset in bytes.
    fn word(self) -> usize {
        if self.big_tiff { 8 } else { 4 }
    }
}

/// One directory: the tags of one image.
#[derive(Debug)]
pub(super) struct ImageDirectory {
    header: TiffHeader,
    entries: BTreeMap<u16, IfdEntry>,
}

/// The unsigned numbers of a tag where they lie: a file may have millions of chunks in each of its directories.
#[derive(Debug)]
pub(super) struct TagNumbers {
    header: TiffHeader,
    /// Bytes of one number.
    size: usize,
    count: u64,
    /// The numbers themselves if they fit, else their offset.
    word: Bytes,
}

impl TagNumbers {
    /// How many there are.
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    /// The number at `index`, which must be less than [`TagNumbers::len`].
    ///
    /// # Errors
    /// [`DecodeError`] if it cannot be read.
    pub(super) fn get(&self, source: &dyn ByteSource, index: usize) -> Result<u64, DecodeError> {
        let start = index * self.size;
        if self.count.saturating_mul(self.size as u64) <= self.word.len() as u64 {
            return Ok(self.header.unsigned(&self.word[start..start + self.size]));
        }
        let offset = self.header.unsigned(&self.word).checked_add(start as u64);
        let offset = offset.ok_or_else(|| damaged("an offset lies beyond any file"))?;
        Ok(self.header.unsigned(&source.read_at(offset, self.size)?))
    }
}

#[derive(Debug)]
struct IfdEntry {
    field_type: u16,
    count: u64,
    /// The value itself if it fits, else its offset.
    word: Bytes,
}

impl IfdEntry {
    /// Size in bytes of one value of the entry's type; `None` if TIFF does not define the type.
    fn value_bytes(&self) -> Option<usize> {
        match self.field_type {
            1 | 2 | 6 | 7 => Some(1),
            3 | 8 => Some(2),
            4 | 9 | 11 | 13 => Some(4),
            5 | 10 | 12 | 16..=18 => Some(8),
            _ => None,
        }
    }
}

/// All directories of a file in order, and true if its numbers are big-endian.
pub(super) fn read_directories(source: &dyn ByteSource) -> Result<(bool, Vec<ImageDirectory>), DecodeError> {
    let start = source.read_at(0, 8)?;
    let big_endian = match &start[..2] {
        b"II" => false,
        b"MM" => true,
        _ => return Err(damaged("it does not start with a TIFF header")),
    };
    let plain = TiffHeader { big_endian, big_tiff: false };
    let (header, mut offset) = match plain.unsigned(&start[2..4]) {
        42 => (plain, plain.unsigned(&start[4..8])),
        43 if plain.unsigned(&start[4..6]) == 8 => {
            (TiffHeader { big_tiff: true, ..plain }, plain.unsigned(&source.read_at(8, 8)?))
        }
        version => return Err(damaged(format!("TIFF version {version} is not 42 or 43"))),
    };
    let (mut directories, mut seen) = (Vec::new(), HashSet::new());
    while offset != 0 {
        if !seen.insert(offset) {
            return Err(damaged(format!("its directories form a loop at offset {offset}")));
        }
        if directories.len() == MAX_DIRECTORIES {
            return Err(damaged(format!("it has more than {MAX_DIRECTORIES} directories")));
        }
        let (directory, next) = read_directory(source, header, offset)?;
        directories.push(directory);
        offset = next;
    }
    if directories.is_empty() {
        return Err(damaged("it has no directory"));
    }
    Ok((big_endian, directories))
}

/// The directory at `offset`, and the offset of the next one (0 after the last).
fn read_directory(source: &dyn ByteSource, header: TiffHeader, offset: u64) -> Result<(ImageDirectory, u64), DecodeError> {
    let word = header.word();
    let (count_bytes, entry_bytes) = if header.big_tiff { (8, 20) } else { (2, 12) };
    let count = header.unsigned(&source.read_at(offset, count_bytes)?);
    if count == 0 || count > MAX_ENTRIES {
        return Err(damaged(format!("a directory has {count} entries; 1 to {MAX_ENTRIES} are accepted")));
    }
    let table_bytes = count as usize * entry_bytes;
    let table = source.read_at(offset + count_bytes as u64, table_bytes + word)?;
    let entries = (0..count as usize)
        .map(|index| {
            let entry = table.slice(index * entry_bytes..(index + 1) * entry_bytes);
            let value = IfdEntry {
                field_type: header.unsigned(&entry[2..4]) as u16,
                count: header.unsigned(&entry[4..4 + word]),
                word: entry.slice(4 + word..),
            };
            (header.unsigned(&entry[..2]) as u16, value)
        })
        .collect();
    Ok((ImageDirectory { header, entries }, header.unsigned(&table[table_bytes..])))
}

impl ImageDirectory {
    /// True if the directory has the tag.
    pub(super) fn has(&self, tag: u16) -> bool {
        self.entries.contains_key(&tag)
    }

    /// Type, size of one number, and raw bytes of a value; `None` without the tag.
    fn raw(&self, source: &dyn ByteSource, tag: u16) -> Result<Option<(u16, usize, Bytes)>, DecodeError> {
        let Some(entry) = self.entries.get(&tag) else { return Ok(None) };
        let Some(size) = entry.value_bytes() else {
            return Err(damaged(format!("tag {tag} has the unknown type {}", entry.field_type)));
        };
        let len = entry.count.checked_mul(size as u64).filter(|len| *len <= MAX_VALUE_BYTES).ok_or_else(|| {
            damaged(format!("tag {tag} claims {} values; {MAX_VALUE_BYTES} bytes are accepted", entry.count))
        })? as usize;
        let bytes = if len <= entry.word.len() {
            entry.word.slice(..len)
        } else {
            source.read_at(self.header.unsigned(&entry.word), len)?
        };
        Ok(Some((entry.field_type, size, bytes)))
    }

    /// The bytes of a tag; empty if it is absent.
    pub(super) fn bytes(&self, source: &dyn ByteSource, tag: u16) -> Result<Bytes, DecodeError> {
        Ok(self.raw(source, tag)?.map(|(_, _, bytes)| bytes).unwrap_or_default())
    }

    /// The text of a tag up to its first NUL; empty if it is absent.
    pub(super) fn text(&self, source: &dyn ByteSource, tag: u16) -> Result<String, DecodeError> {
        let bytes = self.bytes(source, tag)?;
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// The unsigned numbers of a tag; empty if it is absent.
    pub(super) fn unsigneds(&self, source: &dyn ByteSource, tag: u16) -> Result<Vec<u64>, DecodeError> {
        match self.raw(source, tag)? {
            None => Ok(Vec::new()),
            Some((1 | 3 | 4 | 13 | 16 | 18, size, bytes)) => {
                Ok(bytes.chunks_exact(size).map(|number| self.header.unsigned(number)).collect())
            }
            Some((field_type, ..)) => Err(damaged(format!("tag {tag} has type {field_type}, not an unsigned integer"))),
        }
    }

    /// The unsigned numbers of a tag, to be read one by one; none if it is absent.
    pub(super) fn numbers(&self, tag: u16) -> Result<TagNumbers, DecodeError> {
        let Some(entry) = self.entries.get(&tag) else {
            return Ok(TagNumbers { header: self.header, size: 1, count: 0, word: Bytes::new() });
        };
        match (entry.field_type, entry.value_bytes()) {
            (1 | 3 | 4 | 13 | 16 | 18, Some(size)) => {
                Ok(TagNumbers { header: self.header, size, count: entry.count, word: entry.word.clone() })
            }
            (field_type, _) => Err(damaged(format!("tag {tag} has type {field_type}, not an unsigned integer"))),
        }
    }

    /// The first unsigned number of a tag; `default` if it is absent.
    pub(super) fn unsigned_or(&self, source: &dyn ByteSource, tag: u16, default: u64) -> Result<u64, DecodeError> {
        Ok(self.unsigneds(source, tag)?.first().copied().unwrap_or(default))
    }

    /// The floating-point numbers of a tag; empty if it is absent.
    pub(super) fn floats(&self, source: &dyn ByteSource, tag: u16) -> Result<Vec<f64>, DecodeError> {
        match self.raw(source, tag)? {
            None => Ok(Vec::new()),
            Some((12, size, bytes)) => {
                Ok(bytes.chunks_exact(size).map(|number| f64::from_bits(self.header.unsigned(number))).collect())
            }
            Some((11, size, bytes)) => Ok(bytes
                .chunks_exact(size)
                .map(|number| f64::from(f32::from_bits(self.header.unsigned(number) as u32)))
                .collect()),
            Some((field_type, ..)) => Err(damaged(format!("tag {tag} has type {field_type}, not a float"))),
        }
    }
}
