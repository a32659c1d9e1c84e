//! How the cells of an area are stored: fewer dimensions, fewer bits. What is needed for that is found from a sample of the area, so that
//! all blocks of the area are stored alike.

use serde::{Deserialize, Serialize};

use super::area::Area;
use super::caller::Caller;
use super::error::EngineError;
use super::plan::ScenePlan;
use super::{Engine, blocking};
use crate::fit::{Components, principal_components};
use crate::prediction::{CellMap, CellScales, Output, WholeMap};

/// Windows that are sampled.
const SAMPLE_WINDOWS: usize = 48;

/// Windows that are looked at, as some have no data.
const MAX_TRIES: usize = 192;

/// Vectors that are taken from a window.
const VECTORS_A_WINDOW: usize = 144;

/// By what part of the range of the sample's values the stored range is larger at each end.
const MARGIN: f32 = 0.125;

/// What is done to the vectors of cells before they are stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellEncoding {
    /// Vectors that it was found from.
    pub sample: usize,
    /// The projection to fewer dimensions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projection: Option<Projection>,
    /// How values become 8-bit numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<CellScales>,
}

/// A projection to fewer dimensions: `components * (vector - mean)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Projection {
    /// `[dims]`.
    pub mean: Vec<f32>,
    /// `[components, dims]`, orthonormal rows.
    pub components: Vec<Vec<f32>>,
    /// The part of the sample's variance along each.
    pub explained_variance_ratio: Vec<f32>,
}

/// What is wanted of a [`CellEncoding`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodingOptions {
    /// To how many dimensions vectors are projected.
    pub components: Option<usize>,
    /// Whether values become 8-bit numbers with one scale for each dimension.
    pub quantized: bool,
}

impl CellEncoding {
    /// The projected cells, or the cells themselves without a projection.
    pub fn projected(&self, cells: CellMap) -> CellMap {
        match &self.projection {
            Some(projection) => projection.of_cells(&cells),
            None => cells,
        }
    }
}

impl Projection {
    fn of(components: Components) -> Self {
        let Components { mean, directions, explained_variance_ratio } = components;
        Self { mean, components: directions, explained_variance_ratio }
    }

    fn of_vector<'a>(&'a self, vector: &'a [f32]) -> impl Iterator<Item = f32> + 'a {
        self.components.iter().map(move |component| {
            let values = component.iter().zip(vector.iter().zip(&self.mean));
            values.map(|(weight, (value, mean))| f64::from(*weight) * f64::from(value - mean)).sum::<f64>() as f32
        })
    }

    fn of_cells(&self, cells: &CellMap) -> CellMap {
        let (count, dims) = (cells.width * cells.height, self.components.len());
        let mut values = vec![f32::NAN; count * dims];
        for (cell, (row, col)) in cells.places().enumerate() {
            let Some(vector) = cells.vector(row, col) else { continue };
            let places = values[cell..].iter_mut().step_by(count);
            places.zip(self.of_vector(&vector)).for_each(|(place, value)| *place = value);
        }
        CellMap { dims, values, layer: cells.layer.clone(), ..*cells }
    }
}

impl Engine {
    /// Finds how the cells of a planned scene on an area are stored, from windows all over the area. The same area has the same answer.
    ///
    /// # Errors
    /// If imagery cannot be read, the network fails, or too few cells have data.
    pub async fn cell_encoding(
        &self,
        plan: &ScenePlan,
        (area, caller): (&Area, &Caller),
        options: EncodingOptions,
    ) -> Result<CellEncoding, EngineError> {
        let mut sample: Vec<f32> = Vec::new();
        let mut dims = 0;
        let mut windows = 0;
        for part in area.spread_windows(MAX_TRIES) {
            let _memory = self.area_memory(plan, &part, &WholeMap::default()).await?;
            let (answer, _) = self.predict_area(plan, caller, &part, Box::<WholeMap>::default(), |_| ()).await?;
            let Output::Cells(cells) = answer.output else { continue };
            dims = cells.dims;
            let vectors = cells.places().filter_map(|(row, col)| cells.vector(row, col));
            let is_finite = |vector: &Vec<f32>| vector.iter().all(|value| value.is_finite());
            let vectors: Vec<Vec<f32>> = vectors.filter(is_finite).collect();
            let step = vectors.len().div_ceil(VECTORS_A_WINDOW).max(1);
            sample.extend(vectors.iter().step_by(step).flatten());
            windows += usize::from(!vectors.is_empty());
            if windows == SAMPLE_WINDOWS {
                break;
            }
        }
        let rows = sample.len() / dims.max(1);
        let needed = options.components.unwrap_or(1).max(1);
        if rows < needed {
            let detail = format!(
                "pca: found {needed}, and a sample of the area has {rows} cells with data; fewer dimensions or a larger area is needed"
            );
            return Err(EngineError::Unusable { detail });
        }
        // The sample, and once more in float64.
        let bytes = (sample.len() * (size_of::<f32>() + size_of::<f64>())) as u64;
        let _memory = self.scenes.memory.answer("the sample of cells", bytes).await?;
        blocking(move || Ok::<_, EngineError>(found(sample, dims, options))).await
    }
}

fn found(mut sample: Vec<f32>, dims: usize, options: EncodingOptions) -> CellEncoding {
    let rows = sample.len() / dims.max(1);
    let projection = options.components.map(|count| Projection::of(principal_components(&sample, dims, count)));
    let mut stored = dims;
    if let Some(projection) = &projection {
        sample = sample.chunks_exact(dims).flat_map(|vector| projection.of_vector(vector).collect::<Vec<_>>()).collect();
        stored = projection.components.len();
    }
    let values_of = |dim: usize| sample.iter().skip(dim).step_by(stored.max(1));
    let quantization = options.quantized.then(|| CellScales::around(stored, values_of, MARGIN));
    CellEncoding { sample: rows, projection, quantization }
}
