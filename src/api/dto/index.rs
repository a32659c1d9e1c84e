//! Indexes of vectors as JSON: descriptions, and searches with what they find.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::words;
use crate::api::error::Problem;
use crate::engine::{Example, Found, Index, IndexOrigin, IndexRecord, SimilarRequest};
use crate::raster::Timestamp;

/// Results without `limit`.
const DEFAULT_LIMIT: usize = 100;

/// Every index, by id.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IndexList {
    /// The indexes.
    pub indexes: Vec<IndexDto>,
}

/// Vectors that can be searched, and the places they belong to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Index)]
pub(crate) struct IndexDto {
    /// Identifier in URLs.
    #[schema(example = "fields")]
    pub id: String,
    /// Short description.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Number of vectors.
    pub rows: usize,
    /// Values of each vector.
    pub dimensions: usize,
    /// Model whose embeddings they are; absent for tables that were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "world")]
    pub model: Option<String>,
    /// The layer of the embeddings.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "backbone.3")]
    pub layer: Option<String>,
    /// Imagery that they are of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "world")]
    pub source: Option<String>,
    /// Side of a cell, which a row is about, in pixels of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 64)]
    pub cell_px: Option<usize>,
    /// True if rows lie somewhere on the Earth, so that they can be found by points and boxes.
    pub has_places: bool,
    /// True if rows have a time.
    pub has_times: bool,
    /// Bytes on disk.
    pub bytes: u64,
    /// When it was made.
    #[schema(example = "2026-11-29T10:00:00Z")]
    pub created: String,
}

impl From<&Index> for IndexDto {
    fn from(index: &Index) -> Self {
        let record = index.record.clone();
        let (model, layer, source, cell_px) = match record.origin {
            IndexOrigin::Upload => (None, None, None, None),
            IndexOrigin::Area { model, layer, source, cell_px } => (Some(model), Some(layer), Some(source), Some(cell_px)),
        };
        Self {
            model,
            layer,
            source,
            cell_px,
            bytes: index.bytes(),
            created: Timestamp::from_millisecond(record.created_ms).unwrap_or_default().to_string(),
            id: record.id,
            title: record.title,
            rows: record.rows,
            dimensions: record.dimensions,
            has_places: record.has_places,
            has_times: record.has_times,
        }
    }
}

/// What a table is to be called, and which of its columns are meant.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TableParams {
    /// Id of the new index: 1 to 64 letters, digits, `_`, `-` or `.`. By default it is derived from the content.
    #[param(pattern = "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$")]
    pub id: Option<String>,
    /// Short description.
    pub title: Option<String>,
    /// The column of vectors. Default: the only column of lists of floats.
    pub vectors: Option<String>,
    /// The column of the rows' ids. Default: `id`, else `name`, else rows are numbered from 0.
    pub ids: Option<String>,
    /// The column of times (timestamps, or texts such as 2024-06-01). Default: `datetime`, if there is one.
    pub times: Option<String>,
}

/// What chips are asked for that are examples.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ExampleModelParams {
    /// Model whose embeddings the index holds, such as `world`. Needed if the index was made of a table.
    pub model: Option<String>,
    /// Layer of these embeddings. Default: that of the index, and of a table `backbone.3`.
    #[param(value_type = Option<words::Layer>)]
    pub layer: Option<String>,
}

impl ExampleModelParams {
    /// The model and the layer of the vectors of an index.
    ///
    /// # Errors
    /// If it was made of others, or it is not known of what.
    pub(crate) fn of_index(self, record: &IndexRecord) -> Result<(String, String), Problem> {
        let IndexOrigin::Area { model, layer, .. } = &record.origin else {
            let needed = "the model whose embeddings the table held is needed";
            let model = self.model.ok_or_else(|| Problem::invalid(format!("model: found none; {needed}")))?;
            return Ok((model, self.layer.unwrap_or_else(|| "backbone.3".to_owned())));
        };
        for (name, found, own) in [("model", &self.model, model), ("layer", &self.layer, layer)] {
            if let Some(found) = found.as_ref().filter(|found| *found != own) {
                return Err(Problem::invalid(format!("{name}: found {found:?}; index {:?} is of {own:?}", record.id)));
            }
        }
        Ok((model.clone(), layer.clone()))
    }
}

/// What to search for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"limit": 10}))]
pub(crate) struct SimilarSearch {
    /// Examples of what is searched for; at least one, here or as a chip.
    #[serde(default)]
    pub positive: Vec<ExampleDto>,
    /// Examples of what is not.
    #[serde(default)]
    pub negative: Vec<ExampleDto>,
    /// Only rows that touch west, south, east, north in degrees. West may be greater than east, across the antimeridian.
    #[schema(value_type = Option<Vec<f64>>, min_items = 4, max_items = 4)]
    pub bbox: Option<[f64; 4]>,
    /// Only rows of this time: a date, an instant, or two of them separated by a slash, one of which may be `..`.
    #[schema(example = "2024-06-01/..")]
    pub datetime: Option<String>,
    /// Only rows with at least this score.
    pub min_score: Option<f32>,
    /// At most so many rows; 100 by default, at most 10000.
    pub limit: Option<usize>,
}

/// An example, in one of four ways.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SearchExample)]
pub(crate) struct ExampleDto {
    /// The id of a row.
    pub id: Option<String>,
    /// A vector, such as an embedding of the same model and layer.
    pub vector: Option<Vec<f32>>,
    /// Longitude and latitude of a place in a row.
    #[schema(value_type = Option<Vec<f64>>, min_items = 2, max_items = 2)]
    pub point: Option<[f64; 2]>,
    /// West, south, east, north: all rows with their centre in it.
    #[schema(value_type = Option<Vec<f64>>, min_items = 4, max_items = 4)]
    pub bbox: Option<[f64; 4]>,
}

impl TryFrom<ExampleDto> for Example {
    type Error = Problem;

    fn try_from(example: ExampleDto) -> Result<Self, Problem> {
        match example {
            ExampleDto { id: Some(id), vector: None, point: None, bbox: None } => Ok(Self::Name(id)),
            ExampleDto { id: None, vector: Some(vector), point: None, bbox: None } => Ok(Self::Vector(vector)),
            ExampleDto { id: None, vector: None, point: Some(point), bbox: None } => Ok(Self::Point(point)),
            ExampleDto { id: None, vector: None, point: None, bbox: Some(bbox) } => Ok(Self::Bounds(bbox)),
            _ => Err(Problem::invalid("an example is one of id, vector, point and bbox")),
        }
    }
}

impl TryFrom<SimilarSearch> for SimilarRequest {
    type Error = Problem;

    fn try_from(search: SimilarSearch) -> Result<Self, Problem> {
        let examples = |list: Vec<ExampleDto>| list.into_iter().map(Example::try_from).collect::<Result<Vec<_>, Problem>>();
        Ok(Self {
            positive: examples(search.positive)?,
            negative: examples(search.negative)?,
            bounds: search.bbox,
            datetime: super::parsed(&search.datetime)?,
            min_score: search.min_score.unwrap_or(f32::NEG_INFINITY),
            limit: search.limit.unwrap_or(DEFAULT_LIMIT),
        })
    }
}

/// GeoJSON (RFC 7946): the rows that were found, the best first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SimilarRows {
    /// Always `FeatureCollection`.
    #[serde(rename = "type")]
    #[schema(example = "FeatureCollection")]
    kind: &'static str,
    /// The rows.
    features: Vec<SimilarRow>,
    /// Warnings about suspicious pixels of chips; absent if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// A row that was found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SimilarRow {
    /// Always `Feature`.
    #[serde(rename = "type")]
    #[schema(example = "Feature")]
    kind: &'static str,
    /// Its id.
    id: String,
    /// Its place as a GeoJSON geometry; null if it has none.
    #[schema(value_type = Option<Object>)]
    geometry: Option<serde_json::Value>,
    /// How like the examples it is.
    properties: SimilarRowProperties,
}

/// How like the examples a row is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SimilarRowProperties {
    /// The mean of its cosines with the positive examples, less that with the negative ones.
    score: f32,
    /// Its number in the table, without rows that have no vector.
    row: u32,
    /// Its time; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "2024-06-01T00:00:00Z")]
    datetime: Option<String>,
}

impl SimilarRows {
    pub(crate) fn new(found: Vec<Found>, warnings: Vec<String>) -> Self {
        let feature = |Found { name, row, score, geometry, datetime }: Found| SimilarRow {
            kind: "Feature",
            id: name,
            geometry,
            properties: SimilarRowProperties { score, row, datetime: datetime.map(|time| time.to_string()) },
        };
        Self { kind: "FeatureCollection", features: found.into_iter().map(feature).collect(), warnings }
    }
}
