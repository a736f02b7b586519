//! Fine-tuning on binary labels, fold by fold, and the predictions on each fold's test windows.

use super::engine::{Engine, Params, get_weights, put_weights};
use super::fit::{Control, Event, FitPaths, Observer, Task, fit};
use super::pretrain::check_windows;
use super::shard::Workers;
use super::{Augment, Run, RunFingerprint, Weights};
use crate::checkpoint::{Os, Rotating, State, atomic::create_dirs};
use crate::data::batch::{Batches, Sampling};
use crate::data::rng::SplitMix64;
use crate::data::source::WindowSource;
use crate::data::split::{Fold, Split};
use crate::error::{Error, Kind, Result};
use crate::graph::{Exec, Layout, MatmulPrecision, OutputRequest, PackedWeights, Plan};
use crate::nn::{self, ModelConfig};
use heartlore_kernels::Isa;
use heartlore_kernels::rng::Key;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What to fine-tune and how.
#[derive(Clone, PartialEq, Debug)]
pub struct FinetuneSettings {
    /// The model, with its classification head.
    pub model: ModelConfig,
    /// Optimiser, schedule, batch, seed.
    pub run: Run,
    /// Variation of the training windows.
    pub augment: Augment,
    /// Weights the positive class by the training part's ratio of negatives to positives.
    pub balance: bool,
    /// Epochs without a better validation loss after which a fold stops; needs a validation part.
    pub patience: Option<u64>,
    /// Factor on the learning rate of parameters taken from pre-training; 0 freezes them.
    pub encoder_rate: f64,
    /// Fits one more model on all labelled windows, for use on new recordings.
    pub final_model: bool,
    /// What operands are rounded to when test windows are predicted; `None` as in training.
    pub test_precision: Option<MatmulPrecision>,
}

/// Gentler fine-tuning; the default changes nothing.
#[derive(Clone, PartialEq, Debug)]
pub struct Tuning {
    /// Factor on the learning rate from each layer of the pre-trained encoder to the one below it: the last transformer layer
    /// has [`FinetuneSettings::encoder_rate`], the one under it that times this, the convolutions the smallest (J. Howard and
    /// S. Ruder, Universal language model fine-tuning for text classification, 2018, section 3.2). 1 for the same rate.
    pub layer_decay: f64,
    /// A label y becomes y (1 - this) + this / 2 in the training loss (C. Szegedy et al. 2016, section 7).
    pub label_smoothing: f64,
    /// Head to start each fold from, and after them the final model: weights of a linear head on the pooled features, and
    /// bias. Empty to start from random heads.
    pub heads: Vec<(Vec<f32>, f32)>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { layer_decay: 1.0, label_smoothing: 0.0, heads: Vec::new() }
    }
}

impl Tuning {
    fn check(&self, model: &ModelConfig, runs: usize) -> Result<()> {
        if !(self.layer_decay > 0.0 && self.layer_decay <= 1.0) {
            return Err(Error::usage(format!("a layer decay of {} is not in (0, 1]", self.layer_decay)));
        }
        if !(self.label_smoothing >= 0.0 && self.label_smoothing < 1.0) {
            return Err(Error::usage(format!(
                "a label smoothing of {} is not in [0, 1)",
                self.label_smoothing
            )));
        }
        if self.heads.is_empty() {
            return Ok(());
        }
        if !model.head_hidden.is_empty() || self.heads.len() < runs {
            return Err(Error::usage(format!(
                "{} linear heads for {runs} runs of a head with hidden layers {:?}",
                self.heads.len(),
                model.head_hidden
            )));
        }
        match self.heads.iter().find(|h| h.0.len() != model.features()) {
            Some(h) => {
                Err(Error::shape(format!("a head of {} weights on {} features", h.0.len(), model.features())))
            }
            None => Ok(()),
        }
    }

    /// Puts the head of run `index` into `values`.
    fn put_head(&self, index: usize, layout: &Layout, values: &mut [f32]) {
        let Some((weights, bias)) = self.heads.get(index) else { return };
        if let (Some(w), Some(b)) = (layout.find("head.0.weight"), layout.find("head.0.bias")) {
            values[w.range()].copy_from_slice(weights);
            values[b.range()].fill(*bias);
        }
    }
}

/// Layers between a parameter of the encoder and the head: 0 for the last transformer layer and what follows it.
fn depth(name: &str, layers: usize) -> usize {
    match name.strip_prefix("transformer.layers.").and_then(|n| n.split('.').next()?.parse::<usize>().ok()) {
        Some(i) => layers.saturating_sub(i + 1),
        None if name.starts_with("transformer.norm") => 0,
        None => layers,
    }
}

/// Labelled windows and how they are divided.
pub struct Labelled<'a> {
    /// The windows.
    pub source: &'a dyn WindowSource,
    /// Rows of the source that have a label.
    pub windows: Vec<usize>,
    /// Their labels: true is the positive class.
    pub labels: FoldLabels,
    /// Folds over positions in `windows`.
    pub split: Split,
    /// Names the data and the labels: a resumed run must have the same.
    pub fingerprint: String,
}

/// The labels of the windows: the same in every fold, or fold by fold where a fold's training part decides them (ratings
/// split at the training part's mean).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FoldLabels {
    by_fold: Vec<Vec<bool>>,
    whole: Vec<bool>,
    left_out: Vec<usize>,
}

impl From<Vec<bool>> for FoldLabels {
    /// The same labels in every fold and for the final model.
    fn from(whole: Vec<bool>) -> Self {
        Self { whole, ..Self::default() }
    }
}

impl FoldLabels {
    /// `by_fold[f]` for fold f; `whole` for the final model, which is fitted on all windows but those at the positions
    /// `left_out`. Every list has one label per window.
    pub fn by_fold(by_fold: Vec<Vec<bool>>, whole: Vec<bool>, left_out: Vec<usize>) -> Self {
        Self { by_fold, whole, left_out }
    }

    /// The labels of fold `index`, one per window.
    pub fn of_fold(&self, index: usize) -> &[bool] {
        self.by_fold.get(index).unwrap_or(&self.whole)
    }

    /// The labels the final model is fitted to, one per window.
    pub fn of_final_model(&self) -> &[bool] {
        &self.whole
    }

    /// The windows the final model is fitted on.
    pub(super) fn final_train(&self) -> Vec<usize> {
        let mut keep = vec![true; self.whole.len()];
        self.left_out.iter().for_each(|&i| keep[i] = false);
        (0..keep.len()).filter(|&i| keep[i]).collect()
    }

    fn check(&self, windows: usize, folds: usize) -> Result<()> {
        if !self.by_fold.is_empty() && self.by_fold.len() != folds {
            return Err(Error::shape(format!("labels of {} folds for {folds}", self.by_fold.len())));
        }
        if let Some(list) = std::iter::once(&self.whole).chain(&self.by_fold).find(|l| l.len() != windows) {
            return Err(Error::shape(format!("{} labels for {windows} windows", list.len())));
        }
        match self.left_out.iter().find(|&&i| i >= windows) {
            Some(i) => Err(Error::shape(format!("window {i} of {windows} is to be left out"))),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Labelled<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Labelled({} windows, {} folds, {})",
            self.windows.len(),
            self.split.folds.len(),
            self.fingerprint
        )
    }
}

/// The probability a fold's model gives one of its test windows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Prediction {
    /// Position in [`Labelled::windows`].
    pub window: usize,
    /// The fold whose test part it is in.
    pub fold: usize,
    /// The true label.
    pub label: bool,
    /// Probability of the positive class.
    pub probability: f64,
}

/// How a fold ended.
#[derive(Clone, PartialEq, Debug)]
pub struct FoldSummary {
    /// Its name in the split.
    pub name: String,
    /// Epoch of the weights, from 0.
    pub best_epoch: u64,
    /// Epochs run.
    pub epochs: u64,
    /// Training loss of the last epoch.
    pub train_loss: f64,
    /// Validation loss of the weights, if there was a validation part.
    pub validation_loss: Option<f64>,
}

/// How fine-tuning ended.
#[derive(Clone, Debug)]
pub struct FinetuneSummary {
    /// One prediction per test window and fold.
    pub predictions: Vec<Prediction>,
    /// One entry per fold.
    pub folds: Vec<FoldSummary>,
    /// The model fitted on everything, if asked for; with a single split and no final model, that split's model.
    pub model: Option<Weights>,
}

/// Gives the weights a run starts from, and the names of those that were taken from elsewhere.
pub type Initial<'a> = dyn Fn(&Layout) -> Result<(Vec<f32>, Vec<String>)> + 'a;

/// Fine-tunes one model per fold from the weights `initial` gives for a layout, and predicts each fold's test windows.
/// Finished folds are kept under `out/folds` and skipped on `resume`.
///
/// `initial` returns the flat parameter vector and the names it took from pre-training.
///
/// # Errors
/// Settings or data that make no sense, a training part with one class only, a failing disk, a loss that is not finite,
/// or [`Kind::Interrupted`] when the observer stops the run after a save.
pub fn finetune(
    settings: &FinetuneSettings,
    data: &Labelled<'_>,
    initial: &Initial<'_>,
    out: &Path,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<FinetuneSummary> {
    finetune_with(settings, &Tuning::default(), data, initial, out, resume, observer)
}

/// As [`finetune`], gentler.
///
/// # Errors
/// As [`finetune`]; settings of `tuning` that make no sense.
pub fn finetune_with(
    settings: &FinetuneSettings,
    tuning: &Tuning,
    data: &Labelled<'_>,
    initial: &Initial<'_>,
    out: &Path,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<FinetuneSummary> {
    let run = &settings.run;
    settings.model.validate()?;
    tuning.check(&settings.model, data.split.folds.len() + usize::from(settings.final_model))?;
    run.validate()?;
    check_windows(data.source, settings.model.window)?;
    data.labels.check(data.windows.len(), data.split.folds.len())?;
    if !(settings.encoder_rate.is_finite() && settings.encoder_rate >= 0.0) {
        return Err(Error::usage(format!("an encoder learning-rate factor of {}", settings.encoder_rate)));
    }
    let mut summary = FinetuneSummary { predictions: Vec::new(), folds: Vec::new(), model: None };
    let of = data.split.folds.len() + usize::from(settings.final_model);
    for (index, fold) in data.split.folds.iter().enumerate() {
        if observer.event(&Event::Fold { index, of, name: fold.name.clone() }) == Control::Stop {
            return Err(interrupted(index));
        }
        let dir = out.join("folds").join(format!("{index:03}"));
        let labels = data.labels.of_fold(index);
        let job = Job { settings, tuning, data, labels, initial, dir: &dir, resume, index };
        let (probabilities, folded, weights) = job.run(fold, observer)?;
        summary.predictions.extend(fold.test.iter().zip(probabilities).map(|(&window, p)| Prediction {
            window,
            fold: index,
            label: labels[window],
            probability: f64::from(p),
        }));
        summary.folds.push(folded);
        if of == 1 {
            summary.model = Some(weights);
        }
    }
    if settings.final_model {
        let index = data.split.folds.len();
        let name = "all labelled windows".to_string();
        if observer.event(&Event::Fold { index, of, name: name.clone() }) == Control::Stop {
            return Err(interrupted(index));
        }
        let train = data.labels.final_train();
        let fold = Fold { name, train, validation: vec![], test: vec![], unused: vec![] };
        let dir = out.join("folds").join("final");
        let mut settings = settings.clone();
        settings.run.epochs = final_epochs(&summary.folds, run.epochs);
        let labels = data.labels.of_final_model();
        let job = Job { settings: &settings, tuning, data, labels, initial, dir: &dir, resume, index };
        summary.model = Some(job.run(&fold, observer)?.2);
    }
    Ok(summary)
}

/// Epochs of the final model, which has no validation part: the mean over the folds of the epochs whose weights they
/// tested, rounded up. A fold tests the best epoch by its validation loss, or the last one without a validation part, so
/// that this is `epochs` then. The final model is thus chosen as the models behind the figures were.
fn final_epochs(folds: &[FoldSummary], epochs: u64) -> u64 {
    if folds.is_empty() {
        return epochs;
    }
    folds.iter().map(|f| f.best_epoch + 1).sum::<u64>().div_ceil(folds.len() as u64).clamp(1, epochs)
}

/// The key of the random streams of fold `index`: it passes a mixer, so that fold 1 of seed 1 is not fold 0 of seed 2.
fn fold_seed(seed: u64, index: usize) -> u64 {
    SplitMix64::keyed(seed, FOLD_STREAM + index as u64).next_u64()
}

/// Apart from the streams of splits and batch orders, which count from 0.
const FOLD_STREAM: u64 = 1 << 32;

fn interrupted(fold: usize) -> Error {
    Error::new(Kind::Interrupted, format!("stopped before fold {fold}")).remedy("go on with --resume")
}

/// Probabilities of the positive class for rows of a source, by a classifier's weights.
///
/// # Errors
/// If the source does not fit the model, or a read fails.
pub fn classify(
    model: &ModelConfig,
    weights: &Weights,
    source: &dyn WindowSource,
    rows: &[usize],
    run: &Run,
) -> Result<Vec<f32>> {
    check_windows(source, model.window)?;
    let program = Program::new(model, run, run.group, 1.0, run.precision)?;
    let isa = run.isa()?;
    let workers = Workers::new(run.threads, || Ok(Worker::default()))?;
    if weights.layout != *program.c.graph.layout() {
        return Err(Error::shape("the weights are not those of this classifier"));
    }
    predict(&program, source, rows, &weights.values, run, isa, &workers)
}

/// One fold.
struct Job<'a> {
    settings: &'a FinetuneSettings,
    tuning: &'a Tuning,
    data: &'a Labelled<'a>,
    labels: &'a [bool],
    initial: &'a Initial<'a>,
    dir: &'a Path,
    resume: bool,
    index: usize,
}

impl Job<'_> {
    fn run(&self, fold: &Fold, observer: &mut dyn Observer) -> Result<(Vec<f32>, FoldSummary, Weights)> {
        let (settings, data) = (self.settings, self.data);
        let (model, run) = (&settings.model, &settings.run);
        let positives = fold.train.iter().filter(|&&i| self.labels[i]).count();
        let negatives = fold.train.len() - positives;
        if positives == 0 || negatives == 0 {
            let class = if positives == 0 { "negative" } else { "positive" };
            return Err(Error::data(format!("the training part has {class} windows only"))
                .at(format!("fold {:?}", fold.name))
                .remedy("use fewer folds, another grouping, or another label threshold"));
        }
        let pos_weight = if settings.balance { negatives as f64 / positives as f64 } else { 1.0 };
        let test = settings.test_precision.unwrap_or(run.precision);
        let program = Program::new(model, run, run.windows_of_pass(), pos_weight, test)?;
        let layout = program.c.graph.layout().clone();
        let (mut values, taken) = (self.initial)(&layout)?;
        self.tuning.put_head(self.index, &layout, &mut values);
        let fingerprint = self.fingerprint(fold, test, &values, &taken)?;
        create_dirs(&Os, self.dir)?;
        let mut done = Rotating::new(self.dir.join("done.ckpt"))?;
        if self.resume && done.last().exists() {
            let state = State::load(&done)?.value;
            fingerprint.check(&state, done.last())?;
            // A kill may have come between this file and the clearing away below.
            clear(&self.dir.join("checkpoints"))?;
            return Ok(Done::restore(&state, &layout, fold)?.into_parts(layout));
        }
        let decay = |name: &str| self.tuning.layer_decay.powi(depth(name, model.layers) as i32);
        let rates = rates(&layout, &taken, |name| settings.encoder_rate * decay(name));
        let prepared = PackedWeights::new(&program.c.graph, &program.train, run.isa()?);
        let mut engine = Engine::new(run, Weights { layout: layout.clone(), values }, prepared, rates)?;
        let task = Classifying {
            settings,
            smoothing: self.tuning.label_smoothing,
            data,
            labels: self.labels,
            program: &program,
            fold,
            isa: run.isa()?,
            seed: fold_seed(run.seed, self.index),
        };
        let workers = Workers::new(run.threads, || Ok(Worker::default()))?;
        let mut batches = Batches::new(fold.train.clone(), run.batch, false, task.seed, Sampling::All)?;
        let place = FitPaths {
            dir: self.dir,
            fold: Some(self.index),
            resume: self.resume,
            fingerprint: &fingerprint,
            patience: settings.patience.filter(|_| !fold.validation.is_empty()),
        };
        let fitted = fit(&task, &mut engine, &workers, &mut batches, run, &place, observer)?;
        let rows: Vec<usize> = fold.test.iter().map(|&i| data.windows[i]).collect();
        let probabilities = predict(&program, data.source, &rows, &fitted.best, run, task.isa, &workers)?;
        let summary = FoldSummary {
            name: fold.name.clone(),
            best_epoch: fitted.best_epoch,
            epochs: fitted.epochs,
            train_loss: fitted.train_loss,
            validation_loss: fitted.validation_loss,
        };
        let result = Done { probabilities, summary, values: fitted.best };
        result.state(&layout, &fingerprint)?.save(&mut done)?;
        // The fold's result is safe: its optimiser state is no longer needed.
        clear(&self.dir.join("checkpoints"))?;
        Ok(result.into_parts(layout))
    }
}

impl Job<'_> {
    /// What the fold's result depends on; `test` is the precision of its predictions, `initial` the weights it starts
    /// from, of which those of the names `taken` have their own learning rate.
    fn fingerprint(
        &self,
        fold: &Fold,
        test: MatmulPrecision,
        initial: &[f32],
        taken: &[String],
    ) -> Result<RunFingerprint> {
        let (data, rows) = (self.data, |list: &[usize]| {
            list.iter().map(|&i| self.data.windows[i]).collect::<Vec<usize>>().into_iter()
        });
        // Taken apart without `..`, so that a new setting cannot be forgotten.
        let FinetuneSettings {
            model,
            run,
            augment,
            balance,
            patience,
            encoder_rate,
            final_model: _, // fits one more model, and changes none of the others
            test_precision: _,
        } = self.settings;
        let mut f = RunFingerprint::new("finetune", model, run, augment)?;
        f.debug("balance", balance);
        f.debug("patience", patience);
        f.debug("encoder_rate", encoder_rate);
        // The heads of a probe are among the initial weights.
        f.debug("layer_decay", self.tuning.layer_decay);
        f.debug("label_smoothing", self.tuning.label_smoothing);
        f.debug("test_precision", test);
        f.put("store", data.fingerprint.as_str());
        f.put("protocol", data.split.protocol.to_string());
        f.put("fold.name", fold.name.as_str());
        f.debug("fold.number", self.index);
        f.rows("fold.train", rows(&fold.train));
        f.rows("fold.validation", rows(&fold.validation));
        f.rows("fold.test", rows(&fold.test));
        f.hashed("fold.labels", (&data.windows, self.labels));
        f.floats("initial_weights", initial);
        f.hashed("initial_weights.names", taken);
        Ok(f)
    }
}

/// Removes a folder, if it is there.
fn clear(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(folder, e)),
        _ => Ok(()),
    }
}

/// A finished fold.
struct Done {
    probabilities: Vec<f32>,
    summary: FoldSummary,
    values: Vec<f32>,
}

impl Done {
    fn state(&self, layout: &Layout, fingerprint: &RunFingerprint) -> Result<State> {
        let mut state = State::default();
        put_weights(&mut state, "model", layout, &self.values);
        if !self.probabilities.is_empty() {
            state.put_f32("probabilities", &[self.probabilities.len()], &self.probabilities);
        }
        let s = &self.summary;
        fingerprint.save(&mut state)?;
        state.numbers.insert("best_epoch".into(), s.best_epoch);
        state.numbers.insert("epochs".into(), s.epochs);
        state.floats.insert("train_loss".into(), s.train_loss);
        if let Some(loss) = s.validation_loss {
            state.floats.insert("validation_loss".into(), loss);
        }
        Ok(state)
    }

    fn restore(state: &State, layout: &Layout, fold: &Fold) -> Result<Self> {
        let n = fold.test.len();
        Ok(Self {
            probabilities: if n == 0 { vec![] } else { state.f32("probabilities", &[n])?.to_vec() },
            summary: FoldSummary {
                name: fold.name.clone(),
                best_epoch: state.number("best_epoch")?,
                epochs: state.number("epochs")?,
                train_loss: state.float("train_loss")?,
                validation_loss: state.floats.get("validation_loss").copied(),
            },
            values: get_weights(state, "model", layout)?,
        })
    }

    fn into_parts(self, layout: Layout) -> (Vec<f32>, FoldSummary, Weights) {
        (self.probabilities, self.summary, Weights { layout, values: self.values })
    }
}

/// Runs of neighbouring parameters with one factor on the learning rate: `rate` of those that were taken, 1 of the others.
fn rates(layout: &Layout, taken: &[String], rate: impl Fn(&str) -> f64) -> Vec<(Range<usize>, f64)> {
    let mut rates: Vec<(Range<usize>, f64)> = Vec::new();
    for e in layout.entries() {
        let factor = if taken.contains(&e.name) { rate(&e.name) } else { 1.0 };
        match rates.last_mut() {
            Some((range, f)) if *f == factor => range.end = e.range().end,
            _ => rates.push((e.range(), factor)),
        }
    }
    rates
}

struct Program {
    c: nn::Classify,
    train: Arc<Plan>,
    validate: Arc<Plan>,
    predict: Arc<Plan>,
    group: usize,
    window: usize,
}

impl Program {
    /// `group`: windows of a pass; `test`: the precision of predictions.
    fn new(
        model: &ModelConfig,
        run: &Run,
        group: usize,
        pos_weight: f64,
        test: MatmulPrecision,
    ) -> Result<Self> {
        let c = nn::classify(model, group, pos_weight)?;
        let plan = |want, precision| Plan::new(&c.graph, want).map(|p| Arc::new(p.with_precision(precision)));
        Ok(Self {
            train: plan(OutputRequest::training(c.loss), run.precision)?,
            validate: plan(OutputRequest::values(&[c.loss]), run.precision)?,
            predict: plan(OutputRequest::values(&[c.logits]), test)?,
            c,
            group,
            window: model.window,
        })
    }

    fn exec<'w>(&self, worker: &'w mut Worker, plan: &Arc<Plan>, isa: Isa) -> &'w mut Exec<f32> {
        let make = || Exec::with_isa(Arc::clone(&self.c.graph), Arc::clone(plan), isa);
        let exec = worker.exec.get_or_insert_with(make);
        exec.switch(&self.c.graph, plan);
        exec
    }
}

/// Buffers of one thread.
#[derive(Default)]
struct Worker {
    exec: Option<Exec<f32>>,
    windows: Vec<f32>,
    targets: Vec<f32>,
    weights: Vec<f32>,
}

fn predict(
    program: &Program,
    source: &dyn WindowSource,
    rows: &[usize],
    params: &[f32],
    run: &Run,
    isa: Isa,
    workers: &Workers<Worker>,
) -> Result<Vec<f32>> {
    let mut probabilities = vec![0.0f32; rows.len()];
    let (group, window) = (program.group, program.window);
    let mut prepared = PackedWeights::new(&program.c.graph, &program.predict, isa);
    let params = Params::prepare(workers, &mut prepared, params)?;
    let mut chunks: Vec<(&[usize], &mut [f32])> =
        rows.chunks(group).zip(probabilities.chunks_mut(group)).collect();
    let _ = run;
    workers.each(&mut chunks, |worker, _, (rows, out)| {
        worker.windows.clear();
        worker.windows.resize(group * window, 0.0);
        for (&row, w) in rows.iter().zip(worker.windows.chunks_exact_mut(window)) {
            source.read(row, w)?;
        }
        let windows = std::mem::take(&mut worker.windows);
        let exec = program.exec(worker, &program.predict, isa);
        exec.set_dropout(false);
        exec.set_input(program.c.samples, &windows)?;
        exec.forward_with(params.values, params.aids());
        for (p, &logit) in out.iter_mut().zip(exec.value(program.c.logits)) {
            *p = (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32;
        }
        worker.windows = windows;
        Ok(())
    })?;
    Ok(probabilities)
}

struct Classifying<'a> {
    settings: &'a FinetuneSettings,
    smoothing: f64,
    data: &'a Labelled<'a>,
    labels: &'a [bool],
    program: &'a Program,
    fold: &'a Fold,
    isa: Isa,
    seed: u64,
}

/// Positions of a batch in [`Labelled::windows`], and the step it belongs to; `None` for validation.
struct Batch {
    windows: Vec<usize>,
    step: Option<u64>,
}

impl Classifying<'_> {
    fn pass(
        &self,
        worker: &mut Worker,
        params: Params<'_>,
        batch: &Batch,
        part: Range<usize>,
        mut out: Option<&mut [f32]>,
    ) -> Result<f64> {
        let (group, window) = (self.program.group, self.program.window);
        let share = 1.0 / batch.windows.len() as f64;
        let mut loss = 0.0;
        for first in part.clone().step_by(group) {
            let n = group.min(part.end - first);
            for (buffer, len) in [
                (&mut worker.windows, group * window),
                (&mut worker.targets, group),
                (&mut worker.weights, group),
            ] {
                buffer.clear();
                buffer.resize(len, 0.0);
            }
            for j in 0..n {
                let position = batch.windows[first + j];
                let w = &mut worker.windows[j * window..(j + 1) * window];
                self.data.source.read(self.data.windows[position], w)?;
                if let Some(step) = batch.step {
                    let key = Key { seed: self.seed, step, sample: (first + j) as u32, op: 0 };
                    self.settings.augment.apply(key, w);
                }
                let label = f64::from(u8::from(self.labels[position]));
                let smoothing = if batch.step.is_some() { self.smoothing } else { 0.0 };
                worker.targets[j] = (label * (1.0 - smoothing) + 0.5 * smoothing) as f32;
                worker.weights[j] = 1.0;
            }
            let (windows, targets, weights) = (
                std::mem::take(&mut worker.windows),
                std::mem::take(&mut worker.targets),
                std::mem::take(&mut worker.weights),
            );
            let (p, c) = (self.program, &self.program.c);
            let exec = p.exec(worker, if out.is_some() { &p.train } else { &p.validate }, self.isa);
            exec.set_dropout(out.is_some());
            exec.set_key(self.seed, batch.step.unwrap_or(0), first as u32);
            exec.set_input(c.samples, &windows)?;
            exec.set_input(c.targets, &targets)?;
            exec.set_input(c.weights, &weights)?;
            exec.forward_with(params.values, params.aids());
            loss += f64::from(exec.value(c.loss)[0]) * share;
            if let Some(out) = out.as_deref_mut() {
                exec.backward_with(params.values, params.aids(), &[share as f32], out);
            }
            (worker.windows, worker.targets, worker.weights) = (windows, targets, weights);
        }
        Ok(loss)
    }
}

impl Task for Classifying<'_> {
    type Worker = Worker;
    type Batch = Batch;

    fn begin(&self, step: u64, windows: &[usize]) -> Result<Batch> {
        Ok(Batch { windows: windows.to_vec(), step: Some(step) })
    }

    fn gradient(
        &self,
        worker: &mut Worker,
        params: Params<'_>,
        batch: &Batch,
        part: Range<usize>,
        out: &mut [f32],
    ) -> Result<f64> {
        self.pass(worker, params, batch, part, Some(out))
    }

    fn validate(&self, workers: &Workers<Worker>, params: Params<'_>) -> Result<Option<f64>> {
        if self.fold.validation.is_empty() {
            return Ok(None);
        }
        let batch = Batch { windows: self.fold.validation.clone(), step: None };
        let pass = |worker: &mut Worker, part| self.pass(worker, params, &batch, part, None);
        workers.total(batch.windows.len(), self.settings.run.shards, pass).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_layers_move_less() {
        let c = ModelConfig { head_hidden: vec![], layers: 3, ..ModelConfig::tiny() };
        let layout = nn::classify(&c, 1, 1.0).unwrap().graph.layout().clone();
        let taken: Vec<String> =
            layout.entries().iter().map(|e| e.name.clone()).filter(|n| !n.starts_with("head")).collect();
        let found = rates(&layout, &taken, |name| 0.1 * 0.5f64.powi(depth(name, 3) as i32));
        let of = |name: &str| {
            let at = layout.find(name).unwrap().range().start;
            found.iter().find(|(r, _)| r.contains(&at)).unwrap().1
        };
        for (name, want) in [
            ("encoder.conv.0.weight", 0.1 / 8.0),
            ("cls", 0.1 / 8.0),
            ("transformer.layers.0.linear1.weight", 0.1 / 4.0),
            ("transformer.layers.1.norm2.bias", 0.1 / 2.0),
            ("transformer.layers.2.self_attn.in_proj_weight", 0.1),
            ("head.0.weight", 1.0),
        ] {
            assert!((of(name) - want).abs() < 1e-12, "{name}: {}", of(name));
        }
        assert_eq!(found.last().unwrap().0.end, layout.len());
    }

    #[test]
    fn tuning_that_makes_no_sense_is_refused() {
        let c = ModelConfig { head_hidden: vec![], ..ModelConfig::tiny() };
        let d = Tuning::default;
        assert!(d().check(&c, 9).is_ok());
        for bad in [
            Tuning { layer_decay: 0.0, ..d() },
            Tuning { layer_decay: f64::NAN, ..d() },
            Tuning { label_smoothing: 1.0, ..d() },
            Tuning { heads: vec![(vec![0.0; 3], 0.0)], ..d() },
            Tuning { heads: vec![(vec![0.0; c.features()], 0.0)], ..d() },
        ] {
            assert!(bad.check(&c, 2).is_err(), "{bad:?}");
        }
        let good = Tuning { heads: vec![(vec![0.5; c.features()], 2.0); 2], ..d() };
        assert!(good.check(&c, 2).is_ok() && good.check(&ModelConfig::tiny(), 2).is_err());
        let layout = nn::classify(&c, 1, 1.0).unwrap().graph.layout().clone();
        let mut values = vec![0.0; layout.len()];
        good.put_head(1, &layout, &mut values);
        assert_eq!(values.iter().filter(|v| **v == 0.5).count(), c.features());
        assert_eq!(values[layout.find("head.0.bias").unwrap().range().start], 2.0);
    }
}
