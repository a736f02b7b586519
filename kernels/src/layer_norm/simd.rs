//! The vector bodies. A row stays in the first-level cache (its own output row forward, the scratch row backward).

use super::{Dims, Residual};
use crate::isa::{Simd, Task};
use crate::rng::{BLOCK, Stream};
use crate::{Beta, GradMut};

/// Rows whose parameter gradients are summed before they are added to the total.
const ROW_BLOCK: usize = 32;

/// A place in a row: a whole vector, or what is left of the row.
#[derive(Clone, Copy)]
enum At {
    Full(usize),
    Tail(usize),
}

/// Runs a block for every vector of a row of `$len` elements, with its place in `$at`. A macro and not a function that
/// takes a closure: a closure that is not inlined would be compiled without the instruction set.
macro_rules! each_vector {
    ($simd:ty, $len:expr, |$at:ident| $body:block) => {{
        let len = $len;
        let mut i = 0;
        while i + <$simd>::LANES <= len {
            let $at = At::Full(i);
            $body
            i += <$simd>::LANES;
        }
        if i < len {
            let $at = At::Tail(i);
            $body
        }
    }};
}

/// s = x + dropout(residual) of one row into `out`; the multipliers, where there is dropout, into `multipliers`.
#[inline(always)]
fn input_row<S: Simd>(
    s: S,
    x: &[f32],
    residual: Option<(&Residual<'_, f32>, Stream, u32)>,
    out: &mut [f32],
    mut multipliers: Option<&mut [f32]>,
) {
    let Some((res, stream, row)) = residual else {
        out.copy_from_slice(x);
        return;
    };
    if res.dropout.is_none() {
        each_vector!(S, x.len(), |at| {
            let v = s.add(load(s, x, at), load(s, res.data, at));
            store(s, v, out, at);
        });
        return;
    }
    let mut m = [0.0; BLOCK];
    for (block, start) in (0..x.len()).step_by(BLOCK).enumerate() {
        stream.multipliers(s, res.dropout, row, block as u32, &mut m);
        let len = BLOCK.min(x.len() - start);
        if let Some(keep) = &mut multipliers {
            keep[start..start + len].copy_from_slice(&m[..len]);
        }
        let (x, data, out) = (&x[start..][..len], &res.data[start..][..len], &mut out[start..][..len]);
        each_vector!(S, len, |at| {
            let v = s.fma(load(s, &m[..len], at), load(s, data, at), load(s, x, at));
            store(s, v, out, at);
        });
    }
}

#[inline(always)]
fn load<S: Simd>(s: S, x: &[f32], at: At) -> S::V {
    match at {
        At::Full(i) => s.load(&x[i..]),
        At::Tail(i) => s.load_partial(&x[i..]),
    }
}

#[inline(always)]
fn store<S: Simd>(s: S, v: S::V, x: &mut [f32], at: At) {
    match at {
        At::Full(i) => s.store(v, &mut x[i..]),
        At::Tail(i) => s.store_partial(v, &mut x[i..]),
    }
}

/// Writes or adds.
#[inline(always)]
fn put<S: Simd>(s: S, v: S::V, beta: Beta, x: &mut [f32], at: At) {
    let v = if beta == Beta::One { s.add(v, load(s, x, at)) } else { v };
    store(s, v, x, at);
}

pub(super) struct Forward<'a> {
    pub(super) d: Dims,
    pub(super) eps: f32,
    pub(super) x: &'a [f32],
    pub(super) residual: Option<Residual<'a, f32>>,
    pub(super) gamma: &'a [f32],
    pub(super) beta: &'a [f32],
    pub(super) y: &'a mut [f32],
    pub(super) saved: &'a mut [f32],
}

impl Task for Forward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { d, eps, x, residual, gamma, beta, y, saved } = self;
        let (rows, cols, n) = (d.samples * d.rows, d.cols, d.cols as f32);
        let (gamma, beta) = (&gamma[..cols], &beta[..cols]);
        for r in 0..rows {
            let y = &mut y[r * cols..][..cols];
            let branch =
                residual.map(|b| (Residual { data: b.row(d, r), ..b }, b.key.sample(r / d.rows).stream()));
            let branch = branch.as_ref().map(|(b, stream)| (b, *stream, (r % d.rows) as u32));
            input_row(s, &x[r * cols..][..cols], branch, y, None);

            // Two sums that take turns hide the latency of the additions.
            let (mut even, mut odd) = (s.splat(0.0), s.splat(0.0));
            each_vector!(S, cols, |at| {
                (even, odd) = (odd, s.add(even, load(s, y, at)));
            });
            let mean = s.sum(s.add(even, odd)) / n;
            let m = s.splat(mean);
            let (mut even, mut odd) = (s.splat(0.0), s.splat(0.0));
            each_vector!(S, cols, |at| {
                let c = s.sub(load(s, y, at), m);
                let c = match at {
                    At::Full(_) => c,
                    // The lanes past the end would add mean^2.
                    At::Tail(i) => {
                        s.select(s.lt_u31(s.iota_u32(), s.splat_u32((cols - i) as u32)), c, s.splat(0.0))
                    }
                };
                (even, odd) = (odd, s.fma(c, c, even));
            });
            let var = s.sum(s.add(even, odd)) / n;
            let rstd = 1.0 / (var + eps).sqrt();
            let scale = s.splat(rstd);
            each_vector!(S, cols, |at| {
                let xhat = s.mul(s.sub(load(s, y, at), m), scale);
                store(s, s.fma(load(s, gamma, at), xhat, load(s, beta, at)), y, at);
            });
            if !saved.is_empty() {
                saved[r] = mean;
                saved[rows + r] = rstd;
            }
        }
    }
}

pub(super) struct Backward<'a> {
    pub(super) d: Dims,
    pub(super) x: &'a [f32],
    pub(super) residual: Option<Residual<'a, f32>>,
    pub(super) gamma: &'a [f32],
    pub(super) saved: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) dx: Option<GradMut<'a, f32>>,
    pub(super) dresidual: Option<GradMut<'a, f32>>,
    pub(super) dgamma: Option<&'a mut [f32]>,
    pub(super) dbeta: Option<&'a mut [f32]>,
    pub(super) scratch: &'a mut [f32],
}

impl Task for Backward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { d, x, residual, gamma, saved, dy, mut dx, mut dresidual, mut dgamma, mut dbeta, scratch } =
            self;
        let (rows, cols, n) = (d.samples * d.rows, d.cols, d.cols as f32);
        let gamma = &gamma[..cols];
        let (xhat, rest) = scratch.split_at_mut(cols);
        let (multipliers, rest) = rest.split_at_mut(cols);
        let (sum_gamma, rest) = rest.split_at_mut(cols);
        let sum_beta = &mut rest[..cols];
        sum_gamma.fill(0.0);
        sum_beta.fill(0.0);
        let parameters = dgamma.is_some() || dbeta.is_some();

        for r in 0..rows {
            let row = r * cols;
            let dy = &dy[row..][..cols];
            let (mean, rstd) = (s.splat(saved[r]), s.splat(saved[rows + r]));
            let branch =
                residual.map(|b| (Residual { data: b.row(d, r), ..b }, b.key.sample(r / d.rows).stream()));
            let branch = branch.as_ref().map(|(b, stream)| (b, *stream, (r % d.rows) as u32));
            input_row(s, &x[row..][..cols], branch, xhat, Some(multipliers));

            let (mut sum_g, mut sum_gx) = (s.splat(0.0), s.splat(0.0));
            each_vector!(S, cols, |at| {
                let h = s.mul(s.sub(load(s, xhat, at), mean), rstd);
                let dy = load(s, dy, at);
                // gamma and dy are zero past the end, so the sums need no mask.
                let g = s.mul(load(s, gamma, at), dy);
                sum_g = s.add(sum_g, g);
                sum_gx = s.fma(g, h, sum_gx);
                store(s, h, xhat, at);
                if parameters {
                    store(s, s.fma(dy, h, load(s, sum_gamma, at)), sum_gamma, at);
                    store(s, s.add(dy, load(s, sum_beta, at)), sum_beta, at);
                }
            });
            if dx.is_some() || dresidual.is_some() {
                let (mean_g, mean_gx) = (s.splat(s.sum(sum_g) / n), s.splat(s.sum(sum_gx) / n));
                let dropped = residual.is_some_and(|b| !b.dropout.is_none());
                each_vector!(S, cols, |at| {
                    let g = s.sub(s.mul(load(s, gamma, at), load(s, dy, at)), mean_g);
                    let ds = s.mul(rstd, s.sub(g, s.mul(load(s, xhat, at), mean_gx)));
                    if let Some(dx) = &mut dx {
                        put(s, ds, dx.beta, &mut dx.data[row..][..cols], at);
                    }
                    if let Some(g) = &mut dresidual {
                        let ds = if dropped { s.mul(ds, load(s, multipliers, at)) } else { ds };
                        // The samples after the first add to a table's gradient.
                        let (to, beta) =
                            if row < g.data.len() { (row, g.beta) } else { (row % g.data.len(), Beta::One) };
                        put(s, ds, beta, &mut g.data[to..][..cols], at);
                    }
                });
            }
            if parameters && (r % ROW_BLOCK == ROW_BLOCK - 1 || r == rows - 1) {
                for (total, block) in [(&mut dgamma, &mut *sum_gamma), (&mut dbeta, &mut *sum_beta)] {
                    if let Some(total) = total {
                        each_vector!(S, cols, |at| {
                            store(s, s.add(load(s, total, at), load(s, block, at)), total, at);
                        });
                    }
                    block.fill(0.0);
                }
            }
        }
    }
}
