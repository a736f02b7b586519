//! The vector bodies: one vector of elements at a time, constants shared with the reference.
//!
//! Deviation from the reference: exp, tanh and erf are those of [`crate::vmath`], with the errors stated there.

use super::Activation;
use super::reference::{CUBIC, NORMAL_PEAK, SQRT_2_OVER_PI};
use crate::isa::{Simd, Task};
use crate::{Beta, GradMut, vmath};

/// f(x) and f'(x) of every lane; the constants are the reference's.
#[inline(always)]
pub(super) fn value_and_slope<S: Simd>(s: S, kind: Activation, x: S::V) -> (S::V, S::V) {
    let (zero, one, half) = (s.splat(0.0), s.splat(1.0), s.splat(0.5));
    match kind {
        Activation::Relu => (s.select(s.gt(zero, x), zero, x), s.select(s.gt(x, zero), one, zero)),
        Activation::Gelu => {
            let z = s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2));
            let cdf = s.mul(half, s.add(one, vmath::erf(s, z)));
            let density = s.mul(s.splat(NORMAL_PEAK as f32), vmath::exp(s, s.neg(s.mul(s.mul(half, x), x))));
            (s.mul(x, cdf), s.fma(x, density, cdf))
        }
        Activation::GeluTanh => {
            let (peak, cubic) = (s.splat(SQRT_2_OVER_PI as f32), s.splat(CUBIC as f32));
            let cx2 = s.mul(s.mul(cubic, x), x);
            let t = vmath::tanh(s, s.mul(peak, s.fma(cx2, x, x)));
            let du = s.mul(peak, s.fma(s.splat(3.0), cx2, one));
            let gate = s.mul(half, s.add(one, t));
            let fall = s.sub(one, s.mul(t, t));
            (s.mul(x, gate), s.fma(s.mul(s.mul(half, x), fall), du, gate))
        }
        Activation::Sigmoid => {
            let y = vmath::sigmoid(s, x);
            (y, s.mul(y, s.sub(one, y)))
        }
        Activation::Tanh => {
            let y = vmath::tanh(s, x);
            (y, s.sub(one, s.mul(y, y)))
        }
    }
}

pub(super) struct Forward<'a> {
    pub(super) kind: Activation,
    pub(super) x: &'a [f32],
    pub(super) y: &'a mut [f32],
}

impl Task for Forward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let body = self.x.len() - self.x.len() % S::LANES;
        let (x, x_tail) = self.x.split_at(body);
        let (y, y_tail) = self.y.split_at_mut(body);
        for (x, y) in x.chunks_exact(S::LANES).zip(y.chunks_exact_mut(S::LANES)) {
            s.store(value_and_slope(s, self.kind, s.load(x)).0, y);
        }
        s.store_partial(value_and_slope(s, self.kind, s.load_partial(x_tail)).0, y_tail);
    }
}

pub(super) struct Backward<'a> {
    pub(super) kind: Activation,
    pub(super) x: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) dx: GradMut<'a, f32>,
}

impl Task for Backward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let add = self.dx.beta == Beta::One;
        let body = self.x.len() - self.x.len() % S::LANES;
        let (x, x_tail) = self.x.split_at(body);
        let (dy, dy_tail) = self.dy.split_at(body);
        let (dx, dx_tail) = self.dx.data.split_at_mut(body);
        let vectors =
            x.chunks_exact(S::LANES).zip(dy.chunks_exact(S::LANES)).zip(dx.chunks_exact_mut(S::LANES));
        for ((x, dy), dx) in vectors {
            let g = s.mul(s.load(dy), value_and_slope(s, self.kind, s.load(x)).1);
            s.store(if add { s.add(s.load(dx), g) } else { g }, dx);
        }
        let g = s.mul(s.load_partial(dy_tail), value_and_slope(s, self.kind, s.load_partial(x_tail)).1);
        s.store_partial(if add { s.add(s.load_partial(dx_tail), g) } else { g }, dx_tail);
    }
}
