//! YAAD: young adults' affective data. ECG as text, 39 s at 128 Hz per video.
//!
//! `.../Raw Data/{Multimodal,Single Modal}/ECG/ECGdata_s1p2v3.dat`: session, participant, video. Labels are in spreadsheets
//! (`Self-annotation Multimodal_Use.xlsx`, `Self-annotation Single Modal_Use.xlsx`), which are not read: save each as CSV
//! under its own name. Units are the sensor's own. Multimodal and single-modal participants are counted apart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{Dataset, Found, files_below, name_of, names};
use crate::data::readers::{ReadOptions, Reader, read_whole, stem};
use crate::data::recording::{Channel, Recording, Unit};
use crate::data::table::Item;
use crate::error::{Error, Result};

pub(super) static YAAD: Dataset = Dataset {
    name: "yaad",
    what: "25 people (ECG with skin conductance: 12), 21 videos, ECG at 128 Hz",
    citation: "Dar, Rahim, Akram, Khawaja, Rahim. YAAD: Young Adult's Affective Data Using Wearable ECG and GSR sensors. \
               ICoDT2 2022; Mendeley Data, doi:10.17632/g2p7vwxyn2",
    obtain: "download from data.mendeley.com/datasets/g2p7vwxyn2; save the spreadsheets of labels as CSV beside them",
    licence: "CC BY 4.0 (from memory)",
    quirks: "Labels are in spreadsheets: save each as CSV under its own name. Multimodal and single-modal \
             people are counted apart (m01, s01). Units are the sensor's own. 5000 samples, 39 s at 128 Hz, \
             per video",
    layout: "ECG_GSR_Emotions/Raw Data/{Multimodal,Single Modal}/ECG/ECGdata_s1p1v1.dat, \
             ECG_GSR_Emotions/Self-Annotation Labels/Self-annotation Multimodal_Use.csv",
    labels: "valence, arousal, dominance, emotion; stimulus",
    checked: false,
    read,
};

const RATE_HZ: f64 = 128.0;

/// Reads `ECGdata_s1p2v3.dat`: numbers parted by commas, spaces or lines.
#[derive(Debug)]
pub struct Samples;

impl Reader for Samples {
    fn name(&self) -> &'static str {
        "YAAD"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &[]
    }
    fn sniff(&self, path: &Path, _head: &[u8]) -> bool {
        parts(&name_of(path)).is_some()
    }
    fn read(&self, path: &Path, options: &ReadOptions) -> Result<Recording> {
        options.rate_near(RATE_HZ)?;
        let bytes = read_whole(path)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::format("not text").in_file(path))?;
        let mut samples = Vec::new();
        for (i, line) in text.lines().enumerate() {
            for field in line.split([',', ' ', '\t', ';']).map(str::trim).filter(|f| !f.is_empty()) {
                samples.push(field.parse::<f64>().ok().filter(|v| v.is_finite() || v.is_nan()).ok_or_else(
                    || {
                        let shown: String = field.chars().take(40).collect();
                        Error::format(format!("'{shown}' is no number"))
                            .in_file(path)
                            .at(format!("line {}", i + 1))
                    },
                )?);
            }
        }
        if samples.is_empty() {
            return Err(Error::data("no samples").in_file(path));
        }
        let unit = options.unit.clone().unwrap_or(Unit::Arbitrary);
        let channel = Channel { label: "ECG".into(), unit, fs_hz: RATE_HZ, samples };
        Ok(Recording {
            path: path.into(),
            files: vec![path.into()],
            record: stem(path),
            channels: vec![channel],
            ..Recording::default()
        })
    }
}

/// Session, participant and video in `ECGdata_s1p2v3.dat`.
fn parts(name: &str) -> Option<[u32; 3]> {
    let rest = name.strip_prefix("ECGdata_s")?.strip_suffix(".dat")?;
    let (session, rest) = rest.split_once('p')?;
    let (person, video) = rest.split_once('v')?;
    Some([session.parse().ok()?, person.parse().ok()?, video.parse().ok()?])
}

type Labels = BTreeMap<[u32; 3], Vec<Option<String>>>;

fn read(set: &Dataset, path: &Path, _strict: bool) -> Result<Found> {
    let files = files_below(path)?;
    let mut found = Found::default();
    found.items.label_names = names(&["valence", "arousal", "dominance", "emotion", "stimulus"]);
    let kinds = [("Multimodal", "m"), ("Single Modal", "s")];
    let mut labels: BTreeMap<&str, Labels> = BTreeMap::new();
    for (kind, _) in kinds {
        let named = |extension: &str| {
            let wanted = format!("self-annotation {}", kind.to_lowercase());
            files.iter().find(|f| {
                let name = name_of(f).to_lowercase();
                name.starts_with(&wanted) && name.ends_with(extension)
            })
        };
        match (named(".csv"), named(".xlsx")) {
            (Some(file), _) => {
                labels.insert(kind, annotations(file)?);
            }
            (None, Some(sheet)) => found.warnings.push(format!(
                "{}: spreadsheets are not read; save it as CSV beside it, until then its recordings have no labels",
                name_of(sheet)
            )),
            (None, None) => {}
        }
    }
    let mut here = BTreeSet::new();
    for file in &files {
        let Some(key) = parts(&name_of(file)) else { continue };
        let [session, person, video] = key;
        let within = |kind: &str| file.components().any(|c| c.as_os_str().eq_ignore_ascii_case(kind));
        let (kind, short) = kinds.into_iter().find(|(kind, _)| within(kind)).unwrap_or(("", "p"));
        let stimulus = format!("s{session}v{video}");
        let mut own = labels.get(kind).and_then(|l| l.get(&key)).cloned().unwrap_or_else(|| vec![None; 4]);
        here.insert((kind, key));
        own.push(Some(stimulus.clone()));
        found.items.items.push(Item {
            file: file.clone(),
            subject: format!("{short}{person:02}"),
            trial: Some(stimulus),
            labels: own,
            ..Item::default()
        });
    }
    if found.items.items.is_empty() {
        return Err(set.wrong_folder(path, "ECGdata_s1p1v1.dat"));
    }
    let rows = labels.iter().flat_map(|(kind, list)| list.keys().map(move |key| (*kind, *key)));
    let astray = rows.filter(|row| !here.contains(row)).count();
    if astray > 0 {
        found.warnings.push(format!("{astray} rows of labels belong to recordings that are not here"));
    }
    let without = found.items.items.iter().filter(|i| i.labels[..4].iter().all(Option::is_none)).count();
    if without > 0 {
        found.warnings.push(format!("{without} of {} recordings have no labels", found.items.items.len()));
    }
    Ok(found)
}

/// Rows of a spreadsheet saved as CSV; the two sheets name their columns differently.
fn annotations(file: &PathBuf) -> Result<Labels> {
    let bad = |e: csv::Error| Error::format(e.to_string()).in_file(file);
    let mut table =
        csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_path(file).map_err(bad)?;
    let header = table.headers().map_err(bad)?.clone();
    let column = |words: &[&str]| {
        let at = header.iter().position(|h| words.iter().all(|w| h.to_lowercase().contains(w)));
        at.ok_or_else(|| {
            let have: Vec<&str> = header.iter().collect();
            Error::data(format!("no column '{}'; the columns are {}", words.join(" "), have.join(", ")))
                .in_file(file)
        })
    };
    let keys = [column(&["session", "id"])?, column(&["participant", "id"])?, column(&["video", "id"])?];
    let values =
        [column(&["valence"])?, column(&["arousal"])?, column(&["dominance"])?, column(&["emotion"])?];
    let mut out = BTreeMap::new();
    for row in table.records() {
        let row = row.map_err(bad)?;
        let line = row.position().map_or(0, |p| p.line());
        let mut key = [0u32; 3];
        for (k, c) in key.iter_mut().zip(keys) {
            // Ids may be written as `1`, `1.0` or with a letter before.
            let field = row.get(c).unwrap_or("");
            let digits = field.trim_start_matches(|c: char| !c.is_ascii_digit()).trim_end_matches(".0");
            *k = digits.parse().map_err(|_| {
                Error::format(format!("'{field}' is no id")).in_file(file).at(format!("line {line}"))
            })?;
        }
        let field = |c: usize| row.get(c).map(str::to_string).filter(|f| !f.is_empty());
        if out.insert(key, values.map(field).to_vec()).is_some() {
            return Err(Error::data(format!("session, participant, video {key:?} twice"))
                .in_file(file)
                .at(format!("line {line}")));
        }
    }
    Ok(out)
}
