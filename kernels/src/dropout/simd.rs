//! Dropout in f32: the multipliers come in blocks of 128, sixteen Philox counters at a time.

use super::Dims;
use crate::isa::{Simd, Task};
use crate::rng::{BLOCK, Dropout, Key};
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
        if d.cols == 0 {
            return;
        }
        let mut m = [0.0; BLOCK];
        let rows = x.chunks_exact(d.cols).zip(out.data.chunks_exact_mut(d.cols));
        for (i, (x, y)) in rows.enumerate() {
            let (n, r) = (i / d.rows, i % d.rows);
            let stream = key.sample(n).stream();
            for (block, (x, y)) in x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)).enumerate() {
                stream.multipliers(s, dropout, r as u32, block as u32, &mut m);
                let triples = y.iter_mut().zip(x).zip(&m);
                match out.beta {
                    Beta::Zero => triples.for_each(|((y, x), m)| *y = x * m),
                    Beta::One => triples.for_each(|((y, x), m)| *y += x * m),
                }
            }
        }
    }
}
