//! All elements to one number.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::{Formula, mean, sum};
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Operation, Reads, Rules, Shapes,
};
use crate::tensor::Shape;
use heartlore_kernels::{Real, reduce};

const NAME: &str = "reduce";

/// All elements to one number.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reduce {
    /// Any shape.
    pub x: Id,
    /// How.
    pub kind: reduce::Reduce,
}

impl Graph {
    /// Sum, mean or Euclidean norm of all elements -> scalar.
    ///
    /// # Errors
    /// If `x` is not a value of this program.
    pub fn reduce(&mut self, x: Id, kind: reduce::Reduce) -> Result<Id> {
        self.valid(x)?;
        self.push(Reduce { x, kind }, Shape::scalar())
    }
}

impl Operation for Reduce {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.x)])
    }
    fn settings(&self) -> String {
        format!(" {:?}", self.kind)
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        format!("g.reduce({}, Reduce::{:?})?", v(self.x), self.kind)
    }
    fn backward_reads(&self) -> Reads {
        Reads::ALL_INPUTS.and_output(true)
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let n = s.of(self.x).elements() as u64;
        (n, n)
    }
}

impl Rules for Reduce {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let site = run.site;
        let ForwardSlices { y, inputs: [x], .. } = run.open([Some(self.x)]);
        reduce::forward(site.isa, self.kind, x, y);
    }
    fn formula<N: Number>(&self, _s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        let x = at.x(self.x);
        vec![match self.kind {
            reduce::Reduce::Sum => sum(x),
            reduce::Reduce::Mean => mean(x),
            reduce::Reduce::Norm => at.norm(x),
        }]
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let site = run.site;
        let BackwardSlices { to: [dx, ..], y, dy, inputs: [x], .. } = run.open([Some(self.x)]);
        if let Some(dx) = dx {
            reduce::backward(site.isa, self.kind, x, y, dy[0], dx);
        }
    }
}
