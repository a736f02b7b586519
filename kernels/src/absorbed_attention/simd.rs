//! The vector body: three loops over rows, used for the rows of x and for the rows of the weights.
//!
//! | loop | x | weights |
//! |---|---|---|
//! | [`dots`] | scores u . x_j, and x_j . dc | y = W_V c, dq = W_K du |
//! | [`combine`] | c = sum p x_j, du = sum ds x_j | u = W_K^T q, dc = W_V^T dy |
//! | [`spread`] | dx_j = m p dc + ds u | dW_K = q du^T, dW_V = dy c^T |
//!
//! ```text
//! for each section of keys: for each block of 32 rows of x:
//!     scores of all heads and queries; a step of the running softmax; c += p x          forward
//!     scores and x . dc; ds; du += ds x; dx                                             backward
//! join the sections in order
//! ```
//!
//! Deviations from the reference:
//!
//! 1. One pass: a block of 32 rows is read once and used for all heads and queries while it is in the first-level cache.
//! 2. Keys are summed by sections ([`SECTION`]) whose sums are joined in order: threads may take a section each.
//! 3. Four rows and two queries share their loads in a register block: eight multiply-adds for six loads.
//! 4. The small products with the weights are the same three loops.
//!
//! A dot product is one chain per lane, an element of a sum one chain along the rows: neither depends on the register block
//! it falls into.

use super::{Dims, Inputs, Saved, heads_weights_mut};
use crate::isa::{Simd, Task};
use crate::rng::BLOCK;
use crate::{Beta, contract, vmath};
use std::ops::Range;

/// Rows of x of a block; it divides [`BLOCK`].
const KEYS: usize = 32;
/// f32 of a cache line.
const LINE: usize = 16;

/// Blocks of random numbers of a section of keys, about.
const SECTION: usize = 2;

/// Sections that the keys are cut into: each is summed apart from the others, and then their sums are joined in order.
pub(super) fn sections(d: Dims) -> usize {
    d.tk.div_ceil(BLOCK).div_ceil(SECTION)
}

/// The keys of a section, from a multiple of [`BLOCK`] on: sections are almost equal.
fn section_keys(d: Dims, section: usize) -> Range<usize> {
    let (all, sections) = (d.tk.div_ceil(BLOCK), sections(d));
    let first = |section: usize| d.tk.min(all * section / sections * BLOCK);
    first(section)..first(section + 1)
}

/// Elements of [`Sums`], whole cache lines.
pub(super) fn sums_len(d: Dims) -> usize {
    let per_query = d.width.saturating_add(3);
    contract::product("absorbed attention", &[d.queries(), per_query]).saturating_add(LINE - 1) / LINE * LINE
}

/// What is known of each query after some keys.
struct Sums<S> {
    /// `[queries, width]`: sum of m exp(s - max) x.
    c: S,
    /// The greatest score.
    max: S,
    /// Sum of exp(s - max).
    total: S,
    /// Sum of m exp(s - max).
    kept: S,
}

impl<'a> Sums<&'a mut [f32]> {
    #[inline(always)]
    fn split(d: Dims, sums: &'a mut [f32]) -> Self {
        let (c, rest) = sums.split_at_mut(d.queries() * d.width);
        let (max, rest) = rest.split_at_mut(d.queries());
        let (total, rest) = rest.split_at_mut(d.queries());
        Self { c, max, total, kept: &mut rest[..d.queries()] }
    }
}

impl<'a> Sums<&'a [f32]> {
    #[inline(always)]
    fn of(d: Dims, sums: &'a [f32]) -> Self {
        let (c, rest) = sums.split_at(d.queries() * d.width);
        let (max, rest) = rest.split_at(d.queries());
        let (total, rest) = rest.split_at(d.queries());
        Self { c, max, total, kept: &rest[..d.queries()] }
    }
}

/// Elements of scratch, of which the backward pass needs more.
pub(super) fn scratch_len(d: Dims) -> usize {
    let per_query = 3usize.checked_mul(d.width).and_then(|n| n.checked_add(2 * KEYS + BLOCK + 6));
    contract::product("absorbed attention", &[d.queries(), per_query.unwrap_or(usize::MAX)])
        .saturating_add(12 * LINE)
}

/// Scratch from its first whole cache line on.
#[inline(always)]
fn aligned(scratch: &mut [f32]) -> &mut [f32] {
    let skip = scratch.as_ptr().align_offset(4 * LINE).min(LINE - 1);
    &mut scratch[skip..]
}

/// Splits `len` elements off the front of `rest`, which stays at a whole cache line.
#[inline(always)]
fn take<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (head, tail) = std::mem::take(rest).split_at_mut(len.next_multiple_of(LINE));
    *rest = tail;
    &mut head[..len]
}

/// Some rows of a matrix: all of them, or those listed.
#[derive(Clone, Copy)]
struct Lines<'a> {
    data: &'a [f32],
    width: usize,
    list: Option<&'a [usize]>,
    count: usize,
}

impl<'a> Lines<'a> {
    #[inline(always)]
    fn all(data: &'a [f32], width: usize) -> Self {
        Self { data, width, list: None, count: data.len() / width }
    }

    #[inline(always)]
    fn row(&self, j: usize) -> &'a [f32] {
        &self.data[self.list.map_or(j, |list| list[j]) * self.width..][..self.width]
    }
}

/// Numbers in rows `stride` apart, one row per vector.
#[derive(Clone, Copy)]
struct Coefficients<'a> {
    data: &'a [f32],
    stride: usize,
}

impl Coefficients<'_> {
    #[inline(always)]
    fn at(&self, vector: usize, row: usize) -> f32 {
        self.data[vector * self.stride + row]
    }
}

/// out\[v, j\] = (beta) vectors\[v\] . rows\[j\], out's rows `stride` apart.
#[inline(always)]
fn dots<S: Simd>(s: S, rows: Lines<'_>, vectors: &[f32], out: &mut [f32], stride: usize, beta: Beta) {
    let count = vectors.len() / rows.width;
    let mut j = 0;
    while j < rows.count {
        let four = rows.count - j >= 4;
        let mut v = 0;
        while v < count {
            let two = count - v >= 2;
            match (four, two) {
                (true, true) => dots_block::<S, 4, 2>(s, rows, j, vectors, v, out, stride, beta),
                (true, false) => dots_block::<S, 4, 1>(s, rows, j, vectors, v, out, stride, beta),
                (false, true) => dots_block::<S, 1, 2>(s, rows, j, vectors, v, out, stride, beta),
                (false, false) => dots_block::<S, 1, 1>(s, rows, j, vectors, v, out, stride, beta),
            }
            v += if two { 2 } else { 1 };
        }
        j += if four { 4 } else { 1 };
    }
}

#[inline(always)]
fn dots_block<S: Simd, const R: usize, const V: usize>(
    s: S,
    rows: Lines<'_>,
    j: usize,
    vectors: &[f32],
    v: usize,
    out: &mut [f32],
    stride: usize,
    beta: Beta,
) {
    let width = rows.width;
    let mut x = [&[][..]; R];
    for r in 0..R {
        x[r] = rows.row(j + r);
    }
    let mut u = [&[][..]; V];
    for i in 0..V {
        u[i] = &vectors[(v + i) * width..][..width];
    }
    let mut acc = [[s.splat(0.0); V]; R];
    let whole = width / S::LANES * S::LANES;
    for c in (0..whole).step_by(S::LANES) {
        let mut us = [s.splat(0.0); V];
        for i in 0..V {
            us[i] = s.load(&u[i][c..]);
        }
        for r in 0..R {
            let x = s.load(&x[r][c..]);
            for i in 0..V {
                acc[r][i] = s.fma(x, us[i], acc[r][i]);
            }
        }
    }
    if whole < width {
        for r in 0..R {
            let x = s.load_partial(&x[r][whole..]);
            for i in 0..V {
                acc[r][i] = s.fma(x, s.load_partial(&u[i][whole..]), acc[r][i]);
            }
        }
    }
    for i in 0..V {
        for r in 0..R {
            let out = &mut out[(v + i) * stride + j + r];
            let sum = s.sum(acc[r][i]);
            *out = if beta == Beta::One { *out + sum } else { sum };
        }
    }
}

/// sums\[v\] += sum_j coefficients\[v, j\] rows\[j\].
#[inline(always)]
fn combine<S: Simd>(s: S, rows: Lines<'_>, by: Coefficients<'_>, sums: &mut [f32]) {
    let count = sums.len() / rows.width;
    let mut j = 0;
    while j < rows.count {
        let four = rows.count - j >= 4;
        let mut v = 0;
        while v < count {
            let two = count - v >= 2;
            match (four, two) {
                (true, true) => combine_block::<S, 4, 2>(s, rows, j, by, sums, v),
                (true, false) => combine_block::<S, 4, 1>(s, rows, j, by, sums, v),
                (false, true) => combine_block::<S, 1, 2>(s, rows, j, by, sums, v),
                (false, false) => combine_block::<S, 1, 1>(s, rows, j, by, sums, v),
            }
            v += if two { 2 } else { 1 };
        }
        j += if four { 4 } else { 1 };
    }
}

#[inline(always)]
fn combine_block<S: Simd, const R: usize, const V: usize>(
    s: S,
    rows: Lines<'_>,
    j: usize,
    by: Coefficients<'_>,
    sums: &mut [f32],
    v: usize,
) {
    let width = rows.width;
    let mut x = [&[][..]; R];
    let mut factors = [[s.splat(0.0); V]; R];
    for r in 0..R {
        x[r] = rows.row(j + r);
        for i in 0..V {
            factors[r][i] = s.splat(by.at(v + i, j + r));
        }
    }
    let sums = &mut sums[v * width..][..V * width];
    let whole = width / S::LANES * S::LANES;
    for c in (0..whole).step_by(S::LANES) {
        let mut acc = [s.splat(0.0); V];
        for i in 0..V {
            acc[i] = s.load(&sums[i * width + c..]);
        }
        for r in 0..R {
            let x = s.load(&x[r][c..]);
            for i in 0..V {
                acc[i] = s.fma(factors[r][i], x, acc[i]);
            }
        }
        for i in 0..V {
            s.store(acc[i], &mut sums[i * width + c..]);
        }
    }
    if whole < width {
        for i in 0..V {
            let sum = &mut sums[i * width + whole..(i + 1) * width];
            let mut acc = s.load_partial(sum);
            for r in 0..R {
                acc = s.fma(factors[r][i], s.load_partial(&x[r][whole..]), acc);
            }
            s.store_partial(acc, sum);
        }
    }
}

/// The rows that [`spread`] writes.
struct LinesMut<'a> {
    data: &'a mut [f32],
    width: usize,
    list: Option<&'a [usize]>,
    count: usize,
    beta: Beta,
}

/// rows\[j\] = (beta) sum_v coefficients\[v, j\] vectors\[v\], at least one vector.
#[inline(always)]
fn spread<S: Simd>(s: S, rows: LinesMut<'_>, by: Coefficients<'_>, vectors: &[f32]) {
    let (width, count) = (rows.width, vectors.len() / rows.width);
    for j in 0..rows.count {
        let row = &mut rows.data[rows.list.map_or(j, |list| list[j]) * width..][..width];
        let (mut v, mut beta) = (0, rows.beta);
        while v < count {
            let four = count - v >= 4;
            if four {
                spread_block::<S, 4>(s, row, beta, by, j, vectors, v);
            } else {
                spread_block::<S, 1>(s, row, beta, by, j, vectors, v);
            }
            v += if four { 4 } else { 1 };
            beta = Beta::One;
        }
    }
}

#[inline(always)]
fn spread_block<S: Simd, const V: usize>(
    s: S,
    row: &mut [f32],
    beta: Beta,
    by: Coefficients<'_>,
    j: usize,
    vectors: &[f32],
    v: usize,
) {
    let width = row.len();
    let mut factors = [s.splat(0.0); V];
    let mut u = [&[][..]; V];
    for i in 0..V {
        factors[i] = s.splat(by.at(v + i, j));
        u[i] = &vectors[(v + i) * width..][..width];
    }
    let whole = width / S::LANES * S::LANES;
    for c in (0..whole).step_by(S::LANES) {
        let mut acc = if beta == Beta::One { s.load(&row[c..]) } else { s.splat(0.0) };
        for i in 0..V {
            acc = s.fma(factors[i], s.load(&u[i][c..]), acc);
        }
        s.store(acc, &mut row[c..]);
    }
    if whole < width {
        let mut acc = if beta == Beta::One { s.load_partial(&row[whole..]) } else { s.splat(0.0) };
        for i in 0..V {
            acc = s.fma(factors[i], s.load_partial(&u[i][whole..]), acc);
        }
        s.store_partial(acc, &mut row[whole..]);
    }
}

/// x *= factor.
#[inline(always)]
fn scale_all<S: Simd>(s: S, factor: f32, x: &mut [f32]) {
    let factor = s.splat(factor);
    for x in x.chunks_mut(S::LANES) {
        s.store_partial(s.mul(factor, s.load_partial(x)), x);
    }
}

/// a . b
#[inline(always)]
fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let mut acc = s.splat(0.0);
    for (a, b) in a.chunks(S::LANES).zip(b.chunks(S::LANES)) {
        acc = s.fma(s.load_partial(a), s.load_partial(b), acc);
    }
    s.sum(acc)
}

/// The sum of whole vectors.
#[inline(always)]
fn total<S: Simd>(s: S, x: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    for x in x.chunks_exact(S::LANES) {
        sum = s.add(sum, s.load(x));
    }
    s.sum(sum)
}

/// The keys of a block that take part, as row numbers of sequence `n`.
#[inline(always)]
fn kept_keys<'a>(f: &Inputs<'_, f32>, n: usize, start: usize, list: &'a mut [usize; KEYS]) -> &'a [usize] {
    let mut kept = 0;
    for j in start..f.d.tk.min(start + KEYS) {
        if f.keeps(n, j) {
            list[kept] = j;
            kept += 1;
        }
    }
    &list[..kept]
}

/// Draws the multipliers of all queries for the keys from `start` on, a multiple of [`BLOCK`]: `[queries, BLOCK]`.
#[inline(always)]
fn draw<S: Simd>(s: S, f: &Inputs<'_, f32>, n: usize, start: usize, drawn: &mut [f32]) {
    let stream = f.key.sample(n).stream();
    for (row, drawn) in drawn.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
        stream.multipliers(s, f.dropout, row as u32, (start / BLOCK) as u32, drawn);
    }
}

/// The multipliers of the block's keys from a query's drawn row.
#[inline(always)]
fn multipliers(drawn: &[f32], query: usize, keys: &[usize]) -> [f32; KEYS] {
    let drawn = &drawn.as_chunks::<BLOCK>().0[query];
    let mut m = [0.0; KEYS];
    for (m, &j) in m.iter_mut().zip(keys) {
        *m = drawn[j % BLOCK];
    }
    m
}

/// One step of a query's running softmax: scores become exp(s - m), m and l are updated. Returns what the
/// sums so far are to be multiplied by.
#[inline(always)]
fn running_softmax<S: Simd>(s: S, p: &mut [f32], keys: usize, m: &mut f32, l: &mut f32) -> f32 {
    p[keys..].fill(f32::NEG_INFINITY);
    let mut max = s.splat(*m);
    for p in p.chunks_exact(S::LANES) {
        max = s.max(s.load(p), max);
    }
    let (old, new) = (*m, s.hmax(max));
    *m = new;
    // While every score is -inf the exponents are measured from 0: -inf - -inf would be NaN.
    let from = if new == f32::NEG_INFINITY { 0.0 } else { new };
    let mut factor = [0.0; LINE];
    s.store(vmath::exp_nonpositive(s, s.splat(old - from)), &mut factor);
    let mut sum = s.splat(0.0);
    for p in p.chunks_exact_mut(S::LANES) {
        let e = vmath::exp_nonpositive(s, s.sub(s.load(p), s.splat(from)));
        sum = s.add(sum, e);
        s.store(e, p);
    }
    *l = *l * factor[0] + s.sum(sum);
    factor[0]
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
        let Forward { inputs: f, y, saved, scratch } = self;
        let (d, queries) = (f.d, f.d.queries());
        let mut saved = Saved::split(d, saved);
        let mut rest = aligned(scratch);
        let u = take(&mut rest, queries * d.width);
        let (mut all, mut part) = (take(&mut rest, sums_len(d)), take(&mut rest, sums_len(d)));
        for n in 0..d.batch {
            scaled_queries(s, &f, n, 0..d.heads, u);
            clear(d, all);
            for section in 0..sections(d) {
                clear(d, part);
                attend(s, &f, n, section_keys(d, section), u, part, rest);
                if section == 0 {
                    std::mem::swap(&mut all, &mut part);
                } else {
                    join(s, d, 0..queries, all, part);
                }
            }
            let y = &mut y[n * d.tq * d.inner()..][..d.tq * d.inner()];
            values(s, &f, 0..d.heads, all, y);
            if let Some(saved) = &mut saved {
                let (at, sums) = (n * queries, Sums::of(d, all));
                for i in 0..queries {
                    saved.lse[at + i] = sums.max[i] + sums.total[i].ln();
                }
                saved.kept[at..][..queries].copy_from_slice(sums.kept);
                saved.context[at * d.width..][..queries * d.width].copy_from_slice(sums.c);
            }
        }
    }
}

/// u of the single query of some heads, for [`Section`]: `[heads, width]`.
pub(super) struct Queries<'a> {
    pub(super) inputs: Inputs<'a, f32>,
    pub(super) heads: Range<usize>,
    pub(super) u: &'a mut [f32],
}

impl Task for Queries<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        scaled_queries(s, &self.inputs, 0, self.heads, self.u);
    }
}

/// The sums of one section, from all of u.
pub(super) struct Section<'a> {
    pub(super) inputs: Inputs<'a, f32>,
    pub(super) section: usize,
    pub(super) u: &'a [f32],
    pub(super) sums: &'a mut [f32],
    pub(super) scratch: &'a mut [f32],
}

impl Task for Section<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Section { inputs: f, section, u, sums, scratch } = self;
        clear(f.d, sums);
        attend(s, &f, 0, section_keys(f.d, section), u, sums, aligned(scratch));
    }
}

/// y of some heads' single query, from the sums of all sections in order.
pub(super) struct Values<'a> {
    pub(super) inputs: Inputs<'a, f32>,
    pub(super) heads: Range<usize>,
    pub(super) sums: &'a [f32],
    pub(super) y: &'a mut [f32],
    pub(super) scratch: &'a mut [f32],
}

impl Task for Values<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Values { inputs: f, heads, sums, y, scratch } = self;
        let mut rest = aligned(scratch);
        let all = take(&mut rest, sums_len(f.d));
        let mut sums = sums.chunks_exact(sums_len(f.d).max(1));
        match sums.next() {
            Some(first) => all.copy_from_slice(first),
            None => clear(f.d, all),
        }
        for part in sums {
            join(s, f.d, heads.clone(), all, part);
        }
        values(s, &f, heads, all, y);
    }
}

/// scale W_K^T q of all queries of some heads of sequence `n`.
#[inline(always)]
fn scaled_queries<S: Simd>(s: S, f: &Inputs<'_, f32>, n: usize, heads: Range<usize>, u: &mut [f32]) {
    absorb(s, f, n, f.q, heads, |h| f.weights(h).0, u);
    scale_all(s, f.scale as f32, u);
}

/// No keys so far.
#[inline(always)]
fn clear(d: Dims, sums: &mut [f32]) {
    sums.fill(0.0);
    Sums::split(d, sums).max.fill(f32::NEG_INFINITY);
}

/// Adds some keys of sequence `n`, from a multiple of [`BLOCK`] on, to the sums.
#[inline(always)]
fn attend<S: Simd>(
    s: S,
    f: &Inputs<'_, f32>,
    n: usize,
    keys: Range<usize>,
    u: &[f32],
    sums: &mut [f32],
    scratch: &mut [f32],
) {
    let (d, queries) = (f.d, f.d.queries());
    let mut rest = scratch;
    let (p, drawn) = (take(&mut rest, queries * KEYS), take(&mut rest, queries * BLOCK));
    let Sums { c, max, total: sum, kept } = Sums::split(d, sums);
    let mut list = [0; KEYS];
    for start in keys.step_by(KEYS) {
        if !f.dropout.is_none() && start % BLOCK == 0 {
            draw(s, f, n, start, drawn);
        }
        let keys = kept_keys(f, n, start, &mut list);
        if keys.is_empty() {
            continue;
        }
        let x = &f.x[n * d.tk * d.width..][..d.tk * d.width];
        let rows = Lines { data: x, width: d.width, list: Some(keys), count: keys.len() };
        dots(s, rows, u, p, KEYS, Beta::Zero);
        for (i, p) in p.as_chunks_mut::<KEYS>().0.iter_mut().enumerate() {
            let before = sum[i];
            let factor = running_softmax(s, p, keys.len(), &mut max[i], &mut sum[i]);
            if before > 0.0 && factor != 1.0 {
                scale_all(s, factor, &mut c[i * d.width..][..d.width]);
            }
            if !f.dropout.is_none() {
                for (p, m) in p.iter_mut().zip(multipliers(drawn, i, keys)) {
                    *p *= m;
                }
            }
            // Exponentials past the last key are 0.
            kept[i] = kept[i] * factor + total(s, p);
        }
        combine(s, rows, Coefficients { data: p, stride: KEYS }, c);
    }
}

/// Adds the sums over other keys to those of some queries.
#[inline(always)]
fn join<S: Simd>(s: S, d: Dims, queries: Range<usize>, sums: &mut [f32], others: &[f32]) {
    let (sums, others) = (Sums::split(d, sums), Sums::of(d, others));
    for i in queries {
        let new = sums.max[i].max(others.max[i]);
        // As in `running_softmax`.
        let from = if new == f32::NEG_INFINITY { 0.0 } else { new };
        let mut exponents = [f32::NEG_INFINITY; LINE];
        (exponents[0], exponents[1]) = (sums.max[i] - from, others.max[i] - from);
        let mut factors = [0.0; LINE];
        for (exponents, factors) in exponents.chunks(S::LANES).zip(factors.chunks_mut(S::LANES)) {
            s.store(vmath::exp_nonpositive(s, s.load(exponents)), factors);
        }
        let [a, b] = [factors[0], factors[1]];
        sums.max[i] = new;
        sums.total[i] = sums.total[i] * a + others.total[i] * b;
        sums.kept[i] = sums.kept[i] * a + others.kept[i] * b;
        let (a, b) = (s.splat(a), s.splat(b));
        let row = i * d.width..(i + 1) * d.width;
        for (c, other) in sums.c[row.clone()].chunks_mut(S::LANES).zip(others.c[row].chunks(S::LANES)) {
            s.store_partial(s.fma(b, s.load_partial(other), s.mul(a, s.load_partial(c))), c);
        }
    }
}

/// Divides the sums by those of the probabilities, which makes them c and w, and leaves the heads' y in y `[tq, heads,
/// head_dim]`.
#[inline(always)]
fn values<S: Simd>(s: S, f: &Inputs<'_, f32>, heads: Range<usize>, sums: &mut [f32], y: &mut [f32]) {
    let d = f.d;
    let Sums { c, total, kept, .. } = Sums::split(d, sums);
    let stride = heads.len() * d.head_dim;
    for (place, h) in heads.enumerate() {
        for i in h * d.tq..(h + 1) * d.tq {
            let inverse = if total[i] == 0.0 { 0.0 } else { 1.0 / total[i] };
            scale_all(s, inverse, &mut c[i * d.width..][..d.width]);
            kept[i] *= inverse;
        }
        let y = y.get_mut(place * d.head_dim..).unwrap_or_default();
        let c = &c[h * d.tq * d.width..][..d.tq * d.width];
        dots(s, Lines::all(f.weights(h).1, d.width), c, y, stride, Beta::Zero);
        if let Some(bias) = f.value_bias(h) {
            for i in 0..d.tq {
                for (y, &b) in y[i * stride..].iter_mut().zip(bias) {
                    *y += kept[h * d.tq + i] * b;
                }
            }
        }
    }
}

/// W^T v for all queries of some heads of sequence `n`, v in the layout of q, W `[head_dim, width]` of each head: `[heads,
/// tq, width]`.
#[inline(always)]
fn absorb<'a, S: Simd>(
    s: S,
    f: &Inputs<'_, f32>,
    n: usize,
    v: &[f32],
    heads: Range<usize>,
    weights: impl Fn(usize) -> &'a [f32],
    out: &mut [f32],
) {
    let d = f.d;
    out.fill(0.0);
    for (place, h) in heads.enumerate() {
        let data = v.get(n * d.tq * d.inner() + h * d.head_dim..).unwrap_or_default();
        let sums = &mut out[place * d.tq * d.width..][..d.tq * d.width];
        combine(s, Lines::all(weights(h), d.width), Coefficients { data, stride: d.inner() }, sums);
    }
}

/// A query's scores become ds, its x . dc the weights m p; see the module.
#[inline(always)]
fn score_gradients<S: Simd>(
    s: S,
    keys: usize,
    lse: f32,
    bias: f32,
    mean: f32,
    m: &[f32; KEYS],
    scores: &mut [f32; KEYS],
    values: &mut [f32; KEYS],
) {
    // A query without scores: exp(s - inf) = 0 makes all its probabilities 0.
    let lse = s.splat(if lse == f32::NEG_INFINITY { f32::INFINITY } else { lse });
    let (zero, bias, mean) = (s.splat(0.0), s.splat(bias), s.splat(mean));
    for at in (0..keys).step_by(S::LANES) {
        let m = s.load(&m[at..]);
        // Rounding of lse may leave an exponent just above 0; NaN as the second operand stays.
        let p = vmath::exp_nonpositive(s, s.min(zero, s.sub(s.load(&scores[at..]), lse)));
        let dp = s.mul(m, s.add(s.load(&values[at..]), bias));
        s.store(s.mul(p, s.sub(dp, mean)), &mut scores[at..]);
        s.store(s.mul(m, p), &mut values[at..]);
    }
}

pub(super) struct Backward<'a> {
    pub(super) inputs: Inputs<'a, f32>,
    pub(super) saved: Saved<&'a [f32]>,
    pub(super) dy: &'a [f32],
    pub(super) dq: Option<(&'a mut [f32], Beta)>,
    pub(super) dx: Option<(&'a mut [f32], Beta)>,
    pub(super) dw: Option<&'a mut [f32]>,
    pub(super) db: Option<&'a mut [f32]>,
    pub(super) scratch: &'a mut [f32],
}

impl Task for Backward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Backward { inputs: f, saved, dy, mut dq, mut dx, mut dw, mut db, scratch } = self;
        let (d, queries) = (f.d, f.d.queries());
        let mut rest = aligned(scratch);
        // scale u, then dc, in one list: their products with x_j, and x_j's gradient, are of one kind.
        let vectors = take(&mut rest, 2 * queries * d.width);
        let du = take(&mut rest, queries * d.width);
        let (t, drawn) = (take(&mut rest, 2 * queries * KEYS), take(&mut rest, queries * BLOCK));
        let (mean, bias_dot) = (take(&mut rest, queries), take(&mut rest, queries));
        let mut list = [0; KEYS];
        for n in 0..d.batch {
            let at = n * queries;
            let context = &saved.context[at * d.width..][..queries * d.width];
            let (kept, lse) = (&saved.kept[at..][..queries], &saved.lse[at..][..queries]);
            let (u, dc) = vectors.split_at_mut(queries * d.width);
            scaled_queries(s, &f, n, 0..d.heads, u);
            absorb(s, &f, n, dy, 0..d.heads, |h| f.weights(h).1, dc);
            for h in 0..d.heads {
                for i in 0..d.tq {
                    let r = h * d.tq + i;
                    let of = r * d.width..(r + 1) * d.width;
                    let dy = &dy[f.columns(n, h, i)];
                    bias_dot[r] = f.value_bias(h).map_or(0.0, |b| dot(s, b, dy));
                    mean[r] = dot(s, &context[of.clone()], &dc[of]) + kept[r] * bias_dot[r];
                    if let Some(db) = &mut db {
                        let db = &mut db[d.inner() + h * d.head_dim..][..d.head_dim];
                        for (db, &dy) in db.iter_mut().zip(dy) {
                            *db += kept[r] * dy;
                        }
                    }
                }
            }
            du.fill(0.0);
            for start in (0..d.tk).step_by(KEYS) {
                if !f.dropout.is_none() && start % BLOCK == 0 {
                    draw(s, &f, n, start, drawn);
                }
                let keys = kept_keys(&f, n, start, &mut list);
                if let Some((dx, Beta::Zero)) = &mut dx {
                    for j in (start..d.tk.min(start + KEYS)).filter(|&j| queries == 0 || !f.keeps(n, j)) {
                        dx[(n * d.tk + j) * d.width..][..d.width].fill(0.0);
                    }
                }
                if keys.is_empty() || queries == 0 {
                    continue;
                }
                let x = &f.x[n * d.tk * d.width..][..d.tk * d.width];
                let rows = Lines { data: x, width: d.width, list: Some(keys), count: keys.len() };
                dots(s, rows, vectors, t, KEYS, Beta::Zero);
                let (scores, values) = t.split_at_mut(queries * KEYS);
                let pairs = scores.as_chunks_mut::<KEYS>().0.iter_mut().zip(values.as_chunks_mut().0);
                for (i, (scores, values)) in pairs.enumerate() {
                    let m = if f.dropout.is_none() { [1.0; KEYS] } else { multipliers(drawn, i, keys) };
                    score_gradients(s, keys.len(), lse[i], bias_dot[i], mean[i], &m, scores, values);
                }
                combine(s, rows, Coefficients { data: t, stride: KEYS }, du);
                if let Some((dx, beta)) = &mut dx {
                    let data = &mut dx[n * d.tk * d.width..][..d.tk * d.width];
                    let (list, count, beta) = (Some(keys), keys.len(), *beta);
                    let rows = LinesMut { data, width: d.width, list, count, beta };
                    spread(s, rows, Coefficients { data: t, stride: KEYS }, vectors);
                }
            }
            scale_all(s, f.scale as f32, du);
            if d.tq == 0 {
                continue;
            }
            for h in 0..d.heads {
                let (wk, _) = f.weights(h);
                let du = &du[h * d.tq * d.width..][..d.tq * d.width];
                let first = n * d.tq * d.inner() + h * d.head_dim;
                if let Some((dq, beta)) = &mut dq {
                    dots(s, Lines::all(wk, d.width), du, &mut dq[first..], d.inner(), *beta);
                }
                if let Some(dw) = &mut dw {
                    let (dwk, dwv) = heads_weights_mut(d, h, dw);
                    let context = &context[h * d.tq * d.width..][..d.tq * d.width];
                    for (data, of, vectors) in [(dwk, f.q, du), (dwv, dy, context)] {
                        let (width, count, beta) = (d.width, d.head_dim, Beta::One);
                        let rows = LinesMut { data, width, list: None, count, beta };
                        spread(s, rows, Coefficients { data: &of[first..], stride: d.inner() }, vectors);
                    }
                }
            }
        }
    }
}
