//! The vector bodies: tiles of queries (lanes) against tiles of keys, see [`super::product`].

use super::product::{HeadRows, HeadRowsMut, VECTORS, combine, scores, spread};
use super::{Dims, GradRows, Inputs, Rows};
use crate::isa::{Simd, Task};
use crate::real::same_mut;
use crate::rng::BLOCK;
use crate::{Real, vmath};

/// Keys of a tile: a block of dropout decisions, so that a tile needs one draw per query.
const KEYS: usize = BLOCK;
/// Queries of a tile on the widest instruction set.
const MAX_QUERIES: usize = VECTORS * 16;
/// Multiple to which a row's columns are padded in scratch: the widest vector.
const PAD: usize = 16;

pub(super) fn scratch_len(d: Dims) -> usize {
    let padded = crate::contract::product("attention", &[d.head_dim.div_ceil(PAD), PAD]);
    crate::contract::product("attention", &[MAX_QUERIES, 3 * d.head_dim + 2 * padded + 3 * KEYS])
}

/// Splits `len` elements off the front of `rest`.
fn take<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (head, tail) = std::mem::take(rest).split_at_mut(len);
    *rest = tail;
    head
}

/// The rows of sequence `n` that belong to head `h`.
#[inline(always)]
fn head_rows<'a>(rows: Rows<'a, f32>, first: usize, h: usize, head_dim: usize) -> HeadRows<'a> {
    HeadRows { data: rows.data, stride: rows.stride, base: first * rows.stride + rows.offset + h * head_dim }
}

/// tile[d, i] = factor rows[first + i, d] for `queries` rows; the lanes past them up to a whole vector are zero.
#[inline(always)]
fn pack_transposed<S: Simd>(
    _: S,
    rows: HeadRows<'_>,
    first: usize,
    queries: usize,
    columns: usize,
    factor: f32,
    tile: &mut [f32],
) {
    let width = VECTORS * S::LANES;
    let tile = &mut tile[..columns * width];
    for i in 0..queries.next_multiple_of(S::LANES) {
        if i < queries {
            for (t, &x) in tile[i..].iter_mut().step_by(width).zip(rows.row(first + i, 0, columns)) {
                *t = factor * x;
            }
        } else {
            tile[i..].iter_mut().step_by(width).for_each(|t| *t = 0.0);
        }
    }
}

/// The keys of the block at `start` that take part, as row numbers of sequence `n`.
#[inline(always)]
fn kept_keys<'a>(x: &Inputs<'_, f32>, n: usize, start: usize, list: &'a mut [usize; KEYS]) -> &'a [usize] {
    let mut kept = 0;
    for j in start..x.d.tk.min(start + KEYS) {
        if x.keeps(n, j) {
            list[kept] = j;
            kept += 1;
        }
    }
    &list[..kept]
}

/// The dropout multipliers of a tile, `[keys, tile]`.
#[inline(always)]
fn draw_multipliers<S: Simd>(
    s: S,
    x: &Inputs<'_, f32>,
    n: usize,
    first_row: usize,
    queries: usize,
    start: usize,
    keys: &[usize],
    tile: &mut [f32],
) {
    let width = VECTORS * S::LANES;
    let stream = x.key.sample(n).stream();
    let mut row = [0.0; KEYS];
    let tile = &mut tile[..keys.len() * width];
    for i in 0..queries {
        stream.multipliers(s, x.dropout, (first_row + i) as u32, (start / KEYS) as u32, &mut row);
        for (t, &j) in tile[i..].iter_mut().step_by(width).zip(keys) {
            *t = row[(j - start) % KEYS];
        }
    }
    for i in queries..queries.next_multiple_of(S::LANES) {
        tile[i..].iter_mut().step_by(width).for_each(|t| *t = 0.0);
    }
}

/// One step of the running softmax: turns the scores of a tile into exp(s - m), updates m and l, and rescales `out`.
#[inline(always)]
fn running_softmax<S: Simd>(
    s: S,
    v: usize,
    p: &mut [f32],
    multipliers: Option<&[f32]>,
    m: &mut [f32; MAX_QUERIES],
    l: &mut [f32; MAX_QUERIES],
    out: &mut [f32],
) {
    let (width, at) = (VECTORS * S::LANES, v * S::LANES);
    let old = s.load(&m[at..]);
    // Two maxima at once hide the latency.
    let (mut a, mut b) = (old, old);
    for pair in p.chunks(2 * width) {
        a = s.max(s.load(&pair[at..]), a);
        if pair.len() > width {
            b = s.max(s.load(&pair[width + at..]), b);
        }
    }
    let new = s.max(a, b);
    // While every score is -inf the exponents are measured from 0: -inf - -inf would be NaN.
    let none = s.gt(s.splat(f32::MIN), new);
    let shift = s.select(none, s.splat(0.0), new);
    let correction = vmath::exp(s, s.sub(old, shift));
    let mut sum = s.mul(s.load(&l[at..]), correction);
    match multipliers {
        None => {
            for p in p.chunks_exact_mut(width) {
                let e = vmath::exp(s, s.sub(s.load(&p[at..]), shift));
                sum = s.add(sum, e);
                s.store(e, &mut p[at..]);
            }
        }
        Some(multipliers) => {
            for (p, w) in p.chunks_exact_mut(width).zip(multipliers.chunks_exact(width)) {
                let e = vmath::exp(s, s.sub(s.load(&p[at..]), shift));
                sum = s.add(sum, e);
                s.store(s.mul(e, s.load(&w[at..])), &mut p[at..]);
            }
        }
    }
    for out in out.chunks_exact_mut(width) {
        let out = &mut out[at..];
        s.store(s.mul(s.load(out), correction), out);
    }
    s.store(new, &mut m[at..]);
    s.store(sum, &mut l[at..]);
}

pub(super) struct Forward<'a> {
    pub(super) inputs: Inputs<'a, f32>,
    pub(super) y: &'a mut [f32],
    pub(super) saved: &'a mut [f32],
    pub(super) scratch: &'a mut [f32],
}

impl Task for Forward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { inputs: x, y, saved, mut scratch } = self;
        let (d, width) = (x.d, VECTORS * S::LANES);
        let qt = take(&mut scratch, d.head_dim * width);
        let out = take(&mut scratch, d.head_dim * width);
        let p = take(&mut scratch, KEYS * width);
        let multipliers = take(&mut scratch, KEYS * width);
        let mut list = [0; KEYS];
        for n in 0..d.batch {
            for h in 0..d.heads {
                let q = head_rows(x.q, n * d.tq, h, d.head_dim);
                let k = head_rows(x.k, n * d.tk, h, d.head_dim);
                let v = head_rows(x.v, n * d.tk, h, d.head_dim);
                for first in (0..d.tq).step_by(width) {
                    let queries = width.min(d.tq - first);
                    let vectors = queries.div_ceil(S::LANES);
                    pack_transposed(s, q, first, queries, d.head_dim, x.scale as f32, qt);
                    out.fill(0.0);
                    let (mut m, mut l) = ([f32::NEG_INFINITY; MAX_QUERIES], [0.0; MAX_QUERIES]);
                    for start in (0..d.tk).step_by(KEYS) {
                        let keys = kept_keys(&x, n, start, &mut list);
                        if keys.is_empty() {
                            continue;
                        }
                        let p = &mut p[..keys.len() * width];
                        scores(s, vectors, keys, k, d.head_dim, qt, p);
                        let drops = if x.dropout.is_none() {
                            None
                        } else {
                            draw_multipliers(s, &x, n, h * d.tq + first, queries, start, keys, multipliers);
                            Some(&*multipliers)
                        };
                        for vector in 0..vectors {
                            running_softmax(s, vector, p, drops, &mut m, &mut l, out);
                        }
                        combine(s, vectors, keys, v, d.head_dim, p, out);
                    }
                    for i in 0..queries {
                        let inverse = if l[i] == 0.0 { 0.0 } else { 1.0 / l[i] };
                        let y = &mut y[(n * d.tq + first + i) * d.width() + h * d.head_dim..][..d.head_dim];
                        for (y, &o) in y.iter_mut().zip(out[i..].iter().step_by(width)) {
                            *y = o * inverse;
                        }
                        if !saved.is_empty() {
                            saved[(n * d.heads + h) * d.tq + first + i] = m[i] + l[i].ln();
                        }
                    }
                }
            }
        }
    }
}

pub(super) struct Backward<'a, 'b, T> {
    pub(super) inputs: Inputs<'a, f32>,
    pub(super) y: &'a [f32],
    pub(super) saved: &'a [f32],
    pub(super) dy: &'a [f32],
    /// `T` is f32; the list of slices cannot be cast as a whole.
    pub(super) buffers: &'a mut [&'b mut [T]],
    pub(super) dq: Option<GradRows>,
    pub(super) dk: Option<GradRows>,
    pub(super) dv: Option<GradRows>,
    pub(super) scratch: &'a mut [f32],
}

/// The rows of a gradient that belong to head `h`, starting at row `first`.
#[inline(always)]
fn grad_rows<'a, T: Real>(
    buffers: &'a mut [&mut [T]],
    g: GradRows,
    first: usize,
    h: usize,
    head_dim: usize,
) -> HeadRowsMut<'a> {
    HeadRowsMut {
        data: same_mut(&mut *buffers[g.buffer]),
        stride: g.stride,
        base: first * g.stride + g.offset + h * head_dim,
    }
}

/// rows[i, d] = source[first + i, d], padded with zeros to `padded` columns.
#[inline(always)]
fn pack_rows(
    source: HeadRows<'_>,
    first: usize,
    queries: usize,
    columns: usize,
    padded: usize,
    rows: &mut [f32],
) {
    for (i, row) in rows.chunks_exact_mut(padded).enumerate().take(queries) {
        row[..columns].copy_from_slice(source.row(first + i, 0, columns));
        row[columns..].fill(0.0);
    }
}

impl<T: Real> Task for Backward<'_, '_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { inputs: x, y, saved, dy, buffers, dq, dk, dv, mut scratch } = self;
        let (d, width) = (x.d, VECTORS * S::LANES);
        let padded = d.head_dim.next_multiple_of(PAD);
        let qt = take(&mut scratch, d.head_dim * width);
        let dyt = take(&mut scratch, d.head_dim * width);
        let dqt = take(&mut scratch, d.head_dim * width);
        let q_rows = take(&mut scratch, padded * width);
        let dy_rows = take(&mut scratch, padded * width);
        let p = take(&mut scratch, KEYS * width);
        let ds = take(&mut scratch, KEYS * width);
        let multipliers = take(&mut scratch, KEYS * width);
        let mut list = [0; KEYS];
        for n in 0..d.batch {
            for h in 0..d.heads {
                let q = head_rows(x.q, n * d.tq, h, d.head_dim);
                let k = head_rows(x.k, n * d.tk, h, d.head_dim);
                let v = head_rows(x.v, n * d.tk, h, d.head_dim);
                let packed = Rows { data: dy, stride: d.width(), offset: 0 };
                let dy = head_rows(packed, n * d.tq, h, d.head_dim);
                let y = head_rows(Rows { data: y, ..packed }, n * d.tq, h, d.head_dim);
                for first in (0..d.tq).step_by(width) {
                    let queries = width.min(d.tq - first);
                    let vectors = queries.div_ceil(S::LANES);
                    pack_transposed(s, q, first, queries, d.head_dim, x.scale as f32, qt);
                    pack_transposed(s, dy, first, queries, d.head_dim, 1.0, dyt);
                    pack_rows(q, first, queries, d.head_dim, padded, q_rows);
                    pack_rows(dy, first, queries, d.head_dim, padded, dy_rows);
                    dqt.fill(0.0);
                    let (mut lse, mut dot) = ([0.0; MAX_QUERIES], [0.0; MAX_QUERIES]);
                    for i in 0..queries {
                        let sum = saved[(n * d.heads + h) * d.tq + first + i];
                        // A query without scores: exp(s - inf) = 0 makes all its probabilities 0.
                        lse[i] = if sum == f32::NEG_INFINITY { f32::INFINITY } else { sum };
                        let pairs =
                            dy.row(first + i, 0, d.head_dim).iter().zip(y.row(first + i, 0, d.head_dim));
                        dot[i] = pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() as f32;
                    }
                    for start in (0..d.tk).step_by(KEYS) {
                        let keys = kept_keys(&x, n, start, &mut list);
                        if keys.is_empty() {
                            continue;
                        }
                        let (p, ds) = (&mut p[..keys.len() * width], &mut ds[..keys.len() * width]);
                        scores(s, vectors, keys, k, d.head_dim, qt, p);
                        scores(s, vectors, keys, v, d.head_dim, dyt, ds);
                        let drops = if x.dropout.is_none() {
                            None
                        } else {
                            draw_multipliers(s, &x, n, h * d.tq + first, queries, start, keys, multipliers);
                            Some(&*multipliers)
                        };
                        for vector in 0..vectors {
                            score_gradients(s, vector, x.scale as f32, &lse, &dot, drops, p, ds);
                        }
                        if let Some(g) = dv {
                            let mut g = grad_rows(buffers, g, n * d.tk, h, d.head_dim);
                            spread(s, queries, keys, p, dy_rows, padded, d.head_dim, &mut g);
                        }
                        if let Some(g) = dk {
                            let mut g = grad_rows(buffers, g, n * d.tk, h, d.head_dim);
                            spread(s, queries, keys, ds, q_rows, padded, d.head_dim, &mut g);
                        }
                        if dq.is_some() {
                            combine(s, vectors, keys, k, d.head_dim, ds, dqt);
                        }
                    }
                    if let Some(g) = dq {
                        let g = grad_rows(buffers, g, n * d.tq, h, d.head_dim);
                        for i in 0..queries {
                            let row = &mut g.data[(first + i) * g.stride + g.base..][..d.head_dim];
                            for (to, &of) in row.iter_mut().zip(dqt[i..].iter().step_by(width)) {
                                *to += of;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Per element of a tile: p = exp(s - lse), ds = scale p (m dp - D); then p becomes m p.
#[inline(always)]
fn score_gradients<S: Simd>(
    s: S,
    v: usize,
    scale: f32,
    lse: &[f32; MAX_QUERIES],
    dot: &[f32; MAX_QUERIES],
    multipliers: Option<&[f32]>,
    p: &mut [f32],
    ds: &mut [f32],
) {
    let (width, at) = (VECTORS * S::LANES, v * S::LANES);
    let (lse, dot, scale) = (s.load(&lse[at..]), s.load(&dot[at..]), s.splat(scale));
    let tiles = p.chunks_exact_mut(width).zip(ds.chunks_exact_mut(width));
    match multipliers {
        None => {
            for (p, ds) in tiles {
                let e = vmath::exp(s, s.sub(s.load(&p[at..]), lse));
                let g = s.mul(s.mul(e, scale), s.sub(s.load(&ds[at..]), dot));
                s.store(e, &mut p[at..]);
                s.store(g, &mut ds[at..]);
            }
        }
        Some(multipliers) => {
            for ((p, ds), w) in tiles.zip(multipliers.chunks_exact(width)) {
                let e = vmath::exp(s, s.sub(s.load(&p[at..]), lse));
                let w = s.load(&w[at..]);
                let dp = s.mul(w, s.load(&ds[at..]));
                s.store(s.mul(s.mul(e, scale), s.sub(dp, dot)), &mut ds[at..]);
                s.store(s.mul(e, w), &mut p[at..]);
            }
        }
    }
}
