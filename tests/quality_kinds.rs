//! What is no ECG does not pass the quality gate, what is one does, by generated kinds.

use heartlore::signal::simulate::{EcgParameters, simulate_ecg};
use heartlore::signal::{QualitySettings, Reason, Rng, Verdict};

fn judge(x: &[f64], fs_hz: f64) -> Verdict {
    QualitySettings::default().judge(x, fs_hz, None).unwrap()
}

fn bump(u: f64, at: f64, width: f64) -> f64 {
    (-0.5 * ((u - at) / width).powi(2)).exp()
}

/// One period of a wave, u from 0 to 1.
type Wave = fn(f64) -> f64;

/// Pulse waves of several shapes, breathing, triangles.
const SMOOTH: [(&str, Wave); 7] = [
    ("fourth power of a sine", |u| (std::f64::consts::PI * u).sin().powi(4)),
    ("two bumps", |u| bump(u, 0.2, 0.09) + 0.4 * bump(u, 0.5, 0.1)),
    ("late second bump", |u| bump(u, 0.25, 0.08) + 0.25 * bump(u, 0.6, 0.06)),
    ("gamma with a notch", |u| (u / 0.12).powi(2) * (-u / 0.12).exp() + 0.1 * bump(u, 0.55, 0.05)),
    ("sine", |u| (std::f64::consts::TAU * u).sin()),
    ("triangle", |u| if u < 0.3 { u / 0.3 } else { (1.0 - u) / 0.7 }),
    ("slow rise and fall", |u| {
        if u < 0.2 { 0.5 - 0.5 * (std::f64::consts::PI * u / 0.2).cos() } else { (1.0 - u) / 0.8 }
    }),
];

fn periodic(wave: Wave, bpm: f64, fs_hz: f64, noise: f64, seed: u64) -> Vec<f64> {
    let mut rng = Rng::new(seed);
    let mut phase = rng.uniform();
    (0..(10.0 * fs_hz) as usize)
        .map(|i| {
            // The rate breathes by five per cent.
            phase += bpm / 60.0 / fs_hz * (1.0 + 0.05 * (i as f64 / fs_hz * 1.4).sin());
            wave(phase.fract()) + noise * rng.normal()
        })
        .collect()
}

#[test]
fn pulse_waves_breathing_and_square_waves_do_not_pass() {
    for fs_hz in [100.0, 125.0, 250.0, 500.0] {
        for noise in [0.0, 0.003, 0.01] {
            for bpm in [40.0, 50.0, 60.0, 72.0, 85.0] {
                for (name, wave) in SMOOTH {
                    let x = periodic(wave, bpm, fs_hz, noise, 3);
                    let v = judge(&x, fs_hz);
                    assert!(
                        !v.usable() && v.index() == 0.0,
                        "{name}, {bpm} a minute, {fs_hz} Hz, noise {noise}: {v:?}"
                    );
                }
                for square in [(|u| f64::from(u8::from(u < 0.5))) as Wave, |u| f64::from(u8::from(u < 0.3))] {
                    let v = judge(&periodic(square, bpm, fs_hz, noise, 4), fs_hz);
                    assert!(!v.usable(), "square, {bpm} a minute, {fs_hz} Hz, noise {noise}: {v:?}");
                }
            }
            for breaths in [10.0, 15.0, 25.0] {
                let v = judge(&periodic(SMOOTH[4].1, breaths, fs_hz, noise, 5), fs_hz);
                assert!(!v.usable(), "breathing, {breaths} a minute, {fs_hz} Hz, noise {noise}: {v:?}");
            }
        }
    }
}

/// Simulated ECG of several rates, both polarities, wide complexes, low voltage, drift and interference pass.
#[test]
fn ecg_passes() {
    for fs_hz in [128.0, 250.0, 500.0] {
        for seed in 0..12 {
            let parameters =
                EcgParameters { mean_heart_rate_bpm: 50.0 + 8.0 * seed as f64, ..EcgParameters::default() };
            let x = simulate_ecg(&parameters, 10.0, fs_hz, seed).unwrap().signal_mv;
            let t = |i: usize| i as f64 / fs_hz;
            let kinds: [(&str, Vec<f64>); 4] = [
                ("upright", x.clone()),
                ("inverted", x.iter().map(|v| -v).collect()),
                ("low voltage", x.iter().map(|v| 0.05 * v).collect()),
                ("drift", x.iter().enumerate().map(|(i, v)| v + 2.0 * (1.5 * t(i)).sin()).collect()),
            ];
            for (name, x) in kinds {
                let v = judge(&x, fs_hz);
                assert!(v.usable(), "{name}, seed {seed}, {fs_hz} Hz: {v:?}");
            }
        }
    }
}

/// R waves beyond the converter's range that come out at its other end, at several depths and by several amounts.
#[test]
fn wrapped_peaks_do_not_pass() {
    for bits in [8, 10, 12, 16] {
        for beyond in [0.15, 0.4, 0.8] {
            for (seed, sign) in [(1, 1.0), (2, -1.0)] {
                for fs_hz in [250.0, 500.0] {
                    let x = simulate_ecg(&EcgParameters::default(), 10.0, fs_hz, seed).unwrap().signal_mv;
                    let top = x.iter().copied().fold(0.0, f64::max);
                    let full = 2f64.powi(bits);
                    // The highest R wave exceeds half the range by this share of it.
                    let scale = sign * full / 2.0 * (1.0 + beyond) / top;
                    let wrap = |v: &f64| ((v * scale).round() + full / 2.0).rem_euclid(full) - full / 2.0;
                    let wrapped: Vec<f64> = x.iter().map(wrap).collect();
                    let v = judge(&wrapped, fs_hz);
                    assert!(
                        v.reasons.contains(&Reason::Wrapped),
                        "{bits} bits, {beyond} beyond, sign {sign}, {fs_hz} Hz: {v:?}"
                    );
                }
            }
        }
    }
    // A pacemaker's spikes reach far, too, but from the base line.
    let fs_hz = 1000.0;
    let mut x = simulate_ecg(&EcgParameters::default(), 10.0, fs_hz, 3).unwrap().signal_mv;
    (500..x.len() - 3).step_by(800).for_each(|i| {
        x[i] += 8.0;
        x[i + 1] += 8.0;
    });
    assert!(!judge(&x, fs_hz).reasons.contains(&Reason::Wrapped));
}
