//! A parameter: its numbers lie in the caller's flat vector.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::Formula;
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{Backward, Forward, Operation, Reads, Role, Rules, Shapes};
use crate::tensor::{Init, Shape};
use heartlore_kernels::Real;

const NAME: &str = "param";

/// A parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Param {
    /// Position in the [`Layout`](crate::graph::Layout).
    pub number: usize,
}

impl Graph {
    /// The parameter `name`. Recording the same name again gives the same parameter: weights can be shared.
    ///
    /// # Errors
    /// If the shape has a zero or overflowing size, or differs from the one already recorded under this name.
    pub fn param(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Id> {
        let shape = shape.into();
        let number = self.parameter_number(name, shape.clone(), init)?;
        match self.find(name) {
            Some(id) if self.node(id).op.parameter() == Some(number) => Ok(id),
            _ => self.leaf(Param { number }, name, shape),
        }
    }
}

impl Operation for Param {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([])
    }
    fn role(&self) -> Role {
        Role::Param { number: self.number }
    }
    fn differentiable(&self, _slot: usize) -> bool {
        false
    }
    fn code(&self, s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        format!("g.param({:?}, {}, Init::Zeros)?", v(s.id()), s.result_code())
    }
    fn backward_reads(&self) -> Reads {
        Reads::NOTHING
    }
    fn flops(&self, _s: Shapes<'_>) -> (u64, u64) {
        (0, 0)
    }
}

impl Rules for Param {
    fn forward<T: Real>(&self, _run: Forward<'_, T>) {}
    fn formula<N: Number>(&self, _s: Shapes<'_>, _at: &Formula<'_, N>) -> Vec<N> {
        unreachable!("{self:?} comes from outside")
    }
    fn backward<T: Real>(&self, _run: Backward<'_, T>) {}
}
