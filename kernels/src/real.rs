//! [`Real`]: the two precisions, f32 for work and f64 for proofs.

use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

/// A floating-point number the kernels compute in. Implemented for `f32` and `f64` only.
pub trait Real:
    bytemuck::Pod
    + PartialOrd
    + Debug
    + Display
    + Default
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
    + crate::compiled::Compiled
    + sealed::Sealed
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// One half.
    const HALF: Self;
    /// Positive infinity.
    const INFINITY: Self;
    /// Not a number.
    const NAN: Self;
    /// Distance from 1 to the next number.
    const EPSILON: Self;
    /// `"f32"` or `"f64"`.
    const NAME: &'static str;
    /// Whether this is f32. Operations branch on it to reach their vector body: as a constant, so that f64 is compiled
    /// without the vector bodies.
    const IS_F32: bool;

    /// Nearest value to `x`.
    fn of(x: f64) -> Self;
    /// Nearest value to the integer `n`.
    fn of_usize(n: usize) -> Self {
        Self::of(n as f64)
    }
    /// Exact value in f64.
    fn f64(self) -> f64;
    /// e^x.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// ln(1 + x), accurate near 0.
    fn ln_1p(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.
    fn erf(self) -> Self;
    /// Sine.
    fn sin(self) -> Self;
    /// Cosine.
    fn cos(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// The larger of the two; NaN only if both are NaN.
    fn max(self, other: Self) -> Self;
    /// x raised to an integer power.
    fn powi(self, n: i32) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// NaN.
    fn is_nan(self) -> bool;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

macro_rules! real {
    ($t:ident, $is_f32:literal, $erf:expr) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const HALF: Self = 0.5;
            const INFINITY: Self = $t::INFINITY;
            const NAN: Self = $t::NAN;
            const EPSILON: Self = $t::EPSILON;
            const NAME: &'static str = stringify!($t);
            const IS_F32: bool = $is_f32;
            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $t::exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                $t::ln(self)
            }
            #[inline(always)]
            fn ln_1p(self) -> Self {
                $t::ln_1p(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                $t::tanh(self)
            }
            #[inline(always)]
            fn erf(self) -> Self {
                $erf(self as f64) as $t
            }
            #[inline(always)]
            fn sin(self) -> Self {
                $t::sin(self)
            }
            #[inline(always)]
            fn cos(self) -> Self {
                $t::cos(self)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $t::abs(self)
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                $t::max(self, other)
            }
            #[inline(always)]
            fn powi(self, n: i32) -> Self {
                $t::powi(self, n)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $t::is_finite(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                $t::is_nan(self)
            }
        }
    };
}

real!(f32, true, erf);
real!(f64, false, erf);

/// erf(x) to about 1e-15: the Maclaurin series below 2.5, the continued fraction of erfc above
/// (Abramowitz & Stegun 7.1.6 and 7.1.14). It is the oracle of the vector versions and the f64 value in gradient checks.
fn erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let a = x.abs();
    let value = if a < 2.5 {
        // 7.1.6: erf x = 2/sqrt(pi) exp(-x^2) sum 2^n x^(2n+1) / (1 3 5 .. (2n+1)), all terms positive.
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            sum += term;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-a * a).exp() * sum
    } else if a < 6.0 {
        // 7.1.14, evaluated from the tail: erfc x = exp(-x^2)/sqrt(pi) / (x + (1/2)/(x + 1/(x + (3/2)/(x + ...)))).
        let mut t = a;
        for k in (1..=60).rev() {
            t = a + 0.5 * f64::from(k) / t;
        }
        1.0 - 0.5 * std::f64::consts::FRAC_2_SQRT_PI * (-a * a).exp() / t
    } else {
        1.0
    };
    value.copysign(x)
}

/// Casts a slice whose element type is known to be the same (`T` is f32 and so is `U`, or both f64).
///
/// # Panics
/// If the sizes of `T` and `U` differ.
#[inline(always)]
pub fn same<T: Real, U: Real>(x: &[T]) -> &[U] {
    bytemuck::cast_slice(x)
}

/// As [`same`], mutable.
#[inline(always)]
pub fn same_mut<T: Real, U: Real>(x: &mut [T]) -> &mut [U] {
    bytemuck::cast_slice_mut(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_has_the_tabulated_values() {
        // Abramowitz & Stegun table 7.1 and DLMF 7.23, 15 digits.
        for (x, y) in [
            (0.0, 0.0),
            (0.1, 0.112_462_916_018_284_9),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (3.0, 0.999_977_909_503_001_4),
        ] {
            assert!((erf(x) - y).abs() < 2e-15, "erf({x}) = {}, table {y}", erf(x));
            assert!((erf(-x) + y).abs() < 2e-15);
        }
        assert_eq!(erf(10.0), 1.0);
        assert!(erf(f64::NAN).is_nan());
    }

    #[test]
    fn erf_is_continuous_where_the_methods_meet() {
        for x in [2.5, 6.0] {
            assert!((erf(x - 1e-12) - erf(x + 1e-12)).abs() < 1e-14);
        }
    }
}
