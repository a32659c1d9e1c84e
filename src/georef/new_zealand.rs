//! New Zealand Map Grid (EPSG method 9811), which the projection library does not have: a conformal polynomial in complex numbers, with
//! the coefficients that Land Information New Zealand published (LINZS25002, appendix).

use super::definition::{Definition, value_of};

/// A complex number: real and imaginary part.
type Complex = (f64, f64);

/// Isometric latitude from latitude, and back: both relative to the origin, latitude in units of 100,000 arc seconds.
const TO_ISOMETRIC: [f64; 10] = [
    0.639_917_507_3,
    -0.135_879_761_3,
    0.063_294_409,
    -0.025_268_53,
    0.011_787_9,
    -0.005_516_1,
    0.002_690_6,
    -0.001_333,
    0.000_67,
    -0.000_34,
];
const FROM_ISOMETRIC: [f64; 9] =
    [1.562_701_424_3, 0.518_540_639_8, -0.033_330_98, -0.105_290_6, -0.036_859_4, 0.007_317, 0.012_20, 0.003_94, -0.001_3];

/// North and east of the origin, in semi-major axes, from isometric latitude and longitude.
const TO_GRID: [Complex; 6] = [
    (0.755_785_322_8, 0.0),
    (0.249_204_646, 0.003_371_507),
    (-0.001_541_739, 0.041_058_560),
    (-0.101_629_07, 0.017_276_09),
    (-0.266_234_89, -0.362_492_18),
    (-0.687_098_3, -1.165_196_7),
];

/// Degrees of 100,000 arc seconds.
const LATITUDE_UNIT_DEG: f64 = 1e5 / 3600.0;

/// Newton's steps, each of which doubles the digits; places in New Zealand need four.
const STEPS: usize = 8;

/// The grid with its origin.
pub(super) struct NewZealandMapGrid {
    semi_major_axis: f64,
    origin_deg: (f64, f64),
    false_origin: (f64, f64),
}

impl NewZealandMapGrid {
    /// The grid of a definition; `None` if its projection is another.
    pub(super) fn of(definition: &Definition) -> Option<Self> {
        let projection = definition.projection.as_deref().filter(|words| value_of(words, "proj") == Some("nzmg"))?;
        let number = |word: &str| value_of(projection, word).and_then(|value| value.parse().ok());
        Some(Self {
            semi_major_axis: definition.datum.ellipsoid.a,
            origin_deg: (number("lon_0")?, number("lat_0")?),
            false_origin: (number("x_0")?, number("y_0")?),
        })
    }

    /// Easting and northing in metres of a longitude and latitude in degrees.
    pub(super) fn position_of(&self, (lon, lat): (f64, f64)) -> (f64, f64) {
        let isometric = series(&TO_ISOMETRIC, (lat - self.origin_deg.1) / LATITUDE_UNIT_DEG);
        let (north, east) = powers((isometric, (lon - self.origin_deg.0).to_radians()), |_, coefficient| coefficient);
        (self.false_origin.0 + self.semi_major_axis * east, self.false_origin.1 + self.semi_major_axis * north)
    }

    /// Longitude and latitude in degrees of an easting and northing in metres.
    pub(super) fn place_of(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let grid = ((y - self.false_origin.1) / self.semi_major_axis, (x - self.false_origin.0) / self.semi_major_axis);
        let mut theta = (grid.0 / TO_GRID[0].0, grid.1 / TO_GRID[0].0);
        for _ in 0..STEPS {
            let reached = powers(theta, |_, coefficient| coefficient);
            // The derivative has n B_n at the power n - 1: the sum of n B_n theta^n, divided by theta.
            let slope = divide(powers(theta, |n, (re, im)| (n * re, n * im)), theta);
            let step = divide((grid.0 - reached.0, grid.1 - reached.1), slope);
            if !(step.0.is_finite() && step.1.is_finite()) {
                break;
            }
            theta = (theta.0 + step.0, theta.1 + step.1);
        }
        let lat = self.origin_deg.1 + LATITUDE_UNIT_DEG * series(&FROM_ISOMETRIC, theta.0);
        (self.origin_deg.0 + theta.1.to_degrees(), lat)
    }
}

/// `c_1 x + c_2 x^2 + …`
fn series(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, coefficient| (sum + coefficient) * x)
}

/// `B_1 z + B_2 z^2 + …`, with each coefficient changed by `change(n, B_n)`.
fn powers(z: Complex, change: impl Fn(f64, Complex) -> Complex) -> Complex {
    TO_GRID.iter().enumerate().rev().fold((0.0, 0.0), |sum, (index, coefficient)| {
        let (re, im) = change((index + 1) as f64, *coefficient);
        let sum = (sum.0 + re, sum.1 + im);
        (sum.0 * z.0 - sum.1 * z.1, sum.0 * z.1 + sum.1 * z.0)
    })
}

fn divide(a: Complex, b: Complex) -> Complex {
    let norm = b.0 * b.0 + b.1 * b.1;
    ((a.0 * b.0 + a.1 * b.1) / norm, (a.1 * b.0 - a.0 * b.1) / norm)
}
