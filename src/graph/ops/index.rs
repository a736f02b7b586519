//! Unsigned integers from outside: row numbers or class labels.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::Formula;
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{Backward, Forward, Operation, Reads, Role, Rules, Shapes};
use crate::tensor::Shape;
use heartlore_kernels::Real;

const NAME: &str = "index";

/// Unsigned integers below `bound` from outside: row numbers or class labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Index {
    /// Every index is below this.
    pub bound: usize,
}

impl Graph {
    /// Unsigned integers below `bound` from outside.
    ///
    /// # Errors
    /// As [`Graph::input`]; also if `bound` is 0 or above 2^32.
    pub fn index(&mut self, name: &str, shape: impl Into<Shape>, bound: usize) -> Result<Id> {
        if bound == 0 || u32::try_from(bound - 1).is_err() {
            return self.misfit(NAME, format_args!("bound {bound} is not in 1..=2^32"));
        }
        self.leaf(Index { bound }, name, shape.into())
    }
}

impl Operation for Index {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([])
    }
    fn role(&self) -> Role {
        Role::Index { bound: self.bound }
    }
    fn settings(&self) -> String {
        format!(" (below {})", self.bound)
    }
    fn differentiable(&self, _slot: usize) -> bool {
        false
    }
    fn code(&self, s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        format!("g.index({:?}, {}, {})?", v(s.id()), s.result_code(), self.bound)
    }
    fn backward_reads(&self) -> Reads {
        Reads::NOTHING
    }
    fn flops(&self, _s: Shapes<'_>) -> (u64, u64) {
        (0, 0)
    }
}

impl Rules for Index {
    fn forward<T: Real>(&self, _run: Forward<'_, T>) {}
    fn formula<N: Number>(&self, _s: Shapes<'_>, _at: &Formula<'_, N>) -> Vec<N> {
        unreachable!("{self:?} comes from outside")
    }
    fn backward<T: Real>(&self, _run: Backward<'_, T>) {}
}
