//! The request for places to label next, and its answer in GeoJSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::imagery_body::imagery_body;
use crate::api::error::Problem;
use crate::engine::{SuggestRequest, Suggestion, Suggestions};
use crate::georef::Bounds;

/// Most places of an answer, and their usual number.
const MAX_COUNT: usize = 100;
const USUAL_COUNT: usize = 10;

imagery_body! {
    /// Where labels are wanted.
    #[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
    #[serde(deny_unknown_fields)]
    #[schema(as = Suggest)]
    pub(crate) struct SuggestBody {
        /// Id of the source to look at, as in `GET /v1/sources`.
        #[schema(example = "world")]
        pub source: String,
        /// Where to look: west, south, east, north in degrees; west is greater than east in a box that crosses the antimeridian. Default:
        /// the whole source.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<Vec<f64>>, min_items = 4, max_items = 4, example = json!([-20.0, 0.0, 40.0, 40.0]))]
        pub bbox: Option<[f64; 4]>,
        /// How many places, at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(default = 10, minimum = 1, maximum = 100, example = 10)]
        pub count: Option<usize>,
    }
}

impl SuggestBody {
    /// # Errors
    /// If a value is malformed or out of range.
    pub(crate) fn request(&self, model: String) -> Result<SuggestRequest, Problem> {
        let count = self.count.unwrap_or(USUAL_COUNT);
        if !(1..=MAX_COUNT).contains(&count) {
            return Err(Problem::invalid(format!("count: found {count}; 1 to {MAX_COUNT} is needed")));
        }
        let areas = self.bbox.map_or(Ok(Vec::new()), areas_of)?;
        Ok(SuggestRequest { model, source: self.source.clone(), areas, count, pixels: self.pixels()? })
    }
}

/// A box as one or, across the antimeridian, two.
///
/// # Errors
/// If it is none.
fn areas_of(bbox: [f64; 4]) -> Result<Vec<Bounds>, Problem> {
    let [west, south, east, north] = bbox;
    let is_lon = |lon: &f64| (-180.0..=180.0).contains(lon);
    if south >= north || west == east || ![west, east].iter().all(is_lon) {
        let needed = "west, south, east and north in degrees, south below north, are needed";
        return Err(Problem::invalid(format!("bbox: found {bbox:?}; {needed}")));
    }
    let part = |min_x, max_x| Bounds { min_x, min_y: south, max_x, max_y: north };
    Ok(if west < east { vec![part(west, east)] } else { vec![part(west, 180.0), part(-180.0, east)] })
}

/// Places to label (GeoJSON, RFC 7946), the most helpful first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Suggestions)]
pub(crate) struct SuggestionsDto {
    /// Always `FeatureCollection`.
    #[serde(rename = "type")]
    #[schema(example = "FeatureCollection")]
    kind: &'static str,
    features: Vec<SuggestionDto>,
    /// Warnings about the imagery; absent if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// A place to label.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SuggestedPlace)]
pub(crate) struct SuggestionDto {
    /// Always `Feature`.
    #[serde(rename = "type")]
    #[schema(example = "Feature")]
    kind: &'static str,
    geometry: PointDto,
    properties: SuggestionProperties,
}

/// A point in longitude and latitude.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Point)]
pub(crate) struct PointDto {
    /// Always `Point`.
    #[serde(rename = "type")]
    #[schema(example = "Point")]
    kind: &'static str,
    /// Longitude and latitude, in degrees.
    coordinates: [f64; 2],
}

/// Why a place is suggested.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SuggestionProperties {
    /// How unsure the model is: from 0 to 1, where two categories are equally likely.
    score: f64,
    /// What the model takes the place for; absent if it finds none of the categories there.
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
}

impl From<Suggestions> for SuggestionsDto {
    fn from(found: Suggestions) -> Self {
        let feature = |Suggestion { place, uncertainty, category }| SuggestionDto {
            kind: "Feature",
            geometry: PointDto { kind: "Point", coordinates: place },
            properties: SuggestionProperties { score: uncertainty, category },
        };
        let features = found.places.into_iter().map(feature).collect();
        Self { kind: "FeatureCollection", features, warnings: found.warnings }
    }
}
