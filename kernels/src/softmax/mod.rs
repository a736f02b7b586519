//! Softmax over the last dimension; x, y `[rows, cols]`.
//!
//! # Forward
//! ```text
//! m   = max over k of x_k
//! y_j = exp(x_j - m) / sum over k of exp(x_k - m)
//! ```
//!
//! Subtracting the maximum changes nothing in exact arithmetic and keeps every exponent at or below 0: no finite score
//! overflows.
//!
//! # Derivative
//! ```text
//! dy_j / dx_k = y_j ([j = k] - y_k)
//! dx          = y (dy - sum over k of y_k dy_k)
//! ```
//!
//! # Saved
//! Nothing but y.
//!
//! # Cost
//! One exponential per element and two passes over the row forward; two multiply-adds per element backward.
//!
//! # Numerics
//! A row whose scores are all -inf has no distribution; it is defined as zeros, and its gradient is 0. A NaN or +inf score
//! makes its whole row NaN and no other. Zero columns are legal and do nothing.

mod reference;
mod simd;
#[cfg(test)]
mod tests;

use crate::real::{same, same_mut};
use crate::{GradMut, Isa, Real, contract};

/// `[rows, cols]`; each row is a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Rows.
    pub rows: usize,
    /// Scores of a row.
    pub cols: usize,
}

crate::compiled::compiled! {
    /// y = softmax(x) row by row; x and y `[rows, cols]`.
    ///
    /// # Panics
    /// If a length does not fit `d`.
    pub fn forward<T>(isa: Isa, d: Dims, x: &[T], y: &mut [T]) as ForwardEntry {
        let n = contract::product("softmax", &[d.rows, d.cols]);
        contract::len("softmax", "x", n, x.len());
        contract::len("softmax", "y", n, y.len());
        if T::IS_F32 {
            isa.run(simd::Forward { d, x: same(x), y: same_mut(y) });
        } else {
            reference::forward(d, x, y);
        }
    }
}

/// [`forward`] by the readable loop in either precision, for comparison.
///
/// # Panics
/// As [`forward`].
pub fn forward_reference<T: Real>(d: Dims, x: &[T], y: &mut [T]) {
    let n = contract::product("softmax reference", &[d.rows, d.cols]);
    contract::len("softmax reference", "x", n, x.len());
    contract::len("softmax reference", "y", n, y.len());
    reference::forward(d, x, y);
}

crate::compiled::compiled! {
    /// dx = y * (dy - dot(y, dy)) row by row; y, dy and dx `[rows, cols]`.
    ///
    /// # Panics
    /// If a length does not fit `d`.
    pub fn backward<T>(isa: Isa, d: Dims, y: &[T], dy: &[T], dx: GradMut<'_, T>) as BackwardEntry {
        let n = contract::product("softmax backward", &[d.rows, d.cols]);
        contract::len("softmax backward", "y", n, y.len());
        contract::len("softmax backward", "dy", n, dy.len());
        contract::len("softmax backward", "dx", n, dx.data.len());
        if T::IS_F32 {
            let dx = GradMut { beta: dx.beta, data: same_mut(dx.data) };
            isa.run(simd::Backward { d, y: same(y), dy: same(dy), dx });
        } else {
            reference::backward(d, y, dy, dx);
        }
    }
}
