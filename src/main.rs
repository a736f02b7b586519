//! The `heartlore` program: maps errors to exit codes and does nothing else.
fn main() {}
