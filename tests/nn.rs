//! What the model room promises: names, shapes, counts, gradients, that computing fewer rows changes nothing, the mask's
//! statistics, and that nonsense is refused. Parity with PyTorch: tests/nn_parity.rs.
#![allow(clippy::print_stdout)] // measured figures, seen with --nocapture

use heartlore::error::Kind;
use heartlore::graph::check::{self, Point, Settings};
use heartlore::graph::ops::AbsorbedAttention;
use heartlore::graph::{Exec, Graph, Id, OutputRequest, Plan};
use heartlore::nn::{
    self, Activation, EncoderNorm, Key, MaskConfig, ModelConfig, NormOrder, Pooling, Positions,
};
use heartlore::tensor::Init;
use std::sync::Arc;

/// A model small enough for difference quotients: 12 samples, 6 tokens, width 4.
fn mini() -> ModelConfig {
    ModelConfig {
        window: 12,
        channels: vec![3, 4],
        kernels: vec![3, 5],
        strides: vec![2, 1],
        hidden: 6,
        activation: Activation::Gelu,
        head_hidden: vec![5],
        mask: MaskConfig { probability: 0.2, span: 3 },
        ..ModelConfig::paper()
    }
}

/// As [`mini`] with three heads of width 4, for which one query absorbs the projection of keys and values.
fn wide() -> ModelConfig {
    ModelConfig { channels: vec![3, 12], heads: 3, ..mini() }
}

/// One configuration for every choice the model has.
fn configurations() -> Vec<(&'static str, ModelConfig)> {
    let pre = ModelConfig { norm_order: NormOrder::Pre, ..mini() };
    vec![
        ("as paper", mini()),
        ("pre-norm", pre.clone()),
        ("pre-norm, one layer", ModelConfig { layers: 1, ..pre.clone() }),
        ("learned positions", ModelConfig { positions: Positions::Learned, ..mini() }),
        ("no positions", ModelConfig { positions: Positions::None, ..mini() }),
        ("mean", ModelConfig { pooling: Pooling::Mean, ..mini() }),
        ("max", ModelConfig { pooling: Pooling::Max, ..mini() }),
        ("last", ModelConfig { pooling: Pooling::Last, ..mini() }),
        ("mean and deviation", ModelConfig { pooling: Pooling::MeanDeviation, ..mini() }),
        ("last, pre-norm, no CLS", ModelConfig { pooling: Pooling::Last, cls: false, ..pre.clone() }),
        ("no encoder norm", ModelConfig { encoder_norm: EncoderNorm::None, ..mini() }),
        ("norm after every convolution", ModelConfig { encoder_norm: EncoderNorm::Every, ..mini() }),
        ("no stride", ModelConfig { strides: vec![1, 1], ..mini() }),
        ("strides 2, 3", ModelConfig { strides: vec![2, 3], ..mini() }),
        ("no embedding norm, ReLU", ModelConfig { embed_norm: false, activation: Activation::Relu, ..pre }),
        (
            "one head, one layer, linear probe",
            ModelConfig { heads: 1, layers: 1, head_hidden: vec![], ..mini() },
        ),
        ("CLS, wide enough to absorb projections", wide()),
        (
            "last, pre-norm, wide enough to absorb projections",
            ModelConfig { pooling: Pooling::Last, norm_order: NormOrder::Pre, ..wide() },
        ),
    ]
}

/// Runs a program at a point: the kept values, and the parameter gradients if there is a loss.
fn run(graph: &Arc<Graph>, point: &Point, keep: &[Id], loss: Option<Id>) -> (Vec<Vec<f64>>, Vec<f64>) {
    let want =
        OutputRequest { keep: keep.to_vec(), root: loss, gradients: Vec::new(), params: loss.is_some() };
    let plan = Plan::new(graph, want).unwrap();
    let mut exec = Exec::<f64>::new(graph.clone(), Arc::new(plan));
    for (&id, v) in &point.inputs {
        if exec.plan().is_live(id) {
            exec.set_input(id, v).unwrap();
        }
    }
    for (&id, v) in &point.indices {
        exec.set_index(id, v).unwrap();
    }
    exec.forward(&point.params);
    let values = keep.iter().map(|&id| exec.value(id).to_vec()).collect();
    let mut grads = vec![0.0; point.params.len()];
    if loss.is_some() {
        exec.backward(&point.params, &[1.0], &mut grads);
    }
    (values, grads)
}

/// Random numbers, with masks and weights of 0 and 1 and targets of the classifier as classes.
fn point(graph: &Graph, seed: u64) -> Point {
    let mut point = Point::random(graph, seed);
    for (id, values) in &mut point.inputs {
        if ["mask", "weights", "targets"].contains(&graph.node(*id).label.as_str()) {
            values.iter_mut().for_each(|v| *v = f64::from(u8::from(*v > -0.4)));
        }
    }
    point
}

fn close(what: &str, a: &[f64], b: &[f64], tol: f64) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tol * (1.0 + b.abs()), "{what}[{i}]: {a} and {b}");
    }
}

#[test]
fn presets_have_the_stated_sizes() {
    let count = |c: &ModelConfig| nn::embed(c, 1).unwrap().graph.layout().len();
    let (paper, small, tiny) = (ModelConfig::paper(), ModelConfig::small(), ModelConfig::tiny());
    // Paper: convolutions and norm 832 128, CLS and its norm 768, two layers of 789 760.
    assert_eq!(count(&paper), 832_128 + 768 + 2 * 789_760);
    assert_eq!((count(&paper) as f64 / 1e4).round(), 241.0);
    assert_eq!(count(&small), 490_816);
    assert_eq!(count(&tiny), 82_400);
    assert_eq!((paper.tokens(), paper.rows(), paper.patch(), paper.receptive_field()), (1280, 1281, 1, 113));
    assert_eq!((small.tokens(), small.width(), small.patch(), small.receptive_field()), (160, 128, 8, 65));
    assert_eq!((tiny.tokens(), tiny.width(), tiny.patch(), tiny.receptive_field()), (80, 64, 16, 81));
    for name in nn::PRESETS {
        ModelConfig::preset(name).unwrap().validate().unwrap();
    }
    let error = ModelConfig::preset("huge").unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.to_string().contains("huge") && error.to_string().contains("paper, small, tiny"));
}

#[test]
fn programs_have_the_documented_shapes() {
    for (name, c) in configurations() {
        let p = nn::pretrain(&c, 3, 2).unwrap();
        let shape = |id| p.graph.shape(id).dims().to_vec();
        assert_eq!(shape(p.samples), [3, 12, 1], "{name}");
        assert_eq!(shape(p.rows), [3, 2], "{name}");
        for id in [p.target, p.mask, p.prediction] {
            assert_eq!(shape(id), [3, 2, c.patch()], "{name}");
        }
        assert!(shape(p.loss).is_empty());
        let p = nn::classify(&c, 3, 2.0).unwrap();
        let shape = |id| p.graph.shape(id).dims().to_vec();
        assert_eq!(shape(p.samples), [3, 12, 1], "{name}");
        for id in [p.targets, p.weights, p.logits] {
            assert_eq!(shape(id), [3], "{name}");
        }
        let p = nn::reconstruct(&c, 3).unwrap();
        assert_eq!(p.graph.shape(p.output).dims(), [3, 12], "{name}");
        let p = nn::embed(&c, 3).unwrap();
        assert_eq!(p.graph.shape(p.features).dims(), [3, c.features()], "{name}");
    }
}

#[test]
fn parameter_names_shapes_and_order_are_the_documented_ones() {
    let c = ModelConfig { norm_order: NormOrder::Pre, positions: Positions::Learned, layers: 1, ..mini() };
    let named = |g: &Graph| -> Vec<String> {
        g.layout().entries().iter().map(|e| format!("{} {}", e.name, e.shape)).collect()
    };
    let body = [
        "encoder.conv.0.weight [3, 1, 3]",
        "encoder.conv.0.bias [3]",
        "encoder.norm.0.weight [3]",
        "encoder.norm.0.bias [3]",
        "encoder.conv.1.weight [4, 3, 5]",
        "encoder.conv.1.bias [4]",
        "cls [4]",
        "positions [7, 4]",
        "embed_norm.weight [4]",
        "embed_norm.bias [4]",
        "transformer.layers.0.self_attn.in_proj_weight [12, 4]",
        "transformer.layers.0.self_attn.in_proj_bias [12]",
        "transformer.layers.0.self_attn.out_proj.weight [4, 4]",
        "transformer.layers.0.self_attn.out_proj.bias [4]",
        "transformer.layers.0.linear1.weight [6, 4]",
        "transformer.layers.0.linear1.bias [6]",
        "transformer.layers.0.linear2.weight [4, 6]",
        "transformer.layers.0.linear2.bias [4]",
        "transformer.layers.0.norm1.weight [4]",
        "transformer.layers.0.norm1.bias [4]",
        "transformer.layers.0.norm2.weight [4]",
        "transformer.layers.0.norm2.bias [4]",
        "transformer.norm.weight [4]",
        "transformer.norm.bias [4]",
    ];
    assert_eq!(named(&nn::embed(&c, 1).unwrap().graph), body);
    let with = |extra: &[&'static str]| [&body, extra].concat();
    let pretrain = with(&["reconstruct.weight [2, 4]", "reconstruct.bias [2]"]);
    assert_eq!(named(&nn::pretrain(&c, 1, 1).unwrap().graph), pretrain);
    assert_eq!(named(&nn::reconstruct(&c, 1).unwrap().graph), pretrain);
    let head = ["head.0.weight [5, 4]", "head.0.bias [5]", "head.1.weight [1, 5]", "head.1.bias [1]"];
    assert_eq!(named(&nn::classify(&c, 1, 1.0).unwrap().graph), with(&head));

    let layout = nn::pretrain(&c, 1, 1).unwrap().graph.layout().clone();
    let table = nn::parameter_table(&layout);
    assert_eq!(table.lines().count(), layout.entries().len() + 1);
    for (line, e) in table.lines().zip(layout.entries()) {
        assert!(line.starts_with(&e.name) && line.contains(&e.shape.to_string()), "{line}");
    }
    assert!(table.trim_end().ends_with(&layout.len().to_string()));
}

#[test]
fn the_body_comes_first_and_alike_in_every_program() {
    for (name, c) in configurations() {
        let body = nn::embed(&c, 2).unwrap().graph.layout().entries().to_vec();
        for graph in [
            nn::pretrain(&c, 1, 1).unwrap().graph,
            nn::pretrain_full(&c, 1, 1).unwrap().graph,
            nn::classify(&c, 1, 1.0).unwrap().graph,
            nn::reconstruct(&c, 1).unwrap().graph,
        ] {
            assert_eq!(graph.layout().entries()[..body.len()], body, "{name}");
        }
    }
}

#[test]
fn initialisation_is_pytorchs() {
    let layout = nn::classify(&ModelConfig::paper(), 1, 1.0).unwrap().graph.layout().clone();
    let init = |name: &str| layout.find(name).unwrap_or_else(|| panic!("{name}")).init;
    assert_eq!(init("encoder.conv.0.weight"), Init::FanIn(65));
    assert_eq!(init("encoder.conv.1.bias"), Init::FanIn(64 * 33));
    assert_eq!(init("encoder.norm.0.weight"), Init::Ones);
    assert_eq!(init("encoder.norm.0.bias"), Init::Zeros);
    assert_eq!(init("cls"), Init::Normal(0.02));
    assert_eq!(init("transformer.layers.1.self_attn.in_proj_weight"), Init::XavierUniform);
    assert_eq!(init("transformer.layers.1.self_attn.in_proj_bias"), Init::Zeros);
    assert_eq!(init("transformer.layers.0.self_attn.out_proj.weight"), Init::FanIn(256));
    assert_eq!(init("transformer.layers.0.self_attn.out_proj.bias"), Init::Zeros);
    assert_eq!(init("transformer.layers.0.linear2.bias"), Init::FanIn(1024));
    assert_eq!(init("head.1.weight"), Init::FanIn(1024));
    assert_eq!(layout.init::<f32>(7), layout.init::<f32>(7));
    assert_ne!(layout.init::<f32>(7), layout.init::<f32>(8));
}

#[test]
fn computing_fewer_rows_changes_nothing() {
    for (name, c) in configurations() {
        // The chosen rows repeat and are not in order.
        let (fast, slow) = (nn::pretrain(&c, 3, 2).unwrap(), nn::pretrain_full(&c, 3, 2).unwrap());
        let at = point(&fast.graph, 11);
        assert!(at.indices[&fast.rows].len() == 6 && fast.rows == slow.rows);
        let (a, da) = run(&fast.graph, &at, &[fast.prediction, fast.loss], Some(fast.loss));
        let (b, db) = run(&slow.graph, &at, &[slow.prediction, slow.loss], Some(slow.loss));
        close(&format!("{name}: prediction"), &a[0], &b[0], 1e-9);
        close(&format!("{name}: loss"), &a[1], &b[1], 1e-9);
        close(&format!("{name}: gradients"), &da, &db, 1e-9);
        assert!(da.iter().any(|g| g.abs() > 1e-3), "{name}: nothing to compare");

        let (fast, slow) = (nn::classify(&c, 3, 1.5).unwrap(), nn::classify_full(&c, 3, 1.5).unwrap());
        let at = point(&fast.graph, 12);
        let (a, da) = run(&fast.graph, &at, &[fast.logits, fast.loss], Some(fast.loss));
        let (b, db) = run(&slow.graph, &at, &[slow.logits, slow.loss], Some(slow.loss));
        close(&format!("{name}: logits"), &a[0], &b[0], 1e-9);
        close(&format!("{name}: loss"), &a[1], &b[1], 1e-9);
        close(&format!("{name}: gradients"), &da, &db, 1e-9);
        assert!(da.iter().any(|g| g.abs() > 1e-3), "{name}: nothing to compare");

        let (fast, slow) = (nn::embed(&c, 3).unwrap(), nn::embed_full(&c, 3).unwrap());
        let at = point(&fast.graph, 13);
        let (a, _) = run(&fast.graph, &at, &[fast.features], None);
        let (b, _) = run(&slow.graph, &at, &[slow.features], None);
        close(&format!("{name}: features"), &a[0], &b[0], 1e-9);
    }
}

#[test]
fn one_row_absorbs_keys_and_values_and_many_do_not() {
    let absorbed = |g: &Graph| {
        let of = |id: &Id| g.node(*id).op.is::<AbsorbedAttention>();
        g.ids().filter(of).count()
    };
    let (paper, small, tiny) = (ModelConfig::paper(), ModelConfig::small(), ModelConfig::tiny());
    for c in [paper, small, tiny, wide(), ModelConfig { pooling: Pooling::Last, ..wide() }] {
        assert_eq!(absorbed(&nn::embed(&c, 2).unwrap().graph), 1);
        assert_eq!(absorbed(&nn::classify(&c, 1, 1.0).unwrap().graph), 1);
        for graph in [
            nn::embed_full(&c, 1).unwrap().graph,
            nn::classify_full(&c, 1, 1.0).unwrap().graph,
            // One chosen row is computed as many are: their number changes from step to step.
            nn::pretrain(&c, 1, 1).unwrap().graph,
            nn::reconstruct(&c, 1).unwrap().graph,
            nn::embed(&ModelConfig { pooling: Pooling::Mean, ..c.clone() }, 1).unwrap().graph,
        ] {
            assert_eq!(absorbed(&graph), 0);
        }
    }
}

#[test]
fn reconstruction_is_the_prediction_of_every_row() {
    for (name, c) in configurations() {
        let (p, r) = (nn::pretrain(&c, 2, c.tokens()).unwrap(), nn::reconstruct(&c, 2).unwrap());
        let mut at = point(&p.graph, 5);
        let first = u32::from(c.cls);
        let rows = (0..2).flat_map(|_| (0..c.tokens() as u32).map(|t| t + first)).collect();
        at.indices.insert(p.rows, rows);
        let (a, _) = run(&p.graph, &at, &[p.prediction], None);
        let inputs = [(r.samples, at.inputs[&p.samples].clone())].into();
        let at = Point { inputs, params: at.params, ..Point::default() };
        let (b, _) = run(&r.graph, &at, &[r.output], None);
        close(name, &a[0], &b[0], 1e-12);
    }
}

#[test]
fn a_padded_row_or_window_changes_nothing() {
    let c = mini();
    let (short, long) = (nn::pretrain(&c, 1, 2).unwrap(), nn::pretrain(&c, 1, 4).unwrap());
    let mut at = point(&long.graph, 3);
    at.indices.insert(long.rows, vec![2, 5, 5, 0]);
    at.inputs.insert(long.mask, vec![1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    let (a, da) = run(&long.graph, &at, &[long.loss], Some(long.loss));
    let mut cut = at.clone();
    cut.indices.insert(short.rows, vec![2, 5]);
    for id in [short.target, short.mask] {
        cut.inputs.get_mut(&id).unwrap().truncate(4);
    }
    let (b, db) = run(&short.graph, &cut, &[short.loss], Some(short.loss));
    close("loss", &a[0], &b[0], 1e-12);
    close("gradients", &da, &db, 1e-12);

    let (one, two) = (nn::classify(&c, 1, 2.0).unwrap(), nn::classify(&c, 2, 2.0).unwrap());
    let mut at = point(&two.graph, 4);
    at.inputs.insert(two.weights, vec![1.0, 0.0]);
    let (a, da) = run(&two.graph, &at, &[two.loss], Some(two.loss));
    let mut cut = at.clone();
    for id in [one.samples, one.targets, one.weights] {
        let n = one.graph.shape(id).elements();
        cut.inputs.get_mut(&id).unwrap().truncate(n);
    }
    let (b, db) = run(&one.graph, &cut, &[one.loss], Some(one.loss));
    close("loss", &a[0], &b[0], 1e-12);
    close("gradients", &da, &db, 1e-12);
}

/// True if no ReLU is near its corner and no maximum near a tie, where difference quotients mislead.
fn smooth(graph: &Graph, root: Id, point: &Point) -> bool {
    check::Values::at(graph, root, point, Settings::default()).unwrap().corner > 3e-4
}

#[test]
fn every_configuration_has_the_right_gradient() {
    for (name, c) in configurations() {
        let pretrain = nn::pretrain(&c, 2, 2).unwrap();
        let classify = nn::classify(&c, 2, 1.5).unwrap();
        let embed = nn::embed(&c, 2).unwrap();
        for (task, graph, root) in [
            ("pretrain", pretrain.graph, pretrain.loss),
            ("classify", classify.graph, classify.loss),
            ("embed", embed.graph, embed.features),
        ] {
            let at = (0..200).map(|seed| point(&graph, seed)).find(|p| smooth(&graph, root, p));
            let at = at.unwrap_or_else(|| panic!("{name}: {task}: no point away from kinks"));
            let settings = Settings { elements: Some(6), ..Settings::default() };
            let report = check::gradients(&graph, root, &at, settings).unwrap();
            assert!(report.passed(), "{name}: {task}: {report}");
            let reached = graph.layout().entries().iter().all(|e| report.tensors.contains(&e.name));
            assert!(reached, "{name}: {task}: no gradient reaches {:?}", report.skipped);
        }
    }
}

#[test]
fn dropout_draws_by_key_and_is_off_in_evaluation() {
    let c = ModelConfig { dropout: 0.3, attention_dropout: 0.2, ..ModelConfig::tiny() };
    for order in [NormOrder::Post, NormOrder::Pre] {
        let p = nn::classify(&ModelConfig { norm_order: order, ..c.clone() }, 2, 1.0).unwrap();
        let plan = Plan::new(&p.graph, OutputRequest::values(&[p.logits])).unwrap();
        let mut exec = Exec::<f32>::new(p.graph.clone(), Arc::new(plan));
        let params = p.graph.layout().init::<f32>(1);
        let at = Point::random(&p.graph, 2);
        let x: Vec<f32> = at.inputs[&p.samples].iter().map(|&v| v as f32).collect();
        exec.set_input(p.samples, &x).unwrap();
        let mut logits = |on: bool, step: u64| {
            exec.set_dropout(on);
            exec.set_key(9, step, 0);
            exec.forward(&params);
            exec.value(p.logits).to_vec()
        };
        assert_eq!(logits(false, 1), logits(false, 2));
        assert_eq!(logits(true, 1), logits(true, 1));
        assert_ne!(logits(true, 1), logits(true, 2));
        assert_ne!(logits(true, 1), logits(false, 1));
    }
}

fn mask(c: &MaskConfig, seed: u64, step: u64, sample: u32, window: usize) -> Vec<bool> {
    let mut out = vec![false; window];
    nn::spans(c, Key { seed, step, sample, op: 0 }, window, &mut out);
    out
}

#[test]
fn the_paper_mask_hides_the_recalled_share() {
    let c = ModelConfig::paper().mask;
    let n = 4000;
    let shares: Vec<f64> =
        (0..n).map(|i| mask(&c, 1, 0, i, 1280).iter().filter(|m| **m).count() as f64 / 1280.0).collect();
    let mean = shares.iter().sum::<f64>() / f64::from(n);
    let deviation = (shares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / f64::from(n)).sqrt();
    println!("masked: mean {mean:.4}, standard deviation over windows {deviation:.4}");
    assert!((0.473..0.488).contains(&mean), "{mean}");
    let expected = c.expected_share(1280);
    let standard_error = deviation / f64::from(n).sqrt();
    assert!(
        (mean - expected).abs() < 5.0 * standard_error,
        "{mean}, expected {expected} +- {standard_error}"
    );
    // By position: point i is masked with probability 1 - (1 - p)^min(i + 1, 20).
    for i in [0usize, 4, 19, 640, 1279] {
        let hits = (0..n).filter(|&s| mask(&c, 2, 0, s, 1280)[i]).count() as f64 / f64::from(n);
        let p = 1.0 - (1.0 - c.probability).powi((i + 1).min(20) as i32);
        assert!((hits - p).abs() < 5.0 * (p * (1.0 - p) / f64::from(n)).sqrt(), "point {i}: {hits}, not {p}");
    }
    // Every run of masked points is at least one span long, unless the window ends it.
    for s in 0..50 {
        let m = mask(&c, 3, 0, s, 1280);
        let runs: Vec<_> = m.chunk_by(|a, b| a == b).collect();
        let (_, inner) = runs.split_last().unwrap();
        assert!(inner.iter().filter(|r| r[0]).all(|r| r.len() >= 20));
    }
}

#[test]
fn a_mask_is_its_keys_alone_and_never_empty() {
    let c = MaskConfig { probability: 0.1, span: 5 };
    assert_eq!(mask(&c, 1, 2, 3, 100), mask(&c, 1, 2, 3, 100));
    let other_op = {
        let mut out = vec![true; 100];
        nn::spans(&c, Key { seed: 1, step: 2, sample: 3, op: 77 }, 100, &mut out);
        out
    };
    assert_eq!(other_op, mask(&c, 1, 2, 3, 100));
    for other in [mask(&c, 9, 2, 3, 100), mask(&c, 1, 9, 3, 100), mask(&c, 1, 2, 9, 100)] {
        assert_ne!(other, mask(&c, 1, 2, 3, 100));
    }
    assert!(mask(&MaskConfig { probability: 1.0, span: 1 }, 1, 1, 1, 101).iter().all(|m| *m));
    // So unlikely that nothing starts: one span is placed, every start equally likely.
    let rare = MaskConfig { probability: 1e-12, span: 4 };
    let mut starts = [0u32; 7];
    for s in 0..7000 {
        let m = mask(&rare, 5, 0, s, 10);
        assert_eq!(m.iter().filter(|m| **m).count(), 4);
        let start = m.iter().position(|m| *m).unwrap();
        assert!(m[start..start + 4].iter().all(|m| *m));
        starts[start] += 1;
    }
    assert!(starts.iter().all(|&n| (850..1150).contains(&n)), "five standard errors around 1000: {starts:?}");
}

#[test]
fn picks_are_the_rows_with_a_masked_point() {
    let c = ModelConfig { window: 12, strides: vec![2, 2], ..mini() };
    let mut masked = [false; 12];
    masked[3] = true;
    masked[8] = true;
    masked[9] = true;
    assert_eq!(nn::picks(&c, &masked), [1, 3]);
    assert_eq!(nn::picks(&ModelConfig { cls: false, pooling: Pooling::Mean, ..c.clone() }, &masked), [0, 2]);
    assert!(nn::picks(&c, &[false; 12]).is_empty());
    assert_eq!(nn::picks(&c, &[true; 12]), [1, 2, 3]);
    let mut rows = vec![7; 9];
    nn::picks_into(&c, &masked, &mut rows);
    assert_eq!(rows, [1, 3]);
}

#[test]
fn nonsense_is_refused_with_the_setting_named() {
    type Change = fn(&mut ModelConfig);
    let cases: &[(&str, Change)] = &[
        ("channels", |c| c.channels.clear()),
        ("channels", |c| c.channels[0] = 0),
        ("kernels", |c| c.kernels.push(3)),
        ("kernels", |c| c.kernels[0] = 4),
        ("kernels", |c| c.kernels[1] = 0),
        ("strides", |c| c.strides.truncate(1)),
        ("strides", |c| c.strides[0] = 0),
        ("sizes", |c| c.strides = vec![usize::MAX, 2, 2]),
        ("window", |c| c.window = 0),
        ("window", |c| c.window = 1284),
        ("layers", |c| c.layers = 0),
        ("heads", |c| c.heads = 0),
        ("heads", |c| c.heads = 3),
        ("hidden", |c| c.hidden = 0),
        ("head_hidden", |c| c.head_hidden.push(0)),
        ("pooling", |c| c.cls = false),
        ("dropout", |c| c.dropout = 1.0),
        ("attention_dropout", |c| c.attention_dropout = -0.1),
        ("head_dropout", |c| c.head_dropout = f64::NAN),
        ("norm_eps", |c| c.norm_eps = 0.0),
        ("mask.probability", |c| c.mask.probability = 0.0),
        ("mask.probability", |c| c.mask.probability = 1.5),
        ("mask.span", |c| c.mask.span = 0),
        ("mask.span", |c| c.mask.span = 1281),
    ];
    for (setting, change) in cases {
        let mut c = ModelConfig::small();
        change(&mut c);
        let error = c.validate().unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{error}");
        assert!(error.to_string().starts_with(&format!("model setting {setting}: ")), "{setting}: {error}");
        assert!(nn::pretrain(&c, 1, 1).is_err() && nn::classify(&c, 1, 1.0).is_err());
        assert!(nn::embed(&c, 1).is_err() && nn::reconstruct(&c, 1).is_err());
    }
    let c = mini();
    let message = |e: heartlore::Error| e.to_string();
    assert!(message(nn::pretrain(&c, 1, 0).unwrap_err()).contains("of 6 tokens"));
    assert!(message(nn::pretrain(&c, 1, 7).unwrap_err()).contains("choose 1 to 6"));
    assert!(message(nn::embed(&c, 0).unwrap_err()).contains("at least one window"));
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(message(nn::classify(&c, 1, weight).unwrap_err()).contains("pos_weight"));
    }
    // Sizes beyond any machine are errors, not aborts.
    let huge = ModelConfig { channels: vec![1 << 40, 1 << 40], heads: 1, ..mini() };
    assert_eq!(nn::embed(&huge, 1).unwrap_err().kind(), Kind::Usage);
}

#[test]
fn a_window_of_paper_is_worth_a_team_and_one_of_tiny_is_not() {
    let time_on_two = |config: ModelConfig| {
        let p = nn::classify(&config.without_dropout(), 1, 1.0).unwrap();
        let plan = Plan::new(&p.graph, OutputRequest::values(&[p.logits])).unwrap();
        let exec = Exec::<f32>::new(p.graph, Arc::new(plan));
        exec.parallel_fraction(2) + exec.wake_fraction()
    };
    let (paper, tiny) = (time_on_two(ModelConfig::paper()), time_on_two(ModelConfig::tiny()));
    assert!(paper < 0.6 && tiny > 1.0, "{paper} {tiny}");
}
