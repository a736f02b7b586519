//! The sums of a slice in f64.

use super::lanes::Lanes;
use crate::Real;
use crate::isa::{Simd, Task};

/// sum x.
pub(crate) struct Sum<'a, T>(pub(crate) &'a [T]);

impl<T: Real> Task for Sum<'_, T> {
    type Out = f64;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let mut sum = Lanes::new();
        sum.add_all(self.0, |x| x.f64());
        sum.total()
    }
}

/// sum x^2.
pub(crate) struct SumOfSquares<'a, T>(pub(crate) &'a [T]);

impl<T: Real> Task for SumOfSquares<'_, T> {
    type Out = f64;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let mut sum = Lanes::new();
        sum.add_all(self.0, |x| x.f64() * x.f64());
        sum.total()
    }
}
