//! PsPM data files: PsPM-FR, PsPM-HRM5, PsPM-RRM1-2, PsPM-VIS and any other set of that family.
//!
//! A file has two variables: `infos` (with `duration` in seconds) and `data`, a cell per channel with `header.chantype`,
//! `header.sr`, `header.units` and `data`. The ECG is the channel whose type begins with `ecg`; rate and unit come from its
//! header. Files without `data` and `infos` (trial tables) are passed over. The subject is the last number in the file's
//! name, the trial the file. There are no labels that all sets share.

use std::path::Path;

use super::{Dataset, Found, files_below, name_of};
use crate::data::matlab::{MatFile, MatOptions, open_mat};
use crate::data::recording::Unit;
use crate::data::table::Item;
use crate::error::{Error, Result};

macro_rules! pspm {
    ($id:ident, $name:literal, $what:literal, $citation:literal) => {
        pub(super) static $id: Dataset = Dataset {
            name: $name,
            what: $what,
            citation: $citation,
            obtain: "download from zenodo.org (search for the name of the set) and unpack data.zip",
            licence: "stated in each record on Zenodo",
            quirks: "Rate and unit come from each file's header: no list of channels is published for all \
                     sets. Files without the variables infos and data are passed over. The last number in \
                     the file's name is the person. A unit that is no voltage has to be given with --unit",
            layout: "PsPM files (.mat with the variables infos and data), in any folders",
            labels: "none",
            checked: false,
            read,
        };
    };
}

pspm!(
    FR,
    "pspm-fr",
    "fear conditioning with respiration, skin conductance and ECG",
    "PsPM-FR: SCR, ECG and respiration measurements in a delay fear conditioning task (Bach and others), Zenodo, doi:10.5281/zenodo.5573765"
);
pspm!(
    HRM5,
    "pspm-hrm5",
    "heart period responses to sounds and pictures",
    "PsPM-HRM5 (Paulus, Castegnetti, Bach and others), Zenodo; Paulus, Castegnetti, Bach. Modeling event-related heart period responses. Psychophysiology 53(6), 2016"
);
pspm!(
    RRM12,
    "pspm-rrm1-2",
    "respiratory responses to pictures and sounds, with ECG",
    "PsPM-RRM1-2 (Bach and others), Zenodo; Bach, Gerster, Tzovara, Castegnetti. A linear model for event-related respiration responses. Journal of Neuroscience Methods 270, 2016"
);
pspm!(
    VIS,
    "pspm-vis",
    "visual stimulation with skin conductance, ECG and respiration",
    "PsPM-VIS (Bach and others), Zenodo"
);

fn read(set: &Dataset, path: &Path, strict: bool) -> Result<Found> {
    let mut found = Found::default();
    let mut any = false;
    for file in files_below(path)? {
        let name = name_of(&file);
        if !name.to_lowercase().ends_with(".mat") {
            continue;
        }
        let what = open_mat(&file, &MatOptions { strict, ..MatOptions::default() }).and_then(|mat| {
            let has = |v: &str| mat.variables().iter().any(|x| x.name == v);
            if has("infos") && has("data") {
                ecg(&mat, &name, &mut found.warnings).map(Some)
            } else {
                Ok(None)
            }
        });
        let item = match what {
            Ok(Some(item)) => item,
            Ok(None) => {
                found.dropped.push((name, "not a PsPM data file (no variables infos and data)".into()));
                continue;
            }
            Err(e) if !strict => {
                any = true;
                found.dropped.push((name, e.to_string()));
                continue;
            }
            Err(e) => return Err(e.in_file(&file)),
        };
        any = true;
        found.items.items.push(Item { file, ..item });
    }
    if !any {
        return Err(set.wrong_folder(path, "a .mat file with the variables infos and data"));
    }
    Ok(found)
}

/// The item of one file, its path left out.
fn ecg(mat: &MatFile, name: &str, warnings: &mut Vec<String>) -> Result<Item> {
    let count: usize = mat.info("data")?.dims.iter().product();
    let mut types = Vec::new();
    for i in 1..=count {
        let header = mat.value(&format!("data{{{i}}}.header"))?;
        let text =
            |field: &str| header.field(field).and_then(|v| v.text().ok()).unwrap_or("").trim().to_string();
        let kind = text("chantype").to_lowercase();
        if !kind.starts_with("ecg") || text("units").eq_ignore_ascii_case("events") {
            types.push(if kind.is_empty() { "unnamed".into() } else { kind });
            continue;
        }
        let rate = header.field("sr").and_then(|v| v.number().ok());
        let rate = rate.filter(|r| r.is_finite() && *r > 0.0).ok_or_else(|| {
            Error::data("the ECG channel's header has no sampling rate").at(format!("data{{{i}}}.header.sr"))
        })?;
        let record = format!("data{{{i}}}.data");
        let samples: usize = mat.info(&record)?.dims.iter().product();
        if samples == 0 {
            types.push("ecg (empty)".into());
            continue;
        }
        let duration = mat.value("infos.duration").and_then(|d| d.number()).ok();
        match duration {
            // PsPM itself allows three samples.
            Some(s) if (s * rate - samples as f64).abs() > 3.0 => {
                warnings.push(format!("{name}: {samples} samples at {rate} Hz, but infos.duration is {s} s"))
            }
            Some(_) => {}
            None => warnings.push(format!("{name}: infos.duration is missing")),
        }
        let unit = match Unit::parse(&text("units")) {
            // What is no unit of voltage is left for the user to say.
            Unit::Unknown(_) => None,
            unit => Some(unit),
        };
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        return Ok(Item {
            record: Some(record),
            subject: subject(stem),
            trial: Some(stem.to_string()),
            unit,
            fs_hz: Some(rate),
            ..Item::default()
        });
    }
    Err(Error::data(format!("no ECG channel; the channels are {}", types.join(", "))))
}

/// The last number in the name, which counts the people: `PsPM-HRM5_spike_07` is `07`. A name without one is the subject.
fn subject(stem: &str) -> String {
    let digits = |c: char| c.is_ascii_digit();
    let numbers: Vec<&str> = stem.split(|c| !digits(c)).filter(|p| !p.is_empty()).collect();
    let tail = stem.rsplit(['_', '-']).next().unwrap_or("");
    match numbers.last() {
        Some(n) if tail.contains(n) => n.to_string(),
        _ => stem.to_string(),
    }
}
