//! Running a model: one window at a time, in memory that is made once, on as many threads as wanted.

use std::sync::{Arc, Mutex, MutexGuard};

use super::{Model, Task};
use crate::error::{Error, Result};
use crate::graph::{Exec, ExecContext, Graph, Id, OutputRequest, PackedParams, Plan, ThreadPool};
use crate::nn;

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

/// A program, its parameters and its memory. [`Session::run`] allocates nothing. A copy shares the parameters.
#[derive(Clone, Debug)]
pub struct Session {
    kind: Output,
    exec: Exec<f32>,
    weights: Arc<PackedParams<f32>>,
    samples: Id,
    output: Id,
    window: usize,
    width: usize,
}

impl Session {
    pub(super) fn new(model: &Model, output: Output) -> Result<Self> {
        super::head::refuse_session(model, output)?;
        // Nothing is dropped when a model runs, and a dropout switched off would copy its input.
        let config = &model.config.without_dropout();
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
            (Output::Logit, Task::Pretrained | Task::Encoder) => {
                return Err(Error::usage("this model was only pre-trained: it has no classifier").remedy(
                    "fine-tune it on labelled windows first (`heartlore finetune --init DIR ...`), or use its \
                     features (`heartlore embed`)",
                ));
            }
            (Output::Reconstruction, Task::Encoder) => {
                return Err(Error::usage(
                    "this model has no reconstruction head: masking was not its objective",
                )
                .remedy("pre-train with `heartlore pretrain --objective masked=1`, or use its features"));
            }
            (Output::Reconstruction, Task::Classifier { .. }) => {
                return Err(Error::usage("this model is a classifier: it has no reconstruction head")
                    .remedy("use the pre-trained model it was made from"));
            }
        };
        let width = graph.shape(result).elements();
        let plan = Plan::new(&graph, OutputRequest::values(&[result]))?.with_precision(model.precision);
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
        let values = model.shared_weights_for(graph.layout())?;
        let exec = Exec::new(graph, Arc::new(plan));
        let weights = PackedParams::new(exec.graph(), exec.plan(), exec.isa(), values);
        Ok(Self {
            kind: output,
            exec,
            weights: Arc::new(weights),
            samples,
            output: result,
            window: config.window,
            width,
        })
    }

    /// The same with memory of its own.
    fn another(&self) -> Self {
        Self { exec: self.exec.clone_workspace(), weights: Arc::clone(&self.weights), ..*self }
    }

    /// Values that [`Session::run`] gives per window.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes of memory, without the parameters (flat and packed), which copies share.
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
        self.pass(None, window, mask)
    }

    /// As [`Session::run`] on several threads: the same bits in less time. The first run with a team makes scratch for its
    /// threads.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_on(&mut self, team: &ThreadPool, window: &[f32]) -> Result<&[f32]> {
        self.pass(Some(team), window, None)
    }

    fn pass(&mut self, team: Option<&ThreadPool>, window: &[f32], mask: Option<&[bool]>) -> Result<&[f32]> {
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
        let (exec, weights) = (&mut self.exec, &self.weights);
        let context = ExecContext { packed: Some(weights.packed()), pool: team };
        match team {
            Some(pool) => pool.run(|| exec.forward_with(weights.values(), context)),
            None => exec.forward_with(weights.values(), context),
        }
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

/// What is left of earlier runs: threads, and sessions with their memory.
#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<(Option<ThreadPool>, Vec<Session>)>);

/// A copy of a model starts without.
impl Clone for Idle {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Idle {
    fn get(&self) -> MutexGuard<'_, (Option<ThreadPool>, Vec<Session>)> {
        match self.0.lock() {
            Ok(idle) => idle,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}

/// How many of `n` windows are shared out among `threads` threads, each computing whole windows; the rest is computed one
/// after the other, each by all of them in `share` of its time on one.
///
/// Of three windows on two threads the third is better computed by both. Where nearly every thread would have a window of
/// its own in the last round, or the model is too small to be cut, it is better to share them out too: parts have to wait
/// for each other at the end of every operation, which costs about a tenth. On two cores of an Intel CPU with AVX-512,
/// three windows of `paper` take less than two rounds of whole windows would, twice the time of one.
fn shared_out(n: usize, threads: usize, share: f64) -> usize {
    let last = n % threads;
    if 1.1 * share * last as f64 >= 1.0 { n } else { n - last }
}

impl Model {
    /// Prepares the weights for `output` now, which its first run would do.
    ///
    /// # Errors
    /// As [`Model::session`].
    pub fn warm(&self, output: Output) -> Result<()> {
        let session = self.session(output)?;
        self.idle.get().1.push(session);
        Ok(())
    }

    /// How many threads [`Model::with_threads`] stands for.
    pub fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            t => t,
        }
    }

    /// Runs all `windows`: whole rounds shared out, each thread a contiguous part; what is left, one window after the
    /// other, on all threads.
    ///
    /// Every window is computed alone and a team leaves no trace in the numbers, so neither do the threads.
    pub(super) fn run(&self, output: Output, windows: &[f32], masks: Option<&[bool]>) -> Result<Vec<f32>> {
        let samples = self.config.window;
        if !windows.len().is_multiple_of(samples) {
            return Err(Error::shape(format!("{} samples are no whole windows of {samples}", windows.len()))
                .remedy("hand over [n, window] values, row by row"));
        }
        let n = windows.len() / samples;
        let threads = self.threads();
        let (team, mut sessions) = {
            let mut idle = self.idle.get();
            let team = idle.0.take_if(|team| team.threads() == threads);
            let fits = |s: &mut Session| s.kind == output;
            (team, idle.1.extract_if(.., fits).collect::<Vec<_>>())
        };
        let team = if threads == 1 || n == 0 {
            None
        } else {
            Some(team.map_or_else(|| ThreadPool::new(threads), Ok)?)
        };
        if sessions.is_empty() {
            sessions.push(self.session(output)?);
        }
        let width = sessions[0].width;
        let mut out = vec![0.0; n * width];
        let work = |session: &mut Session, team: Option<&ThreadPool>, i: usize, row: &mut [f32]| {
            let range = i * samples..(i + 1) * samples;
            let mask = masks.map(|m| &m[range.clone()]);
            let values = session.pass(team, &windows[range], mask).map_err(|e| place_window(e, i))?;
            row.copy_from_slice(values);
            Ok(())
        };
        let exec = &sessions[0].exec;
        let all = shared_out(n, threads, (exec.parallel_fraction(threads) + exec.wake_fraction()).min(1.0));
        let result = match &team {
            // Waking a thread for a single window that is not cut would take as long as the window of a small model.
            Some(team) if (n, all) != (1, 1) => {
                let parts = threads.min(all);
                while sessions.len() < parts {
                    let another = sessions[0].another();
                    sessions.push(another);
                }
                let (shared, rest) = out.split_at_mut(all * width);
                let mut items = Vec::new();
                let mut shared = shared;
                for (p, session) in sessions.iter_mut().enumerate().take(parts) {
                    let (first, end) = (all * p / parts, all * (p + 1) / parts);
                    let (rows, tail) = shared.split_at_mut((end - first) * width);
                    shared = tail;
                    items.push((session, first, rows, Ok(())));
                }
                team.each(&mut items, |_, (session, first, rows, result)| {
                    let mut rows = (*first..).zip(rows.chunks_exact_mut(width));
                    *result = rows.try_for_each(|(i, row)| work(session, None, i, row));
                });
                // The error of the first window is reported, whichever thread met one first.
                let result = items.into_iter().try_for_each(|item| item.3);
                let session = &mut sessions[0];
                result.and_then(|()| {
                    let mut rows = (all..).zip(rest.chunks_exact_mut(width));
                    rows.try_for_each(|(i, row)| work(session, Some(team), i, row))
                })
            }
            _ => {
                let mut rows = out.chunks_exact_mut(width).enumerate();
                rows.try_for_each(|(i, row)| work(&mut sessions[0], None, i, row))
            }
        };
        let mut idle = self.idle.get();
        idle.0 = team.or(idle.0.take());
        idle.1.append(&mut sessions);
        idle.1.truncate(2 * threads.max(1));
        result.map(|()| out)
    }
}

/// Says which window an error is about.
fn place_window(e: Error, i: usize) -> Error {
    let text = format!("window {i}: {}", e.to_string().replace("\n  remedy: ", "; "));
    Error::new(e.kind(), text)
}
