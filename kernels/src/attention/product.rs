//! The matrix products of a tile: packing, and a block of C in registers.
//!
//! C = A B with B in panels of a few vectors (`[panel][k][NR]`, as the packed GEMM has it) and A read one element at a
//! time, broadcast. A's rows have the constant length [`STRIDE`], so that a row's place is a constant offset, and A may
//! be read by rows or by columns: the tile of probabilities serves as A for P V and dS K (by rows) and for its transpose
//! in P^T dY and dS^T Q (by columns), so no tile is ever transposed.
//!
//! | product | A | B | k |
//! |---|---|---|---|
//! | S = Q K^T, dP = dY V^T | rows of q or dy | k or v transposed | head_dim |
//! | O += P V, dQ += dS K | rows of the tile | v or k | keys |
//! | dV += P^T dY, dK += dS^T Q | columns of the tile | dy or q | queries |
//!
//! An element of C is one chain of multiply-adds along k, whatever block it falls into: a row of C depends on its own row
//! of A only, to the bit.

use super::operands::{Elements, Operands, Pairs, row_words, words};
use crate::Isa;
use crate::gemm::MatmulPrecision;
use crate::isa::{Bf16, DotTask, Portable, Simd, Task};
use crate::rng::BLOCK;
use std::any::TypeId;

/// Most keys of a block: the longest k of a product.
pub(super) const KEYS: usize = 320;
/// Row length of A: whole blocks of dropout decisions, and an odd number of cache lines, so that rows fall into different
/// cache sets.
pub(super) const STRIDE: usize = KEYS.next_multiple_of(BLOCK) + 16;
/// Rows of the highest register block, and a multiple of the width of every panel.
pub(super) const MAX_ROWS: usize = 14;
pub(super) const PAD: usize = 32;

/// Rows of one head in a larger buffer: row j is `data[j * stride + base ..]`.
#[derive(Clone, Copy)]
pub(super) struct HeadRows<'a> {
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
    pub(super) base: usize,
}

impl<'a> HeadRows<'a> {
    /// The first `len` elements of row `j`.
    #[inline(always)]
    pub(super) fn row(&self, j: usize, len: usize) -> &'a [f32] {
        &self.data[j * self.stride + self.base..][..len]
    }
}

/// Rows that will be read soon. A row is a jump away from the one before, which no hardware prefetcher foresees; asking
/// for many at once would fill the core's list of misses, so a product asks for a line every few steps.
#[derive(Clone, Copy)]
pub(super) struct Ahead<'a> {
    rows: HeadRows<'a>,
    row: usize,
    end: usize,
    column: usize,
    columns: usize,
}

impl<'a> Ahead<'a> {
    /// The first `columns` elements of `count` rows from `first` on.
    #[inline(always)]
    pub(super) fn new(rows: HeadRows<'a>, first: usize, count: usize, columns: usize) -> Self {
        Self { rows, row: first, end: first + count, column: 0, columns }
    }

    /// Asks for the next cache line.
    #[inline(always)]
    fn next<S: Simd>(&mut self, s: S) {
        if self.row < self.end {
            let at = self.row * self.rows.stride + self.rows.base + self.column;
            if let Some(line) = self.rows.data.get(at..) {
                s.prefetch(line);
            }
            self.column += 16;
            if self.column >= self.columns {
                (self.column, self.row) = (0, self.row + 1);
            }
        }
    }
}

/// Which register block fits: rows, half as many, vectors.
enum Shape {
    /// 32 registers of 16 lanes (AVX-512): 14 x 2.
    Wide,
    /// 16 registers of 8 lanes (AVX2): 6 x 2.
    Half,
    /// 32 registers of 4 lanes (NEON): 6 x 4.
    Narrow,
    /// Plain Rust: 4 x 1 arrays of 8.
    Plain,
}

#[inline(always)]
fn shape<S: Simd>() -> Shape {
    if TypeId::of::<S>() == TypeId::of::<Portable>() {
        Shape::Plain
    } else if S::LANES >= 16 {
        Shape::Wide
    } else if S::LANES >= 8 {
        Shape::Half
    } else {
        Shape::Narrow
    }
}

/// A task over any kind of operands and any register block: of M rows, of HALF as many, of V vectors.
pub(super) trait Body {
    fn run<O: Operands, const M: usize, const HALF: usize, const V: usize>(self, ops: O);
}

/// A [`Body`] on single elements, rounded to bf16 or not. The kinds of operands are types, so that each is compiled as a
/// function of its own.
struct OnElements<B, const ROUNDED: bool>(B);

impl<B: Body, const ROUNDED: bool> Task for OnElements<B, ROUNDED> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        in_shape(Elements::<S, ROUNDED>(s), self.0);
    }
}

/// A [`Body`] on pairs of bf16.
struct OnPairs<B>(B);

impl<B: Body> DotTask for OnPairs<B> {
    type Out = ();
    #[inline(always)]
    fn run<D: Bf16>(self, d: D) {
        in_shape(Pairs(d), self.0);
    }
}

/// Runs `body` in the shape of the operands' vectors.
#[inline(always)]
fn in_shape<O: Operands>(ops: O, body: impl Body) {
    match shape::<O::S>() {
        Shape::Wide => body.run::<O, 14, 7, 2>(ops),
        Shape::Half => body.run::<O, 6, 3, 2>(ops),
        Shape::Narrow => body.run::<O, 6, 3, 4>(ops),
        Shape::Plain => body.run::<O, 4, 2, 1>(ops),
    }
}

/// Runs `body` on the operands that `precision` asks for.
pub(super) fn run(isa: Isa, precision: MatmulPrecision, body: impl Body) {
    // There are no products of 8-bit integers here: such a program takes bf16 for the operands of attention.
    let in_bf16 = precision != MatmulPrecision::F32;
    match isa.bf16_dot() {
        _ if !in_bf16 => isa.run(OnElements::<_, false>(body)),
        Some(dot) => dot.run(OnPairs(body)),
        None => isa.run(OnElements::<_, true>(body)),
    }
}

/// What becomes of C's previous content.
#[derive(Clone, Copy)]
pub(super) enum Into<'a> {
    /// It is not read.
    Overwrite,
    /// It is added to.
    Add,
    /// Row r is multiplied by the r-th factor and added to.
    Rescale(&'a [f32; MAX_ROWS + 2]),
}

/// How A is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Rows,
    Columns,
}

/// C[m, n] (+)= A[m, k] B[k, n], m a multiple of HALF (rows past the wanted ones are padding on both sides), k in words.
///
/// C's rows are `ldc` long and are written in whole vectors: `n` rounded up to one.
#[inline(always)]
pub(super) fn product<O: Operands, const M: usize, const HALF: usize, const V: usize>(
    ops: O,
    read: Read,
    (m, n, k): (usize, usize, usize),
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
    ldc: usize,
    into: Into<'_>,
    ahead: &mut Ahead<'_>,
) {
    let nr = V * O::S::LANES;
    let mut i = 0;
    while i < m {
        let high = m - i >= M;
        for j in (0..n).step_by(nr) {
            let b = &b[j * k..][..nr * k];
            let c = &mut c[i * ldc + j..];
            match (high, n - j > O::S::LANES) {
                (true, true) => block::<O, M, V, V>(ops, read, k, i, a, b, c, ldc, into, ahead),
                (true, false) => block::<O, M, 1, V>(ops, read, k, i, a, b, c, ldc, into, ahead),
                (false, true) => block::<O, HALF, V, V>(ops, read, k, i, a, b, c, ldc, into, ahead),
                (false, false) => block::<O, HALF, 1, V>(ops, read, k, i, a, b, c, ldc, into, ahead),
            }
        }
        i += if high { M } else { HALF };
    }
}

/// A block of M rows and V vectors, from row (or column) `i` of A and a panel PV vectors wide.
#[inline(always)]
fn block<O: Operands, const M: usize, const V: usize, const PV: usize>(
    ops: O,
    read: Read,
    k: usize,
    i: usize,
    a: &[f32],
    b: &[f32],
    c: &mut [f32],
    ldc: usize,
    into: Into<'_>,
    ahead: &mut Ahead<'_>,
) {
    let s = ops.simd();
    // One check for all rows where their length is a constant.
    let c = &mut c[..(M - 1) * ldc + V * O::S::LANES];
    let mut acc = [[s.splat(0.0); V]; M];
    {
        // C's old content, or else what the caller will need next.
        let old = HeadRows { data: c, stride: ldc, base: 0 };
        let fresh = matches!(into, Into::Overwrite);
        let mut lines = if fresh { *ahead } else { Ahead::new(old, 0, M, V * O::S::LANES) };
        let b = b.chunks_exact(PV * O::S::LANES);
        let a = a.as_chunks::<STRIDE>().0;
        match read {
            Read::Rows => {
                let a: &[[f32; STRIDE]; M] = &a[i..].as_chunks::<M>().0[0];
                for (p, b) in (0..STRIDE).zip(b) {
                    if p % (4 / O::PER_WORD) == 0 {
                        lines.next(s);
                    }
                    step(ops, &mut acc, |r| a[r][p], b);
                }
            }
            Read::Columns => {
                for (p, (a, b)) in a[..k].iter().zip(b).enumerate() {
                    if p % (4 / O::PER_WORD) == 0 {
                        lines.next(s);
                    }
                    let a: &[f32; M] = &a[i..].as_chunks::<M>().0[0];
                    step(ops, &mut acc, |r| a[r], b);
                }
            }
        }
        if fresh {
            (ahead.row, ahead.column) = (lines.row, lines.column);
        }
    }
    let width = V * O::S::LANES;
    match into {
        Into::Overwrite => {}
        Into::Add => {
            for r in 0..M {
                let c = &c[r * ldc..][..width];
                for v in 0..V {
                    acc[r][v] = s.add(s.load(&c[v * O::S::LANES..]), acc[r][v]);
                }
            }
        }
        Into::Rescale(factors) => {
            for r in 0..M {
                let c = &c[r * ldc..][..width];
                let f = s.splat(factors[r]);
                for v in 0..V {
                    acc[r][v] = s.fma(f, s.load(&c[v * O::S::LANES..]), acc[r][v]);
                }
            }
        }
    }
    for r in 0..M {
        let c = &mut c[r * ldc..][..width];
        for v in 0..V {
            s.store(acc[r][v], &mut c[v * O::S::LANES..]);
        }
    }
}

/// acc += a column of A times a row of B.
#[inline(always)]
fn step<O: Operands, const M: usize, const V: usize>(
    ops: O,
    acc: &mut [[<O::S as Simd>::V; V]; M],
    a: impl Fn(usize) -> f32,
    b: &[f32],
) {
    let s = ops.simd();
    let b: [<O::S as Simd>::V; V] = std::array::from_fn(|v| s.load(&b[v * O::S::LANES..]));
    for (r, acc) in acc.iter_mut().enumerate() {
        let x = s.splat(a(r));
        for v in 0..V {
            acc[v] = ops.fma(x, b[v], acc[v]);
        }
    }
}

/// to = factor from, both of the same length, by whole vectors and a partial one.
#[inline(always)]
pub(super) fn scale_row<S: Simd>(s: S, factor: f32, from: &[f32], to: &mut [f32]) {
    let f = s.splat(factor);
    let whole = from.len() / S::LANES * S::LANES;
    let (from, from_tail) = from.split_at(whole);
    let (to, to_tail) = to.split_at_mut(whole);
    for (to, from) in to.chunks_exact_mut(S::LANES).zip(from.chunks_exact(S::LANES)) {
        s.store(s.mul(f, s.load(from)), to);
    }
    if !from_tail.is_empty() {
        s.store_partial(s.mul(f, s.load_partial(from_tail)), to_tail);
    }
}

/// As [`scale_row`], adding to what is there.
#[inline(always)]
pub(super) fn add_scaled_row<S: Simd>(s: S, factor: f32, from: &[f32], to: &mut [f32]) {
    let f = s.splat(factor);
    for (to, from) in to.chunks_mut(S::LANES).zip(from.chunks(S::LANES)) {
        s.store_partial(s.fma(f, s.load_partial(from), s.load_partial(to)), to);
    }
}

/// Words that are asked for before they are packed.
const AHEAD: usize = 4;

/// Rows of a head as B: `[panel][word][NR]`, columns past `columns` zero. `source` gives the rows' numbers; a word holds
/// a column's elements of neighbouring rows.
#[inline(always)]
pub(super) fn pack_panels<O: Operands, const V: usize>(
    ops: O,
    factor: f32,
    rows: HeadRows<'_>,
    source: impl Fn(usize) -> usize,
    count: usize,
    columns: usize,
    panels: &mut [f32],
) {
    let s = ops.simd();
    let (f, lanes, nr) = (s.splat(factor), O::S::LANES, V * O::S::LANES);
    let depth = words::<O>(count);
    for i in 0..depth {
        let at = i * O::PER_WORD;
        let row = rows.row(source(at), columns);
        let second = if O::PER_WORD == 2 && at + 1 < count { rows.row(source(at + 1), columns) } else { &[] };
        for next in at + AHEAD * O::PER_WORD..(at + (AHEAD + 1) * O::PER_WORD).min(count) {
            for line in rows.row(source(next), columns).chunks(16) {
                s.prefetch(line);
            }
        }
        for (c, at) in (0..columns).step_by(nr).zip((i * nr..).step_by(depth * nr)) {
            let to = &mut panels[at..][..nr];
            for v in (0..nr).step_by(lanes) {
                let words = ops.across(f, [from(row, c + v), from(second, c + v)]);
                s.store(words, &mut to[v..]);
            }
        }
    }
}

/// The rest of a row from an element that may lie past its end.
#[inline(always)]
fn from(row: &[f32], at: usize) -> &[f32] {
    &row[at.min(row.len())..]
}

/// Rows `keys` of a head, transposed, as B: `[words / KEYS][panel of keys][word][NR]`, missing keys zero. The words lie
/// along the rows. Returns at least the largest sum of squares of a row, NaN if an element is not finite; 0 where elements
/// are rounded.
#[inline(always)]
pub(super) fn pack_transposed<O: Operands, const V: usize>(
    ops: O,
    rows: HeadRows<'_>,
    keys: &[usize],
    columns: usize,
    panels: &mut [f32],
) -> f32 {
    let (s, mut square) = (ops.simd(), 0.0);
    let (one, lanes, nr) = (s.splat(1.0), O::S::LANES, V * O::S::LANES);
    let (width, padded) = (words::<O>(columns), keys.len().next_multiple_of(nr));
    for first in (0..width).step_by(KEYS) {
        let depth = KEYS.min(width - first);
        let chunk = &mut panels[first * padded..][..depth * padded];
        let (mut largest, mut all) = (s.splat(0.0), s.splat(0.0));
        for j in (0..padded).step_by(lanes) {
            let panel = &mut chunk[j / nr * nr * depth..][..nr * depth];
            let wanted = keys.get(j..keys.len().min(j + lanes)).unwrap_or(&[]);
            let mut sums = [s.splat(0.0); 2];
            for c in (0..depth).step_by(lanes) {
                let part = lanes.min(depth - c);
                let at = (first + c) * O::PER_WORD;
                // The next keys' rows, which no hardware prefetcher foresees.
                for &key in keys.iter().skip(j + lanes).take(lanes) {
                    for line in rows.row(key, columns)[at..].chunks(lanes).take(O::PER_WORD) {
                        s.prefetch(line);
                    }
                }
                let mut t = [s.splat(0.0); 16];
                for (t, &key) in t.iter_mut().zip(wanted) {
                    *t = ops.along(one, &rows.row(key, columns)[at..]);
                }
                s.transpose(&mut t);
                let to = panel[c * nr..].chunks_exact_mut(nr).take(part);
                for (i, (to, t)) in to.zip(t).enumerate() {
                    s.store(t, &mut to[j % nr..][..lanes]);
                    if !O::ROUNDED {
                        sums[i % 2] = s.fma(t, t, sums[i % 2]);
                    }
                }
            }
            let sum = s.add(sums[0], sums[1]);
            largest = s.max(largest, sum);
            all = s.add(all, sum);
        }
        if !O::ROUNDED {
            square += s.hmax(largest) + 0.0 * s.sum(all);
        }
    }
    square
}

/// Rows of a head as A by rows: `[words / KEYS][rows][STRIDE]`, each element `factor` times as large; rows past `count`
/// zero. The words lie along the rows.
#[inline(always)]
pub(super) fn pack_rows<O: Operands>(
    ops: O,
    factor: f32,
    rows: HeadRows<'_>,
    first: usize,
    count: usize,
    padded: usize,
    columns: usize,
    to: &mut [f32],
) {
    let to = to.as_chunks_mut::<STRIDE>().0.chunks_exact_mut(padded);
    let width = words::<O>(columns);
    for (word, to) in (0..width).step_by(KEYS).zip(to) {
        let depth = KEYS.min(width - word);
        let from = word * O::PER_WORD..columns.min((word + depth) * O::PER_WORD);
        for (i, to) in to.iter_mut().enumerate() {
            if i < count {
                row_words(ops, factor, &rows.row(first + i, columns)[from.clone()], &mut to[..depth]);
            } else {
                to[..depth].fill(0.0);
            }
        }
    }
}

/// C[m, keys] = rows times transposed panels, chunk by chunk of head_dim; C is a tile of [`STRIDE`].
#[inline(always)]
pub(super) fn scores<O: Operands, const M: usize, const HALF: usize, const V: usize>(
    ops: O,
    m: usize,
    keys: usize,
    columns: usize,
    rows: &[f32],
    panels: &[f32],
    c: &mut [f32],
    ahead: &mut Ahead<'_>,
) {
    let (width, padded) = (words::<O>(columns), keys.next_multiple_of(V * O::S::LANES));
    for (chunk, first) in (0..width).step_by(KEYS).enumerate() {
        let depth = KEYS.min(width - first);
        let (a, b) = (&rows[chunk * m * STRIDE..], &panels[first * padded..]);
        let into = if chunk == 0 { Into::Overwrite } else { Into::Add };
        product::<O, M, HALF, V>(ops, Read::Rows, (m, keys, depth), a, b, c, STRIDE, into, ahead);
    }
}
