//! `heartlore bench`: what this machine can do, and what training and prediction make of it.
//!
//! Training is timed inside the real training loop, on windows in memory; prediction through [`Model::predict`], as a
//! program that embeds heartlore calls it. FLOPs are those of the operations that are really executed (rows nobody reads
//! are not), so the share of the peak is honest; the time per window is what to compare with other programs.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::options::List;
use crate::cli::{Context, bad_flag};
use crate::data::batch::Sampling;
use crate::data::source::WindowSource;
use crate::data::split::{Fold, Protocol, Split};
use crate::graph::{Aids, Exec, Graph, OpKind, Plan, Prepared, Want};
use crate::model::Task;
use crate::nn::{self, ModelConfig, PRESETS};
use crate::optim::Schedule;
use crate::report::plots::{Bandwidth, Peak, Roofline, RooflinePoint, roofline};
use crate::train::{
    self, AdamSettings, Augment, Control, Event, FinetuneSettings, Labelled, PretrainData, PretrainSettings,
    Run,
};
use crate::{Error, Model, Result};
use heartlore_kernels::Isa;
use heartlore_kernels::measure::{self, Timing};
use heartlore_kernels::rng::Key;

const EXAMPLES: &str = "\
Examples:
  heartlore bench
  heartlore bench --preset tiny --what pretrain,predict --threads 1
  heartlore bench --what predict --batch 1,8,64 --json
  heartlore bench --out bench/                     # also bench.json and roofline.svg

Medians over repetitions during which our threads hardly waited for a CPU (Linux); 'clean 7/9' means 7 of 9. On a machine
with other work to do, times are still too long where caches and memory are shared.

bench.json, and the result with --json, hold every flag as `settings`.";

/// What can be timed.
const JOBS: [&str; 5] = ["pretrain", "finetune", "predict", "reconstruct", "operations"];

/// Flags of `bench`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The model
    #[arg(long, default_value = "paper", value_parser = PRESETS)]
    pub preset: String,
    /// What to time: training steps, prediction, full outputs, every operation of a pre-training pass
    #[arg(long, value_delimiter = ',', default_values = JOBS, value_parser = JOBS)]
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
    /// Instruction set by name, for training and operations [default: the widest of this CPU]
    #[arg(long)]
    pub isa: Option<String>,
    /// Directory for bench.json and roofline.svg [default: print only]
    #[arg(long, short)]
    pub out: Option<PathBuf>,
}

/// One line of the table.
struct Line {
    what: &'static str,
    threads: usize,
    batch: usize,
    /// Seconds of one repetition.
    time: Timing,
    /// Windows of one repetition.
    windows: usize,
    /// FLOPs really executed for one window.
    flops: f64,
}

/// Forward and backward of one operation.
struct OpLine {
    name: String,
    kind: OpKind,
    /// Seconds: forward, backward.
    seconds: [f64; 2],
    /// FLOPs: forward, backward.
    flops: [f64; 2],
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
    context.note(format!(
        "{isa}: {:.0} GFLOP/s on one thread, {:.0} on {}; memory {:.1} GB/s on one thread",
        machine.peak, machine.peak_all, machine.cores, machine.bandwidth
    ));
    let mut threads: Vec<usize> =
        args.threads.0.iter().map(|&t| if t == 0 { machine.cores } else { t }).collect();
    threads.dedup();
    let mut lines = Vec::new();
    let wanted = |what: &str| args.what.iter().any(|w| w == what);
    for &threads in &threads {
        let run = Run { threads, ..run.clone() };
        if wanted("pretrain") {
            lines.push(pretrain_steps(&model, &run, limit)?);
        }
        if wanted("finetune") {
            lines.push(finetune_steps(&model, &run, limit)?);
        }
        for (what, task) in [("predict", classifier()), ("reconstruct", Task::Pretrained)] {
            for &batch in args.batch.0.iter().filter(|_| wanted(what)) {
                lines.push(outputs(what, &model, task.clone(), threads, batch, limit)?);
            }
        }
    }
    let operations =
        if wanted("operations") { operations(&model, isa, args.group, limit)? } else { Vec::new() };
    let mut json = as_json(args, &machine, &lines, &operations);
    json["settings"] = context.settings();
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).map_err(|e| Error::io(out, e))?;
        super::rundir::write_bytes(&out.join("bench.json"), format!("{json:#}\n").as_bytes())?;
        super::rundir::write_bytes(&out.join("roofline.svg"), plot(&machine, &operations).as_bytes())?;
    }
    context.result(&as_text(&args.preset, &machine, &lines, &operations), || json)
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
        checkpoint_every: 0,
        isa: args.isa.clone(),
    }
}

fn machine(isa: Isa, limit: Duration) -> Machine {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let peak = measure::fma_peak(isa, limit);
    let peak_all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(|| measure::fma_peak(isa, limit))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or(0.0)).sum()
    });
    Machine { isa, cores, peak, peak_all, bandwidth: measure::bandwidth(isa, limit) }
}

/// More windows of noise than any run reaches: window i is a rotation of the first.
struct Noise(Vec<f32>);

/// Steps an epoch of [`Noise`] would take.
const STEPS: usize = 100_000;

impl Noise {
    fn new(samples: usize) -> Self {
        let stream = Key { seed: 1, step: 0, sample: 0, op: 0 }.stream();
        // Unit variance, as windows have.
        Self((0..samples).map(|i| (12f64.sqrt() * (stream.uniform(0, i as u32) - 0.5)) as f32).collect())
    }
}

impl WindowSource for Noise {
    fn len(&self) -> usize {
        usize::MAX
    }
    fn samples(&self) -> usize {
        self.0.len()
    }
    fn read(&self, i: usize, out: &mut [f32]) -> Result<()> {
        let (a, b) = self.0.split_at(i % self.0.len());
        out[..b.len()].copy_from_slice(b);
        out[b.len()..].copy_from_slice(a);
        Ok(())
    }
}

/// Times steps from the events of a run, and stops it when there are enough.
struct Clock {
    begin: Instant,
    limit: Duration,
    waited: Option<u64>,
    repetitions: Vec<(f64, bool)>,
    steps: usize,
}

impl Clock {
    fn new(limit: Duration) -> Self {
        Self { begin: Instant::now(), limit, waited: None, repetitions: Vec::new(), steps: 0 }
    }

    fn event(&mut self, event: &Event) -> Control {
        let Event::Step { seconds, .. } = event else { return Control::Continue };
        let waited = measure::waited_by_process();
        self.steps += 1;
        // The first step records programs and touches its memory for the first time.
        if self.steps > 1 {
            let lost = waited.zip(self.waited).map_or(0, |(now, then)| now.saturating_sub(then));
            self.repetitions.push((*seconds, lost as f64 <= measure::CLEAN * seconds * 1e9));
        }
        self.waited = measure::waited_by_process();
        let clean = self.repetitions.iter().filter(|r| r.1).count();
        let enough = clean >= WANTED || (self.begin.elapsed() >= self.limit && !self.repetitions.is_empty());
        if enough { Control::Stop } else { Control::Continue }
    }

    /// The timing of a run that this clock has stopped.
    fn timing<T>(self, end: Result<T>) -> Result<Timing> {
        match end {
            Err(e) if e.kind() != crate::error::Kind::Interrupted => Err(e),
            _ => Timing::of(&self.repetitions).ok_or_else(|| {
                Error::usage("the run ended before a step was timed").remedy("give it more --seconds")
            }),
        }
    }
}

/// A directory for what a training run writes, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("heartlore-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir).map_err(|e| Error::io(&dir, e))?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left in the temporary directory does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn pretrain_steps(model: &ModelConfig, run: &Run, limit: Duration) -> Result<Line> {
    let source = Noise::new(model.window);
    let data = PretrainData {
        source: &source,
        train: (0..run.batch * STEPS).collect(),
        sampling: Sampling::All,
        validation: Vec::new(),
        fingerprint: "bench".into(),
    };
    let augment = Augment { shift: 0, noise: 0.0, scale: 0.0 };
    let settings = PretrainSettings { model: model.clone(), run: run.clone(), augment };
    let scratch = Scratch::new()?;
    let mut clock = Clock::new(limit);
    let end = train::pretrain(&settings, &data, &scratch.0, false, &mut |e: &Event| clock.event(e));
    let graph = nn::pretrain(model, 1, mean_picks(model))?.graph;
    Ok(Line {
        what: "pretrain",
        threads: run.threads,
        batch: run.batch,
        time: clock.timing(end)?,
        windows: run.batch,
        flops: total_flops(&graph, true),
    })
}

/// Tokens of a window that the loss sees, averaged over 64 windows.
fn mean_picks(model: &ModelConfig) -> usize {
    let (mut mask, mut rows, mut sum) = (vec![false; model.window], Vec::new(), 0);
    for sample in 0..64 {
        nn::spans(&model.mask, Key { seed: 1, step: 0, sample, op: 0 }, model.window, &mut mask);
        nn::picks_into(model, &mask, &mut rows);
        sum += rows.len();
    }
    (sum / 64).max(1)
}

fn finetune_steps(model: &ModelConfig, run: &Run, limit: Duration) -> Result<Line> {
    let source = Noise::new(model.window);
    let n = run.batch * STEPS;
    let fold = Fold {
        name: "bench".into(),
        train: (0..n).collect(),
        validation: Vec::new(),
        test: Vec::new(),
        unused: Vec::new(),
    };
    let data = Labelled {
        source: &source,
        windows: (0..n).collect(),
        labels: (0..n).map(|i| i % 2 == 0).collect(),
        split: Split {
            protocol: Protocol::LeakingWindows { k: 1 },
            seed: 1,
            folds: vec![fold],
            warnings: Vec::new(),
        },
        fingerprint: "bench".into(),
    };
    let settings = FinetuneSettings {
        model: model.clone(),
        run: run.clone(),
        augment: Augment { shift: 0, noise: 0.0, scale: 0.0 },
        balance: true,
        patience: None,
        encoder_rate: 1.0,
        final_model: false,
    };
    let scratch = Scratch::new()?;
    let mut clock = Clock::new(limit);
    let initial = |layout: &crate::graph::Layout| Ok((layout.init(1), Vec::new()));
    let end = train::finetune(&settings, &data, &initial, &scratch.0, false, &mut |e: &Event| clock.event(e));
    let graph = nn::classify(model, 1, 1.0)?.graph;
    Ok(Line {
        what: "finetune",
        threads: run.threads,
        batch: run.batch,
        time: clock.timing(end)?,
        windows: run.batch,
        flops: total_flops(&graph, true),
    })
}

fn outputs(
    what: &'static str,
    config: &ModelConfig,
    task: Task,
    threads: usize,
    batch: usize,
    limit: Duration,
) -> Result<Line> {
    let classify = matches!(task, Task::Classifier { .. });
    let graph =
        if classify { nn::classify(config, 1, 1.0)?.graph } else { nn::reconstruct(config, 1)?.graph };
    let model = Model::init(config.clone(), task, 1)?.with_threads(threads);
    let source = Noise::new(config.window);
    let mut windows = vec![0.0; batch * config.window];
    for (i, w) in windows.chunks_exact_mut(config.window).enumerate() {
        source.read(i, w)?;
    }
    let masks = vec![false; windows.len()];
    let (begin, mut repetitions) = (Instant::now(), Vec::new());
    let clean = |r: &[(f64, bool)]| r.iter().filter(|r| r.1).count();
    let mut warm = false;
    while repetitions.is_empty() || (clean(&repetitions) < WANTED && begin.elapsed() < limit) {
        let (waited, start) = (measure::waited_by_process(), Instant::now());
        std::hint::black_box(if classify {
            model.predict(&windows)?
        } else {
            model.reconstruct(&windows, &masks)?
        });
        let seconds = start.elapsed().as_secs_f64();
        let lost = measure::waited_by_process().zip(waited).map_or(0, |(now, then)| now.saturating_sub(then));
        if warm {
            repetitions.push((seconds, lost as f64 <= measure::CLEAN * seconds * 1e9));
        }
        warm = true;
    }
    let time = Timing::of(&repetitions).ok_or_else(|| Error::usage("nothing was timed"))?;
    Ok(Line { what, threads, batch, time, windows: batch, flops: total_flops(&graph, false) })
}

/// FLOPs of a program's forward pass, and of its backward pass if `train`.
fn total_flops(graph: &Graph, train: bool) -> f64 {
    graph.ids().map(|id| graph.flops(id)).map(|(f, b)| f + if train { b } else { 0 }).sum::<u64>() as f64
}

/// The median time of every operation in a pre-training pass over `group` windows, on one thread, dropout on.
fn operations(model: &ModelConfig, isa: Isa, group: usize, limit: Duration) -> Result<Vec<OpLine>> {
    let p = nn::pretrain(model, group, mean_picks(model))?;
    let plan = Arc::new(Plan::new(&p.graph, Want::training(p.loss))?);
    let mut prepared = Prepared::new(&p.graph, &plan, isa);
    let mut exec: Exec<f32> = Exec::with_isa(Arc::clone(&p.graph), plan, isa);
    exec.set_dropout(true);
    exec.set_key(1, 0, 0);
    let noise = Noise::new(model.window);
    let samples = exec.input_mut(p.samples)?;
    for (i, w) in samples.chunks_exact_mut(model.window).enumerate() {
        noise.read(i, w)?;
    }
    exec.input_mut(p.mask)?.fill(1.0);
    let first = usize::from(model.cls);
    let picks = p.graph.shape(p.rows).last();
    let rows: Vec<u32> =
        (0..group).flat_map(|_| (0..picks).map(|i| (first + i * model.tokens() / picks) as u32)).collect();
    exec.set_index(p.rows, &rows)?;
    let params = p.graph.layout().init(1);
    // Once per step of many windows, as in training: not timed.
    prepared.update(&params);
    let aids = Aids::prepared(&prepared);
    let mut grads = vec![0.0f32; params.len()];
    let n = p.graph.nodes().len();
    let mut times = vec![[const { Vec::new() }; 2]; n];
    let (begin, mut rounds) = (Instant::now(), 0);
    while rounds < 3 || (rounds < 3 * WANTED && begin.elapsed() < limit) {
        let mut last = Instant::now();
        exec.forward_watched(&params, aids, &mut |id| {
            times[id.index()][0].push(last.elapsed().as_secs_f64());
            last = Instant::now();
        });
        let mut last = Instant::now();
        exec.backward_watched(&params, aids, &[1e-3], &mut grads, &mut |id| {
            times[id.index()][1].push(last.elapsed().as_secs_f64());
            last = Instant::now();
        });
        rounds += 1;
    }
    let median = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or(0.0)
    };
    let mut lines = Vec::new();
    for id in p.graph.ids() {
        let node = p.graph.node(id);
        let seconds = times[id.index()].each_mut().map(median);
        let (forward, backward) = p.graph.flops(id);
        let elements = p.graph.shape(id).elements()
            + node.op.inputs().map(|i| p.graph.shape(i).elements()).sum::<usize>();
        if seconds != [0.0; 2] && forward + backward > 0 {
            lines.push(OpLine {
                name: node.label.clone(),
                kind: node.op.kind(),
                seconds,
                flops: [forward as f64, backward as f64],
                bytes: (elements * size_of::<f32>()) as f64,
            });
        }
    }
    Ok(lines)
}

fn as_text(preset: &str, machine: &Machine, lines: &[Line], operations: &[OpLine]) -> String {
    let mut t = format!(
        "model {preset}; {}: FMA peak {:.1} GFLOP/s on one thread, {:.1} on {}; memory {:.1} GB/s on one thread\n",
        machine.isa, machine.peak, machine.peak_all, machine.cores, machine.bandwidth
    );
    // Writing to a String cannot fail.
    if !lines.is_empty() {
        let _ = writeln!(
            t,
            "\n{:<12} {:>7} {:>6} {:>11} {:>10} {:>9} {:>8} {:>7}",
            "what", "threads", "batch", "ms/window", "windows/s", "GFLOP/s", "of peak", "clean"
        );
    }
    for l in lines {
        let (per_window, rate) = (l.per_window(), l.flops / l.per_window() / 1e9);
        let _ = writeln!(
            t,
            "{:<12} {:>7} {:>6} {:>11.2} {:>10.1} {:>9.1} {:>7.1}% {:>4}/{}",
            l.what,
            l.threads,
            l.batch,
            1e3 * per_window,
            1.0 / per_window,
            rate,
            100.0 * rate / machine.peak_of(l.threads),
            l.time.clean,
            l.time.total
        );
    }
    if !operations.is_empty() {
        let total: f64 = operations.iter().map(|o| o.seconds[0] + o.seconds[1]).sum();
        let _ = writeln!(
            t,
            "\noperations of a pre-training pass, one thread: {:.1} ms\n{:<34} {:<14} {:>9} {:>7} {:>9} {:>7} {:>7}",
            1e3 * total,
            "operation",
            "kind",
            "fwd ms",
            "peak",
            "bwd ms",
            "peak",
            "share"
        );
        for o in operations.iter().filter(|o| o.seconds[0] + o.seconds[1] >= 0.002 * total) {
            let [f, b] = [0, 1].map(|i| {
                if o.seconds[i] > 0.0 { o.flops[i] / o.seconds[i] / 1e7 / machine.peak } else { 0.0 }
            });
            let _ = writeln!(
                t,
                "{:<34} {:<14} {:>9.2} {:>6.0}% {:>9.2} {:>6.0}% {:>6.1}%",
                o.name,
                format!("{:?}", o.kind),
                1e3 * o.seconds[0],
                f,
                1e3 * o.seconds[1],
                b,
                100.0 * (o.seconds[0] + o.seconds[1]) / total
            );
        }
    }
    t
}

impl Line {
    fn per_window(&self) -> f64 {
        self.time.seconds / self.windows as f64
    }
}

impl Machine {
    /// The peak of this many threads; between one and all, in proportion.
    fn peak_of(&self, threads: usize) -> f64 {
        match threads {
            1 => self.peak,
            t if t >= self.cores => self.peak_all,
            t => self.peak_all * t as f64 / self.cores as f64,
        }
    }
}

fn as_json(args: &Args, machine: &Machine, lines: &[Line], operations: &[OpLine]) -> serde_json::Value {
    serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "preset": args.preset,
        "isa": machine.isa.to_string(),
        "cores": machine.cores,
        "peak_gflops_one_thread": machine.peak,
        "peak_gflops_all_cores": machine.peak_all,
        "memory_gbytes_per_s_one_thread": machine.bandwidth,
        "jobs": lines.iter().map(|l| serde_json::json!({
            "what": l.what, "threads": l.threads, "batch": l.batch, "seconds_per_window": l.per_window(),
            "best_seconds_per_window": l.time.best / l.windows as f64, "flops_per_window": l.flops,
            "gflops": l.flops / l.per_window() / 1e9, "clean": l.time.clean, "total": l.time.total,
        })).collect::<Vec<_>>(),
        "operations": operations.iter().map(|o| serde_json::json!({
            "name": o.name, "kind": format!("{:?}", o.kind), "forward_seconds": o.seconds[0],
            "backward_seconds": o.seconds[1], "forward_flops": o.flops[0], "backward_flops": o.flops[1],
            "forward_bytes": o.bytes,
        })).collect::<Vec<_>>(),
    })
}

fn plot(machine: &Machine, operations: &[OpLine]) -> String {
    let name = format!("{} FMA, one thread", machine.isa);
    let total: f64 = operations.iter().map(|o| o.seconds[0]).sum();
    // The small ones cost nothing and would hide the others' names.
    let shown: Vec<(String, &OpLine)> = operations
        .iter()
        .filter(|o| o.seconds[0] > 0.005 * total)
        .map(|o| (format!("{} {:?}", o.name.trim_start_matches("transformer.layers."), o.kind), o))
        .collect();
    let points: Vec<RooflinePoint<'_>> = shown
        .iter()
        .map(|(label, o)| RooflinePoint {
            label,
            flop_per_byte: o.flops[0] / o.bytes,
            gflops: o.flops[0] / o.seconds[0] / 1e9,
        })
        .collect();
    roofline(&Roofline {
        title: "Forward operations of a pre-training pass (those above half a percent of its time)",
        peaks: &[Peak { name: &name, gflops: machine.peak }],
        bandwidths: &[Bandwidth { name: "memory", gbytes_per_s: machine.bandwidth }],
        points: &points,
    })
    .into_string()
}
