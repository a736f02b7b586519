//! The `heartlore` program: flags, configuration files, progress, text and exit codes. Only this room reads flags and
//! prints.
//!
//! * One file per command, each with `Args` (its flags; the doc comments are the help) and
//!   `run(&Args, &Context) -> Result<()>`.
//! * [`config`]: a configuration file is a set of flags written in TOML; the resolved set is echoed into the run directory.
//! * [`context`]: what a command may know of the terminal, and the only place that prints.
//!
//! Results go to standard output (text, or one JSON document with `--json`); notes, progress and errors go to standard
//! error.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::{Error, Kind, Result};

pub mod beats;
pub mod bench;
pub mod completions;
pub mod config;
pub mod context;
mod ecg;
pub mod embed;
pub mod evaluate;
pub mod experiment;
pub mod export;
pub mod features;
pub mod finetune;
pub mod forward;
pub mod grad;
pub mod inspect;
pub mod interrupt;
pub mod null_study;
pub mod options;
mod overview;
pub mod people;
pub mod predict;
pub mod prepare;
pub mod pretrain;
mod probe;
pub mod quality;
pub mod quickstart;
pub mod reports;
pub mod rundir;
pub mod selftest;
pub mod simulate;
pub mod stream;
pub mod windows;

pub use config::Config;
pub use context::Context;
use context::Said;

const EXAMPLES: &str = "\
Examples:
  heartlore quickstart
  heartlore prepare recordings/ --out store
  heartlore pretrain --data store --out runs/pre
  heartlore finetune --data store --label aroused --init runs/pre/model --out runs/fine
  heartlore evaluate runs/fine
  heartlore predict recording.edf --model runs/fine/model

Exit codes: 0 success, 2 usage, 3 shape, 4 file format, 5 data, 6 input/output (missing file, full disk, no permission),
7 numeric, 130 interrupted. A run that ends with 6, 7 or 130, or is killed, goes on from its last checkpoint by --resume.";

/// Learns emotion from the heartbeat: pre-trains a 1D-CNN and Transformer on unlabelled ECG and fine-tunes it.
#[derive(Debug, Parser)]
#[command(name = "heartlore", version, after_help = EXAMPLES, arg_required_else_help = true, max_term_width = 110)]
pub struct Cli {
    /// Print results as one JSON document.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results and errors only: no notes, no progress.
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)]
pub enum Command {
    /// The whole job on shipped real ECG and a simulated study, in a few minutes.
    Quickstart(quickstart::Args),
    /// Filter, resample and cut recordings into a prepared store.
    Prepare(prepare::Args),
    /// Train a model without labels: reconstruct masked spans.
    Pretrain(pretrain::Args),
    /// Train a classifier on labelled windows, with folds that do not mix people.
    Finetune(finetune::Args),
    /// Run a declared matrix of models, references and seeds, cell by cell.
    Experiment(experiment::Args),
    /// Score predictions beside baselines, with intervals over people.
    Evaluate(evaluate::Args),
    /// The scores of a run against those under labels permuted within people.
    NullStudy(null_study::Args),
    /// Probability per window of recordings.
    Predict(predict::Args),
    /// A live signal, or a recording replayed, as one JSON line per event.
    Stream(stream::Args),
    /// Write a model as an ONNX file.
    Export(export::Args),
    /// Features per window to a NumPy file.
    Embed(embed::Args),
    /// Show what is in a model, checkpoint, store or recording.
    Inspect(inspect::Args),
    /// The R peaks of a recording.
    Beats(beats::Args),
    /// Heart rate and heart-rate variability of a recording or a prepared store.
    Features(features::Args),
    /// Signal quality of a recording, window by window.
    Quality(quality::Args),
    /// Write simulated, labelled ECG.
    Simulate(simulate::Args),
    /// Loss and gradients of a pre-training step, for study and verification.
    Grad(grad::Args),
    /// Outputs of a model for prepared windows.
    Forward(forward::Args),
    /// Measure this machine, training and prediction.
    Bench(bench::Args),
    /// Check the mathematics on this machine.
    Selftest(selftest::Args),
    /// Completions for a shell.
    Completions(completions::Args),
}

impl Command {
    fn run(&self, context: &Context) -> Result<()> {
        match self {
            Self::Quickstart(args) => quickstart::run(args, context),
            Self::Prepare(args) => prepare::run(args, context),
            Self::Pretrain(args) => pretrain::run(args, context),
            Self::Finetune(args) => finetune::run(args, context),
            Self::Experiment(args) => experiment::run(args, context),
            Self::Evaluate(args) => evaluate::run(args, context),
            Self::NullStudy(args) => null_study::run(args, context),
            Self::Predict(args) => predict::run(args, context),
            Self::Stream(args) => stream::run(args, context),
            Self::Export(args) => export::run(args, context),
            Self::Embed(args) => embed::run(args, context),
            Self::Inspect(args) => inspect::run(args, context),
            Self::Beats(args) => beats::run(args, context),
            Self::Features(args) => features::run(args, context),
            Self::Quality(args) => quality::run(args, context),
            Self::Simulate(args) => simulate::run(args, context),
            Self::Grad(args) => grad::run(args, context),
            Self::Forward(args) => forward::run(args, context),
            Self::Bench(args) => bench::run(args, context),
            Self::Selftest(args) => selftest::run(args, context),
            Self::Completions(args) => completions::run(args, context),
        }
    }
}

/// The program as clap knows it, for help, completions and tests.
pub fn command() -> clap::Command {
    // A threshold, a rating or a class may be negative: "-0.5" after a flag is its value, not a flag of its own.
    Cli::command().allow_negative_numbers(true).mut_subcommands(|c| c.allow_negative_numbers(true))
}

/// Runs the program with `argv` (the program's own name first).
pub fn main(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let json = argv.iter().any(|a| a == "--json");
    match run(&argv) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Clap(e)) => {
            // Help and version are not failures; clap knows where each belongs.
            if json && e.use_stderr() {
                let text = e.render().to_string();
                let text = text.trim().trim_start_matches("error: ");
                context::print_error(&Error::usage(text), json, Said::default());
            } else {
                let _ = e.print();
            }
            ExitCode::from(if e.use_stderr() { Error::usage("").exit_code() } else { 0 })
        }
        // The reader of a pipe left: nobody is there to be told.
        Err(Failure::Own(e, _)) if context::is_closed_pipe(&e) => ExitCode::SUCCESS,
        Err(Failure::Own(e, said)) => {
            context::print_error(&e, json, said);
            ExitCode::from(e.exit_code())
        }
    }
}

enum Failure {
    Clap(clap::Error),
    /// With what was said before and is in no document.
    Own(Error, Said),
}

fn run(argv: &[OsString]) -> std::result::Result<(), Failure> {
    let argv = &signed_values(argv);
    let expanded = config::expand(argv, command()).map_err(|e| Failure::Own(e, Said::default()))?;
    let matches = command().try_get_matches_from(&expanded).map_err(Failure::Clap)?;
    let cli = Cli::from_arg_matches(&matches).map_err(Failure::Clap)?;
    let config = Config::of(&command(), &matches);
    let context = Context::new(cli.json, cli.quiet, argv, config);
    cli.command.run(&context).map_err(|e| Failure::Own(e, context.take_said()))?;
    context::print_said(&context.take_said());
    Ok(())
}

/// `--flag -5e-1` as `--flag=-5e-1`: clap knows negative numbers without an exponent only, and takes the rest for flags.
fn signed_values(argv: &[OsString]) -> Vec<OsString> {
    let is_flag = |a: &OsString| a.to_str().is_some_and(|t| t.starts_with("--") && !t.contains('='));
    let is_number = |a: &OsString| {
        a.to_str()
            .is_some_and(|t| t.starts_with('-') && t.split(',').all(|n| n.trim().parse::<f64>().is_ok()))
    };
    let mut out: Vec<OsString> = Vec::with_capacity(argv.len());
    for word in argv {
        match out.last_mut() {
            Some(flag) if is_number(word) && is_flag(flag) => {
                flag.push("=");
                flag.push(word);
            }
            _ => out.push(word.clone()),
        }
    }
    out
}

/// A usage error that names the flag.
pub(crate) fn bad_flag(flag: &str, what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Usage, what.to_string()).at(format!("--{flag}"))
}
