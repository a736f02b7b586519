//! The vector bodies.
//!
//! ```text
//! for each row: maximum; exponentials and their sum; scaling
//! ```
//!
//! Deviation from the reference: lanes of a row are reduced together, so the sum is added in another order.

use super::Dims;
use crate::isa::{Simd, Task};
use crate::{Beta, GradMut, vmath};

pub(super) struct Forward<'a> {
    pub(super) d: Dims,
    pub(super) x: &'a [f32],
    pub(super) y: &'a mut [f32],
}

impl Task for Forward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { d, x, y } = self;
        if d.cols == 0 {
            return;
        }
        for (x, y) in x.chunks_exact(d.cols).zip(y.chunks_exact_mut(d.cols)) {
            forward_row(s, x, y);
        }
    }
}

#[inline(always)]
fn forward_row<S: Simd>(s: S, x: &[f32], y: &mut [f32]) {
    let tail = x.len() % S::LANES;
    let body = x.len() - tail;
    let mut max = s.splat(f32::NEG_INFINITY);
    for x in x[..body].chunks_exact(S::LANES) {
        max = s.max(s.load(x), max);
    }
    let mut max = s.hmax(max);
    for &x in &x[body..] {
        max = max.max(x);
    }
    // As in the reference: an all -inf row is measured from 0. Whatever max is, a NaN score stays NaN below.
    let max = if max == f32::NEG_INFINITY { 0.0 } else { max };
    let shift = s.splat(max);
    let mut sum = s.splat(0.0);
    for (x, y) in x[..body].chunks_exact(S::LANES).zip(y[..body].chunks_exact_mut(S::LANES)) {
        let e = vmath::exp(s, s.sub(s.load(x), shift));
        sum = s.add(sum, e);
        s.store(e, y);
    }
    let mut sum = s.sum(sum);
    if tail > 0 {
        // The lanes past the end hold exp(0 - max), which must not be summed: only what reaches memory is.
        s.store_partial(vmath::exp(s, s.sub(s.load_partial(&x[body..]), shift)), &mut y[body..]);
        sum += s.sum(s.load_partial(&y[body..]));
    }
    let scale = s.splat(if sum == 0.0 { 0.0 } else { 1.0 / sum });
    for y in y[..body].chunks_exact_mut(S::LANES) {
        s.store(s.mul(s.load(y), scale), y);
    }
    s.store_partial(s.mul(s.load_partial(&y[body..]), scale), &mut y[body..]);
}

pub(super) struct Backward<'a> {
    pub(super) d: Dims,
    pub(super) y: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) dx: GradMut<'a, f32>,
}

impl Task for Backward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { d, y, dy, dx } = self;
        if d.cols == 0 {
            return;
        }
        let add = dx.beta == Beta::One;
        let rows = y.chunks_exact(d.cols).zip(dy.chunks_exact(d.cols)).zip(dx.data.chunks_exact_mut(d.cols));
        for ((y, dy), dx) in rows {
            let body = d.cols - d.cols % S::LANES;
            let mut dot = s.splat(0.0);
            for (y, dy) in y[..body].chunks_exact(S::LANES).zip(dy[..body].chunks_exact(S::LANES)) {
                dot = s.fma(s.load(y), s.load(dy), dot);
            }
            dot = s.fma(s.load_partial(&y[body..]), s.load_partial(&dy[body..]), dot);
            let dot = s.splat(s.sum(dot));
            let mut i = 0;
            while i < body {
                let g = s.mul(s.load(&y[i..]), s.sub(s.load(&dy[i..]), dot));
                let g = if add { s.add(s.load(&dx[i..]), g) } else { g };
                s.store(g, &mut dx[i..]);
                i += S::LANES;
            }
            let g = s.mul(s.load_partial(&y[body..]), s.sub(s.load_partial(&dy[body..]), dot));
            let g = if add { s.add(s.load_partial(&dx[body..]), g) } else { g };
            s.store_partial(g, &mut dx[body..]);
        }
    }
}
