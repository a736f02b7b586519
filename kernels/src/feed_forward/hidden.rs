//! What happens to a tile of hidden values between the two products, in one pass over it each way.
//!
//! ```text
//! forward     g = m act(z)                         (ReLU: g = m h in place, h = act(z) comes from the product)
//! backward    g = m act(z), dz = dg m act'(z)      (ReLU: dz = dg scale where g > 0, else 0: m and h are both in g)
//! ```

use super::Dims;
use crate::activation::{self, Activation};
use crate::isa::{Simd, Task};
use crate::rng::{BLOCK, Dropout, Key, OnDropped, RowDecisions, Stream, Zero};
use crate::{Isa, Real, real};
use std::ops::Range;

/// The rows of a tile: which they are, and what is done to them.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) d: Dims,
    pub(super) act: Activation,
    pub(super) dropout: Dropout,
    pub(super) key: Key,
    /// The first row, counted over all samples.
    pub(super) first: usize,
}

impl Tile {
    /// The random numbers of row `i` of the tile, and its number in its sample.
    #[inline(always)]
    fn draws(&self, i: usize) -> (Stream, u32) {
        let row = self.first + i;
        (self.key.sample(row / self.d.rows).stream(), (row % self.d.rows) as u32)
    }

    /// From row `i` of the tile on, the rows of the same sample; the tile has `rows`.
    #[inline(always)]
    fn of_sample(&self, i: usize, rows: usize) -> Range<usize> {
        let left = self.d.rows - (self.first + i) % self.d.rows;
        i..rows.min(i + left)
    }
}

/// h becomes m h.
pub(super) fn drop<T: Real>(isa: Isa, tile: Tile, h: &mut [T]) {
    if tile.dropout.is_none() {
        return;
    }
    if T::IS_F32 {
        isa.run(Drop { tile, h: real::same_mut(h) });
        return;
    }
    for (i, h) in h.chunks_exact_mut(tile.d.hidden).enumerate() {
        let (stream, row) = tile.draws(i);
        super::reference::drop_row(stream, tile.dropout, row, h);
    }
}

/// g = m act(z).
pub(super) fn activate<T: Real>(isa: Isa, tile: Tile, z: &[T], g: &mut [T]) {
    if T::IS_F32 {
        isa.run(Activate { tile, z: real::same(z), g: real::same_mut(g) });
        return;
    }
    activation::forward(isa, tile.act, z, g);
    drop(isa, tile, g);
}

/// ReLU: dg becomes dz, from the g of the forward pass; sums += column sums of dz.
pub(super) fn gate<T: Real>(isa: Isa, tile: Tile, g: &[T], dg: &mut [T], sums: &mut [T]) {
    if T::IS_F32 {
        isa.run(Gate { tile, g: real::same(g), dg: real::same_mut(dg), sums: real::same_mut(sums) });
        return;
    }
    let scale = tile.dropout.scale::<T>();
    for (g, dg) in g.chunks_exact(sums.len()).zip(dg.chunks_exact_mut(sums.len())) {
        for ((&g, dg), sum) in g.iter().zip(dg).zip(&mut *sums) {
            *dg *= if g > T::ZERO { scale } else { T::ZERO };
            *sum += *dg;
        }
    }
}

/// Any activation: g = m act(z), dg becomes dz; sums += column sums of dz.
pub(super) fn slope<T: Real>(isa: Isa, tile: Tile, z: &[T], g: &mut [T], dg: &mut [T], sums: &mut [T]) {
    if T::IS_F32 {
        let (dg, z, g, sums) = (real::same_mut(dg), real::same(z), real::same_mut(g), real::same_mut(sums));
        isa.run(Slope { tile, z, g, dg, sums });
        return;
    }
    let scale = tile.dropout.scale::<T>();
    for i in 0..z.len() {
        let (row, c) = (i / tile.d.hidden, i % tile.d.hidden);
        let (stream, r) = tile.draws(row);
        let m = if stream.keeps(tile.dropout, r, c) { scale } else { T::ZERO };
        let (value, slope) = activation::value_and_slope(tile.act, z[i]);
        g[i] = m * value;
        dg[i] *= m * slope;
        sums[c] += dg[i];
    }
}

/// The multipliers of the rows of a tile in turn, row after row: with blocks of columns outside, as in [`Drop`], the four
/// streams of [`Slope`] step by whole rows of memory, and its backward pass took 3 % longer at 1024 hidden columns.
struct Draws<S: Simd> {
    tile: Tile,
    /// Of the sample of the row, and the row's number in it.
    decisions: RowDecisions<S>,
    row: u32,
}

impl<S: Simd> Draws<S> {
    #[inline(always)]
    fn new(s: S, tile: Tile) -> Self {
        let (stream, row) = tile.draws(0);
        Self { tile, decisions: RowDecisions::new(s, stream, tile.dropout), row }
    }

    /// Row `i`, after row `i - 1`.
    #[inline(always)]
    fn go_to(&mut self, s: S, i: usize) {
        let (stream, row) = self.tile.draws(i);
        if row == 0 && i > 0 {
            self.decisions = RowDecisions::new(s, stream, self.tile.dropout);
        }
        self.row = row;
    }

    /// Of a block of the row; without dropout they stay as they are.
    #[inline(always)]
    fn multipliers(&self, s: S, block: usize, m: &mut [f32; BLOCK]) {
        if !self.tile.dropout.is_none() {
            *m = [self.tile.dropout.scale(); BLOCK];
            self.decisions.decide(s, self.row, block, &mut Zero(m));
        }
    }
}

/// h times its multiplier.
struct Drops<'a, S: Simd> {
    scale: S::V,
    h: &'a mut [f32],
}

impl<S: Simd> OnDropped<S> for Drops<'_, S> {
    #[inline(always)]
    fn dropped(&mut self, s: S, at: usize, dropped: [S::M; 2]) {
        for half in 0..2 {
            let at = at + 16 * half;
            if at >= self.h.len() {
                return;
            }
            let m = s.select(dropped[half], s.splat(0.0), self.scale);
            let end = self.h.len().min(at + S::LANES);
            let h = &mut self.h[at..end];
            store(s, s.mul(load(s, h), m), h);
        }
    }
}

#[inline(always)]
fn load<S: Simd>(s: S, x: &[f32]) -> S::V {
    if x.len() == S::LANES { s.load(x) } else { s.load_partial(x) }
}

#[inline(always)]
fn store<S: Simd>(s: S, v: S::V, x: &mut [f32]) {
    if x.len() == S::LANES { s.store(v, x) } else { s.store_partial(v, x) }
}

struct Drop<'a> {
    tile: Tile,
    h: &'a mut [f32],
}

impl Task for Drop<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { tile, h } = self;
        let (scale, hidden) = (s.splat(tile.dropout.scale()), tile.d.hidden);
        let rows = h.len() / hidden;
        let mut next = 0;
        while next < rows {
            let (of_sample, (stream, first)) = (tile.of_sample(next, rows), tile.draws(next));
            for start in (0..hidden).step_by(BLOCK) {
                let places = stream.places(s, (start / BLOCK) as u32);
                let columns = start..hidden.min(start + BLOCK);
                for i in of_sample.clone() {
                    let h = &mut h[i * hidden..][columns.clone()];
                    let row = first + (i - next) as u32;
                    let drops = &mut Drops { scale, h };
                    stream.decide_at(s, tile.dropout, row, &places, columns.len(), drops);
                }
            }
            next = of_sample.end;
        }
    }
}

struct Activate<'a> {
    tile: Tile,
    z: &'a [f32],
    g: &'a mut [f32],
}

impl Task for Activate<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { tile, z, g } = self;
        let (mut draws, mut m) = (Draws::new(s, tile), [1.0; BLOCK]);
        let rows = z.chunks_exact(tile.d.hidden).zip(g.chunks_exact_mut(tile.d.hidden));
        for (i, (z, g)) in rows.enumerate() {
            draws.go_to(s, i);
            for (block, (z, g)) in z.chunks(BLOCK).zip(g.chunks_mut(BLOCK)).enumerate() {
                draws.multipliers(s, block, &mut m);
                let vectors = z.chunks(S::LANES).zip(g.chunks_mut(S::LANES)).zip(m.chunks_exact(S::LANES));
                for ((z, g), m) in vectors {
                    let (value, _) = activation::value_and_slope_of(s, tile.act, load(s, z));
                    store(s, s.mul(value, s.load(m)), g);
                }
            }
        }
    }
}

struct Gate<'a> {
    tile: Tile,
    g: &'a [f32],
    dg: &'a mut [f32],
    sums: &'a mut [f32],
}

impl Task for Gate<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { tile, g, dg, sums } = self;
        let (scale, zero) = (s.splat(tile.dropout.scale()), s.splat(0.0));
        for (g, dg) in g.chunks_exact(tile.d.hidden).zip(dg.chunks_exact_mut(tile.d.hidden)) {
            let vectors = g.chunks(S::LANES).zip(dg.chunks_mut(S::LANES)).zip(sums.chunks_mut(S::LANES));
            for ((g, dg), sums) in vectors {
                let m = s.select(s.gt(load(s, g), zero), scale, zero);
                let dz = s.mul(load(s, dg), m);
                store(s, dz, dg);
                store(s, s.add(load(s, sums), dz), sums);
            }
        }
    }
}

struct Slope<'a> {
    tile: Tile,
    z: &'a [f32],
    g: &'a mut [f32],
    dg: &'a mut [f32],
    sums: &'a mut [f32],
}

impl Task for Slope<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { tile, z, g, dg, sums } = self;
        let (hidden, mut draws, mut m) = (tile.d.hidden, Draws::new(s, tile), [1.0; BLOCK]);
        let rows = z.chunks_exact(hidden).zip(g.chunks_exact_mut(hidden)).zip(dg.chunks_exact_mut(hidden));
        for (i, ((z, g), dg)) in rows.enumerate() {
            draws.go_to(s, i);
            let blocks = z.chunks(BLOCK).zip(g.chunks_mut(BLOCK)).zip(dg.chunks_mut(BLOCK));
            for (block, (((z, g), dg), sums)) in blocks.zip(sums.chunks_mut(BLOCK)).enumerate() {
                draws.multipliers(s, block, &mut m);
                let there = z.chunks(S::LANES).zip(g.chunks_mut(S::LANES)).zip(m.chunks_exact(S::LANES));
                let back = dg.chunks_mut(S::LANES).zip(sums.chunks_mut(S::LANES));
                for (((z, g), m), (dg, sums)) in there.zip(back) {
                    let (value, slope) = activation::value_and_slope_of(s, tile.act, load(s, z));
                    let m = s.load(m);
                    store(s, s.mul(value, m), g);
                    let dz = s.mul(load(s, dg), s.mul(slope, m));
                    store(s, dz, dg);
                    store(s, s.add(load(s, sums), dz), sums);
                }
            }
        }
    }
}
