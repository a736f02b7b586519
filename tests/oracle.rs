//! Every layer kind and ten optimiser steps against PyTorch: values and gradients, in f64 and, on every instruction set,
//! in f32. The numbers come from `tests/oracles/layers/make.py`, which states its versions.
//!
//! |result - reference| <= atol + rtol |reference|, where rtol is 1e-5 for values and 1e-4 for gradients in f32 (1e-11 and
//! 1e-10 in f64, limited by the 13 digits of the files), and atol = 4 eps sqrt(n) m is the rounding error to expect of a
//! sum of n terms of magnitude m: n the longest dimension in the case, m the largest element of the reference tensor.

mod common;

use common::{Encoder, Given, Outcome, Sizes, cast, encoder_layer, run};
use heartlore::graph::{
    AttentionSpec, Columns, Conv1dSpec, Exec, FeedForwardParams, Graph, Id, OutputRequest, Plan, Precision,
};
use heartlore::kernels::activation::Activation;
use heartlore::kernels::adam::{self, Adam};
use heartlore::kernels::losses::Reduction;
use heartlore::kernels::pool::Pool;
use heartlore::kernels::reduce::Reduce;
use heartlore::kernels::{Isa, Real};
use heartlore::tensor::Init;
use std::collections::BTreeMap;
use std::sync::Arc;

struct Tensor {
    dims: Vec<usize>,
    data: Vec<f64>,
}

type Case = BTreeMap<String, Tensor>;

fn read(text: &str) -> Vec<(String, Case)> {
    let mut cases: Vec<(String, Case)> = Vec::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        if let Some(name) = line.strip_prefix("case ") {
            cases.push((name.to_string(), Case::new()));
            continue;
        }
        let (head, numbers) = line.split_once(" : ").unwrap();
        let (name, dims) = head.split_once(' ').unwrap();
        let dims: Vec<usize> = dims.split(',').filter(|d| *d != "-").map(|d| d.parse().unwrap()).collect();
        let data: Vec<f64> = numbers.split(' ').map(|v| v.parse().unwrap()).collect();
        assert_eq!(data.len(), dims.iter().product::<usize>(), "{name}");
        cases.last_mut().unwrap().1.insert(name.to_string(), Tensor { dims, data });
    }
    cases
}

/// Records leaves with the shapes of the file.
struct Recorder<'a> {
    g: Graph,
    case: &'a Case,
}

impl Recorder<'_> {
    fn x(&mut self, name: &str) -> Id {
        self.g.input(name, self.case[name].dims.clone()).unwrap()
    }
    fn p(&mut self, name: &str) -> Id {
        self.g.param(name, self.case[name].dims.clone(), Init::Zeros).unwrap()
    }
    fn mask(&mut self) -> Option<Id> {
        self.case.contains_key("mask").then(|| self.x("mask"))
    }
}

fn activation(name: &str) -> Option<Activation> {
    match name {
        "none" => None,
        "relu" => Some(Activation::Relu),
        "gelu" => Some(Activation::Gelu),
        "gelu_tanh" => Some(Activation::GeluTanh),
        "sigmoid" => Some(Activation::Sigmoid),
        "tanh" => Some(Activation::Tanh),
        _ => panic!("activation {name}"),
    }
}

/// The program of a case.
fn record(name: &str, r: &mut Recorder<'_>) -> Id {
    if name == "linear_plain" {
        let (x, w) = (r.x("x"), r.p("w"));
        return r.g.linear(x, w, None, None).unwrap();
    }
    if let Some(act) = name.strip_prefix("linear_") {
        let (x, w, b) = (r.x("x"), r.p("w"), r.p("b"));
        return r.g.linear(x, w, Some(b), activation(act)).unwrap();
    }
    if let Some(settings) = name.strip_prefix("conv1d_") {
        let parts: Vec<&str> = settings.splitn(5, '_').collect();
        let number = |i: usize| parts[i][1..].parse::<usize>().unwrap();
        let spec = Conv1dSpec {
            stride: number(1),
            padding: number(2),
            dilation: number(3),
            act: activation(parts[4]),
        };
        let (x, w, b) = (r.x("x"), r.p("w"), r.p("b"));
        return r.g.conv1d(x, w, Some(b), spec).unwrap();
    }
    if let Some(act) = name.strip_prefix("activate_") {
        let x = r.x("x");
        return r.g.activate(x, activation(act).unwrap()).unwrap();
    }
    if let Some(act) = name.strip_prefix("feed_forward_") {
        let x = r.x("x");
        let p = FeedForwardParams { w1: r.p("w1"), b1: r.p("b1"), w2: r.p("w2"), b2: r.p("b2") };
        return r.g.feed_forward(x, p, activation(act).unwrap(), 0.0).unwrap();
    }
    let heads = |name: &str| name.split("_h").nth(1).unwrap()[..1].parse::<usize>().unwrap();
    if name.starts_with("multihead_") {
        let (x, heads) = (r.x("x"), heads(name));
        let (w, b) = (r.p("in_proj_weight"), r.p("in_proj_bias"));
        let (ow, ob) = (r.p("out_proj.weight"), r.p("out_proj.bias"));
        let mask = r.mask();
        let width = r.g.shape(x).last();
        let qkv = r.g.linear(x, w, Some(b), None).unwrap();
        let at = |n: usize| Columns { id: qkv, offset: n * width };
        let spec = AttentionSpec { heads, head_dim: width / heads, dropout: 0.0 };
        let y = r.g.attention(at(0), at(1), at(2), mask, spec).unwrap();
        return r.g.linear(y, ow, Some(ob), None).unwrap();
    }
    if name.starts_with("attention_") {
        let (q, k, v, heads) = (r.x("q"), r.x("k"), r.x("v"), heads(name));
        let spec = AttentionSpec { heads, head_dim: r.g.shape(q).last() / heads, dropout: 0.0 };
        return r.g.attention(q, k, v, None, spec).unwrap();
    }
    if name.starts_with("encoder_") {
        let x = r.x("x");
        let mask = r.mask();
        let encoder = Encoder {
            width: 8,
            heads: 2,
            hidden: 20,
            act: activation(if name.contains("relu") { "relu" } else { "gelu" }).unwrap(),
            norm_first: name.contains("pre_norm"),
            dropout: 0.0,
        };
        return encoder_layer(&mut r.g, x, mask, "", encoder).unwrap();
    }
    let reduction = if name.ends_with("sum") { Reduction::Sum } else { Reduction::Mean };
    if name.starts_with("mse_") {
        let (p, t, m) = (r.x("pred"), r.x("target"), r.mask());
        return r.g.masked_mse(p, t, m, reduction).unwrap();
    }
    if name.starts_with("bce_") {
        let (l, t, m) = (r.x("logits"), r.x("target"), r.mask());
        return r.g.bce_logits(l, t, m, 2.5, reduction).unwrap();
    }
    if name.starts_with("cross_entropy_") {
        let l = r.x("logits");
        let labels = r.g.index("i.labels", r.case["i.labels"].dims.clone(), r.g.shape(l).last()).unwrap();
        return r.g.cross_entropy(l, labels, reduction).unwrap();
    }
    let x = r.x("x");
    match name {
        "layer_norm" => {
            let (gamma, beta) = (r.p("gamma"), r.p("beta"));
            r.g.layer_norm(x, gamma, beta, 1e-5)
        }
        "residual_norm" => {
            let (res, gamma, beta) = (r.x("r"), r.p("gamma"), r.p("beta"));
            r.g.residual_norm(x, res, 0.0, gamma, beta, 1e-5)
        }
        "softmax" => r.g.softmax(x),
        "add_rows" => {
            let t = r.p("t");
            r.g.add_rows(x, t)
        }
        "prepend_row" => {
            let row = r.p("r");
            r.g.prepend_row(x, row)
        }
        "gather_rows" => {
            let index = r.g.index("i.index", r.case["i.index"].dims.clone(), r.g.shape(x).dims()[1]).unwrap();
            r.g.gather_rows(x, index)
        }
        "pool_mean" => r.g.pool(x, Pool::Mean),
        "pool_max" => r.g.pool(x, Pool::Max),
        "pool_first" => r.g.pool(x, Pool::First),
        "pool_last" => r.g.pool(x, Pool::Last),
        "reduce_sum" => r.g.reduce(x, Reduce::Sum),
        "reduce_mean" => r.g.reduce(x, Reduce::Mean),
        "reduce_norm" => r.g.reduce(x, Reduce::Norm),
        _ => panic!("no program for case {name}"),
    }
    .unwrap()
}

/// Relative tolerance of values and gradients, and the unit roundoff.
#[derive(Clone, Copy)]
struct Tolerance {
    value: f64,
    gradient: f64,
    eps: f64,
}

const F32: Tolerance = Tolerance { value: 1e-5, gradient: 1e-4, eps: 6e-8 };
const F64: Tolerance = Tolerance { value: 1e-11, gradient: 1e-10, eps: 1.1e-16 };

/// The worst |difference| / tolerance, and an error if it exceeds 1.
fn compare<T: Real>(what: &str, got: &[T], want: &[f64], rtol: f64, eps: f64, length: usize) -> f64 {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let magnitude = want.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let atol = 4.0 * eps * (length as f64).sqrt() * magnitude;
    let mut worst = 0.0f64;
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let ratio = (g.f64() - w).abs() / (atol + rtol * w.abs());
        // An exact zero of a zero reference divides 0 by 0; any other NaN must fail.
        let ratio = if g.f64() == *w { 0.0 } else { ratio };
        assert!(ratio <= 1.0, "{what}[{i}]: {} for {w} (atol {atol:.1e}, rtol {rtol:.0e})", g.f64());
        worst = worst.max(ratio);
    }
    worst
}

fn check<T: Precision>(name: &str, case: &Case, isa: Isa, tolerance: Tolerance) -> [f64; 2] {
    let mut recorder = Recorder { g: Graph::new(), case };
    let y = record(name, &mut recorder);
    let g = recorder.g;
    assert_eq!(g.shape(y).dims(), case["y"].dims, "{name}: shape of y");
    let mut given = Given { cotangent: case["c"].data.clone(), ..Given::default() };
    for id in g.ids().filter(|&id| matches!(g.node(id).op.name(), "input" | "param" | "index")) {
        let label = &g.node(id).label;
        let t = &case[label];
        assert_eq!(g.shape(id).dims(), t.dims, "{name}: shape of {label}");
        if label.starts_with("i.") {
            given.indices.insert(label.clone(), t.data.iter().map(|&v| v as u32).collect());
        } else {
            given.tensors.insert(label.clone(), t.data.clone());
        }
    }
    let unused: Vec<&String> = case
        .keys()
        .filter(|k| !k.starts_with("d.") && !["c", "y"].contains(&k.as_str()) && g.find(k).is_none())
        .collect();
    assert!(unused.is_empty(), "{name}: the program does not read {unused:?}");
    let Outcome { value, mut gradients } = run::<T>(&g, y, &given, isa);
    let length = case.values().flat_map(|t| &t.dims).copied().max().unwrap_or(1);
    let value =
        compare(&format!("{name} {isa}: y"), &value, &case["y"].data, tolerance.value, tolerance.eps, length);
    let mut gradient = 0.0f64;
    for (key, want) in case.iter().filter_map(|(k, t)| Some((k.strip_prefix("d.")?, t))) {
        let got = gradients.remove(key).unwrap_or_else(|| panic!("{name}: no gradient of {key}"));
        let what = format!("{name} {isa}: d.{key}");
        gradient = gradient.max(compare(&what, &got, &want.data, tolerance.gradient, tolerance.eps, length));
    }
    // What PyTorch has no gradient of is data here: masks and soft targets.
    let left: Vec<_> = gradients.keys().filter(|k| !["mask", "target"].contains(&k.as_str())).collect();
    assert!(left.is_empty(), "{name}: the oracle lacks the gradients of {left:?}");
    [value, gradient]
}

#[test]
fn layers_equal_pytorch() {
    let cases = read(include_str!("oracles/layers/layers.txt"));
    assert_eq!(cases.len(), CASES, "cases in the file");
    let mut worst: BTreeMap<String, [f64; 2]> = BTreeMap::new();
    let mut note = |label: String, w: [f64; 2]| {
        let entry = worst.entry(label).or_insert([0.0; 2]);
        *entry = [entry[0].max(w[0]), entry[1].max(w[1])];
    };
    for (name, case) in &cases {
        for isa in Isa::available() {
            note(format!("f32 {isa}"), check::<f32>(name, case, isa, F32));
            note(format!("f64 {isa}"), check::<f64>(name, case, isa, F64));
        }
    }
    println!("{CASES} layer cases; worst error as a share of the tolerance, [value, gradient]:");
    for (label, [value, gradient]) in worst {
        println!("  {label:<14} {value:.3} {gradient:.3}");
    }
}

/// So that a truncated file cannot pass.
const CASES: usize = 45;

/// Largest tolerance share of losses and of final parameters.
fn train<T: Precision>(start: &Case, end: &Case, adam: Adam, isa: Isa, tolerance: Tolerance) -> [f64; 2] {
    let batch = start["xs"].dims[1];
    let model = common::transformer(Sizes::small(batch, 0.0));
    let graph = Arc::new(model.graph.clone());
    let plan = Arc::new(Plan::new(&graph, OutputRequest::training(model.loss)).unwrap());
    let mut exec = Exec::<T>::with_isa(Arc::clone(&graph), plan, isa);
    let mut params = vec![T::ZERO; graph.layout().len()];
    for p in graph.layout().entries() {
        params[p.range()].copy_from_slice(&cast::<T>(&start[&p.name].data));
    }
    let (mut m, mut v) = (vec![T::ZERO; params.len()], vec![T::ZERO; params.len()]);
    let (mut grads, mut losses) = (m.clone(), Vec::new());
    let (xs, labels) = (&start["xs"].data, &start["i.labels"].data);
    let steps = start["xs"].dims[0];
    let elements = xs.len() / steps;
    for step in 0..steps {
        exec.set_input(model.x, &cast::<T>(&xs[step * elements..][..elements])).unwrap();
        let labels: Vec<u32> = labels[step * batch..][..batch].iter().map(|&l| l as u32).collect();
        exec.set_index(model.labels, &labels).unwrap();
        exec.forward(&params);
        losses.push(exec.value(model.loss)[0]);
        grads.fill(T::ZERO);
        exec.backward(&params, &[T::ONE], &mut grads);
        adam::step(isa, &adam, step as u64 + 1, 1.0, &mut params, &grads, &mut m, &mut v);
    }
    let what = format!("{isa}: losses");
    let loss = compare(&what, &losses, &end["losses"].data, tolerance.value, tolerance.eps, steps);
    let mut worst = 0.0f64;
    for p in graph.layout().entries() {
        let (mut got, mut want) = (params[p.range()].to_vec(), end[&p.name].data.clone());
        if tolerance.eps > 1e-10 && p.name.ends_with("in_proj_bias") {
            // In exact arithmetic the key biases have no gradient (a constant added to all scores of a row changes no
            // probability). Adam divides the rounding noise by its own size, so in f32 they wander; in f64 they are held.
            let width = got.len() / 3;
            got.drain(width..2 * width);
            want.drain(width..2 * width);
        }
        let what = format!("{isa}: {} after {steps} steps", p.name);
        worst = worst.max(compare(&what, &got, &want, tolerance.gradient, tolerance.eps, steps));
        assert!(end[&p.name].data != start[&p.name].data, "{} never moved", p.name);
    }
    [loss, worst]
}

#[test]
fn ten_steps_of_adam_and_adamw_equal_pytorch() {
    let cases: BTreeMap<String, Case> =
        read(include_str!("oracles/layers/training.txt")).into_iter().collect();
    let adam = Adam { learning_rate: 0.01, beta1: 0.9, beta2: 0.98, eps: 1e-4, ..Adam::default() };
    let adamw = Adam { beta2: 0.999, weight_decay: 0.1, decoupled: true, ..adam };
    println!("ten steps; worst error as a share of the tolerance, [loss, parameter]:");
    for (name, adam) in [("adam", adam), ("adamw", adamw)] {
        for isa in Isa::available() {
            let [loss, param] = train::<f32>(&cases["start"], &cases[name], adam, isa, F32);
            println!("  {name:<5} f32 {isa:<9} {loss:.3} {param:.3}");
            let [loss, param] = train::<f64>(&cases["start"], &cases[name], adam, isa, F64);
            println!("  {name:<5} f64 {isa:<9} {loss:.3} {param:.3}");
        }
    }
}

#[test]
fn the_comparison_can_fail() {
    let fails = |got: &[f64], want: &[f64]| {
        let (got, want) = (got.to_vec(), want.to_vec());
        std::panic::catch_unwind(move || compare("x", &got, &want, 1e-5, 6e-8, 4)).is_err()
    };
    assert!(!fails(&[1.0, 0.0], &[1.0 + 9e-6, 4e-7]));
    assert!(fails(&[1.0], &[1.0 + 2e-5]));
    assert!(fails(&[1.0, 1e-6], &[1.0, 0.0]), "an absolute error beyond rounding");
    assert!(fails(&[f64::NAN], &[1.0]));
    assert!(fails(&[f64::INFINITY], &[1.0]));
    assert!(fails(&[1.0], &[1.0, 2.0]));
}
