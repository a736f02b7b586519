//! Squared error where the mask is 1.

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
use heartlore_kernels::losses::{Reduction, masked_mse};

const NAME: &str = "masked_mse";

/// Squared error where the mask is 1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct MaskedMse {
    /// Any shape.
    pub pred: Id,
    /// The same shape; no gradient unless wanted.
    pub target: Id,
    /// The same shape, weights.
    pub mask: Option<Id>,
    /// Mean over the mask, or sum.
    pub reduction: Reduction,
}

impl Graph {
    /// Mean (over the mask) or sum of mask * (pred - target)^2, all of one shape -> scalar. Without mask all count.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn masked_mse(&mut self, pred: Id, target: Id, mask: Option<Id>, reduction: Reduction) -> Result<Id> {
        let s = self.valid(pred)?.clone();
        self.expect(NAME, "target", target, &s, "as pred")?;
        if let Some(m) = mask {
            self.expect(NAME, "mask", m, &s, "as pred")?;
        }
        self.push(MaskedMse { pred, target, mask, reduction }, Shape::scalar())
    }
}

impl Operation for MaskedMse {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.pred), Some(&mut self.target), self.mask.as_mut()])
    }
    fn settings(&self) -> String {
        format!(" {:?}", self.reduction)
    }
    fn differentiable(&self, slot: usize) -> bool {
        slot < 2
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        let mask = self.mask.map_or("None".into(), |id| format!("Some({})", v(id)));
        format!(
            "g.masked_mse({}, {}, {mask}, Reduction::{:?})?",
            v(self.pred),
            v(self.target),
            self.reduction
        )
    }
    fn backward_reads(&self) -> Reads {
        Reads::ALL_INPUTS
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let n = s.of(self.pred).elements() as u64;
        (5 * n, 5 * n)
    }
}

impl Rules for MaskedMse {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let site = run.site;
        let ForwardSlices { y, inputs: [p, t, m], .. } =
            run.open([Some(self.pred), Some(self.target), self.mask]);
        masked_mse::forward(site.isa, self.reduction, p, t, self.mask.map(|_| m), y);
    }
    fn formula<N: Number>(&self, _s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        let squares = at.x(self.pred).iter().zip(at.x(self.target)).map(|(&p, &t)| (p - t) * (p - t));
        vec![at.reduced(squares, self.mask, self.reduction)]
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let site = run.site;
        let BackwardSlices { to: [dp, dt, ..], dy, inputs: [p, t, m], .. } =
            run.open([Some(self.pred), Some(self.target), self.mask]);
        masked_mse::backward(site.isa, self.reduction, p, t, self.mask.map(|_| m), dy[0], dp, dt);
    }
}
