//! WFDB collections of PhysioNet: MIT-BIH Arrhythmia, ECG-ID, and the challenge of 2017.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Dataset, Found, files_below, name_of, names};
use crate::data::table::Item;
use crate::error::{Error, IoContext, Result};

pub(super) static MITDB: Dataset = Dataset {
    name: "mitdb",
    what: "MIT-BIH Arrhythmia: 48 half-hour clinical recordings of 47 people, 360 Hz, annotated beats",
    citation: "Moody, Mark. The impact of the MIT-BIH Arrhythmia Database. IEEE Engineering in Medicine and Biology 20(3), \
               2001; PhysioNet, doi:10.13026/C2F305, ODC-By 1.0",
    obtain: "download from physionet.org/content/mitdb",
    licence: "ODC-By 1.0",
    quirks: "Records 201 and 202 are of one person. Two leads of 360 Hz, mostly MLII first; paced beats in \
             102, 104, 107 and 217; annotations stand for beats and rhythm",
    layout: "100.hea, 100.dat, 100.atr to 234",
    labels: "none (beats are annotations)",
    checked: true,
    read: mitdb,
};

pub(super) static ECGID: Dataset = Dataset {
    name: "ecgid",
    what: "ECG-ID: 310 recordings of 20 s of 90 people, lead I, 500 Hz",
    citation: "Lugovaya. Biometric human identification based on electrocardiogram. Master's thesis, ETU St. Petersburg, \
               2005; PhysioNet, doi:10.13026/C2J01F, ODC-By 1.0",
    obtain: "download from physionet.org/content/ecgiddb",
    licence: "ODC-By 1.0",
    quirks: "Of 620 checksums in the headers 22 are wrong although the files are whole: warned of. The first \
             channel is as recorded, the second filtered; the first is taken. A person's recordings may lie \
             months apart",
    layout: "Person_01/rec_1.hea to Person_90",
    labels: "none",
    checked: true,
    read: ecgid,
};

pub(super) static CINC2017: Dataset = Dataset {
    name: "cinc2017",
    what: "PhysioNet/CinC challenge 2017: 8,528 hand-held recordings of 9 to 61 s, 300 Hz, rhythm labels",
    citation: "Clifford and others. AF classification from a short single lead ECG recording. Computing in Cardiology 2017; \
               PhysioNet, doi:10.22489/CinC.2017.065-469, ODC-By 1.0",
    obtain: "download from physionet.org/content/challenge-2017",
    licence: "ODC-By 1.0",
    quirks: "The headers write the date before the time, and describe a MATLAB v4 file as format 16 after 24 \
             bytes. Whose recordings they are is not published: each counts as a person. One hand-held lead, \
             sometimes upside down",
    layout: "A00001.hea and A00001.mat to A08528, with REFERENCE.csv or REFERENCE-v3.csv",
    labels: "rhythm (N normal, A atrial fibrillation, O other, ~ noise)",
    checked: true,
    read: cinc2017,
};

pub(super) static DRIVEDB: Dataset = Dataset {
    name: "drivedb",
    what: "Stress recognition in automobile drivers: 18 drives of 25 to 93 minutes, ECG at 496 Hz",
    citation: "Healey, Picard. Detecting stress during real-world driving tasks using physiological sensors. IEEE \
               Transactions on Intelligent Transportation Systems 6(2), 2005; PhysioNet, doi:10.13026/C2SG6B, ODC-By 1.0",
    obtain: "download from physionet.org/content/drivedb",
    licence: "ODC-By 1.0",
    quirks: "Signals of different rates share a frame. Who drove is not published for each record, so each counts as a \
             person although some are of one driver; no labels: rest, city and highway are told by a marker only",
    layout: "drive01.hea and drive01.dat to drive17b",
    labels: "none",
    checked: false,
    read: drivedb,
};

fn drivedb(set: &Dataset, path: &Path, _strict: bool) -> Result<Found> {
    let fits = |n: &str| n.strip_prefix("drive").is_some_and(|k| k.starts_with(|c: char| c.is_ascii_digit()));
    let mut found = Found::default();
    let list = headers(set, path, "drive01.hea", fits)?;
    found.warnings.push(format!(
        "{} drives count as one person each, although some are of one driver: a split by person is not honest",
        list.len()
    ));
    for (name, file) in list {
        let (subject, trial, channel) = (name.clone(), Some(name), Some("ECG".into()));
        found.items.items.push(Item { file, subject, trial, channel, ..Item::default() });
    }
    Ok(found)
}

pub(super) fn headers(
    set: &Dataset,
    path: &Path,
    expected: &str,
    fits: impl Fn(&str) -> bool,
) -> Result<Vec<(String, PathBuf)>> {
    let files = files_below(path)?.into_iter();
    let all: Vec<(String, PathBuf)> = files
        .filter_map(|f| Some((name_of(&f).strip_suffix(".hea")?.to_string(), f)))
        .filter(|f| fits(&f.0))
        .collect();
    if all.is_empty() { Err(set.wrong_folder(path, expected)) } else { Ok(all) }
}

fn mitdb(set: &Dataset, path: &Path, _strict: bool) -> Result<Found> {
    let number = |n: &str| n.len() == 3 && n.parse::<u32>().is_ok_and(|n| (100..=234).contains(&n));
    let mut found = Found::default();
    for (name, file) in headers(set, path, "100.hea", number)? {
        // Records 201 and 202 are of one person.
        let subject = if name == "202" { "201".to_string() } else { name.clone() };
        found.items.items.push(Item { file, subject, trial: Some(name), ..Item::default() });
    }
    if found.items.items.len() != 48 {
        found.warnings.push(format!("{} records where 48 are expected", found.items.items.len()));
    }
    Ok(found)
}

fn ecgid(set: &Dataset, path: &Path, _strict: bool) -> Result<Found> {
    let mut found = Found::default();
    let mut people = BTreeSet::new();
    for (name, file) in headers(set, path, "Person_01/rec_1.hea", |n| n.starts_with("rec_"))? {
        let subject = file.parent().map(name_of).unwrap_or_default();
        if !subject.starts_with("Person_") {
            found.dropped.push((
                file.display().to_string(),
                "not in a folder Person_NN: nobody knows whose it is".into(),
            ));
            continue;
        }
        people.insert(subject.clone());
        let channel = Some("#1".into());
        found.items.items.push(Item { file, subject, trial: Some(name), channel, ..Item::default() });
    }
    if people.len() != 90 {
        found.warnings.push(format!("{} people where 90 are expected", people.len()));
    }
    Ok(found)
}

fn cinc2017(set: &Dataset, path: &Path, _strict: bool) -> Result<Found> {
    let number = |n: &str| n.len() == 6 && n.starts_with('A') && n[1..].parse::<u32>().is_ok();
    let mut found = Found::default();
    found.items.label_names = names(&["rhythm"]);
    let list = headers(set, path, "A00001.hea", number)?;
    let labels = references(path, &mut found)?;
    let mut without = 0;
    for (name, file) in &list {
        let label = labels.get(name).cloned();
        without += usize::from(label.is_none());
        // Whose recordings they are was not published: each counts as a person.
        found.items.items.push(Item {
            file: file.clone(),
            subject: name.clone(),
            trial: Some(name.clone()),
            labels: vec![label],
            ..Item::default()
        });
    }
    if without > 0 {
        found.warnings.push(format!("{without} of {} recordings have no label", list.len()));
    }
    let known: BTreeSet<&String> = list.iter().map(|l| &l.0).collect();
    let astray = labels.keys().filter(|k| !known.contains(k)).count();
    if astray > 0 {
        found.warnings.push(format!("{astray} labels belong to recordings that are not here"));
    }
    Ok(found)
}

/// `REFERENCE*.csv`: lines of record, label. The newest version wins.
fn references(path: &Path, found: &mut Found) -> Result<BTreeMap<String, String>> {
    let all = files_below(path)?;
    let file =
        all.iter().filter(|f| name_of(f).starts_with("REFERENCE") && name_of(f).ends_with(".csv")).max();
    let Some(file) = file else {
        found.warnings.push("REFERENCE.csv was not found: recordings have no labels".into());
        return Ok(BTreeMap::new());
    };
    let text = std::fs::read_to_string(file).with_file(file)?;
    let mut labels = BTreeMap::new();
    for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let (record, label) = line.split_once(',').ok_or_else(|| {
            Error::format("record,label is expected").in_file(file).at(format!("line {}", i + 1))
        })?;
        labels.insert(record.trim().to_string(), label.trim().to_string());
    }
    Ok(labels)
}
