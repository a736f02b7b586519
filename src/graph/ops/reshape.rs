//! The same elements under another shape; costs nothing.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::Formula;
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{Backward, Forward, Operation, Reads, Role, Rules, Shapes};
use crate::tensor::Shape;
use heartlore_kernels::Real;

const NAME: &str = "reshape";

/// The same elements under another shape; costs nothing.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reshape {
    /// Any shape with as many elements.
    pub x: Id,
}

impl Graph {
    /// The same elements as `shape`. Costs nothing: the result shares x's memory.
    ///
    /// # Errors
    /// If the number of elements differs.
    pub fn reshape(&mut self, x: Id, shape: impl Into<Shape>) -> Result<Id> {
        let shape = shape.into();
        let (old, new) = (self.valid(x)?.elements(), shape.checked("reshape")?);
        if old != new {
            return self.misfit(NAME, format_args!("x has shape {}, wanted {shape}", self.shape(x)));
        }
        self.push(Reshape { x }, shape)
    }
}

impl Operation for Reshape {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.x)])
    }
    fn role(&self) -> Role {
        Role::View
    }
    fn code(&self, s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        format!("g.reshape({}, {})?", v(self.x), s.result_code())
    }
    fn backward_reads(&self) -> Reads {
        Reads::NOTHING
    }
    fn flops(&self, _s: Shapes<'_>) -> (u64, u64) {
        (0, 0)
    }
}

impl Rules for Reshape {
    fn forward<T: Real>(&self, _run: Forward<'_, T>) {}
    fn formula<N: Number>(&self, _s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        at.x(self.x).to_vec()
    }
    fn backward<T: Real>(&self, _run: Backward<'_, T>) {}
}
