//! The features of a prediction as GeoParquet: a row each with its polygons, its box, and what it is.

use super::error::OutputError;
use super::geojson::placed_features;
use super::options::RenderOptions;
use super::parquet_table::{Column, ColumnKind, ParquetTable};
use crate::prediction::Prediction;
use crate::zoo::Task;

/// Features in a row group: readers skip groups whose boxes lie elsewhere.
const GROUP_FEATURES: usize = 10_000;

const COLUMNS: [(&str, ColumnKind); 4] = [
    ("geometry", ColumnKind::Outlines),
    ("category", ColumnKind::Texts),
    ("category_id", ColumnKind::Integers),
    ("score", ColumnKind::Numbers),
];

/// Writes the features of a georeferenced prediction as a GeoParquet file.
///
/// # Errors
/// As [`encode`](super::encode()) as GeoJSON.
pub fn encode_geoparquet(prediction: &Prediction, task: &Task, options: &RenderOptions) -> Result<Vec<u8>, OutputError> {
    let features = placed_features(prediction, task, options)?;
    let mut table = ParquetTable::new(&COLUMNS)?;
    for group in features.chunks(GROUP_FEATURES) {
        let name = |category_id: usize| Some(task.category_name(category_id).to_owned());
        table.add(&[
            Column::Outlines(group.iter().map(|feature| Some(feature.polygons.clone())).collect()),
            Column::Texts(group.iter().map(|feature| name(feature.category_id)).collect()),
            Column::Integers(group.iter().map(|feature| feature.category_id as i64).collect()),
            Column::Numbers(group.iter().map(|feature| Some(feature.score)).collect()),
        ])?;
    }
    table.finish()
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
            value_range: None,
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
