//! What goes into a program's memory and comes out of it: inputs, kept values, wanted gradients.

use super::{Exec, Precision};
use crate::error::{Error, Result};
use crate::graph::aligned::Aligned;
use crate::graph::op::{Id, Op};
use crate::graph::plan::Step;
use crate::graph::views::Location;

impl<T: Precision> Exec<T> {
    /// Fills the memory with NaN, all but inputs and constants: a pass that reads what it has not written shows it. For
    /// tests; between passes it changes no result.
    pub fn poison(&mut self) {
        let mut filled = Aligned::zeros(self.arena.len());
        filled.fill(T::NAN);
        for (node, step) in self.graph.nodes().iter().zip(&self.plan.steps) {
            if let (Op::Input | Op::Sinusoid, Location::Arena(r)) = (&node.op, &step.value) {
                filled[r.clone()].copy_from_slice(&self.arena[r.clone()]);
            }
        }
        self.arena = filled;
    }

    /// The numbers of an input, to be written before a pass. They stay until overwritten.
    ///
    /// # Errors
    /// If `id` is not an input of this program or the plan leaves it out.
    pub fn input_mut(&mut self, id: Id) -> Result<&mut [T]> {
        match (self.graph.nodes().get(id.index()).map(|n| &n.op), self.plan.steps.get(id.index())) {
            (Some(Op::Input), Some(Step { value: Location::Arena(r), .. })) => Ok(&mut self.arena[r.clone()]),
            (Some(Op::Input), _) => Err(Error::usage(format!("exec: input {id} is not needed by this plan"))),
            _ => Err(Error::usage(format!("exec: {id} is not an input"))),
        }
    }

    /// Copies `values` into an input.
    ///
    /// # Errors
    /// As [`Exec::input_mut`]; also if the lengths differ.
    pub fn set_input(&mut self, id: Id, values: &[T]) -> Result<()> {
        let label = self.graph.nodes().get(id.index()).map(|n| n.label.clone());
        let slot = self.input_mut(id)?;
        if slot.len() != values.len() {
            let (want, got) = (slot.len(), values.len());
            return Err(Error::shape(format!("exec: input {label:?} has {want} elements, given {got}")));
        }
        slot.copy_from_slice(values);
        Ok(())
    }

    /// Copies `values` into an index input.
    ///
    /// # Errors
    /// If `id` is not an index input, the lengths differ, or a value reaches the bound.
    pub fn set_index(&mut self, id: Id, values: &[u32]) -> Result<()> {
        let Some(Op::Index { bound }) = self.graph.nodes().get(id.index()).map(|n| &n.op) else {
            return Err(Error::usage(format!("exec: {id} is not an index input")));
        };
        let slot = &mut self.indices[self.plan.steps[id.index()].index.clone()];
        if slot.len() != values.len() {
            return Err(Error::shape(format!(
                "exec: index {id} has {} elements, given {}",
                slot.len(),
                values.len()
            )));
        }
        if let Some(i) = values.iter().position(|&v| v as usize >= *bound) {
            return Err(Error::data(format!(
                "exec: index {id} element {i} is {}, the bound is {bound}",
                values[i]
            )));
        }
        slot.copy_from_slice(values);
        Ok(())
    }

    /// A kept value after [`Exec::forward`].
    ///
    /// # Panics
    /// If the plan was not asked to keep it (its memory may hold something else), or it is a parameter.
    pub fn value(&self, id: Id) -> &[T] {
        let w = &self.plan.want;
        let kept = w.keep.contains(&id) || w.root == Some(id) || w.gradients.contains(&id);
        let input = matches!(self.graph.node(id).op, Op::Input | Op::Sinusoid);
        match &self.plan.steps[id.index()].value {
            Location::Arena(r) if kept || input => &self.arena[r.clone()],
            _ => panic!("exec: {id} is not kept by this plan; name it in OutputRequest::keep"),
        }
    }

    /// A wanted gradient after [`Exec::backward`].
    ///
    /// # Panics
    /// If the plan was not asked for it.
    pub fn gradient(&self, id: Id) -> &[T] {
        assert!(
            self.plan.want.gradients.contains(&id),
            "exec: the gradient of {id} is not wanted by this plan"
        );
        &self.arena[self.plan.steps[id.index()].gradient.clone()]
    }
}
