//! The loops to study: one query of one head at a time.

use super::Inputs;
use crate::{GradMut, Real};

/// A row of tk probabilities, and three of a key's width.
pub(super) fn scratch_len(d: super::Dims) -> usize {
    d.tk.saturating_add(d.width.saturating_mul(3))
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(&a, &b)| a * b).sum()
}

/// y += factor x
fn add<T: Real>(y: &mut [T], factor: T, x: &[T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

/// out = w^T v: the rows of w weighted by the elements of v.
fn transposed<T: Real>(w: &[T], v: &[T], out: &mut [T]) {
    out.fill(T::ZERO);
    for (w, &v) in w.chunks_exact(out.len()).zip(v) {
        add(out, v, w);
    }
}

/// The dropout multiplier of query i and key j of head h.
fn multiplier<T: Real>(f: &Inputs<'_, T>, n: usize, h: usize, i: usize, j: usize) -> T {
    if f.dropout.is_none() {
        T::ONE
    } else if f.key.sample(n).stream().keeps(f.dropout, (h * f.d.tq + i) as u32, j) {
        f.dropout.scale()
    } else {
        T::ZERO
    }
}

pub(super) fn forward<T: Real>(f: &Inputs<'_, T>, y: &mut [T], saved: &mut [T], scratch: &mut [T]) {
    let (d, scale) = (f.d, T::of(f.scale));
    let mut saved = super::Saved::split(d, saved);
    for n in 0..d.batch {
        for h in 0..d.heads {
            let (wk, wv) = f.weights(h);
            for i in 0..d.tq {
                let columns = f.columns(n, h, i);
                let (p, rest) = scratch.split_at_mut(d.tk);
                let (u, rest) = rest.split_at_mut(d.width);
                let c = &mut rest[..d.width];
                transposed(wk, &f.q[columns.clone()], u);
                let mut max = -T::INFINITY;
                for j in (0..d.tk).filter(|&j| f.keeps(n, j)) {
                    p[j] = scale * dot(u, f.row(n, j));
                    max = max.max(p[j]);
                }
                // Without a finite score the exponents are measured from 0: every exponential is 0.
                let max = if max == -T::INFINITY { T::ZERO } else { max };
                let mut sum = T::ZERO;
                for j in (0..d.tk).filter(|&j| f.keeps(n, j)) {
                    p[j] = (p[j] - max).exp();
                    sum += p[j];
                }
                let inverse = if sum == T::ZERO { T::ZERO } else { T::ONE / sum };
                c.fill(T::ZERO);
                let mut kept = T::ZERO;
                for j in (0..d.tk).filter(|&j| f.keeps(n, j)) {
                    let mp = multiplier(f, n, h, i, j) * p[j] * inverse;
                    add(c, mp, f.row(n, j));
                    kept += mp;
                }
                for (r, y) in y[columns].iter_mut().enumerate() {
                    let bias = f.value_bias(h).map_or(T::ZERO, |b| b[r]);
                    *y = dot(&wv[r * d.width..][..d.width], c) + kept * bias;
                }
                if let Some(saved) = &mut saved {
                    let at = (n * d.heads + h) * d.tq + i;
                    saved.lse[at] = max + sum.ln();
                    saved.kept[at] = kept;
                    saved.context[at * d.width..][..d.width].copy_from_slice(c);
                }
            }
        }
    }
}

pub(super) fn backward<'a, T: Real>(
    f: &Inputs<'_, T>,
    saved: super::Saved<&[T]>,
    dy: &[T],
    mut dq: Option<GradMut<'a, T>>,
    mut dx: Option<GradMut<'a, T>>,
    mut dw: Option<&mut [T]>,
    mut db: Option<&mut [T]>,
    scratch: &mut [T],
) {
    let (d, scale) = (f.d, T::of(f.scale));
    // From here on everything adds.
    for gradient in [&mut dq, &mut dx].into_iter().flatten() {
        gradient.zero_unless_accumulating();
    }
    for n in 0..d.batch {
        for h in 0..d.heads {
            let (wk, wv) = f.weights(h);
            for i in 0..d.tq {
                let at = (n * d.heads + h) * d.tq + i;
                let (lse, kept) = (saved.lse[at], saved.kept[at]);
                if lse == -T::INFINITY {
                    continue; // no key took part
                }
                let c = &saved.context[at * d.width..][..d.width];
                let columns = f.columns(n, h, i);
                let (q, dy) = (&f.q[columns.clone()], &dy[columns.clone()]);
                let (u, rest) = scratch.split_at_mut(d.width);
                let (dc, rest) = rest.split_at_mut(d.width);
                let du = &mut rest[..d.width];
                transposed(wk, q, u);
                transposed(wv, dy, dc);
                let bias = f.value_bias(h).map_or(T::ZERO, |b| dot(b, dy));
                // The sum of p dp over the keys, dropout included.
                let mean = dot(c, dc) + kept * bias;
                du.fill(T::ZERO);
                for j in (0..d.tk).filter(|&j| f.keeps(n, j)) {
                    let x = f.row(n, j);
                    let m = multiplier(f, n, h, i, j);
                    let p = (scale * dot(u, x) - lse).exp();
                    let dp = m * (dot(x, dc) + bias);
                    let ds = scale * p * (dp - mean);
                    add(du, ds, x);
                    if let Some(dx) = &mut dx {
                        let dx = &mut dx.data[(n * d.tk + j) * d.width..][..d.width];
                        add(dx, m * p, dc);
                        add(dx, ds, u);
                    }
                }
                if let Some(dq) = &mut dq {
                    for (dq, wk) in dq.data[columns].iter_mut().zip(wk.chunks_exact(d.width)) {
                        *dq += dot(wk, du);
                    }
                }
                if let Some(dw) = &mut dw {
                    let (dwk, dwv) = super::heads_weights_mut(d, h, dw);
                    for (dwk, &q) in dwk.chunks_exact_mut(d.width).zip(q) {
                        add(dwk, q, du);
                    }
                    for (dwv, &dy) in dwv.chunks_exact_mut(d.width).zip(dy) {
                        add(dwv, dy, c);
                    }
                }
                if let Some(db) = &mut db {
                    add(&mut db[d.inner() + h * d.head_dim..][..d.head_dim], kept, dy);
                }
            }
        }
    }
}
