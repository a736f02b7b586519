//! Products of spectra: for each frequency a small complex matrix product.
//!
//! **Layout.** Channels in chunks of [`CHUNK`]. A [`Block`] is one chunk at one frequency: real parts, then imaginary
//! parts. Frequency 0 holds the two real frequencies of the transform, 0 in the real parts and n/2 in the imaginary
//! ones, so a sequence of n numbers takes n/2 frequencies. Spectra are `[frequency][chunk][row]` blocks, one row for each
//! stretch of the signal; the weights are `[frequency][chunk of the result][channel of the operand]` blocks.
//!
//! **Formula.** Row r of the result at each frequency: z\[r\] = sum over channels c of x\[r, c\] w\[c\] (complex; for
//! frequency 0 the two parts multiply apart), 4 real multiply-adds for each complex one. Three would do (Karatsuba), but
//! they need half as many weights again, and reading those is what the product waits for.
//!
//! **What the layout buys.** Rows of a chunk lie 128 bytes apart, a constant, so the inner loop addresses all its rows
//! from one register and checks no bounds. The weights of a frequency are read once, in order, for all rows.
//! An odd number of blocks from frequency to frequency keeps a transform's accesses from meeting in one cache set.

use crate::isa::{Portable, Simd, Task};
use std::any::TypeId;

/// Channels of a block: the lanes of the widest vector.
pub(super) const CHUNK: usize = 16;

/// Real parts of a chunk of channels, then the imaginary parts.
pub(super) type Block = [f32; 2 * CHUNK];

/// Chunks of channels that are summed in registers before they are added to the result: an error grows as the root of the
/// terms summed in a row. Of the whole convolution it is, at
/// 128 channels, 3.2e-7 of the rms of the result with all in a row, 2.1e-7 with 2 (3.4e-7 in the implicit product), and
/// no slower.
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
    /// Blocks of all frequencies, `None` on overflow.
    pub(super) fn len(&self) -> Option<usize> {
        (self.chunks.checked_mul(self.rows)? | 1).checked_mul(self.frequencies)
    }
    /// The first block of a chunk at a frequency.
    #[inline(always)]
    pub(super) fn at(&self, frequency: usize, chunk: usize) -> usize {
        frequency * self.stride() + chunk * self.rows
    }
}

/// Rows that fit the registers beside the weights and one element: two accumulators each.
#[inline(always)]
fn most_rows<S: Simd>() -> usize {
    if TypeId::of::<S>() == TypeId::of::<Portable>() {
        // An array of eight takes two SSE registers.
        2
    } else if S::REGISTERS >= 32 {
        12
    } else {
        6
    }
}

/// z = x w for all frequencies.
pub(super) struct Product<'a> {
    pub(super) x: &'a [Block],
    pub(super) x_layout: Layout,
    pub(super) w: &'a [Block],
    pub(super) w_layout: Layout,
    pub(super) z: &'a mut [Block],
    pub(super) z_layout: Layout,
}

impl Task for Product<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, x_layout, w, w_layout, z, z_layout } = self;
        let rows = x_layout.rows;
        if rows == 0 || x_layout.chunks == 0 {
            return;
        }
        // Parts of almost equal height, so that none is a short remainder.
        let parts = rows.div_ceil(most_rows::<S>());
        for f in 0..x_layout.frequencies {
            let x = &x[x_layout.at(f, 0)..][..rows * x_layout.chunks];
            for chunk in 0..z_layout.chunks {
                let w = &w[w_layout.at(f, chunk)..][..w_layout.rows];
                let z = &mut z[z_layout.at(f, chunk)..][..rows];
                for lane in (0..CHUNK).step_by(S::LANES) {
                    for part in 0..parts {
                        let (first, end) = (part * rows / parts, (part + 1) * rows / parts);
                        let (x, z) = (&x[first..], &mut z[first..end]);
                        if f == 0 {
                            some_rows::<S, true>(s, x, rows, w, lane, z);
                        } else {
                            some_rows::<S, false>(s, x, rows, w, lane, z);
                        }
                    }
                }
            }
        }
    }
}

/// The loop for this number of rows.
#[inline(always)]
fn some_rows<S: Simd, const REAL: bool>(
    s: S,
    x: &[Block],
    stride: usize,
    w: &[Block],
    lane: usize,
    z: &mut [Block],
) {
    match z.len() {
        1 => these_rows::<S, 1, REAL>(s, x, stride, w, lane, z),
        2 => these_rows::<S, 2, REAL>(s, x, stride, w, lane, z),
        _ if most_rows::<S>() < 3 => {}
        3 => these_rows::<S, 3, REAL>(s, x, stride, w, lane, z),
        4 => these_rows::<S, 4, REAL>(s, x, stride, w, lane, z),
        5 => these_rows::<S, 5, REAL>(s, x, stride, w, lane, z),
        6 => these_rows::<S, 6, REAL>(s, x, stride, w, lane, z),
        _ if most_rows::<S>() < 7 => {}
        7 => these_rows::<S, 7, REAL>(s, x, stride, w, lane, z),
        8 => these_rows::<S, 8, REAL>(s, x, stride, w, lane, z),
        9 => these_rows::<S, 9, REAL>(s, x, stride, w, lane, z),
        10 => these_rows::<S, 10, REAL>(s, x, stride, w, lane, z),
        11 => these_rows::<S, 11, REAL>(s, x, stride, w, lane, z),
        12 => these_rows::<S, 12, REAL>(s, x, stride, w, lane, z),
        _ => {}
    }
}

/// `R` rows of one chunk of the result, the vector of it that starts at `lane`.
#[inline(always)]
fn these_rows<S: Simd, const R: usize, const REAL: bool>(
    s: S,
    x: &[Block],
    stride: usize,
    w: &[Block],
    lane: usize,
    z: &mut [Block],
) {
    let parts = x.chunks(SEGMENT * stride).zip(w.chunks(SEGMENT * CHUNK));
    for (segment, (x, w)) in parts.enumerate() {
        let mut acc = [(s.splat(0.0), s.splat(0.0)); R];
        for (x, w) in x.chunks(stride).zip(w.chunks(CHUNK)) {
            // Arrays of constant length: the rows' offsets are constants and the index needs no check.
            let Some(x) = x.first_chunk::<R>() else { return };
            for (c, w) in (0..CHUNK).zip(w) {
                let (re, im) = (s.load(&w[lane..]), s.load(&w[CHUNK + lane..]));
                for r in 0..R {
                    let (xr, xi) = (s.splat(x[r][c]), s.splat(x[r][CHUNK + c]));
                    let a = &mut acc[r];
                    if REAL {
                        *a = (s.fma(xr, re, a.0), s.fma(xi, im, a.1));
                    } else {
                        *a = (s.fma(xr, re, a.0), s.fma(xr, im, a.1));
                        *a = (s.fnma(xi, im, a.0), s.fma(xi, re, a.1));
                    }
                }
            }
        }
        for (acc, z) in acc.iter_mut().zip(&mut *z) {
            if segment > 0 {
                *acc = (s.add(s.load(&z[lane..]), acc.0), s.add(s.load(&z[CHUNK + lane..]), acc.1));
            }
            s.store(acc.0, &mut z[lane..]);
            s.store(acc.1, &mut z[CHUNK + lane..]);
        }
    }
}

/// Sum over rows of conj(a) b for one chunk of a's channels and one of b's: `out` is `[frequency][channel of a]`, a block
/// of b's channels each, frequencies [`OUTER`] blocks apart.
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
pub(super) const OUTER: usize = CHUNK + 1;

impl Task for Outer<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if TypeId::of::<S>() == TypeId::of::<Portable>() {
            self.run_by::<S, 2>(s);
        } else if S::REGISTERS >= 32 {
            self.run_by::<S, 8>(s);
        } else {
            self.run_by::<S, 4>(s);
        }
    }
}

impl Outer<'_> {
    /// `R` channels of a at a time.
    #[inline(always)]
    fn run_by<S: Simd, const R: usize>(self, s: S) {
        let Self { a, a_layout, a_chunk, b, b_layout, b_chunk, out } = self;
        for (f, out) in out.chunks_mut(OUTER).enumerate() {
            let a = &a[a_layout.at(f, a_chunk)..][..a_layout.rows];
            let b = &b[b_layout.at(f, b_chunk)..][..b_layout.rows];
            for lane in (0..CHUNK).step_by(S::LANES) {
                for (part, out) in out[..CHUNK].as_chunks_mut::<R>().0.iter_mut().enumerate() {
                    if f == 0 {
                        these_channels::<S, R, true>(s, a, b, lane, part, out);
                    } else {
                        these_channels::<S, R, false>(s, a, b, lane, part, out);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn these_channels<S: Simd, const R: usize, const REAL: bool>(
    s: S,
    a: &[Block],
    b: &[Block],
    lane: usize,
    part: usize,
    out: &mut [Block; R],
) {
    let mut acc = [(s.splat(0.0), s.splat(0.0)); R];
    for (a, b) in a.iter().zip(b) {
        let (re, im) = a.split_at(CHUNK);
        let (ar, ai) = (&re.as_chunks::<R>().0[part], &im.as_chunks::<R>().0[part]);
        let (br, bi) = (s.load(&b[lane..]), s.load(&b[CHUNK + lane..]));
        for r in 0..R {
            let (ar, ai) = (s.splat(ar[r]), s.splat(ai[r]));
            let c = &mut acc[r];
            if REAL {
                *c = (s.fma(ar, br, c.0), s.fma(ai, bi, c.1));
            } else {
                *c = (s.fma(ar, br, c.0), s.fma(ar, bi, c.1));
                *c = (s.fma(ai, bi, c.0), s.fnma(ai, br, c.1));
            }
        }
    }
    for (acc, out) in acc.into_iter().zip(out) {
        s.store(acc.0, &mut out[lane..]);
        s.store(acc.1, &mut out[CHUNK + lane..]);
    }
}
