//! Configuration files are flags written in TOML.
//!
//! `--config FILE` is expanded, before anything is parsed, into the flags it names: `batch = 32` becomes `--batch=32`,
//! `balance = true` becomes `--balance=true`, an array repeats its flag. Flags typed on the command line come later and
//! win. So a file and the command line share one parser, one set of names, one set of checks, and a key that is no flag is
//! an error. [`Config`] is the way back: every flag of the command with the value in force, as TOML with the help texts as
//! comments; it reads back as a configuration file.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::error::{Error, IoContext, Result};

/// Name of the file in a run directory.
pub const FILE: &str = "config.toml";

/// Flags that steer the program and not the work; they are not part of a configuration.
const NOT_SETTINGS: [&str; 6] = ["help", "version", "json", "quiet", "config", "resume"];

/// One flag with its value in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Key in the file: the flag's long name, or the name of a positional argument.
    pub key: String,
    /// First line of its help.
    pub help: String,
    /// The value; `None` where a flag without default was not given.
    pub value: Option<toml::Value>,
    /// Whether the user gave it, on the command line or in a file.
    pub given: bool,
}

/// Every flag of one command with its value in force, in the order of the help.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Name of the command.
    pub command: String,
    /// The flags.
    pub settings: Vec<Setting>,
}

impl Config {
    /// Reads all flags of the command in `matches`.
    pub fn of(program: &clap::Command, matches: &ArgMatches) -> Self {
        let Some((name, matches)) = matches.subcommand() else { return Self::default() };
        let Some(command) = program.find_subcommand(name) else { return Self::default() };
        let settings = settings_of(command).map(|arg| {
            let id = arg.get_id().as_str();
            let raw: Vec<String> = matches
                .get_raw(id)
                .map(|v| v.map(|s| s.to_string_lossy().into_owned()).collect())
                .unwrap_or_default();
            let many = is_many(arg);
            let value = match &raw[..] {
                [] if many => Some(toml::Value::Array(Vec::new())),
                [] => None,
                [one] if !many => Some(scalar(one)),
                all => Some(toml::Value::Array(all.iter().map(|s| scalar(s)).collect())),
            };
            let given = matches.value_source(id) == Some(ValueSource::CommandLine);
            Setting {
                key: key_of(arg),
                help: arg.get_help().map(ToString::to_string).unwrap_or_default(),
                value,
                given,
            }
        });
        Self { command: name.into(), settings: settings.collect() }
    }

    /// The value of `key`, if set.
    pub fn get(&self, key: &str) -> Option<&toml::Value> {
        self.settings.iter().find(|s| s.key == key)?.value.as_ref()
    }

    /// Whether the user gave `key`.
    pub fn given(&self, key: &str) -> bool {
        self.settings.iter().any(|s| s.key == key && s.given)
    }

    /// Puts in the value that a flag without default resolved to.
    ///
    /// # Errors
    /// A key that is no flag of the command.
    pub fn set(&mut self, key: &str, value: impl Into<toml::Value>) -> Result<()> {
        let command = self.command.clone();
        match self.settings.iter_mut().find(|s| s.key == key) {
            Some(s) => {
                s.value = Some(value.into());
                Ok(())
            }
            None => Err(Error::usage(format!("'{key}' is no flag of {command}"))),
        }
    }

    /// The same as a JSON object; `null` where a flag without default was not given.
    pub fn to_json(&self) -> serde_json::Value {
        let value = |s: &Setting| serde_json::to_value(&s.value).unwrap_or_default();
        self.settings.iter().map(|s| (s.key.clone(), value(s))).collect::<serde_json::Map<_, _>>().into()
    }

    /// The file's text. Flags without a value are there as comments.
    pub fn to_toml(&self) -> String {
        let mut text = format!(
            "# Settings of `heartlore {}`, as resolved. Run again with: heartlore {} --config config.toml\n",
            self.command, self.command
        );
        for s in &self.settings {
            for line in s.help.lines() {
                text.push_str(&format!("\n# {line}"));
            }
            match &s.value {
                Some(value) => text.push_str(&format!("\n{} = {value}\n", s.key)),
                None => text.push_str(&format!("\n# {} is not set\n", s.key)),
            }
        }
        text
    }
}

/// The flags that make up a configuration of `command`.
pub fn settings_of(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
    command.get_arguments().filter(|a| !NOT_SETTINGS.contains(&a.get_id().as_str()) && !a.is_global_set())
}

/// Key of a flag in a file.
pub fn key_of(arg: &clap::Arg) -> String {
    arg.get_long().map_or_else(|| arg.get_id().to_string(), str::to_string)
}

fn is_many(arg: &clap::Arg) -> bool {
    matches!(arg.get_action(), clap::ArgAction::Append)
        || arg.get_num_args().is_some_and(|n| n.max_values() > 1)
        || arg.get_value_delimiter().is_some()
}

/// A count as a TOML value: a text where TOML's integers end.
pub fn count(n: u64) -> toml::Value {
    scalar(&n.to_string())
}

/// A flag's text as the simplest TOML value that reads back as the same text.
fn scalar(text: &str) -> toml::Value {
    if let Ok(b) = text.parse::<bool>() {
        return toml::Value::Boolean(b);
    }
    if let Ok(i) = text.parse::<i64>()
        && i.to_string() == text
    {
        return toml::Value::Integer(i);
    }
    // An integer that TOML cannot hold stays a text: as a float it would lose digits.
    let whole = text.trim_start_matches(['+', '-']).bytes().all(|b| b.is_ascii_digit());
    if !whole
        && text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
        && let Ok(f) = text.parse::<f64>()
        && f.is_finite()
    {
        return toml::Value::Float(f);
    }
    toml::Value::String(text.into())
}

/// `argv` with the flags of a configuration file put before those typed, if there is `--config FILE`. A command that is
/// told to `--resume` the run in `--out DIR` takes `DIR/config.toml`, unless another file is named. A flag typed on the
/// command line replaces the file's.
///
/// # Errors
/// A file that cannot be read or is no TOML; a key that is no flag of the command; a value that no flag can have.
pub fn expand(argv: &[OsString], program: clap::Command) -> Result<Vec<OsString>> {
    let resumed = argv.iter().any(|a| a == "--resume").then(|| value_of(argv, "out")).flatten();
    let resumed = resumed.map(|dir| Path::new(&dir).join(FILE).into_os_string());
    if let Some(missing) = resumed.as_deref().map(Path::new).filter(|f| !f.is_file()) {
        return Err(Error::usage("there is no run to go on with")
            .in_file(missing)
            .remedy("leave out --resume"));
    }
    let Some(file) = value_of(argv, "config").or(resumed) else { return Ok(argv.to_vec()) };
    let position =
        argv.iter().enumerate().skip(1).find_map(|(i, a)| program.find_subcommand(a).map(|c| (i, c)));
    // Without a command clap's own message is the better one.
    let Some((position, command)) = position else { return Ok(argv.to_vec()) };
    let (before, typed) = argv.split_at(position + 1);
    let from_file = flags_of_file(Path::new(&file), command)?;
    let mut out = before.to_vec();
    for (key, flag) in from_file.flags {
        if !typed.iter().any(|a| is_flag(a, &key)) {
            out.push(flag);
        }
    }
    out.extend_from_slice(typed);
    if !from_file.positionals.is_empty() {
        let typed = program.clone().ignore_errors(true).try_get_matches_from(&out);
        let typed = typed.ok().and_then(|m| m.subcommand().map(|(_, m)| m.clone()));
        for (id, values) in from_file.positionals {
            let any = typed.as_ref().and_then(|m| m.get_raw(&id).map(|v| v.len() > 0)).unwrap_or(false);
            if !any {
                out.extend(values);
            }
        }
    }
    Ok(out)
}

/// The value typed for the long flag `name`.
fn value_of(argv: &[OsString], name: &str) -> Option<OsString> {
    let mut args = argv.iter().skip(1).take_while(|a| *a != "--");
    while let Some(arg) = args.next() {
        if let Some(flag) = arg.to_str().filter(|_| is_flag(arg, name)) {
            return match flag.split_once('=') {
                Some((_, value)) => Some(value.into()),
                None => args.next().cloned(),
            };
        }
    }
    None
}

struct FromFile {
    /// Key and `--key=value`.
    flags: Vec<(String, OsString)>,
    positionals: Vec<(String, Vec<OsString>)>,
}

fn flags_of_file(path: &Path, command: &clap::Command) -> Result<FromFile> {
    let text = std::fs::read_to_string(path).with_file(path)?;
    let table: toml::Table = toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(1, |s| text[..s.start.min(text.len())].lines().count().max(1));
        Error::format(e.message().to_string()).in_file(path).at(format!("line {line}"))
    })?;
    let mut out = FromFile { flags: Vec::new(), positionals: Vec::new() };
    for (key, value) in &table {
        let Some(arg) = settings_of(command).find(|a| key_of(a) == *key) else {
            let known: Vec<String> = settings_of(command).map(key_of).collect();
            return Err(Error::usage(format!("unknown key '{key}'"))
                .in_file(path)
                .at(format!("key {key}"))
                .remedy(format!("the keys of {} are {}", command.get_name(), known.join(", "))));
        };
        let bad = || {
            Error::usage(format!("'{key}' cannot be a {}", value.type_str()))
                .in_file(path)
                .at(format!("key {key}"))
                .remedy("write a number, a text, true or false, or an array of these")
        };
        let values = match value {
            toml::Value::Array(all) => all.iter().map(plain).collect::<Option<Vec<_>>>().ok_or_else(bad)?,
            one => vec![plain(one).ok_or_else(bad)?],
        };
        if arg.is_positional() {
            out.positionals
                .push((arg.get_id().to_string(), values.into_iter().map(OsString::from).collect()));
        } else {
            out.flags.extend(values.iter().map(|v| (key.clone(), OsString::from(format!("--{key}={v}")))));
        }
    }
    Ok(out)
}

fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(s) => Some(s.clone()),
        toml::Value::Integer(i) => Some(i.to_string()),
        toml::Value::Float(f) => Some(f.to_string()),
        toml::Value::Boolean(b) => Some(b.to_string()),
        _ => None,
    }
}

/// Whether `arg` is the long flag `name`, alone or with `=value`.
fn is_flag(arg: &OsStr, name: &str) -> bool {
    arg.to_str().and_then(|a| a.strip_prefix("--")).is_some_and(|a| a.split('=').next() == Some(name))
}
