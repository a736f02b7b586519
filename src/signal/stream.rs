//! Signals that arrive block by block: causal variants of filter, resampler, normaliser and beat detector.
//!
//! | stage | type | delay | equal to the batch result |
//! |---|---|---|---|
//! | filter | [`SosFilter`](super::SosFilter) | the filter's own phase delay | to [`sosfilt`](super::sosfilt), bit for bit |
//! | resampler | [`StreamResampler`] | 10 max(up, down) / up input samples | bit for bit |
//! | normaliser | [`StreamScaler`] | none | to a z-score over the last n samples |
//! | beats | [`StreamBeats`] | 3 to 4 s | but for beats whose finding depends on samples further away |
//!
//! What comes out depends on the samples alone, never on how they were cut into blocks. Zero-phase filtering
//! ([`sosfiltfilt`](super::sosfiltfilt)) has no causal variant: each of its outputs depends on all that follows.

use std::collections::VecDeque;

use super::rpeak::{Detector, polarity};
use super::select::{BLOCK_S, LEVELS};
use super::{Resampler, Scaler, require_finite};
use crate::error::{Error, Result};

/// A [`Resampler`] that gives each output as soon as the samples it needs have come.
///
/// ```
/// use heartlore::signal::{Resampler, stream::StreamResampler};
/// let x: Vec<f64> = (0..500).map(|i| (i as f64 * 0.02).sin()).collect();
/// let resampler = Resampler::between(500.0, 128.0)?;
/// let mut stream = StreamResampler::new(resampler.clone());
/// let mut y = Vec::new();
/// stream.process(&x[..123], &mut y)?;
/// stream.process(&x[123..], &mut y)?;
/// stream.finish(&mut y);
/// assert_eq!(y, resampler.apply(&x)?);
/// # Ok::<(), heartlore::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct StreamResampler {
    resampler: Resampler,
    /// The samples that may still be needed; the first is sample `first` of the signal.
    kept: Vec<f64>,
    first: usize,
    /// Samples seen, outputs given.
    seen: usize,
    given: usize,
}

impl StreamResampler {
    /// A stream that begins with the next sample.
    pub fn new(resampler: Resampler) -> Self {
        Self { resampler, kept: Vec::new(), first: 0, seen: 0, given: 0 }
    }

    /// Input samples between the one an output lies at and the last one that it depends on.
    pub fn delay_samples(&self) -> usize {
        self.resampler.reach().1
    }

    /// Takes the next block and appends the outputs that are ready to `out`.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::error::Kind::Data) for a sample that is not finite, counted from the first sample ever; the
    /// block is then not taken.
    pub fn process(&mut self, block: &[f64], out: &mut Vec<f64>) -> Result<()> {
        require_finite(block, self.seen)?;
        self.kept.extend_from_slice(block);
        self.seen += block.len();
        // An output is ready when its newest sample has come; at the end there is nothing to wait for.
        while self.resampler.newest(self.given) < self.seen {
            self.give(out);
        }
        let oldest = (self.resampler.newest(self.given) + 1).saturating_sub(self.resampler.reach().0);
        if oldest > self.first + 4096 {
            self.kept.drain(..(oldest - self.first).min(self.kept.len()));
            self.first = self.seen - self.kept.len();
        }
        Ok(())
    }

    /// Appends the last outputs, for which samples after the end count as 0, and begins anew.
    pub fn finish(&mut self, out: &mut Vec<f64>) {
        while self.given < self.resampler.output_len(self.seen) {
            self.give(out);
        }
        (self.first, self.seen, self.given) = (0, 0, 0);
        self.kept.clear();
    }

    fn give(&mut self, out: &mut Vec<f64>) {
        out.push(self.resampler.output(self.given, &self.kept, self.first));
        self.given += 1;
    }
}

/// A z-score against the last `n` samples, the newest among them.
///
/// The first `n - 1` outputs use the samples there are. Sums are formed anew every `n` samples, so rounding does not grow
/// with time; constant input gives 0.
#[derive(Clone, Debug)]
pub struct StreamScaler {
    window: VecDeque<f64>,
    n: usize,
    /// Subtracted before summing, so that an offset does not cancel digits.
    reference: f64,
    sum: f64,
    squares: f64,
    age: usize,
    seen: usize,
}

impl StreamScaler {
    /// A normaliser over the last `n` samples.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for fewer than two samples.
    pub fn new(n: usize) -> Result<Self> {
        if n < 2 {
            return Err(Error::usage(format!("normalisation over {n} samples; at least 2 are needed")));
        }
        Ok(Self { window: VecDeque::new(), n, reference: 0.0, sum: 0.0, squares: 0.0, age: 0, seen: 0 })
    }

    /// Normalises the next block in place.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::error::Kind::Data) for a sample that is not finite, counted from the first sample ever; block
    /// and state are then unchanged.
    pub fn process(&mut self, block: &mut [f64]) -> Result<()> {
        require_finite(block, self.seen)?;
        self.seen += block.len();
        for v in block {
            *v = self.next(*v);
        }
        Ok(())
    }

    fn next(&mut self, v: f64) -> f64 {
        if self.window.len() == self.n
            && let Some(old) = self.window.pop_front()
        {
            let d = old - self.reference;
            self.sum -= d;
            self.squares -= d * d;
        }
        self.window.push_back(v);
        // While the window fills every sum is fresh; after that it is renewed once per window.
        self.age += 1;
        if self.age >= self.n || self.window.len() <= 2 {
            self.renew();
        } else {
            let d = v - self.reference;
            self.sum += d;
            self.squares += d * d;
        }
        let count = self.window.len() as f64;
        let mean = self.sum / count;
        let variance = (self.squares / count - mean * mean).max(0.0);
        // Below this the difference of the two terms is rounding: ask the two-pass formula.
        let scaler = if variance < 1e-6 * (self.squares / count) || variance == 0.0 {
            Scaler::z_score(self.window.make_contiguous()).ok()
        } else {
            Some(Scaler { centre: self.reference + mean, scale: variance.sqrt(), flat: false })
        };
        match scaler {
            Some(s) if !s.flat && s.scale > 0.0 => (v - s.centre) / s.scale,
            _ => 0.0,
        }
    }

    fn renew(&mut self) {
        self.age = 0;
        self.reference = self.window.iter().sum::<f64>() / self.window.len() as f64;
        (self.sum, self.squares) = (0.0, 0.0);
        for v in &self.window {
            let d = v - self.reference;
            self.sum += d;
            self.squares += d * d;
        }
    }
}

/// Context of each search to both sides, in seconds, and how often one is made.
const CONTEXT_S: f64 = 3.0;
const PAST_S: f64 = 7.0;
const STEP_S: f64 = 1.0;
/// Latest beats whose median decides the polarity of the peaks: some minutes, so that a run of odd beats does not turn it.
const REMEMBERED: usize = 300;

/// [`detect_r_peaks`](super::detect_r_peaks) on a signal that arrives block by block.
///
/// After each whole second the last eleven seconds are searched, and of the beats found those are reported that lie in the
/// second that ended 3 s ago: so a beat is reported 3 to 4 s after it happened. The result differs from that on the whole
/// recording where the choice hangs on something further away: the polarity of the peaks, which follows the last 300 beats
/// and may be uncertain in the first seconds, and beats in noise. The size of the beats of the last minute or more is
/// remembered, so a pause yields none; before the first beat there is nothing to remember, and noise may be taken for beats.
#[derive(Clone, Debug)]
pub struct StreamBeats {
    fs_hz: f64,
    kept: Vec<f64>,
    first: usize,
    seen: usize,
    /// Searches made; beats before this sample were reported.
    searches: usize,
    reported: usize,
    last: Option<usize>,
    extents: VecDeque<[f64; 2]>,
    /// Largest prominent hump of each of the latest blocks of 5 s that have one: block and energy.
    levels: VecDeque<(usize, f64)>,
    detector: Detector,
}

impl StreamBeats {
    /// A detector for samples at `fs_hz`.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for a rate below [`MIN_FS_HZ`](super::MIN_FS_HZ).
    pub fn new(fs_hz: f64) -> Result<Self> {
        Ok(Self {
            fs_hz,
            kept: Vec::new(),
            first: 0,
            seen: 0,
            searches: 0,
            reported: 0,
            last: None,
            extents: VecDeque::new(),
            levels: VecDeque::new(),
            detector: Detector::new(fs_hz)?,
        })
    }

    /// Longest time between a beat and its report, in seconds.
    pub fn delay_s(&self) -> f64 {
        CONTEXT_S + STEP_S
    }

    fn samples(&self, seconds: f64) -> usize {
        (seconds * self.fs_hz).round() as usize
    }

    /// Takes the next block and appends the samples (counted from the first ever) of the beats that are certain to `out`.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::error::Kind::Data) for a sample that is not finite; the block is then not taken.
    pub fn process(&mut self, block: &[f64], out: &mut Vec<usize>) -> Result<()> {
        require_finite(block, self.seen)?;
        let mut rest = block;
        loop {
            // Searches happen at fixed samples, whatever the blocks.
            let due = self.samples((self.searches + 1) as f64 * STEP_S);
            let take = (due - self.seen).min(rest.len());
            self.kept.extend_from_slice(&rest[..take]);
            self.seen += take;
            rest = &rest[take..];
            if self.seen < due {
                return Ok(());
            }
            self.searches += 1;
            let until = due.saturating_sub(self.samples(CONTEXT_S));
            self.search(until, out)?;
            let keep = self.samples(PAST_S + STEP_S + CONTEXT_S);
            if self.kept.len() > 2 * keep {
                self.kept.drain(..self.kept.len() - keep);
                self.first = self.seen - self.kept.len();
            }
        }
    }

    /// Appends the beats of the last seconds and begins anew.
    ///
    /// # Errors
    /// None after blocks that were accepted, except for a signal too short to filter.
    pub fn finish(&mut self, out: &mut Vec<usize>) -> Result<()> {
        let result = if self.seen == 0 { Ok(()) } else { self.search(self.seen, out) };
        *self = Self::new(self.fs_hz)?;
        result
    }

    /// Reports the beats between the last report and `until`.
    fn search(&mut self, until: usize, out: &mut Vec<usize>) -> Result<()> {
        if until <= self.reported {
            return Ok(());
        }
        let begin = self.seen.saturating_sub(self.samples(PAST_S + STEP_S + CONTEXT_S)).max(self.first);
        let block = self.samples(BLOCK_S).max(1);
        // Of blocks that ended before the part that is searched.
        let earlier: Vec<f64> =
            self.levels.iter().filter(|(b, _)| (b + 1) * block <= begin).map(|(_, e)| *e).collect();
        let found = self.detector.humps_after(&self.kept[begin - self.first..], Some(&earlier))?;
        for (p, e) in found.prominent.iter().map(|(p, e)| (p + begin, *e)) {
            if (self.reported..until).contains(&p) {
                match self.levels.back_mut() {
                    Some((b, level)) if *b == p / block => *level = level.max(e),
                    _ => self.levels.push_back((p / block, e)),
                }
            }
        }
        while self.levels.len() > LEVELS + 3 {
            self.levels.pop_front();
        }
        for (hump, extent) in found.humps.iter().zip(found.extents()) {
            if (self.reported..until).contains(&(hump + begin)) {
                self.extents.push_back(extent);
            }
        }
        let old = self.extents.len().saturating_sub(REMEMBERED);
        self.extents.drain(..old);
        let sign = polarity(self.extents.make_contiguous());
        // A peak at the border may move by some samples from one search to the next: it is the same beat.
        let apart = self.samples(0.15);
        for p in found.peaks(sign).into_iter().map(|p| p + begin) {
            let new = self.last.is_none_or(|l| p > l + apart);
            if p >= self.reported.saturating_sub(apart) && p < until && new {
                out.push(p);
                self.last = Some(p);
            }
        }
        self.reported = until;
        Ok(())
    }
}
