//! Running a model: one window at a time, in memory that is made once, on as many threads as wanted.

use std::sync::Arc;

use super::{Model, Task};
use crate::graph::{Exec, Graph, Id, Plan, Want};
use crate::nn;
use crate::{Error, Result};

/// Most bytes one session may take: a configuration that asks for more is damaged or needs another machine.
const MAX_BYTES: u64 = 1 << 35;

/// What is wanted of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// The log-odds of the positive state; one value per window.
    Logit,
    /// The pooled features; `width` values per window.
    Features,
    /// The reconstruction of every point; `window` values per window.
    Reconstruction,
}

/// A program, its parameters and its memory. [`Session::run`] allocates nothing.
#[derive(Clone, Debug)]
pub struct Session {
    exec: Exec<f32>,
    weights: Arc<Vec<f32>>,
    samples: Id,
    output: Id,
    window: usize,
    width: usize,
}

impl Session {
    pub(super) fn new(model: &Model, output: Output) -> Result<Self> {
        let config = &model.config;
        let (graph, samples, result): (Arc<Graph>, Id, Id) = match (output, &model.task) {
            (Output::Logit, Task::Classifier { .. }) => {
                let p = nn::classify(config, 1, 1.0)?;
                (p.graph, p.samples, p.logits)
            }
            (Output::Features, _) => {
                let p = nn::embed(config, 1)?;
                (p.graph, p.samples, p.features)
            }
            (Output::Reconstruction, Task::Pretrained) => {
                let p = nn::reconstruct(config, 1)?;
                (p.graph, p.samples, p.output)
            }
            (Output::Logit, Task::Pretrained) => {
                return Err(Error::usage("this model was only pre-trained: it has no classifier").remedy(
                    "fine-tune it on labelled windows first (`heartlore finetune --init DIR ...`), or use its \
                     features (`heartlore embed`)",
                ));
            }
            (Output::Reconstruction, Task::Classifier { .. }) => {
                return Err(Error::usage("this model is a classifier: it has no reconstruction head")
                    .remedy("use the pre-trained model it was made from"));
            }
        };
        let width = graph.shape(result).elements();
        let plan = Plan::new(&graph, Want::values(&[result]))?;
        let bytes = (plan.memory().arena as u64).saturating_mul(size_of::<f32>() as u64);
        if bytes > MAX_BYTES {
            return Err(Error::usage(format!(
                "one window of {} samples takes {:.1} GiB of memory, more than the {} GiB allowed",
                config.window,
                bytes as f64 / f64::from(1 << 30),
                MAX_BYTES >> 30
            ))
            .remedy("use a shorter window or longer strides"));
        }
        let weights = Arc::new(model.weights_for(graph.layout())?);
        Ok(Self {
            exec: Exec::new(graph, Arc::new(plan)),
            weights,
            samples,
            output: result,
            window: config.window,
            width,
        })
    }

    /// Values that [`Session::run`] gives per window.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes of memory, without the parameters.
    pub fn bytes(&self) -> usize {
        self.exec.bytes()
    }

    /// Runs one window and lends the result until the next run.
    ///
    /// # Errors
    /// A window of another length, or a sample that is not finite.
    pub fn run(&mut self, window: &[f32]) -> Result<&[f32]> {
        self.run_masked(window, None)
    }

    /// As [`Session::run`], with the points where `mask` is true set to 0.
    ///
    /// # Errors
    /// As [`Session::run`]; also for a mask of another length.
    pub fn run_masked(&mut self, window: &[f32], mask: Option<&[bool]>) -> Result<&[f32]> {
        if window.len() != self.window || mask.is_some_and(|m| m.len() != window.len()) {
            return Err(Error::shape(format!(
                "the model takes windows of {} samples, given {} (mask {})",
                self.window,
                window.len(),
                mask.map_or(window.len(), <[bool]>::len)
            )));
        }
        check_finite(window)?;
        let slot = self.exec.input_mut(self.samples)?;
        slot.copy_from_slice(window);
        if let Some(mask) = mask {
            slot.iter_mut().zip(mask).filter(|(_, hidden)| **hidden).for_each(|(x, _)| *x = 0.0);
        }
        self.exec.forward(&self.weights);
        Ok(self.exec.value(self.output))
    }
}

fn check_finite(window: &[f32]) -> Result<()> {
    match window.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(i) => Err(Error::data(format!("the window holds {} there", window[i]))
            .at(format!("sample {i}"))
            .remedy("cut windows from stretches without missing samples")),
    }
}

impl Model {
    /// Runs all `windows`, each thread a contiguous part.
    pub(super) fn run(&self, output: Output, windows: &[f32], masks: Option<&[bool]>) -> Result<Vec<f32>> {
        let session = self.session(output)?;
        let samples = self.config.window;
        if !windows.len().is_multiple_of(samples) {
            return Err(Error::shape(format!("{} samples are no whole windows of {samples}", windows.len()))
                .remedy("hand over [n, window] values, row by row"));
        }
        let n = windows.len() / samples;
        let mut out = vec![0.0; n * session.width];
        let threads = match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            t => t,
        };
        let part = n.div_ceil(threads.clamp(1, n.max(1))).max(1);
        // Every window is computed alone, so the parts, and with them the threads, leave no trace in the numbers.
        let work = |mut session: Session, first: usize, out: &mut [f32]| -> Result<()> {
            for (i, row) in (first..).zip(out.chunks_exact_mut(session.width)) {
                let range = i * samples..(i + 1) * samples;
                let mask = masks.map(|m| &m[range.clone()]);
                let values = session.run_masked(&windows[range], mask).map_err(|e| place_window(e, i))?;
                row.copy_from_slice(values);
            }
            Ok(())
        };
        if part >= n {
            work(session, 0, &mut out)?;
            return Ok(out);
        }
        let width = session.width;
        let results = std::thread::scope(|scope| {
            let mut handles = Vec::new();
            for (t, rows) in out.chunks_mut(part * width).enumerate() {
                let (session, work) = (session.clone(), &work);
                let run = move || work(session, t * part, rows);
                let handle = std::thread::Builder::new().spawn_scoped(scope, run);
                handles.push(handle.map_err(|e| {
                    Error::new(crate::error::Kind::Io, format!("no thread could be started: {e}"))
                        .caused_by(e)
                        .remedy("use fewer threads")
                })?);
            }
            let join = |h: std::thread::ScopedJoinHandle<'_, Result<()>>| {
                h.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            Ok(handles.into_iter().map(join).collect::<Vec<_>>())
        })?;
        // The error of the first window is reported, whichever thread met one first.
        results.into_iter().collect::<Result<()>>()?;
        Ok(out)
    }
}

/// Says which window an error is about.
fn place_window(e: Error, i: usize) -> Error {
    let text = format!("window {i}: {}", e.to_string().replace("\n  remedy: ", "; "));
    Error::new(e.kind(), text)
}
