//! Binary cross-entropy with logits.

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
use heartlore_kernels::losses::{Reduction, bce_logits};

const NAME: &str = "bce_logits";

/// Binary cross-entropy with logits.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BceLogits {
    /// Any shape.
    pub logits: Id,
    /// The same shape, in [0, 1].
    pub targets: Id,
    /// The same shape, weights.
    pub mask: Option<Id>,
    /// Weight of the positive class.
    pub pos_weight: f64,
    /// Mean or sum.
    pub reduction: Reduction,
}

impl Graph {
    /// Binary cross-entropy with logits: mean (over the mask) or sum of
    /// -[pos_weight t ln s(x) + (1 - t) ln(1 - s(x))] -> scalar.
    ///
    /// # Errors
    /// If the shapes differ or `pos_weight` is not positive and finite.
    pub fn bce_logits(
        &mut self,
        logits: Id,
        targets: Id,
        mask: Option<Id>,
        pos_weight: f64,
        reduction: Reduction,
    ) -> Result<Id> {
        let s = self.valid(logits)?.clone();
        self.expect(NAME, "targets", targets, &s, "as logits")?;
        if let Some(m) = mask {
            self.expect(NAME, "mask", m, &s, "as logits")?;
        }
        if !(pos_weight.is_finite() && pos_weight > 0.0) {
            return self
                .misfit(NAME, format_args!("pos_weight must be positive and finite, got {pos_weight}"));
        }
        self.push(BceLogits { logits, targets, mask, pos_weight, reduction }, Shape::scalar())
    }
}

impl Operation for BceLogits {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.logits), Some(&mut self.targets), self.mask.as_mut()])
    }
    fn settings(&self) -> String {
        format!(" {:?} pos_weight {}", self.reduction, self.pos_weight)
    }
    fn differentiable(&self, slot: usize) -> bool {
        slot == 0
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        let mask = self.mask.map_or("None".into(), |id| format!("Some({})", v(id)));
        let (logits, targets) = (v(self.logits), v(self.targets));
        let Self { pos_weight, reduction, .. } = self;
        format!("g.bce_logits({logits}, {targets}, {mask}, {pos_weight:?}, Reduction::{reduction:?})?")
    }
    fn backward_reads(&self) -> Reads {
        Reads::ALL_INPUTS
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let n = s.of(self.logits).elements() as u64;
        (5 * n, 5 * n)
    }
}

impl Rules for BceLogits {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let (site, weight) = (run.site, self.pos_weight);
        let ForwardSlices { y, inputs: [l, t, m], .. } =
            run.open([Some(self.logits), Some(self.targets), self.mask]);
        bce_logits::forward(site.isa, self.reduction, weight, l, t, self.mask.map(|_| m), y);
    }
    fn formula<N: Number>(&self, _s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        let weight = N::of(self.pos_weight);
        let losses = at
            .x(self.logits)
            .iter()
            .zip(at.x(self.targets))
            .map(|(&x, &t)| (N::of(1.0) - t) * x.softplus() + weight * t * (-x).softplus());
        vec![at.reduced(losses, self.mask, self.reduction)]
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let (site, weight) = (run.site, self.pos_weight);
        let BackwardSlices { to: [dl, ..], dy, inputs: [l, t, m], .. } =
            run.open([Some(self.logits), Some(self.targets), self.mask]);
        if let Some(dl) = dl {
            let mask = self.mask.map(|_| m);
            bce_logits::backward(site.isa, self.reduction, weight, l, t, mask, dy[0], dl);
        }
    }
}
