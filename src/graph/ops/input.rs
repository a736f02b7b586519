//! Numbers from outside: set before a pass, read by every pass until set again.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::Formula;
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{Backward, Forward, Operation, Reads, Role, Rules, Shapes};
use crate::tensor::Shape;
use heartlore_kernels::Real;

const NAME: &str = "input";

/// Numbers from outside, set before a pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Input;

impl Graph {
    /// Numbers from outside, named `name`.
    ///
    /// # Errors
    /// If the shape has a zero or overflowing size or the name is taken.
    pub fn input(&mut self, name: &str, shape: impl Into<Shape>) -> Result<Id> {
        self.leaf(Input, name, shape.into())
    }
}

impl Operation for Input {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([])
    }
    fn role(&self) -> Role {
        Role::Input
    }
    fn differentiable(&self, _slot: usize) -> bool {
        false
    }
    fn code(&self, s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        format!("g.input({:?}, {})?", v(s.id()), s.result_code())
    }
    fn backward_reads(&self) -> Reads {
        Reads::NOTHING
    }
    fn flops(&self, _s: Shapes<'_>) -> (u64, u64) {
        (0, 0)
    }
}

impl Rules for Input {
    fn forward<T: Real>(&self, _run: Forward<'_, T>) {}
    fn formula<N: Number>(&self, _s: Shapes<'_>, _at: &Formula<'_, N>) -> Vec<N> {
        unreachable!("{self:?} comes from outside")
    }
    fn backward<T: Real>(&self, _run: Backward<'_, T>) {}
}
