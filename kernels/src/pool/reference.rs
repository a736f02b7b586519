//! The pooling loops: blocks of columns, row after row, so that memory is read in order and sums stay in registers.

use super::{DEVIATION_EPS, Dims, Pool};
use crate::isa::{Simd, Task};
use crate::{Beta, GradMut, Real};

/// Columns handled together.
const BLOCK: usize = 32;

pub(crate) struct Forward<'a, T> {
    pub(crate) kind: Pool,
    pub(crate) d: Dims,
    pub(crate) x: &'a [T],
    pub(crate) y: &'a mut [T],
}

impl<T: Real> Task for Forward<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { kind, d, x, y } = self;
        for b in 0..d.batch {
            let x = &x[b * d.rows * d.cols..][..d.rows * d.cols];
            let y = &mut y[b * kind.columns(d.cols)..][..kind.columns(d.cols)];
            match kind {
                Pool::Mean => mean(d, x, y),
                Pool::Max => {
                    for first in (0..d.cols).step_by(BLOCK) {
                        let y = &mut y[first..d.cols.min(first + BLOCK)];
                        let (best, _) = maxima(d, x, first);
                        y.copy_from_slice(&best[..y.len()]);
                    }
                }
                Pool::First => y.copy_from_slice(&x[..d.cols]),
                Pool::Last => y.copy_from_slice(&x[(d.rows - 1) * d.cols..]),
                Pool::MeanDeviation => {
                    let (mean, deviation) = y.split_at_mut(d.cols);
                    for first in (0..d.cols).step_by(BLOCK) {
                        let (m, s) = moments(d, x, first);
                        let block = first..d.cols.min(first + BLOCK);
                        mean[block.clone()].iter_mut().zip(m).for_each(|(y, m)| *y = T::of(m));
                        deviation[block].iter_mut().zip(s).for_each(|(y, s)| *y = T::of(s));
                    }
                }
            }
        }
    }
}

pub(crate) struct Backward<'a, T> {
    pub(crate) kind: Pool,
    pub(crate) d: Dims,
    pub(crate) x: &'a [T],
    pub(crate) dy: &'a [T],
    pub(crate) dx: GradMut<'a, T>,
}

impl<T: Real> Task for Backward<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { kind, d, x, dy, mut dx } = self;
        if kind != Pool::Mean {
            dx.zero_unless_accumulating();
        }
        let share = T::ONE / T::of_usize(d.rows);
        let sample = d.rows * d.cols;
        for b in 0..d.batch {
            let dy = &dy[b * kind.columns(d.cols)..][..kind.columns(d.cols)];
            let into = &mut dx.data[b * sample..][..sample];
            match kind {
                Pool::Mean => {
                    for r in 0..d.rows {
                        let pairs = into[r * d.cols..][..d.cols].iter_mut().zip(dy);
                        match dx.beta {
                            Beta::Zero => pairs.for_each(|(dx, &dy)| *dx = dy * share),
                            Beta::One => pairs.for_each(|(dx, &dy)| *dx += dy * share),
                        }
                    }
                }
                Pool::Max => {
                    for first in (0..d.cols).step_by(BLOCK) {
                        let (_, row) = maxima(d, &x[b * sample..][..sample], first);
                        for c in first..d.cols.min(first + BLOCK) {
                            into[row[c - first] * d.cols + c] += dy[c];
                        }
                    }
                }
                Pool::First => add(&mut into[..d.cols], dy),
                Pool::Last => add(&mut into[sample - d.cols..], dy),
                Pool::MeanDeviation => {
                    let x = &x[b * sample..][..sample];
                    let share = 1.0 / d.rows as f64;
                    for first in (0..d.cols).step_by(BLOCK) {
                        let (m, s) = moments(d, x, first);
                        for r in 0..d.rows {
                            for c in first..d.cols.min(first + BLOCK) {
                                let slope = (x[r * d.cols + c].f64() - m[c - first]) / s[c - first];
                                let g = dy[c].f64() + dy[d.cols + c].f64() * slope;
                                into[r * d.cols + c] += T::of(g * share);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// y = the mean of the rows of x, summed in f64.
#[inline(always)]
fn mean<T: Real>(d: Dims, x: &[T], y: &mut [T]) {
    let share = 1.0 / d.rows as f64;
    for first in (0..d.cols).step_by(BLOCK) {
        let y = &mut y[first..d.cols.min(first + BLOCK)];
        let mut sum = [0.0f64; BLOCK];
        for r in 0..d.rows {
            let x = &x[r * d.cols + first..][..y.len()];
            sum.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x.f64());
        }
        y.iter_mut().zip(sum).for_each(|(y, sum)| *y = T::of(sum * share));
    }
}

/// Mean and deviation of the columns from `first` on (up to a block of them), in f64: two passes over the rows.
#[inline(always)]
fn moments<T: Real>(d: Dims, x: &[T], first: usize) -> ([f64; BLOCK], [f64; BLOCK]) {
    let width = BLOCK.min(d.cols - first);
    let share = 1.0 / d.rows as f64;
    let (mut m, mut s) = ([0.0f64; BLOCK], [0.0f64; BLOCK]);
    for r in 0..d.rows {
        let x = &x[r * d.cols + first..][..width];
        m.iter_mut().zip(x).for_each(|(m, &x)| *m += x.f64());
    }
    m.iter_mut().for_each(|m| *m *= share);
    for r in 0..d.rows {
        let x = &x[r * d.cols + first..][..width];
        s.iter_mut().zip(m).zip(x).for_each(|((s, m), &x)| *s += (x.f64() - m) * (x.f64() - m));
    }
    s.iter_mut().for_each(|s| *s = (*s * share + DEVIATION_EPS).sqrt());
    (m, s)
}

/// The maxima of the columns from `first` on (up to a block of them), and the first row that has each.
#[inline(always)]
fn maxima<T: Real>(d: Dims, x: &[T], first: usize) -> ([T; BLOCK], [usize; BLOCK]) {
    let width = BLOCK.min(d.cols - first);
    let (mut best, mut row) = ([T::ZERO; BLOCK], [0; BLOCK]);
    best[..width].copy_from_slice(&x[first..][..width]);
    for r in 1..d.rows {
        for (c, &x) in x[r * d.cols + first..][..width].iter().enumerate() {
            if x > best[c] || (x.is_nan() && !best[c].is_nan()) {
                (best[c], row[c]) = (x, r);
            }
        }
    }
    (best, row)
}

#[inline(always)]
fn add<T: Real>(into: &mut [T], dy: &[T]) {
    into.iter_mut().zip(dy).for_each(|(dx, &dy)| *dx += dy);
}
