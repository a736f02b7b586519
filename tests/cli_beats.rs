//! `beats`, `features`, `quality` and `prepare` on recordings with pauses, noise, lost samples and measured rates.
#![cfg(feature = "cli")]

use std::process::Command;

use heartlore::signal::Rng;
use heartlore::signal::simulate::{EcgParameters, SimulatedEcg, simulate_ecg};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    /// Writes one column in mV; what is not finite stays an empty field between two commas.
    fn write(&self, name: &str, samples: &[f64]) {
        let field = |v: &f64| if v.is_finite() { format!("{v:.5}") } else { String::new() };
        let rows: String = samples.iter().enumerate().map(|(i, v)| format!("{i},{}\n", field(v))).collect();
        std::fs::write(self.0.path().join(name), format!("index,ecg_mV\n{rows}")).unwrap();
    }
    fn ok(&self, line: &str) -> (String, String) {
        let args = line.split_whitespace();
        let out = Command::new(env!("CARGO_BIN_EXE_heartlore"))
            .args(args)
            .current_dir(self.0.path())
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{line}\n{error}");
        (String::from_utf8(out.stdout).unwrap(), error)
    }
    fn json(&self, line: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(&format!("{line} --json")).0).unwrap()
    }
}

fn ecg(duration_s: f64, fs_hz: f64, seed: u64) -> SimulatedEcg {
    let parameters = EcgParameters { mean_heart_rate_bpm: 60.0, rr_sd_s: 0.02, ..EcgParameters::default() };
    simulate_ecg(&parameters, duration_s, fs_hz, seed).unwrap()
}

fn add_noise(x: &mut [f64], mv: f64, seed: u64) {
    let mut rng = Rng::new(seed);
    x.iter_mut().for_each(|v| *v += mv * rng.normal());
}

/// Noise at the start, in the middle, at the end: variability is that of the rest, and the text and the document say so.
#[test]
fn noise_is_left_out_of_variability() {
    let p = Place::new();
    for (k, (from_s, to_s)) in [(0.0, 8.0), (21.0, 29.0), (34.0, 43.0), (52.0, 60.0)].into_iter().enumerate()
    {
        let fs_hz = 250.0;
        let clean = ecg(60.0, fs_hz, k as u64);
        let mut x = clean.signal_mv.clone();
        add_noise(&mut x[(from_s * fs_hz) as usize..(to_s * fs_hz) as usize], 5.0, 9);
        p.write("e.csv", &x);
        let value = p.json("features e.csv --fs-hz 250 --channel ecg");
        let window = &value["windows"][0];
        let number = |name: &str| window[name].as_f64().unwrap();
        p.write("clean.csv", &clean.signal_mv);
        let truth = p.json("features clean.csv --fs-hz 250 --channel ecg");
        let want = |name: &str| truth["windows"][0][name].as_f64().unwrap();
        assert!((number("mean_nn_ms") - want("mean_nn_ms")).abs() < 15.0, "{from_s}: {window}");
        assert!((number("sdnn_ms") / want("sdnn_ms") - 1.0).abs() < 0.4, "{from_s}: {window}");
        assert!((number("rmssd_ms") / want("rmssd_ms") - 1.0).abs() < 0.4, "{from_s}: {window}");
        assert!((10.0..=20.0).contains(&number("rejected_s")) && want("rejected_s") == 0.0);
        assert!(!value["rejected"].as_array().unwrap().is_empty());
        let (csv, note) = p.ok("beats e.csv --fs-hz 250 --channel ecg");
        assert!(note.contains("quality gate rejects"), "{note}");
        // No interval that counts ends or begins in the noise.
        for line in csv.lines().skip(1) {
            let f: Vec<&str> = line.split(',').collect();
            let end_s: f64 = f[2].parse().unwrap();
            let begin_s = end_s - f[3].parse::<f64>().unwrap_or(0.0) / 1000.0;
            assert!(f[4] == "0" || end_s <= from_s || begin_s >= to_s, "{line}");
        }
    }
}

#[test]
fn pure_noise_has_no_variability() {
    let p = Place::new();
    for (k, mv) in [0.02, 0.2, 1.0].into_iter().enumerate() {
        let mut x = vec![0.0; 7500];
        add_noise(&mut x, mv, k as u64);
        p.write("n.csv", &x);
        let value = p.json("features n.csv --fs-hz 250 --channel ecg");
        let window = &value["windows"][0];
        for name in ["mean_bpm", "mean_nn_ms", "sdnn_ms", "rmssd_ms", "sd1_ms"] {
            assert!(window[name].is_null(), "{name} of noise of {mv} mV: {window}");
        }
        assert!(window["why_empty"].as_str().unwrap().contains("quality gate"), "{window}");
        assert_eq!(window["intervals"].as_f64(), Some(0.0));
    }
}

#[test]
fn single_lost_samples_cost_nothing() {
    let p = Place::new();
    let fs_hz = 250.0;
    let whole = ecg(30.0, fs_hz, 4);
    p.write("whole.csv", &whole.signal_mv);
    let beats = |file: &str| p.json(&format!("beats {file} --fs-hz 250 --channel ecg"));
    let all = beats("whole.csv")["beats"].as_array().unwrap().len();
    for (every, length) in [(500, 1), (333, 3), (700, 10)] {
        let mut x = whole.signal_mv.clone();
        let lost = (every / 2..x.len() - 20).step_by(every).map(|i| x[i..i + length].fill(f64::NAN)).count()
            * length;
        p.write("lost.csv", &x);
        let value = beats("lost.csv");
        assert_eq!(value["beats"].as_array().unwrap().len(), all, "{every} {length}");
        assert_eq!(
            (value["missing_samples"].as_u64(), value["bridged_samples"].as_u64()),
            (Some(lost as u64), Some(lost as u64))
        );
        assert!(value["warnings"].to_string().contains("filled in"), "{}", value["warnings"]);
        let windows = p.json("quality lost.csv --fs-hz 250 --channel ecg");
        let windows = windows["windows"].as_array().unwrap();
        assert!(windows.len() == 3 && windows.iter().all(|w| w["usable"] == true), "{windows:?}");
        assert!(windows.iter().all(|w| w["bridged_samples"].as_u64() > Some(0)));
        p.ok("prepare lost.csv --fs-hz 250 --channel ecg --out store --overwrite");
        let features = p.json("features store");
        assert_eq!(features["windows"].as_array().unwrap().len(), 3);
    }
    // A long loss stays one: no beat in it, no interval across it.
    let mut x = whole.signal_mv.clone();
    x[3000..3500].fill(f64::NAN);
    p.write("long.csv", &x);
    let value = beats("long.csv");
    assert_eq!(value["bridged_samples"].as_u64(), Some(0));
    for beat in value["beats"].as_array().unwrap() {
        let end_s = beat["time_s"].as_f64().unwrap();
        assert!(!(12.0..14.0).contains(&end_s));
        let begin_s = end_s - beat["rr_ms"].as_f64().unwrap_or(0.0) / 1000.0;
        assert!(end_s < 12.0 || begin_s >= 14.0, "{beat}");
    }
}

#[test]
fn a_pause_is_a_long_interval_that_does_not_count() {
    let p = Place::new();
    let fs_hz = 250.0;
    let mut x = ecg(20.0, fs_hz, 5).signal_mv;
    let last = x[x.len() - 1];
    // Ends inside a beat are smoothed over by noise of 10 microvolts.
    x.extend(std::iter::repeat_n(last, 1000));
    x.extend(ecg(20.0, fs_hz, 6).signal_mv);
    add_noise(&mut x, 0.01, 1);
    p.write("pause.csv", &x);
    let value = p.json("beats pause.csv --fs-hz 250 --channel ecg");
    let beats = value["beats"].as_array().unwrap();
    let inside = |b: &&serde_json::Value| (20.4..23.9).contains(&b["time_s"].as_f64().unwrap());
    assert_eq!(beats.iter().filter(inside).count(), 0, "{beats:?}");
    let long: Vec<_> = beats.iter().filter(|b| b["rr_ms"].as_f64() > Some(3500.0)).collect();
    assert!(long.len() == 1 && long[0]["normal"] == false, "{long:?}");
}

#[test]
fn measured_rates_make_stores() {
    let p = Place::new();
    for fs_hz in [249.925, 499.31, 512.844, 127.99] {
        p.write("r.csv", &ecg(25.0, fs_hz, 7).signal_mv);
        p.ok(&format!("prepare r.csv --fs-hz {fs_hz} --channel ecg --out store --overwrite"));
        let windows = p.json("features store");
        let windows = windows["windows"].as_array().unwrap().clone();
        assert_eq!(windows.len(), 2, "{fs_hz}");
        for w in &windows {
            assert!((w["mean_bpm"].as_f64().unwrap() - 60.0).abs() < 6.0, "{fs_hz}: {w}");
        }
    }
}
