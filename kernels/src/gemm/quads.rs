//! The body of `int8.rs` for CPUs with dot products of 8-bit integers.
//!
//! **Panels** are those of `blocked.rs` with words of four bytes for elements, four neighbours along k, filled up with 0.
//! `vpdpbusd` multiplies unsigned by signed bytes, so A holds q + 128 and the sum of a column starts at -128 sum_p r_pj,
//! which is stored with the packed B: `[block along k][panel][word][nr]` words, then the columns' steps, then the starts of
//! each block. A row's step lies in the padding behind its words.
//!
//! **Register tile**: that of f32, 14 x 2 vectors of 16 lanes (6 x 2 of 8), of 32-bit sums; a broadcast word of A serves two
//! vectors of B.
//!
//! Measured: `benches/NOTES.md`.

use super::Epilogue;
use super::blocked::{KC, KS, MC, MR_MAX, aligned, depth, first};
use super::int8::{Scale, vector};
use super::pack::Strided;
use crate::Beta;
use crate::isa::{Int8, Int8Dot, Int8Task, Simd};
use std::ops::Range;

/// Bytes of a word.
const QUAD: usize = 4;
/// Vectors of a tile's row.
const NV: usize = 2;
/// Where a row of A has its step.
const STEP: usize = KC;

/// Words along k.
fn words(k: usize) -> usize {
    k.div_ceil(QUAD)
}

/// Where the parts of a packed B are.
#[derive(Clone, Copy)]
struct Packed {
    /// Columns of all panels.
    columns: usize,
    /// Words of a block along k, but for the last.
    depth: usize,
    words: usize,
}

impl Packed {
    fn new(k: usize, n: usize, nr: usize) -> Self {
        Self { columns: n.next_multiple_of(nr), depth: depth(words(k)), words: words(k) }
    }
    /// The columns' steps and the starts of their sums, after the panels.
    fn ends<'a>(&self, packed: &'a [f32], block: usize) -> (&'a [f32], &'a [f32]) {
        let ends = &packed[self.words * self.columns..];
        (&ends[..self.columns], &ends[(1 + block) * self.columns..][..self.columns])
    }
}

/// Packs the whole of B.
pub(super) fn pack(dot: Int8Dot, k: usize, n: usize, b: Strided<'_, f32>, packed: &mut [f32]) {
    dot.run(Pack { k, n, b, packed });
}

struct Pack<'a> {
    k: usize,
    n: usize,
    b: Strided<'a, f32>,
    packed: &'a mut [f32],
}

impl Int8Task for Pack<'_> {
    type Out = ();
    #[inline(always)]
    fn run<D: Int8>(self, d: D) {
        let Self { k, n, b, packed } = self;
        let (s, nr) = (d.simd(), NV * D::S::LANES);
        let all = Packed::new(k, n, nr);
        let (panels, ends) = packed.split_at_mut(all.words * all.columns);
        let (steps, starts) = ends.split_at_mut(all.columns);
        let ones = s.splat_u32(0x0101_0101);
        let mut line = [0.0; KC];
        for j in 0..all.columns {
            let (panel, at) = (j / nr, j % nr);
            let x = if j < n { &b.data[j * b.strides.1..] } else { &[][..] };
            let scale = Scale::of(s, x, b.strides.0, if j < n { k } else { 0 });
            steps[j] = scale.step;
            for (block, pc) in (0..all.words).step_by(all.depth).enumerate() {
                let depth = all.depth.min(all.words - pc);
                let n = if j < n { k } else { 0 };
                quads(d, x, b.strides.0, pc * QUAD, n, scale, s.splat_u32(0), &mut line[..depth]);
                let mut sum = s.splat_u32(0);
                for words in line[..depth].chunks(D::S::LANES) {
                    sum = d.dot(sum, ones, s.to_bits(s.load_partial(words)));
                }
                let sum = s.sum(d.to_f32(sum));
                // At most 1,536 times 127, so exact.
                starts[block * all.columns + j] = f32::from_bits((-128 * sum as i32) as u32);
                let out = &mut panels[pc * all.columns + panel * nr * depth..][..nr * depth];
                for (p, x) in line[..depth].iter().enumerate() {
                    out[p * nr + at] = *x;
                }
            }
        }
    }
}

/// Words of a line of `n` elements `stride` apart, from element `from` on, `offset` added to every byte.
#[inline(always)]
fn quads<D: Int8>(
    d: D,
    x: &[f32],
    stride: usize,
    from: usize,
    n: usize,
    scale: Scale,
    offset: <D::S as Simd>::U,
    out: &mut [f32],
) {
    let (s, inverse) = (d.simd(), d.simd().splat(scale.inverse));
    let word = D::S::LANES / QUAD;
    for (i, out) in out.chunks_mut(word).enumerate() {
        let v = s.mul(vector(s, x, stride, from + i * D::S::LANES, n), inverse);
        if out.len() == word {
            d.store_bytes(v, offset, out);
        } else {
            let mut whole = [0.0; QUAD];
            d.store_bytes(v, offset, &mut whole);
            out.copy_from_slice(&whole[..out.len()]);
        }
    }
}

/// C = act(A B + bias + beta C), for some columns of B: C and the bias hold these alone.
pub(super) fn multiply_packed(
    dot: Int8Dot,
    (m, n, k): (usize, usize, usize),
    a: Strided<'_, f32>,
    (packed, part): (&[f32], Range<usize>),
    beta: Beta,
    c: &mut [f32],
    rsc: usize,
    epilogue: Epilogue<'_, f32>,
    a_pack: &mut [f32],
) {
    let a_pack = aligned(a_pack);
    dot.run(Multiply { shape: (m, n, k), part, a, packed, beta, c, rsc, epilogue, a_pack });
}

struct Multiply<'a> {
    shape: (usize, usize, usize),
    part: Range<usize>,
    a: Strided<'a, f32>,
    packed: &'a [f32],
    beta: Beta,
    c: &'a mut [f32],
    rsc: usize,
    epilogue: Epilogue<'a, f32>,
    a_pack: &'a mut [f32],
}

impl Int8Task for Multiply<'_> {
    type Out = ();
    #[inline(always)]
    fn run<D: Int8>(self, d: D) {
        let (m, n, k) = self.shape;
        let nr = NV * D::S::LANES;
        let (all, first, n) = (Packed::new(k, n, nr), self.part.start, self.part.len());
        for ic in (0..m).step_by(MC) {
            let rows = MC.min(m - ic);
            for (block, pc) in (0..all.words).step_by(all.depth).enumerate() {
                let depth = all.depth.min(all.words - pc);
                pack_rows(d, self.a, k, (ic, rows), (pc, depth), self.a_pack);
                let (steps, starts) = all.ends(self.packed, block);
                let last = pc + depth == all.words;
                let mut t = Block {
                    rows,
                    n,
                    depth,
                    a: self.a_pack,
                    b: &self.packed[pc * all.columns + first * depth..][..depth * n.next_multiple_of(nr)],
                    steps: &steps[first..],
                    starts: &starts[first..],
                    beta: if block == 0 { self.beta } else { Beta::One },
                    c: &mut self.c[ic * self.rsc..],
                    rsc: self.rsc,
                    epilogue: if last { self.epilogue } else { Epilogue::NONE },
                };
                if D::S::LANES >= 16 { tiles::<D, 14, 7>(d, &mut t) } else { tiles::<D, 6, 3>(d, &mut t) }
            }
        }
    }
}

/// Rows of A as words, by rows, and each one's step.
#[inline(always)]
fn pack_rows<D: Int8>(
    d: D,
    a: Strided<'_, f32>,
    k: usize,
    (row, rows): (usize, usize),
    (pc, depth): (usize, usize),
    out: &mut [f32],
) {
    let (s, (rs, cs)) = (d.simd(), a.strides);
    let (out, _) = out.as_chunks_mut::<KS>();
    for (r, out) in out[..rows].iter_mut().enumerate() {
        let x = &a.data[(row + r) * rs..];
        let scale = Scale::of(s, x, cs, k);
        quads(d, x, cs, pc * QUAD, k, scale, s.splat_u32(128), &mut out[..depth]);
        out[STEP] = scale.step;
    }
    // Rows up to a tile's height are multiplied too, and not stored.
    for out in out[rows..].iter_mut().take(MR_MAX) {
        out[..depth].fill(0.0);
        out[STEP] = 0.0;
    }
}

/// One packed block times another.
struct Block<'a> {
    rows: usize,
    n: usize,
    depth: usize,
    a: &'a [f32],
    b: &'a [f32],
    steps: &'a [f32],
    starts: &'a [f32],
    beta: Beta,
    c: &'a mut [f32],
    rsc: usize,
    epilogue: Epilogue<'a, f32>,
}

/// All tiles of a block; the last rows use a tile of half the height where it suffices.
#[inline(always)]
fn tiles<D: Int8, const MR: usize, const HALF: usize>(d: D, t: &mut Block<'_>) {
    for i in (0..t.rows).step_by(MR) {
        for j in (0..t.n).step_by(NV * D::S::LANES) {
            if t.rows - i <= HALF { tile::<D, HALF>(d, t, i, j) } else { tile::<D, MR>(d, t, i, j) }
        }
    }
}

#[inline(always)]
fn tile<D: Int8, const M: usize>(d: D, t: &mut Block<'_>, i: usize, j: usize) {
    let (s, lanes) = (d.simd(), D::S::LANES);
    let b = t.b[j * t.depth..][..NV * lanes * t.depth].chunks_exact(NV * lanes);
    let mut acc = [[s.splat_u32(0); NV]; M];
    for v in 0..NV {
        let start = s.to_bits(s.load(&t.starts[j + v * lanes..]));
        for acc in &mut acc {
            acc[v] = start;
        }
    }
    // Arrays of constant length, so that the row offsets are constants and the index needs no check.
    let a: &[[f32; KS]; M] = first(&t.a.as_chunks::<KS>().0[i..]);
    for (p, b) in (0..KS).zip(b) {
        let b = [s.to_bits(s.load(b)), s.to_bits(s.load(&b[lanes..]))];
        for (r, acc) in acc.iter_mut().enumerate() {
            let x = s.splat_u32(a[r][p].to_bits());
            for v in 0..NV {
                acc[v] = d.dot(acc[v], x, b[v]);
            }
        }
    }
    if t.rows - i >= M && t.n - j >= NV * lanes {
        store_whole(d, acc, t, i, j);
    } else {
        store_part(d, acc, t, i, j);
    }
}

/// Stores a whole tile; every index is a constant once unrolled, so the tile never leaves the registers.
#[inline(always)]
fn store_whole<D: Int8, const M: usize>(
    d: D,
    acc: [[<D::S as Simd>::U; NV]; M],
    t: &mut Block<'_>,
    i: usize,
    j: usize,
) {
    let (s, lanes) = (d.simd(), D::S::LANES);
    for v in 0..NV {
        let at = j + v * lanes;
        let step = s.load(&t.steps[at..]);
        let bias = match t.epilogue.bias {
            Some(bias) => s.load(&bias[at..]),
            None => s.splat(0.0),
        };
        for r in 0..M {
            let x = scaled(d, acc[r][v], step, t.a[(i + r) * KS + STEP]);
            let c = &mut t.c[(i + r) * t.rsc + at..][..lanes];
            let x = if t.beta == Beta::One { s.add(s.load(c), x) } else { x };
            s.store(finish(s, x, bias, t.epilogue.relu), c);
        }
    }
}

/// Stores the rows and columns of a tile that there are.
#[inline(always)]
fn store_part<D: Int8, const M: usize>(
    d: D,
    acc: [[<D::S as Simd>::U; NV]; M],
    t: &mut Block<'_>,
    i: usize,
    j: usize,
) {
    let (s, lanes) = (d.simd(), D::S::LANES);
    for r in 0..M {
        if r == t.rows - i {
            return;
        }
        for v in 0..NV {
            let at = j + v * lanes;
            if at >= t.n {
                break;
            }
            let width = lanes.min(t.n - at);
            let step = s.load(&t.steps[at..]);
            let bias = match t.epilogue.bias {
                Some(bias) => s.load_partial(&bias[at..at + width]),
                None => s.splat(0.0),
            };
            let x = scaled(d, acc[r][v], step, t.a[(i + r) * KS + STEP]);
            let c = &mut t.c[(i + r) * t.rsc + at..][..width];
            let x = if t.beta == Beta::One { s.add(s.load_partial(c), x) } else { x };
            s.store_partial(finish(s, x, bias, t.epilogue.relu), c);
        }
    }
}

/// Sums in f32, times the steps of their columns and of their row.
#[inline(always)]
fn scaled<D: Int8>(d: D, sums: <D::S as Simd>::U, steps: <D::S as Simd>::V, row: f32) -> <D::S as Simd>::V {
    let s = d.simd();
    s.mul(d.to_f32(sums), s.mul(steps, s.splat(row)))
}

/// Bias and ReLU.
#[inline(always)]
fn finish<S: Simd>(s: S, x: S::V, bias: S::V, relu: bool) -> S::V {
    let (x, zero) = (s.add(x, bias), s.splat(0.0));
    // Not max: a NaN must stay NaN.
    if relu { s.select(s.gt(zero, x), zero, x) } else { x }
}
