//! What is timed: training steps, prediction, operations one by one, growth with the window.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Flops, Growth, Line, OpLine, Precision, WANTED};
use crate::data::batch::Sampling;
use crate::data::source::WindowSource;
use crate::data::split::{Fold, Protocol, Split};
use crate::error::{Error, Result};
use crate::graph::{Exec, ExecContext, Graph, MatmulPrecision, OutputRequest, PackedWeights, Plan};
use crate::model::Model;
use crate::model::{Output, Task};
use crate::nn::{self, ModelConfig};
use crate::train::{
    self, Augment, Control, Event, FinetuneSettings, Labelled, PretrainData, PretrainSettings, Run,
};
use heartlore_kernels::Isa;
use heartlore_kernels::measure::{self, Timing};
use heartlore_kernels::rng::Key;

/// More windows of noise than any run reaches: window i is a rotation of the first.
struct Noise(Vec<f32>);

/// Steps an epoch of [`Noise`] takes at most: more than are timed, and few enough that their order takes no memory.
const STEPS: usize = 2_000;

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
        // The first steps record programs and touch their memory for the first time.
        if self.steps > 1 && self.begin.elapsed() >= self.limit / 10 {
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
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Self> {
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

pub(super) fn pretrain_steps(model: &ModelConfig, run: &Run, limit: Duration) -> Result<Line> {
    let source = Noise::new(model.window);
    let data = PretrainData {
        source: &source,
        train: (0..run.batch * STEPS).collect(),
        sampling: Sampling::All,
        validation: Vec::new(),
        fingerprint: "bench".into(),
    };
    let augment = Augment::default();
    let settings = PretrainSettings { model: model.clone(), run: run.clone(), augment };
    let scratch = Scratch::new()?;
    let mut clock = Clock::new(limit);
    let end = train::pretrain(&settings, &data, &scratch.0, false, &mut |e: &Event| clock.event(e));
    let graph = nn::pretrain(model, 1, mean_picks(model))?.graph;
    Ok(steps("pretrain", run, clock.timing(end)?, &graph))
}

/// The line of a training job; `graph`: its program for one window.
fn steps(what: &'static str, run: &Run, time: Timing, graph: &Graph) -> Line {
    Line {
        what,
        precision: Precision(run.precision),
        threads: run.threads,
        batch: run.batch,
        time,
        windows: run.batch,
        flops: total_flops(graph, run.precision, true),
        peak_mib: None,
    }
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

pub(super) fn finetune_steps(model: &ModelConfig, run: &Run, limit: Duration) -> Result<Line> {
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
        labels: (0..n).map(|i| i % 2 == 0).collect::<Vec<_>>().into(),
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
        augment: Augment::default(),
        balance: true,
        patience: None,
        encoder_rate: 1.0,
        final_model: false,
        test_precision: None,
    };
    let scratch = Scratch::new()?;
    let mut clock = Clock::new(limit);
    let initial = |layout: &crate::graph::Layout| Ok((layout.init(1), Vec::new()));
    let end = train::finetune(&settings, &data, &initial, &scratch.0, false, &mut |e: &Event| clock.event(e));
    let graph = nn::classify(model, 1, 1.0)?.graph;
    Ok(steps("finetune", run, clock.timing(end)?, &graph))
}

/// Seconds, and whether this process hardly waited for a CPU; a child's waiting is not seen.
pub(super) fn timed<R>(f: impl FnOnce() -> Result<R>) -> Result<(f64, bool)> {
    let (waited, start) = (measure::waited_by_process(), Instant::now());
    std::hint::black_box(f()?);
    let seconds = start.elapsed().as_secs_f64();
    let lost = measure::waited_by_process().zip(waited).map_or(0, |(now, then)| now.saturating_sub(then));
    Ok((seconds, lost as f64 <= measure::CLEAN * seconds * 1e9))
}

pub(super) fn outputs(
    what: &'static str,
    config: &ModelConfig,
    task: Task,
    precision: Precision,
    threads: usize,
    batch: usize,
    limit: Duration,
) -> Result<Line> {
    let classify = matches!(task, Task::Classifier { .. });
    let graph =
        if classify { nn::classify(config, 1, 1.0)?.graph } else { nn::reconstruct(config, 1)?.graph };
    let model = Model::init(config.clone(), task, 1)?.with_threads(threads).with_precision(precision.0);
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
        let repetition =
            timed(|| if classify { model.predict(&windows) } else { model.reconstruct(&windows, &masks) })?;
        if warm {
            repetitions.push(repetition);
        }
        warm = true;
    }
    let time = Timing::of(&repetitions).ok_or_else(|| Error::usage("nothing was timed"))?;
    let flops = total_flops(&graph, precision.0, false);
    Ok(Line { what, precision, threads, batch, time, windows: batch, flops, peak_mib: None })
}

/// Full outputs of windows 1, 2, 4, 8 and 16 times as long as the model's, one thread.
pub(super) fn growth(model: &ModelConfig, precision: Precision, limit: Duration) -> Result<Vec<Growth>> {
    [1, 2, 4, 8, 16]
        .into_iter()
        .map(|times| {
            let config = ModelConfig { window: times * model.window, ..model.clone() };
            let line = outputs("growth", &config, Task::Pretrained, precision, 1, 1, limit)?;
            let bytes =
                Model::init(config.clone(), Task::Pretrained, 1)?.session(Output::Reconstruction)?.bytes();
            Ok(Growth { precision, samples: config.window, time: line.time, flops: line.flops, bytes })
        })
        .collect()
}

/// FLOPs really executed in a program's forward pass, and of its backward pass if `train`.
fn total_flops(graph: &Graph, precision: MatmulPrecision, train: bool) -> Flops {
    let of = |id| {
        let (forward, backward) = graph.executed_flops(id);
        Flops::of(&graph.node(id).op, precision, forward + if train { backward } else { 0 })
    };
    graph.ids().map(of).sum()
}

/// The median time of every operation in a pre-training pass over `group` windows, on one thread, dropout on.
pub(super) fn operations(
    model: &ModelConfig,
    precision: Precision,
    isa: Isa,
    group: usize,
    limit: Duration,
) -> Result<Vec<OpLine>> {
    let p = nn::pretrain(model, group, mean_picks(model))?;
    let plan = Arc::new(Plan::new(&p.graph, OutputRequest::training(p.loss))?.with_precision(precision.0));
    let mut prepared = PackedWeights::new(&p.graph, &plan, isa);
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
    let packed = prepared.update(&params);
    let aids = ExecContext::packed(packed);
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
        let (forward, backward) = p.graph.executed_flops(id);
        let elements = p.graph.shape(id).elements()
            + node.op.inputs().map(|i| p.graph.shape(i).elements()).sum::<usize>();
        if seconds != [0.0; 2] && forward + backward > 0 {
            lines.push(OpLine {
                precision,
                name: node.label.clone(),
                kind: node.op.kind(),
                seconds,
                flops: [forward, backward].map(|n| Flops::of(&node.op, precision.0, n)),
                bytes: (elements * size_of::<f32>()) as f64,
            });
        }
    }
    Ok(lines)
}
