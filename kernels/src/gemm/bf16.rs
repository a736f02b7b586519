//! Products of operands rounded to bfloat16 (8 significant bits, the exponents of f32), accumulated in f32.
//!
//! **Formula.** C = act(r(A) r(B) + bias + beta C), r rounding to the nearest bf16, ties to even; a NaN stays a NaN, and
//! beyond the largest bf16 lies infinity. Everything else (bias, sums, results) is f32. The reference is
//! [`super::gemm_reference`] on rounded operands.
//!
//! **Accuracy.** r(x) = x (1 + d), |d| <= 2^-8 (but for numbers near f32's smallest), so rounding moves a sum by at most
//! 2^-7 (1 + 2^-9) sum_p |a_p b_p|: 0.8 % of the terms' magnitude, and far less where their errors are independent. A
//! product of two bf16 has 16 significant bits and is exact in f32, so beyond that only sums err, by k + 4 units of f32
//! rounding of sum_p |a_p b_p| at most. Both are tested.
//!
//! **Three bodies** compute it:
//!
//! * *Dot products* ([`Isa::bf16_dot`]): panels hold two neighbours along k in the two halves of a word
//!   ([`PairsAlong`], [`PairsAcross`]), and the micro-kernel's multiply-add is `vdpbf16ps` (AVX512-BF16), which adds two
//!   products to each lane: half the bytes, half the steps. AMD's Zen 4 issues it as often as an FMA (measured: 214
//!   against 100 GFLOP/s), Intel's Emerald Rapids at a quarter of that (92 against 180), so it is used on AMD's only.
//! * *Rounded panels*: elsewhere the rounded operands stay f32 in the panels, and the f32 micro-kernel runs on them, at
//!   its own speed but for the rounding in the copies.
//! * *In place*: products with few rows or columns (`small.rs`) round what they read, on any CPU.
//!
//! So a program means the same on every CPU. The bodies differ in the last bits of their sums: `vdpbf16ps` takes
//! subnormal operands and results as 0 (an error of at most k 2^-126 max(1, |a|, |b|)), and adds the two products of a
//! pair in an order of its own.
//!
//! **f64.** The precision is a property of f32 programs: a product of f64 ignores it, so that the derivatives of a
//! program can be checked in f64.
//!
//! **Elsewhere**: attention has products of its own, in bf16 too ([`crate::attention`]). **Not in bf16**: convolutions (in
//! the frequency domain the small coefficients would drown in the rounding of the large ones; the direct ones that are
//! left are a small part of a model) and attention with absorbed projections (few queries, bound by reading the rows that
//! they attend to, which are f32).

use super::Epilogue;
use super::blocked;
use super::pack::Matrix;
use crate::isa::Simd;
use crate::{Beta, Isa};

/// What the operands of a product are rounded to before they are multiplied; sums are f32 in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MatmulPrecision {
    /// Not rounded.
    #[default]
    F32,
    /// Rounded to bfloat16.
    Bf16,
}

/// The upper half of the word is x rounded to bf16.
#[inline(always)]
fn rounded_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    // Half a unit in the last place less one, and one more where the last place is odd: ties go to even. A carry out of
    // the mantissa is the next power of two, or infinity.
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // The largest NaNs would wrap around; a NaN keeps its upper bits and becomes quiet.
    if bits & 0x7fff_ffff > 0x7f80_0000 { bits | 0x0040_0000 } else { nearest }
}

/// x rounded to bfloat16.
#[inline(always)]
pub fn round_to_bf16(x: f32) -> f32 {
    f32::from_bits(rounded_bits(x) & 0xffff_0000)
}

/// [`round_to_bf16`] of every lane.
#[inline(always)]
pub(crate) fn round<S: Simd>(s: S, x: S::V) -> S::V {
    let bits = s.to_bits(x);
    let odd = s.and_u32(s.shr_u32::<16>(bits), s.splat_u32(1));
    let nearest = s.from_bits(s.add_u32(bits, s.add_u32(odd, s.splat_u32(0x7fff))));
    let nan = s.lt_u31(s.splat_u32(0x7f80_0000), s.and_u32(bits, s.splat_u32(0x7fff_ffff)));
    let quiet = s.from_bits(s.or_u32(bits, s.splat_u32(0x0040_0000)));
    s.from_bits(s.and_u32(s.to_bits(s.select(nan, quiet, nearest)), s.splat_u32(0xffff_0000)))
}

/// Two bf16 in one word, the first in the lower half.
#[inline(always)]
fn pair(first: f32, second: f32) -> f32 {
    f32::from_bits(rounded_bits(first) >> 16 | rounded_bits(second) & 0xffff_0000)
}

/// A matrix whose elements are rounded when they are copied.
#[derive(Clone, Copy)]
struct Rounded<M>(M);

impl<M: Matrix<f32>> Matrix<f32> for Rounded<M> {
    #[inline(always)]
    fn along_row(&self, row: usize, col: usize, out: &mut [f32]) {
        self.0.along_row(row, col, out);
        for x in out {
            *x = round_to_bf16(*x);
        }
    }
    #[inline(always)]
    fn along_column(&self, row: usize, col: usize, out: &mut [f32]) {
        self.0.along_column(row, col, out);
        for x in out {
            *x = round_to_bf16(*x);
        }
    }
    #[inline(always)]
    fn piece<const N: usize>(&self, row: usize, col: usize) -> [f32; N] {
        let mut piece = self.0.piece(row, col);
        for x in &mut piece {
            *x = round_to_bf16(*x);
        }
        piece
    }
    #[inline(always)]
    fn by_columns(&self) -> bool {
        self.0.by_columns()
    }
}

/// Words made at a time.
const RUN: usize = 64;

/// Words of pairs that lie one after the other along the line that is read: `read(at, out)` copies elements from `at`.
#[inline(always)]
fn along(k: usize, at: usize, out: &mut [f32], read: impl Fn(usize, &mut [f32])) {
    let mut run = [0.0; 2 * RUN];
    for (i, out) in out.chunks_mut(RUN).enumerate() {
        let from = 2 * (at + i * RUN);
        let there = (2 * out.len()).min(k - from);
        read(from, &mut run[..there]);
        // The last element of an odd k is paired with 0.
        run[there..2 * out.len()].fill(0.0);
        for (out, x) in out.iter_mut().zip(run.as_chunks::<2>().0) {
            *out = pair(x[0], x[1]);
        }
    }
}

/// Words of pairs that lie in two lines: `read(line, at, out)` copies elements from `at` of a line.
#[inline(always)]
fn across(k: usize, line: usize, out: &mut [f32], read: impl Fn(usize, usize, &mut [f32])) {
    let (mut first, mut second) = ([0.0; RUN], [0.0; RUN]);
    for (i, out) in out.chunks_mut(RUN).enumerate() {
        let n = out.len();
        read(2 * line, i * RUN, &mut first[..n]);
        if 2 * line + 1 < k {
            read(2 * line + 1, i * RUN, &mut second[..n]);
        }
        for (out, (&a, &b)) in out.iter_mut().zip(first.iter().zip(&second)) {
            *out = pair(a, b);
        }
    }
}

/// A `[m, k]` as words `[m, k / 2]`: pairs along its rows.
#[derive(Clone, Copy)]
struct PairsAlong<M> {
    a: M,
    k: usize,
}

impl<M: Matrix<f32>> Matrix<f32> for PairsAlong<M> {
    #[inline(always)]
    fn along_row(&self, row: usize, col: usize, out: &mut [f32]) {
        along(self.k, col, out, |at, out| self.a.along_row(row, at, out));
    }
    #[inline(always)]
    fn along_column(&self, row: usize, col: usize, out: &mut [f32]) {
        across(self.k, col, out, |line, at, out| self.a.along_column(row + at, line, out));
    }
    #[inline(always)]
    fn piece<const N: usize>(&self, row: usize, col: usize) -> [f32; N] {
        let first = self.a.piece::<N>(row, 2 * col);
        let second = if 2 * col + 1 < self.k { self.a.piece::<N>(row, 2 * col + 1) } else { [0.0; N] };
        std::array::from_fn(|i| pair(first[i], second[i]))
    }
    #[inline(always)]
    fn by_columns(&self) -> bool {
        self.a.by_columns()
    }
}

/// B `[k, n]` as words `[k / 2, n]`: pairs down its columns.
#[derive(Clone, Copy)]
struct PairsAcross<M> {
    b: M,
    k: usize,
}

impl<M: Matrix<f32>> Matrix<f32> for PairsAcross<M> {
    #[inline(always)]
    fn along_row(&self, row: usize, col: usize, out: &mut [f32]) {
        across(self.k, row, out, |line, at, out| self.b.along_row(line, col + at, out));
    }
    #[inline(always)]
    fn along_column(&self, row: usize, col: usize, out: &mut [f32]) {
        along(self.k, row, out, |at, out| self.b.along_column(at, col, out));
    }
    #[inline(always)]
    fn by_columns(&self) -> bool {
        self.b.by_columns()
    }
}

/// [`blocked::multiply`] of rounded operands.
pub(crate) fn multiply(
    isa: Isa,
    (m, n, k): (usize, usize, usize),
    a: impl Matrix<f32>,
    b: impl Matrix<f32>,
    beta: Beta,
    c: &mut [f32],
    rsc: usize,
    epilogue: Epilogue<'_, f32>,
    scratch: &mut [f32],
) {
    match isa.bf16_dot() {
        None => {
            let (a, b) = (Rounded(a), Rounded(b));
            blocked::multiply(isa, (m, n, k), a, b, beta, c, rsc, epilogue, scratch);
        }
        dot => {
            let (shape, a, b) = ((m, n, k.div_ceil(2)), PairsAlong { a, k }, PairsAcross { b, k });
            blocked::multiply_with(isa, dot, shape, a, b, beta, c, rsc, epilogue, scratch);
        }
    }
}

/// [`blocked::multiply_packed`] of rounded operands, B packed by [`pack`].
pub(crate) fn multiply_packed(
    isa: Isa,
    (m, n, k): (usize, usize, usize),
    a: impl Matrix<f32>,
    packed: &[f32],
    beta: Beta,
    c: &mut [f32],
    rsc: usize,
    epilogue: Epilogue<'_, f32>,
    a_pack: &mut [f32],
) {
    match isa.bf16_dot() {
        None => {
            let a = Rounded(a);
            blocked::multiply_packed(isa, (m, n, k), a, packed, beta, c, rsc, epilogue, a_pack);
        }
        dot => {
            let (shape, a) = ((m, n, k.div_ceil(2)), PairsAlong { a, k });
            blocked::multiply_packed_with(isa, dot, shape, a, packed, beta, c, rsc, epilogue, a_pack);
        }
    }
}

/// [`blocked::pack`] of a rounded B, for [`multiply_packed`] with the same `isa`.
pub(crate) fn pack(isa: Isa, k: usize, n: usize, b: impl Matrix<f32>, packed: &mut [f32]) {
    match isa.bf16_dot() {
        None => blocked::pack(isa, k, n, Rounded(b), packed),
        Some(_) => blocked::pack(isa, k.div_ceil(2), n, PairsAcross { b, k }, packed),
    }
}
