//! A row put before every sample's rows.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::Formula;
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Operation, Reads, Rules, Shapes, Site, Team,
};
use crate::graph::parts::{Cuts, EACH, rows_of};
use crate::tensor::Shape;
use heartlore_kernels::{Real, embed};

const NAME: &str = "prepend_row";

/// A row put before every sample's rows.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PrependRow {
    /// `[batch, rows, cols]`
    pub x: Id,
    /// `[cols]`
    pub row: Id,
}

impl PrependRow {
    fn dims(&self, s: Shapes<'_>) -> embed::Dims {
        let [batch, rows, cols] = s.rank3(self.x);
        embed::Dims { batch, rows, cols }
    }
}

impl Graph {
    /// x `[batch, rows, cols]` with `row` `[cols]` put first -> `[batch, rows + 1, cols]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn prepend_row(&mut self, x: Id, row: Id) -> Result<Id> {
        let [batch, rows, cols] = self.rank3(NAME, "x", x)?;
        self.expect(NAME, "row", row, &Shape::from([cols]), "as x's last dimension")?;
        self.push(PrependRow { x, row }, Shape::from([batch, rows + 1, cols]))
    }
}

impl Operation for PrependRow {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.x), Some(&mut self.row)])
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        format!("g.prepend_row({}, {})?", v(self.x), v(self.row))
    }
    fn backward_reads(&self) -> Reads {
        Reads::NOTHING
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let n = s.result().elements() as u64;
        (n, 2 * n)
    }
}

impl Rules for PrependRow {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let d = self.dims(run.site.shapes());
        let ForwardSlices { y, inputs: [x, row], .. } = run.open([Some(self.x), Some(self.row)]);
        embed::prepend_row::forward(d, x, row, y);
    }
    fn formula<N: Number>(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        let d = self.dims(s);
        let samples = at.x(self.x).chunks_exact(d.rows * d.cols);
        samples.flat_map(|x| at.x(self.row).iter().chain(x)).copied().collect()
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let d = self.dims(run.site.shapes());
        let BackwardSlices { to: [dx, drow, ..], dy, .. } = run.open([]);
        embed::prepend_row::backward(d, dy, dx, drow);
    }

    fn cuts<T: Real>(&self, site: Site<'_>, threads: usize) -> Option<Cuts> {
        let d = self.dims(site.shapes());
        Some(Cuts::new(if d.batch == 1 { d.rows + 1 } else { 0 }, EACH, threads, true))
    }
    fn forward_parts<T: Real>(&self, run: Forward<'_, T>, team: Team<'_, T>) -> bool {
        let cols = self.dims(run.site.shapes()).cols;
        let ForwardSlices { y, inputs: [x, row], .. } = run.open([Some(self.x), Some(self.row)]);
        team.workers.by_rows(team.cuts, y, |rows, y, _| match rows.start {
            0 => {
                let d = embed::Dims { batch: 1, rows: rows.len() - 1, cols };
                embed::prepend_row::forward(d, rows_of(x, &(0..d.rows), cols), row, y);
            }
            start => y.copy_from_slice(rows_of(x, &(start - 1..rows.end - 1), cols)),
        });
        true
    }
}
