//! Temporary.
use crate::raster::{Patch, RasterError, RasterInfo};
use crate::zoo::ModelSpec;
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    Tci,
}
pub(super) struct Scaling {
    bands: Vec<(f32, f32)>,
    identity: bool,
}
impl Scaling {
    pub(super) fn new(spec: &ModelSpec, _p: Option<Preset>, _o: Option<i32>) -> Result<Self, RasterError> {
        Ok(Self { bands: spec.bands.iter().map(|b| (b.offset, b.scale)).collect(), identity: false })
    }
    pub(super) fn none(spec: &ModelSpec) -> Self {
        Self { bands: spec.bands.iter().map(|_| (0.0, 1.0)).collect(), identity: true }
    }
    pub(super) fn apply(&self, p: &Patch) -> Vec<f32> {
        p.pixels
            .iter()
            .enumerate()
            .map(|(i, v)| {
                let (o, s) = self.bands[i % p.bands];
                if !p.valid[i / p.bands] {
                    0.0
                } else if self.identity {
                    *v
                } else {
                    ((v - o) / s).clamp(0.0, 1.0)
                }
            })
            .collect()
    }
    pub(super) fn warnings(&self, _i: &RasterInfo, _p: &Patch) -> Vec<String> {
        Vec::new()
    }
}
pub(super) fn match_bands(spec: &ModelSpec, _i: &RasterInfo, b: Option<&[usize]>) -> Result<Vec<usize>, RasterError> {
    Ok(b.map_or_else(|| (0..spec.bands.len()).collect(), <[usize]>::to_vec))
}
