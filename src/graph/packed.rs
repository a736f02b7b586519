//! [`PackedWeights`]: the weights of a program as its kernels want them, made once for many passes.
//!
//! Matrix products read weights in packed panels. Packing costs as much as moving the weights through memory twice, in
//! each direction and for every group of windows, unless it is done once and kept. In training that is once per step,
//! shared by all threads; in a trained model once.
//!
//! A region belongs to the weights and the sizes that matter for their order, not to a program: programs that differ in
//! the number of rows or in what they deliver share one [`PackedWeights`]. Results are the same bits with and without.
//!
//! In a plan whose products take bf16 operands ([`Plan::with_precision`]) the panels hold rounded weights: rounded once
//! where they would be in every pass. Plans of another precision do not find them and pack their own.

use super::aligned::Aligned;
use super::builder::Graph;
use super::cost;
use super::exec::Precision;
use super::op::{Id, Op};
use super::plan::Plan;
use super::views::Location;
use heartlore_kernels::{Isa, Real, conv1d, feed_forward, linear};
use std::ops::Range;

/// Which weights a region holds, and in what order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Weights {
    Linear { d: linear::Dims, w: Range<usize> },
    Conv1d { d: conv1d::Dims, w: Range<usize> },
    FeedForward { d: feed_forward::Dims, w1: Range<usize>, w2: Range<usize> },
}

impl Weights {
    /// Of an operation whose weights are parameters. Sizes that do not matter for the order are 1.
    pub(crate) fn of(graph: &Graph, plan: &Plan, id: Id) -> Option<Self> {
        let param = |id: Id| match &plan.steps[id.index()].value {
            Location::Param(r) => Some(r.clone()),
            Location::Arena(_) | Location::Absent => None,
        };
        match graph.node(id).op {
            Op::Linear { w, first, .. } => {
                let d = linear::Dims { rows: 1, ..cost::linear_dims(graph, id, plan.precision()) };
                let start = param(w)?.start + first * d.inputs;
                Some(Self::Linear { d, w: start..start + d.outputs * d.inputs })
            }
            Op::Conv1d { w, .. } => {
                let d = conv1d::Dims { batch: 1, ..cost::conv1d_dims(graph, id) };
                Some(Self::Conv1d { d, w: param(w)? })
            }
            Op::FeedForward { w1, w2, .. } => {
                let d = cost::feed_forward_dims(graph, id, plan.precision());
                let d = feed_forward::Dims { samples: 1, rows: 1, ..d };
                Some(Self::FeedForward { d, w1: param(w1)?, w2: param(w2)? })
            }
            _ => None,
        }
    }

    fn elements<T: Real>(&self, backward: bool) -> usize {
        match self {
            Self::Linear { d, .. } => linear::prepared_len::<T>(*d, backward),
            Self::Conv1d { d, .. } => conv1d::prepared_len::<T>(*d, backward),
            Self::FeedForward { d, .. } => feed_forward::prepared_len::<T>(*d, backward),
        }
    }

    /// A few of the parameters it was made from: after an optimiser's step they differ.
    fn marks<T: Real>(&self, params: &[T]) -> [T; 4] {
        let (a, b) = match self {
            Self::Linear { w, .. } | Self::Conv1d { w, .. } => (w, w),
            Self::FeedForward { w1, w2, .. } => (w1, w2),
        };
        let at = |i: usize| params.get(i).copied().unwrap_or(T::ZERO);
        [at(a.start), at(a.end.saturating_sub(1)), at(b.start), at(b.end.saturating_sub(1))]
    }
}

/// The weights of one operation: a part that can be updated on its own.
#[derive(Debug)]
pub struct PackedPart<T> {
    weights: Weights,
    /// With what the backward pass needs.
    backward: bool,
    isa: Isa,
    marks: Option<[T; 4]>,
    panels: Aligned<T>,
}

impl<T: Precision> PackedPart<T> {
    /// Prepares from the flat parameter vector.
    ///
    /// # Panics
    /// If `params` is shorter than the layout.
    pub fn update(&mut self, params: &[T]) {
        T::prepare(self, params);
    }

    pub(super) fn fill(&mut self, params: &[T]) {
        let (isa, backward, panels) = (self.isa, self.backward, &mut self.panels[..]);
        match &self.weights {
            Weights::Linear { d, w } => linear::prepare(isa, *d, &params[w.clone()], backward, panels),
            Weights::Conv1d { d, w } => conv1d::prepare(isa, *d, &params[w.clone()], backward, panels),
            Weights::FeedForward { d, w1, w2 } => {
                feed_forward::prepare(isa, *d, &params[w1.clone()], &params[w2.clone()], backward, panels);
            }
        }
        self.marks = Some(self.weights.marks(params));
    }
}

/// Weights in the order the kernels of one instruction set want them. See the module.
#[derive(Debug)]
pub struct PackedWeights<T> {
    isa: Isa,
    parts: Vec<PackedPart<T>>,
}

impl<T: Precision> PackedWeights<T> {
    /// Memory for the weights of `graph` that `plan` uses, for what it does with them: with gradients for both directions.
    /// Before use it wants [`PackedWeights::update`].
    pub fn new(graph: &Graph, plan: &Plan, isa: Isa) -> Self {
        let mut parts: Vec<PackedPart<T>> = Vec::new();
        for id in graph.ids().filter(|id| plan.steps[id.index()].live) {
            let Some(weights) = Weights::of(graph, plan, id) else { continue };
            let step = &plan.steps[id.index()];
            // The products of the backward pass that read weights are those that lead on to the inputs.
            let inwards = step.contributions[0].is_some();
            let backward = step.visited && (inwards || matches!(weights, Weights::FeedForward { .. }));
            if let Some(part) = parts.iter_mut().find(|p| p.weights == weights) {
                part.backward |= backward;
            } else {
                parts.push(PackedPart { weights, backward, isa, marks: None, panels: Aligned::zeros(0) });
            }
        }
        for part in &mut parts {
            part.panels = Aligned::zeros(part.weights.elements::<T>(part.backward));
        }
        Self { isa, parts }
    }

    /// Prepares from the flat parameter vector; to be done again whenever a parameter has changed.
    ///
    /// # Panics
    /// If `params` is shorter than the layout.
    pub fn update(&mut self, params: &[T]) {
        self.parts.iter_mut().for_each(|part| part.update(params));
    }

    /// Its parts, which threads may update side by side.
    pub fn parts_mut(&mut self) -> &mut [PackedPart<T>] {
        &mut self.parts
    }

    /// Bytes.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|p| p.panels.len() * size_of::<T>()).sum()
    }

    /// The panels of `weights` for `isa`; empty if they are not here.
    ///
    /// # Panics
    /// If the weights were prepared from other parameters than `params`, or not at all.
    pub(super) fn find(&self, isa: Isa, weights: &Weights, backward: bool, params: &[T]) -> &[T] {
        match self.parts.iter().find(|p| p.weights == *weights) {
            Some(part) if isa == self.isa && (part.backward || !backward) => {
                let same = |a: T, b: T| a == b || (a.f64().is_nan() && b.f64().is_nan());
                let now = weights.marks(params);
                let fresh = part.marks.is_some_and(|then| then.iter().zip(now).all(|(&a, b)| same(a, b)));
                assert!(fresh, "exec: the prepared weights are not those of the parameters: update them");
                &part.panels
            }
            _ => &[],
        }
    }
}
