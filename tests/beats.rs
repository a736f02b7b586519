//! Beats are found where they are and nowhere else, on generated signals whose beats are known: rates from 15 to 300 a minute,
//! pauses, single beats, electrodes that fall off, tall T waves, P waves without QRS, missing samples.

use heartlore::signal::stream::StreamBeats;
use heartlore::signal::{BeatAgreement, Rng, detect_r_peaks};

/// Waves of a beat: height in mV, centre in seconds after R, width (standard deviation) in seconds.
type Beat = Vec<(f64, f64, f64)>;

fn beat(p: f64, t: f64, t_at: f64) -> Beat {
    vec![(p, -0.16, 0.025), (-0.1, -0.025, 0.01), (1.0, 0.0, 0.011), (-0.2, 0.025, 0.01), (t, t_at, 0.05)]
}

/// Beats at `at_s` in noise of `noise_mv`.
fn signal(at_s: &[f64], duration_s: f64, fs_hz: f64, noise_mv: f64, waves: &Beat, seed: u64) -> Vec<f64> {
    let mut source = Rng::new(seed);
    let mut x: Vec<f64> = (0..(duration_s * fs_hz) as usize).map(|_| noise_mv * source.normal()).collect();
    for at in at_s {
        for (height, after, width) in waves {
            let (centre, reach) = ((at + after) * fs_hz, 5.0 * width * fs_hz);
            for i in (centre - reach).max(0.0) as usize..((centre + reach).max(0.0) as usize).min(x.len()) {
                let u = (i as f64 - centre) / (width * fs_hz);
                x[i] += height * (-0.5 * u * u).exp();
            }
        }
    }
    x
}

fn seconds(peaks: &[usize], fs_hz: f64) -> Vec<f64> {
    peaks.iter().map(|p| *p as f64 / fs_hz).collect()
}

fn check(name: &str, x: &[f64], fs_hz: f64, truth: &[f64]) {
    let a = BeatAgreement::of(&seconds(&detect_r_peaks(x, fs_hz).unwrap(), fs_hz), truth, 0.06);
    assert!(a.missed == 0 && a.extra == 0, "{name} at {fs_hz} Hz: {a:?}");
}

/// Times from `from` by steps of `step(k)` to `to`.
fn times(from: f64, to: f64, step: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut out = vec![from];
    while out[out.len() - 1] + step(out.len()) < to {
        out.push(out[out.len() - 1] + step(out.len()));
    }
    out
}

const SETTINGS: [(f64, f64); 5] = [(128.0, 0.0), (128.0, 0.01), (250.0, 0.005), (250.0, 0.01), (500.0, 0.01)];

#[test]
fn rates_from_15_to_300_a_minute() {
    for (fs_hz, noise) in SETTINGS {
        for bpm in
            [15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 160.0, 180.0, 200.0, 220.0, 250.0, 280.0, 300.0]
        {
            let rr = 60.0 / bpm;
            // Two per cent of change from beat to beat.
            let truth = times(1.0, 39.5, |k| rr * (1.0 + 0.02 * ((k * k % 7) as f64 / 3.0 - 1.0)));
            let waves = beat(if rr < 0.4 { 0.0 } else { 0.12 }, 0.2, (0.55 * rr).min(0.3));
            let x = signal(&truth, 40.0, fs_hz, noise, &waves, bpm as u64);
            check(&format!("{bpm} a minute, noise {noise}"), &x, fs_hz, &truth);
            let inverted: Vec<f64> = x.iter().map(|v| 5.0 - v).collect();
            check(&format!("{bpm} a minute, inverted"), &inverted, fs_hz, &truth);
        }
    }
}

/// Also 10 s that hold a pause, searched by themselves, and the same as a stream.
#[test]
fn no_beats_in_pauses() {
    for (fs_hz, noise) in SETTINGS {
        for (seed, pause) in [2.2, 3.4, 5.0, 8.0, 12.0, 20.0, 30.0].into_iter().enumerate() {
            let mut truth = times(0.7, 24.0, |_| 0.857);
            let end = truth[truth.len() - 1] + pause;
            truth.extend(times(end, end + 23.5, |_| 0.857));
            let x = signal(&truth, end + 24.0, fs_hz, noise, &beat(0.12, 0.3, 0.3), seed as u64);
            let name = format!("pause of {pause} s, noise {noise}");
            check(&name, &x, fs_hz, &truth);
            let mut stream = StreamBeats::new(fs_hz).unwrap();
            let mut found = Vec::new();
            x.chunks(97).for_each(|block| stream.process(block, &mut found).unwrap());
            stream.finish(&mut found).unwrap();
            let a = BeatAgreement::of(&seconds(&found, fs_hz), &truth, 0.06);
            assert!(a.missed == 0 && a.extra == 0, "{name}, streamed: {a:?}");
            if pause < 8.0 {
                let first = ((end - pause - 2.1) * fs_hz) as usize;
                let begin_s = first as f64 / fs_hz;
                let inside: Vec<f64> =
                    truth.iter().map(|t| t - begin_s).filter(|t| (0.0..9.9).contains(t)).collect();
                check(&format!("{name}, window"), &x[first..first + (10.0 * fs_hz) as usize], fs_hz, &inside);
            }
        }
    }
}

#[test]
fn few_beats_and_an_electrode_that_falls_off() {
    for (fs_hz, noise) in SETTINGS {
        for count in 1..5 {
            for duration in [10.0, 40.0, 600.0] {
                let truth: Vec<f64> = (0..count).map(|k| 3.0 + 0.9 * k as f64).collect();
                let x = signal(&truth, duration, fs_hz, noise, &beat(0.12, 0.3, 0.3), count as u64);
                check(&format!("{count} beats of {duration} s, noise {noise}"), &x, fs_hz, &truth);
            }
        }
        let truth = times(1.0, 40.0, |_| 0.8);
        let x = signal(&truth, 1800.0, fs_hz, noise, &beat(0.12, 0.3, 0.3), 1);
        check(&format!("off after 40 s, noise {noise}"), &x, fs_hz, &truth);
    }
}

#[test]
fn t_waves_and_lone_p_waves_are_no_beats() {
    for (fs_hz, noise) in SETTINGS {
        for (t, at, bpm) in [
            (0.6, 0.25, 100.0),
            (1.0, 0.3, 80.0),
            (1.5, 0.3, 60.0),
            (2.0, 0.3, 60.0),
            (2.0, 0.35, 45.0),
            (1.5, 0.42, 30.0),
        ] {
            let truth = times(1.0, 58.0, |_| 60.0 / bpm);
            let x = signal(&truth, 60.0, fs_hz, noise, &beat(0.12, t, at), 3);
            check(&format!("T of {t} mV at {at} s, {bpm} a minute, noise {noise}"), &x, fs_hz, &truth);
        }
        // Complete block: P at 90 a minute, QRS by their own rate.
        for bpm in [15.0, 25.0, 35.0] {
            let truth = times(1.2, 58.0, |_| 60.0 / bpm);
            let waves = beat(0.0, 0.3, 0.3);
            let mut x = signal(&truth, 60.0, fs_hz, noise, &waves, 4);
            let p =
                signal(&times(0.5, 59.0, |_| 60.0 / 90.0), 60.0, fs_hz, 0.0, &vec![(0.15, 0.0, 0.025)], 4);
            x.iter_mut().zip(p).for_each(|(x, p)| *x += p);
            check(&format!("block with {bpm} QRS a minute, noise {noise}"), &x, fs_hz, &truth);
        }
    }
}

/// Amplitude that falls to a quarter, and low amplitudes throughout.
#[test]
fn the_reference_follows_the_amplitude() {
    for fs_hz in [128.0, 500.0] {
        let truth = times(1.0, 110.0, |_| 0.8);
        let mut x = signal(&truth, 112.0, fs_hz, 0.002, &beat(0.12, 0.3, 0.3), 5);
        x.iter_mut().skip((50.2 * fs_hz) as usize).for_each(|v| *v *= 0.25);
        check("gain falls to a quarter", &x, fs_hz, &truth);
        let low: Vec<f64> = x.iter().map(|v| 0.05 * v).collect();
        check("0.05 mV", &low, fs_hz, &truth);
    }
}
