//! Selected rows of every sample.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::Formula;
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Operation, Reads, Rules, Shapes,
};
use crate::tensor::Shape;
use heartlore_kernels::Real;
use heartlore_kernels::embed::gather_rows;

const NAME: &str = "gather_rows";

/// Selected rows of every sample.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GatherRows {
    /// `[batch, rows, cols]`
    pub x: Id,
    /// `[batch, selected_rows]`, an [`Index`](super::Index).
    pub index: Id,
}

impl GatherRows {
    fn dims(&self, s: Shapes<'_>) -> gather_rows::Dims {
        let ([batch, rows, cols], [_, picks, _]) = (s.rank3(self.x), s.result_rank3());
        gather_rows::Dims { batch, rows, cols, picks }
    }
}

impl Graph {
    /// Rows of x `[batch, rows, cols]` chosen by index `[batch, selected_rows]` -> `[batch, selected_rows, cols]`.
    ///
    /// # Errors
    /// If the shapes do not fit or the index may exceed the rows.
    pub fn gather_rows(&mut self, x: Id, index: Id) -> Result<Id> {
        let [batch, rows, cols] = self.rank3(NAME, "x", x)?;
        let is = self.index_shape(NAME, index, rows)?;
        match *is.dims() {
            [b, selected_rows] if b == batch => {
                self.push(GatherRows { x, index }, Shape::from([batch, selected_rows, cols]))
            }
            _ => self.misfit(
                NAME,
                format_args!("x has shape {}, index {is}; expected [{batch}, selected_rows]", self.shape(x)),
            ),
        }
    }
}

impl Operation for GatherRows {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.x), Some(&mut self.index)])
    }
    fn differentiable(&self, slot: usize) -> bool {
        slot == 0
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        format!("g.gather_rows({}, {})?", v(self.x), v(self.index))
    }
    fn backward_reads(&self) -> Reads {
        Reads::inputs(&[1])
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        (0, s.result().elements() as u64)
    }
}

impl Rules for GatherRows {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let (d, index) = (self.dims(run.site.shapes()), run.index(self.index));
        let ForwardSlices { y, inputs: [x], .. } = run.open([Some(self.x)]);
        gather_rows::forward(d, x, index, y);
    }
    fn formula<N: Number>(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        let (d, x) = (self.dims(s), at.x(self.x));
        let picked = at.index(self.index).iter().enumerate();
        let row = |(i, &row): (usize, &u32)| &x[(i / d.picks * d.rows + row as usize) * d.cols..][..d.cols];
        picked.flat_map(row).copied().collect()
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let (d, index) = (self.dims(run.site.shapes()), run.index(self.index));
        let BackwardSlices { to: [dx, ..], dy, .. } = run.open([]);
        if let Some(dx) = dx {
            gather_rows::backward(d, index, dy, dx);
        }
    }
}
