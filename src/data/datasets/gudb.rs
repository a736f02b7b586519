//! GUDB (Glasgow University database): 25 people sitting, doing mathematics, walking, cycling by hand and jogging.
//!
//! `subject_00/sitting/ECG.tsv` and so on: six columns parted by blanks, without names, at 250 Hz: chest strap (V2-V1),
//! Einthoven II, Einthoven III, three of acceleration, in volts. Source: the database's own reader (berndporr/ECG-GUDB)
//! and that of sleepecg.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Dataset, Found, files_below, name_of, names};
use crate::data::readers::text::{Delimiter, TextOptions};
use crate::data::recording::Unit;
use crate::data::table::Item;
use crate::error::Result;

pub(super) static GUDB: Dataset = Dataset {
    name: "gudb",
    what: "25 people sitting, doing mathematics, walking, on a hand bike and jogging, two minutes each, ECG at 250 Hz",
    citation: "Howell, Porr. High precision ECG Database with annotated R peaks, recorded and filmed under realistic \
               conditions. University of Glasgow, 2018, doi:10.5525/gla.researchdata.716",
    obtain: "download from researchdata.gla.ac.uk/716 or berndporr.github.io/ECG-GUDB",
    licence: "stated on the page of the data",
    quirks: "Text parted by blanks under the name .tsv, in volts, not filtered. The chest strap is taken, which is \
             clean while jogging; --channel '#2' is Einthoven II. The tasks always come in this order, so task and \
             time are confounded",
    layout: "experiment_data/subject_00/sitting/ECG.tsv (also maths, walking, hand_bike, jogging) to subject_24",
    labels: "task",
    checked: false,
    read,
};

const TASKS: [&str; 5] = ["sitting", "maths", "walking", "hand_bike", "jogging"];

fn read(set: &Dataset, path: &Path, _strict: bool) -> Result<Found> {
    let mut found = Found::default();
    found.items.label_names = names(&["task"]);
    let mut people = BTreeSet::new();
    for file in files_below(path)? {
        if name_of(&file) != "ECG.tsv" {
            continue;
        }
        let above = |n: usize| file.ancestors().nth(n).map(name_of).unwrap_or_default();
        let (task, subject) = (above(1), above(2));
        if !TASKS.contains(&task.as_str()) || !subject.starts_with("subject_") {
            found.dropped.push((file.display().to_string(), "not subject_NN/task/ECG.tsv".into()));
            continue;
        }
        people.insert(subject.clone());
        found.items.items.push(Item {
            file,
            subject,
            trial: Some(task.clone()),
            channel: Some("#1".into()),
            unit: Some(Unit::Volt),
            fs_hz: Some(250.0),
            time_column: Some("none".into()),
            text: TextOptions { delimiter: Some(Delimiter::Blanks), ..TextOptions::default() },
            labels: vec![Some(task)],
            ..Item::default()
        });
    }
    if found.items.items.is_empty() {
        return Err(set.wrong_folder(path, "subject_00/sitting/ECG.tsv"));
    }
    if people.len() != 25 {
        found.warnings.push(format!("{} people where 25 are expected", people.len()));
    }
    Ok(found)
}
