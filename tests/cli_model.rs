//! The commands that use a model, run as a user runs them: `predict`, `embed`, `forward`, `grad`, `inspect`.
#![cfg(feature = "cli")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use heartlore::Model;
use heartlore::checkpoint::safetensors;
use heartlore::data::npy;
use heartlore::data::prepare::{PrepareSettings, prepare};
use heartlore::data::recording::Unit;
use heartlore::data::store::Store;
use heartlore::data::table::file_items;
use heartlore::graph::MatmulPrecision;
use heartlore::model::{BandPass, PREPROCESSOR, Preprocessing, QualityGate, Task};
use heartlore::nn::{MaskConfig, ModelConfig};
use heartlore::signal::simulate::{EcgParameters, simulate_ecg};
use heartlore::signal::{
    Band, Normalisation, QualitySettings, Resampler, Rng, Scaler, butterworth, sosfiltfilt,
};
use serde_json::Value;

const RATE_HZ: f64 = 64.0;
const WINDOW: usize = 640;
const FS_HZ: f64 = 128.0;

fn config() -> ModelConfig {
    ModelConfig {
        window: WINDOW,
        channels: vec![4, 8],
        kernels: vec![9, 5],
        strides: vec![8, 2],
        layers: 2,
        heads: 2,
        hidden: 12,
        head_hidden: vec![6],
        mask: MaskConfig { probability: 0.02, span: 16 },
        ..ModelConfig::tiny()
    }
}

fn preprocessing() -> Preprocessing {
    Preprocessing {
        rate_hz: RATE_HZ,
        window: WINDOW,
        hop: WINDOW,
        filter: Some(BandPass { order: 2, low_hz: 0.8, high_hz: 25.0, zero_phase: true }),
        normalisation: Normalisation::Window,
        unit: "z-score".into(),
        quality_gate: QualityGate::On(QualitySettings::default()),
    }
}

fn classifier() -> Model {
    let task = Task::Classifier { positive: "aroused".into(), negative: "calm".into(), threshold: 0.5 };
    Model::init(config(), task, 4).unwrap().with_preprocessing(preprocessing())
}

fn pretrained() -> Model {
    Model::init(config(), Task::Pretrained, 4).unwrap().with_preprocessing(preprocessing())
}

struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn model(&self, model: &Model) -> PathBuf {
        let dir = self.path("model");
        model.save(&dir).unwrap();
        dir
    }
    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_heartlore"))
            .args(args)
            .current_dir(self.dir.path())
            .output()
            .unwrap()
    }
    /// Standard output of a command that must succeed.
    fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }
    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[args, &["--json"]].concat())).unwrap()
    }
    /// Standard error of a command that must fail with `code`.
    fn fails(&self, code: i32, args: &[&str]) -> String {
        let out = self.run(args);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{args:?}: {text}");
        assert!(out.stdout.is_empty(), "a failing command prints no result");
        text
    }
    /// A simulated recording as .npy: 60 s at 128 Hz, second 25 missing, no change from second 46 on.
    fn recording(&self, name: &str) -> Vec<f64> {
        let mut x = simulate_ecg(&EcgParameters::default(), 60.0, FS_HZ, 7).unwrap().signal_mv;
        x[25 * 128..26 * 128].fill(f64::NAN);
        let last = x[46 * 128 - 1];
        x[46 * 128..].fill(last);
        npy::write_f64(&self.path(name), &[x.len()], &x).unwrap();
        x
    }
}

/// What the windows of [`Home::recording`] must be: the steps by hand, in the order the documentation states.
fn windows_by_hand(x: &[f64]) -> Vec<(f64, Vec<f32>)> {
    let band = Band::Bandpass { low_hz: 0.8, high_hz: 25.0 };
    let mut out = Vec::new();
    for (from_s, to_s, starts) in [(0.0, 25.0, 2), (26.0, 60.0, 3)] {
        let part = &x[(from_s * FS_HZ) as usize..(to_s * FS_HZ) as usize];
        let y = sosfiltfilt(&butterworth(2, band, FS_HZ).unwrap(), part).unwrap();
        let y = Resampler::between(FS_HZ, RATE_HZ).unwrap().apply(&y).unwrap();
        for i in 0..starts {
            let mut w = y[i * WINDOW..(i + 1) * WINDOW].to_vec();
            Scaler::z_score(&w).unwrap().apply(&mut w);
            out.push((from_s + 10.0 * i as f64, w.iter().map(|v| *v as f32).collect()));
        }
    }
    out
}

fn lines(path: &Path) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_path(path).unwrap();
    reader.records().map(|r| r.unwrap().iter().map(str::to_string).collect()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn predict_cuts_windows_as_the_model_was_trained_on() {
    let home = Home::new();
    let model = classifier();
    home.model(&model);
    let by_hand = windows_by_hand(&home.recording("a.npy"));
    let expected: Vec<f32> = by_hand.iter().map(|w| model.predict(&w.1).unwrap()[0]).collect();
    let args = ["predict", "a.npy", "--model", "model", "--fs-hz", "128", "--unit", "mV", "--out", "out"];
    let json = home.json(&args);
    let recording = &json["recordings"][0];
    let windows = recording["windows"].as_array().unwrap();
    assert_eq!(windows.len(), 5);
    for ((w, (start_s, _)), p) in windows.iter().zip(&by_hand).zip(&expected) {
        assert_eq!(w["start_s"].as_f64(), Some(*start_s));
        assert_eq!(w["end_s"].as_f64(), Some(start_s + 10.0));
        assert_eq!(w["probability"].as_f64().unwrap() as f32, *p);
        assert_eq!(w["state"], if *p >= 0.5 { "aroused" } else { "calm" });
        assert_eq!(w["quality"], if *start_s < 46.0 { "ok" } else { "flat line" });
    }
    // The flat window is shown, but does not count.
    let mean = expected[..4].iter().map(|p| f64::from(*p)).sum::<f64>() / 4.0;
    assert_eq!(recording["usable_windows"], 4);
    assert!((recording["mean_probability"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert_eq!(recording["missing_samples"], 128);
    assert_eq!(recording["left_over_s"].as_f64(), Some(9.0));
    // The files say the same.
    let file: Value = serde_json::from_slice(&fs::read(home.path("out/predictions.json")).unwrap()).unwrap();
    let mut printed = json.clone();
    // What is printed also holds the notes of the command.
    printed.as_object_mut().unwrap().remove("notes");
    assert_eq!(file, printed);
    let table = lines(&home.path("out/windows.csv"));
    assert_eq!(table.len(), 6);
    assert_eq!(table[3][2..5], ["2", "26.000", "36.000"]);
    assert_eq!(table[3][5].parse::<f32>().unwrap().to_bits(), expected[2].to_bits());
    let table = lines(&home.path("out/recordings.csv"));
    assert_eq!(table[1][2..5], ["60.000", "5", "4"]);
    let text = home.ok(&args[..args.len() - 2]);
    assert!(
        text.contains("5 windows, 4 usable; 60.0 s, 128 missing samples") && text.contains("flat line"),
        "{text}"
    );
    // Half the step, twice the windows (less the ends).
    let more = home.json(&[&args[..args.len() - 2], &["--hop-s", "5"]].concat());
    assert_eq!(more["recordings"][0]["windows"].as_array().unwrap().len(), 4 + 5);
}

#[test]
fn predict_says_what_it_cannot_use() {
    let home = Home::new();
    home.model(&pretrained());
    home.recording("a.npy");
    let args = ["predict", "a.npy", "--model", "model", "--fs-hz", "128", "--unit", "mV"];
    let text = home.fails(2, &args);
    assert!(text.contains("only pre-trained") && text.contains("heartlore finetune"), "{text}");
    home.model(&classifier());
    let text = home.fails(6, &["predict", "none.npy", "--model", "model"]);
    assert!(text.contains("none.npy"), "{text}");
    let text = home.fails(6, &["predict", "a.npy", "--model", "elsewhere"]);
    assert!(text.contains("no model here") && text.contains("remedy"), "{text}");
    let text = home.fails(2, &["predict", "a.npy", "--model", "model", "--fs-hz", "128", "--unit", "stone"]);
    assert!(text.contains("--unit") && text.contains("stone"), "{text}");
    npy::write_f64(&home.path("short.npy"), &[900], &vec![0.5; 900]).unwrap();
    let short = ["predict", "short.npy", "--model", "model", "--fs-hz", "128", "--unit", "mV"];
    let text = home.fails(5, &short);
    assert!(text.contains("shorter than a window: 7.0 s") && text.contains("needs 10.0 s"), "{text}");
    // A sampling rate below what the filter needs.
    let slow = ["predict", "short.npy", "--model", "model", "--fs-hz", "40", "--unit", "mV"];
    let out = home.run(&slow);
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("short.npy"));
    // Beside a good one, bad ones are reported and the work goes on, if so wished.
    fs::write(home.path("bad.edf"), "no EDF").unwrap();
    let many =
        ["predict", "short.npy", "bad.edf", "a.npy", "--model", "model", "--fs-hz", "128", "--unit", "mV"];
    let text = home.fails(4, &many);
    assert!(text.contains("bad.edf"), "{text}");
    let json = home.json(&[&many[..], &["--skip-bad", "--out", "out"]].concat());
    assert_eq!(json["recordings"].as_array().unwrap().len(), 2);
    assert_eq!(json["recordings"][0]["state"], Value::Null);
    assert!(json["skipped"][0]["file"].as_str().unwrap().contains("bad.edf"));
    let table = lines(&home.path("out/recordings.csv"));
    assert!(
        table[1][10].contains("shorter than a window") && table[3][10].starts_with("skipped"),
        "{table:?}"
    );
    // A model that does not say how its windows are made.
    fs::remove_file(home.path("model").join(PREPROCESSOR)).unwrap();
    let text = home.fails(5, &args);
    assert!(text.contains(PREPROCESSOR), "{text}");
}

#[test]
fn embed_gives_the_features_of_a_store_and_of_recordings() {
    let home = Home::new();
    let model = pretrained();
    home.model(&model);
    let by_hand = windows_by_hand(&home.recording("a.npy"));
    let settings = PrepareSettings {
        rate_hz: RATE_HZ,
        window: WINDOW,
        hop: WINDOW,
        filter: preprocessing().processing().filter,
        unit: Some(Unit::Millivolt),
        fs_hz: Some(FS_HZ),
        quality: None,
        ..PrepareSettings::default()
    };
    let items = file_items(&[home.path("a.npy")], "set");
    prepare(&items, &settings, &home.path("store"), &mut |_| true).unwrap();
    home.ok(&["embed", "store", "--model", "model", "--out", "s.npy"]);
    home.ok(&["embed", "a.npy", "--model", "model", "--out", "r.npy", "--fs-hz", "128", "--unit", "mV"]);
    let flat: Vec<f32> = by_hand.iter().flat_map(|w| w.1.clone()).collect();
    let expected = model.embed(&flat).unwrap();
    for name in ["s.npy", "r.npy"] {
        let (shape, values) = npy::read_f32(&home.path(name)).unwrap();
        assert_eq!(shape, [5, 8]);
        assert_eq!(bits(&values), bits(&expected), "{name}");
    }
    let table = lines(&home.path("s.csv"));
    assert_eq!(table[0], ["row", "dataset", "subject", "trial", "record", "start_s", "quality"]);
    assert_eq!(table[3], ["2", "set", "a", "a", "a", "26.000", "unchecked"]);
    let table = lines(&home.path("r.csv"));
    assert_eq!(table[5][3..], ["46.000", "56.000", "flat line"]);
    // Nothing is overwritten unasked, nothing half-written is left.
    let text = home.fails(2, &["embed", "store", "--model", "model", "--out", "s.npy"]);
    assert!(text.contains("--overwrite"), "{text}");
    home.ok(&["embed", "store", "--model", "model", "--out", "s.npy", "--overwrite", "--threads", "1"]);
    assert_eq!(bits(&npy::read_f32(&home.path("s.npy")).unwrap().1), bits(&expected));
    // A store prepared in another way is refused, and the difference is named.
    let other = PrepareSettings { filter: None, ..settings };
    prepare(&items, &other, &home.path("other"), &mut |_| true).unwrap();
    let text = home.fails(5, &["embed", "other", "--model", "model", "--out", "o.npy"]);
    assert!(text.contains("filter: none against order 2 band 0.8-25 Hz zero-phase"), "{text}");
    let left: Vec<_> = fs::read_dir(home.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|n| n.to_string_lossy().contains("tmp") || n == "o.npy"), "{left:?}");
}

#[test]
fn windows_are_judged_as_those_of_training_were() {
    let home = Home::new();
    home.recording("a.npy");
    let loose = QualitySettings { max_flat_share: 1.0, min_kurtosis: 0.0, ..QualitySettings::default() };
    for (gate, flagged, unsure) in [
        (QualityGate::On(QualitySettings::default()), true, false),
        (QualityGate::Off, false, false),
        (QualityGate::On(loose), false, false),
        (QualityGate::Unknown, true, true),
    ] {
        let preprocessing = Preprocessing { quality_gate: gate, ..preprocessing() };
        home.model(&classifier().with_preprocessing(preprocessing));
        let args = ["embed", "a.npy", "--model", "model", "--out", "r.npy", "--fs-hz", "128", "--unit", "mV"];
        let out = home.run(&[&args[..], &["--overwrite"]].concat());
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.success(), "{said}");
        let quality = lines(&home.path("r.csv"))[5][5].clone();
        assert_eq!(quality == "flat line", flagged, "{gate:?}: {quality}");
        assert_eq!(said.contains("default thresholds"), unsure, "{gate:?}: {said}");
    }
}

fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| rng.normal() as f32).collect()
}

#[test]
fn forward_writes_what_the_library_gives() {
    let home = Home::new();
    let x = noise(3 * WINDOW, 5);
    npy::write_f32(&home.path("x.npy"), &[3, WINDOW], &x).unwrap();
    let args = ["forward", "--model", "model", "--input", "x.npy", "--output", "y.npy"];
    let model = pretrained();
    home.model(&model);
    home.ok(&args);
    let (shape, y) = npy::read_f32(&home.path("y.npy")).unwrap();
    assert_eq!(shape, [3, WINDOW]);
    assert_eq!(bits(&y), bits(&model.reconstruct(&x, &[]).unwrap()));
    let text = home.fails(2, &[&args[..], &["--probabilities"]].concat());
    assert!(text.contains("only pre-trained"), "{text}");
    let model = classifier();
    home.model(&model);
    home.ok(&args);
    let (shape, y) = npy::read_f32(&home.path("y.npy")).unwrap();
    assert_eq!(shape, [3]);
    assert_eq!(bits(&y), bits(&model.logits(&x).unwrap()));
    home.ok(&[&args[..], &["--probabilities", "--threads", "2"]].concat());
    let (_, p) = npy::read_f32(&home.path("y.npy")).unwrap();
    assert_eq!(bits(&p), bits(&model.predict(&x).unwrap()));
    npy::write_f32(&home.path("x.npy"), &[2, 960], &x).unwrap();
    let text = home.fails(3, &args);
    assert!(text.contains("[2, 960]") && text.contains("[n, 640]"), "{text}");
    let mut bad = x.clone();
    bad[WINDOW + 17] = f32::INFINITY;
    npy::write_f32(&home.path("x.npy"), &[3, WINDOW], &bad).unwrap();
    let text = home.fails(5, &args);
    assert!(text.contains("window 1, sample 17"), "{text}");
}

#[test]
fn every_command_that_runs_a_model_takes_the_precision() {
    let home = Home::new();
    let x = noise(3 * WINDOW, 6);
    npy::write_f32(&home.path("x.npy"), &[3, WINDOW], &x).unwrap();
    let model = classifier();
    home.model(&model);
    let in_bf16 = model.clone().with_precision(MatmulPrecision::Bf16);
    assert_ne!(bits(&in_bf16.logits(&x).unwrap()), bits(&model.logits(&x).unwrap()));
    let forward = ["forward", "--model", "model", "--input", "x.npy", "--output", "y.npy"];
    home.ok(&[&forward[..], &["--precision", "bf16"]].concat());
    let (_, y) = npy::read_f32(&home.path("y.npy")).unwrap();
    assert_eq!(bits(&y), bits(&in_bf16.logits(&x).unwrap()));
    let text = home.fails(2, &[&forward[..], &["--precision", "f16"]].concat());
    assert!(text.contains("'f16' is none of f32, bf16 and int8"), "{text}");

    home.recording("r.npy");
    let of = |precision: &str| {
        let flags = ["r.npy", "--model", "model", "--fs-hz", "128", "--unit", "mV", "--precision", precision];
        let features = format!("{precision}.npy");
        home.ok(&[&["embed"], &flags[..], &["--out", &features]].concat());
        let (_, features) = npy::read_f32(&home.path(&features)).unwrap();
        let said = home.json(&[&["predict"], &flags[..]].concat());
        let windows = said["recordings"][0]["windows"].as_array().unwrap();
        let said: Vec<f32> = windows.iter().map(|w| w["probability"].as_f64().unwrap() as f32).collect();
        (features, said)
    };
    let (f32, bf16, int8) = (of("f32"), of("bf16"), of("int8"));
    for (a, b) in
        [(&f32.0, &bf16.0), (&f32.1, &bf16.1), (&f32.0, &int8.0), (&f32.1, &int8.1), (&bf16.0, &int8.0)]
    {
        assert!(!a.is_empty() && a.len() == b.len());
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.05), "{a:?} {b:?}");
        assert_ne!(bits(a), bits(b));
    }
}

/// Values by a parameter's name.
type Named = Vec<(String, Vec<f64>)>;

/// Loss, output and gradients (by the parameters' names) as `grad --double` writes them.
fn grads(home: &Home, extra: &[&str]) -> (f64, Vec<f64>, Named) {
    let base =
        ["grad", "--model", "model", "--input", "x.npy", "--target", "t.npy", "--out", "g.safetensors"];
    home.ok(&[&base[..], extra].concat());
    let mut file = safetensors::read(home.path("g.safetensors")).unwrap();
    let mut all: Named = Vec::new();
    for (name, shape) in file.shapes() {
        all.push((name.clone(), file.get::<f64>(&name, &shape).unwrap()));
    }
    let mut take = |name: &str| all.remove(all.iter().position(|t| t.0 == name).unwrap()).1;
    let (loss, output) = (take("loss")[0], take("output"));
    for t in &mut all {
        t.0 = t.0.strip_prefix("grad.").unwrap().to_string();
    }
    (loss, output, all)
}

/// Moves all parameters a little along a random direction and back: the loss must change as the gradients say.
fn directional(home: &Home, model: &Model, extra: &[&str]) {
    home.model(model);
    let (_, _, gradients) = grads(home, extra);
    assert_eq!(gradients.len(), model.tensors().count());
    let moved = |h: f64| {
        let mut rng = Rng::new(3);
        let tensors = model.tensors().map(|t| {
            let values = t.values.iter().map(|v| (f64::from(*v) + h * rng.normal()) as f32).collect();
            (t.name.to_string(), t.shape.to_vec(), values)
        });
        Model::new(model.config().clone(), model.task().clone(), tensors.collect()).unwrap()
    };
    // Small enough that hardly a ReLU changes sides: at 2e-4 kinks alone make 2.5 % of difference here.
    let (up, down) = (moved(1e-5), moved(-1e-5));
    home.model(&up);
    let high = grads(home, extra).0;
    home.model(&down);
    let low = grads(home, extra).0;
    // The steps as f32 rounded them.
    let mut expected = 0.0;
    for (u, d) in up.tensors().zip(down.tensors()) {
        let g = &gradients.iter().find(|g| g.0 == u.name).unwrap().1;
        expected += u
            .values
            .iter()
            .zip(d.values)
            .zip(g)
            .map(|((u, d), g)| (f64::from(*u) - f64::from(*d)) * g)
            .sum::<f64>();
    }
    assert!(expected.abs() > 1e-7, "the direction must matter: {expected}");
    assert!((high - low - expected).abs() < 2e-3 * expected.abs(), "{} {expected}", high - low);
}

#[test]
fn grad_of_pretraining_is_the_slope_of_its_loss() {
    let home = Home::new();
    let model = pretrained();
    let (x, t) = (noise(3 * WINDOW, 5), noise(3 * WINDOW, 6));
    // Window 0 hides two spans, window 1 nothing, window 2 one point.
    let mask: Vec<f32> = (0..3 * WINDOW)
        .map(|i| f32::from(u8::from((100..150).contains(&i) || (610..640).contains(&i) || i == 1283)))
        .collect();
    npy::write_f32(&home.path("x.npy"), &[3, WINDOW], &x).unwrap();
    npy::write_f32(&home.path("t.npy"), &[3, WINDOW], &t).unwrap();
    npy::write_f32(&home.path("m.npy"), &[3, WINDOW], &mask).unwrap();
    home.model(&model);
    let (loss, output, double) = grads(&home, &["--mask", "m.npy", "--double"]);
    let hidden: Vec<bool> = mask.iter().map(|m| *m == 1.0).collect();
    let library = model.reconstruct(&x, &hidden).unwrap();
    let (mut sum, mut n) = (0.0, 0.0);
    for i in 0..3 * WINDOW {
        assert!((output[i] - f64::from(library[i])).abs() < 1e-4, "{i}");
        if hidden[i] {
            sum += (output[i] - f64::from(t[i])).powi(2);
            n += 1.0;
        }
    }
    assert_eq!(n, 81.0);
    assert!((loss - sum / n).abs() < 1e-12 * loss, "{loss} {}", sum / n);
    // f32 gives the same up to its rounding.
    home.ok(&[
        "grad",
        "--model",
        "model",
        "--input",
        "x.npy",
        "--target",
        "t.npy",
        "--mask",
        "m.npy",
        "--out",
        "f.safetensors",
    ]);
    let mut file = safetensors::read(home.path("f.safetensors")).unwrap();
    for t in model.tensors() {
        let single = file.get::<f32>(&format!("grad.{}", t.name), t.shape).unwrap();
        let reference = &double.iter().find(|g| g.0 == t.name).unwrap().1;
        let size = reference.iter().fold(0.0, |a: f64, g| a.max(g.abs()));
        for (s, d) in single.iter().zip(reference) {
            assert!((f64::from(*s) - d).abs() <= 1e-4 * size + 1e-9, "{} {s} {d}", t.name);
        }
    }
    directional(&home, &model, &["--mask", "m.npy", "--double"]);
}

#[test]
fn grad_of_a_classifier_is_the_slope_of_its_loss() {
    let home = Home::new();
    let model = classifier();
    let labels = [1.0, 0.0, 1.0];
    npy::write_f32(&home.path("x.npy"), &[3, WINDOW], &noise(3 * WINDOW, 5)).unwrap();
    npy::write_f32(&home.path("t.npy"), &[3], &labels.map(|l| l as f32)).unwrap();
    home.model(&model);
    let (loss, logits, _) = grads(&home, &["--pos-weight", "2.5", "--double"]);
    let expected: f64 = logits
        .iter()
        .zip(labels)
        .map(|(z, y)| if y == 1.0 { 2.5 * (-z).exp().ln_1p() } else { z.exp().ln_1p() })
        .sum();
    assert!((loss - expected / 3.0).abs() < 1e-12, "{loss} {}", expected / 3.0);
    directional(&home, &model, &["--pos-weight", "2.5", "--double"]);
}

#[test]
fn grad_refuses_what_makes_no_sense() {
    let home = Home::new();
    let write = |name: &str, n: usize, value: f32| {
        npy::write_f32(&home.path(name), &[n, WINDOW], &vec![value; n * WINDOW]).unwrap();
    };
    write("x.npy", 2, 0.5);
    write("three.npy", 3, 1.0);
    write("zero.npy", 2, 0.0);
    write("half.npy", 2, 0.5);
    npy::write_f32(&home.path("labels.npy"), &[2], &[1.0, 2.0]).unwrap();
    home.model(&pretrained());
    let grad = |t: &'static str| {
        ["grad", "--model", "model", "--input", "x.npy", "--target", t, "--out", "g"].to_vec()
    };
    assert!(home.fails(2, &grad("x.npy")).contains("needs a mask"));
    for (t, m, code, message) in [
        ("x.npy", "zero.npy", 5, "hides no point"),
        ("x.npy", "half.npy", 5, "value 0 is 0.5, not 0 or 1"),
        ("three.npy", "x.npy", 3, "3 windows here, 2 in the input"),
        ("labels.npy", "x.npy", 3, "targets of shape [2]"),
    ] {
        let text = home.fails(code, &[grad(t), vec!["--mask", m]].concat());
        assert!(text.contains(message), "{text}");
    }
    home.model(&classifier());
    assert!(home.fails(5, &grad("labels.npy")).contains("label 1 is 2"));
    assert!(home.fails(3, &grad("x.npy")).contains("labels of shape [2, 640]"));
    assert!(home.fails(2, &[grad("labels.npy"), vec!["--mask", "x.npy"]].concat()).contains("no mask"));
    assert!(!home.path("g").exists());
}

#[test]
fn inspect_tells_models_checkpoints_stores_recordings_and_programs() {
    let home = Home::new();
    let model = classifier();
    home.model(&model);
    let json = home.json(&["inspect", "model"]);
    assert_eq!((json["kind"].as_str(), json["task"].as_str()), (Some("model"), Some("classifier")));
    assert_eq!(json["parameters"].as_u64(), Some(model.parameters() as u64));
    assert_eq!(json["tensors"].as_array().unwrap().len(), model.tensors().count());
    let text = home.ok(&["inspect", "model"]);
    assert!(
        text.contains("head.1.weight") && text.contains("[1, 6]") && text.contains("640 samples, 40 tokens"),
        "{text}"
    );
    let json = home.json(&["inspect", "model/model.safetensors"]);
    assert_eq!(json["kind"], "checkpoint");
    assert_eq!(json["values"].as_u64(), Some(model.parameters() as u64));

    home.recording("a.npy");
    let items = file_items(&[home.path("a.npy")], "set");
    let settings =
        PrepareSettings { unit: Some(Unit::Millivolt), fs_hz: Some(FS_HZ), ..PrepareSettings::default() };
    prepare(&items, &settings, &home.path("store"), &mut |_| true).unwrap();
    let json = home.json(&["inspect", "store"]);
    let windows = Store::open(&home.path("store")).unwrap().index().len();
    assert_eq!(json["windows"].as_u64(), Some(windows as u64));
    assert_eq!(json["datasets"][0]["subjects"], 1);
    assert!((json["hours"].as_f64().unwrap() - windows as f64 * 10.0 / 3600.0).abs() < 1e-12);
    assert_eq!(json["counts"]["windows_dropped"]["flat line"], 1);
    assert_eq!(json["counts"]["samples_missing"], 128);

    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/mitbih208.hea");
    let json = home.json(&["inspect", shipped.to_str().unwrap()]);
    assert_eq!(json["kind"], "recording");
    assert_eq!(json["channels"][0]["fs_hz"].as_f64(), Some(360.0));
    assert_eq!(json["channels"][0]["unit"], "mV");
    assert_eq!(json["ecg"], json["channels"][0]["label"]);

    // 2.41 million parameters before the head, as the preset's documentation says, and a head of one value per sample.
    let json = home.json(&["inspect", "--preset", "paper", "--program", "reconstruct"]);
    assert_eq!(json["parameters"].as_u64().unwrap() / 10_000, 241);
    assert!(json["arena_bytes"].as_u64().unwrap() > 1280 * 256 * 4);
    assert_eq!(json["backward_flop"], 0);
    let one = home.json(&["inspect", "--preset", "tiny", "--program", "finetune"]);
    let four = home.json(&["inspect", "--preset", "tiny", "--program", "finetune", "--batch", "4"]);
    assert!(one["backward_flop"].as_u64().unwrap() > one["forward_flop"].as_u64().unwrap());
    assert!(four["forward_flop"].as_u64().unwrap() > 3 * one["forward_flop"].as_u64().unwrap());
    assert!(home.ok(&["inspect", "--preset", "tiny"]).contains("MFLOP backward"));

    assert!(home.fails(2, &["inspect", "--preset", "huge"]).contains("paper, small, tiny"));
    assert!(home.fails(2, &["inspect", "store", "--program", "embed"]).contains("only a model"));
    fs::create_dir(home.path("empty")).unwrap();
    assert!(home.fails(5, &["inspect", "empty"]).contains("config.json"));
    home.fails(6, &["inspect", "nothing.csv"]);
}
