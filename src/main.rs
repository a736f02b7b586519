//! The `heartlore` program: maps errors to exit codes and does nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    heartlore::cli::main(std::env::args_os())
}
