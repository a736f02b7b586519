//! What the operands of a product are: elements of f32, rounded ones, or words of two bf16.
//!
//! A product sums along k, and a word holds [`Operands::PER_WORD`] elements that are neighbours along k. The scores sum
//! along head_dim, so their words lie along the rows of q and k; the other products sum along keys or queries, so theirs
//! lie across two rows, or along the row of probabilities.

use crate::gemm::round_lanes;
use crate::isa::{Bf16, Simd};
use crate::vmath;

/// Words of elements, and how they are multiplied. A word takes the room of an f32.
pub(super) trait Operands: Copy {
    /// The vectors.
    type S: Simd;
    /// Elements of a word.
    const PER_WORD: usize;
    /// Whether elements are rounded.
    const ROUNDED: bool;
    /// What a unit of the scores is: ln 2, or 1 where they are rounded, as dk takes the packed queries too.
    const UNIT: f64 = if Self::ROUNDED { 1.0 } else { std::f64::consts::LN_2 };
    /// The token of the vectors.
    fn simd(self) -> Self::S;
    /// e^(UNIT x) for x that are no more than a rounding above 0.
    #[inline(always)]
    fn exp(self, x: <Self::S as Simd>::V) -> <Self::S as Simd>::V {
        if Self::ROUNDED {
            vmath::exp_nonpositive(self.simd(), x)
        } else {
            vmath::exp2_nonpositive(self.simd(), x)
        }
    }
    /// c + the products of the words' elements, lane by lane.
    fn fma(
        self,
        a: <Self::S as Simd>::V,
        b: <Self::S as Simd>::V,
        c: <Self::S as Simd>::V,
    ) -> <Self::S as Simd>::V;
    /// Words of the first elements of a row, each `factor` times as large; 0 past its end.
    fn along(self, factor: <Self::S as Simd>::V, row: &[f32]) -> <Self::S as Simd>::V;
    /// Puts the words of the elements `at ..` and `at + 16 ..` of a row into their places in it. Where a word holds two
    /// elements, vectors have 16 lanes and `at` is a multiple of 32.
    fn put(self, elements: [<Self::S as Simd>::V; 2], at: usize, row: &mut [f32]);
    /// Words of the first elements of [`Operands::PER_WORD`] rows (without a second, of the first alone), otherwise as
    /// [`Operands::along`].
    fn across(self, factor: <Self::S as Simd>::V, rows: [&[f32]; 2]) -> <Self::S as Simd>::V;
}

/// The first elements of a row, 0 past its end.
#[inline(always)]
fn load<S: Simd>(s: S, row: &[f32]) -> S::V {
    if row.len() >= S::LANES { s.load(row) } else { s.load_partial(row) }
}

/// An element is a word: as it is, or rounded to bf16 and kept as f32.
#[derive(Clone, Copy)]
pub(super) struct Elements<S, const ROUNDED: bool>(pub(super) S);

impl<S: Simd, const ROUNDED: bool> Elements<S, ROUNDED> {
    #[inline(always)]
    fn word(self, x: S::V) -> S::V {
        if ROUNDED { round_lanes(self.0, x) } else { x }
    }
}

impl<S: Simd, const ROUNDED: bool> Operands for Elements<S, ROUNDED> {
    type S = S;
    const PER_WORD: usize = 1;
    const ROUNDED: bool = ROUNDED;
    #[inline(always)]
    fn simd(self) -> S {
        self.0
    }
    #[inline(always)]
    fn fma(self, a: S::V, b: S::V, c: S::V) -> S::V {
        self.0.fma(a, b, c)
    }
    #[inline(always)]
    fn along(self, factor: S::V, row: &[f32]) -> S::V {
        self.word(self.0.mul(factor, load(self.0, row)))
    }
    #[inline(always)]
    fn put(self, elements: [S::V; 2], at: usize, row: &mut [f32]) {
        self.0.store(self.word(elements[0]), &mut row[at..]);
        self.0.store(self.word(elements[1]), &mut row[at + 16..]);
    }
    #[inline(always)]
    fn across(self, factor: S::V, [row, _]: [&[f32]; 2]) -> S::V {
        self.along(factor, row)
    }
}

/// Two elements rounded to bf16 in a word.
#[derive(Clone, Copy)]
pub(super) struct Pairs<D>(pub(super) D);

impl<D: Bf16> Operands for Pairs<D> {
    type S = D::S;
    const PER_WORD: usize = 2;
    const ROUNDED: bool = true;
    #[inline(always)]
    fn simd(self) -> D::S {
        self.0.simd()
    }
    #[inline(always)]
    fn fma(self, a: <D::S as Simd>::V, b: <D::S as Simd>::V, c: <D::S as Simd>::V) -> <D::S as Simd>::V {
        self.0.dot(a, b, c)
    }
    #[inline(always)]
    fn along(self, factor: <D::S as Simd>::V, row: &[f32]) -> <D::S as Simd>::V {
        let s = self.0.simd();
        let (low, high) = row.split_at(row.len().min(D::S::LANES));
        self.0.pairs_along(s.mul(factor, load(s, low)), s.mul(factor, load(s, high)))
    }
    #[inline(always)]
    fn put(self, elements: [<D::S as Simd>::V; 2], at: usize, row: &mut [f32]) {
        const { assert!(D::S::LANES == 16) };
        self.0.simd().store(self.0.pairs_along(elements[0], elements[1]), &mut row[at / 2..]);
    }
    #[inline(always)]
    fn across(self, factor: <D::S as Simd>::V, [first, second]: [&[f32]; 2]) -> <D::S as Simd>::V {
        let s = self.0.simd();
        self.0.pairs_across(s.mul(factor, load(s, first)), s.mul(factor, load(s, second)))
    }
}

/// Words that hold `elements` elements.
#[inline(always)]
pub(super) fn words<O: Operands>(elements: usize) -> usize {
    elements.div_ceil(O::PER_WORD)
}

/// The words of a row, each element `factor` times as large; `to` is no longer than the row has words.
#[inline(always)]
pub(super) fn row_words<O: Operands>(ops: O, factor: f32, from: &[f32], to: &mut [f32]) {
    let (s, f) = (ops.simd(), ops.simd().splat(factor));
    let step = O::PER_WORD * O::S::LANES;
    let whole = from.len() / step;
    let (from, from_tail) = from.split_at(whole * step);
    let (to, to_tail) = to.split_at_mut(whole * O::S::LANES);
    for (to, from) in to.chunks_exact_mut(O::S::LANES).zip(from.chunks_exact(step)) {
        s.store(ops.along(f, from), to);
    }
    if !from_tail.is_empty() {
        s.store_partial(ops.along(f, from_tail), to_tail);
    }
}
