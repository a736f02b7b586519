//! The span mask: which points of a window are hidden in pre-training.

use super::config::{MaskConfig, ModelConfig};
use heartlore_kernels::rng::Key;

/// The operation number under which masks are drawn: above any program's, so a mask shares no numbers with dropout.
const OPERATION: u32 = u32::MAX;

/// Draws the mask of one window: `out[i]` is true where point i is masked.
///
/// At every point a span of `c.span` points starts with probability `c.probability`, independently; spans may overlap and
/// end at the window's end. Should none start, which for the paper preset's settings happens once in 10^18 windows, one
/// span is placed at a uniformly drawn start among those where it fits, so every window has something to predict.
///
/// The random numbers are those of `key`'s seed, step and sample (its `op` is ignored): the mask depends on nothing else
/// and can be drawn again alone. Probabilities are rounded to multiples of 2^-32.
///
/// # Panics
/// If `out` does not have `window` points.
pub fn spans(c: &MaskConfig, key: Key, window: usize, out: &mut [bool]) {
    assert_eq!(out.len(), window, "spans: out has {} points, the window {window}", out.len());
    let stream = Key { op: OPERATION, ..key }.stream();
    // A 32-bit number u starts a span if u < p 2^32; the comparison is in 64 bits so that p = 1 starts one everywhere.
    let threshold = (c.probability.clamp(0.0, 1.0) * (1u64 << 32) as f64).round() as u64;
    let mut until = 0;
    for (block, points) in out.chunks_mut(4).enumerate() {
        let numbers = stream.bits(0, block as u32);
        for (j, (point, u)) in points.iter_mut().zip(numbers).enumerate() {
            let i = 4 * block + j;
            if u64::from(u) < threshold {
                until = i.saturating_add(c.span);
            }
            *point = i < until;
        }
    }
    if until == 0 && window > 0 {
        let span = c.span.clamp(1, window);
        let starts = window - span + 1;
        let start = ((stream.uniform(1, 0) * starts as f64) as usize).min(starts - 1);
        out[start..start + span].fill(true);
    }
}

/// The rows whose patch holds a masked point, ascending: token j is row j, or row j + 1 behind a CLS row.
pub fn picks(c: &ModelConfig, masked: &[bool]) -> Vec<u32> {
    let mut rows = Vec::new();
    picks_into(c, masked, &mut rows);
    rows
}

/// As [`picks`], into `rows`, which is cleared first and allocates only when it must grow.
pub fn picks_into(c: &ModelConfig, masked: &[bool], rows: &mut Vec<u32>) {
    rows.clear();
    let first = u32::from(c.cls);
    let chosen = masked.chunks(c.patch().max(1)).zip(first..).filter(|(patch, _)| patch.contains(&true));
    rows.extend(chosen.map(|(_, row)| row));
}
