//! `heartlore finetune`: a classifier on labelled windows, fold by fold, judged on each fold's test part.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::options::{Precision, labels, model, protocol, selection, training};
use crate::cli::Context;
use crate::cli::evaluate::{self, SplitFile};
use crate::cli::pretrain::{fingerprint, is_simulated, training_data};
use crate::cli::rundir::{RunDir, RunLogger, write_bytes};
use crate::data::source::WindowSource;
use crate::data::split::{Fold, Keys, Split};
use crate::data::store::Store;
use crate::error::{Error, Result};
use crate::evaluate::{Evaluation, FoldRows, Predictions, Settings, judge};
use crate::graph::Layout;
use crate::model::Model;
use crate::model::{Card, InitProvenance, People, Preprocessing, Provenance, Task, provenance};
use crate::train::{FinetuneSettings, FinetuneSummary, FoldLabels, Labelled, Prediction, Weights, finetune};

const EXAMPLES: &str = "\
Examples:
  heartlore finetune --data store --label aroused --init runs/pre/model --out runs/fine
  heartlore finetune --data store --label arousal --threshold mean --scale 1,9 --protocol loo --out runs/loso
  heartlore finetune --data store --label task --positive arithmetic --negative rest --out runs/task
  heartlore finetune --data store --label aroused --validation 0.2 --patience 5 --out runs/early
  heartlore finetune --out runs/fine --resume

Folds are by subject unless told otherwise: no person is in two parts. With --init, the report says whether any person
tested had been seen in pre-training, by content and by name (see `heartlore pretrain --help` for leaving people out); to
test people whose labels were seen is an error without --allow-leak. Ctrl-C saves; --resume goes on to the same bits.";

/// Flags of `finetune`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Prepared store with labels
    #[arg(long)]
    pub data: PathBuf,
    /// Directory of the run
    #[arg(long, short)]
    pub out: PathBuf,
    /// Model directory to start from [default: start fresh]
    #[arg(long)]
    pub init: Option<PathBuf>,
    /// Test people whose labels the model of --init was trained on; every figure then says so
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub allow_leak: bool,
    /// Go on with the interrupted run in --out
    #[arg(long)]
    pub resume: bool,
    /// Whose windows
    #[command(flatten)]
    pub selection: selection::SelectionArgs,
    /// The labels
    #[command(flatten)]
    pub labels: labels::LabelArgs,
    /// The folds
    #[command(flatten)]
    pub protocol: protocol::ProtocolArgs,
    /// Weigh the positive class by the training part's ratio of negatives to positives
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub balance: bool,
    /// Stop a fold after this many epochs without a better validation loss; needs --validation
    #[arg(long)]
    pub patience: Option<u64>,
    /// Factor on the learning rate of pre-trained parameters; 0 freezes them
    #[arg(long, default_value_t = 1.0)]
    pub encoder_rate: f64,
    /// Fit one more model on all labelled windows and save it as model/
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub final_model: bool,
    /// What operands are rounded to when the test windows are predicted: f32, bf16 or int8, as `predict` will be told to
    /// [default: as in training]
    #[arg(long)]
    pub test_precision: Option<Precision>,
    /// Fit baselines in the same folds
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub baselines: bool,
    /// Resamples of the bootstrap over people
    #[arg(long, default_value_t = 2000)]
    pub resamples: usize,
    /// The model
    #[command(flatten)]
    pub model: model::ModelArgs,
    /// The run
    #[command(flatten)]
    pub training: training::TrainingArgs,
    /// Configuration file with any of these flags as keys
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// Fine-tunes, judges, saves the model and writes the report.
///
/// # Errors
/// Settings, labels or data that make no sense, a model that does not fit, a failing disk, an interruption.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let store = Store::open(&args.data)?;
    let (judged, model) = train(args, &store, context)?;
    let mut text = judged.text();
    if model.is_some() {
        let _ = writeln!(text, "  model  {}", args.out.join("model").display());
    }
    let _ = writeln!(text, "  report {}", args.out.join("report.html").display());
    context.result(&text, || judged.json())
}

/// Fine-tunes into `args.out` and writes everything there.
pub(crate) fn train(args: &Args, store: &Store, context: &Context) -> Result<(Evaluation, Option<Model>)> {
    let init = match &args.init {
        Some(dir) => Some(Model::load(dir)?),
        None => None,
    };
    if let (Some(model), Some(dir)) = (&init, &args.init) {
        check_same_preparation(model, dir, store)?;
    }
    let mut config = args.model.resolve(init.as_ref().map(Model::config))?;
    // A preset's own window gives way to the store's, as in pre-training; a model to start from keeps its own.
    if args.model.window.is_none() && (init.is_none() || args.model.preset.is_some()) {
        config.window = store.samples();
        config.validate()?;
    }
    let preset = args.model.preset.as_deref().unwrap_or("small");
    let (run, augment) = args.training.resolve(training::finetuning(preset))?;
    let left_out = args.selection.people_out()?;
    {
        let mut echoed = context.config.borrow_mut();
        model::echo(&config, &mut echoed)?;
        training::echo(&run, &mut echoed)?;
        echoed.set("exclude-subject", left_out.clone())?;
    }
    if args.patience.is_some() && args.protocol.validation == 0.0 {
        return Err(super::bad_flag("patience", "stopping early needs a validation part")
            .remedy("give --validation, such as --validation 0.2"));
    }
    let labels = args
        .labels
        .resolve(store.index(), &args.selection.rows(store, &left_out)?)
        .map_err(|e| e.in_file(store.dir()))?;
    if labels.missing + labels.other > 0 {
        context.note(format!(
            "{} windows have no label and {} another label than the two classes; they are left out",
            labels.missing, labels.other
        ));
    }
    let mut split = split(args, store, &labels, run.seed)?;
    for warning in &split.warnings {
        context.warn(warning);
    }
    let fold_labels: Vec<Vec<bool>> = split.folds.iter().map(|f| labels.for_training(&f.train)).collect();
    let rule = labels.rule_in_words(&split.folds);
    labels.leave_out_middle(&mut split);
    let tested = split.folds.iter().flat_map(|f| &f.test).map(|&i| labels.rows[i]);
    let (tested, recordings) = provenance::of_rows(store, tested, false);
    let start = InitProvenance::of(args.init.as_deref().zip(init.as_ref()), (&tested, &recordings));
    start.require_no_label_leak(args.allow_leak)?;
    let (sentence, is_warning) = start.sentence();
    if is_warning {
        context.warn(&sentence);
    }
    if let Some(leak) = start.label_leak() {
        context.warn(leak);
    }
    let mut dir = RunDir::open(&args.out, args.resume, store, context)?;
    dir.record("initial_weights", serde_json::json!({
        "model": start.model, "people_tested": start.tested, "seen_before": start.seen_before,
        "seen_as": start.seen_as, "undecided": start.undecided, "labels_seen": start.labels_seen,
        "labels_undecided": start.labels_undecided, "label_leak": start.label_leak(), "in_words": sentence,
    }))?;
    let file = split_file(args, store, &labels, &rule, &split, &fold_labels, start);
    let bytes = serde_json::to_vec(&file).map_err(|e| Error::format(e.to_string()))?;
    write_bytes(&dir.dir().join("split.json"), &bytes)?;

    let settings = FinetuneSettings {
        model: config.clone(),
        run: run.clone(),
        augment,
        balance: args.balance,
        patience: args.patience,
        encoder_rate: args.encoder_rate,
        final_model: args.final_model,
        test_precision: args.test_precision.map(|p| p.0),
    };
    let seed = run.seed;
    let initial = |layout: &Layout| -> Result<(Vec<f32>, Vec<String>)> {
        match &init {
            None => Ok((layout.init(seed), Vec::new())),
            Some(model) => {
                let (values, report) = model.transfer(layout, seed)?;
                Ok((values, report.taken))
            }
        }
    };
    let steps = |n: usize| n.div_ceil(run.batch) as u64 * run.epochs;
    let mut planned: Vec<u64> = split.folds.iter().map(|f| steps(f.train.len())).collect();
    planned.push(steps(labels.rows.len()));
    let mut watch = RunLogger::new(dir.dir(), args.resume, &planned, context);
    let data = labelled(store, &labels, &split, fold_labels);
    let outcome = finetune(&settings, &data, &initial, dir.dir(), args.resume, &mut watch);
    let summary = watch.settle(outcome)?;

    write_predictions(&dir.dir().join("predictions.csv"), store, &labels.rows, &summary.predictions)?;
    let judged = judge_run(args, store, &file, &labels.rows, &summary, run.seed)?;
    let model = match &summary.model {
        None => None,
        Some(weights) => {
            let (own, recordings) = provenance::of_rows(store, labels.rows.iter().copied(), true);
            let seen = match &init {
                None => (Some(own), recordings),
                Some(model) => (
                    model.card.people.as_ref().map(|before| provenance::union(own, before)),
                    recordings.and(&model.card.provenance),
                ),
            };
            Some(save_model(config, weights, store, &labels, &judged, seen, dir.dir())?)
        }
    };
    evaluate::write(&judged, dir.dir(), Some(dir.dir()), Some(store), context)?;
    dir.finish(judged.json())?;
    Ok((judged, model))
}

/// Refuses a store that was prepared otherwise than the model's windows.
///
/// # Errors
/// Names each setting with both values.
fn check_same_preparation(model: &Model, dir: &Path, store: &Store) -> Result<()> {
    let Some(own) = &model.preprocessing else { return Ok(()) };
    let differences = own.processing().differences(&store.manifest().processing);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::data(format!(
        "the store was prepared with other settings than the model in {} was trained with: {} (model against store)",
        dir.display(),
        differences.join(", ")
    ))
    .in_file(store.dir())
    .remedy("prepare the data with the model's settings, or pre-train on data prepared like these"))
}

/// Windows, labels and folds for training; `by_fold` holds the classes of each fold's own threshold.
fn labelled<'a>(
    store: &'a Store,
    labels: &labels::Labels,
    split: &Split,
    by_fold: Vec<Vec<bool>>,
) -> Labelled<'a> {
    let everything: Vec<usize> = (0..labels.rows.len()).collect();
    let whole = labels.for_training(&everything);
    // The final model leaves the windows near its own threshold out, as each fold does near its own.
    let fold =
        Fold { name: String::new(), train: everything, validation: vec![], test: vec![], unused: vec![] };
    let mut all = Split { folds: vec![fold], ..split.clone() };
    labels.leave_out_middle(&mut all);
    let left_out = all.folds.pop().map(|f| f.unused).unwrap_or_default();
    let lists = std::iter::once(&whole).chain(&by_fold);
    Labelled {
        source: store,
        windows: labels.rows.clone(),
        fingerprint: format!("{} {:?} {}", fingerprint(store), labels.rule, crc(&labels.rows, lists)),
        labels: FoldLabels::by_fold(by_fold, whole, left_out),
        split: split.clone(),
    }
}

/// A number that changes with the labelled windows and their classes in any fold.
fn crc<'a>(rows: &[usize], classes: impl Iterator<Item = &'a Vec<bool>>) -> String {
    // FNV-1a, 64 bits: enough to notice another label column.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    rows.iter().flat_map(|r| (*r as u64).to_le_bytes()).for_each(&mut add);
    classes.flatten().for_each(|c| add(u8::from(*c)));
    format!("{hash:016x}")
}

fn split(args: &Args, store: &Store, labels: &labels::Labels, seed: u64) -> Result<Split> {
    let all = store.index().split_keys();
    let take = |list: &[u32]| -> Vec<u32> {
        if list.is_empty() { Vec::new() } else { labels.rows.iter().map(|&r| list[r]).collect() }
    };
    let keys = Keys {
        subject: take(&all.subject),
        trial: take(&all.trial),
        stimulus: take(&all.stimulus),
        class: labels.classes.iter().map(|c| u32::from(*c)).collect(),
    };
    Split::new(&keys, args.protocol.resolve(), args.protocol.validation, seed)
        .map_err(|e| e.in_file(store.dir()))
}

fn split_file(
    args: &Args,
    store: &Store,
    labels: &labels::Labels,
    rule: &str,
    split: &Split,
    classes: &[Vec<bool>],
    start: InitProvenance,
) -> SplitFile {
    let folds = split.folds.iter().zip(classes).map(|(f, classes)| FoldRows {
        name: f.name.clone(),
        train: f.train.iter().map(|&i| labels.rows[i]).collect(),
        train_labels: f.train.iter().map(|&i| classes[i]).collect(),
    });
    SplitFile {
        protocol: split.protocol.to_string(),
        leaks: split.protocol.leaks(),
        warnings: split.warnings.clone(),
        seed: split.seed,
        label: format!("{} ({rule})", args.labels.label),
        positive: labels.positive.clone(),
        negative: labels.negative.clone(),
        store: std::path::absolute(store.dir()).unwrap_or_else(|_| store.dir().into()),
        fingerprint: fingerprint(store),
        folds: folds.collect(),
        start: Some(start),
    }
}

fn save_model(
    config: crate::nn::ModelConfig,
    weights: &Weights,
    store: &Store,
    labels: &labels::Labels,
    judged: &Evaluation,
    seen: (Option<People>, Provenance),
    dir: &Path,
) -> Result<Model> {
    let task = Task::Classifier {
        positive: labels.positive.clone(),
        negative: labels.negative.clone(),
        threshold: 0.5,
    };
    let metrics = judged.methods.iter().flat_map(|m| {
        crate::evaluate::METRICS.iter().zip(&m.intervals).take(3).filter_map(|(name, i)| {
            i.map(|i| {
                let who = if m.baseline {
                    format!("{name} of the baseline '{}'", m.name)
                } else {
                    (*name).to_string()
                };
                let value = format!("{:.3} ({:.3} to {:.3}), {}", i.estimate, i.low, i.high, judged.protocol);
                (who, judged.marked(&value))
            })
        })
    });
    let mut notes = store.manifest().notes.clone();
    notes.push("The figures are of the folds' models; this model was fitted on all labelled windows.".into());
    notes.extend(judged.marks.iter().map(|m| m.sentence.clone()));
    let model = Model::from_weights(config, task, &weights.layout, &weights.values)?
        .with_preprocessing(Preprocessing::of_store(store.manifest())?)
        .with_card(Card {
            training_data: training_data(store, &labels.rows),
            simulated: is_simulated(store),
            metrics: metrics.collect(),
            notes,
            licence: None,
            people: seen.0,
            provenance: seen.1,
        });
    model.save(dir.join("model"))?;
    Ok(model)
}

fn write_predictions(path: &Path, store: &Store, rows: &[usize], predictions: &[Prediction]) -> Result<()> {
    let index = store.index();
    let p = &store.manifest().processing;
    let mut writer = csv::Writer::from_writer(Vec::new());
    let bad = |e: csv::Error| Error::format(e.to_string()).in_file(path);
    writer
        .write_record([
            "row",
            "dataset",
            "subject",
            "trial",
            "record",
            "start_s",
            "end_s",
            "fold",
            "label",
            "probability",
        ])
        .map_err(bad)?;
    for q in predictions {
        let row = rows[q.window];
        let start = index.start_s(row);
        let fields = [
            row.to_string(),
            index.dataset(row).into(),
            index.subject(row).into(),
            index.trial(row).into(),
            index.record(row).into(),
            start.to_string(),
            (start + p.window as f64 / p.rate_hz).to_string(),
            q.fold.to_string(),
            u8::from(q.label).to_string(),
            q.probability.to_string(),
        ];
        writer.write_record(&fields).map_err(bad)?;
    }
    let bytes = writer.into_inner().map_err(|e| Error::format(e.to_string()).in_file(path))?;
    write_bytes(path, &bytes)
}

fn judge_run(
    args: &Args,
    store: &Store,
    split: &SplitFile,
    rows: &[usize],
    summary: &FinetuneSummary,
    seed: u64,
) -> Result<Evaluation> {
    let index = store.index();
    let mut p = Predictions::default();
    for q in &summary.predictions {
        let row = rows[q.window];
        p.row.push(Some(row));
        p.subject.push(format!("{}/{}", index.dataset(row), index.subject(row)));
        p.fold.push(q.fold);
        p.label.push(q.label);
        p.probability.push(q.probability);
    }
    let settings = Settings {
        threshold: 0.5,
        resamples: args.resamples,
        level: 0.95,
        seed,
        positive: split.positive.clone(),
        negative: split.negative.clone(),
        protocol: split.protocol.clone(),
        leaks: split.leaks,
    };
    let rate = store.manifest().processing.rate_hz;
    let mut judged =
        judge(&p, args.baselines.then_some((store as &dyn WindowSource, rate, &split.folds[..])), &settings)?;
    evaluate::report_init_provenance(&mut judged, split);
    judged.notes.extend(split.warnings.iter().filter(|_| !split.leaks).take(5).cloned());
    Ok(judged)
}
