//! The shape of an area: a box or polygons of longitudes and latitudes, as GeoJSON (RFC 7946) writes them.

use serde_json::Value;

use super::super::error::EngineError;
use super::super::near_match::nearest;

/// Most corners of an area.
pub(super) const MAX_CORNERS: usize = 200_000;

/// A longitude and a latitude in degrees.
pub(super) type LonLat = (f64, f64);

/// A closed line; the last corner is joined with the first.
pub(super) type Ring = Vec<LonLat>;

/// A box or polygons in WGS 84. Longitudes lie within 180 degrees of the middle, so an area may cross the antimeridian.
#[derive(Clone, Debug, PartialEq)]
pub struct AreaShape {
    /// Polygons of rings, the outer one first.
    pub(super) polygons: Vec<Vec<Ring>>,
    /// True if it was given as a box, which stands for everything on the grid around it.
    pub(super) is_box: bool,
}

impl AreaShape {
    /// The box of `[west, south, east, north]` in degrees. West is greater than east in one that crosses the antimeridian.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] if these are not four such numbers, or the box is empty.
    pub fn from_bbox(bbox: &Value) -> Result<Self, EngineError> {
        let needed = "west, south, east, north in degrees are needed, such as [10.2, 53.4, 10.6, 53.7]";
        let invalid = || invalid(format!("bbox: found {}; {needed}", shown(bbox)));
        let numbers: Vec<f64> = bbox.as_array().ok_or_else(invalid)?.iter().filter_map(Value::as_f64).collect();
        let &[west, south, east, north] = numbers.as_slice() else { return Err(invalid()) };
        let is_on_earth = [west, east].iter().all(|lon| lon.abs() <= 180.0) && south >= -90.0 && north <= 90.0;
        if bbox.as_array().is_none_or(|all| all.len() != 4) || !is_on_earth || south >= north || west == east {
            return Err(invalid());
        }
        let east = if east < west { east + 360.0 } else { east };
        let ring = vec![(west, north), (east, north), (east, south), (west, south)];
        Ok(Self { polygons: vec![vec![ring]], is_box: true })
    }

    /// The polygons of a GeoJSON geometry.
    ///
    /// # Errors
    /// [`EngineError::Invalid`] if it is neither a Polygon nor a MultiPolygon, its coordinates are malformed or not degrees, or there
    /// are too many of them.
    pub fn from_geometry(geometry: &Value) -> Result<Self, EngineError> {
        let found = geometry["type"].as_str().unwrap_or_default();
        let coordinates = &geometry["coordinates"];
        let polygons = match found {
            "Polygon" => std::slice::from_ref(coordinates),
            "MultiPolygon" => list(coordinates)?,
            "Feature" => return Self::from_geometry(&geometry["geometry"]),
            _ => {
                let meant = nearest(found, ["Polygon", "MultiPolygon"].into_iter());
                let hint = meant.map_or_else(String::new, |name| format!(" (did you mean {name}?)"));
                let found = if found.is_empty() { shown(geometry) } else { format!("type {found:?}") };
                return Err(invalid(format!("geometry: found {found}{hint}; a GeoJSON Polygon or MultiPolygon is needed")));
            }
        };
        let mut corners = 0;
        let mut shape = Self { polygons: Vec::new(), is_box: false };
        for polygon in polygons {
            let rings = list(polygon)?.iter().map(|line| ring(line, &mut corners));
            shape.polygons.push(rings.collect::<Result<_, _>>()?);
        }
        if shape.polygons.iter().all(Vec::is_empty) {
            return Err(invalid(format!("geometry: found a {found} without coordinates; rings are needed")));
        }
        shape.unwrap_longitudes();
        Ok(shape)
    }

    /// Moves polygons round the Earth to where the first one is, if that is nearer: RFC 7946 cuts those that cross the antimeridian.
    fn unwrap_longitudes(&mut self) {
        let mut reached: Option<(f64, f64)> = None;
        for polygon in &mut self.polygons {
            let (west, east) = extent(polygon.iter().flatten().map(|(lon, _)| *lon));
            let gap = |turn: f64, (from, to): (f64, f64)| (west + turn - to).max(from - east - turn).max(0.0);
            let turn = reached.map_or(0.0, |reached| {
                let turns = [0.0, 360.0, -360.0];
                turns.into_iter().min_by(|a, b| gap(*a, reached).total_cmp(&gap(*b, reached))).unwrap_or_default()
            });
            polygon.iter_mut().flatten().for_each(|(lon, _)| *lon += turn);
            let here = (west + turn, east + turn);
            reached = Some(reached.map_or(here, |(from, to)| (from.min(here.0), to.max(here.1))));
        }
    }

    /// West, south, east, north in degrees; east may be greater than 180.
    pub fn bounds(&self) -> [f64; 4] {
        let (west, east) = extent(self.corners().map(|(lon, _)| lon));
        let (south, north) = extent(self.corners().map(|(_, lat)| lat));
        [west, south, east, north]
    }

    fn corners(&self) -> impl Iterator<Item = LonLat> {
        self.polygons.iter().flatten().flatten().copied()
    }
}

/// Least and greatest of some numbers.
fn extent(numbers: impl Iterator<Item = f64>) -> (f64, f64) {
    numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), at| (least.min(at), most.max(at)))
}

fn list(value: &Value) -> Result<&[Value], EngineError> {
    let needed = "geometry: its coordinates must be lists of rings of [longitude, latitude]";
    value.as_array().map(Vec::as_slice).ok_or_else(|| invalid(format!("{needed}; found {}", shown(value))))
}

fn ring(line: &Value, corners: &mut usize) -> Result<Ring, EngineError> {
    let line = list(line)?;
    *corners += line.len();
    if *corners > MAX_CORNERS {
        return Err(EngineError::TooLarge {
            what: "corners of the geometry",
            found: *corners as u64,
            limit: MAX_CORNERS as u64,
        });
    }
    let position = |value: &Value| {
        let numbers = value.as_array().filter(|numbers| numbers.len() >= 2);
        let position = numbers.and_then(|numbers| Some((numbers[0].as_f64()?, numbers[1].as_f64()?)));
        position.filter(|(lon, lat)| lon.abs() <= 180.0 && lat.abs() <= 90.0).ok_or_else(|| {
            let needed = "a longitude from -180 to 180 and a latitude from -90 to 90";
            invalid(format!("geometry: found position {}; {needed} are needed", shown(value)))
        })
    };
    let mut ring = line.iter().map(position).collect::<Result<Ring, _>>()?;
    if ring.first() == ring.last() {
        ring.pop();
    }
    if ring.len() < 3 {
        return Err(invalid(format!("geometry: found a ring of {} corners; at least 3 are needed", ring.len())));
    }
    Ok(ring)
}

fn invalid(detail: String) -> EngineError {
    EngineError::Invalid { detail }
}

/// A value for a message; a long one is cut.
fn shown(value: &Value) -> String {
    const MAX_CHARS: usize = 100;
    let text = if value.is_null() { "none".to_owned() } else { value.to_string() };
    text.chars().take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn boxes_may_cross_the_antimeridian() {
        assert_eq!(AreaShape::from_bbox(&json!([10, 20, 30, 40])).unwrap().bounds(), [10.0, 20.0, 30.0, 40.0]);
        assert_eq!(AreaShape::from_bbox(&json!([170, -20, -170, -10])).unwrap().bounds(), [170.0, -20.0, 190.0, -10.0]);
        for bbox in [
            json!(null),
            json!("1,2,3,4"),
            json!([1, 2, 3]),
            json!([1, 2, 3, 4, 5, 6]),
            json!([1, 2, 1, 4]),
            json!([1, 4, 2, 2]),
            json!([500_000, 5_000_000, 600_000, 5_100_000]),
            json!([1, 2, "3", 4, 5]),
        ] {
            let error = AreaShape::from_bbox(&bbox).unwrap_err().to_string();
            assert!(error.contains("west, south, east, north"), "{error}");
        }
    }

    #[test]
    fn polygons_are_geojson() {
        let square = |west: f64| json!([[[west, 0], [west + 5.0, 0], [west + 5.0, 5], [west, 5], [west, 0]]]);
        let shape = AreaShape::from_geometry(&json!({"type": "Polygon", "coordinates": square(1.0)})).unwrap();
        assert_eq!((shape.polygons[0][0].len(), shape.bounds()), (4, [1.0, 0.0, 6.0, 5.0]));
        let two = json!({"type": "MultiPolygon", "coordinates": [square(175.0), square(-180.0)]});
        assert_eq!(AreaShape::from_geometry(&two).unwrap().bounds(), [175.0, 0.0, 185.0, 5.0]);
        let feature = json!({"type": "Feature", "geometry": two});
        assert!(AreaShape::from_geometry(&feature).is_ok());
        for (geometry, word) in [
            (json!({"type": "Point", "coordinates": [1, 2]}), "Polygon or MultiPolygon"),
            (json!({"type": "polygon", "coordinates": []}), "did you mean Polygon"),
            (json!({"type": "Polygon", "coordinates": []}), "rings are needed"),
            (json!({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [0, 0]]]}), "2 corners"),
            (json!({"type": "Polygon", "coordinates": [[[0, 0], [1, 91], [1, 0]]]}), "latitude"),
            (json!({"type": "Polygon", "coordinates": 7}), "lists of rings"),
            (json!(null), "Polygon or MultiPolygon"),
        ] {
            let error = AreaShape::from_geometry(&geometry).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
