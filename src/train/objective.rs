//! Pre-training by several objectives: [`Objective`] says which and how much, [`pretrain_objectives`] runs them.
//!
//! Targets of the physiology objective come from the clean window by the detectors of [`crate::signal`]; what the encoder
//! sees is the augmented window. With both objectives, the windows of a batch serve them in turn, by even and odd
//! positions: half of the points of a masked window are hidden, and no interval can be measured across them.

use super::engine::{Engine, Params};
use super::fingerprint::RunFingerprint;
use super::fit::{Event, FitPaths, Observer, Task, fit};
use super::physiology::{self, Targets};
use super::pretrain::{PretrainData, PretrainSettings, PretrainSummary, VALIDATION_STEP, check_windows};
use super::shard::Workers;
use super::{Run, Weights};
use crate::data::batch::Batches;
use crate::error::{Error, Result};
use crate::graph::{Exec, OutputRequest, PackedWeights, Plan};
use crate::nn::{self, ModelConfig};
use heartlore_kernels::Isa;
use heartlore_kernels::rng::Key;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

/// Weights of the pre-training objectives; at least one is positive.
///
/// | name | formula | normalised by |
/// |---|---|---|
/// | `masked` | squared error of hidden samples | hidden samples of the batch |
/// | `physiology` | squared error of [`physiology::VALUES`] + cross-entropy of the beat map | trusted values; trusted rows |
///
/// Formulas and heads: [`crate::nn::objectives`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Objective {
    /// Weight of masked reconstruction.
    pub masked: f64,
    /// Weight of physiology.
    pub physiology: f64,
    /// Each patch of the masked target has mean 0 and variance 1 (He et al. 2022, arXiv:2111.06377, section 4.1).
    pub normalise_patches: bool,
}

impl Default for Objective {
    /// Masked reconstruction alone, as in Vazquez-Rodriguez et al. 2022.
    fn default() -> Self {
        Self { masked: 1.0, physiology: 0.0, normalise_patches: false }
    }
}

impl Objective {
    /// True for masked reconstruction of raw samples alone: what [`super::pretrain()`] does.
    pub fn is_masked_alone(&self) -> bool {
        self.physiology == 0.0 && !self.normalise_patches
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("masked", self.masked), ("physiology", self.physiology)];
        let parts = parts.iter().filter(|p| p.1 > 0.0).map(|(name, weight)| format!("{name}={weight}"));
        f.write_str(&parts.collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Objective {
    type Err = Error;

    /// `masked=1,physiology=0.5`; a name alone has weight 1, one that is not named 0.
    fn from_str(text: &str) -> Result<Self> {
        let mut found = Self { masked: 0.0, physiology: 0.0, normalise_patches: false };
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let slot = match name.trim() {
                "masked" => &mut found.masked,
                "physiology" => &mut found.physiology,
                other => {
                    return Err(Error::usage(format!("'{other}' is no pre-training objective"))
                        .remedy("the objectives are masked and physiology, as in masked=1,physiology=0.5"));
                }
            };
            let weight = weight.trim().parse::<f64>().ok().filter(|w| w.is_finite() && *w >= 0.0);
            *slot = weight.ok_or_else(|| {
                Error::usage(format!("'{part}' gives no weight")).remedy("a weight is a number from 0 on")
            })?;
        }
        if found.masked + found.physiology <= 0.0 {
            return Err(Error::usage("no objective has a positive weight")
                .remedy("give at least one, such as masked=1 or physiology=1"));
        }
        Ok(found)
    }
}

/// Pre-trains as [`super::pretrain()`] does, by any [`Objective`]. `fs_hz` is the rate of the windows.
///
/// # Errors
/// As [`super::pretrain()`]; also where no training window has a trustworthy target of an objective, or windows would be
/// rotated away from their beat maps.
pub fn pretrain_objectives(
    settings: &PretrainSettings,
    objective: &Objective,
    fs_hz: f64,
    data: &PretrainData<'_>,
    out: &Path,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<PretrainSummary> {
    let (model, run) = (&settings.model, &settings.run);
    model.validate()?;
    run.validate()?;
    check_windows(data.source, model.window)?;
    if objective.physiology > 0.0 && settings.augment.shift > 0 {
        return Err(Error::usage("rotated windows do not fit their beat maps")
            .remedy("leave --augment-shift out with the physiology objective"));
    }
    let workers = Workers::new(run.threads, || Ok(Worker::default()))?;
    let targets = targets(objective, model, fs_hz, data, &workers, observer)?;
    let values = if objective.physiology > 0.0 { physiology::VALUES.len() } else { 0 };
    let p = nn::objectives(model, run.windows_of_pass(), objective.masked > 0.0, values)?;
    let plan = |want| Ok(Arc::new(Plan::new(&p.graph, want)?.with_precision(run.precision)));
    let (train, validate) = (plan(OutputRequest::training(p.loss))?, plan(OutputRequest::values(&[p.loss]))?);
    let prepared = PackedWeights::new(&p.graph, &train, run.isa()?);
    let layout = p.graph.layout().clone();
    let weights = Weights { values: layout.init(run.seed), layout };
    let all = 0..weights.values.len();
    let initial = weights.values.clone();
    let mut engine = Engine::new(run, weights, prepared, vec![(all, 1.0)])?;
    let mut batches = Batches::new(data.train.clone(), run.batch, false, run.seed, data.sampling.clone())?;
    let mut fingerprint = RunFingerprint::new("pretrain", model, run, &settings.augment)?;
    fingerprint.debug("objective", objective);
    fingerprint.debug("fs_hz", fs_hz);
    fingerprint.put("store", data.fingerprint.as_str());
    fingerprint.rows("train", data.train.iter().copied());
    fingerprint.rows("validation", data.validation.iter().copied());
    fingerprint.sampling(&data.sampling);
    fingerprint.floats("initial_weights", &initial);
    let task = Mixed {
        settings,
        objective,
        data,
        targets,
        program: Program { p, train, validate },
        isa: run.isa()?,
    };
    let place = FitPaths { dir: out, fold: None, resume, fingerprint: &fingerprint, patience: None };
    let fitted = fit(&task, &mut engine, &workers, &mut batches, run, &place, observer)?;
    Ok(PretrainSummary {
        weights: Weights { layout: engine.weights.layout, values: fitted.best },
        best_epoch: fitted.best_epoch,
        epochs: fitted.epochs,
        train_loss: fitted.train_loss,
        validation_loss: fitted.validation_loss,
    })
}

/// Physiology of every window that is trained or validated on, by row; empty without that objective.
fn targets(
    objective: &Objective,
    model: &ModelConfig,
    fs_hz: f64,
    data: &PretrainData<'_>,
    workers: &Workers<Worker>,
    observer: &mut dyn Observer,
) -> Result<BTreeMap<usize, Targets>> {
    if objective.physiology == 0.0 {
        return Ok(BTreeMap::new());
    }
    let rows = data.train.iter().chain(&data.validation);
    let rows: Vec<usize> = rows.copied().collect();
    let mut found = vec![Targets::default(); rows.len()];
    // Windows of one length pass the detector together.
    let mut parts: Vec<(&[usize], &mut [Targets])> =
        rows.chunks(MEASURED_TOGETHER).zip(found.chunks_mut(MEASURED_TOGETHER)).collect();
    workers.each(&mut parts, |worker, _, (rows, targets)| {
        worker.windows.resize(rows.len() * model.window, 0.0);
        for (row, w) in rows.iter().zip(worker.windows.chunks_exact_mut(model.window)) {
            data.source.read(*row, w)?;
        }
        let measured = Targets::of_windows(&worker.windows, model.window, fs_hz)?;
        targets.iter_mut().zip(measured).for_each(|(t, m)| *t = m);
        Ok(())
    })?;
    let unknown = found.iter().filter(|t| t.beats.is_empty()).count();
    if found[..data.train.len()].iter().all(|t| t.beats.is_empty()) {
        return Err(Error::data("no training window has a trustworthy heart rate: physiology has no target")
            .remedy("look at the data with `heartlore quality`, or pre-train with --objective masked=1"));
    }
    if unknown > 0 {
        observer.event(&Event::Warning(format!(
            "{unknown} of {} windows have no trustworthy beats: the physiology objective leaves them out",
            found.len()
        )));
    }
    Ok(rows.into_iter().zip(found).collect())
}

/// Windows whose physiology one thread measures at a time.
const MEASURED_TOGETHER: usize = 32;

struct Program {
    p: nn::Objectives,
    train: Arc<Plan>,
    validate: Arc<Plan>,
}

/// Buffers of one thread.
#[derive(Default)]
struct Worker {
    exec: Option<Exec<f32>>,
    windows: Vec<f32>,
    target: Vec<f32>,
    weight: Vec<f32>,
    values: Vec<f32>,
    value_weight: Vec<f32>,
    beats: Vec<f32>,
    beat_weight: Vec<f32>,
}

/// A batch with its masks (window after window; nothing is hidden in those that serve physiology) and counts.
struct Batch {
    windows: Vec<usize>,
    masks: Vec<bool>,
    points: usize,
    /// Trusted values, and windows with trusted beats, among those that serve physiology.
    trusted: (usize, usize),
    step: u64,
}

struct Mixed<'a> {
    settings: &'a PretrainSettings,
    objective: &'a Objective,
    data: &'a PretrainData<'a>,
    targets: BTreeMap<usize, Targets>,
    program: Program,
    isa: Isa,
}

impl Mixed<'_> {
    fn run(&self) -> &Run {
        &self.settings.run
    }

    /// The targets of the window at `position` in a batch, if the window serves physiology.
    fn target(&self, position: usize, row: usize) -> Option<&Targets> {
        let serves = self.objective.masked == 0.0 || position % 2 == 1;
        if serves { self.targets.get(&row) } else { None }
    }

    fn batch(&self, step: u64, windows: &[usize]) -> Batch {
        let c = &self.settings.model;
        let mut masks = vec![false; windows.len() * c.window];
        for (j, mask) in masks.chunks_exact_mut(c.window).enumerate() {
            if self.objective.masked > 0.0 && (self.objective.physiology == 0.0 || j % 2 == 0) {
                let key = Key { seed: self.run().seed, step, sample: j as u32, op: 0 };
                nn::spans(&c.mask, key, c.window, mask);
            }
        }
        let served = || windows.iter().enumerate().filter_map(|(j, row)| self.target(j, *row));
        let trusted =
            (served().map(Targets::trusted).sum(), served().filter(|t| !t.beats.is_empty()).count());
        Batch {
            points: masks.iter().filter(|&&m| m).count(),
            trusted,
            windows: windows.to_vec(),
            masks,
            step,
        }
    }

    /// Fills the buffers for the windows `first..first + n` of the batch.
    fn fill(&self, worker: &mut Worker, batch: &Batch, first: usize, n: usize) -> Result<()> {
        let c = &self.settings.model;
        let (group, window, patch, rows) = (self.run().windows_of_pass(), c.window, c.patch(), c.rows());
        let values = physiology::VALUES.len();
        for (buffer, len) in [
            (&mut worker.windows, group * window),
            (&mut worker.target, group * rows * patch),
            (&mut worker.weight, group * rows * patch),
            (&mut worker.values, group * values),
            (&mut worker.value_weight, group * values),
            (&mut worker.beats, group * rows),
            (&mut worker.beat_weight, group * rows),
        ] {
            buffer.clear();
            buffer.resize(len, 0.0);
        }
        let cls = usize::from(c.cls);
        let point = (self.objective.masked / batch.points.max(1) as f64) as f32;
        let value = (self.objective.physiology / batch.trusted.0.max(1) as f64) as f32;
        let beat = (self.objective.physiology / (batch.trusted.1.max(1) * c.tokens()) as f64) as f32;
        for j in 0..n {
            let position = first + j;
            let row = batch.windows[position];
            let w = &mut worker.windows[j * window..(j + 1) * window];
            self.data.source.read(row, w)?;
            if batch.step != VALIDATION_STEP {
                let key = Key { seed: self.run().seed, step: batch.step, sample: position as u32, op: 0 };
                self.settings.augment.apply(key, w);
            }
            let mask = &batch.masks[position * window..(position + 1) * window];
            for t in 0..c.tokens() {
                let (points, at) = (t * patch..(t + 1) * patch, (j * rows + t + cls) * patch);
                let target = &mut worker.target[at..at + patch];
                target.copy_from_slice(&w[points.clone()]);
                if self.objective.normalise_patches {
                    standardise(target);
                }
                for (weight, hidden) in worker.weight[at..at + patch].iter_mut().zip(&mask[points]) {
                    *weight = if *hidden { point } else { 0.0 };
                }
            }
            w.iter_mut().zip(mask).filter(|(_, m)| **m).for_each(|(x, _)| *x = 0.0);
            if let Some(target) = self.target(position, row) {
                for (k, known) in target.values.iter().enumerate() {
                    if let Some(known) = known {
                        worker.values[j * values + k] = *known;
                        worker.value_weight[j * values + k] = value;
                    }
                }
                if !target.beats.is_empty() {
                    worker.beat_weight[j * rows + cls..(j + 1) * rows].fill(beat);
                }
                for &sample in &target.beats {
                    worker.beats[j * rows + cls + (sample / patch).min(c.tokens() - 1)] = 1.0;
                }
            }
        }
        Ok(())
    }

    fn pass(
        &self,
        worker: &mut Worker,
        params: Params<'_>,
        batch: &Batch,
        part: Range<usize>,
        mut out: Option<&mut [f32]>,
    ) -> Result<f64> {
        let group = self.run().windows_of_pass();
        let Program { p, train, validate } = &self.program;
        let mut loss = 0.0;
        for first in part.clone().step_by(group) {
            self.fill(worker, batch, first, group.min(part.end - first))?;
            let plan = if out.is_some() { train } else { validate };
            let exec = worker
                .exec
                .get_or_insert_with(|| Exec::with_isa(Arc::clone(&p.graph), Arc::clone(plan), self.isa));
            exec.switch(&p.graph, plan);
            exec.set_dropout(out.is_some());
            exec.set_key(self.run().seed, batch.step, first as u32);
            exec.set_input(p.samples, &worker.windows)?;
            if let Some(m) = p.masked {
                exec.set_input(m.target, &worker.target)?;
                exec.set_input(m.weight, &worker.weight)?;
            }
            if let Some(h) = p.physiology {
                exec.set_input(h.values, &worker.values)?;
                exec.set_input(h.value_weight, &worker.value_weight)?;
                exec.set_input(h.beats, &worker.beats)?;
                exec.set_input(h.beat_weight, &worker.beat_weight)?;
            }
            exec.forward_with(params.values, params.aids());
            loss += f64::from(exec.value(p.loss)[0]);
            if let Some(out) = out.as_deref_mut() {
                exec.backward_with(params.values, params.aids(), &[1.0], out);
            }
        }
        Ok(loss)
    }
}

/// Mean 0 and variance 1; a constant patch becomes 0.
fn standardise(x: &mut [f32]) {
    let n = x.len() as f32;
    let mean = x.iter().sum::<f32>() / n;
    let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n;
    let scale = 1.0 / (variance + 1e-6).sqrt();
    x.iter_mut().for_each(|v| *v = (*v - mean) * scale);
}

impl Task for Mixed<'_> {
    type Worker = Worker;
    type Batch = Batch;

    fn begin(&self, step: u64, windows: &[usize]) -> Result<Batch> {
        Ok(self.batch(step, windows))
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
        if self.data.validation.is_empty() {
            return Ok(None);
        }
        let batch = self.batch(VALIDATION_STEP, &self.data.validation);
        let pass = |worker: &mut Worker, part| self.pass(worker, params, &batch, part, None);
        workers.total(batch.windows.len(), self.run().shards, pass).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_are_read_from_text() {
        let read = |t: &str| t.parse::<Objective>();
        assert_eq!(read("masked").unwrap(), Objective::default());
        let both = read("masked=1, physiology=0.5").unwrap();
        assert_eq!((both.masked, both.physiology), (1.0, 0.5));
        assert_eq!(both.to_string().parse::<Objective>().unwrap(), both);
        for (bad, says) in [
            ("", "no objective"),
            ("masked=0", "no objective"),
            ("maskd=1", "'maskd' is no pre-training objective"),
            ("masked=-1", "gives no weight"),
            ("physiology=x", "gives no weight"),
        ] {
            let e = read(bad).unwrap_err().to_string();
            assert!(e.contains(says), "{bad}: {e}");
        }
    }

    #[test]
    fn a_patch_is_standardised_and_a_constant_one_is_zero() {
        let mut x = [1.0, 3.0, 1.0, 3.0];
        standardise(&mut x);
        assert!(x.iter().zip([-1.0, 1.0, -1.0, 1.0]).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-3));
        let mut flat = [5.0f32; 4];
        standardise(&mut flat);
        assert_eq!(flat, [0.0; 4]);
    }
}
