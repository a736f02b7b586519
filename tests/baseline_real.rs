//! Figures on real recordings: beat detection on all annotated records, and the labelled baseline on EEGMAT. Set
//! HEARTLORE_ECG_DATA to a folder with `packed/` and `raw/`, and run `cargo test --release --test baseline_real -- --ignored
//! real_data_ --nocapture`; `.ci/run` does it where the folder is.
#![cfg(feature = "formats")]
#![allow(clippy::print_stdout, reason = "measured figures, shown by --nocapture")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use heartlore::data::readers::wfdb::annotations::is_beat;
use heartlore::data::readers::{self, ReadOptions};
use heartlore::metrics::baseline::LogisticSettings;
use heartlore::metrics::{LogisticRegression, Scaler};
use heartlore::signal::stream::StreamBeats;
use heartlore::signal::{BeatAgreement, HeartRate, detect_r_peaks, plausible_rr_s, rr_intervals_s};

fn data() -> PathBuf {
    std::env::var_os("HEARTLORE_ECG_DATA")
        .expect("HEARTLORE_ECG_DATA names the folder of real recordings")
        .into()
}

/// Every raw record with beat annotations, at its own rate, first channel that looks like an ECG. The detector's settings
/// were chosen on MIT-BIH 100 and 208; the ECG-ID annotations are of 10 beats each, made by a program and unaudited, so
/// only whether those beats were found counts there.
#[test]
#[ignore = "needs real recordings: HEARTLORE_ECG_DATA=FOLDER"]
fn real_data_beats_of_every_annotated_record() {
    let dir = data();
    let mut files = Vec::new();
    for set in ["raw/mitdb", "raw/ecgid/Person_01", "raw/ecgid/Person_02"] {
        let Ok(list) = std::fs::read_dir(dir.join(set)) else { continue };
        files.extend(list.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "hea")));
    }
    files.sort();
    let mut ecgid = BeatAgreement::default();
    let mut records = 0;
    for file in files {
        let r = readers::open(&file, &ReadOptions::default()).unwrap();
        let ecg = r.ecg_channel(None).unwrap();
        let is_r = |text: &str| is_beat(text.split(' ').next().unwrap_or(""));
        let truth: Vec<f64> = r.annotations.iter().filter(|a| is_r(&a.text)).map(|a| a.time_s).collect();
        if truth.is_empty() {
            continue;
        }
        let found = detect_r_peaks(&ecg.samples, ecg.fs_hz).unwrap();
        let found: Vec<f64> = found.iter().map(|p| *p as f64 / ecg.fs_hz).collect();
        let a = BeatAgreement::of(&found, &truth, 0.15);
        let (se, ppv) = (100.0 * a.sensitivity(), 100.0 * a.positive_predictivity());
        if file.to_string_lossy().contains("mitdb") {
            println!(
                "{}: {} beats, {a:?}, sensitivity {se:.2} %, positive predictivity {ppv:.2} %",
                r.record,
                truth.len()
            );
            // Block by block, a second at a time, the beats are the same but for a few in noise.
            let mut stream = StreamBeats::new(ecg.fs_hz).unwrap();
            let mut streamed = Vec::new();
            for block in ecg.samples.chunks(ecg.fs_hz as usize) {
                stream.process(block, &mut streamed).unwrap();
            }
            stream.finish(&mut streamed).unwrap();
            let streamed: Vec<f64> = streamed.iter().map(|p| *p as f64 / ecg.fs_hz).collect();
            let same = BeatAgreement::of(&streamed, &found, 0.01);
            println!("{}: streamed against at once: {same:?}", r.record);
            assert!(same.sensitivity() > 0.995 && same.positive_predictivity() > 0.995, "{}", r.record);
            let limit = if r.record == "100" { 99.5 } else { 99.0 };
            assert!(se >= limit && ppv >= limit, "{}", r.record);
        } else {
            records += 1;
            ecgid.add(a);
        }
    }
    println!(
        "ECG-ID: {records} records, {} beats, {:.2} % found",
        ecgid.matched + ecgid.missed,
        100.0 * ecgid.sensitivity()
    );
}

/// Annotated beats of the MIT-BIH records, from the tables of the MIT-BIH Arrhythmia Database Directory; 109,494 in all. In
/// 207 they leave out the waves of ventricular flutter.
const MITDB_BEATS: [(u32, usize); 48] = [
    (100, 2273),
    (101, 1865),
    (102, 2187),
    (103, 2084),
    (104, 2229),
    (105, 2572),
    (106, 2027),
    (107, 2137),
    (108, 1763),
    (109, 2532),
    (111, 2124),
    (112, 2539),
    (113, 1795),
    (114, 1879),
    (115, 1953),
    (116, 2412),
    (117, 1535),
    (118, 2278),
    (119, 1987),
    (121, 1863),
    (122, 2476),
    (123, 1518),
    (124, 1619),
    (200, 2601),
    (201, 1963),
    (202, 2136),
    (203, 2980),
    (205, 2656),
    (207, 1860),
    (208, 2955),
    (209, 3005),
    (210, 2650),
    (212, 2748),
    (213, 3251),
    (214, 2262),
    (215, 3363),
    (217, 2208),
    (219, 2154),
    (220, 2048),
    (221, 2427),
    (222, 2483),
    (223, 2605),
    (228, 2053),
    (230, 2256),
    (231, 1571),
    (232, 1780),
    (233, 3079),
    (234, 2753),
];

/// The packed MIT-BIH records come without annotations, so no sensitivity can be told of the 46 records that the detector was
/// not tuned on; how many beats each has is published. Equal counts do not prove equal beats, but unequal ones disprove them.
#[test]
#[ignore = "needs real recordings: HEARTLORE_ECG_DATA=FOLDER"]
fn real_data_as_many_beats_as_were_annotated() {
    let dir = data();
    let manifest = std::fs::read_to_string(dir.join("packed/manifest.csv")).unwrap();
    let mut lines = manifest.lines().map(|l| l.split(',').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let raw = std::fs::read(dir.join("packed/mitdb.i16")).unwrap();
    let (mut apart, mut found_all, mut all) = (Vec::new(), 0usize, 0usize);
    for line in lines {
        let field = |name: &str| line[names.iter().position(|n| *n == name).unwrap()];
        if field("source") != "mitdb" {
            continue;
        }
        let record: u32 = field("record").parse().unwrap();
        let beats = MITDB_BEATS.iter().find(|(r, _)| *r == record).unwrap().1;
        let (offset, n): (usize, usize) = (field("offset").parse().unwrap(), field("n128").parse().unwrap());
        let samples = raw[2 * offset..2 * (offset + n)].chunks_exact(2);
        let x: Vec<f64> = samples.map(|b| f64::from(i16::from_le_bytes([b[0], b[1]]))).collect();
        let found = detect_r_peaks(&x, 128.0).unwrap().len();
        let percent = 100.0 * (found as f64 - beats as f64) / beats as f64;
        println!("{record}: {found} beats where {beats} are annotated ({percent:+.2} %)");
        if ![100, 208].contains(&record) {
            apart.push(percent.abs());
            found_all += found;
            all += beats;
        }
    }
    apart.sort_by(f64::total_cmp);
    let within = apart.iter().filter(|p| **p <= 1.0).count();
    let mean = apart.iter().sum::<f64>() / apart.len() as f64;
    println!(
        "46 records not tuned on: {found_all} beats where {all} are annotated; off by {:.2} % in the median, {:.2} % on average; \
         within 1 % in {within}",
        apart[apart.len() / 2],
        mean
    );
    assert_eq!((apart.len(), MITDB_BEATS.iter().map(|b| b.1).sum::<usize>()), (46, 109_494));
    // On average within 1 %, the flutter of 207 included, which nobody annotated beat by beat; measured 0.05 % and 0.86 %.
    assert!(apart[apart.len() / 2] <= 0.1 && mean <= 1.0, "{apart:?}");
}

/// Windows of 10 s of the packed EEGMAT records, features, label, subject.
struct Windows {
    features: Vec<f64>,
    labels: Vec<bool>,
    subjects: Vec<String>,
}

const COLUMNS: usize = 4;

fn eegmat(dir: &std::path::Path) -> Windows {
    let manifest = std::fs::read_to_string(dir.join("packed/manifest.csv")).unwrap();
    let mut lines = manifest.lines().map(|l| l.split(',').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let raw = std::fs::read(dir.join("packed/eegmat.i16")).unwrap();
    let mut out = Windows { features: vec![], labels: vec![], subjects: vec![] };
    let fs_hz = 128.0;
    for line in lines {
        let field = |name: &str| line[names.iter().position(|n| *n == name).unwrap()];
        if field("source") != "eegmat" || field("quality_ok") != "1" {
            continue;
        }
        let (offset, n): (usize, usize) = (field("offset").parse().unwrap(), field("n128").parse().unwrap());
        let samples = raw[2 * offset..2 * (offset + n)].chunks_exact(2);
        let x: Vec<f64> = samples.map(|b| f64::from(i16::from_le_bytes([b[0], b[1]]))).collect();
        let peaks = detect_r_peaks(&x, fs_hz).unwrap();
        for start in (0..).map(|k| k * 1280).take_while(|s| s + 1280 <= n) {
            let inside: Vec<usize> =
                peaks.iter().copied().filter(|p| (start..start + 1280).contains(p)).collect();
            let (rr, _) = plausible_rr_s(&rr_intervals_s(&inside, fs_hz).unwrap());
            if rr.len() < 4 {
                continue;
            }
            let h = HeartRate::of(&rr).unwrap();
            out.features.extend([h.mean_bpm, h.sdnn_ms, h.rmssd_ms, h.range_ms]);
            out.labels.push(field("label") == "arith");
            out.subjects.push(field("subject").to_string());
        }
    }
    out
}

/// Leave one subject out: balanced accuracy over all windows of logistic regression on the first `columns` features.
fn leave_one_subject_out(w: &Windows, columns: usize) -> f64 {
    let row = |i: usize| &w.features[COLUMNS * i..COLUMNS * i + columns];
    let gather = |rows: &[usize]| rows.iter().flat_map(|i| row(*i).to_vec()).collect::<Vec<f64>>();
    let subjects: BTreeSet<&String> = w.subjects.iter().collect();
    // Right and all, for each class.
    let mut counts = [[0.0f64; 2]; 2];
    for subject in subjects {
        let (test, train): (Vec<usize>, Vec<usize>) =
            (0..w.labels.len()).partition(|i| w.subjects[*i] == *subject);
        let labels: Vec<bool> = train.iter().map(|i| w.labels[*i]).collect();
        let x = gather(&train);
        let scaler = Scaler::fit(&x, columns).unwrap();
        let settings = LogisticSettings { c: 1.0, balanced: true };
        let model =
            LogisticRegression::fit(&scaler.transform(&x).unwrap(), columns, &labels, settings).unwrap();
        let p = model.probabilities(&scaler.transform(&gather(&test)).unwrap()).unwrap();
        for (i, p) in test.iter().zip(p) {
            let class = usize::from(w.labels[*i]);
            counts[class][0] += f64::from(u8::from((p > 0.5) == w.labels[*i]));
            counts[class][1] += 1.0;
        }
    }
    0.5 * (counts[0][0] / counts[0][1] + counts[1][0] / counts[1][1])
}

/// The published baseline: balanced accuracy 0.72 from heart rate, 0.71 with variability.
#[test]
#[ignore = "needs real recordings: HEARTLORE_ECG_DATA=FOLDER"]
fn real_data_the_labelled_baseline_is_reproduced() {
    let dir = data();
    let w = eegmat(&dir);
    let arithmetic = w.labels.iter().filter(|l| **l).count();
    let (rate, both) = (leave_one_subject_out(&w, 1), leave_one_subject_out(&w, COLUMNS));
    println!(
        "EEGMAT: {} windows ({arithmetic} arithmetic), balanced accuracy {rate:.3} heart rate, {both:.3} with variability",
        w.labels.len()
    );
    assert!(w.labels.len().abs_diff(805) <= 10, "{} windows", w.labels.len());
    assert!((rate - 0.72).abs() <= 0.02 && (both - 0.71).abs() <= 0.02, "{rate} {both}");
}
