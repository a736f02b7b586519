//! y = act(x w^T + b): rows of x times rows of w.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::{Formula, dot};
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Needs, Operation, Packing, Reads, Rules, Shapes, Site,
    Team, scratch,
};
use crate::graph::parts::{Cuts, EACH, rows_of};
use crate::graph::step::zero_unless_accumulating;
use crate::tensor::Shape;
use heartlore_kernels::activation::Activation;
use heartlore_kernels::gemm::{self, MatmulPrecision};
use heartlore_kernels::{Isa, Real, linear};

const NAME: &str = "linear";

/// y = act(x w^T + b).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Linear {
    /// `[.., inputs]`
    pub x: Id,
    /// `[outputs or more, inputs]`
    pub w: Id,
    /// `[outputs or more]`
    pub b: Option<Id>,
    /// First row of `w` and `b` that is used: a slice of a larger projection.
    pub first: usize,
    /// Activation in the same pass.
    pub act: Option<Activation>,
}

impl Linear {
    fn dims(&self, s: Shapes<'_>, precision: MatmulPrecision) -> linear::Dims {
        let (x, y) = (s.of(self.x), s.result());
        linear::Dims { rows: x.rows(), inputs: x.last(), outputs: y.last(), precision }
    }

    /// The rows of w and b that are used.
    fn block<'a, T>(&self, d: linear::Dims, w: &'a [T], bias: &'a [T]) -> (&'a [T], Option<&'a [T]>) {
        let w = &w[self.first * d.inputs..][..d.outputs * d.inputs];
        (w, self.b.map(|_| &bias[self.first..][..d.outputs]))
    }

    /// Whether the layer is cut along its outputs: a single row, as in a classification head, where each output is a sum
    /// of its own that reads its own row of weights.
    fn by_outputs(&self, d: linear::Dims) -> bool {
        d.rows == 1 && matches!(self.act, None | Some(Activation::Relu))
    }
}

impl Graph {
    /// y = act(x w^T + b): x `[.., inputs]`, w `[outputs, inputs]`, b `[outputs]` -> `[.., outputs]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn linear(&mut self, x: Id, w: Id, b: Option<Id>, act: Option<Activation>) -> Result<Id> {
        let outputs = self.valid(w)?.dims().first().copied().unwrap_or(0);
        self.linear_rows(x, w, b, 0..outputs, act)
    }

    /// As [`Graph::linear`], with only the rows `rows` of w and b: one block of a joint projection.
    ///
    /// # Errors
    /// If the shapes do not fit or the rows are outside w.
    pub fn linear_rows(
        &mut self,
        x: Id,
        w: Id,
        b: Option<Id>,
        rows: std::ops::Range<usize>,
        act: Option<Activation>,
    ) -> Result<Id> {
        let (xs, ws) = (self.valid(x)?.clone(), self.valid(w)?.clone());
        if ws.rank() != 2 || ws.last() != xs.last() || xs.rank() == 0 {
            return self
                .misfit(NAME, format_args!("x has shape {xs}, w {ws}; w must be [outputs, {}]", xs.last()));
        }
        let total = ws.dims()[0];
        if rows.start >= rows.end || rows.end > total {
            return self.misfit(NAME, format_args!("rows {rows:?} of w, which has shape {ws}"));
        }
        if let Some(b) = b {
            self.expect(NAME, "b", b, &Shape::from([total]), &format!("as w has shape {ws}"))?;
        }
        self.push(Linear { x, w, b, first: rows.start, act }, xs.with_last(rows.end - rows.start))
    }
}

impl Operation for Linear {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.x), Some(&mut self.w), self.b.as_mut()])
    }
    fn settings(&self) -> String {
        let rows = if self.first > 0 { format!(" rows from {}", self.first) } else { String::new() };
        format!("{rows}{}", self.act.map_or(String::new(), |a| format!(" {a:?}")))
    }
    fn needs(&self, s: Shapes<'_>) -> Needs {
        let d = self.dims(s, MatmulPrecision::F32);
        Needs { saved: linear::saved_len(d, self.act), scratch: scratch!(linear::scratch_len, d, self.act) }
    }
    fn rounds_to(&self, precision: MatmulPrecision) -> bool {
        precision != MatmulPrecision::F32
    }
    fn packing(&self, s: Shapes<'_>, precision: MatmulPrecision) -> Option<Packing> {
        let d = self.dims(s, precision);
        let start = self.first * d.inputs;
        Some(Packing {
            sizes: [d.inputs, d.outputs, 0, 0, 0, 0, 0, 0],
            precision,
            weights: [Some((self.w, start..start + d.outputs * d.inputs)), None],
        })
    }
    fn code(&self, s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        let b = self.b.map_or("None".into(), |id| format!("Some({})", v(id)));
        let act = self.act.map_or("None".into(), |a| format!("Some(Activation::{a:?})"));
        let rows = self.first..self.first + s.result().last();
        format!("g.linear_rows({}, {}, {b}, {rows:?}, {act})?", v(self.x), v(self.w))
    }
    fn backward_reads(&self) -> Reads {
        Reads::inputs(&[0, 1]).and_output(self.act == Some(Activation::Relu))
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let d = self.dims(s, MatmulPrecision::F32);
        let (product, n) = (2 * (d.rows * d.inputs * d.outputs) as u64, s.result().elements() as u64);
        (product + n, 2 * product + n)
    }
}

impl Rules for Linear {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let (isa, d, prepared) = (run.site.isa, self.dims(run.site.shapes(), run.site.precision), run.panels);
        let ForwardSlices { y, saved, scratch, inputs: [x, w, bias] } =
            run.open([Some(self.x), Some(self.w), self.b]);
        let (w, bias) = self.block(d, w, bias);
        linear::forward(isa, d, self.act, x, w, prepared, bias, y, saved, scratch);
    }
    fn formula<N: Number>(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        let d = self.dims(s, MatmulPrecision::F32);
        let (x, w) = (at.x(self.x), at.x(self.w));
        let mut y = Vec::with_capacity(d.rows * d.outputs);
        for x in x.chunks_exact(d.inputs) {
            for o in self.first..self.first + d.outputs {
                let z = dot(x, &w[o * d.inputs..][..d.inputs]);
                let z = self.b.map_or(z, |b| z + at.x(b)[o]);
                y.push(self.act.map_or(z, |act| at.activation(act, z)));
            }
        }
        y
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let (isa, d, prepared) = (run.site.isa, self.dims(run.site.shapes(), run.site.precision), run.panels);
        let BackwardSlices { to, scratch, saved, y, dy, inputs: [x, w] } =
            run.open([Some(self.x), Some(self.w)]);
        let rows = self.first..self.first + d.outputs;
        let rows_w = rows.start * d.inputs..rows.end * d.inputs;
        let [dx, dw, db, ..] = to;
        let dw = zero_unless_accumulating(dw).map(|g| &mut g[rows_w.clone()]);
        let db = zero_unless_accumulating(db).map(|g| &mut g[rows]);
        linear::backward(isa, d, self.act, x, &w[rows_w], prepared, y, saved, dy, dx, dw, db, scratch);
    }

    fn cuts<T: Real>(&self, site: Site<'_>, threads: usize) -> Option<Cuts> {
        let d = self.dims(site.shapes(), site.precision);
        let (rows, alignment, short) = if self.by_outputs(d) {
            (d.outputs, EACH, true)
        } else {
            (d.rows, gemm::row_grain::<T>(site.isa), false)
        };
        Some(Cuts::new(rows, alignment, threads, short))
    }
    fn forward_parts<T: Real>(&self, run: Forward<'_, T>, team: Team<'_, T>) -> bool {
        let (isa, d, prepared) = (run.site.isa, self.dims(run.site.shapes(), run.site.precision), run.panels);
        let by_outputs = self.by_outputs(d);
        if prepared.is_empty() && !by_outputs {
            return false;
        }
        let ForwardSlices { y, inputs: [x, w, bias], .. } = run.open([Some(self.x), Some(self.w), self.b]);
        let (w, bias) = self.block(d, w, bias);
        if by_outputs {
            team.workers.by_rows(team.cuts, y, |outputs, y, scratch| {
                let (w, bias) = (rows_of(w, &outputs, d.inputs), bias.map(|b| &b[outputs.clone()]));
                let d = linear::Dims { outputs: outputs.len(), ..d };
                linear::forward(isa, d, self.act, x, w, &[], bias, y, &mut [], scratch);
            });
        } else {
            team.workers.by_rows(team.cuts, y, |rows, y, scratch| {
                let (d, x) = (linear::Dims { rows: rows.len(), ..d }, rows_of(x, &rows, d.inputs));
                linear::forward(isa, d, self.act, x, w, prepared, bias, y, &mut [], scratch);
            });
        }
        true
    }
    fn packed_len<T: Real>(&self, packing: &Packing, backward: bool) -> usize {
        linear::prepared_len::<T>(packed_dims(packing), backward)
    }
    fn pack<T: Real>(
        &self,
        isa: Isa,
        packing: &Packing,
        weights: [&[T]; 2],
        backward: bool,
        panels: &mut [T],
    ) {
        linear::prepare(isa, packed_dims(packing), weights[0], backward, panels);
    }
}

/// Dimensions of packed weights: they do not depend on the number of rows.
fn packed_dims(p: &Packing) -> linear::Dims {
    let [inputs, outputs, ..] = p.sizes;
    linear::Dims { rows: 1, inputs, outputs, precision: p.precision }
}
