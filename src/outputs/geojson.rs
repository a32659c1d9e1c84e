//! RFC 7946 features: longitude and latitude in degrees where the image is georeferenced, else pixels.
//!
//! Exterior rings run counter-clockwise, holes clockwise, in the coordinates written. Where a straight line of pixels is a
//! curve in longitude and latitude, points are added at fixed pixel positions, which neighbouring polygons share.

use serde::Serialize;

use super::features::{PixelFeature, PixelRing, features};
use super::json::{ByCategory, best_score};
use super::mask::PixelRect;
use super::{Format, OutputError, RenderOptions, category_name};
use crate::georef::{Crs, Georef};
use crate::prediction::{Output, Prediction};
use crate::zoo::{Task, TaskType};

/// Decimals of degrees: a centimetre on the ground.
const DEGREE_DECIMALS: f64 = 1e7;

/// Decimals of pixels.
const PIXEL_DECIMALS: f64 = 1e3;

/// Pixels between the points added to long edges. At 10 m a pixel the chord stays within a centimetre of the curve.
const DENSIFY_PX: f64 = 64.0;

/// Points that densifying may add to one edge; edges longer than this many steps get longer steps.
const MAX_EDGE_POINTS: f64 = 4096.0;

type Ring = Vec<[f64; 2]>;

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
    properties: Properties<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type", content = "coordinates")]
enum Geometry {
    Polygon(Vec<Ring>),
    MultiPolygon(Vec<Vec<Ring>>),
}

#[derive(Serialize)]
struct Properties<'a> {
    category: &'a str,
    category_id: usize,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<ByCategory<'a>>,
}

/// Writes a prediction as a feature collection.
pub(super) fn encode(prediction: &Prediction, task: &Task, options: &RenderOptions) -> Result<Vec<u8>, OutputError> {
    let projection = Projection::of(prediction.georef.as_ref());
    let (found, scores) = match (&prediction.output, task.task_type) {
        (Output::Scores(scores), TaskType::Classification | TaskType::MultiLabelClassification) => {
            (footprint(prediction, scores).into_iter().collect(), Some(ByCategory { task, scores }))
        }
        // Objects belong to the tile that holds their centre and are written whole, even where they reach beyond it.
        _ => {
            let margin = prediction.width.max(prediction.height);
            let canvas = PixelRect::around(prediction.width, prediction.height, margin);
            (features(prediction, task, Format::Geojson, options, canvas)?, None)
        }
    };
    let written = found.into_iter().filter_map(|feature| {
        let mut polygons = feature.polygons.iter().map(|rings| projection.polygon(rings)).collect::<Option<Vec<_>>>()?;
        let geometry = match polygons.len() {
            1 => Geometry::Polygon(polygons.remove(0)),
            _ => Geometry::MultiPolygon(polygons),
        };
        let properties = Properties {
            category: category_name(task, feature.category_id),
            category_id: feature.category_id,
            score: feature.score,
            scores,
        };
        Some(Feature { kind: "Feature", geometry, properties })
    });
    let collection = Collection {
        kind: "FeatureCollection",
        coordinates: prediction.georef.is_none().then_some("pixel"),
        features: written.collect(),
        warnings: &prediction.warnings,
    };
    serde_json::to_vec(&collection).map_err(|e| OutputError::encode(Format::Geojson, e))
}

/// The image's outline with its likeliest category; nothing where no category has a score.
fn footprint(prediction: &Prediction, scores: &[f32]) -> Option<PixelFeature> {
    let (category_id, score) = best_score(scores)?;
    let (width, height) = (prediction.width as f64, prediction.height as f64);
    let ring = vec![[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]];
    Some(PixelFeature { polygons: vec![vec![ring]], category_id, score })
}

/// From pixels to the coordinates written.
struct Projection<'a> {
    georef: Option<&'a Georef>,
    /// Whether straight lines of pixels stay straight in longitude and latitude.
    straight: bool,
}

impl<'a> Projection<'a> {
    fn of(georef: Option<&'a Georef>) -> Self {
        let straight = georef.is_none_or(|georef| {
            let unrotated = georef.transform.row_skew == 0.0 && georef.transform.col_skew == 0.0;
            georef.crs.is_geographic() || (unrotated && georef.crs == Crs::web_mercator())
        });
        Self { georef, straight }
    }

    /// The rings of a polygon, closed and turned as RFC 7946 wants them; `None` where a point has no longitude and latitude.
    fn polygon(&self, rings: &[PixelRing]) -> Option<Vec<Ring>> {
        let mut polygon = rings.iter().map(|ring| self.ring(ring)).collect::<Option<Vec<Ring>>>()?;
        if !self.straight {
            unwrap_antimeridian(&mut polygon);
        }
        // Pixels and the world may be mirrored to each other; holes run against the exterior in both.
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
            return Some([rounded(col, PIXEL_DECIMALS), rounded(row, PIXEL_DECIMALS)]);
        };
        let (x, y) = georef.transform.apply(col, row);
        let (lon, lat) = georef.crs.to_lon_lat(x, y)?;
        Some([rounded(lon, DEGREE_DECIMALS), rounded(lat, DEGREE_DECIMALS)])
    }
}

/// Where an edge crosses multiples of [`DENSIFY_PX`], counted along its longer direction.
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

/// Keeps polygons across the antimeridian in one piece: western longitudes continue beyond 180 degrees.
///
/// Only an edge across it jumps by more than half the Earth, because long edges have points in between.
fn unwrap_antimeridian(polygon: &mut [Ring]) {
    let crosses = |ring: &Ring| ring.windows(2).any(|edge| (edge[0][0] - edge[1][0]).abs() > 180.0);
    if polygon.iter().any(crosses) {
        polygon.iter_mut().flatten().filter(|point| point[0] < 0.0).for_each(|point| point[0] += 360.0);
    }
}

/// Twice the shoelace area of a closed ring, measured from its first corner so that digits are not lost.
fn doubled_area(ring: &Ring) -> f64 {
    let [x0, y0] = ring.first().copied().unwrap_or_default();
    ring.windows(2).map(|edge| (edge[0][0] - x0) * (edge[1][1] - y0) - (edge[1][0] - x0) * (edge[0][1] - y0)).sum()
}

fn rounded(value: f64, decimals: f64) -> f64 {
    (value * decimals).round() / decimals
}
