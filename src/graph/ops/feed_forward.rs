//! The feed-forward block: two layers with an activation and dropout between, fused.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::{Formula, dot};
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Needs, Operation, Packing, Reads, Rules, Shapes, Site,
    Team, scratch,
};
use crate::graph::parts::{Cuts, rows_of};
use crate::graph::step::zero_unless_accumulating;
use crate::tensor::Shape;
use heartlore_kernels::activation::Activation;
use heartlore_kernels::gemm::{self, MatmulPrecision};
use heartlore_kernels::{Isa, Real, feed_forward, rng};

const NAME: &str = "feed_forward";

/// Parameters of [`Graph::feed_forward`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FeedForwardParams {
    /// `[hidden, width]`
    pub w1: Id,
    /// `[hidden]`
    pub b1: Id,
    /// `[width, hidden]`
    pub w2: Id,
    /// `[width]`
    pub b2: Id,
}

/// dropout(act(x w1^T + b1)) w2^T + b2.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FeedForward {
    /// `[.., width]`
    pub x: Id,
    /// `[hidden, width]`
    pub w1: Id,
    /// `[hidden]`
    pub b1: Id,
    /// `[width, hidden]`
    pub w2: Id,
    /// `[width]`
    pub b2: Id,
    /// The hidden layer's activation.
    pub act: Activation,
    /// Dropout probability on the hidden layer.
    pub dropout: f64,
}

impl FeedForward {
    fn dims(&self, s: Shapes<'_>, precision: MatmulPrecision) -> feed_forward::Dims {
        let (samples, rows, width) = s.result().samples_rows_cols();
        feed_forward::Dims { samples, rows, width, hidden: s.of(self.w1).dims()[0], precision }
    }
}

impl Graph {
    /// dropout(act(x w1^T + b1)) w2^T + b2, fused: x `[.., width]` -> `[.., width]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn feed_forward(&mut self, x: Id, p: FeedForwardParams, act: Activation, dropout: f64) -> Result<Id> {
        let xs = self.valid(x)?.clone();
        let ws = self.valid(p.w1)?.clone();
        let width = xs.last();
        if ws.rank() != 2 || ws.last() != width || xs.rank() == 0 {
            return self
                .misfit(NAME, format_args!("x has shape {xs}, w1 {ws}; w1 must be [hidden, {width}]"));
        }
        let hidden = ws.dims()[0];
        let because = format!("as x has shape {xs}, w1 {ws}");
        self.expect(NAME, "b1", p.b1, &Shape::from([hidden]), &because)?;
        self.expect(NAME, "w2", p.w2, &Shape::from([width, hidden]), &because)?;
        self.expect(NAME, "b2", p.b2, &Shape::from([width]), &because)?;
        self.probability(NAME, dropout)?;
        let FeedForwardParams { w1, b1, w2, b2 } = p;
        self.push(FeedForward { x, w1, b1, w2, b2, act, dropout }, xs)
    }
}

impl Operation for FeedForward {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([
            Some(&mut self.x),
            Some(&mut self.w1),
            Some(&mut self.b1),
            Some(&mut self.w2),
            Some(&mut self.b2),
        ])
    }
    fn settings(&self) -> String {
        format!(" {:?} dropout {}", self.act, self.dropout)
    }
    fn needs(&self, s: Shapes<'_>) -> Needs {
        let d = self.dims(s, MatmulPrecision::F32);
        Needs { saved: feed_forward::saved_len(d), scratch: scratch!(feed_forward::scratch_len, d) }
    }
    fn rounds_to(&self, precision: MatmulPrecision) -> bool {
        precision != MatmulPrecision::F32
    }
    fn packing(&self, s: Shapes<'_>, precision: MatmulPrecision) -> Option<Packing> {
        let d = self.dims(s, precision);
        let all = 0..d.width * d.hidden;
        Some(Packing {
            sizes: [d.width, d.hidden, 0, 0, 0, 0, 0, 0],
            precision,
            weights: [Some((self.w1, all.clone())), Some((self.w2, all))],
        })
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        let [x, w1, b1, w2, b2] = [self.x, self.w1, self.b1, self.w2, self.b2].map(v);
        let p = format!("FeedForwardParams {{ w1: {w1}, b1: {b1}, w2: {w2}, b2: {b2} }}");
        format!("g.feed_forward({x}, {p}, Activation::{:?}, {:?})?", self.act, self.dropout)
    }
    fn backward_reads(&self) -> Reads {
        Reads::inputs(&[0, 1, 2, 3])
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let d = self.dims(s, MatmulPrecision::F32);
        let product = 2 * (d.samples * d.rows * d.width * d.hidden) as u64;
        (2 * product, 4 * product)
    }
}

impl Rules for FeedForward {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let (site, d, prepared) = (run.site, self.dims(run.site.shapes(), run.site.precision), run.panels);
        let ForwardSlices { y, saved, scratch, inputs: [x, w1, b1, w2, b2] } =
            run.open([self.x, self.w1, self.b1, self.w2, self.b2].map(Some));
        let (isa, act, dropout, key) = (site.isa, self.act, site.dropout_of(self.dropout), site.key);
        feed_forward::forward(isa, d, act, dropout, key, x, w1, b1, w2, b2, prepared, y, saved, scratch);
    }
    fn formula<N: Number>(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        let d = self.dims(s, MatmulPrecision::F32);
        let [x, w1, b1, w2, b2] = [self.x, self.w1, self.b1, self.w2, self.b2].map(|id| at.x(id));
        let mut y = Vec::with_capacity(x.len());
        for (row, x) in x.chunks_exact(d.width).enumerate() {
            let hidden = (0..d.hidden).map(|c| {
                let z = dot(x, &w1[c * d.width..][..d.width]) + b1[c];
                let multiplier = at.multiplier(self.dropout, row / d.rows, row % d.rows, c);
                N::of(multiplier) * at.activation(self.act, z)
            });
            let hidden: Vec<N> = hidden.collect();
            y.extend((0..d.width).map(|o| dot(&hidden, &w2[o * d.hidden..][..d.hidden]) + b2[o]));
        }
        y
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let (site, d, prepared) = (run.site, self.dims(run.site.shapes(), run.site.precision), run.panels);
        let BackwardSlices { to, scratch, saved, dy, inputs: [x, w1, b1, w2], .. } =
            run.open([self.x, self.w1, self.b1, self.w2].map(Some));
        let [dx, dw1, db1, dw2, db2] = to;
        let [dw1, db1, dw2, db2] = [dw1, db1, dw2, db2].map(zero_unless_accumulating);
        let (isa, act, dropout, key) = (site.isa, self.act, site.dropout_of(self.dropout), site.key);
        feed_forward::backward(
            isa, d, act, dropout, key, x, w1, b1, w2, prepared, saved, dy, dx, dw1, db1, dw2, db2, scratch,
        );
    }

    fn cuts<T: Real>(&self, site: Site<'_>, threads: usize) -> Option<Cuts> {
        let d = self.dims(site.shapes(), site.precision);
        let rows = d.samples * d.rows;
        Some(match rows {
            1 => Cuts::new(d.hidden, gemm::column_grain(), threads, true),
            _ => Cuts::new(rows, gemm::row_grain::<T>(site.isa), threads, false),
        })
    }
    fn forward_parts<T: Real>(&self, run: Forward<'_, T>, team: Team<'_, T>) -> bool {
        let (site, d, prepared) = (run.site, self.dims(run.site.shapes(), run.site.precision), run.panels);
        if prepared.is_empty() || site.drops(self.dropout) {
            return false;
        }
        let (isa, act, key, workers) = (site.isa, self.act, site.key, team.workers);
        let ForwardSlices { y, inputs: [x, w1, b1, w2, b2], .. } =
            run.open([self.x, self.w1, self.b1, self.w2, self.b2].map(Some));
        if d.samples * d.rows == 1 {
            team.shared.grow(d.hidden);
            let hidden = &mut team.shared[..d.hidden];
            workers.by_rows(team.cuts, hidden, |columns, g, scratch| {
                feed_forward::hidden_of_row(isa, d, act, x, b1, prepared, columns, g, scratch);
            });
            let (hidden, cuts) = (&*hidden, workers.cuts(d.width, gemm::column_grain()));
            workers.by_rows(cuts, y, |columns, y, scratch| {
                feed_forward::row_of_hidden(isa, d, hidden, b2, prepared, columns, y, scratch);
            });
            return true;
        }
        workers.by_rows(team.cuts, y, |rows, y, scratch| {
            let d = feed_forward::Dims { samples: 1, rows: rows.len(), ..d };
            let (none, x, unsaved) = (rng::Dropout::NONE, rows_of(x, &rows, d.width), &mut [][..]);
            feed_forward::forward(isa, d, act, none, key, x, w1, b1, w2, b2, prepared, y, unsaved, scratch);
        });
        true
    }
    fn packed_len<T: Real>(&self, packing: &Packing, backward: bool) -> usize {
        feed_forward::prepared_len::<T>(packed_dims(packing), backward)
    }
    fn pack<T: Real>(
        &self,
        isa: Isa,
        packing: &Packing,
        weights: [&[T]; 2],
        backward: bool,
        panels: &mut [T],
    ) {
        feed_forward::prepare(isa, packed_dims(packing), weights[0], weights[1], backward, panels);
    }
}

/// Dimensions of packed weights: they do not depend on the number of rows.
fn packed_dims(p: &Packing) -> feed_forward::Dims {
    let [width, hidden, ..] = p.sizes;
    feed_forward::Dims { samples: 1, rows: 1, width, hidden, precision: p.precision }
}
