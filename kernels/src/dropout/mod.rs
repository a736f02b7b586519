//! Dropout: zeroes a random part of the elements and scales the others, so that the mean is kept (inverted dropout).
//!
//! # Forward
//! ```text
//! y = m x,    m = 1 / keep with probability keep, else 0
//! ```
//!
//! # Derivative
//! ```text
//! dx = m dy
//! ```
//!
//! # Saved
//! Nothing: the multipliers are drawn again in the backward pass from the same [`Key`]. Element (sample n, row r, column c)
//! takes the decision of `key.sample(n).stream()` at row r, index c, in both passes and precisions.
//!
//! # Cost
//! One Philox call for eight elements (ten rounds of two wide products) and one multiplication per element.
//!
//! # Numerics
//! One rounding. A NaN or an infinity in a dropped place gives NaN (it is multiplied by 0), so that trouble upstream shows.
//!
//! Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 2014.

use crate::contract::{len, product, require};
use crate::elementwise::map::Map1;
use crate::real::{same, same_mut};
use crate::rng::{Dropout, Key};
use crate::{GradMut, Isa, Real};

mod reference;
mod simd;

/// Sizes of a dropout: `samples` blocks of \[rows, cols\], each sample with a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Samples (windows), numbered from `key.sample` on.
    pub samples: usize,
    /// Rows of a sample.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

crate::compiled::compiled! {
    /// y = dropout(x); x, y: \[samples, rows, cols\]. With [`Dropout::NONE`] a copy.
    ///
    /// # Panics
    /// If sizes do not fit.
    pub fn forward<T>(isa: Isa, d: Dims, dropout: Dropout, key: Key, x: &[T], y: &mut [T]) as ForwardEntry {
        check("dropout", d, x.len(), "y", y.len());
        apply(isa, d, dropout, key, x, GradMut::overwrite(y));
    }
}

crate::compiled::compiled! {
    /// dx from dy, with the multipliers of the forward pass.
    ///
    /// # Panics
    /// If sizes do not fit.
    pub fn backward<T>(isa: Isa, d: Dims, dropout: Dropout, key: Key, dy: &[T], dx: GradMut<'_, T>) as BackwardEntry {
        check("dropout backward", d, dy.len(), "dx", dx.data.len());
        apply(isa, d, dropout, key, dy, dx);
    }
}

/// Dropout is linear: both directions multiply by the same numbers.
fn apply<T: Real>(isa: Isa, d: Dims, dropout: Dropout, key: Key, x: &[T], out: GradMut<'_, T>) {
    if dropout.is_none() {
        isa.run(Map1 { x, out, f: |x| x });
    } else if T::IS_F32 {
        let out = GradMut { data: same_mut(out.data), beta: out.beta };
        isa.run(simd::Apply { d, dropout, key, x: same(x), out });
    } else {
        reference::apply(d, dropout, key, x, out);
    }
}

fn check(op: &str, d: Dims, x: usize, what: &str, out: usize) {
    let n = product(op, &[d.samples, d.rows, d.cols]);
    len(op, if what == "y" { "x" } else { "dy" }, n, x);
    len(op, what, n, out);
    require(
        op,
        "rows and columns must fit 32 bits",
        d.rows.max(d.cols),
        d.rows.max(d.cols) <= u32::MAX as usize,
    );
}

#[cfg(test)]
mod tests;
