//! LUDB: 200 clinical recordings of 12 leads, 10 s at 500 Hz, with the boundaries of waves by cardiologists for each lead.
//!
//! `1.hea` to `200.hea` (in a folder `data` of the published archive), one person each. The rhythm stands in the header's
//! comments (`#Rhythm: Sinus bradycardia.`). Each lead's waves are an annotation file of its own, with the lead as the
//! extension (`1.ii`); [`qrs_spans`] reads one. Source: the files themselves (PhysioNet, ludb 1.0.1).

use std::path::Path;

use super::{Dataset, Found, names};
use crate::data::datasets::physionet::headers;
use crate::data::readers::read_whole;
use crate::data::readers::wfdb::annotations;
use crate::data::table::Item;
use crate::error::{IoContext, Result};

pub(super) static LUDB: Dataset = Dataset {
    name: "ludb",
    what: "LUDB: 200 people, 12 leads for 10 s at 500 Hz, waves marked by cardiologists in each lead",
    citation: "Kalyakulina and others. LUDB: A New Open-Access Validation Tool for Electrocardiogram Delineation Algorithms. \
               IEEE Access 8:186181-186190, 2020; PhysioNet, doi:10.13026/qmgv-4d34, ODC-By 1.0",
    obtain: "download from physionet.org/content/ludb",
    licence: "ODC-By 1.0",
    quirks: "Leads are named in lower case; lead ii is taken. Rhythm comes from the header's comments. Each lead has \
             an annotation file of its own, named by the lead (1.ii), which marks begin, peak and end of P, QRS and T",
    layout: "1.hea, 1.dat and 1.i to 200, in any folder",
    labels: "rhythm",
    checked: true,
    read,
};

fn read(set: &Dataset, path: &Path, _strict: bool) -> Result<Found> {
    let number = |n: &str| n.parse::<u32>().is_ok_and(|k| (1..=200).contains(&k) && k.to_string() == n);
    let mut found = Found::default();
    found.items.label_names = names(&["rhythm"]);
    let mut list = headers(set, path, "1.hea", number)?;
    list.sort_by_key(|(name, _)| name.parse::<u32>().unwrap_or(0));
    for (name, file) in list {
        let text = std::fs::read(&file).with_file(&file)?;
        let rhythm = rhythm(&String::from_utf8_lossy(&text));
        if rhythm.is_none() {
            found.warnings.push(format!("{name}: its header names no rhythm"));
        }
        found.items.items.push(Item {
            file,
            subject: name.clone(),
            trial: Some(name),
            channel: Some("ii".into()),
            labels: vec![rhythm],
            ..Item::default()
        });
    }
    if found.items.items.len() != 200 {
        found.warnings.push(format!("{} records where 200 are expected", found.items.items.len()));
    }
    Ok(found)
}

fn rhythm(header: &str) -> Option<String> {
    let line = header.lines().find_map(|l| l.trim_start_matches(['#', ' ']).strip_prefix("Rhythm:"))?;
    Some(line.trim().trim_end_matches('.').to_lowercase()).filter(|r| !r.is_empty())
}

/// Begin, peak and end of every QRS complex of one lead, in samples, from its annotation file (such as `1.ii`).
///
/// # Errors
/// The file cannot be read.
pub fn qrs_spans(path: &Path) -> Result<Vec<[u64; 3]>> {
    let list = annotations::parse(&read_whole(path)?, 500.0).list;
    // "(" begins a wave, "N" is the peak of a QRS complex, ")" ends it.
    let spans = list.windows(3).filter(|w| w[0].symbol == "(" && w[1].symbol == "N" && w[2].symbol == ")");
    Ok(spans.map(|w| [w[0].sample, w[1].sample, w[2].sample].map(|s| s.max(0) as u64)).collect())
}
