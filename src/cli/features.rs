//! `heartlore features`: heart rate and heart-rate variability of recordings or of a prepared store.

use std::ops::Range;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::ecg::{Ecg, grid};
use super::windows::{self, RecordingArgs, seconds};
use crate::cli::Context;
use crate::data::store::Store;
use crate::error::{Error, Result};
use crate::report::plots::WindowMark;
use crate::signal::hrv::{FrequencyDomain, Hrv, NnSeries, NnSettings};
use crate::signal::{Rhythm, respiration};

/// Flags of `features`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  heartlore features recording.edf
  heartlore features recording.edf --window-s 300 --hop-s 60 --out hrv.csv --plot hrv.svg
  heartlore features store --json

Units are in the names: ms, ms2 (power in ms^2), nu (percent of LF + HF), percent, bpm. Definitions follow the Task Force
of 1996. Bands: VLF 0.0033-0.04, LF 0.04-0.15, HF 0.15-0.4 Hz. What a window is too short for is empty: HF needs 60 s,
LF 120 s, VLF and total 298 s, sample entropy 100 intervals. Artefacts (intervals outside 330-1800 ms or more than 25 % off
the median of their neighbours) are left out and counted, and so is what the quality gate rejects (rejected_s; windows of
10 s as in `heartlore quality`); no interval, and no pair of intervals for RMSSD, reaches across such a part or a gap. Losses
of up to 40 ms are filled in. why_empty says why there is no variability. breaths_per_min is from the height of the R peaks; trust it when
breath_clarity is above 0.5. With --json the result holds every flag as `settings`.")]
pub struct Args {
    /// A recording (CSV, NumPy, EDF, BDF, WFDB or packed) or a prepared store.
    #[arg(value_name = "FILE|STORE")]
    pub path: PathBuf,
    /// Length of the windows in seconds; by default the whole recording is one. A store has windows of its own.
    #[arg(long, value_name = "SECONDS")]
    pub window_s: Option<f64>,
    /// Seconds from one window's start to the next; the length by default.
    #[arg(long, value_name = "SECONDS", requires = "window_s")]
    pub hop_s: Option<f64>,
    /// CSV file to write instead of standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// SVG picture of the recording with its beats and windows (not of a store).
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Write over existing files.
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub recording: RecordingArgs,
}

/// The features of one window: name with unit, value if it could be taken.
type Features = Vec<(&'static str, Option<f64>)>;

/// One line of the result: where it is from, what was found, and why nothing was.
struct Row {
    place: Vec<(&'static str, String)>,
    features: Features,
    why_empty: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// Neither a readable recording nor a store; flags that do not fit; a file exists already.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    for path in [&args.out, &args.plot].into_iter().flatten() {
        windows::check_free(path, args.overwrite)?;
    }
    let is_store = args.path.is_dir() && args.path.join("manifest.json").is_file();
    let (rows, details) = if is_store { (of_store(args)?, json!({})) } else { of_recording(args, context)? };
    let empty =
        rows.iter().filter(|r| r.features.iter().all(|(n, v)| v.is_none() || COUNTS.contains(n))).count();
    if empty > 0 {
        context.note(format!("{empty} of {} windows have no feature; why_empty says why", rows.len()));
    }
    let Some(first) = rows.first() else { return Err(Error::data("no windows").in_file(&args.path)) };
    let names = first.place.iter().map(|(n, _)| *n).chain(first.features.iter().map(|(n, _)| *n));
    let names: Vec<&str> = names.chain([WHY_EMPTY]).collect();
    let lines = rows.iter().map(|r| {
        let numbers = r.features.iter().map(|(_, v)| v.map(|v| v.to_string()).unwrap_or_default());
        let why = r.why_empty.clone().unwrap_or_default();
        r.place.iter().map(|(_, v)| v.clone()).chain(numbers).chain([why]).collect()
    });
    let csv = windows::csv_text(&names, lines)?;
    let document = || {
        let mut out = details.clone();
        out["windows"] = json!(rows.iter().map(Row::json).collect::<Vec<_>>());
        out["settings"] = json!(context.settings());
        out
    };
    match &args.out {
        Some(path) => {
            crate::checkpoint::write_bytes(path, &csv)?;
            context.result(&format!("{} windows: {}\n", rows.len(), path.display()), document)
        }
        None => context.result(&String::from_utf8_lossy(&csv), document),
    }
}

impl Row {
    fn json(&self) -> Value {
        let mut out = Map::new();
        for (name, text) in &self.place {
            let number = text.parse::<f64>().ok().filter(|_| name.ends_with("_s"));
            out.insert((*name).into(), number.map_or_else(|| json!(text), |n| json!(n)));
        }
        for (name, value) in &self.features {
            out.insert((*name).into(), json!(value));
        }
        out.insert(WHY_EMPTY.into(), json!(self.why_empty));
        Value::Object(out)
    }
}

/// The rows, and what the JSON document says beside them.
fn of_recording(args: &Args, context: &Context) -> Result<(Vec<Row>, Value)> {
    let ecg = Ecg::read(&args.path, &args.recording)?;
    ecg.warnings.iter().for_each(|w| context.warn(w));
    let rhythm = ecg.rhythm()?;
    let remarks = ecg.remarks(&rhythm);
    remarks.iter().for_each(|r| context.warn(r));
    let grid = grid(args.window_s, args.hop_s, ecg.duration_s()).map_err(|e| e.in_file(&args.path))?;
    let mut rows = Vec::new();
    let mut marks = Vec::new();
    for (start_s, end_s) in grid {
        let at = |s: f64| ((s * ecg.fs_hz).round() as usize).min(ecg.samples.len());
        let (features, why_empty) = of_beats(&rhythm, at(start_s)..at(end_s), &ecg.samples, ecg.fs_hz)
            .map_err(|e| e.in_file(&args.path))?;
        let used = features.iter().any(|(n, v)| *n == "mean_bpm" && v.is_some());
        marks.push(WindowMark { start_s, end_s, used });
        let place = vec![
            ("file", ecg.file.display().to_string()),
            ("record", ecg.record.clone()),
            ("start_s", seconds(start_s)),
            ("end_s", seconds(end_s)),
        ];
        rows.push(Row { place, features, why_empty });
    }
    if let Some(path) = &args.plot {
        let beats_s: Vec<f64> = rhythm.beats().map(|b| b.sample as f64 / ecg.fs_hz).collect();
        ecg.plot(path, args.overwrite, &beats_s, &[], &marks)?;
        context.note(format!("picture: {}", path.display()));
    }
    let details = json!({
        "missing_samples": ecg.missing,
        "bridged_samples": ecg.bridged_in(&(0..ecg.samples.len())),
        "rejected": super::beats::rejected_json(&rhythm, ecg.fs_hz),
        "warnings": ecg.warnings.iter().chain(&remarks).collect::<Vec<_>>(),
    });
    Ok((rows, details))
}

fn of_store(args: &Args) -> Result<Vec<Row>> {
    for (flag, given) in [
        ("window-s", args.window_s.is_some()),
        ("plot", args.plot.is_some()),
        ("channel", args.recording.channel.is_some()),
        ("unit", args.recording.unit.is_some()),
        ("fs-hz", args.recording.fs_hz.is_some()),
        ("record", args.recording.record.is_some()),
    ] {
        if given {
            return Err(super::bad_flag(flag, "a store has windows of its own, this flag is for recordings"));
        }
    }
    if let Some(flag) = args.recording.text.given() {
        return Err(super::bad_flag(flag, "a store has windows of its own, this flag is for recordings"));
    }
    let store = Store::open(&args.path)?;
    let (index, manifest) = (store.index(), store.manifest());
    let fs_hz = manifest.processing.rate_hz;
    let mut window = vec![0.0f32; manifest.processing.window];
    let mut rows = Vec::new();
    for i in 0..index.len() {
        store.read_window(i, &mut window)?;
        let samples: Vec<f64> = window.iter().map(|v| f64::from(*v)).collect();
        // Windows of a store may be normalised: amplitudes mean nothing.
        let rhythm = Rhythm::of(&samples, fs_hz, None).map_err(|e| e.at(format!("window {i}")))?;
        let place = vec![
            ("dataset", index.dataset(i).to_string()),
            ("subject", index.subject(i).to_string()),
            ("trial", index.trial(i).to_string()),
            ("record", index.record(i).to_string()),
            ("start_s", seconds(index.start_s(i))),
            ("end_s", seconds(index.start_s(i) + window.len() as f64 / fs_hz)),
        ];
        let (features, why_empty) = of_beats(&rhythm, 0..samples.len(), &samples, fs_hz)?;
        rows.push(Row { place, features, why_empty });
    }
    Ok(rows)
}

/// Columns that are there even when nothing could be measured.
const COUNTS: [&str; 4] = ["beats", "intervals", "dropped_intervals", "rejected_s"];
const WHY_EMPTY: &str = "why_empty";

/// All features of the samples `range` of `x`, and why there are none.
fn of_beats(
    rhythm: &Rhythm,
    range: Range<usize>,
    x: &[f64],
    fs_hz: f64,
) -> Result<(Features, Option<String>)> {
    let found = rhythm.beats().filter(|b| range.contains(&b.sample)).count();
    let (rejected_s, reasons) = rhythm.rejected_in(&range, fs_hz);
    let parts = rhythm.trusted(range);
    let times: Vec<Vec<f64>> = parts.iter().map(|p| p.iter().map(|s| *s as f64 / fs_hz).collect()).collect();
    let slices: Vec<&[f64]> = times.iter().map(Vec::as_slice).collect();
    let nn = NnSeries::from_parts(&slices, &NnSettings::default())?;
    let h = Hrv::of(&nn)?;
    let (t, p) = (h.time, h.poincare);
    let why_empty = t.is_none().then(|| {
        let few = format!("{} normal intervals, at least 3 in a row are needed", nn.intervals_ms().len());
        if rejected_s == 0.0 {
            return few;
        }
        let reasons = reasons.iter().map(|r| r.name()).collect::<Vec<_>>().join(", ");
        format!("{few}; the quality gate rejects {rejected_s:.1} s: {reasons}")
    });
    let beats: Vec<usize> = parts.concat();
    let heights: Vec<f64> = beats.iter().map(|b| x[*b]).collect();
    let breath = respiration(&times.concat(), &heights)?;
    let count = |n: usize| Some(n as f64);
    let mut out: Features = vec![
        (COUNTS[0], count(found)),
        (COUNTS[1], count(nn.intervals_ms().len())),
        (COUNTS[2], count(nn.dropped())),
        (COUNTS[3], Some(rejected_s)),
        ("mean_bpm", t.map(|t| t.mean_bpm)),
        ("mean_nn_ms", t.map(|t| t.mean_nn_ms)),
        ("median_nn_ms", t.map(|t| t.median_nn_ms)),
        ("sdnn_ms", t.map(|t| t.sdnn_ms)),
        ("rmssd_ms", t.map(|t| t.rmssd_ms)),
        ("sdsd_ms", t.map(|t| t.sdsd_ms)),
        ("pnn50_percent", t.map(|t| t.pnn50_percent)),
        ("pnn20_percent", t.map(|t| t.pnn20_percent)),
        ("cvnn", t.map(|t| t.cvnn)),
        ("min_nn_ms", t.map(|t| t.min_nn_ms)),
        ("max_nn_ms", t.map(|t| t.max_nn_ms)),
        ("triangular_index", t.map(|t| t.triangular_index)),
        ("sd1_ms", p.map(|p| p.sd1_ms)),
        ("sd2_ms", p.map(|p| p.sd2_ms)),
        ("sample_entropy", h.sample_entropy),
    ];
    const LOMB: [&str; 7] = [
        "lomb_vlf_ms2",
        "lomb_lf_ms2",
        "lomb_hf_ms2",
        "lomb_total_ms2",
        "lomb_lf_hf",
        "lomb_lf_nu",
        "lomb_hf_nu",
    ];
    const WELCH: [&str; 7] = [
        "welch_vlf_ms2",
        "welch_lf_ms2",
        "welch_hf_ms2",
        "welch_total_ms2",
        "welch_lf_hf",
        "welch_lf_nu",
        "welch_hf_nu",
    ];
    out.extend(LOMB.into_iter().zip(bands(h.lomb)));
    out.extend(WELCH.into_iter().zip(bands(h.welch)));
    out.push(("breaths_per_min", breath.map(|b| b.rate_per_min)));
    out.push(("breath_clarity", breath.map(|b| b.clarity)));
    Ok((out, why_empty))
}

fn bands(f: Option<FrequencyDomain>) -> [Option<f64>; 7] {
    let f = f.unwrap_or_default();
    [f.vlf_ms2, f.lf_ms2, f.hf_ms2, f.total_ms2, f.lf_hf, f.lf_nu, f.hf_nu]
}
