//! Products of spectra: for each frequency a small complex matrix product.
//!
//! **Layout.** Channels in chunks of [`CHUNK`]. A [`Block`] is one chunk at one frequency: real parts, then imaginary
//! parts. Frequency 0 holds the two real frequencies of the transform, 0 in the real parts and n/2 in the imaginary
//! ones, so a sequence of n numbers takes n/2 frequencies. Spectra are `[frequency][chunk][row]` blocks, one row for each
//! stretch of the signal; the weights are `[frequency][pair of chunks of the result][channel of the operand][chunk]`
//! blocks.
//!
//! **Formula.** Row r of the result at each frequency: z\[r\] = sum over channels c of x\[r, c\] w\[c\], complex; for
//! frequency 0 the two parts multiply apart. A complex product takes three real ones (Karatsuba and Ofman 1962), and the
//! sums over channels are taken of the three:
//!
//! ```text
//! p = Re x Re w,  q = Im x Im w,  s = (Re x + Im x) (Re w + Im w):  Re x w = p - q,  Im x w = s - p - q
//! s' = (Re x - Im x) (Re w + Im w):  Re conj(x) w = p + q,  Im conj(x) w = s' - p + q      (the weights' gradient)
//! ```
//!
//! The sums of two parts are made in registers: for weights once for all rows of the register tile, for x once for all its
//! vectors. Stored sums would be half as many weights again to read.
//!
//! **What the layout buys.** Rows of a chunk lie 128 bytes apart, a constant, so the inner loop addresses all its rows
//! from one register and checks no bounds. The weights are read once, from the first block to the last: [`SEGMENT`] chunks
//! of channels for a pair of result chunks (8 KiB) stay in the first-level cache for all rows, and while they serve, the
//! segment after them is asked for, a line for every channel. A pass touches everything else in between, so spectra of
//! 8 MB come from memory: in one stream and asked for in time. An odd number of blocks from
//! frequency to frequency keeps a transform's accesses from meeting in one cache set.
//!
//! Measured and tried: `benches/NOTES.md`.

use crate::isa::{Portable, Simd, Task};
use std::any::TypeId;
use std::ops::Range;

/// Channels of a block: the lanes of the widest vector.
pub(super) const CHUNK: usize = 16;

/// Real parts of a chunk of channels, then the imaginary parts.
pub(super) type Block = [f32; 2 * CHUNK];

/// Chunks of channels that are summed in registers before they are added to the result: an error grows as the root of the
/// terms summed in a row. Of the whole 17-tap convolution the rms error is, forward and dx, 1.9e-7 and 2.0e-7 of the rms of
/// the result with 1, 2.1e-7 and 2.2e-7 with 2, 2.5e-7 and 2.6e-7 with 4, 3.2e-7 and 4.4e-7 with all in a row; 1 is 2 to 3 %
/// slower than 2, all in a row 30 % (the weights no longer stay in the first-level cache).
const SEGMENT: usize = 2;

/// Where the blocks of a matrix of spectra are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Half the transform's length.
    pub(super) frequencies: usize,
    /// Chunks of channels.
    pub(super) chunks: usize,
    /// Blocks of a chunk.
    pub(super) rows: usize,
}

impl Layout {
    pub(super) fn new(n: usize, channels: usize, rows: usize) -> Self {
        Self { frequencies: n / 2, chunks: channels.div_ceil(CHUNK), rows }
    }
    /// Blocks from frequency to frequency.
    pub(super) fn stride(&self) -> usize {
        (self.chunks * self.rows) | 1
    }
    /// Blocks of all frequencies.
    pub(super) fn blocks(&self) -> usize {
        self.stride() * self.frequencies
    }
    /// [`Layout::blocks`], `None` on overflow.
    pub(super) fn len(&self) -> Option<usize> {
        (self.chunks.checked_mul(self.rows)? | 1).checked_mul(self.frequencies)
    }
    /// The first block of a chunk at a frequency.
    #[inline(always)]
    pub(super) fn at(&self, frequency: usize, chunk: usize) -> usize {
        frequency * self.stride() + chunk * self.rows
    }
    /// The block after a row's chunk in the order (row, chunk), at frequency 0.
    #[inline(always)]
    pub(super) fn after(&self, row: usize, chunk: usize) -> usize {
        if chunk + 1 == self.chunks { row + 1 } else { self.at(0, chunk + 1) + row }
    }
    /// Of weights, whose chunks lie in pairs, block by block: the first block of a chunk at frequency 0.
    pub(super) fn pair(&self, chunk: usize) -> usize {
        self.at(0, chunk / 2 * 2) + chunk % 2
    }
    /// Blocks of weights from channel to channel: chunks of the pair.
    pub(super) fn width(&self, chunk: usize) -> usize {
        if chunk / 2 * 2 + 1 < self.chunks { 2 } else { 1 }
    }
}

/// z = x w for some frequencies.
pub(super) struct Product<'a> {
    /// One matrix of spectra or several in a row, each with the next rows of z; the last may have rows that are not read.
    pub(super) x: &'a [Block],
    pub(super) x_layout: Layout,
    pub(super) w: &'a [Block],
    pub(super) w_layout: Layout,
    pub(super) frequencies: Range<usize>,
    /// From the first of the frequencies on.
    pub(super) z: &'a mut [Block],
    pub(super) z_layout: Layout,
}

impl Task for Product<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if TypeId::of::<S>() == TypeId::of::<Portable>() {
            // An array of eight takes two SSE registers.
            self.run_by::<S, 1, 1>(s);
        } else if S::REGISTERS >= 32 {
            self.run_by::<S, 4, 2>(s);
        } else {
            self.run_by::<S, 3, 1>(s);
        }
    }
}

impl Product<'_> {
    /// At most `R` rows and `C` vectors at a time.
    #[inline(always)]
    fn run_by<S: Simd, const R: usize, const C: usize>(self, s: S) {
        let Self { x, x_layout, w, w_layout, frequencies, z, z_layout } = self;
        let (rows, group, channels) = (z_layout.rows, x_layout.rows, w_layout.rows);
        if rows == 0 || x_layout.chunks == 0 {
            return;
        }
        for (f, z) in frequencies.zip(z.chunks_mut(z_layout.stride())) {
            for chunk in (0..z_layout.chunks).step_by(2) {
                let width = (z_layout.chunks - chunk).min(2);
                let w = &w[w_layout.at(f, chunk)..];
                let z = &mut z[chunk * rows..][..width * rows];
                for (segment, here) in w[..channels * width].chunks(SEGMENT * CHUNK * width).enumerate() {
                    // What comes next: the next segment, of this pair, the next one or the next frequency. Each part asks
                    // for a line with every channel, so it is done with half as many blocks.
                    let mut ahead = w.get((segment + 1) * SEGMENT * CHUNK * width..).unwrap_or(&[]);
                    for (begin, x) in (0..rows).step_by(group).zip(x.chunks(x_layout.blocks())) {
                        let x = &x[x_layout.at(f, segment * SEGMENT)..];
                        let x = &x[..group * SEGMENT.min(x_layout.chunks - segment * SEGMENT)];
                        // Parts of almost equal height, so that none is a short remainder.
                        let height = group.min(rows - begin);
                        let parts = height.div_ceil(R);
                        for part in 0..parts {
                            let (first, end) = (part * height / parts, (part + 1) * height / parts);
                            for v in (0..width * CHUNK / S::LANES).step_by(C) {
                                let (row, add) = (begin + first, segment > 0);
                                let place = Place { rows, group, width, vector: v, row, add };
                                let (x, count) = (&x[first..], end - first);
                                let ahead = if v == 0 { ahead } else { &[] };
                                if f == 0 {
                                    some_rows::<S, R, C, true>(s, x, here, ahead, place, count, z);
                                } else {
                                    some_rows::<S, R, C, false>(s, x, here, ahead, place, count, z);
                                }
                            }
                            ahead = ahead.get(SEGMENT * CHUNK / 2..).unwrap_or(&[]);
                        }
                    }
                }
            }
        }
    }
}

/// Where a register tile is.
#[derive(Clone, Copy)]
struct Place {
    /// Rows of a chunk of the result.
    rows: usize,
    /// Rows of a chunk of x.
    group: usize,
    /// Chunks of the pair: 2, or 1 at the end.
    width: usize,
    /// The first vector among the pair's.
    vector: usize,
    /// The first row of the result.
    row: usize,
    /// Whether segments before have left sums.
    add: bool,
}

/// The loop for this number of rows.
#[inline(always)]
fn some_rows<S: Simd, const R: usize, const C: usize, const REAL: bool>(
    s: S,
    x: &[Block],
    w: &[Block],
    ahead: &[Block],
    place: Place,
    rows: usize,
    z: &mut [Block],
) {
    if C == 2 && place.width * CHUNK / S::LANES - place.vector >= 2 {
        match rows {
            1 => these_rows::<S, 1, 2, REAL>(s, x, w, ahead, place, z),
            2 => these_rows::<S, 2, 2, REAL>(s, x, w, ahead, place, z),
            3 => these_rows::<S, 3, 2, REAL>(s, x, w, ahead, place, z),
            4 => these_rows::<S, 4, 2, REAL>(s, x, w, ahead, place, z),
            _ => {}
        }
    } else {
        match rows {
            1 => these_rows::<S, 1, 1, REAL>(s, x, w, ahead, place, z),
            _ if R < 2 => {}
            2 => these_rows::<S, 2, 1, REAL>(s, x, w, ahead, place, z),
            3 => these_rows::<S, 3, 1, REAL>(s, x, w, ahead, place, z),
            4 => these_rows::<S, 4, 1, REAL>(s, x, w, ahead, place, z),
            _ => {}
        }
    }
}

/// `R` rows of `C` vectors of the result from a segment's channels; `ahead`: what to ask for meanwhile.
#[inline(always)]
fn these_rows<S: Simd, const R: usize, const C: usize, const REAL: bool>(
    s: S,
    x: &[Block],
    w: &[Block],
    ahead: &[Block],
    Place { rows, group, width, vector, row, add }: Place,
    z: &mut [Block],
) {
    let zero = s.splat(0.0);
    let mut acc = [[[zero; 3]; C]; R];
    let first_lane = vector * S::LANES;
    for (i, (x, w)) in x.chunks(group).zip(w.chunks(CHUNK * width)).enumerate() {
        // Arrays of constant length: the rows' offsets are constants and the index needs no check.
        let Some(x) = x.first_chunk::<R>() else { return };
        for (c, w) in (0..CHUNK).zip(w.chunks_exact(width)) {
            if let Some(ahead) = ahead.get((i * CHUNK + c) / 2) {
                s.prefetch(&ahead[c % 2 * CHUNK..]);
            }
            let mut h = [[zero; 3]; C];
            for (v, h) in h.iter_mut().enumerate() {
                let (chunk, lane) = place(first_lane + v * S::LANES);
                let w = &w[chunk];
                let (re, im) = (s.load(&w[lane..]), s.load(&w[CHUNK + lane..]));
                *h = [re, im, s.add(re, im)];
            }
            for r in 0..R {
                let (re, im) = (s.splat(x[r][c]), s.splat(x[r][CHUNK + c]));
                for v in 0..C {
                    let (a, h) = (&mut acc[r][v], &h[v]);
                    a[0] = s.fma(re, h[0], a[0]);
                    a[1] = s.fma(im, h[1], a[1]);
                }
                if !REAL {
                    let sum = s.add(re, im);
                    for v in 0..C {
                        acc[r][v][2] = s.fma(sum, h[v][2], acc[r][v][2]);
                    }
                }
            }
        }
    }
    for r in 0..R {
        for v in 0..C {
            let (chunk, lane) = place(first_lane + v * S::LANES);
            let z = &mut z[chunk * rows + row + r];
            let [re, im, both] = acc[r][v];
            let (mut re, mut im) = if REAL { (re, im) } else { (s.sub(re, im), s.sub(both, s.add(re, im))) };
            if add {
                (re, im) = (s.add(s.load(&z[lane..]), re), s.add(s.load(&z[CHUNK + lane..]), im));
            }
            s.store(re, &mut z[lane..]);
            s.store(im, &mut z[CHUNK + lane..]);
        }
    }
}

/// Sum over rows of conj(a) b for one chunk of a's channels and two of b's, or the last one: `out` is `[frequency][chunk of
/// b][channel of a]`, a block of b's channels each, frequencies [`OUTER`] blocks apart.
pub(super) struct Outer<'a> {
    pub(super) a: &'a [Block],
    pub(super) a_layout: Layout,
    pub(super) a_chunk: usize,
    pub(super) b: &'a [Block],
    pub(super) b_layout: Layout,
    pub(super) b_chunk: usize,
    pub(super) out: &'a mut [Block],
}

/// Blocks from frequency to frequency of [`Outer`]'s result.
pub(super) const OUTER: usize = 2 * CHUNK + 1;

impl Task for Outer<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if TypeId::of::<S>() == TypeId::of::<Portable>() {
            self.run_by::<S, 1, 1>(s);
        } else if S::REGISTERS >= 32 {
            self.run_by::<S, 4, 2>(s);
        } else {
            self.run_by::<S, 2, 1>(s);
        }
    }
}

impl Outer<'_> {
    /// `R` channels of a and at most `C` vectors of b at a time.
    #[inline(always)]
    fn run_by<S: Simd, const R: usize, const C: usize>(self, s: S) {
        let Self { a, a_layout, a_chunk, b, b_layout, b_chunk, out } = self;
        let rows = a_layout.rows;
        let width = (b_layout.chunks - b_chunk).min(2);
        let vectors = width * CHUNK / S::LANES;
        for (f, out) in out.chunks_mut(OUTER).enumerate() {
            let a = &a[a_layout.at(f, a_chunk)..];
            let b = &b[b_layout.at(f, b_chunk)..];
            // The next frequency's rows, which lie elsewhere.
            let a_ahead = a.get(a_layout.stride()..).and_then(|a| a.get(..rows)).unwrap_or(&[]);
            let b_ahead = b.get(b_layout.stride()..).and_then(|b| b.get(..width * rows)).unwrap_or(&[]);
            let (a, b) = (&a[..rows], &b[..width * rows]);
            for v in (0..vectors).step_by(C) {
                for part in 0..CHUNK / R {
                    let ahead = if part < 2 {
                        b_ahead
                    } else if part < 4 {
                        a_ahead
                    } else {
                        &[]
                    };
                    match (f == 0, C == 2 && v + 1 < vectors) {
                        (true, true) => these_channels::<S, R, 2, true>(s, a, b, ahead, v, part, out),
                        (true, false) => these_channels::<S, R, 1, true>(s, a, b, ahead, v, part, out),
                        (false, true) => these_channels::<S, R, 2, false>(s, a, b, ahead, v, part, out),
                        (false, false) => these_channels::<S, R, 1, false>(s, a, b, ahead, v, part, out),
                    }
                }
            }
        }
    }
}

/// `R` channels of a with `C` vectors of b; `ahead`: of which a line each is asked for.
#[inline(always)]
fn these_channels<S: Simd, const R: usize, const C: usize, const REAL: bool>(
    s: S,
    a: &[Block],
    b: &[Block],
    ahead: &[Block],
    vector: usize,
    part: usize,
    out: &mut [Block],
) {
    let (zero, rows) = (s.splat(0.0), a.len());
    let mut acc = [[[zero; 3]; C]; R];
    let first_lane = vector * S::LANES;
    let first = (part * R).min(CHUNK - R);
    for ahead in ahead {
        s.prefetch(&ahead[part % 2 * CHUNK..]);
    }
    for (row, a) in a.iter().enumerate() {
        let mut h = [[zero; 3]; C];
        for (v, h) in h.iter_mut().enumerate() {
            let (chunk, lane) = place(first_lane + v * S::LANES);
            let b = &b[chunk * rows + row];
            let (re, im) = (s.load(&b[lane..]), s.load(&b[CHUNK + lane..]));
            *h = [re, im, s.add(re, im)];
        }
        for r in 0..R {
            let (re, im) = (s.splat(a[first + r]), s.splat(a[CHUNK + first + r]));
            for v in 0..C {
                let (c, h) = (&mut acc[r][v], &h[v]);
                c[0] = s.fma(re, h[0], c[0]);
                c[1] = s.fma(im, h[1], c[1]);
            }
            if !REAL {
                let difference = s.sub(re, im);
                for v in 0..C {
                    acc[r][v][2] = s.fma(difference, h[v][2], acc[r][v][2]);
                }
            }
        }
    }
    for r in 0..R {
        for v in 0..C {
            let (chunk, lane) = place(first_lane + v * S::LANES);
            let out = &mut out[chunk * CHUNK + part * R + r];
            let [re, im, both] = acc[r][v];
            let (re, im) = if REAL { (re, im) } else { (s.add(re, im), s.add(s.sub(both, re), im)) };
            s.store(re, &mut out[lane..]);
            s.store(im, &mut out[CHUNK + lane..]);
        }
    }
}

/// Chunk and first lane of the vector that starts at this lane of a pair of chunks.
#[inline(always)]
fn place(lane: usize) -> (usize, usize) {
    (lane / CHUNK, lane % CHUNK)
}
