//! `heartlore grad`.

use crate::cli::Context;
use crate::{Error, Result};

/// Flags of `grad`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// Always: the command is not wired yet.
pub fn run(_args: &Args, _context: &Context) -> Result<()> {
    Err(Error::usage("'grad' is not wired"))
}
