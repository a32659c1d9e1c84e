//! GeoJSON (RFC 7946): longitude and latitude in degrees if the image is georeferenced, else pixels.
//!
//! In the written coordinates, exterior rings run counter-clockwise and holes clockwise. If a straight line of pixels is a
//! curve in longitude and latitude, points are added at fixed pixel positions, so that neighbouring polygons get the same
//! points.

use serde::Serialize;

use super::error::OutputError;
use super::features::{PixelFeature, PixelRing, features};
use super::format::Format;
use super::json::{ByCategory, best_score};
use super::mask::PixelRect;
use super::options::RenderOptions;
use crate::georef::{Crs, Georef};
use crate::prediction::{Output, Prediction};
use crate::zoo::{Task, TaskType};

/// Degrees are rounded to 1 / this: a centimetre on the ground.
const DEGREE_STEPS: f64 = 1e7;

/// Pixels are rounded to 1 / this.
const PIXEL_STEPS: f64 = 1e3;

/// Distance between the points added to long edges. At 10 m per pixel, the chord is within a centimetre of the curve.
const DENSIFY_PX: f64 = 64.0;

/// Most points added to one edge; on longer edges their distance grows.
const MAX_EDGE_POINTS: f64 = 4096.0;

/// Positions of a closed line.
pub(super) type Ring = Vec<[f64; 2]>;

#[derive(Serialize)]
struct Collection<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    coordinates: Option<&'static str>,
    features: Vec<Feature<'a>>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Feature<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    geometry: Geometry,
    properties: FeatureProperties<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", content = "coordinates")]
enum Geometry {
    Polygon(Vec<Ring>),
    MultiPolygon(Vec<Vec<Ring>>),
}

#[derive(Serialize)]
struct FeatureProperties<'a> {
    category: &'a str,
    category_id: usize,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<ByCategory<'a>>,
}

/// A feature in written coordinates.
pub(super) struct PlacedFeature {
    /// Each has its exterior ring first, then its holes; rings are closed.
    pub(super) polygons: Vec<Vec<Ring>>,
    /// Index into the task's categories.
    pub(super) category_id: usize,
    /// The object's score, or the mean probability of the region's pixels.
    pub(super) score: f32,
}

/// The features of a prediction. Those with a point that has no longitude and latitude are left out.
///
/// # Errors
/// If the prediction contradicts the task, was reduced without scores, or has more corners than an answer may hold.
pub(super) fn placed_features(
    prediction: &Prediction,
    task: &Task,
    options: &RenderOptions,
) -> Result<Vec<PlacedFeature>, OutputError> {
    let projection = PixelProjection::of(prediction.georef.as_ref());
    let found = match (&prediction.output, task.task_type) {
        (Output::Scores(scores), TaskType::Classification | TaskType::MultiLabelClassification) => {
            footprint(prediction, scores).into_iter().collect()
        }
        // An object belongs to the tile that holds its centre, and is written whole even if it extends beyond that tile.
        _ => {
            let margin = prediction.width.max(prediction.height);
            let canvas = PixelRect::around(prediction.width, prediction.height, margin);
            features(prediction, task, Format::Geojson, options, canvas)?
        }
    };
    let placed = |PixelFeature { polygons, category_id, score }: PixelFeature| {
        let polygons = polygons.iter().map(|rings| projection.polygon(rings)).collect::<Option<Vec<_>>>()?;
        Some(PlacedFeature { polygons, category_id, score })
    };
    Ok(found.into_iter().filter_map(placed).collect())
}

/// Writes a prediction as a feature collection.
pub(super) fn encode(prediction: &Prediction, task: &Task, options: &RenderOptions) -> Result<Vec<u8>, OutputError> {
    let scores = match (&prediction.output, task.task_type) {
        (Output::Scores(scores), TaskType::Classification | TaskType::MultiLabelClassification) => {
            Some(ByCategory { task, scores })
        }
        _ => None,
    };
    let written = placed_features(prediction, task, options)?.into_iter().map(|mut feature| {
        let geometry = match feature.polygons.len() {
            1 => Geometry::Polygon(feature.polygons.remove(0)),
            _ => Geometry::MultiPolygon(feature.polygons),
        };
        let properties = FeatureProperties {
            category: task.category_name(feature.category_id),
            category_id: feature.category_id,
            score: feature.score,
            scores,
        };
        Feature { kind: "Feature", geometry, properties }
    });
    let collection = Collection {
        kind: "FeatureCollection",
        coordinates: prediction.georef.is_none().then_some("pixel"),
        features: written.collect(),
        warnings: &prediction.warnings,
    };
    serde_json::to_vec(&collection).map_err(|e| OutputError::encode(Format::Geojson, e))
}

/// The image's outline with its likeliest category; `None` if no score is a number.
fn footprint(prediction: &Prediction, scores: &[f32]) -> Option<PixelFeature> {
    let (category_id, score) = best_score(scores)?;
    let (width, height) = (prediction.width as f64, prediction.height as f64);
    let ring = vec![[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]];
    Some(PixelFeature { polygons: vec![vec![ring]], category_id, score })
}

/// From pixels to the written coordinates.
pub(super) struct PixelProjection<'a> {
    georef: Option<&'a Georef>,
    /// Whether straight lines of pixels are straight in longitude and latitude.
    straight: bool,
}

impl<'a> PixelProjection<'a> {
    pub(super) fn of(georef: Option<&'a Georef>) -> Self {
        let straight = georef.is_none_or(|georef| {
            let unrotated = georef.transform.row_skew == 0.0 && georef.transform.col_skew == 0.0;
            georef.crs.is_geographic() || (unrotated && georef.crs == Crs::web_mercator())
        });
        Self { georef, straight }
    }

    /// The rings of a polygon, closed and oriented as RFC 7946 requires; `None` if a point has no longitude and latitude.
    pub(super) fn polygon(&self, rings: &[PixelRing]) -> Option<Vec<Ring>> {
        let mut polygon = rings.iter().map(|ring| self.ring(ring)).collect::<Option<Vec<Ring>>>()?;
        if !self.straight {
            unwrap_antimeridian(&mut polygon);
        }
        // The transform may mirror: then the exterior is clockwise, and reversing every ring mends all of them.
        if polygon.first().is_some_and(|exterior| doubled_area(exterior) < 0.0) {
            polygon.iter_mut().for_each(|ring| ring.reverse());
        }
        Some(polygon)
    }

    fn ring(&self, pixels: &PixelRing) -> Option<Ring> {
        let mut ring = Vec::with_capacity(pixels.len() + 1);
        for (from, to) in pixels.iter().zip(pixels.iter().cycle().skip(1)) {
            ring.push(self.point(*from)?);
            if !self.straight {
                for between in points_between(*from, *to) {
                    ring.push(self.point(between)?);
                }
            }
        }
        ring.extend(ring.first().copied());
        Some(ring)
    }

    fn point(&self, [col, row]: [f64; 2]) -> Option<[f64; 2]> {
        let Some(georef) = self.georef else {
            return Some([rounded(col, PIXEL_STEPS), rounded(row, PIXEL_STEPS)]);
        };
        let (x, y) = georef.transform.apply(col, row);
        let (lon, lat) = georef.crs.to_lon_lat(x, y)?;
        Some([rounded(lon, DEGREE_STEPS), rounded(lat, DEGREE_STEPS)])
    }
}

/// The points where an edge crosses multiples of [`DENSIFY_PX`] along its longer axis.
fn points_between(from: [f64; 2], to: [f64; 2]) -> impl Iterator<Item = [f64; 2]> {
    let [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    let (start, length) = if dx.abs() >= dy.abs() { (from[0], dx) } else { (from[1], dy) };
    let spacing = DENSIFY_PX * (length.abs() / (DENSIFY_PX * MAX_EDGE_POINTS)).ceil().max(1.0);
    let (low, high) = (start.min(start + length), start.max(start + length));
    let first = (low / spacing).floor() + 1.0;
    let count = ((high / spacing).ceil() - first).max(0.0) as usize;
    (0..count).map(move |i| {
        let step = if length > 0.0 { i } else { count - 1 - i };
        let fraction = ((first + step as f64) * spacing - start) / length;
        [from[0] + dx * fraction, from[1] + dy * fraction]
    })
}

/// Keeps polygons that cross the antimeridian in one piece: western longitudes become values above 180 degrees.
///
/// Long edges have been densified, so only an edge across the antimeridian spans more than 180 degrees.
fn unwrap_antimeridian(polygon: &mut [Ring]) {
    let crosses = |ring: &Ring| ring.windows(2).any(|edge| (edge[0][0] - edge[1][0]).abs() > 180.0);
    if polygon.iter().any(crosses) {
        polygon.iter_mut().flatten().filter(|point| point[0] < 0.0).for_each(|point| point[0] += 360.0);
    }
}

/// Twice the shoelace area of a closed ring, relative to its first corner so that no precision is lost.
fn doubled_area(ring: &Ring) -> f64 {
    let [x0, y0] = ring.first().copied().unwrap_or_default();
    ring.windows(2).map(|edge| (edge[0][0] - x0) * (edge[1][1] - y0) - (edge[1][0] - x0) * (edge[0][1] - y0)).sum()
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}
