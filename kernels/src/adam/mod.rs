//! Adam: one optimiser step over flat slices, and gradient clipping by the global norm ([`clip`]).
//!
//! With g = grad_scale * gradient (+ weight_decay * p unless decoupled), at step t = 1, 2, ...:
//!
//! ```text
//! p <- p (1 - lr weight_decay)                     only if decoupled (AdamW)
//! m <- m + (1 - beta1) (g - m)
//! v <- beta2 v + (1 - beta2) g^2
//! p <- p - (lr / (1 - beta1^t)) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
//! ```
//!
//! Sources: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015 (algorithm 1); Loshchilov and Hutter,
//! "Decoupled weight decay regularization", ICLR 2019 (algorithm 2). Order of operations and roundings are those of
//! PyTorch's `torch.optim.Adam` and `AdamW` (one tensor at a time): the scalars are computed in f64 and rounded to `T`,
//! eps is added after the correction of sqrt(v), the first moment moves by linear interpolation.
//!
//! Cost: 12 FLOPs, a square root and two divisions an element; one pass reads p, g, m, v and writes p, m, v: 28 bytes an
//! element in f32, so large models run at the speed of memory. Every operation is rounded on its own (no fused
//! multiply-add), so all instruction sets give the same bits.
//!
//! Non-finite gradients: [`step`] has no opinion. A NaN makes that element's p, m and v NaN for good, an infinity too.
//! Look at [`clip::squared_norm`] before the step: it is non-finite if any gradient is.

use crate::Isa;
use crate::contract::{len, require};

pub mod clip;
mod reference;

/// The settings of an Adam step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Step length lr.
    pub learning_rate: f64,
    /// Decay of the first moment, in [0, 1).
    pub beta1: f64,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Pull towards zero.
    pub weight_decay: f64,
    /// Whether the pull acts on the parameter itself (AdamW) or through the gradient (Adam with an L2 term).
    pub decoupled: bool,
}

impl Default for Adam {
    /// The paper's settings, as PyTorch's defaults: 1e-3, 0.9, 0.999, 1e-8, no decay.
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decoupled: false }
    }
}

crate::compiled::compiled! {
    /// One step: updates `params`, `m` and `v` from `grads` (all of one length). `t` counts from 1; `m` and `v` are zero
    /// before the first step. `grad_scale` multiplies every gradient as it is read ([`clip::scale_for`], or 1).
    ///
    /// # Panics
    /// If the lengths differ or `t` is 0.
    pub fn step<T>(
        isa: Isa,
        adam: &Adam,
        t: u64,
        grad_scale: f64,
        params: &mut [T],
        grads: &[T],
        m: &mut [T],
        v: &mut [T],
    ) as StepEntry {
        len("adam", "grads", params.len(), grads.len());
        len("adam", "m", params.len(), m.len());
        len("adam", "v", params.len(), v.len());
        require("adam", "steps count from 1", t as usize, t > 0);
        isa.run(reference::Step { scalars: reference::Scalars::new(adam, t, grad_scale), params, grads, m, v });
    }
}

#[cfg(test)]
mod tests;
