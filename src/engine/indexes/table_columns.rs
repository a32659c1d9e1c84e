//! Which columns of a Parquet file hold the vectors, names, outlines and times of an index.

use bytes::Bytes;
use parquet::basic::{LogicalType, TimeUnit, Type as Physical};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;
use serde_json::Value;

use super::table_error::unusable;
use crate::engine::error::EngineError;

/// Columns of a table that are looked at.
const MAX_COLUMNS: usize = 4096;

/// Which columns of a table are meant, by name.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    /// The vectors; `None`: the only column of lists of numbers.
    pub vectors: Option<String>,
    /// The names of the rows; `None`: a column `id`, else `name`, else the rows are numbered.
    pub names: Option<String>,
    /// Their times; `None`: a column `datetime`, if there is one.
    pub times: Option<String>,
}

/// The columns of a Parquet file that are read, by their numbers among the leaves of its schema.
pub(super) struct Columns {
    pub(super) vectors: usize,
    pub(super) names: Option<usize>,
    pub(super) outlines: Option<usize>,
    pub(super) times: Option<(usize, TimeKind)>,
}

/// How a column writes times.
#[derive(Clone, Copy)]
pub(super) enum TimeKind {
    Text,
    /// So many to a millisecond.
    Units(i64),
}

/// Finds the columns that are meant.
///
/// # Errors
/// [`EngineError::Unusable`] with the columns that there are.
pub(super) fn find_columns(file: &SerializedFileReader<Bytes>, options: &TableOptions) -> Result<Columns, EngineError> {
    let metadata = file.metadata().file_metadata();
    let leaves = metadata.schema_descr().columns();
    if leaves.len() > MAX_COLUMNS {
        return Err(unusable(&format!("it has {} columns; at most {MAX_COLUMNS} are looked at", leaves.len())));
    }
    let name = |leaf: usize| leaves[leaf].path().parts().first().map_or("", String::as_str);
    let is_list = |leaf: usize| {
        let column = &leaves[leaf];
        // Vectors in 8 bits have a scale for each row, which changes no direction.
        let eight_bits = LogicalType::integer(8, true);
        let is_small = column.physical_type() == Physical::INT32 && column.logical_type_ref() == Some(&eight_bits);
        let is_float = matches!(column.physical_type(), Physical::FLOAT | Physical::DOUBLE);
        column.max_rep_level() == 1 && (is_float || is_small)
    };
    let lists: Vec<usize> = (0..leaves.len()).filter(|leaf| is_list(*leaf)).collect();
    let names_of = |leaves: &[usize]| leaves.iter().map(|leaf| name(*leaf)).collect::<Vec<_>>().join(", ");
    let wanted = |leaf: &&usize| options.vectors.as_deref().is_none_or(|wanted| name(**leaf) == wanted);
    let vectors = match (lists.iter().filter(wanted).collect::<Vec<_>>().as_slice(), &options.vectors) {
        ([leaf], _) => **leaf,
        (_, Some(wanted)) => {
            let detail = format!("it has no column {wanted:?} of lists of floats; those it has: {}", names_of(&lists));
            return Err(unusable(&detail));
        }
        ([], None) => {
            let all: Vec<usize> = (0..leaves.len().min(50)).collect();
            let detail = format!("it has no column of lists of floats (a vector each); its columns: {}", names_of(&all));
            return Err(unusable(&detail));
        }
        (_, None) => {
            let detail = format!("it has several columns of lists of floats: {}; vectors= names one", names_of(&lists));
            return Err(unusable(&detail));
        }
    };
    let plain = |wanted: &str, kinds: &[Physical]| {
        let fits = |leaf: &usize| {
            let column = &leaves[*leaf];
            name(*leaf) == wanted
                && column.max_rep_level() == 0
                && column.path().parts().len() == 1
                && kinds.contains(&column.physical_type())
        };
        (0..leaves.len()).find(fits)
    };
    let needed = |found: Option<usize>, wanted: &Option<String>, what: &str| match (found, wanted) {
        (None, Some(wanted)) => Err(unusable(&format!("it has no column {wanted:?} of {what}"))),
        (found, _) => Ok(found),
    };
    let name_kinds = [Physical::BYTE_ARRAY, Physical::INT64, Physical::INT32];
    let names = match &options.names {
        Some(wanted) => plain(wanted, &name_kinds),
        None => plain("id", &name_kinds).or_else(|| plain("name", &name_kinds)),
    };
    let names = needed(names, &options.names, "texts or whole numbers")?;
    let times = plain(options.times.as_deref().unwrap_or("datetime"), &[Physical::BYTE_ARRAY, Physical::INT64]);
    let times = match needed(times, &options.times, "times")? {
        Some(leaf) => Some((leaf, time_kind(&leaves[leaf])?)),
        None => None,
    };
    let geo = metadata.key_value_metadata().into_iter().flatten().find(|entry| entry.key == "geo");
    let geometry = geo.and_then(|entry| entry.value.as_deref()).map(geometry_column).transpose()?;
    let outlines = geometry.and_then(|geometry| plain(&geometry, &[Physical::BYTE_ARRAY]));
    Ok(Columns { vectors, names, outlines, times })
}

/// The name of the geometry column that a GeoParquet file describes.
fn geometry_column(text: &str) -> Result<String, EngineError> {
    let geo: Value = serde_json::from_str(text).map_err(|error| unusable(&format!("its geo metadata: {error}")))?;
    let name = geo["primary_column"].as_str().unwrap_or("geometry");
    let column = &geo["columns"][name];
    let encoding = column["encoding"].as_str().unwrap_or("WKB");
    if encoding != "WKB" {
        return Err(unusable(&format!("its geometries are encoded as {encoding}; WKB is needed")));
    }
    let id = &column["crs"]["id"];
    let is_degrees = match (id["authority"].as_str(), &id["code"]) {
        (None, _) => column["crs"].is_null(),
        (Some("OGC"), code) => code == "CRS84",
        (Some("EPSG"), code) => code == 4326 || code == "4326",
        _ => false,
    };
    if is_degrees {
        return Ok(name.to_owned());
    }
    let found =
        id["authority"].as_str().map_or_else(|| "one without a number".to_owned(), |it| format!("{it}:{}", id["code"]));
    let detail = format!("its coordinate system is {found}; longitude and latitude are needed (geopandas: to_crs(4326))");
    Err(unusable(&detail))
}

fn time_kind(column: &ColumnDescriptor) -> Result<TimeKind, EngineError> {
    if column.physical_type() == Physical::BYTE_ARRAY {
        return Ok(TimeKind::Text);
    }
    match column.logical_type_ref() {
        Some(LogicalType::Timestamp(timestamp)) => Ok(TimeKind::Units(match timestamp.unit {
            TimeUnit::MILLIS => 1,
            TimeUnit::MICROS => 1000,
            TimeUnit::NANOS => 1_000_000,
        })),
        _ => Err(unusable(&format!("its column {:?} has whole numbers; timestamps or texts are needed", column.name()))),
    }
}
