//! A live signal: samples in at any rate and in blocks of any size, events out.
//!
//! ```text
//! samples --causal filter--> --resampler--> windows --normalise--> model --> probability
//!    \------------------------------------- windows as recorded ----> quality gate
//!     \--beat detector--> beats, RR intervals
//! ```
//!
//! | stage | delay |
//! |---|---|
//! | filter | its group delay; about 10 ms at 10 Hz for 0.8 to 50 Hz |
//! | resampler | 10 samples of the lower of the two rates |
//! | window | a window is complete when its last sample has come |
//! | beats | 3 to 4 s after the R peak |
//!
//! [`Stream::delays`] gives the numbers of one stream. Events depend on the samples alone, never on how they were cut into
//! blocks, and the windows are those of [`Model::predict_samples`] with the same causal filter, bit for bit. A missing
//! sample (NaN or infinite) ends a stretch: filter, resampler, windows and beats begin anew after it. Losses of at most 40 ms,
//! which a recording has filled in ([`crate::signal::bridge_losses`]), end a stretch here too: whether one is filled in hangs
//! on the second after it.
//!
//! What a stream holds does not grow with time. Filter, resampler and model allocate nothing after the start; the quality
//! gate allocates once per window and the beat detector once per second.

use std::collections::VecDeque;

use super::{Model, Output, Session, sigmoid};
use crate::error::{Error, Result};
use crate::signal::stream::{StreamBeats, StreamResampler};
use crate::signal::{Preparation, QualitySettings, Resampler, SHORTEST_SEARCHED_S, Sos, SosFilter, Window};

/// What a stream is told beyond the model and the rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamOptions {
    /// Seconds from one window's start to the next; the model's own step if `None`.
    pub hop_s: Option<f64>,
    /// How many millivolts one unit of the samples is; `None` if nobody knows.
    pub mv_per_unit: Option<f64>,
    /// Whether a model that was trained on zero-phase windows may run with the causal filter of the same order and edges.
    /// Its windows then look a little different from those it knows.
    pub causal: bool,
    /// Samples that do not change for this long mean that an electrode is off, in seconds. Default 1.
    pub lead_off_s: f64,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { hop_s: None, mv_per_unit: None, causal: false, lead_off_s: 1.0 }
    }
}

/// What a stream reports. Times are seconds of signal since the first sample of the stream, missing samples included.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// An R peak.
    Beat {
        /// When.
        time_s: f64,
        /// Seconds since the beat before, if there was none missing between them.
        rr_s: Option<f64>,
    },
    /// A complete window.
    Window {
        /// First sample.
        start_s: f64,
        /// Just after the last sample.
        end_s: f64,
        /// Probability of the positive state; `None` without a model, or without variation to normalise by.
        probability: Option<f32>,
        /// `ok`, or why the quality gate would drop the window.
        quality: &'static str,
        /// The gate's verdict as a number from 0 (no ECG) to 1 (clean).
        index: f64,
    },
    /// Samples were missing; reported when the signal is back, or at the end.
    Gap {
        /// First missing sample.
        start_s: f64,
        /// First sample after them.
        end_s: f64,
        /// How many.
        samples: u64,
    },
    /// The samples stopped changing: an electrode is off.
    LeadOff {
        /// Since when.
        start_s: f64,
    },
    /// The samples change again.
    LeadOn {
        /// Since when.
        time_s: f64,
    },
}

/// How long after the fact each stage gives its result, in seconds of signal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamDelays {
    /// Group delay of the filter at 10 Hz, where most of a QRS complex lies.
    pub filter_s: f64,
    /// Samples that the resampler waits for.
    pub resampler_s: f64,
    /// Length of a window: from its first sample to its last.
    pub window_s: f64,
    /// Longest time from an R peak to its report.
    pub beats_s: f64,
}

/// The state that begins anew after every gap.
#[derive(Clone, Debug)]
struct Stage {
    /// Number of its first sample in the stream, and how many came since.
    start: u64,
    len: usize,
    filter: Option<SosFilter>,
    resampler: StreamResampler,
    /// Samples as recorded that a window may still need; the first is number `raw_first` of the stretch.
    raw: Vec<f64>,
    raw_first: usize,
    /// Filtered samples at the windows' rate, likewise.
    ready: Vec<f64>,
    ready_first: usize,
    /// First sample of the next window, at the windows' rate.
    next: usize,
    last_beat: Option<usize>,
}

/// Runs a model on a signal that arrives block by block. See the [module](self).
///
/// ```
/// use heartlore::model::{Event, Preprocessing, Stream, StreamOptions};
/// use heartlore::signal::{BandPass, Normalisation, QualitySettings, Preparation};
/// use heartlore::signal::simulate::{EcgParameters, simulate_ecg};
/// let preparation = Preparation {
///     rate_hz: 128.0, window: 1280, hop: 640, normalisation: Normalisation::Window,
///     filter: Some(BandPass { order: 4, low_hz: 0.8, high_hz: 50.0, zero_phase: false }),
///     quality: Some(QualitySettings::default()),
/// };
/// let mut stream = Stream::without_model(preparation, 250.0, StreamOptions::default())?;
/// let ecg = simulate_ecg(&EcgParameters::default(), 30.0, 250.0, 1)?;
/// let mut windows = 0;
/// for block in ecg.signal_mv.chunks(73) {
///     stream.push(block)?;
///     windows += stream.events().filter(|e| matches!(e, Event::Window { .. })).count();
/// }
/// assert_eq!(windows, 4);
/// # Ok::<(), heartlore::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Stream {
    fs_hz: f64,
    preparation: Preparation,
    options: StreamOptions,
    session: Option<Session>,
    gate: QualitySettings,
    sos: Option<Sos>,
    stage: Stage,
    beats: StreamBeats,
    found: Vec<usize>,
    /// Samples seen, missing ones included.
    seen: u64,
    gap: Option<u64>,
    /// The newest value, since when it has not changed, and whether that was reported.
    flat: Option<(f64, u64)>,
    lead_off: bool,
    events: VecDeque<Event>,
}

/// Magnitudes above this overflow in a filter; they count as missing.
const LARGEST: f64 = 1e100;
/// Samples kept beyond what is needed, so that old ones are moved away rarely.
const SLACK: usize = 4096;

impl Stream {
    /// A stream of samples at `fs_hz` through `model`'s preparation and the model.
    ///
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for a model without a classifier; for windows filtered with zero phase
    /// (unless [`StreamOptions::causal`]) or normalised over more than themselves, which need the future; for a rate that
    /// the preparation cannot take. [`Kind::Data`](crate::error::Kind::Data) if the model does not say how its windows were
    /// made.
    pub fn new(model: &Model, fs_hz: f64, options: StreamOptions) -> Result<Self> {
        let session = model.session(Output::Logit)?;
        let preparation = model.preparation(options.hop_s)?;
        let mut stream = Self::without_model(preparation, fs_hz, options)?;
        stream.session = Some(session);
        Ok(stream)
    }

    /// A stream that reports beats and the quality of windows, without probabilities. `options.hop_s` is not looked at: the
    /// step between windows is `preparation.hop`.
    ///
    /// # Errors
    /// As [`Stream::new`] for preparation and rate.
    pub fn without_model(mut preparation: Preparation, fs_hz: f64, options: StreamOptions) -> Result<Self> {
        if let Some(filter) = preparation.filter.as_mut().filter(|f| f.zero_phase) {
            if !options.causal {
                return Err(Error::usage(
                    "the model was trained on windows filtered forward and backward, which needs the future",
                )
                .remedy(
                    "train a model on windows filtered causally (heartlore prepare --zero-phase=false), or let this \
                     one run with the causal filter of the same edges: --causal (StreamOptions::causal)",
                ));
            }
            filter.zero_phase = false;
        }
        if preparation.normalisation.can_leak() {
            return Err(Error::usage(format!(
                "the model takes windows normalised per {}, which needs the future",
                preparation.normalisation
            ))
            .remedy("use a model trained on windows normalised one by one: heartlore prepare --normalisation window"));
        }
        if preparation.window == 0 || preparation.hop == 0 {
            return Err(Error::usage("window and hop must be at least 1 sample"));
        }
        if !(options.lead_off_s > 0.0 && options.lead_off_s.is_finite()) {
            return Err(Error::usage(format!("an electrode is off after {} s", options.lead_off_s)));
        }
        if let Some(mv) = options.mv_per_unit.filter(|mv| !(*mv > 0.0 && mv.is_finite())) {
            return Err(Error::usage(format!("{mv} millivolts per unit is not a positive number")));
        }
        let beats = StreamBeats::new(fs_hz)?;
        let sos = preparation.filter.map(|f| f.design(fs_hz)).transpose()?;
        let resampler = StreamResampler::new(Resampler::between(fs_hz, preparation.rate_hz)?);
        let gate = preparation.quality.unwrap_or_default();
        let stage = Stage {
            start: 0,
            len: 0,
            filter: None,
            resampler,
            raw: Vec::new(),
            raw_first: 0,
            ready: Vec::new(),
            ready_first: 0,
            next: 0,
            last_beat: None,
        };
        Ok(Self {
            fs_hz,
            preparation,
            options,
            session: None,
            gate,
            sos,
            stage,
            beats,
            found: Vec::new(),
            seen: 0,
            gap: None,
            flat: None,
            lead_off: false,
            events: VecDeque::new(),
        })
    }

    /// Sampling rate of the samples, Hz.
    pub fn fs_hz(&self) -> f64 {
        self.fs_hz
    }

    /// How windows are made, with the causal filter.
    pub fn preparation(&self) -> &Preparation {
        &self.preparation
    }

    /// Samples seen so far, missing ones included.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// How long after the fact each stage gives its result.
    pub fn delays(&self) -> StreamDelays {
        StreamDelays {
            filter_s: self.sos.as_ref().map_or(0.0, |sos| sos.group_delay_s(10.0, self.fs_hz)),
            resampler_s: self.stage.resampler.delay_samples() as f64 / self.fs_hz,
            window_s: self.preparation.window as f64 / self.preparation.rate_hz,
            beats_s: self.beats.delay_s(),
        }
    }

    /// Takes the next samples. A sample that is not finite is missing.
    ///
    /// # Errors
    /// None for a stream that was made, except for a failure of the model; the stream then goes on with the next sample.
    pub fn push(&mut self, block: &[f64]) -> Result<()> {
        block.iter().try_for_each(|v| self.sample(*v))
    }

    /// Takes the next samples as integers of a converter, `scale` units each.
    ///
    /// # Errors
    /// As [`Stream::push`].
    pub fn push_i16(&mut self, block: &[i16], scale: f64) -> Result<()> {
        block.iter().try_for_each(|v| self.sample(f64::from(*v) * scale))
    }

    /// `samples` samples were lost: a packet did not come, a strap was out of reach.
    ///
    /// # Errors
    /// As [`Stream::push`].
    pub fn lost(&mut self, samples: u64) -> Result<()> {
        if samples > 0 {
            self.sample(f64::NAN)?;
            self.seen += samples - 1;
        }
        Ok(())
    }

    /// The signal has ended: reports what was waiting for more. The stream can go on afterwards; time goes on too.
    ///
    /// # Errors
    /// As [`Stream::push`].
    pub fn finish(&mut self) -> Result<()> {
        if let Some(start) = self.gap.take() {
            self.report_gap(start);
        }
        self.end_stretch()
    }

    /// The events since the last call, in the order in which they became known.
    pub fn events(&mut self) -> impl Iterator<Item = Event> {
        self.events.drain(..)
    }

    /// The oldest event that was not yet taken.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn time_s(&self, sample: u64) -> f64 {
        sample as f64 / self.fs_hz
    }

    fn report_gap(&mut self, start: u64) {
        let (start_s, end_s) = (self.time_s(start), self.time_s(self.seen));
        self.events.push_back(Event::Gap { start_s, end_s, samples: self.seen - start });
    }

    /// One sample through all stages. Everything happens here, so block sizes cannot matter.
    fn sample(&mut self, x: f64) -> Result<()> {
        if !x.is_finite() || x.abs() > LARGEST {
            let ended = if self.gap.is_none() { self.end_stretch() } else { Ok(()) };
            self.gap.get_or_insert(self.seen);
            self.seen += 1;
            return ended;
        }
        if let Some(start) = self.gap.take() {
            self.report_gap(start);
        }
        self.watch_lead(x);
        if self.stage.len == 0 {
            self.stage.start = self.seen;
            self.stage.filter = match &self.sos {
                Some(sos) => Some(SosFilter::settled_at(sos.clone(), x)?),
                None => None,
            };
        }
        self.seen += 1;
        let stage = &mut self.stage;
        stage.len += 1;
        stage.raw.push(x);
        let mut y = [x];
        if let Some(filter) = &mut stage.filter {
            filter.process(&mut y)?;
        }
        stage.resampler.process(&y, &mut stage.ready)?;
        self.beats.process(&[x], &mut self.found)?;
        self.report_beats();
        self.report_windows()
    }

    /// Reports when the samples stop to change, and when they change again.
    fn watch_lead(&mut self, x: f64) {
        match self.flat {
            Some((value, since)) if value == x => {
                if !self.lead_off && (self.seen - since) as f64 >= self.options.lead_off_s * self.fs_hz {
                    self.lead_off = true;
                    let start_s = self.time_s(since);
                    self.events.push_back(Event::LeadOff { start_s });
                }
            }
            before => {
                self.flat = Some((x, self.seen));
                // After a gap there is nothing to compare with yet.
                if self.lead_off && before.is_some() {
                    self.lead_off = false;
                    let time_s = self.time_s(self.seen);
                    self.events.push_back(Event::LeadOn { time_s });
                }
            }
        }
    }

    fn report_beats(&mut self) {
        for i in 0..self.found.len() {
            let (beat, stage) = (self.found[i], &mut self.stage);
            let rr_s = stage.last_beat.map(|last| (beat - last) as f64 / self.fs_hz);
            stage.last_beat = Some(beat);
            let time_s = self.time_s(self.stage.start + beat as u64);
            self.events.push_back(Event::Beat { time_s, rr_s });
        }
        self.found.clear();
    }

    /// Every window that is complete.
    fn report_windows(&mut self) -> Result<()> {
        let len = self.preparation.window;
        while self.stage.ready_first + self.stage.ready.len() >= self.stage.next + len {
            let window = Window { start: self.stage.next, len };
            self.stage.next += self.preparation.hop;
            let reported = self.report_window(window);
            self.forget();
            reported?;
        }
        Ok(())
    }

    fn report_window(&mut self, place: Window) -> Result<()> {
        let stage = &self.stage;
        let samples = &stage.ready[place.start - stage.ready_first..][..place.len];
        let under = self.preparation.under(place, self.fs_hz, stage.len);
        let raw = &stage.raw[under.start - stage.raw_first..under.end - stage.raw_first];
        let verdict = self.gate.judge(raw, self.fs_hz, self.options.mv_per_unit)?;
        let quality = verdict.reasons.first().map_or("ok", |reason| reason.name());
        let probability = match (self.preparation.normalised(samples, None)?, &mut self.session) {
            (Some(values), Some(session)) => Some(sigmoid(session.run(&values)?[0])),
            _ => None,
        };
        let start_s = self.time_s(stage.start) + place.start_s(self.preparation.rate_hz);
        let end_s = start_s + place.len as f64 / self.preparation.rate_hz;
        let quality = if self.preparation.quality.is_some() { quality } else { "unchecked" };
        self.events.push_back(Event::Window { start_s, end_s, probability, quality, index: verdict.index() });
        Ok(())
    }

    /// Drops samples that no window will need.
    fn forget(&mut self) {
        let next = Window { start: self.stage.next, len: self.preparation.window };
        let stage = &mut self.stage;
        let old = (stage.next - stage.ready_first).min(stage.ready.len());
        if old > SLACK || stage.ready.len() == old {
            stage.ready.drain(..old);
            stage.ready_first += old;
        }
        let first = self.preparation.under(next, self.fs_hz, usize::MAX).start;
        let old = first.saturating_sub(stage.raw_first).min(stage.raw.len());
        if old > SLACK {
            stage.raw.drain(..old);
            stage.raw_first += old;
        }
    }

    /// Reports what was waiting for more samples and makes ready for the next stretch.
    fn end_stretch(&mut self) -> Result<()> {
        self.flat = None;
        if self.stage.len == 0 {
            return Ok(());
        }
        let long = self.stage.len as f64 >= SHORTEST_SEARCHED_S * self.fs_hz;
        self.stage.resampler.finish(&mut self.stage.ready);
        let reported = self.report_windows();
        // The detector begins anew, whatever became of the last seconds.
        let searched = if long { self.beats.finish(&mut self.found) } else { Ok(()) };
        if !long {
            self.beats = StreamBeats::new(self.fs_hz)?;
        }
        self.report_beats();
        let stage = &mut self.stage;
        stage.raw.clear();
        stage.ready.clear();
        (stage.len, stage.raw_first, stage.ready_first, stage.next) = (0, 0, 0, 0);
        (stage.last_beat, stage.filter) = (None, None);
        reported.and(searched)
    }
}
