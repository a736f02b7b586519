//! Cross-entropy of logits and class labels, one label a row.
//!
//! ```text
//! loss of a row = ln(sum over c of e^x[c]) - x[label]        dx[c] = f (softmax(x)[c] - [c = label]) dy
//! ```
//!
//! with f = 1 / rows for the mean, 1 for the sum; no rows give 0. The row's maximum is subtracted first, so finite logits
//! never overflow; all in f64. A logit of -inf is a class of probability 0: it adds nothing; if it is the label's, the
//! loss is +inf and the gradient still p - \[c = label\]. A row of nothing but -inf has probabilities 0 by definition (as
//! in `softmax`), so the same holds. +inf or NaN in a row makes loss and gradient NaN.
//!
//! Nothing is saved: the backward pass normalises the row again. Cost: an exponential an element each way, by the standard
//! library: classes are few.

use super::Reduction;
use crate::contract::{len, product};
use crate::{GradMut, Isa, Real};

/// Sizes: logits \[rows, classes\], labels \[rows\].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Rows, each with one label.
    pub rows: usize,
    /// Classes; labels are below it.
    pub classes: usize,
}

crate::compiled::compiled! {
    /// y\[0\] = the loss.
    ///
    /// # Panics
    /// If sizes do not fit, or a label is not below `classes` (row and label are printed).
    pub fn forward<T>(_isa: Isa, d: Dims, red: Reduction, logits: &[T], labels: &[u32], y: &mut [T]) as ForwardEntry {
        check("cross_entropy", d, logits, labels);
        len("cross_entropy", "y", 1, y.len());
        let mut sum = 0.0;
        for r in 0..d.rows {
            let row = &logits[r * d.classes..][..d.classes];
            let (max, total) = normaliser(row);
            let label = row[labels[r] as usize].f64();
            // -inf - -inf of an empty row would be NaN: its label has probability 0.
            sum += if label == f64::NEG_INFINITY && !total.is_nan() {
                f64::INFINITY
            } else {
                total.ln() + (max - label)
            };
        }
        y[0] = T::of(sum * red.factor(d.rows as f64));
    }
}

crate::compiled::compiled! {
    /// dlogits: \[rows, classes\] for the gradient `dy` of the loss.
    ///
    /// # Panics
    /// As [`forward`].
    pub fn backward<T>(
        _isa: Isa,
        d: Dims,
        red: Reduction,
        logits: &[T],
        labels: &[u32],
        dy: T,
        dlogits: GradMut<'_, T>,
    ) as BackwardEntry {
        let mut dlogits = dlogits;
        check("cross_entropy backward", d, logits, labels);
        len("cross_entropy backward", "dlogits", logits.len(), dlogits.data.len());
        let f = red.factor(d.rows as f64) * dy.f64();
        for r in 0..d.rows {
            let row = &logits[r * d.classes..][..d.classes];
            let (max, total) = normaliser(row);
            for c in 0..d.classes {
                let p = if total == 0.0 { 0.0 } else { (row[c].f64() - max).exp() / total };
                let hit = if c == labels[r] as usize { 1.0 } else { 0.0 };
                dlogits.put(r * d.classes + c, T::of(f * (p - hit)));
            }
        }
    }
}

/// The row's maximum m and sum of e^(x - m); (-inf, 0) if every logit is -inf.
fn normaliser<T: Real>(row: &[T]) -> (f64, f64) {
    let max = row.iter().fold(f64::NEG_INFINITY, |m, x| m.max(x.f64()));
    if max == f64::NEG_INFINITY && !row.iter().any(|x| x.is_nan()) {
        return (max, 0.0);
    }
    (max, row.iter().map(|x| (x.f64() - max).exp()).sum())
}

fn check<T: Real>(op: &str, d: Dims, logits: &[T], labels: &[u32]) {
    len(op, "logits", product(op, &[d.rows, d.classes]), logits.len());
    len(op, "labels", d.rows, labels.len());
    for (row, &label) in labels.iter().enumerate() {
        if label as usize >= d.classes {
            bad_label(op, row, label, d.classes);
        }
    }
}

#[cold]
#[inline(never)]
fn bad_label(op: &str, row: usize, label: u32, classes: usize) -> ! {
    panic!("{op}: row {row} has label {label}, there are {classes} classes")
}
