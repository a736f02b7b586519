//! Scaled dot-product attention of several heads, without the `[tq, tk]` matrix.
//!
//! For every batch element and head, with query rows q_i, key rows k_j, value rows v_j of `head_dim` elements:
//!
//! s_ij = scale q_i . k_j, p_ij = exp(s_ij) / sum_k exp(s_ik), y_i = sum_j m_ij p_ij v_j
//!
//! where m_ij is the dropout multiplier (0 or 1 / keep; 1 without dropout). Keys whose mask is 0 are treated as absent:
//! they are not read, so neither their content nor their number matters.
//!
//! # Forward
//! The keys are taken block by block with a running maximum M_i and a running sum L_i = sum exp(s_ij - M_i); when a block
//! raises the maximum, what was accumulated is multiplied by exp(M_old - M_new). Saved is the log of the sum,
//! lse_i = M_i + ln L_i, one number per query, from which p_ij = exp(s_ij - lse_i) can be had again.
//!
//! Any M_i will do from which no exponential overflows and the largest does not vanish. By Cauchy and Schwarz, |s_ij| is at
//! most |scale| |q_i| |k_j|; where that is at most 27 for a block of queries and all keys of a block, M_i is 0, and the
//! largest score is not looked for.
//!
//! # Backward
//! With D_i = dy_i . y_i (which equals sum_j p_ij dp_ij, dropout included):
//!
//! dv_j = sum_i m_ij p_ij dy_i; dp_ij = m_ij dy_i . v_j; ds_ij = p_ij (dp_ij - D_i);
//! dq_i = scale sum_j ds_ij k_j; dk_j = scale sum_i ds_ij q_i.
//!
//! The probabilities are recomputed per block. Queries are taken in order, so dk and dv add up in one fixed order; so do
//! the blocks of keys, in dq.
//!
//! # The vector bodies
//! What each deviation from the readable loop buys:
//!
//! * *Packed operands, register blocks.* All products are those of a packed GEMM (`product.rs`). A block of 256 keys (the
//!   last up to 320) is packed once per head, and all queries pass it; k and v are transposed in registers on the way.
//!   On AVX-512 a block of 14 queries has its scores, softmax and values' sum done while its probabilities are in the
//!   first-level cache.
//! * *Rows of keys.* The scores lie with keys as lanes, as Philox deals its decisions and as both kinds of product want
//!   them (by rows and by columns), so nothing is transposed or gathered between products.
//! * *Powers of 2.* In f32 the queries of the scores are packed with scale / ln 2, so that an exponential is
//!   [`crate::vmath::exp2_nonpositive`], without a reduction by ln 2; dk takes queries packed with scale alone. lse stays a
//!   natural logarithm. The factor 1 / keep of dropout is applied to y and dy, not to every probability.
//! * *Bounded scores* (above): no pass for the largest score, no difference, no end of the range to look after, 11
//!   instructions for [`crate::vmath::exp2_bounded`] in place of 18. The keys' squares are summed where they are transposed
//!   in registers, lane by lane, and cost nothing; for the queries the sum of the lanes' largest sums stands, which is up to
//!   three times the largest square at head_dim 32 and twice at 128. With the powers of 2 it takes 6 to 9 % off the forward
//!   pass at head_dim 32 and 2 % at 128. In bf16 and with rounded operands it gained nothing.
//! * *The end of a row* of keys is blended in a register: written to the row before it is read, the compiler makes it a
//!   masked store, which the load that follows waits for. One check for all rows of a register block's C where their length
//!   is a constant keeps 28 comparisons from between its stores. Both together take 2 to 7 % off every pass at head_dim 32.
//! * *One pass.* A row's decisions, exponentials, sum and words (in the backward pass: p, ds and their words) are made
//!   two vectors at a time, in registers, instead of in one pass each, and rows share the first rounds of Philox
//!   ([`crate::rng::Stream::places`]). Both together take 4 % off the forward pass of 1281 x 1281, 2 x 128 with dropout and
//!   15 % off 161 x 161, 4 x 32 (in bf16 9 and 22 %), 2 and 7 % off the backward pass (5 and 13 %).
//! * *Rows together.* The largest scores, the sums and D_i of a block's rows are reduced together
//!   ([`Simd::fold_lanes`](crate::isa::Simd::fold_lanes)), and the vector that ends a row is completed and stored in one
//!   go: at 161 x 161, 4 x 32 the bookkeeping of a row takes 40 cycles in place of 85, 7 %
//!   of the forward pass.
//! * *Decisions* are drawn again in the backward pass. Saving them as bits would cost batch heads tq tk / 8 bytes (410 kB
//!   at 1281 x 1281 x 2), memory that grows with the square, to save at most 2 % of the backward pass (7 % at 161).
//! * *Shared keys.* Calls that each take a part of the queries may share keys and values packed once ([`pack_keys`]): with
//!   eight parts on two threads one window's attention takes 3.97 ms in place of 4.2 (7.6 on one thread; two cores of an
//!   AMD EPYC (Zen 5) VM, 1281 x 1281, 2 x 128).
//! * *Few queries.* One or two queries past a multiple of [`row_grain`] are done one at a time, reading k and v in place:
//!   the class row of a pruned last layer is bound by reading them (22 GB/s here).
//!
//! # bf16
//! With [`MatmulPrecision::Bf16`], or [`MatmulPrecision::Int8`], the operands of all seven products are rounded to bf16
//! (`gemm/bf16.rs` says how), and sums, scores, exponentials, lse, D and results stay f32. Rounded are: q times scale,
//! k, v, dy times 1 / keep, as they are packed; the exponentials exp(s_ij - M_i) as they meet v; m_ij p_ij and ds_ij in
//! the backward pass. L_i sums what was not rounded. scale is applied before the rounding: that costs nothing where q
//! is packed anyway, a rounded scaled q is as near as a scaled rounded one, and dk takes the operand that the scores
//! were made of, so that it is the derivative of what was computed.
//!
//! The bodies are the same; `operands.rs` says what a word of an operand is. With the CPU's dot products
//! ([`Isa::bf16_dot`]) it holds two elements that are neighbours along the sum: along head_dim in the scores (k and v are
//! rounded first and transposed as words), across two keys in P V and dS K, across two queries in P^T dY and dS^T Q, for
//! which the backward pass makes words of P and dS twice. An odd number is filled up with 0. Elsewhere a word is one
//! rounded element, kept as f32. A single query rounds what it reads in place. In f64 the precision does nothing.
//!
//! Tiles of 224 queries, the bytes of 112 in f32, gain nothing.
//!
//! # Cost
//! 4 batch heads tq tk head_dim FLOPs forward, 10 backward. Scratch grows with tq (one row of head_dim per query, shared
//! by all heads), not with tk beyond a block of keys: 2.1 MB at 1281 x 1281 x 128, 12 MB at 20,481.
//!
//! Measured in ms, median of three runs, before (tiles of 48 queries by 128 keys, nothing packed) and after; in brackets the
//! share of 180 GFLOP/s. `cargo bench -p heartlore-kernels --bench kernels -- attention` on two cores of an Intel Emerald
//! Rapids VM (AVX-512, 180 GFLOP/s FMA peak on one thread), one thread, batch 1; "drop" with dropout 0.1.
//!
//! | tq x tk, heads x head_dim | forward | backward | forward, drop | backward, drop |
//! |---|---|---|---|---|
//! | 1281 x 1281, 2 x 128 | 15.0, 11.6 (81 %) | 35.8, 28.7 (81 %) | 18.6, 12.4 (76 %) | 40.1, 30.3 (77 %) |
//! | 640 x 1281, 2 x 128 | 5.77 (81 %) | 14.7 (79 %) | 6.27 (74 %) | 15.3 (76 %) |
//! | 128 x 1281, 2 x 128 | 1.45, 1.38 | 3.79, 3.42 | 1.85, 1.45 | 4.23, 3.53 |
//! | 16 x 1281, 2 x 128 | 0.31, 0.39 | 0.91, 0.95 | 0.35, 0.40 | 0.95, 0.96 |
//! | 1 x 1281, 2 x 128 | 0.30, 0.12 | 0.79, 0.69 | 0.32, 0.12 | 0.80, 0.69 |
//! | 161 x 161, 4 x 32 | 0.146 (51 %) | 0.299 (62 %) | 0.191 (39 %) | 0.355 (52 %) |
//! | 81 x 81, 2 x 32 | 0.025 (38 %) | 0.047 (50 %) | 0.031 (31 %) | 0.055 (43 %) |
//!
//! In bf16, beside f32 on the same machine: two cores of an AMD EPYC (Zen 5) VM, AVX-512, one thread (267 GFLOP/s of FMA
//! and 490 of dot products), the best of three runs; in brackets the share of each one's own peak.
//!
//! | tq x tk, heads x head_dim | forward f32, bf16 | backward f32, bf16 | forward, drop | backward, drop |
//! |---|---|---|---|---|
//! | 1281 x 1281, 2 x 128 | 7.40 (85 %), 4.01 (86 %) | 18.2 (87 %), 9.94 (86 %) | 7.79, 4.38 (78 %) | 18.4, 10.3 (83 %) |
//! | 640 x 1281, 2 x 128 | 3.76, 2.03 (84 %) | 9.27, 5.10 (84 %) | 3.91, 2.23 | 9.46, 5.31 |
//! | 128 x 1281, 2 x 128 | 0.83, 0.47 | 2.04, 1.16 | 0.87, 0.50 | 2.07, 1.21 |
//! | 16 x 1281, 2 x 128 | 0.20, 0.12 | 0.45, 0.29 | 0.20, 0.13 | 0.46, 0.30 |
//! | 1 x 1281, 2 x 128 | 0.036, 0.036 | 0.29, 0.21 | 0.037, 0.037 | 0.29, 0.21 |
//! | 161 x 161, 4 x 32 | 0.076 (65 %), 0.055 | 0.175 (71 %), 0.114 | 0.086 (58 %), 0.063 | 0.187 (66 %), 0.126 |
//! | 81 x 81, 2 x 32 | 0.012 (53 %), 0.0095 | 0.027 (59 %), 0.019 | 0.013 (47 %), 0.011 | 0.028 (56 %), 0.020 |
//!
//! Rounded operands without dot products cost up to 3 % at head_dim 128 and 10 % at 32 over f32.
//!
//! Where it is weak: a few queries pay for packing all keys and values, so that 16 are slower than before; the backward
//! pass of one query still packs. And head_dim 32: forward, 16 scores take 64 multiply-adds of vectors (32 in the scores, 32
//! in P V), 32 cycles at two a cycle, and the rest is of the same order. Cycles for 16 scores forward in f32, by the
//! samples of a profile on that machine (4.17 GHz), each with the functions it stands in:
//!
//! | part | 161 x 161, 4 x 32 | 81 x 81, 2 x 32 |
//! |---|---|---|
//! | multiply-adds and C's blocks; of them for lanes and rows past the end | 34 (1.5) | 39 (4.2) |
//! | exponentials and their sum, 12 instructions for a vector | 6 | 6 |
//! | the bound of the scores | 1 | 2 |
//! | packing q, k, v | 4 | 9 |
//! | y, ln, calls | 3 | 5 |
//! | decisions, with dropout | 6 | 7 |
//!
//! The products run near the peak, so 58 % of it with dropout at 161 and 47 % at 81 are about the share of products among
//! the instructions. The last key of 161 or 81 takes a vector of its own; its scores as dot products along head_dim gained
//! nothing. Tried and not kept: lengths of keys and queries summed in passes of their own, each query's lanes folded (takes
//! what the bound saves); the bound in bf16; a loop over the two vectors of a pair in place of both written out (5 %).
//!
//! # Numerics
//! Exponents are at most 0, so no finite score overflows, or, where scores are bounded, between -27 and 27 = 39 ln 2: sums
//! of p v then overflow from |v| = 2^88 / tk on, and lose bits where all |v| are below 2^-87. An exponential errs by
//! 2.5 ULP at most. A query without any key (all masked, tk = 0), or whose scores
//! are all -inf, has y = 0, lse = -inf and gradients 0. A NaN in q reaches the row of y it belongs to and no other (of the
//! rows of its register block, at most 13, last bits may change: their exponentials are measured from the largest);
//! a NaN in an unmasked key or value reaches every row of its head. A score of +inf gives NaN.
//! In bf16, beside what f32 errs: with S_ij = scale sum_c |q_ic k_jc|, rounding moves a score by at most 2^-7 (1 + 2^-9)
//! S_ij, and so p_ij by a factor of exp(+-2^-6 max_j S_ij) at most; given the scores, y_i is off by at most 2^-7 (1 + 2^-9)
//! sum_j m_ij p_ij |v_j|, half of it from the exponentials and half from v. Of the gradients the same holds of the
//! magnitudes of their terms, given p and ds. The tests hold every body to these formulas on rounded operands in f64 (at
//! most 2.6e-4 apart as vectors: an exponential whose last bits differ may round to the next bf16), and what rounding
//! exponentials and ds adds to its bound of 2^-8 of the terms.
//! The order of summation depends on the dimensions, the instruction set and which keys are masked, on nothing else (what
//! the exponentials are measured from also depends on the queries of a register block and the keys of a block); a row of y
//! depends on how many queries there are only as [`row_grain`] says.
//!
//! Sources: Vaswani et al. 2017 (arXiv:1706.03762); Milakov & Gimelshein 2018 (arXiv:1805.02867) for the running sum;
//! Dao, Fu, Ermon, Rudra, Re 2022 (arXiv:2205.14135) for the tiles and the backward pass.

mod operands;
mod product;
mod reference;
mod simd;
mod softmax;
#[cfg(test)]
mod tests;

use crate::gemm::MatmulPrecision;
use crate::real::{is_f32, same, same_mut};
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
    if is_f32::<T>() { simd::scratch_len(d) } else { reference::scratch_len(d) }
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
    let blocks = if is_f32::<T>() { simd::blocks(d.tk) } else { 0 };
    contract::product("attention", &[d.batch, d.heads, blocks])
}

/// Elements of a piece, whole cache lines.
///
/// # Panics
/// If the product overflows.
pub fn key_piece_len(d: Dims) -> usize {
    simd::piece_len(d)
}

/// Packs one of [`key_pieces`] for calls of [`forward_packed`] on the same instruction set with the same keys, values and
/// mask, whatever their queries: calls that share the work of one attention would each pack all keys. `out`:
/// [`key_piece_len`] elements, which are read faster from a cache line on.
///
/// # Panics
/// If a length does not fit `d`, or there is no such piece.
pub fn pack_keys<T: Real>(
    isa: Isa,
    d: Dims,
    k: Rows<'_, T>,
    v: Rows<'_, T>,
    mask: Option<&[T]>,
    piece: usize,
    out: &mut [T],
) {
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

/// y = attention(q, k, v).
///
/// q has `batch * tq` rows, k and v `batch * tk`; `mask` `[batch, tk]` is 1 where a key is kept and 0 where it is
/// dropped; y `[batch, tq, heads * head_dim]`; `saved` [`saved_len`] elements or empty (inference); `scratch`
/// [`scratch_len`]. Dropout of element (i, j) of head h of sequence n uses `key.sample(n)`, row `h * tq + i`, index j.
///
/// # Panics
/// If a length does not fit `d`.
pub fn forward<T: Real>(
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
) {
    forward_packed(isa, d, scale, q, k, v, mask, dropout, key, &[], y, saved, scratch);
}

/// As [`forward`], to the bit, with all pieces that [`pack_keys`] makes, one after the other, in `packed` (empty: they are
/// made in scratch).
///
/// # Panics
/// As [`forward`].
pub fn forward_packed<T: Real>(
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
) {
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
    if is_f32::<T>() {
        let inputs = inputs.as_f32();
        let (y, saved, scratch) = (same_mut(y), same_mut(saved), same_mut(scratch));
        let body = simd::Forward { inputs, packed: same(packed), y, saved, scratch };
        product::run(isa, d.precision, body);
    } else {
        reference::forward(&inputs, y, saved, scratch);
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

/// The gradients of [`forward`], from the same inputs, its y and its `saved`.
///
/// dy is laid out as y. Each wanted gradient names its place in `buffers`; gradients may share a buffer if their columns
/// do not overlap.
///
/// # Panics
/// If a length does not fit `d` or a gradient names a buffer that is not there.
pub fn backward<T: Real>(
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
) {
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
    if is_f32::<T>() {
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
