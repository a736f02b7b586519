//! Whether the probabilities mean what they say, over all test windows: [`crate::metrics::reliability`] of one method.

use crate::error::Result;
use crate::metrics::{Reliability, reliability};

/// Bins of the reliability diagram.
pub const BINS: usize = 10;

/// The reliability diagram of some predictions, over all folds together.
///
/// # Errors
/// If the lengths differ or a value is no probability.
pub fn calibration(labels: &[bool], probabilities: &[f64]) -> Result<Option<Reliability>> {
    reliability(labels, probabilities, BINS)
}

/// As JSON: the bins that hold windows, the expected and the largest error.
pub(super) fn json(r: &Reliability) -> serde_json::Value {
    let bins: Vec<serde_json::Value> = r
        .bins
        .iter()
        .enumerate()
        .filter(|(_, b)| b.count > 0)
        .map(|(i, b)| {
            serde_json::json!({
                "from": i as f64 / r.bins.len() as f64,
                "to": (i + 1) as f64 / r.bins.len() as f64,
                "windows": b.count,
                "mean_probability": b.mean_probability,
                "positive_rate": b.positive_rate,
            })
        })
        .collect();
    serde_json::json!({
        "expected_error": r.expected_error,
        "maximum_error": r.maximum_error,
        "bins": bins,
    })
}
