//! The loops to study: one query at a time, with its probabilities in scratch.

use super::{GradRows, Inputs, Rows};
use crate::Real;

/// Two rows of tk: probabilities, and their gradients.
pub(super) fn scratch_len(d: super::Dims) -> usize {
    2 * d.tk
}

/// Columns of head `h` in row `row`.
fn head<T: Real>(rows: Rows<'_, T>, row: usize, h: usize, head_dim: usize) -> &[T] {
    &rows.data[row * rows.stride + rows.offset + h * head_dim..][..head_dim]
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}

/// The dropout multiplier of query i and key j of head h.
fn multiplier<T: Real>(x: &Inputs<'_, T>, n: usize, h: usize, i: usize, j: usize) -> T {
    if x.dropout.is_none() {
        T::ONE
    } else if x.key.sample(n).stream().keeps(x.dropout, (h * x.d.tq + i) as u32, j) {
        x.dropout.scale()
    } else {
        T::ZERO
    }
}

pub(super) fn forward<T: Real>(x: &Inputs<'_, T>, y: &mut [T], saved: &mut [T], scratch: &mut [T]) {
    let d = x.d;
    let scale = T::of(x.scale);
    for n in 0..d.batch {
        for h in 0..d.heads {
            for i in 0..d.tq {
                let q = head(x.q, n * d.tq + i, h, d.head_dim);
                let p = &mut scratch[..d.tk];
                let mut max = -T::INFINITY;
                for j in (0..d.tk).filter(|&j| x.keeps(n, j)) {
                    p[j] = scale * dot(q, head(x.k, n * d.tk + j, h, d.head_dim));
                    max = max.max(p[j]);
                }
                // Without a finite score the exponents are measured from 0: every exponential is 0.
                let max = if max == -T::INFINITY { T::ZERO } else { max };
                let mut sum = T::ZERO;
                for j in (0..d.tk).filter(|&j| x.keeps(n, j)) {
                    p[j] = (p[j] - max).exp();
                    sum += p[j];
                }
                let y = &mut y[(n * d.tq + i) * d.width() + h * d.head_dim..][..d.head_dim];
                y.fill(T::ZERO);
                let inverse = if sum == T::ZERO { T::ZERO } else { T::ONE / sum };
                for j in (0..d.tk).filter(|&j| x.keeps(n, j)) {
                    let w = p[j] * inverse * multiplier(x, n, h, i, j);
                    for (y, &v) in y.iter_mut().zip(head(x.v, n * d.tk + j, h, d.head_dim)) {
                        *y += w * v;
                    }
                }
                if !saved.is_empty() {
                    saved[(n * d.heads + h) * d.tq + i] = max + sum.ln();
                }
            }
        }
    }
}

pub(super) fn backward<T: Real>(
    x: &Inputs<'_, T>,
    y: &[T],
    saved: &[T],
    dy: &[T],
    buffers: &mut [&mut [T]],
    dq: Option<GradRows>,
    dk: Option<GradRows>,
    dv: Option<GradRows>,
    scratch: &mut [T],
) {
    let d = x.d;
    let scale = T::of(x.scale);
    // The wanted gradients were cleared where they are to be overwritten: from here on everything adds.
    let mut add = |g: Option<GradRows>, row: usize, h: usize, factor: T, of: &[T]| {
        let Some(g) = g else { return };
        let to = &mut buffers[g.buffer][row * g.stride + g.offset + h * d.head_dim..][..d.head_dim];
        for (to, &of) in to.iter_mut().zip(of) {
            *to += factor * of;
        }
    };
    for n in 0..d.batch {
        for h in 0..d.heads {
            for i in 0..d.tq {
                let lse = saved[(n * d.heads + h) * d.tq + i];
                if lse == -T::INFINITY {
                    continue; // no key took part
                }
                let q = head(x.q, n * d.tq + i, h, d.head_dim);
                let place = (n * d.tq + i) * d.width() + h * d.head_dim;
                let (y, dy) = (&y[place..][..d.head_dim], &dy[place..][..d.head_dim]);
                let (p, ds) = scratch.split_at_mut(d.tk);
                let dot_dy_y = dot(dy, y);
                for j in (0..d.tk).filter(|&j| x.keeps(n, j)) {
                    let row = n * d.tk + j;
                    let m = multiplier(x, n, h, i, j);
                    p[j] = (scale * dot(q, head(x.k, row, h, d.head_dim)) - lse).exp();
                    let dp = m * dot(dy, head(x.v, row, h, d.head_dim));
                    ds[j] = p[j] * (dp - dot_dy_y);
                    add(dv, row, h, m * p[j], dy);
                }
                for j in (0..d.tk).filter(|&j| x.keeps(n, j)) {
                    let row = n * d.tk + j;
                    add(dq, n * d.tq + i, h, scale * ds[j], head(x.k, row, h, d.head_dim));
                    add(dk, row, h, scale * ds[j], q);
                }
            }
        }
    }
}
