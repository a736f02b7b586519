//! Operations of your own: [`CustomOp`], recorded, planned, run and checked like the library's.

use crate::error::{Error, Result};
use crate::graph::builder::Graph;
use crate::graph::formula::Formula;
use crate::graph::id::{Id, MAX_INPUTS, SlotsMut};
use crate::graph::number::Number;
use crate::graph::operation::{
    Backward, BackwardSlices, Forward, ForwardSlices, Operation, Reads, Rules, Shapes,
};
use crate::graph::step::zero_unless_accumulating;
use crate::tensor::Shape;
use heartlore_kernels::Real;
use std::fmt::Debug;

/// An operation of your own, on one to five inputs. Record it with [`Graph::custom`]; check it with
/// [`check::operation`](crate::graph::check::operation).
pub trait CustomOp: Clone + PartialEq + Debug + Send + Sync + 'static {
    /// Set this if [`CustomOp::formula`] is written: then tangents and second derivatives are checked too.
    const HAS_FORMULA: bool = false;

    /// The name in traces and messages.
    fn name(&self) -> &'static str;

    /// The shape of the result.
    ///
    /// # Errors
    /// If the inputs' shapes do not fit.
    fn shape(&self, inputs: &[&Shape]) -> Result<Shape>;

    /// y from the inputs; every element of `y` must be written.
    fn forward<T: Real>(&self, shapes: &[&Shape], inputs: &[&[T]], y: &mut [T]);

    /// Adds dL/d(input) to each gradient that is asked for.
    fn backward<T: Real>(
        &self,
        shapes: &[&Shape],
        inputs: &[&[T]],
        dy: &[T],
        gradients: &mut [Option<&mut [T]>],
    );

    /// The textbook formula over any kind of number, from which the tangent follows. Optional; see
    /// [`CustomOp::HAS_FORMULA`].
    fn formula<N: Number>(&self, _shapes: &[&Shape], _inputs: &[&[N]]) -> Vec<N> {
        unreachable!("{} says that it has a formula, but has none", self.name())
    }

    /// FLOPs forward and backward, for the trace.
    fn flops(&self, y: &Shape) -> (u64, u64) {
        (y.elements() as u64, 2 * y.elements() as u64)
    }
}

/// A [`CustomOp`] on values of a program.
#[derive(Clone, PartialEq, Debug)]
pub struct Custom<O> {
    /// The operation.
    pub op: O,
    inputs: [Option<Id>; MAX_INPUTS],
}

impl Graph {
    /// An operation of your own on `inputs`.
    ///
    /// # Errors
    /// If there are no or more than five inputs, or the operation refuses their shapes.
    pub fn custom<O: CustomOp>(&mut self, op: O, inputs: &[Id]) -> Result<Id> {
        if inputs.is_empty() || inputs.len() > MAX_INPUTS {
            let n = inputs.len();
            return self.misfit(op.name(), format_args!("{n} inputs, expected one to {MAX_INPUTS}"));
        }
        let shapes = inputs.iter().map(|&id| self.valid(id)).collect::<Result<Vec<_>>>()?;
        let shape = op.shape(&shapes).map_err(|e: Error| e.at(op.name()))?;
        let inputs = std::array::from_fn(|i| inputs.get(i).copied());
        self.push(Custom { op, inputs }, shape)
    }
}

impl<O: CustomOp> Custom<O> {
    fn count(&self) -> usize {
        self.inputs.iter().flatten().count()
    }

    /// The inputs' shapes; those beyond the last input repeat it.
    fn shapes<'a>(&self, s: Shapes<'a>) -> [&'a Shape; MAX_INPUTS] {
        self.inputs.map(|id| id.map_or(s.result(), |id| s.of(id)))
    }
}

impl<O: CustomOp> Operation for Custom<O> {
    fn name(&self) -> &'static str {
        self.op.name()
    }
    fn inputs_mut(&mut self) -> SlotsMut<'_> {
        self.inputs.each_mut().map(Option::as_mut)
    }
    fn code(&self, _s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String {
        let inputs: Vec<String> = self.inputs.iter().flatten().map(|&id| v(id)).collect();
        format!("g.custom({:?}, &[{}])?", self.op, inputs.join(", "))
    }
    fn backward_reads(&self) -> Reads {
        Reads::ALL_INPUTS
    }
    fn flops(&self, s: Shapes<'_>) -> (u64, u64) {
        self.op.flops(s.result())
    }
    fn has_formula(&self) -> bool {
        O::HAS_FORMULA
    }
}

impl<O: CustomOp> Rules for Custom<O> {
    fn formula<N: Number>(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        let inputs: Vec<&[N]> = self.inputs.iter().flatten().map(|&id| at.x(id)).collect();
        self.op.formula(&self.shapes(s)[..inputs.len()], &inputs)
    }
    fn forward<T: Real>(&self, run: Forward<'_, T>) {
        let (n, shapes) = (self.count(), self.shapes(run.site.shapes()));
        let ForwardSlices { y, inputs, .. } = run.open(self.inputs);
        self.op.forward(&shapes[..n], &inputs[..n], y);
    }
    fn backward<T: Real>(&self, run: Backward<'_, T>) {
        let (n, shapes) = (self.count(), self.shapes(run.site.shapes()));
        let BackwardSlices { to, dy, inputs, .. } = run.open(self.inputs);
        let mut gradients = to.map(zero_unless_accumulating);
        self.op.backward(&shapes[..n], &inputs[..n], dy, &mut gradients[..n]);
    }
}
