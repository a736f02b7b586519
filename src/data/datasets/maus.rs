//! MAUS: mental workload (n-back), ECG at 256 Hz.
//!
//! `Data/Raw_data/002/inf_ecg.csv`: a column per trial, `Trial 1:0back` to `Trial 6:0back`; shorter trials end with empty
//! fields. Trials 1 and 6 are 0-back, 2 and 4 are 2-back, 3 and 5 are 3-back, as the columns say. Source: the authors'
//! baseline system (rickwu11/MAUS_dataset_baseline_system) as described by readers of it.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Dataset, Found, files_below, name_of, names};
use crate::data::recording::Unit;
use crate::data::table::Item;
use crate::error::{IoContext, Result};

pub(super) static MAUS: Dataset = Dataset {
    name: "maus",
    what: "22 people, six trials of the n-back task (0, 2, 3), ECG at 256 Hz",
    citation: "Beh, Wu, Wu. MAUS: A Dataset for Mental Workload Assessment on N-back Task Using Wearable Sensor. \
               arXiv:2111.02561, 2021; IEEE DataPort, doi:10.21227/q4td-yd35",
    obtain: "download from ieee-dataport.org (MAUS)",
    licence: "stated on the page of the data",
    quirks: "One column per trial; shorter ones end with empty fields, which count as missing. The unit is not \
             documented. The order of the loads is the same for everybody, so load and time are confounded. The \
             recording at rest is not read",
    layout: "Data/Raw_data/002/inf_ecg.csv to 025",
    labels: "n_back (0, 2 or 3)",
    checked: false,
    read,
};

fn read(set: &Dataset, path: &Path, strict: bool) -> Result<Found> {
    let mut found = Found::default();
    found.items.label_names = names(&["n_back"]);
    let mut people = BTreeSet::new();
    for file in files_below(path)? {
        if name_of(&file) != "inf_ecg.csv" {
            continue;
        }
        let subject = file.parent().map(name_of).unwrap_or_default();
        let first = match first_line(&file) {
            Ok(line) => line,
            Err(e) if !strict => {
                found.dropped.push((subject, e.to_string()));
                continue;
            }
            Err(e) => return Err(e),
        };
        people.insert(subject.clone());
        for column in first.split(',').map(|c| c.trim().trim_matches('"')) {
            // "Trial 2:2back"
            let parts = column.strip_prefix("Trial ").and_then(|t| t.strip_suffix("back")?.split_once(':'));
            let Some((trial, load)) = parts.filter(|(_, n)| ["0", "2", "3"].contains(n)) else { continue };
            found.items.items.push(Item {
                file: file.clone(),
                subject: subject.clone(),
                trial: Some(format!("trial{trial}")),
                channel: Some(column.to_string()),
                unit: Some(Unit::Arbitrary),
                fs_hz: Some(256.0),
                time_column: Some("none".into()),
                labels: vec![Some(load.to_string())],
                ..Item::default()
            });
        }
    }
    if found.items.items.is_empty() {
        return Err(
            set.wrong_folder(path, "Data/Raw_data/002/inf_ecg.csv with columns such as 'Trial 1:0back'")
        );
    }
    if people.len() != 22 {
        found.warnings.push(format!("{} people where 22 are expected", people.len()));
    }
    Ok(found)
}

fn first_line(path: &Path) -> Result<String> {
    use std::io::{BufRead, BufReader, Read};
    let file = std::fs::File::open(path).with_file(path)?;
    let mut line = Vec::new();
    BufReader::new(file).take(65_536).read_until(b'\n', &mut line).with_file(path)?;
    let text = String::from_utf8_lossy(&line).into_owned();
    Ok(text.trim_start_matches('\u{feff}').trim().to_string())
}
