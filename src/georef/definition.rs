//! A coordinate system in parts (projection, datum, unit), from whatever described it, and the PROJ string that they make.

use super::shift::Shift;

/// Inverse flattening of WGS 84 and of GRS 80.
const MODERN_FLATTENINGS: [f64; 2] = [298.257_223_563, 298.257_222_101];

/// The shape of the Earth that a datum assumes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ellipsoid {
    /// Semi-major axis in metres.
    pub(super) a: f64,
    /// Inverse flattening; 0 for a sphere.
    pub(super) inverse_flattening: f64,
}

impl Ellipsoid {
    pub(super) const WGS84: Self = Self { a: 6_378_137.0, inverse_flattening: MODERN_FLATTENINGS[0] };

    /// `None` if such an ellipsoid is no figure of a planet.
    pub(super) fn new(a: f64, inverse_flattening: f64) -> Option<Self> {
        let is_planet = a.is_finite() && a > 0.0 && (inverse_flattening == 0.0 || inverse_flattening > 2.0);
        (is_planet && inverse_flattening.is_finite()).then_some(Self { a, inverse_flattening })
    }

    /// From both semi-axes.
    pub(super) fn from_axes(a: f64, b: f64) -> Option<Self> {
        Self::new(a, if a == b { 0.0 } else { a / (a - b) })
    }

    /// Radius in metres of the sphere with the same surface (PROJ's series for `R_A`).
    fn authalic_radius(&self) -> f64 {
        if self.inverse_flattening == 0.0 {
            return self.a;
        }
        let flattening = 1.0 / self.inverse_flattening;
        let es = flattening * (2.0 - flattening);
        self.a * (1.0 - es * (1.0 / 6.0 + es * (17.0 / 360.0 + es * 67.0 / 3024.0)))
    }

    /// True for the ellipsoids whose datums agree with WGS 84 within a few metres.
    fn is_modern(&self) -> bool {
        let near = |flattening: f64| (self.inverse_flattening - flattening).abs() < 1e-4;
        (self.a - Self::WGS84.a).abs() < 1.0 && MODERN_FLATTENINGS.into_iter().any(near)
    }
}

/// A datum: what longitude and latitude refer to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Datum {
    pub(super) ellipsoid: Ellipsoid,
    /// Longitude of the prime meridian, degrees east of Greenwich.
    pub(super) meridian_deg: f64,
    /// Shifts to WGS 84, in the order in which PROJ prefers them.
    pub(super) shifts: Vec<Shift>,
    /// The EPSG code of its geographic system, if it is all that the code says.
    pub(super) epsg: Option<u16>,
}

impl Datum {
    /// A datum of which only the ellipsoid is known.
    pub(super) fn on(ellipsoid: Ellipsoid) -> Self {
        Self { ellipsoid, meridian_deg: 0.0, shifts: Vec::new(), epsg: None }
    }

    /// True if its longitudes and latitudes are taken as WGS 84's.
    pub(super) fn is_wgs84(&self) -> bool {
        self.ellipsoid.is_modern() && self.meridian_deg == 0.0 && self.shifts.first().is_none_or(Shift::is_null)
    }

    /// True if nothing says how its longitudes and latitudes relate to WGS 84, and they may differ by more than metres. Those on a
    /// sphere are WGS 84's by custom, as in Web Mercator and MODIS.
    pub(super) fn is_unplaced(&self) -> bool {
        self.shifts.is_empty() && !self.ellipsoid.is_modern() && self.ellipsoid.inverse_flattening != 0.0
    }
}

/// The value of a word of a PROJ string.
pub(super) fn value_of<'a>(projection: &'a str, name: &str) -> Option<&'a str> {
    projection.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// A coordinate system in parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Definition {
    /// Words of a PROJ string without `+`, such as `proj=utm zone=11`: lengths in metres, angles in degrees. `None`: longitude and
    /// latitude.
    pub(super) projection: Option<String>,
    pub(super) datum: Datum,
    /// Metres or, of longitude and latitude, degrees a unit.
    pub(super) unit: f64,
    /// Directions of the axes as in PROJ's `axis`, where they are not east and north.
    pub(super) axes: Option<String>,
}

impl Definition {
    /// Longitude and latitude in degrees.
    pub(super) fn geographic(datum: Datum) -> Self {
        Self { projection: None, datum, unit: 1.0, axes: None }
    }

    /// A projection of a datum, in metres.
    pub(super) fn projected(projection: String, datum: Datum) -> Self {
        Self { projection: Some(projection), datum, unit: 1.0, axes: None }
    }

    /// The PROJ string, with a shift of the datum.
    pub(super) fn proj_string(&self, shift: Option<&Shift>) -> String {
        let projection = self.projection.as_deref().unwrap_or("proj=longlat");
        // The projection library would shift the datum of the sphere with the same surface too, which is not meant.
        let is_authalic = projection.split_whitespace().any(|word| word == "R_A");
        let shift = shift.filter(|_| !is_authalic);
        let mut words: Vec<String> =
            projection.split_whitespace().filter(|word| *word != "R_A").map(|word| format!("+{word}")).collect();
        let Datum { ellipsoid, meridian_deg, .. } = &self.datum;
        if is_authalic {
            words.push(format!("+R={}", ellipsoid.authalic_radius()));
        } else if ellipsoid.inverse_flattening == 0.0 {
            words.push(format!("+R={}", ellipsoid.a));
        } else {
            words.push(format!("+a={} +rf={}", ellipsoid.a, ellipsoid.inverse_flattening));
        }
        if *meridian_deg != 0.0 {
            words.push(format!("+pm={meridian_deg}"));
        }
        if let Some(shift) = shift {
            let values: Vec<String> = shift.values.iter().map(f64::to_string).collect();
            words.push(format!("+towgs84={}", values.join(",")));
        }
        if let Some(axes) = &self.axes {
            words.push(format!("+axis={axes}"));
        }
        if self.projection.is_some() {
            words.push(if self.unit == 1.0 { "+units=m".to_owned() } else { format!("+to_meter={}", self.unit) });
        }
        words.push("+no_defs".to_owned());
        words.join(" ")
    }
}
