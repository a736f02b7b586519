//! A whole tensor to one number: sum, mean, Euclidean norm.
//!
//! | kind | value | derivative |
//! |---|---|---|
//! | [`Reduce::Sum`] | y = sum x | dx = dy |
//! | [`Reduce::Mean`] | y = sum x / n | dx = dy / n |
//! | [`Reduce::Norm`] | y = sqrt(sum x^2) | dx = dy x / y, and 0 where y = 0 |
//!
//! At y = 0 the norm has no derivative; 0 is the subgradient of least length.
//!
//! Nothing but y is saved. Cost: one or two FLOPs and one read an element.
//! Numerics: terms are widened to f64 and gathered in lanes (`lanes.rs`) whose number does not depend on the instruction set, so
//! the result is the same bits everywhere; in f32 the error is that of the last rounding for any length in use, and the
//! squares of all f32 fit. NaN and infinities propagate.

use crate::contract::{len, require};
use crate::elementwise::map::Map1;
use crate::{GradMut, Isa};

pub(crate) mod lanes;
pub(crate) mod reference;

/// Which number a tensor is reduced to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// Sum of the elements; 0 for none.
    Sum,
    /// Arithmetic mean; needs an element.
    Mean,
    /// Square root of the sum of squares; 0 for none.
    Norm,
}

crate::compiled::compiled! {
    /// y\[0\] = the reduction of x (any length).
    ///
    /// # Panics
    /// If `y` is not one element long, or the mean of no elements is asked for.
    pub fn forward<T>(isa: Isa, kind: Reduce, x: &[T], y: &mut [T]) as ForwardEntry {
        len("reduce", "y", 1, y.len());
        check(kind, x.len());
        y[0] = T::of(match kind {
            Reduce::Sum => isa.run(reference::Sum(x)),
            Reduce::Mean => isa.run(reference::Sum(x)) / x.len() as f64,
            Reduce::Norm => isa.run(reference::SumOfSquares(x)).sqrt(),
        });
    }
}

crate::compiled::compiled! {
    /// The gradient of x for the gradient `dy` of the reduced number; `y` is what [`forward`] gave.
    ///
    /// # Panics
    /// If sizes do not fit, or the mean of no elements is asked for.
    pub fn backward<T>(isa: Isa, kind: Reduce, x: &[T], y: &[T], dy: T, dx: GradMut<'_, T>) as BackwardEntry {
        len("reduce backward", "y", 1, y.len());
        len("reduce backward", "dx", x.len(), dx.data.len());
        check(kind, x.len());
        let y = y[0];
        match kind {
            Reduce::Sum => isa.run(Map1 { x, out: dx, f: move |_| dy }),
            Reduce::Mean => {
                let share = dy / T::of_usize(x.len());
                isa.run(Map1 { x, out: dx, f: move |_| share });
            }
            Reduce::Norm if y == T::ZERO => isa.run(Map1 { x, out: dx, f: |_| T::ZERO }),
            // x / y first: it is at most 1, while dy / y may overflow for a tiny norm.
            Reduce::Norm => isa.run(Map1 { x, out: dx, f: move |x| x / y * dy }),
        }
    }
}

fn check(kind: Reduce, n: usize) {
    require("reduce", "the mean needs at least one element", n, kind != Reduce::Mean || n > 0);
}

#[cfg(test)]
mod tests;
