//! Published data sets, by name: where their recordings lie, whose they are, and their labels.
//!
//! A data set's reader turns a folder, as it was downloaded, into [`Items`] for [`crate::data::prepare`]; it decodes no
//! signal. Each lives in a file of its own and in [`DATASETS`]; a new one is one file and one line.
//!
//! | name | what is read |
//! |---|---|
//! | `amigos` | left-arm ECG of the pre-processed release, without the 5 s of baseline; self-assessment |
//! | `dreamer` | first ECG channel of every film; valence, arousal, dominance |
//! | `ascertain` | ECG of every clip; arousal, valence, engagement, liking, familiarity |
//! | `pspm-fr`, `pspm-hrm5`, `pspm-rrm1-2`, `pspm-vis` | the ECG channel that each file's header names; no labels |
//! | `eegmat` | rest and mental arithmetic |
//! | `case` | ECG of every video of the interpolated data; mean joystick valence and arousal |
//! | `yaad` | ECG of every video; self-annotation, once saved as CSV |
//! | `mitdb`, `ecgid`, `cinc2017` | WFDB records, people where known, rhythm |
//! | `ludb` | lead II of every record; rhythm |
//! | `drivedb` | the ECG of every drive; no labels |
//! | `gudb` | chest strap of every task |
//! | `maus` | ECG of every trial; n of the n-back task |
//! | `wesad` | chest ECG of every condition, from `.npz` files made from the pickles |
//!
//! How to obtain and cite each is in [`Dataset::obtain`] and [`Dataset::citation`], and printed by `heartlore prepare
//! --list-datasets`; the layout and its quirks are described in the module of each.
//!
//! The layouts of AMIGOS, DREAMER, ASCERTAIN, PsPM, CASE, YAAD, WESAD, DriveDB, GUDB and MAUS were taken from public programs that read them
//! and tested on files made alike, not on the data themselves. [`Dataset::checked`] says
//! which.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::data::files::{FileId, file_id};
use crate::data::table::{Item, Items};
use crate::error::{Error, IoContext, Result};

pub mod amigos;
pub mod ascertain;
pub mod case;
pub mod dreamer;
pub mod eegmat;
pub mod gudb;
pub mod ludb;
pub mod maus;
pub mod physionet;
pub mod pspm;
pub mod wesad;
pub mod yaad;

/// A published data set.
#[derive(Debug)]
pub struct Dataset {
    /// Name for `heartlore prepare --dataset`.
    pub name: &'static str,
    /// What it holds.
    pub what: &'static str,
    /// How to cite it.
    pub citation: &'static str,
    /// How to obtain it.
    pub obtain: &'static str,
    /// Under which terms it is given.
    pub licence: &'static str,
    /// What its reader has to know, and does.
    pub quirks: &'static str,
    /// What is expected in the folder.
    pub layout: &'static str,
    /// Label columns, with their scales.
    pub labels: &'static str,
    /// Whether the reader was tested on the data themselves (else on files made to their layout).
    pub checked: bool,
    /// Lists the recordings below a folder.
    pub(crate) read: fn(&Dataset, &Path, bool) -> Result<Found>,
}

/// What was found in a folder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The recordings, for [`crate::data::prepare::prepare`].
    pub items: Items,
    /// What was left out: (which, why).
    pub dropped: Vec<(String, String)>,
    /// Deviations from the data set's description that do not prevent reading.
    pub warnings: Vec<String>,
}

/// Every data set, by name.
pub static DATASETS: &[&Dataset] = &[
    &amigos::AMIGOS,
    &ascertain::ASCERTAIN,
    &case::CASE,
    &physionet::CINC2017,
    &dreamer::DREAMER,
    &physionet::DRIVEDB,
    &physionet::ECGID,
    &eegmat::EEGMAT,
    &gudb::GUDB,
    &ludb::LUDB,
    &maus::MAUS,
    &physionet::MITDB,
    &pspm::FR,
    &pspm::HRM5,
    &pspm::RRM12,
    &pspm::VIS,
    &wesad::WESAD,
    &yaad::YAAD,
];

/// The data set `name`.
///
/// # Errors
/// No such data set: the message lists those there are.
pub fn find(name: &str) -> Result<&'static Dataset> {
    let wanted = name.to_lowercase().replace('_', "-");
    DATASETS.iter().find(|d| d.name == wanted).copied().ok_or_else(|| {
        let names: Vec<&str> = DATASETS.iter().map(|d| d.name).collect();
        Error::usage(format!("there is no data set '{name}'"))
            .remedy(format!("the data sets are {}; use --table for a folder of your own", names.join(", ")))
    })
}

impl Dataset {
    /// Lists the recordings below `path`. With `strict`, what is missing or deviates is an error instead of being counted.
    ///
    /// # Errors
    /// The folder is not this data set's (the message says which file was expected and what was seen), a file that is
    /// needed is damaged; with `strict` any deviation.
    pub fn open(&self, path: &Path, strict: bool) -> Result<Found> {
        if !path.exists() {
            let e = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file or directory");
            return Err(Error::io(path, e).remedy(format!("expected: {}", self.layout)));
        }
        let mut found = (self.read)(self, path, strict)?;
        if found.items.items.is_empty() {
            let why = found.dropped.iter().take(3).map(|(what, why)| format!("{what}: {why}"));
            return Err(Error::data(format!(
                "no recording was found; {}",
                why.collect::<Vec<_>>().join("; ")
            ))
            .in_file(path)
            .remedy(format!("expected: {}", self.layout)));
        }
        let mut seen = BTreeSet::new();
        for item in &mut found.items.items {
            item.dataset = self.name.into();
            // Two trials of one name would be told apart by nobody.
            let key = (item.subject.clone(), item.trial.clone(), item.start_s.map(f64::to_bits));
            if item.trial.is_some() && !seen.insert(key) {
                let trial = item.trial.as_deref().unwrap_or("");
                found.warnings.push(format!("{}: two recordings of trial '{trial}'", item.subject));
            }
        }
        if strict && let Some(first) = found.warnings.first() {
            return Err(Error::data(first.clone())
                .in_file(path)
                .remedy("leave out --strict to go on with a warning"));
        }
        Ok(found)
    }

    /// The folder is not this data set's.
    fn wrong_folder(&self, path: &Path, expected: &str) -> Error {
        let mut seen: Vec<String> = Vec::new();
        if path.is_file() {
            seen.push(format!("a file of {} bytes", std::fs::metadata(path).map_or(0, |m| m.len())));
        } else if let Ok(entries) = list(path) {
            seen.extend(entries.iter().take(8).map(|p| name_of(p)));
            if entries.len() > 8 {
                seen.push(format!("and {} more", entries.len() - 8));
            }
        }
        let seen = if seen.is_empty() { "nothing".to_string() } else { seen.join(", ") };
        Error::data(format!("this is not {}: expected {expected}; seen: {seen}", self.name.to_uppercase()))
            .in_file(path)
            .remedy(format!("point at the folder as it was unpacked ({})", self.layout))
    }
}

/// Entries of a folder, sorted; without those that are hidden.
fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(path).with_file(path)? {
        let entry = entry.with_file(path)?.path();
        if !name_of(&entry).starts_with('.') {
            out.push(entry);
        }
    }
    out.sort();
    Ok(out)
}

/// Deepest folder that is looked into.
const MAX_FOLDERS: usize = 6;

/// Every file below a folder, in order of path, each once: by whatever links it or its folder is reached.
fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    fn walk(path: &Path, depth: usize, met: &mut BTreeSet<FileId>, out: &mut Vec<PathBuf>) -> Result<()> {
        let mut entries = list(path)?;
        // What is there itself before links to it.
        entries.sort_by_key(|p| p.is_symlink());
        for entry in entries {
            if !met.insert(file_id(&entry)) {
                continue;
            }
            if entry.is_dir() {
                if depth < MAX_FOLDERS {
                    walk(&entry, depth + 1, met, out)?;
                }
            } else {
                out.push(entry);
            }
        }
        Ok(())
    }
    let mut out = Vec::new();
    if path.is_file() {
        out.push(path.to_path_buf())
    } else {
        walk(path, 0, &mut BTreeSet::from([file_id(path)]), &mut out)?
    }
    out.sort();
    Ok(out)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The number that stands between `before` and `after` in a name, ignoring case: `between("P07.mat", "p", ".mat")` is 7.
fn between(name: &str, before: &str, after: &str) -> Option<u32> {
    let name = name.to_lowercase();
    let rest = name.strip_prefix(&before.to_lowercase())?.strip_suffix(&after.to_lowercase())?;
    rest.parse().ok()
}

/// A rating as a label; NaN is a missing one. Whole numbers are written as such.
fn rating(value: f64) -> Option<String> {
    value.is_finite().then(|| value.to_string())
}

/// Says which of the subjects `1..=count` are missing.
fn missing(have: &BTreeSet<u32>, count: u32, found: &mut Found) {
    let missing: Vec<String> = (1..=count).filter(|n| !have.contains(n)).map(|n| format!("{n:02}")).collect();
    if !missing.is_empty() {
        found.warnings.push(format!(
            "{} of {count} subjects are missing: {}",
            missing.len(),
            missing.join(", ")
        ));
    }
}

fn names(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|l| l.to_string()).collect()
}

/// How many recordings, and of whom, for people.
pub fn overview(items: &[Item]) -> BTreeMap<String, (usize, usize)> {
    let mut subjects: BTreeMap<String, (BTreeSet<&str>, usize)> = BTreeMap::new();
    for item in items {
        let entry = subjects.entry(item.dataset.clone()).or_default();
        entry.0.insert(&item.subject);
        entry.1 += 1;
    }
    subjects.into_iter().map(|(name, (people, n))| (name, (people.len(), n))).collect()
}
