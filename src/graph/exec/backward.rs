//! The backward pass: each operation's rule, in reverse, which writes or adds to gradients.

use super::{Exec, ExecContext, Fault, FaultKind, ParamGrads, packed_weights};
use crate::graph::id::{Id, MAX_INPUTS};
use crate::graph::operation::{Backward, Precision};
use crate::graph::step::{Pass, next_pass};
use crate::graph::views::Location;

impl<T: Precision> Exec<T> {
    /// Runs the program backward from the root with cotangent dL/d(root); adds dL/d(parameter) to `grads`.
    /// Call after [`Exec::forward`] with the same `params`, once per forward pass.
    ///
    /// # Panics
    /// If the plan has no root, or a length differs. `grads` may be empty if no parameter gradients are wanted.
    pub fn backward(&mut self, params: &[T], cotangent: &[T], grads: ParamGrads<'_, T>) {
        self.backward_pass(params, ExecContext::NONE, cotangent, grads, &mut |_| (), None);
    }

    /// As [`Exec::backward`] with packed weights; a thread pool does not help here.
    ///
    /// # Panics
    /// As [`Exec::backward`]; also if the packed weights were not packed from this very slice.
    pub fn backward_with(
        &mut self,
        params: &[T],
        context: ExecContext<'_, T>,
        cotangent: &[T],
        grads: ParamGrads<'_, T>,
    ) {
        self.backward_pass(params, context, cotangent, grads, &mut |_| (), None);
    }

    /// As [`Exec::backward_with`], calling `done` after every operation: for clocks.
    ///
    /// # Panics
    /// As [`Exec::backward_with`].
    pub fn backward_watched(
        &mut self,
        params: &[T],
        context: ExecContext<'_, T>,
        cotangent: &[T],
        grads: ParamGrads<'_, T>,
        done: &mut dyn FnMut(Id),
    ) {
        self.backward_pass(params, context, cotangent, grads, done, None);
    }

    /// As [`Exec::backward`] with a fault planted.
    pub(in crate::graph) fn backward_with_fault(
        &mut self,
        params: &[T],
        cotangent: &[T],
        grads: ParamGrads<'_, T>,
        fault: Fault,
    ) {
        self.backward_pass(params, ExecContext::NONE, cotangent, grads, &mut |_| (), Some(fault));
    }

    fn backward_pass(
        &mut self,
        params: &[T],
        context: ExecContext<'_, T>,
        cotangent: &[T],
        grads: ParamGrads<'_, T>,
        done: &mut dyn FnMut(Id),
        fault: Option<Fault>,
    ) {
        let Some(root) = self.plan.want.root else { panic!("exec: this plan has no value to differentiate") };
        assert_eq!(params.len(), self.graph.layout().len(), "exec: parameters and layout differ in length");
        if let Some(packed) = context.packed {
            packed.assert_of(params);
        }
        if self.plan.want.params {
            assert_eq!(grads.len(), params.len(), "exec: gradients and parameters differ in length");
        }
        for id in &self.plan.unreached {
            self.arena[self.plan.steps[id.index()].gradient.clone()].fill(T::ZERO);
        }
        let elements = self.graph.shape(root).elements();
        assert_eq!(cotangent.len(), elements, "exec: the cotangent must have the root's {elements} elements");
        let step = &self.plan.steps[root.index()];
        match &step.value {
            _ if !step.gradient.is_empty() => self.arena[step.gradient.clone()].copy_from_slice(cotangent),
            Location::Param(r) if self.plan.want.params => add(&mut grads[r.clone()], cotangent),
            _ => {}
        }
        for i in (0..self.plan.steps.len()).rev() {
            let step = &self.plan.steps[i];
            if !step.live || !step.visited {
                continue;
            }
            match fault.filter(|fault| fault.id.index() == i) {
                None => self.backward_all(i, params, context, grads),
                Some(fault) => {
                    let (before, key) = (self.before_fault(fault, grads), self.settings.key);
                    if fault.kind == FaultKind::StaleMask {
                        self.settings.key.step += 1;
                    }
                    self.backward_all(i, params, context, grads);
                    self.settings.key = key;
                    self.after_fault(fault, &before, grads);
                }
            }
            done(Id(i as u32));
        }
        if self.plan.want.params {
            for copy in &self.plan.copies {
                let gradient = self.plan.steps[copy.id.index()].gradient.clone();
                if !gradient.is_empty() {
                    add(&mut grads[copy.from.clone()], &self.arena[gradient]);
                }
            }
        }
    }

    /// All gradients of one operation: one pass per set of distinct destinations, as in mul(x, x) both contributions go to
    /// the same gradient.
    fn backward_all(&mut self, i: usize, params: &[T], context: ExecContext<'_, T>, grads: &mut [T]) {
        let shares = self.graph.nodes()[i].op.spec().shares_gradient_buffers();
        let mut taken = [false; MAX_INPUTS];
        while let Some(pass) = next_pass(&self.plan.steps[i], shares, &mut taken) {
            self.backward_op(i, params, context, grads, pass);
        }
    }

    fn backward_op(
        &mut self,
        i: usize,
        params: &[T],
        context: ExecContext<'_, T>,
        grads: &mut [T],
        pass: Pass,
    ) {
        let site = self.settings.site(&self.graph, &self.plan, i);
        let panels = packed_weights(context, site, &self.plan, true);
        let (arena, indices) = (&mut self.arena[..], &self.indices[..]);
        let run = Backward { site, arena, indices, params, grads, panels, pass };
        site.node().op.rules::<T>().run_backward(run);
    }
}

fn add<T: Precision>(to: &mut [T], x: &[T]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += *x);
}
