//! `heartlore prepare`: recordings in, a prepared store out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::options::preparation::PreparationArgs;
use crate::checkpoint::NewDir;
use crate::cli::{Context, config, interrupt, overview};
use crate::data::datasets;
use crate::data::files::{FileId, file_id};
use crate::data::prepare::survey::{LabelColumn, survey};
use crate::data::prepare::{PrepareSettings, Report, prepare_into};
use crate::data::readers;
use crate::data::store::{Store, StoreWriter};
use crate::data::table::{self, Items};
use crate::error::{Error, IoContext, Result};

const EXAMPLES: &str = "\
Examples:
  heartlore prepare recordings/ --out store
  heartlore prepare --table items.csv --out store --hop 640
  heartlore prepare night.edf --channel ECG2 --unit uV --out store
  heartlore prepare packed/ --select eegmat --out store
  heartlore prepare --dataset amigos AMIGOS/data_preprocessed --dry-run
  heartlore prepare --dataset dreamer DREAMER.mat --out store
  heartlore prepare --list-datasets

Every data set, with how to obtain it: examples/datasets.md. A folder of your own, step by step: examples/own_recordings.md.

items.csv has one line per recording: file,subject,trial,start_s,end_s,channel,<labels...>; only file and subject are
required. Without a table every file counts as a person of its own.";

/// Flags of `prepare`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Recordings (CSV, .npy, EDF, WFDB .hea), folders of them, packed data sets, or the folder of a --dataset
    pub inputs: Vec<PathBuf>,
    /// Directory of the store to make
    #[arg(long, short, required_unless_present_any = ["dry_run", "list_datasets"])]
    pub out: Option<PathBuf>,
    /// Published data set that the input is, as it was downloaded; --list-datasets names them
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
    /// List the published data sets with citation, source, layout and labels
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub list_datasets: bool,
    /// Say what there is and what would be left out, and write nothing
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub dry_run: bool,
    /// SVG picture of people, hours, labels and what is left out, also of a dry run; a store has it as overview.svg
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Table of recordings with subjects and labels
    #[arg(long)]
    pub table: Option<PathBuf>,
    /// What to call the data set of recordings given without a table
    #[arg(long, default_value = "recordings")]
    pub name: String,
    /// Take only recordings of this data set; may be repeated
    #[arg(long = "select", value_name = "DATASET")]
    pub select: Vec<String>,
    /// Threads, 0 for all cores
    #[arg(long, default_value_t = 0, value_parser = super::options::threads)]
    pub threads: usize,
    /// How to prepare
    #[command(flatten)]
    pub preparation: PreparationArgs,
    /// Configuration file with any of these flags as keys
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// Prepares the store and says what was kept and dropped.
///
/// # Errors
/// No input, inputs that cannot be read, bad settings, or as [`prepare_into`].
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if args.list_datasets {
        return list_datasets(context);
    }
    let mut settings = args.preparation.resolve()?;
    if let Some(path) = &args.plot {
        super::windows::check_free(path, settings.overwrite)?;
    }
    // Before the work, so that a second command is refused at once.
    let place = match args.out.as_ref().filter(|_| !args.dry_run) {
        Some(out) => Some((out, lock(out, settings.overwrite, context)?)),
        None => None,
    };
    let (mut items, dropped) = match &args.dataset {
        Some(name) => dataset(name, args, &mut settings, context)?,
        None => (collect(args, context)?, Vec::new()),
    };
    if !args.select.is_empty() {
        let all: BTreeSet<String> = items.items.iter().map(|i| i.dataset.clone()).collect();
        for name in &args.select {
            if !all.contains(name) {
                let have: Vec<&str> = all.iter().map(String::as_str).collect();
                return Err(super::bad_flag("select", format!("there is no data set '{name}'"))
                    .remedy(format!("the data sets are {}", have.join(", "))));
            }
        }
        items.items.retain(|i| args.select.contains(&i.dataset));
    }
    let Some((out, place)) = place else {
        return dry_run(&items, &dropped, &settings, args, context);
    };
    let (settings_text, mut picture) = (context.config.borrow().to_toml(), None);
    let report = into_store(place, &items, &settings, args.threads, context, |report, store, place| {
        let svg = overview::of_report(report, dropped.len(), store);
        let write = |name: &str, text: &str| {
            place.write(name, |sink| sink.write_all(text.as_bytes()).with_file(place.named().join(name)))
        };
        write(config::FILE, &settings_text)?;
        write(overview::PICTURE, svg.as_str())?;
        picture = Some(svg);
        Ok(())
    })?;
    let store = Store::open(out)?;
    if let (Some(path), Some(picture)) = (&args.plot, picture) {
        overview::save(&picture, path, settings.overwrite, context)?;
    }
    context.result(&summary(&report, &settings, out), || {
        let m = store.manifest();
        serde_json::json!({
            "store": out.display().to_string(),
            "windows": m.windows,
            "samples": m.samples,
            "unit": m.unit,
            "processing": m.processing,
            "counts": m.counts,
            "datasets": report.datasets.iter().map(|(name, d)| (name.clone(), serde_json::json!({
                "subjects": d.subjects, "recordings": d.recordings, "windows": d.windows,
            }))).collect::<serde_json::Map<_, _>>(),
            "sha256": m.sha256,
        })
    })
}

/// Locks `out` for a store to come, with a warning where the file system has no locks.
///
/// # Errors
/// As [`StoreWriter::lock`].
pub(crate) fn lock(out: &Path, overwrite: bool, context: &Context) -> Result<NewDir> {
    let place = StoreWriter::lock(out, overwrite)?;
    if !place.is_locked() {
        super::rundir::warn_of_no_locks(out, context);
    }
    Ok(place)
}

/// [`prepare_into`] with a progress bar, Ctrl-C and a number of threads.
///
/// # Errors
/// As [`prepare_into`].
pub(crate) fn into_store(
    place: NewDir,
    items: &Items,
    settings: &PrepareSettings,
    threads: usize,
    context: &Context,
    more: impl FnOnce(&Report, &Store, &NewDir) -> Result<()> + Send,
) -> Result<Report> {
    interrupt::listen();
    let bar = context.progress(items.items.len() as u64, "preparing");
    let pool = pool(threads)?;
    let on_progress = |p: crate::data::prepare::Progress<'_>| {
        bar.set_position(p.done as u64);
        bar.set_message(format!("{} windows", p.windows));
        !interrupt::asked()
    };
    let mut on_progress = on_progress;
    // The closure must cross into the pool's thread; the bar can.
    let report = pool.install(|| prepare_into(place, items, settings, &mut on_progress, more));
    bar.finish_and_clear();
    report
}

fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|e| Error::usage(format!("{threads} threads: {e}")))
}

/// The recordings of a published data set, and what its reader left out.
fn dataset(
    name: &str,
    args: &Args,
    settings: &mut PrepareSettings,
    context: &Context,
) -> Result<(Items, Vec<(String, String)>)> {
    let set = datasets::find(name)?;
    let [path] = &args.inputs[..] else {
        return Err(super::bad_flag("dataset", "one folder is expected".to_string())
            .remedy(format!("give the folder that holds {}", set.layout)));
    };
    let mut found = set.open(path, settings.strict)?;
    for warning in found.warnings.iter().take(20) {
        context.warn(warning);
    }
    if found.warnings.len() > 20 {
        context.warn(format!("and {} more", found.warnings.len() - 20));
    }
    if !args.dry_run && !found.dropped.is_empty() {
        let (what, why) = &found.dropped[0];
        let n = found.dropped.len();
        context.warn(format!("{n} left out, such as {what}: {why}; --dry-run lists them"));
    }
    // What the user says overrules what the data set's reader knows.
    for item in &mut found.items.items {
        if settings.channel.is_some() {
            item.channel = None;
        }
        if settings.unit.is_some() {
            item.unit = None;
        }
    }
    settings.notes.push(format!("{name}: {}", set.citation));
    Ok((found.items, found.dropped))
}

fn list_datasets(context: &Context) -> Result<()> {
    let mut text = String::new();
    for set in datasets::DATASETS {
        text.push_str(&format!("{}: {}\n", set.name, set.what));
        let checked = if set.checked { "the data themselves" } else { "files made to this layout" };
        for (what, value) in [
            ("labels", set.labels),
            ("expects", set.layout),
            ("obtain", set.obtain),
            ("licence", set.licence),
            ("quirks", set.quirks),
            ("cite", set.citation),
            ("tested on", checked),
        ] {
            text.push_str(&format!("  {what}: {value}\n"));
        }
    }
    context.result(&text, || {
        let all = datasets::DATASETS.iter().map(|set| {
            serde_json::json!({
                "name": set.name, "what": set.what, "labels": set.labels, "layout": set.layout,
                "obtain": set.obtain, "licence": set.licence, "quirks": set.quirks, "citation": set.citation, "checked": set.checked,
            })
        });
        serde_json::Value::Array(all.collect())
    })
}

/// Says what there is; writes nothing.
fn dry_run(
    items: &Items,
    dropped: &[(String, String)],
    settings: &PrepareSettings,
    args: &Args,
    context: &Context,
) -> Result<()> {
    interrupt::listen();
    let bar = context.progress(items.items.len() as u64, "looking");
    let mut on_progress = |p: crate::data::prepare::Progress<'_>| {
        bar.set_position(p.done as u64);
        !interrupt::asked()
    };
    let survey = pool(args.threads)?.install(|| survey(items, settings, &mut on_progress));
    bar.finish_and_clear();
    let survey = survey?;
    if let Some(path) = &args.plot {
        let picture = overview::of_survey(&survey, dropped.len(), &settings.processing());
        overview::save(&picture, path, settings.overwrite, context)?;
    }
    let of = |map: &std::collections::BTreeMap<String, usize>, unit: &str| {
        map.iter().map(|(v, n)| format!("{v}{unit} ({n})")).collect::<Vec<_>>().join(", ")
    };
    let mut text = String::new();
    for (name, d) in &survey.datasets {
        text.push_str(&format!(
            "{name}: {} people, {} trials, {} recordings, {:.2} h\n  rates: {}\n  units: {}\n",
            d.subjects,
            d.trials,
            d.recordings,
            d.seconds / 3600.0,
            of(&d.rates, " Hz"),
            of(&d.units, "")
        ));
        if d.missing > 0 {
            text.push_str(&format!("  {} missing samples (NaN)\n", d.missing));
        }
        if d.short > 0 {
            text.push_str(&format!("  {} recordings are shorter than a window\n", d.short));
        }
        let hours = overview::hours(d.windows, &settings.processing());
        text.push_str(&format!("  {} windows would be kept, {hours:.2} h\n", d.windows));
    }
    let would_drop: usize = survey.windows_dropped.values().sum();
    if would_drop > 0 {
        let reasons = of(&survey.windows_dropped, "");
        text.push_str(&format!("  {would_drop} windows would be dropped: {reasons}\n"));
    }
    for label in &survey.labels {
        let values = match label.values.len() {
            n if n > 12 => format!("{n} values from {} to {}", ends(label).0, ends(label).1),
            _ => of(&label.values, ""),
        };
        text.push_str(&format!("  label {}: {values}; missing in {}\n", label.name, label.missing));
    }
    let skipped = survey.skipped.iter().map(|s| format!("{}: {}", s.record, s.reason));
    let left_out: Vec<String> =
        dropped.iter().map(|(what, why)| format!("{what}: {why}")).chain(skipped).collect();
    for (what, list) in [("left out", &left_out), ("warning", &survey.warnings)] {
        for line in list.iter().take(20) {
            text.push_str(&format!("  {what}: {line}\n"));
        }
        if list.len() > 20 {
            text.push_str(&format!("  and {} more {what}\n", list.len() - 20));
        }
    }
    text.push_str("nothing was written\n");
    context.result(&text, || {
        serde_json::json!({
            "datasets": survey.datasets.iter().map(|(name, d)| (name.clone(), serde_json::json!({
                "subjects": d.subjects, "trials": d.trials, "recordings": d.recordings, "seconds": d.seconds,
                "missing_samples": d.missing, "short": d.short, "rates_hz": d.rates, "units": d.units,
                "windows": d.windows,
            }))).collect::<serde_json::Map<_, _>>(),
            "labels": survey.labels.iter().map(|l| (l.name.clone(), serde_json::json!({
                "values": l.values, "missing": l.missing,
            }))).collect::<serde_json::Map<_, _>>(),
            "people": survey.people.iter().map(|((dataset, subject), s)| serde_json::json!({
                "dataset": dataset, "subject": subject, "windows_kept": s.kept, "windows_dropped": s.dropped,
            })).collect::<Vec<_>>(),
            "windows_dropped": survey.windows_dropped,
            "left_out": left_out,
            "warnings": survey.warnings,
        })
    })
}

/// The first and the last value: as numbers if all are, else as text.
fn ends(label: &LabelColumn) -> (String, String) {
    let mut values: Vec<&String> = label.values.keys().collect();
    if values.iter().all(|v| v.parse::<f64>().is_ok()) {
        let number = |v: &String| v.parse::<f64>().unwrap_or(f64::NAN);
        values.sort_by(|a, b| number(a).total_cmp(&number(b)));
    }
    let at = |v: Option<&&String>| v.map_or(String::new(), |v| v.to_string());
    (at(values.first()), at(values.last()))
}

/// All recordings that the flags name.
pub(crate) fn collect(args: &Args, context: &Context) -> Result<Items> {
    let mut parts = Vec::new();
    if let Some(path) = &args.table {
        let items = table::read_table(path)?;
        unnamed(&items, path, context)?;
        parts.push(items);
    }
    let mut files = Collected::default();
    for input in &args.inputs {
        let piped = input.as_os_str() == "-";
        if !piped && !input.exists() {
            let e = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file or directory");
            return Err(Error::io(input, e).remedy("check the path"));
        }
        let manifest = if input.is_dir() { input.join("manifest.csv") } else { input.clone() };
        let packed =
            manifest.is_file() && readers::find(&manifest).is_ok_and(|reader| reader.name() == "packed");
        if packed {
            parts.push(table::packed_items(input)?);
        } else if input.is_dir() {
            let (before, ignored) = (files.files.len() + files.again, files.ignored);
            files.walk(input)?;
            if files.files.len() + files.again == before {
                return Err(Error::data("the folder holds no recordings")
                    .in_file(input)
                    .remedy("recordings end in .csv, .tsv, .txt, .npy, .edf, .bdf, .rec or .hea, also followed by .gz"));
            }
            if files.ignored > ignored {
                let n = files.ignored - ignored;
                context.note(format!("{}: {n} files of other kinds left alone", input.display()));
            }
        } else {
            let name = if piped { "standard_input".into() } else { readers::stem(input) };
            files.add(input, name);
        }
    }
    if files.again > 0 {
        context
            .note(format!("{} paths lead to a recording that is there already; it counts once", files.again));
    }
    let files = files.files;
    if !files.is_empty() {
        context.note("each file counts as a person of its own; name people in a --table for labelled work");
        let paths: Vec<PathBuf> = files.iter().map(|(path, _)| path.clone()).collect();
        let mut items = table::file_items(&paths, &args.name);
        for (item, (_, name)) in items.items.iter_mut().zip(&files) {
            item.subject.clone_from(name);
        }
        parts.push(items);
    }
    if parts.is_empty() {
        return Err(Error::usage("there is nothing to prepare")
            .remedy("name recordings or folders, or a --table; `heartlore prepare --help` has examples"));
    }
    Ok(join(parts))
}

/// Says how many recordings stand beside those of the table without being named in it.
fn unnamed(items: &Items, table: &Path, context: &Context) -> Result<()> {
    let mut named: BTreeSet<FileId> = items.items.iter().map(|i| file_id(&i.file)).collect();
    named.insert(file_id(table));
    let real = |p: &Path| std::fs::canonicalize(p).unwrap_or_else(|_| p.to_path_buf());
    let files = items.items.iter().map(|i| i.file.as_path()).chain([table]);
    let folders: BTreeSet<PathBuf> = files.filter_map(|f| real(f).parent().map(Path::to_path_buf)).collect();
    let mut others = Vec::new();
    for folder in &folders {
        for entry in std::fs::read_dir(folder).with_file(folder)? {
            let path = entry.with_file(folder)?.path();
            if path.is_file() && is_recording(&path) && !named.contains(&file_id(&path)) {
                others.push(path);
            }
        }
    }
    others.sort();
    if let Some(first) = others.first() {
        let (n, shown) = (others.len(), first.display());
        context
            .warn(format!("{n} recordings beside those of the table are named by no line, such as {shown}"));
    }
    Ok(())
}

/// Whether a file in a folder is taken for a recording: by its extension, and not hidden.
fn is_recording(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
    let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let extension = name.rsplit_once('.').map_or(String::new(), |(_, e)| e.to_string());
    !hidden && ["csv", "tsv", "txt", "npy", "edf", "bdf", "rec", "hea"].contains(&extension.as_str())
}

/// The recordings of several folders and files, each once: links that lead back, two links to one folder and two paths to
/// one file add nothing.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// Recordings in order, each with the name of its path.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// Files of other kinds.
    pub(crate) ignored: usize,
    /// Paths to a recording that was there already.
    pub(crate) again: usize,
    met: BTreeSet<FileId>,
}

impl Collected {
    /// Adds a recording called `name`.
    pub(crate) fn add(&mut self, path: &Path, name: String) {
        if self.met.insert(file_id(path)) {
            self.files.push((path.to_path_buf(), name));
        } else {
            self.again += 1;
        }
    }

    /// Adds the recordings below `root`, in order of their names.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub(crate) fn walk(&mut self, root: &Path) -> Result<()> {
        self.descend(root, root, &mut BTreeSet::new())
    }

    fn descend(&mut self, root: &Path, dir: &Path, folders: &mut BTreeSet<FileId>) -> Result<()> {
        if !folders.insert(file_id(dir)) {
            return Ok(()); // A link to a folder that was walked through.
        }
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir).with_file(dir)? {
            entries.push(entry.with_file(dir)?.path());
        }
        // What is there itself before links to it, so that a name does not depend on a link's.
        entries.sort_by_key(|path| (path.is_symlink(), path.clone()));
        for path in entries {
            let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            if hidden {
                self.ignored += 1;
            } else if path.is_dir() {
                self.descend(root, &path, folders)?;
            } else if is_recording(&path) {
                let name = path.strip_prefix(root).unwrap_or(&path).with_extension("");
                self.add(&path, name.to_string_lossy().replace(['/', '\\'], "_"));
            } else {
                self.ignored += 1;
            }
        }
        Ok(())
    }
}

/// Several lists as one; labels that a list does not know are missing there.
fn join(parts: Vec<Items>) -> Items {
    let mut all = Items::default();
    for part in &parts {
        for name in &part.label_names {
            if !all.label_names.contains(name) {
                all.label_names.push(name.clone());
            }
        }
    }
    for part in parts {
        for mut item in part.items {
            let of = |name: &String| part.label_names.iter().position(|n| n == name);
            let labels: Vec<Option<String>> = all
                .label_names
                .iter()
                .map(|n| of(n).and_then(|c| item.labels.get(c).cloned().flatten()))
                .collect();
            item.labels = labels;
            all.items.push(item);
        }
    }
    all
}

/// What was kept and dropped, for people.
pub(crate) fn summary(report: &Report, settings: &PrepareSettings, out: &Path) -> String {
    let c = &report.counts;
    let seconds = settings.window as f64 / settings.rate_hz;
    let hours = c.windows_kept as f64 * settings.hop.min(settings.window) as f64 / settings.rate_hz / 3600.0;
    let mut text = format!(
        "{}: {} windows of {} samples ({seconds:.1} s at {} Hz), {hours:.2} h of signal\n",
        out.display(),
        c.windows_kept,
        settings.window,
        settings.rate_hz
    );
    let wide = report.datasets.keys().map(String::len).max().unwrap_or(0).max("data set".len());
    text.push_str(&format!(
        "  {:<wide$}  {:>8}  {:>10}  {:>8}\n",
        "data set", "people", "recordings", "windows"
    ));
    for (name, d) in &report.datasets {
        text.push_str(&format!(
            "  {name:<wide$}  {:>8}  {:>10}  {:>8}\n",
            d.subjects, d.recordings, d.windows
        ));
    }
    let dropped: u64 = c.windows_dropped.values().sum();
    if dropped > 0 {
        let mut reasons: Vec<_> = c.windows_dropped.iter().collect();
        reasons.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        let reasons: Vec<String> = reasons.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
        text.push_str(&format!("  dropped {dropped} windows: {}\n", reasons.join(", ")));
    }
    if c.samples_missing > 0 {
        text.push_str(&format!("  {} missing samples (NaN); windows do not cross them\n", c.samples_missing));
    }
    if c.samples_left_over > 0 {
        text.push_str(&format!("  {} samples at the ends fill no window\n", c.samples_left_over));
    }
    for (what, list) in [
        ("skipped", c.skipped.iter().map(|s| format!("{}: {}", s.record, s.reason)).collect::<Vec<_>>()),
        ("warning", c.warnings.clone()),
    ] {
        for line in list.iter().take(10) {
            text.push_str(&format!("  {what}: {line}\n"));
        }
        if list.len() > 10 {
            text.push_str(&format!("  and {} more; see manifest.json\n", list.len() - 10));
        }
    }
    text
}
