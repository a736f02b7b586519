//! Sensitivity and precision of the beat detector on real recordings, per record and per rhythm. Set HEARTLORE_ECG_DATA to a
//! folder with `packed/`, `packed-more/` and `raw/`, then
//! `cargo test --release --test beats_real -- --ignored real_data_ --nocapture`; `.ci/run` does it where the folder is. `tests/oracles/beats.py` measures other detectors on the
//! same recordings in the same way.
#![cfg(feature = "formats")]
#![allow(clippy::print_stdout, reason = "measured figures, shown by --nocapture")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use heartlore::data::readers::wfdb::annotations::{self, is_beat};
use heartlore::data::readers::{self, ReadOptions};
use heartlore::signal::stream::StreamBeats;
use heartlore::signal::{BeatAgreement, QualitySettings, detect_r_peaks};

/// Of ANSI/AAMI EC57.
const TOLERANCE_S: f64 = 0.15;

fn data() -> PathBuf {
    std::env::var_os("HEARTLORE_ECG_DATA")
        .map(PathBuf::from)
        .expect("HEARTLORE_ECG_DATA names the data's folder")
}

fn headers(folder: &Path) -> Vec<PathBuf> {
    let list = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<PathBuf> = list.filter(|p| p.extension().is_some_and(|e| e == "hea")).collect();
    files.sort();
    files
}

fn seconds(peaks: &[usize], fs_hz: f64) -> Vec<f64> {
    peaks.iter().map(|p| *p as f64 / fs_hz).collect()
}

fn streamed(x: &[f64], fs_hz: f64) -> Vec<f64> {
    let mut stream = StreamBeats::new(fs_hz).unwrap();
    let mut out = Vec::new();
    for block in x.chunks(fs_hz as usize) {
        stream.process(block, &mut out).unwrap();
    }
    stream.finish(&mut out).unwrap();
    seconds(&out, fs_hz)
}

/// The beats of ten-second windows, each searched by itself.
fn windowed(x: &[f64], fs_hz: f64) -> Vec<f64> {
    let len = (10.0 * fs_hz) as usize;
    let parts = x.chunks(len).enumerate().filter(|(_, w)| w.len() > 64);
    parts
        .flat_map(|(i, w)| {
            seconds(&detect_r_peaks(w, fs_hz).unwrap(), fs_hz).into_iter().map(move |t| t + i as f64 * 10.0)
        })
        .collect()
}

fn show(name: &str, a: BeatAgreement) {
    println!(
        "{name:<44} {:6} beats {:5} missed {:5} extra  sensitivity {:6.2} %  precision {:6.2} %",
        a.matched + a.missed,
        a.missed,
        a.extra,
        100.0 * a.sensitivity(),
        100.0 * a.positive_predictivity()
    );
}

/// MIT-BIH 100 and 208, whole, as a stream and by windows, and per rhythm as annotated.
#[test]
#[ignore = "needs real recordings: HEARTLORE_ECG_DATA=FOLDER"]
fn real_data_mit_bih() {
    for file in headers(&data().join("raw/mitdb")) {
        let r = readers::open(&file, &ReadOptions::default()).unwrap();
        let ecg = r.ecg_channel(None).unwrap();
        let bytes = std::fs::read(file.with_extension("atr")).unwrap();
        let list = annotations::parse(&bytes, ecg.fs_hz).list;
        let truth: Vec<f64> =
            list.iter().filter(|a| is_beat(&a.symbol)).map(|a| a.sample as f64 / ecg.fs_hz).collect();
        let found = seconds(&detect_r_peaks(&ecg.samples, ecg.fs_hz).unwrap(), ecg.fs_hz);
        let whole = BeatAgreement::of(&found, &truth, TOLERANCE_S);
        show(&format!("mitdb {}", r.record), whole);
        let stream = BeatAgreement::of(&streamed(&ecg.samples, ecg.fs_hz), &truth, TOLERANCE_S);
        show(&format!("mitdb {} streamed", r.record), stream);
        let parts = BeatAgreement::of(&windowed(&ecg.samples, ecg.fs_hz), &truth, TOLERANCE_S);
        show(&format!("mitdb {} windows of 10 s", r.record), parts);
        // Rhythms change where an annotation says so.
        let mut changes: Vec<(f64, String)> = list
            .iter()
            .filter(|a| a.aux.starts_with('('))
            .map(|a| (a.sample as f64 / ecg.fs_hz, a.aux.clone()))
            .collect();
        changes.push((f64::INFINITY, String::new()));
        let mut rhythms: BTreeMap<String, BeatAgreement> = BTreeMap::new();
        for pair in changes.windows(2) {
            let inside = |t: &&f64| **t >= pair[0].0 && **t < pair[1].0;
            let (f, t): (Vec<f64>, Vec<f64>) = (
                found.iter().filter(inside).copied().collect(),
                truth.iter().filter(inside).copied().collect(),
            );
            rhythms.entry(pair[0].1.clone()).or_default().add(BeatAgreement::of(&f, &t, TOLERANCE_S));
        }
        rhythms.into_iter().for_each(|(name, a)| show(&format!("mitdb {} {name}", r.record), a));
        for a in [whole, stream] {
            assert!(a.sensitivity() > 0.994 && a.positive_predictivity() > 0.998, "{}: {a:?}", r.record);
        }
    }
}

/// Ten records of LUDB, twelve leads each, against the cardiologists' QRS of the same lead, between the first and the last
/// that they marked: those at the ends are left out there.
#[test]
#[ignore = "needs real recordings: HEARTLORE_ECG_DATA=FOLDER"]
fn real_data_ludb() {
    let mut rhythms: BTreeMap<String, BeatAgreement> = BTreeMap::new();
    let mut all = BeatAgreement::default();
    let mut stream = BeatAgreement::default();
    for file in headers(&data().join("raw/ludb")) {
        let header = std::fs::read_to_string(&file).unwrap();
        let rhythm =
            header.lines().find_map(|l| l.strip_prefix("#Rhythm: ")).unwrap_or("unknown").trim().to_string();
        let r = readers::open(&file, &ReadOptions::default()).unwrap();
        let mut record = BeatAgreement::default();
        for ecg in &r.channels {
            let Ok(bytes) = std::fs::read(file.with_extension(ecg.label.to_lowercase())) else { continue };
            let list = annotations::parse(&bytes, ecg.fs_hz).list;
            let truth: Vec<f64> =
                list.iter().filter(|a| is_beat(&a.symbol)).map(|a| a.sample as f64 / ecg.fs_hz).collect();
            let (Some(first), Some(last)) = (truth.first(), truth.last()) else { continue };
            let inside = |t: &f64| *t >= first - TOLERANCE_S && *t <= last + TOLERANCE_S;
            let of = |mut found: Vec<f64>| {
                found.retain(inside);
                BeatAgreement::of(&found, &truth, TOLERANCE_S)
            };
            let a = of(seconds(&detect_r_peaks(&ecg.samples, ecg.fs_hz).unwrap(), ecg.fs_hz));
            if a.missed + a.extra > 0 {
                show(&format!("ludb {} {}", r.record, ecg.label), a);
            }
            record.add(a);
            stream.add(of(streamed(&ecg.samples, ecg.fs_hz)));
        }
        show(&format!("ludb {} ({rhythm})", r.record), record);
        rhythms.entry(rhythm).or_default().add(record);
        all.add(record);
    }
    rhythms.into_iter().for_each(|(name, a)| show(&format!("ludb, {name}"), a));
    show("ludb, all leads", all);
    show("ludb, all leads, streamed", stream);
    assert!(all.sensitivity() > 0.99 && all.positive_predictivity() > 0.99, "{all:?}");
}

/// Samples of the packed records of one source, with their names, at 128 Hz in millivolts.
fn packed(folder: &str, source: &str) -> Vec<(String, Vec<f64>)> {
    let folder = data().join(folder);
    let manifest = std::fs::read_to_string(folder.join("manifest.csv")).unwrap();
    let mut lines = manifest.lines().map(|l| l.split(',').collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let at = |name: &str| names.iter().position(|n| *n == name).unwrap();
    let raw = std::fs::read(folder.join(format!("{source}.i16"))).unwrap();
    let rows = lines.filter(|l| l[at("source")] == source);
    rows.map(|l| {
        let (offset, n): (usize, usize) = (l[at("offset")].parse().unwrap(), l[at("n128")].parse().unwrap());
        let samples = raw[2 * offset..2 * (offset + n)].chunks_exact(2);
        let x = samples.map(|b| f64::from(i16::from_le_bytes([b[0], b[1]])) / 1000.0).collect();
        (format!("{} {} {}", l[at("record")], l[at("lead")], l[at("label")]), x)
    })
    .collect()
}

/// Beats and usable windows of every packed source, upright and inverted; a line for each record with --nocapture and
/// HEARTLORE_BEATS_OUT set to a file, for a comparison before and after a change.
#[test]
#[ignore = "needs real recordings: HEARTLORE_ECG_DATA=FOLDER"]
fn real_data_packed_sets() {
    let mut dump = String::new();
    let gate = QualitySettings::default();
    for (folder, source) in [
        ("packed", "mitdb"),
        ("packed", "eegmat"),
        ("packed", "ecgid"),
        ("packed", "cinc2017"),
        ("packed-more", "ludb"),
        ("packed-more", "gaming_h10"),
    ] {
        let (mut beats, mut windows, mut usable, mut inverted) = (0, 0, 0, 0);
        for (name, x) in packed(folder, source) {
            let found = detect_r_peaks(&x, 128.0).unwrap();
            let turned: Vec<f64> = x.iter().map(|v| -v).collect();
            let count = |x: &[f64]| {
                let parts: Vec<&[f64]> = x.chunks_exact(1280).collect();
                gate.judge_all(&parts, 128.0, Some(1.0)).unwrap().iter().filter(|v| v.usable()).count()
            };
            let (up, down) = (count(&x), count(&turned));
            (beats, windows, usable, inverted) =
                (beats + found.len(), windows + x.len() / 1280, usable + up, inverted + down);
            dump += &format!("{source},{name},{},{},{up},{down}\n", found.len(), x.len() / 1280);
        }
        println!(
            "{source:<12} {beats:7} beats; {windows:6} windows, usable {usable:6}, inverted {inverted:6}"
        );
    }
    if let Some(path) = std::env::var_os("HEARTLORE_BEATS_OUT") {
        std::fs::write(path, dump).unwrap();
    }
}
