//! [`Graph`]: records a program, checking shapes as it goes. A misfit is an error that names the operation and both
//! shapes; a recorded program is valid.

use super::op::{Columns, Id, Op, OpKind};
use super::params::Layout;
use crate::error::{Error, Result};
use crate::tensor::{Init, Shape};
use heartlore_kernels::activation::Activation;
use heartlore_kernels::losses::Reduction;
use heartlore_kernels::pool::Pool;
use heartlore_kernels::reduce::Reduce;

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

/// Settings of [`Graph::conv1d`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conv1dSpec {
    /// Step between outputs.
    pub stride: usize,
    /// Zeros added on each side.
    pub padding: usize,
    /// Step between taps.
    pub dilation: usize,
    /// Activation in the same pass.
    pub act: Option<Activation>,
}

impl Default for Conv1dSpec {
    fn default() -> Self {
        Self { stride: 1, padding: 0, dilation: 1, act: None }
    }
}

/// Settings of [`Graph::attention`] and [`Graph::absorbed_attention`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AttentionSpec {
    /// Number of heads.
    pub heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Dropout probability on the attention weights.
    pub dropout: f64,
}

/// Parameters of [`Graph::feed_forward`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FeedForwardParams {
    /// `[hidden, width]`
    pub w1: Id,
    /// `[hidden]`
    pub b1: Id,
    /// `[width, hidden]`
    pub w2: Id,
    /// `[width]`
    pub b2: Id,
}

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
    pub fn parameter(&self, id: Id) -> Option<&super::ParamInfo> {
        match self.node(id).op {
            Op::Param { number } => Some(&self.layout.entries()[number]),
            Op::Reshape { x } => self.parameter(x),
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
        super::cost::flops(self, id)
    }
    /// As [`Self::flops`], of what the f32 kernels really execute: a convolution in the frequency domain needs fewer.
    pub fn executed_flops(&self, id: Id) -> (u64, u64) {
        super::cost::executed_flops(self, id)
    }
    /// The input or parameter with this name.
    pub fn find(&self, name: &str) -> Option<Id> {
        self.ids().find(|&id| self.node(id).op.kind().is_leaf() && self.node(id).label == name)
    }
    /// Operations recorded from now on carry this label (for the trace and for error messages).
    pub fn scope(&mut self, label: impl Into<String>) {
        self.scope = label.into();
    }

    fn push(&mut self, op: Op, shape: Shape) -> Result<Id> {
        let kind = op.kind().name();
        let id = u32::try_from(self.nodes.len())
            .map_err(|_| Error::shape("a program has at most 2^32 operations"))?;
        shape.checked(kind).map_err(|e| e.at(self.place()))?;
        self.nodes.push(Node { op, shape, label: self.scope.clone() });
        Ok(Id(id))
    }

    fn place(&self) -> String {
        if self.scope.is_empty() { format!("operation {}", self.nodes.len()) } else { self.scope.clone() }
    }

    fn misfit<T>(&self, kind: OpKind, what: impl std::fmt::Display) -> Result<T> {
        Err(Error::shape(format!("{}: {what}", kind.name())).at(self.place()))
    }

    fn valid(&self, id: Id) -> Result<&Shape> {
        match self.nodes.get(id.index()) {
            Some(n) if !matches!(n.op, Op::Index { .. }) => Ok(&n.shape),
            Some(_) => Err(Error::shape(format!("{id} is an index, not a number")).at(self.place())),
            None => Err(Error::shape(format!("{id} is not recorded in this program")).at(self.place())),
        }
    }

    fn expect(&self, kind: OpKind, what: &str, id: Id, wanted: &Shape, because: &str) -> Result<()> {
        let found = self.valid(id)?;
        if found == wanted {
            return Ok(());
        }
        self.misfit(kind, format_args!("{what} has shape {found}, expected {wanted} {because}"))
    }

    fn rank3(&self, kind: OpKind, what: &str, id: Id) -> Result<[usize; 3]> {
        match *self.valid(id)?.dims() {
            [a, b, c] => Ok([a, b, c]),
            _ => {
                self.misfit(kind, format_args!("{what} has shape {}, expected 3 dimensions", self.shape(id)))
            }
        }
    }

    fn index_shape(&self, kind: OpKind, id: Id, bound: usize) -> Result<&Shape> {
        match self.nodes.get(id.index()) {
            Some(Node { op: Op::Index { bound: b }, shape, .. }) if *b <= bound => Ok(shape),
            Some(Node { op: Op::Index { bound: b }, .. }) => {
                self.misfit(kind, format_args!("index {id} may reach {b}, but there are only {bound}"))
            }
            _ => self.misfit(kind, format_args!("{id} is not an index input")),
        }
    }

    fn probability(&self, kind: OpKind, p: f64) -> Result<()> {
        // Keep probabilities are multiples of 2^-16; see heartlore_kernels::rng.
        if (0.0..=1.0 - 1.0 / 65536.0).contains(&p) {
            Ok(())
        } else {
            self.misfit(kind, format_args!("dropout probability {p} is outside [0, 1)"))
        }
    }

    /// Numbers from outside, named `name`.
    ///
    /// # Errors
    /// If the shape has a zero or overflowing size or the name is taken.
    pub fn input(&mut self, name: &str, shape: impl Into<Shape>) -> Result<Id> {
        self.leaf(Op::Input, name, shape.into())
    }

    /// Unsigned integers below `bound` from outside.
    ///
    /// # Errors
    /// As [`Graph::input`]; also if `bound` is 0 or above 2^32.
    pub fn index(&mut self, name: &str, shape: impl Into<Shape>, bound: usize) -> Result<Id> {
        if bound == 0 || u32::try_from(bound - 1).is_err() {
            return self.misfit(OpKind::Index, format_args!("bound {bound} is not in 1..=2^32"));
        }
        self.leaf(Op::Index { bound }, name, shape.into())
    }

    fn leaf(&mut self, op: Op, name: &str, shape: Shape) -> Result<Id> {
        if self.find(name).is_some() {
            return self.misfit(op.kind(), format_args!("the name {name:?} is taken"));
        }
        let id = self.push(op, shape).map_err(|e| e.at(name))?;
        self.nodes[id.index()].label = name.into();
        Ok(id)
    }

    /// The parameter `name`. Recording the same name again gives the same parameter: weights can be shared.
    ///
    /// # Errors
    /// If the shape has a zero or overflowing size, or differs from the one already recorded under this name.
    pub fn param(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Id> {
        let shape = shape.into();
        let number = self.layout.add(name, shape.clone(), init)?;
        match self.find(name) {
            Some(id) if self.node(id).op == (Op::Param { number }) => Ok(id),
            _ => self.leaf(Op::Param { number }, name, shape),
        }
    }

    /// The sinusoidal position table `[rows, cols]` (Vaswani et al. 2017, section 3.5), a constant.
    ///
    /// # Errors
    /// If a size is 0.
    pub fn sinusoid(&mut self, rows: usize, cols: usize) -> Result<Id> {
        self.push(Op::Sinusoid, Shape::from([rows, cols]))
    }

    /// y = act(x w^T + b): x `[.., inputs]`, w `[outputs, inputs]`, b `[outputs]` -> `[.., outputs]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn linear(&mut self, x: Id, w: Id, b: Option<Id>, act: Option<Activation>) -> Result<Id> {
        let outputs = self.valid(w)?.dims().first().copied().unwrap_or(0);
        self.linear_rows(x, w, b, 0..outputs, act)
    }

    /// As [`Graph::linear`], with only the rows `rows` of w and b: one block of a joint projection.
    ///
    /// # Errors
    /// If the shapes do not fit or the rows are outside w.
    pub fn linear_rows(
        &mut self,
        x: Id,
        w: Id,
        b: Option<Id>,
        rows: std::ops::Range<usize>,
        act: Option<Activation>,
    ) -> Result<Id> {
        let (xs, ws) = (self.valid(x)?.clone(), self.valid(w)?.clone());
        if ws.rank() != 2 || ws.last() != xs.last() || xs.rank() == 0 {
            return self.misfit(
                OpKind::Linear,
                format_args!("x has shape {xs}, w {ws}; w must be [outputs, {}]", xs.last()),
            );
        }
        let total = ws.dims()[0];
        if rows.start >= rows.end || rows.end > total {
            return self.misfit(OpKind::Linear, format_args!("rows {rows:?} of w, which has shape {ws}"));
        }
        if let Some(b) = b {
            self.expect(OpKind::Linear, "b", b, &Shape::from([total]), &format!("as w has shape {ws}"))?;
        }
        self.push(Op::Linear { x, w, b, first: rows.start, act }, xs.with_last(rows.end - rows.start))
    }

    /// 1-D convolution, channels last: x `[batch, length, in]`, w `[out, in, kernel]`, b `[out]` ->
    /// `[batch, (length + 2 padding - dilation (kernel - 1) - 1) / stride + 1, out]`.
    ///
    /// # Errors
    /// If the shapes do not fit or no output remains.
    pub fn conv1d(&mut self, x: Id, w: Id, b: Option<Id>, spec: Conv1dSpec) -> Result<Id> {
        const K: OpKind = OpKind::Conv1d;
        let [batch, length, channels] = self.rank3(K, "x", x)?;
        let [outputs, inputs, kernel] = self.rank3(K, "w", w)?;
        if inputs != channels {
            let (xs, ws) = (self.shape(x), self.shape(w));
            return self.misfit(
                K,
                format_args!("x has shape {xs} ({channels} channels), w {ws} ({inputs} channels)"),
            );
        }
        if let Some(b) = b {
            self.expect(K, "b", b, &Shape::from([outputs]), "as w's first dimension")?;
        }
        let dims = heartlore_kernels::conv1d::Dims {
            batch,
            length,
            in_channels: inputs,
            out_channels: outputs,
            kernel,
            stride: spec.stride,
            padding: spec.padding,
            dilation: spec.dilation,
        };
        let Some(out) = dims.out_length().filter(|&n| n > 0) else {
            return self.misfit(
                K,
                format_args!(
                    "no output: length {length}, kernel {kernel}, stride {}, padding {}, dilation {}",
                    spec.stride, spec.padding, spec.dilation
                ),
            );
        };
        let Conv1dSpec { stride, padding, dilation, act } = spec;
        self.push(Op::Conv1d { x, w, b, stride, padding, dilation, act }, Shape::from([batch, out, outputs]))
    }

    /// Layer norm over the last dimension: gamma, beta `[width]`.
    ///
    /// # Errors
    /// If the shapes do not fit or `eps` is not positive.
    pub fn layer_norm(&mut self, x: Id, gamma: Id, beta: Id, eps: f64) -> Result<Id> {
        self.norm(x, None, 0.0, gamma, beta, eps)
    }

    /// Layer norm of x + dropout(residual), fused; the residual has x's shape or, for x `[batch, rows, width]`,
    /// `[rows, width]`: then it is added to every sample (positions).
    ///
    /// # Errors
    /// As [`Graph::layer_norm`]; also if the residual has another shape or the probability is outside [0, 1).
    pub fn residual_norm(
        &mut self,
        x: Id,
        residual: Id,
        dropout: f64,
        gamma: Id,
        beta: Id,
        eps: f64,
    ) -> Result<Id> {
        self.norm(x, Some(residual), dropout, gamma, beta, eps)
    }

    fn norm(
        &mut self,
        x: Id,
        residual: Option<Id>,
        dropout: f64,
        gamma: Id,
        beta: Id,
        eps: f64,
    ) -> Result<Id> {
        const K: OpKind = OpKind::LayerNorm;
        let xs = self.valid(x)?.clone();
        let width = Shape::from([xs.last()]);
        self.expect(K, "gamma", gamma, &width, &format!("as x has shape {xs}"))?;
        self.expect(K, "beta", beta, &width, &format!("as x has shape {xs}"))?;
        if let Some(r) = residual {
            match xs.dims() {
                [_, rows, width] if *self.valid(r)?.dims() == [*rows, *width] => {}
                _ => self.expect(K, "residual", r, &xs, "as x, or as a sample of it")?,
            }
        }
        self.probability(K, dropout)?;
        if eps.is_nan() || eps <= 0.0 {
            return self.misfit(K, format_args!("eps must be positive, got {eps}"));
        }
        self.push(Op::LayerNorm { x, residual, dropout, gamma, beta, eps }, xs)
    }

    /// Softmax over the last dimension.
    ///
    /// # Errors
    /// If `x` is not a value of this program.
    pub fn softmax(&mut self, x: Id) -> Result<Id> {
        let xs = self.valid(x)?.clone();
        self.push(Op::Softmax { x }, xs)
    }

    /// Multi-head attention: queries `[batch, tq, ..]`, keys and values `[batch, tk, ..]`, each a block of
    /// heads * head_dim columns; mask `[batch, tk]`, 1 keeps a key, 0 drops it -> `[batch, tq, heads * head_dim]`.
    /// Scores are scaled by 1 / sqrt(head_dim).
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn attention(
        &mut self,
        q: impl Into<Columns>,
        k: impl Into<Columns>,
        v: impl Into<Columns>,
        mask: Option<Id>,
        spec: AttentionSpec,
    ) -> Result<Id> {
        const K: OpKind = OpKind::Attention;
        let (q, k, v) = (q.into(), k.into(), v.into());
        let AttentionSpec { heads, head_dim, dropout } = spec;
        let width = match heads.checked_mul(head_dim) {
            Some(w) if w > 0 => w,
            _ => return self.misfit(K, format_args!("{heads} heads of width {head_dim}")),
        };
        let [batch, tq, _] = self.rank3(K, "q", q.id)?;
        let [bk, tk, _] = self.rank3(K, "k", k.id)?;
        let [bv, tv, _] = self.rank3(K, "v", v.id)?;
        if (bk, bv, tv) != (batch, batch, tk) {
            let (qs, ks, vs) = (self.shape(q.id), self.shape(k.id), self.shape(v.id));
            return self.misfit(
                K,
                format_args!("q has shape {qs}, k {ks}, v {vs}: batch and key lengths must agree"),
            );
        }
        for (name, c) in [("q", q), ("k", k), ("v", v)] {
            let s = self.shape(c.id);
            if c.offset.checked_add(width).is_none_or(|end| end > s.last()) {
                let from = c.offset;
                return self
                    .misfit(K, format_args!("{name} has shape {s}: no {width} columns from column {from}"));
            }
        }
        if let Some(m) = mask {
            self.expect(K, "mask", m, &Shape::from([batch, tk]), "[batch, keys]")?;
        }
        self.probability(K, dropout)?;
        let scale = 1.0 / (head_dim as f64).sqrt();
        self.push(
            Op::Attention { q, k, v, mask, heads, head_dim, scale, dropout },
            Shape::from([batch, tq, width]),
        )
    }

    /// Attention of projected queries q `[batch, tq, heads * head_dim]` on keys and values that are projections of x
    /// `[batch, tk, width]`: the result of [`Graph::attention`] on the columns of [`Graph::linear_rows`] of x with w
    /// `[outputs, width]`, b `[outputs]` and the rows from `first` on, heads * head_dim of them for the keys and as many for
    /// the values, which are not computed. It pays for few queries (`heartlore_kernels::absorbed_attention::pays`).
    /// mask `[batch, tk]`, 1 keeps a key, 0 drops it -> `[batch, tq, heads * head_dim]`.
    ///
    /// # Errors
    /// If the shapes do not fit or the rows are outside w.
    pub fn absorbed_attention(
        &mut self,
        q: Id,
        x: Id,
        w: Id,
        b: Option<Id>,
        first: usize,
        mask: Option<Id>,
        spec: AttentionSpec,
    ) -> Result<Id> {
        const K: OpKind = OpKind::AbsorbedAttention;
        let AttentionSpec { heads, head_dim, dropout } = spec;
        let inner = match heads.checked_mul(head_dim) {
            Some(n) if n > 0 => n,
            _ => return self.misfit(K, format_args!("{heads} heads of width {head_dim}")),
        };
        let ([batch, tq, columns], [bx, tk, width]) = (self.rank3(K, "q", q)?, self.rank3(K, "x", x)?);
        let (qs, xs, ws) = (self.shape(q), self.shape(x), self.valid(w)?);
        if columns != inner || bx != batch {
            return self.misfit(
                K,
                format_args!("q has shape {qs}, x {xs}; q must be [{bx}, queries, {heads} * {head_dim}]"),
            );
        }
        if ws.rank() != 2 || ws.last() != width {
            return self.misfit(K, format_args!("x has shape {xs}, w {ws}; w must be [outputs, {width}]"));
        }
        let total = ws.dims()[0];
        if inner.checked_mul(2).and_then(|n| n.checked_add(first)).is_none_or(|end| end > total) {
            return self.misfit(
                K,
                format_args!("w has shape {ws}: no 2 * {heads} * {head_dim} rows from row {first}"),
            );
        }
        if let Some(b) = b {
            self.expect(K, "b", b, &Shape::from([total]), &format!("as w has shape {ws}"))?;
        }
        if let Some(m) = mask {
            self.expect(K, "mask", m, &Shape::from([batch, tk]), "[batch, keys]")?;
        }
        self.probability(K, dropout)?;
        let scale = 1.0 / (head_dim as f64).sqrt();
        let op = Op::AbsorbedAttention { q, x, w, b, mask, first, heads, head_dim, scale, dropout };
        self.push(op, Shape::from([batch, tq, inner]))
    }

    /// dropout(act(x w1^T + b1)) w2^T + b2, fused: x `[.., width]` -> `[.., width]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn feed_forward(&mut self, x: Id, p: FeedForwardParams, act: Activation, dropout: f64) -> Result<Id> {
        const K: OpKind = OpKind::FeedForward;
        let xs = self.valid(x)?.clone();
        let ws = self.valid(p.w1)?.clone();
        let width = xs.last();
        if ws.rank() != 2 || ws.last() != width || xs.rank() == 0 {
            return self.misfit(K, format_args!("x has shape {xs}, w1 {ws}; w1 must be [hidden, {width}]"));
        }
        let hidden = ws.dims()[0];
        let because = format!("as x has shape {xs}, w1 {ws}");
        self.expect(K, "b1", p.b1, &Shape::from([hidden]), &because)?;
        self.expect(K, "w2", p.w2, &Shape::from([width, hidden]), &because)?;
        self.expect(K, "b2", p.b2, &Shape::from([width]), &because)?;
        self.probability(K, dropout)?;
        let FeedForwardParams { w1, b1, w2, b2 } = p;
        self.push(Op::FeedForward { x, w1, b1, w2, b2, act, dropout }, xs)
    }

    /// An elementwise activation.
    ///
    /// # Errors
    /// If `x` is not a value of this program.
    pub fn activate(&mut self, x: Id, kind: Activation) -> Result<Id> {
        let xs = self.valid(x)?.clone();
        self.push(Op::Activate { x, kind }, xs)
    }

    /// Dropout with probability `p`; kept elements are multiplied by 1 / (1 - p).
    ///
    /// # Errors
    /// If the probability is outside [0, 1).
    pub fn dropout(&mut self, x: Id, p: f64) -> Result<Id> {
        let xs = self.valid(x)?.clone();
        self.probability(OpKind::Dropout, p)?;
        self.push(Op::Dropout { x, p }, xs)
    }

    /// a + b, same shape.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn add(&mut self, a: Id, b: Id) -> Result<Id> {
        let s = self.valid(a)?.clone();
        self.expect(OpKind::Add, "b", b, &s, "as a")?;
        self.push(Op::Add { a, b }, s)
    }

    /// a * b elementwise, same shape.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn mul(&mut self, a: Id, b: Id) -> Result<Id> {
        let s = self.valid(a)?.clone();
        self.expect(OpKind::Mul, "b", b, &s, "as a")?;
        self.push(Op::Mul { a, b }, s)
    }

    /// factor * x.
    ///
    /// # Errors
    /// If the factor is not finite.
    pub fn scale(&mut self, x: Id, factor: f64) -> Result<Id> {
        let s = self.valid(x)?.clone();
        if !factor.is_finite() {
            return self.misfit(OpKind::Scale, format_args!("factor {factor} is not finite"));
        }
        self.push(Op::Scale { x, factor }, s)
    }

    /// x `[batch, rows, cols]` + table `[rows, cols]` for every sample.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn add_rows(&mut self, x: Id, table: Id) -> Result<Id> {
        let [_, rows, cols] = self.rank3(OpKind::AddRows, "x", x)?;
        self.expect(OpKind::AddRows, "table", table, &Shape::from([rows, cols]), "as x's rows")?;
        let s = self.shape(x).clone();
        self.push(Op::AddRows { x, table }, s)
    }

    /// x `[batch, rows, cols]` with `row` `[cols]` put first -> `[batch, rows + 1, cols]`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn prepend_row(&mut self, x: Id, row: Id) -> Result<Id> {
        let [batch, rows, cols] = self.rank3(OpKind::PrependRow, "x", x)?;
        self.expect(OpKind::PrependRow, "row", row, &Shape::from([cols]), "as x's last dimension")?;
        self.push(Op::PrependRow { x, row }, Shape::from([batch, rows + 1, cols]))
    }

    /// Rows of x `[batch, rows, cols]` chosen by index `[batch, picks]` -> `[batch, picks, cols]`.
    ///
    /// # Errors
    /// If the shapes do not fit or the index may exceed the rows.
    pub fn gather_rows(&mut self, x: Id, index: Id) -> Result<Id> {
        const K: OpKind = OpKind::GatherRows;
        let [batch, rows, cols] = self.rank3(K, "x", x)?;
        let is = self.index_shape(K, index, rows)?;
        match *is.dims() {
            [b, picks] if b == batch => {
                self.push(Op::GatherRows { x, index }, Shape::from([batch, picks, cols]))
            }
            _ => self.misfit(
                K,
                format_args!("x has shape {}, index {is}; expected [{batch}, picks]", self.shape(x)),
            ),
        }
    }

    /// x `[batch, rows, cols]` -> `[batch, kind.columns(cols)]`.
    ///
    /// # Errors
    /// If x has not three dimensions.
    pub fn pool(&mut self, x: Id, kind: Pool) -> Result<Id> {
        let [batch, _, cols] = self.rank3(OpKind::Pool, "x", x)?;
        self.push(Op::Pool { x, kind }, Shape::from([batch, kind.columns(cols)]))
    }

    /// The same elements as `shape`. Costs nothing: the result shares x's memory.
    ///
    /// # Errors
    /// If the number of elements differs.
    pub fn reshape(&mut self, x: Id, shape: impl Into<Shape>) -> Result<Id> {
        let shape = shape.into();
        let (old, new) = (self.valid(x)?.elements(), shape.checked("reshape")?);
        if old != new {
            return self
                .misfit(OpKind::Reshape, format_args!("x has shape {}, wanted {shape}", self.shape(x)));
        }
        self.push(Op::Reshape { x }, shape)
    }

    /// Mean (over the mask) or sum of mask * (pred - target)^2, all of one shape -> scalar. Without mask all count.
    ///
    /// # Errors
    /// If the shapes differ.
    pub fn masked_mse(&mut self, pred: Id, target: Id, mask: Option<Id>, reduction: Reduction) -> Result<Id> {
        const K: OpKind = OpKind::MaskedMse;
        let s = self.valid(pred)?.clone();
        self.expect(K, "target", target, &s, "as pred")?;
        if let Some(m) = mask {
            self.expect(K, "mask", m, &s, "as pred")?;
        }
        self.push(Op::MaskedMse { pred, target, mask, reduction }, Shape::scalar())
    }

    /// Binary cross-entropy with logits: mean (over the mask) or sum of
    /// -[pos_weight t ln s(x) + (1 - t) ln(1 - s(x))] -> scalar.
    ///
    /// # Errors
    /// If the shapes differ or `pos_weight` is not positive and finite.
    pub fn bce_logits(
        &mut self,
        logits: Id,
        targets: Id,
        mask: Option<Id>,
        pos_weight: f64,
        reduction: Reduction,
    ) -> Result<Id> {
        const K: OpKind = OpKind::BceLogits;
        let s = self.valid(logits)?.clone();
        self.expect(K, "targets", targets, &s, "as logits")?;
        if let Some(m) = mask {
            self.expect(K, "mask", m, &s, "as logits")?;
        }
        if !(pos_weight.is_finite() && pos_weight > 0.0) {
            return self.misfit(K, format_args!("pos_weight must be positive and finite, got {pos_weight}"));
        }
        self.push(Op::BceLogits { logits, targets, mask, pos_weight, reduction }, Shape::scalar())
    }

    /// Softmax cross-entropy: logits `[rows, classes]`, labels `[rows]` -> scalar.
    ///
    /// # Errors
    /// If the shapes do not fit or a label may exceed the classes.
    pub fn cross_entropy(&mut self, logits: Id, labels: Id, reduction: Reduction) -> Result<Id> {
        const K: OpKind = OpKind::CrossEntropy;
        let s = self.valid(logits)?.clone();
        let ls = self.index_shape(K, labels, s.last())?;
        if s.rank() != 2 || ls.dims() != [s.dims()[0]] {
            return self.misfit(K, format_args!("logits have shape {s}, labels {ls}"));
        }
        self.push(Op::CrossEntropy { logits, labels, reduction }, Shape::scalar())
    }

    /// Sum, mean or Euclidean norm of all elements -> scalar.
    ///
    /// # Errors
    /// If `x` is not a value of this program.
    pub fn reduce(&mut self, x: Id, kind: Reduce) -> Result<Id> {
        self.valid(x)?;
        self.push(Op::Reduce { x, kind }, Shape::scalar())
    }

    /// Appends an operation recorded elsewhere, on inputs of the same shapes: for tools that rewrite or cut programs.
    pub(crate) fn push_like(&mut self, op: Op, shape: Shape) -> Result<Id> {
        self.push(op, shape)
    }
}
