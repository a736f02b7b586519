//! The confusion matrix and the figures that follow from it.
//!
//! For class c: TP = items of c predicted as c, FN = items of c predicted as another, FP = items of another class
//! predicted as c, TN = the rest.

use crate::error::{Error, Result};

/// Counts of (true class, predicted class).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// Row-major, row = true class.
    counts: Vec<u64>,
}

impl Confusion {
    /// An empty matrix for `classes` classes.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// Counts `truth` against `predicted`, item by item.
    ///
    /// # Errors
    /// If the lengths differ or a class is not below `classes`.
    pub fn from_labels(truth: &[usize], predicted: &[usize], classes: usize) -> Result<Self> {
        if truth.len() != predicted.len() {
            return Err(Error::shape(format!("{} labels but {} predictions", truth.len(), predicted.len())));
        }
        let mut confusion = Self::new(classes);
        for (i, (&t, &p)) in truth.iter().zip(predicted).enumerate() {
            if t >= classes || p >= classes {
                return Err(Error::data(format!("class {} of item {i} is not below {classes}", t.max(p)))
                    .remedy("number the classes from 0 and state how many there are"));
            }
            confusion.counts[t * classes + p] += 1;
        }
        Ok(confusion)
    }

    /// Two classes from probabilities: class 1 where the probability is at least `threshold` ([`super::is_positive`]).
    ///
    /// # Errors
    /// If the lengths differ or a probability is NaN or infinite.
    pub fn from_probabilities(truth: &[bool], probabilities: &[f64], threshold: f64) -> Result<Self> {
        super::check_pair(truth.len(), probabilities, "probabilities")?;
        let mut confusion = Self::new(2);
        for (&t, &p) in truth.iter().zip(probabilities) {
            confusion.counts[usize::from(t) * 2 + usize::from(super::is_positive(p, threshold))] += 1;
        }
        Ok(confusion)
    }

    /// Adds the counts of another matrix, for example of another fold.
    ///
    /// # Errors
    /// If the numbers of classes differ.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        if self.classes != other.classes {
            return Err(Error::shape(format!("{} classes against {}", self.classes, other.classes)));
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        Ok(())
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Items of class `truth` predicted as `predicted`.
    ///
    /// # Panics
    /// If either is not a class.
    pub fn count(&self, truth: usize, predicted: usize) -> u64 {
        assert!(truth < self.classes && predicted < self.classes, "no such class");
        self.counts[truth * self.classes + predicted]
    }

    /// Number of items.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    fn truth(&self, class: usize) -> u64 {
        (0..self.classes).map(|p| self.count(class, p)).sum()
    }

    fn predicted(&self, class: usize) -> u64 {
        (0..self.classes).map(|t| self.count(t, class)).sum()
    }

    fn hits(&self) -> u64 {
        (0..self.classes).map(|c| self.count(c, c)).sum()
    }

    /// Share of items predicted right; `None` without items.
    pub fn accuracy(&self) -> Option<f64> {
        ratio(self.hits(), self.total())
    }

    /// Recall (sensitivity) of a class: TP / (TP + FN). `None` if the class does not occur (scikit-learn: 0).
    pub fn recall(&self, class: usize) -> Option<f64> {
        ratio(self.count(class, class), self.truth(class))
    }

    /// Precision of a class: TP / (TP + FP). `None` if it is never predicted (scikit-learn: 0).
    pub fn precision(&self, class: usize) -> Option<f64> {
        ratio(self.count(class, class), self.predicted(class))
    }

    /// Specificity of a class: TN / (TN + FP). `None` if no other class occurs.
    pub fn specificity(&self, class: usize) -> Option<f64> {
        let others = self.total() - self.truth(class);
        let false_positives = self.predicted(class) - self.count(class, class);
        ratio(others - false_positives, others)
    }

    /// F1 of a class: 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall. 0 if the class occurs and
    /// is never hit; `None` if it neither occurs nor is predicted (scikit-learn: 0).
    pub fn f1(&self, class: usize) -> Option<f64> {
        ratio(2 * self.count(class, class), self.truth(class) + self.predicted(class))
    }

    /// Mean of F1 over the classes that occur or are predicted; `None` without items. That is scikit-learn's
    /// `f1_score(average="macro")`.
    pub fn macro_f1(&self) -> Option<f64> {
        mean((0..self.classes).filter_map(|c| self.f1(c)))
    }

    /// Mean of recall over the classes that occur; `None` without items. That is scikit-learn's
    /// `balanced_accuracy_score`. With a single class in the data it is that class's recall and says little.
    pub fn balanced_accuracy(&self) -> Option<f64> {
        mean((0..self.classes).filter_map(|c| self.recall(c)))
    }

    /// Matthews correlation for any number of classes (J. Gorodkin, 2004):
    /// (s c - sum p_k t_k) / sqrt((s^2 - sum p_k^2) (s^2 - sum t_k^2)), s items, c hits, p_k predictions and t_k items
    /// of class k. `None` if all items or all predictions are of one class (scikit-learn: 0).
    pub fn matthews(&self) -> Option<f64> {
        let (s, c) = (i128::from(self.total()), i128::from(self.hits()));
        let sums = |f: &dyn Fn(usize) -> i128| (0..self.classes).map(f).sum::<i128>();
        let (t, p) = (|k| i128::from(self.truth(k)), |k| i128::from(self.predicted(k)));
        let covariance = s * c - sums(&|k| p(k) * t(k));
        let (var_p, var_t) = (s * s - sums(&|k| p(k) * p(k)), s * s - sums(&|k| t(k) * t(k)));
        // Rounding of the two roots can lead an epsilon beyond 1.
        (var_p > 0 && var_t > 0)
            .then(|| (covariance as f64 / (var_p as f64).sqrt() / (var_t as f64).sqrt()).clamp(-1.0, 1.0))
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0u32), |(s, n), x| (s + x, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Truth 1: 3 hit, 1 missed; truth 0: 4 right, 2 false alarms.
        let c = Confusion::from_labels(&[1, 1, 1, 1, 0, 0, 0, 0, 0, 0], &[1, 1, 1, 0, 0, 0, 0, 0, 1, 1], 2)
            .unwrap();
        assert_eq!([c.count(0, 0), c.count(0, 1), c.count(1, 0), c.count(1, 1)], [4, 2, 1, 3]);
        assert_eq!(c.accuracy(), Some(0.7));
        assert_eq!((c.recall(1), c.precision(1), c.specificity(1)), (Some(0.75), Some(0.6), Some(4.0 / 6.0)));
        assert_eq!(c.f1(1), Some(6.0 / 9.0));
        assert_eq!(c.balanced_accuracy(), Some((4.0 / 6.0 + 0.75) / 2.0));
        let want = (4.0 * 3.0 - 2.0 * 1.0) / (5.0f64 * 5.0 * 6.0 * 4.0).sqrt();
        assert!((c.matthews().unwrap() - want).abs() < 1e-15);
        let p = Confusion::from_probabilities(&[true, true, false], &[0.5, 0.49, 0.1], 0.5).unwrap();
        assert_eq!([p.count(0, 0), p.count(0, 1), p.count(1, 0), p.count(1, 1)], [1, 0, 1, 1]);
        let mut sum = c.clone();
        sum.add(&p).unwrap();
        assert_eq!(sum.total(), 13);
        assert!(sum.add(&Confusion::new(3)).is_err());
    }

    #[test]
    fn what_is_not_defined_is_none() {
        let none = Confusion::new(2);
        assert_eq!(
            [none.accuracy(), none.balanced_accuracy(), none.macro_f1(), none.matthews(), none.f1(0)],
            [None; 5]
        );
        let one = Confusion::from_labels(&[0, 0], &[0, 0], 2).unwrap();
        assert_eq!(
            [one.recall(1), one.precision(1), one.f1(1), one.specificity(0), one.matthews()],
            [None; 5]
        );
        assert_eq!(
            [one.accuracy(), one.macro_f1(), one.balanced_accuracy(), one.specificity(1)],
            [Some(1.0); 4]
        );
        let never = Confusion::from_labels(&[0, 1], &[0, 0], 2).unwrap();
        assert_eq!((never.precision(1), never.f1(1), never.matthews()), (None, Some(0.0), None));
    }

    #[test]
    fn bad_input_is_an_error() {
        assert!(Confusion::from_labels(&[0], &[], 2).is_err());
        assert!(Confusion::from_labels(&[2], &[0], 2).is_err());
        assert!(Confusion::from_labels(&[0], &[9], 2).is_err());
        assert!(Confusion::from_probabilities(&[true], &[f64::NAN], 0.5).is_err());
    }
}
