//! Measures in the time domain (Task Force 1996, table 1).

use super::NnSeries;
use crate::signal::median_in_place;

/// Width of a bin of the interval histogram, in ms: 1/128 s, the Task Force's.
const BIN_MS: f64 = 7.8125;

/// Measures in the time domain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TimeDomain {
    /// Number of NN intervals.
    pub intervals: usize,
    /// 60 000 over the mean interval, in beats per minute.
    pub mean_bpm: f64,
    /// Mean interval, in ms.
    pub mean_nn_ms: f64,
    /// Median interval, in ms.
    pub median_nn_ms: f64,
    /// Standard deviation of the intervals (divisor n - 1), in ms.
    pub sdnn_ms: f64,
    /// Root of the mean squared difference of successive intervals, in ms.
    pub rmssd_ms: f64,
    /// Standard deviation of the differences of successive intervals (divisor n - 1), in ms.
    pub sdsd_ms: f64,
    /// Successive differences of more than 50 ms, in percent of the number of intervals.
    pub pnn50_percent: f64,
    /// Successive differences of more than 20 ms, in percent of the number of intervals.
    pub pnn20_percent: f64,
    /// Standard deviation over mean of the intervals, without unit.
    pub cvnn: f64,
    /// Shortest interval, in ms.
    pub min_nn_ms: f64,
    /// Longest interval, in ms.
    pub max_nn_ms: f64,
    /// Triangular index: number of intervals over the height of their histogram with bins of 1/128 s, without unit.
    /// Meant for 20 minutes and more.
    pub triangular_index: f64,
}

impl TimeDomain {
    /// The measures; `None` for fewer than three intervals or two successive differences.
    pub fn of(nn: &NnSeries) -> Option<Self> {
        let x = nn.intervals_ms();
        let steps: Vec<f64> = nn.successive().map(|(a, b)| b - a).collect();
        if x.len() < 3 || steps.len() < 2 {
            return None;
        }
        let (mean_nn_ms, sdnn_ms) = mean_and_deviation(x);
        let (_, sdsd_ms) = mean_and_deviation(&steps);
        let squares = steps.iter().map(|d| d * d).sum::<f64>() / steps.len() as f64;
        let above =
            |limit: f64| 100.0 * steps.iter().filter(|d| d.abs() > limit).count() as f64 / x.len() as f64;
        Some(Self {
            intervals: x.len(),
            mean_bpm: 60_000.0 / mean_nn_ms,
            mean_nn_ms,
            median_nn_ms: median_in_place(&mut x.to_vec()),
            sdnn_ms,
            rmssd_ms: squares.sqrt(),
            sdsd_ms,
            pnn50_percent: above(50.0),
            pnn20_percent: above(20.0),
            cvnn: sdnn_ms / mean_nn_ms,
            min_nn_ms: x.iter().copied().fold(f64::INFINITY, f64::min),
            max_nn_ms: x.iter().copied().fold(0.0, f64::max),
            triangular_index: x.len() as f64 / highest_bin(x) as f64,
        })
    }
}

/// Mean and standard deviation with divisor n - 1.
pub(super) fn mean_and_deviation(x: &[f64]) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let squares: f64 = x.iter().map(|v| (v - mean) * (v - mean)).sum();
    (mean, (squares / (n - 1.0)).sqrt())
}

/// How many intervals the fullest bin holds.
fn highest_bin(x: &[f64]) -> usize {
    let mut bins: Vec<u64> = x.iter().map(|v| (v / BIN_MS).floor() as u64).collect();
    bins.sort_unstable();
    bins.chunk_by(|a, b| a == b).map(<[u64]>::len).max().unwrap_or(1)
}
