//! One random case per operation, by which it is checked. The operation is recorded twice on the same inputs and the results are multiplied, so
//! every input has at least two uses and an overwrite in place of an accumulation cannot survive. Inputs are, at random,
//! inputs, parameters or results of another operation.

use super::draw::{Case, Draw};
use crate::error::{Error, Result};
use crate::graph::builder::Graph;
use crate::graph::id::{Columns, Id};
use crate::graph::number::Number;
use crate::graph::ops::{AttentionSpec, Conv1dSpec, CustomOp, FeedForwardParams, OpKind};
use crate::tensor::{Init, Shape};
use heartlore_kernels::Real;
use heartlore_kernels::activation::Activation;
use heartlore_kernels::losses::Reduction;
use heartlore_kernels::pool::Pool;
use heartlore_kernels::reduce::Reduce;

pub(super) const ACTIVATIONS: [Activation; 5] =
    [Activation::Relu, Activation::Gelu, Activation::GeluTanh, Activation::Sigmoid, Activation::Tanh];
pub(super) const POOLS: [Pool; 5] = [Pool::Mean, Pool::Max, Pool::First, Pool::Last, Pool::MeanDeviation];
pub(super) const REDUCES: [Reduce; 3] = [Reduce::Sum, Reduce::Mean, Reduce::Norm];

/// A value to differentiate: an input, a parameter, or a multiple of an input.
pub(super) fn fresh(g: &mut Graph, d: &mut Draw, name: &str, shape: impl Into<Shape>) -> Id {
    let shape = shape.into();
    let name = format!("{name}.{}", g.nodes().len());
    match d.below(3) {
        0 => g.input(&name, shape).unwrap(),
        1 => g.param(&name, shape, Init::Normal(1.0)).unwrap(),
        _ => {
            let x = g.input(&name, shape).unwrap();
            g.scale(x, -0.7).unwrap()
        }
    }
}

fn act(d: &mut Draw) -> Option<Activation> {
    (d.below(3) > 0).then(|| d.pick(&ACTIVATIONS))
}

/// A random shape of rank 1 to 3.
fn shape(d: &mut Draw, max: usize) -> Shape {
    let rank = d.size(3);
    Shape::from((0..rank).map(|_| d.size(max)).collect::<Vec<_>>())
}

fn reduction(d: &mut Draw) -> Reduction {
    if d.coin() { Reduction::Mean } else { Reduction::Sum }
}

/// A case for `kind` with sizes up to `size`.
///
/// # Panics
/// For a kind that computes nothing ([`OpKind::is_leaf`]).
pub fn of(kind: OpKind, size: usize, seed: u64) -> Case {
    let (mut g, mut d) = (Graph::new(), Draw::new(seed));
    let record = recorder(kind, &mut g, &mut d, size);
    let dropout = d.coin();
    let first = record(&mut g);
    let second = record(&mut g);
    let root = g.mul(first, second).unwrap();
    Case { graph: g, root, dropout }
}

/// An operation outside the registry: y = a sigmoid(b).
#[derive(Clone, Copy, PartialEq, Debug)]
struct Gate;

/// Records it: y = a sigmoid(b).
pub(super) fn gate(g: &mut Graph, a: Id, b: Id) -> Id {
    g.custom(Gate, &[a, b]).unwrap()
}

impl CustomOp for Gate {
    const HAS_FORMULA: bool = true;
    fn name(&self) -> &'static str {
        "gate"
    }
    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        if inputs[0] != inputs[1] {
            return Err(Error::shape(format!("a has shape {}, b {}", inputs[0], inputs[1])));
        }
        Ok(inputs[0].clone())
    }
    fn forward<T: Real>(&self, _: &[&Shape], inputs: &[&[T]], y: &mut [T]) {
        for i in 0..y.len() {
            y[i] = inputs[0][i] / (T::ONE + (-inputs[1][i]).exp());
        }
    }
    fn backward<T: Real>(&self, _: &[&Shape], inputs: &[&[T]], dy: &[T], gradients: &mut [Option<&mut [T]>]) {
        for i in 0..dy.len() {
            let s = T::ONE / (T::ONE + (-inputs[1][i]).exp());
            if let Some(da) = &mut gradients[0] {
                da[i] += s * dy[i];
            }
            if let Some(db) = &mut gradients[1] {
                db[i] += inputs[0][i] * s * (T::ONE - s) * dy[i];
            }
        }
    }
    fn formula<N: Number>(&self, _: &[&Shape], inputs: &[&[N]]) -> Vec<N> {
        inputs[0].iter().zip(inputs[1]).map(|(&a, &b)| a * b.sigmoid()).collect()
    }
}

type Record = Box<dyn Fn(&mut Graph) -> Id>;

fn recorder(kind: OpKind, g: &mut Graph, d: &mut Draw, size: usize) -> Record {
    let p = d.pick(&[0.0, 0.0, 0.3]);
    match kind {
        OpKind::Input | OpKind::Index | OpKind::Param | OpKind::Sinusoid => {
            unreachable!("{kind:?} computes nothing")
        }
        OpKind::Linear => {
            let xs = shape(d, size);
            let (total, act) = (d.size(size), act(d));
            let (first, x) = (d.below(total), fresh(g, d, "x", &xs));
            let rows = first..first + d.size(total - first);
            let w = fresh(g, d, "w", [total, xs.last()]);
            let b = d.coin().then(|| fresh(g, d, "b", [total]));
            Box::new(move |g| g.linear_rows(x, w, b, rows.clone(), act).unwrap())
        }
        OpKind::Conv1d => {
            let (batch, inputs, outputs) = (d.size(2), d.size(size.min(3)), d.size(size.min(3)));
            let (kernel, dilation) = (d.size(size), d.size(2));
            let (stride, padding) = (d.size(3), d.below(4));
            let reach = dilation * (kernel - 1) + 1;
            let length = (reach + d.below(size + 1)).saturating_sub(padding).max(1);
            let length = length.max(reach.saturating_sub(2 * padding));
            let x = fresh(g, d, "x", [batch, length, inputs]);
            let w = fresh(g, d, "w", [outputs, inputs, kernel]);
            let b = d.coin().then(|| fresh(g, d, "b", [outputs]));
            let spec = Conv1dSpec { stride, padding, dilation, act: act(d) };
            Box::new(move |g| g.conv1d(x, w, b, spec).unwrap())
        }
        OpKind::LayerNorm => {
            let xs = shape(d, size);
            let x = fresh(g, d, "x", &xs);
            let residual = d.coin().then(|| match (d.below(4), xs.dims()) {
                (0, _) => x,
                // One table for all samples.
                (1, [_, rows, width]) => fresh(g, d, "r", [*rows, *width]),
                _ => fresh(g, d, "r", &xs),
            });
            let (gamma, beta) = (fresh(g, d, "gamma", [xs.last()]), fresh(g, d, "beta", [xs.last()]));
            // With two or three columns the variance may be tiny and the third derivative huge: a larger eps.
            let eps = if xs.last() < 4 { 0.5 } else { 0.05 };
            Box::new(move |g| match residual {
                Some(r) => g.residual_norm(x, r, p, gamma, beta, eps).unwrap(),
                None => g.layer_norm(x, gamma, beta, eps).unwrap(),
            })
        }
        OpKind::Softmax => {
            let xs = shape(d, size);
            let x = fresh(g, d, "x", &xs);
            Box::new(move |g| g.softmax(x).unwrap())
        }
        OpKind::Attention => {
            let (heads, head_dim, batch) = (d.size(3), d.size(size), d.size(2));
            let width = heads * head_dim;
            let (tq, tk) = (d.size(size), d.size(size));
            let spec = AttentionSpec { heads, head_dim, dropout: p };
            let (q, k, v): (Columns, Columns, Columns) = match d.below(5) {
                // One joint projection, blocks in some order.
                0 => {
                    let x = fresh(g, d, "qkv", [batch, tk, 3 * width]);
                    let at = |n: usize| Columns { id: x, offset: n * width };
                    d.pick(&[(at(0), at(1), at(2)), (at(2), at(0), at(1))])
                }
                // Self-attention on one value.
                1 => {
                    let x = fresh(g, d, "x", [batch, tk, width]);
                    (x.into(), x.into(), x.into())
                }
                // Queries apart, keys and values together: the pruned last layer.
                2 => {
                    let q = fresh(g, d, "q", [batch, tq, width]);
                    let x = fresh(g, d, "kv", [batch, tk, 2 * width]);
                    (q.into(), x.into(), Columns { id: x, offset: width })
                }
                // Blocks that leave columns unused, overlapping or not.
                3 => {
                    let x = fresh(g, d, "kv", [batch, tk, 3 * width + 1]);
                    let at = |offset| Columns { id: x, offset };
                    d.pick(&[(at(1), at(width / 2), at(width)), (at(width), at(0), at(2 * width + 1))])
                }
                _ => {
                    let q = fresh(g, d, "q", [batch, tq, width]);
                    let k = fresh(g, d, "k", [batch, tk, width]);
                    (q.into(), k.into(), fresh(g, d, "v", [batch, tk, width]).into())
                }
            };
            let mask = d.coin().then(|| {
                let name = format!("mask{}", g.nodes().len());
                g.input(&name, [batch, tk]).unwrap()
            });
            Box::new(move |g| g.attention(q, k, v, mask, spec).unwrap())
        }
        OpKind::AbsorbedAttention => {
            let (heads, head_dim, batch) = (d.size(3), d.size(size), d.size(2));
            let (tq, tk, inner) = (d.size(size), d.size(size), heads * head_dim);
            let spec = AttentionSpec { heads, head_dim, dropout: p };
            // Now and then the queries are the rows themselves.
            let x = d.coin().then(|| fresh(g, d, "x", [batch, tk, inner]));
            let q = x.filter(|_| d.coin()).unwrap_or_else(|| fresh(g, d, "q", [batch, tq, inner]));
            let width = if x.is_some() { inner } else { d.size(size) };
            let x = x.unwrap_or_else(|| fresh(g, d, "x", [batch, tk, width]));
            let first = d.below(3);
            let total = first + 2 * inner + d.below(3);
            let w = fresh(g, d, "w", [total, width]);
            let b = d.coin().then(|| fresh(g, d, "b", [total]));
            let mask = d.coin().then(|| {
                let name = format!("mask{}", g.nodes().len());
                g.input(&name, [batch, tk]).unwrap()
            });
            Box::new(move |g| g.absorbed_attention(q, x, w, b, first, mask, spec).unwrap())
        }
        OpKind::FeedForward => {
            let (xs, hidden) = (shape(d, size), d.size(size));
            let x = fresh(g, d, "x", &xs);
            let p4 = FeedForwardParams {
                w1: fresh(g, d, "w1", [hidden, xs.last()]),
                b1: fresh(g, d, "b1", [hidden]),
                w2: fresh(g, d, "w2", [xs.last(), hidden]),
                b2: fresh(g, d, "b2", [xs.last()]),
            };
            let act = d.pick(&ACTIVATIONS);
            Box::new(move |g| g.feed_forward(x, p4, act, p).unwrap())
        }
        OpKind::Activate => {
            let xs = shape(d, size);
            let (x, kind) = (fresh(g, d, "x", xs), d.pick(&ACTIVATIONS));
            Box::new(move |g| g.activate(x, kind).unwrap())
        }
        OpKind::Dropout => {
            let xs = shape(d, size);
            let x = fresh(g, d, "x", xs);
            Box::new(move |g| g.dropout(x, p).unwrap())
        }
        OpKind::Add | OpKind::Mul => {
            let xs = shape(d, size);
            let a = fresh(g, d, "a", &xs);
            let b = if d.below(3) == 0 { a } else { fresh(g, d, "b", &xs) };
            Box::new(move |g| if kind == OpKind::Add { g.add(a, b).unwrap() } else { g.mul(a, b).unwrap() })
        }
        OpKind::Scale => {
            let xs = shape(d, size);
            let (x, factor) = (fresh(g, d, "x", xs), d.pick(&[-2.0, 0.0, 0.3]));
            Box::new(move |g| g.scale(x, factor).unwrap())
        }
        OpKind::AddRows => {
            let dims = [d.size(3), d.size(size), d.size(size)];
            let x = fresh(g, d, "x", dims);
            let table = if d.coin() {
                fresh(g, d, "t", [dims[1], dims[2]])
            } else {
                g.sinusoid(dims[1], dims[2]).unwrap()
            };
            Box::new(move |g| g.add_rows(x, table).unwrap())
        }
        OpKind::PrependRow => {
            let dims = [d.size(3), d.size(size), d.size(size)];
            let (x, row) = (fresh(g, d, "x", dims), fresh(g, d, "row", [dims[2]]));
            Box::new(move |g| g.prepend_row(x, row).unwrap())
        }
        OpKind::GatherRows => {
            let (dims, selected_rows) = ([d.size(3), d.size(size), d.size(size)], d.size(size + 2));
            let x = fresh(g, d, "x", dims);
            let index = g.index("index", [dims[0], selected_rows], dims[1]).unwrap();
            Box::new(move |g| g.gather_rows(x, index).unwrap())
        }
        OpKind::Pool => {
            let (x, kind) = ([d.size(3), d.size(size), d.size(size)], d.pick(&POOLS));
            let x = fresh(g, d, "x", x);
            Box::new(move |g| g.pool(x, kind).unwrap())
        }
        OpKind::Reshape => {
            let dims = [d.size(3), d.size(size), d.size(size)];
            let x = fresh(g, d, "x", dims);
            Box::new(move |g| g.reshape(x, [dims[2], dims[0] * dims[1]]).unwrap())
        }
        OpKind::MaskedMse => {
            let (xs, red) = (shape(d, size), reduction(d));
            let (pred, target) = (fresh(g, d, "pred", &xs), fresh(g, d, "target", &xs));
            let mask = d.coin().then(|| g.input("mask", &xs).unwrap());
            Box::new(move |g| g.masked_mse(pred, target, mask, red).unwrap())
        }
        OpKind::BceLogits => {
            let (xs, red, weight) = (shape(d, size), reduction(d), d.pick(&[1.0, 0.3, 4.0]));
            let (logits, targets) = (fresh(g, d, "x", &xs), g.input("probability", &xs).unwrap());
            let mask = d.coin().then(|| g.input("mask", &xs).unwrap());
            Box::new(move |g| g.bce_logits(logits, targets, mask, weight, red).unwrap())
        }
        OpKind::CrossEntropy => {
            let (rows, classes, red) = (d.size(size), d.size(size), reduction(d));
            let logits = fresh(g, d, "x", [rows, classes]);
            let labels = g.index("labels", [rows], classes).unwrap();
            Box::new(move |g| g.cross_entropy(logits, labels, red).unwrap())
        }
        OpKind::Custom => {
            let xs = shape(d, size);
            let (a, b) = (fresh(g, d, "a", &xs), fresh(g, d, "b", &xs));
            Box::new(move |g| gate(g, a, b))
        }
        OpKind::RmsNorm => {
            let xs = shape(d, size);
            let (x, gamma) = (fresh(g, d, "x", &xs), fresh(g, d, "gamma", [xs.last()]));
            // With few columns the mean square may be tiny and the third derivative huge: a larger eps.
            let eps = if xs.last() < 4 { 0.5 } else { 0.05 };
            Box::new(move |g| g.rms_norm(x, gamma, eps).unwrap())
        }
        OpKind::Reduce => {
            let (xs, kind) = (shape(d, size), d.pick(&REDUCES));
            let x = fresh(g, d, "x", xs);
            Box::new(move |g| g.reduce(x, kind).unwrap())
        }
    }
}
