//! The backward pass: one arm per operation fetches slices and calls one kernel, which writes or adds to gradients.

use super::context::panels;
use super::gradients::{Pass, attention_gradients, next_pass, open, settled};
use super::{Exec, ExecContext, ParamGrads, Precision};
use crate::graph::cost;
use crate::graph::op::{Id, MAX_INPUTS, Op};
use crate::graph::views::Location;
use heartlore_kernels::activation::Activation;
use heartlore_kernels::attention::Rows;
use heartlore_kernels::layer_norm::Residual;
use heartlore_kernels::{
    absorbed_attention, activation, attention, conv1d, dropout, elementwise, embed, feed_forward, layer_norm,
    linear, losses, pool, reduce, softmax,
};
use std::sync::Arc;

impl<T: Precision> Exec<T> {
    /// Runs the program backward from the root with cotangent dL/d(root); adds dL/d(parameter) to `grads`.
    /// Call after [`Exec::forward`] with the same `params`, once per forward pass.
    ///
    /// # Panics
    /// If the plan has no root, or a length differs. `grads` may be empty if no parameter gradients are wanted.
    pub fn backward(&mut self, params: &[T], cotangent: &[T], grads: ParamGrads<'_, T>) {
        T::backward(self, params, ExecContext::NONE, cotangent, grads, &mut |_| ());
    }

    /// As [`Exec::backward`] with prepared weights; a team does not help here.
    ///
    /// # Panics
    /// As [`Exec::backward`]; also if the prepared weights are not those of `params`.
    pub fn backward_with(
        &mut self,
        params: &[T],
        aids: ExecContext<'_, T>,
        cotangent: &[T],
        grads: ParamGrads<'_, T>,
    ) {
        T::backward(self, params, aids, cotangent, grads, &mut |_| ());
    }

    /// As [`Exec::backward_with`], calling `done` after every operation: for clocks.
    ///
    /// # Panics
    /// As [`Exec::backward_with`].
    pub fn backward_watched(
        &mut self,
        params: &[T],
        aids: ExecContext<'_, T>,
        cotangent: &[T],
        grads: ParamGrads<'_, T>,
        done: &mut dyn FnMut(Id),
    ) {
        T::backward(self, params, aids, cotangent, grads, &mut |i| done(Id(i as u32)));
    }

    pub(super) fn backward_pass(
        &mut self,
        params: &[T],
        aids: ExecContext<'_, T>,
        cotangent: &[T],
        grads: ParamGrads<'_, T>,
        done: &mut dyn FnMut(usize),
    ) {
        let Some(root) = self.plan.want.root else { panic!("exec: this plan has no value to differentiate") };
        assert_eq!(params.len(), self.graph.layout().len(), "exec: parameters and layout differ in length");
        if self.plan.want.params {
            assert_eq!(grads.len(), params.len(), "exec: gradients and parameters differ in length");
        }
        for id in &self.plan.unreached {
            self.arena[self.plan.steps[id.index()].gradient.clone()].fill(T::ZERO);
        }
        let elements = self.graph.shape(root).elements();
        assert_eq!(cotangent.len(), elements, "exec: the cotangent must have the root's {elements} elements");
        match &self.plan.steps[root.index()].value {
            Location::Param(r) if self.plan.want.params => {
                grads[r.clone()].iter_mut().zip(cotangent).for_each(|(g, c)| *g += *c);
            }
            Location::Param(_) | Location::Absent => {}
            Location::Arena(_) => {
                self.arena[self.plan.steps[root.index()].gradient.clone()].copy_from_slice(cotangent);
            }
        }
        for i in (0..self.plan.steps.len()).rev() {
            let step = &self.plan.steps[i];
            if !step.live || !step.visited {
                continue;
            }
            // One pass per set of distinct destinations: in mul(x, x) both contributions go to the same gradient.
            let shares = matches!(self.graph.nodes()[i].op, Op::Attention { .. });
            let mut taken = [false; MAX_INPUTS];
            while let Some(pass) = next_pass(&self.plan.steps[i], shares, &mut taken) {
                self.backward_op(i, params, aids, grads, pass);
            }
            done(i);
        }
    }

    fn backward_op(&mut self, i: usize, params: &[T], aids: ExecContext<'_, T>, grads: &mut [T], pass: Pass) {
        let (graph, plan, isa, key) =
            (Arc::clone(&self.graph), Arc::clone(&self.plan), self.isa, self.key_of(i));
        let step = &plan.steps[i];
        let id = Id(i as u32);
        let at = |id: Id| &plan.steps[id.index()].value;
        let opt = |id: Option<Id>| id.map_or(&Location::Absent, at);
        let (y, saved, dy) =
            (&step.value, &Location::Arena(step.saved.clone()), &Location::Arena(step.gradient.clone()));
        let prepared = panels(aids, &graph, &plan, isa, id, true, params);
        let indices = |id: Id| &self.indices[plan.steps[id.index()].index.clone()];
        match graph.nodes()[i].op {
            Op::Input | Op::Index { .. } | Op::Param { .. } | Op::Sinusoid | Op::Reshape { .. } => {}
            Op::Linear { x, w, first, act, .. } => {
                let d = cost::linear_dims(&graph, id, plan.precision());
                // Only ReLU derives its slope from the result; for the others it may be gone by now.
                let y = if act == Some(Activation::Relu) { y } else { &Location::Absent };
                let reads = [at(x), at(w), y, saved, dy];
                let (to, scratch, [x, w, y, saved, dy]) =
                    open(&mut self.arena, params, grads, step, pass, reads);
                let (rows_w, rows_b) =
                    (first * d.inputs..(first + d.outputs) * d.inputs, first..first + d.outputs);
                let [dx, dw, db, ..] = to;
                let dw = settled(dw).map(|g| &mut g[rows_w.clone()]);
                let db = settled(db).map(|g| &mut g[rows_b]);
                linear::backward(isa, d, act, x, &w[rows_w], prepared, y, saved, dy, dx, dw, db, scratch);
            }
            Op::Conv1d { x, w, act, .. } => {
                let d = cost::conv1d_dims(&graph, id);
                // Only ReLU derives its slope from the result; for the others it may be gone by now.
                let y = if act == Some(Activation::Relu) { y } else { &Location::Absent };
                let reads = [at(x), at(w), y, saved, dy];
                let (to, scratch, [x, w, y, saved, dy]) =
                    open(&mut self.arena, params, grads, step, pass, reads);
                let [dx, dw, db, ..] = to;
                conv1d::backward(
                    isa,
                    d,
                    act,
                    x,
                    w,
                    prepared,
                    y,
                    saved,
                    dy,
                    dx,
                    settled(dw),
                    settled(db),
                    scratch,
                );
            }
            Op::LayerNorm { x, residual, dropout, gamma, .. } => {
                let d = cost::layer_norm_dims(&graph, id);
                let dropout = self.dropout_of(dropout);
                let reads = [at(x), opt(residual), at(gamma), saved, dy];
                let (to, scratch, [x, r, gamma, saved, dy]) =
                    open(&mut self.arena, params, grads, step, pass, reads);
                let residual = residual.map(|_| Residual { data: r, dropout, key });
                let [dx, dr, dg, db, _] = to;
                let (dg, db) = (settled(dg), settled(db));
                layer_norm::backward(isa, d, x, residual, gamma, saved, dy, dx, dr, dg, db, scratch);
            }
            Op::Softmax { .. } => {
                let d = cost::softmax_dims(&graph, id);
                let (to, _, [y, dy]) = open(&mut self.arena, params, grads, step, pass, [y, dy]);
                if let [Some(dx), ..] = to {
                    softmax::backward(isa, d, y, dy, dx);
                }
            }
            Op::Attention { q, k, v, mask, scale, dropout, .. } => {
                let d = cost::attention_dims(&graph, id, plan.precision());
                let dropout = self.dropout_of(dropout);
                let reads = [at(q.id), at(k.id), at(v.id), opt(mask), y, saved, dy];
                let columns = [q, k, v];
                let stride = columns.map(|c| graph.shape(c.id).last());
                let (to, scratch, [qs, ks, vs, m, y, saved, dy]) =
                    open(&mut self.arena, params, grads, step, pass, reads);
                let width = d.heads * d.head_dim;
                let rows = |s: usize, data| Rows { data, stride: stride[s], offset: columns[s].offset };
                let (q, k, v) = (rows(0, qs), rows(1, ks), rows(2, vs));
                let (mut buffers, places) =
                    attention_gradients(to, &pass, columns.map(|c| c.offset), stride, width);
                let [dq, dk, dv] = places;
                let mask = mask.map(|_| m);
                attention::backward(
                    isa,
                    d,
                    scale,
                    q,
                    k,
                    v,
                    mask,
                    dropout,
                    key,
                    y,
                    saved,
                    dy,
                    &mut buffers,
                    dq,
                    dk,
                    dv,
                    scratch,
                );
            }
            Op::AbsorbedAttention { q, x, w, b, mask, first, scale, dropout, .. } => {
                let d = cost::absorbed_attention_dims(&graph, id);
                let dropout = self.dropout_of(dropout);
                let reads = [at(q), at(x), at(w), opt(b), opt(mask), saved, dy];
                let (to, scratch, [q, x, w, bias, m, saved, dy]) =
                    open(&mut self.arena, params, grads, step, pass, reads);
                let rows = first..first + 2 * d.inner();
                let of_w = rows.start * d.width..rows.end * d.width;
                let [dq, dx, dw, db, _] = to;
                let dw = settled(dw).map(|g| &mut g[of_w.clone()]);
                let db = settled(db).map(|g| &mut g[rows.clone()]);
                let (bias, mask) = (b.map(|_| &bias[rows]), mask.map(|_| m));
                let w = &w[of_w];
                absorbed_attention::backward(
                    isa, d, scale, q, x, w, bias, mask, dropout, key, saved, dy, dq, dx, dw, db, scratch,
                );
            }
            Op::FeedForward { x, w1, b1, w2, act, dropout, .. } => {
                let d = cost::feed_forward_dims(&graph, id, plan.precision());
                let dropout = self.dropout_of(dropout);
                let reads = [at(x), at(w1), at(b1), at(w2), saved, dy];
                let (to, scratch, [x, w1, b1, w2, saved, dy]) =
                    open(&mut self.arena, params, grads, step, pass, reads);
                let [dx, dw1, db1, dw2, db2] = to;
                let [dw1, db1, dw2, db2] = [dw1, db1, dw2, db2].map(settled);
                feed_forward::backward(
                    isa, d, act, dropout, key, x, w1, b1, w2, prepared, saved, dy, dx, dw1, db1, dw2, db2,
                    scratch,
                );
            }
            Op::Activate { x, kind } => {
                let (to, _, [x, dy]) = open(&mut self.arena, params, grads, step, pass, [at(x), dy]);
                if let [Some(dx), ..] = to {
                    activation::backward(isa, kind, x, dy, dx);
                }
            }
            Op::Dropout { p, .. } => {
                let (d, p) = (cost::dropout_dims(&graph, id), self.dropout_of(p));
                let (to, _, [dy]) = open(&mut self.arena, params, grads, step, pass, [dy]);
                if let [Some(dx), ..] = to {
                    dropout::backward(isa, d, p, key, dy, dx);
                }
            }
            Op::Add { .. } => {
                let (to, _, [dy]) = open(&mut self.arena, params, grads, step, pass, [dy]);
                let [da, db, ..] = to;
                elementwise::add_backward(isa, dy, da, db);
            }
            Op::Mul { a, b } => {
                let (to, _, [a, b, dy]) =
                    open(&mut self.arena, params, grads, step, pass, [at(a), at(b), dy]);
                let [da, db, ..] = to;
                elementwise::mul_backward(isa, a, b, dy, da, db);
            }
            Op::Scale { factor, .. } => {
                let (to, _, [dy]) = open(&mut self.arena, params, grads, step, pass, [dy]);
                if let [Some(dx), ..] = to {
                    elementwise::scale_backward(isa, factor, dy, dx);
                }
            }
            Op::AddRows { .. } => {
                let d = cost::rows_dims(&graph, id);
                let (to, _, [dy]) = open(&mut self.arena, params, grads, step, pass, [dy]);
                let [dx, dtable, ..] = to;
                embed::add_rows::backward(d, dy, dx, dtable);
            }
            Op::PrependRow { .. } => {
                let d = cost::rows_dims(&graph, id);
                let (to, _, [dy]) = open(&mut self.arena, params, grads, step, pass, [dy]);
                let [dx, drow, ..] = to;
                embed::prepend_row::backward(d, dy, dx, drow);
            }
            Op::GatherRows { index, .. } => {
                let d = cost::gather_dims(&graph, id);
                let (to, _, [dy]) = open(&mut self.arena, params, grads, step, pass, [dy]);
                if let [Some(dx), ..] = to {
                    embed::gather_rows::backward(d, indices(index), dy, dx);
                }
            }
            Op::Pool { x, kind } => {
                let d = cost::pool_dims(&graph, id);
                let (to, _, [x, dy]) = open(&mut self.arena, params, grads, step, pass, [at(x), dy]);
                if let [Some(dx), ..] = to {
                    pool::backward(isa, kind, d, x, dy, dx);
                }
            }
            Op::MaskedMse { pred, target, mask, reduction } => {
                let reads = [at(pred), at(target), opt(mask), dy];
                let (to, _, [p, t, m, dy]) = open(&mut self.arena, params, grads, step, pass, reads);
                let [dp, dt, ..] = to;
                losses::masked_mse::backward(isa, reduction, p, t, mask.map(|_| m), dy[0], dp, dt);
            }
            Op::BceLogits { logits, targets, mask, pos_weight, reduction } => {
                let reads = [at(logits), at(targets), opt(mask), dy];
                let (to, _, [l, t, m, dy]) = open(&mut self.arena, params, grads, step, pass, reads);
                if let [Some(dl), ..] = to {
                    losses::bce_logits::backward(
                        isa,
                        reduction,
                        pos_weight,
                        l,
                        t,
                        mask.map(|_| m),
                        dy[0],
                        dl,
                    );
                }
            }
            Op::CrossEntropy { logits, labels, reduction } => {
                let d = cost::cross_entropy_dims(&graph, id);
                let (to, _, [l, dy]) = open(&mut self.arena, params, grads, step, pass, [at(logits), dy]);
                if let [Some(dl), ..] = to {
                    losses::cross_entropy::backward(isa, d, reduction, l, indices(labels), dy[0], dl);
                }
            }
            Op::Reduce { x, kind } => {
                let (to, _, [x, y, dy]) = open(&mut self.arena, params, grads, step, pass, [at(x), y, dy]);
                if let [Some(dx), ..] = to {
                    reduce::backward(isa, kind, x, y, dy[0], dx);
                }
            }
        }
    }
}
