//! From recordings to a prepared store.
//!
//! Each recording goes alone through [`cut`]: read, unit, part, finite stretches, band-pass, resampling, windows, quality
//! gate, normalisation. Recordings are worked on in parallel, a few for each thread at a time, while those before them are
//! written in the order of the items; so memory is bounded by the recordings in flight, and the bytes written do not
//! depend on the number of threads. Checksums of the sources and of the store are formed side by side at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::checkpoint::NewDir;
use crate::data::content::thinning;
use crate::data::index::Row;
use crate::data::manifest::{
    Counts, Filter, Manifest, Processing, RecordingContent, Skipped, Source, sha256_file,
};
use crate::data::readers::text::TextOptions;
use crate::data::recording::Unit;
use crate::data::store::{Store, StoreWriter};
use crate::data::table::{Item, Items};
use crate::error::{Error, IoContext, Kind, Result};
use crate::signal::{BandPass, Normalisation, Preparation, QualitySettings, Scaler};

pub mod cut;
mod duplicates;
pub mod survey;

use duplicates::Known;

/// How to prepare recordings.
#[derive(Clone, Debug, PartialEq)]
pub struct PrepareSettings {
    /// Rate of the windows, Hz. Default 128.
    pub rate_hz: f64,
    /// The band-pass. Default: Butterworth order 4 (8 poles), 0.8 to 50 Hz, zero-phase.
    pub filter: Option<Filter>,
    /// Samples per window. Default 1280 (10 s).
    pub window: usize,
    /// Samples from one window to the next. Default 1280.
    pub hop: usize,
    /// Over what windows are scaled. Default: each window by itself, which cannot leak a label.
    pub normalisation: Normalisation,
    /// Thresholds of the quality gate; None keeps everything. Default: on.
    pub quality: Option<QualitySettings>,
    /// Channel for all items that name none.
    pub channel: Option<String>,
    /// Unit of all channels whose file gives none, or one that their amplitudes rule out.
    pub unit: Option<Unit>,
    /// Sampling rate of all files that give none, Hz.
    pub fs_hz: Option<f64>,
    /// Record to read of files that hold several, for items that name none.
    pub record: Option<String>,
    /// Column of time stamps of text tables, for items that name none.
    pub time_column: Option<String>,
    /// How text tables are written, for items that do not say.
    pub text: TextOptions,
    /// Most windows of one subject.
    pub max_per_subject: Option<usize>,
    /// Most windows of one data set.
    pub max_per_dataset: Option<usize>,
    /// Whether a recording that cannot be read is skipped and reported instead of stopping the work.
    pub skip_bad: bool,
    /// Whether damage that leaves samples usable stops the work instead of being reported.
    pub strict: bool,
    /// Whether an existing store may be replaced.
    pub overwrite: bool,
    /// Licences and attributions for the manifest. A file `LICENSE-NOTES.txt` beside a recording is added by itself.
    pub notes: Vec<String>,
}

impl Default for PrepareSettings {
    fn default() -> Self {
        Self {
            rate_hz: 128.0,
            filter: Some(Filter { order: 4, low_hz: 0.8, high_hz: 50.0, zero_phase: true }),
            window: 1280,
            hop: 1280,
            normalisation: Normalisation::Window,
            quality: Some(QualitySettings::default()),
            channel: None,
            unit: None,
            fs_hz: None,
            record: None,
            time_column: None,
            text: TextOptions::default(),
            max_per_subject: None,
            max_per_dataset: None,
            skip_bad: false,
            strict: false,
            overwrite: false,
            notes: Vec::new(),
        }
    }
}

impl PrepareSettings {
    /// The part that decides a window's values.
    pub fn processing(&self) -> Processing {
        Processing {
            rate_hz: self.rate_hz,
            window: self.window,
            hop: self.hop,
            filter: self.filter.clone(),
            normalisation: self.normalisation.to_string(),
        }
    }

    /// The same in the signal room's words.
    pub fn preparation(&self) -> Preparation {
        Preparation {
            rate_hz: self.rate_hz,
            filter: self.filter.as_ref().map(|f| BandPass {
                order: f.order,
                low_hz: f.low_hz,
                high_hz: f.high_hz,
                zero_phase: f.zero_phase,
            }),
            window: self.window,
            hop: self.hop,
            normalisation: self.normalisation,
            quality: self.quality,
        }
    }

    /// How many windows begin within `hours` of signal: for caps given in hours.
    pub fn windows_in_hours(&self, hours: f64) -> usize {
        (hours * 3600.0 * self.rate_hz / self.hop as f64).floor().max(0.0) as usize
    }

    fn check(&self) -> Result<()> {
        if !(self.rate_hz.is_finite() && self.rate_hz > 0.0) {
            return Err(Error::usage(format!("a rate of {} Hz", self.rate_hz)));
        }
        if self.window == 0 || self.hop == 0 {
            return Err(Error::usage("window and hop must be at least 1 sample"));
        }
        if self.max_per_subject == Some(0) || self.max_per_dataset == Some(0) {
            return Err(Error::usage("a cap of 0 windows keeps nothing"));
        }
        if let Some(f) = &self.filter
            && f.high_hz >= self.rate_hz / 2.0
        {
            return Err(Error::usage(format!(
                "windows at {} Hz cannot hold a band up to {} Hz",
                self.rate_hz, f.high_hz
            ))
            .remedy("raise the rate above twice the upper cut-off, or lower the cut-off"));
        }
        Ok(())
    }
}

/// How far the work has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Recordings done.
    pub done: usize,
    /// Recordings in all.
    pub total: usize,
    /// Windows written.
    pub windows: usize,
    /// File of the last recording.
    pub file: &'a Path,
}

/// Windows of one person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Kept.
    pub kept: usize,
    /// Dropped, by the quality gate or a cap.
    pub dropped: usize,
}

/// What one data set gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatasetReport {
    /// People with at least one window.
    pub subjects: usize,
    /// Recordings with at least one window.
    pub recordings: usize,
    /// Windows.
    pub windows: usize,
    /// Recordings by sampling rate in Hz, as text.
    pub rates: BTreeMap<String, usize>,
    /// Recordings by unit.
    pub units: BTreeMap<String, usize>,
}

/// What was made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// What was kept and dropped, as in the manifest.
    pub counts: Counts,
    /// By data set.
    pub datasets: BTreeMap<String, DatasetReport>,
    /// By (data set, person): everybody with a recording that can be read.
    pub people: BTreeMap<(String, String), Share>,
}

/// Prepares `items` into a new store at `target`. `progress` is called after each recording, in order; it returns false
/// to stop.
///
/// # Errors
/// Bad settings; a recording that cannot be used, unless `skip_bad`; the same samples under two people; no window left at all (the message says why they
/// were dropped); a full disk; [`Kind::Interrupted`] when `progress` stops the work. The target is then as it was.
pub fn prepare(
    items: &Items,
    settings: &PrepareSettings,
    target: &Path,
    progress: &mut dyn FnMut(Progress<'_>) -> bool,
) -> Result<Report> {
    settings.check()?;
    prepare_into(StoreWriter::lock(target, settings.overwrite)?, items, settings, progress, |_, _, _| Ok(()))
}

/// [`prepare`] into a place that is locked already ([`StoreWriter::lock`]). `more` is called with the finished store before
/// it takes its place, to write further files into its directory.
///
/// # Errors
/// As [`prepare`], and what `more` returns.
pub fn prepare_into(
    place: NewDir,
    items: &Items,
    settings: &PrepareSettings,
    progress: &mut dyn FnMut(Progress<'_>) -> bool,
    more: impl FnOnce(&Report, &Store, &NewDir) -> Result<()>,
) -> Result<Report> {
    settings.check()?;
    if items.items.is_empty() {
        return Err(Error::data("there are no recordings to prepare"));
    }
    let doubts = checked(items, settings)?;
    let items_in_all = items.items.len();
    let mut writer = StoreWriter::create_in(place, settings.window, &items.label_names, settings.overwrite)?;
    let scalers = subject_scalers(&items.items, settings)?;
    let quotas = quotas(&items.items, settings);
    let mut report = Report::default();
    report.counts.recordings = items.items.len() as u64;
    let mut warnings = Warnings::default();
    let mut files: BTreeSet<PathBuf> = BTreeSet::new();
    let mut subjects: BTreeSet<(&str, &str)> = BTreeSet::new();
    let mut units: BTreeSet<&'static str> = BTreeSet::new();
    let mut known: Vec<(Known<'_>, Vec<PathBuf>, String)> = Vec::new();
    let mut done = 0;
    let mut take = |first: usize, cuts: Vec<Result<cut::Cut>>| -> Result<()> {
        for (item, cut) in items.items[first..].iter().zip(cuts) {
            let name = item_name(item);
            match cut {
                Ok(cut) => {
                    let counts = &mut report.counts;
                    counts.samples_missing += cut.missing as u64;
                    counts.samples_left_over += cut.left_over as u64;
                    for (reason, n) in &cut.dropped {
                        *counts.windows_dropped.entry(reason.clone()).or_default() += *n as u64;
                    }
                    cut.warnings.iter().for_each(|w| warnings.add(item, w));
                    files.extend(cut.files.iter().cloned());
                    let share =
                        report.people.entry((item.dataset.clone(), item.subject.clone())).or_default();
                    share.kept += cut.windows.len();
                    share.dropped += cut.dropped.values().sum::<usize>();
                    if cut.windows.is_empty() {
                        let why = cut.why_empty();
                        counts.skipped.push(Skipped { record: name, reason: why });
                    } else {
                        units.insert(if cut.calibrated { "mV" } else { "arbitrary" });
                        let entry = report.datasets.entry(item.dataset.clone()).or_default();
                        entry.recordings += 1;
                        *entry.rates.entry(cut.fs_hz.to_string()).or_default() += 1;
                        *entry.units.entry(cut.unit.clone()).or_default() += 1;
                        entry.windows += cut.windows.len();
                        entry.subjects += usize::from(subjects.insert((&item.dataset, &item.subject)));
                    }
                    if !cut.windows.is_empty() {
                        let (samples, sketch) = cut.content;
                        known.push((Known { item, samples, sketch }, cut.files, cut.record.clone()));
                    }
                    for (start_s, quality, window) in cut.windows {
                        let row = Row {
                            dataset: item.dataset.clone(),
                            subject: item.subject.clone(),
                            trial: item.trial.clone().unwrap_or_else(|| cut.record.clone()),
                            record: cut.record.clone(),
                            start_s,
                            quality: quality.into(),
                            labels: item.labels.clone(),
                        };
                        writer.push(&row, &window)?;
                    }
                }
                Err(e) if settings.skip_bad && matches!(e.kind(), Kind::Format | Kind::Data | Kind::Io) => {
                    report.counts.skipped.push(Skipped { record: name, reason: e.to_string() });
                }
                Err(e) => return Err(e.in_file(&item.file)),
            }
            done += 1;
            let state = Progress { done, total: items_in_all, windows: writer.len(), file: &item.file };
            if !progress(state) {
                return Err(Error::new(Kind::Interrupted, "preparation stopped; nothing was written"));
            }
        }
        Ok(())
    };
    // While some recordings are worked on, the ones before them are written.
    let work = |first: usize, items: &[Item]| -> Vec<Result<cut::Cut>> {
        let one = |(j, item): (usize, &Item)| {
            let scaler = scalers.get(&(item.dataset.as_str(), item.subject.as_str()));
            cut::cut(item, settings, scaler, quotas[first + j])
        };
        items.par_iter().enumerate().map(one).collect()
    };
    let threads = rayon::current_num_threads().max(1);
    let (mut begun, mut ahead) = (0, threads);
    let mut ready: (usize, Vec<Result<cut::Cut>>) = (0, Vec::new());
    while begun < items_in_all || !ready.1.is_empty() {
        let now = begun..items_in_all.min(begun + ahead);
        let mut next = Vec::new();
        rayon::in_place_scope(|scope| {
            if !now.is_empty() {
                scope.spawn(|_| next = work(now.start, &items.items[now.clone()]));
            }
            take(ready.0, std::mem::take(&mut ready.1))
        })?;
        ahead = threads * batches(&next, settings.window);
        (begun, ready) = (now.end, (now.start, next));
    }
    let known_files: Vec<Vec<PathBuf>> = known.iter_mut().map(|k| std::mem::take(&mut k.1)).collect();
    let (known, records): (Vec<Known<'_>>, Vec<String>) =
        known.into_iter().map(|(k, _, record)| (k, record)).unzip();
    let doubts = doubts.into_iter().chain(strictly(duplicates::doubts(&known)?, settings)?);
    report.counts.warnings = doubts.chain(warnings.into_lines()).collect();
    report.counts.windows_kept = writer.len() as u64;
    if writer.is_empty() {
        return Err(nothing_left(&report.counts));
    }
    let unit = match (settings.normalisation, units.len()) {
        (Normalisation::None, 1) => units.first().copied().unwrap_or("mV"),
        (Normalisation::None, _) => {
            return Err(Error::data("some recordings are in mV and some in arbitrary units")
                .remedy("normalise, or prepare them apart"));
        }
        _ => "z-score",
    };
    let mut notes = settings.notes.clone();
    let checksum = |file: &PathBuf| {
        let (sha256, bytes) = sha256_file(file)?;
        Ok(Source { file: file.display().to_string(), bytes, sha256 })
    };
    let (sealed, sources) =
        rayon::join(|| writer.seal(), || files.par_iter().map(checksum).collect::<Vec<Result<Source>>>());
    sealed?;
    let sources = sources.into_iter().collect::<Result<Vec<_>>>()?;
    let folders: BTreeSet<&Path> = files.iter().filter_map(|f| f.parent()).collect();
    for folder in folders {
        let path = folder.join("LICENSE-NOTES.txt");
        if std::fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() <= 65_536) {
            notes.push(String::from_utf8_lossy(&std::fs::read(&path).with_file(&path)?).trim().to_string());
        }
    }
    let places: BTreeMap<&PathBuf, usize> = files.iter().enumerate().map(|(i, f)| (f, i)).collect();
    let anchors = known.iter().map(|k| k.sketch.len()).sum();
    let step = thinning(anchors, MOST_ANCHORS);
    let recordings =
        known.into_iter().zip(known_files).zip(records).map(|((k, files), record)| RecordingContent {
            dataset: k.item.dataset.clone(),
            subject: k.item.subject.clone(),
            trial: k.item.trial.clone().unwrap_or_else(|| record.clone()),
            record,
            naming: k.item.naming,
            sources: files.iter().filter_map(|f| places.get(f).copied()).collect(),
            samples_sha256: k.samples,
            sketch: if step > 1 { k.sketch.thinned(step) } else { k.sketch },
        });
    let manifest = Manifest {
        recordings: Some(recordings.collect()),
        format: String::new(),
        format_version: 0,
        heartlore_version: String::new(),
        windows: 0,
        samples: 0,
        unit: unit.into(),
        processing: settings.processing(),
        quality_gate: gate_json(settings.quality.as_ref()),
        caps: serde_json::json!({
            "windows_per_subject": settings.max_per_subject,
            "windows_per_dataset": settings.max_per_dataset,
        }),
        labels: Vec::new(),
        counts: report.counts.clone(),
        sources,
        notes,
        sha256: BTreeMap::new(),
    };
    writer.finish_with(manifest, |store, place| more(&report, store, place))?;
    Ok(report)
}

/// Anchors of all recordings that a manifest holds at most; about 20 MB of text, for 200 hours of ECG.
const MOST_ANCHORS: usize = 1 << 20;

/// The doubts about `items`, which are an error when the settings are strict.
fn checked(items: &Items, settings: &PrepareSettings) -> Result<Vec<String>> {
    strictly(items.check()?, settings)
}

fn strictly(doubts: Vec<String>, settings: &PrepareSettings) -> Result<Vec<String>> {
    match doubts.first() {
        Some(first) if settings.strict => {
            Err(Error::data(first.clone()).remedy("leave out --strict to go on with a warning"))
        }
        _ => Ok(doubts),
    }
}

/// How many recordings per thread to work on while these are written: enough that threads seldom wait for the longest,
/// few enough that their windows, judged by these, take no more than some tens of MiB.
fn batches(cuts: &[Result<cut::Cut>], window: usize) -> usize {
    let largest = cuts.iter().flatten().map(|c| c.windows.len()).max().unwrap_or(0).max(1);
    let bytes = largest.saturating_mul(window).saturating_mul(size_of::<f32>());
    (BATCH_BYTES / bytes).clamp(1, 4)
}

/// Windows of one thread's share of a batch, in bytes.
const BATCH_BYTES: usize = 16 << 20;

/// Warnings about recordings, in the order in which they were met. One that every record of a file brings up, such as a
/// wrong checksum of all of it, is told once and counted.
#[derive(Default)]
struct Warnings {
    met: Vec<Warning>,
    place: BTreeMap<(PathBuf, String), usize>,
}

struct Warning {
    /// File and record in which it was met first.
    first: String,
    file: PathBuf,
    text: String,
    times: usize,
}

impl Warnings {
    fn add(&mut self, item: &Item, text: &str) {
        let next = self.met.len();
        let i = *self.place.entry((item.file.clone(), text.to_string())).or_insert(next);
        match self.met.get_mut(i) {
            Some(warning) => warning.times += 1,
            None => self.met.push(Warning {
                first: item_name(item),
                file: item.file.clone(),
                text: text.to_string(),
                times: 1,
            }),
        }
    }

    fn into_lines(self) -> impl Iterator<Item = String> {
        self.met.into_iter().map(|w| match w.times {
            1 => format!("{}: {}", w.first, w.text),
            n => format!("{}: {} ({n} recordings)", w.file.display(), w.text),
        })
    }
}

/// File and record, for messages.
fn item_name(item: &Item) -> String {
    match &item.record {
        Some(record) => format!("{} ({record})", item.file.display()),
        None => item.file.display().to_string(),
    }
}

fn nothing_left(counts: &Counts) -> Error {
    let mut why: Vec<String> =
        counts.windows_dropped.iter().map(|(r, n)| format!("{n} windows: {r}")).collect();
    why.extend(counts.skipped.iter().take(5).map(|s| format!("{}: {}", s.record, s.reason)));
    Error::data(format!("no window is left of {} recordings; {}", counts.recordings, why.join("; "))).remedy(
        "use a shorter window, another channel, or switch the quality gate off and look at the signal",
    )
}

/// Most windows of each item. A cap is shared out evenly over the items it covers, so that a capped data set still shows
/// all its people; within an item the windows kept are evenly spaced. What an item cannot fill is not given to others.
fn quotas(items: &[Item], settings: &PrepareSettings) -> Vec<usize> {
    let mut quota = vec![usize::MAX; items.len()];
    let mut share = |cap: Option<usize>, key: &dyn Fn(&Item) -> (String, String)| {
        let Some(cap) = cap else { return };
        let mut groups: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
        for (i, item) in items.iter().enumerate() {
            groups.entry(key(item)).or_default().push(i);
        }
        for members in groups.values() {
            for (j, &i) in members.iter().enumerate() {
                // Evenly spread remainder: the shares add up to the cap. No product of the cap, which may be any number.
                let n = members.len();
                let (each, rest) = (cap / n, cap % n);
                let own = each + (j + 1) * rest / n - j * rest / n;
                quota[i] = quota[i].min(own);
            }
        }
    };
    share(settings.max_per_subject, &|i| (i.dataset.clone(), i.subject.clone()));
    share(settings.max_per_dataset, &|i| (i.dataset.clone(), String::new()));
    quota
}

/// Scalers over all samples of each person, when asked for: a first pass over the recordings.
fn subject_scalers<'a>(
    items: &'a [Item],
    settings: &PrepareSettings,
) -> Result<BTreeMap<(&'a str, &'a str), Scaler>> {
    let mut out = BTreeMap::new();
    if settings.normalisation != Normalisation::Subject {
        return Ok(out);
    }
    let mut moments: BTreeMap<(&str, &str), cut::Moments> = BTreeMap::new();
    for chunk in items.chunks(rayon::current_num_threads().max(1)) {
        let each: Vec<Result<cut::Moments>> = chunk.par_iter().map(|i| cut::moments(i, settings)).collect();
        for (item, m) in chunk.iter().zip(each) {
            match m {
                Ok(m) => moments.entry((&item.dataset, &item.subject)).or_default().add(&m),
                // The second pass meets the same error and reports it.
                Err(_) if settings.skip_bad => {}
                Err(e) => return Err(e.in_file(&item.file)),
            }
        }
    }
    out.extend(moments.into_iter().map(|(k, m)| (k, m.scaler())));
    Ok(out)
}

fn gate_json(gate: Option<&QualitySettings>) -> serde_json::Value {
    let object = |q: &QualitySettings| {
        let value = |(name, v): (&str, f64)| {
            let whole = name == "min_beats";
            (name.to_string(), if whole { serde_json::json!(v as u64) } else { serde_json::json!(v) })
        };
        q.named().into_iter().map(value).collect::<serde_json::Map<_, _>>().into()
    };
    gate.map_or(serde_json::Value::Null, object)
}
