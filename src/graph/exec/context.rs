//! [`ExecContext`]: what may help a pass beside the parameters.

use super::Precision;
use crate::graph::builder::Graph;
use crate::graph::op::Id;
use crate::graph::packed::{PackedWeights, Weights};
use crate::graph::plan::Plan;
use crate::graph::pool::ThreadPool;
use heartlore_kernels::Isa;

/// What may help a pass beside the parameters. Neither changes a bit of the result.
#[derive(Debug)]
pub struct ExecContext<'a, T> {
    /// Weights prepared from the same parameters; what is not there is packed in scratch, pass by pass.
    pub prepared: Option<&'a PackedWeights<T>>,
    /// Threads to share the operations of a forward pass that keeps nothing for a backward pass. To be called on one of
    /// them ([`ThreadPool::lead`]).
    pub team: Option<&'a ThreadPool>,
}

impl<T> ExecContext<'_, T> {
    /// No help.
    pub const NONE: Self = Self { prepared: None, team: None };
}

impl<'a, T> ExecContext<'a, T> {
    /// Prepared weights.
    pub fn prepared(prepared: &'a PackedWeights<T>) -> Self {
        Self { prepared: Some(prepared), team: None }
    }
}

impl<T> Clone for ExecContext<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for ExecContext<'_, T> {}

/// The prepared weights of an operation; empty if there are none.
pub(in crate::graph) fn panels<'a, T: Precision>(
    aids: ExecContext<'a, T>,
    graph: &Graph,
    plan: &Plan,
    isa: Isa,
    id: Id,
    backward: bool,
    params: &[T],
) -> &'a [T] {
    match aids.prepared {
        Some(prepared) => {
            Weights::of(graph, plan, id).map_or(&[], |w| prepared.find(isa, &w, backward, params))
        }
        None => &[],
    }
}
