//! The table of places beside the vectors: a row of fixed size each, and their names and outlines behind each other in a second file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::private_file;
use crate::storage::{ByteSource, FileBytes};

/// The file of fixed rows, and that of names and outlines.
const PLACES: &str = "places.table";
const DETAILS: &str = "places.details";

/// Bytes of a fixed row: four bounds, the time, where the details lie, and how long name and outline are.
const ROW_BYTES: usize = 4 * 8 + 8 + 8 + 2 * 4;

/// Rows that are read at once.
pub(super) const ROWS_AT_ONCE: usize = 4096;

/// Stands for a time that is not known.
const NO_TIME: i64 = i64::MIN;

/// What is known of one row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    /// `[west, south, east, north]` in degrees.
    pub(super) bounds: Option<[f64; 4]>,
    /// Milliseconds since 1970.
    pub(super) time_ms: Option<i64>,
    details_at: u64,
    name_len: u32,
    outline_len: u32,
}

impl Place {
    /// Whether this is the name of the row.
    pub(super) fn is_named(&self, name: &str, places: &Places) -> io::Result<bool> {
        Ok(self.name_len as usize == name.len() && places.name(self)? == name)
    }
}

/// Writes places.
pub(super) struct PlaceWriter {
    places: BufWriter<File>,
    details: BufWriter<File>,
    /// Bytes of names and outlines so far.
    pub(super) details_len: u64,
}

impl PlaceWriter {
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        let create = |name: &str| private_file::options().truncate(false).create_new(true).open(directory.join(name));
        let (places, details) = (BufWriter::new(create(PLACES)?), BufWriter::new(create(DETAILS)?));
        Ok(Self { places, details, details_len: 0 })
    }

    /// Adds a row; `outline` is well-known binary.
    pub(super) fn add(
        &mut self,
        name: &str,
        outline: &[u8],
        bounds: Option<[f64; 4]>,
        time_ms: Option<i64>,
    ) -> io::Result<()> {
        let mut row = Vec::with_capacity(ROW_BYTES);
        row.extend(bounds.unwrap_or([f64::NAN; 4]).iter().flat_map(|side| side.to_le_bytes()));
        row.extend(time_ms.unwrap_or(NO_TIME).to_le_bytes());
        row.extend(self.details_len.to_le_bytes());
        row.extend((name.len() as u32).to_le_bytes());
        row.extend((outline.len() as u32).to_le_bytes());
        self.places.write_all(&row)?;
        self.details.write_all(name.as_bytes())?;
        self.details.write_all(outline)?;
        self.details_len += (name.len() + outline.len()) as u64;
        Ok(())
    }

    /// Returns when both files are on disk.
    pub(super) fn finish(self) -> io::Result<()> {
        for file in [self.places, self.details] {
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        }
        Ok(())
    }
}

/// Stored places.
#[derive(Debug)]
pub(super) struct Places {
    places: FileBytes,
    details: FileBytes,
}

impl Places {
    /// Opens the places of `rows` rows.
    pub(super) fn open(directory: &Path, rows: usize) -> io::Result<Self> {
        let open = |name: &str| FileBytes::open(&directory.join(name));
        let places = Self { places: open(PLACES)?, details: open(DETAILS)? };
        if places.places.len() == (rows * ROW_BYTES) as u64 {
            return Ok(places);
        }
        let reason = format!("{} bytes are not the places of {rows} vectors", places.places.len());
        Err(io::Error::new(io::ErrorKind::InvalidData, reason))
    }

    /// Bytes of both files.
    pub(super) fn bytes(&self) -> u64 {
        self.places.len() + self.details.len()
    }

    /// The places of rows from `first` on.
    pub(super) fn rows(&self, first: usize, rows: usize) -> io::Result<Vec<Place>> {
        let bytes = self.places.read_at((first * ROW_BYTES) as u64, rows * ROW_BYTES).map_err(io::Error::other)?;
        Ok(bytes.as_chunks::<ROW_BYTES>().0.iter().map(place).collect())
    }

    /// The name of a place.
    pub(super) fn name(&self, place: &Place) -> io::Result<String> {
        let bytes = self.details.read_at(place.details_at, place.name_len as usize).map_err(io::Error::other)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The outline of a place as well-known binary; empty if it has none.
    pub(super) fn outline(&self, place: &Place) -> io::Result<Vec<u8>> {
        let at = place.details_at + u64::from(place.name_len);
        Ok(self.details.read_at(at, place.outline_len as usize).map_err(io::Error::other)?.to_vec())
    }
}

fn place(row: &[u8; ROW_BYTES]) -> Place {
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&row[at..at + 8]);
        word
    };
    let bounds = [0, 8, 16, 24].map(|at| f64::from_le_bytes(word(at)));
    let time = i64::from_le_bytes(word(32));
    let lengths = u64::from_le_bytes(word(48));
    Place {
        bounds: bounds.iter().all(|side| side.is_finite()).then_some(bounds),
        time_ms: (time != NO_TIME).then_some(time),
        details_at: u64::from_le_bytes(word(40)),
        name_len: lengths as u32,
        outline_len: (lengths >> 32) as u32,
    }
}
