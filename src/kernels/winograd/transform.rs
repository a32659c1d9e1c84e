//! The three transforms of F(4x4, 3x3) and F(5x5, 2x2): evaluation of polynomials at six points, 0, ±A, ±B and infinity.
//!
//! With the usual points 0, ±1, ±2, the products' inputs grow and cancel, which costs too much precision in bf16: an error
//! of 1.6 % of the mean result with normally distributed kernels. These points halve it (0.85 %), and every constant below
//! is exact in f32.

use crate::simd::Simd;

/// Inputs along a side of a tile, which is also the number of evaluation points per axis.
pub(super) const SIDE: usize = 6;
pub(super) const POINTS: usize = SIDE * SIDE;

const A: f64 = 0.625;
const B: f64 = 1.5;
const AA: f64 = A * A;
const BB: f64 = B * B;

/// Row `point` of the kernel's transform G for `taps` taps: powers of the point, divided by the factor that the input
/// transform omits.
pub(super) fn kernel_row(point: usize, taps: usize) -> [f64; 3] {
    let powers = |x: f64, over: f64| [1.0 / over, x / over, x * x / over];
    match point {
        0 => powers(0.0, AA * BB),
        1 => powers(A, 2.0 * AA * (AA - BB)),
        2 => powers(-A, 2.0 * AA * (AA - BB)),
        3 => powers(B, 2.0 * BB * (BB - AA)),
        4 => powers(-B, 2.0 * BB * (BB - AA)),
        // The point at infinity selects the highest power.
        _ if taps == 2 => [0.0, 1.0, 0.0],
        _ => [0.0, 0.0, 1.0],
    }
}

/// Bᵀ d, along one axis.
#[inline(always)]
pub(super) fn input<S: Simd>(s: S, d: [S::V; SIDE]) -> [S::V; SIDE] {
    let [product, minus_sum] = [s.splat((AA * BB) as f32), s.splat(-(AA + BB) as f32)];
    let [minus_aa, minus_bb] = [s.splat(-AA as f32), s.splat(-BB as f32)];
    let near = s.mul_add(d[2], minus_bb, d[4]);
    let near_odd = s.mul(s.mul_add(d[1], minus_bb, d[3]), s.splat(A as f32));
    let far = s.mul_add(d[2], minus_aa, d[4]);
    let far_odd = s.mul(s.mul_add(d[1], minus_aa, d[3]), s.splat(B as f32));
    [
        s.mul_add(d[0], product, s.mul_add(d[2], minus_sum, d[4])),
        s.add(near, near_odd),
        s.sub(near, near_odd),
        s.add(far, far_odd),
        s.sub(far, far_odd),
        s.mul_add(d[1], product, s.mul_add(d[3], minus_sum, d[5])),
    ]
}

/// Aᵀ m along one axis, for 4 outputs (3 taps) or 5 (2 taps).
#[inline(always)]
pub(super) fn output<S: Simd, const MADE: usize>(s: S, m: [S::V; SIDE]) -> [S::V; MADE] {
    let (near, near_odd) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
    let (far, far_odd) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
    let mut y = [s.add(m[0], s.add(near, far)); MADE];
    y[1] = s.mul_add(far_odd, s.splat(B as f32), s.mul(near_odd, s.splat(A as f32)));
    y[2] = s.mul_add(far, s.splat(BB as f32), s.mul(near, s.splat(AA as f32)));
    y[3] = s.mul_add(far_odd, s.splat((BB * B) as f32), s.mul(near_odd, s.splat((AA * A) as f32)));
    if MADE == 5 {
        y[4] = s.mul_add(far, s.splat((BB * BB) as f32), s.mul(near, s.splat((AA * AA) as f32)));
    }
    y[MADE - 1] = s.add(y[MADE - 1], m[5]);
    y
}

/// Row `i` of a half-transformed tile, which is stored column by column.
#[inline(always)]
pub(super) fn across<V: Copy, const ROWS: usize>(columns: &[[V; ROWS]; SIDE], i: usize) -> [V; SIDE] {
    [columns[0][i], columns[1][i], columns[2][i], columns[3][i], columns[4][i], columns[5][i]]
}
