//! Products of operands rounded to 8-bit integers, each row of A and each column of B with a scale of its own.
//!
//! **Formula.** With the largest magnitude of a line, u = max_p |x_p|, its step is s = u / 127 and x_p is taken as q_p s,
//! q_p the integer nearest to x_p 127 / u (ties to even), -127 to 127:
//!
//! C_ij = act(s_i t_j sum_p q_ip r_pj + bias_j + beta C_ij), A_ip ~ q_ip s_i, B_pj ~ r_pj t_j.
//!
//! Nothing is learnt from data beforehand: weights are rounded when they are packed, a row of activations when it is
//! packed, by its own largest element. A line whose elements are all below [`SMALLEST`] counts as 0; a line with a NaN or an
//! infinity gives NaN in all its results. The method is that of Jacob et al. 2018 (arXiv:1712.05877), without zero points
//! and with steps by line, as in Dettmers et al. 2022 (arXiv:2208.07339, "vector-wise").
//!
//! **Accuracy.** An element moves by at most half a step, so a sum by at most sum_p (|a_p| t / 2 + |b_p| s / 2 + s t / 4),
//! where s and t are the steps of its row and column. Lines whose largest element stands out lose most. Tested, as is what
//! it does to a model (`tests/int8.rs`).
//!
//! **It has no derivative** (rounding is flat between its steps), so only forward passes take it: `linear` and
//! `feed_forward`. Attention's operands are rounded to bf16 instead; products that are read in place (few rows or columns,
//! `small.rs`) stay f32.
//!
//! **Two bodies** compute it:
//!
//! * *Dot products* ([`Isa::int8_dot`], AVX512-VNNI or AVX-VNNI): panels hold four neighbours along k in a word
//!   (`quads.rs`), and `vpdpbusd` adds four products to each 32-bit lane. Up to 1,536 elements along k the sums are
//!   exact; longer sums are cut there and the pieces added in f32.
//! * *Rounded panels* elsewhere: q s and r t, rounded to f32, in the panels of the f32 micro-kernel, at its speed.
//!
//! **f64** ignores the precision, as in `bf16.rs`.

use super::Epilogue;
use super::blocked::{self, KS};
use super::pack::{Operand, Part, Strided};
use super::quads;
use super::words::Words;
use crate::isa::{Int8Dot, Simd, Task};
use crate::{Beta, Isa};
use std::ops::Range;

/// Steps from 0 to the largest magnitude.
const STEPS: f32 = 127.0;

/// The largest magnitude of a line that is taken for 0; below 127 over it, the inverse of a step would overflow.
pub(super) const SMALLEST: f32 = f32::MIN_POSITIVE * 256.0;

/// Shortest sums that use dot products: the steps of shorter ones would not fit in the room of f32 panels.
const SHORTEST: usize = 8;

/// How a line is rounded.
#[derive(Clone, Copy)]
pub(super) struct Scale {
    /// One step; NaN if the line holds a NaN or an infinity.
    pub(super) step: f32,
    /// Steps in 1.
    pub(super) inverse: f32,
}

impl Scale {
    /// Of `n` elements `stride` apart.
    #[inline(always)]
    pub(super) fn of<S: Simd>(s: S, x: &[f32], stride: usize, n: usize) -> Self {
        let (mut largest, mut odd) = (s.splat(0.0), s.splat(0.0));
        for i in (0..n).step_by(S::LANES) {
            let v = vector(s, x, stride, i, n);
            largest = s.max(largest, s.abs(v));
            // 0, or NaN from the first element on that is not finite: `max` may lose a NaN.
            odd = s.fma(v, s.splat(0.0), odd);
        }
        let (largest, odd) = (s.hmax(largest), s.sum(odd));
        if largest < SMALLEST {
            return Self { step: odd, inverse: 0.0 };
        }
        Self { step: largest / STEPS + odd, inverse: STEPS / largest }
    }
}

/// Elements `from ..` of `n`, `stride` apart; 0 past the end.
#[inline(always)]
pub(super) fn vector<S: Simd>(s: S, x: &[f32], stride: usize, from: usize, n: usize) -> S::V {
    let count = n.saturating_sub(from).min(S::LANES);
    Words::vector(s, &x[(from * stride).min(x.len())..], stride, count)
}

/// The dot products for sums of k, if this CPU has some.
fn dot(isa: Isa, k: usize) -> Option<Int8Dot> {
    isa.int8_dot().filter(|_| k >= SHORTEST)
}

/// [`blocked::multiply_packed`] of rounded operands, for some columns of B, packed by [`pack`].
pub(super) fn multiply_packed(
    isa: Isa,
    (m, n, k): (usize, usize, usize),
    a: Strided<'_, f32>,
    packed: (&[f32], Range<usize>),
    beta: Beta,
    c: &mut [f32],
    rsc: usize,
    epilogue: Epilogue<'_, f32>,
    a_pack: &mut [f32],
) {
    match dot(isa, k) {
        Some(dot) => quads::multiply_packed(dot, (m, n, k), a, packed, beta, c, rsc, epilogue, a_pack),
        None => {
            let a = Rounded { x: a, k };
            blocked::multiply_packed_with(isa, None, (m, n, k), 0, a, packed, beta, c, rsc, epilogue, a_pack);
        }
    }
}

/// [`blocked::pack`] of a rounded B, for [`multiply_packed`] with the same `isa`.
pub(super) fn pack(isa: Isa, k: usize, n: usize, b: Strided<'_, f32>, packed: &mut [f32]) {
    match dot(isa, k) {
        Some(dot) => quads::pack(dot, k, n, b, packed),
        None => blocked::pack_with(isa, (0, 0), k, n, Rounded { x: b, k }, packed),
    }
}

/// An operand whose lines along k are rounded as they are copied, and stay f32.
#[derive(Clone, Copy)]
struct Rounded<'a> {
    x: Strided<'a, f32>,
    k: usize,
}

impl Operand<f32> for Rounded<'_> {
    fn pack_a(&self, isa: Isa, part: Part, _: usize, out: &mut [f32]) {
        isa.run(PackA { a: *self, part, out });
    }
    fn pack_b(&self, isa: Isa, part: Part, nr: usize, out: &mut [f32]) {
        isa.run(PackB { b: *self, part, nr, out });
    }
    fn by_columns(&self) -> bool {
        false
    }
}

struct PackA<'a> {
    a: Rounded<'a>,
    part: Part,
    out: &'a mut [f32],
}

impl Task for PackA<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { a: Rounded { x, k }, part: Part { row, col, rows, cols }, out } = self;
        let (rs, cs) = x.strides;
        if cols == 0 {
            return;
        }
        let (out, _) = out.as_chunks_mut::<KS>();
        for (r, out) in out[..rows].iter_mut().enumerate() {
            let line = &x.data[(row + r) * rs..];
            let scale = Scale::of(s, line, cs, k);
            for (i, out) in out[..cols].chunks_mut(S::LANES).enumerate() {
                let v = vector(s, line, cs, col + i * S::LANES, k);
                s.store_partial(rounded(s, v, scale), out);
            }
        }
        // Rows up to a tile's height are multiplied too, and not stored.
        for out in out[rows..].iter_mut().take(blocked::MR_MAX) {
            out[..cols].fill(0.0);
        }
    }
}

struct PackB<'a> {
    b: Rounded<'a>,
    part: Part,
    nr: usize,
    out: &'a mut [f32],
}

impl Task for PackB<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { b: Rounded { x, k }, part: Part { row, col, rows, cols }, nr, out } = self;
        let (rs, cs) = x.strides;
        for (panel, out) in out.chunks_exact_mut((rows * nr).max(1)).enumerate() {
            for j in 0..nr {
                let c = panel * nr + j;
                if c >= cols {
                    out[j..].iter_mut().step_by(nr).for_each(|x| *x = 0.0);
                    continue;
                }
                let line = &x.data[(col + c) * cs..];
                let scale = Scale::of(s, line, rs, k);
                let mut some = [0.0; 16];
                for p in (0..rows).step_by(S::LANES) {
                    s.store(rounded(s, vector(s, line, rs, row + p, k), scale), &mut some);
                    for (q, x) in some[..S::LANES.min(rows - p)].iter().enumerate() {
                        out[(p + q) * nr + j] = *x;
                    }
                }
            }
        }
    }
}

/// q s.
#[inline(always)]
fn rounded<S: Simd>(s: S, v: S::V, scale: Scale) -> S::V {
    s.mul(s.round(s.mul(v, s.splat(scale.inverse))), s.splat(scale.step))
}
