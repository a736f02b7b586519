//! Logistic regression with a penalty of its own for every feature, for hundreds of features: the head of a linear probe.
//!
//! ```text
//! minimise  L(w, b) = sum_i s_i ln(1 + exp(-y_i (w.x_i + b))) + sum_j lambda_j w_j^2 / 2,     y_i = +-1
//! dL/dw_j = sum_i s_i (p_i - [y_i = 1]) x_ij + lambda_j w_j,      dL/db = sum_i s_i (p_i - [y_i = 1])
//! ```
//!
//! by L-BFGS (J. Nocedal, Updating quasi-Newton matrices with limited storage, 1980): a step costs two passes over the
//! features, where Newton's method ([`super::LogisticRegression`], the oracle of the tests) costs one for every feature.

use crate::error::{Error, Result};

/// Pairs of steps and gradient differences that the curvature is estimated from.
const MEMORY: usize = 12;
/// Steps after which the fit is given up.
const MAX_STEPS: usize = 500;
/// The gradient's largest element at the optimum, per row of features.
const TOLERANCE: f64 = 1e-5;

/// A fitted model: P(positive | x) = 1 / (1 + exp(-(w.x + b))).
#[derive(Clone, Debug, PartialEq)]
pub struct PenalisedLogistic {
    /// Weight per feature.
    pub weights: Vec<f64>,
    /// Intercept, which is not penalised.
    pub intercept: f64,
}

impl PenalisedLogistic {
    /// Fits to row-major `features` [labels.len(), penalty.len()], both classes weighed alike (s_i = n / (2 n_class));
    /// `penalty` holds lambda_j; `start` shortens the way and does not move the optimum.
    ///
    /// # Errors
    /// Shapes that do not fit, a value that is not finite, a penalty that is not positive, one class only
    /// ([`crate::error::Kind::Data`]), or no convergence ([`crate::error::Kind::Numeric`]).
    pub fn fit(features: &[f32], labels: &[bool], penalty: &[f64], start: Option<&Self>) -> Result<Self> {
        let columns = penalty.len();
        if columns == 0 || features.len() != labels.len() * columns {
            return Err(Error::shape(format!(
                "{} values for {} rows of {columns} features",
                features.len(),
                labels.len()
            )));
        }
        if let Some(i) = features.iter().position(|v| !v.is_finite()) {
            return Err(Error::numeric(format!(
                "feature {} of row {} is not finite",
                i % columns,
                i / columns
            )));
        }
        if let Some(j) = penalty.iter().position(|p| !(p.is_finite() && *p > 0.0)) {
            return Err(Error::usage(format!("a penalty of {} on feature {j}", penalty[j])));
        }
        let positives = labels.iter().filter(|y| **y).count();
        if positives == 0 || positives == labels.len() {
            return Err(Error::data("only one class in the training part")
                .remedy("use fewer folds, another grouping, or another label threshold"));
        }
        let n = labels.len() as f64;
        let of = |y: bool| n / (2.0 * if y { positives as f64 } else { n - positives as f64 });
        let problem = Problem { features, columns, labels, share: [of(false), of(true)], penalty };
        let mut theta = vec![0.0; columns + 1];
        if let Some(s) = start.filter(|s| s.weights.len() == columns) {
            theta[..columns].copy_from_slice(&s.weights);
            theta[columns] = s.intercept;
        }
        problem.minimise(&mut theta)?;
        let intercept = theta.pop().unwrap_or_default();
        Ok(Self { weights: theta, intercept })
    }

    /// w.x + b of each row.
    pub fn logits(&self, features: &[f32]) -> Vec<f64> {
        let w: Vec<f32> = self.weights.iter().map(|w| *w as f32).collect();
        features.chunks_exact(w.len()).map(|x| f64::from(dot(&w, x)) + self.intercept).collect()
    }
}

struct Problem<'a> {
    features: &'a [f32],
    columns: usize,
    labels: &'a [bool],
    share: [f64; 2],
    penalty: &'a [f64],
}

impl Problem<'_> {
    /// The loss at `theta` (weights, intercept), and its gradient into `gradient`.
    fn value(&self, theta: &[f64], gradient: &mut [f64]) -> f64 {
        let w: Vec<f32> = theta[..self.columns].iter().map(|w| *w as f32).collect();
        let mut slopes = vec![0.0f32; self.columns];
        let (mut loss, mut slope_sum) = (0.0, 0.0);
        for (x, &y) in self.features.chunks_exact(self.columns).zip(self.labels) {
            let z = f64::from(dot(&w, x)) + theta[self.columns];
            let s = self.share[usize::from(y)];
            let margin = if y { z } else { -z };
            loss += s * ((-margin.abs()).exp().ln_1p() + (-margin).max(0.0));
            // dL/dz = -s y sigmoid(-margin), without overflow.
            let e = (-margin.abs()).exp();
            let miss = if margin >= 0.0 { e / (1.0 + e) } else { 1.0 / (1.0 + e) };
            let slope = if y { -s * miss } else { s * miss };
            slope_sum += slope;
            let slope = slope as f32;
            slopes.iter_mut().zip(x).for_each(|(g, x)| *g += slope * x);
        }
        for j in 0..self.columns {
            gradient[j] = f64::from(slopes[j]) + self.penalty[j] * theta[j];
            loss += 0.5 * self.penalty[j] * theta[j] * theta[j];
        }
        gradient[self.columns] = slope_sum;
        loss
    }

    fn minimise(&self, theta: &mut Vec<f64>) -> Result<()> {
        let n = theta.len();
        let bound = TOLERANCE * self.labels.len() as f64;
        let (mut gradient, mut next_gradient) = (vec![0.0; n], vec![0.0; n]);
        let mut value = self.value(theta, &mut gradient);
        let mut pairs: Vec<(Vec<f64>, Vec<f64>, f64)> = Vec::new();
        for _ in 0..MAX_STEPS {
            if gradient.iter().all(|g| g.abs() <= bound) {
                return Ok(());
            }
            let direction = self.direction(&gradient, &pairs);
            let descent = -dot64(&direction, &gradient);
            let mut length = 1.0;
            loop {
                let next: Vec<f64> = theta.iter().zip(&direction).map(|(t, d)| t - length * d).collect();
                let next_value = self.value(&next, &mut next_gradient);
                if next_value <= value + 1e-4 * length * descent {
                    let step: Vec<f64> = next.iter().zip(theta.iter()).map(|(a, b)| a - b).collect();
                    let change: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
                    let curvature = dot64(&step, &change);
                    if curvature > 1e-12 * dot64(&change, &change) {
                        if pairs.len() == MEMORY {
                            pairs.remove(0);
                        }
                        pairs.push((step, change, curvature));
                    }
                    *theta = next;
                    value = next_value;
                    std::mem::swap(&mut gradient, &mut next_gradient);
                    break;
                }
                length *= 0.5;
                if length < 1e-8 {
                    // Rounding of single-precision passes: no step shows a gain any more.
                    let near = gradient.iter().all(|g| g.abs() <= 100.0 * bound);
                    return if near { Ok(()) } else { Err(not_converged()) };
                }
            }
        }
        Err(not_converged())
    }

    /// The two-loop recursion; without pairs, the gradient over the diagonal of the Hessian at equal odds.
    fn direction(&self, gradient: &[f64], pairs: &[(Vec<f64>, Vec<f64>, f64)]) -> Vec<f64> {
        let mut q = gradient.to_vec();
        let mut alphas = Vec::with_capacity(pairs.len());
        for (step, change, curvature) in pairs.iter().rev() {
            let alpha = dot64(step, &q) / curvature;
            q.iter_mut().zip(change).for_each(|(q, y)| *q -= alpha * y);
            alphas.push(alpha);
        }
        match pairs.last() {
            Some((_, change, curvature)) => {
                let scale = curvature / dot64(change, change);
                q.iter_mut().for_each(|q| *q *= scale);
            }
            None => {
                let quarter = 0.25 * self.labels.len() as f64;
                for (j, q) in q.iter_mut().enumerate() {
                    *q /= quarter + self.penalty.get(j).copied().unwrap_or(0.0);
                }
            }
        }
        for ((step, change, curvature), alpha) in pairs.iter().zip(alphas.iter().rev()) {
            let beta = dot64(change, &q) / curvature;
            q.iter_mut().zip(step).for_each(|(q, s)| *q += (alpha - beta) * s);
        }
        q
    }
}

fn not_converged() -> Error {
    Error::numeric("logistic regression does not converge").remedy("scale the features, or penalise more")
}

/// In sixteen lanes, so that the compiler can use vectors; the order of the sum is fixed.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (a16, b16) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a16.remainder().iter().zip(b16.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a16.zip(b16) {
        for k in 0..16 {
            lanes[k] += x[k] * y[k];
        }
    }
    lanes.iter().sum::<f32>() + rest
}

fn dot64(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::baseline::LogisticSettings;
    use crate::metrics::{LogisticRegression, Scaler};

    fn data(rows: usize, columns: usize) -> (Vec<f64>, Vec<bool>) {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as f64 / f64::from(1u32 << 31) - 0.5
        };
        let x: Vec<f64> = (0..rows * columns).map(|_| next()).collect();
        let y = x.chunks(columns).map(|r| r[0] - 0.5 * r[1] + 0.6 * next() > 0.1).collect();
        (x, y)
    }

    /// One penalty for all is what Newton's method fits with C = 1 / lambda.
    #[test]
    fn agrees_with_newtons_method() {
        let (x, y) = data(120, 7);
        let x = Scaler::fit(&x, 7).unwrap().transform(&x).unwrap();
        let x32: Vec<f32> = x.iter().map(|v| *v as f32).collect();
        for lambda in [0.1, 1.0, 30.0] {
            let settings = LogisticSettings { c: 1.0 / lambda, balanced: true };
            let want = LogisticRegression::fit(&x, 7, &y, settings).unwrap();
            let got = PenalisedLogistic::fit(&x32, &y, &[lambda; 7], None).unwrap();
            for (a, b) in got.weights.iter().zip(&want.weights) {
                assert!((a - b).abs() < 1e-3 * (1.0 + b.abs()), "{lambda}: {a} {b}");
            }
            assert!((got.intercept - want.intercept).abs() < 1e-3);
            let other = PenalisedLogistic { weights: vec![0.5; 7], intercept: -1.0 };
            let again = PenalisedLogistic::fit(&x32, &y, &[lambda; 7], Some(&other)).unwrap();
            assert!(again.weights.iter().zip(&got.weights).all(|(a, b)| (a - b).abs() < 2e-3));
            let z = got.logits(&x32);
            assert!((z[3] - want.logits(&x).unwrap()[3]).abs() < 1e-2);
        }
    }

    /// A feature twice as large with four times the penalty has half the weight: penalties are per feature.
    #[test]
    fn a_penalty_belongs_to_its_feature() {
        let (x, y) = data(150, 3);
        let x: Vec<f32> = x.iter().map(|v| *v as f32).collect();
        let scaled: Vec<f32> =
            x.iter().enumerate().map(|(i, v)| if i % 3 == 1 { 2.0 * v } else { *v }).collect();
        let a = PenalisedLogistic::fit(&x, &y, &[1.0, 2.0, 3.0], None).unwrap();
        let b = PenalisedLogistic::fit(&scaled, &y, &[1.0, 8.0, 3.0], None).unwrap();
        for (j, factor) in [1.0, 0.5, 1.0].iter().enumerate() {
            assert!((b.weights[j] - factor * a.weights[j]).abs() < 2e-3, "{a:?} {b:?}");
        }
    }

    #[test]
    fn bad_input() {
        let fit = |x: &[f32], y: &[bool], l: &[f64]| PenalisedLogistic::fit(x, y, l, None);
        assert!(fit(&[1.0], &[true, false], &[1.0]).is_err());
        assert!(fit(&[1.0, 2.0], &[true, true], &[1.0]).is_err());
        assert!(fit(&[1.0, f32::NAN], &[true, false], &[1.0]).is_err());
        assert!(fit(&[1.0, 2.0], &[true, false], &[0.0]).is_err());
    }
}
