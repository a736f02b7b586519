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
//! * *Dot products* ([`Isa::bf16_dot`]): panels hold two neighbours along k in the two halves of a word (`words.rs`),
//!   and the micro-kernel's multiply-add is `vdpbf16ps` (AVX512-BF16), which adds two products to each lane: half the
//!   bytes, half the steps. AMD's Zen 4 and Zen 5 issue it as often as an FMA (measured: 214 against 100 GFLOP/s, and
//!   490 against 267), Intel's Emerald Rapids at a quarter of that (92 against 180), so it is used on AMD's only.
//! * *Rounded panels*: elsewhere the rounded operands stay f32 in the panels, and the f32 micro-kernel runs on them, at
//!   its own speed but for the rounding in the copies.
//! * *In place*: products with few rows or columns (`small.rs`) round what they read, on any CPU.
//!
//! So a program means the same on every CPU. The bodies differ in the last bits of their sums: `vdpbf16ps` takes
//! subnormal operands and results as 0, as does the conversion that makes the words (an error of at most
//! k 2^-126 max(1, |a|, |b|)), and adds the two products of a pair in an order of its own.
//!
//! **f64.** The precision is a property of f32 programs: a product of f64 ignores it, so that the derivatives of a
//! program can be checked in f64.
//!
//! **Elsewhere**: attention has products of its own, in bf16 too ([`crate::attention`]). **Not in bf16**: convolutions (the
//! long ones have few products left in the frequency domain, the others are a small part of a model; not tried) and
//! attention with absorbed projections (few queries, bound by reading the rows that they attend to, which are f32).

use super::Epilogue;
use super::blocked;
use super::pack::{Elements, Matrix, Strided};
use super::words::Words;
use crate::isa::Simd;
use crate::{Beta, Isa};
use std::ops::Range;

/// What the operands of a product are rounded to before they are multiplied; sums are f32 in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MatmulPrecision {
    /// Not rounded.
    #[default]
    F32,
    /// Rounded to bfloat16.
    Bf16,
    /// Rounded to 8-bit integers with a scale for each row and each column (`gemm/int8.rs`), in forward passes of linear
    /// and feed-forward layers only; attention takes it for [`MatmulPrecision::Bf16`].
    Int8,
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

/// [`blocked::multiply`] of rounded operands.
pub(crate) fn multiply(
    isa: Isa,
    (m, n, k): (usize, usize, usize),
    a: Strided<'_, f32>,
    b: Strided<'_, f32>,
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
        Some(dot) => {
            let (shape, a, b) = ((m, n, k.div_ceil(2)), Words { x: a, k, dot }, Words { x: b, k, dot });
            blocked::multiply_with(isa, Some(dot), shape, a, b, beta, c, rsc, epilogue, scratch);
        }
    }
}

/// [`blocked::multiply_packed`] of rounded operands, for some columns of B, packed by [`pack`].
pub(crate) fn multiply_packed(
    isa: Isa,
    (m, n, k): (usize, usize, usize),
    a: Strided<'_, f32>,
    packed: (&[f32], Range<usize>),
    beta: Beta,
    c: &mut [f32],
    rsc: usize,
    epilogue: Epilogue<'_, f32>,
    a_pack: &mut [f32],
) {
    match isa.bf16_dot() {
        None => {
            let (shape, a) = ((m, n, k), Elements(Rounded(a)));
            blocked::multiply_packed_with(isa, None, shape, 0, a, packed, beta, c, rsc, epilogue, a_pack);
        }
        Some(dot) => {
            let (shape, a) = ((m, n, k.div_ceil(2)), Words { x: a, k, dot });
            blocked::multiply_packed_with(
                isa,
                Some(dot),
                shape,
                0,
                a,
                packed,
                beta,
                c,
                rsc,
                epilogue,
                a_pack,
            );
        }
    }
}

/// [`blocked::pack`] of a rounded B, for [`multiply_packed`] with the same `isa`.
pub(crate) fn pack(isa: Isa, k: usize, n: usize, b: Strided<'_, f32>, packed: &mut [f32]) {
    match isa.bf16_dot() {
        None => blocked::pack(isa, k, n, Rounded(b), packed),
        Some(dot) => {
            let words = Words { x: b, k, dot };
            blocked::pack_with(isa, (0, 0), k.div_ceil(2), n, words, packed);
        }
    }
}
