//! AMIGOS, the pre-processed release.
//!
//! `Data_Preprocessed_P01.mat` to `P40.mat`, flat or each in a folder of its name. `joined_data{i}` is `n x 17` at 128 Hz:
//! 14 channels of EEG, ECG of the right arm, ECG of the **left arm** (column 16, taken here), skin conductance. The first
//! 5 s lie before the video and are cut. `labels_selfassessment{i}` begins with **arousal**, then valence. `VideoIDs` are in
//! another order for each person. Cells may be empty (the long videos of 8, 24 and 28) and columns may be all NaN. The unit
//! is not stated anywhere: amplitudes are taken as arbitrary.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{Dataset, Found, between, files_below, missing, name_of, names, rating};
use crate::data::matlab::{Array, Data, MatFile};
use crate::data::readers::mat::open_shared;
use crate::data::recording::Unit;
use crate::data::table::Item;
use crate::error::{Error, Result};

pub(super) static AMIGOS: Dataset = Dataset {
    name: "amigos",
    what: "40 people, 16 short and 4 long videos, ECG at 128 Hz in the pre-processed release",
    citation: "Miranda-Correa, Abadi, Sebe, Patras. AMIGOS: A Dataset for Affect, Personality and Mood Research on \
               Individuals and Groups. IEEE Transactions on Affective Computing 12(2), 2021",
    obtain: "sign the agreement at eecs.qmul.ac.uk/mmv/datasets/amigos and download data_preprocessed",
    licence: "for research, by a signed agreement",
    quirks: "Each video's data begin with 5 s of baseline, which are left out. The videos stand in another \
             order for every person. Three people (08, 24, 28) lack the long videos, and other cells are \
             empty; some channels are all NaN. The zlib checksums of some files are wrong: warned of, \
             refused with --strict. In the self-assessment arousal comes before valence. The unit is not \
             documented, so amplitudes are taken as arbitrary",
    layout: "Data_Preprocessed_P01.mat to Data_Preprocessed_P40.mat, flat or each in a folder of its own",
    labels: "arousal, valence, dominance, liking, familiarity (1 to 9); neutral, disgust, happiness, surprise, anger, fear, \
             sadness (0 or 1); stimulus",
    checked: false,
    read,
};

const LABELS: [&str; 13] = [
    "arousal",
    "valence",
    "dominance",
    "liking",
    "familiarity",
    "neutral",
    "disgust",
    "happiness",
    "surprise",
    "anger",
    "fear",
    "sadness",
    "stimulus",
];

/// Column of the left arm, counted from 1.
const LEFT_ARM: &str = "#16";
const RATE_HZ: f64 = 128.0;
/// Seconds before the video.
const BASELINE_S: f64 = 5.0;

fn read(set: &Dataset, path: &Path, strict: bool) -> Result<Found> {
    let mut files = BTreeMap::new();
    let mut found = Found::default();
    found.items.label_names = names(&LABELS);
    for file in files_below(path)? {
        if let Some(person) = between(&name_of(&file), "Data_Preprocessed_P", ".mat")
            && let Some(other) = files.insert(person, file.clone())
        {
            found.warnings.push(format!("P{person:02} is there twice; {} was not used", other.display()));
        }
    }
    if files.is_empty() {
        return Err(set.wrong_folder(path, "Data_Preprocessed_P01.mat"));
    }
    missing(&files.keys().copied().collect::<BTreeSet<_>>(), 40, &mut found);
    for (person, file) in &files {
        let subject = format!("P{person:02}");
        match one(&subject, file, strict, &mut found) {
            Ok(()) => {}
            Err(e) if !strict => found.dropped.push((subject, e.to_string())),
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

fn one(subject: &str, file: &Path, strict: bool, found: &mut Found) -> Result<()> {
    let mat = open_shared(file, strict)?;
    let info = mat.info("joined_data")?;
    let trials: usize = info.dims.iter().product();
    for variable in ["labels_selfassessment", "VideoIDs"] {
        let have: usize = mat.info(variable)?.dims.iter().product();
        if have != trials {
            return Err(
                Error::data(format!("{variable} has {have} cells, joined_data {trials}")).in_file(file)
            );
        }
    }
    for i in 1..=trials {
        let video = video_id(&mat, i)?;
        let name = format!("{subject} video {video}");
        let record = format!("joined_data{{{i}}}");
        let data = mat.info(&record)?;
        if data.dims.contains(&0) {
            found.dropped.push((name, "no recording (an empty cell)".into()));
            continue;
        }
        if data.dims.len() != 2 || data.dims[1] != 17 {
            return Err(Error::data(format!("{record} has dimensions {:?}; n x 17 are expected", data.dims))
                .in_file(file));
        }
        let answers = mat.value(&format!("labels_selfassessment{{{i}}}"))?.into_numbers()?;
        if !answers.is_empty() && answers.len() != 12 {
            return Err(Error::data(format!(
                "labels_selfassessment{{{i}}} has {} values, not 12",
                answers.len()
            ))
            .in_file(file));
        }
        if answers.iter().all(|a| !a.is_finite()) {
            found.warnings.push(format!("{name}: recorded but not rated; kept without labels"));
        }
        let outside = answers.iter().take(5).find(|a| a.is_finite() && !(1.0..=9.0).contains(*a));
        if let Some(outside) = outside {
            found.warnings.push(format!("{name}: a rating of {outside} outside 1 to 9"));
        }
        let mut labels: Vec<Option<String>> =
            (0..12).map(|k| answers.get(k).and_then(|a| rating(*a))).collect();
        labels.push(Some(video.clone()));
        found.items.items.push(Item {
            file: file.to_path_buf(),
            record: Some(record),
            subject: subject.into(),
            trial: Some(video),
            start_s: Some(BASELINE_S),
            channel: Some(LEFT_ARM.into()),
            unit: Some(Unit::Arbitrary),
            fs_hz: Some(RATE_HZ),
            labels,
            ..Item::default()
        });
    }
    Ok(())
}

/// The name of the video: text, text in a cell, or a number.
fn video_id(mat: &MatFile, i: usize) -> Result<String> {
    fn name(array: &Array) -> Option<String> {
        match &array.data {
            Data::Cell(cells) => cells.first().and_then(name),
            Data::Char(_) => array.text().ok().map(|t| t.trim().to_string()).filter(|t| !t.is_empty()),
            _ => array.number().ok().map(|v| v.to_string()),
        }
    }
    let array = mat.value(&format!("VideoIDs{{{i}}}"))?;
    // A nameless trial is known by its place.
    Ok(name(&array).unwrap_or_else(|| format!("cell{i}")))
}
