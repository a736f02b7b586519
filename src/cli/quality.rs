//! `heartlore quality`: the quality gate's judgement of each window of a recording.

use std::path::PathBuf;

use serde_json::json;

use super::ecg::{Ecg, grid};
use super::windows::{self, RecordingArgs, seconds};
use crate::cli::Context;
use crate::error::Result;
use crate::report::plots::{QualitySpan, WindowMark};
use crate::signal::{QualityGate, QualitySettings, Verdict};

/// Flags of `quality`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  heartlore quality recording.edf
  heartlore quality recording.edf --window-s 30 --hop-s 10 --out quality.csv --plot quality.svg

index goes from 0 (no ECG) to 1 (clean): the correlation of the beats with the median beat, less what is flat, clipped or
power-line interference. Losses of up to 40 ms are filled in first (bridged_samples). usable is 1 when no threshold of the quality gate is broken, as in `heartlore prepare`; reasons says which
are. The recording is judged as it is, before any filter. With --json the result holds every flag as `settings`.")]
pub struct Args {
    /// Recording: CSV, NumPy, EDF, BDF, WFDB or packed.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Length of the windows in seconds.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub window_s: f64,
    /// Seconds from one window's start to the next; the length by default.
    #[arg(long, value_name = "SECONDS")]
    pub hop_s: Option<f64>,
    /// CSV file to write instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// SVG picture of the recording with beats, quality and windows.
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
/// The recording cannot be read or is shorter than a window; a file exists already.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    for path in [&args.out, &args.plot].into_iter().flatten() {
        windows::check_free(path, args.overwrite)?;
    }
    let ecg = Ecg::read(&args.file, &args.recording)?;
    ecg.warnings.iter().for_each(|w| context.warn(w));
    let grid = grid(Some(args.window_s), args.hop_s, ecg.duration_s()).map_err(|e| e.in_file(&args.file))?;
    if ecg.mv_per_unit().is_none() {
        context.note("the unit is not known, so the amplitude is not judged");
    }
    let mut gate = QualityGate::new(QualitySettings::default());
    let mut rows: Vec<(f64, f64, Verdict, usize)> = Vec::with_capacity(grid.len());
    for (start_s, end_s) in grid {
        let at = |s: f64| ((s * ecg.fs_hz).round() as usize).min(ecg.samples.len());
        let range = at(start_s)..at(end_s);
        let bridged = ecg.bridged_in(&range);
        let verdict = gate.judge(&ecg.samples[range], ecg.fs_hz, ecg.mv_per_unit());
        rows.push((start_s, end_s, verdict.map_err(|e| e.in_file(&args.file))?, bridged));
    }
    context.note(gate.counts().to_string());
    if let Some(path) = &args.plot {
        let spans =
            rows.iter().map(|(a, b, v, _)| QualitySpan { start_s: *a, end_s: *b, quality: v.index() });
        let marks = rows.iter().map(|(a, b, v, _)| WindowMark { start_s: *a, end_s: *b, used: v.usable() });
        let beats: Vec<f64> = ecg.rhythm()?.beats().map(|b| b.sample as f64 / ecg.fs_hz).collect();
        ecg.plot(path, args.overwrite, &beats, &spans.collect::<Vec<_>>(), &marks.collect::<Vec<_>>())?;
        context.note(format!("picture: {}", path.display()));
    }
    let reasons = |v: &Verdict| v.reasons.iter().map(|r| r.name()).collect::<Vec<_>>();
    let header = [
        "start_s",
        "end_s",
        "index",
        "usable",
        "reasons",
        "missing_samples",
        "flat_share",
        "clip_share",
        "peak_to_peak",
        "beats",
        "heart_rate_bpm",
        "template_correlation",
        "kurtosis",
        "powerline_share",
        "qrs_share",
        "bridged_samples",
    ];
    let lines = rows.iter().map(|(start_s, end_s, v, bridged)| {
        let m = &v.measures;
        let number = |x: Option<f64>| x.map(|x| format!("{x:.4}")).unwrap_or_default();
        vec![
            seconds(*start_s),
            seconds(*end_s),
            format!("{:.4}", v.index()),
            u8::from(v.usable()).to_string(),
            reasons(v).join("; "),
            (m.non_finite + bridged).to_string(),
            number(m.flat_share),
            number(m.clip_share),
            number(m.peak_to_peak),
            m.beats.to_string(),
            number(m.heart_rate_bpm),
            number(m.template_correlation),
            number(m.kurtosis),
            number(m.powerline_share),
            number(m.qrs_share),
            bridged.to_string(),
        ]
    });
    let csv = windows::csv_text(&header, lines)?;
    let document = || {
        json!({
            "file": ecg.file.display().to_string(),
            "record": ecg.record,
            "channel": ecg.label,
            "unit": ecg.unit.to_string(),
            "windows": rows.iter().map(|(start_s, end_s, v, bridged)| { let m = &v.measures; json!({
                "start_s": start_s, "end_s": end_s, "index": v.index(), "usable": v.usable(), "reasons": reasons(v),
                "missing_samples": m.non_finite + bridged, "bridged_samples": bridged, "flat_share": m.flat_share, "clip_share": m.clip_share,
                "peak_to_peak": m.peak_to_peak, "beats": m.beats, "heart_rate_bpm": m.heart_rate_bpm,
                "template_correlation": m.template_correlation, "kurtosis": m.kurtosis,
                "powerline_share": m.powerline_share, "qrs_share": m.qrs_share,
            }) }).collect::<Vec<_>>(),
            "summary": gate.counts().to_string(),
            "warnings": ecg.warnings,
            "settings": context.settings(),
        })
    };
    match &args.out {
        Some(path) => {
            crate::checkpoint::write_bytes(path, &csv)?;
            context.result(&format!("{} windows: {}\n", rows.len(), path.display()), document)
        }
        None => context.result(&String::from_utf8_lossy(&csv), document),
    }
}
