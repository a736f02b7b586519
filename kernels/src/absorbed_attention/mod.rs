//! Attention of a few queries on keys and values that are never computed: their projections are absorbed.
//!
//! | symbol | shape | meaning |
//! |---|---|---|
//! | q, y | `[batch, tq, heads, head_dim]` | queries (projected), result |
//! | x | `[batch, tk, width]` | rows that keys and values are projections of |
//! | W_K, W_V | `[head_dim, width]` per head | projections of keys and values |
//! | b_V | `[head_dim]` per head | bias of the values |
//! | m | `[tq, tk]` per head | dropout multiplier: 0 or 1 / keep, drawn as in [`crate::attention`] |
//!
//! A score is q . W_K x_j = (W_K^T q) . x_j, and a weighted sum of values is W_V times the weighted sum of the rows: with few
//! queries it is cheaper to bring the queries to the rows than the rows to the queries. The result is the same; only the
//! order of the sums differs.
//!
//! # Forward
//! ```text
//! u_i  = W_K^T q_i
//! s_ij = scale u_i . x_j
//! p_ij = exp(s_ij) / sum over k of exp(s_ik)
//! c_i  = sum over j of m_ij p_ij x_j
//! w_i  = sum over j of m_ij p_ij
//! y_i  = W_V c_i + w_i b_V
//! ```
//!
//! b_K adds q_i . b_K to all scores of a query alike, which the softmax does not see: it is not read. Keys whose mask is 0 are
//! treated as absent.
//!
//! # Derivative
//! ```text
//! dc_i  = W_V^T dy_i
//! D_i   = c_i . dc_i + w_i b_V . dy_i          (= sum over j of p_ij dp_ij)
//! dp_ij = m_ij (x_j . dc_i + b_V . dy_i)
//! ds_ij = p_ij (dp_ij - D_i)
//! dx_j  = sum over h, i of m_ij p_ij dc_i + scale ds_ij u_i
//! du_i  = scale sum over j of ds_ij x_j
//! dq_i  = W_K du_i
//! dW_K += sum over i of q_i du_i^T
//! dW_V += sum over i of dy_i c_i^T
//! db_V += sum over i of w_i dy_i
//! db_K  = 0 exactly
//! ```
//!
//! # Saved
//! c_i, w_i and the log of the sum lse_i, from which p_ij = exp(s_ij - lse_i) is computed again.
//!
//! # Cost
//! 4 batch tq heads width (tk + head_dim) FLOPs forward, 10 backward. Projecting first costs 4 batch tk width heads head_dim
//! forward and twice that backward, beside the attention's own 4 and 10 batch heads tq tk head_dim. [`pays`] compares the
//! two. Scratch grows with tq heads width, saved data with batch times that; neither with tk.
//!
//! # Numerics
//! Operands are never rounded to bf16: a few queries are bound by reading the rows, which are f32. Exponents are at most 0, so
//! no finite score overflows. A query without any key has y = 0, lse = -inf and gradients 0. A NaN in q reaches its head's
//! part of its row of y and no other; a NaN or an infinity in an unmasked row of x reaches every row of y. The order of
//! summation depends on the dimensions, the instruction set and which keys are masked; without dropout a row of y does not
//! depend on the number of queries.
//!
//! Source: DeepSeek-AI 2024, "DeepSeek-V2" (arXiv:2405.04434), section 2.1.2, absorbs the up-projections of compressed keys
//! and values in this way; here they are the only projections, and the derivative is added. Measurements: `benches/NOTES.md`.

mod reference;
mod simd;
#[cfg(test)]
mod tests;

use crate::real::{same, same_mut};
use crate::rng::{Dropout, Key};
use crate::{GradMut, Isa, Real, contract};
use std::ops::Range;

/// Sizes of an absorbed attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Independent sequences.
    pub batch: usize,
    /// Query rows of a sequence.
    pub tq: usize,
    /// Rows of x of a sequence: one key and one value each.
    pub tk: usize,
    /// Heads; head h owns the columns `h * head_dim ..` of every query.
    pub heads: usize,
    /// Columns of a head, at least 1.
    pub head_dim: usize,
    /// Columns of x, at least 1.
    pub width: usize,
}

impl Dims {
    /// Columns of a query: all heads side by side.
    pub fn inner(self) -> usize {
        self.heads * self.head_dim
    }

    /// Queries of a sequence, each head's counted.
    fn queries(self) -> usize {
        self.heads * self.tq
    }

    fn check(self, op: &str) {
        contract::require(op, "head_dim must be at least 1", self.head_dim, self.head_dim >= 1);
        contract::require(op, "width must be at least 1", self.width, self.width >= 1);
        contract::product(op, &[self.batch, self.tk, self.width]);
        contract::product(op, &[2, self.heads, self.head_dim, self.width]);
        contract::product(op, &[self.batch, self.heads, self.tq, self.head_dim.max(self.width + 2)]);
    }
}

/// How much faster per FLOP the packed products of projection and attention are than this kernel's loops (measured).
const PACKED: f64 = 2.0;

/// Whether a training step is expected to take less time this way than by a joint projection and attention: a
/// comparison of FLOPs, forward and backward, with this kernel's counted twice as dear. For one query the two
/// differ by a factor of about `head_dim`.
pub fn pays(d: Dims) -> bool {
    let [tq, tk, heads, head_dim, width] = [d.tq, d.tk, d.heads, d.head_dim, d.width].map(|n| n as f64);
    let absorbed = 14.0 * tq * heads * width * (tk + head_dim);
    let projected = (12.0 * width + 14.0 * tq) * tk * heads * head_dim;
    PACKED * absorbed <= projected
}

/// Elements of `saved`: lse and w `[batch, heads, tq]` each, c `[batch, heads, tq, width]`.
///
/// # Panics
/// If the product overflows.
pub fn saved_len(d: Dims) -> usize {
    d.check("absorbed attention");
    contract::product("absorbed attention", &[d.batch, d.queries(), d.width + 2])
}

/// Elements of `scratch` that [`forward`] and [`backward`] need (one size for both).
///
/// # Panics
/// If a product overflows.
pub fn scratch_len<T: Real>(d: Dims) -> usize {
    d.check("absorbed attention");
    if T::IS_F32 { simd::scratch_len(d) } else { reference::scratch_len(d) }
}

crate::compiled::compiled! {
    /// y = attention(q, W_K x + b_K, W_V x + b_V).
    ///
    /// q `[batch, tq, heads * head_dim]`, already projected; x `[batch, tk, width]`; w `[2 * heads * head_dim,
    /// width]`: the rows of W_K, then those of W_V; b `[2 * heads * head_dim]` alike, or None for zeros; `mask`
    /// `[batch, tk]` is 1 where a key is kept and 0 where it is dropped; y as q; `saved` [`saved_len`] elements
    /// or empty (inference); `scratch` [`scratch_len`]. Dropout of element (i, j) of head h of sequence n uses
    /// `key.sample(n)`, row `h * tq + i`, index j.
    ///
    /// # Panics
    /// If a length does not fit `d`.
    pub fn forward<T>(
        isa: Isa,
        d: Dims,
        scale: f64,
        q: &[T],
        x: &[T],
        w: &[T],
        b: Option<&[T]>,
        mask: Option<&[T]>,
        dropout: Dropout,
        key: Key,
        y: &mut [T],
        saved: &mut [T],
        scratch: &mut [T],
    ) as ForwardEntry {
        const OP: &str = "absorbed attention";
        let f = Inputs { d, scale, q, x, w, b, mask, dropout, key };
        f.check_forward(OP, y, saved, scratch, scratch_len::<T>(d));
        if T::IS_F32 {
            let (y, saved, scratch) = (same_mut(y), same_mut(saved), same_mut(scratch));
            isa.run(simd::Forward { inputs: f.as_f32(), y, saved, scratch });
        } else {
            reference::forward(&f, y, saved, scratch);
        }
    }
}

/// Sections of keys that threads may share for a single query without dropout, see [`absorb_query`]. 0 where there are
/// none: in f64, for several queries, and for no keys.
pub fn sections<T: Real>(d: Dims) -> usize {
    if T::IS_F32 && d.batch == 1 && d.tq == 1 { simd::sections(d) } else { 0 }
}

/// Elements of the sums of a section.
///
/// # Panics
/// If a product overflows.
pub fn sums_len(d: Dims) -> usize {
    simd::sums_len(d)
}

crate::compiled::compiled! {
    /// The first of three steps of [`forward`], each of parts that may be computed in any order and at once, with the bits that
    /// [`forward`] gives, where there are [`sections`]: u `[heads, width]` of some heads.
    ///
    /// # Panics
    /// If a size does not fit, or there are no sections.
    pub fn absorb_query<T>(
        isa: Isa,
        d: Dims,
        scale: f64,
        q: &[T],
        x: &[T],
        w: &[T],
        heads: Range<usize>,
        u: &mut [T],
    ) as AbsorbQueryEntry {
        const OP: &str = "absorbed attention of a query";
        let f = Inputs::of_query(OP, d, scale, q, x, w);
        contract::require(OP, "heads must be there", heads.end, heads.end <= d.heads);
        contract::len(OP, "u", heads.len() * d.width, u.len());
        isa.run(simd::Queries { inputs: f.as_f32(), heads, u: same_mut(u) });
    }
}

crate::compiled::compiled! {
    /// The second step: `sums`, [`sums_len`] elements, of one of the [`sections`] from all of u; `scratch` as for [`forward`].
    ///
    /// # Panics
    /// As [`absorb_query`].
    pub fn attend_section<T>(
        isa: Isa,
        d: Dims,
        q: &[T],
        x: &[T],
        w: &[T],
        mask: Option<&[T]>,
        u: &[T],
        section: usize,
        sums: &mut [T],
        scratch: &mut [T],
    ) as AttendSectionEntry {
        const OP: &str = "absorbed attention to a section";
        let f = Inputs { mask, ..Inputs::of_query(OP, d, 1.0, q, x, w) };
        f.check(OP);
        contract::require(OP, "there are fewer sections", section, section < sections::<T>(d));
        contract::len(OP, "u", d.heads * d.width, u.len());
        contract::len(OP, "sums", sums_len(d), sums.len());
        contract::at_least(OP, "scratch", scratch_len::<T>(d), scratch.len());
        let (u, sums, scratch) = (same(u), same_mut(sums), same_mut(scratch));
        isa.run(simd::Section { inputs: f.as_f32(), section, u, sums, scratch });
    }
}

crate::compiled::compiled! {
    /// The third step: y of some heads from the sums of all sections in order; `scratch` as for [`forward`].
    ///
    /// # Panics
    /// As [`absorb_query`].
    pub fn values_of_sections<T>(
        isa: Isa,
        d: Dims,
        q: &[T],
        x: &[T],
        w: &[T],
        b: Option<&[T]>,
        sums: &[T],
        heads: Range<usize>,
        y: &mut [T],
        scratch: &mut [T],
    ) as ValuesOfSectionsEntry {
        const OP: &str = "absorbed attention from sections";
        let f = Inputs { b, ..Inputs::of_query(OP, d, 1.0, q, x, w) };
        f.check(OP);
        contract::require(OP, "heads must be there", heads.end, heads.end <= d.heads);
        contract::len(OP, "sums", sections::<T>(d) * sums_len(d), sums.len());
        contract::len(OP, "y", heads.len() * d.head_dim, y.len());
        contract::at_least(OP, "scratch", scratch_len::<T>(d), scratch.len());
        let (sums, y, scratch) = (same(sums), same_mut(y), same_mut(scratch));
        isa.run(simd::Values { inputs: f.as_f32(), heads, sums, y, scratch });
    }
}

/// [`forward`] by the readable loop in either precision, for comparison; `scratch` needs `tk + 3 * width` elements.
///
/// # Panics
/// As [`forward`].
pub fn forward_reference<T: Real>(
    d: Dims,
    scale: f64,
    q: &[T],
    x: &[T],
    w: &[T],
    b: Option<&[T]>,
    mask: Option<&[T]>,
    dropout: Dropout,
    key: Key,
    y: &mut [T],
    saved: &mut [T],
    scratch: &mut [T],
) {
    const OP: &str = "absorbed attention reference";
    let f = Inputs { d, scale, q, x, w, b, mask, dropout, key };
    f.check_forward(OP, y, saved, scratch, reference::scratch_len(d));
    reference::forward(&f, y, saved, scratch);
}

crate::compiled::compiled! {
    /// The gradients of [`forward`], from the same inputs and its `saved`: dy as y, dq as q, dx as x; dw and db
    /// are added to. The half of db that belongs to the keys is left as it is. `None`: not wanted.
    ///
    /// # Panics
    /// If a length does not fit `d`.
    pub fn backward<T>(
        isa: Isa,
        d: Dims,
        scale: f64,
        q: &[T],
        x: &[T],
        w: &[T],
        b: Option<&[T]>,
        mask: Option<&[T]>,
        dropout: Dropout,
        key: Key,
        saved: &[T],
        dy: &[T],
        dq: Option<GradMut<'_, T>>,
        dx: Option<GradMut<'_, T>>,
        dw: Option<&mut [T]>,
        db: Option<&mut [T]>,
        scratch: &mut [T],
    ) as BackwardEntry {
        const OP: &str = "absorbed attention backward";
        let f = Inputs { d, scale, q, x, w, b, mask, dropout, key };
        f.check(OP);
        contract::len(OP, "saved", saved_len(d), saved.len());
        contract::len(OP, "dy", q.len(), dy.len());
        if let Some(dq) = &dq {
            contract::len(OP, "dq", q.len(), dq.data.len());
        }
        if let Some(dx) = &dx {
            contract::len(OP, "dx", x.len(), dx.data.len());
        }
        if let Some(dw) = &dw {
            contract::len(OP, "dw", w.len(), dw.len());
        }
        if let Some(db) = &db {
            contract::len(OP, "db", 2 * d.inner(), db.len());
        }
        contract::at_least(OP, "scratch", scratch_len::<T>(d), scratch.len());
        if T::IS_F32 {
            isa.run(simd::Backward {
                inputs: f.as_f32(),
                saved: Saved::of(d, same(saved)),
                dy: same(dy),
                dq: dq.map(|g| (same_mut(g.data), g.beta)),
                dx: dx.map(|g| (same_mut(g.data), g.beta)),
                dw: dw.map(same_mut),
                db: db.map(same_mut),
                scratch: same_mut(scratch),
            });
        } else {
            reference::backward(&f, Saved::of(d, saved), dy, dq, dx, dw, db, scratch);
        }
    }
}

/// The parts of `saved`.
#[derive(Clone, Copy)]
struct Saved<S> {
    /// `[batch, heads, tq]`: log of the sum of exponentials.
    lse: S,
    /// `[batch, heads, tq]`: w, the sum of the probabilities after dropout.
    kept: S,
    /// `[batch, heads, tq, width]`: c, the weighted sum of rows.
    context: S,
}

impl<'a, T> Saved<&'a [T]> {
    fn of(d: Dims, saved: &'a [T]) -> Self {
        let n = d.batch * d.queries();
        let (lse, rest) = saved.split_at(n);
        let (kept, context) = rest.split_at(n);
        Self { lse, kept, context }
    }
}

impl<'a, T> Saved<&'a mut [T]> {
    /// None if nothing is to be saved.
    fn split(d: Dims, saved: &'a mut [T]) -> Option<Self> {
        if saved.is_empty() {
            return None;
        }
        let n = d.batch * d.queries();
        let (lse, rest) = saved.split_at_mut(n);
        let (kept, context) = rest.split_at_mut(n);
        Some(Self { lse, kept, context })
    }
}

/// What forward and backward both read.
#[derive(Clone, Copy)]
struct Inputs<'a, T> {
    d: Dims,
    scale: f64,
    q: &'a [T],
    x: &'a [T],
    w: &'a [T],
    b: Option<&'a [T]>,
    mask: Option<&'a [T]>,
    dropout: Dropout,
    key: Key,
}

impl<'a, T: Real> Inputs<'a, T> {
    /// Of a call that shares the work for a single query, checked.
    fn of_query(op: &str, d: Dims, scale: f64, q: &'a [T], x: &'a [T], w: &'a [T]) -> Self {
        let (dropout, key) = (Dropout::NONE, Key::default());
        let f = Self { d, scale, q, x, w, b: None, mask: None, dropout, key };
        f.check(op);
        contract::require(op, "there must be sections", sections::<T>(d), sections::<T>(d) > 0);
        f
    }

    fn check(&self, op: &str) {
        let d = self.d;
        d.check(op);
        contract::len(op, "q", d.batch * d.tq * d.inner(), self.q.len());
        contract::len(op, "x", d.batch * d.tk * d.width, self.x.len());
        contract::len(op, "w", 2 * d.inner() * d.width, self.w.len());
        if let Some(b) = self.b {
            contract::len(op, "b", 2 * d.inner(), b.len());
        }
        if let Some(mask) = self.mask {
            contract::len(op, "mask", d.batch * d.tk, mask.len());
        }
    }

    fn check_forward(&self, op: &str, y: &[T], saved: &[T], scratch: &[T], scratch_len: usize) {
        self.check(op);
        contract::len(op, "y", self.q.len(), y.len());
        if !saved.is_empty() {
            contract::len(op, "saved", saved_len(self.d), saved.len());
        }
        contract::at_least(op, "scratch", scratch_len, scratch.len());
    }

    fn as_f32(self) -> Inputs<'a, f32> {
        Inputs {
            d: self.d,
            scale: self.scale,
            q: same(self.q),
            x: same(self.x),
            w: same(self.w),
            b: self.b.map(same),
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

    /// Row `j` of x of sequence `n`.
    fn row(&self, n: usize, j: usize) -> &'a [T] {
        &self.x[(n * self.d.tk + j) * self.d.width..][..self.d.width]
    }

    /// Where query `i` of head `h` of sequence `n` lies in q and y.
    fn columns(&self, n: usize, h: usize, i: usize) -> Range<usize> {
        let start = (n * self.d.tq + i) * self.d.inner() + h * self.d.head_dim;
        start..start + self.d.head_dim
    }

    /// W_K and W_V of head `h`, `[head_dim, width]` each.
    #[inline(always)]
    fn weights(&self, h: usize) -> (&'a [T], &'a [T]) {
        let (block, start) = (self.d.head_dim * self.d.width, h * self.d.head_dim * self.d.width);
        (&self.w[start..][..block], &self.w[start + self.d.inner() * self.d.width..][..block])
    }

    /// b_V of head `h`.
    #[inline(always)]
    fn value_bias(&self, h: usize) -> Option<&'a [T]> {
        self.b.map(|b| &b[self.d.inner() + h * self.d.head_dim..][..self.d.head_dim])
    }
}

/// The rows of a gradient of w that belong to head `h`: of W_K and of W_V.
#[inline(always)]
fn heads_weights_mut<T>(d: Dims, h: usize, dw: &mut [T]) -> (&mut [T], &mut [T]) {
    let (block, start) = (d.head_dim * d.width, h * d.head_dim * d.width);
    let (dwk, dwv) = dw.split_at_mut(d.inner() * d.width);
    (&mut dwk[start..][..block], &mut dwv[start..][..block])
}
