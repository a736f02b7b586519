//! `manifest.json` of a prepared store: how the windows were made, from what, and how to know they are whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::content::Sketch;
use crate::data::table::Naming;
use crate::error::{IoContext, Result};

/// Value of [`Manifest::format`].
pub const FORMAT: &str = "heartlore-store";
/// Version written; older ones would be converted here.
pub const FORMAT_VERSION: u32 = 1;

/// The band-pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Butterworth order per edge: order 4 makes a band-pass of 8 poles, as `scipy.signal.butter(4, ..., 'bandpass')`.
    pub order: usize,
    /// Lower cut-off, Hz.
    pub low_hz: f64,
    /// Upper cut-off, Hz; must lie below half the rate of every recording.
    pub high_hz: f64,
    /// Forward and backward (no delay, needs the whole recording) or forward only (causal).
    pub zero_phase: bool,
}

/// Everything that decides a window's values. Two stores with equal processing can be mixed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processing {
    /// Samples per second of the windows.
    pub rate_hz: f64,
    /// Samples per window.
    pub window: usize,
    /// Samples from one window's start to the next.
    pub hop: usize,
    /// The band-pass, or none.
    pub filter: Option<Filter>,
    /// How windows are scaled: `window`, `recording`, `subject`, `none`.
    pub normalisation: String,
}

impl Processing {
    /// What differs from `other`, as `name: this against that`, the hop left out (it does not change a window).
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut out = Vec::new();
        let mut note = |name: &str, a: String, b: String| {
            if a != b {
                out.push(format!("{name}: {a} against {b}"));
            }
        };
        note("rate_hz", self.rate_hz.to_string(), other.rate_hz.to_string());
        note("window", self.window.to_string(), other.window.to_string());
        let filter = |p: &Self| match &p.filter {
            None => "none".to_string(),
            Some(f) => format!(
                "order {} band {}-{} Hz {}",
                f.order,
                f.low_hz,
                f.high_hz,
                if f.zero_phase { "zero-phase" } else { "causal" }
            ),
        };
        note("filter", filter(self), filter(other));
        note("normalisation", self.normalisation.clone(), other.normalisation.clone());
        out
    }
}

/// A file that windows were cut from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Path as it was given.
    pub file: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// What a recording, or a part of one, holds: by which a copy of it is found. Rows of the index with the same data set,
/// subject, trial and record are its windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordingContent {
    /// Data set.
    pub dataset: String,
    /// Person.
    pub subject: String,
    /// Trial.
    pub trial: String,
    /// Recording.
    pub record: String,
    /// How much is known of whose it is.
    pub naming: Naming,
    /// Files it was read from: places in [`Manifest::sources`].
    pub sources: Vec<usize>,
    /// SHA-256 of its samples, each as a share of the range from the lowest to the highest in 16 bits (little-endian, 65535
    /// for the highest, 0 for the lowest and for a missing one); null for a flat one.
    pub samples_sha256: Option<String>,
    /// Where its samples stand out, and in which shape.
    pub sketch: Sketch,
}

/// A recording that gave no windows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Skipped {
    /// File and record.
    pub record: String,
    /// Why.
    pub reason: String,
}

/// What was kept and what was not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Recordings (table rows) asked for.
    pub recordings: u64,
    /// Windows in the store.
    pub windows_kept: u64,
    /// Windows not kept, by reason.
    pub windows_dropped: BTreeMap<String, u64>,
    /// Missing samples met in the recordings.
    pub samples_missing: u64,
    /// Samples at the ends of stretches that fill no window, at the store's rate.
    pub samples_left_over: u64,
    /// Recordings that gave no windows.
    pub skipped: Vec<Skipped>,
    /// Defects that did not prevent reading, as `file: warning`.
    pub warnings: Vec<String>,
}

/// The manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Version of heartlore that wrote the store.
    pub heartlore_version: String,
    /// Number of windows.
    pub windows: u64,
    /// Samples per window.
    pub samples: u64,
    /// Unit of the values: `mV`, `z-score` or `arbitrary`.
    pub unit: String,
    /// How they were made.
    pub processing: Processing,
    /// Settings of the quality gate, or null when it was off.
    pub quality_gate: serde_json::Value,
    /// Most windows per subject and per data set, null for no limit.
    pub caps: serde_json::Value,
    /// Label columns of the index.
    pub labels: Vec<String>,
    /// What was kept and dropped.
    pub counts: Counts,
    /// What the windows were cut from.
    pub sources: Vec<Source>,
    /// What the recordings hold that gave windows; `None` in stores of earlier versions.
    #[serde(default)]
    pub recordings: Option<Vec<RecordingContent>>,
    /// Licences and attributions that must travel with the data.
    pub notes: Vec<String>,
    /// SHA-256 of the store's files by name, hexadecimal.
    pub sha256: BTreeMap<String, String>,
}

/// SHA-256 of a file and its length.
///
/// # Errors
/// The file cannot be read.
pub fn sha256_file(path: &Path) -> Result<(String, u64)> {
    let mut file = File::open(path).with_file(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    let mut len = 0;
    loop {
        let n = file.read(&mut buffer).with_file(path)?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        len += n as u64;
    }
    Ok((hex(hash), len))
}

/// [`RecordingContent::samples_sha256`].
pub fn sha256_samples(samples: &[f64]) -> Option<String> {
    let finite = || samples.iter().copied().filter(|x| x.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let scale = 65535.0 / (high - low);
    if !(scale.is_finite() && high > low) {
        return None;
    }
    let mut hash = Sha256::new();
    let mut buffer = Vec::with_capacity(1 << 16);
    for chunk in samples.chunks(1 << 15) {
        buffer.clear();
        // The cast takes a missing sample to 0.
        buffer.extend(chunk.iter().flat_map(|x| (((x - low) * scale).round() as u16).to_le_bytes()));
        hash.update(&buffer);
    }
    Some(hex(hash))
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}
