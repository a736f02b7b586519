//! CASE: continuously annotated videos. The interpolated data are read; the raw ones hold volts before the amplifier's gain.
//!
//! `data/interpolated/physiological/sub_1.csv`: `daqtime` in ms, `ecg` in mV, six other signals, `video`, at 1000 Hz.
//! `data/interpolated/annotations/sub_1.csv`: `jstime`, `valence`, `arousal` (0.5 to 9.5), `video`, at 20 Hz. A recording is
//! the rows of one video; its labels are the means of the joystick's values over it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::{Dataset, Found, between, list, missing, name_of, names};
use crate::data::readers::{ReadOptions, Reader, stem};
use crate::data::recording::{Channel, Recording, Unit};
use crate::data::table::Item;
use crate::error::{Error, IoContext, Result};

pub(super) static CASE: Dataset = Dataset {
    name: "case",
    what: "30 people, 8 videos with continuous joystick annotation, ECG at 1000 Hz",
    citation: "Sharma, Castellini, van den Broek, Albu-Schaeffer, Schwenker. A dataset of continuous affect annotations and \
               physiological signals for emotion analysis. Scientific Data 6:196, 2019",
    obtain: "download from figshare (doi:10.6084/m9.figshare.c.4260668) or springernature.figshare.com",
    licence: "CC BY 4.0 (from memory)",
    quirks: "The interpolated data are read: milliseconds and mV, video in the last column. The raw data are \
             in volts, from which mV are (V - 2.8) / 50 * 1000. Videos 10, 11 and 12 (start, blue screen, \
             end) are left out. Valence and arousal are means of the joystick over the video",
    layout: "data/interpolated/physiological/sub_1.csv and data/interpolated/annotations/sub_1.csv to sub_30",
    labels: "valence, arousal (means, 0.5 to 9.5); stimulus",
    checked: false,
    read,
};

const RATE_HZ: f64 = 1000.0;

/// Reads one video's ECG of a file of the interpolated data; the record is the video's number. Without a record: all rows.
/// The general CSV reader would hold all ten columns of a file of 300 MB, and take its milliseconds for seconds.
#[derive(Debug)]
pub struct Interpolated;

impl Reader for Interpolated {
    fn name(&self) -> &'static str {
        "CASE"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &[]
    }
    fn sniff(&self, _path: &Path, head: &[u8]) -> bool {
        let line = head.split(|b| *b == b'\n').next().unwrap_or(&[]);
        let line = String::from_utf8_lossy(line).replace([' ', '"'], "");
        line.trim_end().starts_with("daqtime,ecg,bvp,gsr,rsp,skt,emg_zygo,emg_coru,emg_trap,video")
    }
    fn read(&self, path: &Path, options: &ReadOptions) -> Result<Recording> {
        let wanted = match &options.record {
            None => None,
            Some(r) => Some(
                r.parse::<i64>()
                    .map_err(|_| Error::usage(format!("'{r}' is no number of a video")).in_file(path))?,
            ),
        };
        options.rate_near(RATE_HZ)?;
        let file = File::open(path).with_file(path)?;
        let mut table = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(BufReader::new(file));
        let mut row = csv::StringRecord::new();
        let (mut samples, mut stamps): (Vec<f64>, Option<(f64, f64)>) = (Vec::new(), None);
        loop {
            let more = table.read_record(&mut row).map_err(|e| {
                let line = e.position().map_or(0, |p| p.line());
                Error::format(e.to_string()).in_file(path).at(format!("line {line}"))
            })?;
            if !more {
                break;
            }
            let line = row.position().map_or(0, |p| p.line());
            let number = |column: usize, name: &str| -> Result<f64> {
                row.get(column).and_then(|f| f.parse().ok()).ok_or_else(|| {
                    Error::format(format!("'{}' is no number", row.get(column).unwrap_or("")))
                        .in_file(path)
                        .at(format!("line {line}, column '{name}'"))
                })
            };
            if wanted.is_some_and(|w| row.get(9).and_then(|v| v.parse::<f64>().ok()) != Some(w as f64)) {
                continue;
            }
            let time = number(0, "daqtime")?;
            samples.push(number(1, "ecg")?);
            stamps = Some((stamps.map_or(time, |s| s.0), time));
        }
        let Some((first, last)) = stamps else {
            return Err(Error::data("no rows of this video")
                .in_file(path)
                .at(options.record.clone().unwrap_or_default()));
        };
        let rate = (samples.len() as f64 - 1.0) / (last - first) * 1000.0;
        let even = (rate - RATE_HZ).abs() <= 0.005 * RATE_HZ;
        if samples.len() > 1 && !even {
            return Err(Error::data(format!(
                "the time stamps give {rate:.1} Hz where {RATE_HZ} Hz are expected"
            ))
            .in_file(path)
            .remedy("the rows of a video must follow each other without gaps"));
        }
        let record = options.record.as_ref().map_or(stem(path), |r| format!("{}:{r}", stem(path)));
        let channel = Channel { label: "ecg".into(), unit: Unit::Millivolt, fs_hz: RATE_HZ, samples };
        Ok(Recording {
            path: path.into(),
            files: vec![path.into()],
            record,
            channels: vec![channel],
            ..Recording::default()
        })
    }
}

fn read(set: &Dataset, path: &Path, strict: bool) -> Result<Found> {
    let starts = ["", "interpolated", "data/interpolated"].map(|p| path.join(p));
    let root = starts.iter().find(|p| p.join("physiological").is_dir());
    let root = root.ok_or_else(|| set.wrong_folder(path, "data/interpolated/physiological/sub_1.csv"))?;
    let mut files: Vec<(u32, _)> = list(&root.join("physiological"))?
        .into_iter()
        .filter_map(|f| Some((between(&name_of(&f), "sub_", ".csv")?, f)))
        .collect();
    if files.is_empty() {
        return Err(set.wrong_folder(&root.join("physiological"), "sub_1.csv"));
    }
    files.sort();
    let mut found = Found::default();
    found.items.label_names = names(&["valence", "arousal", "stimulus"]);
    missing(&files.iter().map(|f| f.0).collect::<BTreeSet<_>>(), 30, &mut found);
    for (person, file) in files {
        let subject = format!("sub{person:02}");
        let notes = root.join("annotations").join(format!("sub_{person}.csv"));
        let videos = match means(&notes) {
            Ok(videos) => videos,
            Err(e) if !strict => {
                found.dropped.push((subject, e.to_string()));
                continue;
            }
            Err(e) => return Err(e),
        };
        for (video, (valence, arousal)) in videos {
            // 10, 11 and 12 are the introduction, the blue screens between videos and the end.
            let name = format!("video{video}");
            if (10..=12).contains(&video) {
                found.dropped.push((format!("{subject} {name}"), "a start, blue or end screen".into()));
                continue;
            }
            found.items.items.push(Item {
                file: file.clone(),
                record: Some(video.to_string()),
                subject: subject.clone(),
                trial: Some(name.clone()),
                labels: vec![Some(valence.to_string()), Some(arousal.to_string()), Some(name)],
                ..Item::default()
            });
        }
    }
    Ok(found)
}

/// Mean valence and arousal of every video.
fn means(path: &Path) -> Result<BTreeMap<i64, (f64, f64)>> {
    let file = File::open(path).with_file(path)?;
    let mut table = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(BufReader::new(file));
    let mut sums: BTreeMap<i64, (f64, f64, f64)> = BTreeMap::new();
    for row in table.records() {
        let row = row.map_err(|e| Error::format(e.to_string()).in_file(path))?;
        let line = row.position().map_or(0, |p| p.line());
        let mut values = [0f64; 4];
        for (c, value) in values.iter_mut().enumerate() {
            let field = row.get(c).unwrap_or("");
            *value = field.parse().ok().filter(|v: &f64| v.is_finite()).ok_or_else(|| {
                Error::format(format!("'{field}' is no number"))
                    .in_file(path)
                    .at(format!("line {line}, column {}", c + 1))
            })?;
        }
        let [_, valence, arousal, video] = values;
        let sum = sums.entry(video as i64).or_default();
        *sum = (sum.0 + valence, sum.1 + arousal, sum.2 + 1.0);
    }
    Ok(sums.into_iter().map(|(video, (v, a, n))| (video, (v / n, a / n))).collect())
}
