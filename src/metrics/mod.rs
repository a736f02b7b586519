//! Metrics: definition, formula, edge cases. Pure functions on slices; nothing here knows a model or a file.
//!
//! * [`confusion`]: counts per class and what follows from them; [`ranking`]: ROC, AUC, average precision;
//!   [`calibration`]: Brier score, expected calibration error, log loss.
//! * [`intervals`]: Student t over folds, Wilson, bootstrap over subjects.
//! * [`paired`]: is one model better than another on the same folds or the same windows?
//! * [`baseline`]: what a model must beat: the majority class, logistic regression on given features.
//! * [`special`]: the distribution functions that the above need.
//!
//! What the data do not define is `None`, never a made-up number; the docs say what scikit-learn returns there. Inputs
//! that make no sense (lengths that differ, NaN) are errors.

pub mod baseline;
pub mod calibration;
pub mod confusion;
pub mod intervals;
pub mod paired;
pub mod penalised;
pub mod ranking;
mod rng;
pub mod special;

pub use baseline::{LogisticRegression, Majority, Scaler};
pub use calibration::{Reliability, brier, log_loss, reliability};
pub use confusion::Confusion;
pub use intervals::{Bootstrap, Interval, bootstrap, jackknife_t, mean_interval, on_logit_scale, wilson};
pub use penalised::PenalisedLogistic;
pub use ranking::{RocPoint, auc, average_precision, balanced_average_precision, mean_roc, roc_curve};

use crate::error::{Error, Result};

/// Whether a probability counts as positive: it does from the threshold on, a tie included. The one rule of the crate.
pub fn is_positive(probability: f64, threshold: f64) -> bool {
    probability >= threshold
}

/// Both slices must be equally long and `values` free of NaN and infinity.
fn check_pair(labels: usize, values: &[f64], what: &str) -> Result<()> {
    if labels != values.len() {
        return Err(Error::shape(format!("{labels} labels but {} {what}", values.len())));
    }
    check_finite(values, what)
}

fn check_finite(values: &[f64], what: &str) -> Result<()> {
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(i) => Err(Error::numeric(format!("{what}: element {i} is {}", values[i]))
            .remedy("find out where the computation went wrong; NaN and infinity cannot be scored")),
    }
}

#[cfg(test)]
mod oracle;
