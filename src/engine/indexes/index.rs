//! One index: being written, and open.

use std::io;
use std::path::{Path, PathBuf};

use super::place::{Place, PlaceWriter, Places, ROWS_AT_ONCE};
use super::record::IndexRecord;
use crate::engine::error::EngineError;
use crate::georef::read_wkb;
use crate::vectors::{VectorError, VectorStore, VectorWriter};

/// Longest name of a row, bytes.
const MAX_NAME: usize = 256;

/// Most bytes of all names and outlines of an index. Many rows of a table may share the bytes of one outline.
const MAX_DETAILS: u64 = 4 << 30;

/// Writes the rows of a new index.
pub(super) struct IndexWriter {
    directory: PathBuf,
    vectors: Option<VectorWriter>,
    places: PlaceWriter,
    /// Whether any row has a place, or a time.
    pub(super) has_places: bool,
    pub(super) has_times: bool,
}

/// A row of a new index.
pub(super) struct NewRow<'a> {
    pub(super) vector: &'a [f32],
    /// `None`: its number.
    pub(super) name: Option<&'a str>,
    /// Well-known binary in longitude and latitude.
    pub(super) outline: Option<&'a [u8]>,
    /// Milliseconds since 1970.
    pub(super) time_ms: Option<i64>,
}

impl IndexWriter {
    /// Begins an index in a directory, which must be empty.
    pub(super) fn create(directory: &Path) -> Result<Self, EngineError> {
        let places = PlaceWriter::create(directory).map_err(VectorError::from)?;
        Ok(Self { directory: directory.to_owned(), vectors: None, places, has_places: false, has_times: false })
    }

    /// Adds a row. The first decides how many dimensions all have.
    ///
    /// # Errors
    /// [`VectorError::Row`] if the row cannot be stored, and those of the file system.
    pub(super) fn add(&mut self, row: &NewRow<'_>) -> Result<(), EngineError> {
        let vectors = match &mut self.vectors {
            Some(vectors) => vectors,
            None => self.vectors.insert(VectorWriter::create(&self.directory, row.vector.len())?),
        };
        let number = vectors.rows();
        let refused = |reason: String| VectorError::Row { row: number, reason };
        let numbered = number.to_string();
        let name = row.name.unwrap_or(&numbered);
        if name.len() > MAX_NAME {
            return Err(refused(format!("its name has {} bytes; at most {MAX_NAME} are kept", name.len())).into());
        }
        let details = self.places.details_len + (name.len() + row.outline.map_or(0, <[u8]>::len)) as u64;
        if details > MAX_DETAILS {
            let what = "bytes of names and outlines";
            return Err(EngineError::TooLarge { what, found: details, limit: MAX_DETAILS });
        }
        let read = row.outline.map(read_wkb).transpose().map_err(refused)?;
        vectors.add(row.vector)?;
        let bounds = read.map(|(_, bounds)| bounds);
        self.has_places |= bounds.is_some();
        self.has_times |= row.time_ms.is_some();
        let added = self.places.add(name, row.outline.unwrap_or_default(), bounds, row.time_ms);
        Ok(added.map_err(VectorError::from)?)
    }

    /// Returns rows and dimensions once all is on disk.
    ///
    /// # Errors
    /// [`EngineError::Unusable`] without rows, and those of the file system.
    pub(super) fn finish(self) -> Result<(usize, usize), EngineError> {
        let Some(vectors) = self.vectors else {
            return Err(EngineError::Unusable { detail: "the table has no rows; at least one is needed".to_owned() });
        };
        let (rows, dims) = (vectors.rows(), vectors.dims());
        vectors.finish()?;
        self.places.finish().map_err(VectorError::from)?;
        Ok((rows, dims))
    }
}

/// An index that can be searched.
#[derive(Debug)]
pub struct Index {
    /// What it is.
    pub record: IndexRecord,
    pub(super) vectors: VectorStore,
    pub(super) places: Places,
}

impl Index {
    /// Opens what is stored in a directory.
    ///
    /// # Errors
    /// [`VectorError::Damaged`] if the files do not fit the record, and those of the file system.
    pub(super) fn open(directory: &Path, record: IndexRecord) -> Result<Self, EngineError> {
        let vectors = VectorStore::open(directory, record.dimensions)?;
        if vectors.rows() != record.rows {
            let reason = format!("{} vectors are there, and {} were stored", vectors.rows(), record.rows);
            return Err(VectorError::Damaged { reason }.into());
        }
        let places = Places::open(directory, record.rows).map_err(VectorError::from)?;
        Ok(Self { record, vectors, places })
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.vectors.bytes() + self.places.bytes()
    }

    /// Shows every place, until `go_on` is false. Blocks.
    pub(super) fn each_place(&self, mut go_on: impl FnMut(usize, &Place) -> io::Result<bool>) -> Result<(), EngineError> {
        for first in (0..self.record.rows).step_by(ROWS_AT_ONCE) {
            let rows = ROWS_AT_ONCE.min(self.record.rows - first);
            for (row, place) in (first..).zip(self.places.rows(first, rows).map_err(VectorError::from)?) {
                if !go_on(row, &place).map_err(VectorError::from)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
