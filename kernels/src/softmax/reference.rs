//! The loops to study.

use super::Dims;
use crate::{GradMut, Real};

pub(super) fn forward<T: Real>(d: Dims, x: &[T], y: &mut [T]) {
    for r in 0..d.rows {
        let x = &x[r * d.cols..][..d.cols];
        let y = &mut y[r * d.cols..][..d.cols];
        let max = x.iter().fold(-T::INFINITY, |m, &v| m.max(v));
        // An all -inf row would give -inf - -inf = NaN; measured from 0 its exponentials are 0.
        let max = if max == -T::INFINITY { T::ZERO } else { max };
        let mut sum = T::ZERO;
        for (y, &x) in y.iter_mut().zip(x) {
            *y = (x - max).exp();
            sum += *y;
        }
        let scale = if sum == T::ZERO { T::ZERO } else { T::ONE / sum };
        for y in y {
            *y *= scale;
        }
    }
}

pub(super) fn backward<T: Real>(d: Dims, y: &[T], dy: &[T], mut dx: GradMut<'_, T>) {
    for r in 0..d.rows {
        let row = r * d.cols..(r + 1) * d.cols;
        let dot: T = row.clone().map(|i| y[i] * dy[i]).sum();
        for i in row {
            dx.put(i, y[i] * (dy[i] - dot));
        }
    }
}
