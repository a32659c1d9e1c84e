//! Shifts between datums and WGS 84, and which of them applies where.

/// A Helmert shift to WGS 84 that the EPSG dataset lists for an area.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shift {
    /// How well it fits, metres; `None` if that is not stated.
    pub(super) accuracy_m: Option<f64>,
    /// West, south, east, north in degrees; west is greater than east across the antimeridian.
    area: [f64; 4],
    /// PROJ's `towgs84`: three translations in metres, and, or not, three rotations in arc seconds (position vector) and a scale in
    /// parts per million.
    pub(super) values: Vec<f64>,
}

impl Shift {
    /// The shift that a file states for its own place.
    pub(super) fn stated(values: &[f64]) -> Option<Self> {
        if values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let values = match values {
            [x, y, z] | [x, y, z, 0.0, 0.0, 0.0, 0.0] => vec![*x, *y, *z],
            seven if seven.len() == 7 => seven.to_vec(),
            _ => return None,
        };
        // What a file says of itself is not doubted.
        Some(Self { accuracy_m: Some(0.0), area: [-180.0, -90.0, 180.0, 90.0], values })
    }

    /// From a record of the table: accuracy, area, values.
    pub(super) fn from_record(fields: &[f64]) -> Option<Self> {
        let [accuracy, west, south, east, north, values @ ..] = fields else { return None };
        let shift = Self::stated(values)?;
        let accuracy_m = (*accuracy >= 0.0).then_some(*accuracy);
        Some(Self { accuracy_m, area: [*west, *south, *east, *north], ..shift })
    }

    /// True if it changes nothing.
    pub(super) fn is_null(&self) -> bool {
        self.values.iter().all(|value| *value == 0.0)
    }

    /// Distance of the two datums' centres, metres.
    pub(super) fn distance_m(&self) -> f64 {
        self.values.iter().take(3).map(|value| value * value).sum::<f64>().sqrt()
    }

    fn covers(&self, (lon, lat): (f64, f64)) -> bool {
        let [west, south, east, north] = self.area;
        let lon = (lon + 180.0).rem_euclid(360.0) - 180.0;
        let between = if west <= east { west <= lon && lon <= east } else { lon >= west || lon <= east };
        between && (south..=north).contains(&lat)
    }

    /// The shift that applies at a longitude and latitude: the most accurate of those whose area it lies in, the first of several
    /// that are as good (the rule of GDAL), and the first of all where none has it, because datums do not end there.
    pub(super) fn at(place: (f64, f64), shifts: &[Self]) -> Option<&Self> {
        let mut best: Option<&Self> = None;
        for shift in shifts.iter().filter(|shift| shift.covers(place)) {
            // A first one whose accuracy is not stated stays, because nothing says that another is better.
            let is_better = |than: &Self| shift.accuracy_m.zip(than.accuracy_m).is_some_and(|(new, old)| new < old);
            if best.is_none_or(is_better) {
                best = Some(shift);
            }
        }
        best.or(shifts.first())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_accurate_shift_of_a_place_applies() {
        let shift = |accuracy: f64, west: f64, east: f64, x: f64| {
            Shift::from_record(&[accuracy, west, 0.0, east, 50.0, x, 0.0, 0.0]).expect("a record")
        };
        let shifts = [
            shift(10.0, -100.0, 100.0, 1.0),
            shift(5.0, -50.0, 50.0, 2.0),
            shift(5.0, -60.0, 60.0, 3.0),
            shift(2.0, 170.0, -170.0, 4.0),
        ];
        let x = |lon: f64, lat: f64| Shift::at((lon, lat), &shifts).map(|shift| shift.values[0]);
        assert_eq!(
            [x(80.0, 1.0), x(10.0, 1.0), x(55.0, 1.0), x(-179.0, 1.0), x(181.0, 1.0)],
            [1.0, 2.0, 3.0, 4.0, 4.0].map(Some)
        );
        assert_eq!(x(10.0, -1.0), Some(1.0), "outside of all areas the first applies");
        assert_eq!(Shift::at((0.0, 0.0), &[]), None);
    }

    #[test]
    fn three_or_seven_finite_values_are_a_shift() {
        assert!(Shift::stated(&[1.0; 3]).is_some() && Shift::stated(&[1.0; 7]).is_some());
        assert!(Shift::stated(&[1.0; 5]).is_none() && Shift::stated(&[f64::NAN, 0.0, 0.0]).is_none());
    }
}
