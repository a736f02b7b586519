//! Windows of fixed length from a recording that may hold stretches of NaN.

use super::lanes::all_finite;
use crate::error::{Error, Result};
use std::ops::Range;

/// One window: `len` samples from sample `start` of the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Index of the first sample.
    pub start: usize,
    /// Number of samples.
    pub len: usize,
}

impl Window {
    /// The samples' indices.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.len
    }
    /// Time of the first sample, in seconds from the start of the recording.
    pub fn start_s(&self, fs_hz: f64) -> f64 {
        self.start as f64 / fs_hz
    }
    /// Time just after the last sample, in seconds from the start of the recording.
    pub fn end_s(&self, fs_hz: f64) -> f64 {
        (self.start + self.len) as f64 / fs_hz
    }
}

/// The windows of a recording, and what no window holds. Always: samples in at least one window + `left_over` +
/// `non_finite` = length of the recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// In order of time; none contains a sample that is not finite.
    pub windows: Vec<Window>,
    /// Finite samples in no window: ends of stretches, stretches shorter than a window, and gaps when hop > length.
    pub left_over: usize,
    /// Samples that are NaN or infinite.
    pub non_finite: usize,
}

/// The longest stretches without NaN or infinity, in order.
pub fn finite_runs(x: &[f64]) -> Vec<Range<usize>> {
    if !x.is_empty() && all_finite(x) {
        return std::iter::once(0..x.len()).collect();
    }
    let mut runs = Vec::new();
    let mut begin = None;
    for (i, v) in x.iter().enumerate() {
        match (v.is_finite(), begin) {
            (true, None) => begin = Some(i),
            (false, Some(b)) => {
                runs.push(b..i);
                begin = None;
            }
            _ => {}
        }
    }
    if let Some(b) = begin {
        runs.push(b..x.len());
    }
    runs
}

/// Cuts windows of `len` samples, a new one every `hop` samples; the grid starts anew at the beginning of each finite
/// stretch. `hop == len` gives windows side by side, `hop < len` overlapping ones.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for a length or hop of 0.
///
/// ```
/// let mut x = vec![0.0; 10];
/// x[4] = f64::NAN;
/// let cut = heartlore::signal::windows(&x, 2, 2)?;
/// assert_eq!(cut.windows.iter().map(|w| w.start).collect::<Vec<_>>(), [0, 2, 5, 7]);
/// assert_eq!((cut.left_over, cut.non_finite), (1, 1));
/// # Ok::<(), heartlore::Error>(())
/// ```
pub fn windows(x: &[f64], len: usize, hop: usize) -> Result<Windows> {
    if len == 0 || hop == 0 {
        return Err(Error::usage(format!(
            "windows of {len} samples every {hop} samples: both must be at least 1"
        )));
    }
    let mut cut = Windows { non_finite: x.len(), ..Windows::default() };
    for run in finite_runs(x) {
        cut.non_finite -= run.len();
        let count = if run.len() < len { 0 } else { (run.len() - len) / hop + 1 };
        cut.windows.extend((0..count).map(|i| Window { start: run.start + i * hop, len }));
        let covered = if count == 0 { 0 } else { (count - 1) * hop.min(len) + len };
        cut.left_over += run.len() - covered;
    }
    Ok(cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use proptest::prelude::*;

    proptest! {
        /// Against the plain definition: a start is on its stretch's grid and no sample inside is non-finite; every sample
        /// is in a window, left over or non-finite.
        #[test]
        fn every_sample_is_accounted_for(
            finite in prop::collection::vec(prop::bool::weighted(0.9), 0..120), len in 1usize..15, hop in 1usize..20,
        ) {
            let x: Vec<f64> = finite.iter().map(|f| if *f { 1.0 } else { f64::NAN }).collect();
            let cut = windows(&x, len, hop).unwrap();
            let mut in_window = vec![false; x.len()];
            for w in &cut.windows {
                w.range().for_each(|i| in_window[i] = true);
                prop_assert!(w.range().all(|i| finite[i]));
            }
            let covered = in_window.iter().filter(|c| **c).count();
            prop_assert_eq!(covered + cut.left_over + cut.non_finite, x.len());
            let want: Vec<usize> = (0..x.len())
                .filter(|&s| {
                    let run_start = (0..=s).rev().take_while(|&i| finite[i]).last();
                    run_start.is_some_and(|b| (s - b) % hop == 0)
                        && s + len <= x.len() && finite[s..s + len].iter().all(|f| *f)
                })
                .collect();
            prop_assert_eq!(cut.windows.iter().map(|w| w.start).collect::<Vec<_>>(), want);
        }
    }

    #[test]
    fn times_and_bad_sizes() {
        let w = Window { start: 256, len: 1280 };
        assert_eq!((w.start_s(128.0), w.end_s(128.0)), (2.0, 12.0));
        assert_eq!(windows(&[1.0], 0, 1).unwrap_err().kind(), Kind::Usage);
        assert_eq!(windows(&[1.0], 1, 0).unwrap_err().kind(), Kind::Usage);
        assert_eq!(windows(&[1.0; 5], usize::MAX, usize::MAX).unwrap().left_over, 5);
        assert_eq!(windows(&[f64::INFINITY; 5], 2, 2).unwrap().non_finite, 5);
    }
}
