//! [`Exec`]: runs a planned program. One arm per operation fetches slices and calls one kernel; it computes nothing.
//!
//! Everything is allocated in [`Exec::new`]; `forward` and `backward` allocate nothing.
//!
//! [`forward`] and [`backward`] hold the arms, [`gradients`] the slices a backward kernel writes, [`memory`] what is set and
//! read between passes, [`aids`] what may help a pass, [`precision`] the number types.

mod backward;
mod context;
mod forward;
mod gradients;
mod memory;
mod precision;

pub use context::ExecContext;
pub(super) use context::panels;
pub use precision::Precision;

use super::aligned::Aligned;
use super::builder::Graph;
use super::op::Op;
use super::plan::Plan;
use super::split::{self, Benches};
use super::views::Location;
use crate::tensor::Shape;
use heartlore_kernels::rng::{Dropout, Key};
use heartlore_kernels::{Isa, embed};
use std::ops::Range;
use std::sync::Arc;

/// The parameters' gradients: one flat slice in the layout of the parameters, always added to.
pub type ParamGrads<'a, T> = &'a mut [T];

/// A program, its plan and its memory. Cheap to run, costly to make: keep one per worker.
#[derive(Debug)]
pub struct Exec<T> {
    pub(super) graph: Arc<Graph>,
    pub(super) plan: Arc<Plan>,
    pub(super) isa: Isa,
    pub(super) arena: Aligned<T>,
    pub(super) indices: Vec<u32>,
    key: Key,
    pub(super) dropout: bool,
    /// Scratch of the threads of a team, made when it first helps.
    pub(super) benches: Benches<T>,
    /// What a team's threads share: packed keys and values.
    pub(super) shared: Aligned<T>,
}

impl<T: Precision> Clone for Exec<T> {
    fn clone(&self) -> Self {
        Self { arena: self.arena.clone(), indices: self.indices.clone(), ..self.another() }
    }
}

impl<T: Precision> Exec<T> {
    /// Memory for `plan` of `graph`, on the widest instruction set of this CPU.
    pub fn new(graph: Arc<Graph>, plan: Arc<Plan>) -> Self {
        Self::with_isa(graph, plan, Isa::best())
    }

    /// As [`Exec::new`] on a chosen instruction set.
    ///
    /// # Panics
    /// If `plan` was not made from `graph`.
    pub fn with_isa(graph: Arc<Graph>, plan: Arc<Plan>, isa: Isa) -> Self {
        assert_eq!(plan.steps.len(), graph.nodes().len(), "exec: the plan belongs to another program");
        let mut exec = Self {
            isa,
            arena: Aligned::zeros(plan.arena),
            indices: vec![0; plan.indices],
            key: Key::default(),
            dropout: false,
            benches: Vec::new(),
            shared: Aligned::zeros(0),
            graph,
            plan,
        };
        exec.fill_constants();
        exec
    }

    /// An executor of the same program with memory of its own: constants are there, inputs must be set.
    #[must_use]
    pub fn another(&self) -> Self {
        let mut arena = Aligned::zeros(self.plan.arena);
        for (_, range) in constants(&self.graph, &self.plan) {
            arena[range.clone()].copy_from_slice(&self.arena[range]);
        }
        Self {
            graph: Arc::clone(&self.graph),
            plan: Arc::clone(&self.plan),
            isa: self.isa,
            arena,
            indices: vec![0; self.plan.indices],
            key: self.key,
            dropout: self.dropout,
            benches: Vec::new(),
            shared: Aligned::zeros(0),
        }
    }

    fn fill_constants(&mut self) {
        for (shape, range) in constants(&self.graph, &self.plan) {
            embed::sinusoidal_table(shape.rows(), shape.last(), &mut self.arena[range]);
        }
    }

    /// Goes over to another program in the same memory, which grows if it must: for programs that differ only in a
    /// size, such as the number of rows the loss sees. Inputs must be set again; key and dropout stay.
    ///
    /// # Panics
    /// If `plan` was not made from `graph`.
    pub fn switch(&mut self, graph: &Arc<Graph>, plan: &Arc<Plan>) {
        if Arc::ptr_eq(&self.plan, plan) {
            return;
        }
        assert_eq!(plan.steps.len(), graph.nodes().len(), "exec: the plan belongs to another program");
        let same = constants(&self.graph, &self.plan).eq(constants(graph, plan));
        self.arena.grow(plan.arena);
        self.benches.clear();
        if self.indices.len() < plan.indices {
            self.indices.resize(plan.indices, 0);
        }
        (self.graph, self.plan) = (Arc::clone(graph), Arc::clone(plan));
        if !same {
            self.fill_constants();
        }
    }

    /// The program.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }
    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }
    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }
    /// Bytes of the arena and the indices.
    pub fn bytes(&self) -> usize {
        self.arena.len() * size_of::<T>() + self.indices.len() * size_of::<u32>()
    }
    /// About how long a forward pass takes on a team of `threads`, as a part of its time on one thread: 1 if its operations
    /// are too small to be shared.
    pub fn share_of_time(&self, threads: usize) -> f64 {
        split::share_of_time::<T>(&self.graph, &self.plan, self.isa, threads)
    }

    /// The time that a team takes to wake for a forward pass, as a part of that of the pass on one thread.
    pub fn waking_time(&self) -> f64 {
        split::waking_time(&self.graph, &self.plan)
    }
    /// Names the random numbers of the passes to come: seed, step, and the batch number of the program's first sample.
    pub fn set_key(&mut self, seed: u64, step: u64, first_sample: u32) {
        self.key = Key { seed, step, sample: first_sample, op: 0 };
    }
    /// Switches dropout on (training) or off (evaluation; the initial state).
    pub fn set_dropout(&mut self, on: bool) {
        self.dropout = on;
    }

    fn dropout_of(&self, p: f64) -> Dropout {
        if self.dropout && p > 0.0 { Dropout::new(p) } else { Dropout::NONE }
    }

    pub(super) fn key_of(&self, i: usize) -> Key {
        Key { op: i as u32, ..self.key }
    }
}

/// The constants of a program: shape and place.
fn constants<'a>(graph: &'a Graph, plan: &'a Plan) -> impl Iterator<Item = (&'a Shape, Range<usize>)> {
    graph.nodes().iter().zip(&plan.steps).filter_map(|(node, step)| match (&node.op, &step.value) {
        (Op::Sinusoid, Location::Arena(range)) => Some((&node.shape, range.clone())),
        _ => None,
    })
}

pub(super) fn arena_range(place: &Location) -> Range<usize> {
    match place {
        Location::Arena(r) => r.clone(),
        Location::Param(_) | Location::Absent => 0..0,
    }
}
