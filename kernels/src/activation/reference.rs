//! The loops to study.

use super::Activation;
use crate::{GradMut, Real};

/// sqrt(2 / pi).
pub(super) const SQRT_2_OVER_PI: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
/// 1 / sqrt(2 pi), the height of the normal density.
pub(super) const NORMAL_PEAK: f64 = 0.5 * SQRT_2_OVER_PI;
/// The cubic coefficient of the tanh form (Hendrycks & Gimpel 2016).
pub(super) const CUBIC: f64 = 0.044715;

/// f(x) and f'(x) from one set of constants.
#[inline(always)]
pub(super) fn value_and_slope<T: Real>(kind: Activation, x: T) -> (T, T) {
    let (zero, one, half) = (T::ZERO, T::ONE, T::HALF);
    match kind {
        Activation::Relu => (if x < zero { zero } else { x }, if x > zero { one } else { zero }),
        Activation::Gelu => {
            let cdf = half * (one + (x * T::of(std::f64::consts::FRAC_1_SQRT_2)).erf());
            let density = T::of(NORMAL_PEAK) * (-half * x * x).exp();
            (x * cdf, cdf + x * density)
        }
        Activation::GeluTanh => {
            let (peak, cubic) = (T::of(SQRT_2_OVER_PI), T::of(CUBIC));
            let t = (peak * (x + cubic * x * x * x)).tanh();
            let du = peak * (one + T::of(3.0) * cubic * x * x);
            let gate = half * (one + t);
            (x * gate, gate + half * x * (one - t * t) * du)
        }
        Activation::Sigmoid => {
            // exp of a negative number only: no overflow on either side.
            let e = (-x.abs()).exp();
            let y = if x < zero { e / (one + e) } else { one / (one + e) };
            (y, y * (one - y))
        }
        Activation::Tanh => {
            let y = x.tanh();
            (y, one - y * y)
        }
    }
}

pub(super) fn forward<T: Real>(kind: Activation, x: &[T], y: &mut [T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = value_and_slope(kind, x).0;
    }
}

pub(super) fn backward<T: Real>(kind: Activation, x: &[T], dy: &[T], mut dx: GradMut<'_, T>) {
    for i in 0..x.len() {
        dx.put(i, dy[i] * value_and_slope(kind, x[i]).1);
    }
}
