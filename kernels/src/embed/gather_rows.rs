//! Rows picked from every sample: only what the loss sees goes on.
//!
//! ```text
//! y[b, p] = x[b, index[b, p]]        dx[b, index[b, p]] += dy[b, p], 0 where nothing was picked
//! ```
//!
//! A row picked twice receives both gradients, added in the order of the picks.

use crate::GradMut;
use crate::contract::{len, product, require};

/// Sizes of a selection of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Samples.
    pub batch: usize,
    /// Rows of a sample to pick from.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Rows picked from each sample.
    pub picks: usize,
}

crate::compiled::compiled! {
    /// x: \[batch, rows, cols\], index: \[batch, picks\], y: \[batch, picks, cols\].
    ///
    /// # Panics
    /// If sizes do not fit or an index is not below `rows`.
    pub fn forward<T>(d: Dims, x: &[T], index: &[u32], y: &mut [T]) as ForwardEntry {
        len("gather_rows", "x", product("gather_rows", &[d.batch, d.rows, d.cols]), x.len());
        len("gather_rows", "y", product("gather_rows", &[d.batch, d.picks, d.cols]), y.len());
        check("gather_rows", d, index);
        for b in 0..d.batch {
            for p in 0..d.picks {
                let pick = b * d.picks + p;
                let row = b * d.rows + index[pick] as usize;
                y[pick * d.cols..][..d.cols].copy_from_slice(&x[row * d.cols..][..d.cols]);
            }
        }
    }
}

crate::compiled::compiled! {
    /// dx: \[batch, rows, cols\] from dy: \[batch, picks, cols\].
    ///
    /// # Panics
    /// If sizes do not fit or an index is not below `rows`.
    pub fn backward<T>(d: Dims, index: &[u32], dy: &[T], dx: GradMut<'_, T>) as BackwardEntry {
        let mut dx = dx;
        let op = "gather_rows backward";
        len(op, "dx", product(op, &[d.batch, d.rows, d.cols]), dx.data.len());
        len(op, "dy", product(op, &[d.batch, d.picks, d.cols]), dy.len());
        check(op, d, index);
        dx.zero_unless_accumulating();
        for b in 0..d.batch {
            for p in 0..d.picks {
                let pick = b * d.picks + p;
                let row = b * d.rows + index[pick] as usize;
                let dy = &dy[pick * d.cols..][..d.cols];
                dx.data[row * d.cols..][..d.cols].iter_mut().zip(dy).for_each(|(dx, &dy)| *dx += dy);
            }
        }
    }
}

fn check(op: &str, d: Dims, index: &[u32]) {
    len(op, "index", product(op, &[d.batch, d.picks]), index.len());
    for &i in index {
        require(op, "an index must be below the number of rows", i as usize, (i as usize) < d.rows);
    }
}
