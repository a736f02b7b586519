//! `heartlore selftest`: the mathematics checked on this machine.

use super::bad_flag;
use crate::cli::Context;
use crate::error::{Error, Result};
use crate::graph::check;
use heartlore_kernels::Isa;
use serde_json::json;
use std::fmt::Write;

/// Flags of `selftest`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  heartlore selftest
  heartlore selftest --cases 200 --seed 7

Every operation of the library, and random programs of them, on every instruction set that this machine has: values against
the textbook formula, gradients against forward mode in f64 to rounding, second derivatives, difference quotients, and f32
and bf16 gradients within a bound that follows from the number of operations and the magnitudes. The exit status is not 0 if
a law does not hold. Nothing is read and nothing is written; `settings` in the JSON holds the flags.")]
pub struct Args {
    /// Random cases of each operation.
    #[arg(long, value_name = "N", default_value_t = 25)]
    pub cases: usize,
    /// Seed of the cases.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Runs the command.
///
/// # Errors
/// If a law does not hold on this machine.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if args.cases == 0 {
        return Err(bad_flag("cases", "at least one case is needed"));
    }
    let bar = context.progress(args.cases as u64, "cases");
    let found = check::selftest(args.cases, args.seed, |part| {
        bar.set_position((part * args.cases as f64).round() as u64);
    })?;
    bar.finish_and_clear();
    let sets: Vec<String> = Isa::available().iter().map(ToString::to_string).collect();
    let total: usize = found.cases.values().sum();
    let mut text = format!(
        "{total} cases: {} operations and random programs, on {}\n",
        found.cases.len().saturating_sub(1),
        sets.join(", ")
    );
    for (law, tried) in &found.laws {
        let _ = writeln!(
            text,
            "  {:<5} {law}: {} cases, error at most {:.1e} of the bound",
            if tried.failed == 0 { "ok" } else { "FAILS" },
            tried.cases,
            tried.closest
        );
    }
    context.result(&text, || {
        json!({
            "passed": found.passed(),
            "instruction_sets": sets,
            "cases": found.cases,
            "laws": found.laws.iter().map(|(law, t)| json!({
                "law": law, "cases": t.cases, "failed": t.failed,
                "largest_error_over_bound": t.closest.is_finite().then_some(t.closest),
            })).collect::<Vec<_>>(),
            "failures": found.failures,
            "settings": context.settings(),
        })
    })?;
    if found.passed() {
        return Ok(());
    }
    Err(Error::numeric(format!(
        "the mathematics does not hold on this machine:\n{}",
        found.failures.join("\n")
    ))
    .remedy("report this text with the processor's name: results on this machine are not to be trusted"))
}
