//! `heartlore completions`: a script that completes commands and flags in a shell.

use crate::cli::{Context, command};
use crate::error::Result;

const EXAMPLES: &str = "\
Examples:
  heartlore completions bash > ~/.local/share/bash-completion/completions/heartlore
  heartlore completions zsh > ~/.zfunc/_heartlore
  heartlore completions fish > ~/.config/fish/completions/heartlore.fish";

/// Flags of `completions`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// Prints the script.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "heartlore", &mut script);
    context.out(&String::from_utf8_lossy(&script))
}
