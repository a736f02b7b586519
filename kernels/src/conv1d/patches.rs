//! The patch matrix as a rule, and the orders of the weights that go with it.

use super::Dims;
use crate::Real;
use crate::gemm::{Matrix, copy};

/// Row r is the stretch of `data` (`[samples, length, channels]`) that starts at position `(r % rows) step + offset` of
/// sample `r / rows` and takes `taps` positions `dilation` apart; column `tap * channels + channel`. 0 outside.
#[derive(Clone, Copy)]
pub(super) struct Patches<'a, T> {
    data: &'a [T],
    length: usize,
    channels: usize,
    rows: usize,
    step: usize,
    offset: isize,
    dilation: usize,
}

impl<'a, T: Real> Patches<'a, T> {
    /// What the kernel sees of x at each output position.
    pub(super) fn of_input(d: Dims, x: &'a [T], out: usize) -> Self {
        Self {
            data: x,
            length: d.length,
            channels: d.in_channels,
            rows: out,
            step: d.stride,
            offset: -(d.padding as isize),
            dilation: d.dilation,
        }
    }

    /// The rows of a single sample from `row` on.
    pub(super) fn starting_at(self, row: usize) -> Self {
        Self { offset: self.offset + (row * self.step) as isize, ..self }
    }

    /// The output gradients of one sample that each input position of a phase contributed to.
    pub(super) fn of_gradient(d: Dims, phase: Phase, dz: &'a [T], out: usize, rows: usize) -> Self {
        Self {
            data: dz,
            length: out,
            channels: d.out_channels,
            rows,
            step: 1,
            offset: phase.offset,
            dilation: phase.dilation,
        }
    }
}

impl<T: Real> Matrix<T> for Patches<'_, T> {
    #[inline(always)]
    fn along_row(&self, row: usize, col: usize, out: &mut [T]) {
        // A division per run would show in the profile; most calls are in the first sample.
        let (sample, r) = if row < self.rows { (0, row) } else { (row / self.rows, row % self.rows) };
        let data = &self.data[sample * self.length * self.channels..][..self.length * self.channels];
        let start = (r * self.step) as isize + self.offset;
        if self.dilation == 1 {
            stretch(data, start * self.channels as isize + col as isize, out);
            return;
        }
        let (mut tap, mut channel, mut out) = (col / self.channels, col % self.channels, out);
        while !out.is_empty() {
            let n = (self.channels - channel).min(out.len());
            let (head, tail) = out.split_at_mut(n);
            let at = start + (tap * self.dilation) as isize;
            stretch(data, at * self.channels as isize + channel as isize, head);
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
    offset: isize,
    dilation: usize,
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

/// dw `[out, in, kernel]` += sums `[out, (kernel, in)]`.
pub(super) fn add_weights<T: Real>(d: Dims, sums: &[T], dw: &mut [T]) {
    let (cin, taps) = (d.in_channels, d.kernel);
    for (sums, dw) in sums.chunks_exact(cin * taps).zip(dw.chunks_exact_mut(cin * taps)) {
        for c in (0..cin).step_by(EDGE) {
            for k in 0..taps {
                for c in c..(c + EDGE).min(cin) {
                    dw[c * taps + k] += sums[k * cin + c];
                }
            }
        }
    }
}
