//! [`Exec`]: runs a planned program. It walks the list and calls each operation's rule; it computes nothing.
//!
//! Everything is allocated in [`Exec::new`]; `forward` and `backward` allocate nothing.
//!
//! [`forward`] and [`backward`] hold the passes, [`memory`] what is set and read between them, [`context`] what may help a
//! pass, [`speed`] what is worth doing on several threads.

mod backward;
mod context;
mod fault;
mod forward;
mod memory;
mod speed;

pub use context::ExecContext;
use context::packed_weights;
pub(super) use fault::{Fault, FaultKind};

use super::aligned::Aligned;
use super::builder::Graph;
use super::id::Id;
use super::operation::{Forward, Precision, Role, Site};
use super::parts::ThreadScratch;
use super::plan::Plan;
use crate::tensor::Shape;
use heartlore_kernels::Isa;
use heartlore_kernels::rng::Key;
use std::ops::Range;
use std::sync::Arc;

/// The parameters' gradients: one flat slice in the layout of the parameters, always added to.
pub type ParamGrads<'a, T> = &'a mut [T];

/// A program, its plan and its memory. Cheap to run, costly to make: keep one per worker.
#[derive(Debug)]
pub struct Exec<T> {
    graph: Arc<Graph>,
    plan: Arc<Plan>,
    settings: Settings,
    arena: Aligned<T>,
    indices: Vec<u32>,
    /// Scratch of the threads of a pool, made when it first helps.
    thread_scratch: ThreadScratch<T>,
    /// What these threads share: packed keys and values.
    shared: Aligned<T>,
}

/// How passes are run.
#[derive(Clone, Copy, Debug)]
struct Settings {
    isa: Isa,
    key: Key,
    dropout: bool,
}

impl Settings {
    /// Operation `i` under these settings.
    fn site<'a>(self, graph: &'a Graph, plan: &'a Plan, i: usize) -> Site<'a> {
        Site {
            nodes: graph.nodes(),
            steps: &plan.steps,
            id: Id(i as u32),
            isa: self.isa,
            precision: plan.precision(),
            key: Key { op: i as u32, ..self.key },
            dropout: self.dropout,
        }
    }
}

impl<T: Precision> Clone for Exec<T> {
    fn clone(&self) -> Self {
        Self { arena: self.arena.clone(), indices: self.indices.clone(), ..self.clone_workspace() }
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
            settings: Settings { isa, key: Key::default(), dropout: false },
            arena: Aligned::zeros(plan.arena),
            indices: vec![0; plan.indices],
            thread_scratch: Vec::new(),
            shared: Aligned::zeros(0),
            graph,
            plan,
        };
        exec.fill_constants();
        exec
    }

    /// An executor of the same program with memory of its own: constants are there, inputs must be set.
    #[must_use]
    pub fn clone_workspace(&self) -> Self {
        let mut arena = Aligned::zeros(self.plan.arena);
        for (_, _, range) in constants(&self.graph, &self.plan) {
            arena[range.clone()].copy_from_slice(&self.arena[range]);
        }
        Self {
            graph: Arc::clone(&self.graph),
            plan: Arc::clone(&self.plan),
            settings: self.settings,
            arena,
            indices: vec![0; self.plan.indices],
            thread_scratch: Vec::new(),
            shared: Aligned::zeros(0),
        }
    }

    fn fill_constants(&mut self) {
        for (id, _, _) in constants(&self.graph, &self.plan) {
            let site = self.settings.site(&self.graph, &self.plan, id.index());
            let (arena, indices) = (&mut self.arena[..], &self.indices[..]);
            let run = Forward { site, arena, indices, params: &[], panels: &[] };
            site.node().op.rules::<T>().run_forward(run);
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
        let same = {
            let what = |(id, shape, range): (Id, _, _)| (id, shape, range);
            let before = constants(&self.graph, &self.plan).map(what);
            let op = |graph: &Graph, id: Id| graph.node(id).op.clone();
            before
                .map(|(id, shape, range)| (op(&self.graph, id), shape, range))
                .eq(constants(graph, plan).map(|(id, shape, range)| (op(graph, id), shape, range)))
        };
        self.arena.grow(plan.arena);
        self.thread_scratch.clear();
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
        self.settings.isa
    }
    /// Bytes of the arena and the indices.
    pub fn bytes(&self) -> usize {
        self.arena.len() * size_of::<T>() + self.indices.len() * size_of::<u32>()
    }
    /// Names the random numbers of the passes to come: seed, step, and the batch number of the program's first sample.
    pub fn set_key(&mut self, seed: u64, step: u64, first_sample: u32) {
        self.settings.key = Key { seed, step, sample: first_sample, op: 0 };
    }
    /// Switches dropout on (training) or off (evaluation; the initial state).
    pub fn set_dropout(&mut self, on: bool) {
        self.settings.dropout = on;
    }
}

/// The constants of a program: shape and place.
fn constants<'a>(graph: &'a Graph, plan: &'a Plan) -> impl Iterator<Item = (Id, &'a Shape, Range<usize>)> {
    graph
        .ids()
        .zip(graph.nodes().iter().zip(&plan.steps))
        .filter(|&(_id, (node, step))| node.op.role() == Role::Constant && step.live)
        .map(|(id, (node, step))| (id, &node.shape, step.value.arena()))
}
