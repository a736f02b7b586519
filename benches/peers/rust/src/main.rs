//! Times candle or burn at one job and prints one line of JSON, as `peer.py` does for the Python peers.
//!
//! Threads are those of `RAYON_NUM_THREADS`, which both frameworks read. With `--output` nothing is timed: the outputs for
//! `--input` are written, for training jobs the losses of three steps (`check.py` compares them).

mod burned;
mod candled;
mod weights;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use candle_core::Tensor;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

pub const WINDOW: usize = 1280;
pub const WIDTH: usize = 256;
pub const HEADS: usize = 2;
pub const HIDDEN: usize = 1024;
pub const LAYERS: usize = 2;
pub const EPS: f64 = 1e-5;
pub const RATE: f64 = 1e-4;
/// Inputs, outputs and width of every convolution.
pub const CONVOLUTIONS: [(usize, usize, usize); 3] = [(1, 64, 65), (64, 128, 33), (128, WIDTH, 17)];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Job {
    Pretrain,
    Finetune,
    Predict,
    Reconstruct,
}

impl Job {
    pub fn trains(self) -> bool {
        matches!(self, Self::Pretrain | Self::Finetune)
    }
    /// Whether the head reconstructs the window; otherwise it classifies by the CLS row.
    pub fn reconstructs(self) -> bool {
        matches!(self, Self::Pretrain | Self::Reconstruct)
    }
}

/// What is to be done, and the numbers to do it with.
pub struct Task {
    pub job: Job,
    pub batch: usize,
    pub dropout: f64,
    pub attention_dropout: f64,
    pub head_dropout: f64,
    /// The last layer computes the CLS row alone.
    pub pruned: bool,
    pub weights: weights::Weights,
    /// Windows `[batch, WINDOW]`.
    pub x: Vec<f32>,
}

impl Task {
    /// 1 where a point is hidden: every second block of 20 points, all windows alike.
    pub fn mask(&self) -> Vec<f32> {
        (0..self.batch * WINDOW).map(|i| ((i % WINDOW) / 20 % 2) as f32).collect()
    }
    pub fn labels(&self) -> Vec<f32> {
        (0..self.batch).map(|i| (i % 2) as f32).collect()
    }
}

/// One repetition: outputs of an inference job, the loss of a training step.
pub type Call = Box<dyn FnMut() -> Result<Vec<f32>>>;

/// sin and cos of position times frequency, `[WINDOW + 1, WIDTH]`, interleaved.
pub fn positions() -> Vec<f32> {
    let mut table = Vec::with_capacity((WINDOW + 1) * WIDTH);
    for row in 0..=WINDOW {
        for i in (0..WIDTH).step_by(2) {
            let angle = row as f64 * 1e4f64.powf(-(i as f64) / WIDTH as f64);
            table.extend([angle.sin() as f32, angle.cos() as f32]);
        }
    }
    table
}

/// Nanoseconds that this process's threads have waited for a CPU.
fn waited() -> u64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    tasks
        .flatten()
        .filter_map(|t| std::fs::read_to_string(t.path().join("schedstat")).ok())
        .filter_map(|s| s.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let n = times.len();
    (times[(n - 1) / 2] + times[n / 2]) / 2.0
}

fn time(call: &mut Call, warm: usize, seconds: f64, batch: usize) -> Result<String> {
    for _ in 0..warm {
        call()?;
    }
    let (begin, mut repetitions) = (Instant::now(), Vec::new());
    let clean = |r: &[(f64, bool)]| r.iter().filter(|r| r.1).map(|r| r.0).collect::<Vec<f64>>();
    while repetitions.is_empty() || (clean(&repetitions).len() < 9 && begin.elapsed().as_secs_f64() < seconds)
    {
        let (wait, start) = (waited(), Instant::now());
        call()?;
        let took = start.elapsed().as_secs_f64();
        repetitions.push((took, (waited() - wait) as f64 <= 0.02e9 * took));
    }
    let undisturbed = clean(&repetitions);
    let (count, total) = (undisturbed.len(), repetitions.len());
    let times = if count > 0 { undisturbed } else { repetitions.iter().map(|r| r.0).collect() };
    Ok(format!(
        "{{\"seconds_per_window\": {}, \"clean\": {count}, \"total\": {total}}}",
        median(times) / batch as f64
    ))
}

fn run() -> Result<()> {
    let (mut peer, mut job, mut batch, mut seconds) = (String::new(), None, 1, 6.0);
    let (mut attention_dropout, mut pruned, mut files) = (0.1, false, [None, None, None]);
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--peer" => peer = value()?,
            "--job" => {
                job = Some(match value()?.as_str() {
                    "pretrain" => Job::Pretrain,
                    "finetune" => Job::Finetune,
                    "predict" => Job::Predict,
                    "reconstruct" => Job::Reconstruct,
                    other => return Err(format!("no job {other}").into()),
                });
            }
            "--batch" => batch = value()?.parse()?,
            "--seconds" => seconds = value()?.parse()?,
            "--attention-dropout" => attention_dropout = value()?.parse()?,
            "--pruned" => pruned = true,
            "--weights" => files[0] = Some(value()?),
            "--input" => files[1] = Some(value()?),
            "--output" => files[2] = Some(value()?),
            other => return Err(format!("no flag {other}").into()),
        }
    }
    let job = job.ok_or("--job is missing")?;
    let [weights, input, output] = files;
    let x = match input {
        Some(path) => Tensor::read_npy(path)?.flatten_all()?.to_vec1()?,
        None => weights::noise(batch * WINDOW, 1),
    };
    let checking = output.is_some();
    let task = Task {
        job,
        batch: x.len() / WINDOW,
        dropout: if checking { 0.0 } else { 0.1 },
        attention_dropout: if checking { 0.0 } else { attention_dropout },
        head_dropout: if checking { 0.0 } else { 0.3 },
        pruned,
        weights: weights::Weights::new(weights)?,
        x,
    };
    let batch = task.batch;
    let mut call = match peer.as_str() {
        "candle" => candled::prepare(&task)?,
        "burn" => burned::prepare(&task)?,
        other => return Err(format!("no peer {other:?}: candle or burn").into()),
    };
    drop(task);
    match output {
        Some(path) => {
            let mut y = call()?;
            if job.trains() {
                y.extend(call()?);
                y.extend(call()?);
            }
            Tensor::new(y, &candle_core::Device::Cpu)?.write_npy(path)?;
        }
        None => println!("{}", time(&mut call, if job.trains() { 1 } else { 2 }, seconds, batch)?),
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("heartlore-peers: {e}");
            ExitCode::FAILURE
        }
    }
}
