//! The stream against the batch path on the same causal settings, for any block size; gaps, NaN, electrodes that come off;
//! memory that does not grow.

use heartlore::error::Kind;
use heartlore::model::{BandPass, Ecg, Event, Model, Preprocessing, Stream, StreamOptions, Task};
use heartlore::nn::ModelConfig;
use heartlore::signal::simulate::{EcgParameters, simulate_ecg};
use heartlore::signal::{Normalisation, detect_r_peaks, finite_runs};
use proptest::prelude::*;

fn model(zero_phase: bool, normalisation: Normalisation, hop: usize) -> Model {
    let config = ModelConfig { window: 640, ..ModelConfig::tiny() };
    let task = Task::Classifier { positive: "stressed".into(), negative: "calm".into(), threshold: 0.5 };
    Model::init(config, task, 7).unwrap().with_threads(1).with_preprocessing(Preprocessing {
        rate_hz: 128.0,
        window: 640,
        hop,
        filter: Some(BandPass { order: 4, low_hz: 0.8, high_hz: 50.0, zero_phase }),
        normalisation,
        unit: "z-score".into(),
        quality_gate: heartlore::model::QualityGate::On(heartlore::signal::QualitySettings::default()),
    })
}

fn ecg(seconds: f64, fs_hz: f64, seed: u64) -> Vec<f64> {
    simulate_ecg(&EcgParameters::default(), seconds, fs_hz, seed).unwrap().signal_mv
}

const MV: StreamOptions =
    StreamOptions { hop_s: None, mv_per_unit: Some(1.0), causal: false, lead_off_s: 1.0 };

fn run(stream: &mut Stream, x: &[f64], sizes: &[usize]) -> Vec<Event> {
    let (mut rest, mut events) = (x, Vec::new());
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (block, more) = rest.split_at((*size).min(rest.len()));
        stream.push(block).unwrap();
        events.extend(stream.events());
        rest = more;
    }
    stream.finish().unwrap();
    events.extend(stream.events());
    events
}

/// Windows as bits, so that -0 and NaN would count.
fn windows(events: &[Event]) -> Vec<(u64, u64, Option<u32>, &'static str)> {
    let of = |e: &Event| match *e {
        Event::Window { start_s, end_s, probability, quality, .. } => {
            Some((start_s.to_bits(), end_s.to_bits(), probability.map(f32::to_bits), quality))
        }
        _ => None,
    };
    events.iter().filter_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn blocks_do_not_matter_and_windows_are_those_of_the_batch(
        fs in prop::sample::select(vec![128.0, 130.0, 250.0, 360.0, 500.0, 1000.0]),
        hop in prop::sample::select(vec![160usize, 640, 900]),
        sizes in prop::collection::vec(1usize..700, 1..6),
        gaps in prop::collection::vec((0usize..8000, 45usize..130), 0..4),
        seed in 0u64..100,
    ) {
        let mut x = ecg(24.0, fs, seed);
        for (at, n) in gaps {
            let at = at % x.len();
            let end = (at + n).min(x.len());
            x[at..end].fill(f64::NAN);
        }
        let model = model(false, Normalisation::Window, hop);
        let whole = run(&mut Stream::new(&model, fs, MV).unwrap(), &x, &[x.len()]);
        let parts = run(&mut Stream::new(&model, fs, MV).unwrap(), &x, &sizes);
        prop_assert_eq!(&whole, &parts);
        let batch = model.predict_samples(Ecg { samples: &x, fs_hz: fs, mv_per_unit: Some(1.0) }, None).unwrap();
        let wanted: Vec<_> = batch.rows().map(|(w, p)| (w.start_s.to_bits(), w.end_s.to_bits(), Some(p.to_bits()), w.quality)).collect();
        prop_assert_eq!(windows(&whole), wanted);
        // The gaps are those of the recording, and so are the lengths.
        let reported: u64 = whole.iter().map(|e| if let Event::Gap { samples, .. } = e { *samples } else { 0 }).sum();
        prop_assert_eq!(reported as usize, x.iter().filter(|v| v.is_nan()).count());
        prop_assert_eq!(whole.iter().filter(|e| matches!(e, Event::Gap { .. })).count(),
            { let runs = finite_runs(&x); runs.len() + 1
                - usize::from(runs.first().is_some_and(|r| r.start == 0)) - usize::from(runs.last().is_some_and(|r| r.end == x.len())) });
    }
}

#[test]
fn beats_come_within_the_stated_delay_and_restart_after_a_gap() {
    let fs = 250.0;
    let mut x = ecg(60.0, fs, 3);
    let whole = detect_r_peaks(&x, fs).unwrap();
    let model = model(false, Normalisation::Window, 640);
    let mut stream = Stream::new(&model, fs, MV).unwrap();
    let delay = stream.delays();
    let mut beats = Vec::new();
    for (i, block) in x.chunks(25).enumerate() {
        stream.push(block).unwrap();
        let now_s = ((i + 1) * 25) as f64 / fs;
        for event in stream.events() {
            if let Event::Beat { time_s, rr_s } = event {
                assert!(now_s - time_s <= delay.beats_s + 0.1, "beat at {time_s} came at {now_s}");
                assert_eq!(rr_s.is_none(), beats.is_empty());
                beats.push(time_s);
            }
        }
    }
    let batch: Vec<f64> = whole.iter().map(|p| *p as f64 / fs).collect();
    let same = batch.iter().filter(|b| beats.iter().any(|s| (*s - **b).abs() < 0.005)).count();
    assert!(same + 6 >= batch.len() && same as f64 > 0.85 * batch.len() as f64, "{same} of {}", batch.len());
    // After a gap the first interval is not one between beats on both sides of it.
    x[6000..6500].fill(f64::NAN);
    let events = run(&mut Stream::new(&model, fs, MV).unwrap(), &x, &[64]);
    let first = events.iter().find_map(|e| match e {
        Event::Beat { time_s, rr_s } if *time_s > 26.0 => Some(*rr_s),
        _ => None,
    });
    assert_eq!(first, Some(None));
}

#[test]
fn an_electrode_that_comes_off_and_lost_packets_are_reported() {
    let fs = 130.0;
    let mut x = ecg(40.0, fs, 5);
    x[1300..1690].fill(0.25);
    let model = model(false, Normalisation::Window, 640);
    let events = run(&mut Stream::new(&model, fs, MV).unwrap(), &x, &[73]);
    let off =
        events.iter().find_map(|e| if let Event::LeadOff { start_s } = e { Some(*start_s) } else { None });
    let on = events.iter().find_map(|e| if let Event::LeadOn { time_s } = e { Some(*time_s) } else { None });
    assert_eq!((off, on), (Some(10.0), Some(13.0)));
    let flat = windows(&events).iter().any(|w| w.3 == "flat line");
    assert!(flat, "the window on the flat line is not marked");
    // Packets that did not come are a gap in time.
    let mut stream = Stream::new(&model, fs, MV).unwrap();
    stream.push(&x[..650]).unwrap();
    stream.lost(260).unwrap();
    stream.lost(0).unwrap();
    stream.push(&[f64::NAN, f64::INFINITY, 1e300]).unwrap();
    stream.push(&x[650..1300]).unwrap();
    stream.finish().unwrap();
    let gap = stream.events().find(|e| matches!(e, Event::Gap { .. }));
    assert_eq!(gap, Some(Event::Gap { start_s: 5.0, end_s: 913.0 / 130.0, samples: 263 }));
    assert_eq!(stream.seen(), 1563);
    // Counts of a converter are the same samples.
    let counts: Vec<i16> = x.iter().map(|v| (v * 1000.0) as i16).collect();
    let scaled: Vec<f64> = counts.iter().map(|c| f64::from(*c) * 0.001).collect();
    let mut ints = Stream::new(&model, fs, MV).unwrap();
    ints.push_i16(&counts, 0.001).unwrap();
    ints.finish().unwrap();
    let of_ints: Vec<Event> = ints.events().collect();
    assert_eq!(of_ints, run(&mut Stream::new(&model, fs, MV).unwrap(), &scaled, &[999]));
    // Everything missing, and nothing at all.
    let nothing = run(&mut Stream::new(&model, fs, MV).unwrap(), &[f64::NAN; 500], &[7]);
    assert_eq!(nothing, [Event::Gap { start_s: 0.0, end_s: 500.0 / 130.0, samples: 500 }]);
    assert!(run(&mut Stream::new(&model, fs, MV).unwrap(), &[], &[7]).is_empty());
}

#[test]
fn what_needs_the_future_is_refused() {
    let refused = |model: &Model, fs: f64, options: StreamOptions| {
        let e = Stream::new(model, fs, options).unwrap_err();
        assert_eq!(e.kind(), Kind::Usage, "{e}");
        e.to_string()
    };
    let zero_phase = model(true, Normalisation::Window, 640);
    assert!(refused(&zero_phase, 250.0, MV).contains("--causal"));
    let mut causal = Stream::new(&zero_phase, 250.0, StreamOptions { causal: true, ..MV }).unwrap();
    let x = ecg(12.0, 250.0, 1);
    let with_flag = run(&mut causal, &x, &[50]);
    let trained = model(false, Normalisation::Window, 640);
    assert_eq!(with_flag, run(&mut Stream::new(&trained, 250.0, MV).unwrap(), &x, &[50]));
    for normalisation in [Normalisation::Recording, Normalisation::Subject] {
        assert!(refused(&model(false, normalisation, 640), 250.0, MV).contains("future"));
    }
    for fs in [0.0, -1.0, f64::NAN, 20.0, 60.0, 1e9] {
        refused(&trained, fs, MV);
    }
    for lead_off_s in [0.0, -1.0, f64::NAN] {
        refused(&trained, 250.0, StreamOptions { lead_off_s, ..MV });
    }
    refused(&trained, 250.0, StreamOptions { mv_per_unit: Some(-1.0), ..MV });
    refused(&trained, 250.0, StreamOptions { hop_s: Some(0.0), ..MV });
    let pretrained = Model::init(ModelConfig::tiny(), Task::Pretrained, 1).unwrap();
    refused(&pretrained, 250.0, MV);
}

/// The filter's stated delay, measured: a burst around 10 Hz comes out that much later.
#[test]
fn delays_are_those_measured() {
    let fs = 500.0;
    let stream = Stream::new(&model(false, Normalisation::Window, 640), fs, MV).unwrap();
    let delays = stream.delays();
    assert_eq!((delays.window_s, delays.beats_s), (5.0, 4.0));
    assert!((delays.resampler_s - 10.0 / 128.0).abs() < 0.002, "{delays:?}");
    let sos = stream.preparation().filter.unwrap().design(fs).unwrap();
    let burst: Vec<f64> = (0..4000)
        .map(|i| {
            let t = (i as f64 - 2000.0) / fs;
            (-t * t / (2.0 * 0.3 * 0.3)).exp() * (std::f64::consts::TAU * 10.0 * t).sin()
        })
        .collect();
    let y = heartlore::signal::sosfilt(&sos, &burst).unwrap();
    let centre = |x: &[f64]| {
        let energy: f64 = x.iter().map(|v| v * v).sum();
        x.iter().enumerate().map(|(i, v)| i as f64 * v * v).sum::<f64>() / energy / fs
    };
    let measured = centre(&y) - centre(&burst);
    assert!(
        (measured - delays.filter_s).abs() < 0.002,
        "{measured} s measured, {} s stated",
        delays.filter_s
    );
}

/// Resident memory of this process in KiB.
#[cfg(target_os = "linux")]
fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// `hours` of simulated ECG with gaps, noise, flat stretches and reconnects; memory after the first tenth and at the end.
#[cfg(target_os = "linux")]
fn soak(hours: usize) {
    let fs = 130.0;
    let hour = ecg(600.0, fs, 11);
    let model = model(false, Normalisation::Window, 640);
    let mut stream = Stream::new(&model, fs, MV).unwrap();
    let (mut beats, mut judged, mut early) = (0u64, 0u64, 0);
    for part in 0..hours * 6 {
        let mut x = hour.clone();
        for k in 0..20 {
            let at = (part * 7919 + k * 3571) % (x.len() - 400);
            match k % 4 {
                0 => x[at..at + 3].fill(f64::NAN),
                1 => x[at..at + 300].fill(0.1),
                2 => x[at] = 1e300,
                _ => x[at..at + 40].iter_mut().for_each(|v| *v += 5.0),
            }
        }
        for block in x.chunks(73) {
            stream.push(block).unwrap();
            for event in stream.events() {
                beats += u64::from(matches!(event, Event::Beat { .. }));
                judged += u64::from(matches!(event, Event::Window { .. }));
            }
        }
        stream.lost(1000).unwrap();
        if part == (hours * 6) / 10 {
            early = resident_kib();
        }
    }
    let late = resident_kib();
    assert!(
        beats as usize > hours * 3000 && judged as usize > hours * 300,
        "{beats} beats, {judged} windows"
    );
    assert!(late < early + 1024, "{early} KiB became {late} KiB");
}

#[test]
#[cfg(target_os = "linux")]
fn memory_is_flat_over_two_hours() {
    soak(2);
}

#[test]
#[cfg(target_os = "linux")]
#[ignore = "24 h of signal take minutes: cargo test --release --test model_stream -- --ignored"]
fn memory_is_flat_over_a_day() {
    soak(24);
}
