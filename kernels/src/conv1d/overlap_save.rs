//! Convolution with stride and dilation 1 in the frequency domain, in f32.
//!
//! **Method.** Overlap-save (Stockham, "High-speed convolution and correlation", AFIPS 1966). Outputs are cut into tiles
//! of m = n - kernel + 1. Tile i needs the n positions u\[j\] = x\[i m - padding + j\], and circular correlation of length n
//! is the wanted one at its first m outputs:
//!
//! ```text
//! U = F u,   Z[f, o] = sum over c of H[f, o, c] U[f, c],   H = conj(F w) / n,   z = first m of the inverse of Z
//! ```
//!
//! **Derivative.** Each step transposed, in reverse (overlap-add): with D the transform of a tile of dz, filled up with
//! n - m zeros,
//!
//! ```text
//! du = inverse of sum over o of conj(H[f, o, c]) D[f, o], added to dx where the tile took its positions;
//! dw[o, c] = first `kernel` of the inverse of sum over tiles of conj(D[f, o]) U[f, c], divided by n
//! ```
//!
//! so both gradients share the spectra of dz, and dw takes x's as the forward pass made them. x's are made anew: that
//! costs a few hundredths of the pass and keeps `saved` empty.
//!
//! **Cost.** tiles n in out 3 FLOPs (6 for each of n/2 complex products) in place of 2 out_length in out kernel, beside
//! the transforms.
//!
//! **Order.** Tiles of all samples in one row, [`GROUP`] at a time: the weights of a frequency are read once for a group, and
//! scratch does not grow with the batch. A tile's result does not depend on the others of its group.
//!
//! **Memory.** A transform has a line or two in each of n/2 to n places far apart, most of them in the third-level cache: it
//! asks for those of the transform after it ([`expect`]). dz is made for one tile and transformed while it is in the
//! second-level cache. Figures: `benches/NOTES.md`.

use super::Dims;
use super::fft::{self, Tables};
use super::spectrum::{Block, CHUNK, Layout, OUTER, Outer, Product};
use crate::activation::{self, Activation};
use crate::gemm;
use crate::isa::{Simd, Task};
use crate::{Beta, GradMut, Isa};
use std::ops::Range;

/// Most tiles that are worked on together.
const GROUP: usize = 56;

/// Lengths of transforms that are considered.
const LENGTHS: [usize; 4] = [32, 64, 128, 256];
/// Multiply-adds of a complex product.
const COMPLEX: f64 = 3.0;
/// What transforming one number and multiplying nothing costs, in multiply-adds.
const TRANSFORMED: f64 = 32.0;
/// What one number of the weights' spectra costs, in multiply-adds: made for several windows and read for each group.
const WEIGHT: f64 = 24.0;

/// How a convolution is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    d: Dims,
    out: usize,
    /// Length of the transforms.
    n: usize,
    /// Outputs of a tile.
    m: usize,
    /// Tiles of a sample.
    tiles: usize,
}

impl Plan {
    /// The best plan if it is expected to be faster than the direct product, else `None`. It does not depend on the batch,
    /// so that neither a sample's result nor prepared weights do.
    ///
    /// Cost in multiply-adds, with what else takes time expressed in them (measured, see [`super`]): a number of a
    /// transform as [`TRANSFORMED`], a number of the weights' spectra as [`WEIGHT`]. To be chosen, the plan must cost at
    /// most half of the direct product: then it is the faster one also where nothing was prepared, or nearly as fast.
    pub(super) fn of(d: Dims) -> Option<Self> {
        let padded = |channels: usize| channels.next_multiple_of(CHUNK) as f64;
        let (wide, deep) = (padded(d.out_channels), padded(d.in_channels));
        let cost = |p: &Self| {
            let (tiles, n, pairs) = (p.tiles as f64, p.n as f64, wide * deep);
            tiles * n * (COMPLEX / 2.0 * pairs + TRANSFORMED * (wide + deep)) + WEIGHT * n * pairs
        };
        let plans = LENGTHS.iter().filter_map(|&n| Self::with_length(d, n));
        let best = plans.min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
        let direct = best.out as f64 * (d.in_channels * d.out_channels * d.kernel) as f64;
        (cost(&best) <= direct / 2.0).then_some(best)
    }

    /// With transforms of length `n`; `None` if that is too short for the kernel or not this method's case.
    pub(super) fn with_length(d: Dims, n: usize) -> Option<Self> {
        let out = d.out_length()?;
        let fits = d.stride == 1 && d.dilation == 1 && d.kernel <= n && (8..=fft::MAX).contains(&n);
        let m = (n + 1).checked_sub(d.kernel)?;
        let fits = fits && d.in_channels > 0 && d.out_channels > 0;
        (fits && n.is_power_of_two()).then(|| Self { d, out, n, m, tiles: out.div_ceil(m) })
    }

    /// Outputs of a tile: a sample cut at multiples of it is the same tiles.
    pub(super) fn grain(&self) -> usize {
        self.m
    }

    /// FLOPs of the forward and of the backward pass: 6 for a complex multiply-add, 4 for the pair of real ones of frequency
    /// 0, 2.5 n log2 n for a real transform. Left out are the sums of two parts, the weights' transforms, which serve many
    /// windows, and what rounding up to [`CHUNK`] channels adds.
    pub(super) fn flops(&self) -> (u64, u64) {
        let (ins, outs) = (self.d.in_channels as u64, self.d.out_channels as u64);
        let (n, tiles) = (self.n as u64, (self.d.batch * self.tiles) as u64);
        let groups = tiles.div_ceil(self.group().max(1) as u64);
        let (products, transform) = ((3 * n - 2) * ins * outs, 5 * n * u64::from(self.n.ilog2()) / 2);
        // Backward: spectra of dz and of x, dx back; products for dx and for dw; dw back, once for a group.
        let back = tiles * (2 * products + transform * (2 * ins + outs)) + groups * transform * ins * outs;
        (tiles * (products + transform * (ins + outs)), back)
    }

    /// Tiles of a group: groups are almost equal.
    fn group(&self) -> usize {
        let all = self.d.batch * self.tiles;
        all.div_ceil(all.div_ceil(GROUP).max(1))
    }

    /// Blocks of frequencies: [`Layout::frequencies`].
    pub(super) fn frequencies(&self) -> usize {
        self.n / 2
    }

    fn input(&self, rows: usize) -> Layout {
        Layout::new(self.n, self.d.in_channels, rows)
    }

    fn output(&self, rows: usize) -> Layout {
        Layout::new(self.n, self.d.out_channels, rows)
    }

    /// Elements of the weights of one direction.
    pub(super) fn weights_len(&self, direction: Direction) -> usize {
        floats(self.weights(direction))
    }

    fn weights(&self, direction: Direction) -> Layout {
        match direction {
            Direction::Forward => self.output(self.d.in_channels),
            Direction::Backward => self.input(self.d.out_channels),
        }
    }

    /// Elements of scratch of the forward pass, without weights.
    pub(super) fn forward_len(&self) -> usize {
        let rows = self.group();
        ALIGN + floats(self.input(rows)) + floats(self.output(rows))
    }

    /// Elements of scratch of the backward pass, without weights; `dz`: whether it differs from dy.
    pub(super) fn backward_len(&self, dz: bool) -> usize {
        self.forward_len() + self.n / 2 * OUTER * BLOCK + self.dz_len(dz)
    }

    /// Elements of a tile of dz.
    fn dz_len(&self, dz: bool) -> usize {
        if dz { self.m * self.d.out_channels } else { 0 }
    }

    /// Flat output rows of a range of tiles of the batch.
    fn rows_of(&self, tiles: Range<usize>) -> Range<usize> {
        let start = |tile: usize| (tile / self.tiles) * self.out + (tile % self.tiles) * self.m;
        start(tiles.start)..start(tiles.end)
    }
}

/// Which pass the weights are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    Backward,
}

const BLOCK: usize = 2 * CHUNK;

/// Elements that may be skipped to start at a cache line: a vector across two costs two accesses.
const ALIGN: usize = 16;

#[track_caller]
fn floats(layout: Layout) -> usize {
    layout.len().and_then(|l| l.checked_mul(BLOCK)).expect("conv1d: the spectra's size overflows")
}

/// The blocks of `len` elements of `scratch`, from a cache line on, and the rest.
fn blocks(scratch: &mut [f32]) -> &mut [Block] {
    let skip = scratch.as_ptr().align_offset(64).min(ALIGN).min(scratch.len());
    scratch[skip..].as_chunks_mut().0
}

/// Transforms the weights `[out, in, kernel]`; `to`: [`Plan::weights_len`] elements.
pub(super) fn prepare(isa: Isa, plan: &Plan, direction: Direction, w: &[f32], to: &mut [f32]) {
    let (d, tables) = (plan.d, Tables::new(plan.n));
    let layout = plan.weights(direction);
    let to = to.as_chunks_mut().0;
    isa.run(Weights { d, tables: &tables, layout, direction, w, to });
}

struct Weights<'a> {
    d: Dims,
    tables: &'a Tables,
    layout: Layout,
    direction: Direction,
    w: &'a [f32],
    to: &'a mut [Block],
}

impl Task for Weights<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { d, tables, layout, direction, w, to } = self;
        let n = tables.order().len();
        // H = conj(F w) / n for the forward pass, its conjugate for the backward pass.
        let (lanes, lane_step, step, sign) = match direction {
            Direction::Forward => (d.out_channels, d.in_channels * d.kernel, d.kernel, -1.0),
            Direction::Backward => (d.in_channels, d.kernel, d.in_channels * d.kernel, 1.0),
        };
        let scale = 1.0 / n as f32;
        let (re_scale, im_scale) = (s.splat(scale), s.splat(sign * scale));
        let mut buffer = [s.splat(0.0); fft::MAX];
        let buffer = &mut buffer[..n];
        for chunk in 0..layout.chunks {
            let first = chunk * CHUNK;
            for channel in 0..layout.rows {
                for lane in (0..CHUNK).step_by(S::LANES) {
                    let w = &w[((first + lane) * lane_step + channel * step).min(w.len())..];
                    clear(s, tables, d.kernel..n, buffer);
                    let lanes = lanes.saturating_sub(first + lane).min(S::LANES);
                    spread_taps(s, d.kernel, tables, w, lane_step, lanes, buffer);
                    // The next channel's.
                    for lane in 0..lanes {
                        s.prefetch(w.get(lane * lane_step + step + d.kernel - 1..).unwrap_or(&[]));
                    }
                    fft::forward(s, tables, buffer);
                    let at = layout.pair(chunk) + channel * layout.width(chunk);
                    put(s, &mut to[at], lane, s.mul(buffer[0], re_scale), s.mul(buffer[n / 2], re_scale));
                    for f in 1..n / 2 {
                        let (re, im) = (s.mul(buffer[f], re_scale), s.mul(buffer[n - f], im_scale));
                        put(s, &mut to[at + f * layout.stride()], lane, re, im);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn put<S: Simd>(s: S, block: &mut Block, lane: usize, re: S::V, im: S::V) {
    let (r, i) = block.split_at_mut(CHUNK);
    s.store(re, &mut r[lane..]);
    s.store(im, &mut i[lane..]);
}

/// Spectra of the tiles `first..` of `data` `[samples, length, channels]`: tile i of a sample takes `count` positions from
/// i m - offset on, and zeros outside the sample and after them.
struct Analyse<'a> {
    plan: &'a Plan,
    tables: &'a Tables,
    data: &'a [f32],
    /// Position of `data` in the batch, in rows.
    base: usize,
    length: usize,
    channels: usize,
    offset: usize,
    count: usize,
    first: usize,
    /// Which of them.
    rows: Range<usize>,
    layout: Layout,
    to: &'a mut [Block],
}

impl Task for Analyse<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { plan, tables, data, base, length, channels, offset, count, first, rows, layout, to } =
            self;
        let n = plan.n;
        let mut buffer = [s.splat(0.0); fft::MAX];
        let buffer = &mut buffer[..n];
        for row in rows {
            let (sample, tile) = ((first + row) / plan.tiles, (first + row) % plan.tiles);
            // Elements j of the tile that lie in the sample, and the row of `data` that element 0 would be.
            let start = tile * plan.m;
            let inside = offset.saturating_sub(start)..count.min((length + offset).saturating_sub(start));
            let origin = (sample * length + start) as isize - (offset + base) as isize;
            for chunk in 0..layout.chunks {
                // From a chunk of this tile to the next, or to the first of the next tile.
                let last = chunk + 1 == layout.chunks;
                let ahead = if last { plan.m * channels - chunk * CHUNK } else { CHUNK };
                for lane in (0..CHUNK).step_by(S::LANES) {
                    let channel = chunk * CHUNK + lane;
                    let width = channels.saturating_sub(channel).min(S::LANES);
                    let inside = if width > 0 && inside.start < inside.end { inside.clone() } else { 0..0 };
                    clear(s, tables, 0..inside.start, buffer);
                    clear(s, tables, inside.end..n, buffer);
                    let mut at = (origin + inside.start as isize) * channels as isize + channel as isize;
                    // No places if the tile lies outside.
                    let places = tables.order().get(inside.clone()).unwrap_or(&[]);
                    for &place in places {
                        let from = &data[at as usize..];
                        s.prefetch(from.get(ahead..).unwrap_or(&[]));
                        let v = if width == S::LANES { s.load(from) } else { s.load_partial(&from[..width]) };
                        if let Some(x) = buffer.get_mut(usize::from(place)) {
                            *x = v;
                        }
                        at += channels as isize;
                    }
                    fft::forward(s, tables, buffer);
                    let (at, next) = (layout.at(0, chunk) + row, layout.after(row, chunk));
                    put(s, &mut to[at], lane, buffer[0], buffer[n / 2]);
                    for f in 1..n / 2 {
                        expect(s, to, next + f * layout.stride());
                        put(s, &mut to[at + f * layout.stride()], lane, buffer[f], buffer[n - f]);
                    }
                }
            }
        }
    }
}

/// 0 at these elements of a transform's input.
#[inline(always)]
fn clear<S: Simd>(s: S, tables: &Tables, elements: Range<usize>, x: &mut [S::V]) {
    for &place in tables.order().get(elements).unwrap_or(&[]) {
        if let Some(x) = x.get_mut(usize::from(place)) {
            *x = s.splat(0.0);
        }
    }
}

/// A hint that this block is needed by the next transform.
#[inline(always)]
fn expect<S: Simd>(s: S, blocks: &[Block], at: usize) {
    if let Some(block) = blocks.get(at) {
        s.prefetch(block);
        s.prefetch(&block[CHUNK..]);
    }
}

/// n times the inverse transform of one vector of channels, in bit-reversed order; `next`: the block of frequency 0 of the
/// transform after this one.
#[inline(always)]
fn synthesise<S: Simd>(
    s: S,
    tables: &Tables,
    from: &[Block],
    at: usize,
    stride: usize,
    lane: usize,
    next: usize,
    x: &mut [S::V],
) {
    let n = x.len();
    let get = |block: &Block| (s.load(&block[lane..CHUNK]), s.load(&block[CHUNK + lane..]));
    (x[0], x[n / 2]) = get(&from[at]);
    for f in 1..n / 2 {
        expect(s, from, next + f * stride);
        (x[f], x[n - f]) = get(&from[at + f * stride]);
    }
    fft::inverse(s, tables, x);
}

/// What becomes of the inverse transforms of the tiles `first..`.
struct Synthesise<'a> {
    plan: &'a Plan,
    tables: &'a Tables,
    from: &'a [Block],
    layout: Layout,
    first: usize,
}

/// y = act(z + b).
struct Outputs<'a> {
    of: Synthesise<'a>,
    b: Option<&'a [f32]>,
    relu: bool,
    /// Flat rows of the batch that `y` holds.
    rows: Range<usize>,
    y: &'a mut [f32],
}

impl Task for Outputs<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of: Synthesise { plan, tables, from, layout, first }, b, relu, rows, y } = self;
        let (n, channels, zero) = (plan.n, plan.d.out_channels, s.splat(0.0));
        let mut buffer = [zero; fft::MAX];
        let buffer = &mut buffer[..n];
        for row in 0..layout.rows {
            let (sample, tile) = ((first + row) / plan.tiles, (first + row) % plan.tiles);
            let start = sample * plan.out + tile * plan.m;
            let inside = rows.start.saturating_sub(start)
                ..plan.m.min(plan.out - tile * plan.m).min(rows.end.saturating_sub(start));
            if inside.is_empty() {
                continue;
            }
            for channel in (0..channels).step_by(S::LANES) {
                let (chunk, lane) = (channel / CHUNK, channel % CHUNK);
                let last = chunk + 1 == layout.chunks;
                let ahead = if last { plan.m * channels - chunk * CHUNK } else { CHUNK };
                let at = layout.at(0, chunk) + row;
                synthesise(s, tables, from, at, layout.stride(), lane, layout.after(row, chunk), buffer);
                let width = (channels - channel).min(S::LANES);
                let bias = b.map_or(zero, |b| s.load_partial(&b[channel..channel + width]));
                for j in inside.clone() {
                    let z = s.add(buffer[usize::from(tables.order()[j])], bias);
                    // Not max: a NaN must stay NaN.
                    let z = if relu { s.select(s.gt(zero, z), zero, z) } else { z };
                    let y = &mut y[(start + j - rows.start) * channels + channel..];
                    s.prefetch(y.get(ahead..).unwrap_or(&[]));
                    if width == S::LANES {
                        s.store(z, y);
                    } else {
                        s.store_partial(z, &mut y[..width]);
                    }
                }
            }
        }
    }
}

/// dx (+)= the tiles, overlapping.
struct InputGradient<'a> {
    of: Synthesise<'a>,
    beta: Beta,
    dx: &'a mut [f32],
}

impl Task for InputGradient<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of: Synthesise { plan, tables, from, layout, first }, beta, dx } = self;
        let (n, channels, length) = (plan.n, plan.d.in_channels, plan.d.length);
        let mut buffer = [s.splat(0.0); fft::MAX];
        let buffer = &mut buffer[..n];
        for row in 0..layout.rows {
            let (sample, tile) = ((first + row) / plan.tiles, (first + row) % plan.tiles);
            let start = tile * plan.m;
            let padding = plan.d.padding;
            let inside = padding.saturating_sub(start)..n.min((length + padding).saturating_sub(start));
            // The elements before this one have been written by the tile before.
            let fresh = if beta == Beta::One {
                n
            } else if tile == 0 {
                0
            } else {
                n - plan.m
            };
            let origin = (sample * length + start) as isize - padding as isize;
            for channel in (0..channels).step_by(S::LANES) {
                let (chunk, lane) = (channel / CHUNK, channel % CHUNK);
                let last = chunk + 1 == layout.chunks;
                let ahead = if last { plan.m * channels - chunk * CHUNK } else { CHUNK };
                let at = layout.at(0, chunk) + row;
                synthesise(s, tables, from, at, layout.stride(), lane, layout.after(row, chunk), buffer);
                let width = (channels - channel).min(S::LANES);
                for j in inside.clone() {
                    let v = buffer[usize::from(tables.order()[j])];
                    let dx = &mut dx[(origin + j as isize) as usize * channels + channel..];
                    s.prefetch(dx.get(ahead..).unwrap_or(&[]));
                    if width == S::LANES {
                        s.store(if j < fresh { s.add(s.load(dx), v) } else { v }, dx);
                    } else {
                        let dx = &mut dx[..width];
                        s.store_partial(if j < fresh { s.add(s.load_partial(dx), v) } else { v }, dx);
                    }
                }
            }
        }
    }
}

/// dw of one chunk of output and two of input channels += the first taps.
struct WeightGradient<'a> {
    d: Dims,
    tables: &'a Tables,
    out_chunk: usize,
    in_chunk: usize,
    from: &'a [Block],
    dw: &'a mut [f32],
}

impl Task for WeightGradient<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { d, tables, out_chunk, in_chunk, from, dw } = self;
        let n = tables.order().len();
        let scale = s.splat(1.0 / n as f32);
        let mut buffer = [s.splat(0.0); fft::MAX];
        let buffer = &mut buffer[..n];
        let o = out_chunk * CHUNK;
        for (row, chunk) in (0..CHUNK.min(d.out_channels - o)).flat_map(|row| [(row, 0), (row, 1)]) {
            let c = (in_chunk + chunk) * CHUNK;
            let width = CHUNK.min(d.in_channels.saturating_sub(c));
            let at = ((o + row) * d.in_channels + c.min(d.in_channels)) * d.kernel;
            // Read after the transform.
            for line in dw[at..][..width * d.kernel].chunks(16) {
                s.prefetch(line);
            }
            for lane in (0..width).step_by(S::LANES) {
                let (place, next) = (chunk * CHUNK + row, (1 - chunk) * CHUNK + row + chunk);
                synthesise(s, tables, from, place, OUTER, lane, next, buffer);
                let dw = &mut dw[at + lane * d.kernel..][..(width - lane).min(S::LANES) * d.kernel];
                add_taps(s, d.kernel, tables, scale, buffer, dw);
            }
        }
    }
}

/// The taps of `lanes` channels, `step` apart in w, to their places in bit-reversed order; the other lanes are 0.
#[inline(always)]
fn spread_taps<S: Simd>(
    s: S,
    taps: usize,
    tables: &Tables,
    w: &[f32],
    step: usize,
    lanes: usize,
    x: &mut [S::V],
) {
    let order = &tables.order()[..taps];
    let square = order.chunks_exact(S::LANES);
    let rest = square.remainder();
    for (block, order) in square.enumerate() {
        let mut v = [s.splat(0.0); CHUNK];
        for (lane, v) in v.iter_mut().enumerate().take(lanes) {
            *v = s.load(&w[lane * step + block * S::LANES..]);
        }
        s.transpose(&mut v);
        for (v, place) in v.into_iter().zip(order) {
            x[usize::from(*place)] = v;
        }
    }
    for (i, place) in rest.iter().enumerate() {
        let mut tap = [0.0; CHUNK];
        for (lane, tap) in tap.iter_mut().enumerate().take(lanes) {
            *tap = w[lane * step + taps - rest.len() + i];
        }
        x[usize::from(*place)] = s.load(&tap);
    }
}

/// dw `[lane, tap]` += scale x of the first taps, x in bit-reversed order.
#[inline(always)]
fn add_taps<S: Simd>(s: S, taps: usize, tables: &Tables, scale: S::V, x: &[S::V], dw: &mut [f32]) {
    let order = &tables.order()[..taps];
    let get = |place: &u8| s.mul(x[usize::from(*place)], scale);
    let square = order.chunks_exact(S::LANES);
    let rest = square.remainder();
    for (block, order) in square.enumerate() {
        let mut v = [s.splat(0.0); CHUNK];
        for (v, place) in v.iter_mut().zip(order) {
            *v = get(place);
        }
        s.transpose(&mut v);
        for (v, dw) in v.into_iter().zip(dw.chunks_exact_mut(taps)) {
            let dw = &mut dw[block * S::LANES..];
            s.store(s.add(s.load(dw), v), dw);
        }
    }
    for (i, place) in rest.iter().enumerate() {
        let mut lanes = [0.0; CHUNK];
        s.store(get(place), &mut lanes);
        for (x, dw) in lanes.into_iter().zip(dw.chunks_exact_mut(taps)) {
            dw[taps - rest.len() + i] += x;
        }
    }
}

/// y = act(w * x + b) at the flat rows `rows` of the batch; their ends are the batch's or multiples of [`Plan::grain`] in
/// a batch of 1. `w`: from [`prepare`], `scratch`: [`Plan::forward_len`] elements.
pub(super) fn forward(
    isa: Isa,
    plan: &Plan,
    x: &[f32],
    w: &[f32],
    b: Option<&[f32]>,
    relu: bool,
    rows: Range<usize>,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let tables = Tables::new(plan.n);
    let (w_layout, w) = (plan.weights(Direction::Forward), w.as_chunks().0);
    let scratch = blocks(scratch);
    let tile = |row: usize| (row / plan.out) * plan.tiles + (row % plan.out).div_ceil(plan.m);
    let (begin, end) = (tile(rows.start), tile(rows.end));
    for first in (begin..end).step_by(plan.group().max(1)) {
        let count = plan.group().min(end - first);
        let (x_layout, z_layout) = (plan.input(count), plan.output(count));
        let (u, z) = scratch.split_at_mut(x_layout.len().unwrap_or(0));
        isa.run(analyse_input(plan, &tables, x, first, x_layout, u));
        let frequencies = 0..plan.frequencies();
        isa.run(Product { x: u, x_layout, w, w_layout, frequencies, z, z_layout });
        let of = Synthesise { plan, tables: &tables, from: z, layout: z_layout, first };
        isa.run(Outputs { of, b, relu, rows: rows.clone(), y });
    }
}

/// The forward pass of one sample in three steps that threads share, for at most [`GROUP`] tiles: spectra of x by groups of
/// tiles, products by frequency, inverse transforms by tiles. See [`super::Steps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shared {
    plan: Plan,
    /// Tiles of a group of x.
    group: usize,
}

impl Shared {
    /// With spectra of x made in `groups`.
    pub(super) fn of(plan: Plan, groups: usize) -> Option<Self> {
        let fits = plan.d.batch == 1 && (1..=GROUP).contains(&plan.tiles);
        fits.then(|| Self { plan, group: plan.tiles.div_ceil(groups.max(1)) })
    }

    /// Groups of x.
    pub(super) fn groups(&self) -> usize {
        self.plan.tiles.div_ceil(self.group)
    }

    pub(super) fn frequencies(&self) -> usize {
        self.plan.frequencies()
    }

    /// Elements of the spectra of a group.
    pub(super) fn group_len(&self) -> usize {
        floats(self.plan.input(self.group))
    }

    /// Elements of the products of a frequency.
    pub(super) fn frequency_len(&self) -> usize {
        self.products().stride() * BLOCK
    }

    fn products(&self) -> Layout {
        self.plan.output(self.plan.tiles)
    }

    pub(super) fn analyse(&self, isa: Isa, x: &[f32], group: usize, spectra: &mut [f32]) {
        let (plan, first) = (&self.plan, group * self.group);
        let layout = plan.input(self.group);
        let rows = 0..self.group.min(plan.tiles - first);
        let to = spectra.as_chunks_mut().0;
        isa.run(Analyse { rows, ..analyse_input(plan, &Tables::new(plan.n), x, first, layout, to) });
    }

    pub(super) fn multiply(
        &self,
        isa: Isa,
        spectra: &[f32],
        w: &[f32],
        frequencies: Range<usize>,
        products: &mut [f32],
    ) {
        let (x, w, z) = (spectra.as_chunks().0, w.as_chunks().0, products.as_chunks_mut().0);
        let (x_layout, z_layout) = (self.plan.input(self.group), self.products());
        let w_layout = self.plan.weights(Direction::Forward);
        isa.run(Product { x, x_layout, w, w_layout, frequencies, z, z_layout });
    }

    pub(super) fn synthesise(
        &self,
        isa: Isa,
        products: &[f32],
        b: Option<&[f32]>,
        relu: bool,
        rows: Range<usize>,
        y: &mut [f32],
    ) {
        let (plan, tables, from) = (&self.plan, &Tables::new(self.plan.n), products.as_chunks().0);
        let of = Synthesise { plan, tables, from, layout: self.products(), first: 0 };
        isa.run(Outputs { of, b, relu, rows, y });
    }
}

fn analyse_input<'a>(
    plan: &'a Plan,
    tables: &'a Tables,
    data: &'a [f32],
    first: usize,
    layout: Layout,
    to: &'a mut [Block],
) -> Analyse<'a> {
    let (d, base) = (plan.d, 0);
    let (length, channels, offset, count) = (d.length, d.in_channels, d.padding, plan.n);
    let rows = 0..layout.rows;
    Analyse { plan, tables, data, base, length, channels, offset, count, first, rows, layout, to }
}

/// What dz is made of: dy act'(z), or dy act'(y) for ReLU.
#[derive(Clone, Copy)]
pub(super) struct OutputGradient<'a> {
    pub(super) act: Option<Activation>,
    pub(super) z: &'a [f32],
    pub(super) dy: &'a [f32],
}

/// The gradients asked for; `w`: from [`prepare`], only read for dx; `scratch`: [`Plan::backward_len`] elements.
pub(super) fn backward(
    isa: Isa,
    plan: &Plan,
    x: &[f32],
    w: &[f32],
    OutputGradient { act, z, dy }: OutputGradient<'_>,
    mut dx: Option<GradMut<'_, f32>>,
    mut dw: Option<&mut [f32]>,
    mut db: Option<&mut [f32]>,
    scratch: &mut [f32],
) {
    let (d, tables) = (plan.d, Tables::new(plan.n));
    let (w_layout, w) = (plan.weights(Direction::Backward), w.as_chunks().0);
    let (dz_buffer, scratch) = scratch.split_at_mut(plan.dz_len(act.is_some()));
    let (products, scratch) = blocks(scratch).split_at_mut(plan.n / 2 * OUTER);
    let end = d.batch * plan.tiles;
    for first in (0..end).step_by(plan.group().max(1)) {
        let rows = plan.group().min(end - first);
        let (u_layout, z_layout) = (plan.input(rows), plan.output(rows));
        let (u, spectra) = scratch.split_at_mut(u_layout.len().unwrap_or(0));
        for row in 0..rows {
            let range = plan.rows_of(first + row..first + row + 1);
            let (base, elements) = (range.start, range.start * d.out_channels..range.end * d.out_channels);
            let dz = match act {
                None => &dy[elements],
                Some(kind) => {
                    let dz = &mut dz_buffer[..elements.len()];
                    activation::backward(
                        isa,
                        kind,
                        &z[elements.clone()],
                        &dy[elements],
                        GradMut::overwrite(dz),
                    );
                    &*dz
                }
            };
            if let Some(db) = &mut db {
                gemm::add_column_sums(isa, range.len(), d.out_channels, dz, db);
            }
            if dx.is_some() || dw.is_some() {
                isa.run(Analyse {
                    plan,
                    tables: &tables,
                    data: dz,
                    base,
                    length: plan.out,
                    channels: d.out_channels,
                    offset: 0,
                    count: plan.m,
                    first,
                    rows: row..row + 1,
                    layout: z_layout,
                    to: spectra,
                });
            }
        }
        if let Some(dw) = &mut dw {
            isa.run(analyse_input(plan, &tables, x, first, u_layout, u));
            for out_chunk in 0..z_layout.chunks {
                for in_chunk in (0..u_layout.chunks).step_by(2) {
                    let (a, a_layout, a_chunk) = (&*spectra, z_layout, out_chunk);
                    let (b, b_layout, b_chunk, out) = (&*u, u_layout, in_chunk, &mut *products);
                    isa.run(Outer { a, a_layout, a_chunk, b, b_layout, b_chunk, out });
                    let (tables, from) = (&tables, &*products);
                    isa.run(WeightGradient { d, tables, out_chunk, in_chunk, from, dw });
                }
            }
        }
        if let Some(dx) = &mut dx {
            // The spectra of x have served; du takes their place.
            let (x_layout, frequencies) = (z_layout, 0..plan.frequencies());
            isa.run(Product { x: spectra, x_layout, w, w_layout, frequencies, z: u, z_layout: u_layout });
            let of = Synthesise { plan, tables: &tables, from: u, layout: u_layout, first };
            isa.run(InputGradient { of, beta: dx.beta, dx: dx.data });
        }
    }
}
