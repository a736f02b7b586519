//! The loop that pre-training and fine-tuning share: batches, steps, epochs, validation, checkpoints, stopping.

use super::engine::{Engine, Params, get_weights, put_weights};
use super::shard::Workers;
use super::{Run, RunFingerprint};
use crate::checkpoint::{Os, Rotating, State, atomic::create_dirs};
use crate::data::batch::{Batches, Position};
use crate::error::{Error, Kind, Result};
use crate::optim::{EarlyStop, Goal, Verdict};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What the observer wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// Go on.
    Continue,
    /// Save and return [`Kind::Interrupted`].
    Stop,
}

/// What happens during training. Folds count from 0; `None` in pre-training.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A fold begins, the `index`-th of `of`.
    Fold {
        /// From 0.
        index: usize,
        /// How many there are.
        of: usize,
        /// Its name.
        name: String,
    },
    /// Training begins or goes on.
    Started {
        /// Steps already made.
        step: u64,
        /// Epochs whose end was already reported. A run killed between the last step's checkpoint and the epoch's end
        /// reports that end again: what an observer has of it from before must go.
        epochs: u64,
        /// Steps in all.
        total_steps: u64,
        /// Training windows per epoch.
        windows: usize,
        /// Parameters of the model.
        parameters: usize,
        /// Threads.
        threads: usize,
    },
    /// A step was made.
    Step {
        /// Fold.
        fold: Option<usize>,
        /// Epoch, from 0.
        epoch: u64,
        /// Steps made, this one included.
        step: u64,
        /// Steps in all.
        total_steps: u64,
        /// Loss of the batch before the update.
        loss: f64,
        /// Learning rate of the update.
        learning_rate: f64,
        /// Norm of the gradient before clipping.
        gradient_norm: f64,
        /// Windows in the batch.
        windows: usize,
        /// Seconds the step took.
        seconds: f64,
    },
    /// An epoch is over.
    Epoch {
        /// Fold.
        fold: Option<usize>,
        /// Epoch, from 0.
        epoch: u64,
        /// Steps made.
        step: u64,
        /// Mean training loss of its batches.
        train_loss: f64,
        /// Loss on the validation part, if there is one.
        validation_loss: Option<f64>,
        /// Whether it is the best so far.
        best: bool,
    },
    /// A checkpoint is safely on disk.
    Saved {
        /// Where.
        path: PathBuf,
    },
    /// Something the user should know.
    Warning(String),
}

/// Sees what happens and may stop it.
pub trait Observer {
    /// Called for every event.
    fn event(&mut self, event: &Event) -> Control;
}

/// An observer that neither looks nor stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoopObserver;

impl Observer for NoopObserver {
    fn event(&mut self, _: &Event) -> Control {
        Control::Continue
    }
}

impl<F: FnMut(&Event) -> Control> Observer for F {
    fn event(&mut self, event: &Event) -> Control {
        self(event)
    }
}

/// What differs between pre-training and fine-tuning.
pub(crate) trait Task: Sync {
    /// Executors and buffers of one thread.
    type Worker: Send;
    /// What is drawn for a whole batch before it is cut into shards.
    type Batch: Sync;

    /// Draws what the batch needs: `step` counts from 0, `windows` are store rows.
    fn begin(&self, step: u64, windows: &[usize]) -> Result<Self::Batch>;
    /// Adds the gradient of the windows in `part` of the batch to `out`; returns their share of the loss.
    fn gradient(
        &self,
        worker: &mut Self::Worker,
        params: Params<'_>,
        batch: &Self::Batch,
        part: Range<usize>,
        out: &mut [f32],
    ) -> Result<f64>;
    /// The validation loss; `None` without a validation part.
    fn validate(&self, workers: &Workers<Self::Worker>, params: Params<'_>) -> Result<Option<f64>>;
}

/// Where and under which names a fit is saved.
pub(crate) struct FitPaths<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) fold: Option<usize>,
    pub(crate) resume: bool,
    /// A resumed run must have the same.
    pub(crate) fingerprint: &'a RunFingerprint,
    pub(crate) patience: Option<u64>,
}

/// How a fit ended.
#[derive(Clone, Debug)]
pub(crate) struct Fitted {
    /// The weights to use: the best by validation loss, or the last without a validation part.
    pub(crate) best: Vec<f32>,
    pub(crate) best_epoch: u64,
    pub(crate) epochs: u64,
    pub(crate) train_loss: f64,
    pub(crate) validation_loss: Option<f64>,
}

/// Progress inside a fit, saved with it.
struct Progress {
    epochs_done: u64,
    loss_sum: f64,
    loss_count: u64,
    last_train: f64,
    early: EarlyStop,
    /// Whether a validation loss was ever not a number.
    validation_failed: bool,
}

/// Fits `engine` to `task`.
pub(crate) fn fit<T: Task>(
    task: &T,
    engine: &mut Engine,
    workers: &Workers<T::Worker>,
    batches: &mut Batches,
    run: &Run,
    place: &FitPaths<'_>,
    observer: &mut dyn Observer,
) -> Result<Fitted> {
    let folder = place.dir.join("checkpoints");
    create_dirs(&Os, &folder)?;
    let mut last = Rotating::new(folder.join("last.ckpt"))?;
    let mut best_file = Rotating::new(folder.join("best.ckpt"))?;
    let early = EarlyStop::new(Goal::Lower, place.patience, 0.0);
    let mut progress = Progress {
        epochs_done: 0,
        loss_sum: 0.0,
        loss_count: 0,
        last_train: f64::NAN,
        early,
        validation_failed: false,
    };
    if place.resume {
        State::finish_save(&last)?;
        State::finish_save(&best_file)?;
    }
    if place.resume && (last.last().exists() || last.previous().exists()) {
        let loaded = State::load(&last)?;
        if let Some(warning) = loaded.warning {
            observer.event(&Event::Warning(warning));
        }
        let state = loaded.value;
        place.fingerprint.check(&state, &loaded.from)?;
        engine.restore(&state)?;
        batches.seek(Position { epoch: state.number("epoch")?, batch: state.number("batch")? })?;
        progress.restore(&state)?;
    } else if last.last().exists() && !place.resume {
        return Err(Error::usage("there is a run in this directory already")
            .in_file(last.last())
            .remedy("go on with it by --resume, or choose another directory"));
    }
    let per_epoch = batches.batches_per_epoch() as u64;
    let schedule = run.schedule.in_steps(per_epoch)?;
    let total_steps = per_epoch.saturating_mul(run.epochs);
    let started = Event::Started {
        step: engine.step,
        epochs: progress.epochs_done,
        total_steps,
        windows: batches.windows_per_epoch(),
        parameters: engine.weights.values.len(),
        threads: workers.threads(),
    };
    let mut stop = observer.event(&started) == Control::Stop;
    loop {
        if progress.epochs_done >= run.epochs || progress.early_stopped() {
            break;
        }
        if stop {
            save(&mut last, engine, batches, &progress, place, observer)?;
            return Err(Error::new(Kind::Interrupted, format!("stopped after {} steps", engine.step))
                .in_file(last.last())
                .remedy("go on with --resume"));
        }
        let at = batches.position();
        if at.epoch > progress.epochs_done {
            let control = end_epoch(task, engine, workers, &mut progress, place, &mut best_file, observer)?;
            save(&mut last, engine, batches, &progress, place, observer)?;
            stop = control == Control::Stop;
            continue;
        }
        let clock = Instant::now();
        let windows = batches.next_batch();
        let rate = schedule.rate(engine.step);
        let batch = task.begin(engine.step, &windows)?;
        let stepped = engine.step(workers, windows.len(), rate, |worker, params, part, out| {
            task.gradient(worker, params, &batch, part, out)
        })?;
        progress.loss_sum += stepped.loss * windows.len() as f64;
        progress.loss_count += windows.len() as u64;
        stop = observer.event(&Event::Step {
            fold: place.fold,
            epoch: at.epoch,
            step: engine.step,
            total_steps,
            loss: stepped.loss,
            learning_rate: rate,
            gradient_norm: stepped.gradient_norm,
            windows: windows.len(),
            seconds: clock.elapsed().as_secs_f64(),
        }) == Control::Stop;
        if run.checkpoint_every > 0 && engine.step.is_multiple_of(run.checkpoint_every) && !stop {
            save(&mut last, engine, batches, &progress, place, observer)?;
        }
    }
    let (best, best_epoch, validation_loss) = match progress.early.best {
        Some((loss, epoch)) => {
            let state = State::load(&best_file)?.value;
            (get_weights(&state, "model", &engine.weights.layout)?, epoch, Some(loss))
        }
        None if progress.validation_failed => {
            return Err(Error::numeric(format!(
                "the validation loss was NaN or infinite at the end of each of {} epochs: no epoch can be chosen",
                progress.epochs_done
            ))
            .in_file(place.dir)
            .remedy("lower the learning rate or give --clip-norm 1, and look at the validation windows"));
        }
        None => (engine.weights.values.clone(), progress.epochs_done.saturating_sub(1), None),
    };
    Ok(Fitted {
        best,
        best_epoch,
        epochs: progress.epochs_done,
        train_loss: progress.last_train,
        validation_loss,
    })
}

fn end_epoch<T: Task>(
    task: &T,
    engine: &mut Engine,
    workers: &Workers<T::Worker>,
    progress: &mut Progress,
    place: &FitPaths<'_>,
    best_file: &mut Rotating,
    observer: &mut dyn Observer,
) -> Result<Control> {
    let epoch = progress.epochs_done;
    let validation_loss = task.validate(workers, engine.params(workers)?)?;
    progress.last_train = progress.loss_sum / progress.loss_count.max(1) as f64;
    (progress.loss_sum, progress.loss_count) = (0.0, 0);
    progress.epochs_done += 1;
    let mut best = false;
    if let Some(loss) = validation_loss {
        progress.validation_failed |= !loss.is_finite();
        best = progress.early.observe(epoch, loss) == Verdict::Better;
        if best {
            let mut state = State::default();
            put_weights(&mut state, "model", &engine.weights.layout, &engine.weights.values);
            state.numbers.insert("epoch".into(), epoch);
            state.save(best_file)?;
        }
    }
    Ok(observer.event(&Event::Epoch {
        fold: place.fold,
        epoch,
        step: engine.step,
        train_loss: progress.last_train,
        validation_loss,
        best,
    }))
}

fn save(
    file: &mut Rotating,
    engine: &Engine,
    batches: &Batches,
    progress: &Progress,
    place: &FitPaths<'_>,
    observer: &mut dyn Observer,
) -> Result<()> {
    let mut state = State::default();
    engine.put(&mut state);
    let at = batches.position();
    state.numbers.insert("epoch".into(), at.epoch);
    state.numbers.insert("batch".into(), at.batch);
    place.fingerprint.save(&mut state)?;
    progress.put(&mut state);
    state.save(file)?;
    observer.event(&Event::Saved { path: file.last().to_path_buf() });
    Ok(())
}

impl Progress {
    fn early_stopped(&self) -> bool {
        self.early.patience.is_some_and(|p| self.early.waited >= p)
    }

    fn put(&self, state: &mut State) {
        for (name, value) in [
            ("epochs_done", self.epochs_done),
            ("loss_count", self.loss_count),
            ("waited", self.early.waited),
            ("validation_failed", u64::from(self.validation_failed)),
        ] {
            state.numbers.insert(name.into(), value);
        }
        for (name, value) in [("loss_sum", self.loss_sum), ("last_train", self.last_train)] {
            state.floats.insert(name.into(), value);
        }
        if let Some((loss, epoch)) = self.early.best {
            state.numbers.insert("best_epoch".into(), epoch);
            state.floats.insert("best_loss".into(), loss);
        }
    }

    fn restore(&mut self, state: &State) -> Result<()> {
        self.epochs_done = state.number("epochs_done")?;
        self.loss_count = state.number("loss_count")?;
        self.loss_sum = state.float("loss_sum")?;
        self.last_train = state.float("last_train")?;
        self.early.waited = state.number("waited")?;
        // States of version 0.1 do not say; a NaN then used up patience.
        self.validation_failed = state.numbers.get("validation_failed").is_some_and(|v| *v != 0);
        self.early.best = match state.numbers.get("best_epoch") {
            Some(&epoch) => Some((state.float("best_loss")?, epoch)),
            None => None,
        };
        Ok(())
    }
}
