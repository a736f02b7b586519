//! The vector bodies.
//!
//! ```text
//! for each block of 128 columns: what all rows share of the random rounds
//!     for each row: sixteen counters at a time -> decisions -> y = m x
//! ```
//!
//! Deviation from the reference: decisions come for a block of 128 elements at once. The multipliers are the same bits.

use super::Dims;
use crate::isa::{Simd, Task};
use crate::rng::{BLOCK, Dropout, Key, OnDropped, RowDecisions};
use crate::{Beta, GradMut};

pub(super) struct Apply<'a> {
    pub(super) d: Dims,
    pub(super) dropout: Dropout,
    pub(super) key: Key,
    pub(super) x: &'a [f32],
    pub(super) out: GradMut<'a, f32>,
}

impl Task for Apply<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { d, dropout, key, x, out } = self;
        if x.is_empty() {
            return;
        }
        let (sample, scale, add) = (d.rows * d.cols, s.splat(dropout.scale()), out.beta == Beta::One);
        for (n, (x, y)) in x.chunks_exact(sample).zip(out.data.chunks_exact_mut(sample)).enumerate() {
            let decisions = RowDecisions::new(s, key.sample(n).stream(), dropout);
            for (row, (x, y)) in x.chunks_exact(d.cols).zip(y.chunks_exact_mut(d.cols)).enumerate() {
                for (block, (x, y)) in x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)).enumerate() {
                    decisions.decide(s, row as u32, block, &mut Scale { scale, add, x, y });
                }
            }
        }
    }
}

/// y = x times 0 where dropped, times `scale` elsewhere, or as much more.
struct Scale<'a, S: Simd> {
    scale: S::V,
    add: bool,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl<S: Simd> OnDropped<S> for Scale<'_, S> {
    #[inline(always)]
    fn dropped(&mut self, s: S, at: usize, dropped: [S::M; 2]) {
        for half in 0..2 {
            let at = at + 16 * half;
            if at >= self.x.len() {
                return;
            }
            let m = s.select(dropped[half], s.splat(0.0), self.scale);
            let (x, y) = (&self.x[at..], &mut self.y[at..]);
            if x.len() >= S::LANES {
                let product = s.mul(s.load(x), m);
                s.store(if self.add { s.add(s.load(y), product) } else { product }, y);
            } else {
                let product = s.mul(s.load_partial(x), m);
                s.store_partial(if self.add { s.add(s.load_partial(y), product) } else { product }, y);
            }
        }
    }
}
