//! What an operation is: [`Operation`] says what it needs, [`Rules`] computes it, and the executor knows no more than that.
//!
//! Each operation has a file of its own in `ops`, which implements both for a small struct of inputs and settings.
//! [`Op`] holds any of them behind one pointer. An executor's pass makes one virtual call for each operation; everything
//! below is compiled once for f32 and once for f64, here and not in every crate that runs a program.

use super::aligned::Aligned;
use super::formula::Formula;
use super::id::{Id, MAX_INPUTS, Slots, SlotsMut};
use super::number::{Complex, Dual, Number, Rounded};
use super::parts::{Cuts, Workers};
use super::step::{Gradients, Pass, Step, open};
use super::views::{Location, views};
use crate::tensor::Shape;
use heartlore_kernels::gemm::MatmulPrecision;
use heartlore_kernels::rng::{Dropout, Key};
use heartlore_kernels::{Isa, Real};
use std::any::Any;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What a plan and an executor do with an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Numbers from outside.
    Input,
    /// Unsigned integers below `bound` from outside.
    Index {
        /// Every index is below this.
        bound: usize,
    },
    /// A parameter: its number in the layout.
    Param {
        /// Position in the layout.
        number: usize,
    },
    /// Computed once, when the executor is made.
    Constant,
    /// The same elements as its input, in the same memory.
    View,
    /// Computed in every pass.
    Compute,
}

/// Elements beside the result.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// Kept from the forward to the backward pass.
    pub(crate) saved: usize,
    /// Scratch of either pass.
    pub(crate) scratch: usize,
}

/// The larger of a kernel's needs in the two number types, so that one plan serves both.
macro_rules! scratch {
    ($f:path, $($arg:expr),*) => {{
        use $f as len;
        len::<f32>($($arg),*).max(len::<f64>($($arg),*))
    }};
}
pub(crate) use scratch;

/// What a backward rule reads beside `saved` and dL/dy.
#[derive(Clone, Copy, Debug)]
pub struct Reads {
    /// Inputs by slot.
    pub(crate) inputs: [bool; MAX_INPUTS],
    /// The result.
    pub(crate) output: bool,
}

impl Reads {
    pub(crate) const NOTHING: Self = Self { inputs: [false; MAX_INPUTS], output: false };
    pub(crate) const ALL_INPUTS: Self = Self { inputs: [true; MAX_INPUTS], output: false };

    /// The inputs in these slots.
    pub(crate) fn inputs(slots: &[usize]) -> Self {
        Self { inputs: std::array::from_fn(|s| slots.contains(&s)), output: false }
    }

    /// And the result, where `output`.
    pub(crate) fn and_output(self, output: bool) -> Self {
        Self { output, ..self }
    }
}

/// Which weights an operation reads in packed form, and in what order they are packed. Sizes that do not matter for the
/// order are left out, so that programs which differ in them share packed weights.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packing {
    /// The sizes that decide the order.
    pub(crate) sizes: [usize; 8],
    /// What the weights are rounded to.
    pub(crate) precision: MatmulPrecision,
    /// Up to two inputs, and which of their elements.
    pub(crate) weights: [Option<(Id, Range<usize>)>; 2],
}

/// Shapes of a program, seen from one of its operations.
#[derive(Clone, Copy, Debug)]
pub struct Shapes<'a> {
    nodes: &'a [Node],
    id: Id,
}

impl<'a> Shapes<'a> {
    pub(crate) fn new(nodes: &'a [Node], id: Id) -> Self {
        Self { nodes, id }
    }
    /// The operation.
    pub(crate) fn id(self) -> Id {
        self.id
    }
    /// Of a value.
    pub(crate) fn of(self, id: Id) -> &'a Shape {
        &self.nodes[id.index()].shape
    }
    /// Of the operation's result.
    pub(crate) fn result(self) -> &'a Shape {
        self.of(self.id)
    }
    /// Of a value with three dimensions.
    pub(crate) fn rank3(self, id: Id) -> [usize; 3] {
        let d = self.of(id).dims();
        [d[0], d[1], d[2]]
    }
    /// The result's shape as Rust code.
    pub(crate) fn result_code(self) -> String {
        let shape = self.result();
        if shape.rank() == 0 { "Shape::scalar()".into() } else { shape.to_string() }
    }
    /// Of the result, which has three dimensions.
    pub(crate) fn result_rank3(self) -> [usize; 3] {
        self.rank3(self.id)
    }
}

/// What an operation is and needs: all that does not depend on the type of its numbers.
pub trait Operation: fmt::Debug + Send + Sync + 'static {
    /// The name in traces and messages.
    fn name(&self) -> &'static str;
    /// The inputs in slot order.
    fn inputs_mut(&mut self) -> SlotsMut<'_>;
    /// What a plan and an executor do with it.
    fn role(&self) -> Role {
        Role::Compute
    }
    /// Settings as the trace prints them, after the inputs; empty or with a leading space.
    fn settings(&self) -> String {
        String::new()
    }
    /// The call that records it, as Rust code, with its inputs named by `v`.
    fn code(&self, s: Shapes<'_>, v: &dyn Fn(Id) -> String) -> String;
    /// Whether a gradient flows to the input in `slot`. Masks, indices and targets are data.
    fn differentiable(&self, _slot: usize) -> bool {
        true
    }
    /// What the backward rule reads.
    fn backward_reads(&self) -> Reads;
    /// Whether one backward call takes several gradients in one buffer (column blocks).
    fn shares_gradient_buffers(&self) -> bool {
        false
    }
    /// Elements beside the result.
    fn needs(&self, _s: Shapes<'_>) -> Needs {
        Needs::default()
    }
    /// FLOPs forward and backward: a multiply-add counts as two, a transcendental function as one.
    fn flops(&self, s: Shapes<'_>) -> (u64, u64);
    /// As [`Operation::flops`], of what the f32 kernels execute.
    fn executed_flops(&self, s: Shapes<'_>) -> (u64, u64) {
        self.flops(s)
    }
    /// Whether products round their operands in a plan of this precision.
    fn rounds_to(&self, _precision: MatmulPrecision) -> bool {
        false
    }
    /// Whether [`Rules::formula`] is there: only an operation of your own may do without.
    fn has_formula(&self) -> bool {
        true
    }
    /// The weights it reads in packed form, if any.
    fn packing(&self, _s: Shapes<'_>, _precision: MatmulPrecision) -> Option<Packing> {
        None
    }
}

/// How an operation is computed, for f32 and f64. A rule fetches slices and calls one kernel.
pub trait Rules: Operation {
    /// The textbook formula, over any kind of number: its derivative in dual numbers is the tangent rule.
    fn formula<N: Number>(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N>;
    /// y from the inputs.
    fn forward<T: Real>(&self, run: Forward<'_, T>);
    /// dL/d(inputs) from dL/dy.
    fn backward<T: Real>(&self, run: Backward<'_, T>);
    /// How the forward pass is cut for `threads`; `None` if it runs whole.
    fn cuts<T: Real>(&self, _site: Site<'_>, _threads: usize) -> Option<Cuts> {
        None
    }
    /// The forward pass on several threads; false, and nothing done, if it must run whole after all.
    fn forward_parts<T: Real>(&self, _run: Forward<'_, T>, _team: Team<'_, T>) -> bool {
        false
    }
    /// Elements of packed weights.
    fn packed_len<T: Real>(&self, _packing: &Packing, _backward: bool) -> usize {
        0
    }
    /// Packs weights.
    fn pack<T: Real>(
        &self,
        _isa: Isa,
        _packing: &Packing,
        _weights: [&[T]; 2],
        _backward: bool,
        _panels: &mut [T],
    ) {
    }
}

/// [`Rules`] for one type of number, behind a pointer.
pub trait RulesFor<T> {
    #[doc(hidden)]
    fn run_forward(&self, run: Forward<'_, T>);
    #[doc(hidden)]
    fn run_backward(&self, run: Backward<'_, T>);
    #[doc(hidden)]
    fn cuts_for(&self, site: Site<'_>, threads: usize) -> Option<Cuts>;
    #[doc(hidden)]
    fn run_forward_parts(&self, run: Forward<'_, T>, team: Team<'_, T>) -> bool;
    #[doc(hidden)]
    fn packed_elements(&self, packing: &Packing, backward: bool) -> usize;
    #[doc(hidden)]
    fn pack_into(&self, isa: Isa, packing: &Packing, weights: [&[T]; 2], backward: bool, panels: &mut [T]);
}

impl<T: Real, O: Rules> RulesFor<T> for O {
    fn run_forward(&self, run: Forward<'_, T>) {
        self.forward(run);
    }
    fn run_backward(&self, run: Backward<'_, T>) {
        self.backward(run);
    }
    fn cuts_for(&self, site: Site<'_>, threads: usize) -> Option<Cuts> {
        self.cuts::<T>(site, threads)
    }
    fn run_forward_parts(&self, run: Forward<'_, T>, team: Team<'_, T>) -> bool {
        self.forward_parts(run, team)
    }
    fn packed_elements(&self, packing: &Packing, backward: bool) -> usize {
        self.packed_len::<T>(packing, backward)
    }
    fn pack_into(&self, isa: Isa, packing: &Packing, weights: [&[T]; 2], backward: bool, panels: &mut [T]) {
        self.pack(isa, packing, weights, backward, panels);
    }
}

/// A formula in one kind of number, behind a pointer.
pub trait FormulaIn<N> {
    #[doc(hidden)]
    fn evaluate(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N>;
}

impl<N: Number, O: Rules> FormulaIn<N> for O {
    fn evaluate(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        self.formula(s, at)
    }
}

/// An operation in every kind of number.
pub trait AnyOperation:
    Operation
    + RulesFor<f32>
    + RulesFor<f64>
    + FormulaIn<f64>
    + FormulaIn<Dual<f32>>
    + FormulaIn<Dual<f64>>
    + FormulaIn<Dual<Dual<f64>>>
    + FormulaIn<Complex>
    + FormulaIn<Dual<Rounded>>
    + Any
{
    #[doc(hidden)]
    fn equals(&self, other: &dyn Any) -> bool;
    #[doc(hidden)]
    fn slots(&self) -> Slots;
    #[doc(hidden)]
    fn with_inputs(&self, f: &mut dyn FnMut(Id) -> Id) -> Op;
}

impl<O: Rules + Clone + PartialEq> AnyOperation for O {
    fn equals(&self, other: &dyn Any) -> bool {
        other.downcast_ref::<O>().is_some_and(|other| self == other)
    }
    fn slots(&self) -> Slots {
        self.clone().inputs_mut().map(|id| id.copied())
    }
    fn with_inputs(&self, f: &mut dyn FnMut(Id) -> Id) -> Op {
        let mut op = self.clone();
        for id in op.inputs_mut().into_iter().flatten() {
            *id = f(*id);
        }
        Op::new(op)
    }
}

/// The number types programs run in: f32 and f64.
pub trait Precision: Real + sealed::Dispatch {}
impl Precision for f32 {}
impl Precision for f64 {}

mod sealed {
    use super::{AnyOperation, RulesFor};

    /// Not to be named outside: nothing else can be a [`super::Precision`].
    pub trait Dispatch: Sized {
        #[doc(hidden)]
        fn rules(op: &dyn AnyOperation) -> &dyn RulesFor<Self>;
    }
    impl Dispatch for f32 {
        fn rules(op: &dyn AnyOperation) -> &dyn RulesFor<Self> {
            op
        }
    }
    impl Dispatch for f64 {
        fn rules(op: &dyn AnyOperation) -> &dyn RulesFor<Self> {
            op
        }
    }
}

/// The kinds of number that programs' formulas are evaluated in.
pub trait FormulaNumber: Number + formulas::Select {}

mod formulas {
    use super::{AnyOperation, Complex, Dual, FormulaIn, FormulaNumber, Rounded};

    /// Not to be named outside: nothing else can be a [`FormulaNumber`].
    pub trait Select: Sized {
        #[doc(hidden)]
        fn formula(op: &dyn AnyOperation) -> &dyn FormulaIn<Self>;
    }
    macro_rules! select {
        ($($t:ty)*) => {$(
            impl FormulaNumber for $t {}
            impl Select for $t {
                fn formula(op: &dyn AnyOperation) -> &dyn FormulaIn<Self> {
                    op
                }
            }
        )*};
    }
    select!(f64 Dual<f32> Dual<f64> Dual<Dual<f64>> Complex Dual<Rounded>);
}

/// One operation of a program: which one, its inputs, its settings. Plain data, cheap to copy.
#[derive(Clone)]
pub struct Op(Arc<dyn AnyOperation>);

impl PartialEq for Op {
    fn eq(&self, other: &Self) -> bool {
        self.0.equals(&*other.0)
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Op {
    pub(crate) fn new(op: impl AnyOperation) -> Self {
        Self(Arc::new(op))
    }

    /// The operation as one of the types of this module's `ops`, if it is that one: `op.get::<Linear>()`.
    pub fn get<O: 'static>(&self) -> Option<&O> {
        (&*self.0 as &dyn Any).downcast_ref()
    }

    /// Whether it is this one.
    pub fn is<O: 'static>(&self) -> bool {
        self.get::<O>().is_some()
    }

    /// The name in traces and messages.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Its inputs by slot.
    pub(crate) fn slots(&self) -> Slots {
        self.0.slots()
    }

    /// Its inputs.
    pub fn inputs(&self) -> impl Iterator<Item = Id> + use<> {
        self.slots().into_iter().flatten()
    }

    /// The same operation on other inputs: `f` maps each id.
    #[must_use]
    pub fn map_inputs(&self, mut f: impl FnMut(Id) -> Id) -> Op {
        self.0.with_inputs(&mut f)
    }

    /// Whether a gradient flows to the input in `slot`. Masks, indices and the targets of cross-entropies are data.
    pub fn differentiable(&self, slot: usize) -> bool {
        self.0.differentiable(slot)
    }

    /// Comes from outside or is constant: computes nothing in a pass and has no backward rule.
    pub fn is_leaf(&self) -> bool {
        !matches!(self.role(), Role::Compute | Role::View)
    }

    /// The parameter's number in the layout, if it is one.
    pub fn parameter(&self) -> Option<usize> {
        match self.role() {
            Role::Param { number } => Some(number),
            _ => None,
        }
    }

    /// The bound of an index input, if it is one.
    pub fn index_bound(&self) -> Option<usize> {
        match self.role() {
            Role::Index { bound } => Some(bound),
            _ => None,
        }
    }

    /// Whether it is an input: numbers set before a pass.
    pub fn is_input(&self) -> bool {
        self.role() == Role::Input
    }

    /// The value whose memory it shares, if it only gives it another shape.
    pub fn view_of(&self) -> Option<Id> {
        if self.role() == Role::View { self.slots()[0] } else { None }
    }

    /// Whether a plan of this precision rounds the operands of its products.
    pub fn rounds_to(&self, precision: MatmulPrecision) -> bool {
        self.0.rounds_to(precision)
    }

    pub(crate) fn role(&self) -> Role {
        self.0.role()
    }

    pub(crate) fn spec(&self) -> &dyn Operation {
        &*self.0
    }

    pub(crate) fn evaluate<N: FormulaNumber>(&self, s: Shapes<'_>, at: &Formula<'_, N>) -> Vec<N> {
        N::formula(&*self.0).evaluate(s, at)
    }

    pub(crate) fn rules<T: Precision>(&self) -> &dyn RulesFor<T> {
        T::rules(&*self.0)
    }
}

/// One line of a program: an operation, the shape of its result and a label.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// Shape of the result.
    pub shape: Shape,
    /// Name of an input or parameter, or the scope an operation was recorded in; may be empty.
    pub label: String,
}

/// Where a rule runs: which operation of which planned program, and the settings of the pass.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    pub(crate) nodes: &'a [Node],
    pub(crate) steps: &'a [Step],
    pub(crate) id: Id,
    pub(crate) isa: Isa,
    pub(crate) precision: MatmulPrecision,
    /// Names the operation's random numbers.
    pub(crate) key: Key,
    pub(crate) dropout: bool,
}

impl<'a> Site<'a> {
    pub(crate) fn shapes(self) -> Shapes<'a> {
        Shapes::new(self.nodes, self.id)
    }
    pub(crate) fn node(self) -> &'a Node {
        &self.nodes[self.id.index()]
    }
    pub(crate) fn step(self) -> &'a Step {
        &self.steps[self.id.index()]
    }
    fn at(self, id: Option<Id>) -> &'a Location {
        id.map_or(&Location::Absent, |id| &self.steps[id.index()].value)
    }
    /// Dropout of probability `p`, if it is on.
    pub(crate) fn dropout_of(self, p: f64) -> Dropout {
        if self.drops(p) { Dropout::new(p) } else { Dropout::NONE }
    }
    /// Whether dropout of probability `p` does anything in this pass.
    pub(crate) fn drops(self, p: f64) -> bool {
        self.dropout && p > 0.0
    }
}

/// One operation's forward call.
#[derive(Debug)]
pub struct Forward<'a, T> {
    pub(crate) site: Site<'a>,
    pub(crate) arena: &'a mut [T],
    pub(crate) indices: &'a [u32],
    pub(crate) params: &'a [T],
    /// The packed weights; empty if there are none.
    pub(crate) panels: &'a [T],
}

/// The slices of a forward call.
#[derive(Debug)]
pub(crate) struct ForwardSlices<'a, T, const R: usize> {
    pub(crate) y: &'a mut [T],
    pub(crate) saved: &'a mut [T],
    pub(crate) scratch: &'a mut [T],
    /// The values asked for; empty where an optional input is absent.
    pub(crate) inputs: [&'a [T]; R],
}

impl<'a, T: Real> Forward<'a, T> {
    /// The result to write, and the values of `inputs`.
    pub(crate) fn open<const R: usize>(self, inputs: [Option<Id>; R]) -> ForwardSlices<'a, T, R> {
        let (site, step) = (self.site, self.site.step());
        let writes = [step.value.arena(), step.saved.clone(), step.scratch_forward.clone()];
        let ([y, saved, scratch], inputs) =
            views(self.arena, self.params, writes, inputs.map(|id| site.at(id)));
        ForwardSlices { y, saved, scratch, inputs }
    }

    /// The numbers of an index input.
    pub(crate) fn index(&self, id: Id) -> &'a [u32] {
        &self.indices[self.site.steps[id.index()].index.clone()]
    }
}

/// The threads that share a forward call, how it is cut, and memory between its stages.
#[derive(Debug)]
pub struct Team<'a, T> {
    pub(crate) workers: Workers<'a, T>,
    pub(crate) cuts: Cuts,
    /// Grows on demand; what one stage writes, all threads read in the next.
    pub(crate) shared: &'a mut Aligned<T>,
}

/// One operation's backward call.
#[derive(Debug)]
pub struct Backward<'a, T> {
    pub(crate) site: Site<'a>,
    pub(crate) arena: &'a mut [T],
    pub(crate) indices: &'a [u32],
    pub(crate) params: &'a [T],
    pub(crate) grads: &'a mut [T],
    /// The packed weights; empty if there are none.
    pub(crate) panels: &'a [T],
    pub(crate) pass: Pass,
}

/// The slices of a backward call.
#[derive(Debug)]
pub(crate) struct BackwardSlices<'a, T, const R: usize> {
    /// The gradients to write, by slot.
    pub(crate) to: Gradients<'a, T>,
    pub(crate) scratch: &'a mut [T],
    pub(crate) saved: &'a [T],
    /// The result; empty unless [`Operation::backward_reads`] asks for it.
    pub(crate) y: &'a [T],
    pub(crate) dy: &'a [T],
    /// The values asked for.
    pub(crate) inputs: [&'a [T]; R],
}

/// Most values a backward rule reads beside y, saved and dy.
const MOST_READS: usize = MAX_INPUTS;

impl<'a, T: Real> Backward<'a, T> {
    /// The gradients to write, and the values of `inputs`, which must be among those that
    /// [`Operation::backward_reads`] names.
    pub(crate) fn open<const R: usize>(self, inputs: [Option<Id>; R]) -> BackwardSlices<'a, T, R> {
        const { assert!(R <= MOST_READS) };
        let (site, step) = (self.site, self.site.step());
        let absent = &Location::Absent;
        let y = if site.node().op.spec().backward_reads().output { &step.value } else { absent };
        let (saved, dy) = (Location::Arena(step.saved.clone()), Location::Arena(step.gradient.clone()));
        let mut reads = [absent; MOST_READS + 3];
        for (read, id) in reads.iter_mut().zip(inputs) {
            *read = site.at(id);
        }
        reads[MOST_READS..].copy_from_slice(&[y, &saved, &dy]);
        let (to, scratch, read) = open(self.arena, self.params, self.grads, step, self.pass, reads);
        let inputs = std::array::from_fn(|i| read[i]);
        let [.., y, saved, dy] = read;
        BackwardSlices { to, scratch, saved, y, dy, inputs }
    }

    /// The numbers of an index input.
    pub(crate) fn index(&self, id: Id) -> &'a [u32] {
        &self.indices[self.site.steps[id.index()].index.clone()]
    }
}
