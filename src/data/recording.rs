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

/// The sign for "micro" in lower case: U+00B5 and U+03BC, and what their bytes in other encodings look like when they
/// are read as Latin-1 or Windows-1252.
const MICRO: [&str; 14] = [
    "\u{b5}",
    "\u{3bc}",
    // UTF-8 of U+00B5 and U+03BC, and the former encoded twice.
    "\u{e2}\u{b5}",
    "\u{ee}\u{bc}",
    "\u{e3}\u{201a}\u{e2}\u{b5}",
    "\u{e3}\u{82}\u{e2}\u{b5}",
    // Shift-JIS (Nihon Kohden), as Latin-1 and as Windows-1252.
    "\u{83}\u{ea}",
    "\u{192}\u{ea}",
    // EUC-JP and GB 2312; EUC-KR; Big5.
    "\u{a6}\u{ec}",
    "\u{a5}\u{ec}",
    "\u{a3}g",
    // Code pages 437 and 850; ISO 8859-7; Latin-1 upper case.
    "\u{e6}",
    "\u{ec}",
    "\u{39c}",
];

impl Unit {
    /// Reads a unit as files and people write it. Never fails: what is not known becomes [`Unit::Unknown`].
    pub fn parse(text: &str) -> Self {
        let t = text.trim();
        match t.to_lowercase().as_str() {
            "mv" | "millivolt" | "millivolts" => Unit::Millivolt,
            "uv" | "microvolt" | "microvolts" => Unit::Microvolt,
            "v" | "volt" | "volts" => Unit::Volt,
            "arbitrary" | "a.u." | "au" => Unit::Arbitrary,
            lower if lower.strip_suffix('v').is_some_and(|micro| MICRO.contains(&micro)) => Unit::Microvolt,
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
    /// How a text table was understood, as (what, how): delimiter, decimal mark, time, ... Empty for other formats.
    pub layout: Vec<(String, String)>,
}

impl Recording {
    /// The ECG: the channel `wanted`, or by [`pick_ecg`]'s rule, but never one that cannot be an ECG by its samples while
    /// another can ([`Channel::no_ecg`]).
    ///
    /// # Errors
    /// No such channel or no ECG: the message lists the channels there are.
    pub fn ecg_channel(&self, wanted: Option<&str>) -> Result<&Channel> {
        let labels: Vec<&str> = self.channels.iter().map(|c| c.label.as_str()).collect();
        let i = match wanted {
            Some(_) => pick_ecg(&labels, wanted).map_err(|e| e.in_file(&self.path))?,
            None => {
                let why = |i: usize| Ok(self.channels[i].no_ecg());
                choose_ecg(&labels, &mut Vec::new(), why).map_err(|e| e.in_file(&self.path))?
            }
        };
        Ok(&self.channels[i])
    }

    /// Number of the channel that [`Recording::ecg_channel`] takes without a wish.
    pub fn ecg_index(&self) -> Option<usize> {
        let taken = self.ecg_channel(None).ok()?;
        self.channels.iter().position(|c| std::ptr::eq(c, taken))
    }
}

impl Channel {
    /// Why the samples cannot be an ECG, whatever the channel is called: flat, a few values only, steps (a heart rate, a
    /// status), a counter. None if they can.
    pub fn no_ecg(&self) -> Option<&'static str> {
        let mut last = f64::NAN;
        let (mut pairs, mut changes, mut rises, mut falls) = (0usize, 0usize, 0usize, 0usize);
        let mut distinct: Vec<f64> = Vec::with_capacity(4);
        let mut finite = 0usize;
        for &x in self.samples.iter().filter(|x| x.is_finite()) {
            finite += 1;
            if distinct.len() < 4 && !distinct.contains(&x) {
                distinct.push(x);
            }
            if !last.is_nan() {
                pairs += 1;
                changes += usize::from(x != last);
                rises += usize::from(x > last);
                falls += usize::from(x < last);
            }
            last = x;
        }
        // Too short to tell anything.
        if finite < 50 {
            return if finite == 0 {
                Some("has no samples")
            } else {
                (distinct.len() == 1).then_some("is flat")
            };
        }
        match distinct.len() {
            1 => Some("is flat"),
            2 | 3 => Some("takes two or three values only"),
            _ if changes * 100 < pairs => Some("changes in steps"),
            _ if rises == pairs || falls == pairs => Some("only rises or falls"),
            _ => None,
        }
    }
}

/// Words of signals that are certainly no ECG; a file with this as its only channel is refused.
const OTHER_SIGNALS: [&str; 25] = [
    "EEG",
    "EMG",
    "EOG",
    "EDA",
    "GSR",
    "PPG",
    "BVP",
    "RESP",
    "RSP",
    "TEMP",
    "SKT",
    "ACC",
    "PLETH",
    "SPO",
    "ABP",
    "TIME",
    "HR",
    "RR",
    "IBI",
    "TEMPERATURE",
    "RESPIRATION",
    "GYRO",
    "MAG",
    "BATTERY",
    "ICG",
];

/// Words of what is derived from an ECG or told beside it.
const BESIDE: [&str; 34] = [
    "STATUS",
    "HR",
    "HEARTRATE",
    "BPM",
    "RATE",
    "QUALITY",
    "LEADOFF",
    "OFF",
    "RR",
    "HRV",
    "IMPEDANCE",
    "IMP",
    "BATTERY",
    "EVENT",
    "EVENTS",
    "MARKER",
    "TRIGGER",
    "PEAK",
    "PEAKS",
    "BEAT",
    "BEATS",
    "FLAG",
    "FLAGS",
    "INTERVAL",
    "INTERVALS",
    "INDEX",
    "ANNOTATION",
    "ANNOTATIONS",
    "LABEL",
    "CONFIDENCE",
    "VALID",
    "SQI",
    "COUNT",
    "AMPLITUDE",
];

/// A label's words, in upper case: between other characters, and with `heartRate` and `EcgStatus` taken apart as well.
fn words_of(label: &str) -> Vec<String> {
    let mut apart = String::with_capacity(label.len() + 4);
    let mut before_is_lower = false;
    for c in label.chars() {
        if before_is_lower && c.is_uppercase() {
            apart.push(' ');
        }
        before_is_lower = c.is_lowercase();
        apart.push(c);
    }
    let mut out: Vec<String> = Vec::new();
    for text in [label, &apart] {
        let upper = text.to_uppercase();
        for word in upper.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()) {
            if !out.iter().any(|w| w == word) {
                out.push(word.to_string());
            }
        }
    }
    out
}

fn is_among(word: &str, names: &[&str]) -> bool {
    names.contains(&word) || names.contains(&word.trim_end_matches(|c: char| c.is_ascii_digit()))
}

/// Whether a label names an ECG.
pub(crate) fn names_ecg(label: &str) -> bool {
    ecg_rank(label).is_some()
}

/// How well a label names an ECG; lower is better, None is not at all.
fn ecg_rank(label: &str) -> Option<u8> {
    let words = words_of(label);
    let has = |names: &[&str]| words.iter().any(|w| names.contains(&w.as_str()));
    if words.iter().any(|w| is_among(w, &BESIDE)) {
        return None;
    }
    if words.iter().any(|w| w.starts_with("ECG") || w.starts_with("EKG") || w.starts_with("ELECTROCARD")) {
        return Some(0);
    }
    // Any other word tells of another signal: "EEG F7" has no lead name, but "RESP II" would have one.
    if words.iter().any(|w| is_among(w, &OTHER_SIGNALS)) {
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

fn listed(labels: &[&str]) -> String {
    match labels.len() {
        0 => "none".to_string(),
        _ => labels.iter().map(|l| format!("'{l}'")).collect::<Vec<_>>().join(", "),
    }
}

/// Which of these channels is the ECG, by name.
///
/// With `wanted`: the channel of that label (exactly, else ignoring case), or `#2` for the second channel. Without:
/// the first channel whose label has a word beginning with ECG or EKG and none such as "status", "HR" or "quality"; else
/// lead II (II, MLII, DII); else lead I; else any other lead by name (III, aVR, aVL, aVF, V1 to V9, MCL1, CM5, ...), in
/// the order of the file. A file with a single channel is taken as ECG unless its label names another signal (EEG, PPG,
/// ...).
///
/// # Errors
/// None fits: the message lists the labels.
pub fn pick_ecg<S: AsRef<str>>(labels: &[S], wanted: Option<&str>) -> Result<usize> {
    let labels: Vec<&str> = labels.iter().map(AsRef::as_ref).collect();
    if let Some(wanted) = wanted {
        let number = wanted.strip_prefix('#').and_then(|n| n.parse::<usize>().ok());
        return labels
            .iter()
            .position(|l| *l == wanted)
            .or_else(|| labels.iter().position(|l| l.trim().eq_ignore_ascii_case(wanted.trim())))
            .or_else(|| number.filter(|n| (1..=labels.len()).contains(n)).map(|n| n - 1))
            .ok_or_else(|| {
                Error::data(format!("no channel '{wanted}'; the channels are: {}", listed(&labels)))
                    .remedy("name one of them, or '#1' for the first")
            });
    }
    candidates(&labels).first().map(|c| c.1).ok_or_else(|| no_ecg_named(&labels))
}

fn no_ecg_named(labels: &[&str]) -> Error {
    Error::data(format!("no channel looks like an ECG; the channels are: {}", listed(labels)))
        .remedy("name the ECG channel: --channel '#1' for the first, in a table column channel")
}

/// (rank, channel) of all that may be the ECG by name, the best first.
fn candidates(labels: &[&str]) -> Vec<(u8, usize)> {
    let mut out: Vec<(u8, usize)> =
        labels.iter().enumerate().filter_map(|(i, l)| ecg_rank(l).map(|r| (r, i))).collect();
    out.sort();
    if out.is_empty()
        && let [only] = labels
    {
        let other = words_of(only).iter().any(|w| is_among(w, &OTHER_SIGNALS) || is_among(w, &BESIDE));
        out.extend((!other).then_some((4, 0)));
    }
    out
}

/// Which of these channels is the ECG, by name and content: the best by name that can be one. `why_not` reads a channel
/// and tells why it cannot. A choice among equals, and one against the name, are warnings.
///
/// # Errors
/// None fits by name; what `why_not` meets when it reads.
pub(crate) fn choose_ecg(
    labels: &[&str],
    warnings: &mut Vec<String>,
    mut why_not: impl FnMut(usize) -> Result<Option<&'static str>>,
) -> Result<usize> {
    let mut ranked = candidates(labels);
    let unnamed = |l: &&str| {
        let number = ["column ", "channel "].iter().find_map(|p| l.strip_prefix(p));
        number.is_some_and(|n| n.parse::<usize>().is_ok())
    };
    let by_content =
        ranked.is_empty() && !labels.is_empty() && labels.len() <= 64 && labels.iter().all(unnamed);
    if by_content {
        ranked.extend((0..labels.len()).map(|i| (5, i)));
    }
    let named = |i: usize| format!("#{} '{}'", i + 1, labels[i]);
    let mut passed_over: Vec<String> = Vec::new();
    let mut taken: Option<(u8, usize)> = None;
    let mut equals: Vec<usize> = Vec::new();
    for &(rank, i) in &ranked {
        if taken.is_some_and(|(r, _)| r != rank) {
            break;
        }
        // The only one by name needs no look, but its state is worth a warning.
        match why_not(i)? {
            Some(why) => passed_over.push(format!("{} {why}", named(i))),
            None if taken.is_some() => equals.push(i),
            None => taken = Some((rank, i)),
        }
    }
    if by_content && !equals.is_empty() {
        return Err(no_ecg_named(labels));
    }
    let Some((_, i)) = taken else {
        let Some(&(rank, i)) = ranked.first() else { return Err(no_ecg_named(labels)) };
        if rank == 5 {
            return Err(no_ecg_named(labels));
        }
        warnings.push(format!(
            "{}: no ECG can be like that, but no other channel can be one",
            passed_over.join("; ")
        ));
        return Ok(i);
    };
    if !equals.is_empty() {
        let others: Vec<String> = equals.iter().map(|i| named(*i)).collect();
        warnings.push(format!(
            "{} channels may be the ECG: {} is taken, not {}; choose with --channel",
            equals.len() + 1,
            named(i),
            others.join(", ")
        ));
    } else if !passed_over.is_empty() && !by_content {
        warnings.push(format!("{} is taken as the ECG: {}", named(i), passed_over.join("; ")));
    } else if by_content {
        warnings.push(format!("{} is taken as the ECG: it is the only channel that can be one", named(i)));
    }
    Ok(i)
}
