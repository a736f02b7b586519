//! From the start of the program to its end: `heartlore predict` on one recording, beside the bare passes of its windows.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::jobs::{Scratch, timed};
use super::{Start, WANTED, classifier};
use crate::cli::options::Precision;
use crate::cli::simulate::write_recording;
use crate::data::prepare::PrepareSettings;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::{BandPass, Preprocessing, QualityGate, RecordingOptions};
use crate::nn::ModelConfig;
use crate::signal::simulate::SimulatedStudy;
use heartlore_kernels::measure::Timing;

/// Length of the recording, and its sampling rate.
const SECONDS: f64 = 600.0;
const RATE_HZ: f64 = 256.0;

/// Ten minutes of simulated ECG in a CSV file, and a model with random weights: the command in a process of its own, in
/// turn with its windows through a model that is loaded and warm.
pub(super) fn start(
    config: &ModelConfig,
    precision: Precision,
    threads: usize,
    limit: Duration,
) -> Result<Start> {
    let scratch = Scratch::new()?;
    let (dir, file) = (scratch.0.join("model"), scratch.0.join("recording.csv"));
    let mut model =
        Model::init(config.clone(), classifier(), 1)?.with_threads(threads).with_precision(precision.0);
    model.preprocessing = Some(preprocessing(config));
    model.save(&dir)?;
    let study = SimulatedStudy {
        subjects: 1,
        trials: 2,
        trial_s: SECONDS,
        fs_hz: RATE_HZ,
        ..SimulatedStudy::default()
    };
    write_recording(&file, RATE_HZ, &study.trial(0, 0)?.ecg.signal_mv)?;
    let values = model.prepare_recording(&file, &RecordingOptions::default())?.values;
    let program =
        std::env::current_exe().map_err(|e| Error::usage(format!("this program has no path: {e}")))?;

    let (begin, mut whole, mut bare) = (Instant::now(), Vec::new(), Vec::new());
    let mut warm = false;
    while !warm || whole.is_empty() || (whole.len() < WANTED && begin.elapsed() < limit) {
        let a = timed(|| predict(&program, &file, &dir, precision, threads))?;
        let b = timed(|| model.predict(&values))?;
        // The first round reads files that are not in the system's cache yet, and prepares the weights here.
        if warm {
            whole.push(a);
            bare.push(b);
        }
        warm = true;
    }
    let timing = |r: &[_]| Timing::of(r).ok_or_else(|| Error::usage("nothing was timed"));
    let windows = values.len() / config.window;
    Ok(Start { precision, threads, windows, whole: timing(&whole)?, bare: timing(&bare)? })
}

fn predict(program: &Path, file: &Path, model: &Path, precision: Precision, threads: usize) -> Result<()> {
    let mut command = Command::new(program);
    command.arg("predict").arg(file).arg("--model").arg(model);
    command.args([
        "--json",
        "--quiet",
        "--precision",
        &precision.to_string(),
        "--threads",
        &threads.to_string(),
    ]);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Error::usage(format!("cannot run {}: {e}", program.display())))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
    Err(Error::usage(format!("heartlore predict failed: {said}")))
}

/// What `prepare` does by default, in windows of the model's length.
fn preprocessing(config: &ModelConfig) -> Preprocessing {
    let usual = PrepareSettings::default();
    Preprocessing {
        rate_hz: usual.rate_hz,
        window: config.window,
        hop: config.window,
        filter: usual.filter.map(|f| BandPass {
            order: f.order,
            low_hz: f.low_hz,
            high_hz: f.high_hz,
            zero_phase: f.zero_phase,
        }),
        normalisation: usual.normalisation,
        unit: "z-score".into(),
        quality_gate: usual.quality.map_or(QualityGate::Off, QualityGate::On),
    }
}
