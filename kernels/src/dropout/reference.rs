//! Dropout by the scalar definition of the random layout.

use super::Dims;
use crate::rng::{Dropout, Key};
use crate::{GradMut, Real};

/// out = x m or out += x m, the multiplier m drawn element by element.
pub(super) fn apply<T: Real>(d: Dims, dropout: Dropout, key: Key, x: &[T], mut out: GradMut<'_, T>) {
    let scale = dropout.scale::<T>();
    for n in 0..d.samples {
        let stream = key.sample(n).stream();
        for r in 0..d.rows {
            for c in 0..d.cols {
                let i = (n * d.rows + r) * d.cols + c;
                let m = if stream.keeps(dropout, r as u32, c) { scale } else { T::ZERO };
                out.put(i, x[i] * m);
            }
        }
    }
}
