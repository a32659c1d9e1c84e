//! Tables in Parquet files, written a row group at a time. A table with outlines is GeoParquet 1.1: polygons as WKB in longitude and
//! latitude, and a `bbox` column by which readers skip row groups (its specification calls that a covering).

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use serde_json::json;

use super::error::OutputError;
use super::geojson::Ring;
use super::outline::bounds;
use crate::georef::write_wkb;
use crate::sync::IgnorePoison;

/// The name of the column of outlines, and that of their bounding boxes.
const GEOMETRY: &str = "geometry";
const BBOX: &str = "bbox";

/// The values of one column in a row group.
pub(super) enum Column {
    /// Whole numbers.
    Integers(Vec<i64>),
    /// Texts, some of which may be missing.
    Texts(Vec<Option<String>>),
    /// Numbers, some of which may be missing.
    Numbers(Vec<Option<f32>>),
    /// Lists of numbers, some of which may be missing.
    Vectors(Vec<Option<Vec<f32>>>),
    /// Lists of 8-bit numbers, none of which is missing.
    SmallVectors(Vec<Vec<i8>>),
    /// Polygons in longitude and latitude, one or several a row, some of which may be missing. Each has its exterior ring first.
    Outlines(Vec<Option<Vec<Vec<Ring>>>>),
}

/// What a column holds: a [`Column`] without values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnKind {
    Integers,
    Texts,
    Numbers,
    Vectors,
    SmallVectors,
    /// The column is called `geometry`, whatever its name, and is followed by `bbox`.
    Outlines,
}

/// A Parquet file that is being written. What it has so far is taken out with [`ParquetTable::take`].
pub(super) struct ParquetTable {
    writer: SerializedFileWriter<Outbox>,
    written: Outbox,
    /// `[west, south, east, north]` of all outlines so far.
    bounds: Option<[f64; 4]>,
    has_outlines: bool,
}

impl ParquetTable {
    /// A table without rows.
    ///
    /// # Errors
    /// If two columns have one name.
    pub(super) fn new(columns: &[(&str, ColumnKind)]) -> Result<Self, OutputError> {
        let compression = Compression::ZSTD(ZstdLevel::try_new(1).map_err(failed)?);
        // Dictionaries of vectors' values are larger than the values.
        let properties = WriterProperties::builder().set_compression(compression).set_dictionary_enabled(false).build();
        let written = Outbox::default();
        let schema = schema(columns).map_err(failed)?;
        let writer = SerializedFileWriter::new(written.clone(), schema, Arc::new(properties)).map_err(failed)?;
        let has_outlines = columns.iter().any(|(_, kind)| *kind == ColumnKind::Outlines);
        Ok(Self { writer, written, bounds: None, has_outlines })
    }

    /// Adds a row group; `columns` are in the order of [`ParquetTable::new`], and all have one length.
    ///
    /// # Errors
    /// If the columns are of other kinds or of different lengths.
    pub(super) fn add(&mut self, columns: &[Column]) -> Result<(), OutputError> {
        for outline in columns.iter().filter_map(Column::outlines).flatten().flatten() {
            let found = bounds(outline);
            let joined =
                |all: [f64; 4]| [all[0].min(found[0]), all[1].min(found[1]), all[2].max(found[2]), all[3].max(found[3])];
            self.bounds = Some(self.bounds.map_or(found, joined));
        }
        let mut group = self.writer.next_row_group().map_err(failed)?;
        for column in columns {
            column.write(&mut group).map_err(failed)?;
        }
        group.close().map_err(failed)?;
        Ok(())
    }

    /// The bytes since the last time. The writer keeps some back until it ends.
    pub(super) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.written.0.lock().ignore_poison())
    }

    /// Ends the file; returns what has not been taken yet.
    ///
    /// # Errors
    /// None that the columns do not cause earlier.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, OutputError> {
        if self.has_outlines {
            let metadata = geo_metadata(self.bounds).to_string();
            self.writer.append_key_value_metadata(KeyValue::new("geo".to_owned(), metadata));
        }
        self.writer.finish().map_err(failed)?;
        Ok(self.take())
    }
}

impl Column {
    fn outlines(&self) -> Option<&[Option<Vec<Vec<Ring>>>]> {
        match self {
            Self::Outlines(outlines) => Some(outlines),
            _ => None,
        }
    }

    fn write(&self, group: &mut SerializedRowGroupWriter<'_, Outbox>) -> Result<(), ParquetError> {
        let given = |is_there: bool| i16::from(is_there);
        match self {
            Self::Integers(values) => put::<Int64Type>(group, values, None, None),
            Self::Texts(texts) => {
                let levels: Vec<i16> = texts.iter().map(|text| given(text.is_some())).collect();
                let values: Vec<ByteArray> = texts.iter().flatten().map(|text| text.as_str().into()).collect();
                put::<ByteArrayType>(group, &values, Some(&levels), None)
            }
            Self::Numbers(numbers) => {
                let levels: Vec<i16> = numbers.iter().map(|number| given(number.is_some())).collect();
                let values: Vec<f32> = numbers.iter().flatten().copied().collect();
                put::<FloatType>(group, &values, Some(&levels), None)
            }
            Self::Vectors(vectors) => {
                // Definition: 0 a missing list, 1 one without elements, 2 an element. Repetition: 0 begins a row.
                let (mut defined, mut repeated, mut values) = (Vec::new(), Vec::new(), Vec::new());
                for vector in vectors {
                    let elements = vector.as_ref().map_or(0, Vec::len);
                    defined.extend(std::iter::repeat_n(2, elements));
                    repeated.extend((0..elements).map(|index| given(index > 0)));
                    if elements == 0 {
                        defined.push(given(vector.is_some()));
                        repeated.push(0);
                    }
                    values.extend(vector.iter().flatten());
                }
                put::<FloatType>(group, &values, Some(&defined), Some(&repeated))
            }
            Self::SmallVectors(vectors) => {
                // As above, without missing lists.
                let repeated = vectors.iter().flat_map(|vector| (0..vector.len()).map(|index| given(index > 0)));
                let repeated: Vec<i16> = repeated.collect();
                let values: Vec<i32> = vectors.iter().flatten().copied().map(i32::from).collect();
                put::<Int32Type>(group, &values, Some(&vec![2; values.len()]), Some(&repeated))
            }
            Self::Outlines(outlines) => {
                let levels: Vec<i16> = outlines.iter().map(|outline| given(outline.is_some())).collect();
                let values: Vec<ByteArray> = outlines.iter().flatten().map(|polygons| write_wkb(polygons).into()).collect();
                put::<ByteArrayType>(group, &values, Some(&levels), None)?;
                let boxes: Vec<[f64; 4]> = outlines.iter().flatten().map(|polygons| bounds(polygons)).collect();
                (0..4).try_for_each(|side| {
                    let values: Vec<f64> = boxes.iter().map(|bbox| bbox[side]).collect();
                    put::<DoubleType>(group, &values, Some(&levels), None)
                })
            }
        }
    }
}

/// Writes the next column of a row group.
fn put<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Outbox>,
    values: &[T::T],
    defined: Option<&[i16]>,
    repeated: Option<&[i16]>,
) -> Result<(), ParquetError> {
    let missing = || ParquetError::General("there are more columns than in the schema".to_owned());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<T>().write_batch(values, defined, repeated)?;
    column.close()
}

fn schema(columns: &[(&str, ColumnKind)]) -> Result<TypePtr, ParquetError> {
    let mut fields = Vec::new();
    for (name, kind) in columns {
        let plain = |physical: Physical, repetition: Repetition| {
            Type::primitive_type_builder(name, physical).with_repetition(repetition)
        };
        match kind {
            ColumnKind::Integers => fields.push(plain(Physical::INT64, Repetition::REQUIRED).build()?),
            ColumnKind::Texts => {
                let text = plain(Physical::BYTE_ARRAY, Repetition::OPTIONAL).with_logical_type(Some(LogicalType::String));
                fields.push(text.with_converted_type(ConvertedType::UTF8).build()?);
            }
            ColumnKind::Numbers => fields.push(plain(Physical::FLOAT, Repetition::OPTIONAL).build()?),
            ColumnKind::Vectors | ColumnKind::SmallVectors => {
                let element =
                    |physical| Type::primitive_type_builder("element", physical).with_repetition(Repetition::REQUIRED);
                let element = match kind {
                    ColumnKind::SmallVectors => {
                        let eight_bits = LogicalType::integer(8, true);
                        element(Physical::INT32)
                            .with_logical_type(Some(eight_bits))
                            .with_converted_type(ConvertedType::INT_8)
                    }
                    _ => element(Physical::FLOAT),
                };
                let list = group("list", Repetition::REPEATED, vec![element.build()?]).build()?;
                let vector = group(name, Repetition::OPTIONAL, vec![list]).with_logical_type(Some(LogicalType::List));
                fields.push(vector.with_converted_type(ConvertedType::LIST).build()?);
            }
            ColumnKind::Outlines => {
                let wkb = Type::primitive_type_builder(GEOMETRY, Physical::BYTE_ARRAY);
                fields.push(wkb.with_repetition(Repetition::OPTIONAL).build()?);
                let side = |name| {
                    Type::primitive_type_builder(name, Physical::DOUBLE).with_repetition(Repetition::REQUIRED).build()
                };
                let sides = ["xmin", "ymin", "xmax", "ymax"].into_iter().map(side).collect::<Result<_, _>>()?;
                fields.push(group(BBOX, Repetition::OPTIONAL, sides).build()?);
            }
        }
    }
    Ok(Arc::new(group("schema", Repetition::REQUIRED, fields).build()?))
}

fn group<'a>(name: &'a str, repetition: Repetition, fields: Vec<Type>) -> parquet::schema::types::GroupTypeBuilder<'a> {
    let fields = fields.into_iter().map(Arc::new).collect();
    Type::group_type_builder(name).with_repetition(repetition).with_fields(fields)
}

/// The GeoParquet 1.1 description of the column of outlines. Without `crs`, coordinates are longitude and latitude (OGC:CRS84).
fn geo_metadata(bounds: Option<[f64; 4]>) -> serde_json::Value {
    let side = |name: &str| json!([BBOX, name]);
    let covering = json!({"xmin": side("xmin"), "ymin": side("ymin"), "xmax": side("xmax"), "ymax": side("ymax")});
    let mut column = json!({
        "encoding": "WKB",
        "geometry_types": ["Polygon", "MultiPolygon"],
        "orientation": "counterclockwise",
        "covering": {"bbox": covering},
    });
    if let Some(bounds) = bounds {
        column["bbox"] = json!(bounds);
    }
    json!({"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}})
}

fn failed(error: impl std::fmt::Display) -> OutputError {
    OutputError::Encode { format: "parquet", reason: error.to_string() }
}

/// Where the writer writes to, shared with the one who takes it out.
#[derive(Clone, Default)]
struct Outbox(Arc<Mutex<Vec<u8>>>);

impl Write for Outbox {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().ignore_poison().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
