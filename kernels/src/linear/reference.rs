//! The loops to study.

use super::Dims;
use crate::activation::{Activation, value_and_slope};
use crate::{GradMut, Real};

/// y = act(x W^T + b); `z`, if not empty, receives the pre-activation.
pub fn forward<T: Real>(
    d: Dims,
    act: Option<Activation>,
    x: &[T],
    w: &[T],
    b: Option<&[T]>,
    y: &mut [T],
    z: &mut [T],
) {
    for r in 0..d.rows {
        for o in 0..d.outputs {
            let mut sum = b.map_or(T::ZERO, |b| b[o]);
            for i in 0..d.inputs {
                sum += x[r * d.inputs + i] * w[o * d.inputs + i];
            }
            if !z.is_empty() {
                z[r * d.outputs + o] = sum;
            }
            y[r * d.outputs + o] = act.map_or(sum, |kind| value_and_slope(kind, sum).0);
        }
    }
}

/// Gradients of [`forward`] from the pre-activation `z`.
pub fn backward<T: Real>(
    d: Dims,
    act: Option<Activation>,
    x: &[T],
    w: &[T],
    z: &[T],
    dy: &[T],
    dx: Option<GradMut<'_, T>>,
    mut dw: Option<&mut [T]>,
    mut db: Option<&mut [T]>,
) {
    let mut dx = dx;
    if let Some(dx) = &mut dx {
        dx.zero_unless_accumulating();
    }
    for r in 0..d.rows {
        for o in 0..d.outputs {
            let at = r * d.outputs + o;
            let dz = dy[at] * act.map_or(T::ONE, |kind| value_and_slope(kind, z[at]).1);
            for i in 0..d.inputs {
                if let Some(dx) = &mut dx {
                    dx.data[r * d.inputs + i] += dz * w[o * d.inputs + i];
                }
                if let Some(dw) = &mut dw {
                    dw[o * d.inputs + i] += dz * x[r * d.inputs + i];
                }
            }
            if let Some(db) = &mut db {
                db[o] += dz;
            }
        }
    }
}
