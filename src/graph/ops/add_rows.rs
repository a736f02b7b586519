//! x + table for every sample.

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

const NAME: &str = "add_rows";

/// x + table for every sample.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AddRows {
    /// `[batch, rows, cols]`
    pub x: Id,
    /// `[rows, cols]`
    pub table: Id,
}

impl AddRows {
    fn dims(&self, s: Shapes<'_>) -> embed::Dims {
        let [batch, rows, cols] = s.rank3(self.x);
        embed::Dims { batch, rows, cols }
    }
}

impl Graph {
    /// x `[batch, rows, cols]` + table `[rows, cols]` for every sample.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn add_rows(&mut self, x: Id, table: Id) -> Result<Id> {
        let [_, rows, cols] = self.rank3(NAME, "x", x)?;
        self.expect(NAME, "table", table, &Shape::from([rows, cols]), "as x's rows")?;
        let s = self.shape(x).clone();
        self.push(AddRows { x, table }, s)
    }
}

impl Operation for AddRows {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.x), Some(&mut self.table)])
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        format!("g.add_rows({}, {})?", v(self.x), v(self.table))
    }
    fn backward_reads(&self) -> Reads {
        Reads::NOTHING
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let n = s.result().elements() as u64;
        (n, 2 * n)
    }
}

impl Rules for AddRows {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let d = self.dims(run.site.shapes());
        let ForwardSlices { y, inputs: [x, table], .. } = run.open([Some(self.x), Some(self.table)]);
        embed::add_rows::forward(d, x, table, y);
    }
    fn formula<N: Number>(&self, _s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        at.x(self.x).iter().zip(at.x(self.table).iter().cycle()).map(|(&x, &t)| x + t).collect()
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let d = self.dims(run.site.shapes());
        let BackwardSlices { to: [dx, dtable, ..], dy, .. } = run.open([]);
        embed::add_rows::backward(d, dy, dx, dtable);
    }

    fn cuts<T: Real>(&self, site: Site<'_>, threads: usize) -> Option<Cuts> {
        let d = self.dims(site.shapes());
        Some(Cuts::new(if d.batch == 1 { d.rows } else { 0 }, EACH, threads, true))
    }
    fn forward_parts<T: Real>(&self, run: Forward<'_, T>, team: Team<'_, T>) -> bool {
        let d = self.dims(run.site.shapes());
        let ForwardSlices { y, inputs: [x, table], .. } = run.open([Some(self.x), Some(self.table)]);
        team.workers.by_rows(team.cuts, y, |rows, y, _| {
            let (x, table) = (rows_of(x, &rows, d.cols), rows_of(table, &rows, d.cols));
            embed::add_rows::forward(embed::Dims { rows: rows.len(), ..d }, x, table, y);
        });
        true
    }
}
