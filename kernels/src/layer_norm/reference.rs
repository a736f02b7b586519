//! The loops to study.

use super::{Dims, Residual};
use crate::{GradMut, Real};

/// The dropout multiplier of the residual's element (row `r` counted over all samples, column `c`).
fn multiplier<T: Real>(d: Dims, residual: &Residual<'_, T>, r: usize, c: usize) -> T {
    let stream = residual.key.sample(r / d.rows).stream();
    if residual.dropout.is_none() {
        T::ONE
    } else if stream.keeps(residual.dropout, (r % d.rows) as u32, c) {
        residual.dropout.scale()
    } else {
        T::ZERO
    }
}

/// s = x + dropout(residual) at row `r`, column `c`.
fn input<T: Real>(d: Dims, x: &[T], residual: &Option<Residual<'_, T>>, r: usize, c: usize) -> T {
    let i = r * d.cols + c;
    match residual {
        Some(b) => x[i] + multiplier(d, b, r, c) * b.row(d, r)[c],
        None => x[i],
    }
}

pub(super) fn forward<T: Real>(
    d: Dims,
    eps: f64,
    x: &[T],
    residual: Option<Residual<'_, T>>,
    gamma: &[T],
    beta: &[T],
    y: &mut [T],
    saved: &mut [T],
) {
    let (rows, n) = (d.samples * d.rows, T::of_usize(d.cols));
    for r in 0..rows {
        let y = &mut y[r * d.cols..][..d.cols];
        for c in 0..d.cols {
            y[c] = input(d, x, &residual, r, c);
        }
        let mean = y.iter().copied().sum::<T>() / n;
        let var = y.iter().map(|&s| (s - mean) * (s - mean)).sum::<T>() / n;
        let rstd = T::ONE / (var + T::of(eps)).sqrt();
        for c in 0..d.cols {
            y[c] = gamma[c] * ((y[c] - mean) * rstd) + beta[c];
        }
        if !saved.is_empty() {
            saved[r] = mean;
            saved[rows + r] = rstd;
        }
    }
}

pub(super) fn backward<T: Real>(
    d: Dims,
    x: &[T],
    residual: Option<Residual<'_, T>>,
    gamma: &[T],
    saved: &[T],
    dy: &[T],
    mut dx: Option<GradMut<'_, T>>,
    mut dresidual: Option<GradMut<'_, T>>,
    mut dgamma: Option<&mut [T]>,
    mut dbeta: Option<&mut [T]>,
) {
    let (rows, n) = (d.samples * d.rows, T::of_usize(d.cols));
    for r in 0..rows {
        let (mean, rstd) = (saved[r], saved[rows + r]);
        let dy = &dy[r * d.cols..][..d.cols];
        let xhat = |c: usize| (input(d, x, &residual, r, c) - mean) * rstd;
        let (mut mean_g, mut mean_gx) = (T::ZERO, T::ZERO);
        for c in 0..d.cols {
            let g = gamma[c] * dy[c];
            mean_g += g / n;
            mean_gx += g * xhat(c) / n;
        }
        for c in 0..d.cols {
            let i = r * d.cols + c;
            let ds = rstd * (gamma[c] * dy[c] - mean_g - xhat(c) * mean_gx);
            if let Some(dx) = &mut dx {
                dx.put(i, ds);
            }
            if let (Some(g), Some(b)) = (&mut dresidual, &residual) {
                let (n, dr) = (g.data.len(), multiplier(d, b, r, c) * ds);
                if i < n { g.put(i, dr) } else { g.data[i % n] += dr }
            }
            if let Some(g) = &mut dgamma {
                g[c] += dy[c] * xhat(c);
            }
            if let Some(g) = &mut dbeta {
                g[c] += dy[c];
            }
        }
    }
}
