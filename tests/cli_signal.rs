//! The commands that look at one recording: `beats`, `features`, `quality`.
#![cfg(feature = "cli")]

use std::path::PathBuf;
use std::process::{Command, Output};

use heartlore::signal::simulate::{EcgParameters, simulate_ecg};

struct Place(tempfile::TempDir);

impl Place {
    /// A folder with `ecg.csv`: 90 s at 128 Hz in mV, its last 10 s flat.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let mut ecg = simulate_ecg(&EcgParameters::default(), 90.0, 128.0, 5).unwrap().signal_mv;
        ecg[80 * 128..].fill(0.25);
        let rows: String = ecg.iter().map(|v| format!("{v:.4}\n")).collect();
        place.write("ecg.csv", &format!("ecg_mV\n{rows}"));
        place
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }
    fn run(&self, line: &str) -> Output {
        let args = line.split_whitespace();
        Command::new(env!("CARGO_BIN_EXE_heartlore")).args(args).current_dir(self.0.path()).output().unwrap()
    }
    /// Runs and expects success; returns standard output and standard error.
    fn ok(&self, line: &str) -> (String, String) {
        let out = self.run(line);
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{line}\n{error}");
        (String::from_utf8(out.stdout).unwrap(), error)
    }
    fn fails(&self, line: &str, code: i32, words: &[&str]) {
        let out = self.run(line);
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{line}\n{text}");
        assert!(words.iter().all(|w| text.contains(w)), "{line}: not all of {words:?} in\n{text}");
    }
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// The columns of CSV text by name.
fn table(text: &str) -> (Vec<&str>, Vec<Vec<&str>>) {
    let mut lines = text.lines().map(|l| l.split(',').collect::<Vec<_>>());
    (lines.next().unwrap(), lines.collect())
}

#[test]
fn beats_as_csv_json_and_picture() {
    let p = Place::new();
    let (csv, _) = p.ok("beats ecg.csv --fs-hz 128");
    let (names, rows) = table(&csv);
    assert_eq!(names, ["beat", "sample", "time_s", "rr_ms", "normal", "usable"]);
    let (out, _) = p.ok("beats ecg.csv --fs-hz 128 --json --plot beats.svg");
    let value = json(&out);
    let beats = value["beats"].as_array().unwrap();
    assert_eq!(beats.len(), rows.len());
    assert!((70..100).contains(&beats.len()), "{} beats in 80 s", beats.len());
    for (beat, row) in beats.iter().zip(&rows) {
        assert_eq!(beat["sample"].to_string(), row[1]);
        assert!((beat["time_s"].as_f64().unwrap() - row[1].parse::<f64>().unwrap() / 128.0).abs() < 1e-9);
    }
    assert_eq!((rows[0][3], rows[0][4], rows[1][4]), ("", "0", "1"));
    assert_eq!((&value["annotated"], value["channel"].as_str()), (&serde_json::Value::Null, Some("ecg")));
    assert!(std::fs::read_to_string(p.path("beats.svg")).unwrap().starts_with("<svg"));
    // A file is not written over unless asked; --out prints where it went.
    p.fails("beats ecg.csv --fs-hz 128 --plot beats.svg", 2, &["beats.svg", "--overwrite"]);
    let (said, _) = p.ok("beats ecg.csv --fs-hz 128 --plot beats.svg --overwrite --out b.csv");
    assert!(said.contains("b.csv") && std::fs::read_to_string(p.path("b.csv")).unwrap() == csv);
}

#[test]
fn annotated_beats_are_compared() {
    let p = Place::new();
    let fs_hz = 250.0;
    let ecg = simulate_ecg(&EcgParameters::default(), 60.0, fs_hz, 3).unwrap();
    // WFDB: 16-bit samples, 1000 to a mV, and annotations of two bytes each: ten bits of distance, six bits of code.
    let samples: Vec<u8> =
        ecg.signal_mv.iter().flat_map(|mv| ((mv * 1000.0).round() as i16).to_le_bytes()).collect();
    std::fs::write(p.path("beats.dat"), samples).unwrap();
    let n = ecg.signal_mv.len();
    p.write("beats.hea", &format!("beats 1 {fs_hz} {n}\nbeats.dat 16 1000(0)/mV 16 0 0 0 0 ECG\n"));
    let (mut words, mut before) = (Vec::new(), 0);
    for time_s in &ecg.r_times_s {
        let peak = (time_s * fs_hz).round() as usize;
        let distance = peak - before;
        assert!(distance < 1024);
        words.extend(((1 << 10) | distance as u16).to_le_bytes()); // 1: a normal beat
        before = peak;
    }
    words.extend([0, 0]);
    std::fs::write(p.path("beats.atr"), words).unwrap();
    let (out, note) = p.ok("beats beats.hea --json");
    let annotated = &json(&out)["annotated"];
    assert!(annotated["sensitivity"].as_f64().unwrap() > 0.98, "{annotated} {note}");
    assert!(out.contains("annotated beats") && note.is_empty(), "{out} {note}");
}

#[test]
fn features_per_recording_window_and_store() {
    let p = Place::new();
    let (csv, _) = p.ok("features ecg.csv --fs-hz 128");
    let (names, rows) = table(&csv);
    assert_eq!((&names[..4], rows.len()), (&["file", "record", "start_s", "end_s"][..], 1));
    let column = |name: &str| rows[0][names.iter().position(|n| *n == name).unwrap()];
    let number = |name: &str| column(name).parse::<f64>().unwrap();
    assert!((50.0..80.0).contains(&number("mean_bpm")));
    assert!((number("mean_bpm") * number("mean_nn_ms") - 60_000.0).abs() < 1e-6);
    // Eighty seconds with beats: enough for HF, not for LF.
    assert!(
        number("lomb_hf_ms2") > 0.0
            && column("lomb_lf_ms2").is_empty()
            && column("sample_entropy").is_empty()
    );

    let (out, note) =
        p.ok("features ecg.csv --fs-hz 128 --window-s 20 --hop-s 10 --json --plot windows.svg --out f.csv");
    let value = &json(&out)["windows"];
    assert_eq!(value.as_array().unwrap().len(), 8);
    assert_eq!((value[1]["start_s"].as_f64(), value[1]["end_s"].as_f64()), (Some(10.0), Some(30.0)));
    assert!(value[0]["rmssd_ms"].as_f64().unwrap() > 0.0 && value[0]["lomb_hf_ms2"].is_null());
    assert!(note.is_empty() && json(&out)["notes"].to_string().contains("windows.svg"), "{note} {out}");

    p.ok("simulate --out study --store store --subjects 2 --trials 2 --trial-s 30 --strength 1");
    let (csv, _) = p.ok("features store");
    let (names, rows) = table(&csv);
    assert_eq!(names[..3], ["dataset", "subject", "trial"]);
    let bpm = names.iter().position(|n| *n == "mean_bpm").unwrap();
    assert!(rows.len() >= 8 && rows.iter().all(|r| (40.0..140.0).contains(&r[bpm].parse::<f64>().unwrap())));
    p.fails("features store --window-s 5", 2, &["--window-s", "store"]);
    p.fails("features store --plot x.svg", 2, &["--plot"]);
    p.fails("features ecg.csv --fs-hz 128 --window-s 200", 5, &["90.0 s", "--window-s"]);
    p.fails("features ecg.csv --fs-hz 128 --window-s 0", 2, &["--window-s"]);
    p.fails("features ecg.csv --fs-hz 128 --hop-s 5", 2, &["--window-s"]);
    p.fails("features ecg.csv", 5, &["sampling rate"]);
    p.fails("features ecg.csv --fs-hz 20", 2, &["20 Hz"]);
    p.fails("features none.csv", 6, &["none.csv"]);
}

#[test]
fn quality_names_the_reasons() {
    let p = Place::new();
    let (csv, note) = p.ok("quality ecg.csv --fs-hz 128 --plot quality.svg");
    let (names, rows) = table(&csv);
    assert_eq!((names[2], rows.len()), ("index", 9));
    for (i, row) in rows.iter().enumerate() {
        let index: f64 = row[2].parse().unwrap();
        if i < 8 {
            assert!(index > 0.9 && row[3] == "1" && row[4].is_empty(), "window {i}: {row:?}");
        } else {
            assert!(index == 0.0 && row[3] == "0" && row[4].contains("flat line"), "{row:?}");
        }
    }
    assert!(note.contains("kept 8 of 9"), "{note}");
    assert!(p.path("quality.svg").is_file());
    let (out, _) = p.ok("quality ecg.csv --fs-hz 128 --window-s 30 --hop-s 15 --json --out q.csv --unit uV");
    let value = json(&out);
    assert_eq!(value["windows"].as_array().unwrap().len(), 5);
    // In microvolts this is no ECG.
    assert_eq!(value["windows"][0]["reasons"][0], "amplitude too low for an ECG");
    p.fails("quality ecg.csv --fs-hz 128 --unit furlong", 2, &["--unit", "furlong"]);
    p.fails("quality ecg.csv --fs-hz 128 --channel V9", 5, &["V9", "'ecg'"]);
    p.fails("quality ecg.csv --fs-hz 128 --window-s nan", 2, &["--window-s"]);
}
