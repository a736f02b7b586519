//! Throughput of the signal path on one hour of ECG at 256 Hz: `cargo bench --bench signal`.
#![allow(clippy::print_stdout, reason = "a bench reports to the terminal")]

use heartlore::signal::simulate::{EcgParameters, simulate_ecg};
use heartlore::signal::{Band, Resampler, butterworth, detect_r_peaks, sosfilt, sosfiltfilt};
use std::hint::black_box;
use std::time::Instant;

/// Best of five runs, in seconds.
fn best_of_five<T>(mut run: impl FnMut() -> T) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        black_box(run());
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

fn main() -> heartlore::Result<()> {
    let fs_hz = 256.0;
    let start = Instant::now();
    let x = simulate_ecg(&EcgParameters::default(), 3600.0, fs_hz, 1)?.signal_mv;
    let report = |name: &str, seconds: f64| {
        let rate = x.len() as f64 / seconds / 1e6;
        println!("{name:<34} {:8.1} ms  {rate:8.1} million samples/s", seconds * 1e3);
    };
    report("simulate", start.elapsed().as_secs_f64());
    let sos = butterworth(4, Band::Bandpass { low_hz: 0.8, high_hz: 50.0 }, fs_hz)?;
    let half = Resampler::between(fs_hz, 128.0)?;
    report("sosfilt, 4 sections", best_of_five(|| sosfilt(&sos, &x)));
    report("sosfiltfilt, 4 sections", best_of_five(|| sosfiltfilt(&sos, &x)));
    report("resample 256 -> 128 Hz", best_of_five(|| half.apply(&x)));
    let (up, down) = (32, 125);
    let fifths = Resampler::new(up, down, 5.0)?;
    report("resample by 32/125 (500 -> 128 Hz)", best_of_five(|| fifths.apply(&x)));
    report("sosfiltfilt and resample", best_of_five(|| sosfiltfilt(&sos, &x).and_then(|y| half.apply(&y))));
    report("detect R peaks", best_of_five(|| detect_r_peaks(&x, fs_hz)));
    Ok(())
}
