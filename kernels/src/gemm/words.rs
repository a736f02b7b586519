//! Copies into panels of words: two neighbours along k, rounded to bf16, in the halves of a word.
//!
//! The panels are those of `pack.rs` with words for elements. The CPU's own conversion makes a vector of words from
//! two vectors: neighbours where lines run along k ([`Bf16::pairs_along`]), two lines otherwise
//! ([`Bf16::pairs_across`]). The last element of an odd k is paired with 0.
//!
//! Rounding with integer instructions, a run of 64 words at a time, took a fifth of a layer's backward pass: 256 -> 768 in
//! 2.99 ms, now 2.42 (two cores of an AMD EPYC (Zen 5) VM, AVX-512; `heartlore bench --what operations --threads 1
//! --precision bf16`, by turns).

use super::blocked::{KS, LINE};
use super::pack::{AHEAD, Matrix, Operand, Part, STRIP, Strided};
use crate::Isa;
use crate::isa::{Bf16, Bf16Dot, DotTask, Simd};

/// A matrix packed as words. Rows of B, columns of A and `k` in elements, all parts in words.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) x: Strided<'a, f32>,
    pub(super) k: usize,
    pub(super) dot: Bf16Dot,
}

impl Operand<f32> for Words<'_> {
    fn pack_a(&self, _: Isa, part: Part, mr: usize, out: &mut [f32]) {
        self.dot.run(PackA { a: *self, part, mr, out });
    }
    fn pack_b(&self, _: Isa, part: Part, nr: usize, out: &mut [f32]) {
        self.dot.run(PackB { b: *self, part, nr, out });
    }
    fn by_columns(&self) -> bool {
        self.x.by_columns()
    }
}

impl<'a> Words<'a> {
    /// From (row, col) of A on.
    #[inline(always)]
    fn of_a(&self, row: usize, col: usize) -> &'a [f32] {
        &self.x.data[row * self.x.strides.0 + col * self.x.strides.1..]
    }

    /// `n` elements along a line of distance `step` as a vector, 0 after them; at most a vector.
    #[inline(always)]
    pub(super) fn vector<S: Simd>(s: S, x: &[f32], step: usize, n: usize) -> S::V {
        if step != 1 {
            let mut line = [0.0; LANES_MAX];
            for (i, line) in line[..n].iter_mut().enumerate() {
                *line = x[i * step];
            }
            return s.load(&line);
        }
        if n == S::LANES { s.load(x) } else { s.load_partial(&x[..n]) }
    }
}

/// Lanes of the widest vectors.
const LANES_MAX: usize = 16;

/// Words of a line along k: `n` elements, `step` apart. Words past them are 0.
#[inline(always)]
fn along<D: Bf16>(d: D, x: &[f32], step: usize, n: usize, out: &mut [f32]) {
    let (s, lanes) = (d.simd(), D::S::LANES);
    for (i, out) in out.chunks_mut(lanes).enumerate() {
        let at = 2 * i * lanes;
        let left = n.saturating_sub(at);
        let low = Words::vector(s, &x[(at * step).min(x.len())..], step, left.min(lanes));
        let past = (at + lanes) * step;
        let high = Words::vector(s, &x[past.min(x.len())..], step, left.saturating_sub(lanes).min(lanes));
        let words = d.pairs_along(low, high);
        if out.len() == lanes { s.store(words, out) } else { s.store_partial(words, out) }
    }
}

/// Words of two lines.
#[inline(always)]
fn across<D: Bf16>(d: D, first: &[f32], second: Option<&[f32]>, step: usize, n: usize) -> <D::S as Simd>::V {
    let s = d.simd();
    let second = match second {
        Some(second) => Words::vector(s, second, step, n),
        None => s.splat(0.0),
    };
    d.pairs_across(Words::vector(s, first, step, n), second)
}

struct PackA<'a> {
    a: Words<'a>,
    part: Part,
    mr: usize,
    out: &'a mut [f32],
}

impl DotTask for PackA<'_> {
    type Out = ();
    #[inline(always)]
    fn run<D: Bf16>(self, d: D) {
        let Self { a, part: Part { row, col, rows, cols }, mr, out } = self;
        let s = d.simd();
        if a.x.by_columns() {
            let (panels, _) = out.split_at_mut(rows.div_ceil(mr) * cols * mr);
            for p in 0..cols {
                let k = 2 * (col + p);
                let first = a.of_a(row, k);
                let second = (k + 1 < a.k).then(|| a.of_a(row, k + 1));
                for (panel, i) in (0..rows).step_by(mr).enumerate() {
                    let n = mr.min(rows - i);
                    for k in [k, k + 1] {
                        a.x.prefetch(s, row + i, k + AHEAD);
                    }
                    let words = across(d, &first[i..], second.map(|x| &x[i..]), 1, n);
                    s.store_partial(words, &mut panels[(panel * cols + p) * mr..][..mr]);
                }
            }
            return;
        }
        let (out, _) = out.as_chunks_mut::<KS>();
        let n = (2 * cols).min(a.k - 2 * col);
        for r in 0..rows {
            along(d, a.of_a(row + r, 2 * col), a.x.strides.1, n, &mut out[r][..cols]);
        }
        for r in rows..rows.next_multiple_of(mr) {
            out[r][..cols].fill(0.0);
        }
    }
}

struct PackB<'a> {
    b: Words<'a>,
    part: Part,
    nr: usize,
    out: &'a mut [f32],
}

impl DotTask for PackB<'_> {
    type Out = ();
    #[inline(always)]
    fn run<D: Bf16>(self, d: D) {
        let Self { b, part: Part { row, col, rows, cols }, nr, out } = self;
        let (s, lanes, (rs, cs)) = (d.simd(), D::S::LANES, b.x.strides);
        if rows == 0 {
            return;
        }
        if !b.x.by_columns() {
            for p in (0..rows).step_by(STRIP) {
                let strip = STRIP.min(rows - p);
                for (panel, out) in out.chunks_exact_mut(rows * nr).enumerate() {
                    for (q, out) in out[p * nr..][..strip * nr].chunks_exact_mut(nr).enumerate() {
                        let k = 2 * (row + p + q);
                        for line in (0..nr).step_by(LINE) {
                            for k in [k, k + 1] {
                                b.x.prefetch(s, k + 2 * AHEAD, col + panel * nr + line);
                            }
                        }
                        for (v, out) in out.chunks_exact_mut(lanes).enumerate() {
                            let j = panel * nr + v * lanes;
                            let n = lanes.min(cols.saturating_sub(j));
                            if n == 0 {
                                out.fill(0.0);
                                continue;
                            }
                            let at = k * rs + (col + j) * cs;
                            let second = (k + 1 < b.k).then(|| &b.x.data[at + rs..]);
                            s.store(across(d, &b.x.data[at..], second, cs, n), out);
                        }
                    }
                }
            }
            return;
        }
        for (panel, out) in out.chunks_exact_mut(rows * nr).enumerate() {
            let real = nr.min(cols - panel * nr);
            for (i, out) in out.chunks_mut(lanes * nr).enumerate() {
                let (k, depth) = (2 * (row + i * lanes), out.len() / nr);
                let n = (2 * depth).min(b.k - k);
                let mut line = [0.0; LANES_MAX];
                for j in 0..nr {
                    if j < real {
                        along(d, &b.x.data[k + (col + panel * nr + j) * cs..], 1, n, &mut line[..depth]);
                    } else {
                        line = [0.0; LANES_MAX];
                    }
                    for p in 0..depth {
                        out[p * nr + j] = line[p];
                    }
                }
            }
        }
    }
}
