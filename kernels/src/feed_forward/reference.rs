//! The two layers, one after the other, with the whole hidden matrix: the loops to study.

use super::Dims;
use crate::activation::Activation;
use crate::linear;
use crate::rng::{Dropout, Key, Stream};
use crate::{GradMut, Real};

/// Multiplies one hidden row by its dropout multipliers.
pub(super) fn drop_row<T: Real>(stream: Stream, dropout: Dropout, row: u32, h: &mut [T]) {
    for (c, h) in h.iter_mut().enumerate() {
        *h *= if stream.keeps(dropout, row, c) { dropout.scale() } else { T::ZERO };
    }
}

fn drop_all<T: Real>(d: Dims, dropout: Dropout, key: Key, h: &mut [T]) {
    for (i, h) in h.chunks_exact_mut(d.hidden.max(1)).enumerate() {
        drop_row(key.sample(i / d.rows).stream(), dropout, (i % d.rows) as u32, h);
    }
}

fn layers(d: Dims) -> (linear::Dims, linear::Dims) {
    let rows = d.samples * d.rows;
    (
        linear::Dims { rows, inputs: d.width, outputs: d.hidden, precision: d.precision },
        linear::Dims { rows, inputs: d.hidden, outputs: d.width, precision: d.precision },
    )
}

/// y as [`super::forward`]; `z` and `g`, `[samples, rows, hidden]`, receive pre-activation and dropped hidden values.
pub fn forward<T: Real>(
    d: Dims,
    act: Activation,
    dropout: Dropout,
    key: Key,
    x: &[T],
    w1: &[T],
    b1: &[T],
    w2: &[T],
    b2: &[T],
    y: &mut [T],
    z: &mut [T],
    g: &mut [T],
) {
    let (first, second) = layers(d);
    linear::forward_reference(first, Some(act), x, w1, Some(b1), g, z);
    drop_all(d, dropout, key, g);
    linear::forward_reference(second, None, g, w2, Some(b2), y, &mut []);
}

/// Gradients as [`super::backward`], from `z` and `g` of [`forward`]; `dg`, as long, receives the gradient of g and is
/// then the gradient of h.
pub fn backward<T: Real>(
    d: Dims,
    act: Activation,
    dropout: Dropout,
    key: Key,
    x: &[T],
    w1: &[T],
    w2: &[T],
    z: &[T],
    g: &[T],
    dg: &mut [T],
    dy: &[T],
    dx: Option<GradMut<'_, T>>,
    dw1: Option<&mut [T]>,
    db1: Option<&mut [T]>,
    dw2: Option<&mut [T]>,
    db2: Option<&mut [T]>,
) {
    let (first, second) = layers(d);
    linear::backward_reference(second, None, g, w2, &[], dy, Some(GradMut::overwrite(dg)), dw2, db2);
    drop_all(d, dropout, key, dg);
    linear::backward_reference(first, Some(act), x, w1, z, dg, dx, dw1, db1);
}
