//! Losses: one number from predictions and what they should be.
//!
//! All sum in f64 over lanes or rows in an order that depends on the sizes alone, so the loss and its gradient are the same bits
//! on every instruction set. Masks hold weights >= 0, in practice 1 and 0; an element of weight 0 contributes exactly
//! nothing, even if its prediction or target is NaN or infinite. [`Reduction::Mean`] divides by the sum of the mask (the
//! number of elements without one); if that is 0, loss and gradient are 0.

use crate::Real;

pub mod bce_logits;
pub mod cross_entropy;
pub mod masked_mse;

/// How the elements' losses become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Weighted mean.
    Mean,
    /// Weighted sum.
    Sum,
}

impl Reduction {
    /// What the sum over elements of total weight `weight` is multiplied by: 1, or 1 / weight (0 for no weight).
    fn factor(self, weight: f64) -> f64 {
        match self {
            Reduction::Sum => 1.0,
            Reduction::Mean if weight == 0.0 => 0.0,
            Reduction::Mean => 1.0 / weight,
        }
    }

    /// [`Reduction::factor`] for this mask over `n` elements; the mask is summed only if that is needed.
    fn factor_of<T: Real>(self, isa: crate::Isa, mask: Option<&[T]>, n: usize) -> f64 {
        match (self, mask) {
            (Reduction::Sum, _) => 1.0,
            (_, None) => self.factor(n as f64),
            (_, Some(mask)) => self.factor(isa.run(crate::reduce::reference::Sum(mask))),
        }
    }
}

#[cfg(test)]
mod tests;
