//! Root-mean-square normalisation over the last dimension: layer norm without its mean and its shift.
//!
//! With x one row of `cols` elements, gamma `[cols]`, and the row's scale r:
//!
//! ```text
//! r    = 1 / sqrt( sum_c x[c]^2 / cols + eps )
//! y[c] = gamma[c] x[c] r
//! ```
//!
//! Derivative, for dy `[cols]` and `xhat[c] = x[c] r`:
//!
//! ```text
//! m         = sum_c gamma[c] dy[c] xhat[c] / cols
//! dx[c]     = r (gamma[c] dy[c] - xhat[c] m)
//! dgamma[c] = sum over rows of dy[c] xhat[c]
//! ```
//!
//! because `dr/dx[c] = -r^3 x[c] / cols`.
//!
//! Saved: r of every row. Cost: about 4 FLOPs an element forward and 8 backward.
//!
//! Numerics: a row of zeros has r = 1 / sqrt(eps) and y = 0. NaN or inf makes its row NaN. f32 and f64 run the loops of
//! `reference.rs`; sums go over the row in order, so the result is the same bits on every instruction set.
//!
//! Source: Zhang, Sennrich 2019 (arXiv:1910.07467).

pub mod reference;
#[cfg(test)]
mod tests;

use crate::{GradMut, Isa, Real, contract};

/// `[rows, cols]`; every row is normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Rows.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
}

impl Dims {
    fn elements(self, op: &str) -> usize {
        contract::product(op, &[self.rows, self.cols])
    }
}

/// Elements of `saved`: the scale of every row.
pub fn saved_len(d: Dims) -> usize {
    d.rows
}

/// y = gamma x / rms(x). x, y `[rows, cols]`; gamma `[cols]`; `saved` [`saved_len`] elements or empty (inference).
///
/// # Panics
/// If a length does not fit `d`, or `eps` is negative or NaN.
pub fn forward<T: Real>(_isa: Isa, d: Dims, eps: f64, x: &[T], gamma: &[T], y: &mut [T], saved: &mut [T]) {
    const OP: &str = "rms_norm";
    let n = d.elements(OP);
    contract::len(OP, "x", n, x.len());
    contract::len(OP, "y", n, y.len());
    contract::len(OP, "gamma", d.cols, gamma.len());
    if !saved.is_empty() {
        contract::len(OP, "saved", saved_len(d), saved.len());
    }
    assert!(eps >= 0.0, "{OP}: eps must not be negative, got {eps}");
    reference::forward(d, eps, x, gamma, y, saved);
}

/// The gradients of [`forward`], from the same x and its `saved`; `dgamma` `[cols]` accumulates.
///
/// # Panics
/// If a length does not fit `d`.
pub fn backward<T: Real>(
    _isa: Isa,
    d: Dims,
    x: &[T],
    gamma: &[T],
    saved: &[T],
    dy: &[T],
    dx: Option<GradMut<'_, T>>,
    dgamma: Option<&mut [T]>,
) {
    const OP: &str = "rms_norm backward";
    let n = d.elements(OP);
    contract::len(OP, "x", n, x.len());
    contract::len(OP, "dy", n, dy.len());
    contract::len(OP, "gamma", d.cols, gamma.len());
    contract::len(OP, "saved", saved_len(d), saved.len());
    if let Some(g) = &dx {
        contract::len(OP, "dx", n, g.data.len());
    }
    if let Some(g) = &dgamma {
        contract::len(OP, "dgamma", d.cols, g.len());
    }
    reference::backward(d, x, gamma, saved, dy, dx, dgamma);
}
