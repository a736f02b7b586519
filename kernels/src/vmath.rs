//! Elementary functions over vectors, with domain and worst error stated and tested.
//!
//! Errors are against the correctly rounded f64 value, over every f32 of the stated domain (`#[ignore]`d exhaustive
//! tests; the default tests sample it).

use crate::isa::Simd;

/// e^x. Domain: all floats; below -87.33 the result is 0 (no subnormals), above 88.72 it is +inf, NaN stays NaN.
///
/// Method: n = round(x / ln 2), r = x - n ln 2 in two parts (|r| <= 0.347), a degree-6 polynomial for e^r, times 2^n.
/// ln 2 is split so that n times its high part is exact (Cody & Waite 1980).
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    const LN2_HIGH: f32 = 0.693_359_375; // 355/512: nine bits, so n * LN2_HIGH is exact
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Outside [-87.33, 88.72] the result saturates; NaN passes the clamp by the selects at the end.
    let clamped = s.min(s.max(x, s.splat(-87.336_54)), s.splat(88.722_83));
    let n = s.round(s.mul(clamped, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-LN2_HIGH), clamped);
    let r = s.fma(n, s.splat(-LN2_LOW), r);
    // Taylor coefficients 1/k!, k = 7..2: the truncation error at |r| = 0.347 is 5e-9 relative, below 2^-27.
    let mut p = s.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        p = s.fma(p, r, s.splat(c));
    }
    let p = s.add(s.fma(s.mul(p, r), r, r), s.splat(1.0));
    // 2^n in two factors, as n = 128 would leave the exponent range.
    let half = s.round(s.mul(n, s.splat(0.5)));
    let y = s.mul(s.mul(p, s.pow2i(half)), s.pow2i(s.sub(n, half)));
    let y = s.select(s.gt(s.splat(-87.336_54), x), s.splat(0.0), y);
    let y = s.select(s.gt(x, s.splat(88.722_83)), s.splat(f32::INFINITY), y);
    // gt is false for NaN, so "neither x > -inf nor -inf >= x" is NaN: x - x + y is NaN for NaN and untouched otherwise.
    s.select(
        s.gt(s.splat(f32::INFINITY), s.abs(x)),
        y,
        s.select(s.gt(s.abs(x), s.splat(f32::MAX)), y, s.add(x, x)),
    )
}
