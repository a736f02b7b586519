//! Flags of a training run: optimiser, schedule, batch, seed, augmentation.

use super::Precision;
use crate::cli::Config;
use crate::error::Result;
use crate::graph::MatmulPrecision;
use crate::optim::Schedule;
use crate::train::{AdamSettings, Augment, Run};

/// What a run does where no flag is given.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// Passes over the data.
    pub epochs: u64,
    /// The schedule for a number of epochs.
    pub schedule: fn(u64) -> Schedule,
    /// Weight decay.
    pub weight_decay: f64,
}

/// The pre-training of the reproduced paper, as recalled, for the preset `paper`; fewer epochs for the others.
pub fn pretraining(preset: &str) -> Defaults {
    // 30 of 500 epochs of warm-up.
    let schedule = |epochs: u64| Schedule::Linear {
        rate: 1e-3,
        warmup: (epochs * 30).div_ceil(500).min(epochs),
        total: epochs,
    };
    Defaults { epochs: if preset == "paper" { 500 } else { 50 }, schedule, weight_decay: 0.005 }
}

/// The fine-tuning of the paper, as recalled, for the preset `paper`; a shorter one at a higher rate for the others.
pub fn finetuning(preset: &str) -> Defaults {
    if preset == "paper" {
        let schedule = |_| Schedule::Step { rate: 1e-4, factor: 0.65, every: 45 };
        return Defaults { epochs: 100, schedule, weight_decay: 1e-5 };
    }
    let schedule =
        |epochs: u64| Schedule::Linear { rate: 1e-3, warmup: epochs.div_ceil(10).min(epochs), total: epochs };
    Defaults { epochs: 20, schedule, weight_decay: 1e-5 }
}

/// Flags of a training run.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Training")]
pub struct TrainingArgs {
    /// Names every random number of the run
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads, 0 for all cores; the result does not depend on it
    #[arg(long, default_value_t = 0, value_parser = super::threads)]
    pub threads: usize,
    /// Parts a batch is cut into for the threads; the result's last bits depend on it
    #[arg(long, default_value_t = 8)]
    pub shards: usize,
    /// Windows that go through the model together; small groups stay in cache
    #[arg(long, default_value_t = 4)]
    pub group: usize,
    /// Windows per optimiser step
    #[arg(long, default_value_t = 64)]
    pub batch: usize,
    /// Passes over the training windows [default: by preset]
    #[arg(long)]
    pub epochs: Option<u64>,
    /// Learning rate over the epochs, such as "linear(rate=0.001, warmup=3, total=50)" [default: by preset and epochs]
    #[arg(long)]
    pub schedule: Option<Schedule>,
    /// Adam's decay of the first moment
    #[arg(long, default_value_t = 0.9)]
    pub beta1: f64,
    /// Adam's decay of the second moment
    #[arg(long, default_value_t = 0.999)]
    pub beta2: f64,
    /// Adam's epsilon
    #[arg(long, default_value_t = 1e-8)]
    pub eps: f64,
    /// Weight decay [default: by command]
    #[arg(long)]
    pub weight_decay: Option<f64>,
    /// Apply weight decay to the update (AdamW) instead of the gradient
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub decoupled: bool,
    /// Largest norm of the gradient [default: no limit]
    #[arg(long)]
    pub clip_norm: Option<f64>,
    /// What the operands of matrix products are rounded to: f32 (not at all) or bf16; sums and parameters are f32. A
    /// resumed run must keep it
    #[arg(long, default_value_t = Precision(MatmulPrecision::F32))]
    pub precision: Precision,
    /// Steps between checkpoints; 0 saves at the end of epochs only
    #[arg(long, default_value_t = 0)]
    pub checkpoint_every: u64,
    /// Instruction set by name [default: the widest of this CPU]
    #[arg(long)]
    pub isa: Option<String>,
    /// Augmentation: rotate windows by up to this many samples
    #[arg(long, default_value_t = 0)]
    pub augment_shift: usize,
    /// Augmentation: white noise, in units of the window's standard deviation
    #[arg(long, default_value_t = 0.0)]
    pub augment_noise: f64,
    /// Augmentation: amplitude varies by up to this share
    #[arg(long, default_value_t = 0.0)]
    pub augment_scale: f64,
    /// Augmentation: slow baseline drift, up to this amplitude in units of the window's standard deviation
    #[arg(long, default_value_t = 0.0)]
    pub augment_drift: f64,
    /// Augmentation: probability that a window is turned upside down
    #[arg(long, default_value_t = 0.0)]
    pub augment_flip: f64,
}

impl TrainingArgs {
    /// The run, with `defaults` where no flag was given.
    ///
    /// # Errors
    /// Numbers that make no sense.
    pub fn resolve(&self, defaults: Defaults) -> Result<(Run, Augment)> {
        let epochs = self.epochs.unwrap_or(defaults.epochs);
        let run = Run {
            seed: self.seed,
            threads: self.threads,
            shards: self.shards,
            group: self.group,
            batch: self.batch,
            epochs,
            schedule: self.schedule.unwrap_or_else(|| (defaults.schedule)(epochs)),
            adam: AdamSettings {
                beta1: self.beta1,
                beta2: self.beta2,
                eps: self.eps,
                weight_decay: self.weight_decay.unwrap_or(defaults.weight_decay),
                decoupled: self.decoupled,
            },
            clip_norm: self.clip_norm,
            precision: self.precision.0,
            checkpoint_every: self.checkpoint_every,
            isa: self.isa.clone(),
        };
        run.validate()?;
        let augment = Augment {
            shift: self.augment_shift,
            noise: self.augment_noise,
            scale: self.augment_scale,
            drift: self.augment_drift,
            flip: self.augment_flip,
        };
        Ok((run, augment))
    }
}

/// Writes what was resolved into the configuration.
///
/// # Errors
/// A command without these flags.
pub fn echo(run: &Run, config: &mut Config) -> Result<()> {
    config.set("epochs", crate::cli::config::count(run.epochs))?;
    config.set("schedule", run.schedule.to_string())?;
    config.set("weight-decay", run.adam.weight_decay)
}
