//! The model against PyTorch: outputs, losses, gradients and ten Adam steps; oracle by tests/oracles/model/make.py.
//!
//! Weights and windows come from one integer hash on both sides, so only results are stored. The oracle computed in f64:
//! our f64 must agree to rounding, our f32 to what f32 can hold.
#![allow(clippy::print_stdout, reason = "the errors measured are part of the result")]

use heartlore::graph::{Exec, Graph, Id, Layout, OutputRequest, Plan, Precision};
use heartlore::kernels::{Isa, Real, adam};
use heartlore::nn::{self, Activation, EncoderNorm, ModelConfig, NormOrder, Pooling, Positions};
use safetensors::SafeTensors;
use std::sync::Arc;

const ORACLE: &[u8] = include_bytes!("oracles/model/oracle.safetensors");
const SAMPLES: usize = 64;
const POS_WEIGHT: f64 = 1.7;

/// n numbers in [-1, 1): SplitMix64 of (FNV-1a of the name + index), its upper 24 bits.
fn numbers(name: &str, n: usize) -> Vec<f64> {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    let number = |i: u64| {
        let mut z = hash.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 40) as f64 / (1u64 << 23) as f64 - 1.0
    };
    (0..n as u64).map(number).collect()
}

fn weights<T: Real>(layout: &Layout) -> Vec<T> {
    let mut flat = vec![T::ZERO; layout.len()];
    for e in layout.entries() {
        let fan_in = e.shape.elements() / e.shape.dims()[0];
        let gain = e.name.contains("norm") && e.name.ends_with(".weight");
        for (w, u) in flat[e.range()].iter_mut().zip(numbers(&e.name, e.shape.elements())) {
            let value = match (e.shape.rank() > 1, gain) {
                (true, _) => u * (3.0 / fan_in as f64).sqrt(),
                (false, true) => 1.0 + 0.1 * u,
                (false, false) => 0.1 * u,
            };
            *w = T::of(f64::from(value as f32));
        }
    }
    flat
}

/// Windows `[batch, window]` and their masks, 1 where a point is hidden. Those of 1280 samples are chosen so that no ReLU
/// lies nearer to its corner than f32 rounds; see the script.
fn data(c: &ModelConfig, batch: usize) -> (Vec<f64>, Vec<f64>) {
    let w = c.window;
    let names: &[_] = if w == 1280 { &["window.1280", "window.228"] } else { &["windows"] };
    let x = names.iter().flat_map(|name| numbers(name, batch * w / names.len()));
    let x = x.map(|u| f64::from((1.5 * u) as f32)).collect();
    let blocks = w.div_ceil(20);
    let hit = numbers("mask", batch * blocks);
    let masked = |i: usize| {
        let (b, block) = (i / w, i % w / 20);
        block == 0 || hit[b * blocks + block] < -0.05
    };
    (x, (0..batch * w).map(|i| f64::from(u8::from(masked(i)))).collect())
}

struct Oracle {
    tensors: SafeTensors<'static>,
    metadata: std::collections::HashMap<String, String>,
}

impl Oracle {
    fn open() -> Self {
        let (_, metadata) = SafeTensors::read_metadata(ORACLE).unwrap();
        let metadata = metadata.metadata().clone().unwrap();
        Self { tensors: SafeTensors::deserialize(ORACLE).unwrap(), metadata }
    }
    fn get(&self, name: &str) -> Vec<f64> {
        let t = self.tensors.tensor(name).unwrap();
        assert_eq!(t.dtype(), safetensors::Dtype::F64);
        t.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
    }
    fn names(&self, key: &str) -> Vec<&str> {
        self.metadata[&format!("{key}.names")].split(' ').collect()
    }
}

/// The worst |diff| / (atol + rtol |ref|); above 1 is wrong. NaN counts as infinite.
fn worst(got: &[f64], wanted: &[f64], atol: f64, rtol: f64) -> f64 {
    assert_eq!(got.len(), wanted.len());
    let ratio = |(g, w): (&f64, &f64)| (g - w).abs() / (atol + rtol * w.abs());
    got.iter().zip(wanted).map(ratio).fold(0.0, |m, r| if r.is_nan() { f64::INFINITY } else { m.max(r) })
}

fn to<T: Real>(v: &[f64]) -> Vec<T> {
    v.iter().map(|&x| T::of(x)).collect()
}
fn from<T: Real>(v: &[T]) -> Vec<f64> {
    v.iter().map(|x| x.f64()).collect()
}

fn exec<T: Precision>(graph: &Arc<Graph>, want: OutputRequest) -> Exec<T> {
    let plan = Plan::new(graph, want).unwrap();
    Exec::new(graph.clone(), Arc::new(plan))
}

fn training<T: Precision>(graph: &Arc<Graph>, loss: Id, keep: Id) -> Exec<T> {
    exec(graph, OutputRequest { keep: vec![loss, keep], ..OutputRequest::training(loss) })
}

/// Compares every parameter's gradient; the absolute tolerance is `tol` times the tensor's root mean square.
fn compare_gradients<T: Real>(oracle: &Oracle, key: &str, layout: &Layout, grads: &[T], tol: f64) -> f64 {
    let stored = oracle.get(&format!("{key}.gradients"));
    let names = oracle.names(key);
    assert_eq!(names.len(), layout.entries().len(), "{key}: number of parameters");
    let mut most: f64 = 0.0;
    for (name, row) in names.iter().zip(stored.chunks(SAMPLES + 1)) {
        let e = layout.find(name).unwrap_or_else(|| panic!("{key}: no parameter {name}"));
        let g = from(&grads[e.range()]);
        let norm = g.iter().map(|x| x * x).sum::<f64>().sqrt();
        let rms = row[0] / (g.len() as f64).sqrt();
        assert!(rms > 0.0, "{key} {name}: the oracle's gradient is 0 and proves nothing");
        let picked: Vec<f64> = g.iter().step_by(g.len().div_ceil(SAMPLES)).copied().collect();
        let off =
            worst(&picked, &row[1..=picked.len()], tol * rms, tol).max(worst(&[norm], &row[..1], 0.0, tol));
        assert!(off <= 1.0, "{key} {name}: gradient off by {off} times the tolerance {tol}");
        most = most.max(off);
    }
    most
}

/// Sets up pre-training on every token, in order; returns the number of masked points.
fn fill_pretrain<T: Precision>(c: &ModelConfig, batch: usize, p: &nn::Pretrain, run: &mut Exec<T>) -> f64 {
    let (x, mask) = data(c, batch);
    let hidden: Vec<f64> = x.iter().zip(&mask).map(|(x, m)| x * (1.0 - m)).collect();
    let first = u32::from(c.cls);
    let rows: Vec<u32> = (0..batch).flat_map(|_| (0..c.tokens() as u32).map(|t| t + first)).collect();
    run.set_input(p.samples, &to(&hidden)).unwrap();
    run.set_index(p.rows, &rows).unwrap();
    run.set_input(p.target, &to(&x)).unwrap();
    run.set_input(p.mask, &to(&mask)).unwrap();
    mask.iter().sum()
}

struct Tolerance {
    output: f64,
    gradient: f64,
}

impl Tolerance {
    fn of(output: f64, gradient: f64) -> Self {
        Self { output, gradient }
    }
}

fn compare<T: Precision>(case: &str, c: &ModelConfig, batch: usize, tol: &Tolerance) {
    let oracle = Oracle::open();
    let key = format!("{case}.pretrain");
    let p = nn::pretrain(c, batch, c.tokens()).unwrap();
    let params = weights::<T>(p.graph.layout());
    let mut run = training::<T>(&p.graph, p.loss, p.prediction);
    fill_pretrain(c, batch, &p, &mut run);
    run.forward(&params);
    let wanted = oracle.get(&format!("{key}.output"));
    let output = worst(&from(run.value(p.prediction)), &wanted, tol.output, tol.output);
    assert!(output <= 1.0, "{key}: prediction off by {output} times the tolerance");
    let loss = worst(&from(run.value(p.loss)), &oracle.get(&format!("{key}.loss")), 0.0, tol.output);
    assert!(loss <= 1.0, "{key}: loss off by {loss} times the tolerance");
    let mut grads = vec![T::ZERO; params.len()];
    run.backward(&params, &[T::ONE], &mut grads);
    let gradient = compare_gradients(&oracle, &key, p.graph.layout(), &grads, tol.gradient);
    println!("{key}: output {output:.2e}, loss {loss:.2e}, gradients {gradient:.2e} of the tolerance");

    // The reconstruction of the masked windows is the same output from another program.
    let r = nn::reconstruct(c, batch).unwrap();
    let (x, mask) = data(c, batch);
    let hidden: Vec<f64> = x.iter().zip(&mask).map(|(x, m)| x * (1.0 - m)).collect();
    assert_eq!(r.graph.layout(), p.graph.layout());
    let mut run = exec::<T>(&r.graph, OutputRequest::values(&[r.output]));
    run.set_input(r.samples, &to(&hidden)).unwrap();
    run.forward(&params);
    let output = worst(&from(run.value(r.output)), &wanted, tol.output, tol.output);
    assert!(output <= 1.0, "{case}.reconstruct: output off by {output} times the tolerance");

    let key = format!("{case}.classify");
    let p = nn::classify(c, batch, POS_WEIGHT).unwrap();
    let params = weights::<T>(p.graph.layout());
    let mut run = training::<T>(&p.graph, p.loss, p.logits);
    run.set_input(p.samples, &to(&x)).unwrap();
    let targets: Vec<f64> = (0..batch).map(|i| (i % 2) as f64).collect();
    run.set_input(p.targets, &to(&targets)).unwrap();
    run.set_input(p.weights, &vec![T::ONE; batch]).unwrap();
    run.forward(&params);
    let wanted = oracle.get(&format!("{key}.output"));
    let output = worst(&from(run.value(p.logits)), &wanted, tol.output, tol.output);
    assert!(output <= 1.0, "{key}: logits off by {output} times the tolerance");
    let loss = worst(&from(run.value(p.loss)), &oracle.get(&format!("{key}.loss")), 0.0, tol.output);
    assert!(loss <= 1.0, "{key}: loss off by {loss} times the tolerance");
    let mut grads = vec![T::ZERO; params.len()];
    run.backward(&params, &[T::ONE], &mut grads);
    let gradient = compare_gradients(&oracle, &key, p.graph.layout(), &grads, tol.gradient);
    println!("{key}: output {output:.2e}, loss {loss:.2e}, gradients {gradient:.2e} of the tolerance");
}

fn post() -> ModelConfig {
    ModelConfig {
        window: 48,
        channels: vec![8, 16],
        kernels: vec![5, 3],
        strides: vec![2, 2],
        heads: 4,
        hidden: 24,
        head_hidden: vec![8],
        ..ModelConfig::paper()
    }
}

fn small_cases() -> [(&'static str, ModelConfig); 4] {
    let pre = ModelConfig {
        norm_order: NormOrder::Pre,
        positions: Positions::Learned,
        encoder_norm: EncoderNorm::Every,
        activation: Activation::Gelu,
        pooling: Pooling::Mean,
        ..post()
    };
    let bare = ModelConfig {
        norm_order: NormOrder::Pre,
        positions: Positions::None,
        encoder_norm: EncoderNorm::None,
        embed_norm: false,
        cls: false,
        pooling: Pooling::Last,
        activation: Activation::GeluTanh,
        strides: vec![4, 1],
        head_hidden: Vec::new(),
        ..post()
    };
    let max = ModelConfig {
        positions: Positions::Learned,
        cls: false,
        pooling: Pooling::Max,
        strides: vec![1, 1],
        layers: 1,
        ..post()
    };
    [("post", post()), ("pre", pre), ("bare", bare), ("max", max)]
}

#[test]
fn small_models_are_pytorchs_in_f64() {
    for (case, c) in small_cases() {
        compare::<f64>(case, &c, 3, &Tolerance::of(1e-12, 1e-10));
    }
}

#[test]
fn small_models_are_pytorchs_in_f32() {
    for (case, c) in small_cases() {
        compare::<f32>(case, &c, 3, &Tolerance::of(1e-5, 2e-5));
    }
}

#[test]
fn the_paper_preset_is_pytorchs_in_f32() {
    compare::<f32>("paper", &ModelConfig::paper(), 2, &Tolerance::of(1e-5, 1e-4));
}

/// The same model on windows of 160 samples: short enough for f64 in every run.
#[test]
fn the_paper_preset_on_short_windows_is_pytorchs_in_f64() {
    let c = ModelConfig { window: 160, ..ModelConfig::paper() };
    compare::<f64>("paper160", &c, 2, &Tolerance::of(1e-12, 1e-10));
}

#[test]
#[ignore = "a minute: two windows of the paper preset in f64, forward and backward"]
fn the_paper_preset_is_pytorchs_in_f64() {
    compare::<f64>("paper", &ModelConfig::paper(), 2, &Tolerance::of(1e-12, 1e-10));
}

fn ten_steps<T: Precision>(tol: f64) {
    let (c, oracle) = (post(), Oracle::open());
    let p = nn::pretrain(&c, 3, c.tokens()).unwrap();
    let mut params = weights::<T>(p.graph.layout());
    let mut run = training::<T>(&p.graph, p.loss, p.prediction);
    let points = fill_pretrain(&c, 3, &p, &mut run);
    let settings = adam::Adam { learning_rate: 1e-2, weight_decay: 0.005, ..adam::Adam::default() };
    let (mut m, mut v) = (vec![T::ZERO; params.len()], vec![T::ZERO; params.len()]);
    let mut losses = Vec::new();
    for t in 1..=10 {
        let mut grads = vec![T::ZERO; params.len()];
        run.forward(&params);
        run.backward(&params, &[T::ONE], &mut grads);
        losses.push(run.value(p.loss)[0].f64() / points);
        adam::step(Isa::best(), &settings, t, 1.0 / points, &mut params, &grads, &mut m, &mut v);
    }
    let wanted = oracle.get("adam.losses");
    assert!(wanted[9] < 0.8 * wanted[0], "the oracle learns: {wanted:?}");
    let off = worst(&losses, &wanted, 0.0, tol);
    assert!(off <= 1.0, "losses {losses:?}, PyTorch's {wanted:?}");
    // PyTorch registers parameters in another order: compare by name.
    let (stored, mut at, mut most) = (oracle.get("adam.weights"), 0, 0.0f64);
    for name in oracle.names("adam") {
        let e = p.graph.layout().find(name).unwrap();
        let off = worst(&from(&params[e.range()]), &stored[at..at + e.shape.elements()], tol, tol);
        assert!(off <= 1.0, "{name}: off by {off} times the tolerance {tol} after ten steps");
        (at, most) = (at + e.shape.elements(), most.max(off));
    }
    assert_eq!(at, stored.len());
    println!("ten Adam steps: losses {off:.2e}, weights {most:.2e} of the tolerance {tol:.0e}");
}

#[test]
fn ten_adam_steps_are_pytorchs_in_f64() {
    ten_steps::<f64>(1e-10);
}

#[test]
fn ten_adam_steps_are_pytorchs_in_f32() {
    ten_steps::<f32>(2e-5);
}

#[test]
fn the_comparison_itself_can_fail() {
    assert!(worst(&[1.0 + 3e-5], &[1.0], 1e-5, 1e-5) > 1.0);
    assert!(worst(&[1.0 + 1e-5], &[1.0], 1e-5, 1e-5) < 1.0);
    assert!(worst(&[f64::NAN], &[1.0], 1e-5, 1e-5) > 1.0);
    // One swapped weight is seen: the gain of the first layer's norm moved by one thousandth.
    let (c, oracle) = (post(), Oracle::open());
    let p = nn::pretrain(&c, 3, c.tokens()).unwrap();
    let mut params = weights::<f32>(p.graph.layout());
    params[p.graph.layout().find("transformer.layers.0.norm1.weight").unwrap().offset] += 1e-3;
    let mut run = training::<f32>(&p.graph, p.loss, p.prediction);
    fill_pretrain(&c, 3, &p, &mut run);
    run.forward(&params);
    let wanted = oracle.get("post.pretrain.output");
    assert!(worst(&from(run.value(p.prediction)), &wanted, 1e-5, 1e-5) > 1.0);
}
