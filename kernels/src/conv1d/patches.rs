//! The patch matrix as a rule, or, without dilation, as overlapping rows of padded memory; and the orders of the weights
//! that go with it.

use super::Dims;
use super::spectrum::CHUNK;
use crate::gemm::{Matrix, Strided, copy};
use crate::isa::{Simd, Task};
use crate::{Isa, Real, real};

/// Positions from `start` on of `data` `[length, channels]`, with zeros before and after it: as many as `buffer` holds, in
/// `buffer` unless all of them are there.
pub(super) fn padded<'a, T: Real>(
    data: &'a [T],
    start: isize,
    channels: usize,
    buffer: &'a mut [T],
) -> &'a [T] {
    let start = start * channels as isize;
    if start >= 0 && start as usize + buffer.len() <= data.len() {
        return &data[start as usize..][..buffer.len()];
    }
    let before = (-start).clamp(0, buffer.len() as isize) as usize;
    let from = (start.max(0) as usize).min(data.len());
    let inside = (buffer.len() - before).min(data.len() - from);
    buffer[..before].fill(T::ZERO);
    buffer[before..before + inside].copy_from_slice(&data[from..from + inside]);
    buffer[before + inside..].fill(T::ZERO);
    buffer
}

/// The patch matrix of padded memory: rows that begin `step` elements apart.
pub(super) fn overlapping<T>(padded: &[T], step: usize) -> Strided<'_, T> {
    Strided { data: padded, strides: (step, 1) }
}

/// Its transpose.
pub(super) fn overlapping_columns<T>(padded: &[T], step: usize) -> Strided<'_, T> {
    Strided { data: padded, strides: (1, step) }
}

/// Row r is the stretch of `data` (`[length, channels]`, one sample) that starts at position `r step + offset` and takes
/// `taps` positions `dilation` apart; column `tap * channels + channel`. 0 outside.
#[derive(Clone, Copy)]
pub(super) struct Patches<'a, T> {
    data: &'a [T],
    channels: usize,
    step: usize,
    offset: isize,
    dilation: usize,
}

impl<'a, T: Real> Patches<'a, T> {
    /// What the kernel sees of x at each output position.
    pub(super) fn of_input(d: Dims, x: &'a [T]) -> Self {
        Self {
            data: x,
            channels: d.in_channels,
            step: d.stride,
            offset: -(d.padding as isize),
            dilation: d.dilation,
        }
    }

    /// The rows from `row` on.
    pub(super) fn starting_at(self, row: usize) -> Self {
        Self { offset: self.offset + (row * self.step) as isize, ..self }
    }

    /// The output gradients that each input position of a phase contributed to.
    pub(super) fn of_gradient(d: Dims, phase: Phase, dz: &'a [T]) -> Self {
        Self { data: dz, channels: d.out_channels, step: 1, offset: phase.offset, dilation: phase.dilation }
    }
}

impl<T: Real> Matrix<T> for Patches<'_, T> {
    #[inline(always)]
    fn along_row(&self, row: usize, col: usize, out: &mut [T]) {
        let start = (row * self.step) as isize + self.offset;
        let (mut tap, mut channel, mut out) = (col / self.channels, col % self.channels, out);
        while !out.is_empty() {
            let n = (self.channels - channel).min(out.len());
            let (head, tail) = out.split_at_mut(n);
            let at = start + (tap * self.dilation) as isize;
            stretch(self.data, at * self.channels as isize + channel as isize, head);
            (tap, channel, out) = (tap + 1, 0, tail);
        }
    }
    #[inline(always)]
    fn along_column(&self, row: usize, col: usize, out: &mut [T]) {
        for (i, out) in out.chunks_mut(1).enumerate() {
            self.along_row(row + i, col, out);
        }
    }
    #[inline(always)]
    fn by_columns(&self) -> bool {
        false
    }
}

/// The transpose.
#[derive(Clone, Copy)]
pub(super) struct Transposed<M>(pub(super) M);

impl<T: Real, M: Matrix<T>> Matrix<T> for Transposed<M> {
    #[inline(always)]
    fn along_row(&self, row: usize, col: usize, out: &mut [T]) {
        self.0.along_column(col, row, out);
    }
    #[inline(always)]
    fn along_column(&self, row: usize, col: usize, out: &mut [T]) {
        self.0.along_row(col, row, out);
    }
    #[inline(always)]
    fn by_columns(&self) -> bool {
        true
    }
}

/// out = data\[start ..\], 0 where that lies outside.
#[inline(always)]
fn stretch<T: Real>(data: &[T], start: isize, out: &mut [T]) {
    if start >= 0 && start as usize + out.len() <= data.len() {
        copy(&data[start as usize..][..out.len()], out);
        return;
    }
    let before = (-start).clamp(0, out.len() as isize) as usize;
    let from = (start.max(0) as usize).min(data.len());
    let inside = (out.len() - before).min(data.len() - from);
    out[..before].fill(T::ZERO);
    copy(&data[from..from + inside], &mut out[before..before + inside]);
    out[before + inside..].fill(T::ZERO);
}

/// Which taps touch the input positions s = residue + stride u, and where: t = offset + u + j dilation for the j-th of
/// `taps`, whose number in the kernel is `first + (taps - 1 - j) every` (from the last to the first, so that t grows).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Phase {
    first: usize,
    every: usize,
    pub(super) taps: usize,
    pub(super) offset: isize,
    pub(super) dilation: usize,
}

impl Phase {
    pub(super) fn of(d: Dims, residue: usize) -> Self {
        // Tap k touches s if stride divides s + padding - k dilation: every stride / gcd(stride, dilation)-th tap.
        let every = d.stride / gcd(d.stride, d.dilation);
        let shift = |k: usize| (residue + d.padding) as isize - (k * d.dilation) as isize;
        let touches = |k: &usize| shift(*k).rem_euclid(d.stride as isize) == 0;
        let dilation = every * d.dilation / d.stride;
        match (0..every.min(d.kernel)).find(touches) {
            None => Self { first: 0, every, taps: 0, offset: 0, dilation },
            Some(first) => {
                let taps = (d.kernel - first).div_ceil(every);
                let last = (shift(first) / d.stride as isize) - ((taps - 1) * dilation) as isize;
                Self { first, every, taps, offset: last, dilation }
            }
        }
    }

    /// Whether its patches are stretches of padded memory.
    pub(super) fn in_place(&self) -> bool {
        self.taps > 0 && self.dilation == 1
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Edge of the square tiles in which weights are transposed.
const EDGE: usize = 16;

/// w `[out, in, kernel]` to `[(kernel, in), out]`.
pub(super) fn weights_forward<T: Real>(d: Dims, w: &[T], to: &mut [T]) {
    let (cin, cout, taps) = (d.in_channels, d.out_channels, d.kernel);
    let line = cin * taps;
    for q in (0..line).step_by(EDGE) {
        for o in (0..cout).step_by(EDGE) {
            for q in q..(q + EDGE).min(line) {
                let to = &mut to[((q % taps) * cin + q / taps) * cout..][..cout];
                for o in o..(o + EDGE).min(cout) {
                    to[o] = w[o * line + q];
                }
            }
        }
    }
}

/// w `[out, in, kernel]` to `[(the phase's taps, out), in]`.
pub(super) fn weights_backward<T: Real>(d: Dims, phase: Phase, w: &[T], to: &mut [T]) {
    let (cin, cout) = (d.in_channels, d.out_channels);
    for o in 0..cout {
        let w = &w[o * cin * d.kernel..][..cin * d.kernel];
        for c in (0..cin).step_by(EDGE) {
            for j in 0..phase.taps {
                let k = phase.first + (phase.taps - 1 - j) * phase.every;
                let to = &mut to[(j * cout + o) * cin..][..cin];
                for c in c..(c + EDGE).min(cin) {
                    to[c] = w[c * d.kernel + k];
                }
            }
        }
    }
}

/// dw `[out, in, kernel]` += sums `[(kernel, in), out]`.
pub(super) fn add_weights<T: Real>(isa: Isa, d: Dims, sums: &[T], dw: &mut [T]) {
    if T::IS_F32 {
        isa.run(AddWeights { d, sums: real::same(sums), dw: real::same_mut(dw) });
        return;
    }
    let (cin, cout, taps) = (d.in_channels, d.out_channels, d.kernel);
    for (o, dw) in dw.chunks_exact_mut(cin * taps).enumerate() {
        for (q, dw) in dw.iter_mut().enumerate() {
            *dw += sums[((q % taps) * cin + q / taps) * cout + o];
        }
    }
}

/// [`add_weights`] by squares that are transposed in registers.
struct AddWeights<'a> {
    d: Dims,
    sums: &'a [f32],
    dw: &'a mut [f32],
}

impl Task for AddWeights<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { d, sums, dw } = self;
        let (cin, cout, taps) = (d.in_channels, d.out_channels, d.kernel);
        let line = cin * taps;
        // The tap and channel that the rows of the next square begin with.
        let (mut tap, mut channel) = (0, 0);
        for q in (0..line).step_by(S::LANES) {
            let wide = S::LANES.min(line - q);
            let mut rows = [0; CHUNK];
            for row in &mut rows[..wide] {
                *row = (tap * cin + channel) * cout;
                tap += 1;
                if tap == taps {
                    (tap, channel) = (0, channel + 1);
                }
            }
            for o in (0..cout).step_by(S::LANES) {
                let high = S::LANES.min(cout - o);
                let mut v = [s.splat(0.0); CHUNK];
                if wide == S::LANES && high == S::LANES {
                    // Every bound a constant, so that the square stays in registers.
                    for i in 0..S::LANES {
                        v[i] = s.load(&sums[rows[i] + o..]);
                    }
                    s.transpose(&mut v);
                    for i in 0..S::LANES {
                        let dw = &mut dw[(o + i) * line + q..][..S::LANES];
                        s.store(s.add(s.load(dw), v[i]), dw);
                    }
                    continue;
                }
                for (v, row) in v.iter_mut().zip(&rows[..wide]) {
                    *v = s.load_partial(&sums[row + o..][..high]);
                }
                s.transpose(&mut v);
                for (i, v) in v.into_iter().enumerate().take(high) {
                    let dw = &mut dw[(o + i) * line + q..][..wide];
                    s.store_partial(s.add(s.load_partial(dw), v), dw);
                }
            }
        }
    }
}
