//! Geometries as well-known binary, which tables hold: written, and read as GeoJSON with their bounds (OGC 06-103r4, and PostGIS's form
//! with a reference system).

use serde_json::{Value, json};

/// Most numbers of one geometry: a coastline has fewer.
const MAX_NUMBERS: usize = 1 << 20;

/// Collections in collections that are followed.
const MAX_DEPTH: usize = 8;

/// One polygon as such, several as a multipolygon. Each has its exterior ring first; rings are closed.
pub(crate) fn write_wkb(polygons: &[Vec<Vec<[f64; 2]>>]) -> Vec<u8> {
    const POLYGON: u32 = 3;
    const MULTI_POLYGON: u32 = 6;
    let mut bytes = Vec::new();
    if polygons.len() != 1 {
        begin(&mut bytes, MULTI_POLYGON, polygons.len());
    }
    for rings in polygons {
        begin(&mut bytes, POLYGON, rings.len());
        for ring in rings {
            bytes.extend((ring.len() as u32).to_le_bytes());
            bytes.extend(ring.iter().flatten().flat_map(|degrees| degrees.to_le_bytes()));
        }
    }
    bytes
}

/// The head of a geometry: byte order, kind, and how many parts follow.
fn begin(bytes: &mut Vec<u8>, kind: u32, parts: usize) {
    const LITTLE_ENDIAN: u8 = 1;
    bytes.push(LITTLE_ENDIAN);
    bytes.extend(kind.to_le_bytes());
    bytes.extend((parts as u32).to_le_bytes());
}

/// A geometry as GeoJSON, with its bounds `[west, south, east, north]`.
///
/// # Errors
/// A sentence, if the bytes are no geometry of two dimensions, or more; further coordinates are left out.
pub(crate) fn read_wkb(bytes: &[u8]) -> Result<(Value, [f64; 4]), String> {
    let mut reader = Reader { rest: bytes, bounds: None, numbers: 0 };
    let geometry = reader.geometry(0)?;
    let bounds = reader.bounds.ok_or("its geometry is empty")?;
    Ok((geometry, bounds))
}

struct Reader<'a> {
    rest: &'a [u8],
    bounds: Option<[f64; 4]>,
    numbers: usize,
}

/// Byte order and ordinates of a part.
#[derive(Clone, Copy)]
struct Layout {
    is_big_endian: bool,
    ordinates: usize,
}

impl Reader<'_> {
    fn geometry(&mut self, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err("its geometry has too many collections in collections".to_owned());
        }
        let is_big_endian = match self.bytes::<1>()?[0] {
            0 => true,
            1 => false,
            other => return Err(format!("its geometry has the byte order {other}")),
        };
        let code = self.whole(is_big_endian)?;
        // PostGIS marks Z, M and a reference system by bits, ISO Z and M by thousands.
        let flags = usize::from(code & 0x8000_0000 != 0) + usize::from(code & 0x4000_0000 != 0);
        if code & 0x2000_0000 != 0 {
            self.whole(is_big_endian)?;
        }
        let (kind, thousands) = ((code & 0x0fff_ffff) % 1000, (code & 0x0fff_ffff) / 1000);
        let more = match thousands {
            0 => flags,
            1 | 2 => 1,
            3 => 2,
            _ => return Err(format!("its geometry has the type {code}")),
        };
        let layout = Layout { is_big_endian, ordinates: 2 + more };
        let of = |kind: &str, coordinates: Value| json!({"type": kind, "coordinates": coordinates});
        Ok(match kind {
            1 => of("Point", self.position(layout)?),
            2 => of("LineString", self.positions(layout)?),
            3 => of("Polygon", self.rings(layout)?),
            4 => of("MultiPoint", self.parts(layout, depth)?),
            5 => of("MultiLineString", self.parts(layout, depth)?),
            6 => of("MultiPolygon", self.parts(layout, depth)?),
            7 => {
                let count = self.whole(is_big_endian)?;
                let parts = (0..count).map(|_| self.geometry(depth + 1)).collect::<Result<Vec<_>, _>>()?;
                json!({"type": "GeometryCollection", "geometries": parts})
            }
            _ => return Err(format!("its geometry has the type {code}; those of GeoJSON are read")),
        })
    }

    /// The coordinates of the parts of a geometry of several.
    fn parts(&mut self, layout: Layout, depth: usize) -> Result<Value, String> {
        let count = self.whole(layout.is_big_endian)?;
        let part = |_| Ok(self.geometry(depth + 1)?["coordinates"].take());
        (0..count).map(part).collect::<Result<Vec<_>, String>>().map(Value::from)
    }

    fn rings(&mut self, layout: Layout) -> Result<Value, String> {
        let count = self.whole(layout.is_big_endian)?;
        (0..count).map(|_| self.positions(layout)).collect::<Result<Vec<_>, _>>().map(Value::from)
    }

    fn positions(&mut self, layout: Layout) -> Result<Value, String> {
        let count = self.whole(layout.is_big_endian)?;
        (0..count).map(|_| self.position(layout)).collect::<Result<Vec<_>, _>>().map(Value::from)
    }

    fn position(&mut self, layout: Layout) -> Result<Value, String> {
        self.numbers += layout.ordinates;
        if self.numbers > MAX_NUMBERS {
            return Err(format!("its geometry has more than {MAX_NUMBERS} numbers"));
        }
        let mut ordinates = [0.0; 4];
        for ordinate in &mut ordinates[..layout.ordinates] {
            let bytes = self.bytes::<8>()?;
            *ordinate = if layout.is_big_endian { f64::from_be_bytes(bytes) } else { f64::from_le_bytes(bytes) };
        }
        let [lon, lat, ..] = ordinates;
        if !(-360.0..=360.0).contains(&lon) || !(-90.0..=90.0).contains(&lat) {
            return Err(format!(
                "its geometry has the position {lon}, {lat}; longitude and latitude in degrees are needed"
            ));
        }
        let [west, south, east, north] = self.bounds.unwrap_or([lon, lat, lon, lat]);
        self.bounds = Some([west.min(lon), south.min(lat), east.max(lon), north.max(lat)]);
        Ok(json!([lon, lat]))
    }

    fn whole(&mut self, is_big_endian: bool) -> Result<u32, String> {
        let bytes = self.bytes()?;
        Ok(if is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (first, rest) = self.rest.split_first_chunk::<N>().ok_or("its geometry ends too early")?;
        self.rest = rest;
        Ok(*first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(order: u8, code: u32, ordinates: &[f64]) -> Vec<u8> {
        let mut bytes = vec![order];
        let big = order == 0;
        bytes.extend(if big { code.to_be_bytes() } else { code.to_le_bytes() });
        bytes.extend(ordinates.iter().flat_map(|value| if big { value.to_be_bytes() } else { value.to_le_bytes() }));
        bytes
    }

    #[test]
    fn points_in_every_spelling_are_one_place() {
        for (order, code, ordinates) in [
            (1, 1, &[7.5, 47.0][..]),
            (0, 1, &[7.5, 47.0]),
            (1, 1001, &[7.5, 47.0, 300.0]),
            (1, 0x8000_0001, &[7.5, 47.0, 300.0]),
            (0, 3001, &[7.5, 47.0, 300.0, 1.0]),
        ] {
            let (geometry, bounds) = read_wkb(&point(order, code, ordinates)).unwrap();
            assert_eq!(geometry, json!({"type": "Point", "coordinates": [7.5, 47.0]}), "{code}");
            assert_eq!(bounds, [7.5, 47.0, 7.5, 47.0]);
        }
        let mut with_system = vec![1];
        with_system.extend(0x2000_0001_u32.to_le_bytes());
        with_system.extend(4326_u32.to_le_bytes());
        with_system.extend([7.5_f64, 47.0].iter().flat_map(|value| value.to_le_bytes()));
        assert!(read_wkb(&with_system).is_ok());
    }

    #[test]
    fn what_is_written_is_read() {
        let ring = vec![[7.0, 47.0], [8.0, 47.0], [8.0, 48.0], [7.0, 47.0]];
        let (geometry, bounds) = read_wkb(&write_wkb(&[vec![ring.clone()]])).unwrap();
        assert_eq!(geometry, json!({"type": "Polygon", "coordinates": [ring]}));
        assert_eq!(bounds, [7.0, 47.0, 8.0, 48.0]);
        let (geometry, _) = read_wkb(&write_wkb(&[vec![ring.clone()], vec![ring.clone()]])).unwrap();
        assert_eq!(geometry, json!({"type": "MultiPolygon", "coordinates": [[ring], [ring]]}));
    }

    #[test]
    fn what_is_no_geometry_is_refused() {
        let mut endless = vec![1];
        endless.extend(3_u32.to_le_bytes());
        endless.extend(u32::MAX.to_le_bytes());
        let mut nested = Vec::new();
        for _ in 0..20 {
            nested.extend([1, 7, 0, 0, 0, 1, 0, 0, 0]);
        }
        for (bytes, word) in [
            (vec![], "too early"),
            (vec![7], "byte order 7"),
            (point(1, 8, &[0.0, 0.0]), "type 8"),
            (point(1, 1, &[500_000.0, 4_600_000.0]), "longitude and latitude"),
            (point(1, 1, &[f64::NAN, 0.0]), "NaN"),
            (point(1, 1, &[7.5]), "too early"),
            (endless, "too early"),
            (nested, "collections"),
            (vec![1, 2, 0, 0, 0, 0, 0, 0, 0], "empty"),
        ] {
            let error = read_wkb(&bytes).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
