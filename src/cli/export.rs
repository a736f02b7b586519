//! `heartlore export`: a model as an ONNX file.

use std::path::PathBuf;

use serde_json::json;

use super::windows;
use crate::cli::Context;
use crate::error::Result;
use crate::model::onnx::OPSET;
use crate::model::{Model, Output};

/// Flags of `export`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  heartlore export --model runs/fine/model --onnx model.onnx
  heartlore export --model runs/pre/model --onnx filled.onnx --what reconstruct

The file has one input, samples [batch, window], prepared as preprocessor_config.json of the model says (its metadata
repeats it), and one output: probability [batch], features [batch, width] or reconstruction [batch, window]. With --json every
flag is in `settings`.")]
pub struct Args {
    /// Directory of the model.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// ONNX file to write.
    #[arg(long, value_name = "FILE")]
    pub onnx: PathBuf,
    /// What the file gives: predict, embed or reconstruct.
    #[arg(long, default_value = "predict", value_parser = ["predict", "embed", "reconstruct"], value_name = "WHAT")]
    pub what: String,
    /// Replace a file that exists.
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub overwrite: bool,
}

/// Runs the command.
///
/// # Errors
/// A model without such an output; a file that exists; a disk that refuses.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let model = Model::load(&args.model)?;
    windows::check_free(&args.onnx, args.overwrite)?;
    let output = match args.what.as_str() {
        "embed" => Output::Features,
        "reconstruct" => Output::Reconstruction,
        _ => Output::Logit,
    };
    model.save_onnx(&args.onnx, output).map_err(|e| e.in_file(&args.model))?;
    let bytes = std::fs::metadata(&args.onnx).map_or(0, |m| m.len());
    let text = format!("wrote {}: {}, operator set {OPSET}, {bytes} bytes\n", args.onnx.display(), args.what);
    context.result(&text, || {
        json!({
            "file": args.onnx.display().to_string(), "what": args.what, "opset": OPSET, "bytes": bytes,
            "settings": context.settings(),
        })
    })
}
