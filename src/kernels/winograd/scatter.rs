//! The output side of a tile: transforms its products back, Aᵀ m A, and writes the outputs that exist.

use super::task::{Products, WinogradTask, fits};
use super::transform::{self, POINTS, SIDE, across};
use crate::simd::Simd;
use crate::{LayerActivation, math};

impl WinogradTask<'_> {
    /// Transforms a tile's products back, Aᵀ m A, for a register of output channels, and writes the outputs that exist.
    #[inline(always)]
    pub(super) fn scatter<S: Simd, const MADE: usize>(&self, s: S, products: Products<'_>) {
        let (_, top, left) = self.made_at(products);
        let whole = fits(top, MADE, self.maps.height)
            && fits(left, MADE, self.maps.width)
            && fits(products.column, S::LANES, self.layer.outputs)
            && self.residual.is_none();
        // The common cases are compiled separately, as in `gather`.
        match self.activation {
            LayerActivation::None if whole => self.scatter_seen::<S, MADE, true>(s, products, LayerActivation::None),
            LayerActivation::Relu if whole => self.scatter_seen::<S, MADE, true>(s, products, LayerActivation::Relu),
            activation => self.scatter_seen::<S, MADE, false>(s, products, activation),
        }
    }

    /// Index of the tile's map, and the row and column of a phase's outputs. They wrap around if they lie one before the
    /// map.
    #[inline(always)]
    fn made_at(&self, products: Products<'_>) -> (usize, usize, usize) {
        let (n, y, x) = self.position(products.tile);
        let [down, right] = products.phase.offset;
        (n, y.wrapping_sub(down), x.wrapping_sub(right))
    }

    /// As [`WinogradTask::scatter`]; with `WHOLE`, every pixel and channel must exist, and there must be no residual.
    #[inline(always)]
    fn scatter_seen<S: Simd, const MADE: usize, const WHOLE: bool>(
        &self,
        s: S,
        products: Products<'_>,
        activation: LayerActivation,
    ) {
        let (n, top, left) = self.made_at(products);
        let Products { phase, column, stride, .. } = products;
        let (outputs, scale) = (self.layer.outputs, self.layer.scale);
        let count = if WHOLE { S::LANES } else { (outputs - column).min(S::LANES) };
        let from = products.from[..(POINTS - 1) * stride + S::LANES].as_ptr();
        // SAFETY: `from` holds a register of every point's products, and the bias is padded to whole panels; the writes
        // belong to this tile and these channels alone.
        unsafe {
            let half = [
                half_made::<S, MADE>(s, from, stride),
                half_made::<S, MADE>(s, from.add(stride), stride),
                half_made::<S, MADE>(s, from.add(2 * stride), stride),
                half_made::<S, MADE>(s, from.add(3 * stride), stride),
                half_made::<S, MADE>(s, from.add(4 * stride), stride),
                half_made::<S, MADE>(s, from.add(5 * stride), stride),
            ];
            let bias = s.load(self.layer.bias[column..].as_ptr());
            for i in 0..MADE {
                let made = transform::output::<S, MADE>(s, across(&half, i));
                for j in 0..MADE {
                    let (row, col) = (top.wrapping_add(i), left.wrapping_add(j));
                    if WHOLE || (row < self.maps.height && col < self.maps.width) {
                        let line = (n * self.maps.height + row) * scale + phase.offset[0];
                        let pixel = line * self.maps.width * scale + col * scale + phase.offset[1];
                        let place = pixel * outputs + column;
                        let mut v = s.add(made[j], bias);
                        if let (false, Some(residual)) = (WHOLE, self.residual) {
                            v = s.add(v, s.load_some(residual.as_ptr().add(place), count));
                        }
                        let v = math::activate(s, v, activation);
                        let to = self.out.at(place, count);
                        if WHOLE && self.streamed {
                            s.stream(to, v);
                        } else if count == S::LANES {
                            s.store(to, v);
                        } else {
                            s.store_part(to, v, count);
                        }
                    }
                }
            }
        }
    }
}

/// Aᵀ m of the column of products that begins at `from`, `stride` values from one point to the next.
///
/// # Safety
/// A register must be readable at each of the column's points.
#[inline(always)]
unsafe fn half_made<S: Simd, const MADE: usize>(s: S, from: *const f32, stride: usize) -> [S::V; MADE] {
    let mut m = [s.splat(0.0); SIDE];
    for (i, m) in m.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *m = unsafe { s.load(from.add(i * SIDE * stride)) };
    }
    transform::output::<S, MADE>(s, m)
}
