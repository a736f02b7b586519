//! [`Exec`]: runs a planned program. One arm per operation fetches slices and calls one kernel; it computes nothing.
//!
//! Everything is allocated in [`Exec::new`]; `forward` and `backward` allocate nothing.

use super::aligned::Aligned;
use super::builder::Graph;
use super::cost;
use super::op::{Id, MAX_INPUTS, Op};
use super::plan::{Plan, Step};
use super::prepared::{Prepared, PreparedPart, Weights};
use super::split::{self, Benches};
use super::team::Team;
use super::views::{Place, views};
use crate::error::{Error, Result};
use crate::tensor::Shape;
use heartlore_kernels::activation::Activation;
use heartlore_kernels::attention::{GradRows, Rows};
use heartlore_kernels::layer_norm::Residual;
use heartlore_kernels::rng::{Dropout, Key};
use heartlore_kernels::{
    Beta, GradMut, Isa, Real, absorbed_attention, activation, attention, conv1d, dropout, elementwise, embed,
    feed_forward, layer_norm, linear, losses, pool, reduce, softmax,
};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// The parameters' gradients: one flat slice in the layout of the parameters, always added to.
pub type ParamGrads<'a, T> = &'a mut [T];

/// What may help a pass beside the parameters. Neither changes a bit of the result.
#[derive(Debug)]
pub struct Aids<'a, T> {
    /// Weights prepared from the same parameters; what is not there is packed in scratch, pass by pass.
    pub prepared: Option<&'a Prepared<T>>,
    /// Threads to share the operations of a forward pass that keeps nothing for a backward pass. To be called on one of
    /// them ([`Team::lead`]).
    pub team: Option<&'a Team>,
}

impl<T> Aids<'_, T> {
    /// No help.
    pub const NONE: Self = Self { prepared: None, team: None };
}

impl<'a, T> Aids<'a, T> {
    /// Prepared weights.
    pub fn prepared(prepared: &'a Prepared<T>) -> Self {
        Self { prepared: Some(prepared), team: None }
    }
}

impl<T> Clone for Aids<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Aids<'_, T> {}

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

/// The number types programs run in: f32 and f64.
///
/// The passes are compiled here once for each, not again in every crate and test that uses an [`Exec`]: with the SIMD
/// kernels inside, that is most of the work of a build.
pub trait Precision: Real + passes::Passes {}
impl Precision for f32 {}
impl Precision for f64 {}

/// Not to be named outside: nothing else can be a [`Precision`].
mod passes {
    use super::{Aids, Exec, PreparedPart};

    pub trait Passes: Sized {
        fn prepare(part: &mut PreparedPart<Self>, params: &[Self]);
        fn forward(exec: &mut Exec<Self>, params: &[Self], aids: Aids<'_, Self>, done: &mut dyn FnMut(usize));
        fn backward(
            exec: &mut Exec<Self>,
            params: &[Self],
            aids: Aids<'_, Self>,
            cotangent: &[Self],
            grads: &mut [Self],
            done: &mut dyn FnMut(usize),
        );
    }

    macro_rules! compile_for {
        ($($t:ty)*) => {$(
            impl Passes for $t {
                fn prepare(part: &mut PreparedPart<Self>, params: &[Self]) {
                    part.fill(params);
                }
                fn forward(
                    exec: &mut Exec<Self>,
                    params: &[Self],
                    aids: Aids<'_, Self>,
                    done: &mut dyn FnMut(usize),
                ) {
                    exec.forward_pass(params, aids, done);
                }
                fn backward(
                    exec: &mut Exec<Self>,
                    params: &[Self],
                    aids: Aids<'_, Self>,
                    cotangent: &[Self],
                    grads: &mut [Self],
                    done: &mut dyn FnMut(usize),
                ) {
                    exec.backward_pass(params, aids, cotangent, grads, done);
                }
            }
        )*};
    }
    compile_for!(f32 f64);
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
    /// Names the random numbers of the passes to come: seed, step, and the batch number of the program's first sample.
    pub fn set_key(&mut self, seed: u64, step: u64, first_sample: u32) {
        self.key = Key { seed, step, sample: first_sample, op: 0 };
    }
    /// Switches dropout on (training) or off (evaluation; the initial state).
    pub fn set_dropout(&mut self, on: bool) {
        self.dropout = on;
    }

    /// Fills the memory with NaN, all but inputs and constants: a pass that reads what it has not written shows it. For
    /// tests; between passes it changes no result.
    pub fn poison(&mut self) {
        let mut filled = Aligned::zeros(self.arena.len());
        filled.fill(T::NAN);
        for (node, step) in self.graph.nodes().iter().zip(&self.plan.steps) {
            if let (Op::Input | Op::Sinusoid, Place::Arena(r)) = (&node.op, &step.value) {
                filled[r.clone()].copy_from_slice(&self.arena[r.clone()]);
            }
        }
        self.arena = filled;
    }

    /// The numbers of an input, to be written before a pass. They stay until overwritten.
    ///
    /// # Errors
    /// If `id` is not an input of this program or the plan leaves it out.
    pub fn input_mut(&mut self, id: Id) -> Result<&mut [T]> {
        match (self.graph.nodes().get(id.index()).map(|n| &n.op), self.plan.steps.get(id.index())) {
            (Some(Op::Input), Some(Step { value: Place::Arena(r), .. })) => Ok(&mut self.arena[r.clone()]),
            (Some(Op::Input), _) => Err(Error::usage(format!("exec: input {id} is not needed by this plan"))),
            _ => Err(Error::usage(format!("exec: {id} is not an input"))),
        }
    }

    /// Copies `values` into an input.
    ///
    /// # Errors
    /// As [`Exec::input_mut`]; also if the lengths differ.
    pub fn set_input(&mut self, id: Id, values: &[T]) -> Result<()> {
        let label = self.graph.nodes().get(id.index()).map(|n| n.label.clone());
        let slot = self.input_mut(id)?;
        if slot.len() != values.len() {
            let (want, got) = (slot.len(), values.len());
            return Err(Error::shape(format!("exec: input {label:?} has {want} elements, given {got}")));
        }
        slot.copy_from_slice(values);
        Ok(())
    }

    /// Copies `values` into an index input.
    ///
    /// # Errors
    /// If `id` is not an index input, the lengths differ, or a value reaches the bound.
    pub fn set_index(&mut self, id: Id, values: &[u32]) -> Result<()> {
        let Some(Op::Index { bound }) = self.graph.nodes().get(id.index()).map(|n| &n.op) else {
            return Err(Error::usage(format!("exec: {id} is not an index input")));
        };
        let slot = &mut self.indices[self.plan.steps[id.index()].index.clone()];
        if slot.len() != values.len() {
            return Err(Error::shape(format!(
                "exec: index {id} has {} elements, given {}",
                slot.len(),
                values.len()
            )));
        }
        if let Some(i) = values.iter().position(|&v| v as usize >= *bound) {
            return Err(Error::data(format!(
                "exec: index {id} element {i} is {}, the bound is {bound}",
                values[i]
            )));
        }
        slot.copy_from_slice(values);
        Ok(())
    }

    /// A kept value after [`Exec::forward`].
    ///
    /// # Panics
    /// If the plan was not asked to keep it (its memory may hold something else), or it is a parameter.
    pub fn value(&self, id: Id) -> &[T] {
        let w = &self.plan.want;
        let kept = w.keep.contains(&id) || w.root == Some(id) || w.gradients.contains(&id);
        let input = matches!(self.graph.node(id).op, Op::Input | Op::Sinusoid);
        match &self.plan.steps[id.index()].value {
            Place::Arena(r) if kept || input => &self.arena[r.clone()],
            _ => panic!("exec: {id} is not kept by this plan; name it in Want::keep"),
        }
    }

    /// A wanted gradient after [`Exec::backward`].
    ///
    /// # Panics
    /// If the plan was not asked for it.
    pub fn gradient(&self, id: Id) -> &[T] {
        assert!(
            self.plan.want.gradients.contains(&id),
            "exec: the gradient of {id} is not wanted by this plan"
        );
        &self.arena[self.plan.steps[id.index()].gradient.clone()]
    }

    /// Runs the program forward with the flat parameter vector `params` (in the order of [`Graph::layout`]).
    ///
    /// # Panics
    /// If `params` has another length than the layout.
    pub fn forward(&mut self, params: &[T]) {
        T::forward(self, params, Aids::NONE, &mut |_| ());
    }

    /// As [`Exec::forward`] with help. With a team, the first pass makes the scratch of its threads; later ones allocate
    /// nothing here.
    ///
    /// # Panics
    /// As [`Exec::forward`]; also if the prepared weights are not those of `params`.
    pub fn forward_with(&mut self, params: &[T], aids: Aids<'_, T>) {
        T::forward(self, params, aids, &mut |_| ());
    }

    /// As [`Exec::forward_with`], calling `done` after every operation: for clocks.
    ///
    /// # Panics
    /// As [`Exec::forward_with`].
    pub fn forward_watched(&mut self, params: &[T], aids: Aids<'_, T>, done: &mut dyn FnMut(Id)) {
        T::forward(self, params, aids, &mut |i| done(Id(i as u32)));
    }

    fn forward_pass(&mut self, params: &[T], aids: Aids<'_, T>, done: &mut dyn FnMut(usize)) {
        assert_eq!(params.len(), self.graph.layout().len(), "exec: parameters and layout differ in length");
        let team = aids.team.filter(|team| team.threads() > 1);
        if let Some(team) = team
            && self.benches.len() < team.threads()
        {
            let scratch = self.plan.steps.iter().map(|s| s.scratch_forward.len()).max().unwrap_or(0);
            self.benches.resize_with(team.threads(), || Mutex::new(Aligned::zeros(scratch)));
        }
        for i in 0..self.plan.steps.len() {
            if self.plan.steps[i].live {
                if !team.is_some_and(|team| split::forward(self, i, params, aids, team)) {
                    self.forward_op(i, params, aids);
                }
                done(i);
            }
        }
    }

    /// Runs the program backward from the root with cotangent dL/d(root); adds dL/d(parameter) to `grads`.
    /// Call after [`Exec::forward`] with the same `params`, once per forward pass.
    ///
    /// # Panics
    /// If the plan has no root, or a length differs. `grads` may be empty if no parameter gradients are wanted.
    pub fn backward(&mut self, params: &[T], cotangent: &[T], grads: ParamGrads<'_, T>) {
        T::backward(self, params, Aids::NONE, cotangent, grads, &mut |_| ());
    }

    /// As [`Exec::backward`] with prepared weights; a team does not help here.
    ///
    /// # Panics
    /// As [`Exec::backward`]; also if the prepared weights are not those of `params`.
    pub fn backward_with(
        &mut self,
        params: &[T],
        aids: Aids<'_, T>,
        cotangent: &[T],
        grads: ParamGrads<'_, T>,
    ) {
        T::backward(self, params, aids, cotangent, grads, &mut |_| ());
    }

    /// As [`Exec::backward_with`], calling `done` after every operation: for clocks.
    ///
    /// # Panics
    /// As [`Exec::backward_with`].
    pub fn backward_watched(
        &mut self,
        params: &[T],
        aids: Aids<'_, T>,
        cotangent: &[T],
        grads: ParamGrads<'_, T>,
        done: &mut dyn FnMut(Id),
    ) {
        T::backward(self, params, aids, cotangent, grads, &mut |i| done(Id(i as u32)));
    }

    fn backward_pass(
        &mut self,
        params: &[T],
        aids: Aids<'_, T>,
        cotangent: &[T],
        grads: ParamGrads<'_, T>,
        done: &mut dyn FnMut(usize),
    ) {
        let Some(root) = self.plan.want.root else { panic!("exec: this plan has no value to differentiate") };
        assert_eq!(params.len(), self.graph.layout().len(), "exec: parameters and layout differ in length");
        if self.plan.want.params {
            assert_eq!(grads.len(), params.len(), "exec: gradients and parameters differ in length");
        }
        for id in &self.plan.unreached {
            self.arena[self.plan.steps[id.index()].gradient.clone()].fill(T::ZERO);
        }
        let elements = self.graph.shape(root).elements();
        assert_eq!(cotangent.len(), elements, "exec: the cotangent must have the root's {elements} elements");
        match &self.plan.steps[root.index()].value {
            Place::Param(r) if self.plan.want.params => {
                grads[r.clone()].iter_mut().zip(cotangent).for_each(|(g, c)| *g += *c);
            }
            Place::Param(_) | Place::Absent => {}
            Place::Arena(_) => {
                self.arena[self.plan.steps[root.index()].gradient.clone()].copy_from_slice(cotangent);
            }
        }
        for i in (0..self.plan.steps.len()).rev() {
            let step = &self.plan.steps[i];
            if !step.live || !step.visited {
                continue;
            }
            // One pass per set of distinct destinations: in mul(x, x) both contributions go to the same gradient.
            let shares = matches!(self.graph.nodes()[i].op, Op::Attention { .. });
            let mut taken = [false; MAX_INPUTS];
            while let Some(pass) = next_pass(&self.plan.steps[i], shares, &mut taken) {
                self.backward_op(i, params, aids, grads, pass);
            }
            done(i);
        }
    }

    fn dropout_of(&self, p: f64) -> Dropout {
        if self.dropout && p > 0.0 { Dropout::new(p) } else { Dropout::NONE }
    }

    pub(super) fn key_of(&self, i: usize) -> Key {
        Key { op: i as u32, ..self.key }
    }

    fn forward_op(&mut self, i: usize, params: &[T], aids: Aids<'_, T>) {
        let (graph, plan, isa, key) =
            (Arc::clone(&self.graph), Arc::clone(&self.plan), self.isa, self.key_of(i));
        let step = &plan.steps[i];
        let node = &graph.nodes()[i];
        let id = Id(i as u32);
        let at = |id: Id| &plan.steps[id.index()].value;
        let opt = |id: Option<Id>| id.map_or(&Place::Absent, at);
        let out = arena_range(&step.value);
        let (saved, scratch) = (step.saved.clone(), step.scratch_forward.clone());
        let prepared = panels(aids, &graph, &plan, isa, id, false, params);
        match node.op {
            Op::Input | Op::Index { .. } | Op::Param { .. } | Op::Sinusoid | Op::Reshape { .. } => {}
            Op::Linear { x, w, b, first, act } => {
                let d = cost::linear_dims(&graph, id, plan.precision());
                let ([y, saved, scratch], [x, w, bias]) =
                    views(&mut self.arena, params, [out, saved, scratch], [at(x), at(w), opt(b)]);
                let w = &w[first * d.inputs..][..d.outputs * d.inputs];
                let bias = b.map(|_| &bias[first..][..d.outputs]);
                linear::forward(isa, d, act, x, w, prepared, bias, y, saved, scratch);
            }
            Op::Conv1d { x, w, b, act, .. } => {
                let d = cost::conv1d_dims(&graph, id);
                let ([y, saved, scratch], [x, w, bias]) =
                    views(&mut self.arena, params, [out, saved, scratch], [at(x), at(w), opt(b)]);
                conv1d::forward(isa, d, act, x, w, prepared, b.map(|_| bias), y, saved, scratch);
            }
            Op::LayerNorm { x, residual, dropout, gamma, beta, eps } => {
                let d = cost::layer_norm_dims(&graph, id);
                let dropout = self.dropout_of(dropout);
                let ([y, saved], [x, r, gamma, beta]) =
                    views(&mut self.arena, params, [out, saved], [at(x), opt(residual), at(gamma), at(beta)]);
                let residual = residual.map(|_| Residual { data: r, dropout, key });
                layer_norm::forward(isa, d, eps, x, residual, gamma, beta, y, saved);
            }
            Op::Softmax { x } => {
                let ([y], [x]) = views(&mut self.arena, params, [out], [at(x)]);
                softmax::forward(isa, cost::softmax_dims(&graph, id), x, y);
            }
            Op::Attention { q, k, v, mask, scale, dropout, .. } => {
                let d = cost::attention_dims(&graph, id, plan.precision());
                let dropout = self.dropout_of(dropout);
                let places = [at(q.id), at(k.id), at(v.id), opt(mask)];
                let ([y, saved, scratch], [qs, ks, vs, m]) =
                    views(&mut self.arena, params, [out, saved, scratch], places);
                let rows = |c: super::Columns, data| Rows {
                    data,
                    stride: graph.shape(c.id).last(),
                    offset: c.offset,
                };
                let (q, k, v) = (rows(q, qs), rows(k, ks), rows(v, vs));
                attention::forward(isa, d, scale, q, k, v, mask.map(|_| m), dropout, key, y, saved, scratch);
            }
            Op::AbsorbedAttention { q, x, w, b, mask, first, scale, dropout, .. } => {
                let d = cost::absorbed_attention_dims(&graph, id);
                let dropout = self.dropout_of(dropout);
                let places = [at(q), at(x), at(w), opt(b), opt(mask)];
                let ([y, saved, scratch], [q, x, w, bias, m]) =
                    views(&mut self.arena, params, [out, saved, scratch], places);
                let w = &w[first * d.width..][..2 * d.inner() * d.width];
                let (bias, mask) = (b.map(|_| &bias[first..][..2 * d.inner()]), mask.map(|_| m));
                absorbed_attention::forward(
                    isa, d, scale, q, x, w, bias, mask, dropout, key, y, saved, scratch,
                );
            }
            Op::FeedForward { x, w1, b1, w2, b2, act, dropout } => {
                let d = cost::feed_forward_dims(&graph, id, plan.precision());
                let dropout = self.dropout_of(dropout);
                let places = [at(x), at(w1), at(b1), at(w2), at(b2)];
                let ([y, saved, scratch], [x, w1, b1, w2, b2]) =
                    views(&mut self.arena, params, [out, saved, scratch], places);
                feed_forward::forward(
                    isa, d, act, dropout, key, x, w1, b1, w2, b2, prepared, y, saved, scratch,
                );
            }
            Op::Activate { x, kind } => {
                let ([y], [x]) = views(&mut self.arena, params, [out], [at(x)]);
                activation::forward(isa, kind, x, y);
            }
            Op::Dropout { x, p } => {
                let p = self.dropout_of(p);
                let ([y], [x]) = views(&mut self.arena, params, [out], [at(x)]);
                dropout::forward(isa, cost::dropout_dims(&graph, id), p, key, x, y);
            }
            Op::Add { a, b } => {
                let ([y], [a, b]) = views(&mut self.arena, params, [out], [at(a), at(b)]);
                elementwise::add(isa, a, b, y);
            }
            Op::Mul { a, b } => {
                let ([y], [a, b]) = views(&mut self.arena, params, [out], [at(a), at(b)]);
                elementwise::mul(isa, a, b, y);
            }
            Op::Scale { x, factor } => {
                let ([y], [x]) = views(&mut self.arena, params, [out], [at(x)]);
                elementwise::scale(isa, factor, x, y);
            }
            Op::AddRows { x, table } => {
                let ([y], [x, table]) = views(&mut self.arena, params, [out], [at(x), at(table)]);
                embed::add_rows::forward(cost::rows_dims(&graph, id), x, table, y);
            }
            Op::PrependRow { x, row } => {
                let ([y], [x, row]) = views(&mut self.arena, params, [out], [at(x), at(row)]);
                embed::prepend_row::forward(cost::rows_dims(&graph, id), x, row, y);
            }
            Op::GatherRows { x, index } => {
                let ([y], [x]) = views(&mut self.arena, params, [out], [at(x)]);
                let index = &self.indices[plan.steps[index.index()].index.clone()];
                embed::gather_rows::forward(cost::gather_dims(&graph, id), x, index, y);
            }
            Op::Pool { x, kind } => {
                let ([y], [x]) = views(&mut self.arena, params, [out], [at(x)]);
                pool::forward(isa, kind, cost::pool_dims(&graph, id), x, y);
            }
            Op::MaskedMse { pred, target, mask, reduction } => {
                let ([y], [p, t, m]) =
                    views(&mut self.arena, params, [out], [at(pred), at(target), opt(mask)]);
                losses::masked_mse::forward(isa, reduction, p, t, mask.map(|_| m), y);
            }
            Op::BceLogits { logits, targets, mask, pos_weight, reduction } => {
                let ([y], [l, t, m]) =
                    views(&mut self.arena, params, [out], [at(logits), at(targets), opt(mask)]);
                losses::bce_logits::forward(isa, reduction, pos_weight, l, t, mask.map(|_| m), y);
            }
            Op::CrossEntropy { logits, labels, reduction } => {
                let ([y], [l]) = views(&mut self.arena, params, [out], [at(logits)]);
                let labels = &self.indices[plan.steps[labels.index()].index.clone()];
                losses::cross_entropy::forward(
                    isa,
                    cost::cross_entropy_dims(&graph, id),
                    reduction,
                    l,
                    labels,
                    y,
                );
            }
            Op::Reduce { x, kind } => {
                let ([y], [x]) = views(&mut self.arena, params, [out], [at(x)]);
                reduce::forward(isa, kind, x, y);
            }
        }
    }

    fn backward_op(&mut self, i: usize, params: &[T], aids: Aids<'_, T>, grads: &mut [T], pass: Pass) {
        let (graph, plan, isa, key) =
            (Arc::clone(&self.graph), Arc::clone(&self.plan), self.isa, self.key_of(i));
        let step = &plan.steps[i];
        let id = Id(i as u32);
        let at = |id: Id| &plan.steps[id.index()].value;
        let opt = |id: Option<Id>| id.map_or(&Place::Absent, at);
        let (y, saved, dy) =
            (&step.value, &Place::Arena(step.saved.clone()), &Place::Arena(step.gradient.clone()));
        let prepared = panels(aids, &graph, &plan, isa, id, true, params);
        let indices = |id: Id| &self.indices[plan.steps[id.index()].index.clone()];
        match graph.nodes()[i].op {
            Op::Input | Op::Index { .. } | Op::Param { .. } | Op::Sinusoid | Op::Reshape { .. } => {}
            Op::Linear { x, w, first, act, .. } => {
                let d = cost::linear_dims(&graph, id, plan.precision());
                // Only ReLU derives its slope from the result; for the others it may be gone by now.
                let y = if act == Some(Activation::Relu) { y } else { &Place::Absent };
                let reads = [at(x), at(w), y, saved, dy];
                let (to, scratch, [x, w, y, saved, dy]) =
                    open(&mut self.arena, params, grads, step, pass, reads);
                let (rows_w, rows_b) =
                    (first * d.inputs..(first + d.outputs) * d.inputs, first..first + d.outputs);
                let [dx, dw, db, ..] = to;
                let dw = settled(dw).map(|g| &mut g[rows_w.clone()]);
                let db = settled(db).map(|g| &mut g[rows_b]);
                linear::backward(isa, d, act, x, &w[rows_w], prepared, y, saved, dy, dx, dw, db, scratch);
            }
            Op::Conv1d { x, w, act, .. } => {
                let d = cost::conv1d_dims(&graph, id);
                // Only ReLU derives its slope from the result; for the others it may be gone by now.
                let y = if act == Some(Activation::Relu) { y } else { &Place::Absent };
                let reads = [at(x), at(w), y, saved, dy];
                let (to, scratch, [x, w, y, saved, dy]) =
                    open(&mut self.arena, params, grads, step, pass, reads);
                let [dx, dw, db, ..] = to;
                conv1d::backward(
                    isa,
                    d,
                    act,
                    x,
                    w,
                    prepared,
                    y,
                    saved,
                    dy,
                    dx,
                    settled(dw),
                    settled(db),
                    scratch,
                );
            }
            Op::LayerNorm { x, residual, dropout, gamma, .. } => {
                let d = cost::layer_norm_dims(&graph, id);
                let dropout = self.dropout_of(dropout);
                let reads = [at(x), opt(residual), at(gamma), saved, dy];
                let (to, scratch, [x, r, gamma, saved, dy]) =
                    open(&mut self.arena, params, grads, step, pass, reads);
                let residual = residual.map(|_| Residual { data: r, dropout, key });
                let [dx, dr, dg, db, _] = to;
                let (dg, db) = (settled(dg), settled(db));
                layer_norm::backward(isa, d, x, residual, gamma, saved, dy, dx, dr, dg, db, scratch);
            }
            Op::Softmax { .. } => {
                let d = cost::softmax_dims(&graph, id);
                let (to, _, [y, dy]) = open(&mut self.arena, params, grads, step, pass, [y, dy]);
                if let [Some(dx), ..] = to {
                    softmax::backward(isa, d, y, dy, dx);
                }
            }
            Op::Attention { q, k, v, mask, scale, dropout, .. } => {
                let d = cost::attention_dims(&graph, id, plan.precision());
                let dropout = self.dropout_of(dropout);
                let reads = [at(q.id), at(k.id), at(v.id), opt(mask), y, saved, dy];
                let columns = [q, k, v];
                let stride = columns.map(|c| graph.shape(c.id).last());
                let (to, scratch, [qs, ks, vs, m, y, saved, dy]) =
                    open(&mut self.arena, params, grads, step, pass, reads);
                let width = d.heads * d.head_dim;
                let rows = |s: usize, data| Rows { data, stride: stride[s], offset: columns[s].offset };
                let (q, k, v) = (rows(0, qs), rows(1, ks), rows(2, vs));
                let (mut buffers, places) =
                    attention_gradients(to, &pass, columns.map(|c| c.offset), stride, width);
                let [dq, dk, dv] = places;
                let mask = mask.map(|_| m);
                attention::backward(
                    isa,
                    d,
                    scale,
                    q,
                    k,
                    v,
                    mask,
                    dropout,
                    key,
                    y,
                    saved,
                    dy,
                    &mut buffers,
                    dq,
                    dk,
                    dv,
                    scratch,
                );
            }
            Op::AbsorbedAttention { q, x, w, b, mask, first, scale, dropout, .. } => {
                let d = cost::absorbed_attention_dims(&graph, id);
                let dropout = self.dropout_of(dropout);
                let reads = [at(q), at(x), at(w), opt(b), opt(mask), saved, dy];
                let (to, scratch, [q, x, w, bias, m, saved, dy]) =
                    open(&mut self.arena, params, grads, step, pass, reads);
                let rows = first..first + 2 * d.inner();
                let of_w = rows.start * d.width..rows.end * d.width;
                let [dq, dx, dw, db, _] = to;
                let dw = settled(dw).map(|g| &mut g[of_w.clone()]);
                let db = settled(db).map(|g| &mut g[rows.clone()]);
                let (bias, mask) = (b.map(|_| &bias[rows]), mask.map(|_| m));
                let w = &w[of_w];
                absorbed_attention::backward(
                    isa, d, scale, q, x, w, bias, mask, dropout, key, saved, dy, dq, dx, dw, db, scratch,
                );
            }
            Op::FeedForward { x, w1, b1, w2, act, dropout, .. } => {
                let d = cost::feed_forward_dims(&graph, id, plan.precision());
                let dropout = self.dropout_of(dropout);
                let reads = [at(x), at(w1), at(b1), at(w2), saved, dy];
                let (to, scratch, [x, w1, b1, w2, saved, dy]) =
                    open(&mut self.arena, params, grads, step, pass, reads);
                let [dx, dw1, db1, dw2, db2] = to;
                let [dw1, db1, dw2, db2] = [dw1, db1, dw2, db2].map(settled);
                feed_forward::backward(
                    isa, d, act, dropout, key, x, w1, b1, w2, prepared, saved, dy, dx, dw1, db1, dw2, db2,
                    scratch,
                );
            }
            Op::Activate { x, kind } => {
                let (to, _, [x, dy]) = open(&mut self.arena, params, grads, step, pass, [at(x), dy]);
                if let [Some(dx), ..] = to {
                    activation::backward(isa, kind, x, dy, dx);
                }
            }
            Op::Dropout { p, .. } => {
                let (d, p) = (cost::dropout_dims(&graph, id), self.dropout_of(p));
                let (to, _, [dy]) = open(&mut self.arena, params, grads, step, pass, [dy]);
                if let [Some(dx), ..] = to {
                    dropout::backward(isa, d, p, key, dy, dx);
                }
            }
            Op::Add { .. } => {
                let (to, _, [dy]) = open(&mut self.arena, params, grads, step, pass, [dy]);
                let [da, db, ..] = to;
                elementwise::add_backward(isa, dy, da, db);
            }
            Op::Mul { a, b } => {
                let (to, _, [a, b, dy]) =
                    open(&mut self.arena, params, grads, step, pass, [at(a), at(b), dy]);
                let [da, db, ..] = to;
                elementwise::mul_backward(isa, a, b, dy, da, db);
            }
            Op::Scale { factor, .. } => {
                let (to, _, [dy]) = open(&mut self.arena, params, grads, step, pass, [dy]);
                if let [Some(dx), ..] = to {
                    elementwise::scale_backward(isa, factor, dy, dx);
                }
            }
            Op::AddRows { .. } => {
                let d = cost::rows_dims(&graph, id);
                let (to, _, [dy]) = open(&mut self.arena, params, grads, step, pass, [dy]);
                let [dx, dtable, ..] = to;
                embed::add_rows::backward(d, dy, dx, dtable);
            }
            Op::PrependRow { .. } => {
                let d = cost::rows_dims(&graph, id);
                let (to, _, [dy]) = open(&mut self.arena, params, grads, step, pass, [dy]);
                let [dx, drow, ..] = to;
                embed::prepend_row::backward(d, dy, dx, drow);
            }
            Op::GatherRows { index, .. } => {
                let d = cost::gather_dims(&graph, id);
                let (to, _, [dy]) = open(&mut self.arena, params, grads, step, pass, [dy]);
                if let [Some(dx), ..] = to {
                    embed::gather_rows::backward(d, indices(index), dy, dx);
                }
            }
            Op::Pool { x, kind } => {
                let d = cost::pool_dims(&graph, id);
                let (to, _, [x, dy]) = open(&mut self.arena, params, grads, step, pass, [at(x), dy]);
                if let [Some(dx), ..] = to {
                    pool::backward(isa, kind, d, x, dy, dx);
                }
            }
            Op::MaskedMse { pred, target, mask, reduction } => {
                let reads = [at(pred), at(target), opt(mask), dy];
                let (to, _, [p, t, m, dy]) = open(&mut self.arena, params, grads, step, pass, reads);
                let [dp, dt, ..] = to;
                losses::masked_mse::backward(isa, reduction, p, t, mask.map(|_| m), dy[0], dp, dt);
            }
            Op::BceLogits { logits, targets, mask, pos_weight, reduction } => {
                let reads = [at(logits), at(targets), opt(mask), dy];
                let (to, _, [l, t, m, dy]) = open(&mut self.arena, params, grads, step, pass, reads);
                if let [Some(dl), ..] = to {
                    losses::bce_logits::backward(
                        isa,
                        reduction,
                        pos_weight,
                        l,
                        t,
                        mask.map(|_| m),
                        dy[0],
                        dl,
                    );
                }
            }
            Op::CrossEntropy { logits, labels, reduction } => {
                let d = cost::cross_entropy_dims(&graph, id);
                let (to, _, [l, dy]) = open(&mut self.arena, params, grads, step, pass, [at(logits), dy]);
                if let [Some(dl), ..] = to {
                    losses::cross_entropy::backward(isa, d, reduction, l, indices(labels), dy[0], dl);
                }
            }
            Op::Reduce { x, kind } => {
                let (to, _, [x, y, dy]) = open(&mut self.arena, params, grads, step, pass, [at(x), y, dy]);
                if let [Some(dx), ..] = to {
                    reduce::backward(isa, kind, x, y, dy[0], dx);
                }
            }
        }
    }
}

/// One call of a backward kernel: which slots take part, and which slot's buffer each writes to.
#[derive(Clone, Copy, Debug)]
struct Pass {
    takes_part: [bool; MAX_INPUTS],
    /// The slot whose buffer holds this slot's gradient: another one's only in attention.
    buffer: [usize; MAX_INPUTS],
}

/// The next set of contributions that can be made by one kernel call. Slots with the same destination (mul(x, x)) take
/// turns, except in attention, whose kernel writes column blocks of shared buffers.
fn next_pass(step: &Step, shares_buffers: bool, done: &mut [bool; MAX_INPUTS]) -> Option<Pass> {
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

fn overlap(a: &Place, b: &Place) -> bool {
    match (a, b) {
        (Place::Arena(a), Place::Arena(b)) | (Place::Param(a), Place::Param(b)) => {
            a.start < b.end && b.start < a.end
        }
        _ => false,
    }
}

type Gradients<'a, T> = [Option<GradMut<'a, T>>; MAX_INPUTS];

/// Slices for one backward call: the gradients to write by slot, the scratch, and what is read.
fn open<'a, T: Real, const R: usize>(
    arena: &'a mut [T],
    params: &'a [T],
    grads: &'a mut [T],
    step: &Step,
    pass: Pass,
    reads: [&Place; R],
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
            Place::Arena(r) => {
                in_arena[slot] = r.clone();
                beta[slot] = if c.first { Beta::Zero } else { Beta::One };
            }
            Place::Param(r) => in_grads[slot] = r.clone(),
            Place::Absent => {}
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
fn settled<T: Real>(gradient: Option<GradMut<'_, T>>) -> Option<&mut [T]> {
    gradient.map(|mut g| {
        g.settle();
        g.data
    })
}

/// Buffers and column blocks for the attention backward pass. Blocks that fill a fresh buffer exactly overwrite it;
/// otherwise the buffer is cleared and everything accumulates.
fn attention_gradients<'a, T: Real>(
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
            g.settle();
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

/// The prepared weights of an operation; empty if there are none.
pub(super) fn panels<'a, T: Precision>(
    aids: Aids<'a, T>,
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

/// The constants of a program: shape and place.
fn constants<'a>(graph: &'a Graph, plan: &'a Plan) -> impl Iterator<Item = (&'a Shape, Range<usize>)> {
    graph.nodes().iter().zip(&plan.steps).filter_map(|(node, step)| match (&node.op, &step.value) {
        (Op::Sinusoid, Place::Arena(range)) => Some((&node.shape, range.clone())),
        _ => None,
    })
}

pub(super) fn arena_range(place: &Place) -> Range<usize> {
    match place {
        Place::Arena(r) => r.clone(),
        Place::Param(_) | Place::Absent => 0..0,
    }
}
