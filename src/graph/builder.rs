//! [`Graph`]: records a program, checking shapes as it goes. A misfit is an error that names the operation and both
//! shapes; a recorded program is valid.

use super::id::Id;
use super::operation::{AnyOperation, Node, Op, Role, Shapes};
use super::params::{Layout, ParamInfo};
use crate::error::{Error, Result};
use crate::tensor::{Init, Shape};

/// A recorded program: operations in order, each reading only earlier results.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    layout: Layout,
    scope: String,
}

impl Graph {
    /// An empty program.
    pub fn new() -> Self {
        Self::default()
    }
    /// The operations in order; an [`Id`]'s index is a position here.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
    /// The operation behind `id`.
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id.index()]
    }
    /// The shape of `id`.
    pub fn shape(&self, id: Id) -> &Shape {
        &self.node(id).shape
    }
    /// The parameters recorded so far.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
    /// The parameter whose numbers `id` is: a parameter or a reshape of one. Its value lies with the caller.
    pub fn parameter(&self, id: Id) -> Option<&ParamInfo> {
        match self.node(id).op.role() {
            Role::Param { number } => Some(&self.layout.entries()[number]),
            Role::View => self.parameter(self.node(id).op.view_of()?),
            _ => None,
        }
    }
    /// Every value in order.
    pub fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        (0..self.nodes.len() as u32).map(Id)
    }
    /// FLOPs of an operation's forward and backward pass: a multiply-add counts as two, a transcendental function as one.
    /// Products are exact, a convolution is counted as the sum that defines it; elementwise work is counted to its order of
    /// magnitude.
    pub fn flops(&self, id: Id) -> (u64, u64) {
        self.node(id).op.spec().flops(Shapes::new(&self.nodes, id))
    }
    /// As [`Self::flops`], of what the f32 kernels really execute: a convolution in the frequency domain needs fewer.
    pub fn executed_flops(&self, id: Id) -> (u64, u64) {
        self.node(id).op.spec().executed_flops(Shapes::new(&self.nodes, id))
    }
    /// The input or parameter with this name.
    pub fn find(&self, name: &str) -> Option<Id> {
        self.ids().find(|&id| self.node(id).op.is_leaf() && self.node(id).label == name)
    }
    /// Operations recorded from now on carry this label (for the trace and for error messages).
    pub fn scope(&mut self, label: impl Into<String>) {
        self.scope = label.into();
    }

    /// Appends an operation whose result has `shape`.
    pub(crate) fn push(&mut self, op: impl AnyOperation, shape: Shape) -> Result<Id> {
        self.push_op(Op::new(op), shape)
    }

    /// As [`Graph::push`], of an operation recorded elsewhere on inputs of the same shapes: for tools that rewrite or cut
    /// programs.
    pub(crate) fn push_op(&mut self, op: Op, shape: Shape) -> Result<Id> {
        let id = u32::try_from(self.nodes.len())
            .map_err(|_| Error::shape("a program has at most 2^32 operations"))?;
        shape.checked(op.name()).map_err(|e| e.at(self.place()))?;
        self.nodes.push(Node { op, shape, label: self.scope.clone() });
        Ok(Id(id))
    }

    /// Appends an input, index or parameter under a name of its own.
    pub(crate) fn leaf(&mut self, op: impl AnyOperation, name: &str, shape: Shape) -> Result<Id> {
        if self.find(name).is_some() {
            return self.misfit(op.name(), format_args!("the name {name:?} is taken"));
        }
        let id = self.push(op, shape).map_err(|e| e.at(name))?;
        self.nodes[id.index()].label = name.into();
        Ok(id)
    }

    /// The number in the layout of the parameter `name`, which is added to it if it is new.
    pub(crate) fn parameter_number(&mut self, name: &str, shape: Shape, init: Init) -> Result<usize> {
        self.layout.add(name, shape, init)
    }

    fn place(&self) -> String {
        if self.scope.is_empty() { format!("operation {}", self.nodes.len()) } else { self.scope.clone() }
    }

    pub(crate) fn misfit<T>(&self, op: &str, what: impl std::fmt::Display) -> Result<T> {
        Err(Error::shape(format!("{}: {what}", op)).at(self.place()))
    }

    pub(crate) fn valid(&self, id: Id) -> Result<&Shape> {
        match self.nodes.get(id.index()) {
            Some(n) if n.op.index_bound().is_none() => Ok(&n.shape),
            Some(_) => Err(Error::shape(format!("{id} is an index, not a number")).at(self.place())),
            None => Err(Error::shape(format!("{id} is not recorded in this program")).at(self.place())),
        }
    }

    pub(crate) fn expect(&self, op: &str, what: &str, id: Id, wanted: &Shape, because: &str) -> Result<()> {
        let found = self.valid(id)?;
        if found == wanted {
            return Ok(());
        }
        self.misfit(op, format_args!("{what} has shape {found}, expected {wanted} {because}"))
    }

    pub(crate) fn rank3(&self, op: &str, what: &str, id: Id) -> Result<[usize; 3]> {
        match *self.valid(id)?.dims() {
            [a, b, c] => Ok([a, b, c]),
            _ => self.misfit(op, format_args!("{what} has shape {}, expected 3 dimensions", self.shape(id))),
        }
    }

    pub(crate) fn index_shape(&self, op: &str, id: Id, bound: usize) -> Result<&Shape> {
        match self.nodes.get(id.index()).and_then(|n| Some((n, n.op.index_bound()?))) {
            Some((node, b)) if b <= bound => Ok(&node.shape),
            Some((_, b)) => {
                self.misfit(op, format_args!("index {id} may reach {b}, but there are only {bound}"))
            }
            None => self.misfit(op, format_args!("{id} is not an index input")),
        }
    }

    pub(crate) fn probability(&self, op: &str, p: f64) -> Result<()> {
        // Keep probabilities are multiples of 2^-16; see heartlore_kernels::rng.
        if (0.0..=1.0 - 1.0 / 65536.0).contains(&p) {
            Ok(())
        } else {
            self.misfit(op, format_args!("dropout probability {p} is outside [0, 1)"))
        }
    }
}
