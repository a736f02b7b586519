//! Heart-rate variability against NeuroKit2 (`tests/oracles/hrv/make.py`) on the same beats.
#![allow(clippy::print_stdout, reason = "measured agreement, shown by --nocapture")]

use std::collections::BTreeMap;

use heartlore::signal::hrv::{FrequencyDomain, Hrv, NnSeries, NnSettings, SpectrumMethod};

const FS_HZ: f64 = 333.0;

struct Case<'a> {
    name: &'a str,
    beats_s: Vec<f64>,
    expected: BTreeMap<&'a str, f64>,
}

fn cases() -> Vec<Case<'static>> {
    let text = include_str!("oracles/hrv/hrv.txt");
    let cases: Vec<Case<'_>> = text
        .split("# ")
        .skip(1)
        .map(|block| {
            let mut lines = block.lines();
            let name = lines.next().unwrap();
            let beats = lines.next().unwrap().split(',').map(|p| p.parse::<f64>().unwrap() / FS_HZ);
            let beats_s = beats.collect();
            let pairs = lines.next().unwrap().split(' ').map(|p| p.split_once('=').unwrap());
            Case { name, beats_s, expected: pairs.map(|(k, v)| (k, v.parse().unwrap())).collect() }
        })
        .collect();
    assert_eq!(cases.len(), 3);
    cases
}

#[test]
fn time_domain_and_poincare_to_one_part_in_a_million() {
    for case in cases() {
        let nn = NnSeries::from_beats(&case.beats_s, &NnSettings::all()).unwrap();
        let h = Hrv::of(&nn).unwrap();
        let (t, p) = (h.time.unwrap(), h.poincare.unwrap());
        for (key, got) in [
            ("MeanNN", t.mean_nn_ms),
            ("MedianNN", t.median_nn_ms),
            ("SDNN", t.sdnn_ms),
            ("RMSSD", t.rmssd_ms),
            ("SDSD", t.sdsd_ms),
            ("CVNN", t.cvnn),
            ("pNN50", t.pnn50_percent),
            ("pNN20", t.pnn20_percent),
            ("MinNN", t.min_nn_ms),
            ("MaxNN", t.max_nn_ms),
            ("HTI", t.triangular_index),
            ("SD1", p.sd1_ms),
            ("SD2", p.sd2_ms),
            ("sampen", h.sample_entropy.unwrap()),
            ("default_sampen", h.sample_entropy.unwrap()),
        ] {
            let want = case.expected[key];
            assert!((got - want).abs() <= 1e-6 * want.abs(), "{}: {key} is {got}, not {want}", case.name);
        }
        assert!((t.mean_bpm - 60_000.0 / t.mean_nn_ms).abs() < 1e-9);
    }
}

#[test]
fn frequency_domain_to_one_percent() {
    let mut worst = 0.0f64;
    for case in cases() {
        let nn = NnSeries::from_beats(&case.beats_s, &NnSettings::all()).unwrap();
        for (method, prefix) in [(SpectrumMethod::Welch, "welch"), (SpectrumMethod::LombScargle, "lomb")] {
            let f = FrequencyDomain::of(&nn, method).unwrap();
            let powers = [("vlf", f.vlf_ms2), ("lf", f.lf_ms2), ("hf", f.hf_ms2)];
            for (band, got) in powers {
                let (got, want) = (got.unwrap(), case.expected[format!("{prefix}_{band}").as_str()]);
                worst = worst.max((got / want - 1.0).abs());
                assert!((got / want - 1.0).abs() <= 0.01, "{} {prefix} {band}: {got} not {want}", case.name);
            }
            let (lf, hf) = (f.lf_ms2.unwrap(), f.hf_ms2.unwrap());
            assert_eq!((f.lf_hf, f.lf_nu), (Some(lf / hf), Some(100.0 * lf / (lf + hf))));
            let sum: f64 = powers.iter().filter_map(|(_, p)| *p).sum();
            assert!((f.total_ms2.unwrap() / sum - 1.0).abs() < 1e-12);
        }
        // NeuroKit's defaults (quadratic spline at 100 Hz) differ by what the module's description says.
        let f = FrequencyDomain::of(&nn, SpectrumMethod::Welch).unwrap();
        let off = |got: Option<f64>, key: &str| 100.0 * (got.unwrap() / case.expected[key] - 1.0);
        println!(
            "{}: against NeuroKit's defaults LF {:+.2} %, HF {:+.2} %",
            case.name,
            off(f.lf_ms2, "default_lf"),
            off(f.hf_ms2, "default_hf")
        );
    }
    println!("largest difference with options set alike: {:.4} %", 100.0 * worst);
}

#[test]
fn artefacts_hardly_move_the_measures() {
    for case in cases() {
        let clean = NnSeries::from_beats(&case.beats_s, &NnSettings::default()).unwrap();
        assert_eq!(clean.dropped(), 0, "{}: physiological intervals are kept", case.name);
        // One beat in forty missed, one in forty found twice.
        let mut damaged = Vec::new();
        for (i, t) in case.beats_s.iter().enumerate() {
            if i % 40 != 20 {
                damaged.push(*t);
            }
            if i % 40 == 5 {
                damaged.push(t + 0.3);
            }
        }
        let nn = NnSeries::from_beats(&damaged, &NnSettings::default()).unwrap();
        assert!(nn.dropped() >= case.beats_s.len() / 20, "{}", case.name);
        let (a, b) = (Hrv::of(&clean).unwrap().time.unwrap(), Hrv::of(&nn).unwrap().time.unwrap());
        assert!((b.mean_nn_ms / a.mean_nn_ms - 1.0).abs() < 0.005, "{}", case.name);
        assert!((b.rmssd_ms / a.rmssd_ms - 1.0).abs() < 0.1, "{}: {} {}", case.name, a.rmssd_ms, b.rmssd_ms);
        let raw = NnSeries::from_beats(&damaged, &NnSettings::all()).unwrap();
        let raw = Hrv::of(&raw).unwrap().time.unwrap();
        assert!(raw.rmssd_ms > 2.0 * a.rmssd_ms, "{}: the rule is needed", case.name);
    }
}
