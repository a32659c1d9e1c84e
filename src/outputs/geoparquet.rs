//! Features as GeoParquet 1.1: a row per feature with its polygons as WKB in longitude and latitude, its box, and what it is.
//!
//! The box is declared as covering, so that readers skip what they do not look at.

use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use serde_json::json;

use super::error::OutputError;
use super::geojson::{PlacedFeature, placed_features};
use super::options::RenderOptions;
use crate::prediction::Prediction;
use crate::zoo::Task;

const SCHEMA: &str = "message features {
    required binary geometry;
    required group bbox { required double xmin; required double ymin; required double xmax; required double ymax; }
    required binary category (STRING);
    required int32 category_id;
    required float score;
}";

/// WKB: little-endian, and its numbers for the two kinds of geometry.
const LITTLE_ENDIAN: u8 = 1;
const POLYGON: u32 = 3;
const MULTI_POLYGON: u32 = 6;

/// Writes the features of a georeferenced prediction as a GeoParquet file.
///
/// # Errors
/// As [`encode`](super::encode()) as GeoJSON.
pub fn encode_geoparquet(prediction: &Prediction, task: &Task, options: &RenderOptions) -> Result<Vec<u8>, OutputError> {
    let features = placed_features(prediction, task, options)?;
    write(&features, task).map_err(|error| OutputError::Encode { format: "parquet", reason: error.to_string() })
}

fn write(features: &[PlacedFeature], task: &Task) -> parquet::errors::Result<Vec<u8>> {
    let boxes: Vec<[f64; 4]> = features.iter().map(bounds).collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(Default::default()))
        .set_key_value_metadata(Some(vec![KeyValue::new("geo".to_owned(), metadata(&boxes))]))
        .build();
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    let mut rows = file.next_row_group()?;
    let text = |text: &str| ByteArray::from(text.as_bytes().to_vec());
    column::<ByteArrayType>(&mut rows, features.iter().map(|feature| ByteArray::from(wkb(feature))))?;
    for edge in 0..4 {
        column::<DoubleType>(&mut rows, boxes.iter().map(|bounds| bounds[edge]))?;
    }
    column::<ByteArrayType>(&mut rows, features.iter().map(|feature| text(task.category_name(feature.category_id))))?;
    column::<Int32Type>(&mut rows, features.iter().map(|feature| feature.category_id as i32))?;
    column::<FloatType>(&mut rows, features.iter().map(|feature| feature.score))?;
    rows.close()?;
    file.into_inner()
}

/// Writes the next column of a row group.
fn column<T: DataType>(
    rows: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: impl Iterator<Item = T::T>,
) -> parquet::errors::Result<()> {
    let Some(mut column) = rows.next_column()? else { return Ok(()) };
    column.typed::<T>().write_batch(&values.collect::<Vec<_>>(), None, None)?;
    column.close()
}

/// The metadata that makes a Parquet file a GeoParquet file. Without `crs`, coordinates are longitude and latitude of WGS 84.
fn metadata(boxes: &[[f64; 4]]) -> String {
    let covering = json!({"bbox": {
        "xmin": ["bbox", "xmin"], "ymin": ["bbox", "ymin"], "xmax": ["bbox", "xmax"], "ymax": ["bbox", "ymax"],
    }});
    let mut column = json!({"encoding": "WKB", "geometry_types": ["Polygon", "MultiPolygon"], "covering": covering});
    if let Some(all) = boxes.iter().copied().reduce(around) {
        column["bbox"] = json!(all);
    }
    json!({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}).to_string()
}

fn bounds(feature: &PlacedFeature) -> [f64; 4] {
    let points = feature.polygons.iter().flatten().flatten().map(|[x, y]| [*x, *y, *x, *y]);
    points.reduce(around).unwrap_or_default()
}

fn around(a: [f64; 4], b: [f64; 4]) -> [f64; 4] {
    [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]
}

fn wkb(feature: &PlacedFeature) -> Vec<u8> {
    let mut bytes = Vec::new();
    if feature.polygons.len() != 1 {
        begin(&mut bytes, MULTI_POLYGON, feature.polygons.len());
    }
    for rings in &feature.polygons {
        begin(&mut bytes, POLYGON, rings.len());
        for ring in rings {
            bytes.extend((ring.len() as u32).to_le_bytes());
            bytes.extend(ring.iter().flatten().flat_map(|value| value.to_le_bytes()));
        }
    }
    bytes
}

fn begin(bytes: &mut Vec<u8>, kind: u32, parts: usize) {
    bytes.push(LITTLE_ENDIAN);
    bytes.extend(kind.to_le_bytes());
    bytes.extend((parts as u32).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::*;
    use crate::georef::{Crs, GeoTransform, Georef};
    use crate::prediction::{Object, Output};
    use crate::zoo::TaskType;

    #[test]
    fn objects_are_read_back_with_their_boxes() {
        let task = Task {
            name: "ships".into(),
            task_type: TaskType::Detect,
            categories: vec!["background".into(), "ship".into()],
            colors: vec![],
            background_invalid: false,
        };
        let object = |x: f32| Object { bbox_px: [x, 1.0, x + 2.0, 3.0], score: 0.75, category_id: 1, mask: None };
        let transform = GeoTransform::north_up(10.0, 50.0, 0.5, 0.5);
        let prediction = Prediction {
            output: Output::Objects(vec![object(2.0), object(4.0)]),
            width: 10,
            height: 10,
            georef: Some(Georef { crs: Crs::lon_lat(), transform, width: 10, height: 10 }),
            warnings: Vec::new(),
        };
        let bytes = encode_geoparquet(&prediction, &task, &RenderOptions::default()).unwrap();
        let file = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        let geo = file.metadata().file_metadata().key_value_metadata().unwrap()[0].value.clone().unwrap();
        assert!(geo.contains(r#""bbox":[11.0,48.5,13.0,49.5]"#), "{geo}");
        let rows: Vec<_> = file.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 2);
        let bounds = rows[0].get_group(1).unwrap();
        assert_eq!((bounds.get_double(0).unwrap(), bounds.get_double(3).unwrap()), (11.0, 49.5));
        assert_eq!((rows[0].get_string(2).unwrap().as_str(), rows[0].get_float(4).unwrap()), ("ship", 0.75));
        // Order, kind, one ring of five points.
        assert_eq!(rows[0].get_bytes(0).unwrap().data().len(), 1 + 4 + 4 + 4 + 5 * 16);
    }
}
