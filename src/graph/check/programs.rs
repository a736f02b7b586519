//! Random programs of 3 to 30 operations on a shared pool of values: long chains, shared inputs, dead branches.

use super::cases::{ACTIVATIONS, POOLS, REDUCES, fresh, gate};
use super::draw::{Case, Draw};
use crate::graph::builder::Graph;
use crate::graph::id::{Columns, Id};
use crate::graph::ops::{AttentionSpec, Conv1dSpec, FeedForwardParams};
use crate::tensor::Shape;
use heartlore_kernels::activation::Activation;
use heartlore_kernels::losses::Reduction;
use heartlore_kernels::reduce::Reduce;

/// Smooth activations are drawn twice as often: every ReLU makes a point away from kinks rarer.
fn act(d: &mut Draw) -> Option<Activation> {
    d.coin().then(|| d.pick(&ACTIVATIONS))
}

struct Program {
    g: Graph,
    d: Draw,
    /// Values of three dimensions `[batch, rows, width]`, the currency of the program.
    pool: Vec<Id>,
    scalars: Vec<Id>,
}

impl Program {
    fn any(&mut self) -> Id {
        self.d.pick(&self.pool)
    }
    /// A pool value of this shape, or a new one.
    fn like(&mut self, shape: &Shape) -> Id {
        let same: Vec<Id> = self.pool.iter().copied().filter(|&id| self.g.shape(id) == shape).collect();
        if same.is_empty() || self.d.below(4) == 0 {
            fresh(&mut self.g, &mut self.d, "in", shape)
        } else {
            self.d.pick(&same)
        }
    }
    fn fresh(&mut self, name: &str, shape: impl Into<Shape>) -> Id {
        fresh(&mut self.g, &mut self.d, name, shape)
    }
    /// Keeps magnitudes of products of random numbers near one.
    fn small(&mut self, name: &str, shape: impl Into<Shape>) -> Id {
        let x = self.fresh(name, shape);
        self.g.scale(x, 0.6).unwrap()
    }
    fn dims(&self, id: Id) -> [usize; 3] {
        let d = self.g.shape(id).dims();
        [d[0], d[1], d[2]]
    }

    fn step(&mut self) {
        let x = self.any();
        let [batch, rows, width] = self.dims(x);
        let xs = self.g.shape(x).clone();
        let p = self.d.pick(&[0.0, 0.2]);
        let y = match self.d.below(21) {
            0 => {
                let outputs = self.d.size(4);
                let w = self.small("w", [outputs, width]);
                let b = self.fresh("b", [outputs]);
                let act = act(&mut self.d);
                self.g.linear(x, w, Some(b), act).unwrap()
            }
            1 => {
                let (outputs, kernel) = (self.d.size(3), self.d.size(3));
                let w = self.small("w", [outputs, width, kernel]);
                let act = act(&mut self.d);
                let spec =
                    Conv1dSpec { padding: kernel / 2, stride: self.d.size(2), act, ..Conv1dSpec::default() };
                let b = self.fresh("b", [outputs]);
                self.g.conv1d(x, w, Some(b), spec).unwrap()
            }
            2 | 3 => {
                let (gamma, beta) = (self.fresh("gamma", [width]), self.fresh("beta", [width]));
                let r = self.like(&xs);
                if self.d.coin() {
                    self.g.residual_norm(x, r, p, gamma, beta, 0.5).unwrap()
                } else {
                    self.g.layer_norm(x, gamma, beta, 0.5).unwrap()
                }
            }
            8 if self.d.below(3) == 0 => {
                let b = self.like(&xs);
                gate(&mut self.g, x, b)
            }
            4 if self.d.coin() => {
                let gamma = self.fresh("gamma", [width]);
                self.g.rms_norm(x, gamma, 0.5).unwrap()
            }
            4 => self.g.softmax(x).unwrap(),
            5 => {
                let w = self.small("w", [3 * width, width]);
                let qkv = self.g.linear(x, w, None, None).unwrap();
                let at = |n: usize| Columns { id: qkv, offset: n * width };
                let spec = AttentionSpec { heads: 1, head_dim: width, dropout: p };
                self.g.attention(at(0), at(1), at(2), None, spec).unwrap()
            }
            6 => {
                let (q, v) = (self.like(&xs), self.like(&xs));
                let heads = if width % 2 == 0 { 2 } else { 1 };
                let spec = AttentionSpec { heads, head_dim: width / heads, dropout: p };
                self.g.attention(q, x, v, None, spec).unwrap()
            }
            7 => {
                let hidden = self.d.size(5);
                let params = FeedForwardParams {
                    w1: self.small("w1", [hidden, width]),
                    b1: self.fresh("b1", [hidden]),
                    w2: self.small("w2", [width, hidden]),
                    b2: self.fresh("b2", [width]),
                };
                let act = self.d.pick(&ACTIVATIONS[1..]);
                self.g.feed_forward(x, params, act, p).unwrap()
            }
            8 => {
                let kind = self.d.pick(&ACTIVATIONS);
                self.g.activate(x, kind).unwrap()
            }
            9 => self.g.dropout(x, p).unwrap(),
            10 => {
                let b = self.like(&xs);
                self.g.add(x, b).unwrap()
            }
            11 => {
                let b = self.like(&xs);
                self.g.mul(x, b).unwrap()
            }
            12 => self.g.scale(x, 0.5).unwrap(),
            13 => {
                let table = if self.d.coin() {
                    self.fresh("t", [rows, width])
                } else {
                    self.g.sinusoid(rows, width).unwrap()
                };
                self.g.add_rows(x, table).unwrap()
            }
            14 => {
                let row = self.fresh("row", [width]);
                self.g.prepend_row(x, row).unwrap()
            }
            15 => {
                let selected_rows = self.d.size(4);
                let name = format!("index{}", self.g.nodes().len());
                let index = self.g.index(&name, [batch, selected_rows], rows).unwrap();
                self.g.gather_rows(x, index).unwrap()
            }
            16 => {
                let kind = self.d.pick(&POOLS);
                let y = self.g.pool(x, kind).unwrap();
                self.g.reshape(y, [batch, 1, kind.columns(width)]).unwrap()
            }
            17 => self.g.reshape(x, [batch, width, rows]).unwrap(),
            18 => {
                let heads = if width % 2 == 0 { 2 } else { 1 };
                let spec = AttentionSpec { heads, head_dim: width / heads, dropout: p };
                let (q, first) = (self.like(&xs), self.d.below(2));
                let w = self.small("w", [first + 2 * width, width]);
                let b = self.d.coin().then(|| self.fresh("b", [first + 2 * width]));
                self.g.absorbed_attention(q, x, w, b, first, None, spec).unwrap()
            }
            19 => {
                let kind = self.d.pick(&REDUCES);
                let s = self.g.reduce(x, kind).unwrap();
                self.scalars.push(s);
                return;
            }
            _ => {
                let s = match self.d.below(3) {
                    0 => {
                        let t = self.like(&xs);
                        self.g.masked_mse(x, t, None, Reduction::Mean).unwrap()
                    }
                    1 => {
                        let name = format!("probability{}", self.g.nodes().len());
                        let t = self.g.input(&name, &xs).unwrap();
                        self.g.bce_logits(x, t, None, 1.5, Reduction::Mean).unwrap()
                    }
                    _ => {
                        let flat = self.g.reshape(x, [batch * rows, width]).unwrap();
                        let name = format!("labels{}", self.g.nodes().len());
                        let labels = self.g.index(&name, [batch * rows], width).unwrap();
                        self.g.cross_entropy(flat, labels, Reduction::Mean).unwrap()
                    }
                };
                self.scalars.push(s);
                return;
            }
        };
        self.pool.push(y);
    }
}

/// A program of about `size` operations (at least 3), everything in the pool leading to one scalar root.
pub fn random(size: usize, seed: u64) -> Case {
    let mut d = Draw::new(seed);
    let dims = [d.size(2), d.size(4), d.size(4)];
    let mut p = Program { g: Graph::new(), d, pool: Vec::new(), scalars: Vec::new() };
    let x = p.fresh("x", dims);
    p.pool.push(x);
    for _ in 0..size.max(3) {
        p.step();
    }
    let used: std::collections::BTreeSet<Id> = p.g.nodes().iter().flat_map(|n| n.op.inputs()).collect();
    let ends: Vec<Id> = p.pool.iter().copied().filter(|id| !used.contains(id)).collect();
    for id in ends {
        // One dead branch now and then: the plan must leave it out.
        if p.scalars.is_empty() || p.d.below(5) > 0 {
            let square = p.g.mul(id, id).unwrap();
            let s = p.g.reduce(square, Reduce::Mean).unwrap();
            p.scalars.push(s);
        }
    }
    let mut root = p.scalars[0];
    for &s in &p.scalars[1..] {
        root = p.g.add(root, s).unwrap();
    }
    let dropout = p.d.coin();
    Case { graph: p.g, root, dropout }
}
