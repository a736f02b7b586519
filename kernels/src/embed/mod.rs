//! Rows of tokens: a learned row in front ([`prepend_row`]), a table added ([`add_rows`]), rows selected
//! ([`gather_rows`]), and the sinusoidal position table.
//!
//! These move or add memory and do next to no arithmetic: a single plain loop each, next to its derivative, in both
//! precisions; a copy needs no vector body. Nothing is saved. Values are copied bit for bit, sums round once a term.

use crate::Real;
use crate::contract::{len, product};

pub mod add_rows;
pub mod gather_rows;
pub mod prepend_row;

/// Sizes of a batch of token rows: \[batch, rows, cols\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Samples.
    pub batch: usize,
    /// Rows (tokens) of a sample.
    pub rows: usize,
    /// Columns (width).
    pub cols: usize,
}

/// Writes the fixed position table, out: \[rows, cols\], of Vaswani et al., "Attention is all you need", NeurIPS 2017,
/// section 3.5:
///
/// ```text
/// out[pos, 2i] = sin(pos / 10000^(2i / cols)),   out[pos, 2i + 1] = cos(pos / 10000^(2i / cols))
/// ```
///
/// For odd `cols` the last column is a sine without its cosine. Computed in f64, rounded once.
///
/// With pos = 32 a + b, sine and cosine come by the addition theorems from those of the angles of 32 a and of b: a power a
/// pair and (rows / 32 + 32) sines and cosines a pair in place of one of each an element, which took 5 of the 45 ms
/// in which a program starts and predicts one window of `paper` (AMD EPYC, Zen 5). Off by at most 2^-52 (pos + 4) before it is rounded.
///
/// # Panics
/// If `out` is not rows * cols long.
pub fn sinusoidal_table<T: Real>(rows: usize, cols: usize, out: &mut [T]) {
    const NEAR: usize = 32;
    // Pairs taken together, so that a row's values are written side by side.
    const PAIRS: usize = 8;
    len("sinusoidal_table", "out", product("sinusoidal_table", &[rows, cols]), out.len());
    for first in (0..cols).step_by(2 * PAIRS) {
        let width = (cols - first).min(2 * PAIRS);
        let rate: [f64; PAIRS] =
            std::array::from_fn(|p| 1.0 / 10_000f64.powf((first + 2 * p) as f64 / cols as f64));
        let turns = |pos: usize| rate.map(|rate| (pos as f64 * rate).sin_cos());
        let near: [_; NEAR] = std::array::from_fn(turns);
        for a in (0..rows).step_by(NEAR) {
            let far = turns(a);
            for (b, near) in near.iter().enumerate().take(rows - a) {
                let row = &mut out[(a + b) * cols + first..][..width];
                for (c, value) in row.iter_mut().enumerate() {
                    let ((sin_a, cos_a), (sin_b, cos_b)) = (far[c / 2], near[c / 2]);
                    *value = T::of(if c % 2 == 0 {
                        sin_a * cos_b + cos_a * sin_b
                    } else {
                        cos_a * cos_b - sin_a * sin_b
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
