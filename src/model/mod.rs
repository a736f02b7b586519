//! The door for those who only want a trained model: load a directory, hand it windows, get numbers.
//!
//! ```no_run
//! # fn main() -> heartlore::Result<()> {
//! # let windows = vec![0f32; 1280];
//! let model = heartlore::Model::load("runs/emotion/model")?;
//! let probabilities = model.predict(&windows)?; // [n, window] flat in, one probability per window out
//! # Ok(()) }
//! ```
//!
//! A model is a directory in Hugging Face's layout:
//!
//! | file | content |
//! |---|---|
//! | `config.json` | sizes and options ([`ModelConfig`]), the [`Task`], what the card says; unknown keys are errors, but for those that Hugging Face's tools add |
//! | `model.safetensors` | the parameters, under the names and in the layouts of PyTorch ([`crate::nn`]) |
//! | `preprocessor_config.json` | how its windows were prepared ([`Preprocessing`]); absent if that is not known |
//! | `provenance.json` | which recordings and labels it saw, by content ([`provenance`]); absent if that is not known |
//! | `README.md` | the model card, for people |
//!
//! Windows run one at a time, each thread with its own memory ([`Session`]); windows that do not fill a round of all
//! threads are cut inside, operation by operation ([`crate::graph::ThreadPool`]). So the numbers depend neither on how many
//! windows are handed over at once nor on the number of threads, bit for bit, and memory does not grow with the batch.
//! A window is some hundred rows of every matrix product: nothing is lost by not joining several. A model keeps threads,
//! sessions and prepared weights from one call to the next.
//!
//! No cargo feature is needed.

mod card;
mod config;
mod directory;
mod fields;
mod head;
#[cfg(feature = "onnx")]
pub mod onnx;
mod preprocessing;
mod pretrained;
pub mod provenance;
pub mod reading;
mod recording;
mod session;
pub mod stream;

pub use crate::signal::BandPass;
pub use card::Card;
pub use directory::{CONFIG, PREPROCESSOR, PROVENANCE, README, WEIGHTS};
pub use head::ReadingHead;
pub use preprocessing::{Preprocessing, QualityGate};
pub use provenance::{InitProvenance, People, Provenance};
#[cfg(feature = "formats")]
pub use recording::RecordingOptions;
pub use recording::{Ecg, PreparedRecording, RecordingPrediction, RecordingSummary, WindowSpan};
pub use session::{Output, Session};
pub use stream::{Event, Stream, StreamDelays, StreamOptions};

use std::sync::Arc;

use crate::checkpoint::compare_shapes;
use crate::error::{Error, Result};
use crate::graph::{Layout, MatmulPrecision};
use crate::nn::{self, ModelConfig};

/// What the model was trained to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Reconstructing masked points: an encoder and a reconstruction head, no classifier.
    Pretrained,
    /// Features only: an encoder without a head, as pre-training on physiology leaves it.
    Encoder,
    /// Telling two states apart.
    Classifier {
        /// Name of the state whose probability [`Model::predict`] gives.
        positive: String,
        /// Name of the other state.
        negative: String,
        /// A window whose probability is at least this counts as `positive`; inside (0, 1).
        threshold: f64,
    },
}

impl Task {
    /// `pretrained`, `encoder` or `classifier`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pretrained => "pretrained",
            Self::Encoder => "encoder",
            Self::Classifier { .. } => "classifier",
        }
    }

    fn check(&self) -> Result<()> {
        if let Self::Classifier { positive, negative, threshold } = self {
            if !(*threshold > 0.0 && *threshold < 1.0) {
                return Err(Error::usage(format!(
                    "a decision threshold of {threshold} is not between 0 and 1"
                )));
            }
            if positive == negative || positive.is_empty() || negative.is_empty() {
                return Err(Error::usage(format!(
                    "two states need two names, not '{positive}' and '{negative}'"
                )));
            }
        }
        Ok(())
    }
}

/// A named parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tensor<'a> {
    /// Name.
    pub name: &'a str,
    /// Lengths, outermost first.
    pub shape: &'a [usize],
    /// Values, row-major.
    pub values: &'a [f32],
}

/// What [`Model::transfer`] took and left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Parameters taken from the model.
    pub taken: Vec<String>,
    /// Parameters that the model has not: they start fresh.
    pub fresh: Vec<String>,
    /// Parameters of the model that are not asked for.
    pub unused: Vec<String>,
}

/// A trained model: what it is, how its windows are prepared, and its parameters.
#[derive(Clone, Debug)]
pub struct Model {
    config: ModelConfig,
    task: Task,
    /// How windows must be prepared; `None` if that is not known.
    pub preprocessing: Option<Preprocessing>,
    /// What the model card says.
    pub card: Card,
    layout: Layout,
    weights: Arc<Vec<f32>>,
    head: Option<ReadingHead>,
    threads: usize,
    precision: MatmulPrecision,
    idle: session::Idle,
    foreign_keys: Vec<String>,
}

/// The parameters a model of this configuration and task has; `head` if it reads more than its embedding.
fn layout_with(config: &ModelConfig, task: &Task, head: Option<&ReadingHead>) -> Result<Layout> {
    let Some(head) = head else { return layout(config, task) };
    config.validate()?;
    task.check()?;
    head.check()?;
    if !matches!(task, Task::Classifier { .. }) {
        return Err(Error::format("a head without two states to tell apart").at("head"));
    }
    Ok(nn::classify_read(config, 1, head.reading.inputs(config.features()))?.graph.layout().clone())
}

/// The parameters a model of this configuration and task has.
fn layout(config: &ModelConfig, task: &Task) -> Result<Layout> {
    config.validate()?;
    task.check()?;
    Ok(match task {
        Task::Pretrained => nn::reconstruct(config, 1)?.graph.layout().clone(),
        Task::Encoder => nn::embed(config, 1)?.graph.layout().clone(),
        Task::Classifier { .. } => nn::classify(config, 1, 1.0)?.graph.layout().clone(),
    })
}

fn shapes(layout: &Layout) -> Vec<(String, Vec<usize>)> {
    layout.entries().iter().map(|e| (e.name.clone(), e.shape.dims().to_vec())).collect()
}

impl Model {
    /// A model from named tensors (name, shape, values), in any order.
    ///
    /// # Errors
    /// An invalid configuration or task; [`crate::error::Kind::Shape`] that names the tensors that are missing, unexpected or of another
    /// shape; a value that is not finite.
    pub fn new(
        config: ModelConfig,
        task: Task,
        tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    ) -> Result<Self> {
        let layout = layout(&config, &task)?;
        let found: Vec<_> = tensors.iter().map(|(name, shape, _)| (name.clone(), shape.clone())).collect();
        if let Some((i, name)) = first_double(&found) {
            return Err(Error::usage(format!("tensor {name} is given twice")).at(format!("tensor {i}")));
        }
        compare_shapes(&shapes(&layout), &found)?;
        let mut weights = vec![0.0; layout.len()];
        for (name, _, values) in &tensors {
            if let Some(entry) = layout.find(name) {
                let slot = &mut weights[entry.range()];
                if slot.len() != values.len() {
                    return Err(Error::shape(format!(
                        "tensor {name} has {} values, its shape {}",
                        values.len(),
                        slot.len()
                    )));
                }
                slot.copy_from_slice(values);
            }
        }
        Self::assemble(config, task, layout, weights)
    }

    /// A model from the flat parameter vector of a program, such as a trainer holds. Parameters of `layout` that the
    /// task does not use are left out.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn from_weights(config: ModelConfig, task: Task, layout: &Layout, weights: &[f32]) -> Result<Self> {
        if weights.len() != layout.len() {
            return Err(Error::shape(format!("{} weights for a layout of {}", weights.len(), layout.len())));
        }
        let own = self::layout(&config, &task)?;
        let picked = pick(&own, layout, weights)?;
        Self::assemble(config, task, own, picked)
    }

    /// An untrained model: every parameter as its initialisation says, from `seed`.
    ///
    /// # Errors
    /// An invalid configuration or task.
    pub fn init(config: ModelConfig, task: Task, seed: u64) -> Result<Self> {
        let layout = layout(&config, &task)?;
        let weights = layout.init(seed);
        Self::assemble(config, task, layout, weights)
    }

    fn assemble(config: ModelConfig, task: Task, layout: Layout, weights: Vec<f32>) -> Result<Self> {
        for entry in layout.entries() {
            if let Some(i) = weights[entry.range()].iter().position(|w| !w.is_finite()) {
                return Err(Error::numeric(format!("value {i} is {}", weights[entry.range()][i]))
                    .at(format!("tensor {}", entry.name))
                    .remedy("the training diverged or the file is damaged: use an earlier checkpoint"));
            }
        }
        Ok(Self {
            config,
            task,
            preprocessing: None,
            card: Card::default(),
            layout,
            weights: Arc::new(weights),
            head: None,
            threads: 0,
            precision: MatmulPrecision::F32,
            idle: session::Idle::default(),
            foreign_keys: Vec::new(),
        })
    }

    /// Keys of other tools (Hugging Face's) in the files the model was loaded from. They say nothing about the model, were
    /// passed over, and are not saved again.
    pub fn foreign_keys(&self) -> &[String] {
        &self.foreign_keys
    }

    /// The same model with `threads` threads; 0, the initial state, takes one per core. The numbers do not change.
    #[must_use]
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// The same model with the operands of its matrix products rounded to `precision` when it runs; f32, the initial
    /// state, rounds nothing. The parameters stay as they are, and [`Model::save`] does not remember the precision. See
    /// [`crate::graph::Plan::with_precision`].
    #[must_use]
    pub fn with_precision(mut self, precision: MatmulPrecision) -> Self {
        self.precision = precision;
        // Sessions of another precision are of no more use.
        self.idle = session::Idle::default();
        self
    }

    /// The same model with this knowledge of how windows are prepared.
    #[must_use]
    pub fn with_preprocessing(mut self, preprocessing: Preprocessing) -> Self {
        self.preprocessing = Some(preprocessing);
        self
    }

    /// The same model with this card.
    #[must_use]
    pub fn with_card(mut self, card: Card) -> Self {
        self.card = card;
        self
    }

    /// Sizes and options.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What it was trained to do.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Number of parameters (values, not tensors).
    pub fn parameters(&self) -> usize {
        self.weights.len()
    }

    /// The parameters, in the order in which the program names them.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        self.layout.entries().iter().map(|e| Tensor {
            name: &e.name,
            shape: e.shape.dims(),
            values: &self.weights[e.range()],
        })
    }

    /// The flat parameter vector for a program with this `layout`, by name.
    ///
    /// # Errors
    /// [`crate::error::Kind::Shape`] that names the parameters of `layout` which this model has not or has in another shape.
    pub fn weights_for(&self, layout: &Layout) -> Result<Vec<f32>> {
        pick(layout, &self.layout, &self.weights)
    }

    /// [`Model::weights_for`], shared with the model if it has them in this order.
    fn shared_weights_for(&self, layout: &Layout) -> Result<Arc<Vec<f32>>> {
        if *layout == self.layout {
            Ok(Arc::clone(&self.weights))
        } else {
            self.weights_for(layout).map(Arc::new)
        }
    }

    /// As [`Model::weights_for`], but what the model has not starts from its initialisation with `seed`: the first step
    /// of fine-tuning. Also says what was taken.
    ///
    /// # Errors
    /// [`crate::error::Kind::Shape`] if a parameter has the right name but another shape, or if no name fits at all: both mean that
    /// the model is of another configuration.
    pub fn transfer(&self, layout: &Layout, seed: u64) -> Result<(Vec<f32>, Transfer)> {
        let mut report = Transfer::default();
        let (mut wanted, mut there) = (Vec::new(), Vec::new());
        for entry in layout.entries() {
            match self.layout.find(&entry.name) {
                Some(own) => {
                    wanted.push((entry.name.clone(), entry.shape.dims().to_vec()));
                    there.push((own.name.clone(), own.shape.dims().to_vec()));
                    report.taken.push(entry.name.clone());
                }
                None => report.fresh.push(entry.name.clone()),
            }
        }
        compare_shapes(&wanted, &there)?;
        if report.taken.is_empty() && !layout.is_empty() {
            return Err(Error::shape("no parameter of the model has a name that is asked for")
                .remedy("use a model of the same kind"));
        }
        let names = self.layout.entries().iter().map(|e| &e.name);
        report.unused = names.filter(|n| layout.find(n).is_none()).cloned().collect();
        let mut weights: Vec<f32> = layout.init(seed);
        for entry in layout.entries() {
            if let Some(own) = self.layout.find(&entry.name) {
                weights[entry.range()].copy_from_slice(&self.weights[own.range()]);
            }
        }
        Ok((weights, report))
    }

    /// The probability of the positive state for each window. `windows` is `[n, window]`, row by row, prepared as
    /// [`Model::preprocessing`] says.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] for a model without a classifier; [`crate::error::Kind::Shape`] if the length is no
    /// multiple of the window; [`crate::error::Kind::Data`] for a sample that is not finite.
    pub fn predict(&self, windows: &[f32]) -> Result<Vec<f32>> {
        let mut values = self.logits(windows)?;
        values.iter_mut().for_each(|x| *x = sigmoid(*x));
        Ok(values)
    }

    /// The log-odds of the positive state for each window: what [`Model::predict`] turns into probabilities.
    ///
    /// # Errors
    /// As [`Model::predict`].
    pub fn logits(&self, windows: &[f32]) -> Result<Vec<f32>> {
        match &self.head {
            Some(head) => self.read_logits(head, windows),
            None => self.run(Output::Logit, windows, None),
        }
    }

    /// The pooled features of each window (the CLS vector, or as the configuration pools), `[n, width]`.
    ///
    /// # Errors
    /// As [`Model::predict`]; any task will do.
    pub fn embed(&self, windows: &[f32]) -> Result<Vec<f32>> {
        self.run(Output::Features, windows, None)
    }

    /// The reconstruction of each window, `[n, window]`. `masks`, of the same shape, is true where a point is hidden
    /// from the model (it is set to 0, as in pre-training); an empty slice hides nothing.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] for a model without a reconstruction head; else as [`Model::predict`], also for
    /// `masks` of another length.
    pub fn reconstruct(&self, windows: &[f32], masks: &[bool]) -> Result<Vec<f32>> {
        if !masks.is_empty() && masks.len() != windows.len() {
            return Err(Error::shape(format!("{} samples but {} mask values", windows.len(), masks.len())));
        }
        self.run(Output::Reconstruction, windows, (!masks.is_empty()).then_some(masks))
    }

    /// A program with its memory, for one window at a time without allocation.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] if the model has no such output.
    pub fn session(&self, output: Output) -> Result<Session> {
        Session::new(self, output)
    }
}

/// The values of `wanted` out of `weights`, which lie as `have` says.
fn pick(wanted: &Layout, have: &Layout, weights: &[f32]) -> Result<Vec<f32>> {
    let found: Vec<_> = shapes(have).into_iter().filter(|(name, _)| wanted.find(name).is_some()).collect();
    compare_shapes(&shapes(wanted), &found)?;
    let mut out = vec![0.0; wanted.len()];
    for entry in wanted.entries() {
        if let Some(own) = have.find(&entry.name) {
            out[entry.range()].copy_from_slice(&weights[own.range()]);
        }
    }
    Ok(out)
}

fn first_double(tensors: &[(String, Vec<usize>)]) -> Option<(usize, &str)> {
    let mut seen = std::collections::HashSet::new();
    tensors.iter().enumerate().find(|(_, (name, _))| !seen.insert(name)).map(|(i, (name, _))| (i, &name[..]))
}

/// 1 / (1 + exp(-x)), in f64 and rounded once.
fn sigmoid(x: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(x)).exp())) as f32
}
