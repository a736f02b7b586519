//! From a recording to probabilities: samples, or with the feature `formats` a file, through the model's own preparation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Model, Preprocessing, QualityGate};
use crate::error::{Error, Result};
use crate::signal::{Normalisation, Preparation};

/// Samples of one channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ecg<'a> {
    /// Samples; NaN where one is missing.
    pub samples: &'a [f64],
    /// Samples per second.
    pub fs_hz: f64,
    /// How many millivolts one unit of `samples` is; `None` if nobody knows, which switches the quality gate's limits on
    /// amplitudes off.
    pub mv_per_unit: Option<f64>,
}

/// One window of a recording.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WindowSpan {
    /// Seconds from the first sample of the recording.
    pub start_s: f64,
    /// Time just after the last sample, in seconds.
    pub end_s: f64,
    /// `ok`, or why the quality gate would drop the window.
    pub quality: &'static str,
}

impl WindowSpan {
    /// Whether the window passed the quality gate, or none was asked.
    pub fn is_usable(&self) -> bool {
        matches!(self.quality, "ok" | "unchecked")
    }
}

/// A recording in windows, as the model takes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PreparedRecording {
    /// Name of the recording, if it has one.
    pub record: String,
    /// The windows, in order of time. Those that fail the quality gate are there, with the reason.
    pub windows: Vec<WindowSpan>,
    /// The windows' values, `[windows, samples]`.
    pub values: Vec<f32>,
    /// Seconds of signal that were looked at.
    pub duration_s: f64,
    /// Missing samples, at the recording's rate.
    pub missing: usize,
    /// Seconds of signal that fill no window.
    pub left_over_s: f64,
    /// Windows that are not there at all, by reason: without any variation there is nothing to scale by.
    pub dropped: BTreeMap<String, usize>,
    /// What reading and cutting noticed.
    pub warnings: Vec<String>,
    /// Files that were read.
    pub files: Vec<PathBuf>,
}

impl PreparedRecording {
    /// Why there are no windows.
    pub fn why_empty(&self) -> String {
        if self.dropped.is_empty() {
            return format!(
                "shorter than a window: {:.1} s with {} missing samples",
                self.duration_s, self.missing
            );
        }
        self.dropped.iter().map(|(reason, n)| format!("{n} windows: {reason}")).collect::<Vec<_>>().join("; ")
    }
}

/// A recording with the probability of each window.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordingPrediction {
    /// The windows.
    pub prepared: PreparedRecording,
    /// The probability of the positive state, one per window; NaN where a model that reads the past has too little of it.
    pub probabilities: Vec<f32>,
}

/// A recording in three numbers, over the windows that passed the quality gate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecordingSummary {
    /// Windows that passed.
    pub usable: usize,
    /// Their mean probability; `None` without a window.
    pub mean_probability: Option<f64>,
    /// Share of them with a probability of at least the threshold.
    pub positive_share: Option<f64>,
}

impl RecordingPrediction {
    /// Windows with their probabilities.
    pub fn rows(&self) -> impl Iterator<Item = (&WindowSpan, f32)> {
        self.prepared.windows.iter().zip(self.probabilities.iter().copied())
    }

    /// The recording in three numbers.
    pub fn summary(&self, threshold: f64) -> RecordingSummary {
        // A window with too little of its person's past has no probability.
        let judged = self.rows().filter(|(w, p)| w.is_usable() && p.is_finite());
        let usable: Vec<f64> = judged.map(|(_, p)| f64::from(p)).collect();
        let n = usable.len();
        let mean = |sum: f64| (n > 0).then(|| sum / n as f64);
        RecordingSummary {
            usable: n,
            mean_probability: mean(usable.iter().sum()),
            positive_share: mean(
                usable.iter().filter(|p| crate::metrics::is_positive(**p, threshold)).count() as f64,
            ),
        }
    }
}

/// What the user says about a recording file beyond what it says itself.
#[cfg(feature = "formats")]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecordingOptions {
    /// Seconds from one window's start to the next; the model's own step if `None`.
    pub hop_s: Option<f64>,
    /// Channel to use instead of the one that looks like an ECG: its label, or `#2` for the second.
    pub channel: Option<String>,
    /// Unit of a recording that names none.
    pub unit: Option<crate::data::recording::Unit>,
    /// Sampling rate of a recording that names none, Hz.
    pub fs_hz: Option<f64>,
    /// Record to read from a file that holds several: packed, or a variable of a MATLAB, HDF5 or `.npz` file.
    pub record: Option<String>,
    /// Name (or `#number`) of the column with time stamps in a text table; `none` to ignore time stamps.
    pub time_column: Option<String>,
    /// How a text table is written, where that is not to be found out from the file.
    pub text: crate::data::readers::text::TextOptions,
}

impl Model {
    /// How the model's windows were made.
    ///
    /// # Errors
    /// [`Kind::Data`](crate::error::Kind::Data) if the model does not say.
    pub fn require_preprocessing(&self) -> Result<&Preprocessing> {
        self.preprocessing.as_ref().ok_or_else(|| {
            Error::data(
                "the model does not say how its windows were prepared: preprocessor_config.json is missing",
            )
            .remedy(
                "put the file beside config.json, or prepare windows yourself and use `heartlore forward`",
            )
        })
    }

    /// What to know of the quality gate where the model does not say which windows its training left out.
    fn gate_warning(&self) -> Option<String> {
        let unknown = self.preprocessing.as_ref().is_some_and(|p| p.quality_gate == QualityGate::Unknown);
        unknown.then(|| GATE.to_string())
    }

    /// The model's preparation with a step of `hop_s` seconds between windows, or its own.
    ///
    /// # Errors
    /// A model that does not say how its windows were made; a step shorter than a sample.
    pub fn preparation(&self, hop_s: Option<f64>) -> Result<Preparation> {
        let mut preparation = self.require_preprocessing()?.preparation();
        match hop_s {
            None => {}
            Some(s) if s.is_finite() && s * preparation.rate_hz >= 1.0 => {
                preparation.hop = (s * preparation.rate_hz).round() as usize;
            }
            Some(s) => {
                return Err(Error::usage(format!("a step of {s} s is less than a sample"))
                    .at("--hop-s")
                    .remedy("give the seconds from one window's start to the next, for example 5"));
            }
        }
        Ok(preparation)
    }

    /// Cuts `ecg` into windows exactly as the model's own were made; `hop_s` overrules the step between them.
    ///
    /// # Errors
    /// A model that does not say how its windows were made; a rate that its filter or the quality gate cannot take.
    pub fn prepare_samples(&self, ecg: Ecg<'_>, hop_s: Option<f64>) -> Result<PreparedRecording> {
        let preparation = self.preparation(hop_s)?;
        if !(ecg.fs_hz.is_finite() && ecg.fs_hz > 0.0) {
            return Err(Error::usage(format!("a sampling rate of {} Hz", ecg.fs_hz))
                .remedy("give the number of samples per second, for example 256"));
        }
        let filtered = preparation.filter(ecg.samples, ecg.fs_hz)?;
        let (candidates, left_over) = preparation.candidates(ecg.samples, &filtered, ecg.mv_per_unit)?;
        let whole = match preparation.normalisation {
            Normalisation::Recording | Normalisation::Subject if !filtered.stretches.is_empty() => {
                Some(filtered.scaler()?)
            }
            _ => None,
        };
        let mut out = PreparedRecording {
            duration_s: ecg.samples.len() as f64 / ecg.fs_hz,
            missing: filtered.missing,
            left_over_s: left_over as f64 / preparation.rate_hz,
            ..PreparedRecording::default()
        };
        out.warnings.extend(self.gate_warning());
        if !filtered.bridged.is_empty() {
            let samples: usize = filtered.bridged.iter().map(std::ops::Range::len).sum();
            out.warnings
                .push(format!("{samples} missing samples were filled in, in losses of at most 40 ms"));
        }
        if preparation.normalisation == Normalisation::Subject {
            out.warnings.push(SUBJECT.into());
        }
        let window_s = preparation.window as f64 / preparation.rate_hz;
        for c in candidates {
            match preparation.normalised(c.samples, whole.as_ref())? {
                Some(values) => {
                    let (start_s, quality) = (c.start_s, c.quality.name());
                    out.windows.push(WindowSpan { start_s, end_s: start_s + window_s, quality });
                    out.values.extend(values);
                }
                None => *out.dropped.entry("no variation to normalise by".into()).or_insert(0) += 1,
            }
        }
        Ok(out)
    }

    /// The probability of the positive state for each window of `ecg`.
    ///
    /// ```no_run
    /// # fn main() -> heartlore::Result<()> {
    /// # let samples = vec![0f64; 256 * 60];
    /// use heartlore::model::{Ecg, Model};
    /// let model = Model::load("runs/emotion/model")?;
    /// let ecg = Ecg { samples: &samples, fs_hz: 256.0, mv_per_unit: Some(1.0) };
    /// for (window, probability) in model.predict_samples(ecg, None)?.rows() {
    ///     println!("{:.1} s: {probability:.3} ({})", window.start_s, window.quality);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Model::prepare_samples`] and [`Model::predict`].
    pub fn predict_samples(&self, ecg: Ecg<'_>, hop_s: Option<f64>) -> Result<RecordingPrediction> {
        let prepared = self.prepare_samples(ecg, hop_s)?;
        let probabilities = self.predict(&prepared.values)?;
        Ok(RecordingPrediction { prepared, probabilities })
    }

    /// Reads a recording of any known format and cuts it into windows exactly as the model's own were made.
    ///
    /// # Errors
    /// As [`Model::prepare_samples`]; whatever reading refuses. The error names the file.
    #[cfg(feature = "formats")]
    pub fn prepare_recording(
        &self,
        file: impl AsRef<std::path::Path>,
        options: &RecordingOptions,
    ) -> Result<PreparedRecording> {
        let file = file.as_ref();
        self.read_and_prepare(file, options).map_err(|e| e.in_file(file))
    }

    #[cfg(feature = "formats")]
    fn read_and_prepare(
        &self,
        file: &std::path::Path,
        options: &RecordingOptions,
    ) -> Result<PreparedRecording> {
        use crate::data::prepare::{PrepareSettings, cut};
        use crate::data::table::Item;
        let preparation = self.preparation(options.hop_s)?;
        let settings = PrepareSettings {
            rate_hz: preparation.rate_hz,
            filter: self.require_preprocessing()?.processing().filter,
            window: preparation.window,
            hop: preparation.hop,
            normalisation: preparation.normalisation,
            quality: preparation.quality,
            channel: options.channel.clone(),
            unit: options.unit.clone(),
            fs_hz: options.fs_hz,
            time_column: options.time_column.clone(),
            text: options.text.clone(),
            ..PrepareSettings::default()
        };
        let item = Item { file: file.to_path_buf(), record: options.record.clone(), ..Item::default() };
        let subject = match preparation.normalisation {
            Normalisation::Subject => Some(cut::moments(&item, &settings)?.scaler()),
            _ => None,
        };
        let mut cut = cut::cut_flagged(&item, &settings, subject.as_ref())?;
        cut.warnings.extend(self.gate_warning());
        if subject.is_some() {
            cut.warnings.push(SUBJECT.into());
        }
        let window_s = preparation.window as f64 / preparation.rate_hz;
        let mut values = Vec::with_capacity(cut.windows.len() * preparation.window);
        let windows = cut.windows.into_iter().map(|(start_s, quality, samples)| {
            values.extend(samples);
            WindowSpan { start_s, end_s: start_s + window_s, quality }
        });
        let windows = windows.collect();
        Ok(PreparedRecording {
            record: cut.record,
            windows,
            values,
            duration_s: cut.duration_s,
            missing: cut.missing,
            left_over_s: cut.left_over as f64 / preparation.rate_hz,
            dropped: cut.dropped,
            warnings: cut.warnings,
            files: cut.files,
        })
    }

    /// Reads a recording of any known format and gives the probability of the positive state for each window.
    ///
    /// ```no_run
    /// # fn main() -> heartlore::Result<()> {
    /// let model = heartlore::Model::load("runs/emotion/model")?;
    /// let prediction = model.predict_recording("recording.edf", &Default::default())?;
    /// println!("{:?}", prediction.summary(0.5));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Model::prepare_recording`] and [`Model::predict`].
    #[cfg(feature = "formats")]
    pub fn predict_recording(
        &self,
        file: impl AsRef<std::path::Path>,
        options: &RecordingOptions,
    ) -> Result<RecordingPrediction> {
        let file = file.as_ref();
        let prepared = self.prepare_recording(file, options)?;
        let probabilities = self.predict(&prepared.values).map_err(|e| e.in_file(file))?;
        Ok(RecordingPrediction { prepared, probabilities })
    }
}

const SUBJECT: &str = "the model was trained on windows normalised per subject; this recording is taken for all there is \
                       of its subject";
const GATE: &str = "the model does not say which windows its training left out: windows are judged by the default thresholds";
