//! Interpolation kernels over a patch of source pixels, weighted as GDAL's warper does: kernels widen if the output is coarser,
//! and neighbours without data have no weight.

use crate::raster::pixels::{Patch, Resampling};

/// Kernels keep their width up to this ratio (GDAL: output scales of 0.95 and more).
const WIDEN_ABOVE: f64 = 1.0 / 0.95;

/// A kernel with its extent along one axis.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    resampling: Resampling,
    /// Source pixels per output pixel, at least 1.
    scale: f64,
}

impl Kernel {
    fn new(resampling: Resampling, scale: f64) -> Self {
        Self { resampling, scale: scale.max(1.0) }
    }

    /// Distance in source pixels up to which pixels have a weight.
    fn radius(self) -> f64 {
        match self.resampling {
            Resampling::Nearest => 0.5,
            Resampling::Bilinear => self.scale,
            Resampling::Cubic => 2.0 * self.scale,
            Resampling::Average => 0.5 * self.scale + 0.5,
        }
    }

    /// The weight of a source pixel whose centre is `distance` away.
    fn weight(self, distance: f64) -> f32 {
        let x = distance.abs() / self.scale;
        let weight = match self.resampling {
            Resampling::Nearest => 1.0,
            Resampling::Bilinear => 1.0 - x,
            // Catmull-Rom (Keys' cubic with a = -0.5).
            Resampling::Cubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Resampling::Cubic => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            // The share of the source pixel under the output pixel.
            Resampling::Average => (0.5 * self.scale + 0.5 - distance.abs()).clamp(0.0, 1.0),
        };
        weight as f32
    }

    /// Fills in the weights of the pixels around `position` within `0 .. len`, and returns the first pixel.
    fn taps(self, position: f64, len: usize, weights: &mut Vec<f32>) -> usize {
        let centre = position - 0.5;
        let first = ((centre - self.radius()).ceil().max(0.0)) as usize;
        let last = (centre + self.radius()).floor().min(len as f64 - 1.0);
        weights.clear();
        let mut at = first as f64;
        while at <= last {
            weights.push(self.weight(at - centre));
            at += 1.0;
        }
        first
    }
}

/// Reads a patch at fractional positions.
pub(crate) struct Sampler<'a> {
    patch: &'a Patch,
    all_valid: bool,
    resampling: Resampling,
    across: Kernel,
    down: Kernel,
    weights_x: Vec<f32>,
    weights_y: Vec<f32>,
}

/// Distance in pixels that a kernel at `scale` source pixels per output pixel reaches.
pub(crate) fn margin(resampling: Resampling, scale: f64) -> f64 {
    Kernel::new(resampling, scale).radius() + 1.0
}

impl<'a> Sampler<'a> {
    /// A sampler whose output pixels are `scale` source pixels wide and high.
    pub(crate) fn new(patch: &'a Patch, resampling: Resampling, scale: (f64, f64)) -> Self {
        let scale = if scale.0.max(scale.1) <= WIDEN_ABOVE { (1.0, 1.0) } else { scale };
        Self {
            patch,
            all_valid: patch.valid.iter().all(|valid| *valid),
            resampling,
            across: Kernel::new(resampling, scale.0),
            down: Kernel::new(resampling, scale.1),
            weights_x: Vec::new(),
            weights_y: Vec::new(),
        }
    }

    /// Writes the value of every band at a position inside the patch to `out`; false if there is no data.
    pub(crate) fn sample(&mut self, x: f64, y: f64, out: &mut [f32]) -> bool {
        let Patch { width, height, bands, pixels, valid } = self.patch;
        let nearest = (y as usize).min(height - 1) * width + (x as usize).min(width - 1);
        // As in GDAL, a position on a pixel without data has no data, whatever its neighbours hold.
        if !valid[nearest] {
            return false;
        }
        if self.resampling == Resampling::Nearest {
            out.copy_from_slice(&pixels[nearest * bands..][..*bands]);
            return true;
        }
        let first_col = self.across.taps(x, *width, &mut self.weights_x);
        let first_row = self.down.taps(y, *height, &mut self.weights_y);
        out.fill(0.0);
        let mut total = 0.0;
        for (row, weight_y) in self.weights_y.iter().enumerate() {
            let start = (first_row + row) * width + first_col;
            let taps = pixels[start * bands..].chunks_exact(*bands).zip(&valid[start..]).zip(&self.weights_x);
            for ((pixel, valid), weight_x) in taps {
                if self.all_valid || *valid {
                    let weight = weight_x * weight_y;
                    total += weight;
                    for (sum, value) in out.iter_mut().zip(pixel) {
                        *sum += weight * value;
                    }
                }
            }
        }
        if total < 1e-6 {
            out.copy_from_slice(&pixels[nearest * bands..][..*bands]);
        } else {
            out.iter_mut().for_each(|sum| *sum /= total);
        }
        true
    }
}
