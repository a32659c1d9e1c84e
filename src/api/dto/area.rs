//! An area of a source as JSON: what `POST /v1/predict` and area jobs are asked for.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{parsed, words};
use crate::api::error::Problem;
use crate::engine::{AreaRequest, AreaShape};
use crate::raster::{DatetimeRange, Resampling};

/// An area of a registered source: `bbox` or `geometry`.
#[derive(Deserialize, ToSchema)]
#[schema(as = Area)]
#[allow(dead_code, reason = "documents members that are read as AreaParams")]
pub(crate) struct AreaMembers {
    /// Id of the imagery to run on, as in `GET /v1/sources`.
    #[schema(example = "world")]
    source: String,
    /// West, south, east, north in degrees; west is greater than east in a box that crosses the antimeridian.
    #[schema(value_type = Option<Vec<f64>>, min_items = 4, max_items = 4, example = json!([-10, 35, 20, 60]))]
    bbox: Option<[f64; 4]>,
    /// A GeoJSON Polygon or MultiPolygon in longitude and latitude. What lies outside has no data.
    #[schema(value_type = Option<Object>)]
    geometry: Option<Value>,
    /// Use only captures taken at this instant, on this day or in this interval (RFC 3339; `..` for an open end).
    datetime: Option<String>,
    /// How the imagery is resampled to the grid of the area.
    #[schema(value_type = Option<words::Resampling>)]
    resampling: Option<String>,
    /// Coordinate system of the grid: `auto` (the source's own if it is projected, else UTM, else Web Mercator), `utm`, `source` or a
    /// code such as `EPSG:3035`.
    crs: Option<String>,
    /// Side of a pixel in units of that system. Default: what the model was trained on, or the source's own if that is near.
    pixel_size: Option<f64>,
    /// 1-based numbers of the captures to use.
    captures: Option<Vec<u32>>,
}

/// An area of a registered source to predict on. The operation's query parameters may be members, too.
#[derive(Deserialize, ToSchema)]
#[schema(as = AreaRequest, example = json!({"source": "world", "bbox": [-10, 35, 20, 60], "format": "tif"}))]
#[allow(dead_code, reason = "documents the body, whose members are read with those that the query has")]
pub(crate) struct AreaBody {
    /// Format of the result.
    #[schema(value_type = Option<words::PredictFormat>)]
    format: Option<String>,
    #[serde(flatten)]
    area: AreaMembers,
}

/// An area of a registered source to predict on in blocks. The parameters of `POST /v1/predict` may be members, too.
#[derive(Deserialize, ToSchema)]
#[schema(as = AreaJob)]
#[allow(dead_code, reason = "documents the body, whose members are read with those that predictions have")]
pub(crate) struct AreaJobBody {
    /// Model id.
    #[schema(example = "world")]
    model: String,
    /// One of its tasks.
    #[schema(example = "water")]
    task: String,
    /// About how many pixels the sides of a block have.
    #[schema(minimum = 512, maximum = 16384, default = 4096)]
    block_px: Option<u32>,
    /// Embeddings only: side of the cells, each a pixel of a `tif` or a row of a `parquet`, in pixels of the model. A multiple of the
    /// layer's stride, which is the default, that divides 256.
    #[schema(minimum = 1, maximum = 256)]
    cell_px: Option<u32>,
    /// Embeddings only: how values are stored.
    #[schema(value_type = Option<words::CellPrecision>)]
    precision: Option<String>,
    /// Embeddings only: project the vectors to so many dimensions, by principal components of a sample of the area. `encoding.json` in the
    /// result has the projection.
    #[schema(minimum = 1, maximum = 256)]
    pca: Option<u32>,
    /// Where the files go: a name below the place that the server has for results, such as `water/2024`. Without it, the result is a zip
    /// file of them.
    #[schema(max_length = 200)]
    destination: Option<String>,
    #[serde(flatten)]
    area: AreaBody,
}

/// An area of a registered source to make an index of. The parameters for reading imagery of `POST /v1/predict` may be members, too.
#[derive(Deserialize, ToSchema)]
#[schema(as = AreaIndex)]
#[allow(dead_code, reason = "documents the body, whose members are read with those that predictions have")]
pub(crate) struct AreaIndexBody {
    /// Id of the new index: 1 to 64 letters, digits, `_`, `-` or `.`.
    #[schema(example = "fields", pattern = "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$")]
    id: String,
    /// Short description.
    title: Option<String>,
    /// Model id.
    #[schema(example = "world")]
    model: String,
    /// The layer whose vectors are kept.
    #[schema(default = "backbone.3", example = "backbone.3")]
    layer: Option<String>,
    /// Side of the cells, one row each, in pixels of the model: a multiple of the pixels that a position of the layer stands for.
    #[schema(minimum = 8, maximum = 512, default = 64)]
    cell_px: Option<u32>,
    #[serde(flatten)]
    area: AreaMembers,
}

/// The members of a body that say which area is meant, as the client sent them. Jobs store them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AreaParams {
    pub source: Option<String>,
    #[serde(default)]
    pub bbox: Value,
    #[serde(default)]
    pub geometry: Value,
    pub datetime: Option<String>,
    pub resampling: Option<String>,
    pub crs: Option<String>,
    pub pixel_size: Option<f64>,
}

impl AreaParams {
    /// The names of its members.
    pub(crate) const MEMBERS: [&str; 7] = ["source", "bbox", "geometry", "datetime", "resampling", "crs", "pixel_size"];

    /// Divides a body into the area and its other members as pairs of texts, as a query has them.
    ///
    /// # Errors
    /// If a member is of a type that it cannot have.
    pub(crate) fn split(body: Map<String, Value>) -> Result<(Self, Vec<(String, String)>), Problem> {
        let (own, others): (Map<_, _>, Map<_, _>) =
            body.into_iter().partition(|(name, _)| Self::MEMBERS.contains(&name.as_str()));
        let area = serde_path_to_error::deserialize(Value::from(own))
            .map_err(|error| Problem::invalid(format!("{}: {}", error.path(), error.inner())))?;
        let given = others.into_iter().filter(|(_, value)| !value.is_null());
        let options = given.map(|(name, value)| {
            let text = text(&value).ok_or_else(|| {
                Problem::invalid(format!("{name}: found {}; a text, a number or a list is needed", kind(&value)))
            })?;
            Ok((name, text))
        });
        Ok((area, options.collect::<Result<_, Problem>>()?))
    }

    /// The parsed area.
    ///
    /// # Errors
    /// If there is no source, not exactly one of box and geometry, or a value is malformed.
    pub(crate) fn request(&self) -> Result<AreaRequest, Problem> {
        let needed = "the id of a source is needed, such as world (GET /v1/sources lists them)";
        let source = self.source.clone().ok_or_else(|| Problem::invalid(format!("source: found none; {needed}")))?;
        let shape = match (self.bbox.is_null(), self.geometry.is_null()) {
            (false, true) => AreaShape::from_bbox(&self.bbox)?,
            (true, false) => AreaShape::from_geometry(&self.geometry)?,
            (true, true) => return Err(Problem::invalid("found no area; bbox or geometry is needed")),
            (false, false) => return Err(Problem::invalid("found bbox and geometry; one of them is needed")),
        };
        Ok(AreaRequest { source, shape, crs: parsed(&self.crs)?.unwrap_or_default(), pixel_size: self.pixel_size })
    }

    /// The instants at which captures may have been taken; `None` for all.
    ///
    /// # Errors
    /// If `datetime` is not an RFC 3339 instant, date or interval.
    pub(crate) fn datetime(&self) -> Result<Option<DatetimeRange>, Problem> {
        parsed(&self.datetime)
    }

    /// How pixels are resampled to the grid.
    ///
    /// # Errors
    /// If there is no such resampling.
    pub(crate) fn resampling(&self) -> Result<Resampling, Problem> {
        Ok(parsed(&self.resampling)?.unwrap_or_default())
    }
}

/// A text, a number, or a list of them, as a query writes it.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Array(items) if items.iter().all(|item| !item.is_array()) => {
            Some(items.iter().map(text).collect::<Option<Vec<_>>>()?.join(","))
        }
        _ => None,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "a list of lists",
        Value::Object(_) => "an object",
        _ => "true or false",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn split(body: Value) -> Result<(AreaParams, Vec<(String, String)>), Problem> {
        AreaParams::split(body.as_object().unwrap().clone())
    }

    #[test]
    fn a_body_is_an_area_and_options() {
        let body = json!({"source": "world", "bbox": [1, 2, 3, 4], "captures": [1, 2], "threshold": 0.5, "format": "tif", "bands": null});
        let (area, options) = split(body).unwrap();
        assert_eq!(area.request().unwrap().shape.bounds(), [1.0, 2.0, 3.0, 4.0]);
        let pair = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        assert_eq!(options, [pair("captures", "1,2"), pair("format", "tif"), pair("threshold", "0.5")]);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let geometry = json!({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]});
        for (body, word) in [
            (json!({"bbox": [1, 2, 3, 4]}), "id of a source"),
            (json!({"source": "world"}), "bbox or geometry"),
            (json!({"source": "world", "bbox": [1, 2, 3, 4], "geometry": geometry}), "one of them"),
            (json!({"source": "world", "bbox": [1, 2, 3, 4], "crs": "UTM32"}), "EPSG:code"),
            (json!({"source": 7}), "string"),
            (json!({"source": "world", "threshold": {"a": 1}}), "an object"),
        ] {
            let error = split(body).and_then(|(area, _)| area.request()).unwrap_err();
            assert!(error.detail.contains(word), "{}", error.detail);
        }
    }
}
