//! The cells of a Parquet file's columns, some rows at a time. Pages are bounded before they are decoded: a few bytes may stand for
//! billions of equal values.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, DataType, DoubleType, FloatType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::reader::RowGroupReader;

use super::table_columns::TimeKind;
use super::table_error::{damaged, unusable};
use crate::engine::error::EngineError;
use crate::raster::DatetimeRange;

/// Most bytes of a decompressed page. Writers make pages of about 1 MiB.
const MAX_PAGE_BYTES: usize = 64 << 20;

/// Most values of the pages that some rows are read from: 256 MiB of f32.
const MAX_VALUES_AT_ONCE: usize = 64 << 20;

/// Most bytes of a name or a time. Many rows may share the bytes of one in the file.
const MAX_TEXT_BYTES: usize = 4096;

/// A column of a row group, whose pages are bounded.
pub(super) struct Column {
    reader: ColumnReader,
    values_so_far: Arc<AtomicUsize>,
}

impl Column {
    /// Opens a column by its number among the leaves of the schema.
    ///
    /// # Errors
    /// [`EngineError::Unusable`] if the file is damaged.
    pub(super) fn open(group: &dyn RowGroupReader, leaf: usize) -> Result<Self, EngineError> {
        let values_so_far = Arc::new(AtomicUsize::new(0));
        let pages = group.get_column_page_reader(leaf).map_err(damaged)?;
        let bounded = BoundedPages { pages, values_so_far: values_so_far.clone() };
        let reader = get_column_reader(group.metadata().schema_descr().column(leaf), Box::new(bounded));
        Ok(Self { reader, values_so_far })
    }

    /// The reader for the next rows, which have a bound of their own.
    fn next_rows(&mut self) -> &mut ColumnReader {
        self.values_so_far.store(0, Ordering::Relaxed);
        &mut self.reader
    }

    /// The next `count` lists of floats; `None` for those that are missing. `number` is the row of the first, for errors.
    ///
    /// # Errors
    /// [`EngineError::Unusable`] if the column holds no lists of floats, or a list lacks an element.
    pub(super) fn vectors(&mut self, count: usize, number: usize) -> Result<Vec<Option<Vec<f32>>>, EngineError> {
        let (mut defined, mut repeated) = (Vec::new(), Vec::new());
        let levels = (&mut defined, &mut repeated);
        let values: Vec<f32> = match self.next_rows() {
            ColumnReader::FloatColumnReader(reader) => list_values::<FloatType>(reader, count, levels)?,
            ColumnReader::DoubleColumnReader(reader) => {
                let values = list_values::<DoubleType>(reader, count, levels)?;
                values.into_iter().map(|value| value as f32).collect()
            }
            ColumnReader::Int32ColumnReader(reader) => {
                let values = list_values::<Int32Type>(reader, count, levels)?;
                values.into_iter().map(|value| value as f32).collect()
            }
            _ => return Err(unusable("its vectors are no floats")),
        };
        // An element is as defined as anything in the column can be.
        let most = defined.iter().copied().max().unwrap_or(0);
        let mut rows: Vec<Option<Vec<f32>>> = Vec::with_capacity(count);
        let mut values = values.into_iter();
        for (level, repeated) in defined.iter().zip(&repeated) {
            if *repeated == 0 {
                rows.push(None);
            }
            let has_value = *level == most && values.len() > 0;
            match (rows.last_mut(), has_value) {
                (Some(row), true) => row.get_or_insert_default().extend(values.next()),
                (Some(None), false) if *repeated == 0 => {}
                _ => {
                    let row = number + rows.len().saturating_sub(1);
                    return Err(unusable(&format!("row {row}: its vector lacks a value")));
                }
            }
        }
        Ok(rows)
    }

    /// The next `count` texts, or whole numbers as texts; `None` for those that are missing.
    ///
    /// # Errors
    /// [`EngineError::Unusable`] if the column holds neither.
    pub(super) fn texts(&mut self, count: usize) -> Result<Vec<Option<String>>, EngineError> {
        match self.next_rows() {
            ColumnReader::ByteArrayColumnReader(reader) => {
                cells(reader, count)?.into_iter().map(|cell| cell.as_ref().map(text).transpose()).collect()
            }
            ColumnReader::Int64ColumnReader(reader) => {
                Ok(cells(reader, count)?.into_iter().map(|cell| cell.map(|number| number.to_string())).collect())
            }
            ColumnReader::Int32ColumnReader(reader) => {
                Ok(cells(reader, count)?.into_iter().map(|cell| cell.map(|number| number.to_string())).collect())
            }
            _ => Err(unusable("its names are neither texts nor whole numbers")),
        }
    }

    /// The next `count` pieces of bytes; `None` for those that are missing.
    ///
    /// # Errors
    /// [`EngineError::Unusable`] if the column holds something else.
    pub(super) fn blobs(&mut self, count: usize) -> Result<Vec<Option<ByteArray>>, EngineError> {
        match self.next_rows() {
            ColumnReader::ByteArrayColumnReader(reader) => cells(reader, count),
            _ => Err(unusable("its geometries are no bytes")),
        }
    }

    /// The next `count` times in milliseconds since 1970; `None` for those that are missing. `number` is the row of the first, for
    /// errors.
    ///
    /// # Errors
    /// [`EngineError::Unusable`] with the row whose text is no time.
    pub(super) fn instants(
        &mut self,
        kind: TimeKind,
        count: usize,
        number: usize,
    ) -> Result<Vec<Option<i64>>, EngineError> {
        if let (ColumnReader::Int64ColumnReader(reader), TimeKind::Units(units)) = (self.next_rows(), kind) {
            return Ok(cells(reader, count)?.into_iter().map(|cell| cell.map(|time| time.div_euclid(units))).collect());
        }
        let parse = |(row, text): (usize, Option<String>)| {
            let Some(text) = text else { return Ok(None) };
            let range = text.parse::<DatetimeRange>();
            let range = range.map_err(|error| unusable(&format!("row {}: {error}", number + row)))?;
            Ok(range.start.map(|start| start.as_millisecond()))
        };
        self.texts(count)?.into_iter().enumerate().map(parse).collect()
    }
}

/// Pages of a column, none of which is larger than any writer makes.
struct BoundedPages {
    pages: Box<dyn PageReader>,
    values_so_far: Arc<AtomicUsize>,
}

impl BoundedPages {
    fn checked(&self, page: Option<Page>) -> Result<Option<Page>, ParquetError> {
        let Some(page) = page else { return Ok(None) };
        let refused = |what: String| Err(ParquetError::General(format!("{what}; smaller row groups are needed")));
        if page.buffer().len() > MAX_PAGE_BYTES {
            let found = page.buffer().len();
            return refused(format!("a page of {found} bytes is more than the {MAX_PAGE_BYTES} that are read at once"));
        }
        let values = page.num_values() as usize;
        let all = values.saturating_add(self.values_so_far.fetch_add(values, Ordering::Relaxed));
        if all > MAX_VALUES_AT_ONCE {
            return refused(format!("{all} values are more than the {MAX_VALUES_AT_ONCE} that are read at once"));
        }
        Ok(Some(page))
    }
}

impl PageReader for BoundedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let page = self.pages.get_next_page()?;
        self.checked(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool, ParquetError> {
        self.pages.at_record_boundary()
    }
}

impl Iterator for BoundedPages {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

/// The elements of the next `count` lists, with their definition and repetition levels.
fn list_values<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    count: usize,
    (defined, repeated): (&mut Vec<i16>, &mut Vec<i16>),
) -> Result<Vec<T::T>, EngineError> {
    let (mut values, mut read) = (Vec::new(), 0);
    while read < count {
        let rows = count - read;
        let (rows, _, levels) = reader.read_records(rows, Some(defined), Some(repeated), &mut values).map_err(damaged)?;
        if rows == 0 && levels == 0 {
            return Err(ends_early());
        }
        read += rows;
    }
    Ok(values)
}

/// The next `count` values of a column without lists; `None` for those that are missing.
fn cells<T: DataType>(reader: &mut ColumnReaderImpl<T>, count: usize) -> Result<Vec<Option<T::T>>, EngineError> {
    let (mut defined, mut values) = (Vec::new(), Vec::new());
    let mut read = 0;
    while read < count {
        let (rows, ..) = reader.read_records(count - read, Some(&mut defined), None, &mut values).map_err(damaged)?;
        if rows == 0 {
            return Err(ends_early());
        }
        read += rows;
    }
    if defined.is_empty() {
        return Ok(values.into_iter().map(Some).collect());
    }
    let mut values = values.into_iter();
    Ok(defined.into_iter().map(|level| if level > 0 { values.next() } else { None }).collect())
}

fn text(bytes: &ByteArray) -> Result<String, EngineError> {
    if bytes.len() > MAX_TEXT_BYTES {
        return Err(unusable(&format!("a text has {} bytes; at most {MAX_TEXT_BYTES} are read", bytes.len())));
    }
    Ok(String::from_utf8_lossy(bytes.data()).into_owned())
}

fn ends_early() -> EngineError {
    unusable("it ends before the rows that it promises")
}
