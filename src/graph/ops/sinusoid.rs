//! The sinusoidal position table, written once when an executor is made.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::Formula;
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{Backward, Forward, Operation, Reads, Role, Rules, Shapes};
use crate::tensor::Shape;
use heartlore_kernels::{Real, embed};

const NAME: &str = "sinusoid";

/// The sinusoidal position table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sinusoid;

impl Graph {
    /// The sinusoidal position table `[rows, cols]` (Vaswani et al. 2017, section 3.5), a constant.
    ///
    /// # Errors
    /// If a size is 0.
    pub fn sinusoid(&mut self, rows: usize, cols: usize) -> Result<Id> {
        self.push(Sinusoid, Shape::from([rows, cols]))
    }
}

impl Operation for Sinusoid {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([])
    }
    fn role(&self) -> Role {
        Role::Constant
    }
    fn differentiable(&self, _slot: usize) -> bool {
        false
    }
    fn code(&self, s: Shapes<'_>, _v: &dyn Fn(Id) -> String) -> String {
        let d = s.result().dims();
        format!("g.sinusoid({}, {})?", d[0], d[1])
    }
    fn backward_reads(&self) -> Reads {
        Reads::NOTHING
    }
    fn flops(&self, _s: Shapes<'_>) -> (u64, u64) {
        (0, 0)
    }
}

impl Rules for Sinusoid {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let shape = run.site.shapes().result();
        embed::sinusoidal_table(shape.rows(), shape.last(), run.open([]).y);
    }
    fn formula<N: Number>(&self, s: Shapes<'_>, _at: &Formula<'_, N>) -> Vec<N> {
        let shape = s.result();
        let mut table = vec![0.0; shape.elements()];
        embed::sinusoidal_table(shape.rows(), shape.last(), &mut table);
        table.into_iter().map(N::of).collect()
    }
    fn backward<T: Real>(&self, _run: Backward<'_, T>) {}
}
