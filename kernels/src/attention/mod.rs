//! Scaled dot-product attention of several heads, without the `[tq, tk]` matrix.
//!
//! | symbol | shape | meaning |
//! |---|---|---|
//! | q, k, v, y | `[batch, tq or tk, heads, head_dim]` | queries, keys, values, result |
//! | i, j | | a query, a key of one head of one batch element |
//! | s, p | `[tq, tk]`, never stored | scores, probabilities |
//! | m | as p | dropout multiplier: 0 or 1 / keep; 1 without dropout |
//! | lse | `[batch, heads, tq]` | log of the sum of exponentials |
//!
//! # Forward
//! ```text
//! s_ij  = scale q_i . k_j
//! lse_i = ln(sum over j of exp(s_ij))
//! p_ij  = exp(s_ij - lse_i)
//! y_i   = sum over j of m_ij p_ij v_j
//! ```
//!
//! Keys whose mask is 0 are treated as absent: they are not read. Keys are taken block by block with a running maximum M and
//! a running sum L, which a block that raises the maximum rescales:
//!
//! ```text
//! M' = max(M, max over the block of s_ij)
//! L' = L exp(M - M') + sum over the block of exp(s_ij - M')
//! y' = y exp(M - M') + sum over the block of m_ij exp(s_ij - M') v_j
//! after the last block:  y_i = y' / L',  lse_i = M' + ln L'
//! ```
//!
//! Any M from which no exponential overflows and the largest does not vanish will do. By Cauchy and Schwarz |s_ij| <= |scale|
//! |q_i| |k_j|; where that is at most 27 for a block of queries and all keys of a block, M = 0 and no maximum is looked for.
//!
//! # Derivative
//! ```text
//! D_i   = dy_i . y_i                     (= sum over j of p_ij dp_ij, dropout included)
//! dv_j  = sum over i of m_ij p_ij dy_i
//! dp_ij = m_ij dy_i . v_j
//! ds_ij = p_ij (dp_ij - D_i)
//! dq_i  = scale sum over j of ds_ij k_j
//! dk_j  = scale sum over i of ds_ij q_i
//! ```
//!
//! p is recomputed per block from lse, and dropout decisions are drawn again. Queries are taken in order, so dk and dv add up
//! in one fixed order; so do the blocks of keys, in dq.
//!
//! # Saved
//! lse.
//!
//! # Cost
//! 4 batch heads tq tk head_dim FLOPs forward, 10 backward. Scratch grows with tq (one row of head_dim per query, shared by
//! all heads), not with tk beyond a block of keys.
//!
//! # Precision
//! With [`MatmulPrecision::Bf16`] or [`MatmulPrecision::Int8`] the operands of all seven products are rounded to bf16
//! (`gemm/bf16.rs` says how); sums, scores, exponentials, lse, D and results stay f32. Rounded are: q times scale, k, v, dy
//! times 1 / keep, as they are packed; exp(s_ij - M) as they meet v; m_ij p_ij and ds_ij in the backward pass. L sums what was
//! not rounded. dk takes the operand that the scores were made of, so that it is the derivative of what was computed. In f64
//! the precision does nothing. A single query rounds what it reads in place.
//!
//! # Numerics
//! Exponents are at most 0, so no finite score overflows, or, where scores are bounded, between -27 and 27 = 39 ln 2: sums of
//! p v then overflow from |v| = 2^88 / tk on, and lose bits where all |v| are below 2^-87. An exponential errs by 2.5 ULP at
//! most. A query without any key (all masked, tk = 0), or whose scores are all -inf, has y = 0, lse = -inf and gradients 0. A
//! NaN in q reaches its row of y and no other (of the rows of its register block, at most 13, last bits may change); a NaN in
//! an unmasked key or value reaches every row of its head. A score of +inf gives NaN.
//!
//! In bf16, with S_ij = scale sum over c of |q_ic k_jc|, rounding moves a score by at most 2^-7 (1 + 2^-9) S_ij, and so p_ij
//! by a factor of exp(+-2^-6 max_j S_ij) at most; given the scores, y_i is off by at most 2^-7 (1 + 2^-9) sum over j of m_ij
//! p_ij |v_j|. Of the gradients the same holds of the magnitudes of their terms, given p and ds.
//!
//! The order of summation depends on the dimensions, the instruction set and which keys are masked, on nothing else (what the
//! exponentials are measured from also depends on the queries of a register block and the keys of a block); a row of y
//! depends on how many queries there are only as [`row_grain`] says.
//!
//! Sources: Vaswani et al. 2017 (arXiv:1706.03762); Milakov & Gimelshein 2018 (arXiv:1805.02867) for the running sum; Dao, Fu,
//! Ermon, Rudra, Re 2022 (arXiv:2205.14135) for the tiles and the backward pass. Measurements: `benches/NOTES.md`.

mod operands;
mod product;
mod reference;
mod simd;
mod softmax;
#[cfg(test)]
mod tests;

use crate::gemm::MatmulPrecision;
use crate::real::{same, same_mut};
use crate::rng::{Dropout, Key};
use crate::{Beta, Isa, Real, contract};

/// Sizes of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Independent sequences.
    pub batch: usize,
    /// Query rows of a sequence.
    pub tq: usize,
    /// Key and value rows of a sequence.
    pub tk: usize,
    /// Heads; head h owns the columns `h * head_dim ..` of every row.
    pub heads: usize,
    /// Columns of a head, at least 1.
    pub head_dim: usize,
    /// What the operands of the products are rounded to.
    pub precision: MatmulPrecision,
}

impl Dims {
    /// Columns of a row: all heads side by side.
    pub fn width(self) -> usize {
        self.heads * self.head_dim
    }

    fn check(self, op: &str) {
        contract::require(op, "head_dim must be at least 1", self.head_dim, self.head_dim >= 1);
        contract::product(op, &[self.batch, self.tq.max(self.tk), self.heads, self.head_dim]);
    }
}

/// Rows inside a larger buffer: row i begins at `i * stride + offset` and is `heads * head_dim` wide. So q, k and v may
/// be column blocks of one `[batch, t, 3 * width]` buffer.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    /// The buffer.
    pub data: &'a [T],
    /// Distance from row to row.
    pub stride: usize,
    /// Where row 0 begins.
    pub offset: usize,
}

/// Where a gradient's rows lie: as [`Rows`], in the buffer of that index. Only the rows' own columns are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GradRows {
    /// Index into the `buffers` of [`backward`].
    pub buffer: usize,
    /// Distance from row to row.
    pub stride: usize,
    /// Where row 0 begins.
    pub offset: usize,
    /// Overwrite or accumulate.
    pub beta: Beta,
}

/// Panics unless `rows` rows of `width` at this stride and offset end inside `len` elements without overlapping.
fn check_rows(op: &str, what: &str, rows: usize, width: usize, stride: usize, offset: usize, len: usize) {
    if rows == 0 || width == 0 {
        return;
    }
    contract::require(
        op,
        "rows must not overlap: stride is less than the width",
        stride,
        rows == 1 || stride >= width,
    );
    let end = (rows - 1).checked_mul(stride).and_then(|n| n.checked_add(offset)?.checked_add(width));
    contract::at_least(op, what, end.unwrap_or(usize::MAX), len);
}

/// Elements of `saved`: the log-sum-exp `[batch, heads, tq]`.
pub fn saved_len(d: Dims) -> usize {
    contract::product("attention", &[d.batch, d.heads, d.tq])
}

/// Elements of `scratch` that [`forward`] and [`backward`] need (one size for both). In f32 it is `tq * (head_dim in whole
/// panels of 32 + 2)` and a part that does not depend on tq or tk once they reach a tile; in f64 it is `2 * tk`.
pub fn scratch_len<T: Real>(d: Dims) -> usize {
    if T::IS_F32 { simd::scratch_len(d) } else { reference::scratch_len(d) }
}

/// Queries may be split between calls at multiples of this: a call with a part of them (q and y from that row on, a
/// smaller tq) gives the bits that a call with all of them gives. With dropout the rows are numbered from the part's
/// own beginning, so it is inference that may be split.
pub fn row_grain() -> usize {
    simd::GRAIN
}

/// Pieces of packed keys and values, see [`pack_keys`]: one for each block of keys of each head of each sequence. 0 in
/// f64, where nothing is packed.
///
/// # Panics
/// If the product overflows.
pub fn key_pieces<T: Real>(d: Dims) -> usize {
    let blocks = if T::IS_F32 { simd::blocks(d.tk) } else { 0 };
    contract::product("attention", &[d.batch, d.heads, blocks])
}

/// Elements of a piece, whole cache lines.
///
/// # Panics
/// If the product overflows.
pub fn key_piece_len(d: Dims) -> usize {
    simd::piece_len(d)
}

crate::compiled::compiled! {
    /// Packs one of [`key_pieces`] for calls of [`forward_packed`] on the same instruction set with the same keys, values and
    /// mask, whatever their queries: calls that share the work of one attention would each pack all keys. `out`:
    /// [`key_piece_len`] elements, which are read faster from a cache line on.
    ///
    /// # Panics
    /// If a length does not fit `d`, or there is no such piece.
    pub fn pack_keys<T>(
        isa: Isa,
        d: Dims,
        k: Rows<'_, T>,
        v: Rows<'_, T>,
        mask: Option<&[T]>,
        piece: usize,
        out: &mut [T],
    ) as PackKeysEntry {
        const OP: &str = "attention pack_keys";
        // No query is read.
        let d = Dims { tq: 0, ..d };
        check_inputs(OP, d, k, k, v, mask);
        contract::require(OP, "no such piece", piece, piece < key_pieces::<T>(d));
        contract::len(OP, "out", key_piece_len(d), out.len());
        let inputs = Inputs { d, scale: 1.0, q: k, k, v, mask, dropout: Dropout::NONE, key: Key::default() };
        let body = simd::PackKeys { inputs: inputs.as_f32(), piece, out: same_mut(out) };
        product::run(isa, d.precision, body);
    }
}

crate::compiled::compiled! {
    /// y = attention(q, k, v).
    ///
    /// q has `batch * tq` rows, k and v `batch * tk`; `mask` `[batch, tk]` is 1 where a key is kept and 0 where it is
    /// dropped; y `[batch, tq, heads * head_dim]`; `saved` [`saved_len`] elements or empty (inference); `scratch`
    /// [`scratch_len`]. Dropout of element (i, j) of head h of sequence n uses `key.sample(n)`, row `h * tq + i`, index j.
    ///
    /// # Panics
    /// If a length does not fit `d`.
    pub fn forward<T>(
        isa: Isa,
        d: Dims,
        scale: f64,
        q: Rows<'_, T>,
        k: Rows<'_, T>,
        v: Rows<'_, T>,
        mask: Option<&[T]>,
        dropout: Dropout,
        key: Key,
        y: &mut [T],
        saved: &mut [T],
        scratch: &mut [T],
    ) as ForwardEntry {
        forward_packed(isa, d, scale, q, k, v, mask, dropout, key, &[], y, saved, scratch);
    }
}

crate::compiled::compiled! {
    /// As [`forward`], to the bit, with all pieces that [`pack_keys`] makes, one after the other, in `packed` (empty: they are
    /// made in scratch).
    ///
    /// # Panics
    /// As [`forward`].
    pub fn forward_packed<T>(
        isa: Isa,
        d: Dims,
        scale: f64,
        q: Rows<'_, T>,
        k: Rows<'_, T>,
        v: Rows<'_, T>,
        mask: Option<&[T]>,
        dropout: Dropout,
        key: Key,
        packed: &[T],
        y: &mut [T],
        saved: &mut [T],
        scratch: &mut [T],
    ) as ForwardPackedEntry {
        const OP: &str = "attention";
        check_inputs(OP, d, q, k, v, mask);
        if !packed.is_empty() {
            contract::len(OP, "packed", key_pieces::<T>(d) * key_piece_len(d), packed.len());
        }
        contract::len(OP, "y", d.batch * d.tq * d.width(), y.len());
        if !saved.is_empty() {
            contract::len(OP, "saved", saved_len(d), saved.len());
        }
        contract::at_least(OP, "scratch", scratch_len::<T>(d), scratch.len());
        let inputs = Inputs { d, scale, q, k, v, mask, dropout, key };
        if T::IS_F32 {
            let inputs = inputs.as_f32();
            let (y, saved, scratch) = (same_mut(y), same_mut(saved), same_mut(scratch));
            let body = simd::Forward { inputs, packed: same(packed), y, saved, scratch };
            product::run(isa, d.precision, body);
        } else {
            reference::forward(&inputs, y, saved, scratch);
        }
    }
}

/// [`forward`] by the readable loop in either precision, for comparison; `scratch` needs `2 * tk` elements.
///
/// # Panics
/// As [`forward`].
pub fn forward_reference<T: Real>(
    d: Dims,
    scale: f64,
    q: Rows<'_, T>,
    k: Rows<'_, T>,
    v: Rows<'_, T>,
    mask: Option<&[T]>,
    dropout: Dropout,
    key: Key,
    y: &mut [T],
    saved: &mut [T],
    scratch: &mut [T],
) {
    const OP: &str = "attention reference";
    check_inputs(OP, d, q, k, v, mask);
    contract::len(OP, "y", d.batch * d.tq * d.width(), y.len());
    contract::at_least(OP, "scratch", reference::scratch_len(d), scratch.len());
    reference::forward(&Inputs { d, scale, q, k, v, mask, dropout, key }, y, saved, scratch);
}

crate::compiled::compiled! {
    /// The gradients of [`forward`], from the same inputs, its y and its `saved`.
    ///
    /// dy is laid out as y. Each wanted gradient names its place in `buffers`; gradients may share a buffer if their columns
    /// do not overlap.
    ///
    /// # Panics
    /// If a length does not fit `d` or a gradient names a buffer that is not there.
    pub fn backward<T>(
        isa: Isa,
        d: Dims,
        scale: f64,
        q: Rows<'_, T>,
        k: Rows<'_, T>,
        v: Rows<'_, T>,
        mask: Option<&[T]>,
        dropout: Dropout,
        key: Key,
        y: &[T],
        saved: &[T],
        dy: &[T],
        buffers: &mut [&mut [T]],
        dq: Option<GradRows>,
        dk: Option<GradRows>,
        dv: Option<GradRows>,
        scratch: &mut [T],
    ) as BackwardEntry {
        const OP: &str = "attention backward";
        check_inputs(OP, d, q, k, v, mask);
        contract::len(OP, "y", d.batch * d.tq * d.width(), y.len());
        contract::len(OP, "dy", y.len(), dy.len());
        contract::len(OP, "saved", saved_len(d), saved.len());
        contract::at_least(OP, "scratch", scratch_len::<T>(d), scratch.len());
        for (what, grad, t) in [("dq", dq, d.tq), ("dk", dk, d.tk), ("dv", dv, d.tk)] {
            let Some(g) = grad else { continue };
            contract::require(
                OP,
                "a gradient's buffer index is out of range",
                g.buffer,
                g.buffer < buffers.len(),
            );
            check_rows(OP, what, d.batch * t, d.width(), g.stride, g.offset, buffers[g.buffer].len());
        }
        let inputs = Inputs { d, scale, q, k, v, mask, dropout, key };
        if T::IS_F32 {
            let inputs = inputs.as_f32();
            let (y, saved, dy, scratch) = (same(y), same(saved), same(dy), same_mut(scratch));
            let body = simd::Backward { inputs, y, saved, dy, buffers, dq, dk, dv, scratch };
            product::run(isa, d.precision, body);
        } else {
            for (g, t) in [(dq, d.tq), (dk, d.tk), (dv, d.tk)] {
                let Some(g) = g.filter(|g| g.beta == Beta::Zero) else { continue };
                for row in 0..d.batch * t {
                    buffers[g.buffer][row * g.stride + g.offset..][..d.width()].fill(T::ZERO);
                }
            }
            reference::backward(&inputs, y, saved, dy, buffers, dq, dk, dv, scratch);
        }
    }
}

fn check_inputs<T: Real>(
    op: &str,
    d: Dims,
    q: Rows<'_, T>,
    k: Rows<'_, T>,
    v: Rows<'_, T>,
    mask: Option<&[T]>,
) {
    d.check(op);
    check_rows(op, "q", d.batch * d.tq, d.width(), q.stride, q.offset, q.data.len());
    check_rows(op, "k", d.batch * d.tk, d.width(), k.stride, k.offset, k.data.len());
    check_rows(op, "v", d.batch * d.tk, d.width(), v.stride, v.offset, v.data.len());
    if let Some(mask) = mask {
        contract::len(op, "mask", d.batch * d.tk, mask.len());
    }
}

/// What forward and backward both read.
#[derive(Clone, Copy)]
struct Inputs<'a, T> {
    d: Dims,
    scale: f64,
    q: Rows<'a, T>,
    k: Rows<'a, T>,
    v: Rows<'a, T>,
    mask: Option<&'a [T]>,
    dropout: Dropout,
    key: Key,
}

impl<'a, T: Real> Inputs<'a, T> {
    fn as_f32(self) -> Inputs<'a, f32> {
        let rows = |r: Rows<'a, T>| Rows { data: same(r.data), stride: r.stride, offset: r.offset };
        Inputs {
            d: self.d,
            scale: self.scale,
            q: rows(self.q),
            k: rows(self.k),
            v: rows(self.v),
            mask: self.mask.map(same),
            dropout: self.dropout,
            key: self.key,
        }
    }

    /// Whether key `j` of sequence `n` takes part.
    #[inline(always)]
    fn keeps(&self, n: usize, j: usize) -> bool {
        self.mask.is_none_or(|m| m[n * self.d.tk + j] != T::ZERO)
    }
}
