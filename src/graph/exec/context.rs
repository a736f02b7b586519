//! [`ExecContext`]: what may help a pass beside the parameters.

use crate::graph::operation::{Precision, Site};
use crate::graph::packed::{Packed, Weights};
use crate::graph::plan::Plan;
use crate::graph::pool::ThreadPool;

/// What may help a pass beside the parameters. Neither changes a bit of the result.
#[derive(Debug)]
pub struct ExecContext<'a, T> {
    /// Weights packed from the same parameters; what is not there is packed in scratch, pass by pass.
    pub packed: Option<Packed<'a, T>>,
    /// Threads to share the operations of a forward pass that keeps nothing for a backward pass. To be called on one of
    /// them ([`ThreadPool::run`]).
    pub pool: Option<&'a ThreadPool>,
}

impl<T> ExecContext<'_, T> {
    /// No help.
    pub const NONE: Self = Self { packed: None, pool: None };
}

impl<'a, T> ExecContext<'a, T> {
    /// Packed weights.
    pub fn packed(packed: Packed<'a, T>) -> Self {
        Self { packed: Some(packed), pool: None }
    }
}

impl<T> Clone for ExecContext<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for ExecContext<'_, T> {}

/// The packed weights of an operation; empty if there are none.
pub(super) fn packed_weights<'a, T: Precision>(
    context: ExecContext<'a, T>,
    site: Site<'_>,
    plan: &Plan,
    backward: bool,
) -> &'a [T] {
    match context.packed {
        Some(packed) => Weights::of(site.nodes, plan, site.id)
            .map_or(&[], |weights| packed.find(site.isa, &weights, backward)),
        None => &[],
    }
}
