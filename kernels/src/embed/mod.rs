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
/// # Panics
/// If `out` is not rows * cols long.
pub fn sinusoidal_table<T: Real>(rows: usize, cols: usize, out: &mut [T]) {
    len("sinusoidal_table", "out", product("sinusoidal_table", &[rows, cols]), out.len());
    for pos in 0..rows {
        for c in 0..cols {
            let pair = c - c % 2;
            let angle = pos as f64 / 10_000f64.powf(pair as f64 / cols as f64);
            out[pos * cols + c] = T::of(if c % 2 == 0 { angle.sin() } else { angle.cos() });
        }
    }
}

#[cfg(test)]
mod tests;
