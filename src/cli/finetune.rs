//! `heartlore finetune`: a classifier on labelled windows, fold by fold, judged on each fold's test part.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::options::{Precision, labels, model, protocol, reading, selection, training};
use crate::checkpoint::write_bytes;
use crate::cli::Context;
use crate::cli::evaluate::{self, SplitFile};
use crate::cli::pretrain::{fingerprint, is_simulated, training_data};
use crate::cli::rundir::{RunDir, RunLogger};
use crate::data::source::WindowSource;
use crate::data::split::{Fold, Keys, Split};
use crate::data::store::Store;
use crate::error::{Error, Result};
use crate::evaluate::{Evaluation, FoldRows, Metric, Predictions, Settings, statements};
use crate::graph::Layout;
use crate::model::Model;
use crate::model::{Card, InitProvenance, Preprocessing, Task, provenance};
use crate::train::{
    FinetuneSettings, FinetuneSummary, FoldLabels, Labelled, Observer, Prediction, Weights, finetune_with,
};

const EXAMPLES: &str = "\
Examples:
  heartlore finetune --data store --label aroused --init runs/pre/model --out runs/fine
  heartlore finetune --data store --label arousal --threshold mean --scale 1,9 --protocol loo --out runs/loso
  heartlore finetune --data store --label task --positive arithmetic --negative rest --out runs/task
  heartlore finetune --data store --label aroused --validation 0.2 --patience 5 --out runs/early
  heartlore finetune --data store --label aroused --init runs/pre/model --mode probe --protocol loo --out runs/probe
  heartlore finetune --data store --label task --positive arithmetic --negative rest --init runs/pre/model \
      --mode probe --reference rest --rest task=rest --reference-s 30 --out runs/known-rest
  heartlore finetune --data store --label aroused --init runs/pre/model --mode probe-then-tune --encoder-rate 0.05 \
      --layer-decay 0.7 --out runs/gently
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
    /// Model directory to start from, or `pretrained` for the encoder that comes with the program [default: start fresh]
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
    /// tune (train the network), probe (logistic regression on its frozen features, in seconds), or probe-then-tune (train
    /// it from the probe's head)
    #[arg(long, default_value = "tune", value_parser = ["tune", "probe", "probe-then-tune"])]
    pub mode: String,
    /// Factor on the learning rate from each pre-trained layer to the one below it; 1 for the same
    #[arg(long, default_value_t = 1.0)]
    pub layer_decay: f64,
    /// Share by which training labels are drawn towards one half
    #[arg(long, default_value_t = 0.0)]
    pub label_smoothing: f64,
    /// What a probe reads
    #[command(flatten)]
    pub reading: reading::ReadingArgs,
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
    #[arg(long, default_value_t = 2000, value_parser = super::options::resamples)]
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
    let (judged, model) = match args.mode.as_str() {
        "probe" => super::probe::train(args, &store, context)?,
        _ => {
            super::probe::refuse_reading(args)?;
            train(args, &store, context)?
        }
    };
    let mut text = judged.text();
    if model.is_some() {
        let _ = writeln!(text, "  model  {}", args.out.join("model").display());
    }
    let _ = writeln!(text, "  report {}", args.out.join("report.html").display());
    context.result(&text, || judged.json())
}

/// What the flags come to: the model to start from, settings, labels and folds.
pub(crate) struct Plan {
    args: Args,
    init: Option<Model>,
    settings: FinetuneSettings,
    /// The labelled windows.
    pub(crate) labels: labels::Labels,
    /// Their folds.
    pub(crate) folds: Folds,
}

/// Folds and the labels in each.
pub(crate) struct Folds {
    /// The folds, over positions in [`labels::Labels::rows`].
    pub(crate) split: Split,
    /// The same before windows near a fold's threshold were left out.
    whole: Split,
    /// The classes by each fold's own threshold.
    pub(crate) by_fold: Vec<Vec<bool>>,
    /// How classes were made, in words.
    rule: String,
}

impl Folds {
    /// The classes of each fold's own threshold; windows near it leave all parts of the fold.
    pub(crate) fn of(labels: &labels::Labels, mut split: Split) -> Self {
        let by_fold = split.folds.iter().map(|f| labels.for_training(&f.train)).collect();
        let rule = labels.rule_in_words(&split.folds);
        let whole = split.clone();
        labels.leave_out_middle(&mut split);
        Self { split, whole, by_fold, rule }
    }

    /// The test windows with their classes; the probabilities are still to come.
    pub(crate) fn test_windows(&self, labels: &labels::Labels, store: &Store) -> Predictions {
        let index = store.index();
        let mut p = Predictions::default();
        for (f, (fold, classes)) in self.split.folds.iter().zip(&self.by_fold).enumerate() {
            for &i in &fold.test {
                let row = labels.rows[i];
                p.row.push(Some(row));
                p.subject.push(format!("{}/{}", index.dataset(row), index.subject(row)));
                p.fold.push(f);
                p.label.push(classes[i]);
                p.probability.push(0.5);
            }
        }
        p
    }

    /// The training parts, for baselines and `split.json`.
    pub(crate) fn rows(&self, rows: &[usize]) -> Vec<FoldRows> {
        let one = |(f, classes): (&Fold, &Vec<bool>)| FoldRows {
            name: f.name.clone(),
            train: f.train.iter().map(|&i| rows[i]).collect(),
            train_labels: f.train.iter().map(|&i| classes[i]).collect(),
        };
        self.split.folds.iter().zip(&self.by_fold).map(one).collect()
    }
}

impl Plan {
    /// The same with the labels of other windows: window i gets those of `order[i]`. The folds stay.
    pub(crate) fn relabelled(&self, order: &[usize]) -> (labels::Labels, Folds) {
        let mut labels = self.labels.clone();
        labels.classes = order.iter().map(|&i| self.labels.classes[i]).collect();
        if !labels.ratings.is_empty() {
            labels.ratings = order.iter().map(|&i| self.labels.ratings[i]).collect();
        }
        let folds = Folds::of(&labels, self.folds.whole.clone());
        (labels, folds)
    }

    /// Trains one model per fold and predicts its test windows; fits the final model if asked for.
    pub(crate) fn fit(
        &self,
        store: &Store,
        (labels, folds): (&labels::Labels, &Folds),
        dir: &Path,
        resume: bool,
        observer: &mut dyn Observer,
    ) -> Result<FinetuneSummary> {
        let seed = self.settings.run.seed;
        let initial = |layout: &Layout| -> Result<(Vec<f32>, Vec<String>)> {
            match &self.init {
                None => Ok((layout.init(seed), Vec::new())),
                Some(model) => {
                    let (values, report) = model.transfer(layout, seed)?;
                    Ok((values, report.taken))
                }
            }
        };
        let data = labelled(store, labels, &folds.split, folds.by_fold.clone());
        let config = &self.settings.model;
        let tuning = super::probe::tuning(&self.args, store, self.init.as_ref(), config, &data)?;
        finetune_with(&self.settings, &tuning, &data, &initial, dir, resume, observer)
    }

    /// Steps of each fold and of the final model at most.
    fn planned_steps(&self) -> Vec<u64> {
        let run = &self.settings.run;
        let steps = |n: usize| (n.div_ceil(run.batch) as u64).saturating_mul(run.epochs);
        let folds = self.folds.split.folds.iter().map(|f| f.train.len());
        folds.chain([self.labels.rows.len()]).map(steps).collect()
    }
}

/// Reads flags, labels and folds; touches nothing on disk.
///
/// # Errors
/// Settings, labels or data that make no sense, a model that does not fit.
pub(crate) fn plan(args: &Args, store: &Store, context: &Context) -> Result<Plan> {
    let init = match &args.init {
        Some(dir) => Some(super::probe::load_init(dir, context)?),
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
    super::probe::shape_for_mode(args, &mut config);
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
    let folds = Folds::of(&labels, split(args, store, &labels, run.seed)?);
    let settings = FinetuneSettings {
        model: config,
        run,
        augment,
        balance: args.balance,
        patience: args.patience,
        encoder_rate: args.encoder_rate,
        final_model: args.final_model,
        test_precision: args.test_precision.map(|p| p.0),
    };
    Ok(Plan { args: args.clone(), init, settings, labels, folds })
}

/// Fine-tunes into `args.out` and writes everything there: flags, training, evaluation and report, once each.
pub(crate) fn train(args: &Args, store: &Store, context: &Context) -> Result<(Evaluation, Option<Model>)> {
    let plan = plan(args, store, context)?;
    let (labels, folds) = (&plan.labels, &plan.folds);
    if labels.missing + labels.other > 0 {
        context.note(format!(
            "{} windows have no label and {} another label than the two classes; they are left out",
            labels.missing, labels.other
        ));
    }
    for warning in &folds.split.warnings {
        context.warn(warning);
    }
    let tested = folds.split.folds.iter().flat_map(|f| &f.test).map(|&i| labels.rows[i]);
    let init = plan.init.as_ref();
    let (tested, recordings) = provenance::of_rows(store, tested, false);
    let start = InitProvenance::of(args.init.as_deref().zip(init), (&tested, &recordings));
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
    let file = split_file(args, store, labels, folds, start);
    let bytes = serde_json::to_vec(&file).map_err(|e| Error::format(e.to_string()))?;
    let split_path = dir.dir().join("split.json");
    if !args.resume {
        write_bytes(&split_path, &bytes)?;
    }

    let mut watch = RunLogger::new(dir.dir(), args.resume, &plan.planned_steps(), context);
    let outcome = plan.fit(store, (labels, folds), dir.dir(), args.resume, &mut watch);
    let summary = watch.settle(outcome)?;

    // A resumed run whose folds are refused leaves the file of the run it is not.
    write_bytes(&split_path, &bytes)?;
    write_predictions(&dir.dir().join("predictions.csv"), store, &labels.rows, &summary.predictions)?;
    let judged = assess(args, store, &file, &labels.rows, &summary)?;
    let model = match &summary.model {
        None => None,
        Some(weights) => Some(save_model(&plan, weights, store, &judged, dir.dir())?),
    };
    evaluate::write(&judged, dir.dir(), Some(dir.dir()), Some(store), context)?;
    dir.finish(judged.json())?;
    Ok((judged, model))
}

/// Refuses a store that was prepared otherwise than the model's windows.
///
/// # Errors
/// Names each setting with both values.
pub(crate) fn check_same_preparation(model: &Model, dir: &Path, store: &Store) -> Result<()> {
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
pub(crate) fn labelled<'a>(
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
    Labelled {
        source: store,
        windows: labels.rows.clone(),
        fingerprint: fingerprint(store),
        labels: FoldLabels::by_fold(by_fold, whole, left_out),
        split: split.clone(),
    }
}

pub(crate) fn split(args: &Args, store: &Store, labels: &labels::Labels, seed: u64) -> Result<Split> {
    let column = args.protocol.stimulus_column();
    let all = store.index().split_keys_of(column);
    let take = |list: &[u32]| -> Vec<u32> {
        if list.is_empty() { Vec::new() } else { labels.rows.iter().map(|&r| list[r]).collect() }
    };
    let keys = Keys {
        subject: take(&all.subject),
        trial: take(&all.trial),
        stimulus: take(&all.stimulus),
        class: labels.classes.iter().map(|c| u32::from(*c)).collect(),
    };
    Split::new(&keys, args.protocol.resolve(), args.protocol.validation, seed).map_err(|e| {
        let lacks = column == "elicitor" && keys.stimulus.is_empty();
        let e = if lacks {
            e.remedy("add a label column 'elicitor' to the table, or choose another --by")
        } else {
            e
        };
        e.in_file(store.dir())
    })
}

pub(crate) fn split_file(
    args: &Args,
    store: &Store,
    labels: &labels::Labels,
    folds: &Folds,
    start: InitProvenance,
) -> SplitFile {
    let split = &folds.split;
    SplitFile {
        protocol: split.protocol.to_string(),
        leaks: split.protocol.leaks(),
        warnings: split.warnings.clone(),
        seed: split.seed,
        label: format!("{} ({})", args.labels.label, folds.rule),
        positive: labels.positive.clone(),
        negative: labels.negative.clone(),
        store: std::path::absolute(store.dir()).unwrap_or_else(|_| store.dir().into()),
        fingerprint: fingerprint(store),
        folds: folds.rows(&labels.rows),
        start: Some(start),
    }
}

fn save_model(
    plan: &Plan,
    weights: &Weights,
    store: &Store,
    judged: &Evaluation,
    dir: &Path,
) -> Result<Model> {
    let labels = &plan.labels;
    let (own, recordings) = provenance::of_rows(store, labels.rows.iter().copied(), true);
    let (people, seen) = match &plan.init {
        None => (Some(own), recordings),
        Some(model) => (
            model.card.people.as_ref().map(|before| provenance::union(own, before)),
            recordings.and(&model.card.provenance),
        ),
    };
    let task = Task::Classifier {
        positive: labels.positive.clone(),
        negative: labels.negative.clone(),
        threshold: 0.5,
    };
    let shown = [Metric::BalancedAccuracy, Metric::MacroF1, Metric::Auc];
    let metrics = judged.methods.iter().flat_map(|m| {
        shown.iter().filter_map(|metric| m.score(*metric)).filter(|s| s.estimate.is_some()).map(|s| {
            let name = s.metric.name();
            let who =
                if m.baseline { format!("{name} of the baseline '{}'", m.name) } else { name.to_string() };
            let value = statements::score_text(s.estimate, s.interval.as_ref(), 3);
            (judged.marked(&who), format!("{value}, {}", judged.protocol))
        })
    });
    let mut notes = store.manifest().notes.clone();
    notes.push(statements::card_note(plan.settings.final_model).into());
    notes.extend(judged.marks.iter().map(|m| m.sentence.clone()));
    let model = Model::from_weights(plan.settings.model.clone(), task, &weights.layout, &weights.values)?
        .with_preprocessing(Preprocessing::of_store(store.manifest())?)
        .with_card(Card {
            training_data: training_data(store, &labels.rows),
            simulated: is_simulated(store),
            metrics: metrics.collect(),
            notes,
            licence: None,
            people,
            provenance: seen,
        });
    model.save(dir.join("model"))?;
    Ok(model)
}

pub(crate) fn write_predictions(
    path: &Path,
    store: &Store,
    rows: &[usize],
    predictions: &[Prediction],
) -> Result<()> {
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

/// The predictions with people and folds.
pub(crate) fn predictions(store: &Store, rows: &[usize], found: &[Prediction]) -> Predictions {
    let index = store.index();
    let mut p = Predictions::default();
    for q in found {
        let row = rows[q.window];
        p.row.push(Some(row));
        p.subject.push(format!("{}/{}", index.dataset(row), index.subject(row)));
        p.fold.push(q.fold);
        p.label.push(q.label);
        p.probability.push(q.probability);
    }
    p
}

/// What the evaluation of a run needs.
pub(crate) fn evaluation_settings(args: &Args, split: &SplitFile) -> Settings {
    Settings {
        threshold: 0.5,
        resamples: args.resamples,
        level: 0.95,
        seed: args.training.seed,
        positive: split.positive.clone(),
        negative: split.negative.clone(),
        protocol: split.protocol.clone(),
        leaks: split.leaks,
    }
}

/// The test windows' predictions, beside baselines.
fn assess(
    args: &Args,
    store: &Store,
    split: &SplitFile,
    rows: &[usize],
    summary: &FinetuneSummary,
) -> Result<Evaluation> {
    let p = predictions(store, rows, &summary.predictions);
    let settings = evaluation_settings(args, split);
    let mut judged =
        evaluate::beside_baselines(&p, args.baselines.then_some(store), &split.folds, &settings)?;
    evaluate::report_init_provenance(&mut judged, split);
    evaluate::report_split(&mut judged, split);
    Ok(judged)
}
