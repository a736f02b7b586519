//! A run directory that explains itself: `config.toml`, `run.json`, `metrics.csv` and `.jsonl`, a TensorBoard event file,
//! `checkpoints/`, `model/`, `report.html`.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use serde_json::{Value as Json, json};

use crate::checkpoint::atomic::is_temporary;
use crate::checkpoint::lock::{LOCK_FILE, Lock};
use crate::checkpoint::write_bytes;
use crate::cli::{Context, config, context::now_s, context::utc, interrupt};
use crate::data::store::Store;
use crate::error::{Error, IoContext, Kind, Result};
use crate::report::{EventWriter, LoggedRow, MetricsLog, Provenance, Value};
use crate::train::{Control, Event, Observer};

/// The directory of a run, and what `run.json` will say.
#[derive(Debug)]
pub struct RunDir {
    dir: PathBuf,
    _lock: Lock,
    info: Json,
    started_s: f64,
}

impl RunDir {
    /// Makes the directory, or takes up an interrupted run, locks it, and writes configuration and circumstances.
    ///
    /// # Errors
    /// Another process is writing the run; the directory holds something already (without `resume`), or nothing (with it); a
    /// failing disk.
    pub fn open(dir: &Path, resume: bool, store: &Store, context: &Context) -> Result<Self> {
        // The configuration is written first: with it a run can be taken up, whatever else a kill has prevented.
        let path = dir.join(config::FILE);
        if resume && !path.is_file() {
            return Err(Error::usage("there is no run to go on with")
                .in_file(dir)
                .remedy("leave out --resume"));
        }
        let lock = lock(dir, context)?;
        if !resume && !is_empty(dir) {
            return Err(Error::usage("the run directory holds something already")
                .in_file(dir)
                .remedy("choose another --out, or go on with an interrupted run by --resume"));
        }
        let old = match std::fs::read(dir.join("run.json")) {
            Ok(bytes) => serde_json::from_slice::<Json>(&bytes).ok(),
            Err(_) => None,
        };
        if resume {
            // The checkpoints know the data by the checksums of the manifest.
            store.verify()?;
        }
        sweep(dir);
        let mut history = old.as_ref().and_then(|o| o["history"].as_array().cloned()).unwrap_or_default();
        history.push(json!({
            "command_line": context.command_line,
            "started": utc(context.started_s),
            "resumed": resume,
        }));
        let m = store.manifest();
        let info = json!({
            "command_line": context.command_line,
            "version": env!("CARGO_PKG_VERSION"),
            "seed": context.config.borrow().get("seed").map(ToString::to_string),
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "instruction_set": heartlore_kernels::Isa::best().name(),
            "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            "store": std::path::absolute(store.dir()).unwrap_or_else(|_| store.dir().into()).display().to_string(),
            "store_sha256": m.sha256,
            "store_processing": m.processing,
            "sources": m.sources,
            "notes": m.notes,
            "history": history,
            "finished": false,
        });
        let run = Self { dir: dir.to_path_buf(), _lock: lock, info, started_s: context.started_s };
        let text = context.config.borrow().to_toml();
        if resume {
            same_settings(&path, &text)?;
        } else {
            write_bytes(&path, text.as_bytes())?;
        }
        run.write()?;
        Ok(run)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Puts something else that a reader must know into `run.json`.
    ///
    /// # Errors
    /// A failing disk.
    pub fn record(&mut self, key: &str, value: Json) -> Result<()> {
        self.info[key] = value;
        self.write()
    }

    /// Marks the run as finished, with results.
    ///
    /// # Errors
    /// A failing disk.
    pub fn finish(&mut self, results: Json) -> Result<()> {
        self.info["finished"] = json!(true);
        self.info["ended"] = json!(utc(now_s()));
        self.info["wall_s_of_last_start"] = json!(now_s() - self.started_s);
        self.info["peak_memory_bytes"] = json!(peak_memory_bytes());
        self.info["results"] = results;
        self.write()
    }

    fn write(&self) -> Result<()> {
        write_bytes(self.dir.join("run.json"), format!("{:#}\n", self.info).as_bytes())
    }
}

/// Makes `dir` and locks it for writing into it, with a warning where the file system has no locks.
///
/// # Errors
/// Another process is writing there; a failing disk.
pub fn lock(dir: &Path, context: &Context) -> Result<Lock> {
    super::windows::create_dir(dir)?;
    let lock = Lock::inside(dir)?;
    if !lock.is_enforced() {
        warn_of_no_locks(dir, context);
    }
    Ok(lock)
}

/// Says that nothing keeps a second command from writing `place`.
pub(super) fn warn_of_no_locks(place: &Path, context: &Context) {
    context.warn(format!(
        "{}: this file system has no locks: do not start another command that writes there",
        place.display()
    ));
}

/// Whether `dir` is missing, or holds at most the lock and what [`write_bytes`] left when it was killed.
fn is_empty(dir: &Path) -> bool {
    let passed_over = |name: &str| name == LOCK_FILE || is_temporary(name);
    std::fs::read_dir(dir)
        .map_or(true, |entries| entries.flatten().all(|e| passed_over(&e.file_name().to_string_lossy())))
}

/// Removes the files that a killed process left unfinished, under the lock. They harm nobody, so neither does a failure.
fn sweep(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if is_temporary(&name) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Settings that a resumed run may change: they do not reach its result, or what they stand for is checked by content
/// ([`crate::train::RunFingerprint`]).
const MAY_CHANGE: [&str; 5] = ["out", "data", "threads", "checkpoint-every", "isa"];

/// Refuses to go on with other settings than the run was started with.
fn same_settings(path: &Path, now: &str) -> Result<()> {
    let read = |text: &str| {
        toml::from_str::<toml::Table>(text).map_err(|e| Error::format(e.message().to_string()).in_file(path))
    };
    let (then, now) = (read(&std::fs::read_to_string(path).with_file(path)?)?, read(now)?);
    let show = |v: Option<&toml::Value>| v.map_or("not set".to_string(), ToString::to_string);
    for key in then.keys().chain(now.keys()).filter(|k| !MAY_CHANGE.contains(&k.as_str())) {
        let (a, b) = (then.get(key), now.get(key));
        if a != b {
            return Err(Error::usage(format!("the run was started with {}, now it is {}", show(a), show(b)))
                .in_file(path)
                .at(format!("key {key}"))
                .remedy("leave the flag out, or start a new run in another directory"));
        }
    }
    Ok(())
}

/// How a report came about.
pub fn provenance(context: &Context, store: Option<&Store>) -> Provenance {
    let mut extra = vec![(
        "machine".to_string(),
        format!(
            "{} cores, {}, {} {}",
            std::thread::available_parallelism().map_or(0, usize::from),
            heartlore_kernels::Isa::best().name(),
            std::env::consts::OS,
            std::env::consts::ARCH
        ),
    )];
    let mut data_checksums = Vec::new();
    if let Some(store) = store {
        for (name, hash) in &store.manifest().sha256 {
            data_checksums.push((store.dir().join(name).display().to_string(), format!("SHA-256 {hash}")));
        }
        extra.extend(store.manifest().notes.iter().map(|n| ("data".to_string(), n.clone())));
    }
    Provenance {
        command_line: context.command_line.clone(),
        version: format!("heartlore {}", env!("CARGO_PKG_VERSION")),
        seed: context
            .config
            .borrow()
            .get("seed")
            .and_then(|s| s.as_integer())
            .and_then(|s| u64::try_from(s).ok()),
        started: utc(context.started_s),
        wall_s: Some(now_s() - context.started_s),
        peak_memory_bytes: peak_memory_bytes(),
        data_checksums,
        extra,
    }
}

/// Largest resident memory so far, where the system tells (Linux).
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kb| kb * 1024)
}

const COLUMNS: [&str; 8] =
    ["kind", "fold", "epoch", "loss", "validation_loss", "learning_rate", "gradient_norm", "windows_per_s"];

/// What a checkpoint knows of a run: rows of the log beyond it will be written again.
struct Known {
    fold: usize,
    /// Steps, over all folds.
    at: u64,
    /// Epochs of the fold whose end was reported.
    epochs: u64,
}

impl Known {
    fn has(&self, row: &LoggedRow) -> bool {
        let number = |name| row.get(name).and_then(|t| t.parse::<u64>().ok());
        match number("fold").map(|f| f.cmp(&(self.fold as u64))) {
            Some(Ordering::Less) => true,
            Some(Ordering::Equal) if row.get("kind") == Some("epoch") => {
                number("epoch").is_some_and(|e| e < self.epochs)
            }
            Some(Ordering::Equal) => row.step <= self.at,
            _ => false,
        }
    }
}

/// Writes the rows of step `at` in `metrics.csv` to the event file.
fn repeat(dir: &Path, at: u64, events: &mut EventWriter) -> Result<()> {
    let path = dir.join("metrics.csv");
    let bad = |e: csv::Error| Error::format(e.to_string()).in_file(&path);
    for record in csv::Reader::from_path(&path).map_err(bad)?.records() {
        let r = record.map_err(bad)?;
        if r.get(0).and_then(|t| t.parse().ok()) != Some(at) {
            continue;
        }
        let tags = if r.get(1) == Some("epoch") { &EPOCH_TAGS[..] } else { &STEP_TAGS[..] };
        let values = tags.iter().filter_map(|(column, tag)| {
            let i = COLUMNS.iter().position(|c| c == column)? + 1;
            Some((*tag, r.get(i)?.parse::<f64>().ok()? as f32))
        });
        events.scalars(&values.collect::<Vec<_>>(), at as i64, now_s())?;
    }
    Ok(())
}

/// Columns of a step's row and their names in TensorBoard.
const STEP_TAGS: [(&str, &str); 4] = [
    ("loss", "loss/step"),
    ("learning_rate", "learning_rate"),
    ("gradient_norm", "gradient_norm"),
    ("windows_per_s", "windows_per_s"),
];
/// Columns of an epoch's row and their names in TensorBoard.
const EPOCH_TAGS: [(&str, &str); 2] = [("loss", "loss/train"), ("validation_loss", "loss/validation")];

/// Shows a training run as it goes, logs it, and passes on Ctrl-C.
#[derive(Debug)]
pub struct RunLogger<'a> {
    context: &'a Context,
    dir: PathBuf,
    bar: ProgressBar,
    resume: bool,
    fold: usize,
    folds: String,
    /// Steps of all folds before each fold, as planned: makes one count of steps over the whole run.
    before: Vec<u64>,
    logs: Option<(MetricsLog, EventWriter)>,
    fault: Option<Error>,
}

impl<'a> RunLogger<'a> {
    /// Watches a run in `dir`; `steps` are the planned steps of each fold (one entry for pre-training).
    pub fn new(dir: &Path, resume: bool, steps: &[u64], context: &'a Context) -> Self {
        interrupt::listen();
        let before = steps.iter().scan(0u64, |sum, s| {
            let start = *sum;
            *sum = sum.saturating_add(*s);
            Some(start)
        });
        Self {
            context,
            dir: dir.to_path_buf(),
            bar: context.progress(0, "training"),
            resume,
            fold: 0,
            folds: String::new(),
            before: before.collect(),
            logs: None,
            fault: None,
        }
    }

    /// The outcome, or the fault of a log that stopped the run.
    ///
    /// # Errors
    /// As the run's own.
    pub fn settle<T>(self, outcome: Result<T>) -> Result<T> {
        self.bar.finish_and_clear();
        match (outcome, self.fault) {
            (Err(e), Some(fault)) if e.kind() == Kind::Interrupted => Err(fault),
            (outcome, _) => outcome,
        }
    }

    fn global(&self, step: u64) -> u64 {
        self.before.get(self.fold).copied().unwrap_or(0).saturating_add(step)
    }

    fn log(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Started { step, epochs, .. } if self.logs.is_none() => {
                let at = self.global(*step);
                let mut events = EventWriter::create(&self.dir, now_s())?;
                let log = if self.resume {
                    let known = Known { fold: self.fold, at, epochs: *epochs };
                    let log = MetricsLog::resume_where(&self.dir, &COLUMNS, |row| known.has(row))?.0;
                    // TensorBoard forgets everything from this step on: it is told again what is kept of the step.
                    events.restart_at(at as i64, now_s())?;
                    repeat(&self.dir, at, &mut events)?;
                    log
                } else {
                    MetricsLog::create(&self.dir, &COLUMNS)?
                };
                self.logs = Some((log, events));
            }
            Event::Step { epoch, step, loss, learning_rate, gradient_norm, windows, seconds, .. } => {
                let at = self.global(*step);
                let speed = *windows as f64 / seconds.max(1e-9);
                let fold = self.fold as i64;
                if let Some((log, events)) = &mut self.logs {
                    log.row(
                        at,
                        &[
                            "step".into(),
                            fold.into(),
                            (*epoch as i64).into(),
                            (*loss).into(),
                            Value::Missing,
                            (*learning_rate).into(),
                            (*gradient_norm).into(),
                            speed.into(),
                        ],
                    )?;
                    events.scalars(
                        &[
                            ("loss/step", *loss as f32),
                            ("learning_rate", *learning_rate as f32),
                            ("gradient_norm", *gradient_norm as f32),
                            ("windows_per_s", speed as f32),
                        ],
                        at as i64,
                        now_s(),
                    )?;
                }
            }
            Event::Epoch { epoch, step, train_loss, validation_loss, .. } => {
                let at = self.global(*step);
                let fold = self.fold as i64;
                if let Some((log, events)) = &mut self.logs {
                    log.row(
                        at,
                        &[
                            "epoch".into(),
                            fold.into(),
                            (*epoch as i64).into(),
                            (*train_loss).into(),
                            (*validation_loss).into(),
                            Value::Missing,
                            Value::Missing,
                            Value::Missing,
                        ],
                    )?;
                    let mut values = vec![("loss/train", *train_loss as f32)];
                    values.extend(validation_loss.map(|v| ("loss/validation", v as f32)));
                    events.scalars(&values, at as i64, now_s())?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn show(&mut self, event: &Event) {
        match event {
            Event::Fold { index, of, name } => {
                if *of > 1 {
                    self.folds = format!("fold {}/{of} ", index + 1);
                }
                if *index >= *of {
                    self.folds = format!("{name} ");
                }
            }
            Event::Started { step, total_steps, .. } => {
                self.bar.reset();
                self.bar.set_length(*total_steps);
                self.bar.set_position(*step);
                self.bar.set_prefix(format!("{}training", self.folds));
                self.bar.reset_eta();
            }
            Event::Step { step, loss, learning_rate, windows, seconds, .. } => {
                self.bar.set_position(*step);
                let speed = *windows as f64 / seconds.max(1e-9);
                self.bar.set_message(format!("loss {loss:.4} rate {learning_rate:.1e} {speed:.0} windows/s"));
            }
            Event::Warning(text) => self.bar.suspend(|| self.context.warn(text)),
            Event::Epoch { .. } | Event::Saved { .. } => {}
        }
    }
}

impl Observer for RunLogger<'_> {
    fn event(&mut self, event: &Event) -> Control {
        if let Event::Fold { index, .. } = event {
            self.fold = *index;
        }
        self.show(event);
        if let Err(e) = self.log(event) {
            self.fault.get_or_insert(e);
            return Control::Stop;
        }
        interrupt::control()
    }
}

/// A run's loss curves, read back from `metrics.csv` so that a resumed run shows all of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curves {
    /// Training loss per epoch: (epoch, loss), of one fold.
    pub train: Vec<(f64, f64)>,
    /// Validation loss per epoch.
    pub validation: Vec<(f64, f64)>,
    /// Learning rate at the last step of each epoch.
    pub learning_rate: Vec<(f64, f64)>,
}

/// Curves by fold.
///
/// # Errors
/// The file cannot be read.
pub fn curves(dir: &Path) -> Result<Vec<Curves>> {
    let path = dir.join("metrics.csv");
    let mut reader = csv::Reader::from_path(&path).map_err(|e| {
        Error::format(e.to_string()).in_file(&path).remedy("was the run interrupted at its start?")
    })?;
    let mut all: Vec<Curves> = Vec::new();
    for record in reader.records() {
        let r = record.map_err(|e| Error::format(e.to_string()).in_file(&path))?;
        let number = |i: usize| r.get(i).and_then(|t| t.parse::<f64>().ok());
        let (Some(fold), Some(epoch)) = (number(2), number(3)) else { continue };
        let fold = fold as usize;
        // A fold number beyond the rows read cannot be right; do not allocate for it.
        if fold > all.len() {
            continue;
        }
        if fold == all.len() {
            all.push(Curves::default());
        }
        let curve = &mut all[fold];
        let epoch = epoch + 1.0;
        if r.get(1) == Some("epoch") {
            curve.train.extend(number(4).map(|l| (epoch, l)));
            curve.validation.extend(number(5).map(|l| (epoch, l)));
        } else if let Some(rate) = number(6) {
            match curve.learning_rate.last_mut() {
                Some(last) if last.0 == epoch => last.1 = rate,
                _ => curve.learning_rate.push((epoch, rate)),
            }
        }
    }
    Ok(all)
}
