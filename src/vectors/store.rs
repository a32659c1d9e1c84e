//! Vectors on disk: one file of unit vectors as f32, and one of the same vectors as 8-bit codes, which a search reads first.
//!
//! Both files are tables without headers, little-endian. A row of codes is the f32 by which they are multiplied and then a code a
//! dimension; codes go from -127 to 127. Files are read by position and not mapped: another program may truncate a file, and access
//! to a missing page of a map ends the process. From the page cache, a read costs a copy, which the processor's cache takes.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::VectorError;
use crate::private_file;
use crate::storage::{ByteSource, FileBytes};

/// The file of f32 rows, and that of codes.
const VALUES: &str = "vectors.f32";
const CODES: &str = "vectors.i8";

/// Bytes of a row's factor.
pub(super) const FACTOR_BYTES: usize = size_of::<f32>();

/// Most dimensions of a vector.
pub const MAX_DIMENSIONS: usize = 16_384;

/// Most vectors of a store: their numbers are `u32`.
pub const MAX_ROWS: usize = 1 << 28;

/// Writes the vectors of a new store, row by row.
pub struct VectorWriter {
    dims: usize,
    rows: usize,
    values: BufWriter<File>,
    codes: BufWriter<File>,
    /// The row at hand as bytes.
    row: Vec<u8>,
}

impl VectorWriter {
    /// Begins the files of vectors of `dims` dimensions in a directory, which must not have them.
    ///
    /// # Errors
    /// [`VectorError::TooLarge`] beyond [`MAX_DIMENSIONS`], and those of the file system.
    pub fn create(directory: &Path, dims: usize) -> Result<Self, VectorError> {
        limit("dimensions", dims, MAX_DIMENSIONS)?;
        let create = |name: &str| private_file::options().truncate(false).create_new(true).open(directory.join(name));
        let (values, codes) = (BufWriter::new(create(VALUES)?), BufWriter::new(create(CODES)?));
        Ok(Self { dims, rows: 0, values, codes, row: Vec::new() })
    }

    /// Adds a vector; only its direction is kept.
    ///
    /// # Errors
    /// [`VectorError::Row`] if it has another number of dimensions, a number that is not finite, or no direction, and those of the
    /// file system.
    pub fn add(&mut self, vector: &[f32]) -> Result<(), VectorError> {
        let refused = |reason: String| VectorError::Row { row: self.rows, reason };
        limit("vectors", self.rows + 1, MAX_ROWS)?;
        if vector.len() != self.dims {
            return Err(refused(format!("it has {} values, and the others have {}", vector.len(), self.dims)));
        }
        let unit = unit(vector).map_err(refused)?;
        self.row.clear();
        self.row.extend(unit.iter().flat_map(|value| value.to_le_bytes()));
        self.values.write_all(&self.row)?;
        let most = unit.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
        let factor = most / f32::from(i8::MAX);
        self.row.clear();
        self.row.extend(factor.to_le_bytes());
        self.row.extend(unit.iter().map(|value| (value / factor).round().clamp(-127.0, 127.0) as i8 as u8));
        self.codes.write_all(&self.row)?;
        self.rows += 1;
        Ok(())
    }

    /// Values of each vector.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// Vectors so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns when both files are on disk.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn finish(self) -> Result<(), VectorError> {
        for file in [self.values, self.codes] {
            file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
        }
        Ok(())
    }
}

/// A store that can be searched.
#[derive(Debug)]
pub struct VectorStore {
    dims: usize,
    rows: usize,
    values: FileBytes,
    codes: FileBytes,
}

impl VectorStore {
    /// Opens the files in a directory.
    ///
    /// # Errors
    /// [`VectorError::Damaged`] if their lengths are not those of so many rows of `dims` dimensions, and those of the file system.
    pub fn open(directory: &Path, dims: usize) -> Result<Self, VectorError> {
        let open = |name: &str| FileBytes::open(&directory.join(name));
        let (values, codes) = (open(VALUES)?, open(CODES)?);
        let row_bytes = (dims + FACTOR_BYTES) as u64;
        let rows = codes.len() / row_bytes.max(1);
        let fits = dims > 0 && rows * row_bytes == codes.len() && rows * (dims * size_of::<f32>()) as u64 == values.len();
        if !fits || rows > MAX_ROWS as u64 {
            let reason = format!("{} and {} bytes are no rows of {dims} dimensions", values.len(), codes.len());
            return Err(VectorError::Damaged { reason });
        }
        Ok(Self { dims, rows: rows as usize, values, codes })
    }

    /// Dimensions of a vector.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// How many vectors there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes that both files take.
    pub fn bytes(&self) -> u64 {
        self.values.len() + self.codes.len()
    }

    /// The files' paths below a directory.
    pub fn paths(directory: &Path) -> [PathBuf; 2] {
        [VALUES, CODES].map(|name| directory.join(name))
    }

    /// The unit vector of a row, which must be one of the store's.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn vector(&self, row: usize) -> Result<Vec<f32>, VectorError> {
        let len = self.dims * size_of::<f32>();
        let bytes = self.values.read_at((row * len) as u64, len).map_err(damaged)?;
        Ok(bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }

    /// The bytes of codes from row `first` on.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn codes(&self, first: usize, rows: usize, buffer: &mut Vec<u8>) -> Result<(), VectorError> {
        let row_bytes = self.dims + FACTOR_BYTES;
        buffer.resize(rows * row_bytes, 0);
        self.codes.read_into((first * row_bytes) as u64, buffer).map_err(damaged)
    }
}

/// The direction of a vector.
///
/// # Errors
/// A sentence, if a number is not finite or all are 0.
pub(super) fn unit(vector: &[f32]) -> Result<Vec<f32>, String> {
    if let Some(at) = vector.iter().position(|value| !value.is_finite()) {
        return Err(format!("value {at} is {}; finite numbers are needed", vector[at]));
    }
    let length = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if length == 0.0 {
        return Err("all of its values are 0, so it has no direction".to_owned());
    }
    Ok(vector.iter().map(|value| (f64::from(*value) / length) as f32).collect())
}

fn damaged(error: impl std::fmt::Display) -> VectorError {
    VectorError::Damaged { reason: error.to_string() }
}

fn limit(what: &'static str, found: usize, limit: usize) -> Result<(), VectorError> {
    if found <= limit {
        return Ok(());
    }
    Err(VectorError::TooLarge { what, found: found as u64, limit: limit as u64 })
}
