//! Dropout, inverted: kept elements are scaled up.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::Formula;
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Operation, Reads, Rules, Shapes,
};
use heartlore_kernels::{Real, dropout};

const NAME: &str = "dropout";

/// Dropout, inverted: kept elements are scaled up.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Dropout {
    /// Any shape.
    pub x: Id,
    /// Probability of dropping.
    pub p: f64,
}

fn dims(s: Shapes<'_>) -> dropout::Dims {
    let (samples, rows, cols) = s.result().samples_rows_cols();
    dropout::Dims { samples, rows, cols }
}

impl Graph {
    /// Dropout with probability `p`; kept elements are multiplied by 1 / (1 - p).
    ///
    /// # Errors
    /// If the probability is outside [0, 1).
    pub fn dropout(&mut self, x: Id, p: f64) -> Result<Id> {
        let xs = self.valid(x)?.clone();
        self.probability(NAME, p)?;
        self.push(Dropout { x, p }, xs)
    }
}

impl Operation for Dropout {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.x)])
    }
    fn settings(&self) -> String {
        format!(" p {}", self.p)
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        format!("g.dropout({}, {:?})?", v(self.x), self.p)
    }
    fn backward_reads(&self) -> Reads {
        Reads::NOTHING
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let n = s.result().elements() as u64;
        (4 * n, 5 * n)
    }
}

impl Rules for Dropout {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let site = run.site;
        let ForwardSlices { y, inputs: [x], .. } = run.open([Some(self.x)]);
        dropout::forward(site.isa, dims(site.shapes()), site.dropout_of(self.p), site.key, x, y);
    }
    fn formula<N: Number>(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        let d = dims(s);
        let at_row = |i: usize| (i / d.cols / d.rows, i / d.cols % d.rows, i % d.cols);
        let kept = |(i, &x): (usize, &N)| {
            let (sample, row, c) = at_row(i);
            N::of(at.multiplier(self.p, sample, row, c)) * x
        };
        at.x(self.x).iter().enumerate().map(kept).collect()
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let site = run.site;
        let BackwardSlices { to: [dx, ..], dy, .. } = run.open([]);
        if let Some(dx) = dx {
            dropout::backward(site.isa, dims(site.shapes()), site.dropout_of(self.p), site.key, dy, dx);
        }
    }
}
