//! Writing PMTiles version 3: map tiles in one file, which maps read by range from any web server or bucket.
//!
//! Tiles come in the order of their numbers, so the archive is clustered. Equal tiles in a row are one entry, and an equal tile
//! somewhere else is stored once. Their bytes go to a temporary file at once; the directories, 24 bytes for each entry, stay in memory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::georef::Bounds;
use crate::private_file;
use crate::tiles::TileCoord;

const HEADER_BYTES: u64 = 127;
/// Header and root directory lie within the first 16 KiB, so that a reader needs one request for both.
const FIRST_BYTES: usize = 16 << 10;
/// Entries of a directory below the root.
const LEAF_ENTRIES: usize = 4096;
/// Tiles whose bytes are remembered, to find equal ones.
const REMEMBERED: usize = 1 << 20;

/// The specification's codes for gzip and for no compression.
const GZIP: u8 = 2;
const UNPACKED: u8 = 1;

/// What the tiles of an archive are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TileKind {
    /// Pictures.
    Png,
    /// Mapbox Vector Tiles, which are packed with gzip.
    Mvt,
}

/// Tiles that share bytes: those numbered from `id` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    id: u64,
    run: u64,
    offset: u64,
    len: u64,
}

/// What an archive says of itself.
pub(super) struct About {
    /// Where its tiles lie, degrees.
    pub(super) bounds: Bounds,
    /// Least and greatest zoom.
    pub(super) zooms: (u8, u8),
    /// A JSON object for people and maps.
    pub(super) metadata: Value,
}

/// An archive that is being written.
pub(super) struct PmtilesWriter {
    kind: TileKind,
    /// The bytes of tiles.
    tiles: File,
    scratch: PathBuf,
    written: u64,
    entries: Vec<Entry>,
    addressed: u64,
    contents: u64,
    known: HashMap<blake3::Hash, (u64, u64)>,
}

impl PmtilesWriter {
    /// An empty archive, whose tiles are collected in the folder `beside`.
    ///
    /// # Errors
    /// If a file cannot be made there.
    pub(super) fn new(beside: &Path, kind: TileKind) -> io::Result<Self> {
        let scratch = beside.join(private_file::unfinished_name("tiles"));
        let tiles = File::options().read(true).write(true).create_new(true).open(&scratch)?;
        let (entries, known) = (Vec::new(), HashMap::new());
        Ok(Self { kind, tiles, scratch, written: 0, entries, addressed: 0, contents: 0, known })
    }

    /// Adds a tile; tiles must come in the order of [`TileCoord::hilbert_id`].
    ///
    /// # Errors
    /// If there is no room.
    pub(super) fn add(&mut self, tile: TileCoord, bytes: &[u8]) -> io::Result<()> {
        let (id, hash) = (tile.hilbert_id(), blake3::hash(bytes));
        let (offset, len) = match self.known.get(&hash) {
            Some(place) => *place,
            None => {
                let stored = match self.kind {
                    TileKind::Png => bytes,
                    TileKind::Mvt => &packed(bytes)?,
                };
                let place = (self.written, stored.len() as u64);
                self.tiles.write_all(stored)?;
                self.written += place.1;
                self.contents += 1;
                if self.known.len() < REMEMBERED {
                    self.known.insert(hash, place);
                }
                place
            }
        };
        self.addressed += 1;
        match self.entries.last_mut() {
            Some(last) if last.offset == offset && last.id + last.run == id => last.run += 1,
            _ => self.entries.push(Entry { id, run: 1, offset, len }),
        }
        Ok(())
    }

    /// Tiles that have been added.
    pub(super) fn count(&self) -> u64 {
        self.addressed
    }

    /// Writes the archive to `path`, where it appears once and whole.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn finish(mut self, path: &Path, about: &About) -> io::Result<()> {
        let metadata = packed(about.metadata.to_string().as_bytes())?;
        let (root, leaves) = directories(&self.entries)?;
        self.tiles.rewind()?;
        let header = self.header(about, [root.len(), metadata.len(), leaves.len()]);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let unfinished = path.with_file_name(private_file::unfinished_name(&name));
        let mut write = || {
            let mut file = File::create(&unfinished)?;
            for part in [&header, &root, &metadata, &leaves] {
                file.write_all(part)?;
            }
            io::copy(&mut self.tiles, &mut file)?;
            file.sync_all()?;
            std::fs::rename(&unfinished, path)
        };
        write().inspect_err(|_| drop(std::fs::remove_file(&unfinished)))
    }

    fn header(&self, about: &About, [root, metadata, leaves]: [usize; 3]) -> Vec<u8> {
        let mut header = b"PMTiles\x03".to_vec();
        let mut at = HEADER_BYTES;
        for len in [root as u64, metadata as u64, leaves as u64, self.written] {
            header.extend(at.to_le_bytes());
            header.extend(len.to_le_bytes());
            at += len;
        }
        for count in [self.addressed, self.entries.len() as u64, self.contents] {
            header.extend(count.to_le_bytes());
        }
        let Bounds { min_x, min_y, max_x, max_y } = about.bounds;
        let (least, greatest) = about.zooms;
        let clustered = 1;
        let (packing, kind) = match self.kind {
            TileKind::Png => (UNPACKED, 2),
            TileKind::Mvt => (GZIP, 1),
        };
        header.extend([clustered, GZIP, packing, kind, least, greatest]);
        let degrees = |value: f64| ((value * 1e7).round() as i32).to_le_bytes();
        header.extend([min_x, min_y, max_x, max_y].map(degrees).as_flattened());
        header.push(least);
        header.extend([f64::midpoint(min_x, max_x), f64::midpoint(min_y, max_y)].map(degrees).as_flattened());
        header
    }
}

impl Drop for PmtilesWriter {
    fn drop(&mut self) {
        // A hidden file that cannot be removed does no harm.
        let _ = std::fs::remove_file(&self.scratch);
    }
}

/// The root directory and the directories below it, packed.
fn directories(entries: &[Entry]) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let whole = packed(&directory(entries))?;
    if whole.len() <= FIRST_BYTES - HEADER_BYTES as usize {
        return Ok((whole, Vec::new()));
    }
    let mut size = LEAF_ENTRIES;
    loop {
        let (mut root, mut leaves) = (Vec::new(), Vec::new());
        for part in entries.chunks(size) {
            let leaf = packed(&directory(part))?;
            // A run of 0 says that the entry is a directory.
            root.push(Entry { id: part[0].id, run: 0, offset: leaves.len() as u64, len: leaf.len() as u64 });
            leaves.extend(leaf);
        }
        let root = packed(&directory(&root))?;
        if root.len() <= FIRST_BYTES - HEADER_BYTES as usize {
            return Ok((root, leaves));
        }
        size *= 2;
    }
}

/// The specification's form: columns of variable-length numbers. An offset of 0 follows the entry before it.
fn directory(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, entries.len() as u64);
    let mut last = 0;
    for entry in entries {
        put(&mut bytes, entry.id - last);
        last = entry.id;
    }
    entries.iter().for_each(|entry| put(&mut bytes, entry.run));
    entries.iter().for_each(|entry| put(&mut bytes, entry.len));
    let mut next = None;
    for entry in entries {
        put(&mut bytes, if next == Some(entry.offset) { 0 } else { entry.offset + 1 });
        next = Some(entry.offset + entry.len);
    }
    bytes
}

/// Seven bits a byte, the least significant first; the eighth says that more follow.
fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn packed(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    packer.write_all(bytes)?;
    packer.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::outputs::encode_imagery;
    use crate::raster::{CaptureSelection, ChunkCache, Limits, OpenOptions, Resampling, Source};

    #[test]
    fn numbers_have_seven_bits_a_byte() {
        let mut bytes = Vec::new();
        [0, 127, 128, 300].into_iter().for_each(|value| put(&mut bytes, value));
        assert_eq!(bytes, [0, 127, 0x80, 1, 0xac, 2]);
    }

    /// An archive of zooms 0 to `deepest` is read back by the reader of sources.
    fn written(deepest: u32) -> (Vec<u8>, Source) {
        let folder = tempfile::tempdir().unwrap();
        let mut archive = PmtilesWriter::new(folder.path(), TileKind::Png).unwrap();
        let mut tiles: Vec<TileCoord> = (0..=deepest)
            .flat_map(|z| (0..1u64 << z).flat_map(move |x| (0..1u64 << z).map(move |y| (z, x, y))))
            .map(|(z, x, y)| TileCoord::try_new(z, x, y).unwrap())
            .collect();
        tiles.sort_by_key(TileCoord::hilbert_id);
        for tile in &tiles {
            // Columns differ, so runs are short.
            let rgb: Vec<u8> = [tile.x() as u8, (tile.x() >> 8) as u8, 7].repeat(256 * 256);
            let png = encode_imagery(&rgb, &[true; 256 * 256], 256, 256).unwrap();
            archive.add(*tile, &png.bytes).unwrap();
        }
        let bounds = Bounds { min_x: -180.0, min_y: -85.0, max_x: 180.0, max_y: 85.0 };
        let about = About { bounds, zooms: (0, deepest as u8), metadata: json!({"name": "columns"}) };
        let path = folder.path().join("map.pmtiles");
        archive.finish(&path, &about).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let options = OpenOptions { limits: Limits::NONE, chunks: ChunkCache::new(1 << 20), remote: None };
        (bytes, Source::open_path("map", &path, None, &options).unwrap())
    }

    #[test]
    fn an_archive_is_read_back() {
        let (bytes, source) = written(4);
        for x in [0, 5, 15] {
            let target = TileCoord::try_new(4, x, 9).unwrap().georef(256);
            let tile = source.read_rgba(&CaptureSelection::default(), &target, Resampling::Nearest).unwrap();
            assert_eq!(tile.rgba[..4], [x as u8, 0, 7, 255]);
        }
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        // Tiles, and different ones: a column's tiles are equal on all zooms.
        assert_eq!((long(72), long(88)), (341, 16));
    }
}
