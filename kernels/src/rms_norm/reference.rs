//! The loops to study.

use super::Dims;
use crate::{GradMut, Real};

/// y and the scale r of every row. Sizes are the caller's to keep: [`super::forward`] checks them.
///
/// ```
/// use heartlore_kernels::rms_norm::{Dims, reference};
/// let (mut y, mut r) = ([0.0; 2], [0.0; 1]);
/// // rms of (3, 4) is 5 / sqrt 2.
/// reference::forward(Dims { rows: 1, cols: 2 }, 0.0, &[3.0, 4.0], &[1.0, 2.0], &mut y, &mut r);
/// assert!((r[0] - 2f64.sqrt() / 5.0).abs() < 1e-15);
/// assert!((y[1] - 2.0 * 4.0 * r[0]).abs() < 1e-15);
/// ```
pub fn forward<T: Real>(d: Dims, eps: f64, x: &[T], gamma: &[T], y: &mut [T], saved: &mut [T]) {
    let n = T::of_usize(d.cols);
    for row in 0..d.rows {
        let (x, y) = (&x[row * d.cols..][..d.cols], &mut y[row * d.cols..][..d.cols]);
        let squares = x.iter().map(|&x| x * x).sum::<T>();
        let r = T::ONE / (squares / n + T::of(eps)).sqrt();
        for c in 0..d.cols {
            y[c] = gamma[c] * (x[c] * r);
        }
        if !saved.is_empty() {
            saved[row] = r;
        }
    }
}

/// dx and dgamma from dy and the scales of [`forward`].
pub fn backward<T: Real>(
    d: Dims,
    x: &[T],
    gamma: &[T],
    saved: &[T],
    dy: &[T],
    mut dx: Option<GradMut<'_, T>>,
    mut dgamma: Option<&mut [T]>,
) {
    let n = T::of_usize(d.cols);
    for row in 0..d.rows {
        let (x, dy) = (&x[row * d.cols..][..d.cols], &dy[row * d.cols..][..d.cols]);
        let r = saved[row];
        let m = (0..d.cols).map(|c| gamma[c] * dy[c] * (x[c] * r)).sum::<T>() / n;
        for c in 0..d.cols {
            let xhat = x[c] * r;
            if let Some(dx) = &mut dx {
                dx.put(row * d.cols + c, r * (gamma[c] * dy[c] - xhat * m));
            }
            if let Some(dgamma) = &mut dgamma {
                dgamma[c] += dy[c] * xhat;
            }
        }
    }
}
