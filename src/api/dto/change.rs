//! What has changed on an area, as JSON.

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::words;
use crate::api::error::Problem;
use crate::engine::CaptureNumbers;
use crate::raster::CaptureSelection;

/// An area of a registered source, and two sets of its captures that are compared. The operation's query parameters may be members, too.
#[derive(Deserialize, ToSchema)]
#[schema(as = ChangeRequest)]
#[allow(dead_code, reason = "documents the body, whose members are read with those that the query has")]
pub(crate) struct ChangeBody {
    /// Id of the imagery, as in `GET /v1/sources`.
    #[schema(example = "world")]
    source: String,
    /// West, south, east, north in degrees; west is greater than east in a box that crosses the antimeridian.
    #[schema(value_type = Option<Vec<f64>>, min_items = 4, max_items = 4, example = json!([-10, 35, 20, 60]))]
    bbox: Option<[f64; 4]>,
    /// A GeoJSON Polygon or MultiPolygon in longitude and latitude. What lies outside has no data.
    #[schema(value_type = Option<Object>)]
    geometry: Option<Value>,
    /// The captures before: an instant, a day or an interval (RFC 3339; `..` for an open end), or 1-based numbers of captures such as
    /// `1` or `1,2`.
    #[schema(example = "2021-06-01/2021-08-31")]
    before: String,
    /// The captures after, in the same way.
    #[schema(example = "2024-06-01/2024-08-31")]
    after: String,
    /// How the imagery is resampled to the grid of the area.
    #[schema(value_type = Option<words::Resampling>)]
    resampling: Option<String>,
    /// Coordinate system of the grid, as for `predict_area`.
    crs: Option<String>,
    /// Side of a pixel in units of that system.
    pixel_size: Option<f64>,
}

/// The format of a comparison.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChangeParams {
    /// Format of the result: `png` (the default), `webp`, `tif` or `geojson`, for embeddings also `npy`. Default: by the `Accept` header.
    #[param(value_type = Option<words::PredictFormat>)]
    pub format: Option<String>,
}

/// Takes the two sets of captures out of a body.
///
/// # Errors
/// If one is missing or malformed.
pub(crate) fn take_captures(body: &mut Map<String, Value>) -> Result<[CaptureSelection; 2], Problem> {
    if let Some(name) = ["datetime", "captures"].into_iter().find(|name| body.contains_key(*name)) {
        return Err(Problem::invalid(format!("{name}: before and after say which captures are meant; leave it out")));
    }
    let mut take = |name: &str| {
        let needed =
            "a date, an instant, an interval or numbers of captures is needed, such as 2021-06-01/2021-08-31 or 1,2";
        match body.remove(name) {
            Some(Value::String(text)) => selection(name, &text),
            Some(Value::Number(number)) => selection(name, &number.to_string()),
            Some(found) => Err(Problem::invalid(format!("{name}: found {found}; {needed}"))),
            None => Err(Problem::invalid(format!("{name}: found none; {needed}"))),
        }
    };
    Ok([take("before")?, take("after")?])
}

fn selection(name: &str, text: &str) -> Result<CaptureSelection, Problem> {
    let of = |error: Problem| Problem { detail: format!("{name}: {}", error.detail), ..error };
    let are_numbers = text.chars().all(|c| c.is_ascii_digit() || c == ',' || c == ' ');
    Ok(if are_numbers {
        let CaptureNumbers(numbers) = text.parse::<CaptureNumbers>().map_err(|error| of(error.into()))?;
        CaptureSelection { captures: Some(numbers), datetime: None }
    } else {
        CaptureSelection { captures: None, datetime: Some(text.parse().map_err(|error| of(Problem::from(error)))?) }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn taken(body: Value) -> Result<[CaptureSelection; 2], Problem> {
        take_captures(&mut body.as_object().unwrap().clone())
    }

    #[test]
    fn captures_are_numbers_or_times() {
        let [before, after] = taken(json!({"before": "2, 1", "after": "2024-06-01/.."})).unwrap();
        assert_eq!((before.captures, before.datetime), (Some(vec![1, 0]), None));
        assert!(after.captures.is_none() && after.datetime.is_some());
        assert_eq!(taken(json!({"before": 1, "after": 2})).unwrap()[1].captures, Some(vec![1]));
        for (body, word) in [
            (json!({"before": "1"}), "after: found none"),
            (json!({"before": "June", "after": "1"}), "before: datetime"),
            (json!({"before": "0", "after": "1"}), "before: captures"),
            (json!({"before": [1], "after": "1"}), "before: found [1]"),
            (json!({"before": "1", "after": "2", "datetime": "2024-06-01"}), "datetime: before and after"),
        ] {
            let detail = taken(body).unwrap_err().detail;
            assert!(detail.contains(word), "{detail}");
        }
    }
}
