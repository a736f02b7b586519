//! The gradients one call of a backward kernel writes: which of its inputs take part, and the slices for them.

use crate::graph::op::MAX_INPUTS;
use crate::graph::plan::Step;
use crate::graph::views::{Location, views};
use heartlore_kernels::attention::GradRows;
use heartlore_kernels::{Beta, GradMut, Real};
use std::ops::Range;

/// One call of a backward kernel: which slots take part, and which slot's buffer each writes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass {
    takes_part: [bool; MAX_INPUTS],
    /// The slot whose buffer holds this slot's gradient: another one's only in attention.
    buffer: [usize; MAX_INPUTS],
}

/// The next set of contributions that can be made by one kernel call. Slots with the same destination (mul(x, x)) take
/// turns, except in attention, whose kernel writes column blocks of shared buffers.
pub(super) fn next_pass(step: &Step, shares_buffers: bool, done: &mut [bool; MAX_INPUTS]) -> Option<Pass> {
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

pub(super) type Gradients<'a, T> = [Option<GradMut<'a, T>>; MAX_INPUTS];

/// Slices for one backward call: the gradients to write by slot, the scratch, and what is read.
pub(super) fn open<'a, T: Real, const R: usize>(
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

/// A gradient as an accumulator: cleared first if it was to be overwritten.
pub(super) fn settled<T: Real>(gradient: Option<GradMut<'_, T>>) -> Option<&mut [T]> {
    gradient.map(|mut g| {
        g.zero_unless_accumulating();
        g.data
    })
}

/// Buffers and column blocks for the attention backward pass. Blocks that fill a fresh buffer exactly overwrite it;
/// otherwise the buffer is cleared and everything accumulates.
pub(super) fn attention_gradients<'a, T: Real>(
    to: Gradients<'a, T>,
    pass: &Pass,
    offset: [usize; 3],
    stride: [usize; 3],
    width: usize,
) -> ([&'a mut [T]; 3], [Option<GradRows>; 3]) {
    let mut betas = [Beta::One; 3];
    let mut buffers: [&'a mut [T]; 3] = std::array::from_fn(|_| &mut [][..]);
    for (slot, gradient) in to.into_iter().take(3).enumerate() {
        let Some(mut g) = gradient else { continue };
        let mine = |s: &usize| pass.takes_part[*s] && pass.buffer[*s] == slot;
        let blocks = (0..3).filter(mine).count();
        let disjoint =
            (0..3).filter(mine).all(|s| (0..s).filter(mine).all(|o| offset[s].abs_diff(offset[o]) >= width));
        if !(disjoint && blocks * width == stride[slot]) {
            g.zero_unless_accumulating();
        }
        betas[slot] = g.beta;
        buffers[slot] = g.data;
    }
    let places = std::array::from_fn(|s| {
        let buffer = pass.buffer[s];
        pass.takes_part[s].then(|| GradRows {
            buffer,
            stride: stride[s],
            offset: offset[s],
            beta: betas[buffer],
        })
    });
    (buffers, places)
}
