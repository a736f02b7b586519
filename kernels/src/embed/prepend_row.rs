//! One learned row in front of every sample's rows (the CLS token).
//!
//! ```text
//! y[b, 0] = row,  y[b, 1 + r] = x[b, r]        dx[b, r] = dy[b, 1 + r],  drow = sum over b of dy[b, 0]
//! ```

pub use super::Dims;
use crate::contract::{len, product};
use crate::{Beta, GradMut};

crate::compiled::compiled! {
    /// x: \[batch, rows, cols\], row: \[cols\], y: \[batch, rows + 1, cols\].
    ///
    /// # Panics
    /// If sizes do not fit.
    pub fn forward<T>(d: Dims, x: &[T], row: &[T], y: &mut [T]) as ForwardEntry {
        let (inputs, outputs) = sizes("prepend_row", d);
        len("prepend_row", "x", inputs, x.len());
        len("prepend_row", "row", d.cols, row.len());
        len("prepend_row", "y", outputs, y.len());
        let sample = d.rows * d.cols;
        for b in 0..d.batch {
            let y = &mut y[b * (sample + d.cols)..][..sample + d.cols];
            y[..d.cols].copy_from_slice(row);
            y[d.cols..].copy_from_slice(&x[b * sample..][..sample]);
        }
    }
}

crate::compiled::compiled! {
    /// dx: \[batch, rows, cols\], drow: \[cols\].
    ///
    /// # Panics
    /// If sizes do not fit.
    pub fn backward<T>(d: Dims, dy: &[T], dx: Option<GradMut<'_, T>>, drow: Option<GradMut<'_, T>>) as BackwardEntry {
        let (inputs, outputs) = sizes("prepend_row backward", d);
        len("prepend_row backward", "dy", outputs, dy.len());
        let sample = d.rows * d.cols;
        let dy_of = |b: usize| &dy[b * (sample + d.cols)..][..sample + d.cols];
        if let Some(dx) = dx {
            len("prepend_row backward", "dx", inputs, dx.data.len());
            for b in 0..d.batch {
                let dx_b = &mut dx.data[b * sample..][..sample];
                let dy_b = &dy_of(b)[d.cols..];
                match dx.beta {
                    Beta::Zero => dx_b.copy_from_slice(dy_b),
                    Beta::One => dx_b.iter_mut().zip(dy_b).for_each(|(dx, &dy)| *dx += dy),
                }
            }
        }
        if let Some(mut drow) = drow {
            len("prepend_row backward", "drow", d.cols, drow.data.len());
            drow.zero_unless_accumulating();
            for b in 0..d.batch {
                drow.data.iter_mut().zip(dy_of(b)).for_each(|(drow, &dy)| *drow += dy);
            }
        }
    }
}

/// Elements of x and of y.
fn sizes(op: &str, d: Dims) -> (usize, usize) {
    let inputs = product(op, &[d.batch, d.rows, d.cols]);
    (inputs, product(op, &[d.batch, d.rows.saturating_add(1), d.cols]))
}
