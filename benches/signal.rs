//! Throughput of the signal path on a quarter of an hour of ECG at 256 Hz: `cargo bench --bench signal`.
//!
//! The best of thirty runs of each step, each short enough that a busy machine leaves some undisturbed.
#![allow(clippy::print_stdout, reason = "a bench reports to the terminal")]

use heartlore::signal::simulate::{EcgParameters, simulate_ecg};
use heartlore::signal::stream::StreamResampler;
use heartlore::signal::{
    Band, QualitySettings, Resampler, Scaler, Sos, butterworth, detect_r_peaks, finite_runs, sosfilt,
    sosfiltfilt,
};
use std::hint::black_box;
use std::time::Instant;

/// Best of thirty runs, in seconds.
fn best<T>(mut run: impl FnMut() -> T) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..30 {
        let start = Instant::now();
        black_box(run());
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

fn main() -> heartlore::Result<()> {
    let fs_hz = 256.0;
    let start = Instant::now();
    let x = simulate_ecg(&EcgParameters::default(), 900.0, fs_hz, 1)?.signal_mv;
    let report = |name: &str, seconds: f64| {
        let rate = x.len() as f64 / seconds / 1e6;
        println!("{name:<34} {:8.1} ms  {rate:8.1} million samples/s", seconds * 1e3);
    };
    report("simulate", start.elapsed().as_secs_f64());
    let band = Band::Bandpass { low_hz: 0.8, high_hz: 50.0 };
    let sos = butterworth(4, band, fs_hz)?;
    let steep = butterworth(8, band, fs_hz)?;
    let half = Resampler::between(fs_hz, 128.0)?;
    report("look for missing samples", best(|| finite_runs(&x)));
    report("sosfilt, 4 sections", best(|| sosfilt(&sos, &x)));
    report("sosfiltfilt, 4 sections", best(|| sosfiltfilt(&sos, &x)));
    report("sosfiltfilt, 8 sections", best(|| sosfiltfilt(&steep, &x)));
    // Minutes are too short to be cut into parts.
    let in_one_piece = |sos: &Sos| x.chunks_exact(15_360).filter(|m| sosfiltfilt(sos, m).is_ok()).count();
    report("4 sections, in one piece", best(|| in_one_piece(&sos)));
    report("8 sections, in one piece", best(|| in_one_piece(&steep)));
    report("resample 256 -> 128 Hz", best(|| half.apply(&x)));
    let streamed = || {
        let mut out = Vec::new();
        StreamResampler::new(half.clone()).process(&x, &mut out).map(|()| out.len())
    };
    report("the same as a stream, one by one", best(streamed));
    let fifths = Resampler::new(32, 125, 5.0)?;
    report("resample by 32/125 (500 -> 128 Hz)", best(|| fifths.apply(&x)));
    report("detect R peaks", best(|| detect_r_peaks(&x, fs_hz)));
    let windows: Vec<&[f64]> = x.chunks_exact(2560).collect();
    let gate = QualitySettings::default();
    report("quality gate, windows of 10 s", best(|| gate.judge_all(&windows, fs_hz, Some(1.0))));
    let one_by_one =
        || windows.iter().filter(|w| gate.judge(w, fs_hz, Some(1.0)).is_ok_and(|v| v.usable())).count();
    report("the same, one call for each", best(one_by_one));
    let scales = || windows.iter().filter_map(|w| Scaler::z_score(w).ok()).map(|s| s.scale).sum::<f64>();
    report("z-score of windows", best(scales));
    Ok(())
}
