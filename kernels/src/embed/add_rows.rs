//! A table of rows added to every sample (position embedding).
//!
//! ```text
//! y[b, r] = x[b, r] + table[r]        dx = dy,  dtable[r] = sum over b of dy[b, r]
//! ```

pub use super::Dims;
use crate::contract::{len, product};
use crate::{Beta, GradMut};

crate::compiled::compiled! {
    /// x, y: \[batch, rows, cols\], table: \[rows, cols\].
    ///
    /// # Panics
    /// If sizes do not fit.
    pub fn forward<T>(d: Dims, x: &[T], table: &[T], y: &mut [T]) as ForwardEntry {
        let n = product("add_rows", &[d.batch, d.rows, d.cols]);
        let sample = product("add_rows", &[d.rows, d.cols]);
        len("add_rows", "x", n, x.len());
        len("add_rows", "table", sample, table.len());
        len("add_rows", "y", n, y.len());
        for b in 0..d.batch {
            let (x, y) = (&x[b * sample..][..sample], &mut y[b * sample..][..sample]);
            y.iter_mut().zip(x).zip(table).for_each(|((y, &x), &t)| *y = x + t);
        }
    }
}

crate::compiled::compiled! {
    /// dx: \[batch, rows, cols\], dtable: \[rows, cols\].
    ///
    /// # Panics
    /// If sizes do not fit.
    pub fn backward<T>(d: Dims, dy: &[T], dx: Option<GradMut<'_, T>>, dtable: Option<GradMut<'_, T>>) as BackwardEntry {
        let n = product("add_rows backward", &[d.batch, d.rows, d.cols]);
        let sample = product("add_rows backward", &[d.rows, d.cols]);
        len("add_rows backward", "dy", n, dy.len());
        if let Some(dx) = dx {
            len("add_rows backward", "dx", n, dx.data.len());
            match dx.beta {
                Beta::Zero => dx.data.copy_from_slice(dy),
                Beta::One => dx.data.iter_mut().zip(dy).for_each(|(dx, &dy)| *dx += dy),
            }
        }
        if let Some(mut dtable) = dtable {
            len("add_rows backward", "dtable", sample, dtable.data.len());
            dtable.zero_unless_accumulating();
            for b in 0..d.batch {
                let dy = &dy[b * sample..][..sample];
                dtable.data.iter_mut().zip(dy).for_each(|(dtable, &dy)| *dtable += dy);
            }
        }
    }
}
