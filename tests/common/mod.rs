//! What several test files share: numbers by seed, running a program once, and a small transformer.
#![allow(dead_code, reason = "every test file uses a part of it")]

use heartlore::Result;
use heartlore::data::source::MemoryWindows;
use heartlore::data::split::{Group, Keys, Protocol, Split};
use heartlore::graph::{
    AttentionSpec, Columns, Conv1dSpec, Exec, FeedForwardParams, Graph, Id, MatmulPrecision, OutputRequest,
    Plan, Precision,
};
use heartlore::kernels::activation::Activation;
use heartlore::kernels::losses::Reduction;
use heartlore::kernels::pool::Pool;
use heartlore::kernels::rng::Key;
use heartlore::kernels::{Isa, Real};
use heartlore::tensor::Init;
use heartlore::train::Labelled;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Uniform numbers in [-1, 1), of a stream of their own for every seed.
pub(crate) fn uniform(n: usize, seed: u64) -> Vec<f64> {
    let stream = Key { seed, step: 77, ..Key::default() }.stream();
    (0..n).map(|i| 2.0 * stream.uniform(0, i as u32) - 1.0).collect()
}

/// Integers below `bound`.
pub(crate) fn integers(n: usize, bound: usize, seed: u64) -> Vec<u32> {
    uniform(n, seed).into_iter().map(|u| ((u + 1.0) * 0.5 * bound as f64) as u32).collect()
}

pub(crate) fn cast<T: Real>(x: &[f64]) -> Vec<T> {
    x.iter().map(|&v| T::of(v)).collect()
}

/// The bits, for comparisons in which NaN equals NaN and 0 differs from -0.
pub(crate) fn bits<T: Real>(x: &[T]) -> Vec<u64> {
    x.iter().map(|v| v.f64().to_bits()).collect()
}

/// |a - b| / |b| as vectors.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let apart = norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(a - b)));
    apart / norm(&mut b.iter().map(|&b| b.into()))
}

/// The first forty windows of a source as those of ten people, their classes in turn, in two folds of people.
pub(crate) fn people_of_two_classes(source: &MemoryWindows) -> Labelled<'_> {
    let keys = Keys {
        subject: (0..40).map(|i| i / 4).collect(),
        trial: (0..40).map(|i| i / 2).collect(),
        stimulus: vec![],
        class: (0..40).map(|i| i % 2).collect(),
    };
    let protocol = Protocol::KFold { group: Group::Subject, k: 2 };
    Labelled {
        source,
        windows: (0..40).collect(),
        labels: (0..40).map(|i| i % 2 == 1).collect::<Vec<_>>().into(),
        split: Split::new(&keys, protocol, 0.2, 1).unwrap(),
        fingerprint: "waves".into(),
    }
}

/// What is put into a program, by the names of its leaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    pub(crate) tensors: BTreeMap<String, Vec<f64>>,
    pub(crate) indices: BTreeMap<String, Vec<u32>>,
    pub(crate) cotangent: Vec<f64>,
    /// Seed, step and number of the first sample; `None` switches dropout off.
    pub(crate) dropout: Option<(u64, u64, u32)>,
}

impl Given {
    /// Random numbers for every leaf of `g` and for the cotangent of `root`.
    pub(crate) fn random(g: &Graph, root: Id, seed: u64) -> Self {
        let mut given = Self { cotangent: uniform(g.shape(root).elements(), seed ^ 0xc0), ..Self::default() };
        for id in g.ids() {
            let node = g.node(id);
            let (n, seed) = (node.shape.elements(), seed.wrapping_mul(1000) + id.index() as u64);
            if let Some(bound) = node.op.index_bound() {
                given.indices.insert(node.label.clone(), integers(n, bound, seed));
            } else if node.op.is_input() || node.op.parameter().is_some() {
                given.tensors.insert(node.label.clone(), uniform(n, seed));
            }
        }
        given
    }
}

/// What comes out: the root's value, and gradients by name.
#[derive(Clone, Debug)]
pub(crate) struct Outcome<T> {
    pub(crate) value: Vec<T>,
    pub(crate) gradients: BTreeMap<String, Vec<T>>,
}

/// One forward and backward pass of `root` on `isa`; gradients of all parameters, and of all inputs in `given`.
pub(crate) fn run<T: Precision>(g: &Graph, root: Id, given: &Given, isa: Isa) -> Outcome<T> {
    run_in(g, root, given, isa, MatmulPrecision::F32)
}

/// As [`run`], the operands of products rounded.
pub(crate) fn run_in<T: Precision>(
    g: &Graph,
    root: Id,
    given: &Given,
    isa: Isa,
    precision: MatmulPrecision,
) -> Outcome<T> {
    let inputs: Vec<Id> = g.ids().filter(|&id| g.node(id).op.is_input()).collect();
    let want = OutputRequest { keep: vec![root], root: Some(root), gradients: inputs.clone(), params: true };
    let plan = Arc::new(Plan::new(g, want).unwrap().with_precision(precision));
    let mut exec = Exec::<T>::with_isa(Arc::new(g.clone()), plan, isa);
    let params = fill(&mut exec, given);
    let mut grads = vec![T::ZERO; params.len()];
    exec.forward(&params);
    exec.backward(&params, &cast(&given.cotangent), &mut grads);
    let mut gradients: BTreeMap<String, Vec<T>> =
        inputs.iter().map(|&id| (g.node(id).label.clone(), exec.gradient(id).to_vec())).collect();
    for p in g.layout().entries() {
        gradients.insert(p.name.clone(), grads[p.range()].to_vec());
    }
    Outcome { value: exec.value(root).to_vec(), gradients }
}

/// Sets inputs, indices and dropout of `exec`; returns the flat parameters.
pub(crate) fn fill<T: Precision>(exec: &mut Exec<T>, given: &Given) -> Vec<T> {
    let g = Arc::clone(exec.graph());
    if let Some((seed, step, first)) = given.dropout {
        exec.set_dropout(true);
        exec.set_key(seed, step, first);
    }
    let mut params = vec![T::ZERO; g.layout().len()];
    for (name, values) in &given.tensors {
        match (g.layout().find(name), g.find(name)) {
            (Some(p), _) => params[p.range()].copy_from_slice(&cast::<T>(values)),
            (None, Some(id)) if exec.plan().is_live(id) => exec.set_input(id, &cast::<T>(values)).unwrap(),
            (None, Some(_)) => {}
            (None, None) => panic!("{name} is not a leaf of the program"),
        }
    }
    for (name, values) in &given.indices {
        exec.set_index(g.find(name).unwrap(), values).unwrap();
    }
    params
}

/// Settings of [`encoder_layer`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoder {
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) hidden: usize,
    pub(crate) act: Activation,
    pub(crate) norm_first: bool,
    pub(crate) dropout: f64,
}

/// PyTorch's `nn.TransformerEncoderLayer`, with its parameter names behind `prefix`.
pub(crate) fn encoder_layer(g: &mut Graph, x: Id, mask: Option<Id>, prefix: &str, e: Encoder) -> Result<Id> {
    let w = e.width;
    let mut param =
        |name: &str, shape: &[usize], init| g.param(&format!("{prefix}{name}"), shape.to_vec(), init);
    let fan = Init::FanIn(w);
    let (qkv_w, qkv_b) = (
        param("self_attn.in_proj_weight", &[3 * w, w], fan)?,
        param("self_attn.in_proj_bias", &[3 * w], fan)?,
    );
    let (out_w, out_b) =
        (param("self_attn.out_proj.weight", &[w, w], fan)?, param("self_attn.out_proj.bias", &[w], fan)?);
    let ff = FeedForwardParams {
        w1: param("linear1.weight", &[e.hidden, w], fan)?,
        b1: param("linear1.bias", &[e.hidden], fan)?,
        w2: param("linear2.weight", &[w, e.hidden], Init::FanIn(e.hidden))?,
        b2: param("linear2.bias", &[w], Init::FanIn(e.hidden))?,
    };
    let n1 = (param("norm1.weight", &[w], Init::Ones)?, param("norm1.bias", &[w], Init::Zeros)?);
    let n2 = (param("norm2.weight", &[w], Init::Ones)?, param("norm2.bias", &[w], Init::Zeros)?);
    let spec = AttentionSpec { heads: e.heads, head_dim: w / e.heads, dropout: e.dropout };
    let attend = |g: &mut Graph, x: Id| -> Result<Id> {
        let qkv = g.linear(x, qkv_w, Some(qkv_b), None)?;
        let at = |n: usize| Columns { id: qkv, offset: n * w };
        let y = g.attention(at(0), at(1), at(2), mask, spec)?;
        g.linear(y, out_w, Some(out_b), None)
    };
    const EPS: f64 = 1e-5;
    if e.norm_first {
        let h = g.layer_norm(x, n1.0, n1.1, EPS)?;
        let h = attend(g, h)?;
        let h = g.dropout(h, e.dropout)?;
        let x = g.add(x, h)?;
        let h = g.layer_norm(x, n2.0, n2.1, EPS)?;
        let h = g.feed_forward(h, ff, e.act, e.dropout)?;
        let h = g.dropout(h, e.dropout)?;
        g.add(x, h)
    } else {
        let h = attend(g, x)?;
        let x = g.residual_norm(x, h, e.dropout, n1.0, n1.1, EPS)?;
        let h = g.feed_forward(x, ff, e.act, e.dropout)?;
        g.residual_norm(x, h, e.dropout, n2.0, n2.1, EPS)
    }
}

/// Sizes of [`transformer`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) batch: usize,
    pub(crate) length: usize,
    pub(crate) channels: usize,
    pub(crate) classes: usize,
    pub(crate) layers: usize,
    pub(crate) encoder: Encoder,
}

impl Sizes {
    /// The model of tests/oracles/layers/make.py.
    pub(crate) fn small(batch: usize, dropout: f64) -> Self {
        let encoder =
            Encoder { width: 8, heads: 2, hidden: 12, act: Activation::Gelu, norm_first: false, dropout };
        Self { batch, length: 14, channels: 2, classes: 3, layers: 2, encoder }
    }
}

/// A recorded model.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) graph: Graph,
    pub(crate) x: Id,
    pub(crate) labels: Id,
    pub(crate) logits: Id,
    pub(crate) loss: Id,
}

/// Convolution, sinusoidal positions, CLS row, encoder layers (post-norm and pre-norm in turn), a linear head on the CLS
/// row, softmax cross-entropy.
pub(crate) fn transformer(s: Sizes) -> Model {
    let mut g = Graph::new();
    let w = s.encoder.width;
    let x = g.input("x", [s.batch, s.length, s.channels]).unwrap();
    let fan = Init::FanIn(s.channels * 5);
    let (conv_w, conv_b) =
        (g.param("conv.weight", [w, s.channels, 5], fan).unwrap(), g.param("conv.bias", [w], fan).unwrap());
    let spec = Conv1dSpec { stride: 2, padding: 2, act: Some(Activation::Gelu), ..Conv1dSpec::default() };
    let h = g.conv1d(x, conv_w, Some(conv_b), spec).unwrap();
    let table = g.sinusoid(g.shape(h).dims()[1], w).unwrap();
    let h = g.add_rows(h, table).unwrap();
    let cls = g.param("cls", [w], Init::Normal(0.5)).unwrap();
    let mut h = g.prepend_row(h, cls).unwrap();
    for i in 0..s.layers {
        let encoder = Encoder { norm_first: i % 2 == 1, ..s.encoder };
        h = encoder_layer(&mut g, h, None, &format!("layers{i}."), encoder).unwrap();
    }
    let h = g.pool(h, Pool::First).unwrap();
    let head_w = g.param("head.weight", [s.classes, w], Init::FanIn(w)).unwrap();
    let head_b = g.param("head.bias", [s.classes], Init::FanIn(w)).unwrap();
    let logits = g.linear(h, head_w, Some(head_b), None).unwrap();
    let labels = g.index("labels", [s.batch], s.classes).unwrap();
    let loss = g.cross_entropy(logits, labels, Reduction::Mean).unwrap();
    Model { graph: g, x, labels, logits, loss }
}
