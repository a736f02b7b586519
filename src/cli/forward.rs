//! `heartlore forward`: prepared windows in, the model's outputs out.

use std::path::PathBuf;

use super::options::Precision;
use super::windows;
use crate::cli::Context;
use crate::data::npy;
use crate::error::Result;
use crate::graph::MatmulPrecision;
use crate::model::Task;

/// Flags of `forward`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  heartlore forward --model runs/pre/model --input x.npy --output y.npy
  heartlore forward --model runs/fine/model --input x.npy --output p.npy --probabilities

The input is an array [n, samples] of windows that are already filtered, resampled and normalised as the model's
preprocessor_config.json says. A pre-trained model writes f32 [n, samples], the reconstruction of every point of the
input as it is (set points to 0 to hide them). A classifier writes f32 [n], the logits (log-odds of the positive state),
or with --probabilities their logistic function.

The output appears whole or not at all. There is no run directory: with --json the result holds every flag as `settings`.")]
pub struct Args {
    /// Directory of a model.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Windows, f32 [n, samples].
    #[arg(long, value_name = "X.npy")]
    pub input: PathBuf,
    /// File for the outputs; replaced if it exists.
    #[arg(long, value_name = "Y.npy")]
    pub output: PathBuf,
    /// Write probabilities instead of logits (classifiers only).
    #[arg(long)]
    pub probabilities: bool,
    /// Threads; 0 takes one per core. Does not change the numbers.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = super::options::threads)]
    pub threads: usize,
    /// What the operands of matrix products are rounded to: f32 (not at all), bf16, or int8 with attention in bf16; the model's
    /// parameters stay f32.
    #[arg(long, default_value_t = Precision(MatmulPrecision::F32))]
    pub precision: Precision,
}

/// Runs the command.
///
/// # Errors
/// Windows of another length, values that are not finite, a disk that refuses.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let model = super::windows::load_model(&args.model, context)?
        .with_threads(args.threads)
        .with_precision(args.precision.0);
    let samples = model.config().window;
    let (n, values) = windows::of_npy(&args.input, samples, "windows")?;
    let x: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
    let (what, shape, y) = match (model.task(), args.probabilities) {
        (Task::Pretrained | Task::Encoder, true) => {
            return Err(super::bad_flag(
                "probabilities",
                "this model was only pre-trained: it has no classifier",
            )
            .remedy("leave the flag out for reconstructions, or give a fine-tuned model"));
        }
        (Task::Pretrained, false) => ("reconstructions", vec![n, samples], model.reconstruct(&x, &[])?),
        (Task::Encoder, false) => ("features", vec![n, model.config().features()], model.embed(&x)?),
        (Task::Classifier { .. }, true) => ("probabilities", vec![n], model.predict(&x)?),
        (Task::Classifier { .. }, false) => ("logits", vec![n], model.logits(&x)?),
    };
    npy::write_f32(&args.output, &shape, &y)?;
    let out = args.output.display().to_string();
    context.result(
        &format!("{out}: {what} {shape:?}\n"),
        || serde_json::json!({ "output": out, "what": what, "shape": shape, "settings": context.settings() }),
    )
}
