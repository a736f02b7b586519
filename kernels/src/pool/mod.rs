//! Pooling: the rows of a sample to one row; x `[batch, rows, cols]`, y `[batch, cols]`.
//!
//! | kind | forward | derivative |
//! |---|---|---|
//! | [`Pool::Mean`] | y\[b, c\] = (1 / rows) sum over r of x\[b, r, c\] | dx\[b, r, c\] = dy\[b, c\] / rows |
//! | [`Pool::Max`] | y\[b, c\] = max over r of x\[b, r, c\] | dy\[b, c\] to the first row that has the maximum |
//! | [`Pool::First`] | y\[b, c\] = x\[b, 0, c\] | dy\[b, c\] to row 0 |
//! | [`Pool::Last`] | y\[b, c\] = x\[b, rows - 1, c\] | dy\[b, c\] to the last row |
//! | [`Pool::MeanDeviation`] | y\[b\] = the means m, then the deviations s = sqrt((1 / rows) sum over r of (x - m)^2 + eps) | dx\[b, r, c\] = (dm + ds (x\[b, r, c\] - m) / s) / rows |
//!
//! In the last, eps is [`DEVIATION_EPS`], the result is \[batch, 2 cols\], and dm and ds are the two halves of dy\[b\].
//!
//! # Saved
//! Nothing: the maximum, and mean and deviation, are found again in the backward pass.
//!
//! # Cost
//! One read of x and one FLOP per element, both ways; three reads with deviations.
//!
//! # Numerics
//! Means and deviations sum in f64, row after row. A NaN is the maximum of its column (the first one, if there are several),
//! so it propagates. The same bits on every instruction set: the plain loop is compiled for each.

use crate::contract::{len, product, require};
use crate::{GradMut, Isa};

mod reference;

/// Which row stands for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// The mean of the rows.
    Mean,
    /// The maximum of each column.
    Max,
    /// The first row (a CLS token).
    First,
    /// The last row.
    Last,
    /// The mean of the rows, then their standard deviation (divisor rows): twice as many columns.
    MeanDeviation,
}

/// Added to the variance under the root of [`Pool::MeanDeviation`], so that equal rows have a derivative.
pub const DEVIATION_EPS: f64 = 1e-4;

impl Pool {
    /// Columns of the result for rows of `cols` columns.
    pub fn columns(self, cols: usize) -> usize {
        if self == Self::MeanDeviation { 2 * cols } else { cols }
    }
}

/// Sizes of a pooling: \[batch, rows, cols\] to \[batch, [`Pool::columns`]\]; at least one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Samples.
    pub batch: usize,
    /// Rows pooled.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

crate::compiled::compiled! {
    /// x: \[batch, rows, cols\], y: \[batch, kind.columns(cols)\].
    ///
    /// # Panics
    /// If sizes do not fit or there is no row.
    pub fn forward<T>(isa: Isa, kind: Pool, d: Dims, x: &[T], y: &mut [T]) as ForwardEntry {
        check("pool", d);
        len("pool", "x", product("pool", &[d.batch, d.rows, d.cols]), x.len());
        len("pool", "y", product("pool", &[d.batch, kind.columns(d.cols)]), y.len());
        isa.run(reference::Forward { kind, d, x, y });
    }
}

crate::compiled::compiled! {
    /// dx: \[batch, rows, cols\] from x and dy: \[batch, kind.columns(cols)\]; x is read by [`Pool::Max`] and
    /// [`Pool::MeanDeviation`] only.
    ///
    /// # Panics
    /// If sizes do not fit or there is no row.
    pub fn backward<T>(isa: Isa, kind: Pool, d: Dims, x: &[T], dy: &[T], dx: GradMut<'_, T>) as BackwardEntry {
        let op = "pool backward";
        check(op, d);
        let n = product(op, &[d.batch, d.rows, d.cols]);
        len(op, "x", n, x.len());
        len(op, "dy", product(op, &[d.batch, kind.columns(d.cols)]), dy.len());
        len(op, "dx", n, dx.data.len());
        isa.run(reference::Backward { kind, d, x, dy, dx });
    }
}

fn check(op: &str, d: Dims) {
    require(op, "a sample needs at least one row", d.rows, d.rows > 0);
}

#[cfg(test)]
mod tests;
