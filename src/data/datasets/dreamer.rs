//! DREAMER: one file, `DREAMER.mat`, with one variable of several hundred MB.
//!
//! `DREAMER.Data{1,p}` is one person: `ECG.stimuli{v}` is `n x 2` at 256 Hz, `ScoreValence`, `ScoreArousal` and
//! `ScoreDominance` are `18 x 1`, 1 to 5. The first ECG channel is taken. The films come in one order for everybody, so the
//! film's number is the stimulus. Baselines (61 s before each film) are left out. Units are the sensor's own.

use std::path::Path;

use super::{Dataset, Found, files_below, name_of, names, rating};
use crate::data::readers::mat::open_shared;
use crate::data::recording::Unit;
use crate::data::table::Item;
use crate::error::{Error, Result};

pub(super) static DREAMER: Dataset = Dataset {
    name: "dreamer",
    what: "23 people, 18 film clips, ECG at 256 Hz",
    citation: "Katsigiannis, Ramzan. DREAMER: A Database for Emotion Recognition Through EEG and ECG Signals From Wireless \
               Low-cost Off-the-Shelf Devices. IEEE Journal of Biomedical and Health Informatics 22(1), 2018",
    obtain: "request access at zenodo.org/records/546113",
    licence: "for research, by request",
    quirks: "One variable of several hundred MB, which is decoded film by film. Ratings go from 1 to 5, \
             although some descriptions say 9. Two ECG channels, of which the first is taken; the 61 s of \
             baseline before every film are not read. The unit is not documented",
    layout: "DREAMER.mat",
    labels: "valence, arousal, dominance (1 to 5); stimulus",
    checked: false,
    read,
};

const PEOPLE: usize = 23;

fn read(set: &Dataset, path: &Path, strict: bool) -> Result<Found> {
    let file = files_below(path)?.into_iter().find(|f| name_of(f).eq_ignore_ascii_case("DREAMER.mat"));
    let file = match file {
        Some(file) => file,
        // A file that was renamed is still told by its variable.
        None if path.is_file() => path.to_path_buf(),
        None => return Err(set.wrong_folder(path, "DREAMER.mat")),
    };
    let mat = open_shared(&file, strict)?;
    if !mat.variables().iter().any(|v| v.name == "DREAMER") {
        return Err(set.wrong_folder(path, "a variable named DREAMER in DREAMER.mat"));
    }
    let mut found = Found::default();
    found.items.label_names = names(&["valence", "arousal", "dominance", "stimulus"]);
    let people: usize = mat.info("DREAMER.Data")?.dims.iter().product();
    if people != PEOPLE {
        found.warnings.push(format!("{people} people where {PEOPLE} are expected"));
    }
    let given = mat.value("DREAMER.ECG_SamplingRate").and_then(|v| v.number()).ok();
    let rate = given.filter(|r| r.is_finite() && *r > 0.0).unwrap_or(256.0);
    for p in 1..=people {
        let person = format!("DREAMER.Data{{{p}}}");
        let subject = format!("S{p:02}");
        let clips = mat.info(&format!("{person}.ECG.stimuli"))?;
        let clips: usize = clips.dims.iter().product();
        let mut scores = Vec::new();
        for name in ["ScoreValence", "ScoreArousal", "ScoreDominance"] {
            let list = mat.value(&format!("{person}.{name}"))?.into_numbers()?;
            if list.len() != clips {
                return Err(Error::data(format!(
                    "{person}.{name} has {} values for {clips} clips",
                    list.len()
                ))
                .in_file(&file));
            }
            if let Some(outside) = list.iter().find(|v| v.is_finite() && !(1.0..=5.0).contains(*v)) {
                found.warnings.push(format!("{subject}: {name} of {outside} outside 1 to 5"));
            }
            scores.push(list);
        }
        for clip in 1..=clips {
            let record = format!("{person}.ECG.stimuli{{{clip}}}");
            let dims = mat.info(&record)?.dims;
            if dims.contains(&0) {
                found.dropped.push((format!("{subject} film {clip}"), "no recording (an empty cell)".into()));
                continue;
            }
            if dims.len() != 2 || dims[1] != 2 {
                return Err(Error::data(format!("{record} has dimensions {dims:?}; n x 2 are expected"))
                    .in_file(&file));
            }
            let mut labels: Vec<Option<String>> = scores.iter().map(|s| rating(s[clip - 1])).collect();
            labels.push(Some(format!("film{clip:02}")));
            found.items.items.push(Item {
                file: file.clone(),
                record: Some(record),
                subject: subject.clone(),
                trial: Some(format!("film{clip:02}")),
                channel: Some("#1".into()),
                unit: Some(Unit::Arbitrary),
                fs_hz: Some(rate),
                labels,
                ..Item::default()
            });
        }
    }
    Ok(found)
}
