//! [`Fault`]: a fault planted in one operation's gradients at run time, by which the checks are checked.

use super::Exec;
use crate::graph::id::{Id, MAX_INPUTS};
use crate::graph::operation::Precision;
use crate::graph::views::Location;

/// What is wrong with a gradient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FaultKind {
    /// The other sign.
    Sign,
    /// A thousandth too large.
    Factor,
    /// The last element's contribution is missing.
    MissingTerm,
    /// Every element one place further on.
    WrongIndex,
    /// What other operations have contributed is overwritten.
    Overwritten,
    /// The dropout mask is that of another step.
    StaleMask,
}

impl FaultKind {
    /// Every kind.
    pub(crate) const ALL: [FaultKind; 6] = [
        FaultKind::Sign,
        FaultKind::Factor,
        FaultKind::MissingTerm,
        FaultKind::WrongIndex,
        FaultKind::Overwritten,
        FaultKind::StaleMask,
    ];

    /// Applies it to what one operation contributes.
    pub(crate) fn spoil<T: Copy>(self, delta: &mut [T], zero: T, scaled: impl Fn(T, f64) -> T) {
        match self {
            FaultKind::Sign => delta.iter_mut().for_each(|d| *d = scaled(*d, -1.0)),
            FaultKind::Factor => delta.iter_mut().for_each(|d| *d = scaled(*d, 1.001)),
            FaultKind::MissingTerm => {
                if let Some(last) = delta.last_mut() {
                    *last = zero;
                }
            }
            FaultKind::WrongIndex if !delta.is_empty() => delta.rotate_right(1),
            FaultKind::WrongIndex | FaultKind::Overwritten | FaultKind::StaleMask => {}
        }
    }
}

/// A fault in the gradient that operation `id` contributes to its input in `slot`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    /// The operation.
    pub(crate) id: Id,
    /// Which of its inputs.
    pub(crate) slot: usize,
    /// What is wrong.
    pub(crate) kind: FaultKind,
}

impl<T: Precision> Exec<T> {
    /// The gradient that `fault` spoils, as it is now; `None` if the operation contributes none.
    fn spoiled<'a>(&'a mut self, fault: Fault, grads: &'a mut [T]) -> Option<&'a mut [T]> {
        let contribution = self.plan.steps[fault.id.index()].contributions[fault.slot].as_ref()?;
        match &contribution.dest {
            Location::Arena(r) => Some(&mut self.arena[r.clone()]),
            Location::Param(r) => Some(&mut grads[r.clone()]),
            Location::Absent => None,
        }
    }

    /// What was contributed to that gradient before; nothing if the operation is the first.
    pub(super) fn before_fault(&mut self, fault: Fault, grads: &mut [T]) -> Vec<T> {
        let slots = 0..MAX_INPUTS;
        let of = |s: usize| self.plan.steps[fault.id.index()].contributions[s].as_ref();
        let first = of(fault.slot).is_some_and(|mine| {
            slots.clone().filter_map(of).any(|c| c.dest == mine.dest && c.first && c.dest.arena().end > 0)
        });
        match self.spoiled(fault, grads) {
            Some(gradient) if first => vec![T::ZERO; gradient.len()],
            Some(gradient) => gradient.to_vec(),
            None => Vec::new(),
        }
    }

    /// Puts the fault in.
    pub(super) fn after_fault(&mut self, fault: Fault, before: &[T], grads: &mut [T]) {
        let Some(gradient) = self.spoiled(fault, grads) else { return };
        let mut delta: Vec<T> = gradient.iter().zip(before).map(|(g, b)| *g - *b).collect();
        fault.kind.spoil(&mut delta, T::ZERO, |d, factor| T::of(factor) * d);
        for ((g, b), d) in gradient.iter_mut().zip(before).zip(delta) {
            *g = if fault.kind == FaultKind::Overwritten { d } else { *b + d };
        }
    }
}
