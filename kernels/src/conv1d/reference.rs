//! The loops to study.

use super::Dims;
use crate::activation::{Activation, value_and_slope};
use crate::{GradMut, Real};

/// Position of x under tap k of output position t, if there is one.
fn position(d: Dims, t: usize, k: usize) -> Option<usize> {
    (t * d.stride + k * d.dilation).checked_sub(d.padding).filter(|&s| s < d.length)
}

/// y = act(w * x + b); `z`, if not empty, receives the pre-activation.
pub fn forward<T: Real>(
    d: Dims,
    act: Option<Activation>,
    x: &[T],
    w: &[T],
    b: Option<&[T]>,
    y: &mut [T],
    z: &mut [T],
) {
    let (cin, cout, out) = (d.in_channels, d.out_channels, d.out_length().unwrap_or(0));
    for n in 0..d.batch {
        for t in 0..out {
            for o in 0..cout {
                let mut sum = b.map_or(T::ZERO, |b| b[o]);
                for k in 0..d.kernel {
                    let Some(s) = position(d, t, k) else { continue };
                    for c in 0..cin {
                        sum += w[(o * cin + c) * d.kernel + k] * x[(n * d.length + s) * cin + c];
                    }
                }
                let at = (n * out + t) * cout + o;
                if !z.is_empty() {
                    z[at] = sum;
                }
                y[at] = act.map_or(sum, |kind| value_and_slope(kind, sum).0);
            }
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
    mut dx: Option<GradMut<'_, T>>,
    mut dw: Option<&mut [T]>,
    mut db: Option<&mut [T]>,
) {
    let (cin, cout, out) = (d.in_channels, d.out_channels, d.out_length().unwrap_or(0));
    if let Some(dx) = &mut dx {
        dx.zero_unless_accumulating();
    }
    for n in 0..d.batch {
        for t in 0..out {
            for o in 0..cout {
                let at = (n * out + t) * cout + o;
                let dz = dy[at] * act.map_or(T::ONE, |kind| value_and_slope(kind, z[at]).1);
                if let Some(db) = &mut db {
                    db[o] += dz;
                }
                for k in 0..d.kernel {
                    let Some(s) = position(d, t, k) else { continue };
                    for c in 0..cin {
                        let (xi, wi) = ((n * d.length + s) * cin + c, (o * cin + c) * d.kernel + k);
                        if let Some(dx) = &mut dx {
                            dx.data[xi] += dz * w[wi];
                        }
                        if let Some(dw) = &mut dw {
                            dw[wi] += dz * x[xi];
                        }
                    }
                }
            }
        }
    }
}
