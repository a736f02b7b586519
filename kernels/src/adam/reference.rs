//! The Adam loop. It is the only spelling: compiled for each instruction set, it vectorises as it stands.

use super::Adam;
use crate::Real;
use crate::isa::{Simd, Task};

/// What is the same for every element, computed in f64 and rounded once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalars<T> {
    grad_scale: T,
    /// weight_decay if it goes through the gradient.
    l2: Option<T>,
    /// 1 - lr weight_decay, or 1.
    shrink: T,
    /// 1 - beta1.
    weight: T,
    beta2: T,
    /// 1 - beta2.
    weight2: T,
    /// sqrt(1 - beta2^t).
    root: T,
    eps: T,
    /// -lr / (1 - beta1^t).
    stride: T,
}

impl<T: Real> Scalars<T> {
    pub(crate) fn new(adam: &Adam, t: u64, grad_scale: f64) -> Self {
        // Beyond 2^31 steps beta^t is 0 in f64 for every beta that is not 1 to nine digits.
        let t = i32::try_from(t).unwrap_or(i32::MAX);
        let correction1 = 1.0 - adam.beta1.powi(t);
        let correction2 = 1.0 - adam.beta2.powi(t);
        let decay = adam.weight_decay;
        Self {
            grad_scale: T::of(grad_scale),
            l2: (!adam.decoupled && decay != 0.0).then(|| T::of(decay)),
            shrink: if adam.decoupled { T::of(1.0 - adam.learning_rate * decay) } else { T::ONE },
            weight: T::of(1.0 - adam.beta1),
            beta2: T::of(adam.beta2),
            weight2: T::of(1.0 - adam.beta2),
            root: T::of(correction2.sqrt()),
            eps: T::of(adam.eps),
            stride: T::of(-(adam.learning_rate / correction1)),
        }
    }
}

/// One step over all elements.
pub(crate) struct Step<'a, T> {
    pub(crate) scalars: Scalars<T>,
    pub(crate) params: &'a mut [T],
    pub(crate) grads: &'a [T],
    pub(crate) m: &'a mut [T],
    pub(crate) v: &'a mut [T],
}

impl<T: Real> Task for Step<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Scalars { grad_scale, l2, shrink, weight, beta2, weight2, root, eps, stride } = self.scalars;
        let elements = self.params.iter_mut().zip(self.grads).zip(self.m).zip(self.v);
        for (((p, &g), m), v) in elements {
            let g = g * grad_scale;
            let g = match l2 {
                Some(decay) => g + decay * *p,
                None => g,
            };
            let shrunk = *p * shrink;
            *m = lerp(*m, g, weight);
            *v = *v * beta2 + weight2 * g * g;
            let denominator = v.sqrt() / root + eps;
            *p = shrunk + stride * *m / denominator;
        }
    }
}

/// From `a` towards `b`, written from the nearer end (as PyTorch's lerp: weight 1 gives `b` exactly).
#[inline(always)]
fn lerp<T: Real>(a: T, b: T, weight: T) -> T {
    if weight < T::HALF { a + weight * (b - a) } else { b - (b - a) * (T::ONE - weight) }
}
