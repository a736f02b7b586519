//! From a recording to probabilities without the program: samples and files give the same numbers.
#![cfg(feature = "formats")]

use heartlore::data::recording::Unit;
use heartlore::error::Kind;
use heartlore::model::{BandPass, Ecg, Model, Preprocessing, RecordingOptions, Task};
use heartlore::nn::ModelConfig;
use heartlore::signal::Normalisation;
use heartlore::signal::simulate::SimulatedStudy;

fn model(normalisation: Normalisation, zero_phase: bool) -> Model {
    let config = ModelConfig { window: 640, ..ModelConfig::tiny() };
    let task = Task::Classifier { positive: "stressed".into(), negative: "calm".into(), threshold: 0.5 };
    Model::init(config, task, 7).unwrap().with_threads(1).with_preprocessing(Preprocessing {
        rate_hz: 128.0,
        window: 640,
        hop: 320,
        filter: Some(BandPass { order: 4, low_hz: 0.8, high_hz: 50.0, zero_phase }),
        normalisation,
        unit: "z-score".into(),
        quality_gate: heartlore::model::QualityGate::On(heartlore::signal::QualitySettings::default()),
    })
}

/// Simulated ECG in mV with a gap.
fn ecg() -> Vec<f64> {
    let study =
        SimulatedStudy { subjects: 1, trials: 1, trial_s: 40.0, fs_hz: 250.0, ..SimulatedStudy::default() };
    let mut x = study.trial(0, 0).unwrap().ecg.signal_mv;
    x[5000..5020].fill(f64::NAN);
    x
}

#[test]
fn samples_and_file_give_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.csv");
    let x = ecg();
    let text: String = x.iter().map(|v| if v.is_nan() { "nan\n".into() } else { format!("{v}\n") }).collect();
    std::fs::write(&file, format!("ecg\n{text}")).unwrap();
    for normalisation in
        [Normalisation::None, Normalisation::Window, Normalisation::Recording, Normalisation::Subject]
    {
        for zero_phase in [true, false] {
            let model = model(normalisation, zero_phase);
            let options = RecordingOptions {
                unit: Some(Unit::Millivolt),
                fs_hz: Some(250.0),
                ..RecordingOptions::default()
            };
            let of_file = model.predict_recording(&file, &options).unwrap();
            let given = Ecg { samples: &x, fs_hz: 250.0, mv_per_unit: Some(1.0) };
            let of_samples = model.predict_samples(given, None).unwrap();
            assert_eq!(of_file.prepared.missing, 20);
            assert_eq!(of_file.prepared.windows, of_samples.prepared.windows);
            assert_eq!(of_file.prepared.left_over_s, of_samples.prepared.left_over_s);
            let bits = |p: &[f32]| p.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            // One subject's moments are joined from stretches, a recording's summed over them: the last bits may differ.
            if normalisation == Normalisation::Subject {
                let far = of_file.probabilities.iter().zip(&of_samples.probabilities);
                assert!(far.into_iter().all(|(a, b)| (a - b).abs() < 1e-6));
            } else {
                assert_eq!(bits(&of_file.prepared.values), bits(&of_samples.prepared.values));
                assert_eq!(bits(&of_file.probabilities), bits(&of_samples.probabilities));
            }
            assert!(of_file.prepared.windows.len() >= 12);
            // A step as long as the window: no more than every other window.
            let wide = model.predict_samples(given, Some(5.0)).unwrap();
            assert!(wide.prepared.windows.len() < of_samples.prepared.windows.len());
            assert_eq!(wide.prepared.windows[1].start_s, 5.0);
        }
    }
}

#[test]
fn what_cannot_be_predicted_is_an_error_with_a_remedy() {
    let x = ecg();
    let given = Ecg { samples: &x, fs_hz: 250.0, mv_per_unit: Some(1.0) };
    let mut unknown = model(Normalisation::Window, true);
    unknown.preprocessing = None;
    let e = unknown.predict_samples(given, None).unwrap_err();
    assert_eq!(e.kind(), Kind::Data);
    assert!(e.to_string().contains("preprocessor_config.json"), "{e}");
    let model = model(Normalisation::Window, true);
    for hop_s in [0.0, -1.0, f64::NAN, 0.001] {
        assert_eq!(model.predict_samples(given, Some(hop_s)).unwrap_err().kind(), Kind::Usage);
    }
    for fs_hz in [0.0, -1.0, f64::NAN, f64::INFINITY, 60.0] {
        let e = model.predict_samples(Ecg { fs_hz, ..given }, None).unwrap_err();
        assert_eq!(e.kind(), Kind::Usage, "{fs_hz}: {e}");
    }
    let e = model.predict_samples(Ecg { mv_per_unit: Some(0.0), ..given }, None).unwrap_err();
    assert_eq!(e.kind(), Kind::Usage);
    let short = model.predict_samples(Ecg { samples: &x[..100], ..given }, None).unwrap();
    assert!(short.probabilities.is_empty() && short.prepared.why_empty().contains("shorter than a window"));
    let summary = short.summary(0.5);
    assert_eq!((summary.usable, summary.mean_probability, summary.positive_share), (0, None, None));
    // A flat line is a recording without ECG: the quality gate says so, and no figure is taken from it.
    let flat = model.predict_samples(Ecg { samples: &[0.5; 5000], ..given }, None).unwrap();
    assert_eq!(flat.summary(0.5).usable, 0);
    assert!(flat.prepared.windows.iter().all(|w| w.quality == "flat line"));
    let missing = model.predict_recording("no/such/file.csv", &RecordingOptions::default()).unwrap_err();
    assert_eq!(missing.kind(), Kind::Io);
    assert!(missing.to_string().contains("no/such/file.csv"), "{missing}");
}
