//! The forward pass: one arm per operation fetches slices and calls one kernel.

use super::context::panels;
use super::{Exec, ExecContext, Precision, arena_range};
use crate::graph::aligned::Aligned;
use crate::graph::cost;
use crate::graph::op::{Columns, Id, Op};
use crate::graph::split;
use crate::graph::views::{Location, views};
use heartlore_kernels::attention::Rows;
use heartlore_kernels::layer_norm::Residual;
use heartlore_kernels::{
    absorbed_attention, activation, attention, conv1d, dropout, elementwise, embed, feed_forward, layer_norm,
    linear, losses, pool, reduce, softmax,
};
use std::sync::{Arc, Mutex};

impl<T: Precision> Exec<T> {
    /// Runs the program forward with the flat parameter vector `params` (in the order of [`Graph::layout`](crate::graph::Graph::layout)).
    ///
    /// # Panics
    /// If `params` has another length than the layout.
    pub fn forward(&mut self, params: &[T]) {
        T::forward(self, params, ExecContext::NONE, &mut |_| ());
    }

    /// As [`Exec::forward`] with help. With a team, the first pass makes the scratch of its threads; later ones allocate
    /// nothing here.
    ///
    /// # Panics
    /// As [`Exec::forward`]; also if the prepared weights are not those of `params`.
    pub fn forward_with(&mut self, params: &[T], aids: ExecContext<'_, T>) {
        T::forward(self, params, aids, &mut |_| ());
    }

    /// As [`Exec::forward_with`], calling `done` after every operation: for clocks.
    ///
    /// # Panics
    /// As [`Exec::forward_with`].
    pub fn forward_watched(&mut self, params: &[T], aids: ExecContext<'_, T>, done: &mut dyn FnMut(Id)) {
        T::forward(self, params, aids, &mut |i| done(Id(i as u32)));
    }

    pub(super) fn forward_pass(
        &mut self,
        params: &[T],
        aids: ExecContext<'_, T>,
        done: &mut dyn FnMut(usize),
    ) {
        assert_eq!(params.len(), self.graph.layout().len(), "exec: parameters and layout differ in length");
        let team = aids.team.filter(|team| team.threads() > 1);
        if let Some(team) = team
            && self.benches.len() < team.threads()
        {
            let scratch = self.plan.steps.iter().map(|s| s.scratch_forward.len()).max().unwrap_or(0);
            self.benches.resize_with(team.threads(), || Mutex::new(Aligned::zeros(scratch)));
        }
        for i in 0..self.plan.steps.len() {
            if self.plan.steps[i].live {
                if !team.is_some_and(|team| split::forward(self, i, params, aids, team)) {
                    self.forward_op(i, params, aids);
                }
                done(i);
            }
        }
    }

    fn forward_op(&mut self, i: usize, params: &[T], aids: ExecContext<'_, T>) {
        let (graph, plan, isa, key) =
            (Arc::clone(&self.graph), Arc::clone(&self.plan), self.isa, self.key_of(i));
        let step = &plan.steps[i];
        let node = &graph.nodes()[i];
        let id = Id(i as u32);
        let at = |id: Id| &plan.steps[id.index()].value;
        let opt = |id: Option<Id>| id.map_or(&Location::Absent, at);
        let out = arena_range(&step.value);
        let (saved, scratch) = (step.saved.clone(), step.scratch_forward.clone());
        let prepared = panels(aids, &graph, &plan, isa, id, false, params);
        match node.op {
            Op::Input | Op::Index { .. } | Op::Param { .. } | Op::Sinusoid | Op::Reshape { .. } => {}
            Op::Linear { x, w, b, first, act } => {
                let d = cost::linear_dims(&graph, id, plan.precision());
                let ([y, saved, scratch], [x, w, bias]) =
                    views(&mut self.arena, params, [out, saved, scratch], [at(x), at(w), opt(b)]);
                let w = &w[first * d.inputs..][..d.outputs * d.inputs];
                let bias = b.map(|_| &bias[first..][..d.outputs]);
                linear::forward(isa, d, act, x, w, prepared, bias, y, saved, scratch);
            }
            Op::Conv1d { x, w, b, act, .. } => {
                let d = cost::conv1d_dims(&graph, id);
                let ([y, saved, scratch], [x, w, bias]) =
                    views(&mut self.arena, params, [out, saved, scratch], [at(x), at(w), opt(b)]);
                conv1d::forward(isa, d, act, x, w, prepared, b.map(|_| bias), y, saved, scratch);
            }
            Op::LayerNorm { x, residual, dropout, gamma, beta, eps } => {
                let d = cost::layer_norm_dims(&graph, id);
                let dropout = self.dropout_of(dropout);
                let ([y, saved], [x, r, gamma, beta]) =
                    views(&mut self.arena, params, [out, saved], [at(x), opt(residual), at(gamma), at(beta)]);
                let residual = residual.map(|_| Residual { data: r, dropout, key });
                layer_norm::forward(isa, d, eps, x, residual, gamma, beta, y, saved);
            }
            Op::Softmax { x } => {
                let ([y], [x]) = views(&mut self.arena, params, [out], [at(x)]);
                softmax::forward(isa, cost::softmax_dims(&graph, id), x, y);
            }
            Op::Attention { q, k, v, mask, scale, dropout, .. } => {
                let d = cost::attention_dims(&graph, id, plan.precision());
                let dropout = self.dropout_of(dropout);
                let places = [at(q.id), at(k.id), at(v.id), opt(mask)];
                let ([y, saved, scratch], [qs, ks, vs, m]) =
                    views(&mut self.arena, params, [out, saved, scratch], places);
                let rows =
                    |c: Columns, data| Rows { data, stride: graph.shape(c.id).last(), offset: c.offset };
                let (q, k, v) = (rows(q, qs), rows(k, ks), rows(v, vs));
                attention::forward(isa, d, scale, q, k, v, mask.map(|_| m), dropout, key, y, saved, scratch);
            }
            Op::AbsorbedAttention { q, x, w, b, mask, first, scale, dropout, .. } => {
                let d = cost::absorbed_attention_dims(&graph, id);
                let dropout = self.dropout_of(dropout);
                let places = [at(q), at(x), at(w), opt(b), opt(mask)];
                let ([y, saved, scratch], [q, x, w, bias, m]) =
                    views(&mut self.arena, params, [out, saved, scratch], places);
                let w = &w[first * d.width..][..2 * d.inner() * d.width];
                let (bias, mask) = (b.map(|_| &bias[first..][..2 * d.inner()]), mask.map(|_| m));
                absorbed_attention::forward(
                    isa, d, scale, q, x, w, bias, mask, dropout, key, y, saved, scratch,
                );
            }
            Op::FeedForward { x, w1, b1, w2, b2, act, dropout } => {
                let d = cost::feed_forward_dims(&graph, id, plan.precision());
                let dropout = self.dropout_of(dropout);
                let places = [at(x), at(w1), at(b1), at(w2), at(b2)];
                let ([y, saved, scratch], [x, w1, b1, w2, b2]) =
                    views(&mut self.arena, params, [out, saved, scratch], places);
                feed_forward::forward(
                    isa, d, act, dropout, key, x, w1, b1, w2, b2, prepared, y, saved, scratch,
                );
            }
            Op::Activate { x, kind } => {
                let ([y], [x]) = views(&mut self.arena, params, [out], [at(x)]);
                activation::forward(isa, kind, x, y);
            }
            Op::Dropout { x, p } => {
                let p = self.dropout_of(p);
                let ([y], [x]) = views(&mut self.arena, params, [out], [at(x)]);
                dropout::forward(isa, cost::dropout_dims(&graph, id), p, key, x, y);
            }
            Op::Add { a, b } => {
                let ([y], [a, b]) = views(&mut self.arena, params, [out], [at(a), at(b)]);
                elementwise::add(isa, a, b, y);
            }
            Op::Mul { a, b } => {
                let ([y], [a, b]) = views(&mut self.arena, params, [out], [at(a), at(b)]);
                elementwise::mul(isa, a, b, y);
            }
            Op::Scale { x, factor } => {
                let ([y], [x]) = views(&mut self.arena, params, [out], [at(x)]);
                elementwise::scale(isa, factor, x, y);
            }
            Op::AddRows { x, table } => {
                let ([y], [x, table]) = views(&mut self.arena, params, [out], [at(x), at(table)]);
                embed::add_rows::forward(cost::rows_dims(&graph, id), x, table, y);
            }
            Op::PrependRow { x, row } => {
                let ([y], [x, row]) = views(&mut self.arena, params, [out], [at(x), at(row)]);
                embed::prepend_row::forward(cost::rows_dims(&graph, id), x, row, y);
            }
            Op::GatherRows { x, index } => {
                let ([y], [x]) = views(&mut self.arena, params, [out], [at(x)]);
                let index = &self.indices[plan.steps[index.index()].index.clone()];
                embed::gather_rows::forward(cost::gather_dims(&graph, id), x, index, y);
            }
            Op::Pool { x, kind } => {
                let ([y], [x]) = views(&mut self.arena, params, [out], [at(x)]);
                pool::forward(isa, kind, cost::pool_dims(&graph, id), x, y);
            }
            Op::MaskedMse { pred, target, mask, reduction } => {
                let ([y], [p, t, m]) =
                    views(&mut self.arena, params, [out], [at(pred), at(target), opt(mask)]);
                losses::masked_mse::forward(isa, reduction, p, t, mask.map(|_| m), y);
            }
            Op::BceLogits { logits, targets, mask, pos_weight, reduction } => {
                let ([y], [l, t, m]) =
                    views(&mut self.arena, params, [out], [at(logits), at(targets), opt(mask)]);
                losses::bce_logits::forward(isa, reduction, pos_weight, l, t, mask.map(|_| m), y);
            }
            Op::CrossEntropy { logits, labels, reduction } => {
                let ([y], [l]) = views(&mut self.arena, params, [out], [at(logits)]);
                let labels = &self.indices[plan.steps[labels.index()].index.clone()];
                losses::cross_entropy::forward(
                    isa,
                    cost::cross_entropy_dims(&graph, id),
                    reduction,
                    l,
                    labels,
                    y,
                );
            }
            Op::Reduce { x, kind } => {
                let ([y], [x]) = views(&mut self.arena, params, [out], [at(x)]);
                reduce::forward(isa, kind, x, y);
            }
        }
    }
}
