//! Elementwise activation.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::Formula;
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Operation, Reads, Rules, Shapes, Site, Team,
};
use crate::graph::parts::{Cuts, EACH};
use heartlore_kernels::Real;
use heartlore_kernels::activation::{self, Activation};

const NAME: &str = "activate";

/// Elementwise activation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Activate {
    /// Any shape.
    pub x: Id,
    /// Which one.
    pub kind: Activation,
}

impl Graph {
    /// An elementwise activation.
    ///
    /// # Errors
    /// If `x` is not a value of this program.
    pub fn activate(&mut self, x: Id, kind: Activation) -> Result<Id> {
        let xs = self.valid(x)?.clone();
        self.push(Activate { x, kind }, xs)
    }
}

impl Operation for Activate {
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
        format!("g.activate({}, Activation::{:?})?", v(self.x), self.kind)
    }
    fn backward_reads(&self) -> Reads {
        Reads::ALL_INPUTS
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let n = s.result().elements() as u64;
        (4 * n, 5 * n)
    }
}

impl Rules for Activate {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let site = run.site;
        let ForwardSlices { y, inputs: [x], .. } = run.open([Some(self.x)]);
        activation::forward(site.isa, self.kind, x, y);
    }
    fn formula<N: Number>(&self, _s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        at.x(self.x).iter().map(|&x| at.activation(self.kind, x)).collect()
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let site = run.site;
        let BackwardSlices { to: [dx, ..], dy, inputs: [x], .. } = run.open([Some(self.x)]);
        if let Some(dx) = dx {
            activation::backward(site.isa, self.kind, x, dy, dx);
        }
    }

    fn cuts<T: Real>(&self, site: Site<'_>, threads: usize) -> Option<Cuts> {
        Some(Cuts::new(site.shapes().result().elements(), EACH, threads, true))
    }
    fn forward_parts<T: Real>(&self, run: Forward<'_, T>, team: Team<'_, T>) -> bool {
        let isa = run.site.isa;
        let ForwardSlices { y, inputs: [x], .. } = run.open([Some(self.x)]);
        team.workers.by_rows(team.cuts, y, |part, y, _| activation::forward(isa, self.kind, &x[part], y));
        true
    }
}
