//! The beats of a recording that may hold stretches without signal.

use std::ops::Range;

use super::{bridge_losses, detect_r_peaks, finite_runs};
use crate::error::Result;

/// A stretch shorter than this is not searched: the detector's filter needs a stretch longer than its padding, and two
/// seconds hold one beat at 30 per minute.
pub const SHORTEST_SEARCHED_S: f64 = 2.0;

/// R peaks by stretch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundBeats {
    /// Samples of the R peaks, ascending, for each stretch without missing samples that was searched.
    pub parts: Vec<Vec<usize>>,
    /// Stretches too short to search.
    pub too_short: Vec<Range<usize>>,
}

impl FoundBeats {
    /// All R peaks.
    pub fn samples(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().flatten().copied()
    }

    /// Times in seconds, by stretch.
    pub fn parts_s(&self, fs_hz: f64) -> Vec<Vec<f64>> {
        self.parts.iter().map(|p| p.iter().map(|s| *s as f64 / fs_hz).collect()).collect()
    }
}

/// R peaks of each stretch of `x` without missing (not finite) samples, after short losses are filled in; see
/// [`bridge_losses`] and [`detect_r_peaks`]. Whether the signal can be trusted is not asked: [`Rhythm`](super::Rhythm) does.
///
/// # Errors
/// [`Kind::Usage`](crate::error::Kind::Usage) for a rate below [`MIN_FS_HZ`](super::MIN_FS_HZ).
pub fn find_beats(x: &[f64], fs_hz: f64) -> Result<FoundBeats> {
    super::rpeak::require_rate(fs_hz)?;
    let mut out = FoundBeats::default();
    let mut bridged = Vec::new();
    if !super::lanes::all_finite(x) {
        bridged = x.to_vec();
        bridge_losses(&mut bridged, fs_hz);
    }
    let x = if bridged.is_empty() { x } else { &bridged };
    for run in finite_runs(x) {
        if (run.len() as f64) < SHORTEST_SEARCHED_S * fs_hz {
            out.too_short.push(run);
            continue;
        }
        let peaks = detect_r_peaks(&x[run.clone()], fs_hz)?;
        out.parts.push(peaks.into_iter().map(|p| p + run.start).collect());
    }
    Ok(out)
}
