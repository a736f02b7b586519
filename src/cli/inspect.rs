//! `heartlore inspect`: what is in a model, a checkpoint, a prepared store or a recording; or a model's program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::windows::RecordingArgs;
use crate::checkpoint::safetensors;
use crate::cli::{Context, overview};
use crate::data::readers::{self, Only};
use crate::data::recording::Unit;
use crate::data::store::Store;
use crate::error::{Error, Result};
use crate::graph::{Graph, OutputRequest, Plan, trace};
use crate::model::Model;
use crate::model::{CONFIG, Task};
use crate::nn::{self, ModelConfig};

/// Flags of `inspect`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  heartlore inspect runs/fine/model
  heartlore inspect runs/fine/checkpoints/last.ckpt
  heartlore inspect store --plot store.svg
  heartlore inspect recording.edf
  heartlore inspect export.txt --fs-hz 250 --decimal comma
  heartlore inspect --preset paper --program pretrain --batch 4

It writes no file but the picture: with --json the result holds every flag as `settings`.")]
pub struct Args {
    /// A model directory, a checkpoint (.safetensors, .ckpt), a prepared store or a recording.
    #[arg(value_name = "PATH", required_unless_present = "preset", conflicts_with = "preset")]
    pub path: Option<PathBuf>,
    /// A preset instead of a path: paper, small or tiny.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Print the recorded program with memory and FLOPs (of a model directory or a preset).
    #[arg(long, value_name = "WHICH")]
    pub program: Option<Program>,
    /// Windows that go through the program together.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub batch: usize,
    /// SVG picture of a store: people, hours, labels, what was left out.
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Write over an existing picture.
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub recording: RecordingArgs,
}

/// The programs of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    /// Pre-training with its backward pass, as many rows reaching the loss as the mask hides on average.
    Pretrain,
    /// Fine-tuning with its backward pass.
    Finetune,
    /// Prediction.
    Predict,
    /// Features.
    Embed,
    /// Reconstruction of every point.
    Reconstruct,
}

/// Runs the command.
///
/// # Errors
/// Nothing known at the path, or it is damaged.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let is_store = args.path.as_ref().is_some_and(|p| p.join("manifest.json").is_file());
    if args.plot.is_some() && !is_store {
        let e = super::bad_flag("plot", "only a prepared store has a picture here");
        return Err(e.remedy("of a recording: heartlore quality FILE --plot PICTURE"));
    }
    let (text, mut value) = match (&args.path, &args.preset) {
        (Some(path), _) => of_path(args, path, context)?,
        (None, Some(name)) => of_config(args, &ModelConfig::preset(name)?, Program::Pretrain)?,
        (None, None) => return Err(Error::usage("nothing to inspect").remedy("give a path or --preset")),
    };
    value["settings"] = context.settings();
    context.result(&text, || value)
}

fn of_path(args: &Args, path: &Path, context: &Context) -> Result<(String, Value)> {
    let run = path.join("model");
    let model = [path, &run].into_iter().find(|d| d.join(CONFIG).is_file());
    if let Some(dir) = model {
        let model = super::windows::load_model(dir, context)?;
        return match args.program {
            Some(program) => of_config(args, model.config(), program),
            None => Ok(of_model(dir, &model)),
        };
    }
    if args.program.is_some() {
        return Err(super::bad_flag("program", "only a model or a preset has a program").in_file(path));
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_lowercase();
    if path.is_dir() && path.join("manifest.json").is_file() {
        let store = Store::open(path)?;
        if let Some(plot) = &args.plot {
            overview::save(&overview::of_store(&store), plot, args.overwrite, context)?;
        }
        of_store(path, &store)
    } else if ["safetensors", "ckpt"].contains(&&extension[..]) {
        of_checkpoint(path)
    } else if path.is_dir() {
        Err(Error::data("neither a model, a run nor a prepared store").in_file(path).remedy(
            "a model has config.json, a run has a folder model, a store has manifest.json; \
             for recordings give the file",
        ))
    } else {
        of_recording(path, &args.recording)
    }
}

fn of_model(dir: &Path, model: &Model) -> (String, Value) {
    let c = model.config();
    let mut text = format!("model {}\n", dir.display());
    let task = match model.task() {
        Task::Pretrained => "pre-trained, no classifier".to_string(),
        Task::Encoder => "pre-trained, features only".to_string(),
        Task::Classifier { positive, negative, threshold } => {
            format!("classifier: {positive} from probability {threshold}, else {negative}")
        }
    };
    text += &format!("task        {task}\nparameters  {}\n", model.parameters());
    text += &format!(
        "window      {} samples, {} tokens of {} samples, receptive field {} samples\n",
        c.window,
        c.tokens(),
        c.patch(),
        c.receptive_field()
    );
    let preparation = match &model.preprocessing {
        Some(p) => {
            format!("{} Hz, hop {}, normalised over: {}, unit {}", p.rate_hz, p.hop, p.normalisation, p.unit)
        }
        None => "unknown".into(),
    };
    text += &format!("windows     {preparation}\nconfig      {c:?}\n");
    model.card.training_data.iter().for_each(|d| text += &format!("trained on  {d}\n"));
    let tensors: Vec<_> = model.tensors().map(|t| (t.name.to_string(), "F32", t.shape.to_vec())).collect();
    text += &tensor_table(&tensors);
    let value = json!({
        "kind": "model", "task": model.task().name(), "parameters": model.parameters(), "window": c.window,
        "config": format!("{c:?}"), "preprocessing": model.preprocessing.as_ref().map(|p| json!({
            "rate_hz": p.rate_hz, "window": p.window, "hop": p.hop, "normalisation": p.normalisation.to_string(),
            "unit": p.unit,
        })),
        "tensors": tensor_json(&tensors),
    });
    (text, value)
}

type Tensors = [(String, &'static str, Vec<usize>)];

fn tensor_table(tensors: &Tensors) -> String {
    let width = tensors.iter().map(|t| t.0.len()).max().unwrap_or(0);
    let mut text = format!("{:<width$}  type  shape\n", "tensor");
    for (name, dtype, shape) in tensors {
        text += &format!("{name:<width$}  {dtype:<4}  {shape:?}\n");
    }
    text
}

fn tensor_json(tensors: &Tensors) -> Vec<Value> {
    tensors.iter().map(|(n, d, s)| json!({ "name": n, "dtype": d, "shape": s })).collect()
}

fn of_checkpoint(path: &Path) -> Result<(String, Value)> {
    let reader = safetensors::read(path)?;
    let tensors: Vec<_> =
        reader.tensors().iter().map(|(n, i)| (n.clone(), i.dtype.name(), i.shape.clone())).collect();
    let values: usize = tensors.iter().map(|t| t.2.iter().product::<usize>()).sum();
    let mut text = format!("checkpoint {}: {} tensors, {values} values\n", path.display(), tensors.len());
    for (key, value) in reader.metadata() {
        let short: String = value.chars().take(100).collect();
        let dots = if short.len() < value.len() { "..." } else { "" };
        text += &format!("{key} = {short}{dots}\n");
    }
    text += &tensor_table(&tensors);
    let value = json!({
        "kind": "checkpoint", "values": values, "metadata": reader.metadata(), "tensors": tensor_json(&tensors),
    });
    Ok((text, value))
}

/// Windows and people of one data set, and how often each label occurs.
#[derive(Default)]
struct Part<'a> {
    windows: usize,
    subjects: BTreeSet<&'a str>,
    labels: BTreeMap<(&'a str, &'a str), usize>,
}

fn of_store(path: &Path, store: &Store) -> Result<(String, Value)> {
    let (index, manifest) = (store.index(), store.manifest());
    let p = &manifest.processing;
    let mut parts: BTreeMap<&str, Part<'_>> = BTreeMap::new();
    for i in 0..index.len() {
        let part = parts.entry(index.dataset(i)).or_default();
        part.windows += 1;
        part.subjects.insert(index.subject(i));
        for (column, name) in index.label_names().iter().enumerate() {
            *part.labels.entry((name, index.label(column, i).unwrap_or("(missing)"))).or_default() += 1;
        }
    }
    let hours = |windows: usize| overview::hours(windows, p);
    let mut text = format!(
        "store {}: {} windows of {} samples at {} Hz ({}), {:.2} h\n",
        path.display(),
        manifest.windows,
        manifest.samples,
        p.rate_hz,
        manifest.unit,
        hours(index.len())
    );
    let filter = p
        .filter
        .as_ref()
        .map_or("none".into(), |f| format!("{}-{} Hz order {}", f.low_hz, f.high_hz, f.order));
    text += &format!("filter {filter}; hop {}; normalised over: {}\n", p.hop, p.normalisation);
    let mut sets = Vec::new();
    for (name, part) in &parts {
        let labels: Vec<String> = part.labels.iter().map(|((k, v), n)| format!("{k}={v}: {n}")).collect();
        text += &format!(
            "{name}: {} subjects, {} windows, {:.2} h; {}\n",
            part.subjects.len(),
            part.windows,
            hours(part.windows),
            if labels.is_empty() { "no labels".into() } else { labels.join(", ") }
        );
        let labels: Vec<Value> =
            part.labels.iter().map(|((k, v), n)| json!({ "label": k, "value": v, "windows": n })).collect();
        sets.push(json!({
            "dataset": name, "subjects": part.subjects.len(), "windows": part.windows,
            "hours": hours(part.windows), "labels": labels,
        }));
    }
    let counts = &manifest.counts;
    text += &format!(
        "{} recordings, {} without a window; {} samples missing, {} left over\n",
        counts.recordings,
        counts.skipped.len(),
        counts.samples_missing,
        counts.samples_left_over
    );
    counts.windows_dropped.iter().for_each(|(why, n)| text += &format!("dropped {n}: {why}\n"));
    counts.skipped.iter().take(10).for_each(|s| text += &format!("skipped {}: {}\n", s.record, s.reason));
    counts.warnings.iter().take(10).for_each(|w| text += &format!("warning {w}\n"));
    let value = json!({
        "kind": "store", "windows": manifest.windows, "samples": manifest.samples, "hours": hours(index.len()),
        "unit": manifest.unit, "processing": serde_json::to_value(p).unwrap_or(Value::Null), "datasets": sets,
        "counts": serde_json::to_value(counts).unwrap_or(Value::Null), "notes": manifest.notes,
    });
    Ok((text, value))
}

fn of_recording(path: &Path, args: &RecordingArgs) -> Result<(String, Value)> {
    let only = args.channel.clone().map(Only::Label);
    let (r, format) = readers::open_named(path, &args.read_options(only)?)?;
    let mut text = format!("recording {} ({format}), record {}\n", path.display(), r.record);
    if !r.layout.is_empty() {
        let parts: Vec<String> = r.layout.iter().map(|(what, how)| format!("{what}: {how}")).collect();
        text += &format!("read as {}\n", parts.join("; "));
    }
    if let Some(subject) = &r.subject {
        text += &format!("subject {subject}\n");
    }
    if let Some(start) = &r.start {
        text += &format!("start {start}\n");
    }
    let taken = if args.channel.is_some() { Some(0) } else { r.ecg_index() };
    let ecg = taken.map(|i| r.channels[i].label.clone());
    let mut channels = Vec::new();
    for (i, c) in r.channels.iter().enumerate() {
        let finite = || c.samples.iter().copied().filter(|x| x.is_finite());
        let (low, high) =
            (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        let range = (low <= high).then_some((low, high));
        let unit = match &c.unit {
            Unit::Unknown(t) if t.is_empty() => "no unit".to_string(),
            u => u.to_string(),
        };
        let mark = if taken == Some(i) { "  <- taken as ECG" } else { "" };
        let span = range.map_or("no samples".into(), |(l, h)| format!("{l} to {h}"));
        text += &format!(
            "#{} '{}': {} Hz, {:.1} s, {span} {unit}, {} missing{mark}\n",
            i + 1,
            c.label,
            c.fs_hz,
            c.duration_s(),
            c.missing()
        );
        channels.push(json!({
            "label": c.label, "unit": unit, "fs_hz": c.fs_hz, "duration_s": c.duration_s(),
            "samples": c.samples.len(), "missing": c.missing(), "min": range.map(|r| r.0), "max": range.map(|r| r.1),
        }));
    }
    if ecg.is_none() {
        text += "no channel looks like an ECG: name one with --channel\n";
    }
    text += &format!("{} annotations\n", r.annotations.len());
    r.warnings.iter().for_each(|w| text += &format!("warning: {w}\n"));
    let value = json!({
        "kind": "recording", "format": format, "record": r.record, "subject": r.subject, "start": r.start,
        "channels": channels, "ecg": ecg, "ecg_number": taken.map(|i| i + 1),
        "annotations": r.annotations.len(), "warnings": r.warnings,
        "layout": r.layout.iter().map(|(k, v)| (k.clone(), json!(v))).collect::<serde_json::Map<_, _>>(),
    });
    Ok((text, value))
}

fn of_config(args: &Args, c: &ModelConfig, default: Program) -> Result<(String, Value)> {
    let program = args.program.unwrap_or(default);
    let batch = args.batch;
    let (graph, want): (Arc<Graph>, OutputRequest) = match program {
        Program::Pretrain => {
            // A token is picked if any of its points is hidden: a mask whose spans are that much longer.
            let reach = nn::MaskConfig { span: c.mask.span + c.patch() - 1, ..c.mask };
            let picks = (reach.expected_share(c.window) * c.tokens() as f64).round() as usize;
            let p = nn::pretrain(c, batch, picks.clamp(1, c.tokens()))?;
            (p.graph, OutputRequest::training(p.loss))
        }
        Program::Finetune => {
            let p = nn::classify(c, batch, 1.0)?;
            (p.graph, OutputRequest::training(p.loss))
        }
        Program::Predict => {
            let p = nn::classify(c, batch, 1.0)?;
            (p.graph, OutputRequest::values(&[p.logits]))
        }
        Program::Embed => {
            let p = nn::embed(c, batch)?;
            (p.graph, OutputRequest::values(&[p.features]))
        }
        Program::Reconstruct => {
            let p = nn::reconstruct(c, batch)?;
            (p.graph, OutputRequest::values(&[p.output]))
        }
    };
    let plan = Plan::new(&graph, want)?;
    let rows = trace::rows(&graph, &plan);
    let memory = plan.memory();
    let text = format!(
        "{} windows through {program:?}, f32\n{}",
        batch,
        trace::program(&graph, &plan, size_of::<f32>())
    );
    let value = json!({
        "kind": "program", "program": format!("{program:?}").to_lowercase(), "batch": batch,
        "parameters": graph.layout().len(), "arena_bytes": memory.arena * size_of::<f32>(),
        "forward_flop": rows.iter().map(|r| r.forward).sum::<u64>(),
        "backward_flop": rows.iter().map(|r| r.backward).sum::<u64>(),
        "operations": rows.iter().map(|r| json!({
            "value": r.id.to_string(), "operation": r.text, "elements": r.elements, "saved": r.saved,
            "forward_flop": r.forward, "backward_flop": r.backward,
        })).collect::<Vec<_>>(),
    });
    Ok((text, value))
}
