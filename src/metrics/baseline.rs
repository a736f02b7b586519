//! What a model must beat: the majority class, and logistic regression on a few given features (heart rate, or
//! heart-rate variability). In f64, two classes, semantics of scikit-learn's `DummyClassifier`, `StandardScaler` and
//! `LogisticRegression`.
//!
//! Fit on the training part only; the scaler too.

use super::check_finite;
use crate::error::{Error, Result};

/// Predicts the class that is more frequent in the training part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Majority {
    /// Share of positives in the training part; the predicted probability.
    pub positive_share: f64,
}

impl Majority {
    /// Counts the training labels.
    ///
    /// # Errors
    /// [`crate::error::Kind::Data`] without labels.
    pub fn fit(labels: &[bool]) -> Result<Self> {
        if labels.is_empty() {
            return Err(Error::data("no training labels"));
        }
        Ok(Self { positive_share: labels.iter().filter(|y| **y).count() as f64 / labels.len() as f64 })
    }

    /// The class at a threshold of one half; an equal split is positive, by the rule of [`super::is_positive`]
    /// (scikit-learn: the first class).
    pub fn predict(&self) -> bool {
        super::is_positive(self.positive_share, 0.5)
    }
}

/// Features must be `labels` rows of `columns` finite values.
fn check_features(features: &[f64], columns: usize) -> Result<usize> {
    if columns == 0 || !features.len().is_multiple_of(columns) {
        return Err(Error::shape(format!("{} values are no rows of {columns} features", features.len())));
    }
    check_finite(features, "features")?;
    Ok(features.len() / columns)
}

/// Shifts and scales each feature to mean 0 and variance 1 over the rows it was fitted on.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaler {
    /// Mean per feature.
    pub mean: Vec<f64>,
    /// Standard deviation per feature (divisor n); 1 for a constant feature.
    pub scale: Vec<f64>,
}

impl Scaler {
    /// Fits on row-major `features` [rows, columns].
    ///
    /// # Errors
    /// If the length is no multiple of `columns`, there is no row, or a value is NaN or infinite.
    pub fn fit(features: &[f64], columns: usize) -> Result<Self> {
        let n = check_features(features, columns)?;
        if n == 0 {
            return Err(Error::data("no training rows"));
        }
        let n = n as f64;
        let column = |j: usize| features.iter().skip(j).step_by(columns);
        let mean: Vec<f64> = (0..columns).map(|j| column(j).sum::<f64>() / n).collect();
        let scale = (0..columns)
            .map(|j| {
                let variance = column(j).map(|x| (x - mean[j]) * (x - mean[j])).sum::<f64>() / n;
                // A constant feature has a variance of rounding errors only; their bound is scikit-learn's.
                let noise = n * f64::EPSILON * variance + (n * mean[j] * f64::EPSILON).powi(2);
                if variance <= noise { 1.0 } else { variance.sqrt() }
            })
            .collect();
        Ok(Self { mean, scale })
    }

    /// Scaled copy of row-major `features` with the same columns.
    ///
    /// # Errors
    /// As [`Scaler::fit`], except that no rows are fine.
    pub fn transform(&self, features: &[f64]) -> Result<Vec<f64>> {
        let columns = self.mean.len();
        check_features(features, columns)?;
        let scaled = features.iter().enumerate().map(|(i, x)| {
            let j = i % columns;
            (x - self.mean[j]) / self.scale[j]
        });
        Ok(scaled.collect())
    }
}

/// Settings of [`LogisticRegression::fit`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogisticSettings {
    /// Inverse strength of the L2 penalty, scikit-learn's `C`.
    pub c: f64,
    /// Weigh each item by n / (2 n_class), scikit-learn's `class_weight="balanced"`.
    pub balanced: bool,
}

impl Default for LogisticSettings {
    fn default() -> Self {
        Self { c: 1.0, balanced: false }
    }
}

/// Logistic regression: P(positive | x) = 1 / (1 + exp(-(w.x + b))).
#[derive(Clone, Debug, PartialEq)]
pub struct LogisticRegression {
    /// Weight per feature.
    pub weights: Vec<f64>,
    /// Intercept.
    pub intercept: f64,
}

/// Newton steps after which the fit is given up; the problem is convex and takes about ten.
const MAX_STEPS: usize = 100;

impl LogisticRegression {
    /// Fits by minimising sum_i s_i ln(1 + exp(-y_i (w.x_i + b))) + |w|^2 / (2 C), y_i = +-1, s_i the item's weight;
    /// the intercept is not penalised. Newton's method (iteratively reweighted least squares): with p_i the predicted
    /// probability,
    ///
    /// ```text
    /// gradient = sum s_i (p_i - y_i) x_i + w / C
    /// Hessian  = sum s_i p_i (1 - p_i) x_i x_i^T + I / C
    /// ```
    ///
    /// and a step is halved until the objective falls. `features` is row-major [labels.len(), columns].
    ///
    /// # Errors
    /// If shapes do not fit, a value is NaN or infinite, `C` is not positive, only one class occurs
    /// ([`crate::error::Kind::Data`]), or the method does not converge ([`crate::error::Kind::Numeric`]).
    pub fn fit(
        features: &[f64],
        columns: usize,
        labels: &[bool],
        settings: LogisticSettings,
    ) -> Result<Self> {
        let rows = check_features(features, columns)?;
        if rows != labels.len() {
            return Err(Error::shape(format!("{rows} rows of features but {} labels", labels.len())));
        }
        if !(settings.c > 0.0 && settings.c.is_finite()) {
            return Err(Error::usage(format!("C must be positive and finite, not {}", settings.c)));
        }
        let positives = labels.iter().filter(|y| **y).count();
        if positives == 0 || positives == rows {
            return Err(Error::data("only one class in the training part")
                .remedy("use another split, or leave this baseline out and say so"));
        }
        let weight = |y: bool| {
            let count = if y { positives } else { rows - positives };
            if settings.balanced { rows as f64 / (2.0 * count as f64) } else { 1.0 }
        };
        let problem =
            Problem { features, columns, labels, item_weight: [weight(false), weight(true)], c: settings.c };
        problem.solve()
    }

    /// w.x + b for each row of `features`.
    ///
    /// # Errors
    /// If the shape does not fit or a value is NaN or infinite.
    pub fn logits(&self, features: &[f64]) -> Result<Vec<f64>> {
        check_features(features, self.weights.len())?;
        Ok(features
            .chunks_exact(self.weights.len())
            .map(|x| dot(&self.weights, x) + self.intercept)
            .collect())
    }

    /// Probability of the positive class for each row of `features`.
    ///
    /// # Errors
    /// As [`LogisticRegression::logits`].
    pub fn probabilities(&self, features: &[f64]) -> Result<Vec<f64>> {
        Ok(self.logits(features)?.into_iter().map(sigmoid).collect())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn sigmoid(z: f64) -> f64 {
    // exp of a non-positive number only, so it cannot overflow.
    let e = (-z.abs()).exp();
    if z >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

struct Problem<'a> {
    features: &'a [f64],
    columns: usize,
    labels: &'a [bool],
    /// Weight of a negative and of a positive item.
    item_weight: [f64; 2],
    c: f64,
}

impl Problem<'_> {
    /// Rows with label and weight.
    fn rows(&self) -> impl Iterator<Item = (&[f64], bool, f64)> {
        let weighted = self.labels.iter().map(|&y| (y, self.item_weight[usize::from(y)]));
        self.features.chunks_exact(self.columns).zip(weighted).map(|(x, (y, s))| (x, y, s))
    }

    /// The objective at `theta` = weights, then the intercept.
    fn objective(&self, theta: &[f64]) -> f64 {
        let (w, b) = (&theta[..self.columns], theta[self.columns]);
        let losses = self.rows().map(|(x, y, s)| {
            let z = dot(w, x) + b;
            let margin = if y { z } else { -z };
            // ln(1 + exp(-m)) without overflow.
            s * ((-margin.abs()).exp().ln_1p() + (-margin).max(0.0))
        });
        losses.sum::<f64>() + dot(w, w) / (2.0 * self.c)
    }

    fn solve(&self) -> Result<LogisticRegression> {
        let size = self.columns + 1;
        let mut theta = vec![0.0; size];
        let mut value = self.objective(&theta);
        for _ in 0..MAX_STEPS {
            let (mut gradient, mut hessian) = (vec![0.0; size], vec![0.0; size * size]);
            let mut x1 = vec![1.0; size];
            for (x, y, s) in self.rows() {
                x1[..self.columns].copy_from_slice(x);
                let p = sigmoid(dot(&theta, &x1));
                let slope = s * (p - if y { 1.0 } else { 0.0 });
                let curvature = s * p * (1.0 - p);
                for i in 0..size {
                    gradient[i] += slope * x1[i];
                    for j in 0..=i {
                        hessian[i * size + j] += curvature * x1[i] * x1[j];
                    }
                }
            }
            for i in 0..self.columns {
                gradient[i] += theta[i] / self.c;
                hessian[i * size + i] += 1.0 / self.c;
            }
            let step = cholesky_solve(&mut hessian, &gradient).ok_or_else(not_converged)?;
            // Twice what the step is predicted to gain; at the optimum it is rounding error.
            let decrement = dot(&step, &gradient);
            let mut length = 1.0;
            loop {
                let next: Vec<f64> = theta.iter().zip(&step).map(|(t, d)| t - length * d).collect();
                let next_value = self.objective(&next);
                if next_value <= value {
                    (theta, value) = (next, next_value);
                    break;
                }
                length *= 0.5;
                if length < 1e-10 {
                    break;
                }
            }
            // Newton converges quadratically: a step predicted to gain this little leaves an error of its square. A
            // tighter bound would ask for less than the rounding error of the gradient.
            if decrement <= 1e-12 * (1.0 + value) {
                let intercept = theta.pop().unwrap_or_default();
                return Ok(LogisticRegression { weights: theta, intercept });
            }
            if length < 1e-10 {
                break;
            }
        }
        Err(not_converged())
    }
}

fn not_converged() -> Error {
    Error::numeric("logistic regression does not converge").remedy("scale the features, or make C smaller")
}

/// Solves A x = b for a symmetric positive definite A (lower triangle, row-major), which becomes its Cholesky factor.
/// `None` if A is not positive definite.
fn cholesky_solve(a: &mut [f64], b: &[f64]) -> Option<Vec<f64>> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let sum = a[i * n + j] - dot(&a[i * n..i * n + j], &a[j * n..j * n + j]);
            a[i * n + j] = if i != j {
                sum / a[j * n + j]
            } else if sum > 0.0 {
                sum.sqrt()
            } else {
                return None;
            };
        }
    }
    let mut x = b.to_vec();
    for i in 0..n {
        x[i] = (x[i] - dot(&a[i * n..i * n + i], &x[..i])) / a[i * n + i];
    }
    for i in (0..n).rev() {
        let rest: f64 = (i + 1..n).map(|k| a[k * n + i] * x[k]).sum();
        x[i] = (x[i] - rest) / a[i * n + i];
    }
    Some(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn majority() {
        assert!(Majority::fit(&[]).is_err());
        let m = Majority::fit(&[true, true, false, true]).unwrap();
        assert!(m.predict() && m.positive_share == 0.75);
        assert!(Majority::fit(&[true, false]).unwrap().predict());
        assert!(!Majority::fit(&[true, false, false]).unwrap().predict());
    }

    #[test]
    fn scaler_leaves_constants_alone() {
        let s = Scaler::fit(&[1.0, 0.1, 3.0, 0.1, 5.0, 0.1], 2).unwrap();
        assert_eq!((s.mean[0], s.scale[0], s.scale[1]), (3.0, (8.0f64 / 3.0).sqrt(), 1.0));
        assert!(s.transform(&[3.0, 0.1]).unwrap().iter().all(|x| x.abs() < 1e-16));
        assert!(
            s.transform(&[3.0]).is_err() && Scaler::fit(&[], 1).is_err() && Scaler::fit(&[1.0], 0).is_err()
        );
    }

    #[test]
    fn gradient_is_zero_at_the_fit() {
        let x = [0.2, 1.0, -0.7, 2.0, 1.5, -1.0, 0.3, 0.3, -2.0, 0.1];
        let y = [true, false, true, true, false];
        let m = LogisticRegression::fit(&x, 2, &y, LogisticSettings { c: 0.7, balanced: true }).unwrap();
        let p = m.probabilities(&x).unwrap();
        let s = |y: bool| if y { 5.0 / 6.0 } else { 5.0 / 4.0 };
        for j in 0..3 {
            let slope: f64 = (0..5)
                .map(|i| {
                    s(y[i]) * (p[i] - f64::from(u8::from(y[i]))) * if j < 2 { x[2 * i + j] } else { 1.0 }
                })
                .sum();
            let penalty = if j < 2 { m.weights[j] / 0.7 } else { 0.0 };
            assert!((slope + penalty).abs() < 1e-12);
        }
    }

    #[test]
    fn separable_data_with_a_weak_penalty_converge() {
        let x: Vec<f64> = (0..20).map(|i| f64::from(i) * 100.0 - 950.0).collect();
        let y: Vec<bool> = (0..20).map(|i| i >= 10).collect();
        let m = LogisticRegression::fit(&x, 1, &y, LogisticSettings { c: 1e6, balanced: false }).unwrap();
        let p = m.probabilities(&x).unwrap();
        assert!(p.iter().zip(&y).all(|(p, y)| (*p > 0.5) == *y));
    }

    #[test]
    fn bad_input() {
        let fit = |x: &[f64], y: &[bool], c| {
            LogisticRegression::fit(x, 1, y, LogisticSettings { c, balanced: false })
        };
        assert_eq!(fit(&[1.0, 2.0], &[true, true], 1.0).unwrap_err().kind(), Kind::Data);
        assert_eq!(fit(&[1.0], &[true, false], 1.0).unwrap_err().kind(), Kind::Shape);
        assert_eq!(fit(&[f64::NAN, 1.0], &[true, false], 1.0).unwrap_err().kind(), Kind::Numeric);
        assert_eq!(fit(&[0.0, 1.0], &[true, false], 0.0).unwrap_err().kind(), Kind::Usage);
    }
}
