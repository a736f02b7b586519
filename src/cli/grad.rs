//! `heartlore grad`: loss, outputs and every parameter's gradient at a point, for study and outside verification.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use heartlore_kernels::Real;

use super::windows;
use crate::checkpoint::dtype::Element;
use crate::checkpoint::{TensorView, safetensors};
use crate::cli::Context;
use crate::data::npy;
use crate::error::{Error, Result};
use crate::graph::{Exec, Layout, OutputRequest, Plan, Precision};
use crate::model::Model;
use crate::model::Task;
use crate::nn;

/// Flags of `grad`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  heartlore grad --model runs/pre/model --input x.npy --target x.npy --mask m.npy --out grads.safetensors
  heartlore grad --model runs/fine/model --input x.npy --target labels.npy --out grads.safetensors

A pre-trained model: input x, target t and mask m are [n, samples]; m is 1 where a point is hidden, else 0. The command
itself sets hidden points of x to 0. loss = sum m (y - t)^2 / sum m over all windows.
A classifier: target is [n], 1 for the positive state and 0 for the other. loss = mean over windows of the binary
cross-entropy on logits, positives weighted by --pos-weight (as torch.nn.BCEWithLogitsLoss(pos_weight=...)).

Dropout is off. The file holds `loss` (a scalar), `output` (reconstructions [n, samples] or logits [n]) and
`grad.NAME` for every parameter NAME, in its shape. There is no run directory: with --json the result holds every flag as
`settings`.")]
pub struct Args {
    /// Directory of a model.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Windows, [n, samples].
    #[arg(long, value_name = "X.npy")]
    pub input: PathBuf,
    /// True samples, n x samples (pre-trained), or n labels (classifier).
    #[arg(long, value_name = "T.npy")]
    pub target: PathBuf,
    /// 1 where a point is hidden, else 0, [n, samples] (pre-trained only).
    #[arg(long, value_name = "M.npy")]
    pub mask: Option<PathBuf>,
    /// Weight of positive windows (classifier only).
    #[arg(long, value_name = "W", default_value_t = 1.0)]
    pub pos_weight: f64,
    /// Compute in f64 instead of f32.
    #[arg(long)]
    pub double: bool,
    /// File to write; replaced if it exists.
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: PathBuf,
}

/// Everything the command works on.
struct Point {
    n: usize,
    x: Vec<f64>,
    target: Vec<f64>,
    /// Empty for a classifier.
    mask: Vec<bool>,
}

/// What the command finds.
struct Found<T> {
    loss: f64,
    output: Vec<T>,
    layout: Layout,
    gradients: Vec<T>,
}

/// Runs the command.
///
/// # Errors
/// Shapes that do not fit each other or the model; masks and labels other than 0 and 1; a mask that hides nothing.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let model = super::windows::load_model(&args.model, context)?;
    let point = match (model.task(), &args.mask) {
        (Task::Pretrained, Some(mask)) => pretrain_point(args, mask, model.config().window)?,
        (Task::Pretrained, None) => {
            return Err(super::bad_flag("mask", "a pre-trained model needs a mask")
                .remedy("give --mask m.npy, 1 where a point is hidden"));
        }
        (Task::Encoder, _) => {
            return Err(Error::usage("this model has features only: there is no loss to differentiate")
                .in_file(&args.model)
                .remedy("give a pre-trained model with a reconstruction head, or a classifier"));
        }
        (Task::Classifier { .. }, None) => classify_point(args, model.config().window)?,
        (Task::Classifier { .. }, Some(_)) => {
            return Err(super::bad_flag("mask", "a classifier has no mask").remedy("leave it out"));
        }
    };
    let (loss, parameters) = if args.double {
        compute::<f64>(args, &model, &point)?
    } else {
        compute::<f32>(args, &model, &point)?
    };
    let out = args.out.display().to_string();
    context.result(
        &format!("{out}: loss {loss}, gradients of {parameters} parameters\n"),
        || serde_json::json!({ "out": out, "loss": loss, "parameters": parameters, "windows": point.n, "settings": context.settings() }),
    )
}

/// Values that are all 0 or 1.
fn zeros_and_ones(values: &[f64], path: &Path, what: &str) -> Result<Vec<bool>> {
    match values.iter().position(|v| *v != 0.0 && *v != 1.0) {
        None => Ok(values.iter().map(|v| *v == 1.0).collect()),
        Some(i) => Err(Error::data(format!("{what} {i} is {}, not 0 or 1", values[i])).in_file(path)),
    }
}

fn same_count(n: usize, other: usize, path: &Path) -> Result<()> {
    if n == other && n > 0 {
        return Ok(());
    }
    Err(Error::shape(format!("{other} windows here, {n} in the input"))
        .in_file(path)
        .remedy("give one row per window"))
}

fn pretrain_point(args: &Args, mask_path: &Path, samples: usize) -> Result<Point> {
    let (n, x) = windows::of_npy(&args.input, samples, "windows")?;
    let (targets, target) = windows::of_npy(&args.target, samples, "targets")?;
    same_count(n, targets, &args.target)?;
    let (masks, mask) = windows::of_npy(mask_path, samples, "a mask")?;
    same_count(n, masks, mask_path)?;
    let mask = zeros_and_ones(&mask, mask_path, "value")?;
    if !mask.contains(&true) {
        return Err(Error::data("the mask hides no point, so there is no loss").in_file(mask_path));
    }
    Ok(Point { n, x, target, mask })
}

fn classify_point(args: &Args, samples: usize) -> Result<Point> {
    let (n, x) = windows::of_npy(&args.input, samples, "windows")?;
    let labels = npy::read(&args.target)?;
    if labels.shape.len() != 1 {
        return Err(
            Error::shape(format!("labels of shape {:?}; wanted [n]", labels.shape)).in_file(&args.target)
        );
    }
    same_count(n, labels.values.len(), &args.target)?;
    zeros_and_ones(&labels.values, &args.target, "label")?;
    Ok(Point { n, x, target: labels.values, mask: Vec::new() })
}

/// Computes in T and writes the file. Returns the loss and the number of parameters.
fn compute<T: Precision + Element>(args: &Args, model: &Model, point: &Point) -> Result<(f64, usize)> {
    let found = match model.task() {
        Task::Pretrained | Task::Encoder => pretrain::<T>(model, point)?,
        Task::Classifier { .. } => classify::<T>(model, point, args.pos_weight)?,
    };
    if !found.loss.is_finite() || found.gradients.iter().any(|g| !g.f64().is_finite()) {
        return Err(Error::numeric("the loss or a gradient is not finite").in_file(&args.input));
    }
    let samples = model.config().window;
    let shape = if point.mask.is_empty() { vec![point.n] } else { vec![point.n, samples] };
    let loss = [T::of(found.loss)];
    let names: Vec<String> = found.layout.entries().iter().map(|e| format!("grad.{}", e.name)).collect();
    let mut views =
        vec![TensorView::new("loss", &[], &loss), TensorView::new("output", &shape, &found.output)];
    for (entry, name) in found.layout.entries().iter().zip(&names) {
        views.push(TensorView::new(name, entry.shape.dims(), &found.gradients[entry.range()]));
    }
    let metadata = [("format".to_string(), "pt".to_string())].into();
    safetensors::write(&args.out, &views, &metadata)?;
    Ok((found.loss, found.layout.len()))
}

fn cast<T: Real>(values: impl IntoIterator<Item = f64>) -> Vec<T> {
    values.into_iter().map(T::of).collect()
}

fn weights<T: Real>(model: &Model, layout: &Layout) -> Result<Vec<T>> {
    Ok(cast(model.weights_for(layout)?.into_iter().map(f64::from)))
}

/// One window at a time; the gradients of all add up.
fn pretrain<T: Precision>(model: &Model, point: &Point) -> Result<Found<T>> {
    let c = model.config();
    let rows = |mask: &[bool]| nn::picks(c, mask);
    let most = point.mask.chunks(c.window).map(|m| rows(m).len()).max().unwrap_or(1).max(1);
    let p = nn::pretrain(c, 1, most)?;
    let mut exec =
        Exec::<T>::new(Arc::clone(&p.graph), Arc::new(Plan::new(&p.graph, OutputRequest::training(p.loss))?));
    let r = nn::reconstruct(c, 1)?;
    let mut whole = Exec::<T>::new(
        Arc::clone(&r.graph),
        Arc::new(Plan::new(&r.graph, OutputRequest::values(&[r.output]))?),
    );
    let layout = p.graph.layout().clone();
    let (params, whole_params) = (weights::<T>(model, &layout)?, weights::<T>(model, r.graph.layout())?);
    let hidden = point.mask.iter().filter(|m| **m).count() as f64;
    let mut found = Found { loss: 0.0, output: Vec::new(), gradients: vec![T::ZERO; layout.len()], layout };
    let patch = c.patch();
    for w in 0..point.n {
        let range = w * c.window..(w + 1) * c.window;
        let (x, t, m) = (&point.x[range.clone()], &point.target[range.clone()], &point.mask[range]);
        let x: Vec<T> = cast(x.iter().zip(m).map(|(x, m)| if *m { 0.0 } else { *x }));
        whole.set_input(r.samples, &x)?;
        whole.forward(&whole_params);
        found.output.extend_from_slice(whole.value(r.output));
        let mut picked = rows(m);
        let real = picked.len();
        if real == 0 {
            continue; // nothing hidden here
        }
        // To fill up, repeat a row and leave it out of the loss.
        picked.resize(most, picked[0]);
        let (mut target, mut mask) = (Vec::with_capacity(most * patch), Vec::with_capacity(most * patch));
        for (i, row) in picked.iter().enumerate() {
            let first = (*row as usize - usize::from(c.cls)) * patch;
            for point in first..first + patch {
                target.push(T::of(t[point]));
                mask.push(if i < real && m[point] { T::ONE } else { T::ZERO });
            }
        }
        exec.set_input(p.samples, &x)?;
        exec.set_index(p.rows, &picked)?;
        exec.set_input(p.target, &target)?;
        exec.set_input(p.mask, &mask)?;
        exec.forward(&params);
        found.loss += exec.value(p.loss)[0].f64() / hidden;
        exec.backward(&params, &[T::of(1.0 / hidden)], &mut found.gradients);
    }
    Ok(found)
}

fn classify<T: Precision>(model: &Model, point: &Point, pos_weight: f64) -> Result<Found<T>> {
    let c = model.config();
    let p = nn::classify(c, 1, pos_weight)?;
    let want = OutputRequest { keep: vec![p.loss, p.logits], ..OutputRequest::training(p.loss) };
    let mut exec = Exec::<T>::new(Arc::clone(&p.graph), Arc::new(Plan::new(&p.graph, want)?));
    let layout = p.graph.layout().clone();
    let params = weights::<T>(model, &layout)?;
    let mut found = Found { loss: 0.0, output: Vec::new(), gradients: vec![T::ZERO; layout.len()], layout };
    let n = point.n as f64;
    for (x, label) in point.x.chunks_exact(c.window).zip(&point.target) {
        exec.set_input(p.samples, &cast::<T>(x.iter().copied()))?;
        exec.set_input(p.targets, &[T::of(*label)])?;
        exec.set_input(p.weights, &[T::ONE])?;
        exec.forward(&params);
        found.output.push(exec.value(p.logits)[0]);
        found.loss += exec.value(p.loss)[0].f64() / n;
        exec.backward(&params, &[T::of(1.0 / n)], &mut found.gradients);
    }
    Ok(found)
}
