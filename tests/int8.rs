//! Products of 8-bit integers in prediction: how far a model's outputs move, that they do move, on any CPU and any number of
//! threads, and that training refuses them.

mod common;

use common::{distance, people_of_two_classes};
use heartlore::Model;
use heartlore::data::batch::Sampling;
use heartlore::data::source::MemoryWindows;
use heartlore::error::Kind;
use heartlore::graph::{Exec, Layout, MatmulPrecision, OutputRequest, Plan};
use heartlore::kernels::Isa;
use heartlore::model::Task;
use heartlore::nn::{self, MaskConfig, ModelConfig};
use heartlore::optim::Schedule;
use heartlore::train::{
    AdamSettings, Augment, FinetuneSettings, NoopObserver, PretrainData, PretrainSettings, Run, finetune,
    pretrain,
};
use std::sync::Arc;

const WINDOW: usize = 256;

fn model() -> ModelConfig {
    ModelConfig {
        window: WINDOW,
        channels: vec![8, 32],
        kernels: vec![7, 3],
        strides: vec![2, 1],
        layers: 2,
        heads: 2,
        hidden: 96,
        mask: MaskConfig { probability: 0.05, span: 8 },
        ..ModelConfig::tiny()
    }
}

fn run(precision: MatmulPrecision) -> Run {
    Run {
        seed: 3,
        threads: 1,
        shards: 4,
        group: 1,
        batch: 8,
        epochs: 2,
        schedule: Schedule::Constant { rate: 3e-3 },
        adam: AdamSettings::default(),
        clip_norm: Some(1.0),
        precision,
        checkpoint_every: 0,
        isa: None,
    }
}

/// Waves of many rates, one a window.
fn waves(n: usize) -> Vec<f32> {
    (0..n * WINDOW)
        .map(|i| {
            let (w, t) = ((i / WINDOW) as f32, (i % WINDOW) as f32);
            1.4 * (t * (0.1 + 0.03 * w) + w).sin()
        })
        .collect()
}

#[test]
fn a_model_predicts_in_int8_near_f32_and_alike_for_any_batch_and_number_of_threads() {
    let task = Task::Classifier { positive: "high".into(), negative: "low".into(), threshold: 0.5 };
    let model =
        |precision| Model::init(model(), task.clone(), 5).unwrap().with_threads(1).with_precision(precision);
    let windows = waves(7);
    let (f32, bf16) = (model(MatmulPrecision::F32), model(MatmulPrecision::Bf16));
    let int8 = model(MatmulPrecision::Int8);
    let features = [&f32, &bf16, &int8].map(|m| m.embed(&windows).unwrap());
    let (off, off16) = (distance(&features[2], &features[0]), distance(&features[2], &features[1]));
    println!("features: {off:.2e} from f32, {off16:.2e} from bf16");
    assert!(off > 1e-4 && off < 0.03, "{off}");
    assert!(off16 > 1e-4, "{off16}");
    let logits = int8.logits(&windows).unwrap();
    for (i, (a, b)) in f32.logits(&windows).unwrap().iter().zip(&logits).enumerate() {
        assert!(a != b && (a - b).abs() < 0.02, "window {i}: {a} {b}");
    }
    for (i, window) in windows.chunks(WINDOW).enumerate() {
        assert_eq!(int8.logits(window).unwrap(), logits[i..=i]);
    }
    assert_eq!(model(MatmulPrecision::Int8).with_threads(3).logits(&windows).unwrap(), logits);
    assert_eq!(model(MatmulPrecision::Int8).with_threads(3).logits(&windows[..WINDOW]).unwrap(), logits[..1]);
}

#[test]
fn every_body_computes_the_same_function() {
    let c = nn::reconstruct(&model(), 1).unwrap();
    let plan = Plan::new(&c.graph, OutputRequest::values(&[c.output])).unwrap();
    let plan = Arc::new(plan.with_precision(MatmulPrecision::Int8));
    let params: Vec<f32> = c.graph.layout().init(3);
    let windows = waves(1);
    let of = |isa: Isa| {
        let mut exec = Exec::<f32>::with_isa(Arc::clone(&c.graph), Arc::clone(&plan), isa);
        exec.set_input(c.samples, &windows).unwrap();
        exec.forward(&params);
        exec.value(c.output).to_vec()
    };
    let portable = of(Isa::PORTABLE);
    for isa in Isa::available() {
        for isa in [false, true].into_iter().filter_map(|dot| isa.with_int8_dot(dot)) {
            // A last bit that differs may round to the next integer or the next bf16.
            let apart = distance(&of(isa), &portable);
            println!("{isa}, dot {}: {apart:.1e}", isa.int8_dot().is_some());
            assert!(apart < 3e-3, "{isa}: {apart}");
        }
    }
}

#[test]
fn training_refuses_int8_and_test_windows_may_be_predicted_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let source = MemoryWindows::new(waves(40), WINDOW).unwrap();
    let data = PretrainData {
        source: &source,
        train: (0..40).collect(),
        sampling: Sampling::All,
        validation: Vec::new(),
        fingerprint: "waves".into(),
    };
    let settings =
        PretrainSettings { model: model(), run: run(MatmulPrecision::Int8), augment: Augment::default() };
    let error = pretrain(&settings, &data, &dir.path().join("p"), false, &mut NoopObserver).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.to_string().contains("int8 has no derivative"), "{error}");

    let data = people_of_two_classes(&source);
    let tuned = |name: &str, resume: bool, test_precision| {
        let settings = FinetuneSettings {
            model: model(),
            run: run(MatmulPrecision::F32),
            augment: Augment::default(),
            balance: true,
            patience: None,
            encoder_rate: 1.0,
            final_model: false,
            test_precision,
        };
        let initial = |layout: &Layout| Ok((layout.init(3), Vec::new()));
        finetune(&settings, &data, &initial, &dir.path().join(name), resume, &mut NoopObserver)
    };
    let (a, b) =
        (tuned("f32", false, None).unwrap(), tuned("int8", false, Some(MatmulPrecision::Int8)).unwrap());
    // The training is the same to the bit, the predictions are not.
    assert_eq!(a.folds, b.folds);
    for (a, b) in a.predictions.iter().zip(&b.predictions) {
        let (p, q) = (a.probability, b.probability);
        assert!(p != q && (p - q).abs() < 0.02, "{p} {q}");
    }
    // A finished fold keeps to the precision of its predictions; that of the training said aloud is the same setting.
    let error = tuned("int8", true, None).unwrap_err();
    assert!(
        error.to_string().contains("test_precision: the run was started with Int8, now it is F32"),
        "{error}"
    );
    let again = tuned("f32", true, Some(MatmulPrecision::F32)).unwrap();
    assert_eq!(again.predictions, a.predictions);
}
