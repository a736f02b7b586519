//! ASCERTAIN: `ASCERTAIN_Raw/ECGData/Movie_P01..P58/ECG_Clip1..36.mat` and `ASCERTAIN_Features/Dt_SelfReports.mat`.
//!
//! `Data_ECG` is `n x k` at 256 Hz. Column 1 is time in ms. With fewer than 6 columns the two ECG leads are columns 2 and 3,
//! else 5 and 6; the first of the two is taken (the public readers disagree on which arm it is). `Ratings` is 5 x 58 x 36:
//! arousal (0 to 6), valence (-3 to 3), engagement, liking, familiarity. Units are the sensor's own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Dataset, Found, between, list, missing, name_of, names, rating};
use crate::data::matlab::{MatOptions, open_mat};
use crate::data::recording::Unit;
use crate::data::table::Item;
use crate::error::{Error, Result};

pub(super) static ASCERTAIN: Dataset = Dataset {
    name: "ascertain",
    what: "58 people, 36 film clips, ECG at 256 Hz",
    citation: "Subramanian, Wache, Abadi, Vieriu, Winkler, Sebe. ASCERTAIN: Emotion and Personality Recognition Using \
               Commercial Sensors. IEEE Transactions on Affective Computing 9(2), 2018",
    obtain: "sign the agreement at ascertain-dataset.github.io",
    licence: "for research, by agreement with the authors",
    quirks: "A clip's table has the time in ms first; with fewer than six columns the ECG is the second, \
             else the fifth (public readers disagree on which lead is which). Clips hold NaN. Ratings are \
             one array of 5 x 58 x 36. Data of people 44 and 52 are incomplete. The stamps of one clip of \
             each person are held against 256 Hz",
    layout: "ASCERTAIN_Raw/ECGData/Movie_P01/ECG_Clip1.mat and so on, with ASCERTAIN_Features/Dt_SelfReports.mat beside",
    labels: "arousal (0 to 6), valence (-3 to 3), engagement, liking, familiarity; stimulus",
    checked: false,
    read,
};

const PEOPLE: u32 = 58;
const CLIPS: usize = 36;
const RATE_HZ: f64 = 256.0;

fn read(set: &Dataset, path: &Path, strict: bool) -> Result<Found> {
    let starts = [path.to_path_buf(), path.join("ECGData"), path.join("ASCERTAIN_Raw/ECGData")];
    let people_of = |p: &PathBuf| -> Vec<(u32, PathBuf)> {
        let entries = if p.is_dir() { list(p).unwrap_or_default() } else { Vec::new() };
        entries.into_iter().filter_map(|e| Some((between(&name_of(&e), "Movie_P", "")?, e))).collect()
    };
    let people = starts.iter().map(people_of).find(|p| !p.is_empty());
    let people = people.ok_or_else(|| set.wrong_folder(path, "ASCERTAIN_Raw/ECGData/Movie_P01"))?;
    let mut found = Found::default();
    found.items.label_names =
        names(&["arousal", "valence", "engagement", "liking", "familiarity", "stimulus"]);
    missing(&people.iter().map(|p| p.0).collect::<BTreeSet<_>>(), PEOPLE, &mut found);
    let ratings = ratings(path, strict, &mut found)?;
    for (person, folder) in people {
        let subject = format!("P{person:02}");
        let mut clips: Vec<(u32, PathBuf)> = list(&folder)?
            .into_iter()
            .filter_map(|f| Some((between(&name_of(&f), "ECG_Clip", ".mat")?, f)))
            .collect();
        clips.sort();
        if clips.len() != CLIPS {
            found.warnings.push(format!("{subject}: {} clips where {CLIPS} are expected", clips.len()));
        }
        for (n, (clip, file)) in clips.into_iter().enumerate() {
            let name = format!("{subject} clip {clip}");
            // The stamps of one clip of each person are held against the rate: they cost a decoding.
            let channel = match lead(&file, strict, n == 0, &mut found.warnings, &name) {
                Ok(channel) => channel,
                Err(e) if !strict => {
                    found.dropped.push((name, e.to_string()));
                    continue;
                }
                Err(e) => return Err(e),
            };
            let at = |k: usize| {
                let (p, c) = (person as usize, clip as usize);
                let inside = (1..=PEOPLE as usize).contains(&p) && (1..=CLIPS).contains(&c);
                let value = ratings.as_ref().filter(|_| inside)?.get(k + 5 * ((p - 1) + 58 * (c - 1)))?;
                rating(*value)
            };
            let mut labels: Vec<Option<String>> = (0..5).map(at).collect();
            labels.push(Some(format!("clip{clip:02}")));
            found.items.items.push(Item {
                file,
                record: Some("Data_ECG".into()),
                subject: subject.clone(),
                trial: Some(format!("clip{clip:02}")),
                channel: Some(channel.into()),
                unit: Some(Unit::Arbitrary),
                fs_hz: Some(RATE_HZ),
                labels,
                ..Item::default()
            });
        }
    }
    Ok(found)
}

/// Which column is the ECG.
fn lead(
    file: &Path,
    strict: bool,
    stamps: bool,
    warnings: &mut Vec<String>,
    name: &str,
) -> Result<&'static str> {
    let mat = open_mat(file, &MatOptions { strict, ..MatOptions::default() })?;
    let dims = mat.info("Data_ECG")?.dims;
    let [rows, columns] = dims[..] else {
        return Err(Error::data(format!("Data_ECG has dimensions {dims:?}")).in_file(file));
    };
    if rows < 2 || columns < 3 {
        return Err(Error::data(format!("Data_ECG is {rows}x{columns}; time and two leads are expected"))
            .in_file(file));
    }
    if stamps {
        let time = mat.column("Data_ECG", 0)?;
        let seconds = (time[rows - 1] - time[0]) / 1000.0;
        let rate = (rows - 1) as f64 / seconds;
        if !(rate.is_finite() && (rate - RATE_HZ).abs() <= 0.05 * RATE_HZ) {
            warnings
                .push(format!("{name}: its time stamps give {rate:.1} Hz where {RATE_HZ} Hz are expected"));
        }
    }
    Ok(if columns < 6 { "#2" } else { "#5" })
}

/// The self-reports: 5 x 58 x 36, the first dimension running fastest.
fn ratings(path: &Path, strict: bool, found: &mut Found) -> Result<Option<Vec<f64>>> {
    // The features lie beside the raw data.
    let mut places = vec![path.to_path_buf()];
    places.extend(path.ancestors().skip(1).take(2).map(Path::to_path_buf));
    let file = places
        .iter()
        .flat_map(|p| [p.join("Dt_SelfReports.mat"), p.join("ASCERTAIN_Features/Dt_SelfReports.mat")]);
    let Some(file) = file.into_iter().find(|f| f.is_file()) else {
        found.warnings.push("Dt_SelfReports.mat was not found: recordings have no labels".into());
        return Ok(None);
    };
    let mat = open_mat(&file, &MatOptions { strict, ..MatOptions::default() })?;
    let array = mat.value("Ratings")?;
    if array.dims != [5, PEOPLE as usize, CLIPS] {
        return Err(Error::data(format!(
            "Ratings has dimensions {:?}; 5 x 58 x 36 are expected",
            array.dims
        ))
        .in_file(&file));
    }
    let all = array.into_numbers()?;
    let outside = all.iter().enumerate().find(|(i, v)| match i % 5 {
        0 => v.is_finite() && !(0.0..=6.0).contains(*v),
        1 => v.is_finite() && !(-3.0..=3.0).contains(*v),
        _ => false,
    });
    if let Some((i, v)) = outside {
        let what = ["arousal", "valence"][i % 5];
        found.warnings.push(format!("a rating of {what} of {v} outside its scale"));
    }
    Ok(Some(all))
}
