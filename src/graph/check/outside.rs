//! Checks of what is not the library's: an operation of your own, or a function with its derivative and no graph at all.

use super::laws::{Battery, Proof, battery};
use super::runner::cotangent;
use super::{Point, Settings};
use crate::error::{Error, Result};
use crate::graph::builder::Graph;
use crate::graph::ops::CustomOp;
use crate::tensor::Shape;

/// The whole battery on an operation of your own, on inputs of these shapes. It is recorded twice on the same inputs and the
/// results are multiplied, so that a gradient that overwrites where it should add is found.
///
/// # Errors
/// If the operation refuses the shapes. A law that does not hold is not an error but a failed [`Battery`].
///
/// # Examples
/// `examples/custom_operation.rs` has one in forty lines.
pub fn operation<O: CustomOp>(op: O, shapes: &[Shape], settings: Settings) -> Result<Battery> {
    let mut g = Graph::new();
    let inputs = shapes
        .iter()
        .enumerate()
        .map(|(i, shape)| g.input(&format!("input {i}"), shape))
        .collect::<Result<Vec<_>>>()?;
    let (first, second) = (g.custom(op.clone(), &inputs)?, g.custom(op, &inputs)?);
    let root = g.mul(first, second)?;
    let point = Point::random(&g, settings.seed);
    battery(&g, root, &point, settings)
}

/// A function f(x) and its vector-Jacobian product, from which no graph is made: `vjp(x, w)` must be J(x)' w. Checked at `x`
/// against central and one-sided differences, and for linearity in w.
///
/// # Errors
/// If `x` is empty, or `vjp` gives another number of elements than `x` has, or f another one from call to call.
///
/// # Examples
/// ```
/// use heartlore::graph::check::{self, Settings};
/// let f = |x: &[f64]| vec![x[0] * x[1], x[1].sin()];
/// let vjp = |x: &[f64], w: &[f64]| vec![w[0] * x[1], w[0] * x[0] + w[1] * x[1].cos()];
/// let battery = check::function_pair(f, vjp, &[0.3, -1.2], Settings::default()).unwrap();
/// assert!(battery.passed(), "{battery}");
/// let wrong = |x: &[f64], w: &[f64]| vec![w[0] * x[1], w[0] * x[0] - w[1] * x[1].cos()];
/// assert!(!check::function_pair(f, wrong, &[0.3, -1.2], Settings::default()).unwrap().passed());
/// ```
pub fn function_pair(
    mut f: impl FnMut(&[f64]) -> Vec<f64>,
    mut vjp: impl FnMut(&[f64], &[f64]) -> Vec<f64>,
    x: &[f64],
    settings: Settings,
) -> Result<Battery> {
    if x.is_empty() {
        return Err(Error::shape("check: a function of no numbers has no derivative"));
    }
    let y = f(x);
    let (w, w2) = (cotangent(y.len(), settings.seed, 0), cotangent(y.len(), settings.seed, 1));
    let combined: Vec<f64> = w.iter().zip(&w2).map(|(a, b)| 2.0 * a - 3.0 * b).collect();
    let mut pulled = |w: &[f64]| -> Result<Vec<f64>> {
        let g = vjp(x, w);
        if g.len() != x.len() {
            return Err(Error::shape(format!("check: x has {} elements, vjp gave {}", x.len(), g.len())));
        }
        Ok(g)
    };
    let (g, g2, both, zero) = (pulled(&w)?, pulled(&w2)?, pulled(&combined)?, pulled(&vec![0.0; y.len()])?);
    let again = pulled(&w)?;
    let mut b = Battery { corner: f64::NAN, seed: settings.seed, ..Battery::default() };
    let proof = |law, error: f64, bound| Proof {
        law,
        error: if error.is_nan() { f64::INFINITY } else { error },
        bound,
        detail: String::new(),
    };
    let linear = (0..x.len()).map(|i| {
        let (a, b) = (2.0 * g[i], 3.0 * g2[i]);
        (a - b - both[i]).abs() / (1.0 + a.abs() + b.abs())
    });
    b.proofs.push(proof("linear in the cotangent", largest(linear), 1e-12));
    b.proofs.push(proof("zero cotangent, zero gradient", largest(zero.iter().map(|g| g.abs())), 0.0));
    let different = again.iter().zip(&g).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    b.proofs.push(proof("two calls, the same bits", different as f64, 0.0));
    let mut at = x.to_vec();
    let (mut central, mut between) = (Vec::new(), Vec::new());
    let mut worst = (0, 0.0);
    for i in 0..x.len() {
        let mut loss = |h: f64| -> Result<f64> {
            at[i] = x[i] + h;
            let moved = f(&at);
            at[i] = x[i];
            if moved.len() != y.len() {
                return Err(Error::shape(format!(
                    "check: f gave {} elements, then {}",
                    y.len(),
                    moved.len()
                )));
            }
            // Differences before sums, so that large values that do not move cancel exactly.
            Ok(moved.iter().zip(&y).zip(&w).map(|((m, y), w)| (m - y) * w).sum())
        };
        let (h, small) = (settings.step, 1e-6);
        let numeric = (loss(h)? - loss(-h)?) / (2.0 * h);
        let (right, left) = (loss(small)? / small, -loss(-small)? / small);
        let error = (g[i] - numeric).abs() / (1.0 + g[i].abs());
        if error > worst.1 || error.is_nan() {
            worst = (i, error);
        }
        central.push(error);
        let outside = (left.min(right) - g[i]).max(g[i] - left.max(right)).max(0.0);
        between.push(outside / (1.0 + g[i].abs() + left.abs().max(right.abs())));
    }
    let mut p = proof("gradient = central differences", largest(central.into_iter()), settings.tolerance);
    p.detail = format!("worst at x[{}]", worst.0);
    b.proofs.push(p);
    b.proofs.push(proof("between the one-sided derivatives", largest(between.into_iter()), 1e-4));
    Ok(b)
}

/// The largest number; NaN counts as infinite.
fn largest(x: impl Iterator<Item = f64>) -> f64 {
    x.fold(0.0, |m, x| if x.is_nan() { f64::INFINITY } else { m.max(x) })
}
