//! The forward pass: each operation's rule with its slices, on one thread or several.

use super::{Exec, ExecContext, packed_weights};
use crate::graph::aligned::Aligned;
use crate::graph::id::Id;
use crate::graph::operation::{Forward, Precision, Team};
use crate::graph::parts::Workers;
use crate::graph::pool::ThreadPool;
use std::sync::Mutex;

impl<T: Precision> Exec<T> {
    /// Runs the program forward with the flat parameter vector `params` (in the order of [`Graph::layout`](crate::graph::Graph::layout)).
    ///
    /// # Panics
    /// If `params` has another length than the layout.
    pub fn forward(&mut self, params: &[T]) {
        self.forward_pass(params, ExecContext::NONE, &mut |_| ());
    }

    /// As [`Exec::forward`] with help. With a thread pool, the first pass makes the scratch of its threads; later ones allocate
    /// nothing here.
    ///
    /// # Panics
    /// As [`Exec::forward`]; also if the packed weights were not packed from this very slice.
    pub fn forward_with(&mut self, params: &[T], context: ExecContext<'_, T>) {
        self.forward_pass(params, context, &mut |_| ());
    }

    /// As [`Exec::forward_with`], calling `done` after every operation: for clocks.
    ///
    /// # Panics
    /// As [`Exec::forward_with`].
    pub fn forward_watched(&mut self, params: &[T], context: ExecContext<'_, T>, done: &mut dyn FnMut(Id)) {
        self.forward_pass(params, context, done);
    }

    pub(super) fn forward_pass(
        &mut self,
        params: &[T],
        context: ExecContext<'_, T>,
        done: &mut dyn FnMut(Id),
    ) {
        assert_eq!(params.len(), self.graph.layout().len(), "exec: parameters and layout differ in length");
        if let Some(packed) = context.packed {
            packed.assert_of(params);
        }
        let pool = context.pool.filter(|pool| pool.threads() > 1);
        if let Some(pool) = pool
            && self.thread_scratch.len() < pool.threads()
        {
            let scratch = self.plan.steps.iter().map(|s| s.scratch_forward.len()).max().unwrap_or(0);
            self.thread_scratch.resize_with(pool.threads(), || Mutex::new(Aligned::zeros(scratch)));
        }
        for copy in &self.plan.copies {
            self.arena[copy.to.clone()].copy_from_slice(&params[copy.from.clone()]);
        }
        for i in 0..self.plan.steps.len() {
            let step = &self.plan.steps[i];
            if step.live {
                if step.computed && !pool.is_some_and(|pool| self.forward_parts(i, params, context, pool)) {
                    self.forward_op(i, params, context);
                }
                done(Id(i as u32));
            }
        }
    }

    pub(super) fn forward_op(&mut self, i: usize, params: &[T], context: ExecContext<'_, T>) {
        let site = self.settings.site(&self.graph, &self.plan, i);
        let panels = packed_weights(context, site, &self.plan, false);
        let (arena, indices) = (&mut self.arena[..], &self.indices[..]);
        site.node().op.rules::<T>().run_forward(Forward { site, arena, indices, params, panels });
    }

    /// Runs operation `i` on several threads; false, and nothing done, if it is not to be cut.
    fn forward_parts(
        &mut self,
        i: usize,
        params: &[T],
        context: ExecContext<'_, T>,
        pool: &ThreadPool,
    ) -> bool {
        let site = self.settings.site(&self.graph, &self.plan, i);
        let Some(cuts) = super::speed::cuts::<T>(site, pool.threads()) else { return false };
        let panels = packed_weights(context, site, &self.plan, false);
        let (arena, indices) = (&mut self.arena[..], &self.indices[..]);
        let workers = Workers { pool, scratch: &self.thread_scratch };
        let team = Team { workers, cuts, shared: &mut self.shared };
        site.node().op.rules::<T>().run_forward_parts(Forward { site, arena, indices, params, panels }, team)
    }
}
