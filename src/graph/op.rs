//! The operations a program is made of, as plain data.
//!
//! Each variant names its inputs by [`Id`] and carries its settings; nothing else. What an operation reads in its
//! backward pass is stated here once ([`Op::backward_reads`]), and the plan and the executor follow it.

use heartlore_kernels::activation::Activation;
use heartlore_kernels::losses::Reduction;
use heartlore_kernels::pool::Pool;
use heartlore_kernels::reduce::Reduce;

/// A value of a program: the result of the operation with this number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Id(pub(crate) u32);

impl Id {
    /// The operation's number in the program.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// Columns of a value: attention reads queries, keys and values as column blocks, so one projection can hold all three.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Columns {
    /// The value, `[batch, rows, width]`.
    pub id: Id,
    /// The first column.
    pub offset: usize,
}

impl From<Id> for Columns {
    fn from(id: Id) -> Self {
        Self { id, offset: 0 }
    }
}

/// One operation. Shapes are written as in the builder's methods, which document them.
#[derive(Clone, PartialEq, Debug)]
pub enum Op {
    /// Numbers from outside, set before a pass.
    Input,
    /// Unsigned integers below `bound` from outside: row numbers or class labels.
    Index {
        /// Every index is below this.
        bound: usize,
    },
    /// A parameter: number in the program's layout.
    Param {
        /// Position in [`super::Layout`].
        number: usize,
    },
    /// The sinusoidal position table.
    Sinusoid,
    /// y = act(x w^T + b).
    Linear {
        /// `[.., inputs]`
        x: Id,
        /// `[outputs or more, inputs]`
        w: Id,
        /// `[outputs or more]`
        b: Option<Id>,
        /// First row of `w` and `b` that is used: a slice of a larger projection.
        first: usize,
        /// Activation in the same pass.
        act: Option<Activation>,
    },
    /// 1-D convolution, channels last, with optional activation.
    Conv1d {
        /// `[batch, length, in_channels]`
        x: Id,
        /// `[out_channels, in_channels, kernel]`
        w: Id,
        /// `[out_channels]`
        b: Option<Id>,
        /// Step between outputs.
        stride: usize,
        /// Zeros added on each side.
        padding: usize,
        /// Step between taps.
        dilation: usize,
        /// Activation in the same pass.
        act: Option<Activation>,
    },
    /// Layer norm of x + dropout(residual).
    LayerNorm {
        /// `[.., width]`
        x: Id,
        /// Added before normalising: `[.., width]` as x, or one sample of it for all.
        residual: Option<Id>,
        /// Dropout probability on the residual.
        dropout: f64,
        /// `[width]`
        gamma: Id,
        /// `[width]`
        beta: Id,
        /// Added to the variance.
        eps: f64,
    },
    /// Softmax over the last dimension.
    Softmax {
        /// `[.., width]`
        x: Id,
    },
    /// Multi-head attention.
    Attention {
        /// `[batch, tq, heads * head_dim]`
        q: Columns,
        /// `[batch, tk, heads * head_dim]`
        k: Columns,
        /// `[batch, tk, heads * head_dim]`
        v: Columns,
        /// `[batch, tk]`: 1 keeps a key, 0 drops it.
        mask: Option<Id>,
        /// Number of heads.
        heads: usize,
        /// Width of a head.
        head_dim: usize,
        /// Factor on the scores, usually 1 / sqrt(head_dim).
        scale: f64,
        /// Dropout probability on the attention weights.
        dropout: f64,
    },
    /// Attention on the projected rows of x, whose projection is absorbed into the queries.
    AbsorbedAttention {
        /// `[batch, tq, heads * head_dim]`, projected
        q: Id,
        /// `[batch, tk, width]`: a key and a value each
        x: Id,
        /// `[outputs, width]`
        w: Id,
        /// `[outputs]`
        b: Option<Id>,
        /// `[batch, tk]`: 1 keeps a key, 0 drops it.
        mask: Option<Id>,
        /// First row of `w` and `b` that is used: `heads * head_dim` rows of the keys, then as many of the values.
        first: usize,
        /// Number of heads.
        heads: usize,
        /// Width of a head.
        head_dim: usize,
        /// Factor on the scores, usually 1 / sqrt(head_dim).
        scale: f64,
        /// Dropout probability on the attention weights.
        dropout: f64,
    },
    /// dropout(act(x w1^T + b1)) w2^T + b2.
    FeedForward {
        /// `[.., width]`
        x: Id,
        /// `[hidden, width]`
        w1: Id,
        /// `[hidden]`
        b1: Id,
        /// `[width, hidden]`
        w2: Id,
        /// `[width]`
        b2: Id,
        /// The hidden layer's activation.
        act: Activation,
        /// Dropout probability on the hidden layer.
        dropout: f64,
    },
    /// Elementwise activation.
    Activate {
        /// Any shape.
        x: Id,
        /// Which one.
        kind: Activation,
    },
    /// Dropout, inverted: kept elements are scaled up.
    Dropout {
        /// Any shape.
        x: Id,
        /// Probability of dropping.
        p: f64,
    },
    /// a + b.
    Add {
        /// Any shape.
        a: Id,
        /// The same shape.
        b: Id,
    },
    /// a * b, elementwise.
    Mul {
        /// Any shape.
        a: Id,
        /// The same shape.
        b: Id,
    },
    /// factor * x.
    Scale {
        /// Any shape.
        x: Id,
        /// The constant.
        factor: f64,
    },
    /// x + table for every sample.
    AddRows {
        /// `[batch, rows, cols]`
        x: Id,
        /// `[rows, cols]`
        table: Id,
    },
    /// A row put before every sample's rows.
    PrependRow {
        /// `[batch, rows, cols]`
        x: Id,
        /// `[cols]`
        row: Id,
    },
    /// Chosen rows of every sample.
    GatherRows {
        /// `[batch, rows, cols]`
        x: Id,
        /// `[batch, picks]`, an [`Op::Index`].
        index: Id,
    },
    /// One row per sample.
    Pool {
        /// `[batch, rows, cols]`
        x: Id,
        /// How.
        kind: Pool,
    },
    /// The same elements under another shape; costs nothing.
    Reshape {
        /// Any shape with as many elements.
        x: Id,
    },
    /// Squared error where the mask is 1.
    MaskedMse {
        /// Any shape.
        pred: Id,
        /// The same shape; no gradient unless wanted.
        target: Id,
        /// The same shape, weights.
        mask: Option<Id>,
        /// Mean over the mask, or sum.
        reduction: Reduction,
    },
    /// Binary cross-entropy with logits.
    BceLogits {
        /// Any shape.
        logits: Id,
        /// The same shape, in [0, 1].
        targets: Id,
        /// The same shape, weights.
        mask: Option<Id>,
        /// Weight of the positive class.
        pos_weight: f64,
        /// Mean or sum.
        reduction: Reduction,
    },
    /// Softmax cross-entropy.
    CrossEntropy {
        /// `[rows, classes]`
        logits: Id,
        /// `[rows]`, an [`Op::Index`].
        labels: Id,
        /// Mean or sum.
        reduction: Reduction,
    },
    /// All elements to one number.
    Reduce {
        /// Any shape.
        x: Id,
        /// How.
        kind: Reduce,
    },
}

/// The kinds of [`Op`], for tests and tables that must name every one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // the same names as the variants of Op, documented there
pub enum OpKind {
    Input,
    Index,
    Param,
    Sinusoid,
    Linear,
    Conv1d,
    LayerNorm,
    Softmax,
    Attention,
    AbsorbedAttention,
    FeedForward,
    Activate,
    Dropout,
    Add,
    Mul,
    Scale,
    AddRows,
    PrependRow,
    GatherRows,
    Pool,
    Reshape,
    MaskedMse,
    BceLogits,
    CrossEntropy,
    Reduce,
}

impl OpKind {
    /// Every kind.
    pub const ALL: [OpKind; 25] = [
        OpKind::Input,
        OpKind::Index,
        OpKind::Param,
        OpKind::Sinusoid,
        OpKind::Linear,
        OpKind::Conv1d,
        OpKind::LayerNorm,
        OpKind::Softmax,
        OpKind::Attention,
        OpKind::AbsorbedAttention,
        OpKind::FeedForward,
        OpKind::Activate,
        OpKind::Dropout,
        OpKind::Add,
        OpKind::Mul,
        OpKind::Scale,
        OpKind::AddRows,
        OpKind::PrependRow,
        OpKind::GatherRows,
        OpKind::Pool,
        OpKind::Reshape,
        OpKind::MaskedMse,
        OpKind::BceLogits,
        OpKind::CrossEntropy,
        OpKind::Reduce,
    ];

    /// Comes from outside or is constant: computes nothing and has no backward pass.
    pub fn is_leaf(self) -> bool {
        matches!(self, OpKind::Input | OpKind::Index | OpKind::Param | OpKind::Sinusoid)
    }

    /// Whether a plan in bf16 rounds the operands of its products (see [`super::Plan::with_precision`]).
    pub fn takes_bf16(self) -> bool {
        matches!(self, OpKind::Linear | OpKind::FeedForward | OpKind::Attention)
    }

    /// As [`OpKind::takes_bf16`], of a plan in int8; attention's operands are bf16 in such a plan.
    pub fn takes_int8(self) -> bool {
        matches!(self, OpKind::Linear | OpKind::FeedForward)
    }

    /// The name as the trace prints it.
    pub fn name(self) -> &'static str {
        match self {
            OpKind::Input => "input",
            OpKind::Index => "index",
            OpKind::Param => "param",
            OpKind::Sinusoid => "sinusoid",
            OpKind::Linear => "linear",
            OpKind::Conv1d => "conv1d",
            OpKind::LayerNorm => "layer_norm",
            OpKind::Softmax => "softmax",
            OpKind::Attention => "attention",
            OpKind::AbsorbedAttention => "absorbed_attention",
            OpKind::FeedForward => "feed_forward",
            OpKind::Activate => "activate",
            OpKind::Dropout => "dropout",
            OpKind::Add => "add",
            OpKind::Mul => "mul",
            OpKind::Scale => "scale",
            OpKind::AddRows => "add_rows",
            OpKind::PrependRow => "prepend_row",
            OpKind::GatherRows => "gather_rows",
            OpKind::Pool => "pool",
            OpKind::Reshape => "reshape",
            OpKind::MaskedMse => "masked_mse",
            OpKind::BceLogits => "bce_logits",
            OpKind::CrossEntropy => "cross_entropy",
            OpKind::Reduce => "reduce",
        }
    }
}

/// Most inputs an operation has.
pub(crate) const MAX_INPUTS: usize = 5;

/// The inputs of an operation by slot; `None` where an optional input is absent.
pub(crate) type Slots = [Option<Id>; MAX_INPUTS];

fn slots<const N: usize>(ids: [Option<Id>; N]) -> Slots {
    let mut all = [None; MAX_INPUTS];
    all[..N].copy_from_slice(&ids);
    all
}

impl Op {
    /// Which kind it is.
    pub fn kind(&self) -> OpKind {
        match self {
            Op::Input => OpKind::Input,
            Op::Index { .. } => OpKind::Index,
            Op::Param { .. } => OpKind::Param,
            Op::Sinusoid => OpKind::Sinusoid,
            Op::Linear { .. } => OpKind::Linear,
            Op::Conv1d { .. } => OpKind::Conv1d,
            Op::LayerNorm { .. } => OpKind::LayerNorm,
            Op::Softmax { .. } => OpKind::Softmax,
            Op::Attention { .. } => OpKind::Attention,
            Op::AbsorbedAttention { .. } => OpKind::AbsorbedAttention,
            Op::FeedForward { .. } => OpKind::FeedForward,
            Op::Activate { .. } => OpKind::Activate,
            Op::Dropout { .. } => OpKind::Dropout,
            Op::Add { .. } => OpKind::Add,
            Op::Mul { .. } => OpKind::Mul,
            Op::Scale { .. } => OpKind::Scale,
            Op::AddRows { .. } => OpKind::AddRows,
            Op::PrependRow { .. } => OpKind::PrependRow,
            Op::GatherRows { .. } => OpKind::GatherRows,
            Op::Pool { .. } => OpKind::Pool,
            Op::Reshape { .. } => OpKind::Reshape,
            Op::MaskedMse { .. } => OpKind::MaskedMse,
            Op::BceLogits { .. } => OpKind::BceLogits,
            Op::CrossEntropy { .. } => OpKind::CrossEntropy,
            Op::Reduce { .. } => OpKind::Reduce,
        }
    }

    /// Its inputs by slot.
    pub(crate) fn slots(&self) -> Slots {
        match *self {
            Op::Input | Op::Index { .. } | Op::Param { .. } | Op::Sinusoid => slots([]),
            Op::Linear { x, w, b, .. } | Op::Conv1d { x, w, b, .. } => slots([Some(x), Some(w), b]),
            Op::LayerNorm { x, residual, gamma, beta, .. } => {
                slots([Some(x), residual, Some(gamma), Some(beta)])
            }
            Op::Attention { q, k, v, mask, .. } => slots([Some(q.id), Some(k.id), Some(v.id), mask]),
            Op::AbsorbedAttention { q, x, w, b, mask, .. } => slots([Some(q), Some(x), Some(w), b, mask]),
            Op::FeedForward { x, w1, b1, w2, b2, .. } => {
                slots([Some(x), Some(w1), Some(b1), Some(w2), Some(b2)])
            }
            Op::Softmax { x }
            | Op::Activate { x, .. }
            | Op::Dropout { x, .. }
            | Op::Scale { x, .. }
            | Op::Pool { x, .. }
            | Op::Reshape { x }
            | Op::Reduce { x, .. } => slots([Some(x)]),
            Op::Add { a, b } | Op::Mul { a, b } => slots([Some(a), Some(b)]),
            Op::AddRows { x, table } => slots([Some(x), Some(table)]),
            Op::PrependRow { x, row } => slots([Some(x), Some(row)]),
            Op::GatherRows { x, index } => slots([Some(x), Some(index)]),
            Op::MaskedMse { pred, target, mask, .. } => slots([Some(pred), Some(target), mask]),
            Op::BceLogits { logits, targets, mask, .. } => slots([Some(logits), Some(targets), mask]),
            Op::CrossEntropy { logits, labels, .. } => slots([Some(logits), Some(labels)]),
        }
    }

    /// Its inputs.
    pub fn inputs(&self) -> impl Iterator<Item = Id> {
        self.slots().into_iter().flatten()
    }

    /// The same operation on other inputs: `f` maps each id.
    #[must_use]
    pub fn map_inputs(&self, mut f: impl FnMut(Id) -> Id) -> Op {
        let mut op = self.clone();
        match &mut op {
            Op::Input | Op::Index { .. } | Op::Param { .. } | Op::Sinusoid => {}
            Op::Linear { x, w, b, .. } | Op::Conv1d { x, w, b, .. } => {
                (*x, *w, *b) = (f(*x), f(*w), b.map(&mut f));
            }
            Op::LayerNorm { x, residual, gamma, beta, .. } => {
                (*x, *residual, *gamma, *beta) = (f(*x), residual.map(&mut f), f(*gamma), f(*beta));
            }
            Op::Attention { q, k, v, mask, .. } => {
                (q.id, k.id, v.id, *mask) = (f(q.id), f(k.id), f(v.id), mask.map(&mut f));
            }
            Op::AbsorbedAttention { q, x, w, b, mask, .. } => {
                (*q, *x, *w, *b, *mask) = (f(*q), f(*x), f(*w), b.map(&mut f), mask.map(&mut f));
            }
            Op::FeedForward { x, w1, b1, w2, b2, .. } => {
                for id in [x, w1, b1, w2, b2] {
                    *id = f(*id);
                }
            }
            Op::Softmax { x }
            | Op::Activate { x, .. }
            | Op::Dropout { x, .. }
            | Op::Scale { x, .. }
            | Op::Pool { x, .. }
            | Op::Reshape { x }
            | Op::Reduce { x, .. } => *x = f(*x),
            Op::Add { a, b } | Op::Mul { a, b } => (*a, *b) = (f(*a), f(*b)),
            Op::AddRows { x: a, table: b }
            | Op::PrependRow { x: a, row: b }
            | Op::GatherRows { x: a, index: b }
            | Op::CrossEntropy { logits: a, labels: b, .. } => (*a, *b) = (f(*a), f(*b)),
            Op::MaskedMse { pred: a, target: b, mask, .. }
            | Op::BceLogits { logits: a, targets: b, mask, .. } => {
                (*a, *b, *mask) = (f(*a), f(*b), mask.map(&mut f));
            }
        }
        op
    }

    /// Whether a gradient flows to the input in `slot`. Masks, indices and the targets of cross-entropies are data.
    pub fn differentiable(&self, slot: usize) -> bool {
        match self {
            Op::Input | Op::Index { .. } | Op::Param { .. } | Op::Sinusoid => false,
            Op::Attention { .. } => slot < 3,
            Op::AbsorbedAttention { .. } => slot < 4,
            Op::GatherRows { .. } | Op::BceLogits { .. } | Op::CrossEntropy { .. } => slot == 0,
            Op::MaskedMse { .. } => slot < 2,
            _ => true,
        }
    }

    /// What the backward pass reads: inputs by slot, and the output.
    pub(crate) fn backward_reads(&self) -> ([bool; MAX_INPUTS], bool) {
        const ALL: [bool; MAX_INPUTS] = [true; MAX_INPUTS];
        const NONE: [bool; MAX_INPUTS] = [false; MAX_INPUTS];
        match self {
            Op::Linear { act, .. } | Op::Conv1d { act, .. } => {
                ([true, true, false, false, false], *act == Some(Activation::Relu))
            }
            Op::LayerNorm { .. } => ([true, true, true, false, false], false),
            Op::Attention { .. } => (ALL, true),
            Op::FeedForward { .. } => ([true, true, true, true, false], false),
            Op::Softmax { .. } => (NONE, true),
            Op::Reduce { .. } => (ALL, true),
            Op::AbsorbedAttention { .. } => (ALL, false),
            Op::Activate { .. } | Op::Mul { .. } | Op::Pool { .. } => (ALL, false),
            Op::MaskedMse { .. } | Op::BceLogits { .. } | Op::CrossEntropy { .. } => (ALL, false),
            Op::GatherRows { .. } => ([false, true, false, false, false], false),
            Op::Input
            | Op::Index { .. }
            | Op::Param { .. }
            | Op::Sinusoid
            | Op::Dropout { .. }
            | Op::Add { .. }
            | Op::Scale { .. }
            | Op::AddRows { .. }
            | Op::PrependRow { .. }
            | Op::Reshape { .. } => (NONE, false),
        }
    }
}
