//! `heartlore embed`: a feature vector per window, for other classifiers, clustering or plots.

use std::path::PathBuf;

use super::options::Precision;
use super::windows::{self, RecordingArgs, seconds};
use crate::checkpoint::{NewFile, write_bytes};
use crate::cli::Context;
use crate::data::npy::Writer;
use crate::data::store::Store;
use crate::error::{Error, Result};
use crate::graph::MatmulPrecision;
use crate::model::Model;
use crate::model::Output;

/// Windows that are read and run at a time.
const AT_A_TIME: usize = 256;

/// Flags of `embed`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  heartlore embed store --model runs/pre/model --out features.npy
  heartlore embed a.edf b.edf --model runs/pre/model --out features.npy

Writes an f32 array [windows, width] and beside it features.csv, one line per row: where the window comes from, when it
starts, whether it passed the quality gate, and a store's labels. There is no run directory: with --json the result
holds every flag as `settings`.")]
pub struct Args {
    /// A prepared store, or recordings.
    #[arg(required = true, value_name = "STORE|RECORDING")]
    pub inputs: Vec<PathBuf>,
    /// Directory of a model, pre-trained or fine-tuned.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// NumPy file to write; the index goes beside it with the extension csv.
    #[arg(long, value_name = "FILE.npy")]
    pub out: PathBuf,
    /// Replace files that exist.
    #[arg(long)]
    pub overwrite: bool,
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
}

/// Runs the command.
///
/// # Errors
/// A store prepared in another way than the model was trained on; a recording that cannot be used; files that exist; a
/// disk that refuses.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let model = super::windows::load_model(&args.model, context)?
        .with_threads(args.threads)
        .with_precision(args.precision.0);
    let index_path = args.out.with_extension("csv");
    if index_path == args.out {
        return Err(super::bad_flag("out", "the features cannot have the extension csv: the index takes it"));
    }
    windows::check_free(&args.out, args.overwrite)?;
    windows::check_free(&index_path, args.overwrite)?;
    let store = match &args.inputs[..] {
        [dir] if dir.is_dir() => Some(Store::open(dir)?),
        _ => None,
    };
    let part = NewFile::beside(&args.out).map_err(|e| e.at("--out"))?;
    let mut writer = Writer::create(part.path(), model.config().width())?;
    let index = match &store {
        Some(store) => of_store(args, context, &model, store, &mut writer)?,
        None => of_recordings(args, context, &model, &mut writer)?,
    };
    let rows = writer.finish()?;
    if rows == 0 {
        return Err(Error::data("there is no window to embed")
            .remedy("give recordings longer than a window, or a store with windows"));
    }
    write_bytes(&index_path, &index)?;
    part.commit()?;
    let (width, out) = (model.config().width(), args.out.display());
    context.result(&format!("{out}: {rows} windows x {width} features; index in {}\n", index_path.display()), || {
        serde_json::json!({
            "features": out.to_string(), "index": index_path.display().to_string(), "windows": rows, "width": width,
            "settings": context.settings(),
        })
    })
}

fn write_rows(writer: &mut Writer, features: &[f32], width: usize) -> Result<()> {
    features.chunks_exact(width).try_for_each(|row| writer.write_row(row))
}

fn of_store(
    args: &Args,
    context: &Context,
    model: &Model,
    store: &Store,
    writer: &mut Writer,
) -> Result<Vec<u8>> {
    let manifest = store.manifest();
    match &model.preprocessing {
        Some(p) => {
            let different = manifest.processing.differences(&p.processing());
            if !different.is_empty() {
                return Err(Error::data(format!(
                    "the store was prepared in another way than the model's training data (store against model): {}",
                    different.join("; ")
                ))
                .in_file(store.dir())
                .remedy("prepare the recordings with the model's settings, or embed the recordings themselves"));
            }
        }
        None => context
            .warn("the model does not say how its windows were prepared: the store's way is not checked"),
    }
    let samples = model.config().window;
    if manifest.samples != samples as u64 {
        return Err(Error::shape(format!(
            "windows of {} samples, the model takes {samples}",
            manifest.samples
        ))
        .in_file(&args.inputs[0])
        .remedy("prepare the recordings with the model's window length"));
    }
    let index = store.index();
    let bar = context.progress(index.len() as u64, "embed");
    let mut buffer = Vec::new();
    for first in (0..index.len()).step_by(AT_A_TIME) {
        let rows: Vec<usize> = (first..(first + AT_A_TIME).min(index.len())).collect();
        buffer.resize(rows.len() * samples, 0.0);
        store.read_windows(&rows, &mut buffer)?;
        write_rows(writer, &model.embed(&buffer)?, model.config().width())?;
        bar.inc(rows.len() as u64);
    }
    bar.finish_and_clear();
    let fixed = ["row", "dataset", "subject", "trial", "record", "start_s", "quality"];
    let header: Vec<&str> = fixed.into_iter().chain(index.label_names().iter().map(String::as_str)).collect();
    let lines = (0..index.len()).map(|i| {
        let mut line = vec![
            i.to_string(),
            index.dataset(i).into(),
            index.subject(i).into(),
            index.trial(i).into(),
            index.record(i).into(),
            seconds(index.start_s(i)),
            index.quality(i).into(),
        ];
        line.extend((0..index.label_names().len()).map(|c| index.label(c, i).unwrap_or("").to_string()));
        line
    });
    windows::csv_text(&header, lines)
}

fn of_recordings(args: &Args, context: &Context, model: &Model, writer: &mut Writer) -> Result<Vec<u8>> {
    let bar = context.progress(args.inputs.len() as u64, "embed");
    let mut lines = Vec::new();
    for (i, file) in args.inputs.iter().enumerate() {
        let read = || model.prepare_recording(file, &args.recording.options(None)?);
        let prepared = if i == 0 { windows::while_warming(model, Output::Features, read)? } else { read() }?;
        let (name, cut) = (file.display().to_string(), &prepared);
        cut.warnings.iter().for_each(|w| context.warn(format!("{name}: {w}")));
        if cut.windows.is_empty() {
            context.warn(format!("{name}: no window: {}", cut.why_empty()));
        }
        for part in prepared.values.chunks(AT_A_TIME * model.config().window) {
            write_rows(writer, &model.embed(part)?, model.config().width())?;
        }
        for w in &cut.windows {
            lines.push(vec![
                lines.len().to_string(),
                name.clone(),
                cut.record.clone(),
                seconds(w.start_s),
                seconds(w.end_s),
                w.quality.to_string(),
            ]);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    windows::csv_text(&["row", "file", "record", "start_s", "end_s", "quality"], lines)
}
