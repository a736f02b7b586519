//! `heartlore bench`: what this machine can do, and what training and prediction make of it.
//!
//! Training is timed inside the real training loop, on windows in memory; prediction through [`Model::predict`], as a
//! program that embeds heartlore calls it. FLOPs are those of the operations that are really executed (rows nobody reads
//! are not), so the share of the peak is honest; the time per window is what to compare with other programs. The share is
//! the time that the FLOPs would take at their peak over the time they took: f32's at the rate of multiply-adds and, where
//! the CPU's dot products of bf16 or of 8-bit integers are in use, those of operations on such operands at the rate of these.
//!
//! [`Model::predict`]: crate::Model::predict

mod jobs;
mod show;
mod start;

use std::path::PathBuf;
use std::time::Duration;

use super::options::{List, Precision};
use crate::cli::{Context, bad_flag};
use crate::error::Result;
use crate::graph::{MatmulPrecision, Op, OpKind};
use crate::model::Task;
use crate::nn::{ModelConfig, PRESETS};
use crate::optim::Schedule;
use crate::train::{AdamSettings, Run};
use heartlore_kernels::Isa;
use heartlore_kernels::measure::{self, Timing};
use jobs::{finetune_steps, growth, operations, outputs, pretrain_steps};
use show::{as_json, as_text, plot, report};
use start::start;

const EXAMPLES: &str = "\
Examples:
  heartlore bench
  heartlore bench --preset tiny --what pretrain,predict --threads 1
  heartlore bench --what predict --batch 1,8,64 --json
  heartlore bench --what pretrain,predict --precision f32,bf16     # one beside the other
  heartlore bench --what predict --precision f32,bf16,int8
  heartlore bench --what pretrain --train-batch 64 --threads 2     # and how much memory that takes
  heartlore bench --what growth --threads 1        # time and memory as the window grows to 16 times its length
  heartlore bench --out bench/                     # also report.html, bench.json and roofline.svg

Medians over repetitions during which our threads hardly waited for a CPU (Linux); 'clean 7/9' means 7 of 9. On a machine
with other work to do, times are still too long where caches and memory are shared.

bench.json, and the result with --json, hold every flag as `settings`.";

/// What can be timed.
const JOBS: [&str; 7] = ["pretrain", "finetune", "predict", "reconstruct", "start", "growth", "operations"];
/// What is timed unless the user says otherwise: everything but growth, whose longest window takes seconds.
const USUAL: [&str; 6] = ["pretrain", "finetune", "predict", "reconstruct", "start", "operations"];

/// Flags of `bench`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The model
    #[arg(long, default_value = "paper", value_parser = PRESETS)]
    pub preset: String,
    /// What to time: training steps, prediction, full outputs, `heartlore predict` on a recording of 10 minutes from its
    /// start to its end, full outputs of windows 2 to 16 times as long, every operation of a pre-training pass
    #[arg(long, value_delimiter = ',', default_values = USUAL, value_parser = JOBS)]
    pub what: Vec<String>,
    /// Numbers of threads, 0 for all cores
    #[arg(long, default_value = "1,0")]
    pub threads: List,
    /// Windows handed over at once in prediction
    #[arg(long, default_value = "1,8")]
    pub batch: List,
    /// Windows per training step
    #[arg(long, default_value_t = 8)]
    pub train_batch: usize,
    /// Windows that go through the model together in training
    #[arg(long, default_value_t = 1)]
    pub group: usize,
    /// Dropout, in place of the preset's
    #[arg(long)]
    pub dropout: Option<f64>,
    /// Dropout on attention weights, in place of the preset's
    #[arg(long)]
    pub attention_dropout: Option<f64>,
    /// Longest time for one figure, in seconds
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// What the operands of matrix products are rounded to: f32 (not at all), bf16, int8 (prediction and full outputs only),
    /// or several beside each other
    #[arg(long, value_delimiter = ',', default_value = "f32")]
    pub precision: Vec<Precision>,
    /// Instruction set by name, for training and operations [default: the widest of this CPU]
    #[arg(long)]
    pub isa: Option<String>,
    /// Directory for report.html, bench.json and roofline.svg [default: print only]
    #[arg(long, short)]
    pub out: Option<PathBuf>,
}

/// FLOPs, by the operands of the operation.
#[derive(Clone, Copy, Debug, Default)]
struct Flops {
    f32: f64,
    bf16: f64,
    int8: f64,
}

impl Flops {
    /// `n` FLOPs of an operation in a program of this precision.
    fn of(op: &Op, precision: MatmulPrecision, n: u64) -> Self {
        let (n, none) = (n as f64, Self::default());
        match precision {
            MatmulPrecision::Int8 if op.rounds_to(precision) => Self { int8: n, ..none },
            // What is not rounded to 8 bits in such a plan is rounded to bf16.
            MatmulPrecision::Bf16 | MatmulPrecision::Int8 if op.rounds_to(MatmulPrecision::Bf16) => {
                Self { bf16: n, ..none }
            }
            _ => Self { f32: n, ..none },
        }
    }

    fn total(self) -> f64 {
        self.f32 + self.bf16 + self.int8
    }
}

impl std::iter::Sum for Flops {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            f32: a.f32 + b.f32,
            bf16: a.bf16 + b.bf16,
            int8: a.int8 + b.int8,
        })
    }
}

/// One line of the table.
struct Line {
    what: &'static str,
    precision: Precision,
    threads: usize,
    batch: usize,
    /// Seconds of one repetition.
    time: Timing,
    /// Windows of one repetition.
    windows: usize,
    /// Really executed for one window.
    flops: Flops,
    /// The most memory the process held meanwhile, in MiB; `None` where the system does not tell.
    peak_mib: Option<f64>,
}

/// The command `predict` on one recording.
struct Start {
    precision: Precision,
    threads: usize,
    /// Windows of the recording.
    windows: usize,
    /// From the start of the process to its end.
    whole: Timing,
    /// The passes alone.
    bare: Timing,
}

/// Full outputs of one window of this length on one thread.
struct Growth {
    precision: Precision,
    samples: usize,
    time: Timing,
    flops: Flops,
    /// Bytes of the planned memory, scratch included, parameters not.
    bytes: usize,
}

/// Forward and backward of one operation.
struct OpLine {
    precision: Precision,
    name: String,
    kind: OpKind,
    /// Seconds: forward, backward.
    seconds: [f64; 2],
    /// Forward, backward.
    flops: [Flops; 2],
    /// Bytes that a forward pass must at least read and write.
    bytes: f64,
}

/// This machine's limits.
struct Machine {
    isa: Isa,
    cores: usize,
    peak: f64,
    /// All cores at once.
    peak_all: f64,
    /// Of one thread's dot products of bf16, whether or not they are used; `None` without.
    dot_peak: Option<f64>,
    /// Of one thread's dot products of 8-bit integers; `None` without.
    int8_peak: Option<f64>,
    bandwidth: f64,
}

/// Repetitions wanted of every figure.
const WANTED: usize = 9;

/// Runs the command.
///
/// # Errors
/// Flags that make no sense, or a directory that cannot be written.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if !(args.seconds.is_finite() && args.seconds > 0.0) {
        return Err(bad_flag("seconds", format!("{} is no length of time", args.seconds)));
    }
    if args.batch.0.contains(&0) || args.train_batch == 0 || args.group == 0 {
        return Err(bad_flag("batch", "a batch has at least one window"));
    }
    let limit = Duration::from_secs_f64(args.seconds);
    let mut model = ModelConfig::preset(&args.preset)?;
    model.dropout = args.dropout.unwrap_or(model.dropout);
    model.attention_dropout = args.attention_dropout.unwrap_or(model.attention_dropout);
    model.validate()?;
    let run = training_run(args);
    let isa = run.isa()?;
    let machine = machine(isa, limit.min(Duration::from_secs(2)));
    context.note(format!("{isa}: {}", machine.limits()));
    let mut threads: Vec<usize> =
        args.threads.0.iter().map(|&t| if t == 0 { machine.cores } else { t }).collect();
    threads.dedup();
    if args.precision.iter().any(|p| p.0 == MatmulPrecision::Int8) {
        context.note("int8 has no derivative: training and its operations are not timed in it");
    }
    let (mut lines, mut starts) = (Vec::new(), Vec::new());
    let wanted = |what: &str| args.what.iter().any(|w| w == what);
    for (&threads, &precision) in threads.iter().flat_map(|t| args.precision.iter().map(move |p| (t, p))) {
        let run = Run { threads, precision: precision.0, ..run.clone() };
        let mut add = |job: &dyn Fn() -> Result<Line>| -> Result<()> {
            measure::reset_peak_memory();
            let line = job()?;
            lines.push(Line {
                peak_mib: measure::peak_memory().map(|b| b as f64 / f64::from(1 << 20)),
                ..line
            });
            Ok(())
        };
        let trains = run.precision != MatmulPrecision::Int8;
        if wanted("pretrain") && trains {
            add(&|| pretrain_steps(&model, &run, limit))?;
        }
        if wanted("finetune") && trains {
            add(&|| finetune_steps(&model, &run, limit))?;
        }
        for (what, task) in [("predict", classifier()), ("reconstruct", Task::Pretrained)] {
            for &batch in args.batch.0.iter().filter(|_| wanted(what)) {
                add(&|| outputs(what, &model, task.clone(), precision, threads, batch, limit))?;
            }
        }
        if wanted("start") {
            starts.push(start(&model, precision, threads, limit)?);
        }
    }
    let (mut longer, mut parts) = (Vec::new(), Vec::new());
    for &precision in &args.precision {
        if wanted("growth") {
            longer.extend(growth(&model, precision, limit)?);
        }
        if wanted("operations") && precision.0 != MatmulPrecision::Int8 {
            parts.extend(operations(&model, precision, isa, args.group, limit)?);
        }
    }
    let figures = Figures {
        args,
        machine: &machine,
        lines: &lines,
        starts: &starts,
        growth: &longer,
        operations: &parts,
    };
    let mut json = as_json(&figures);
    json["settings"] = context.settings();
    if let Some(out) = &args.out {
        super::windows::create_dir(out)?;
        crate::checkpoint::write_bytes(out.join("bench.json"), format!("{json:#}\n").as_bytes())?;
        crate::checkpoint::write_bytes(out.join("roofline.svg"), plot(&figures).into_string().as_bytes())?;
        report(&figures, &context.command_line).save(out.join("report.html"))?;
    }
    context.result(&as_text(&figures), || json)
}

/// All there is to show.
struct Figures<'a> {
    args: &'a Args,
    machine: &'a Machine,
    lines: &'a [Line],
    starts: &'a [Start],
    growth: &'a [Growth],
    operations: &'a [OpLine],
}

fn classifier() -> Task {
    Task::Classifier { positive: "high".into(), negative: "low".into(), threshold: 0.5 }
}

fn training_run(args: &Args) -> Run {
    Run {
        seed: 1,
        threads: 1,
        // As many parts as there are groups, so that every number of threads finds work.
        shards: args.train_batch.div_ceil(args.group).min(8),
        group: args.group,
        batch: args.train_batch,
        epochs: 1,
        schedule: Schedule::Constant { rate: 1e-4 },
        adam: AdamSettings::default(),
        clip_norm: None,
        precision: MatmulPrecision::F32,
        checkpoint_every: 0,
        isa: args.isa.clone(),
    }
}

fn machine(isa: Isa, limit: Duration) -> Machine {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let peak = measure::fma_peak(isa, limit);
    let together = || {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..cores).map(|_| scope.spawn(|| measure::fma_peak(isa, limit))).collect();
            threads.into_iter().map(|t| t.join().unwrap_or(0.0)).sum::<f64>()
        })
    };
    // The best of three: new threads may spend their first milliseconds on one core, in turn.
    let peak_all = (0..3).map(|_| together()).fold(0.0, f64::max);
    let (dot_peak, int8_peak) = (measure::bf16_dot_peak(isa, limit), measure::int8_dot_peak(isa, limit));
    Machine { isa, cores, peak, peak_all, dot_peak, int8_peak, bandwidth: measure::bandwidth(isa, limit) }
}

impl Line {
    fn per_window(&self) -> f64 {
        self.time.seconds / self.windows as f64
    }
}

impl Start {
    /// The whole command over its bare passes.
    fn ratio(&self) -> f64 {
        self.whole.seconds / self.bare.seconds
    }
}

impl Machine {
    /// In words.
    fn limits(&self) -> String {
        format!(
            "FMA peak {:.1} GFLOP/s on one thread, {:.1} on {}{}{}; memory {:.1} GB/s on one thread",
            self.peak,
            self.peak_all,
            self.cores,
            self.dot_peak.map(|p| format!(", bf16 dot products {p:.1} on one")).unwrap_or_default(),
            self.int8_peak.map(|p| format!(", int8 {p:.1}")).unwrap_or_default(),
            self.bandwidth
        )
    }

    /// The peak of this many threads; between one and all, in proportion.
    fn peak_of(&self, threads: usize) -> f64 {
        match threads {
            1 => self.peak,
            t if t >= self.cores => self.peak_all,
            t => self.peak_all * t as f64 / self.cores as f64,
        }
    }

    /// Percent of the peak: the time of these FLOPs at the peak of this many threads over the seconds they took. Dot
    /// products, where they are in use, are taken to grow with the threads as multiply-adds do.
    fn share(&self, flops: Flops, threads: usize, seconds: f64) -> f64 {
        let peak = self.peak_of(threads);
        let of = |dot: Option<f64>| dot.map_or(peak, |d| d * peak / self.peak);
        let (bf16, int8) = (of(self.dot_peak.filter(|_| self.isa.bf16_dot().is_some())), of(self.int8_peak));
        let at_peak = flops.f32 / peak + flops.bf16 / bf16 + flops.int8 / int8;
        if seconds > 0.0 { 1e-7 * at_peak / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_counts_each_kind_of_flops_at_its_own_peak() {
        let dot = Isa::best().with_bf16_dot(true);
        let machine = |isa, dot_peak| {
            let int8_peak = Some(400.0);
            Machine { isa, cores: 4, peak: 100.0, peak_all: 300.0, dot_peak, int8_peak, bandwidth: 1.0 }
        };
        let flops = Flops { f32: 50e9, bf16: 100e9, int8: 0.0 };
        assert_eq!(flops.total(), 150e9);
        // Without dot products in use all FLOPs count as f32: 1.5 s at the peak of one thread.
        for dot_peak in [None, Some(200.0)] {
            let share = |threads| machine(Isa::PORTABLE, dot_peak).share(flops, threads, 3.0);
            assert!((share(1) - 50.0).abs() < 1e-9, "{}", share(1));
            assert!((share(4) - 50.0 / 3.0).abs() < 1e-9, "{}", share(4));
        }
        // With them, half a second and half a second.
        if let Some(isa) = dot {
            let share = |threads| machine(isa, Some(200.0)).share(flops, threads, 2.0);
            assert!((share(1) - 50.0).abs() < 1e-9, "{}", share(1));
            assert!((share(4) - 50.0 / 3.0).abs() < 1e-9, "{}", share(4));
        }
        assert_eq!(machine(Isa::PORTABLE, None).share(flops, 1, 0.0), 0.0);
        let flops = Flops { f32: 50e9, bf16: 0.0, int8: 200e9 };
        assert!((machine(Isa::PORTABLE, None).share(flops, 1, 2.0) - 50.0).abs() < 1e-9);
        let config = crate::nn::ModelConfig::preset("tiny").unwrap();
        let program = crate::nn::pretrain(&config, 1, 4).unwrap();
        let of = |kind: OpKind, precision| {
            let node = program.graph.nodes().iter().find(|n| n.op.kind() == kind).unwrap();
            let Flops { f32, bf16, int8 } = Flops::of(&node.op, precision, 3);
            [f32, bf16, int8]
        };
        let (f32, bf16, int8) = ([3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 3.0]);
        for (kind, in_bf16, in_int8) in [
            (OpKind::Attention, bf16, bf16),
            (OpKind::Linear, bf16, int8),
            (OpKind::FeedForward, bf16, int8),
            (OpKind::Conv1d, f32, f32),
        ] {
            assert_eq!(of(kind, MatmulPrecision::F32), f32, "{kind:?}");
            assert_eq!(of(kind, MatmulPrecision::Bf16), in_bf16, "{kind:?}");
            assert_eq!(of(kind, MatmulPrecision::Int8), in_int8, "{kind:?}");
        }
    }
}
