//! Activations: functions applied to every element, each with its value and its slope.
//!
//! | kind | value f(x) | slope f'(x) |
//! |---|---|---|
//! | ReLU | max(x, 0) | 1 for x > 0, else 0 |
//! | GELU | x Phi(x), Phi(x) = (1 + erf(x / sqrt 2)) / 2 | Phi(x) + x phi(x), phi(x) = exp(-x^2 / 2) / sqrt(2 pi) |
//! | GELU, tanh form | x (1 + t) / 2, t = tanh(u), u = sqrt(2 / pi) (x + 0.044715 x^3) | (1 + t) / 2 + x (1 - t^2) u'(x) / 2 |
//! | sigmoid | 1 / (1 + exp(-x)) | f (1 - f) |
//! | tanh | tanh(x) | 1 - f^2 |
//!
//! Nothing is saved: the slope is a function of x. Cost per element: one read and one write forward, two reads and one
//! write backward; one `exp` for sigmoid and tanh, an `erf` (and for the slope an `exp`) for GELU.
//!
//! Numerics: NaN gives NaN (ReLU: value NaN, slope 0). Sigmoid and tanh saturate without overflow. GELU multiplies x by
//! a probability that underflows to 0, so it is NaN at -inf, as its slope is at both infinities. The slope of the tanh
//! form holds for |x| < 1e12 in f32, where x^3 is finite.
//!
//! Sources: ReLU, Nair & Hinton 2010; both GELU forms, Hendrycks & Gimpel 2016 (arXiv:1606.08415).

mod reference;
mod simd;
#[cfg(test)]
mod tests;

use crate::isa::Simd;
use crate::real::{same, same_mut};
use crate::{GradMut, Isa, Real, contract};

/// A function applied to every element.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// x Phi(x), with the exact normal distribution function Phi.
    Gelu,
    /// GELU with Phi approximated by a tanh.
    GeluTanh,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// Every kind, for tests and tables.
    pub const ALL: [Activation; 5] =
        [Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Sigmoid, Activation::Tanh];
}

/// f(x) and f'(x). Where only one is used, the compiler drops the other's work.
#[inline(always)]
pub fn value_and_slope<T: Real>(kind: Activation, x: T) -> (T, T) {
    reference::value_and_slope(kind, x)
}

/// f(x) and f'(x) of every lane.
#[inline(always)]
pub(crate) fn value_and_slope_of<S: Simd>(s: S, kind: Activation, x: S::V) -> (S::V, S::V) {
    simd::value_and_slope(s, kind, x)
}

crate::compiled::compiled! {
    /// y = f(x), element by element.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn forward<T>(isa: Isa, kind: Activation, x: &[T], y: &mut [T]) as ForwardEntry {
        contract::len("activation", "y", x.len(), y.len());
        if T::IS_F32 {
            isa.run(simd::Forward { kind, x: same(x), y: same_mut(y) });
        } else {
            reference::forward(kind, x, y);
        }
    }
}

crate::compiled::compiled! {
    /// dx = f'(x) dy, element by element; `dx` is overwritten or added to.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn backward<T>(isa: Isa, kind: Activation, x: &[T], dy: &[T], dx: GradMut<'_, T>) as BackwardEntry {
        contract::len("activation backward", "dy", x.len(), dy.len());
        contract::len("activation backward", "dx", x.len(), dx.data.len());
        if T::IS_F32 {
            let dx = GradMut { data: same_mut(dx.data), beta: dx.beta };
            isa.run(simd::Backward { kind, x: same(x), dy: same(dy), dx });
        } else {
            reference::backward(kind, x, dy, dx);
        }
    }
}
