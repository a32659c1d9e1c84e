//! The cells of an embedding, and how their values are stored in 8 bits.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Pool;
use crate::error::InvalidValue;
use crate::georef::Georef;

/// The 8-bit number of a value that is missing.
pub const NO_VALUE: i8 = i8::MIN;

/// The greatest 8-bit number of a value; the least is its negative.
const MOST: f32 = i8::MAX as f32;

/// The embeddings of square cells on a grid that begins at the image's top left corner. Cells of the last column and row may reach
/// beyond the image.
#[derive(Clone, Debug, PartialEq)]
pub struct CellMap {
    /// The feature map that they are made from, such as `backbone.3`.
    pub layer: String,
    /// How the positions of that map in a cell became one vector.
    pub pool: Pool,
    /// Side of a cell in pixels of the image.
    pub side_px: usize,
    /// Columns of cells.
    pub width: usize,
    /// Rows of cells.
    pub height: usize,
    /// Values of a cell.
    pub dims: usize,
    /// `[dims, height, width]`, row-major; NaN in cells without data.
    pub values: Vec<f32>,
    /// Column and row of the image's first pixel in the area that it is a part of; `(0, 0)` for an image of its own.
    pub first_px: (usize, usize),
}

impl CellMap {
    /// Where the cells lie, for an image that lies at `image`.
    pub fn georef(&self, image: &Georef) -> Georef {
        Georef { width: self.width, height: self.height, ..image.coarsened(self.side_px) }
    }

    /// The vector of a cell; `None` without data.
    pub fn vector(&self, row: usize, col: usize) -> Option<Vec<f32>> {
        let vector = self.values.get(row * self.width + col..)?.iter().step_by(self.width * self.height).copied();
        let vector: Vec<f32> = vector.collect();
        vector.iter().any(|value| !value.is_nan()).then_some(vector)
    }

    /// Rows and columns of all cells, row by row.
    pub fn places(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (width, height) = (self.width, self.height);
        (0..height).flat_map(move |row| (0..width).map(move |col| (row, col)))
    }

    /// The first pixel of a cell as `column-row`, counted over the whole area.
    pub fn name(&self, row: usize, col: usize) -> String {
        let (first_col, first_row) = self.first_px;
        format!("{}-{}", first_col + col * self.side_px, first_row + row * self.side_px)
    }
}

/// How the values of cells are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CellPrecision {
    /// As they are.
    #[default]
    Float32,
    /// In 8 bits, with a scale for each dimension of a raster or for each row of a table.
    Int8,
}

impl CellPrecision {
    /// The name in requests, and that of the type in numpy and STAC.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Int8 => "int8",
        }
    }
}

impl FromStr for CellPrecision {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let found = [Self::Float32, Self::Int8].into_iter().find(|precision| precision.name() == text);
        found.ok_or_else(|| InvalidValue::new("precision", text, "float32 or int8"))
    }
}

/// How the values of each dimension become 8-bit numbers: `value = stored * scale + offset`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellScales {
    /// `[dims]`, above 0.
    pub scale: Vec<f32>,
    /// `[dims]`.
    pub offset: Vec<f32>,
}

impl CellScales {
    /// Scales for the values of `dims` dimensions, each of which gives its values. The range of a dimension is what its values have, and
    /// `margin` times as much at each end; values beyond it are cut off.
    pub fn around<'a, V: Iterator<Item = &'a f32>>(dims: usize, values_of: impl Fn(usize) -> V, margin: f32) -> Self {
        let (mut scale, mut offset) = (Vec::with_capacity(dims), Vec::with_capacity(dims));
        for dim in 0..dims {
            let numbers = values_of(dim).copied().filter(|value| value.is_finite());
            let (least, most) = numbers
                .fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)));
            let half = (most - least) / 2.0 * (1.0 + 2.0 * margin);
            let step = half / MOST;
            let is_usable = step.is_normal() && step > 0.0;
            scale.push(if is_usable { step } else { 1.0 });
            offset.push(if least <= most { f32::midpoint(least, most) } else { 0.0 });
        }
        Self { scale, offset }
    }

    /// Scales for the values of a map.
    pub fn of(cells: &CellMap) -> Self {
        let count = cells.width * cells.height;
        Self::around(cells.dims, |dim| cells.values[dim * count..][..count].iter(), 0.0)
    }

    /// The 8-bit number of a value; [`NO_VALUE`] for NaN.
    pub fn stored(&self, dim: usize, value: f32) -> i8 {
        match (self.scale.get(dim), self.offset.get(dim)) {
            (Some(scale), Some(offset)) if !value.is_nan() => in_eight_bits((value - offset) / scale),
            _ => NO_VALUE,
        }
    }
}

impl CellMap {
    /// A vector in 8 bits and its scale: `value = stored * scale`, so that the direction of the stored vector is its own.
    pub fn in_eight_bits(vector: &[f32]) -> (Vec<i8>, f32) {
        let most = vector.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
        let scale = if (most / MOST).is_normal() { most / MOST } else { 1.0 };
        (vector.iter().map(|value| in_eight_bits(value / scale)).collect(), scale)
    }
}

fn in_eight_bits(value: f32) -> i8 {
    value.round().clamp(-MOST, MOST) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_vectors_names_and_places() {
        use crate::georef::{Crs, GeoTransform};
        let nan = f32::NAN;
        let values = vec![1.0, nan, 3.0, nan, 5.0, nan, 7.0, nan];
        let cells = CellMap {
            layer: "backbone.3".into(),
            pool: Pool::Mean,
            side_px: 32,
            width: 2,
            height: 2,
            dims: 2,
            values,
            first_px: (256, 0),
        };
        assert_eq!((cells.vector(1, 0), cells.vector(0, 1)), (Some(vec![3.0, 7.0]), None));
        assert_eq!(cells.name(1, 1), "288-32");
        let transform = GeoTransform::north_up(500.0, 900.0, 10.0, 10.0);
        let image = Georef { crs: Crs::web_mercator(), transform, width: 50, height: 40 };
        let bounds = cells.georef(&image).bounds();
        assert_eq!((bounds.min_x, bounds.max_x, bounds.min_y, bounds.max_y), (500.0, 1140.0, 260.0, 900.0));
    }

    #[test]
    fn eight_bits_keep_values_to_a_part_of_the_range() {
        let values: Vec<f32> = (0..50).map(|at| (at as f32 * 0.7).sin() * 3.0 + 10.0).chain([f32::NAN]).collect();
        let cells = CellMap {
            layer: "fpn.0".into(),
            pool: Pool::Mean,
            side_px: 4,
            width: 51,
            height: 1,
            dims: 1,
            values: values.clone(),
            first_px: (0, 0),
        };
        let scales = CellScales::of(&cells);
        for value in &values[..50] {
            let back = f32::from(scales.stored(0, *value)) * scales.scale[0] + scales.offset[0];
            assert!((back - value).abs() <= 0.501 * scales.scale[0] && scales.scale[0] < 0.024, "{value} {back}");
        }
        assert_eq!((scales.stored(0, f32::NAN), scales.stored(0, 1e9), scales.stored(0, -1e9)), (NO_VALUE, 127, -127));
        let (stored, scale) = CellMap::in_eight_bits(&[0.5, -1.0, 0.0]);
        assert_eq!((stored, scale), (vec![64, -127, 0], 1.0 / 127.0));
        assert_eq!(CellMap::in_eight_bits(&[0.0, 0.0]), (vec![0, 0], 1.0));
        let flat = CellScales::around(1, |_| [4.0f32, 4.0].iter(), 0.5);
        assert_eq!((flat.stored(0, 4.0), flat.offset[0]), (0, 4.0));
    }
}
