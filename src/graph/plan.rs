//! [`Plan`]: what is computed, what is kept, where it lies.
//!
//! Time runs 0..n through the forward pass and on to 2n through the backward pass, which undoes operation i at time
//! 2n - i. Every buffer (value, saved data, gradient, scratch) has a closed interval of time in which it must survive;
//! two buffers may share memory if their intervals do not meet. Placing them is offline dynamic storage allocation,
//! NP-hard in general; the greedy rule "largest first, lowest offset that is free" is within a few per cent of the lower
//! bound on programs like ours (Pisarchyk & Lee 2020, arXiv 2001.03288), and `Memory` reports the bound beside the result.

use super::builder::Graph;
use super::id::{Id, MAX_INPUTS};
use super::operation::{Needs, Role, Shapes};
use super::step::{Contribution, Step};
use super::views::Location;
use crate::error::{Error, Result};
use heartlore_kernels::gemm::MatmulPrecision;
use std::fmt;
use std::ops::Range;

/// What a plan must deliver.
#[derive(Clone, Debug, Default)]
pub struct OutputRequest {
    /// Values to be read after the forward pass.
    pub keep: Vec<Id>,
    /// The value to differentiate, if any.
    pub root: Option<Id>,
    /// Values whose gradient is wanted, besides the parameters'. A reshape shares the gradient of what it is a view of: it is
    /// the sum over all uses of the numbers, under either shape.
    pub gradients: Vec<Id>,
    /// Whether gradients of the parameters are wanted (with a root).
    pub params: bool,
}

impl OutputRequest {
    /// Forward only.
    pub fn values(keep: &[Id]) -> Self {
        Self { keep: keep.to_vec(), ..Self::default() }
    }
    /// The parameter gradients of a loss.
    pub fn training(root: Id) -> Self {
        Self { keep: vec![root], root: Some(root), gradients: Vec::new(), params: true }
    }
}

/// Bytes of a plan, for elements of a given size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Elements of results.
    pub values: usize,
    /// Elements kept for the backward pass beside the results.
    pub saved: usize,
    /// Elements of gradients (parameters' not counted: they belong to the caller).
    pub gradients: usize,
    /// Elements of scratch, summed over operations.
    pub scratch: usize,
    /// Elements of the arena, after sharing.
    pub arena: usize,
    /// The most elements alive at one time: no sharing can do with less.
    pub bound: usize,
}

impl Memory {
    /// Elements if nothing were shared.
    pub fn unshared(&self) -> usize {
        self.values + self.saved + self.gradients + self.scratch
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "elements: values {}, saved {}, gradients {}, scratch {}; unshared {}, arena {}, lower bound {}",
            self.values,
            self.saved,
            self.gradients,
            self.scratch,
            self.unshared(),
            self.arena,
            self.bound
        )
    }
}

/// A laid-out program. Make one from a [`Graph`] and run it with [`super::Exec`].
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) steps: Vec<Step>,
    pub(crate) want: OutputRequest,
    pub(crate) arena: usize,
    pub(crate) indices: usize,
    /// Wanted gradients that the root does not reach: zeros.
    pub(crate) unreached: Vec<Id>,
    /// Parameters that are to be read after a pass.
    pub(crate) copies: Vec<ParamCopy>,
    /// Whose memory each value lies in: its own, or its input's.
    storage: Vec<usize>,
    precision: MatmulPrecision,
    memory: Memory,
    lifetimes: Vec<Lifetime>,
}

/// A parameter whose numbers are copied into the arena at the start of a forward pass.
#[derive(Clone, Debug)]
pub(crate) struct ParamCopy {
    pub(crate) id: Id,
    /// In the parameter vector.
    pub(crate) from: Range<usize>,
    /// In the arena.
    pub(crate) to: Range<usize>,
}

/// What a buffer is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BufferKind {
    /// An operation's result.
    Value,
    /// Kept for the backward pass.
    Saved,
    /// A gradient.
    Gradient,
    /// Scratch of the forward pass.
    ScratchForward,
    /// Scratch of the backward pass.
    ScratchBackward,
}

/// A buffer's owner, size, interval of time (closed) and place.
#[derive(Clone, Debug)]
pub struct Lifetime {
    /// The operation it belongs to.
    pub id: Id,
    /// What it is for.
    pub purpose: BufferKind,
    /// First and last time at which it must hold its content.
    pub span: (usize, usize),
    /// Elements in the arena.
    pub range: Range<usize>,
    /// Filled once when the executor is made.
    constant: bool,
}

/// Buffers start at multiples of 16 elements: 64 bytes in f32, a cache line and the widest vector.
const ALIGN: usize = 16;

impl Plan {
    /// Lays out `graph` so that `want` is delivered. Operations nobody needs are left out.
    ///
    /// # Errors
    /// If an id is not of this program, a gradient is wanted without a root, or the arena's size overflows.
    pub fn new(graph: &Graph, want: OutputRequest) -> Result<Self> {
        let n = graph.nodes().len();
        let all = want.keep.iter().chain(&want.root).chain(&want.gradients);
        if let Some(id) = all.clone().find(|id| id.index() >= n) {
            return Err(Error::shape(format!("plan: {id} is not recorded in this program")));
        }
        if want.root.is_none() && (want.params || !want.gradients.is_empty()) {
            return Err(Error::usage("plan: gradients are wanted, but no value to differentiate is named"));
        }
        if let Some(id) = all.clone().find(|&&id| graph.node(id).op.index_bound().is_some()) {
            return Err(Error::usage(format!("plan: {id} is an index; it has no value in this sense")));
        }
        let live = ancestors(graph, all.clone().copied());
        let storage = storage(graph);
        // Values whose gradient is wanted by name; a view's is that of the value whose memory it shares.
        let mut named = vec![false; n];
        want.gradients.iter().for_each(|id| named[storage[id.index()]] = true);
        let on_path = gradient_path(graph, &want, &named);
        let mut asked_for = vec![false; n];
        all.for_each(|id| asked_for[storage[id.index()]] = true);
        let mut buffers = Buffers::default();
        let (value_last, contributions) = uses(graph, &want, &live, &on_path, &storage);

        let mut steps: Vec<Step> = Vec::with_capacity(n);
        let mut indices = 0;
        for (i, node) in graph.nodes().iter().enumerate() {
            let id = Id(i as u32);
            let elements = node.shape.elements();
            let mut step = Step {
                live: live[i],
                computed: node.op.role() == Role::Compute,
                value: Location::Absent,
                index: 0..0,
                saved: 0..0,
                scratch_forward: 0..0,
                scratch_backward: 0..0,
                gradient: 0..0,
                visited: on_path[i] && !node.op.is_leaf(),
                contributions: [const { None }; MAX_INPUTS],
            };
            match node.op.role() {
                Role::Param { number } => {
                    step.value = Location::Param(graph.layout().entries()[number].range());
                    if asked_for[i] {
                        buffers.add(id, BufferKind::Value, elements, (0, 2 * n));
                    }
                }
                Role::Index { .. } => {
                    step.index = indices..indices + elements;
                    indices += elements;
                }
                Role::View => {}
                role @ (Role::Input | Role::Constant) if live[i] => {
                    // Set once, read by every pass: never shared.
                    buffers.add(id, BufferKind::Value, elements, (0, 2 * n));
                    if let Some(b) = buffers.all.last_mut() {
                        b.constant = role == Role::Constant;
                    }
                }
                Role::Compute if live[i] => {
                    buffers.add(id, BufferKind::Value, elements, (i, value_last[i].max(i)));
                    let Needs { saved, scratch } = node.op.spec().needs(Shapes::new(graph.nodes(), id));
                    // Nothing is saved for an operation that is not differentiated.
                    let saved = if step.visited { saved } else { 0 };
                    buffers.add(id, BufferKind::Saved, saved, (i, 2 * n - i));
                    buffers.add(id, BufferKind::ScratchForward, scratch, (i, i));
                    if step.visited {
                        buffers.add(id, BufferKind::ScratchBackward, scratch, (2 * n - i, 2 * n - i));
                    }
                }
                _ => {}
            }
            steps.push(step);
        }
        // Gradients live in their storage's buffer from the first contribution (or the seed) to their operation's turn.
        for (s, span) in contributions.spans.iter().enumerate() {
            if let Some(span) = *span
                && (named[s] || graph.nodes()[s].op.parameter().is_none())
            {
                buffers.add(Id(s as u32), BufferKind::Gradient, graph.nodes()[s].shape.elements(), span);
            }
        }
        let (arena, bound) = buffers.place()?;
        let mut copies = Vec::new();
        for b in &buffers.all {
            let step = &mut steps[b.id.index()];
            match b.purpose {
                BufferKind::Value => match &step.value {
                    Location::Param(from) => {
                        copies.push(ParamCopy { id: b.id, from: from.clone(), to: b.range.clone() });
                    }
                    _ => step.value = Location::Arena(b.range.clone()),
                },
                BufferKind::Saved => step.saved = b.range.clone(),
                BufferKind::ScratchForward => step.scratch_forward = b.range.clone(),
                BufferKind::ScratchBackward => step.scratch_backward = b.range.clone(),
                BufferKind::Gradient => step.gradient = b.range.clone(),
            }
        }
        for i in 0..n {
            let s = storage[i];
            if s != i {
                (steps[i].value, steps[i].gradient) = (steps[s].value.clone(), steps[s].gradient.clone());
            }
        }
        for (i, slot, first) in contributions.order {
            let Some(id) = graph.nodes()[i].op.slots()[slot] else { continue };
            let root = storage[id.index()];
            let dest = match graph.nodes()[root].op.parameter() {
                Some(number) if !named[root] => Location::Param(graph.layout().entries()[number].range()),
                _ => Location::Arena(steps[root].gradient.clone()),
            };
            steps[i].contributions[slot] = Some(Contribution { to: Id(root as u32), dest, first });
        }
        let sum = |p: BufferKind| {
            buffers.all.iter().filter(|b| b.purpose == p).map(|b| b.range.len()).sum::<usize>()
        };
        let memory = Memory {
            values: sum(BufferKind::Value),
            saved: sum(BufferKind::Saved),
            gradients: sum(BufferKind::Gradient),
            scratch: sum(BufferKind::ScratchForward) + sum(BufferKind::ScratchBackward),
            arena,
            bound,
        };
        let unreached = want.gradients.iter().copied().filter(|id| !on_path[id.index()]).collect();
        let precision = MatmulPrecision::F32;
        let lifetimes = buffers.all;
        Ok(Self { steps, want, arena, indices, unreached, copies, storage, precision, memory, lifetimes })
    }

    /// The same plan with the operands of its products rounded to `precision`; [`Plan::new`] leaves them f32.
    ///
    /// That concerns `linear`, `feed_forward` and `attention`, forward and backward: values, weights and gradients are
    /// rounded as they are read, and attention's probabilities (with their gradients) where they meet other rows; sums are
    /// f32, and so is everything that is kept: parameters, values, gradients. All other operations, convolution and attention
    /// with absorbed projections among them, are f32 (the module `gemm/bf16.rs` of the kernels says why).
    ///
    /// [`MatmulPrecision::Int8`] is for prediction: it rounds the operands of `linear` and `feed_forward` to 8-bit integers and
    /// those of `attention` to bf16, forward. It has no derivative, and an executor in f32 panics if it is to run such a plan
    /// backward.
    ///
    /// It is a setting of the run, not of the mathematics: the same recorded program can be planned either way, sizes and
    /// places are the same, and an executor in f64, which is there to check derivatives, ignores it.
    #[must_use]
    pub fn with_precision(self, precision: MatmulPrecision) -> Self {
        Self { precision, ..self }
    }

    /// What the operands of its products are rounded to.
    pub fn precision(&self) -> MatmulPrecision {
        self.precision
    }

    /// What the plan was made for.
    pub fn want(&self) -> &OutputRequest {
        &self.want
    }
    /// Sizes in elements; multiply by the element size for bytes.
    pub fn memory(&self) -> Memory {
        self.memory
    }
    /// Every buffer with its interval and place.
    pub fn lifetimes(&self) -> &[Lifetime] {
        &self.lifetimes
    }
    /// Every gradient contribution in the order of the backward pass: the operation that makes it, the value (for a
    /// reshape, the value it is a view of) whose gradient it adds to, and whether it is the first to write there.
    pub fn writers(&self) -> impl Iterator<Item = (Id, Id, bool)> + '_ {
        self.steps.iter().enumerate().rev().flat_map(|(i, step)| {
            step.contributions.iter().flatten().map(move |c| (Id(i as u32), c.to, c.first))
        })
    }
    /// The value in whose memory `id` lies: itself, or what it is a view of.
    pub(crate) fn storage(&self, id: Id) -> Id {
        Id(self.storage[id.index()] as u32)
    }
    /// Whether the operation is computed at all.
    pub fn is_live(&self, id: Id) -> bool {
        self.steps[id.index()].live
    }
    /// Whether the backward pass visits the operation.
    pub fn is_differentiated(&self, id: Id) -> bool {
        self.steps[id.index()].visited
    }
}

/// Which operations `wanted` depend on, themselves included.
fn ancestors(graph: &Graph, wanted: impl Iterator<Item = Id>) -> Vec<bool> {
    let mut live = vec![false; graph.nodes().len()];
    wanted.for_each(|id| live[id.index()] = true);
    for i in (0..live.len()).rev() {
        if live[i] {
            graph.nodes()[i].op.inputs().for_each(|id| live[id.index()] = true);
        }
    }
    live
}

/// Which values receive a gradient: those the root depends on differentiably, and that lead to something wanted.
fn gradient_path(graph: &Graph, want: &OutputRequest, named: &[bool]) -> Vec<bool> {
    let n = graph.nodes().len();
    let mut reached = vec![false; n];
    if let Some(root) = want.root {
        reached[root.index()] = true;
    }
    for i in (0..n).rev().filter(|&i| want.root.is_some_and(|r| i <= r.index())) {
        if reached[i] {
            let op = &graph.nodes()[i].op;
            for (slot, id) in op.slots().into_iter().enumerate() {
                if let Some(id) = id
                    && op.differentiable(slot)
                {
                    reached[id.index()] = true;
                }
            }
        }
    }
    let mut leads = vec![false; n];
    for i in 0..n {
        let op = &graph.nodes()[i].op;
        leads[i] = named[i]
            || (want.params && op.parameter().is_some())
            || op
                .slots()
                .into_iter()
                .enumerate()
                .any(|(slot, id)| id.is_some_and(|id| op.differentiable(slot) && leads[id.index()]));
    }
    // The root itself always takes the cotangent, so that a root without parameters is legal.
    (0..n).map(|i| reached[i] && (leads[i] || want.root == Some(Id(i as u32)))).collect()
}

/// Whose memory a value lies in: its own, or, for a reshape, its input's.
fn storage(graph: &Graph) -> Vec<usize> {
    let mut s: Vec<usize> = (0..graph.nodes().len()).collect();
    for (i, node) in graph.nodes().iter().enumerate() {
        if let Some(x) = node.op.view_of() {
            s[i] = s[x.index()];
        }
    }
    s
}

struct Contributions {
    /// (operation, slot, first) in the order of the backward pass.
    order: Vec<(usize, usize, bool)>,
    /// Per storage, the interval of its gradient.
    spans: Vec<Option<(usize, usize)>>,
}

/// Last time each storage's value is read, and who writes which gradient in which order.
fn uses(
    graph: &Graph,
    want: &OutputRequest,
    live: &[bool],
    on_path: &[bool],
    storage: &[usize],
) -> (Vec<usize>, Contributions) {
    let n = graph.nodes().len();
    let mut last = vec![0; n];
    let mut spans: Vec<Option<(usize, usize)>> = vec![None; n];
    let mut order = Vec::new();
    for id in want.keep.iter().chain(&want.root).chain(&want.gradients) {
        last[storage[id.index()]] = 2 * n;
    }
    if let Some(root) = want.root {
        let s = storage[root.index()];
        // The cotangent arrives between the passes, before time n + 1.
        spans[s] = Some((n, 2 * n - s));
    }
    for (j, node) in graph.nodes().iter().enumerate() {
        if !live[j] || node.op.role() == Role::View {
            continue;
        }
        let reads = node.op.spec().backward_reads();
        let visited = on_path[j];
        for (slot, id) in node.op.slots().into_iter().enumerate() {
            let Some(id) = id else { continue };
            let s = storage[id.index()];
            last[s] = last[s].max(if visited && reads.inputs[slot] { 2 * n - j } else { j });
        }
        if visited && reads.output {
            last[storage[j]] = last[storage[j]].max(2 * n - j);
        }
    }
    for j in (0..n).rev() {
        let op = &graph.nodes()[j].op;
        if !on_path[j] || !live[j] || op.role() == Role::View {
            continue;
        }
        for (slot, id) in op.slots().into_iter().enumerate() {
            let Some(id) = id else { continue };
            if !op.differentiable(slot) || !on_path[id.index()] {
                continue;
            }
            let s = storage[id.index()];
            let first = spans[s].is_none();
            let end = 2 * n - s;
            spans[s].get_or_insert((2 * n - j, end));
            order.push((j, slot, first));
        }
    }
    for id in &want.gradients {
        // Kept to the end; one that the root does not reach is all zeros, written before the pass.
        let start = spans[storage[id.index()]].map_or(n, |(start, _)| start);
        spans[storage[id.index()]] = Some((start, 2 * n));
    }
    (last, Contributions { order, spans })
}

#[derive(Default)]
struct Buffers {
    all: Vec<Lifetime>,
}

impl Buffers {
    fn add(&mut self, id: Id, purpose: BufferKind, elements: usize, span: (usize, usize)) {
        if elements > 0 {
            self.all.push(Lifetime { id, purpose, span, range: 0..elements, constant: false });
        }
    }

    /// Gives every buffer its place; returns the arena's size and the lower bound.
    fn place(&mut self) -> Result<(usize, usize)> {
        let overflow = || Error::shape("plan: the program's memory overflows the address space");
        // Constants first, in order: programs that differ only in a row count then share their place, and an executor
        // that switches between them need not fill them again.
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by_key(|&i| (!self.all[i].constant, std::cmp::Reverse(self.all[i].range.len()), i));
        let mut placed: Vec<usize> = Vec::with_capacity(order.len());
        let mut arena = 0usize;
        for i in order {
            let (len, span) = (self.all[i].range.len(), self.all[i].span);
            let padded = len.checked_next_multiple_of(ALIGN).ok_or_else(overflow)?;
            // `placed` is sorted by start: walk the gaps between those alive at the same time.
            let mut at = 0usize;
            for &p in &placed {
                let other = &self.all[p];
                if other.span.0 > span.1 || span.0 > other.span.1 {
                    continue;
                }
                if at + padded <= other.range.start {
                    break;
                }
                at = at.max(other.range.end.next_multiple_of(ALIGN));
            }
            let end = at.checked_add(padded).filter(|e| e.checked_mul(8).is_some()).ok_or_else(overflow)?;
            arena = arena.max(end);
            self.all[i].range = at..at + len;
            let here = placed.partition_point(|&p| self.all[p].range.start <= at);
            placed.insert(here, i);
        }
        let mut events: Vec<(usize, i64)> = Vec::new();
        for b in &self.all {
            let len = b.range.len() as i64;
            events.push((2 * b.span.0, len));
            events.push((2 * b.span.1 + 1, -len));
        }
        events.sort_unstable_by_key(|&(t, len)| (t, len));
        let (mut alive, mut bound) = (0i64, 0i64);
        for (_, len) in events {
            alive += len;
            bound = bound.max(alive);
        }
        Ok((arena, bound as usize))
    }
}
