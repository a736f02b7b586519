//! Layer norm, with an optional residual branch added first.

use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::formula::{Formula, dot, mean};
use crate::graph::id::{Id, SlotsMut, slots};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Needs, Operation, Reads, Rules, Shapes, Site, Team,
};
use crate::graph::parts::{Cuts, EACH, rows_of};
use crate::graph::step::zero_unless_accumulating;
use crate::tensor::Shape;
use heartlore_kernels::layer_norm::Residual;
use heartlore_kernels::{Real, layer_norm, rng};

const NAME: &str = "layer_norm";

/// Layer norm of x + dropout(residual).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LayerNorm {
    /// `[.., width]`
    pub x: Id,
    /// Added before normalising: `[.., width]` as x, or one sample of it for all.
    pub residual: Option<Id>,
    /// Dropout probability on the residual.
    pub dropout: f64,
    /// `[width]`
    pub gamma: Id,
    /// `[width]`
    pub beta: Id,
    /// Added to the variance.
    pub eps: f64,
}

impl LayerNorm {
    fn dims(&self, s: Shapes<'_>) -> layer_norm::Dims {
        let (samples, rows, cols) = s.result().samples_rows_cols();
        layer_norm::Dims { samples, rows, cols }
    }
}

impl Graph {
    /// Layer norm over the last dimension: gamma, beta `[width]`.
    ///
    /// # Errors
    /// If the shapes do not fit or `eps` is not positive.
    pub fn layer_norm(&mut self, x: Id, gamma: Id, beta: Id, eps: f64) -> Result<Id> {
        self.norm(x, None, 0.0, gamma, beta, eps)
    }

    /// Layer norm of x + dropout(residual), fused; the residual has x's shape or, for x `[batch, rows, width]`,
    /// `[rows, width]`: then it is added to every sample (positions).
    ///
    /// # Errors
    /// As [`Graph::layer_norm`]; also if the residual has another shape or the probability is outside [0, 1).
    pub fn residual_norm(
        &mut self,
        x: Id,
        residual: Id,
        dropout: f64,
        gamma: Id,
        beta: Id,
        eps: f64,
    ) -> Result<Id> {
        self.norm(x, Some(residual), dropout, gamma, beta, eps)
    }

    fn norm(
        &mut self,
        x: Id,
        residual: Option<Id>,
        dropout: f64,
        gamma: Id,
        beta: Id,
        eps: f64,
    ) -> Result<Id> {
        let xs = self.valid(x)?.clone();
        let width = Shape::from([xs.last()]);
        self.expect(NAME, "gamma", gamma, &width, &format!("as x has shape {xs}"))?;
        self.expect(NAME, "beta", beta, &width, &format!("as x has shape {xs}"))?;
        if let Some(r) = residual {
            match xs.dims() {
                [_, rows, width] if *self.valid(r)?.dims() == [*rows, *width] => {}
                _ => self.expect(NAME, "residual", r, &xs, "as x, or as a sample of it")?,
            }
        }
        self.probability(NAME, dropout)?;
        if eps.is_nan() || eps <= 0.0 {
            return self.misfit(NAME, format_args!("eps must be positive, got {eps}"));
        }
        self.push(LayerNorm { x, residual, dropout, gamma, beta, eps }, xs)
    }
}

impl Operation for LayerNorm {
    fn name(&self) -> &'static str {
        NAME
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        slots([Some(&mut self.x), self.residual.as_mut(), Some(&mut self.gamma), Some(&mut self.beta)])
    }
    fn settings(&self) -> String {
        if self.dropout > 0.0 { format!(" dropout {}", self.dropout) } else { String::new() }
    }
    fn needs(&self, s: Shapes<'_>) -> Needs {
        let d = self.dims(s);
        Needs { saved: layer_norm::saved_len(d), scratch: layer_norm::scratch_len(d) }
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        let (x, gamma, beta, eps) = (v(self.x), v(self.gamma), v(self.beta), self.eps);
        match self.residual {
            Some(r) => {
                format!("g.residual_norm({x}, {}, {:?}, {gamma}, {beta}, {eps:?})?", v(r), self.dropout)
            }
            None => format!("g.layer_norm({x}, {gamma}, {beta}, {eps:?})?"),
        }
    }
    fn backward_reads(&self) -> Reads {
        Reads::inputs(&[0, 1, 2])
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        let n = s.result().elements() as u64;
        (8 * n, 12 * n)
    }
}

impl Rules for LayerNorm {
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let site = run.site;
        let ForwardSlices { y, saved, inputs: [x, r, gamma, beta], .. } =
            run.open([Some(self.x), self.residual, Some(self.gamma), Some(self.beta)]);
        let dropout = site.dropout_of(self.dropout);
        let residual = self.residual.map(|_| Residual { data: r, dropout, key: site.key });
        layer_norm::forward(site.isa, self.dims(site.shapes()), self.eps, x, residual, gamma, beta, y, saved);
    }
    fn formula<N: Number>(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        let d = self.dims(s);
        let (x, gamma, beta) = (at.x(self.x), at.x(self.gamma), at.x(self.beta));
        let mut y = Vec::with_capacity(x.len());
        for (row, x) in x.chunks_exact(d.cols).enumerate() {
            let added = |c: usize| match self.residual {
                Some(r) => {
                    let (r, multiplier) =
                        (at.x(r), at.multiplier(self.dropout, row / d.rows, row % d.rows, c));
                    x[c] + N::of(multiplier) * r[(row * d.cols + c) % r.len()]
                }
                None => x[c],
            };
            let s: Vec<N> = (0..d.cols).map(added).collect();
            let mean = mean(&s);
            let deviations: Vec<N> = s.iter().map(|&s| s - mean).collect();
            let rstd =
                N::of(1.0) / (dot(&deviations, &deviations) / N::of(d.cols as f64) + N::of(self.eps)).sqrt();
            y.extend((0..d.cols).map(|c| gamma[c] * (deviations[c] * rstd) + beta[c]));
        }
        y
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let (site, d) = (run.site, self.dims(run.site.shapes()));
        let BackwardSlices { to, scratch, saved, dy, inputs: [x, r, gamma], .. } =
            run.open([Some(self.x), self.residual, Some(self.gamma)]);
        let dropout = site.dropout_of(self.dropout);
        let residual = self.residual.map(|_| Residual { data: r, dropout, key: site.key });
        let [dx, dr, dg, db, _] = to;
        let (dg, db) = (zero_unless_accumulating(dg), zero_unless_accumulating(db));
        layer_norm::backward(site.isa, d, x, residual, gamma, saved, dy, dx, dr, dg, db, scratch);
    }

    fn cuts<T: Real>(&self, site: Site<'_>, threads: usize) -> Option<Cuts> {
        Some(Cuts::new(site.shapes().result().rows(), EACH, threads, true))
    }
    fn forward_parts<T: Real>(&self, run: Forward<'_, T>, team: Team<'_, T>) -> bool {
        let (site, d) = (run.site, self.dims(run.site.shapes()));
        let one_for_all =
            self.residual.is_some_and(|r| site.shapes().of(r).elements() < site.shapes().result().elements());
        if one_for_all || (self.residual.is_some() && site.drops(self.dropout)) {
            return false;
        }
        let ForwardSlices { y, inputs: [x, r, gamma, beta], .. } =
            run.open([Some(self.x), self.residual, Some(self.gamma), Some(self.beta)]);
        team.workers.by_rows(team.cuts, y, |rows, y, _| {
            let (d, x) = (layer_norm::Dims { samples: 1, rows: rows.len(), ..d }, rows_of(x, &rows, d.cols));
            let part =
                |_| Residual { data: rows_of(r, &rows, d.cols), dropout: rng::Dropout::NONE, key: site.key };
            let residual = self.residual.map(part);
            layer_norm::forward(site.isa, d, self.eps, x, residual, gamma, beta, y, &mut []);
        });
        true
    }
}
