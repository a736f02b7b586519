//! The transformer encoder. With A the attention, F the feed-forward, N layer norms and d dropout, one layer is
//!
//! ```text
//! post-norm   y = N1(x + d(A(x)))        z = N2(y + d(F(y)))
//! pre-norm    y = x + d(A(N1(x)))        z = y + d(F(N2(y)))       and one more norm after the last layer
//! ```
//!
//! [`Rows`] says which rows of the last layer are wanted. Its keys and values come from every row; queries and all that
//! follows act on each row alone, so choosing rows before or after them gives the same numbers. For one row the projection
//! of keys and values is absorbed into the query ([`absorbed_attention`]): the same numbers again, without it. Chosen rows
//! of pre-training are many, and their number changes from step to step, which must not change how they are computed.

use super::config::{ModelConfig, NormOrder};
use super::encoder::{dropout, linear_params, norm_params};
use crate::error::Result;
use crate::graph::{AttentionSpec, Columns, FeedForwardParams, Graph, Id};
use crate::tensor::Init;
use heartlore_kernels::absorbed_attention;
use heartlore_kernels::pool::Pool;

/// Which rows of `[batch, rows, width]` go on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Rows {
    /// All of them.
    All,
    /// The first.
    First,
    /// The last.
    Last,
    /// Those named by an index `[batch, picks]`.
    Picks(Id),
}

impl Rows {
    /// x `[batch, rows, width]` -> `[batch, chosen, width]`.
    pub(super) fn choose(self, g: &mut Graph, x: Id) -> Result<Id> {
        let one = |g: &mut Graph, kind| {
            let y = g.pool(x, kind)?;
            let (batch, width) = (g.shape(y).rows(), g.shape(y).last());
            g.reshape(y, [batch, 1, width])
        };
        match self {
            Rows::All => Ok(x),
            Rows::First => one(g, Pool::First),
            Rows::Last => one(g, Pool::Last),
            Rows::Picks(index) => g.gather_rows(x, index),
        }
    }
}

/// Parameters of one layer, recorded in PyTorch's order whatever the order of use.
struct Layer {
    in_weight: Id,
    in_bias: Id,
    out: (Id, Id),
    feed_forward: FeedForwardParams,
    norm1: (Id, Id),
    norm2: (Id, Id),
}

impl Layer {
    fn record(g: &mut Graph, c: &ModelConfig, i: usize) -> Result<Self> {
        let (d, name) = (c.width(), format!("transformer.layers.{i}"));
        let in_weight =
            g.param(&format!("{name}.self_attn.in_proj_weight"), [3 * d, d], Init::XavierUniform)?;
        let in_bias = g.param(&format!("{name}.self_attn.in_proj_bias"), [3 * d], Init::Zeros)?;
        let out_weight = g.param(&format!("{name}.self_attn.out_proj.weight"), [d, d], Init::FanIn(d))?;
        let out_bias = g.param(&format!("{name}.self_attn.out_proj.bias"), [d], Init::Zeros)?;
        let (w1, b1) = linear_params(g, &format!("{name}.linear1"), c.hidden, d)?;
        let (w2, b2) = linear_params(g, &format!("{name}.linear2"), d, c.hidden)?;
        Ok(Self {
            in_weight,
            in_bias,
            out: (out_weight, out_bias),
            feed_forward: FeedForwardParams { w1, b1, w2, b2 },
            norm1: norm_params(g, &format!("{name}.norm1"), d)?,
            norm2: norm_params(g, &format!("{name}.norm2"), d)?,
        })
    }

    /// Self-attention of h `[batch, rows, width]` with the queries of `rows` -> `[batch, chosen, width]`.
    fn attention(&self, g: &mut Graph, c: &ModelConfig, h: Id, rows: Rows) -> Result<Id> {
        let (d, w, b) = (c.width(), self.in_weight, Some(self.in_bias));
        let spec = AttentionSpec { heads: c.heads, head_dim: d / c.heads, dropout: c.attention_dropout };
        let (q, k, v): (Columns, _, _) = if rows == Rows::All {
            let qkv = g.linear(h, w, b, None)?;
            let block = |n: usize| Columns { id: qkv, offset: n * d };
            (block(0), block(1), block(2))
        } else {
            let chosen = rows.choose(g, h)?;
            let q = g.linear_rows(chosen, w, b, 0..d, None)?;
            let few = absorbed_attention::Dims {
                batch: 1,
                tq: 1,
                tk: c.rows(),
                heads: c.heads,
                head_dim: spec.head_dim,
                width: d,
            };
            if matches!(rows, Rows::First | Rows::Last) && absorbed_attention::pays(few) {
                let y = g.absorbed_attention(q, h, w, b, d, None, spec)?;
                return g.linear(y, self.out.0, Some(self.out.1), None);
            }
            let kv = g.linear_rows(h, w, b, d..3 * d, None)?;
            (q.into(), kv.into(), Columns { id: kv, offset: d })
        };
        let y = g.attention(q, k, v, None, spec)?;
        g.linear(y, self.out.0, Some(self.out.1), None)
    }

    fn post_norm(&self, g: &mut Graph, c: &ModelConfig, x: Id, rows: Rows) -> Result<Id> {
        let a = self.attention(g, c, x, rows)?;
        let x = rows.choose(g, x)?;
        let y = g.residual_norm(x, a, c.dropout, self.norm1.0, self.norm1.1, c.norm_eps)?;
        let f = g.feed_forward(y, self.feed_forward, c.activation, c.dropout)?;
        g.residual_norm(y, f, c.dropout, self.norm2.0, self.norm2.1, c.norm_eps)
    }

    /// The two summands of the layer's output: y, and F(N2(y)) before its dropout.
    fn pre_norm(&self, g: &mut Graph, c: &ModelConfig, x: Id, rows: Rows) -> Result<(Id, Id)> {
        let h = g.layer_norm(x, self.norm1.0, self.norm1.1, c.norm_eps)?;
        let a = self.attention(g, c, h, rows)?;
        let a = dropout(g, a, c.dropout)?;
        let x = rows.choose(g, x)?;
        let y = g.add(x, a)?;
        let h = g.layer_norm(y, self.norm2.0, self.norm2.1, c.norm_eps)?;
        Ok((y, g.feed_forward(h, self.feed_forward, c.activation, c.dropout)?))
    }
}

/// All layers: x `[batch, rows, width]` -> the chosen rows of the output, `[batch, chosen, width]`. With `full`, every
/// row is computed and the choice is made at the end.
pub(super) fn transformer(g: &mut Graph, c: &ModelConfig, mut x: Id, rows: Rows, full: bool) -> Result<Id> {
    for i in 0..c.layers {
        g.scope(format!("transformer.layers.{i}"));
        let last = i + 1 == c.layers;
        let layer = Layer::record(g, c, i)?;
        let wanted = if last && !full { rows } else { Rows::All };
        x = match c.norm_order {
            NormOrder::Post => layer.post_norm(g, c, x, wanted)?,
            NormOrder::Pre => {
                let (y, f) = layer.pre_norm(g, c, x, wanted)?;
                if last {
                    g.scope("transformer.norm");
                    let (gamma, beta) = norm_params(g, "transformer.norm", c.width())?;
                    g.residual_norm(y, f, c.dropout, gamma, beta, c.norm_eps)?
                } else {
                    let f = dropout(g, f, c.dropout)?;
                    g.add(y, f)?
                }
            }
        };
    }
    if full { rows.choose(g, x) } else { Ok(x) }
}
