//! What the signal room promises, tested from outside: agreement with SciPy (files made by
//! `tests/oracles/signal/make.py`), with annotated recordings, and of the simulator with its parameters.
#![allow(clippy::print_stdout, reason = "measured figures, shown by --nocapture")]

use heartlore::signal::simulate::{EcgParameters, Noise, SimulatedStudy, State, StateShift, simulate_ecg};
use heartlore::signal::{
    Band, HeartRate, QualityGate, QualitySettings, Reason, Resampler, Scaler, SosFilter, butterworth,
    detect_r_peaks, rational_factor, rr_intervals_s, sosfilt, sosfilt_zi, sosfiltfilt, sosfiltfilt_padded,
};
use std::f64::consts::TAU;

/// The blocks of an oracle file: name, then rows of numbers.
fn blocks(text: &str) -> Vec<(Vec<&str>, Vec<Vec<f64>>)> {
    let block = |b| {
        let mut lines = str::lines(b);
        let name = lines.next().unwrap().split_whitespace().collect();
        (name, lines.map(|l| l.split(',').map(|v| v.parse().unwrap()).collect()).collect())
    };
    text.split("# ").skip(1).map(block).collect()
}

/// The largest difference relative to the largest expected magnitude must be below 1e-9.
fn assert_close(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let size = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= 1e-9 * size, "{what}: element {i} is {g}, not {w}");
    }
}

/// The input of make.py.
fn test_signal(n: usize) -> Vec<f64> {
    let sample = |i: usize| {
        let f = |v: usize| v as f64;
        (f((i * i * 31 + i * 17) % 1009) - 500.0) / 250.0 + f(i % 97) / 30.0 + f(i) / 200.0
    };
    (0..n).map(sample).collect()
}

/// Order, band and sampling rate from a block's name.
fn filter_of(name: &[&str]) -> (usize, Band, f64) {
    let number = |i: usize| name[i].parse::<f64>().unwrap();
    let band = match name[0] {
        "lowpass" => Band::Lowpass { high_hz: number(3) },
        "highpass" => Band::Highpass { low_hz: number(3) },
        "bandpass" => Band::Bandpass { low_hz: number(3), high_hz: number(4) },
        _ => Band::Bandstop { low_hz: number(3), high_hz: number(4) },
    };
    (name[1].parse().unwrap(), band, number(2))
}

#[test]
fn butterworth_equals_scipy() {
    let cases = blocks(include_str!("oracles/signal/butter.txt"));
    assert_eq!(cases.len(), 100);
    for (name, rows) in cases {
        let (order, band, fs_hz) = filter_of(&name);
        let sos = butterworth(order, band, fs_hz).unwrap();
        assert_eq!(sos.sections().len(), rows.len(), "{name:?}");
        for (i, (got, want)) in sos.sections().iter().zip(&rows).enumerate() {
            // Numerator and denominator apart: the first section's numerator carries the gain and may be tiny.
            assert_close(&got[..3], &want[..3], &format!("{name:?} numerator of section {i}"));
            assert_close(&got[3..], &want[3..], &format!("{name:?} denominator of section {i}"));
        }
    }
}

#[test]
fn filtering_equals_scipy_to_the_edges() {
    let cases = blocks(include_str!("oracles/signal/filter.txt"));
    assert_eq!(cases.len(), 4);
    let x = test_signal(300);
    for (name, rows) in cases {
        let (order, band, fs_hz) = filter_of(&name);
        let sos = butterworth(order, band, fs_hz).unwrap();
        assert_close(sosfilt_zi(&sos).unwrap().as_flattened(), &rows[0], &format!("{name:?} zi"));
        assert_close(&sosfilt(&sos, &x).unwrap(), &rows[1], &format!("{name:?} sosfilt"));
        let mut filter = SosFilter::settled_at(sos.clone(), x[0]).unwrap();
        let mut y = x.clone();
        y.chunks_mut(77).for_each(|block| filter.process(block).unwrap());
        assert_close(&y, &rows[2], &format!("{name:?} sosfilt from zi"));
        assert_close(filter.state().as_flattened(), &rows[3], &format!("{name:?} final state"));
        assert_close(&sosfiltfilt(&sos, &x).unwrap(), &rows[4], &format!("{name:?} sosfiltfilt"));
        for (padlen, row) in [(100, 5), (0, 6)] {
            let y = sosfiltfilt_padded(&sos, &x, padlen).unwrap();
            assert_close(&y, &rows[row], &format!("{name:?} sosfiltfilt padlen {padlen}"));
        }
    }
}

#[test]
fn resampling_equals_scipy() {
    let cases = blocks(include_str!("oracles/signal/resample.txt"));
    assert_eq!(cases.len(), 32);
    for (name, rows) in cases {
        let (up, down) = rational_factor(name[0].parse().unwrap(), 128.0).unwrap();
        let resampler = Resampler::new(up, down, name[2].parse().unwrap()).unwrap();
        let y = resampler.apply(&test_signal(name[1].parse().unwrap())).unwrap();
        assert_close(&y, &rows[0], &format!("{name:?}"));
    }
}

/// Why filters are sections: the same band-pass as one pair of polynomials (multiplied out here in f64) explodes.
#[test]
fn the_polynomial_form_diverges_where_sections_do_not() {
    let sos = butterworth(8, Band::Bandpass { low_hz: 0.8, high_hz: 50.0 }, 256.0).unwrap();
    let multiply = |p: Vec<f64>, q: &[f64]| {
        let mut r = vec![0.0; p.len() + q.len() - 1];
        for (i, a) in p.iter().enumerate() {
            q.iter().enumerate().for_each(|(j, b)| r[i + j] += a * b);
        }
        r
    };
    let (b, a) = sos
        .sections()
        .iter()
        .fold((vec![1.0], vec![1.0]), |(b, a), s| (multiply(b, &s[..3]), multiply(a, &s[3..])));
    let x: Vec<f64> = (0..60_000).map(|i| (TAU * i as f64 / 256.0).sin()).collect();
    let mut y = vec![0.0; x.len()];
    for n in 0..x.len() {
        let past = |c: &[f64], v: &[f64], from: usize| {
            (from..c.len().min(n + 1)).map(|k| c[k] * v[n - k]).sum::<f64>()
        };
        y[n] = past(&b, &x, 0) - past(&a, &y, 1);
    }
    let largest =
        |v: &[f64]| v.iter().fold(0.0f64, |m, s| if s.is_nan() { f64::INFINITY } else { m.max(s.abs()) });
    assert!(largest(&y) > 1e50, "the polynomial form reached only {:e}", largest(&y));
    assert!(largest(&sosfilt(&sos, &x).unwrap()) < 1.5);
}

/// (matched, missed, extra) of detected against true beat times, each used once, within `tolerance_s`.
fn compare_beats(found_s: &[f64], true_s: &[f64], tolerance_s: f64) -> (usize, usize, usize) {
    let (mut i, mut j, mut matched) = (0, 0, 0);
    while i < found_s.len() && j < true_s.len() {
        if (found_s[i] - true_s[j]).abs() <= tolerance_s {
            (i, j, matched) = (i + 1, j + 1, matched + 1);
        } else if found_s[i] < true_s[j] {
            i += 1;
        } else {
            j += 1;
        }
    }
    (matched, true_s.len() - matched, found_s.len() - matched)
}

fn seconds(peaks: &[usize], fs_hz: f64) -> Vec<f64> {
    peaks.iter().map(|p| *p as f64 / fs_hz).collect()
}

fn spread(v: &[f64]) -> (f64, f64) {
    let mean = v.iter().sum::<f64>() / v.len() as f64;
    (mean, (v.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / v.len() as f64).sqrt())
}

#[test]
fn simulated_intervals_have_the_mean_spread_and_spectrum_asked_for() {
    let p = EcgParameters {
        mean_heart_rate_bpm: 66.0,
        rr_sd_s: 0.05,
        lf_hf_ratio: 1.5,
        respiration_hz: 0.28,
        ..EcgParameters::default()
    };
    let beats = simulate_ecg(&p, 3600.0, 64.0, 5).unwrap().r_times_s;
    let rr: Vec<f64> = beats.windows(2).map(|w| w[1] - w[0]).collect();
    let (mean, sd) = spread(&rr);
    assert!((mean - 60.0 / 66.0).abs() < 0.002, "mean RR {mean}");
    assert!((sd - 0.05).abs() < 0.005, "SD of RR {sd}");
    // Power of the intervals at f, by direct Fourier sum over the beat times (Lomb's normalisation is not needed).
    let power = |f: f64| {
        let (c, s) = rr.iter().zip(&beats).fold((0.0, 0.0), |(c, s), (r, t)| {
            (c + (r - mean) * (TAU * f * t).cos(), s + (r - mean) * (TAU * f * t).sin())
        });
        c * c + s * s
    };
    let grid =
        |low: f64, high: f64| (0..).map(move |i| low + f64::from(i) / 3600.0).take_while(move |f| *f < high);
    let centroid = |low, high| {
        let (num, den) = grid(low, high).fold((0.0, 0.0), |(n, d), f| (n + f * power(f), d + power(f)));
        (num / den, den)
    };
    let ((lf_hz, lf), (hf_hz, hf)) = (centroid(0.04, 0.15), centroid(0.2, 0.36));
    assert!((lf_hz - 0.1).abs() < 0.003, "LF centre {lf_hz}");
    assert!((hf_hz - 0.28).abs() < 0.003, "HF centre {hf_hz}");
    assert!((lf / hf / 1.5 - 1.0).abs() < 0.3, "LF/HF {}", lf / hf);
    let (_, rest) = centroid(0.16, 0.2);
    assert!(rest < 0.05 * hf, "between the bands {rest} of {hf}");
}

#[test]
fn the_simulated_heartbeat_has_its_waves() {
    let p = EcgParameters {
        mean_heart_rate_bpm: 60.0,
        rr_sd_s: 0.0,
        r_modulation: 0.0,
        noise: Noise::NONE,
        ..Default::default()
    };
    let ecg = simulate_ecg(&p, 10.0, 1000.0, 1).unwrap();
    assert!(ecg.r_times_s.windows(2).all(|w| (w[1] - w[0] - 1.0).abs() < 1e-9));
    let at = |t: f64| ecg.signal_mv[((ecg.r_times_s[3] + t) * 1000.0).round() as usize];
    let isoelectric = at(0.6);
    // Heights from Morphology::default: P 0.25, R 1, T 0.4 mV, up to the slow return of the baseline (1 s).
    assert!((at(0.0) - isoelectric - 1.0).abs() < 0.12, "R {}", at(0.0) - isoelectric);
    assert!((at(-70.0 / 360.0) - isoelectric - 0.25).abs() < 0.12, "P");
    assert!((at(100.0 / 360.0) - isoelectric - 0.4).abs() < 0.12, "T");
    assert!(at(-15.0 / 360.0) < at(-0.09) && at(15.0 / 360.0) < at(0.09), "Q and S are valleys");
    // A rate change must not change the height of R.
    let fast = simulate_ecg(&EcgParameters { mean_heart_rate_bpm: 120.0, ..p }, 10.0, 1000.0, 1).unwrap();
    let largest = |v: &[f64]| v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let smallest = |v: &[f64]| v.iter().copied().fold(f64::INFINITY, f64::min);
    let height = |v: &[f64]| largest(v) - smallest(v);
    assert!((height(&fast.signal_mv) / height(&ecg.signal_mv) - 1.0).abs() < 0.05);
}

/// The phase-only form with fixed-step Runge-Kutta against the paper's three equations solved adaptively by SciPy.
#[test]
fn the_simulated_heartbeat_solves_the_equations_of_the_paper() {
    let beat = &blocks(include_str!("oracles/signal/beat.txt"))[0].1[0];
    let p = EcgParameters {
        mean_heart_rate_bpm: 60.0,
        rr_sd_s: 0.0,
        r_modulation: 0.0,
        noise: Noise::NONE,
        ..Default::default()
    };
    for fs_hz in [128.0, 500.0] {
        let ecg = simulate_ecg(&p, 10.0, fs_hz, 4).unwrap();
        let mut worst = 0.0f64;
        for (i, got) in ecg.signal_mv.iter().enumerate() {
            // Time since the R peak in milliseconds; cubic interpolation between the oracle's points of 1 ms.
            let u = (i as f64 / fs_hz - ecg.r_times_s[0]).rem_euclid(1.0) * 1000.0;
            let (k, f) = (u as usize, u.fract());
            let at = |j: usize| beat[(k + 999 + j) % 1000];
            let want = -f * (f - 1.0) * (f - 2.0) / 6.0 * at(0)
                + (f + 1.0) * (f - 1.0) * (f - 2.0) / 2.0 * at(1)
                - (f + 1.0) * f * (f - 2.0) / 2.0 * at(2)
                + (f + 1.0) * f * (f - 1.0) / 6.0 * at(3);
            worst = worst.max((got - want).abs());
        }
        println!("simulated beat at {fs_hz} Hz: worst difference from the oracle {worst:e} mV");
        assert!(worst < 2e-6, "{worst}");
    }
}

/// Numbers that must stay as they are, so that a committed result made from a seed can be made again. The tolerance
/// covers differences between platforms in the last bits of sin, exp and ln.
#[test]
fn simulated_numbers_do_not_change() {
    let study = SimulatedStudy::default();
    let trial = study.trial(3, 2).unwrap();
    let got: Vec<f64> = [0, 1000, 7679].iter().map(|i| trial.ecg.signal_mv[*i]).collect();
    assert_eq!(trial.state, State::Calm);
    assert_close(
        &got,
        &[0.330_354_550_854_248_25, -0.386_774_749_913_821_4, -0.474_073_012_757_227_74],
        "signal",
    );
    assert_close(&trial.ecg.r_times_s[5..6], &[3.950_521_120_578_286], "beat");
}

#[test]
fn simulation_is_reproducible_and_refuses_nonsense() {
    let p = EcgParameters::default();
    let a = simulate_ecg(&p, 12.0, 128.0, 9).unwrap();
    assert_eq!(a, simulate_ecg(&p, 12.0, 128.0, 9).unwrap());
    assert_ne!(a, simulate_ecg(&p, 12.0, 128.0, 10).unwrap());
    assert_eq!(a.signal_mv.len(), 1536);
    for (duration_s, fs_hz) in
        [(0.0, 128.0), (f64::NAN, 128.0), (1e9, 128.0), (10.0, 10.0), (10.0, f64::INFINITY)]
    {
        assert!(simulate_ecg(&p, duration_s, fs_hz, 1).is_err());
    }
    for bad in [
        EcgParameters { mean_heart_rate_bpm: 0.0, ..p },
        EcgParameters { rr_sd_s: 0.5, ..p },
        EcgParameters { lf_hf_ratio: f64::NAN, ..p },
        EcgParameters { respiration_hz: 0.7, ..p },
        EcgParameters { noise: Noise { muscle_mv: -1.0, ..Noise::NONE }, ..p },
    ] {
        assert!(simulate_ecg(&bad, 10.0, 128.0, 1).is_err(), "{bad:?}");
    }
    let study = SimulatedStudy::default();
    assert!(study.trial(20, 0).is_err() && study.trial(0, 6).is_err());
}

#[test]
fn the_detector_finds_the_simulated_beats() {
    let (mut matched, mut missed, mut extra, mut worst_s) = (0, 0, 0, 0.0f64);
    let study =
        SimulatedStudy { subjects: 12, trials: 2, trial_s: 60.0, seed: 3, ..SimulatedStudy::default() };
    for trial in study.iter() {
        let ecg = trial.unwrap().ecg;
        // Beats cut by the ends of the recording may or may not be found.
        let inner = |v: Vec<f64>| v.into_iter().filter(|t| (0.3..59.7).contains(t)).collect::<Vec<_>>();
        let found = inner(seconds(&detect_r_peaks(&ecg.signal_mv, ecg.fs_hz).unwrap(), ecg.fs_hz));
        let truth = inner(ecg.r_times_s);
        let (a, b, c) = compare_beats(&found, &truth, 0.02);
        (matched, missed, extra) = (matched + a, missed + b, extra + c);
        if found.len() == truth.len() {
            worst_s = found.iter().zip(&truth).fold(worst_s, |m, (f, t)| m.max((f - t).abs()));
        }
    }
    println!("simulated: matched {matched}, missed {missed}, extra {extra}, worst offset {worst_s:.4} s");
    assert!(matched > 1600 && missed == 0 && extra == 0, "{matched} {missed} {extra}");
}

#[test]
fn the_state_shifts_simulated_heart_rate_but_subjects_differ_more() {
    let study = SimulatedStudy { subjects: 24, trials: 4, ..SimulatedStudy::default() };
    let measure = |study: &SimulatedStudy| {
        let mut bpm = vec![[vec![], vec![]]; study.subjects];
        let mut rmssd = [vec![], vec![]];
        for trial in study.iter() {
            let t = trial.unwrap();
            let hr = HeartRate::from_peaks(&detect_r_peaks(&t.ecg.signal_mv, 128.0).unwrap(), 128.0)
                .unwrap()
                .unwrap();
            bpm[t.subject][usize::from(t.state.label())].push(hr.mean_bpm);
            rmssd[usize::from(t.state.label())].push(hr.rmssd_ms);
        }
        let calm: Vec<f64> = bpm.iter().map(|s| spread(&s[0]).0).collect();
        let shift: Vec<f64> = bpm.iter().map(|s| spread(&s[1]).0 - spread(&s[0]).0).collect();
        (spread(&calm), spread(&shift), spread(&rmssd[0]).0, spread(&rmssd[1]).0)
    };
    let ((calm, between), (shift, _), rmssd_calm, rmssd_aroused) = measure(&study);
    println!(
        "simulated: calm {calm:.1} bpm, between subjects {between:.1}, shift {shift:.1}, RMSSD {rmssd_calm:.1} -> {rmssd_aroused:.1} ms"
    );
    assert!((65.0..85.0).contains(&calm) && (3.0..11.0).contains(&shift) && between > shift);
    assert!(rmssd_aroused < 0.95 * rmssd_calm);
    let nothing = SimulatedStudy { shift: StateShift { strength: 0.0, ..StateShift::default() }, ..study };
    let (_, (shift, _), ..) = measure(&nothing);
    assert!(shift.abs() < 1.5, "without arousal the shift is {shift}");
    let states = study.states(0).unwrap();
    assert_eq!(states.iter().filter(|s| **s == State::Calm).count(), 2);
    assert!((1..24).any(|s| study.states(s).unwrap() != states), "the order differs between subjects");
}

/// A clean simulated minute, and what each fault does to the gate's verdict.
#[test]
fn the_gate_names_each_fault() {
    let fs_hz = 128.0;
    let clean = simulate_ecg(&EcgParameters::default(), 10.0, fs_hz, 2).unwrap().signal_mv;
    let settings = QualitySettings::default();
    let judge = |x: &[f64], mv| settings.judge(x, fs_hz, mv).unwrap();
    assert!(judge(&clean, Some(1.0)).usable(), "{:?}", judge(&clean, Some(1.0)));
    let has = |x: &[f64], mv, reason| {
        let v = judge(x, mv);
        assert!(v.reasons.contains(&reason), "{reason}: {v:?}");
    };
    let changed =
        |f: &dyn Fn(usize, f64) -> f64| clean.iter().enumerate().map(|(i, v)| f(i, *v)).collect::<Vec<_>>();
    has(&changed(&|i, v| if i == 700 { f64::NAN } else { v }), None, Reason::NonFinite);
    has(&clean[..600], None, Reason::TooShort);
    has(&[f64::NAN; 1280], None, Reason::TooShort);
    has(&changed(&|i, v| if i > 1000 { 0.3 } else { v }), None, Reason::Flat);
    has(&changed(&|_, v| v.min(0.1)), None, Reason::Clipped);
    has(&clean, Some(0.01), Reason::AmplitudeLow);
    has(&clean, Some(1000.0), Reason::AmplitudeHigh);
    assert!(judge(&clean, None).usable(), "amplitude cannot be judged without a unit");
    has(&changed(&|i, v| if i == 640 { 50.0 } else { v }), None, Reason::Spike);
    has(&[1.5; 1280], None, Reason::FewBeats);
    let mut rng = heartlore::signal::Rng::new(1);
    let noise: Vec<f64> = (0..1280).map(|_| rng.normal()).collect();
    has(&noise, None, Reason::Template);
    has(&noise, None, Reason::Kurtosis);
    let limits = QualitySettings { max_heart_rate_bpm: 60.0, ..settings };
    assert_eq!(limits.judge(&clean, fs_hz, None).unwrap().reasons, [Reason::HeartRate]);
    assert!(settings.judge(&clean, 20.0, None).is_err() && settings.judge(&clean, fs_hz, Some(0.0)).is_err());
}

#[test]
fn the_gate_counts_what_it_drops() {
    let clean = simulate_ecg(&EcgParameters::default(), 10.0, 128.0, 2).unwrap().signal_mv;
    let mut gate = QualityGate::new(QualitySettings::default());
    for _ in 0..3 {
        gate.judge(&clean, 128.0, None).unwrap();
    }
    gate.judge(&[0.0; 1280], 128.0, None).unwrap();
    gate.judge(&clean[..100], 128.0, None).unwrap();
    let counts = gate.counts();
    assert_eq!((counts.judged, counts.kept, counts.dropped()), (5, 3, 2));
    assert_eq!((counts.with_reason(Reason::Flat), counts.with_reason(Reason::TooShort)), (1, 1));
    assert_eq!(counts.to_string(), "kept 3 of 5; dropped 2: too short 1, flat line 1, too few beats 1");
    let mut sum = counts.clone();
    sum.merge(counts);
    assert_eq!(sum.dropped(), 4);
}

/// Per-subject scaling over both states brings the states' share into each window; per-window scaling cannot.
#[test]
fn window_scaling_does_not_see_other_windows() {
    let window = test_signal(200);
    let (mut alone, mut in_company) = (window.clone(), window.clone());
    Scaler::z_score(&window).unwrap().apply(&mut alone);
    let other: Vec<f64> = window.iter().map(|v| 5.0 * v).collect();
    Scaler::z_score_over(&[&window, &other]).unwrap().apply(&mut in_company);
    let (_, sd_alone) = spread(&alone);
    let (_, sd_in_company) = spread(&in_company);
    assert!((sd_alone - 1.0).abs() < 1e-9 && sd_in_company < 0.5, "{sd_alone} {sd_in_company}");
}

/// The folder of real recordings, with `packed/` and `raw/`.
fn real_data() -> std::path::PathBuf {
    std::env::var_os("HEARTLORE_ECG_DATA")
        .expect("HEARTLORE_ECG_DATA names the folder of real recordings")
        .into()
}

/// Column `name` of each row of the packed data's manifest.
fn manifest(dir: &std::path::Path) -> Vec<std::collections::HashMap<String, String>> {
    let text = std::fs::read_to_string(dir.join("packed/manifest.csv")).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines
        .map(|l| names.iter().map(ToString::to_string).zip(l.split(',').map(String::from)).collect())
        .collect()
}

#[test]
#[ignore = "needs real recordings: HEARTLORE_ECG_DATA=FOLDER"]
fn real_data_the_gate_agrees_with_the_manifest_of_real_recordings() {
    let dir = real_data();
    let settings = QualitySettings {
        max_clip_share: 1.0,
        max_flat_share: 1.0,
        max_spike_ratio: f64::INFINITY,
        ..Default::default()
    };
    let (mut same, mut total, mut near_hr, mut with_hr) = (0, 0, 0, 0);
    let mut full = QualityGate::default();
    let mut bytes = std::collections::HashMap::new();
    for row in manifest(&dir) {
        let data = bytes
            .entry(row["source"].clone())
            .or_insert_with(|| std::fs::read(dir.join(format!("packed/{}.i16", row["source"]))).unwrap());
        let number = |k: &str| row[k].parse::<usize>().unwrap();
        let (first, n) = (2 * number("offset"), 2 * number("n128"));
        let x: Vec<f64> = data[first..first + n]
            .chunks_exact(2)
            .map(|b| f64::from(i16::from_le_bytes([b[0], b[1]])))
            .collect();
        let v = settings.judge(&x, 128.0, None).unwrap();
        let full_verdict = full.judge(&x, 128.0, Some(0.001)).unwrap();
        total += 1;
        if v.usable() == (row["quality_ok"] == "1") {
            same += 1;
        } else {
            println!(
                "{} {}: {:?} manifest {} {} {}",
                row["source"], row["record"], v, row["hr_bpm"], row["template_corr"], row["kurtosis"]
            );
        }
        if full_verdict.usable() != v.usable() {
            println!("{} {}: also {:?}", row["source"], row["record"], full_verdict);
        }
        if let (Ok(want), Some(got), "1") =
            (row["hr_bpm"].parse::<f64>(), v.measures.heart_rate_bpm, row["quality_ok"].as_str())
        {
            with_hr += 1;
            if (got - want).abs() <= 2.0 {
                near_hr += 1
            } else {
                println!("{} {}: HR {got:.1} manifest {want}", row["source"], row["record"])
            }
        }
    }
    println!(
        "gate agrees with the manifest on {same} of {total}; heart rate within 2 bpm on {near_hr} of {with_hr}"
    );
    println!("all checks: {}", full.counts());
    assert!(same as f64 >= 0.95 * total as f64);
}

/// Beats of a WFDB annotation file (MIT format): times in samples.
fn annotated_beats(bytes: &[u8]) -> Vec<usize> {
    let word =
        |i: usize| bytes.get(2 * i..2 * i + 2).map_or(0, |b| usize::from(u16::from_le_bytes([b[0], b[1]])));
    let (mut i, mut time, mut beats) = (0, 0, vec![]);
    while word(i) != 0 {
        let (kind, value) = (word(i) >> 10, word(i) & 1023);
        i += 1;
        match kind {
            59 => {
                time += (word(i) << 16) | word(i + 1);
                i += 2;
            }
            60..=62 => {}
            63 => i += value.div_ceil(2),
            _ => {
                time += value;
                if matches!(kind, 1..=13 | 25 | 30 | 34 | 35 | 38 | 41) {
                    beats.push(time);
                }
            }
        }
    }
    beats
}

#[test]
#[ignore = "needs real recordings: HEARTLORE_ECG_DATA=FOLDER"]
fn real_data_the_detector_errs_on_less_than_one_percent_of_annotated_beats() {
    let dir = real_data();
    let rows = manifest(&dir);
    let data = std::fs::read(dir.join("packed/mitdb.i16")).unwrap();
    for record in ["100", "208"] {
        let row = rows.iter().find(|r| r["source"] == "mitdb" && r["record"] == record).unwrap();
        let number = |k: &str| row[k].parse::<usize>().unwrap();
        let (first, n) = (2 * number("offset"), 2 * number("n128"));
        let x: Vec<f64> = data[first..first + n]
            .chunks_exact(2)
            .map(|b| f64::from(i16::from_le_bytes([b[0], b[1]])))
            .collect();
        let truth = seconds(
            &annotated_beats(&std::fs::read(dir.join(format!("raw/mitdb/{record}.atr"))).unwrap()),
            360.0,
        );
        let peaks = detect_r_peaks(&x, 128.0).unwrap();
        rr_intervals_s(&peaks, 128.0).unwrap();
        let (matched, missed, extra) = compare_beats(&seconds(&peaks, 128.0), &truth, 0.15);
        println!(
            "MIT-BIH {record}: {} beats, matched {matched}, missed {missed}, extra {extra}",
            truth.len()
        );
        assert!(truth.len() > 2000 && ((missed + extra) as f64) < 0.01 * truth.len() as f64);
    }
}
