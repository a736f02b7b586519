//! a * b, elementwise.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::Formula;
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Operation, Reads, Rules, Shapes,
};
use heartlore_kernels::{Real, elementwise};

const NAME: &str = "mul";

/// a * b, elementwise.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Mul {
    /// Any shape.
    pub a: Id,
    /// The same shape.
    pub b: Id,
}

impl Graph {
    /// a * b elementwise, same shape.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn mul(&mut self, a: Id, b: Id) -> Result<Id> {
        let s = self.valid(a)?.clone();
        self.expect(NAME, "b", b, &s, "as a")?;
        self.push(Mul { a, b }, s)
    }
}

impl Operation for Mul {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.a), Some(&mut self.b)])
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        format!("g.mul({}, {})?", v(self.a), v(self.b))
    }
    fn backward_reads(&self) -> Reads {
        Reads::ALL_INPUTS
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let n = s.result().elements() as u64;
        (n, 2 * n)
    }
}

impl Rules for Mul {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let site = run.site;
        let ForwardSlices { y, inputs: [a, b], .. } = run.open([Some(self.a), Some(self.b)]);
        elementwise::mul(site.isa, a, b, y);
    }
    fn formula<N: Number>(&self, _s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        at.x(self.a).iter().zip(at.x(self.b)).map(|(&a, &b)| a * b).collect()
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let site = run.site;
        let BackwardSlices { to: [da, db, ..], dy, inputs: [a, b], .. } =
            run.open([Some(self.a), Some(self.b)]);
        elementwise::mul_backward(site.isa, a, b, dy, da, db);
    }
}
