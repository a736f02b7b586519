//! EEGMAT: EEG (and one ECG) of 36 students, at rest and during mental arithmetic, as EDF.
//!
//! `Subject00_1.edf` is rest, `Subject00_2.edf` arithmetic. Rest always comes first, so order and state are confounded.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Dataset, Found, files_below, name_of, names};
use crate::data::table::Item;
use crate::error::Result;

pub(super) static EEGMAT: Dataset = Dataset {
    name: "eegmat",
    what: "36 students at rest (3 min) and during mental arithmetic (1 min), ECG at 500 Hz",
    citation: "Zyma and others. Electroencephalograms during Mental Arithmetic Task Performance. Data 4(1):14, 2019; \
               PhysioNet, doi:10.13026/C2JQ1P, ODC-By 1.0",
    obtain: "download from physionet.org/content/eegmat",
    licence: "ODC-By 1.0",
    quirks: "21 channels of 500 Hz, the ECG last. The scale differs from file to file. Rest always comes \
             before arithmetic, so state and time are confounded",
    layout: "Subject00_1.edf (rest) and Subject00_2.edf (arithmetic) to Subject35_2.edf",
    labels: "state (rest or arithmetic)",
    checked: true,
    read,
};

fn read(set: &Dataset, path: &Path, _strict: bool) -> Result<Found> {
    let mut found = Found::default();
    found.items.label_names = names(&["state"]);
    let mut states: BTreeSet<(String, &str)> = BTreeSet::new();
    for file in files_below(path)? {
        let name = name_of(&file);
        let part =
            name.strip_suffix(".edf").and_then(|n| n.strip_prefix("Subject")).and_then(|n| n.split_once('_'));
        let Some((number, state)) = part else { continue };
        let state = match state {
            "1" => "rest",
            "2" => "arithmetic",
            _ => {
                found.dropped.push((name, "neither _1 (rest) nor _2 (arithmetic)".into()));
                continue;
            }
        };
        let subject = format!("Subject{number}");
        states.insert((subject.clone(), state));
        found.items.items.push(Item {
            file,
            subject,
            trial: Some(state.into()),
            labels: vec![Some(state.into())],
            ..Item::default()
        });
    }
    if found.items.items.is_empty() {
        return Err(set.wrong_folder(path, "Subject00_1.edf"));
    }
    let people: BTreeSet<&String> = states.iter().map(|s| &s.0).collect();
    if people.len() != 36 {
        found.warnings.push(format!("{} people where 36 are expected", people.len()));
    }
    for person in people {
        for state in ["rest", "arithmetic"] {
            if !states.contains(&(person.clone(), state)) {
                found.warnings.push(format!("{person}: no recording of {state}"));
            }
        }
    }
    Ok(found)
}
