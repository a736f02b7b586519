//! Clipping gradients by their global norm (Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural
//! networks", ICML 2013): if the norm over all gradients exceeds a bound, all are multiplied by one factor.
//!
//! The factor goes into [`step`](super::step) as `grad_scale`, so the gradients are read once less.

use crate::Isa;
use crate::reduce::reference::SumOfSquares;

/// PyTorch's `clip_grad_norm_` adds this to the norm, which keeps the factor finite for a zero gradient.
const MARGIN: f64 = 1e-6;

crate::compiled::compiled! {
    /// sum x^2 in f64. For several tensors add the results and take the root. Non-finite if any element is (in f64 also if
    /// the squares overflow): check it, and leave out the step.
    pub fn squared_norm<T>(isa: Isa, x: &[T]) -> f64 as SquaredNormEntry {
        isa.run(SumOfSquares(x))
    }
}

/// The factor that brings a gradient of norm `norm` to at most `max_norm`: min(1, max_norm / (norm + 1e-6)).
///
/// A NaN norm gives NaN and an infinite norm 0, as in PyTorch: neither is a usable gradient.
pub fn scale_for(norm: f64, max_norm: f64) -> f64 {
    let factor = max_norm / (norm + MARGIN);
    // f64::min would turn NaN into 1 and let a broken gradient pass.
    if factor > 1.0 { 1.0 } else { factor }
}
