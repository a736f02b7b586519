//! Short losses of samples, as radio links have them: filled in, marked and counted; long ones stay missing.

use std::ops::Range;

/// Longest loss that is bridged, in seconds: less than half a QRS complex, so that no wave is invented.
pub const MAX_BRIDGE_S: f64 = 0.04;
/// Largest share of any second that may be filled in.
pub const MAX_BRIDGED_SHARE: f64 = 0.1;
/// Neighbours needed on each side of a loss.
const NEIGHBOURS: usize = 2;

/// Fills the samples that are not finite in losses of at most [`MAX_BRIDGE_S`] (and of one sample at any rate) and returns where
/// they were. A loss with fewer than two samples on a side, and one in a second of which more than a tenth would be filled
/// in, is left as it is.
///
/// Between the neighbours a and b, h samples apart, of slopes s and t (differences to the sample beyond), at u in 0..1:
///
/// ```text
/// x(u) = a (1 + 2u)(1 - u)^2 + b u^2 (3 - 2u) + h s u (1 - u)^2 - h t u^2 (1 - u)
/// ```
///
/// the cubic that continues both sides. It leaves the range of a and b by at most 4/27 h (|s| + |t|).
///
/// ```
/// let mut x: Vec<f64> = (0..500).map(|i| (f64::from(i) * 0.05).sin()).collect();
/// let lost = x[100];
/// x[100] = f64::NAN;
/// x[200..300].fill(f64::NAN);
/// let bridged = heartlore::signal::bridge_losses(&mut x, 250.0);
/// assert_eq!(bridged, [100..101]);
/// assert!((x[100] - lost).abs() < 1e-3 && x[200..300].iter().all(|v| v.is_nan()));
/// ```
pub fn bridge_losses(x: &mut [f64], fs_hz: f64) -> Vec<Range<usize>> {
    let longest = ((MAX_BRIDGE_S * fs_hz).floor() as usize).max(1);
    let mut losses: Vec<Range<usize>> = Vec::new();
    let mut i = 0;
    while i < x.len() {
        if x[i].is_finite() {
            i += 1;
            continue;
        }
        let begin = i;
        while i < x.len() && !x[i].is_finite() {
            i += 1;
        }
        let finite = |part: Option<&[f64]>| part.is_some_and(|p| p.iter().all(|v| v.is_finite()));
        let before = begin.checked_sub(NEIGHBOURS).and_then(|b| x.get(b..begin));
        if i - begin <= longest && finite(before) && finite(x.get(i..i + NEIGHBOURS)) {
            losses.push(begin..i);
        }
    }
    // Samples filled in within the second that begins with each loss; a loss in a second with too many is none.
    let most = ((MAX_BRIDGED_SHARE * fs_hz).floor() as usize).max(1);
    let mut crowded = vec![false; losses.len()];
    let (mut end, mut count) = (0, 0);
    for begin in 0..losses.len() {
        while end < losses.len() && ((losses[end].end - losses[begin].start) as f64) <= fs_hz {
            count += losses[end].len();
            end += 1;
        }
        if count > most {
            crowded[begin..end].fill(true);
        }
        count -= losses[begin].len();
    }
    let mut crowded = crowded.into_iter();
    losses.retain(|_| !crowded.next().unwrap_or(false));
    for loss in &losses {
        fill(x, loss);
    }
    losses
}

fn fill(x: &mut [f64], loss: &Range<usize>) {
    let (a, b) = (x[loss.start - 1], x[loss.end]);
    let (s, t) = (a - x[loss.start - 2], x[loss.end + 1] - b);
    let h = (loss.len() + 1) as f64;
    for i in loss.clone() {
        let u = (i + 1 - loss.start) as f64 / h;
        let v = 1.0 - u;
        x[i] =
            a * (1.0 + 2.0 * u) * v * v + b * u * u * (3.0 - 2.0 * u) + h * (s * u * v * v - t * u * u * v);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is missing: what is returned is filled in and short, all else is untouched, and no second has too much.
        #[test]
        fn only_short_losses_are_filled_in(
            lost in prop::collection::vec((0usize..2000, 1usize..30), 0..60), rate in 50usize..500,
        ) {
            let mut x: Vec<f64> = (0..2000).map(|i| (f64::from(i) * 0.03).sin()).collect();
            for (at, n) in lost {
                let end = (at + n).min(x.len());
                x[at..end].fill(f64::NAN);
            }
            let before = x.clone();
            let bridged = bridge_losses(&mut x, rate as f64);
            let mut filled = vec![false; x.len()];
            for loss in &bridged {
                prop_assert!(loss.len() as f64 <= (MAX_BRIDGE_S * rate as f64).max(1.0));
                filled[loss.clone()].fill(true);
            }
            for i in 0..x.len() {
                prop_assert_eq!(filled[i], x[i].is_finite() && !before[i].is_finite());
                prop_assert!(filled[i] || x[i].to_bits() == before[i].to_bits());
                prop_assert!(!filled[i] || x[i].abs() < 3.0);
            }
            let most = (MAX_BRIDGED_SHARE * rate as f64).max(1.0);
            for second in filled.windows(rate) {
                // A loss may reach over either end of a second.
                let count = second.iter().filter(|f| **f).count() as f64;
                prop_assert!(count <= most + 2.0 * MAX_BRIDGE_S * rate as f64 + 2.0);
            }
        }

        /// A cubic's slopes are known to first order only, a line's exactly.
        #[test]
        fn a_line_is_continued(slope in -3.0..3.0f64, n in 1usize..10) {
            let line: Vec<f64> = (0..100).map(|i| slope * f64::from(i) - 7.0).collect();
            let mut x = line.clone();
            x[40..40 + n].fill(f64::INFINITY);
            prop_assert_eq!(bridge_losses(&mut x, 250.0), vec![40..40 + n]);
            prop_assert!(x.iter().zip(&line).all(|(a, b)| (a - b).abs() < 1e-9));
        }
    }

    #[test]
    fn ends_and_long_losses_stay_missing() {
        let mut x = vec![1.0; 1000];
        x[..3].fill(f64::NAN);
        x[1] = 2.0;
        x[500..511].fill(f64::NAN);
        x[999] = f64::NAN;
        assert!(bridge_losses(&mut x, 250.0).is_empty());
        assert_eq!(x.iter().filter(|v| v.is_nan()).count(), 14);
        assert!(bridge_losses(&mut [], 250.0).is_empty());
        assert!(bridge_losses(&mut [f64::NAN; 5], 250.0).is_empty());
    }
}
