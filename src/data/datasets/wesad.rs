//! WESAD: stress and amusement, chest ECG at 700 Hz.
//!
//! It is published as Python pickles, which run code when they are loaded, so they are never read here. Convert them once,
//! in Python, where you trust the source:
//!
//! ```python
//! import numpy, pickle, sys
//! for n in [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17]:
//!     with open(f"WESAD/S{n}/S{n}.pkl", "rb") as f:
//!         d = pickle.load(f, encoding="latin1")
//!     numpy.savez_compressed(f"wesad/S{n}.npz", ecg=d["signal"]["chest"]["ECG"].ravel(),
//!                            label=d["label"].astype("int32"), fs_hz=numpy.array([700.0]))
//! ```
//!
//! A recording is a stretch of one condition: 1 baseline, 2 stress, 3 amusement, 4 meditation. 0 (between) and 5 to 7 are
//! left out, as the data set's own description asks.

use std::path::Path;

use super::{Dataset, Found, between, files_below, missing, name_of, names};
use crate::data::readers::npz;
use crate::data::recording::Unit;
use crate::data::table::Item;
use crate::error::{Error, Result};

pub(super) static WESAD: Dataset = Dataset {
    name: "wesad",
    what: "15 people: baseline, stress, amusement, meditation, chest ECG at 700 Hz",
    citation: "Schmidt, Reiss, Duerichen, Marberger, Van Laerhoven. Introducing WESAD, a Multimodal Dataset for Wearable \
               Stress and Affect Detection. ICMI 2018",
    obtain: "download from archive.ics.uci.edu (dataset 465); its pickles run code when loaded, so convert them in Python: \
             numpy.savez_compressed('S2.npz', ecg=d['signal']['chest']['ECG'].ravel(), label=d['label'].astype('int32'), \
             fs_hz=numpy.array([700.0])) with d = pickle.load(open('S2.pkl','rb'), encoding='latin1')",
    licence: "for research, not commercial, by its readme; CC BY 4.0 by its UCI page (both from memory)",
    quirks: "Published as Python pickles, which run code when loaded and are never read: convert them once. \
             S12 does not exist. Codes 0 and 5 to 7 are left out. Chest ECG in mV",
    layout: "S2.npz to S17.npz (without S12), made from the pickles",
    labels: "condition (baseline, stress, amusement, meditation)",
    checked: false,
    read,
};

const RATE_HZ: f64 = 700.0;

fn read(set: &Dataset, path: &Path, strict: bool) -> Result<Found> {
    let mut found = Found::default();
    found.items.label_names = names(&["condition"]);
    let all = files_below(path)?;
    let mut files: Vec<(u32, _)> =
        all.iter().filter_map(|f| Some((between(&name_of(f), "S", ".npz")?, f.clone()))).collect();
    files.sort();
    if files.is_empty() {
        let pickles = all.iter().any(|f| name_of(f).ends_with(".pkl"));
        let what = if pickles { "S2.npz (the pickles must be converted first)" } else { "S2.npz" };
        let error = set.wrong_folder(path, what);
        return Err(if pickles { error.remedy(WESAD.obtain) } else { error });
    }
    let have = files.iter().map(|f| f.0).chain([1, 12]).collect();
    missing(&have, 17, &mut found);
    for (person, file) in files {
        let subject = format!("S{person:02}");
        match one(&subject, &file, &mut found) {
            Err(e) if !strict => found.dropped.push((subject, e.to_string())),
            other => other?,
        }
    }
    Ok(found)
}

fn one(subject: &str, file: &Path, found: &mut Found) -> Result<()> {
    let array = |name: &str| {
        npz::array(file, name)?
            .ok_or_else(|| Error::data(format!("there is no array '{name}'")).in_file(file))
    };
    let labels = array("label")?.values;
    let samples = array("ecg")?.values.len();
    if labels.len() != samples {
        return Err(Error::data(format!("label has {} values, ecg {samples}", labels.len()))
            .in_file(file)
            .remedy("convert the pickle again; both are at 700 Hz"));
    }
    let mut begin = 0;
    let mut counts = std::collections::BTreeMap::new();
    while begin < labels.len() {
        let code = labels[begin];
        let end = labels[begin..].iter().position(|l| *l != code).map_or(labels.len(), |n| begin + n);
        let name = match code {
            1.0 => "baseline",
            2.0 => "stress",
            3.0 => "amusement",
            4.0 => "meditation",
            _ => {
                begin = end;
                continue;
            }
        };
        let n = counts.entry(name).and_modify(|n| *n += 1).or_insert(1);
        found.items.items.push(Item {
            file: file.to_path_buf(),
            record: Some("ecg".into()),
            subject: subject.into(),
            trial: Some(format!("{name}{n}")),
            start_s: Some(begin as f64 / RATE_HZ),
            end_s: Some(end as f64 / RATE_HZ),
            unit: Some(Unit::Millivolt),
            fs_hz: Some(RATE_HZ),
            labels: vec![Some(name.into())],
            ..Item::default()
        });
        begin = end;
    }
    Ok(())
}
