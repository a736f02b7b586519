//! Products with bf16 operands: how far a program's values and gradients move, that they do move, and that training goes
//! the way it goes in f32.

mod common;

use common::{
    Encoder, Given, Outcome, Sizes, bits, distance, people_of_two_classes, run_in, transformer, uniform,
};
use heartlore::Model;
use heartlore::data::batch::Sampling;
use heartlore::data::source::MemoryWindows;
use heartlore::error::Kind;
use heartlore::graph::{AttentionSpec, Graph, Id, Layout, MatmulPrecision};
use heartlore::kernels::Isa;
use heartlore::kernels::activation::Activation;
use heartlore::model::Task;
use heartlore::nn::{self, MaskConfig, ModelConfig};
use heartlore::optim::Schedule;
use heartlore::train::{
    AdamSettings, Augment, Control, Event, FinetuneSettings, NoopObserver, Observer, PretrainData,
    PretrainSettings, Run, Weights, classify, finetune, pretrain,
};
use std::path::Path;

const BOTH: [MatmulPrecision; 2] = [MatmulPrecision::F32, MatmulPrecision::Bf16];

/// Convolution, two encoder layers, a head on one row: products of every kind, many rows and few. GELU has no corner at
/// which a small change could turn a gradient over.
fn program() -> (Graph, Id, Given) {
    let encoder =
        Encoder { width: 32, heads: 4, hidden: 64, act: Activation::Gelu, norm_first: false, dropout: 0.1 };
    let m = transformer(Sizes { batch: 3, length: 90, channels: 2, classes: 4, layers: 2, encoder });
    let mut given = Given::random(&m.graph, m.loss, 11);
    given.dropout = Some((1, 2, 0));
    // Weights as training starts with, not numbers of unit size, which would blow every error up.
    let start: Vec<f64> = m.graph.layout().init(4);
    for p in m.graph.layout().entries() {
        given.tensors.insert(p.name.clone(), start[p.range()].to_vec());
    }
    (m.graph, m.loss, given)
}

#[test]
fn values_and_gradients_stay_near_those_of_f32_and_are_not_the_same() {
    let (g, loss, given) = program();
    for isa in Isa::available() {
        for isa in [false, true].into_iter().filter_map(|dot| isa.with_bf16_dot(dot)) {
            let [f32, bf16]: [Outcome<f32>; 2] = BOTH.map(|p| run_in(&g, loss, &given, isa, p));
            let moved = distance(&bf16.value, &f32.value);
            assert!(moved > 1e-6 && moved < 0.01, "{isa}: the loss by {moved:e}");
            let mut worst = (0.0, "");
            for (name, gradient) in &f32.gradients {
                let moved = distance(&bf16.gradients[name], gradient);
                assert!(moved > 1e-6, "{isa}: d.{name} is that of f32");
                if moved > worst.0 {
                    worst = (moved, name);
                }
            }
            println!("{isa}, dot {}: loss {moved:.1e}, worst gradient {worst:?}", isa.bf16_dot().is_some());
            assert!(worst.0 < GRADIENT_BOUND, "{isa}: {worst:?}");
        }
    }
}

/// Relative, as a vector, of any one parameter or input.
const GRADIENT_BOUND: f64 = 0.02;

#[test]
fn instruction_sets_agree_to_the_rounding_of_sums() {
    let (g, loss, given) = program();
    let portable: Outcome<f32> = run_in(&g, loss, &given, Isa::PORTABLE, MatmulPrecision::Bf16);
    for isa in Isa::available() {
        for isa in [false, true].into_iter().filter_map(|dot| isa.with_bf16_dot(dot)) {
            let other: Outcome<f32> = run_in(&g, loss, &given, isa, MatmulPrecision::Bf16);
            let moved = portable.gradients.iter().map(|(name, g)| distance(&other.gradients[name], g));
            let worst = moved.fold(distance(&other.value, &portable.value), f64::max);
            println!("{isa}, dot {}: at most {worst:.1e}", isa.bf16_dot().is_some());
            // A sum that differs in its last bits may round to the next bf16; a few of thousands do.
            assert!(worst < 1e-3, "{isa}: {worst:e}");
        }
    }
}

#[test]
fn attention_takes_the_precision_and_absorbed_attention_does_not() {
    let spec = AttentionSpec { heads: 2, head_dim: 12, dropout: 0.0 };
    let (tq, tk) = (9, 21);
    let mut plain = Graph::new();
    let [q, k, v] = [("q", tq), ("k", tk), ("v", tk)].map(|(name, t)| plain.input(name, [2, t, 24]).unwrap());
    let y = plain.attention(q, k, v, None, spec).unwrap();
    let mut absorbed = Graph::new();
    let [q, x] =
        [("q", [2, tq, 24]), ("x", [2, tk, 16])].map(|(name, shape)| absorbed.input(name, shape).unwrap());
    let w = absorbed.input("w", [48, 16]).unwrap();
    let z = absorbed.absorbed_attention(q, x, w, None, 0, None, spec).unwrap();
    for (g, root) in [(&plain, y), (&absorbed, z)] {
        let given = Given::random(g, root, 5);
        let op = &g.node(root).op;
        let (kind, rounds) = (op.kind(), op.rounds_to(MatmulPrecision::Bf16));
        for isa in Isa::available() {
            let [f32, bf16]: [Outcome<f32>; 2] = BOTH.map(|p| run_in(g, root, &given, isa, p));
            let differ = |a: &[f32], b: &[f32]| bits(a) != bits(b);
            assert_eq!(differ(&f32.value, &bf16.value), rounds, "{isa} {kind:?}");
            for (name, gradient) in &f32.gradients {
                assert_eq!(differ(gradient, &bf16.gradients[name]), rounds, "{isa} {kind:?} d.{name}");
            }
        }
    }
}

#[test]
fn f64_is_not_rounded() {
    let (g, loss, given) = program();
    let [plain, asked]: [Outcome<f64>; 2] = BOTH.map(|p| run_in(&g, loss, &given, Isa::best(), p));
    assert_eq!(bits(&plain.value), bits(&asked.value));
    for (name, gradient) in &plain.gradients {
        assert_eq!(bits(gradient), bits(&asked.gradients[name]), "{name}");
    }
    // And f32 is what it is without a word about precision.
    let said: Outcome<f32> = run_in(&g, loss, &given, Isa::best(), MatmulPrecision::F32);
    assert_eq!(bits(&said.value), bits(&common::run::<f32>(&g, loss, &given, Isa::best()).value));
}

fn model() -> ModelConfig {
    ModelConfig {
        window: 128,
        channels: vec![8, 16],
        kernels: vec![7, 3],
        strides: vec![2, 1],
        layers: 2,
        heads: 2,
        hidden: 32,
        mask: MaskConfig { probability: 0.05, span: 8 },
        ..ModelConfig::tiny()
    }
}

fn run(precision: MatmulPrecision, threads: usize) -> Run {
    Run {
        seed: 3,
        threads,
        shards: 4,
        group: 2,
        batch: 8,
        epochs: 12,
        schedule: Schedule::Constant { rate: 3e-3 },
        adam: AdamSettings::default(),
        clip_norm: Some(1.0),
        precision,
        checkpoint_every: 0,
        isa: None,
    }
}

/// Pre-trains on waves of many rates; the losses of its steps and the weights.
fn train(
    dir: &Path,
    precision: MatmulPrecision,
    threads: usize,
    resume: bool,
    stop_at: Option<u64>,
) -> heartlore::Result<(Vec<f64>, Weights)> {
    let waves = (0..40 * 128).map(|i| {
        let (w, t) = ((i / 128) as f32, (i % 128) as f32);
        (t * (0.2 + 0.01 * w) + w).sin()
    });
    let source = MemoryWindows::new(waves.collect(), 128)?;
    let settings =
        PretrainSettings { model: model(), run: run(precision, threads), augment: Augment::default() };
    let data = PretrainData {
        source: &source,
        train: (0..40).collect(),
        sampling: Sampling::All,
        validation: Vec::new(),
        fingerprint: "waves".into(),
    };
    let mut losses = Vec::new();
    let mut watch = |e: &Event| match e {
        Event::Step { loss, step, .. } => {
            losses.push(*loss);
            if Some(*step) == stop_at { Control::Stop } else { Control::Continue }
        }
        _ => Control::Continue,
    };
    let observer: &mut dyn Observer = &mut watch;
    let summary = pretrain(&settings, &data, dir, resume, observer)?;
    Ok((losses, summary.weights))
}

fn weight_bits(w: &Weights) -> Vec<u32> {
    w.values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn training_goes_the_way_it_goes_in_f32() {
    let dir = tempfile::tempdir().unwrap();
    let [f32, bf16] = BOTH.map(|p| train(&dir.path().join(format!("{p:?}")), p, 2, false, None).unwrap());
    assert_eq!(f32.0.len(), 60);
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&f32.0[..5]), mean(&f32.0[55..]));
    assert!(last < 0.8 * first, "nothing is learnt: {first} {last}");
    for (step, (a, b)) in f32.0.iter().zip(&bf16.0).enumerate() {
        assert!((a - b).abs() < LOSS_BOUND * a, "step {step}: {a} in f32, {b} in bf16");
    }
    let apart = f32.0.iter().zip(&bf16.0).map(|(a, b)| (a - b).abs() / a);
    println!("losses {first:.4} to {last:.4}, at most {:.1e} apart", apart.fold(0.0, f64::max));
    assert_ne!(f32.0[0].to_bits(), bf16.0[0].to_bits(), "bf16 is f32");
    assert_ne!(weight_bits(&f32.1), weight_bits(&bf16.1), "bf16 is f32");
}

/// Relative, at every one of 60 steps.
const LOSS_BOUND: f64 = 0.01;

#[test]
fn neither_threads_nor_interruptions_change_a_bit() {
    let dir = tempfile::tempdir().unwrap();
    let one = train(&dir.path().join("1"), MatmulPrecision::Bf16, 1, false, None).unwrap();
    let three = train(&dir.path().join("3"), MatmulPrecision::Bf16, 3, false, None).unwrap();
    assert!(one.0 == three.0 && weight_bits(&one.1) == weight_bits(&three.1));
    let stopped = dir.path().join("stopped");
    let error = train(&stopped, MatmulPrecision::Bf16, 2, false, Some(23)).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
    // It does not go on in another precision.
    let error = train(&stopped, MatmulPrecision::F32, 2, true, None).unwrap_err().to_string();
    assert!(error.contains("run.precision: the run was started with Bf16, now it is F32"), "{error}");
    let (_, rest) = train(&stopped, MatmulPrecision::Bf16, 2, true, None).unwrap();
    assert!(weight_bits(&one.1) == weight_bits(&rest), "stopped after step 23");
}

#[test]
fn fine_tuning_and_its_test_windows_take_the_precision() {
    let dir = tempfile::tempdir().unwrap();
    // Slow and fast waves of ten people: the rate is the label.
    let waves = (0..40 * 128).map(|i| {
        let (w, t) = (i / 128, (i % 128) as f32);
        (t * if w % 2 == 0 { 0.3 } else { 0.5 } + w as f32).sin()
    });
    let source = MemoryWindows::new(waves.collect(), 128).unwrap();
    let data = people_of_two_classes(&source);
    let fine_tuned = |precision| {
        let settings = FinetuneSettings {
            model: model(),
            run: Run { epochs: 3, ..run(precision, 2) },
            augment: Augment::default(),
            balance: true,
            patience: None,
            encoder_rate: 1.0,
            final_model: false,
            test_precision: None,
        };
        let initial = |layout: &Layout| Ok((layout.init(3), Vec::new()));
        let out = dir.path().join(format!("{precision:?}"));
        let summary = finetune(&settings, &data, &initial, &out, false, &mut NoopObserver).unwrap();
        let probabilities: Vec<f64> = summary.predictions.iter().map(|p| p.probability).collect();
        (summary.folds, probabilities)
    };
    let [f32, bf16] = BOTH.map(fine_tuned);
    for (a, b) in f32.0.iter().zip(&bf16.0) {
        let losses = [(a.train_loss, b.train_loss), (a.validation_loss.unwrap(), b.validation_loss.unwrap())];
        for (a, b) in losses {
            assert!(a != b && (a - b).abs() < 0.05 * a, "loss {a} in f32, {b} in bf16");
        }
    }
    for (a, b) in f32.1.iter().zip(&bf16.1) {
        assert!(a != b && (a - b).abs() < 0.05, "probability {a} in f32, {b} in bf16");
    }

    // What the test windows get is the setting's doing too, not the weights' alone.
    let program = nn::classify(&model(), 1, 1.0).unwrap();
    let layout = program.graph.layout().clone();
    let weights = Weights { values: layout.init(3), layout };
    let of = |precision| classify(&model(), &weights, &source, &[0, 1, 2], &run(precision, 1)).unwrap();
    let [f32, bf16] = BOTH.map(of);
    assert!(f32.iter().zip(&bf16).all(|(a, b)| a != b && (a - b).abs() < 0.01), "{f32:?} {bf16:?}");
}

#[test]
fn a_model_predicts_in_either_precision() {
    let task = Task::Classifier { positive: "high".into(), negative: "low".into(), threshold: 0.5 };
    let fresh = || Model::init(model(), task.clone(), 5).unwrap();
    let windows: Vec<f32> = uniform(7 * 128, 9).into_iter().map(|x| x as f32).collect();
    let f32 = fresh().with_threads(1).logits(&windows).unwrap();
    let mut model = fresh().with_threads(1).with_precision(MatmulPrecision::Bf16);
    let bf16 = model.logits(&windows).unwrap();
    for (i, (a, b)) in f32.iter().zip(&bf16).enumerate() {
        assert!(a != b && (a - b).abs() < 0.02, "window {i}: {a} {b}");
    }
    // Window by window and on several threads the same bits.
    for (i, window) in windows.chunks(128).enumerate() {
        assert_eq!(model.logits(window).unwrap(), bf16[i..=i]);
    }
    model = model.with_threads(2);
    assert_eq!(model.logits(&windows).unwrap(), bf16);
    assert_eq!(model.logits(&windows[..3 * 128]).unwrap(), bf16[..3]);
    // Sessions of the other precision are not taken up again.
    model = model.with_precision(MatmulPrecision::F32);
    assert_eq!(model.logits(&windows).unwrap(), f32);
    // The parameters stay as they are.
    let (a, b) = (fresh(), fresh().with_precision(MatmulPrecision::Bf16));
    assert!(a.tensors().zip(b.tensors()).all(|(a, b)| a == b));
}
