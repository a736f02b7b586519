//! The vector bodies: blocks of keys, packed once per head, against blocks of queries; products as in [`super::product`].
//!
//! ```text
//! for each head: for each block of keys (256, the last up to 320): pack k and v
//!     for each block of queries:
//!         S = Q K^T; P = exp(S - M), L; O += P V                                   forward
//!         S = Q K^T; P = exp(S - lse); dP = dY V^T; dS = P (dP - D)
//!         dV += P^T dY; dK += dS^T Q; dQ += dS K                                   backward
//! ```
//!
//! Forward, the sum of every query waits in scratch while the blocks of keys pass; backward, dq waits there, while dk and dv of
//! a block are finished before the next begins.
//!
//! Deviations from the reference, and what each buys (figures in `benches/NOTES.md`):
//!
//! 1. Packed operands, register blocks: the speed of a packed GEMM; k and v are transposed in registers on the way.
//! 2. Scores lie with keys as lanes, as the random generator deals decisions and both products read them: no transposes.
//! 3. Powers of 2: queries are packed with scale / ln 2, so an exponential needs no reduction by ln 2.
//! 4. Bounded scores: no pass for the maximum, fewer instructions per exponential.
//! 5. The end of a row of keys is blended in a register: no masked store that the next load would wait for.
//! 6. One pass per row: decisions, exponentials, sums and rounded words are made two vectors at a time.
//! 7. Rows together: maxima, sums and D of a block's rows are reduced together ([`crate::isa::Simd::fold_lanes`]).
//! 8. Dropout decisions are drawn again in the backward pass: memory does not grow with tq tk.
//! 9. Shared keys: calls that each take a part of the queries share keys packed once ([`super::pack_keys`]).
//! 10. One or two queries past a multiple of [`super::row_grain`] read k and v in place: packing would cost more.

use super::operands::{Elements, Operands, row_words, words};
use super::product::*;
use super::softmax::{PER_ROW, Source, bounded_softmax, running_softmax, score_gradients};
use super::{Dims, GradRows, Inputs, Rows};
use crate::isa::Simd;
use crate::real::same_mut;
use crate::{Beta, Real, contract};

/// Queries of a backward tile: the k of dV and dK.
const QUERIES: usize = 112;
/// Keys of a block while more than [`KEYS`] are left: a multiple of [`crate::rng::BLOCK`].
const STEP: usize = 256;
/// Multiple of queries at which a call may be split without changing a bit.
pub(super) const GRAIN: usize = 28;
/// Up to this many queries past a multiple of [`GRAIN`] are done one by one, see [`one_query`].
const FEW: usize = 2;
/// Scores whose magnitude is at most this, by their vectors' lengths, have exponentials that need no largest score: between
/// 2^-39 and 2^39.
const BOUND: f64 = 27.0;

/// Elements of the parts of scratch.
struct Sizes {
    /// Columns of a head, in whole panels.
    padded: usize,
    /// One accumulator row per query.
    per_query: usize,
    /// A packed block of keys.
    block: usize,
    /// The accumulator of a block of keys.
    per_key: usize,
    /// The rows of a register block, as A.
    rows: usize,
    /// Packed queries of a backward tile.
    queries: usize,
    /// Scores of a backward tile; where a word holds two elements, of a register block.
    scores: usize,
    /// The words of a backward tile that lie across queries; none where the scores themselves are the words.
    across: usize,
    /// As `across`, along keys.
    along: usize,
}

impl Sizes {
    #[inline(always)]
    fn of(d: Dims, per_word: usize) -> Self {
        let padded = contract::product("attention", &[d.head_dim.div_ceil(PAD), PAD]);
        let (queries, keys) = (d.tq.min(QUERIES), d.tk.min(KEYS).next_multiple_of(PAD));
        let pairs = queries.div_ceil(2);
        let [scores, across, along] =
            if per_word == 1 { [queries + MAX_ROWS, 0, 0] } else { [MAX_ROWS, pairs, queries + MAX_ROWS] };
        Self {
            padded,
            per_query: contract::product("attention", &[d.tq + MAX_ROWS, padded]),
            block: keys * padded / per_word,
            per_key: (keys + MAX_ROWS) * padded,
            rows: d.head_dim.div_ceil(per_word).div_ceil(KEYS) * MAX_ROWS * STRIDE,
            queries: queries.div_ceil(per_word) * padded,
            scores: scores * STRIDE,
            across: across * STRIDE,
            along: along * STRIDE,
        }
    }

    /// What the backward pass needs; the forward pass needs less, but for one of its two numbers per query.
    fn total(&self, d: Dims) -> usize {
        self.per_query
            + 2 * (d.tq + PER_ROW)
            + 3 * self.block
            + 2 * (self.per_key + self.rows + self.queries + self.scores + self.across)
            + self.along
            + 18 * LINE
    }
}

/// For words of either size, so that it does not depend on the precision or the instruction set.
pub(super) fn scratch_len(d: Dims) -> usize {
    Sizes::of(d, 1).total(d).max(Sizes::of(d, 2).total(d))
}

/// f32 of a cache line.
const LINE: usize = 16;

/// Scratch from its first whole cache line on: a vector load across two lines costs twice.
#[inline(always)]
fn aligned(scratch: &mut [f32]) -> &mut [f32] {
    let skip = scratch.as_ptr().align_offset(4 * LINE).min(LINE - 1);
    &mut scratch[skip..]
}

/// Splits `len` elements, rounded up to cache lines, off the front of `rest`.
#[inline(always)]
fn take<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (head, tail) = std::mem::take(rest).split_at_mut(len.next_multiple_of(LINE));
    *rest = tail;
    head
}

/// The rows of sequence `n` that belong to head `h`.
#[inline(always)]
fn head_rows<'a>(rows: Rows<'a, f32>, first: usize, h: usize, head_dim: usize) -> HeadRows<'a> {
    HeadRows { data: rows.data, stride: rows.stride, base: first * rows.stride + rows.offset + h * head_dim }
}

/// Keys of the next block when `rest` are left: a short remainder joins the last block.
#[inline(always)]
fn block_len(rest: usize) -> usize {
    if rest <= KEYS { rest } else { STEP }
}

/// Blocks that `tk` keys are cut into.
pub(super) fn blocks(tk: usize) -> usize {
    if tk == 0 { 0 } else { 1 + tk.saturating_sub(KEYS).div_ceil(STEP) }
}

/// Elements of the packed keys of a block, or of its values, in any precision, with room to begin at a cache line.
fn panel_len(d: Dims) -> usize {
    Sizes::of(d, 1).block.next_multiple_of(LINE)
}

/// Elements of the packed keys and values of a block, and what [`pack_transposed`] returns of the keys.
pub(super) fn piece_len(d: Dims) -> usize {
    2 * panel_len(d) + LINE
}

/// The keys of a block that take part, as row numbers of sequence `n`.
#[inline(always)]
fn kept_keys<'a>(
    x: &Inputs<'_, f32>,
    n: usize,
    start: usize,
    len: usize,
    list: &'a mut [usize; KEYS],
) -> &'a [usize] {
    let mut kept = 0;
    for j in start..start + len {
        if x.keeps(n, j) {
            list[kept] = j;
            kept += 1;
        }
    }
    &list[..kept]
}

/// At least the largest sum of squares of `count` packed queries; NaN if one is not finite. It is the sum of the lanes'
/// largest sums, about three times that of a query at head_dim 32 if queries are alike, twice at 128: summing the lanes of
/// each query takes longer.
#[inline(always)]
fn largest_query<S: Simd>(s: S, count: usize, rows: usize, columns: usize, packed: &[f32]) -> f32 {
    let (mut largest, mut all) = (s.splat(0.0), s.splat(0.0));
    let packed = packed.as_chunks::<STRIDE>().0;
    for r in 0..count {
        let mut sum = s.splat(0.0);
        for (chunk, first) in (0..columns).step_by(KEYS).enumerate() {
            let row = &packed[chunk * rows + r][..KEYS.min(columns - first)];
            for x in row.chunks(S::LANES) {
                let x = if x.len() == S::LANES { s.load(x) } else { s.load_partial(x) };
                sum = s.fma(x, x, sum);
            }
        }
        largest = s.max(largest, sum);
        all = s.add(all, sum);
    }
    s.sum(s.fma(all, s.splat(0.0), largest))
}

/// Packs the keys and values of one block, see [`super::pack_keys`].
pub(super) struct PackKeys<'a> {
    pub(super) inputs: Inputs<'a, f32>,
    pub(super) piece: usize,
    pub(super) out: &'a mut [f32],
}

impl Body for PackKeys<'_> {
    #[inline(always)]
    fn run<O: Operands, const M: usize, const HALF: usize, const V: usize>(self, ops: O) {
        let PackKeys { inputs: x, piece, out } = self;
        let (d, blocks, columns) = (x.d, blocks(x.d.tk), x.d.head_dim);
        let (n, h, start) = (piece / blocks / d.heads, piece / blocks % d.heads, piece % blocks * STEP);
        let k = head_rows(x.k, n * d.tk, h, columns);
        let v = head_rows(x.v, n * d.tk, h, columns);
        let mut list = [0; KEYS];
        let keys = kept_keys(&x, n, start, block_len(d.tk - start), &mut list);
        let (k_packed, rest) = out.split_at_mut(panel_len(d));
        let (v_packed, square) = rest.split_at_mut(panel_len(d));
        square[0] = pack_block::<O, V>(ops, k, v, keys, columns, k_packed, v_packed);
    }
}

/// The keys and values that take part, as the forward products want them. Returns what [`pack_transposed`] does of the keys.
#[inline(always)]
fn pack_block<O: Operands, const V: usize>(
    ops: O,
    k: HeadRows<'_>,
    v: HeadRows<'_>,
    keys: &[usize],
    columns: usize,
    k_packed: &mut [f32],
    v_packed: &mut [f32],
) -> f32 {
    let square = pack_transposed::<O, V>(ops, k, keys, columns, k_packed);
    pack_panels::<O, V>(ops, 1.0, v, |i| keys[i], keys.len(), columns, v_packed);
    square
}

pub(super) struct Forward<'a> {
    pub(super) inputs: Inputs<'a, f32>,
    /// All keys and values packed before, or nothing.
    pub(super) packed: &'a [f32],
    pub(super) y: &'a mut [f32],
    pub(super) saved: &'a mut [f32],
    pub(super) scratch: &'a mut [f32],
}

impl Body for Forward<'_> {
    #[inline(always)]
    fn run<O: Operands, const M: usize, const HALF: usize, const V: usize>(self, ops: O) {
        let s = ops.simd();
        let Forward { inputs: x, packed, y, saved, scratch } = self;
        let mut pieces = packed.chunks_exact(piece_len(x.d).max(1));
        let (d, columns, z) = (x.d, x.d.head_dim, Sizes::of(x.d, O::PER_WORD));
        let mut rest = aligned(scratch);
        let out = take(&mut rest, z.per_query);
        let (m, l) = (take(&mut rest, d.tq + PER_ROW), take(&mut rest, d.tq + PER_ROW));
        let (k_packed, v_packed) = (take(&mut rest, z.block), take(&mut rest, z.block));
        let (q_rows, p) = (take(&mut rest, z.rows), take(&mut rest, MAX_ROWS * STRIDE));
        let tiled = if d.tq % GRAIN <= FEW { d.tq / GRAIN * GRAIN } else { d.tq };
        // The last block's padding rows lie between the tiled queries' sums and the others'.
        let place = |i: usize| if i < tiled { i } else { i + HALF };
        let factor = (x.scale / O::UNIT) as f32;
        let limit = (BOUND / O::UNIT).powi(2) as f32;
        let mut list = [0; KEYS];
        for n in 0..d.batch {
            for h in 0..d.heads {
                let q = head_rows(x.q, n * d.tq, h, columns);
                let k = head_rows(x.k, n * d.tk, h, columns);
                let v = head_rows(x.v, n * d.tk, h, columns);
                m.fill(f32::NEG_INFINITY);
                l.fill(0.0);
                let (mut start, mut begun) = (0, false);
                while start < d.tk {
                    let len = block_len(d.tk - start);
                    let keys = kept_keys(&x, n, start, len, &mut list);
                    let source = Source::new(s, &x, n, start, len, keys);
                    let source = source.as_ref();
                    start += len;
                    let piece = pieces.next();
                    if keys.is_empty() {
                        continue;
                    }
                    let (k_packed, v_packed, square) = match piece {
                        Some(piece) => {
                            let (k_packed, rest) = piece.split_at(panel_len(d));
                            let (v_packed, square) = rest.split_at(panel_len(d));
                            (k_packed, v_packed, square[0])
                        }
                        None => {
                            let mut square = 0.0;
                            if tiled > 0 {
                                square = pack_block::<O, V>(ops, k, v, keys, columns, k_packed, v_packed);
                            }
                            (&*k_packed, &*v_packed, square)
                        }
                    };
                    for i in (0..tiled).step_by(M) {
                        let count = M.min(tiled - i);
                        let rows = count.next_multiple_of(HALF);
                        pack_rows(ops, factor, q, i, count, rows, columns, q_rows);
                        // Where elements are rounded this gained nothing.
                        let bounded = !O::ROUNDED
                            && square * largest_query(s, count, rows, columns, q_rows) <= limit
                            && (!begun || m[i..][..count].iter().all(|&m| m == 0.0));
                        let next = M.min(tiled - i - count);
                        let ahead = &mut Ahead::new(q, i + count, next, columns);
                        scores::<O, M, HALF, V>(ops, rows, keys.len(), columns, q_rows, k_packed, p, ahead);
                        let (m, l) = (&mut m[i..], &mut l[i..]);
                        let row = h * d.tq + i;
                        let factors;
                        let into = if bounded {
                            bounded_softmax(s, count, keys.len(), source, row, p, m, l, begun);
                            if begun { Into::Add } else { Into::Overwrite }
                        } else {
                            factors = running_softmax(ops, count, keys.len(), source, row, p, m, l);
                            if begun { Into::Rescale(&factors) } else { Into::Overwrite }
                        };
                        let (size, out) = ((rows, columns, words::<O>(keys.len())), &mut out[i * z.padded..]);
                        product::<O, M, HALF, V>(
                            ops,
                            Read::Rows,
                            size,
                            p,
                            v_packed,
                            out,
                            z.padded,
                            into,
                            ahead,
                        );
                    }
                    for i in tiled..d.tq {
                        row_words(ops, factor, q.row(i, columns), &mut q_rows[..words::<O>(columns)]);
                        let (m, l) = (&mut m[i..], &mut l[i..]);
                        let out = &mut out[place(i) * z.padded..][..columns];
                        one_query(ops, q_rows, k, v, keys, source, h * d.tq + i, p, m, l, begun, out);
                    }
                    begun = true;
                }
                for i in 0..d.tq {
                    let y = &mut y[(n * d.tq + i) * d.width() + h * columns..][..columns];
                    if begun {
                        let inverse = if l[i] == 0.0 { 0.0 } else { x.dropout.scale::<f32>() / l[i] };
                        scale_row(s, inverse, &out[place(i) * z.padded..][..columns], y);
                    } else {
                        y.fill(0.0);
                    }
                    if !saved.is_empty() {
                        saved[(n * d.heads + h) * d.tq + i] = m[i] * O::UNIT as f32 + l[i].ln();
                    }
                }
            }
        }
    }
}

/// A block of keys for a single query: keys and values are read in place, once each, instead of being packed.
#[inline(always)]
fn one_query<O: Operands>(
    ops: O,
    q: &[f32],
    k: HeadRows<'_>,
    v: HeadRows<'_>,
    keys: &[usize],
    source: Option<&Source<'_, O::S>>,
    row: usize,
    p: &mut [f32],
    m: &mut [f32],
    l: &mut [f32],
    begun: bool,
    out: &mut [f32],
) {
    let (columns, lanes) = (out.len(), O::S::LANES);
    let q = &q[..words::<O>(columns)];
    let (fours, rest) = keys.as_chunks::<4>();
    let (p_fours, p_rest) = p[..keys.len()].as_chunks_mut::<4>();
    for (keys, p) in fours.iter().zip(p_fours) {
        *p = dots(ops, q, keys.map(|j| k.row(j, columns)));
    }
    for (&j, p) in rest.iter().zip(p_rest) {
        [*p] = dots(ops, q, [k.row(j, columns)]);
    }
    let factor = running_softmax(ops, 1, keys.len(), source, row, p, m, l)[0];
    let mut c = 0;
    while c + 8 * lanes <= columns {
        combine::<O, 8>(ops, v, keys, p, c, factor, begun, out);
        c += 8 * lanes;
    }
    while c + 2 * lanes <= columns {
        combine::<O, 2>(ops, v, keys, p, c, factor, begun, out);
        c += 2 * lanes;
    }
    while c < columns {
        combine::<O, 1>(ops, v, keys, p, c, factor, begun, out);
        c += lanes;
    }
}

/// q . row for each row, q in words.
#[inline(always)]
fn dots<O: Operands, const N: usize>(ops: O, q: &[f32], rows: [&[f32]; N]) -> [f32; N] {
    let (lanes, mut sums) = (dot_lanes(ops, q, rows), [0.0; N]);
    for r in 0..N {
        sums[r] = ops.simd().sum(lanes[r]);
    }
    sums
}

/// Whose lanes sum to q . row, for each row, q in words.
#[inline(always)]
fn dot_lanes<O: Operands, const N: usize>(ops: O, q: &[f32], rows: [&[f32]; N]) -> [<O::S as Simd>::V; N] {
    let (s, lanes) = (ops.simd(), O::S::LANES);
    let (one, mut acc) = (s.splat(1.0), [s.splat(0.0); N]);
    let whole = q.len() / lanes * lanes;
    for c in (0..whole).step_by(lanes) {
        let x = s.load(&q[c..]);
        for r in 0..N {
            acc[r] = ops.fma(x, ops.along(one, &rows[r][c * O::PER_WORD..]), acc[r]);
        }
    }
    if whole < q.len() {
        let x = s.load_partial(&q[whole..]);
        for r in 0..N {
            acc[r] = ops.fma(x, ops.along(one, &rows[r][whole * O::PER_WORD..]), acc[r]);
        }
    }
    acc
}

/// Columns `c ..` of out = factor out + sum_j p_j v_j, N vectors of them, p in words.
#[inline(always)]
fn combine<O: Operands, const N: usize>(
    ops: O,
    v: HeadRows<'_>,
    keys: &[usize],
    p: &[f32],
    c: usize,
    factor: f32,
    begun: bool,
    out: &mut [f32],
) {
    let (s, lanes) = (ops.simd(), O::S::LANES);
    let (one, mut acc) = (s.splat(1.0), [s.splat(0.0); N]);
    let columns = out.len();
    for (keys, &p) in keys.chunks(O::PER_WORD).zip(p) {
        let (first, p) = (&v.row(keys[0], columns)[c..], s.splat(p));
        let second = if keys.len() > 1 { &v.row(keys[1], columns)[c..] } else { &[] };
        for i in 0..N {
            let rows = [&first[i * lanes..], &second[(i * lanes).min(second.len())..]];
            acc[i] = ops.fma(p, ops.across(one, rows), acc[i]);
        }
    }
    for i in 0..N {
        let out = &mut out[c + i * lanes..];
        let old = if begun { s.mul(s.splat(factor), s.load_partial(out)) } else { s.splat(0.0) };
        s.store_partial(s.add(old, acc[i]), out);
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

/// Row `row` of a gradient, head `h`: overwritten with or increased by factor times `from`.
#[inline(always)]
fn put_row<S: Simd, T: Real>(
    s: S,
    buffers: &mut [&mut [T]],
    g: GradRows,
    row: usize,
    h: usize,
    factor: f32,
    from: &[f32],
) {
    let buffer: &mut [f32] = same_mut(&mut *buffers[g.buffer]);
    let to = &mut buffer[row * g.stride + g.offset + h * from.len()..][..from.len()];
    match g.beta {
        Beta::Zero => scale_row(s, factor, from, to),
        Beta::One => add_scaled_row(s, factor, from, to),
    }
}

impl<T: Real> Body for Backward<'_, '_, T> {
    #[inline(always)]
    fn run<O: Operands, const M: usize, const HALF: usize, const V: usize>(self, ops: O) {
        let s = ops.simd();
        let Backward { inputs: x, y, saved, dy, buffers, dq, dk, dv, scratch } = self;
        let (d, columns, z) = (x.d, x.d.head_dim, Sizes::of(x.d, O::PER_WORD));
        let mut rest = aligned(scratch);
        let dq_sum = take(&mut rest, z.per_query);
        let dot = take(&mut rest, d.tq + PER_ROW);
        let (k_packed, v_packed) = (take(&mut rest, z.block), take(&mut rest, z.block));
        let k_panels = take(&mut rest, z.block);
        let (dk_sum, dv_sum) = (take(&mut rest, z.per_key), take(&mut rest, z.per_key));
        let (q_rows, dy_rows) = (take(&mut rest, z.rows), take(&mut rest, z.rows));
        let (q_panels, dy_panels) = (take(&mut rest, z.queries), take(&mut rest, z.queries));
        let (p, ds) = (take(&mut rest, z.scores), take(&mut rest, z.scores));
        let (p_across, ds_across) = (take(&mut rest, z.across), take(&mut rest, z.across));
        let ds_along = take(&mut rest, z.along);
        let mut list = [0; KEYS];
        let factor = (x.scale / O::UNIT) as f32;
        // dy enters dv and dp with the factor of what is kept.
        let kept = x.dropout.scale::<f32>();
        for n in 0..d.batch {
            for h in 0..d.heads {
                let q = head_rows(x.q, n * d.tq, h, columns);
                let k = head_rows(x.k, n * d.tk, h, columns);
                let v = head_rows(x.v, n * d.tk, h, columns);
                let packed = Rows { data: dy, stride: d.width(), offset: 0 };
                let dy = head_rows(packed, n * d.tq, h, columns);
                let y = head_rows(Rows { data: y, ..packed }, n * d.tq, h, columns);
                let lse = &saved[(n * d.heads + h) * d.tq..][..d.tq];
                for first in (0..d.tq).step_by(O::S::LANES) {
                    let mut sums = [s.splat(0.0); PER_ROW];
                    for (sum, i) in sums.iter_mut().zip(first..d.tq).take(O::S::LANES) {
                        [*sum] = dot_lanes(Elements::<_, false>(s), dy.row(i, columns), [y.row(i, columns)]);
                    }
                    s.store(s.fold_lanes(&sums, |a, b| s.add(a, b)), &mut dot[first..]);
                }
                let (mut start, mut begun) = (0, false);
                while start < d.tk {
                    let len = block_len(d.tk - start);
                    let keys = kept_keys(&x, n, start, len, &mut list);
                    let source = Source::new(s, &x, n, start, len, keys);
                    let source = source.as_ref();
                    if keys.len() < len {
                        for g in [dk, dv].into_iter().flatten().filter(|g| g.beta == Beta::Zero) {
                            for j in (start..start + len).filter(|&j| !x.keeps(n, j)) {
                                let at = (n * d.tk + j) * g.stride + g.offset + h * columns;
                                buffers[g.buffer][at..][..columns].fill(Real::ZERO);
                            }
                        }
                    }
                    start += len;
                    if keys.is_empty() {
                        continue;
                    }
                    if d.tq == 0 {
                        dk_sum.fill(0.0);
                        dv_sum.fill(0.0);
                    } else {
                        pack_transposed::<O, V>(ops, k, keys, columns, k_packed);
                        pack_transposed::<O, V>(ops, v, keys, columns, v_packed);
                        pack_panels::<O, V>(ops, 1.0, k, |i| keys[i], keys.len(), columns, k_panels);
                    }
                    for first in (0..d.tq).step_by(QUERIES) {
                        let queries = QUERIES.min(d.tq - first);
                        for i in (0..queries).step_by(M) {
                            let count = M.min(queries - i);
                            let rows = count.next_multiple_of(HALF);
                            // Where the scores are the words, each block has its own place.
                            let place = if O::PER_WORD == 1 { i } else { 0 };
                            let (p, ds) = (&mut p[place * STRIDE..], &mut ds[place * STRIDE..]);
                            pack_rows(ops, factor, q, first + i, count, rows, columns, q_rows);
                            pack_rows(ops, kept, dy, first + i, count, rows, columns, dy_rows);
                            let next = first + i + count;
                            for (rows_of, a, b, to) in
                                [(q, &*q_rows, &*k_packed, &mut *p), (dy, &*dy_rows, &*v_packed, &mut *ds)]
                            {
                                let ahead = &mut Ahead::new(rows_of, next, M.min(d.tq - next), columns);
                                scores::<O, M, HALF, V>(ops, rows, keys.len(), columns, a, b, to, ahead);
                            }
                            let (lse, dot) = (&lse[first + i..], &dot[first + i..]);
                            // Where a word holds two elements, those along keys lie apart.
                            let along =
                                if O::PER_WORD == 1 { None } else { Some(&mut ds_along[i * STRIDE..]) };
                            let row = h * d.tq + first + i;
                            score_gradients(ops, count, keys.len(), source, row, lse, dot, p, ds, along);
                            if O::PER_WORD == 2 {
                                let at = i / 2 * STRIDE;
                                pairs_of_rows(ops, count, keys.len(), p, &mut p_across[at..]);
                                pairs_of_rows(ops, count, keys.len(), ds, &mut ds_across[at..]);
                            }
                        }
                        pack_panels::<O, V>(
                            ops,
                            x.scale as f32,
                            q,
                            |i| first + i,
                            queries,
                            columns,
                            q_panels,
                        );
                        pack_panels::<O, V>(ops, kept, dy, |i| first + i, queries, columns, dy_panels);
                        let [p_columns, ds_columns, ds_rows] = if O::PER_WORD == 1 {
                            [&*p, &*ds, &*ds]
                        } else {
                            [&*p_across, &*ds_across, &*ds_along]
                        };
                        let size = (keys.len().next_multiple_of(HALF), columns, words::<O>(queries));
                        let ahead = &mut Ahead::new(q, 0, 0, columns);
                        let into = if first == 0 { Into::Overwrite } else { Into::Add };
                        for (wanted, a, b, sum) in [
                            (dv.is_some(), p_columns, &*dy_panels, &mut *dv_sum),
                            (dk.is_some(), ds_columns, &*q_panels, &mut *dk_sum),
                        ] {
                            if wanted {
                                product::<O, M, HALF, V>(
                                    ops,
                                    Read::Columns,
                                    size,
                                    a,
                                    b,
                                    sum,
                                    z.padded,
                                    into,
                                    ahead,
                                );
                            }
                        }
                        if dq.is_some() {
                            let size = (queries.next_multiple_of(HALF), columns, words::<O>(keys.len()));
                            let into = if begun { Into::Add } else { Into::Overwrite };
                            let sum = &mut dq_sum[first * z.padded..];
                            product::<O, M, HALF, V>(
                                ops,
                                Read::Rows,
                                size,
                                ds_rows,
                                k_panels,
                                sum,
                                z.padded,
                                into,
                                ahead,
                            );
                        }
                    }
                    for (g, sum) in [(dk, &*dk_sum), (dv, &*dv_sum)] {
                        let Some(g) = g else { continue };
                        for (&j, sum) in keys.iter().zip(sum.chunks_exact(z.padded)) {
                            put_row(s, buffers, g, n * d.tk + j, h, 1.0, &sum[..columns]);
                        }
                    }
                    begun = true;
                }
                if let Some(g) = dq {
                    if !begun {
                        dq_sum.fill(0.0);
                    }
                    for (i, sum) in dq_sum.chunks_exact(z.padded).enumerate().take(d.tq) {
                        put_row(s, buffers, g, n * d.tq + i, h, x.scale as f32, &sum[..columns]);
                    }
                }
            }
        }
    }
}

/// Words of `count` rows of f32, two rows each (without a second, of one): what is read by columns.
#[inline(always)]
fn pairs_of_rows<O: Operands>(ops: O, count: usize, keys: usize, from: &[f32], to: &mut [f32]) {
    let (s, one) = (ops.simd(), ops.simd().splat(1.0));
    let width = keys.next_multiple_of(O::S::LANES);
    let rows = &from.as_chunks::<STRIDE>().0[..count];
    for (rows, to) in rows.chunks(2).zip(to.as_chunks_mut::<STRIDE>().0) {
        for at in (0..width).step_by(O::S::LANES) {
            let second = if rows.len() == 2 { &rows[1][at..] } else { &[] };
            s.store(ops.across(one, [&rows[0][at..], second]), &mut to[at..]);
        }
    }
}
