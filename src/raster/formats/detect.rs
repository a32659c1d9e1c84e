//! Which format a file is, by its first bytes: names and media types are often wrong.

use super::jpeg2000::is_jpeg2000;
use super::npy_header;
use super::tile_pyramid::{is_pmtiles, is_sqlite};

/// Bytes at the start of a file that [`FileFormat::of`] looks at.
pub(crate) const MAGIC_BYTES: usize = 8;

/// The formats that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileFormat {
    GeoTiff,
    Jpeg2000,
    Png,
    Jpeg,
    Npy,
    Pmtiles,
    /// A database, which may hold map tiles (MBTiles).
    Sqlite,
    /// A JSON object, which may be a STAC document.
    Json,
    Unknown,
}

impl FileFormat {
    /// The format of a file that starts with `start`, its first [`MAGIC_BYTES`] bytes or all of it if it is shorter.
    pub(crate) fn of(start: &[u8]) -> Self {
        match start {
            // TIFF and BigTIFF, little and big endian.
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Self::GeoTiff,
            [0x89, b'P', b'N', b'G', ..] => Self::Png,
            [0xff, 0xd8, 0xff, ..] => Self::Jpeg,
            start if is_jpeg2000(start) => Self::Jpeg2000,
            start if start.starts_with(npy_header::MAGIC) => Self::Npy,
            start if is_pmtiles(start) => Self::Pmtiles,
            start if is_sqlite(start) => Self::Sqlite,
            start if start.trim_ascii_start().first() == Some(&b'{') => Self::Json,
            _ => Self::Unknown,
        }
    }

    /// What an error calls a file that cannot be read, by its first bytes.
    pub(crate) fn describe(start: &[u8]) -> String {
        let known: [(&[u8], &str); 9] = [
            (b"", "empty"),
            (b"GIF8", "a GIF"),
            (b"RIFF", "a WebP picture or another RIFF file"),
            (b"SQLite f", "an SQLite file (MBTiles are served from this machine: --source ID=FILE, or by path)"),
            (b"PK\x03\x04", "a zip archive (npz?)"),
            (b"\x1f\x8b", "gzip-compressed"),
            (b"\x89HDF", "HDF5 or netCDF"),
            (b"%PDF", "a PDF"),
            (b"BM", "a BMP"),
        ];
        let matches =
            |(magic, _): &&(&[u8], &str)| if magic.is_empty() { start.is_empty() } else { start.starts_with(magic) };
        known.iter().find(matches).map_or_else(
            || format!("not a known image (it starts with {:02x?})", &start[..start.len().min(4)]),
            |(_, name)| (*name).to_owned(),
        )
    }
}
