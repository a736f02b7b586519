//! Training: pre-training by predicting masked spans, fine-tuning on labels, over folds; sharded, resumable to the bit.
//!
//! * [`shard`]: threads, with results that do not depend on their number.
//! * [`Run`]: what every training run has: optimiser, schedule, seeds, batch.
//! * [`probe`]: a linear head on frozen features, fitted and chosen inside the training people of each fold.
//! * [`pretrain`], [`finetune`]: the two jobs. Both report through an [`Observer`], which may stop them; a stopped or
//!   killed run goes on where it was, and ends with the same bits as an undisturbed one.
//!
//! A batch's windows are numbered; masks, dropout and augmentation draw from streams named by (seed, step, number), so
//! they depend on neither threads nor groups. See [`crate::graph`] for the memory of one group's pass: it does not grow
//! with the batch.
//!
//! **Precision.** [`Run::precision`] lets the products of linear layers, feed-forward blocks and attention take bf16
//! operands, forward and backward; sums, values, gradients, parameters and moments stay f32. Pre-training `tiny` for 60
//! epochs on the shipped recordings (414 windows, a quarter held out), seeds 1 to 3: the validation loss ends at 0.9372,
//! 0.9348, 0.8985 in f32 and 0.9369, 0.9350, 0.8986 in bf16, and differs by at most 0.07 % at any epoch; the seeds differ by
//! 4 %. `heartlore prepare examples/data --hop 320 --out store`, then `heartlore pretrain --data store --out run --preset
//! tiny --epochs 60 --validation 0.25 --precision bf16 --seed 1`.
//!
//! **Memory.** A run holds the parameters (with moments, and one gradient per thread), one group's activations per thread,
//! and of the store its index, some 50 bytes per window; windows are read when they are needed. Peak resident memory of
//! `heartlore pretrain --preset tiny --threads 2`, 320 windows of 10 s per epoch, measured by
//! `cargo test --test memory -- --ignored --nocapture` (Linux, x86-64; figures of the debug build):
//!
//! | store | batch 16 | batch 256 |
//! |---|---|---|
//! | 1 hour, 360 windows, 1.8 MiB | 20.5 MiB | 19.9 MiB |
//! | 30 hours, 10,800 windows, 53 MiB | 21.6 MiB | 21.3 MiB |

mod augment;
mod engine;
mod finetune;
mod fingerprint;
mod fit;
mod objective;
pub mod physiology;
mod pretrain;
pub mod probe;
#[cfg(feature = "formats")]
pub mod read;
pub mod shard;

pub use augment::Augment;
pub use finetune::{
    FinetuneSettings, FinetuneSummary, FoldLabels, FoldSummary, Initial, Labelled, Prediction, Tuning,
    classify, finetune, finetune_with,
};
pub use fingerprint::{Difference, RunFingerprint};
pub use fit::{Control, Event, NoopObserver, Observer};
pub use objective::{Objective, pretrain_objectives};
pub use pretrain::{PretrainData, PretrainSettings, PretrainSummary, pretrain};

use crate::error::{Error, Result};
use crate::graph::{Layout, MatmulPrecision};
use crate::optim::Schedule;
use heartlore_kernels::Isa;

/// Settings of Adam.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AdamSettings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the square root of the second moment.
    pub eps: f64,
    /// Weight decay: added to the gradient (L2, as Adam's) or, if decoupled, to the update (AdamW).
    pub weight_decay: f64,
    /// AdamW.
    pub decoupled: bool,
}

impl Default for AdamSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decoupled: false }
    }
}

/// What every training run has.
#[derive(Clone, PartialEq, Debug)]
pub struct Run {
    /// Names every random number of the run.
    pub seed: u64,
    /// Threads; 0 uses all the machine has. Does not change the result.
    pub threads: usize,
    /// Parts a batch is cut into; more threads than shards stay idle. Part of the result's bits. Each
    /// thread costs a copy of the gradients, at most one for every shard.
    pub shards: usize,
    /// Most windows that go through the model together. Small groups keep activations in cache.
    pub group: usize,
    /// Windows per optimiser step.
    pub batch: usize,
    /// Passes over the training windows.
    pub epochs: u64,
    /// Learning rate, counted in epochs (and applied per step).
    pub schedule: Schedule,
    /// Optimiser.
    pub adam: AdamSettings,
    /// Largest norm of the gradient; larger ones are scaled down.
    pub clip_norm: Option<f64>,
    /// What the operands of matrix products are rounded to, forward and backward, in training, validation and test; see
    /// [`crate::graph::Plan::with_precision`]. Parameters, moments and all sums are f32 in either case. Part of what a
    /// resumed run must share; a checkpoint's weights are f32 and may start a new run in any precision.
    pub precision: MatmulPrecision,
    /// Steps between checkpoints; 0 saves at the end of epochs only.
    pub checkpoint_every: u64,
    /// Instruction set by name; `None` takes the widest.
    pub isa: Option<String>,
}

impl Run {
    /// Windows of a pass: as many of [`Run::group`] as a shard's windows fill evenly. A pass computes all its windows, those
    /// that are not there as well: 8 windows in 8 shards and groups of 4 took 3.5 times as long as in groups of 1 (`tiny`).
    fn windows_of_pass(&self) -> usize {
        evenly(self.batch.div_ceil(self.shards), self.group)
    }

    /// Checks that the numbers make sense.
    ///
    /// # Errors
    /// Names the setting.
    pub fn validate(&self) -> Result<()> {
        for (name, value, most) in
            [("shards", self.shards, 1 << 12), ("group", self.group, 1 << 16), ("batch", self.batch, 1 << 24)]
        {
            if value == 0 {
                return Err(Error::usage(format!("{name} must be at least 1")));
            }
            // More would only cost memory: a shard and a pass hold at least one window.
            if value > most {
                return Err(Error::usage(format!("{value} is too many"))
                    .at(name)
                    .remedy(format!("give at most {most}")));
            }
        }
        if self.precision == MatmulPrecision::Int8 {
            return Err(Error::usage("int8 has no derivative to train by")
                .remedy("train in f32 or bf16; the finished model can predict in int8"));
        }
        if self.epochs == 0 {
            return Err(Error::usage("epochs must be at least 1"));
        }
        let a = &self.adam;
        let fits = (0.0..1.0).contains(&a.beta1)
            && (0.0..1.0).contains(&a.beta2)
            && a.eps > 0.0
            && a.weight_decay >= 0.0
            && a.weight_decay.is_finite();
        if !fits {
            return Err(Error::usage(format!("Adam with {a:?}"))
                .remedy("betas lie in [0, 1), eps is positive, weight decay is not negative"));
        }
        if self.clip_norm.is_some_and(|c| c.is_nan() || c <= 0.0) {
            return Err(Error::usage("the clipping norm must be positive"));
        }
        self.isa()?;
        self.schedule.validate()
    }

    /// The instruction set.
    ///
    /// # Errors
    /// If this CPU has none of that name.
    pub fn isa(&self) -> Result<Isa> {
        match &self.isa {
            None => Ok(Isa::best()),
            Some(name) => Isa::by_name(name).ok_or_else(|| {
                let have: Vec<&str> = Isa::available().iter().map(|i| i.name()).collect();
                Error::usage(format!("this CPU has no instruction set {name:?}"))
                    .remedy(format!("it has {}", have.join(", ")))
            }),
        }
    }
}

/// Parameters by name: a layout and the flat vector it describes.
#[derive(Clone, PartialEq, Debug)]
pub struct Weights {
    /// Names, shapes and places.
    pub layout: Layout,
    /// The numbers.
    pub values: Vec<f32>,
}

impl Weights {
    /// The numbers of the parameter `name`.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.layout.find(name).map(|e| &self.values[e.range()])
    }
}

/// `n` cut into as many parts as it takes for none to be longer than `most`: the length of the longest.
fn evenly(n: usize, most: usize) -> usize {
    n.div_ceil(n.div_ceil(most))
}

#[cfg(test)]
mod tests {
    use super::evenly;

    #[test]
    fn passes_are_as_even_as_they_can_be() {
        for (windows, group, pass) in
            [(1, 4, 1), (2, 4, 2), (4, 4, 4), (5, 4, 3), (8, 4, 4), (9, 4, 3), (7, 1, 1)]
        {
            assert_eq!(evenly(windows, group), pass, "{windows} windows, at most {group}");
        }
    }
}
