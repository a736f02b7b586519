//! What goes into a program's memory and comes out of it: inputs, kept values, wanted gradients.

use super::Exec;
use crate::error::{Error, Result};
use crate::graph::aligned::Aligned;
use crate::graph::id::Id;
use crate::graph::operation::{Precision, Role};
use crate::graph::step::Step;
use crate::graph::views::Location;

impl<T: Precision> Exec<T> {
    /// Fills the memory with NaN, all but inputs and constants: a pass that reads what it has not written shows it. For
    /// tests; between passes it changes no result.
    pub fn poison(&mut self) {
        let mut filled = Aligned::zeros(self.arena.len());
        filled.fill(T::NAN);
        for (node, step) in self.graph.nodes().iter().zip(&self.plan.steps) {
            if let (Role::Input | Role::Constant, Location::Arena(r)) = (node.op.role(), &step.value) {
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
        match (self.graph.nodes().get(id.index()).map(|n| n.op.role()), self.plan.steps.get(id.index())) {
            (Some(Role::Input), Some(Step { value: Location::Arena(r), .. })) => {
                Ok(&mut self.arena[r.clone()])
            }
            (Some(Role::Input), _) => {
                Err(Error::usage(format!("exec: input {id} is not needed by this plan")))
            }
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
        let Some(bound) = self.graph.nodes().get(id.index()).and_then(|n| n.op.index_bound()) else {
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
        if let Some(i) = values.iter().position(|&v| v as usize >= bound) {
            return Err(Error::data(format!(
                "exec: index {id} element {i} is {}, the bound is {bound}",
                values[i]
            )));
        }
        slot.copy_from_slice(values);
        Ok(())
    }

    /// A kept value after [`Exec::forward`]; of a parameter, the numbers of that pass.
    ///
    /// # Panics
    /// If the plan was not asked to keep it: its memory may hold something else.
    pub fn value(&self, id: Id) -> &[T] {
        let w = &self.plan.want;
        let kept = w.keep.contains(&id) || w.root == Some(id) || w.gradients.contains(&id);
        let constant = matches!(self.graph.node(id).op.role(), Role::Input | Role::Constant);
        match &self.plan.steps[id.index()].value {
            Location::Arena(r) if kept || constant => &self.arena[r.clone()],
            Location::Param(_) if kept => {
                let of = self.plan.storage(id);
                self.plan.copies.iter().find(|c| c.id == of).map_or(&[], |c| &self.arena[c.to.clone()])
            }
            _ => panic!("exec: {id} is not kept by this plan; name it in OutputRequest::keep"),
        }
    }

    /// A wanted gradient after [`Exec::backward`]. Of a parameter it is that of this pass alone, while the pass adds to the
    /// parameters' gradients that it is given.
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
