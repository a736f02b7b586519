//! Elementary functions over vectors, with domain and worst error stated and tested.
//!
//! Errors are in units in the last place (ULP) of the exact value in f32. The worst ones below were measured over every
//! f32 of the domain (`exhaustive_*` in the tests, ignored by default) on the portable token, which rounds multiply-adds
//! twice, and on AVX-512; AVX2 gives the bits of AVX-512.
//! For tanh the fused run is still open. "Sampled": one float in 23 between 2^-7 and 16 and one in 397 elsewhere. The default
//! tests hold a bound on a sample.
//!
//! | function | domain | worst error, portable | worst error, fused |
//! |---|---|---|---|
//! | [`exp`] | all; below -86.9 the result is 0, above 88.72283 it is +inf | 1.025 ULP | 1.059 ULP |
//! | [`exp_nonpositive`] | -87.33654 (2^-126) to 0.5; below, 0 or less than 2^-126 | 1.176 ULP | 0.882 ULP |
//! | [`exp2_nonpositive`] | -126 to 0.5; from -126.5 down 0 | 2.290 ULP | 2.037 ULP |
//! | [`exp2_bounded`] | -126 to 126 | 2.290 ULP | 2.037 ULP |
//! | [`tanh`] | all | 2.424 ULP | 2.39 ULP (sampled) |
//! | [`sigmoid`] | all; below -88.72283 the result is 0 | 2.481 ULP | 2.481 ULP |
//! | [`erf`] | all | 1.471 ULP | 1.148 ULP |
//!
//! NaN gives NaN everywhere: comparisons with NaN are false, and every selection is written so that false takes the
//! arithmetic branch, where NaN stays NaN.

use crate::isa::Simd;

#[cfg(test)]
mod tests;

const LN2_HIGH: f32 = 355.0 / 512.0; // nine bits, so n * LN2_HIGH is exact
const LN2_LOW: f32 = -2.121_944_4e-4;

/// x = n ln 2 + r with integral n and |r| <= 0.347 (Cody & Waite 1980): ln 2 is split so that n times its high part is
/// exact.
#[inline(always)]
fn reduce<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-LN2_HIGH), x);
    (n, s.fma(n, s.splat(-LN2_LOW), r))
}

/// e^r - 1 for |r| <= 0.347: the Taylor polynomial of degree 7, truncation below 2^-27 relative.
#[inline(always)]
fn expm1_near_zero<S: Simd>(s: S, r: S::V) -> S::V {
    let mut p = s.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        p = s.fma(p, r, s.splat(c));
    }
    s.fma(s.mul(r, r), p, r)
}

/// e^x. Below -86.9 the result is 0 (so no subnormals appear), above 88.72283 (one step below ln f32::MAX) it is +inf.
///
/// Method: n = round(x / ln 2), r = x - n ln 2, e^x = 2^n e^r.
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    const LOW: f32 = -86.9; // n >= -125, so 2^(n-1) is normal
    const HIGH: f32 = 88.722_83;
    let (n, r) = reduce(s, x);
    let p = s.add(expm1_near_zero(s, r), s.splat(1.0));
    // 2^n p as 2^(n-1) (2 p), as n = 128 is outside the exponent range.
    let y = s.mul(s.add(p, p), s.pow2i(s.sub(n, s.splat(1.0))));
    // Outside the range the arithmetic above gave rubbish; NaN fails both comparisons and went through it.
    let y = s.select(s.gt(s.splat(LOW), x), s.splat(0.0), y);
    s.select(s.gt(x, s.splat(HIGH)), s.splat(f32::INFINITY), y)
}

/// e^x for x <= 0, with fewer instructions than [`exp`]. From -87.68 down the result is 0; above 0.5 (up to 88) it is
/// good but not tested.
///
/// Method: as [`exp`]; adding 1.5 2^23 + 127 rounds x / ln 2 to the integer n and leaves n + 127 in the low bits, which
/// shifted up are 2^n, and 0 for n = -127. e^r is 1 + r + r^2 P(r), P a minimax fit with a relative error of e^r below
/// 4e-9.
#[inline(always)]
pub fn exp_nonpositive<S: Simd>(s: S, x: S::V) -> S::V {
    const MAGIC: f32 = 12_582_912.0 + 127.0;
    const P: [f32; 5] = [1.381_422_2e-3, 8.368_899e-3, 4.166_840_4e-2, 1.666_652e-1, 0.499_999_94];
    // NaN as the second operand stays.
    let x = s.max(s.splat(-88.0), x);
    let t = s.fma(x, s.splat(std::f32::consts::LOG2_E), s.splat(MAGIC));
    let n = s.sub(t, s.splat(MAGIC));
    let r = s.fma(n, s.splat(-LN2_HIGH), x);
    let r = s.fma(n, s.splat(-LN2_LOW), r);
    let one = s.splat(1.0);
    let e = s.fma(s.fma(horner(s, r, P), r, one), r, one);
    s.mul(e, s.from_bits(s.shl_u32::<23>(s.to_bits(t))))
}

/// 2^r for |r| <= 1/2: 1 + r P(r), P a minimax fit with a relative error of 2^r below 1.1e-7.
#[inline(always)]
fn exp2_near_zero<S: Simd>(s: S, r: S::V) -> S::V {
    #[allow(clippy::approx_constant, reason = "the fit's coefficient, not ln 2")]
    const P: [f32; 5] = [1.326_459_1e-3, 9.671_619e-3, 5.550_735e-2, 2.402_224_1e-1, 6.931_47e-1];
    s.fma(horner(s, r, P), r, s.splat(1.0))
}

/// 2^x for x <= 0. From -126.5 down the result is 0.
///
/// Method: adding 1.5 2^23 + 127 rounds x to the integer n and leaves n + 127 in the low bits, which shifted up are 2^n,
/// and 0 for n = -127.
#[inline(always)]
pub fn exp2_nonpositive<S: Simd>(s: S, x: S::V) -> S::V {
    const MAGIC: f32 = 12_582_912.0 + 127.0;
    // NaN as the second operand stays.
    let x = s.max(s.splat(-127.0), x);
    let t = s.add(x, s.splat(MAGIC));
    let r = s.sub(x, s.sub(t, s.splat(MAGIC)));
    s.mul(exp2_near_zero(s, r), s.from_bits(s.shl_u32::<23>(s.to_bits(t))))
}

/// 2^x for |x| <= 126: as [`exp2_nonpositive`], but n is added to the exponent.
#[inline(always)]
pub fn exp2_bounded<S: Simd>(s: S, x: S::V) -> S::V {
    const MAGIC: f32 = 12_582_912.0;
    let t = s.add(x, s.splat(MAGIC));
    let r = s.sub(x, s.sub(t, s.splat(MAGIC)));
    let n = s.shl_u32::<23>(s.to_bits(t));
    s.from_bits(s.add_u32(s.to_bits(exp2_near_zero(s, r)), n))
}

/// tanh(x) = sign(x) e / (e + 2) with e = exp(2 |x|) - 1, which keeps its relative accuracy near 0.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    // tanh(10) rounds to 1; the comparison keeps NaN.
    let a = s.abs(x);
    let a = s.select(s.gt(a, s.splat(10.0)), s.splat(10.0), a);
    let (n, r) = reduce(s, s.add(a, a));
    let scale = s.pow2i(n);
    let e = s.fma(scale, expm1_near_zero(s, r), s.sub(scale, s.splat(1.0)));
    s.copysign(s.div(e, s.add(e, s.splat(2.0))), x)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let one = s.splat(1.0);
    s.div(one, s.add(one, exp(s, s.neg(x))))
}

/// erf(x) = 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x.
///
/// Method: x + x P(x^2) below 1, 1 - exp(-Q(|x|)) up to 4, where it rounds to 1. P and Q are minimax fits (Lawson's
/// iteration on erf(x) / x - 1 and -ln erfc(x)) with relative errors of erf of 1.3e-9 and 1.1e-9.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    const P: [f32; 7] = [
        7.853_884e-5,
        -8.010_201e-4,
        5.188_328_6e-3,
        -2.685_381_3e-2,
        1.128_358_5e-1,
        -3.761_262_6e-1,
        1.283_791_7e-1,
    ];
    const Q: [f32; 7] = [
        -1.863_791_9e-4,
        2.947_658_3e-3,
        -2.183_806_4e-2,
        1.031_067_5e-1,
        6.381_448_3e-1,
        1.127_089_2,
        3.415_230_3e-4,
    ];
    let a = s.abs(x);
    let a = s.select(s.gt(a, s.splat(4.0)), s.splat(4.0), a);
    let t = s.mul(x, x);
    let small = s.fma(x, horner(s, t, P), x);
    let large = s.sub(s.splat(1.0), exp(s, s.neg(horner(s, a, Q))));
    s.select(s.gt(s.splat(1.0), a), small, s.copysign(large, x))
}

/// The polynomial with these coefficients, highest power first.
#[inline(always)]
fn horner<S: Simd, const N: usize>(s: S, x: S::V, coefficients: [f32; N]) -> S::V {
    let mut p = s.splat(coefficients[0]);
    for c in &coefficients[1..] {
        p = s.fma(p, x, s.splat(*c));
    }
    p
}
