//! What the model's directory and its numbers promise, seen from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heartlore::checkpoint::json::Value;
use heartlore::checkpoint::{TensorView, safetensors};
use heartlore::data::content::Sketch;
use heartlore::error::Kind;
use heartlore::graph::{Exec, OutputRequest, Plan};
use heartlore::model::provenance::{Naming, SeenRecording};
use heartlore::model::{
    BandPass, CONFIG, Card, Output, PREPROCESSOR, PROVENANCE, Preprocessing, Provenance, QualityGate, README,
    Task, WEIGHTS,
};
use heartlore::nn::{self, Activation, EncoderNorm, MaskConfig, ModelConfig, NormOrder, Pooling, Positions};
use heartlore::signal::{Normalisation, QualitySettings, Rng};
use heartlore::{Error, Model};

fn small() -> ModelConfig {
    ModelConfig {
        window: 64,
        channels: vec![4, 8],
        kernels: vec![5, 3],
        strides: vec![2, 2],
        layers: 2,
        heads: 2,
        hidden: 16,
        head_hidden: vec![6],
        mask: MaskConfig { probability: 0.05, span: 8 },
        ..ModelConfig::tiny()
    }
}

fn classifier() -> Task {
    Task::Classifier { positive: "aroused".into(), negative: "calm".into(), threshold: 0.4 }
}

fn preprocessing() -> Preprocessing {
    Preprocessing {
        rate_hz: 100.5,
        window: 64,
        hop: 32,
        filter: Some(BandPass { order: 3, low_hz: 0.1, high_hz: 40.25, zero_phase: false }),
        normalisation: Normalisation::Recording,
        unit: "z-score".into(),
        quality_gate: QualityGate::On(QualitySettings {
            min_beats: 3,
            max_flat_share: 0.1 + 0.2,
            ..Default::default()
        }),
    }
}

fn windows(n: usize, samples: usize, seed: u64) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..n * samples).map(|_| rng.normal() as f32).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn saved(model: &Model) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("model");
    model.save(&dir).unwrap();
    (home, dir)
}

fn load_error(dir: &Path) -> Error {
    Model::load(dir).expect_err("must not load")
}

/// The text of `config.json` with one replacement.
fn edit(dir: &Path, file: &str, from: &str, to: &str) {
    let path = dir.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
}

fn provenance() -> Provenance {
    let samples: Vec<f64> = (0..4000).map(|i| f64::from(i * i % 997)).collect();
    let recording = SeenRecording {
        dataset: "set".into(),
        subject: "a".into(),
        record: "r".into(),
        naming: Naming::Table,
        labelled: true,
        files: vec!["00ff".into()],
        samples: None,
        sketch: Sketch::of(&samples, 128.0),
    };
    Provenance {
        recordings: vec![
            recording.clone(),
            SeenRecording { subject: "b".into(), samples: Some("12".into()), ..recording },
        ],
        complete: true,
        labelled_people: Some([("set".to_string(), ["a".to_string()].into())].into()),
        labelled_complete: false,
    }
}

#[test]
fn everything_comes_back_to_the_bit() {
    let card = Card {
        training_data: vec!["a | b".into(), "\"quoted\" \\ \u{e9}\n".into()],
        simulated: true,
        metrics: vec![("AUC".into(), "0.7 | [0.6, 0.8]".into())],
        notes: vec!["note".into()],
        licence: Some("CC-BY-4.0".into()),
        people: Some(
            [("set".to_string(), ["a", "b \"c\""].map(String::from).into()), ("empty".into(), [].into())]
                .into(),
        ),
        provenance: provenance(),
    };
    for task in [Task::Pretrained, classifier()] {
        let model = Model::init(small(), task, 3)
            .unwrap()
            .with_preprocessing(preprocessing())
            .with_card(card.clone());
        let (_home, dir) = saved(&model);
        let again = Model::load(&dir).unwrap();
        assert_eq!(again.config(), model.config());
        assert_eq!(again.task(), model.task());
        assert_eq!(again.preprocessing, model.preprocessing);
        assert_eq!(again.card, model.card);
        assert!(model.parameters() > 1000);
        for (a, b) in model.tensors().zip(again.tensors()) {
            assert_eq!((a.name, a.shape, bits(a.values)), (b.name, b.shape, bits(b.values)));
        }
        // Saving what was loaded writes the same files.
        let (_home2, dir2) = saved(&again);
        for name in [CONFIG, WEIGHTS, PREPROCESSOR, PROVENANCE, README] {
            assert_eq!(fs::read(dir.join(name)).unwrap(), fs::read(dir2.join(name)).unwrap(), "{name}");
        }
    }
}

/// Every setting away from its default, every choice once: a key that is written and not read, or read into another
/// field, shows here.
#[test]
fn every_setting_comes_back() {
    let odd = ModelConfig {
        window: 60,
        channels: vec![6, 10],
        kernels: vec![7, 3],
        strides: vec![3, 1],
        encoder_norm: EncoderNorm::Every,
        layers: 1,
        heads: 5,
        hidden: 11,
        activation: Activation::Gelu,
        norm_order: NormOrder::Pre,
        positions: Positions::Learned,
        embed_norm: false,
        cls: false,
        pooling: Pooling::Max,
        dropout: 0.25,
        attention_dropout: 0.125,
        norm_eps: 1e-6,
        head_hidden: vec![],
        head_dropout: 0.0625,
        mask: MaskConfig { probability: 0.1, span: 3 },
    };
    let mut all = vec![odd.clone(), ModelConfig::paper(), ModelConfig::small(), ModelConfig::tiny()];
    for activation in Activation::ALL {
        all.push(ModelConfig { activation, ..odd.clone() });
    }
    for encoder_norm in [EncoderNorm::None, EncoderNorm::First] {
        all.push(ModelConfig { encoder_norm, ..odd.clone() });
    }
    for positions in [Positions::Sinusoidal, Positions::None] {
        all.push(ModelConfig { positions, ..odd.clone() });
    }
    for pooling in [Pooling::Cls, Pooling::Mean, Pooling::Last] {
        all.push(ModelConfig { pooling, cls: true, ..odd.clone() });
    }
    for config in all {
        let (_home, dir) = saved(&Model::init(config.clone(), Task::Pretrained, 0).unwrap());
        assert_eq!(*Model::load(&dir).unwrap().config(), config);
    }
}

#[test]
fn config_that_is_not_understood_is_refused() {
    let cases = [
        ("\"window\": 64", "\"window\": 64, \"widow\": 1", "model.widow: this key is not known"),
        ("\"window\": 64,", "", "model.window: this key is missing"),
        ("\"window\": 64", "\"window\": \"64\"", "model.window: a non-negative integer"),
        ("\"window\": 64", "\"window\": -64", "model.window"),
        ("\"heads\": 2", "\"heads\": 3", "heads do not divide"),
        ("\"kind\": \"classifier\"", "\"kind\": \"regressor\"", "task.kind: 'regressor' is none of"),
        ("\"threshold\": 0.4", "\"threshold\": 1.4", "threshold of 1.4"),
        ("\"format_version\": 1", "\"format_version\": 2", "format_version"),
        ("\"model_type\": \"heartlore\"", "\"model_type\": \"bert\"", "model_type: 'bert'"),
        ("\"layers\": 2", "\"layers\": 4000000000", "4000000000 layers"),
        ("\"window\": 64", "\"window\": 64, \"window\": 64", "duplicate key"),
        ("{", "", "byte"),
    ];
    let model = Model::init(small(), classifier(), 3).unwrap();
    for (from, to, message) in cases {
        let (_home, dir) = saved(&model);
        edit(&dir, CONFIG, from, to);
        let text = load_error(&dir).to_string();
        assert!(
            text.contains(message) && text.contains(if from.contains("layers") { WEIGHTS } else { CONFIG }),
            "{text}"
        );
    }
}

#[test]
fn preprocessing_that_is_not_understood_is_refused() {
    let model = Model::init(small(), classifier(), 3).unwrap().with_preprocessing(preprocessing());
    for (from, to, message) in [
        ("\"window\": 64", "\"window\": 128", "windows of 128 samples, but the model takes 64"),
        ("\"hop\"", "\"hops\"", "hop: this key is missing"),
        (
            "\"recording\"",
            "\"person\"",
            "normalisation: 'person' is none of none, window, recording, subject",
        ),
        ("\"order\": 3", "\"order\": 3.5", "filter.order"),
    ] {
        let (_home, dir) = saved(&model);
        edit(&dir, PREPROCESSOR, from, to);
        let text = load_error(&dir).to_string();
        assert!(text.contains(message) && text.contains(PREPROCESSOR), "{text}");
    }
}

#[test]
fn weights_of_another_model_are_named() {
    let (_home, dir) = saved(&Model::init(small(), classifier(), 3).unwrap());
    let wider = ModelConfig { hidden: 20, layers: 3, ..small() };
    let (_home2, other) = saved(&Model::init(wider, Task::Pretrained, 3).unwrap());
    fs::copy(other.join(WEIGHTS), dir.join(WEIGHTS)).unwrap();
    let e = load_error(&dir);
    let text = e.to_string();
    assert_eq!(e.kind(), Kind::Shape);
    for part in [
        WEIGHTS,
        "missing head.0.weight [6, 8]",
        "unexpected transformer.layers.2.linear1.bias [20]",
        "4 missing, 14 unexpected, 6 of another shape",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    // Only other shapes: which, and how.
    let (_home3, other) =
        saved(&Model::init(ModelConfig { hidden: 20, ..small() }, classifier(), 3).unwrap());
    fs::copy(other.join(WEIGHTS), dir.join(WEIGHTS)).unwrap();
    let text = load_error(&dir).to_string();
    assert!(
        text.contains("transformer.layers.0.linear2.weight is [8, 20] in the file, [8, 16] in the model"),
        "{text}"
    );
}

#[test]
fn missing_and_damaged_files() {
    let model = Model::init(small(), classifier(), 3).unwrap().with_preprocessing(preprocessing());
    for name in [CONFIG, WEIGHTS] {
        let (_home, dir) = saved(&model);
        fs::remove_file(dir.join(name)).unwrap();
        let e = load_error(&dir);
        assert!(e.kind() == Kind::Io && e.to_string().contains(name), "{e}");
    }
    // Cut at every length: never a panic, never a model.
    let (_home, dir) = saved(&model);
    for name in [CONFIG, PREPROCESSOR, WEIGHTS] {
        let whole = fs::read(dir.join(name)).unwrap();
        let step = (whole.len() / 97).max(1);
        for len in (0..whole.len() - 1).step_by(step) {
            fs::write(dir.join(name), &whole[..len]).unwrap();
            let e = load_error(&dir);
            assert!(matches!(e.kind(), Kind::Format | Kind::Shape), "{name} cut to {len}: {e}");
            assert!(e.file().is_some_and(|f| f.ends_with(name)), "{name} cut to {len}: {e}");
        }
        fs::write(dir.join(name), &whole).unwrap();
    }
    Model::load(&dir).unwrap();
    assert!(load_error(&dir.join("nowhere")).to_string().contains("no model here"));
    assert!(load_error(dir.parent().unwrap()).to_string().contains(&format!("give {}", dir.display())));
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    let model = Model::init(small(), Task::Pretrained, 3).unwrap();
    let mut tensors: Vec<_> =
        model.tensors().map(|t| (t.name.to_string(), t.shape.to_vec(), t.values.to_vec())).collect();
    tensors.reverse();
    let again = Model::new(small(), Task::Pretrained, tensors.clone()).unwrap();
    assert!(model.tensors().zip(again.tensors()).all(|(a, b)| a == b));
    let place = tensors.iter().position(|t| t.0 == "cls").unwrap();
    tensors[place].2[5] = f32::NAN;
    let e = Model::new(small(), Task::Pretrained, tensors.clone()).unwrap_err();
    assert!(e.kind() == Kind::Numeric && e.to_string().contains("tensor cls: value 5 is NaN"), "{e}");
    tensors[place].2.pop();
    assert!(
        Model::new(small(), Task::Pretrained, tensors.clone())
            .unwrap_err()
            .to_string()
            .contains("cls has 7 values")
    );
    tensors.push(tensors[0].clone());
    assert!(Model::new(small(), Task::Pretrained, tensors).unwrap_err().to_string().contains("given twice"));
}

/// The model's numbers are those of the recorded program, run here by hand with several windows at a time.
#[test]
fn predictions_are_those_of_the_program() {
    let (n, c) = (5, small());
    let model = Model::init(c.clone(), classifier(), 11).unwrap();
    let x = windows(n, c.window, 1);
    let run = |batch: usize| {
        let p = nn::classify(&c, batch, 2.0).unwrap();
        let plan = Plan::new(&p.graph, OutputRequest::values(&[p.logits])).unwrap();
        let weights = model.weights_for(p.graph.layout()).unwrap();
        let mut exec = Exec::<f32>::new(Arc::clone(&p.graph), Arc::new(plan));
        let mut logits = Vec::new();
        for group in x.chunks(batch * c.window) {
            exec.set_input(p.samples, group).unwrap();
            exec.forward(&weights);
            logits.extend_from_slice(exec.value(p.logits));
        }
        logits
    };
    let logits = model.logits(&x).unwrap();
    assert_eq!(bits(&logits), bits(&run(1)));
    for (a, b) in logits.iter().zip(run(n)) {
        assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{a} {b}");
    }
    for (p, l) in model.predict(&x).unwrap().iter().zip(&logits) {
        let expected = 1.0 / (1.0 + (-f64::from(*l)).exp());
        assert!((f64::from(*p) - expected).abs() < 1e-7);
    }
    // The windows differ, so the outputs must.
    assert!(logits.iter().any(|l| (l - logits[0]).abs() > 1e-4), "{logits:?}");
}

#[test]
fn neither_batch_nor_threads_change_a_bit() {
    let c = small();
    let (pretrained, classifier) = (
        Model::init(c.clone(), Task::Pretrained, 5).unwrap(),
        Model::init(c.clone(), classifier(), 5).unwrap(),
    );
    let n = 7;
    let x = windows(n, c.window, 2);
    let masks: Vec<bool> = x.iter().map(|v| *v > 0.5).collect();
    type Run<'a> = Box<dyn Fn(usize, &[f32], &[bool]) -> Vec<f32> + 'a>;
    let runs: [(usize, Run<'_>); 4] = [
        (1, Box::new(|t, x, _| classifier.clone().with_threads(t).predict(x).unwrap())),
        (c.width(), Box::new(|t, x, _| classifier.clone().with_threads(t).embed(x).unwrap())),
        (c.width(), Box::new(|t, x, _| pretrained.clone().with_threads(t).embed(x).unwrap())),
        (c.window, Box::new(|t, x, m| pretrained.clone().with_threads(t).reconstruct(x, m).unwrap())),
    ];
    for (width, run) in runs {
        let whole = run(1, &x, &masks);
        assert_eq!(whole.len(), n * width);
        for threads in [2, 5, 0, 100] {
            assert_eq!(bits(&whole), bits(&run(threads, &x, &masks)), "{threads} threads");
        }
        for batch in [1, 2, 3] {
            let size = batch * c.window;
            let parts: Vec<f32> =
                x.chunks(size).zip(masks.chunks(size)).flat_map(|(x, m)| run(1, x, m)).collect();
            assert_eq!(bits(&whole), bits(&parts), "batches of {batch}");
        }
        assert!(run(2, &[], &[]).is_empty());
    }
}

#[test]
fn warming_up_leaves_no_trace_in_the_numbers_and_refuses_what_a_run_would() {
    let c = small();
    let cold = Model::init(c.clone(), classifier(), 5).unwrap();
    let x = windows(3, c.window, 2);
    for threads in [1, 2] {
        let warm = cold.clone().with_threads(threads);
        warm.warm(Output::Logit).unwrap();
        warm.warm(Output::Features).unwrap();
        assert_eq!(bits(&warm.logits(&x).unwrap()), bits(&cold.logits(&x).unwrap()));
        assert_eq!(bits(&warm.embed(&x).unwrap()), bits(&cold.embed(&x).unwrap()));
    }
    let (now, later) =
        (cold.warm(Output::Reconstruction).unwrap_err(), cold.reconstruct(&x, &[]).unwrap_err());
    assert_eq!(now.to_string(), later.to_string());
}

#[test]
fn hidden_points_do_not_reach_the_reconstruction() {
    let c = small();
    let model = Model::init(c.clone(), Task::Pretrained, 5).unwrap();
    let x = windows(1, c.window, 4);
    let mask: Vec<bool> = (0..c.window).map(|i| (20..35).contains(&i)).collect();
    let mut other = x.clone();
    other.iter_mut().zip(&mask).filter(|(_, m)| **m).for_each(|(v, _)| *v += 10.0);
    let zeroed: Vec<f32> = x.iter().zip(&mask).map(|(v, m)| if *m { 0.0 } else { *v }).collect();
    let out = model.reconstruct(&x, &mask).unwrap();
    assert_eq!(bits(&out), bits(&model.reconstruct(&other, &mask).unwrap()));
    assert_eq!(bits(&out), bits(&model.reconstruct(&zeroed, &[]).unwrap()));
    assert_ne!(bits(&out), bits(&model.reconstruct(&x, &[]).unwrap()));
}

#[test]
fn wrong_questions_are_refused() {
    let c = small();
    let (pretrained, classifier) = (
        Model::init(c.clone(), Task::Pretrained, 5).unwrap(),
        Model::init(c.clone(), classifier(), 5).unwrap(),
    );
    let mut x = windows(3, c.window, 2);
    let e = pretrained.predict(&x).unwrap_err();
    assert!(e.kind() == Kind::Usage && e.to_string().contains("fine-tune it"), "{e}");
    let e = classifier.reconstruct(&x, &[]).unwrap_err();
    assert!(e.kind() == Kind::Usage && e.to_string().contains("pre-trained model"), "{e}");
    let e = classifier.predict(&x[1..]).unwrap_err();
    assert!(
        e.kind() == Kind::Shape && e.to_string().contains("191 samples are no whole windows of 64"),
        "{e}"
    );
    assert_eq!(pretrained.reconstruct(&x, &[true; 5]).unwrap_err().kind(), Kind::Shape);
    x[64 + 10] = f32::NAN;
    for threads in [1, 3] {
        let e = classifier.clone().with_threads(threads).predict(&x).unwrap_err();
        assert!(e.kind() == Kind::Data && e.to_string().contains("window 1: sample 10"), "{e}");
    }
    let mut session = classifier.session(Output::Features).unwrap();
    assert_eq!(session.width(), 8);
    assert_eq!(session.run(&x[..63]).unwrap_err().kind(), Kind::Shape);
}

#[test]
fn transfer_says_what_it_took() {
    let pretrained = Model::init(small(), Task::Pretrained, 5).unwrap();
    let layout = nn::classify(&small(), 2, 1.0).unwrap().graph.layout().clone();
    let (weights, report) = pretrained.transfer(&layout, 9).unwrap();
    assert_eq!(report.fresh, ["head.0.weight", "head.0.bias", "head.1.weight", "head.1.bias"]);
    assert_eq!(report.unused, ["reconstruct.weight", "reconstruct.bias"]);
    assert_eq!(report.taken.len() + report.fresh.len(), layout.entries().len());
    let fresh: Vec<f32> = layout.init(9);
    for entry in layout.entries() {
        let own = pretrained.tensors().find(|t| t.name == entry.name);
        let expected = own.map_or(&fresh[entry.range()], |t| t.values);
        assert_eq!(bits(&weights[entry.range()]), bits(expected), "{}", entry.name);
    }
    let deeper = nn::classify(&ModelConfig { hidden: 20, ..small() }, 2, 1.0).unwrap();
    let text = pretrained.transfer(deeper.graph.layout(), 9).unwrap_err().to_string();
    assert!(text.contains("linear1.weight is [16, 8] in the file, [20, 8] in the model"), "{text}");
    let text = pretrained.weights_for(&layout).unwrap_err().to_string();
    assert!(text.contains("missing head.0.weight"), "{text}");
    // A trainer's vector, in another order and with more in it than the task needs.
    let again = Model::from_weights(small(), classifier(), &layout, &weights).unwrap();
    assert_eq!(
        bits(again.tensors().find(|t| t.name == "cls").unwrap().values),
        bits(&weights[layout.find("cls").unwrap().range()])
    );
}

#[test]
fn saving_replaces_a_model_and_nothing_else() {
    let first = Model::init(small(), Task::Pretrained, 1).unwrap().with_preprocessing(preprocessing());
    let second = Model::init(small(), classifier(), 2).unwrap();
    let (home, dir) = saved(&first);
    second.save(&dir).unwrap();
    // The old model's preprocessing must not survive beside the new one's weights.
    assert_eq!(Model::load(&dir).unwrap().preprocessing, None);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "nothing may be left beside it");
    fs::write(dir.join("thesis.tex"), "years of work").unwrap();
    let e = first.save(&dir).unwrap_err();
    assert!(e.kind() == Kind::Usage && e.to_string().contains("thesis.tex"), "{e}");
    assert_eq!(*Model::load(&dir).unwrap().task(), classifier());
    // A save killed between two renames, where names cannot be swapped: the model before is put back by whoever reads it.
    fs::remove_file(dir.join("thesis.tex")).unwrap();
    fs::rename(&dir, home.path().join(".model.old")).unwrap();
    assert_eq!(*Model::load(&dir).unwrap().task(), classifier());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    fs::rename(&dir, home.path().join(".model.old")).unwrap();
    first.save(&dir).unwrap();
    assert_eq!(*Model::load(&dir).unwrap().task(), Task::Pretrained);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    let e = first.save(dir.join(CONFIG)).unwrap_err();
    assert_eq!(e.kind(), Kind::Usage);
}

#[test]
fn the_card_tells_what_must_be_known() {
    let model = Model::init(small(), classifier(), 1).unwrap().with_preprocessing(preprocessing());
    let (_home, dir) = saved(&model);
    let text = fs::read_to_string(dir.join(README)).unwrap();
    for part in
        ["Not a medical device", "aroused", "2204.05103", "0.1 to 40.25 Hz", "Not stated", "None recorded"]
    {
        assert!(text.contains(part), "{part} is not in the card");
    }
    assert!(!text.contains("simulated"));
    let card = Card { simulated: true, ..Card::default() };
    let (_home, dir) = saved(&model.with_card(card));
    assert!(fs::read_to_string(dir.join(README)).unwrap().contains("Trained on simulated ECG"));
}

/// The `safetensors` crate is what Python's package wraps.
#[test]
fn the_reference_implementation_reads_our_file() {
    let model = Model::init(small(), classifier(), 1).unwrap();
    let (_home, dir) = saved(&model);
    let bytes = fs::read(dir.join(WEIGHTS)).unwrap();
    let file = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), model.tensors().count());
    for t in model.tensors() {
        let view = file.tensor(t.name).unwrap();
        assert_eq!(view.shape(), t.shape);
        let values: Vec<f32> =
            view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(bits(&values), bits(t.values), "{}", t.name);
    }
}

/// `tests/oracles/model_python` was written by `tests/oracles/make_model_python.py` with Python's `safetensors`.
#[test]
fn weights_saved_in_python_load() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/model_python");
    let model = Model::load(dir).unwrap();
    // Value i of tensor number t (sorted by name) is sin(t + i / 7) / 4, in f32.
    let mut names: Vec<_> = model.tensors().collect();
    names.sort_by_key(|t| t.name);
    for (t, tensor) in names.iter().enumerate() {
        for (i, v) in tensor.values.iter().enumerate() {
            let expected = ((t as f64 + i as f64 / 7.0).sin() / 4.0) as f32;
            assert!((v - expected).abs() <= 1e-7, "{} {i}: {v} {expected}", tensor.name);
        }
    }
    assert_eq!(model.predict(&windows(2, model.config().window, 1)).unwrap().len(), 2);
}

/// Needs Python with `safetensors` and `numpy`: `HEARTLORE_PYTHON=python3 cargo test --test model -- --ignored`.
#[test]
#[ignore = "needs Python with safetensors and numpy"]
fn python_reads_our_file() {
    let model = Model::init(small(), classifier(), 1).unwrap();
    let (_home, dir) = saved(&model);
    let python = std::env::var("HEARTLORE_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = "import sys; from safetensors.numpy import load_file; t = load_file(sys.argv[1])\n\
                  for k in sorted(t): print(k, list(t[k].shape), t[k].astype('f8').sum().hex())";
    let out =
        std::process::Command::new(python).args(["-c", script]).arg(dir.join(WEIGHTS)).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(text.lines().count(), model.tensors().count());
    for t in model.tensors() {
        assert!(text.contains(&format!("{} {:?} ", t.name, t.shape)), "{} is not in {text}", t.name);
    }
}

/// Values far outside f32's fine range must not be changed by the way they are stored.
#[test]
fn other_float_types_are_read() {
    let model = Model::init(small(), Task::Pretrained, 1).unwrap();
    let (_home, dir) = saved(&model);
    let doubles: Vec<(String, Vec<usize>, Vec<f64>)> = model
        .tensors()
        .map(|t| (t.name.to_string(), t.shape.to_vec(), t.values.iter().map(|v| f64::from(*v)).collect()))
        .collect();
    let views: Vec<TensorView<'_>> = doubles.iter().map(|(n, s, v)| TensorView::new(n, s, v)).collect();
    safetensors::write(dir.join(WEIGHTS), &views, &Default::default()).unwrap();
    let again = Model::load(&dir).unwrap();
    assert!(model.tensors().zip(again.tensors()).all(|(a, b)| a == b));
    assert!(Value::parse(&fs::read(dir.join(CONFIG)).unwrap()).unwrap().get("card").is_some());
}
