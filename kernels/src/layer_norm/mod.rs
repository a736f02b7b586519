//! Layer normalisation over the last dimension, with an optional residual branch added first.
//!
//! | symbol | shape | meaning |
//! |---|---|---|
//! | x, y | `[samples, rows, cols]` | input, output |
//! | r | as x, or `[rows, cols]` for all samples | residual branch (a position table, for example) |
//! | k | as r | dropout multiplier of r: 0 or 1 / keep; 1 without dropout |
//! | gamma, beta | `[cols]` | scale and shift |
//!
//! # Forward
//! One row of `cols` elements at a time:
//!
//! ```text
//! s    = x + k r
//! mu   = sum(s) / cols
//! var  = sum((s - mu)^2) / cols                  (biased, as PyTorch)
//! rstd = 1 / sqrt(var + eps)
//! xhat = (s - mu) rstd
//! y    = gamma xhat + beta
//! ```
//!
//! # Derivative
//! With g = gamma dy, and mean() over the columns of a row:
//!
//! ```text
//! ds     = rstd (g - mean(g) - xhat mean(g xhat))
//! dx     = ds
//! dr     = k ds                                  (a table: summed over the samples)
//! dgamma = sum over rows of dy xhat
//! dbeta  = sum over rows of dy
//! ```
//!
//! # Saved
//! `[mu; samples rows]`, then `[rstd; samples rows]`. xhat is recomputed from s.
//!
//! # Cost
//! About 8 FLOPs per element forward and 15 backward; both are bound by memory.
//!
//! # Numerics
//! The variance is the mean of squared deviations (two passes), so a large common offset does not cancel. A constant row has
//! var = 0 and xhat = 0 (for eps > 0). NaN or infinity makes its row NaN, and the parameter gradients. Parameter gradients
//! are summed over 16 rows (2 where a row has more than 128 elements), and these sums are added in order: deterministic, with
//! a rounding error that grows with the number of sums.
//!
//! Source: Ba, Kiros, Hinton 2016 (arXiv:1607.06450). Measurements: `benches/NOTES.md`.

mod reference;
mod simd;
#[cfg(test)]
mod tests;

use crate::real::{same, same_mut};
use crate::rng::{Dropout, Key};
use crate::{GradMut, Isa, Real, contract};

/// `[samples, rows, cols]`; every row is normalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Samples, each with its own dropout stream.
    pub samples: usize,
    /// Rows of a sample.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
}

impl Dims {
    fn sizes(self, op: &str) -> (usize, usize) {
        let rows = contract::product(op, &[self.samples, self.rows]);
        (rows, contract::product(op, &[rows, self.cols]))
    }
}

/// A branch that is added to x before the normalisation, after dropout.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a, T> {
    /// `[samples, rows, cols]`, or `[rows, cols]`: then every sample's.
    pub data: &'a [T],
    /// Applied to `data` only.
    pub dropout: Dropout,
    /// Names the dropout decisions (sample 0 of the call; sample n uses `key.sample(n)`).
    pub key: Key,
}

impl<'a, T> Residual<'a, T> {
    /// The row that is added to row `r`, counted over all samples.
    #[inline(always)]
    fn row(&self, d: Dims, r: usize) -> &'a [T] {
        &self.data[r * d.cols % self.data.len()..][..d.cols]
    }

    #[track_caller]
    fn check(&self, op: &str, d: Dims) {
        let table = contract::product(op, &[d.rows, d.cols]);
        let expected = if self.data.len() == table { table } else { d.sizes(op).1 };
        contract::len(op, "residual", expected, self.data.len());
    }
}

/// Elements of `saved`: mean and reciprocal standard deviation of every row.
pub fn saved_len(d: Dims) -> usize {
    contract::product("layer_norm", &[2, d.samples, d.rows])
}

/// Elements of `scratch` that [`backward`] needs; [`forward`] needs none.
pub fn scratch_len(d: Dims) -> usize {
    let rows = contract::product("layer_norm", &[d.samples, d.rows]).min(simd::GROUP);
    contract::product("layer_norm", &[2, rows, d.cols])
}

crate::compiled::compiled! {
    /// y = gamma * normalise(x + dropout(residual)) + beta.
    ///
    /// x, y `[samples, rows, cols]`; gamma, beta `[cols]`; `saved` [`saved_len`] elements or empty (inference).
    ///
    /// # Panics
    /// If a length does not fit `d`, or `eps` is negative or NaN.
    pub fn forward<T>(
        isa: Isa,
        d: Dims,
        eps: f64,
        x: &[T],
        residual: Option<Residual<'_, T>>,
        gamma: &[T],
        beta: &[T],
        y: &mut [T],
        saved: &mut [T],
    ) as ForwardEntry {
        const OP: &str = "layer_norm";
        let (_, n) = d.sizes(OP);
        contract::len(OP, "x", n, x.len());
        contract::len(OP, "y", n, y.len());
        contract::len(OP, "gamma", d.cols, gamma.len());
        contract::len(OP, "beta", d.cols, beta.len());
        if let Some(r) = &residual {
            r.check(OP, d);
        }
        if !saved.is_empty() {
            contract::len(OP, "saved", saved_len(d), saved.len());
        }
        assert!(eps >= 0.0, "{OP}: eps must not be negative, got {eps}");
        if n == 0 {
            saved.fill(T::ZERO);
            return;
        }
        if T::IS_F32 {
            simd::Forward {
                d,
                eps: eps as f32,
                x: same(x),
                residual: residual.map(as_f32_residual),
                gamma: same(gamma),
                beta: same(beta),
                y: same_mut(y),
                saved: same_mut(saved),
            }
            .run(isa);
        } else {
            reference::forward(d, eps, x, residual, gamma, beta, y, saved);
        }
    }
}

crate::compiled::compiled! {
    /// The gradients of [`forward`], from the same x, residual and its `saved`.
    ///
    /// `dresidual` has the residual's shape; `dgamma` and `dbeta` `[cols]` accumulate; `scratch` needs [`scratch_len`] elements.
    ///
    /// # Panics
    /// If a length does not fit `d`, or `dresidual` is asked for without a `residual`.
    pub fn backward<T>(
        isa: Isa,
        d: Dims,
        x: &[T],
        residual: Option<Residual<'_, T>>,
        gamma: &[T],
        saved: &[T],
        dy: &[T],
        dx: Option<GradMut<'_, T>>,
        dresidual: Option<GradMut<'_, T>>,
        dgamma: Option<&mut [T]>,
        dbeta: Option<&mut [T]>,
        scratch: &mut [T],
    ) as BackwardEntry {
        const OP: &str = "layer_norm backward";
        let (_, n) = d.sizes(OP);
        contract::len(OP, "x", n, x.len());
        contract::len(OP, "dy", n, dy.len());
        contract::len(OP, "gamma", d.cols, gamma.len());
        contract::len(OP, "saved", saved_len(d), saved.len());
        contract::at_least(OP, "scratch", scratch_len(d), scratch.len());
        if let Some(r) = &residual {
            r.check(OP, d);
        }
        if let Some(g) = &dx {
            contract::len(OP, "dx", n, g.data.len());
        }
        if let Some(g) = &dresidual {
            contract::require(OP, "dresidual needs a residual", 0, residual.is_some());
            contract::len(OP, "dresidual", residual.map_or(0, |r| r.data.len()), g.data.len());
        }
        for (what, g) in [("dgamma", &dgamma), ("dbeta", &dbeta)] {
            if let Some(g) = g {
                contract::len(OP, what, d.cols, g.len());
            }
        }
        if n == 0 {
            return;
        }
        if T::IS_F32 {
            simd::Backward {
                d,
                x: same(x),
                residual: residual.map(as_f32_residual),
                gamma: same(gamma),
                saved: same(saved),
                dy: same(dy),
                dx: dx.map(as_f32_grad),
                dresidual: dresidual.map(as_f32_grad),
                dgamma: dgamma.map(same_mut),
                dbeta: dbeta.map(same_mut),
                scratch: same_mut(scratch),
            }
            .run(isa);
        } else {
            reference::backward(d, x, residual, gamma, saved, dy, dx, dresidual, dgamma, dbeta);
        }
    }
}

fn as_f32_residual<T: Real>(r: Residual<'_, T>) -> Residual<'_, f32> {
    Residual { data: same(r.data), dropout: r.dropout, key: r.key }
}

fn as_f32_grad<T: Real>(g: GradMut<'_, T>) -> GradMut<'_, f32> {
    GradMut { data: same_mut(g.data), beta: g.beta }
}
