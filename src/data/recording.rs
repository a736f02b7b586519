//! What every reader delivers: channels with a unit and a rate, and how to find the ECG among them.

use std::fmt;
use std::path::PathBuf;

use crate::error::{Error, Result};

/// Unit of a channel's samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    /// mV
    Millivolt,
    /// uV
    Microvolt,
    /// V
    Volt,
    /// No unit, by the user's own word: amplitudes mean nothing, which is fine when every window is normalised.
    Arbitrary,
    /// What the file says, if it is none of these; empty when it says nothing.
    Unknown(String),
}

impl Unit {
    /// Reads a unit as files and people write it. Never fails: what is not known becomes [`Unit::Unknown`].
    pub fn parse(text: &str) -> Self {
        let t = text.trim();
        match t.to_lowercase().as_str() {
            "mv" | "millivolt" | "millivolts" => Unit::Millivolt,
            // U+00B5 micro sign, U+03BC Greek mu (the lower case of both is itself).
            "uv" | "\u{b5}v" | "\u{3bc}v" | "microvolt" | "microvolts" => Unit::Microvolt,
            "v" | "volt" | "volts" => Unit::Volt,
            "arbitrary" | "a.u." | "au" => Unit::Arbitrary,
            _ => Unit::Unknown(t.to_string()),
        }
    }

    /// How many millivolts one unit is; None when unknown. Arbitrary units stay as they are.
    pub fn to_millivolt(&self) -> Option<f64> {
        match self {
            Unit::Millivolt | Unit::Arbitrary => Some(1.0),
            Unit::Microvolt => Some(1e-3),
            Unit::Volt => Some(1e3),
            Unit::Unknown(_) => None,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Millivolt => "mV",
            Unit::Microvolt => "uV",
            Unit::Volt => "V",
            Unit::Arbitrary => "arbitrary",
            Unit::Unknown(text) => text,
        })
    }
}

/// One signal.
#[derive(Clone, Debug, PartialEq)]
pub struct Channel {
    /// Name as in the file.
    pub label: String,
    /// Unit of the samples.
    pub unit: Unit,
    /// Samples per second.
    pub fs_hz: f64,
    /// Samples; NaN where the file marks one as missing.
    pub samples: Vec<f64>,
}

impl Channel {
    /// Samples that are missing.
    pub fn missing(&self) -> usize {
        self.samples.iter().filter(|x| x.is_nan()).count()
    }

    /// Seconds.
    pub fn duration_s(&self) -> f64 {
        self.samples.len() as f64 / self.fs_hz
    }

    /// The samples in mV. `unit`, if given, overrules what the file says.
    ///
    /// # Errors
    /// The unit is unknown: the message tells the amplitude seen and the setting to give.
    pub fn to_millivolts(&self, unit: Option<&Unit>) -> Result<Vec<f64>> {
        let unit = unit.unwrap_or(&self.unit);
        let Some(factor) = unit.to_millivolt() else {
            let finite = || self.samples.iter().copied().filter(|x| x.is_finite());
            let (low, high) =
                (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
            let seen = if low <= high {
                format!("its samples go from {low} to {high}")
            } else {
                "it has no samples".into()
            };
            let named = match unit {
                Unit::Unknown(text) if text.is_empty() => "has no unit".to_string(),
                other => format!("has the unknown unit '{other}'"),
            };
            return Err(Error::data(format!("channel '{}' {named}; {seen}", self.label)).remedy(
                "say what they are: unit = \"mV\", \"uV\" or \"V\", or \"arbitrary\" if nobody knows \
                 (a QRS complex is about 1 mV high; \"arbitrary\" is harmless when every window is normalised)",
            ));
        };
        Ok(self.samples.iter().map(|x| x * factor).collect())
    }

    /// [`Channel::to_millivolts`] for samples that are needed no more: where they are in mV they are moved.
    ///
    /// # Errors
    /// As [`Channel::to_millivolts`].
    pub(crate) fn take_millivolts(&mut self) -> Result<Vec<f64>> {
        match self.unit.to_millivolt() {
            Some(1.0) => Ok(std::mem::take(&mut self.samples)),
            _ => self.to_millivolts(None),
        }
    }
}

/// Amplitudes that no electrode on the skin gives: a QRS complex is 0.1 to 5 mV high.
const POSSIBLE_MV: std::ops::RangeInclusive<f64> = 0.005..=50.0;

impl Channel {
    /// Whether `mv`, the samples in mV, can be an ECG: the median height (highest less lowest sample) of stretches of 2 s,
    /// which a slow drift does not raise, must lie between 0.005 and 50 mV. Signals of arbitrary unit, and those that are
    /// flat most of the time, are not judged.
    ///
    /// # Errors
    /// The height is impossible: the message tells it, and how to say what the unit really is.
    pub fn check_amplitude(&self, mv: &[f64]) -> Result<()> {
        if self.unit == Unit::Arbitrary {
            return Ok(());
        }
        let stretch = ((2.0 * self.fs_hz).ceil() as usize).max(2);
        let height = |x: &[f64]| {
            let mut ends = (f64::INFINITY, f64::NEG_INFINITY);
            x.iter().filter(|v| v.is_finite()).for_each(|v| ends = (ends.0.min(*v), ends.1.max(*v)));
            ends.1 - ends.0
        };
        // A hundred stretches spread over the recording say enough, and cost nothing.
        let chunks = mv.len().div_ceil(stretch);
        let every = (chunks / 100).max(1);
        let mut heights: Vec<f64> =
            mv.chunks(stretch).step_by(every).map(height).filter(|h| *h > 0.0 && h.is_finite()).collect();
        // Flat (or empty) more often than not: the quality gate's business.
        if heights.len() * 2 < chunks.div_ceil(every) {
            return Ok(());
        }
        let middle = heights.len() / 2;
        let Some((_, median, _)) =
            (middle < heights.len()).then(|| heights.select_nth_unstable_by(middle, f64::total_cmp))
        else {
            return Ok(());
        };
        let median = *median;
        if POSSIBLE_MV.contains(&median) {
            return Ok(());
        }
        let (factor, guess) = match median > 1.0 {
            true => (1000.0, "uV, or counts of the converter"),
            false => (0.001, "V"),
        };
        let would = median / factor;
        let hint = match POSSIBLE_MV.contains(&would) {
            true => format!(" (as {guess}, it would be {would:.3} mV)"),
            false => String::new(),
        };
        Err(Error::data(format!(
            "channel '{}' is said to be in {}, but a stretch of 2 s is {median:.4} mV high in the median, and no ECG is \
             below 0.005 or above 50 mV{hint}",
            self.label, self.unit
        ))
        .remedy(
            "say what the samples are: --unit uV, mV or V (column `unit` of a table), or arbitrary if nobody knows; \
             or choose another --channel",
        ))
    }
}

/// An event in a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    /// Seconds from the first sample.
    pub time_s: f64,
    /// Code (such as a beat type) or text.
    pub text: String,
}

/// One recording, read and checked, not yet processed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// File it was read from.
    pub path: PathBuf,
    /// Every file that was read for it: the header, the signals, the annotations.
    pub files: Vec<PathBuf>,
    /// Person, if the file says.
    pub subject: Option<String>,
    /// Name of the recording or trial.
    pub record: String,
    /// The signals.
    pub channels: Vec<Channel>,
    /// Date and time of the first sample as the file writes it, if it does.
    pub start: Option<String>,
    /// Events, ascending in time as in the file.
    pub annotations: Vec<Annotation>,
    /// Defects that did not prevent reading: a wrong checksum, a cut-off end.
    pub warnings: Vec<String>,
}

impl Recording {
    /// The ECG: the channel `wanted`, or by [`pick_ecg`]'s rule.
    ///
    /// # Errors
    /// No such channel or no ECG: the message lists the channels there are.
    pub fn ecg_channel(&self, wanted: Option<&str>) -> Result<&Channel> {
        let labels: Vec<&str> = self.channels.iter().map(|c| c.label.as_str()).collect();
        let i = pick_ecg(&labels, wanted).map_err(|e| e.in_file(&self.path))?;
        Ok(&self.channels[i])
    }
}

/// Labels of signals that are certainly no ECG; a file with this as its only channel is refused.
const OTHER_SIGNALS: [&str; 18] = [
    "EEG", "EMG", "EOG", "EDA", "GSR", "PPG", "BVP", "RESP", "RSP", "TEMP", "SKT", "ACC", "PLETH", "SPO2",
    "ABP", "TIME", "HR", "RR",
];

/// How well a label names an ECG; lower is better, None is not at all.
fn ecg_rank(label: &str) -> Option<u8> {
    let upper = label.to_uppercase();
    let words: Vec<&str> =
        upper.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let has = |names: &[&str]| words.iter().any(|w| names.contains(w));
    if words.iter().any(|w| w.starts_with("ECG") || w.starts_with("EKG") || w.starts_with("ELECTROCARD")) {
        return Some(0);
    }
    // Any other word tells of another signal: "EEG F7" has no lead name, but "RESP II" would have one.
    if words.iter().any(|w| OTHER_SIGNALS.contains(w)) {
        return None;
    }
    if has(&["II", "MLII", "ML2", "DII", "D2"]) {
        return Some(1);
    }
    if has(&["I", "MLI", "DI", "D1"]) {
        return Some(2);
    }
    let leads = [
        "III", "DIII", "MLIII", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6", "V7", "V8", "V9",
        "MCL1", "MCL6", "CM5", "CC5", "CS5", "MV5",
    ];
    has(&leads).then_some(3)
}

/// Which of these channels is the ECG.
///
/// With `wanted`: the channel of that label (exactly, else ignoring case), or `#2` for the second channel. Without:
/// the first channel whose label has a word beginning with ECG or EKG; else lead II (II, MLII, DII); else lead I; else
/// any other lead by name (III, aVR, aVL, aVF, V1 to V9, MCL1, CM5, ...), in the order of the file. A file with a
/// single channel is taken as ECG unless its label names another signal (EEG, PPG, ...).
///
/// # Errors
/// None fits: the message lists the labels.
pub fn pick_ecg<S: AsRef<str>>(labels: &[S], wanted: Option<&str>) -> Result<usize> {
    let labels: Vec<&str> = labels.iter().map(AsRef::as_ref).collect();
    let list = || {
        if labels.is_empty() {
            "none".to_string()
        } else {
            labels.iter().map(|l| format!("'{l}'")).collect::<Vec<_>>().join(", ")
        }
    };
    if let Some(wanted) = wanted {
        let number = wanted.strip_prefix('#').and_then(|n| n.parse::<usize>().ok());
        return labels
            .iter()
            .position(|l| *l == wanted)
            .or_else(|| labels.iter().position(|l| l.trim().eq_ignore_ascii_case(wanted.trim())))
            .or_else(|| number.filter(|n| (1..=labels.len()).contains(n)).map(|n| n - 1))
            .ok_or_else(|| {
                Error::data(format!("no channel '{wanted}'; the channels are: {}", list()))
                    .remedy("name one of them, or '#1' for the first")
            });
    }
    let ranked = labels.iter().enumerate().filter_map(|(i, l)| ecg_rank(l).map(|r| (r, i))).min();
    if let Some((_, i)) = ranked {
        return Ok(i);
    }
    if let [only] = labels[..] {
        let upper = only.to_uppercase();
        let other = upper.split(|c: char| !c.is_ascii_alphanumeric()).any(|w| OTHER_SIGNALS.contains(&w));
        if !other {
            return Ok(0);
        }
    }
    Err(Error::data(format!("no channel looks like an ECG; the channels are: {}", list()))
        .remedy("name the ECG channel, for example channel = \"V2\" or channel = \"#1\" for the first"))
}
