//! Loops over one, two or three slices, compiled for the instruction set that runs them.
//!
//! The bodies use no vector token: inside [`Isa::run`](crate::Isa::run) the compiler vectorises them with the set's own
//! registers. It may not reorder or fuse floating-point operations, so the bits are the same everywhere.

use crate::isa::{Simd, Task};
use crate::{Beta, GradMut, Real};

/// out = f(x), or out += f(x). The slices have one length (checked by the caller).
pub(crate) struct Map1<'a, T, F> {
    pub(crate) x: &'a [T],
    pub(crate) out: GradMut<'a, T>,
    pub(crate) f: F,
}

impl<T: Real, F: Fn(T) -> T> Task for Map1<'_, T, F> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let f = self.f;
        let pairs = self.out.data.iter_mut().zip(self.x);
        match self.out.beta {
            Beta::Zero => pairs.for_each(|(out, &x)| *out = f(x)),
            Beta::One => pairs.for_each(|(out, &x)| *out += f(x)),
        }
    }
}

/// out = f(a, b), or out += f(a, b).
pub(crate) struct Map2<'a, T, F> {
    pub(crate) a: &'a [T],
    pub(crate) b: &'a [T],
    pub(crate) out: GradMut<'a, T>,
    pub(crate) f: F,
}

impl<T: Real, F: Fn(T, T) -> T> Task for Map2<'_, T, F> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let f = self.f;
        let triples = self.out.data.iter_mut().zip(self.a).zip(self.b);
        match self.out.beta {
            Beta::Zero => triples.for_each(|((out, &a), &b)| *out = f(a, b)),
            Beta::One => triples.for_each(|((out, &a), &b)| *out += f(a, b)),
        }
    }
}

/// out = f(a, b, c), or out += f(a, b, c).
pub(crate) struct Map3<'a, T, F> {
    pub(crate) a: &'a [T],
    pub(crate) b: &'a [T],
    pub(crate) c: &'a [T],
    pub(crate) out: GradMut<'a, T>,
    pub(crate) f: F,
}

impl<T: Real, F: Fn(T, T, T) -> T> Task for Map3<'_, T, F> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let f = self.f;
        let all = self.out.data.iter_mut().zip(self.a).zip(self.b).zip(self.c);
        match self.out.beta {
            Beta::Zero => all.for_each(|(((out, &a), &b), &c)| *out = f(a, b, c)),
            Beta::One => all.for_each(|(((out, &a), &b), &c)| *out += f(a, b, c)),
        }
    }
}
