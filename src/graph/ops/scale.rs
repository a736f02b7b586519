//! factor * x.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::Formula;
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Operation, Reads, Rules, Shapes,
};
use heartlore_kernels::{Real, elementwise};

const NAME: &str = "scale";

/// factor * x.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Scale {
    /// Any shape.
    pub x: Id,
    /// The constant.
    pub factor: f64,
}

impl Graph {
    /// factor * x.
    ///
    /// # Errors
    /// If the factor is not finite.
    pub fn scale(&mut self, x: Id, factor: f64) -> Result<Id> {
        let s = self.valid(x)?.clone();
        if !factor.is_finite() {
            return self.misfit(NAME, format_args!("factor {factor} is not finite"));
        }
        self.push(Scale { x, factor }, s)
    }
}

impl Operation for Scale {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.x)])
    }
    fn settings(&self) -> String {
        format!(" by {}", self.factor)
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        format!("g.scale({}, {:?})?", v(self.x), self.factor)
    }
    fn backward_reads(&self) -> Reads {
        Reads::NOTHING
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let n = s.result().elements() as u64;
        (n, 2 * n)
    }
}

impl Rules for Scale {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let site = run.site;
        let ForwardSlices { y, inputs: [x], .. } = run.open([Some(self.x)]);
        elementwise::scale(site.isa, self.factor, x, y);
    }
    fn formula<N: Number>(&self, _s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        at.x(self.x).iter().map(|&x| N::of(self.factor) * x).collect()
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let site = run.site;
        let BackwardSlices { to: [dx, ..], dy, .. } = run.open([]);
        if let Some(dx) = dx {
            elementwise::scale_backward(site.isa, self.factor, dy, dx);
        }
    }
}
