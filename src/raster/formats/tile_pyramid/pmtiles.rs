//! PMTiles version 3: map tiles in one file that is read by range, on this machine or another.
//!
//! Tiles are numbered along a Hilbert curve, zoom after zoom, and directories ([`directory`](super::directory)) map numbers to
//! positions, possibly through further directories. The root is read when the archive is opened, others on demand.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::GzDecoder;

use super::MAX_TILE_BYTES;
use super::directory::{Located, TileDirectory};
use super::picture::vector_tiles;
use crate::georef::Bounds;
use crate::raster::error::RasterError;
use crate::raster::formats::cache::ChunkCache;
use crate::raster::formats::error::{DecodeError, damaged, unsupported};
use crate::raster::formats::tile_pyramid::{TileExtent, TilePyramid, TileStore};
use crate::storage::ByteSource;
use crate::tiles::TileCoord;

const FORMAT: &str = "PMTiles";

const MAGIC: &[u8] = b"PMTiles";
const VERSION: u8 = 3;
const HEADER_BYTES: usize = 127;

/// Bytes accepted in a directory, packed and unpacked; usual are tens of kilobytes.
const MAX_DIRECTORY_BYTES: u64 = 4 << 20;
const MAX_UNPACKED_BYTES: u64 = 16 << 20;

/// Directories followed to find a tile; the specification advises against more than two.
const MAX_DEPTH: usize = 4;

/// Memory for directories below the root.
const DIRECTORY_CACHE_BYTES: u64 = 32 << 20;

/// True if the first bytes are those of an archive.
pub(crate) fn is_pmtiles(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// Compression of a part of the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
}

/// A section of the file.
#[derive(Clone, Copy, Debug)]
struct Section {
    offset: u64,
    len: u64,
}

/// The header of an archive.
struct PmtilesHeader {
    root: Section,
    leaves: Section,
    tiles: Section,
    directories_packed: Packing,
    tiles_packed: Packing,
    extent: TileExtent,
}

/// An archive, open for reading.
pub(crate) struct Pmtiles {
    file: Arc<dyn ByteSource>,
    header: PmtilesHeader,
    root: Arc<TileDirectory>,
    /// Directories below the root by offset.
    directories: moka::sync::Cache<u64, Arc<TileDirectory>>,
}

impl Pmtiles {
    /// Opens an archive as a raster.
    ///
    /// # Errors
    /// [`RasterError::Undecodable`] if it is damaged or has no tiles, [`RasterError::Unsupported`] for vector tiles, other versions,
    /// and compressions other than gzip.
    pub(crate) fn open(name: &str, file: Arc<dyn ByteSource>, cache: &ChunkCache) -> Result<TilePyramid, RasterError> {
        let failed = |error: DecodeError| error.in_file(name, FORMAT);
        let store = Self::read(file).map_err(failed)?;
        let sample = store.any_tile().map_err(failed)?;
        let extent = store.extent().map_err(failed)?;
        TilePyramid::new(name, Arc::new(store), &extent, Some(&sample), cache)
    }

    fn read(file: Arc<dyn ByteSource>) -> Result<Self, DecodeError> {
        let header = PmtilesHeader::parse(&file.read_at(0, HEADER_BYTES)?)?;
        let root = Arc::new(read_directory(&*file, header.root, header.directories_packed)?);
        let directories = moka::sync::Cache::builder()
            .max_capacity(DIRECTORY_CACHE_BYTES)
            .weigher(|_, directory: &Arc<TileDirectory>| u32::try_from(directory.bytes()).unwrap_or(u32::MAX))
            .build();
        Ok(Self { file, header, root, directories })
    }

    /// A directory below the root.
    fn directory(&self, offset: u64, len: u64) -> Result<Arc<TileDirectory>, DecodeError> {
        if let Some(known) = self.directories.get(&offset) {
            return Ok(known);
        }
        let section = self.header.leaves.part(offset, len)?;
        let directory = Arc::new(read_directory(&*self.file, section, self.header.directories_packed)?);
        self.directories.insert(offset, directory.clone());
        Ok(directory)
    }

    /// The tile that `choose` finds, starting at the root directory.
    fn follow(&self, choose: impl Fn(&TileDirectory) -> Option<Located>) -> Result<Option<Bytes>, DecodeError> {
        let mut directory = self.root.clone();
        for _ in 0..MAX_DEPTH {
            match choose(&directory) {
                None => return Ok(None),
                Some(Located::Tile { offset, len }) => return self.picture(offset, len).map(Some),
                Some(Located::TileDirectory { offset, len }) => directory = self.directory(offset, len)?,
            }
        }
        Err(damaged(format!("its directories lie more than {MAX_DEPTH} deep")))
    }

    fn picture(&self, offset: u64, len: u64) -> Result<Bytes, DecodeError> {
        if len > MAX_TILE_BYTES {
            return Err(damaged(format!("a tile has {len} bytes; {MAX_TILE_BYTES} are accepted")));
        }
        let Section { offset, len } = self.header.tiles.part(offset, len)?;
        let packed = self.file.read_at(offset, len as usize)?;
        unpacked(packed, self.header.tiles_packed, MAX_TILE_BYTES)
    }

    /// The zooms, and the bounds in the header, unless there is no tile in their middle at any zoom: then tiles may lie anywhere.
    fn extent(&self) -> Result<TileExtent, DecodeError> {
        let extent = self.header.extent;
        for tile in (extent.min_zoom..=extent.max_zoom).filter_map(|zoom| extent.middle(zoom)) {
            if self.tile(tile)?.is_some() {
                return Ok(extent.of_whole_tiles());
            }
        }
        Ok(TileExtent { bounds_lon_lat: TileExtent::WORLD, ..extent })
    }

    /// A tile that is no placeholder, if there is one beside it.
    fn any_tile(&self) -> Result<Bytes, DecodeError> {
        self.follow(TileDirectory::longest)?.ok_or_else(|| damaged("it has no tiles"))
    }
}

impl TileStore for Pmtiles {
    fn tile(&self, tile: TileCoord) -> Result<Option<Bytes>, DecodeError> {
        self.follow(|directory| directory.find(tile.hilbert_id()))
    }
}

impl PmtilesHeader {
    fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        if !is_pmtiles(bytes) || bytes.len() < HEADER_BYTES {
            return Err(damaged("its header is cut off"));
        }
        if bytes[MAGIC.len()] != VERSION {
            return Err(unsupported(format!("version {} of the format (version {VERSION} is needed)", bytes[MAGIC.len()])));
        }
        let long = |at: usize| bytes[at..at + 8].iter().rev().fold(0, |value: u64, byte| value << 8 | u64::from(*byte));
        let section = |at: usize| Section { offset: long(at), len: long(at + 8) };
        let degrees = |at: usize| {
            let value = bytes[at..at + 4].iter().rev().fold(0, |value: u32, byte| value << 8 | u32::from(*byte));
            f64::from(value as i32) / 1e7
        };
        let packing = |code: u8, what: &str| match code {
            1 => Ok(Packing::None),
            2 => Ok(Packing::Gzip),
            3 => Err(unsupported(format!("{what} packed by Brotli (gzip or none is needed)"))),
            4 => Err(unsupported(format!("{what} packed by Zstandard (gzip or none is needed)"))),
            code => Err(unsupported(format!("{what} packed in a way it does not name ({code}; gzip or none is needed)"))),
        };
        match bytes[99] {
            1 => return Err(vector_tiles()),
            // Decoding finds out the format.
            0 | 2..=4 => {}
            5 => return Err(unsupported("AVIF tiles (PNG, JPEG or WebP are needed)".to_owned())),
            code => return Err(unsupported(format!("tiles of type {code} (PNG, JPEG or WebP are needed)"))),
        }
        let bounds = Bounds { min_x: degrees(102), min_y: degrees(106), max_x: degrees(110), max_y: degrees(114) };
        // Zeros mean that the writer did not know the bounds.
        let is_unknown = [bounds.min_x, bounds.min_y, bounds.max_x, bounds.max_y] == [0.0; 4];
        let bounds = if is_unknown { TileExtent::WORLD } else { bounds };
        Ok(Self {
            root: section(8),
            leaves: section(40),
            tiles: section(56),
            directories_packed: packing(bytes[97], "directories")?,
            // Some writers leave the compression of tiles unstated, because pictures are compressed already.
            tiles_packed: if bytes[98] == 0 { Packing::None } else { packing(bytes[98], "tiles")? },
            extent: TileExtent::of_file(bytes[100].into(), bytes[101].into(), bounds).map_err(damaged)?,
        })
    }
}

impl Section {
    /// A part of it as a section of the file.
    fn part(&self, offset: u64, len: u64) -> Result<Self, DecodeError> {
        let is_within = offset.checked_add(len).is_some_and(|end| end <= self.len);
        let at = self.offset.checked_add(offset).filter(|_| is_within);
        let at = at.ok_or_else(|| damaged(format!("{len} bytes at {offset} of a section of {} are named", self.len)))?;
        Ok(Self { offset: at, len })
    }
}

fn read_directory(file: &dyn ByteSource, section: Section, packing: Packing) -> Result<TileDirectory, DecodeError> {
    if section.len > MAX_DIRECTORY_BYTES {
        let (found, most) = (section.len, MAX_DIRECTORY_BYTES);
        return Err(damaged(format!("a directory has {found} bytes; {most} are accepted")));
    }
    let packed = file.read_at(section.offset, section.len as usize)?;
    TileDirectory::parse(&unpacked(packed, packing, MAX_UNPACKED_BYTES)?)
}

fn unpacked(packed: Bytes, packing: Packing, most: u64) -> Result<Bytes, DecodeError> {
    if packing == Packing::None {
        return Ok(packed);
    }
    let mut bytes = Vec::new();
    let read = GzDecoder::new(&packed[..]).take(most + 1).read_to_end(&mut bytes);
    read.map_err(|error| damaged(format!("a part packed by gzip is damaged: {error}")))?;
    if bytes.len() as u64 > most {
        return Err(damaged(format!("a packed part has more than {most} bytes")));
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packed_part_ends_where_it_is_too_long() {
        let mut packer = flate2::read::GzEncoder::new(std::io::repeat(0).take(1 << 20), flate2::Compression::best());
        let mut packed = Vec::new();
        packer.read_to_end(&mut packed).expect("memory");
        assert!(packed.len() < 2000);
        assert!(unpacked(packed.clone().into(), Packing::Gzip, 1 << 20).is_ok());
        assert!(unpacked(packed.into(), Packing::Gzip, (1 << 20) - 1).is_err());
    }
}
