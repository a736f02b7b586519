//! The vector bodies.
//!
//! ```text
//! for each group of up to GROUP rows of one sample:
//!     s of every row -> output (forward) or scratch (backward), with its sum
//!     means of all rows of the group, in one vector
//!     squared deviations of every row; all rstd of the group, in one vector
//!     y of every row                                       forward
//!     g, mean(g), mean(g xhat), dx, dr; dgamma, dbeta      backward
//! ```
//!
//! Deviations from the reference:
//!
//! 1. Rows in groups: sums, divisions and roots of a group are one vector operation ([`Simd::fold_lanes`]) instead of a chain.
//! 2. Widths of 1 to 16 vectors are constants: their loops unroll and carry no length checks.
//! 3. Without a residual, x is read in place instead of copied.
//! 4. Dropout decisions of a group share the first rounds of the generator.

use super::{Dims, Residual};
use crate::isa::{Simd, Task};
use crate::rng::{BLOCK, OnDropped, RowDecisions};
use crate::{Beta, GradMut, Isa};

/// Most rows that are normalised together, and whose parameter gradients are summed before they are added to the total: the
/// lanes of the widest vectors.
pub(super) const GROUP: usize = 16;

/// Rows that are taken together. Longer rows come from the third-level cache or from memory, and reading many of them before
/// the first is written leaves both idle in turn: at 1281 x 256 out of cache, sixteen at a time take 360 us backward and two
/// 250 (in cache 143 and 165; one at a time 195).
#[inline(always)]
fn rows_together(cols: usize) -> usize {
    if cols <= 128 { GROUP } else { 2 }
}

/// A place in a row: a whole vector, or what is left of the row.
#[derive(Clone, Copy)]
enum At {
    Full(usize),
    Tail(usize),
}

/// Runs a block for every vector of a row of `$len` elements, with its place in `$at`. A macro and not a function that
/// takes a closure: a closure that is not inlined would be compiled without the instruction set.
macro_rules! each_vector {
    ($simd:ty, $len:expr, |$at:ident| $body:block) => {{
        let len = $len;
        let mut i = 0;
        while i + <$simd>::LANES <= len {
            let $at = At::Full(i);
            $body
            i += <$simd>::LANES;
        }
        if i < len {
            let $at = At::Tail(i);
            $body
        }
    }};
}

/// A number of columns that is known when the kernel runs only.
const ANY: usize = 0;

/// A task for rows of `COLS` elements, or [`ANY`]: a function of its own for each.
struct Rows<const COLS: usize, A>(A);

/// Runs a task for the number of columns it was compiled for: rows of a few vectors, whose loops then are no loops.
macro_rules! run_sized {
    ($isa:expr, $task:expr) => {
        match $task.d.cols {
            16 => $isa.run(Rows::<16, _>($task)),
            32 => $isa.run(Rows::<32, _>($task)),
            64 => $isa.run(Rows::<64, _>($task)),
            128 => $isa.run(Rows::<128, _>($task)),
            256 => $isa.run(Rows::<256, _>($task)),
            _ => $isa.run(Rows::<ANY, _>($task)),
        }
    };
}

#[inline(always)]
fn columns<const COLS: usize>(d: Dims) -> usize {
    if COLS == ANY { d.cols } else { COLS }
}

/// The rows of the residual in turn.
struct Branch<'a, S: Simd> {
    residual: Residual<'a, f32>,
    d: Dims,
    /// Of the next row: its sample, its number in the sample, its place in the data.
    next: (usize, usize, usize),
    /// Of its sample.
    decisions: RowDecisions<S>,
}

impl<'a, S: Simd> Branch<'a, S> {
    #[inline(always)]
    fn new(s: S, residual: Residual<'a, f32>, d: Dims) -> Self {
        let decisions = RowDecisions::new(s, residual.key.stream(), residual.dropout);
        Self { residual, d, next: (0, 0, 0), decisions }
    }

    /// x + dropout(residual) of the next row into `out`; the multipliers, where there is dropout, into `multipliers`.
    /// `COLS` as in [`Rows`].
    #[inline(always)]
    fn add<const COLS: usize>(&mut self, s: S, x: &[f32], out: &mut [f32], multipliers: Option<&mut [f32]>) {
        let (sample, row, at) = self.next;
        let dropout = self.residual.dropout;
        if row == 0 && sample > 0 && !dropout.is_none() {
            self.decisions = RowDecisions::new(s, self.residual.key.sample(sample).stream(), dropout);
        }
        let cols = columns::<COLS>(self.d);
        let (x, data, out) = (&x[..cols], &self.residual.data[at..][..cols], &mut out[..cols]);
        let (row, at) = (row + 1, at + cols);
        let at = if at == self.residual.data.len() { 0 } else { at };
        self.next = if row == self.d.rows { (sample + 1, 0, at) } else { (sample, row, at) };
        if dropout.is_none() {
            each_vector!(S, cols, |at| {
                store(s, s.add(load(s, x, at), load(s, data, at)), out, at);
            });
            return;
        }
        let scale = s.splat(dropout.scale());
        let multipliers = multipliers.map(|m| &mut m[..cols]);
        let mut sum = DroppedSum { scale, first: 0, x, data, out, multipliers };
        while sum.first < cols {
            self.decisions.decide(s, row as u32 - 1, sum.first / BLOCK, &mut sum);
            sum.first += BLOCK;
        }
    }
}

/// Adds a block of a row whose elements are dropped or not.
struct DroppedSum<'a, S: Simd> {
    scale: S::V,
    /// First element of the block.
    first: usize,
    x: &'a [f32],
    data: &'a [f32],
    out: &'a mut [f32],
    multipliers: Option<&'a mut [f32]>,
}

impl<S: Simd> OnDropped<S> for DroppedSum<'_, S> {
    #[inline(always)]
    fn dropped(&mut self, s: S, at: usize, dropped: [S::M; 2]) {
        for half in 0..2 {
            let i = self.first + at + 16 * half;
            if i >= self.x.len() {
                return;
            }
            let at = if i + S::LANES <= self.x.len() { At::Full(i) } else { At::Tail(i) };
            let m = s.select(dropped[half], s.splat(0.0), self.scale);
            store(s, s.fma(m, load(s, self.data, at), load(s, self.x, at)), self.out, at);
            if let Some(multipliers) = &mut self.multipliers {
                store(s, m, multipliers, at);
            }
        }
    }
}

/// The mean of the lanes of each of the first `count` rows, of `n` elements.
#[inline(always)]
fn means<S: Simd>(s: S, sums: &[S::V; GROUP], count: usize, n: f32) -> [f32; GROUP] {
    let mut means = [0.0; GROUP];
    for at in (0..count).step_by(S::LANES) {
        let sum = s.fold_lanes(&sums[at..], |a, b| s.add(a, b));
        s.store(s.div(sum, s.splat(n)), &mut means[at..]);
    }
    means
}

#[inline(always)]
fn load<S: Simd>(s: S, x: &[f32], at: At) -> S::V {
    match at {
        At::Full(i) => s.load(&x[i..]),
        At::Tail(i) => s.load_partial(&x[i..]),
    }
}

#[inline(always)]
fn store<S: Simd>(s: S, v: S::V, x: &mut [f32], at: At) {
    match at {
        At::Full(i) => s.store(v, &mut x[i..]),
        At::Tail(i) => s.store_partial(v, &mut x[i..]),
    }
}

/// Writes or adds.
#[inline(always)]
fn put<S: Simd>(s: S, v: S::V, beta: Beta, x: &mut [f32], at: At) {
    let v = if beta == Beta::One { s.add(v, load(s, x, at)) } else { v };
    store(s, v, x, at);
}

pub(super) struct Forward<'a> {
    pub(super) d: Dims,
    pub(super) eps: f32,
    pub(super) x: &'a [f32],
    pub(super) residual: Option<Residual<'a, f32>>,
    pub(super) gamma: &'a [f32],
    pub(super) beta: &'a [f32],
    pub(super) y: &'a mut [f32],
    pub(super) saved: &'a mut [f32],
}

impl Forward<'_> {
    pub(super) fn run(self, isa: Isa) {
        run_sized!(isa, self);
    }
}

impl<const COLS: usize> Task for Rows<COLS, Forward<'_>> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Forward { d, eps, x, residual, gamma, beta, y, saved } = self.0;
        let cols = columns::<COLS>(d);
        let (rows, n) = (d.samples * d.rows, cols as f32);
        let (gamma, beta) = (&gamma[..cols], &beta[..cols]);
        let added = residual.is_some();
        let mut branch = residual.map(|b| Branch::new(s, b, d));
        let together = rows_together(cols);
        for first in (0..rows).step_by(together) {
            let count = together.min(rows - first);
            let (x, y) = (&x[first * cols..][..count * cols], &mut y[first * cols..][..count * cols]);
            // Two sums that take turns hide the latency of the additions.
            let mut sums = [s.splat(0.0); GROUP];
            for (sum, (x, y)) in sums.iter_mut().zip(x.chunks_exact(cols).zip(y.chunks_exact_mut(cols))) {
                let x = match &mut branch {
                    Some(branch) => {
                        branch.add::<COLS>(s, x, y, None);
                        &*y
                    }
                    None => x,
                };
                let (mut even, mut odd) = (s.splat(0.0), s.splat(0.0));
                each_vector!(S, cols, |at| {
                    (even, odd) = (odd, s.add(even, load(s, x, at)));
                });
                *sum = s.add(even, odd);
            }
            let input = if added { &*y } else { x };
            let mean = means(s, &sums, count, n);
            for ((sum, x), &mean) in sums.iter_mut().zip(input.chunks_exact(cols)).zip(&mean) {
                let m = s.splat(mean);
                let (mut even, mut odd) = (s.splat(0.0), s.splat(0.0));
                each_vector!(S, cols, |at| {
                    let c = s.sub(load(s, x, at), m);
                    let c = match at {
                        At::Full(_) => c,
                        // The lanes past the end would add mean^2.
                        At::Tail(i) => {
                            s.select(s.lt_u31(s.iota_u32(), s.splat_u32((cols - i) as u32)), c, s.splat(0.0))
                        }
                    };
                    (even, odd) = (odd, s.fma(c, c, even));
                });
                *sum = s.add(even, odd);
            }
            let mut rstd = means(s, &sums, count, n);
            for at in (0..count).step_by(S::LANES) {
                let root = s.sqrt(s.add(s.load(&rstd[at..]), s.splat(eps)));
                s.store(s.div(s.splat(1.0), root), &mut rstd[at..]);
            }
            let both = x.chunks_exact(cols).zip(y.chunks_exact_mut(cols));
            for (((x, y), &mean), &rstd) in both.zip(&mean).zip(&rstd) {
                let (m, scale) = (s.splat(mean), s.splat(rstd));
                each_vector!(S, cols, |at| {
                    let x = if added { load(s, y, at) } else { load(s, x, at) };
                    let xhat = s.mul(s.sub(x, m), scale);
                    store(s, s.fma(load(s, gamma, at), xhat, load(s, beta, at)), y, at);
                });
            }
            if !saved.is_empty() {
                saved[first..][..count].copy_from_slice(&mean[..count]);
                saved[rows + first..][..count].copy_from_slice(&rstd[..count]);
            }
        }
    }
}

pub(super) struct Backward<'a> {
    pub(super) d: Dims,
    pub(super) x: &'a [f32],
    pub(super) residual: Option<Residual<'a, f32>>,
    pub(super) gamma: &'a [f32],
    pub(super) saved: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) dx: Option<GradMut<'a, f32>>,
    pub(super) dresidual: Option<GradMut<'a, f32>>,
    pub(super) dgamma: Option<&'a mut [f32]>,
    pub(super) dbeta: Option<&'a mut [f32]>,
    pub(super) scratch: &'a mut [f32],
}

impl Backward<'_> {
    pub(super) fn run(self, isa: Isa) {
        run_sized!(isa, self);
    }
}

impl<const COLS: usize> Task for Rows<COLS, Backward<'_>> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Backward {
            d,
            x,
            residual,
            gamma,
            saved,
            dy,
            mut dx,
            mut dresidual,
            mut dgamma,
            mut dbeta,
            scratch,
        } = self.0;
        let cols = columns::<COLS>(d);
        let (rows, n) = (d.samples * d.rows, cols as f32);
        let gamma = &gamma[..cols];
        let (xhat, multipliers) = scratch.split_at_mut(GROUP.min(rows) * cols);
        let mut branch = residual.map(|b| Branch::new(s, b, d));
        let added = residual.is_some();
        let dropped = residual.is_some_and(|b| !b.dropout.is_none());

        let together = rows_together(cols);
        for first in (0..rows).step_by(together) {
            let count = together.min(rows - first);
            let (mean, rstd) = (&saved[first..][..count], &saved[rows + first..][..count]);
            let (mut sums_g, mut sums_gx) = ([s.splat(0.0); GROUP], [s.splat(0.0); GROUP]);
            for r in 0..count {
                let row = (first + r) * cols;
                let dy = &dy[row..][..cols];
                let (mean, rstd) = (s.splat(mean[r]), s.splat(rstd[r]));
                let (xhat, multipliers) =
                    (&mut xhat[r * cols..][..cols], &mut multipliers[r * cols..][..cols]);
                let x = &x[row..][..cols];
                if let Some(branch) = &mut branch {
                    branch.add::<COLS>(s, x, xhat, Some(multipliers));
                }
                let (mut sum_g, mut sum_gx) = (s.splat(0.0), s.splat(0.0));
                each_vector!(S, cols, |at| {
                    let x = if added { load(s, xhat, at) } else { load(s, x, at) };
                    let h = s.mul(s.sub(x, mean), rstd);
                    // gamma and dy are zero past the end, so the sums need no mask.
                    let g = s.mul(load(s, gamma, at), load(s, dy, at));
                    sum_g = s.add(sum_g, g);
                    sum_gx = s.fma(g, h, sum_gx);
                    store(s, h, xhat, at);
                });
                (sums_g[r], sums_gx[r]) = (sum_g, sum_gx);
            }
            if dgamma.is_some() || dbeta.is_some() {
                each_vector!(S, cols, |at| {
                    let (mut sum_gamma, mut sum_beta) = (s.splat(0.0), s.splat(0.0));
                    let rows = dy[first * cols..][..count * cols].chunks_exact(cols);
                    for (dy, xhat) in rows.zip(xhat.chunks_exact(cols)) {
                        let dy = load(s, dy, at);
                        sum_gamma = s.fma(dy, load(s, xhat, at), sum_gamma);
                        sum_beta = s.add(dy, sum_beta);
                    }
                    for (total, sum) in [(&mut dgamma, sum_gamma), (&mut dbeta, sum_beta)] {
                        if let Some(total) = total {
                            store(s, s.add(load(s, total, at), sum), total, at);
                        }
                    }
                });
            }
            if dx.is_some() || dresidual.is_some() {
                let (mean_g, mean_gx) = (means(s, &sums_g, count, n), means(s, &sums_gx, count, n));
                for r in 0..count {
                    let row = (first + r) * cols;
                    let (mean_g, mean_gx, rstd) = (s.splat(mean_g[r]), s.splat(mean_gx[r]), s.splat(rstd[r]));
                    let (xhat, multipliers) = (&xhat[r * cols..][..cols], &multipliers[r * cols..][..cols]);
                    let dy = &dy[row..][..cols];
                    each_vector!(S, cols, |at| {
                        let g = s.sub(s.mul(load(s, gamma, at), load(s, dy, at)), mean_g);
                        let ds = s.mul(rstd, s.sub(g, s.mul(load(s, xhat, at), mean_gx)));
                        if let Some(dx) = &mut dx {
                            put(s, ds, dx.beta, &mut dx.data[row..][..cols], at);
                        }
                        if let Some(g) = &mut dresidual {
                            let ds = if dropped { s.mul(ds, load(s, multipliers, at)) } else { ds };
                            // The samples after the first add to a table's gradient.
                            let (to, beta) = if row < g.data.len() {
                                (row, g.beta)
                            } else {
                                (row % g.data.len(), Beta::One)
                            };
                            put(s, ds, beta, &mut g.data[to..][..cols], at);
                        }
                    });
                }
            }
        }
    }
}
