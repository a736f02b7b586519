//! `heartlore beats`: the R peaks of a recording.

use std::ops::Range;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::ecg::Ecg;
use super::windows::{self, RecordingArgs};
use crate::cli::Context;
use crate::error::Result;
use crate::signal::hrv::{NnSeries, NnSettings};
use crate::signal::{BeatAgreement, Reason, Rhythm};

/// Flags of `beats`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  heartlore beats recording.edf > beats.csv
  heartlore beats 100.hea --channel MLII --plot beats.svg --out beats.csv
  heartlore beats recording.csv --fs-hz 256 --unit mV --json

One line per beat: sample and time (s) of the R peak, the interval before it (ms; empty after a gap and where noise
makes it worthless), whether that interval counts as normal to normal (330 to 1800 ms, within 25 % of the median of its
eleven neighbours, between beats of like shape where the quality gate accepts the signal), and whether the gate accepts
the 10 s around the beat. Losses of up to 40 ms are filled in; longer ones are gaps. Where the recording has beat annotations, a note says how many of them were found within 150 ms. With --json the result holds every
flag as `settings`.")]
pub struct Args {
    /// Recording: CSV, NumPy, EDF, BDF, WFDB or packed.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// CSV file to write instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// SVG picture of the recording with its beats.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Write over existing files.
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub recording: RecordingArgs,
}

/// Runs the command.
///
/// # Errors
/// The recording cannot be read or has too low a rate; a file exists already.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    for path in [&args.out, &args.plot].into_iter().flatten() {
        windows::check_free(path, args.overwrite)?;
    }
    let ecg = Ecg::read(&args.file, &args.recording)?;
    ecg.warnings.iter().for_each(|w| context.warn(w));
    let rhythm = ecg.rhythm()?;
    let remarks = ecg.remarks(&rhythm);
    remarks.iter().for_each(|r| context.warn(r));
    let second = |sample: usize| sample as f64 / ecg.fs_hz;
    let trusted: Vec<Vec<f64>> = rhythm
        .trusted(0..ecg.samples.len())
        .into_iter()
        .map(|part| part.into_iter().map(second).collect())
        .collect();
    let slices: Vec<&[f64]> = trusted.iter().map(Vec::as_slice).collect();
    let nn = NnSeries::from_parts(&slices, &NnSettings::default())?;
    let is_normal = |t: f64| nn.ends_s().binary_search_by(|e| e.total_cmp(&t)).is_ok();
    let noise = noise(&rhythm);
    let mut rows = Vec::new();
    for beats in &rhythm.stretches {
        for (i, beat) in beats.iter().enumerate() {
            let before = i.checked_sub(1).map(|i| beats[i].sample);
            let touched = |a: usize| noise.iter().any(|r| r.start <= beat.sample && r.end > a);
            let rr_ms = before.filter(|a| !touched(*a)).map(|a| 1000.0 * (second(beat.sample) - second(a)));
            rows.push(Row {
                sample: beat.sample,
                time_s: second(beat.sample),
                rr_ms,
                normal: rr_ms.is_some() && is_normal(second(beat.sample)),
                usable: beat.usable,
            });
        }
    }
    let all: Vec<f64> = rows.iter().map(|r| r.time_s).collect();
    let agreement = (!ecg.annotated_s.is_empty()).then(|| BeatAgreement::of(&all, &ecg.annotated_s, 0.15));
    if let Some(a) = agreement {
        context.note(format!(
            "{} annotated beats: {} found, {} missed, {} extra (sensitivity {:.2} %, positive predictivity {:.2} %)",
            ecg.annotated_s.len(),
            a.matched,
            a.missed,
            a.extra,
            100.0 * a.sensitivity(),
            100.0 * a.positive_predictivity()
        ));
    }
    if let Some(path) = &args.plot {
        ecg.plot(path, args.overwrite, &all, &[], &[])?;
        context.note(format!("picture: {}", path.display()));
    }
    let lines = rows.iter().enumerate().map(|(i, row)| {
        vec![
            i.to_string(),
            row.sample.to_string(),
            format!("{:.6}", row.time_s),
            row.rr_ms.map(|v| format!("{v:.3}")).unwrap_or_default(),
            u8::from(row.normal).to_string(),
            u8::from(row.usable).to_string(),
        ]
    });
    let csv = windows::csv_text(&["beat", "sample", "time_s", "rr_ms", "normal", "usable"], lines)?;
    let document = || {
        json!({
            "file": ecg.file.display().to_string(),
            "record": ecg.record,
            "channel": ecg.label,
            "fs_hz": ecg.fs_hz,
            "duration_s": ecg.duration_s(),
            "missing_samples": ecg.missing,
            "bridged_samples": ecg.bridged_in(&(0..ecg.samples.len())),
            "beats": rows.iter().map(|r| json!({
                "sample": r.sample, "time_s": r.time_s, "rr_ms": r.rr_ms, "normal": r.normal, "usable": r.usable,
            })).collect::<Vec<_>>(),
            "rejected": rejected_json(&rhythm, ecg.fs_hz),
            "annotated": agreement.map(|a| json!({
                "matched": a.matched, "missed": a.missed, "extra": a.extra,
                "sensitivity": a.sensitivity(), "positive_predictivity": a.positive_predictivity(),
            })),
            "warnings": ecg.warnings.iter().chain(&remarks).collect::<Vec<_>>(),
            "settings": context.settings(),
        })
    };
    match &args.out {
        Some(path) => {
            crate::checkpoint::write_bytes(path, &csv)?;
            context.result(&format!("{} beats: {}\n", rows.len(), path.display()), document)
        }
        None => context.result(&String::from_utf8_lossy(&csv), document),
    }
}

/// One line of the result.
struct Row {
    sample: usize,
    time_s: f64,
    rr_ms: Option<f64>,
    normal: bool,
    usable: bool,
}

/// The parts where an interval means nothing: those that the gate rejects for more than few or slow beats, which are no
/// reason to hide a long interval.
fn noise(rhythm: &Rhythm) -> Vec<Range<usize>> {
    let rate_only = |r: &Reason| matches!(r, Reason::FewBeats | Reason::HeartRate | Reason::TooShort);
    rhythm.rejected().filter(|j| !j.verdict.reasons.iter().all(rate_only)).map(|j| j.range.clone()).collect()
}

/// The parts that the gate rejects, with the reasons.
pub(super) fn rejected_json(rhythm: &Rhythm, fs_hz: f64) -> Vec<Value> {
    rhythm
        .rejected()
        .map(|j| {
            json!({
                "start_s": j.range.start as f64 / fs_hz, "end_s": j.range.end as f64 / fs_hz,
                "reasons": j.verdict.reasons.iter().map(|r| r.name()).collect::<Vec<_>>(),
            })
        })
        .collect()
}
