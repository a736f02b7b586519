//! Softmax cross-entropy of logits and class labels.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::Formula;
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Operation, Reads, Rules, Shapes,
};
use crate::tensor::Shape;
use heartlore_kernels::Real;
use heartlore_kernels::losses::{Reduction, cross_entropy};

const NAME: &str = "cross_entropy";

/// Softmax cross-entropy.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CrossEntropy {
    /// `[rows, classes]`
    pub logits: Id,
    /// `[rows]`, an [`Index`](super::Index).
    pub labels: Id,
    /// Mean or sum.
    pub reduction: Reduction,
}

impl CrossEntropy {
    fn dims(&self, s: Shapes<'_>) -> cross_entropy::Dims {
        let s = s.of(self.logits);
        cross_entropy::Dims { rows: s.rows(), classes: s.last() }
    }
}

impl Graph {
    /// Softmax cross-entropy: logits `[rows, classes]`, labels `[rows]` -> scalar.
    ///
    /// # Errors
    /// If the shapes do not fit or a label may exceed the classes.
    pub fn cross_entropy(&mut self, logits: Id, labels: Id, reduction: Reduction) -> Result<Id> {
        let s = self.valid(logits)?.clone();
        let ls = self.index_shape(NAME, labels, s.last())?;
        if s.rank() != 2 || ls.dims() != [s.dims()[0]] {
            return self.misfit(NAME, format_args!("logits have shape {s}, labels {ls}"));
        }
        self.push(CrossEntropy { logits, labels, reduction }, Shape::scalar())
    }
}

impl Operation for CrossEntropy {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.logits), Some(&mut self.labels)])
    }
    fn settings(&self) -> String {
        format!(" {:?}", self.reduction)
    }
    fn differentiable(&self, slot: usize) -> bool {
        slot == 0
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        let (logits, labels) = (v(self.logits), v(self.labels));
        format!("g.cross_entropy({logits}, {labels}, Reduction::{:?})?", self.reduction)
    }
    fn backward_reads(&self) -> Reads {
        Reads::ALL_INPUTS
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let n = s.of(self.logits).elements() as u64;
        (5 * n, 5 * n)
    }
}

impl Rules for CrossEntropy {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let (isa, d, labels) = (run.site.isa, self.dims(run.site.shapes()), run.index(self.labels));
        let ForwardSlices { y, inputs: [l], .. } = run.open([Some(self.logits)]);
        cross_entropy::forward(isa, d, self.reduction, l, labels, y);
    }
    fn formula<N: Number>(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        let rows = at.x(self.logits).chunks_exact(self.dims(s).classes);
        let losses = rows.zip(at.index(self.labels)).map(|(x, &label)| {
            let largest = x.iter().fold(f64::NEG_INFINITY, |m, x| m.max(x.re()));
            let sum = x.iter().fold(N::zero(), |sum, &x| sum + (x - N::of(largest)).exp());
            sum.ln() + N::of(largest) - x[label as usize]
        });
        vec![at.reduced(losses, None, self.reduction)]
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let (isa, d, labels) = (run.site.isa, self.dims(run.site.shapes()), run.index(self.labels));
        let BackwardSlices { to: [dl, ..], dy, inputs: [l], .. } = run.open([Some(self.logits)]);
        if let Some(dl) = dl {
            cross_entropy::backward(isa, d, self.reduction, l, labels, dy[0], dl);
        }
    }
}
