//! `heartlore predict`.

use crate::cli::Context;
use crate::{Error, Result};

/// Flags of `predict`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// Always: the command is not wired yet.
pub fn run(_args: &Args, _context: &Context) -> Result<()> {
    Err(Error::usage("'predict' is not wired"))
}
