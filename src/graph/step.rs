//! [`Step`]: what the executor must know of one planned operation, and the gradients one backward call writes.

use super::id::{Id, MAX_INPUTS};
use super::views::{Location, views};
use heartlore_kernels::{Beta, GradMut, Real};
use std::ops::Range;

/// One gradient contribution of one operation.
#[derive(Clone, Debug)]
pub(crate) struct Contribution {
    /// The value whose gradient it is; for a reshape, the value it is a view of.
    pub(crate) to: Id,
    /// Where the gradient lies: in the arena, or the parameters' part of the gradient vector.
    pub(crate) dest: Location,
    /// True if this contribution finds nothing there yet.
    pub(crate) first: bool,
}

/// Where the plan has put everything of one operation.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) live: bool,
    /// Computed in every pass.
    pub(crate) computed: bool,
    pub(crate) value: Location,
    /// Range in the index arena, for index inputs.
    pub(crate) index: Range<usize>,
    pub(crate) saved: Range<usize>,
    pub(crate) scratch_forward: Range<usize>,
    pub(crate) scratch_backward: Range<usize>,
    pub(crate) gradient: Range<usize>,
    /// True if the backward pass visits this operation.
    pub(crate) visited: bool,
    pub(crate) contributions: [Option<Contribution>; MAX_INPUTS],
}

/// One call of a backward kernel: which slots take part, and which slot's buffer each writes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pass {
    pub(crate) takes_part: [bool; MAX_INPUTS],
    /// The slot whose buffer holds this slot's gradient: another one's only in attention.
    pub(crate) buffer: [usize; MAX_INPUTS],
}

/// The next set of contributions that can be made by one kernel call. Slots with the same destination (mul(x, x)) take
/// turns, except where the kernel writes column blocks of shared buffers (attention).
pub(crate) fn next_pass(step: &Step, shares_buffers: bool, done: &mut [bool; MAX_INPUTS]) -> Option<Pass> {
    let mut pass = Pass { takes_part: [false; MAX_INPUTS], buffer: std::array::from_fn(|s| s) };
    for slot in 0..MAX_INPUTS {
        let Some(mine) = step.contributions[slot].as_ref().filter(|_| !done[slot]) else { continue };
        let same = (0..slot).find(|&s| {
            pass.takes_part[s]
                && step.contributions[s].as_ref().is_some_and(|other| overlap(&other.dest, &mine.dest))
        });
        match same {
            Some(s) if shares_buffers => pass.buffer[slot] = pass.buffer[s],
            Some(_) => continue,
            None => {}
        }
        pass.takes_part[slot] = true;
        done[slot] = true;
    }
    pass.takes_part.contains(&true).then_some(pass)
}

fn overlap(a: &Location, b: &Location) -> bool {
    match (a, b) {
        (Location::Arena(a), Location::Arena(b)) | (Location::Param(a), Location::Param(b)) => {
            a.start < b.end && b.start < a.end
        }
        _ => false,
    }
}

/// The gradients a backward call writes, by slot.
pub(crate) type Gradients<'a, T> = [Option<GradMut<'a, T>>; MAX_INPUTS];

/// Slices for one backward call: the gradients to write by slot, the scratch, and what is read.
pub(crate) fn open<'a, T: Real, const R: usize>(
    arena: &'a mut [T],
    params: &'a [T],
    grads: &'a mut [T],
    step: &Step,
    pass: Pass,
    reads: [&Location; R],
) -> (Gradients<'a, T>, &'a mut [T], [&'a [T]; R]) {
    let mut in_arena: [Range<usize>; MAX_INPUTS + 1] = std::array::from_fn(|_| 0..0);
    let mut in_grads: [Range<usize>; MAX_INPUTS] = std::array::from_fn(|_| 0..0);
    let mut beta = [Beta::One; MAX_INPUTS];
    for slot in 0..MAX_INPUTS {
        let Some(c) = step.contributions[slot].as_ref().filter(|_| pass.takes_part[slot]) else { continue };
        if pass.buffer[slot] != slot {
            continue;
        }
        match &c.dest {
            Location::Arena(r) => {
                in_arena[slot] = r.clone();
                beta[slot] = if c.first { Beta::Zero } else { Beta::One };
            }
            Location::Param(r) => in_grads[slot] = r.clone(),
            Location::Absent => {}
        }
    }
    in_arena[MAX_INPUTS] = step.scratch_backward.clone();
    let (written, read) = views(arena, params, in_arena, reads);
    let (param_grads, []) = views(grads, &[], in_grads, []);
    let [a, b, c, d, e, scratch] = written;
    let mut to: Gradients<'a, T> = [const { None }; MAX_INPUTS];
    for (slot, (mine, param)) in [a, b, c, d, e].into_iter().zip(param_grads).enumerate() {
        let data = if mine.is_empty() { param } else { mine };
        if !data.is_empty() {
            to[slot] = Some(GradMut { data, beta: beta[slot] });
        }
    }
    (to, scratch, read)
}

/// A gradient as an accumulator: zeroed first unless it is added to already.
pub(crate) fn zero_unless_accumulating<T: Real>(gradient: Option<GradMut<'_, T>>) -> Option<&mut [T]> {
    gradient.map(|mut g| {
        g.zero_unless_accumulating();
        g.data
    })
}
