//! What an operation needs: kernel dimensions from recorded shapes, elements of saved data and scratch, FLOPs.

use super::builder::Graph;
use super::op::{Id, Op};
use heartlore_kernels::gemm::MatmulPrecision;
use heartlore_kernels::{
    absorbed_attention, attention, conv1d, dropout, embed, feed_forward, layer_norm, linear, losses, pool,
    softmax,
};

/// Elements beside the result.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needs {
    pub(crate) saved: usize,
    pub(crate) scratch_forward: usize,
    pub(crate) scratch_backward: usize,
}

/// Sizes do not depend on what operands are rounded to.
pub(crate) const ANY: MatmulPrecision = MatmulPrecision::F32;

/// The larger of the scratch needs in the two number types, so that one plan serves both.
macro_rules! scratch {
    ($f:path, $($arg:expr),*) => {{
        use $f as len;
        len::<f32>($($arg),*).max(len::<f64>($($arg),*))
    }};
}

/// Saved data and scratch of an operation; nothing is saved for an operation that is not differentiated.
pub(crate) fn buffers(graph: &Graph, id: Id, differentiated: bool) -> Needs {
    let (saved, scratch) = match graph.node(id).op {
        Op::Linear { act, .. } => {
            let d = linear_dims(graph, id, ANY);
            (linear::saved_len(d, act), scratch!(linear::scratch_len, d, act))
        }
        Op::Conv1d { act, .. } => {
            let d = conv1d_dims(graph, id);
            (conv1d::saved_len(d, act), scratch!(conv1d::scratch_len, d, act))
        }
        Op::LayerNorm { .. } => {
            let d = layer_norm_dims(graph, id);
            (layer_norm::saved_len(d), layer_norm::scratch_len(d))
        }
        Op::Attention { .. } => {
            let d = attention_dims(graph, id, ANY);
            (attention::saved_len(d), scratch!(attention::scratch_len, d))
        }
        Op::AbsorbedAttention { .. } => {
            let d = absorbed_attention_dims(graph, id);
            (absorbed_attention::saved_len(d), scratch!(absorbed_attention::scratch_len, d))
        }
        Op::FeedForward { .. } => {
            let d = feed_forward_dims(graph, id, ANY);
            (feed_forward::saved_len(d), scratch!(feed_forward::scratch_len, d))
        }
        _ => (0, 0),
    };
    let saved = if differentiated { saved } else { 0 };
    Needs { saved, scratch_forward: scratch, scratch_backward: scratch }
}

fn dims3(graph: &Graph, id: Id) -> [usize; 3] {
    let d = graph.shape(id).dims();
    [d[0], d[1], d[2]]
}

fn bad(id: Id) -> ! {
    unreachable!("dimensions of another kind of operation were asked of {id}")
}

pub(crate) fn linear_dims(graph: &Graph, id: Id, precision: MatmulPrecision) -> linear::Dims {
    let Op::Linear { x, .. } = graph.node(id).op else { bad(id) };
    let (xs, ys) = (graph.shape(x), graph.shape(id));
    linear::Dims { rows: xs.rows(), inputs: xs.last(), outputs: ys.last(), precision }
}

pub(crate) fn conv1d_dims(graph: &Graph, id: Id) -> conv1d::Dims {
    let Op::Conv1d { x, w, stride, padding, dilation, .. } = graph.node(id).op else { bad(id) };
    let ([batch, length, in_channels], [out_channels, _, kernel]) = (dims3(graph, x), dims3(graph, w));
    conv1d::Dims { batch, length, in_channels, out_channels, kernel, stride, padding, dilation }
}

pub(crate) fn layer_norm_dims(graph: &Graph, id: Id) -> layer_norm::Dims {
    let (samples, rows, cols) = graph.shape(id).samples_rows_cols();
    layer_norm::Dims { samples, rows, cols }
}

pub(crate) fn softmax_dims(graph: &Graph, id: Id) -> softmax::Dims {
    let s = graph.shape(id);
    softmax::Dims { rows: s.rows(), cols: s.last() }
}

pub(crate) fn attention_dims(graph: &Graph, id: Id, precision: MatmulPrecision) -> attention::Dims {
    let Op::Attention { k, heads, head_dim, .. } = graph.node(id).op else { bad(id) };
    let ([batch, tq, _], [_, tk, _]) = (dims3(graph, id), dims3(graph, k.id));
    attention::Dims { batch, tq, tk, heads, head_dim, precision }
}

pub(crate) fn absorbed_attention_dims(graph: &Graph, id: Id) -> absorbed_attention::Dims {
    let Op::AbsorbedAttention { x, heads, head_dim, .. } = graph.node(id).op else { bad(id) };
    let ([batch, tq, _], [_, tk, width]) = (dims3(graph, id), dims3(graph, x));
    absorbed_attention::Dims { batch, tq, tk, heads, head_dim, width }
}

pub(crate) fn feed_forward_dims(graph: &Graph, id: Id, precision: MatmulPrecision) -> feed_forward::Dims {
    let Op::FeedForward { w1, .. } = graph.node(id).op else { bad(id) };
    let (samples, rows, width) = graph.shape(id).samples_rows_cols();
    feed_forward::Dims { samples, rows, width, hidden: graph.shape(w1).dims()[0], precision }
}

pub(crate) fn dropout_dims(graph: &Graph, id: Id) -> dropout::Dims {
    let (samples, rows, cols) = graph.shape(id).samples_rows_cols();
    dropout::Dims { samples, rows, cols }
}

/// Of adding or prepending rows: the input's dimensions.
pub(crate) fn rows_dims(graph: &Graph, id: Id) -> embed::Dims {
    let (Op::AddRows { x, .. } | Op::PrependRow { x, .. }) = graph.node(id).op else { bad(id) };
    let [batch, rows, cols] = dims3(graph, x);
    embed::Dims { batch, rows, cols }
}

pub(crate) fn gather_dims(graph: &Graph, id: Id) -> embed::gather_rows::Dims {
    let Op::GatherRows { x, .. } = graph.node(id).op else { bad(id) };
    let ([batch, rows, cols], [_, picks, _]) = (dims3(graph, x), dims3(graph, id));
    embed::gather_rows::Dims { batch, rows, cols, picks }
}

pub(crate) fn pool_dims(graph: &Graph, id: Id) -> pool::Dims {
    let Op::Pool { x, .. } = graph.node(id).op else { bad(id) };
    let [batch, rows, cols] = dims3(graph, x);
    pool::Dims { batch, rows, cols }
}

pub(crate) fn cross_entropy_dims(graph: &Graph, id: Id) -> losses::cross_entropy::Dims {
    let Op::CrossEntropy { logits, .. } = graph.node(id).op else { bad(id) };
    let s = graph.shape(logits);
    losses::cross_entropy::Dims { rows: s.rows(), classes: s.last() }
}

/// FLOPs of the forward and the backward pass of an operation, a multiply-add counted as two, transcendental functions
/// as one. Products are exact, a convolution counted as the sum that defines it, whichever way it is computed (see
/// [`executed_flops`]); elementwise work is counted to its order of magnitude (a few per element).
pub(crate) fn flops(graph: &Graph, id: Id) -> (u64, u64) {
    let n = graph.shape(id).elements() as u64;
    match graph.node(id).op {
        Op::Input | Op::Index { .. } | Op::Param { .. } | Op::Sinusoid | Op::Reshape { .. } => (0, 0),
        Op::Linear { .. } => {
            let d = linear_dims(graph, id, ANY);
            let product = 2 * (d.rows * d.inputs * d.outputs) as u64;
            (product + n, 2 * product + n)
        }
        Op::Conv1d { .. } => {
            let d = conv1d_dims(graph, id);
            let product = 2 * n * (d.in_channels * d.kernel) as u64;
            (product + n, 2 * product + n)
        }
        Op::Attention { .. } => {
            // Forward: q k^T and p v. Backward: both recomputed or undone: s, dp, dv, dq, dk.
            let d = attention_dims(graph, id, ANY);
            let product = 2 * (d.batch * d.heads * d.tq * d.tk * d.head_dim) as u64;
            (2 * product, 5 * product)
        }
        Op::AbsorbedAttention { .. } => {
            // Forward: scores and sum over x, into and out of its width. Backward: all but the output again, and as many
            // for the gradients.
            let d = absorbed_attention_dims(graph, id);
            let product = 2 * (d.batch * d.heads * d.tq * d.width * (d.tk + d.head_dim)) as u64;
            (2 * product, 5 * product)
        }
        Op::FeedForward { .. } => {
            let d = feed_forward_dims(graph, id, ANY);
            let product = 2 * (d.samples * d.rows * d.width * d.hidden) as u64;
            (2 * product, 4 * product)
        }
        Op::LayerNorm { .. } => (8 * n, 12 * n),
        Op::Softmax { .. } => (4 * n, 4 * n),
        Op::Activate { .. } | Op::Dropout { .. } => (4 * n, 5 * n),
        Op::Add { .. } | Op::Mul { .. } | Op::Scale { .. } | Op::AddRows { .. } | Op::PrependRow { .. } => {
            (n, 2 * n)
        }
        Op::GatherRows { .. } => (0, n),
        Op::Pool { x, .. } | Op::Reduce { x, .. } => {
            let n = graph.shape(x).elements() as u64;
            (n, n)
        }
        Op::MaskedMse { pred: x, .. }
        | Op::BceLogits { logits: x, .. }
        | Op::CrossEntropy { logits: x, .. } => {
            let n = graph.shape(x).elements() as u64;
            (5 * n, 5 * n)
        }
    }
}

/// As [`flops`], with a convolution counted as the f32 kernels execute it: fewer in the frequency domain.
pub(crate) fn executed_flops(graph: &Graph, id: Id) -> (u64, u64) {
    let Op::Conv1d { .. } = graph.node(id).op else { return flops(graph, id) };
    let n = graph.shape(id).elements() as u64;
    let (forward, backward) = conv1d::executed_flops::<f32>(conv1d_dims(graph, id));
    (forward + n, backward + n)
}
