//! The search for rows that are like given examples.

use serde_json::Value;

use super::index::Index;
use super::place::Place;
use crate::engine::error::EngineError;
use crate::georef::read_wkb;
use crate::raster::{DatetimeRange, Timestamp};
use crate::vectors::{self, MAX_RESULTS, Query, VectorError};

/// Most examples of one request.
const MAX_EXAMPLES: usize = 256;

/// Most rows in the boxes of one request.
const MAX_EXAMPLE_ROWS: usize = 4096;

/// An example of what is searched for, or of what is not.
#[derive(Clone, Debug, PartialEq)]
pub enum Example {
    /// A vector, such as an embedding of a chip.
    Vector(Vec<f32>),
    /// The row with this name.
    Name(String),
    /// The row that lies at this longitude and latitude; of several the one with the nearest centre.
    Point([f64; 2]),
    /// All rows with their centre in `[west, south, east, north]`.
    Bounds([f64; 4]),
}

/// What to search for, and where.
#[derive(Clone, Debug)]
pub struct SimilarRequest {
    /// What is searched for; at least one.
    pub positive: Vec<Example>,
    /// What is not searched for.
    pub negative: Vec<Example>,
    /// Only rows that touch `[west, south, east, north]`; west may be greater than east, across the antimeridian.
    pub bounds: Option<[f64; 4]>,
    /// Only rows of these times.
    pub datetime: Option<DatetimeRange>,
    /// Only rows with at least this score.
    pub min_score: f32,
    /// At most so many.
    pub limit: usize,
}

/// A row that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its number.
    pub row: u32,
    /// The mean of its cosines with the positive examples, less that with the negative ones.
    pub score: f32,
    /// Its outline as GeoJSON.
    pub geometry: Option<Value>,
    /// Its time.
    pub datetime: Option<Timestamp>,
}

impl Index {
    /// The rows that are most like the examples, the best first; of equal scores the one with the lower number. Examples that are
    /// rows of the index are among them. Blocks.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] for an example or a filter that the index cannot answer, and those of reading.
    pub fn similar(&self, request: &SimilarRequest) -> Result<Vec<Found>, EngineError> {
        self.check(request)?;
        let mut vectors = self.vectors_of([&request.positive, &request.negative])?;
        let (negative, positive) = (vectors.pop().unwrap_or_default(), vectors.pop().unwrap_or_default());
        let query = Query::new(self.vectors.dims(), &positive, &negative)?;
        let is_filtered = request.bounds.is_some() || request.datetime.is_some();
        let keep = |row: u32| {
            if !is_filtered {
                return Ok(true);
            }
            let place = self.places.rows(row as usize, 1)?.pop();
            Ok(place.is_some_and(|place| fits(&place, request)))
        };
        let hits = vectors::search(&self.vectors, &query, (request.limit, request.min_score), keep)?;
        hits.into_iter().map(|hit| self.found(hit)).collect()
    }

    fn check(&self, request: &SimilarRequest) -> Result<(), EngineError> {
        let invalid = |detail: String| Err(EngineError::Invalid { detail });
        let examples = request.positive.len() + request.negative.len();
        if examples > MAX_EXAMPLES {
            let (found, limit) = (examples as u64, MAX_EXAMPLES as u64);
            return Err(EngineError::TooLarge { what: "examples", found, limit });
        }
        if !(1..=MAX_RESULTS).contains(&request.limit) {
            return invalid(format!("limit: found {}; a number from 1 to {MAX_RESULTS} is needed", request.limit));
        }
        let boxes = request.positive.iter().chain(&request.negative).filter_map(|example| match example {
            Example::Bounds(bounds) => Some(bounds),
            _ => None,
        });
        if let Some([west, south, east, north]) = boxes.chain(&request.bounds).find(|bounds| !is_box(bounds)) {
            let needed = "west, south, east and north in degrees, south not above north, are needed";
            return invalid(format!("bbox: found {west}, {south}, {east}, {north}; {needed}"));
        }
        let is_place = |example: &Example| matches!(example, Example::Point(_) | Example::Bounds(_));
        let asks_for_places = request.positive.iter().chain(&request.negative).any(is_place) || request.bounds.is_some();
        if asks_for_places && !self.record.has_places {
            return invalid(format!("the rows of index {:?} have no places; take names or vectors", self.record.id));
        }
        if request.datetime.is_some() && !self.record.has_times {
            return invalid(format!("the rows of index {:?} have no times", self.record.id));
        }
        Ok(())
    }

    /// The vectors of lists of examples. The table of places is read once for all of them.
    fn vectors_of(&self, lists: [&[Example]; 2]) -> Result<Vec<Vec<Vec<f32>>>, EngineError> {
        let examples = || lists.into_iter().flatten();
        let mut rows: Vec<Vec<usize>> = vec![Vec::new(); examples().count()];
        // Squared distance of the nearest centre so far.
        let mut nearest = vec![f64::INFINITY; rows.len()];
        let mut in_boxes = 0;
        if examples().any(|example| !matches!(example, Example::Vector(_))) {
            self.each_place(|row, place| {
                for (at, example) in examples().enumerate() {
                    match example {
                        Example::Vector(_) => {}
                        Example::Name(name) => {
                            if rows[at].is_empty() && place.is_named(name, &self.places)? {
                                rows[at].push(row);
                            }
                        }
                        Example::Point(point) => {
                            let distance = place.bounds.and_then(|bounds| distance_within(bounds, *point));
                            if let Some(distance) = distance.filter(|distance| *distance < nearest[at]) {
                                (rows[at], nearest[at]) = (vec![row], distance);
                            }
                        }
                        Example::Bounds(wanted) => {
                            if place.bounds.is_some_and(|bounds| touches(*wanted, centre(bounds))) {
                                rows[at].push(row);
                                in_boxes += 1;
                            }
                        }
                    }
                }
                Ok(in_boxes <= MAX_EXAMPLE_ROWS)
            })?;
        }
        if in_boxes > MAX_EXAMPLE_ROWS {
            let (found, limit) = (in_boxes as u64, MAX_EXAMPLE_ROWS as u64);
            return Err(EngineError::TooLarge { what: "rows in the boxes of the examples", found, limit });
        }
        let mut rows = rows.into_iter();
        let mut vectors = Vec::new();
        for list in lists {
            let mut of_list = Vec::new();
            for example in list {
                let rows = rows.next().unwrap_or_default();
                match example {
                    Example::Vector(vector) => of_list.push(vector.clone()),
                    _ if rows.is_empty() => {
                        let detail = format!("index {:?} has no row for the example {example}", self.record.id);
                        return Err(EngineError::Invalid { detail });
                    }
                    _ => {
                        for row in rows {
                            of_list.push(self.vectors.vector(row)?);
                        }
                    }
                }
            }
            vectors.push(of_list);
        }
        Ok(vectors)
    }

    fn found(&self, hit: vectors::Hit) -> Result<Found, EngineError> {
        let read = || -> std::io::Result<_> {
            let place = self.places.rows(hit.row as usize, 1)?.pop();
            let Some(place) = place else { return Ok((String::new(), Vec::new(), None)) };
            Ok((self.places.name(&place)?, self.places.outline(&place)?, place.time_ms))
        };
        let (name, outline, time_ms) = read().map_err(VectorError::from)?;
        let geometry = match outline.as_slice() {
            [] => None,
            outline => {
                let (geometry, _) = read_wkb(outline).map_err(|reason| VectorError::Damaged { reason })?;
                Some(geometry)
            }
        };
        let datetime = time_ms.and_then(|time| Timestamp::from_millisecond(time).ok());
        Ok(Found { name, row: hit.row, score: hit.score, geometry, datetime })
    }
}

impl std::fmt::Display for Example {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vector(values) => write!(f, "of {} values", values.len()),
            Self::Name(name) => write!(f, "{name:?}"),
            Self::Point([lon, lat]) => write!(f, "at {lon}, {lat}"),
            Self::Bounds([west, south, east, north]) => write!(f, "in {west}, {south}, {east}, {north}"),
        }
    }
}

fn fits(place: &Place, request: &SimilarRequest) -> bool {
    let in_bounds = request.bounds.is_none_or(|wanted| place.bounds.is_some_and(|bounds| touches(wanted, bounds)));
    let time = || place.time_ms.and_then(|time| Timestamp::from_millisecond(time).ok());
    in_bounds && request.datetime.is_none_or(|range| time().is_some_and(|time| range.contains(time)))
}

fn is_box([west, south, east, north]: &[f64; 4]) -> bool {
    let (lon, lat) = (-180.0..=180.0, -90.0..=90.0);
    lon.contains(west) && lon.contains(east) && lat.contains(south) && lat.contains(north) && south <= north
}

/// Whether two boxes have a point in common; the first may cross the antimeridian, and either may reach beyond 180 degrees.
fn touches([west, south, east, north]: [f64; 4], bounds: [f64; 4]) -> bool {
    let east = if east < west { east + 360.0 } else { east };
    let in_lon = [-360.0, 0.0, 360.0].iter().any(|turn| bounds[0] + turn <= east && west <= bounds[2] + turn);
    in_lon && bounds[1] <= north && south <= bounds[3]
}

/// The centre of a box, as a box.
fn centre([west, south, east, north]: [f64; 4]) -> [f64; 4] {
    let (lon, lat) = (f64::midpoint(west, east), f64::midpoint(south, north));
    [lon, lat, lon, lat]
}

/// The squared distance of a point from the centre of a box, in degrees; `None` if the point is outside the box.
fn distance_within(bounds: [f64; 4], [lon, lat]: [f64; 2]) -> Option<f64> {
    let [centre_lon, centre_lat, ..] = centre(bounds);
    let turned =
        [-360.0, 0.0, 360.0].into_iter().map(|turn| lon + turn).find(|lon| (bounds[0]..=bounds[2]).contains(lon))?;
    let inside = (bounds[1]..=bounds[3]).contains(&lat);
    inside.then(|| (turned - centre_lon).powi(2) + (lat - centre_lat).powi(2))
}
