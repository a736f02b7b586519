//! Softmax over the last dimension.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::{Formula, softmax_of};
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Operation, Reads, Rules, Shapes,
};
use heartlore_kernels::{Real, softmax};

const NAME: &str = "softmax";

/// Softmax over the last dimension.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Softmax {
    /// `[.., width]`
    pub x: Id,
}

fn dims(s: Shapes<'_>) -> softmax::Dims {
    softmax::Dims { rows: s.result().rows(), cols: s.result().last() }
}

impl Graph {
    /// Softmax over the last dimension.
    ///
    /// # Errors
    /// If `x` is not a value of this program.
    pub fn softmax(&mut self, x: Id) -> Result<Id> {
        let xs = self.valid(x)?.clone();
        self.push(Softmax { x }, xs)
    }
}

impl Operation for Softmax {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.x)])
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        format!("g.softmax({})?", v(self.x))
    }
    fn backward_reads(&self) -> Reads {
        Reads::NOTHING.and_output(true)
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let n = s.result().elements() as u64;
        (4 * n, 4 * n)
    }
}

impl Rules for Softmax {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let site = run.site;
        let ForwardSlices { y, inputs: [x], .. } = run.open([Some(self.x)]);
        softmax::forward(site.isa, dims(site.shapes()), x, y);
    }
    fn formula<N: Number>(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        at.x(self.x).chunks_exact(dims(s).cols).flat_map(softmax_of).collect()
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let site = run.site;
        let BackwardSlices { to: [dx, ..], y, dy, .. } = run.open([]);
        if let Some(dx) = dx {
            softmax::backward(site.isa, dims(site.shapes()), y, dy, dx);
        }
    }
}
