//! What a command knows of the world it runs in, and the only place that prints.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::rc::Rc;

use clap::FromArgMatches;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Config;
pub use crate::checkpoint::time::{now_s, utc};
use crate::error::{Error, Kind, Result};

/// Handed to every command.
#[derive(Debug)]
pub struct Context {
    /// Whether results are to be one JSON document.
    pub json: bool,
    /// Whether notes and progress are unwanted.
    pub quiet: bool,
    /// Whether standard output is a terminal.
    pub stdout_terminal: bool,
    /// Whether standard error is a terminal: progress bars are drawn only there.
    pub stderr_terminal: bool,
    /// The command line as typed, quoted for a shell.
    pub command_line: String,
    /// Start of the program, seconds since the Unix epoch.
    pub started_s: f64,
    /// Every flag of this command with its value.
    pub config: RefCell<Config>,
    /// With `--json`: what was said so far, to be part of the one document.
    said: Rc<RefCell<Said>>,
}

/// Notes and warnings of a command that prints one document.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    notes: Vec<String>,
    warnings: Vec<String>,
}

impl Said {
    /// Adds both lists to a document that is an object, to lists of the same name where it has them.
    fn add_to(self, document: &mut serde_json::Value) -> bool {
        let Some(document) = document.as_object_mut() else {
            return self.notes.is_empty() && self.warnings.is_empty();
        };
        for (key, lines) in [("notes", self.notes), ("warnings", self.warnings)] {
            let list = document.entry(key).or_insert_with(|| serde_json::Value::Array(Vec::new()));
            let Some(list) = list.as_array_mut() else { continue };
            for line in lines.into_iter().map(serde_json::Value::String) {
                if !list.contains(&line) {
                    list.push(line);
                }
            }
        }
        true
    }
}

impl Context {
    /// A context for `argv` on the terminals of this process.
    pub fn new(json: bool, quiet: bool, argv: &[OsString], config: Config) -> Self {
        Self {
            json,
            quiet,
            stdout_terminal: std::io::stdout().is_terminal(),
            stderr_terminal: std::io::stderr().is_terminal(),
            command_line: command_line(argv),
            started_s: now_s(),
            config: RefCell::new(config),
            said: Rc::default(),
        }
    }

    /// Another command, as if it had been typed with these flags after the program's name, and the context it runs in.
    ///
    /// # Errors
    /// Flags that the command has not.
    pub(super) fn nested(&self, flags: &[&str]) -> Result<(super::Command, Self)> {
        let argv: Vec<OsString> =
            std::iter::once("heartlore").chain(flags.iter().copied()).map(OsString::from).collect();
        let program = super::command();
        let bad = |e: clap::Error| Error::usage(e.to_string());
        let argv = super::config::expand(&argv, program.clone())?;
        let matches = program.clone().try_get_matches_from(&argv).map_err(bad)?;
        let cli = super::Cli::from_arg_matches(&matches).map_err(bad)?;
        let config = RefCell::new(Config::of(&program, &matches));
        let said = Rc::clone(&self.said);
        Ok((
            cli.command,
            Self { command_line: command_line(&argv), started_s: now_s(), config, said, ..*self },
        ))
    }

    /// Every flag of this command with its value in force, as JSON: for commands that leave no configuration file.
    pub fn settings(&self) -> serde_json::Value {
        self.config.borrow().to_json()
    }

    /// Writes the configuration in force as `name` in `dir`.
    ///
    /// # Errors
    /// A failing disk.
    pub fn write_config(&self, dir: &Path, name: &str) -> Result<()> {
        crate::checkpoint::write_bytes(dir.join(name), self.config.borrow().to_toml().as_bytes())
    }

    /// Prints a result: `json()` with `--json`, with all notes and warnings in it, else `text`.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn result(&self, text: &str, json: impl FnOnce() -> serde_json::Value) -> Result<()> {
        if !self.json {
            return self.out(text);
        }
        let mut document = json();
        let said = self.said.take();
        if !said.clone().add_to(&mut document) {
            // A document that is a list has no place for them.
            self.said.replace(said);
        }
        self.out(&format!("{document:#}\n"))
    }

    /// Writes raw text to standard output.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn out(&self, text: &str) -> Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|e| Error::io("standard output", e))
    }

    /// What was said and is in no document yet.
    pub(super) fn take_said(&self) -> Said {
        self.said.take()
    }

    /// A note to the user on standard error, unless `--quiet`; with `--json` a part of the document.
    pub fn note(&self, text: impl AsRef<str>) {
        if self.json {
            self.said.borrow_mut().notes.push(text.as_ref().to_string());
        } else if !self.quiet {
            eprint_line(text.as_ref());
        }
    }

    /// A warning on standard error, also with `--quiet`; with `--json` a part of the document.
    pub fn warn(&self, text: impl AsRef<str>) {
        if self.json {
            self.said.borrow_mut().warnings.push(text.as_ref().to_string());
        } else {
            eprint_line(&format!("warning: {}", text.as_ref()));
        }
    }

    /// A progress bar over `total` steps on standard error; invisible when it is no terminal, or with `--quiet` or `--json`.
    pub fn progress(&self, total: u64, what: &str) -> ProgressBar {
        let visible = self.stderr_terminal && !self.quiet && !self.json;
        let target =
            if visible { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template = "{prefix} {wide_bar} {pos}/{len} {msg} {elapsed} eta {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_string());
        bar
    }
}

/// The message of a failed command on standard error; with `--json` one document, with what was said before.
pub(super) fn print_error(error: &Error, json: bool, said: Said) {
    if json {
        let mut value = serde_json::json!({ "error": {
            "kind": format!("{:?}", error.kind()).to_lowercase(),
            "exit_code": error.exit_code(),
            "file": error.file().map(|f| f.display().to_string()),
            "message": error.to_string(),
            "what": error.what(),
            "place": error.fields().place,
            "byte": error.fields().byte,
            "expected": error.fields().expected,
            "found": error.fields().found,
            "remedy": error.fields().remedy,
        }});
        said.add_to(&mut value);
        eprint_line(&format!("{value:#}"));
    } else {
        eprint_line(&format!("error: {error}"));
    }
}

/// What a command said that ended well and printed no document it could be part of.
pub(super) fn print_said(said: &Said) {
    said.notes.iter().for_each(|n| eprint_line(n));
    said.warnings.iter().for_each(|w| eprint_line(&format!("warning: {w}")));
}

/// Whether `error` says that the reader of standard output went away.
pub(super) fn is_closed_pipe(error: &Error) -> bool {
    let closed = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
    error.kind() == Kind::Io
        && std::error::Error::source(error)
            .and_then(|e| e.downcast_ref::<std::io::Error>())
            .is_some_and(closed)
}

fn eprint_line(text: &str) {
    // Nothing can be done about a closed standard error.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// `argv` as one line that a POSIX shell would read back.
fn command_line(argv: &[OsString]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:+@%".contains(c);
    let quote = |a: &OsString| {
        let text = a.to_string_lossy();
        if !text.is_empty() && text.chars().all(plain) {
            text.into_owned()
        } else {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
    };
    argv.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_quoted_for_the_shell() {
        let argv = ["heartlore", "prepare", "my file.csv", "it's", ""].map(OsString::from);
        assert_eq!(command_line(&argv), r"heartlore prepare 'my file.csv' 'it'\''s' ''");
    }
}
