//! `heartlore predict`: the probability of the positive state, window by window, for any readable recording.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::options::Precision;
use super::windows::{self, RecordingArgs, seconds};
use crate::cli::{Context, config, prepare};
use crate::data::{readers, table};
use crate::error::{Error, Kind, Result};
use crate::evaluate::statements;
use crate::graph::MatmulPrecision;
use crate::metrics::is_positive;
use crate::model::reading::{Place, Reference};
use crate::model::{Model, Output, PreparedRecording, RecordingPrediction, Task, WindowSpan};

/// Flags of `predict`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  heartlore predict recording.edf --model runs/fine/model --out predictions
  heartlore predict a.csv b.csv --model runs/fine/model --fs-hz 256 --unit mV --json
  heartlore predict recordings/ --model runs/fine/model --out predictions --skip-bad
  heartlore predict task.edf --model runs/known-rest/model --rest rest.edf   # both of one person
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
    /// A recording of the same person at rest, for a model that reads the difference to it: its first seconds are taken
    #[arg(long, value_name = "RECORDING")]
    pub rest: Option<PathBuf>,
    /// Seconds from one window's start to the next; the model's own by default.
    #[arg(long, value_name = "SECONDS")]
    pub hop_s: Option<f64>,
    /// Go on when a recording cannot be read, and report it.
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub skip_bad: bool,
    /// Threads; 0 takes one per core. Does not change the numbers.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = super::options::threads)]
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
    file: PathBuf,
    prediction: RecordingPrediction,
}

impl Predicted {
    fn prepared(&self) -> &PreparedRecording {
        &self.prediction.prepared
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
        if is_positive(probability, self.threshold) { &self.positive } else { &self.negative }
    }
}

/// Runs the command.
///
/// # Errors
/// No classifier in the model; a recording that cannot be read or used; no window in any recording; a disk that refuses.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let model = super::windows::load_model(&args.model, context)?
        .with_threads(args.threads)
        .with_precision(args.precision.0);
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
        let p = model.require_preprocessing()?;
        context.config.borrow_mut().set("hop-s", p.hop as f64 / p.rate_hz)?;
    }
    let rest = rest(args, &model)?;
    let files = collect(args, context)?;
    let bar = context.progress(files.len() as u64, "predict");
    let output = if model.reading().is_some() { Output::Features } else { Output::Logit };
    let (mut done, mut skipped) = (Vec::new(), Vec::new());
    for (i, (file, record)) in files.iter().enumerate() {
        let flags = RecordingArgs { record: record.clone(), ..args.recording.clone() };
        let read = || model.prepare_recording(file, &flags.options(args.hop_s)?);
        match if i == 0 { windows::while_warming(&model, output, read)? } else { read() } {
            Ok(prepared) => {
                let name = file.display();
                prepared.warnings.iter().for_each(|w| context.warn(format!("{name}: {w}")));
                if prepared.windows.is_empty() {
                    context.warn(format!("{name}: no window: {}", prepared.why_empty()));
                }
                let probabilities =
                    probabilities(&model, &prepared, rest.as_deref()).map_err(|e| e.in_file(file))?;
                let prediction = RecordingPrediction { prepared, probabilities };
                done.push(Predicted { file: file.clone(), prediction });
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
    if done.iter().all(|d| d.prediction.probabilities.is_empty()) {
        let why = done.iter().map(|d| format!("{}: {}", d.file.display(), d.prepared().why_empty()));
        let why: Vec<String> = why.chain(skipped.iter().map(|s| s.1.clone())).take(5).collect();
        return Err(Error::data(format!("no recording gave a window; {}", why.join("; "))).remedy(format!(
            "a window needs {:.1} s without a missing sample",
            model.require_preprocessing()?.window as f64 / model.require_preprocessing()?.rate_hz
        )));
    }
    let mut document = document(args, &states, &done, &skipped);
    document["settings"] = context.settings();
    let all: Vec<f64> =
        done.iter().flat_map(|d| d.prediction.probabilities.iter().map(|p| f64::from(*p))).collect();
    let doubts: Vec<String> = statements::constant_output(&all).into_iter().collect();
    doubts.iter().for_each(|d| context.warn(d));
    document["warnings"] = json!(doubts);
    if let Some(out) = &args.out {
        let _lock = super::rundir::lock(out, context)?;
        crate::checkpoint::write_bytes(out.join("windows.csv"), &windows_csv(&states, &done)?)?;
        crate::checkpoint::write_bytes(
            out.join("recordings.csv"),
            &recordings_csv(&states, &done, &skipped)?,
        )?;
        crate::checkpoint::write_bytes(out.join("predictions.json"), format!("{document:#}\n").as_bytes())?;
        context.write_config(out, config::FILE)?;
        context.note(format!("wrote {}", out.display()));
    }
    context.result(&text(&states, &done, args.out.is_none()), || document)
}

/// The person's rest, for a model that reads it: the windows that pass the gate, as many as the model's seconds take.
fn rest(args: &Args, model: &Model) -> Result<Option<Vec<f32>>> {
    let wanted = model.reading().filter(|r| r.reference == Reference::Rest);
    match (wanted, &args.rest) {
        (None, None) => Ok(None),
        (None, Some(_)) => {
            Err(super::bad_flag("rest", "this model reads no rest").remedy("leave the flag out"))
        }
        (Some(r), None) => Err(Error::usage(format!("this model was trained with {r}"))
            .in_file(&args.model)
            .remedy(format!("give --rest RECORDING, {} s of the same person at rest", r.reference_s))),
        (Some(r), Some(file)) => {
            let prepared = model.prepare_recording(file, &args.recording.options(None)?)?;
            let p = model.require_preprocessing()?;
            let window_s = p.window as f64 / p.rate_hz;
            let n = (r.reference_s / window_s - 1e-9).ceil() as usize;
            let samples = model.config().window;
            let usable: Vec<f32> = prepared
                .windows
                .iter()
                .zip(prepared.values.chunks_exact(samples))
                .filter(|(w, _)| w.is_usable())
                .take(n)
                .flat_map(|(_, x)| x.to_vec())
                .collect();
            if usable.len() < n * samples {
                return Err(Error::data(format!(
                    "the recording has {} usable windows of {} s; {} s of rest are wanted",
                    usable.len() / samples,
                    window_s,
                    r.reference_s
                ))
                .in_file(file)
                .remedy("give a longer recording of the person at rest"));
            }
            Ok(Some(usable))
        }
    }
}

/// Of every window; NaN where there is too little past yet.
fn probabilities(model: &Model, prepared: &PreparedRecording, rest: Option<&[f32]>) -> Result<Vec<f32>> {
    if model.reading().is_none() {
        return model.predict(&prepared.values);
    }
    let place = |w: &WindowSpan| Place { record: "", start_s: w.start_s };
    let places: Vec<Place<'_>> = prepared.windows.iter().map(place).collect();
    let found = model.predict_person(&prepared.values, &places, rest)?;
    Ok(found.into_iter().map(|p| p.unwrap_or(f32::NAN)).collect())
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

fn document(args: &Args, states: &States, done: &[Predicted], skipped: &[(PathBuf, String)]) -> Value {
    let recordings = done.iter().map(|d| {
        let s = d.prediction.summary(states.threshold);
        let cut = d.prepared();
        let windows = d.prediction.rows().map(|(w, p)| {
            json!({
                "start_s": w.start_s, "end_s": w.end_s, "probability": p,
                "state": p.is_finite().then(|| states.of(f64::from(p))), "quality": w.quality,
            })
        });
        json!({
            "file": d.file.display().to_string(),
            "record": cut.record,
            "duration_s": cut.duration_s,
            "windows": windows.collect::<Vec<_>>(),
            "usable_windows": s.usable,
            "mean_probability": s.mean_probability,
            "positive_share": s.positive_share,
            "state": s.mean_probability.map(|p| states.of(p)),
            "missing_samples": cut.missing,
            "left_over_s": cut.left_over_s,
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
        d.prediction.rows().enumerate().map(|(i, (w, p))| {
            vec![
                d.file.display().to_string(),
                d.prepared().record.clone(),
                i.to_string(),
                seconds(w.start_s),
                seconds(w.end_s),
                if p.is_finite() { p.to_string() } else { String::new() },
                if p.is_finite() { states.of(f64::from(p)).to_string() } else { String::new() },
                w.quality.to_string(),
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
        let (s, cut) = (d.prediction.summary(states.threshold), d.prepared());
        let empty = cut.windows.is_empty().then(|| cut.why_empty());
        let remarks: Vec<String> = cut.warnings.iter().cloned().chain(empty).collect();
        vec![
            d.file.display().to_string(),
            cut.record.clone(),
            seconds(cut.duration_s),
            cut.windows.len().to_string(),
            s.usable.to_string(),
            number(s.mean_probability),
            number(s.positive_share),
            s.mean_probability.map(|p| states.of(p).to_string()).unwrap_or_default(),
            cut.missing.to_string(),
            seconds(cut.left_over_s),
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
        let (s, cut) = (d.prediction.summary(states.threshold), d.prepared());
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
            d.file.display(),
            cut.windows.len(),
            s.usable,
            cut.duration_s,
            cut.missing
        ));
        if each_window && !d.prediction.probabilities.is_empty() {
            out.push_str("    start_s      end_s  probability  quality\n");
            for (w, p) in d.prediction.rows() {
                out.push_str(&format!("{:>11.3}{:>11.3}{p:>13.4}  {}\n", w.start_s, w.end_s, w.quality));
            }
        }
    }
    out
}
