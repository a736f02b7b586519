//! Mean squared error over the elements a mask selects (masked reconstruction).
//!
//! ```text
//! y = f sum m (p - t)^2        dp = 2 f m (p - t) dy,  dt = -dp,   f = 1 / sum m for the mean, 1 for the sum
//! ```
//!
//! Nothing is saved. Cost: 4 FLOPs and 8 or 12 bytes an element. The plain loops are compiled for each instruction set.

use super::Reduction;
use crate::contract::len;
use crate::elementwise::map::{Map2, Map3};
use crate::isa::{Simd, Task};
use crate::reduce::lanes::Lanes;
use crate::{GradMut, Isa, Real};

crate::compiled::compiled! {
    /// y\[0\] = the loss; pred, target and mask have one length.
    ///
    /// # Panics
    /// If sizes do not fit.
    pub fn forward<T>(isa: Isa, red: Reduction, pred: &[T], target: &[T], mask: Option<&[T]>, y: &mut [T]) as ForwardEntry {
        check("masked_mse", pred, target, mask);
        len("masked_mse", "y", 1, y.len());
        let f = red.factor_of(isa, mask, pred.len());
        y[0] = T::of(isa.run(SquaredError { pred, target, mask }) * f);
    }
}

crate::compiled::compiled! {
    /// The gradients of prediction and target for the gradient `dy` of the loss.
    ///
    /// # Panics
    /// If sizes do not fit.
    pub fn backward<T>(
        isa: Isa,
        red: Reduction,
        pred: &[T],
        target: &[T],
        mask: Option<&[T]>,
        dy: T,
        dpred: Option<GradMut<'_, T>>,
        dtarget: Option<GradMut<'_, T>>,
    ) as BackwardEntry {
        check("masked_mse backward", pred, target, mask);
        let c = 2.0 * red.factor_of(isa, mask, pred.len()) * dy.f64();
        for (what, out, c) in [("dpred", dpred, T::of(c)), ("dtarget", dtarget, T::of(-c))] {
            let Some(out) = out else { continue };
            len("masked_mse backward", what, pred.len(), out.data.len());
            match mask {
                None => isa.run(Map2 { a: pred, b: target, out, f: move |p, t| c * (p - t) }),
                Some(mask) => {
                    // A selection, not a product: 0 * NaN is NaN.
                    let f = move |p: T, t: T, m: T| if m == T::ZERO { T::ZERO } else { c * m * (p - t) };
                    isa.run(Map3 { a: pred, b: target, c: mask, out, f });
                }
            }
        }
    }
}

/// sum m (p - t)^2 in f64.
struct SquaredError<'a, T> {
    pred: &'a [T],
    target: &'a [T],
    mask: Option<&'a [T]>,
}

impl<T: Real> Task for SquaredError<'_, T> {
    type Out = f64;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let mut sum = Lanes::new();
        match self.mask {
            None => sum.add_pairs(self.pred, self.target, |p, t| {
                let e = p.f64() - t.f64();
                e * e
            }),
            Some(mask) => sum.add_triples(self.pred, self.target, mask, |p, t, m| {
                let e = p.f64() - t.f64();
                if m == T::ZERO { 0.0 } else { m.f64() * e * e }
            }),
        }
        sum.total()
    }
}

fn check<T: Real>(op: &str, pred: &[T], target: &[T], mask: Option<&[T]>) {
    len(op, "target", pred.len(), target.len());
    if let Some(mask) = mask {
        len(op, "mask", pred.len(), mask.len());
    }
}
