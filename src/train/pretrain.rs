//! Pre-training: predict the masked spans of unlabelled windows (PAPER: masked points set to 0, mean squared error over
//! masked points only).

use super::engine::{Engine, Params};
use super::fit::{FitPaths, Observer, Task, fit};
use super::shard::{Workers, lock};
use super::{Augment, Run, RunFingerprint, Weights};
use crate::data::batch::{Batches, Sampling};
use crate::data::source::WindowSource;
use crate::error::{Error, Result};
use crate::graph::{Exec, OutputRequest, PackedWeights, Plan};
use crate::nn::{self, ModelConfig};
use heartlore_kernels::Isa;
use heartlore_kernels::rng::Key;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What to pre-train and how.
#[derive(Clone, PartialEq, Debug)]
pub struct PretrainSettings {
    /// The model, with its masking.
    pub model: ModelConfig,
    /// Optimiser, schedule, batch, seed.
    pub run: Run,
    /// Variation of the windows before masking.
    pub augment: Augment,
}

/// What to pre-train on.
pub struct PretrainData<'a> {
    /// The windows.
    pub source: &'a dyn WindowSource,
    /// Rows of the source to train on.
    pub train: Vec<usize>,
    /// How an epoch draws from them.
    pub sampling: Sampling,
    /// Rows to validate on after each epoch, always under the same masks; may be empty.
    pub validation: Vec<usize>,
    /// Names the data (checksums of the store): a resumed run must have the same.
    pub fingerprint: String,
}

impl std::fmt::Debug for PretrainData<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (train, validation) = (self.train.len(), self.validation.len());
        write!(f, "PretrainData({train} windows, {validation} for validation, {})", self.fingerprint)
    }
}

/// How pre-training ended.
#[derive(Clone, Debug)]
pub struct PretrainSummary {
    /// The weights: the best by validation loss, or the last ones without a validation part.
    pub weights: Weights,
    /// Epoch of the weights, from 0.
    pub best_epoch: u64,
    /// Epochs run.
    pub epochs: u64,
    /// Training loss of the last epoch: mean squared error over masked points.
    pub train_loss: f64,
    /// Validation loss of the weights.
    pub validation_loss: Option<f64>,
}

/// Pre-trains from scratch (or goes on, with `resume`), leaving checkpoints under `out/checkpoints`.
///
/// # Errors
/// Settings or data that make no sense, a failing disk, a loss that is not finite, or [`crate::error::Kind::Interrupted`]
/// when the observer stops the run after a save.
pub fn pretrain(
    settings: &PretrainSettings,
    data: &PretrainData<'_>,
    out: &Path,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<PretrainSummary> {
    let (model, run) = (&settings.model, &settings.run);
    model.validate()?;
    run.validate()?;
    check_windows(data.source, model.window)?;
    // Programs differ in the number of rows only, so any of them says how weights are prepared.
    let any = nn::pretrain(model, 1, 1)?;
    let plan = Plan::new(&any.graph, OutputRequest::training(any.loss))?.with_precision(run.precision);
    let prepared = PackedWeights::new(&any.graph, &plan, run.isa()?);
    let layout = any.graph.layout().clone();
    let weights = Weights { values: layout.init(run.seed), layout };
    let all = 0..weights.values.len();
    let initial = weights.values.clone();
    let mut engine = Engine::new(run, weights, prepared, vec![(all, 1.0)])?;
    let masked = Masked { settings, data, isa: run.isa()?, programs: Mutex::new(BTreeMap::new()) };
    let workers = Workers::new(run.threads, || Ok(Worker::default()))?;
    let mut batches = Batches::new(data.train.clone(), run.batch, false, run.seed, data.sampling.clone())?;
    let mut fingerprint = RunFingerprint::new("pretrain", model, run, &settings.augment)?;
    fingerprint.put("store", data.fingerprint.as_str());
    fingerprint.rows("train", data.train.iter().copied());
    fingerprint.rows("validation", data.validation.iter().copied());
    fingerprint.sampling(&data.sampling);
    fingerprint.floats("initial_weights", &initial);
    let place = FitPaths { dir: out, fold: None, resume, fingerprint: &fingerprint, patience: None };
    let fitted = fit(&masked, &mut engine, &workers, &mut batches, run, &place, observer)?;
    Ok(PretrainSummary {
        weights: Weights { layout: engine.weights.layout, values: fitted.best },
        best_epoch: fitted.best_epoch,
        epochs: fitted.epochs,
        train_loss: fitted.train_loss,
        validation_loss: fitted.validation_loss,
    })
}

/// A source must hold windows of the model's length.
pub(crate) fn check_windows(source: &dyn WindowSource, window: usize) -> Result<()> {
    if source.samples() == window {
        return Ok(());
    }
    Err(Error::data(format!("the windows have {} samples, the model takes {window}", source.samples()))
        .shapes(&[window], &[source.samples()])
        .remedy("prepare the data with the model's window length, or choose the model's window to fit"))
}

/// A recorded program for one number of rows, with a plan to train and one to validate.
struct Program {
    p: nn::Pretrain,
    train: Arc<Plan>,
    validate: Arc<Plan>,
    picks: usize,
}

/// Buffers of one thread.
#[derive(Default)]
struct Worker {
    exec: Option<Exec<f32>>,
    windows: Vec<f32>,
    masked: Vec<f32>,
    rows: Vec<u32>,
    of_window: Vec<u32>,
    target: Vec<f32>,
    weight: Vec<f32>,
}

/// The masks of a batch, window after window, and the number of masked points.
pub(crate) struct Masks {
    windows: Vec<usize>,
    masks: Vec<bool>,
    points: usize,
    step: u64,
}

struct Masked<'a> {
    settings: &'a PretrainSettings,
    data: &'a PretrainData<'a>,
    isa: Isa,
    /// Programs by number of picked rows, made when first needed.
    programs: Mutex<BTreeMap<usize, Arc<Program>>>,
}

/// The step number under which validation masks are drawn: no training step reaches it.
pub(super) const VALIDATION_STEP: u64 = u64::MAX;

impl Masked<'_> {
    /// The program for at least `picks` rows. Row counts are rounded up to a 128th of the tokens, so that a run needs some
    /// dozens of programs and wastes less than a hundredth of the last layer on padding.
    fn program(&self, picks: usize) -> Result<Arc<Program>> {
        let tokens = self.settings.model.tokens();
        let grain = tokens.div_ceil(128);
        let picks = picks.max(1).next_multiple_of(grain).min(tokens);
        let mut programs = lock(&self.programs);
        if let Some(program) = programs.get(&picks) {
            return Ok(Arc::clone(program));
        }
        let p = nn::pretrain(&self.settings.model, self.settings.run.windows_of_pass(), picks)?;
        let plan =
            |want| Ok(Arc::new(Plan::new(&p.graph, want)?.with_precision(self.settings.run.precision)));
        let (train, validate) =
            (plan(OutputRequest::training(p.loss))?, plan(OutputRequest::values(&[p.loss]))?);
        let program = Arc::new(Program { p, train, validate, picks });
        programs.insert(picks, Arc::clone(&program));
        Ok(program)
    }

    fn masks(&self, step: u64, windows: &[usize]) -> Masks {
        let c = &self.settings.model;
        let mut masks = vec![false; windows.len() * c.window];
        for (j, mask) in masks.chunks_exact_mut(c.window).enumerate() {
            let key = Key { seed: self.settings.run.seed, step, sample: j as u32, op: 0 };
            nn::spans(&c.mask, key, c.window, mask);
        }
        let points = masks.iter().filter(|&&m| m).count();
        Masks { windows: windows.to_vec(), masks, points, step }
    }

    /// Loss (and gradient, if wanted) of the windows in `part`, as shares of the mean over all masked points.
    fn pass(
        &self,
        worker: &mut Worker,
        params: Params<'_>,
        batch: &Masks,
        part: Range<usize>,
        mut out: Option<&mut [f32]>,
    ) -> Result<f64> {
        let (c, group, seed) =
            (&self.settings.model, self.settings.run.windows_of_pass(), self.settings.run.seed);
        let (window, patch) = (c.window, c.patch());
        let share = 1.0 / batch.points.max(1) as f64;
        let mut loss = 0.0;
        for first in part.clone().step_by(group) {
            let n = group.min(part.end - first);
            let masks = &batch.masks[first * window..(first + n) * window];
            let mut picks = 0;
            for mask in masks.chunks_exact(window) {
                nn::picks_into(c, mask, &mut worker.of_window);
                picks = picks.max(worker.of_window.len());
            }
            let program = self.program(picks)?;
            let picks = program.picks;
            worker.windows.resize(group * window, 0.0);
            worker.rows.clear();
            worker.rows.resize(group * picks, 0);
            for buffer in [&mut worker.target, &mut worker.weight] {
                buffer.clear();
                buffer.resize(group * picks * patch, 0.0);
            }
            for j in 0..n {
                let w = &mut worker.windows[j * window..(j + 1) * window];
                self.data.source.read(batch.windows[first + j], w)?;
                if batch.step != VALIDATION_STEP {
                    let key = Key { seed, step: batch.step, sample: (first + j) as u32, op: 0 };
                    self.settings.augment.apply(key, w);
                }
            }
            worker.masked.clone_from(&worker.windows);
            for (j, mask) in masks.chunks_exact(window).enumerate() {
                let (w, masked) = (&worker.windows[j * window..], &mut worker.masked[j * window..]);
                masked.iter_mut().zip(mask).filter(|(_, m)| **m).for_each(|(x, _)| *x = 0.0);
                nn::picks_into(c, mask, &mut worker.of_window);
                for (i, &row) in worker.of_window.iter().enumerate() {
                    worker.rows[j * picks + i] = row;
                    let token = row as usize - usize::from(c.cls);
                    let at = (j * picks + i) * patch;
                    for k in 0..patch {
                        worker.target[at + k] = w[token * patch + k];
                        worker.weight[at + k] = f32::from(u8::from(mask[token * patch + k]));
                    }
                }
            }
            let plan = if out.is_some() { &program.train } else { &program.validate };
            let exec = worker.exec.get_or_insert_with(|| {
                Exec::with_isa(Arc::clone(&program.p.graph), Arc::clone(plan), self.isa)
            });
            exec.switch(&program.p.graph, plan);
            exec.set_dropout(out.is_some());
            exec.set_key(seed, batch.step, first as u32);
            exec.set_input(program.p.samples, &worker.masked)?;
            exec.set_index(program.p.rows, &worker.rows)?;
            exec.set_input(program.p.target, &worker.target)?;
            exec.set_input(program.p.mask, &worker.weight)?;
            exec.forward_with(params.values, params.aids());
            loss += f64::from(exec.value(program.p.loss)[0]) * share;
            if let Some(out) = out.as_deref_mut() {
                exec.backward_with(params.values, params.aids(), &[share as f32], out);
            }
        }
        Ok(loss)
    }
}

impl Task for Masked<'_> {
    type Worker = Worker;
    type Batch = Masks;

    fn begin(&self, step: u64, windows: &[usize]) -> Result<Masks> {
        Ok(self.masks(step, windows))
    }

    fn gradient(
        &self,
        worker: &mut Worker,
        params: Params<'_>,
        batch: &Masks,
        part: Range<usize>,
        out: &mut [f32],
    ) -> Result<f64> {
        self.pass(worker, params, batch, part, Some(out))
    }

    fn validate(&self, workers: &Workers<Worker>, params: Params<'_>) -> Result<Option<f64>> {
        if self.data.validation.is_empty() {
            return Ok(None);
        }
        let batch = self.masks(VALIDATION_STEP, &self.data.validation);
        let pass = |worker: &mut Worker, part| self.pass(worker, params, &batch, part, None);
        workers.total(batch.windows.len(), self.settings.run.shards, pass).map(Some)
    }
}
