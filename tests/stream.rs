//! Streaming variants: the same whatever the blocks, and equal to the batch result.

use heartlore::error::Kind;
use heartlore::signal::simulate::{EcgParameters, simulate_ecg};
use heartlore::signal::stream::{StreamBeats, StreamResampler, StreamScaler};
use heartlore::signal::{Band, Resampler, Scaler, SosFilter, butterworth, detect_r_peaks, sosfilt};
use proptest::prelude::*;

/// Cuts `x` into blocks of the given sizes, taken in turn.
fn blocks<'a>(x: &'a [f64], sizes: &'a [usize]) -> impl Iterator<Item = &'a [f64]> {
    let mut rest = x;
    sizes.iter().cycle().map_while(move |n| {
        let (head, tail) = rest.split_at((*n).min(rest.len()));
        rest = tail;
        (!head.is_empty() || !rest.is_empty()).then_some(head)
    })
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0usize..700, 1..6)
        .prop_filter("some block holds samples", |s| s.iter().any(|n| *n > 0))
}

fn noise(n: usize, seed: u64) -> Vec<f64> {
    (0..n as u64).map(|i| (((i + 1) * (i + seed) * 2_654_435_761) % 10_007) as f64 / 1000.0 - 5.0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_filter_bit_for_bit(sizes in sizes(), n in 0usize..3000, seed in 0u64..100) {
        let sos = butterworth(4, Band::Bandpass { low_hz: 0.8, high_hz: 40.0 }, 250.0).unwrap();
        let x = noise(n, seed);
        let mut filter = SosFilter::new(sos.clone());
        let mut y = Vec::new();
        for block in blocks(&x, &sizes) {
            let mut block = block.to_vec();
            filter.process(&mut block).unwrap();
            y.extend(block);
        }
        prop_assert_eq!(y, sosfilt(&sos, &x).unwrap());
    }

    #[test]
    fn a_resampler_bit_for_bit(
        sizes in sizes(), n in 0usize..9000, seed in 0u64..100,
        factor in prop::sample::select(vec![(32, 125), (16, 45), (1, 2), (2, 1), (3, 2), (1, 1), (128, 125)]),
    ) {
        let resampler = Resampler::new(factor.0, factor.1, 5.0).unwrap();
        let x = noise(n, seed);
        let mut stream = StreamResampler::new(resampler.clone());
        // Twice: after the end the stream begins anew.
        for _ in 0..2 {
            let (mut y, mut seen) = (Vec::new(), 0);
            for block in blocks(&x, &sizes) {
                stream.process(block, &mut y).unwrap();
                seen += block.len();
                // As soon as the stated delay allows.
                let due = (0..).take_while(|m| m * factor.1 / factor.0 + stream.delay_samples() + 1 < seen).count();
                prop_assert!(y.len() >= due, "{} of {} after {}", y.len(), due, seen);
            }
            stream.finish(&mut y);
            prop_assert_eq!(&y, &resampler.apply(&x).unwrap());
        }
    }

    #[test]
    fn a_z_score_over_the_last_samples(sizes in sizes(), n in 1usize..1500, window in 2usize..300, seed in 0u64..100) {
        // An offset, a step and a flat stretch.
        let mut x: Vec<f64> = noise(n, seed).iter().map(|v| v + 1000.0).collect();
        for v in x.iter_mut().skip(n / 2) { *v += 5000.0; }
        for v in x.iter_mut().skip(n / 4).take(n / 4) { *v = 1234.5; }
        let mut stream = StreamScaler::new(window).unwrap();
        let mut y = Vec::new();
        for block in blocks(&x, &sizes) {
            let mut block = block.to_vec();
            stream.process(&mut block).unwrap();
            y.extend(block);
        }
        for i in 0..n {
            let s = Scaler::z_score(&x[(i + 1).saturating_sub(window)..=i]).unwrap();
            let want = if s.flat { 0.0 } else { (x[i] - s.centre) / s.scale };
            prop_assert!((y[i] - want).abs() <= 1e-6 * (1.0 + want.abs()), "sample {}: {} not {}", i, y[i], want);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// The same beats for any blocks; and those of the whole recording, on a clear ECG.
    #[test]
    fn beats_for_any_blocks(sizes in sizes(), seed in 0u64..1000) {
        let fs_hz = 128.0;
        let ecg = simulate_ecg(&EcgParameters::default(), 40.0, fs_hz, seed).unwrap().signal_mv;
        let mut stream = StreamBeats::new(fs_hz).unwrap();
        let (mut beats, mut seen) = (Vec::new(), 0);
        let whole = detect_r_peaks(&ecg, fs_hz).unwrap();
        for block in blocks(&ecg, &sizes) {
            stream.process(block, &mut beats).unwrap();
            seen += block.len();
            let late = (stream.delay_s() * fs_hz) as usize + 20;
            let due = whole.iter().filter(|p| **p + late < seen).count();
            prop_assert!(beats.len() + 1 >= due, "{} of {} after {}", beats.len(), due, seen);
        }
        stream.finish(&mut beats).unwrap();
        let mut at_once = Vec::new();
        let mut other = StreamBeats::new(fs_hz).unwrap();
        other.process(&ecg, &mut at_once).unwrap();
        other.finish(&mut at_once).unwrap();
        prop_assert_eq!(&beats, &at_once);
        let inner = |v: &[usize]| -> Vec<usize> {
            v.iter().copied().filter(|p| (128..ecg.len() - 128).contains(p)).collect()
        };
        prop_assert_eq!(inner(&beats), inner(&whole));
    }
}

#[test]
fn bad_samples_leave_the_state_as_it_was() {
    let x = noise(1000, 3);
    let resampler = Resampler::new(2, 3, 5.0).unwrap();
    let (mut stream, mut y) = (StreamResampler::new(resampler.clone()), Vec::new());
    stream.process(&x[..500], &mut y).unwrap();
    let error = stream.process(&[1.0, f64::NAN], &mut y).unwrap_err();
    assert!(error.kind() == Kind::Data && error.to_string().contains("sample 501"), "{error}");
    stream.process(&x[500..], &mut y).unwrap();
    stream.finish(&mut y);
    assert_eq!(y, resampler.apply(&x).unwrap());
    let mut beats = StreamBeats::new(100.0).unwrap();
    assert!(beats.process(&[f64::INFINITY], &mut Vec::new()).is_err());
    beats.finish(&mut Vec::new()).unwrap();
    assert!(StreamScaler::new(2).unwrap().process(&mut [0.0, f64::NAN]).is_err());
    assert_eq!(StreamBeats::new(49.0).unwrap_err().kind(), Kind::Usage);
    assert_eq!(StreamScaler::new(1).unwrap_err().kind(), Kind::Usage);
}
