//! One row per sample: the mean, the largest, the first or the last, or mean and deviation side by side.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::{Formula, mean};
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Operation, Reads, Rules, Shapes,
};
use crate::tensor::Shape;
use heartlore_kernels::{Real, pool};

const NAME: &str = "pool";

/// One row per sample.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pool {
    /// `[batch, rows, cols]`
    pub x: Id,
    /// How.
    pub kind: pool::Pool,
}

impl Pool {
    fn dims(&self, s: Shapes<'_>) -> pool::Dims {
        let [batch, rows, cols] = s.rank3(self.x);
        pool::Dims { batch, rows, cols }
    }
}

impl Graph {
    /// x `[batch, rows, cols]` -> `[batch, cols]`; mean and deviation: `[batch, 2 cols]`.
    ///
    /// # Errors
    /// If x has not three dimensions.
    pub fn pool(&mut self, x: Id, kind: pool::Pool) -> Result<Id> {
        let [batch, _, cols] = self.rank3(NAME, "x", x)?;
        self.push(Pool { x, kind }, Shape::from([batch, kind.columns(cols)]))
    }
}

impl Operation for Pool {
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
        format!("g.pool({}, Pool::{:?})?", v(self.x), self.kind)
    }
    fn backward_reads(&self) -> Reads {
        Reads::ALL_INPUTS
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let n = s.of(self.x).elements() as u64;
        (n, n)
    }
}

impl Rules for Pool {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let (site, d) = (run.site, self.dims(run.site.shapes()));
        let ForwardSlices { y, inputs: [x], .. } = run.open([Some(self.x)]);
        pool::forward(site.isa, self.kind, d, x, y);
    }
    fn formula<N: Number>(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        let (d, mut y) = (self.dims(s), Vec::new());
        for x in at.x(self.x).chunks_exact(d.rows * d.cols) {
            let column = |c: usize| (0..d.rows).map(|r| x[r * d.cols + c]).collect::<Vec<N>>();
            y.extend((0..d.cols).map(|c| match self.kind {
                pool::Pool::Mean | pool::Pool::MeanDeviation => mean(&column(c)),
                pool::Pool::Max => at.largest(&column(c)),
                pool::Pool::First => column(c)[0],
                pool::Pool::Last => column(c)[d.rows - 1],
            }));
            if self.kind == pool::Pool::MeanDeviation {
                y.extend((0..d.cols).map(|c| {
                    let column = column(c);
                    let m = mean(&column);
                    let squares: Vec<N> = column.iter().map(|&x| (x - m) * (x - m)).collect();
                    (mean(&squares) + N::of(pool::DEVIATION_EPS)).sqrt()
                }));
            }
        }
        y
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let site = run.site;
        let BackwardSlices { to: [dx, ..], dy, inputs: [x], .. } = run.open([Some(self.x)]);
        if let Some(dx) = dx {
            pool::backward(site.isa, self.kind, self.dims(site.shapes()), x, dy, dx);
        }
    }
}
