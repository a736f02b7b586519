//! `heartlore beats`: the R peaks of a recording.

use std::path::PathBuf;

use serde_json::json;

use super::ecg::Ecg;
use super::windows::{self, RecordingArgs};
use crate::cli::Context;
use crate::error::Result;
use crate::signal::BeatAgreement;
use crate::signal::hrv::{NnSeries, NnSettings};

/// Flags of `beats`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  heartlore beats recording.edf > beats.csv
  heartlore beats 100.hea --channel MLII --plot beats.svg --out beats.csv
  heartlore beats recording.csv --fs-hz 256 --unit mV --json

One line per beat: sample and time (s) of the R peak, the interval before it (ms; empty after a gap), and whether that
interval counts as normal to normal (330 to 1800 ms and within 25 % of the median of its eleven neighbours). Where the
recording has beat annotations, a note says how many of them were found within 150 ms. With --json the result holds every
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
    let beats = ecg.beats()?;
    if !beats.too_short.is_empty() {
        context.note(format!("{} stretches of less than 2 s were not searched", beats.too_short.len()));
    }
    let parts = beats.parts_s(ecg.fs_hz);
    let slices: Vec<&[f64]> = parts.iter().map(Vec::as_slice).collect();
    let nn = NnSeries::from_parts(&slices, &NnSettings::default())?;
    let is_normal = |t: f64| nn.ends_s().binary_search_by(|e| e.total_cmp(&t)).is_ok();
    let mut rows = Vec::new();
    for (samples, times) in beats.parts.iter().zip(&parts) {
        for (i, (sample, time_s)) in samples.iter().zip(times).enumerate() {
            let rr_ms = (i > 0).then(|| 1000.0 * (time_s - times[i - 1]));
            rows.push((*sample, *time_s, rr_ms, rr_ms.is_some() && is_normal(*time_s)));
        }
    }
    let all: Vec<f64> = parts.concat();
    if all.is_empty() {
        context.warn(format!(
            "no beat was found in {:.1} s of '{}'; `heartlore inspect` shows all channels, `heartlore quality` why",
            ecg.duration_s(),
            ecg.label
        ));
    }
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
    let lines = rows.iter().enumerate().map(|(i, (sample, time_s, rr_ms, normal))| {
        vec![
            i.to_string(),
            sample.to_string(),
            format!("{time_s:.6}"),
            rr_ms.map(|v| format!("{v:.3}")).unwrap_or_default(),
            u8::from(*normal).to_string(),
        ]
    });
    let csv = windows::csv_text(&["beat", "sample", "time_s", "rr_ms", "normal"], lines)?;
    let document = || {
        json!({
            "file": ecg.file.display().to_string(),
            "record": ecg.record,
            "channel": ecg.label,
            "fs_hz": ecg.fs_hz,
            "duration_s": ecg.duration_s(),
            "beats": rows.iter().map(|(sample, time_s, rr_ms, normal)| json!({
                "sample": sample, "time_s": time_s, "rr_ms": rr_ms, "normal": normal,
            })).collect::<Vec<_>>(),
            "annotated": agreement.map(|a| json!({
                "matched": a.matched, "missed": a.missed, "extra": a.extra,
                "sensitivity": a.sensitivity(), "positive_predictivity": a.positive_predictivity(),
            })),
            "warnings": ecg.warnings,
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
