//! `heartlore predict`: the probability of the positive state, window by window, for any readable recording.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::options::Precision;
use super::windows::{self, PreparedRecording, RecordingArgs, seconds};
use crate::cli::{Context, config, prepare};
use crate::data::{readers, table};
use crate::error::{Error, Kind, Result};
use crate::graph::MatmulPrecision;
use crate::model::Model;
use crate::model::{Output, Task};

/// Flags of `predict`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  heartlore predict recording.edf --model runs/fine/model --out predictions
  heartlore predict a.csv b.csv --model runs/fine/model --fs-hz 256 --unit mV --json
  heartlore predict recordings/ --model runs/fine/model --out predictions --skip-bad
  heartlore predict --config predictions/config.toml --out again

Recordings are filtered, resampled, cut and normalised as preprocessor_config.json of the model says. Every window gets
a probability; `quality` says whether it passed the quality gate (ok) or why not. Summaries are over windows that passed.
--out gets windows.csv, recordings.csv, predictions.json and config.toml, every flag as it was in force.")]
pub struct Args {
    /// Recordings (CSV, NumPy, EDF, WFDB or packed), or folders, which are searched with all folders in them.
    #[arg(required = true, value_name = "RECORDING")]
    pub recordings: Vec<PathBuf>,
    /// Directory of a fine-tuned model.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Folder for windows.csv, recordings.csv, predictions.json and config.toml.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Seconds from one window's start to the next; the model's own by default.
    #[arg(long, value_name = "SECONDS")]
    pub hop_s: Option<f64>,
    /// Go on when a recording cannot be read, and report it.
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub skip_bad: bool,
    /// Threads; 0 takes one per core. Does not change the numbers.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// What the operands of matrix products are rounded to: f32 (not at all), bf16, or int8 with attention in bf16; the model's
    /// parameters stay f32.
    #[arg(long, default_value_t = Precision(MatmulPrecision::F32))]
    pub precision: Precision,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub recording: RecordingArgs,
    /// Configuration file with any of these flags as keys.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// One recording with its probabilities.
struct Predicted {
    prepared: PreparedRecording,
    probabilities: Vec<f32>,
}

/// Over the windows that passed the gate.
struct Summary {
    usable: usize,
    mean_probability: Option<f64>,
    positive_share: Option<f64>,
}

impl Predicted {
    fn summary(&self, threshold: f64) -> Summary {
        let windows = self.prepared.cut.windows.iter().zip(&self.probabilities);
        let usable: Vec<f64> = windows.filter(|(w, _)| w.1 == "ok").map(|(_, p)| f64::from(*p)).collect();
        let n = usable.len();
        let mean = |sum: f64| (n > 0).then(|| sum / n as f64);
        Summary {
            usable: n,
            mean_probability: mean(usable.iter().sum()),
            positive_share: mean(usable.iter().filter(|p| **p >= threshold).count() as f64),
        }
    }

    /// Start, end, probability, quality of each window.
    fn rows(&self) -> impl Iterator<Item = (f64, f64, f32, &'static str)> {
        let window_s = self.prepared.window_s;
        let windows = self.prepared.cut.windows.iter().zip(&self.probabilities);
        windows.map(move |(w, p)| (w.0, w.0 + window_s, *p, w.1))
    }
}

/// The two names and the threshold.
struct States {
    positive: String,
    negative: String,
    threshold: f64,
}

impl States {
    fn of(&self, probability: f64) -> &str {
        if probability >= self.threshold { &self.positive } else { &self.negative }
    }
}

/// Runs the command.
///
/// # Errors
/// No classifier in the model; a recording that cannot be read or used; no window in any recording; a disk that refuses.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let model = Model::load(&args.model)?.with_threads(args.threads).with_precision(args.precision.0);
    let Task::Classifier { positive, negative, threshold } = model.task().clone() else {
        return Err(Error::usage("this model was only pre-trained: it has no classifier")
            .in_file(&args.model)
            .remedy(
                "fine-tune it on labelled windows first: heartlore finetune --data STORE --label NAME --init DIR; \
                 or take its features with heartlore embed",
            ));
    };
    let states = States { positive, negative, threshold };
    if args.hop_s.is_none() {
        let p = windows::preprocessing(&model)?;
        context.config.borrow_mut().set("hop-s", p.hop as f64 / p.rate_hz)?;
    }
    let files = collect(args, context)?;
    let bar = context.progress(files.len() as u64, "predict");
    let (mut done, mut skipped) = (Vec::new(), Vec::new());
    for (i, (file, record)) in files.iter().enumerate() {
        let flags = RecordingArgs { record: record.clone(), ..args.recording.clone() };
        let read = || windows::of_recording(&model, file, &flags, args.hop_s);
        match if i == 0 { windows::while_warming(&model, Output::Logit, read)? } else { read() } {
            Ok(prepared) => {
                let name = file.display();
                prepared.cut.warnings.iter().for_each(|w| context.warn(format!("{name}: {w}")));
                if prepared.cut.windows.is_empty() {
                    context.warn(format!("{name}: no window: {}", why_empty(&prepared)));
                }
                let probabilities = model.predict(&prepared.values).map_err(|e| e.in_file(file))?;
                done.push(Predicted { prepared, probabilities });
            }
            Err(e) if args.skip_bad && matches!(e.kind(), Kind::Format | Kind::Data | Kind::Io) => {
                context.warn(format!("skipped: {e}"));
                skipped.push((file.clone(), e.to_string()));
            }
            Err(e) if args.recordings.contains(file) => return Err(e),
            Err(e) => {
                bar.finish_and_clear();
                context
                    .note("a folder may hold files that are no recordings: --skip-bad goes on without them");
                return Err(e);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if done.iter().all(|d| d.probabilities.is_empty()) {
        let why = done.iter().map(|d| format!("{}: {}", d.prepared.file.display(), why_empty(&d.prepared)));
        let why: Vec<String> = why.chain(skipped.iter().map(|s| s.1.clone())).take(5).collect();
        return Err(Error::data(format!("no recording gave a window; {}", why.join("; "))).remedy(format!(
            "a window needs {:.1} s without a missing sample",
            windows::preprocessing(&model)?.window as f64 / windows::preprocessing(&model)?.rate_hz
        )));
    }
    let mut document = document(args, &states, &done, &skipped);
    document["settings"] = context.settings();
    if let Some(out) = &args.out {
        windows::create_dir(out)?;
        windows::write_file(&out.join("windows.csv"), &windows_csv(&states, &done)?)?;
        windows::write_file(&out.join("recordings.csv"), &recordings_csv(&states, &done, &skipped)?)?;
        windows::write_file(&out.join("predictions.json"), format!("{document:#}\n").as_bytes())?;
        context.write_config(out, config::FILE)?;
        context.note(format!("wrote {}", out.display()));
    }
    context.result(&text(&states, &done, args.out.is_none()), || document)
}

/// The recordings that the flags name, with the record of a file that holds several.
fn collect(args: &Args, context: &Context) -> Result<Vec<(PathBuf, Option<String>)>> {
    let mut files = Vec::new();
    for input in &args.recordings {
        if !input.is_dir() {
            files.push((input.clone(), args.recording.record.clone()));
            continue;
        }
        let is_packed = |manifest: &Path| {
            manifest.is_file() && readers::find(manifest).is_ok_and(|reader| reader.name() == "packed")
        };
        if args.recording.record.is_none() && is_packed(&input.join("manifest.csv")) {
            files.extend(table::packed_items(input)?.items.into_iter().map(|item| (item.file, item.record)));
            continue;
        }
        let mut collected = prepare::Collected::default();
        collected.walk(input)?;
        let (found, ignored) = (collected.files, collected.ignored);
        if found.is_empty() {
            return Err(Error::data(format!("the folder holds no recordings, but {ignored} other files"))
                .in_file(input)
                .remedy("recordings end in .csv, .tsv, .txt, .npy, .edf, .rec or .hea"));
        }
        if ignored > 0 {
            context.note(format!(
                "{}: {} recordings; {ignored} files of kinds that no reader knows left alone",
                input.display(),
                found.len()
            ));
        }
        files.extend(found.into_iter().map(|(path, _)| (path, args.recording.record.clone())));
    }
    Ok(files)
}

fn why_empty(p: &PreparedRecording) -> String {
    p.cut.why_empty()
}

fn document(args: &Args, states: &States, done: &[Predicted], skipped: &[(PathBuf, String)]) -> Value {
    let recordings = done.iter().map(|d| {
        let s = d.summary(states.threshold);
        let cut = &d.prepared.cut;
        let windows = d.rows().map(|(start_s, end_s, p, quality)| {
            json!({
                "start_s": start_s, "end_s": end_s, "probability": p,
                "state": states.of(f64::from(p)), "quality": quality,
            })
        });
        json!({
            "file": d.prepared.file.display().to_string(),
            "record": cut.record,
            "duration_s": cut.duration_s,
            "windows": windows.collect::<Vec<_>>(),
            "usable_windows": s.usable,
            "mean_probability": s.mean_probability,
            "positive_share": s.positive_share,
            "state": s.mean_probability.map(|p| states.of(p)),
            "missing_samples": cut.missing,
            "left_over_s": cut.left_over as f64 / d.prepared.rate_hz,
            "dropped": cut.dropped,
            "warnings": cut.warnings,
        })
    });
    json!({
        "model": args.model.display().to_string(),
        "positive": states.positive,
        "negative": states.negative,
        "threshold": states.threshold,
        "recordings": recordings.collect::<Vec<_>>(),
        "skipped": skipped.iter()
            .map(|(file, why)| json!({ "file": file.display().to_string(), "reason": why }))
            .collect::<Vec<_>>(),
    })
}

fn windows_csv(states: &States, done: &[Predicted]) -> Result<Vec<u8>> {
    let header = ["file", "record", "window", "start_s", "end_s", "probability", "state", "quality"];
    let lines = done.iter().flat_map(|d| {
        d.rows().enumerate().map(|(i, (start_s, end_s, p, quality))| {
            vec![
                d.prepared.file.display().to_string(),
                d.prepared.cut.record.clone(),
                i.to_string(),
                seconds(start_s),
                seconds(end_s),
                p.to_string(),
                states.of(f64::from(p)).to_string(),
                quality.to_string(),
            ]
        })
    });
    windows::csv_text(&header, lines)
}

fn recordings_csv(states: &States, done: &[Predicted], skipped: &[(PathBuf, String)]) -> Result<Vec<u8>> {
    let header = [
        "file",
        "record",
        "duration_s",
        "windows",
        "usable_windows",
        "mean_probability",
        "positive_share",
        "state",
        "missing_samples",
        "left_over_s",
        "remark",
    ];
    let number = |x: Option<f64>| x.map(|x| x.to_string()).unwrap_or_default();
    let lines = done.iter().map(|d| {
        let (s, cut) = (d.summary(states.threshold), &d.prepared.cut);
        let empty = cut.windows.is_empty().then(|| why_empty(&d.prepared));
        let remarks: Vec<String> = cut.warnings.iter().cloned().chain(empty).collect();
        vec![
            d.prepared.file.display().to_string(),
            cut.record.clone(),
            seconds(cut.duration_s),
            cut.windows.len().to_string(),
            s.usable.to_string(),
            number(s.mean_probability),
            number(s.positive_share),
            s.mean_probability.map(|p| states.of(p).to_string()).unwrap_or_default(),
            cut.missing.to_string(),
            seconds(cut.left_over as f64 / d.prepared.rate_hz),
            remarks.join("; "),
        ]
    });
    let bad = skipped.iter().map(|(file, why)| {
        let mut line = vec![String::new(); 11];
        line[0] = file.display().to_string();
        line[10] = format!("skipped: {}", why.replace("\n  ", "; "));
        line
    });
    windows::csv_text(&header, lines.chain(bad))
}

fn text(states: &States, done: &[Predicted], each_window: bool) -> String {
    let mut out = String::new();
    for d in done {
        let (s, cut) = (d.summary(states.threshold), &d.prepared.cut);
        let verdict = match s.mean_probability {
            Some(p) => format!(
                "{}; mean probability of {} {p:.3}, {:.0} % of windows",
                states.of(p),
                states.positive,
                100.0 * s.positive_share.unwrap_or(0.0)
            ),
            None => "no usable window".into(),
        };
        out.push_str(&format!(
            "{}: {verdict} ({} windows, {} usable; {:.1} s, {} missing samples)\n",
            d.prepared.file.display(),
            cut.windows.len(),
            s.usable,
            cut.duration_s,
            cut.missing
        ));
        if each_window && !d.probabilities.is_empty() {
            out.push_str("    start_s      end_s  probability  quality\n");
            for (start_s, end_s, p, quality) in d.rows() {
                out.push_str(&format!("{start_s:>11.3}{end_s:>11.3}{p:>13.4}  {quality}\n"));
            }
        }
    }
    out
}
