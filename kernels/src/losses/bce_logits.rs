//! Binary cross-entropy of logits, each element a yes-or-no question of its own.
//!
//! ```text
//! loss(x, t) = (1 - t) softplus(x) + w t softplus(-x),   softplus(x) = ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|)
//! dx = (1 - t) sigmoid(x) - w t sigmoid(-x)
//! ```
//!
//! with w the weight of positive answers (`pos_weight`, 1 for none): the formula of PyTorch's
//! `BCEWithLogitsLoss(pos_weight)`, arranged so that nothing cancels. The loss grows like |x| on the wrong side and tends to 0
//! on the right one, with full relative accuracy, for every finite logit; an infinite logit on the right side gives 0, on
//! the wrong side infinity. Targets are usually 0 or 1; any value between is a soft label.
//!
//! Nothing is saved. Cost: an exponential and a logarithm an element, in f64 by the standard library; no vector body, as
//! there are only as many elements as labels. The mean divides by the sum of the mask
//! (PyTorch's `weight` argument multiplies but divides by the number of elements).

use super::Reduction;
use crate::contract::len;
use crate::{GradMut, Isa, Real};

crate::compiled::compiled! {
    /// y\[0\] = the loss; logits, targets and mask have one length.
    ///
    /// # Panics
    /// If sizes do not fit.
    pub fn forward<T>(
        isa: Isa,
        red: Reduction,
        pos_weight: f64,
        logits: &[T],
        targets: &[T],
        mask: Option<&[T]>,
        y: &mut [T],
    ) as ForwardEntry {
        check("bce_logits", logits, targets, mask);
        len("bce_logits", "y", 1, y.len());
        let mut sum = 0.0;
        for i in 0..logits.len() {
            let m = mask.map_or(1.0, |m| m[i].f64());
            if m != 0.0 {
                let (x, t) = (logits[i].f64(), targets[i].f64());
                sum += m * (weighted(1.0 - t, softplus(x)) + weighted(pos_weight * t, softplus(-x)));
            }
        }
        y[0] = T::of(sum * red.factor_of(isa, mask, logits.len()));
    }
}

crate::compiled::compiled! {
    /// The gradient of the logits for the gradient `dy` of the loss.
    ///
    /// # Panics
    /// If sizes do not fit.
    pub fn backward<T>(
        isa: Isa,
        red: Reduction,
        pos_weight: f64,
        logits: &[T],
        targets: &[T],
        mask: Option<&[T]>,
        dy: T,
        dlogits: GradMut<'_, T>,
    ) as BackwardEntry {
        let mut dlogits = dlogits;
        check("bce_logits backward", logits, targets, mask);
        len("bce_logits backward", "dlogits", logits.len(), dlogits.data.len());
        let c = red.factor_of(isa, mask, logits.len()) * dy.f64();
        for i in 0..logits.len() {
            let m = mask.map_or(1.0, |m| m[i].f64());
            let slope = if m == 0.0 {
                0.0
            } else {
                let (x, t) = (logits[i].f64(), targets[i].f64());
                c * m * ((1.0 - t) * sigmoid(x) - pos_weight * t * sigmoid(-x))
            };
            dlogits.put(i, T::of(slope));
        }
    }
}

/// a b, with 0 for a = 0 and an infinite b: a side without weight does not count.
fn weighted(a: f64, b: f64) -> f64 {
    if a == 0.0 && b.is_infinite() { 0.0 } else { a * b }
}

/// ln(1 + e^x) without overflow.
fn softplus(x: f64) -> f64 {
    // NaN first: f64::max would drop it.
    if x.is_nan() { x } else { x.max(0.0) + (-x.abs()).exp().ln_1p() }
}

/// 1 / (1 + e^-x); for x below -745 it is 0.
fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn check<T: Real>(op: &str, logits: &[T], targets: &[T], mask: Option<&[T]>) {
    len(op, "targets", logits.len(), targets.len());
    if let Some(mask) = mask {
        len(op, "mask", logits.len(), mask.len());
    }
}
