//! `heartlore experiment`: a declared matrix of models, references, seeds and numbers of labelled people, run cell by cell.
//!
//! A cell's result is kept under the hash of everything that determines it: the version, the data and labels, the folds, what
//! is read of a person, the model's weights, the seed. A run that was stopped goes on with what is missing; a changed line
//! of the file runs again what it changes and nothing else. A cell that fails leaves a hole with its reason.

mod cell;
mod file;
mod report;
mod summary;

use std::path::{Path, PathBuf};
use std::time::Instant;

use self::cell::{Bench, Key, Outcome};
pub(crate) use self::file::File;
use self::summary::{Figures, Row};
use crate::checkpoint::write_bytes;
use crate::cli::options::labels::LabelArgs;
use crate::cli::{Command, Context, interrupt, prepare, pretrain, rundir};
use crate::data::store::Store;
use crate::error::{Error, IoContext, Kind, Result};
use crate::report::Section;

const EXAMPLES: &str = "\
Examples:
  heartlore experiment examples/experiments/quick.toml --out results
  heartlore experiment examples/experiments/eegmat.toml --out results/eegmat --threads 2

The file declares data, labels, folds, seeds, [[reading]]s (what is known of a person) and [[model]]s; every combination is
a cell. Results: results.csv, results.json, report.html, and one file per cell under cells/. Run it again to go on where it
stopped: finished cells are not run twice.";

/// Flags of `experiment`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The experiment file
    #[arg(value_name = "FILE.toml")]
    pub file: PathBuf,
    /// Folder of the results
    #[arg(long, short)]
    pub out: PathBuf,
    /// Threads, 0 for all cores; the results do not depend on it
    #[arg(long, default_value_t = 0, value_parser = crate::cli::options::threads)]
    pub threads: usize,
    /// Configuration file with any of these flags as keys
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// A matrix with its results.
pub(crate) struct Finished<'a> {
    /// The matrix.
    file: &'a File,
    /// The data.
    pub(crate) store: Store,
    done: Vec<(Key<'a>, std::result::Result<Outcome, String>)>,
    /// Cells that were run now.
    ran: usize,
}

impl Finished<'_> {
    /// Start and probability of one person's windows in the first seed's cell of a reading and a model; empty if that cell
    /// failed.
    pub(crate) fn of_person(&self, reading: &str, model: &str, person: &str) -> Vec<(usize, f64)> {
        let wanted = |d: &&(Key<'_>, _)| d.0.reading.name == reading && d.0.model.name == model;
        let Some((_, Ok(o))) = self.done.iter().find(wanted) else { return Vec::new() };
        let own = (0..o.row.len()).filter(|&i| o.person[i] == person);
        own.map(|i| (o.row[i], o.probability[i])).collect()
    }

    /// Figures of every row, the sections of a report, and a table for the terminal.
    ///
    /// # Errors
    /// As [`summary::figures`].
    pub(crate) fn sections(&self) -> Result<(Vec<Section>, String, serde_json::Value)> {
        let rows = rows(self.file, &self.done);
        let figures = summary::figures(&rows, &self.file.against, self.file.resamples)?;
        let sections = report::sections(self.file, &rows, &figures);
        Ok((sections, table(&rows, &figures), report::json(self.file, &rows, &figures)))
    }
}

/// Runs what is missing and writes the results.
///
/// # Errors
/// A file that is not understood, data that cannot be read, a disk that refuses, an interruption. A failing cell is none.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let (file, text) = File::read(&args.file)?;
    let clock = Instant::now();
    let _lock = rundir::lock(&args.out, context)?;
    let finished = carry_out(&file, &args.out, args.threads, context)?;
    let rows = rows(&file, &finished.done);
    let figures = summary::figures(&rows, &file.against, file.resamples)?;
    write_bytes(&args.out.join("experiment.toml"), text.as_bytes())?;
    write_bytes(&args.out.join("results.csv"), &report::csv(&rows, &figures)?)?;
    let json = report::json(&file, &rows, &figures);
    write_bytes(&args.out.join("results.json"), format!("{json:#}\n").as_bytes())?;
    report::html(&file, &rows, &figures, &finished.store, context)?.save(args.out.join("report.html"))?;
    context.write_config(&args.out, "config.toml")?;
    let (cells, ran) = (finished.done.len(), finished.ran);
    let holes = finished.done.iter().filter(|d| d.1.is_err()).count();
    let mut said = table(&rows, &figures);
    said.push_str(&format!(
        "{cells} cells, {ran} of them run now in {:.0} s, {holes} failed\n  report {}\n",
        clock.elapsed().as_secs_f64(),
        args.out.join("report.html").display()
    ));
    context.result(&said, || json)
}

/// Runs the cells of `file` that are missing in `out`.
///
/// # Errors
/// As [`run`].
pub(crate) fn carry_out<'a>(
    file: &'a File,
    out: &Path,
    threads: usize,
    context: &Context,
) -> Result<Finished<'a>> {
    std::fs::create_dir_all(out).with_file(out)?;
    let store = open(file, out, threads, context)?;
    let labels = LabelArgs {
        label: file.label.clone(),
        positive: Some(file.positive.clone()),
        negative: Some(file.negative.clone()),
        threshold: None,
        drop_middle: None,
        scale: None,
        positive_name: None,
        negative_name: None,
    };
    let everything: Vec<usize> = (0..store.index().len()).collect();
    let labels = labels.resolve(store.index(), &everything).map_err(|e| e.in_file(store.dir()))?;
    let mut bench = Bench::new(file, &store, &labels, threads, pretrain::fingerprint(&store), context);
    interrupt::listen();
    let cells = file.readings.len() * file.models.len() * file.seeds.len() * file.people.len();
    let bar = context.progress(cells as u64, "cells");
    let (mut done, mut ran) = (Vec::new(), 0);
    for key in keys(file) {
        if interrupt::asked() {
            bar.finish_and_clear();
            return Err(Error::new(
                Kind::Interrupted,
                format!("stopped after {} of {cells} cells", done.len()),
            )
            .in_file(out)
            .remedy("run the same command again: finished cells are kept"));
        }
        bar.set_message(format!("{}, {}, seed {}", key.reading.name, key.model.name, key.seed));
        let outcome = one(&mut bench, &key, out, &mut ran);
        if let Err(e) = &outcome {
            let Key { reading, model, seed, people } = &key;
            context.warn(format!("{}, {}, seed {seed}, {people} people: {e}", reading.name, model.name));
        }
        done.push((key, outcome.map_err(|e| e.to_string())));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Finished { file, store, done, ran })
}

/// Every cell, seeds innermost.
fn keys(file: &File) -> Vec<Key<'_>> {
    let mut out = Vec::new();
    for reading in &file.readings {
        for model in &file.models {
            for &people in &file.people {
                out.extend(file.seeds.iter().map(|&seed| Key { reading, model, seed, people }));
            }
        }
    }
    out
}

/// The store: given, or prepared from a folder of recordings into the results.
fn open(file: &File, out: &Path, threads: usize, context: &Context) -> Result<Store> {
    if file.data.join("manifest.json").is_file() {
        return Store::open(&file.data);
    }
    let store = out.join("store");
    if !store.join("manifest.json").is_file() {
        let (data, into) = (file.data.to_string_lossy().into_owned(), store.to_string_lossy().into_owned());
        let (command, inner) = context.nested(&["prepare", &data, "--out", &into, "--skip-bad"])?;
        let Command::Prepare(flags) = command else { return Err(Error::usage("not prepare")) };
        let items = prepare::collect(&flags, &inner)?;
        let place = prepare::lock(&store, false, &inner)?;
        let settings = flags.preparation.resolve()?;
        prepare::into_store(place, &items, &settings, threads, &inner, |_, _, _| Ok(()))?;
    }
    Store::open(&store)
}

/// The result of a cell, kept or made now.
fn one(bench: &mut Bench<'_>, key: &Key<'_>, out: &Path, ran: &mut usize) -> Result<Outcome> {
    let path = cell::path(out, &bench.hash(key)?);
    if let Some(found) = cell::cached(&path) {
        return Ok(found);
    }
    let found = bench.run(key)?;
    *ran += 1;
    cell::save(&path, &found)?;
    // As it will be read back: JSON may move a number by its last bit, and figures must not depend on who ran the cell.
    Ok(cell::cached(&path).unwrap_or(found))
}

/// The cells by row: seeds together.
fn rows<'a>(file: &File, done: &'a [(Key<'_>, std::result::Result<Outcome, String>)]) -> Vec<Row<'a>> {
    let mut out = Vec::new();
    for part in done.chunks(file.seeds.len()) {
        let key = &part[0].0;
        out.push(Row {
            reading: key.reading.name.clone(),
            model: key.model.name.clone(),
            people: key.people,
            runs: part.iter().filter_map(|d| d.1.as_ref().ok()).collect(),
            holes: part.iter().filter_map(|d| d.1.as_ref().err().cloned()).collect(),
        });
    }
    out
}

/// The table for the terminal.
fn table(rows: &[Row<'_>], figures: &[Option<Figures>]) -> String {
    let mut out = String::new();
    let wide = rows.iter().map(|r| r.model.chars().count()).max().unwrap_or(0);
    let mut before = String::new();
    for (row, f) in rows.iter().zip(figures) {
        let people =
            if row.people == 0 { String::new() } else { format!(", {} training people", row.people) };
        let head = format!("{}{people}", row.reading);
        if head != before {
            out.push_str(&format!(
                "{head}\n  {:<wide$}  balanced accuracy  AUC                       AUC minus reference\n",
                ""
            ));
            before = head;
        }
        match f {
            None => out.push_str(&format!(
                "  {:<wide$}  failed: {}\n",
                row.model,
                row.holes.first().map_or("", String::as_str).lines().next().unwrap_or("")
            )),
            Some(f) => {
                let i = |s: &summary::Summary| match &s.interval {
                    Some(i) => format!("{:.3} ({:.3} to {:.3})", s.mean, i.low, i.high),
                    None => format!("{:.3}", s.mean),
                };
                let d = f.difference.and_then(|d| d.auc);
                let d = d.map_or(String::new(), |d| {
                    format!("{:+.3} ({:+.3} to {:+.3})", d.estimate, d.low, d.high)
                });
                out.push_str(&format!(
                    "  {:<wide$}  {:<17.3}  {:<24}  {d}\n",
                    row.model,
                    f.balanced.mean,
                    i(&f.auc)
                ));
            }
        }
    }
    out
}
