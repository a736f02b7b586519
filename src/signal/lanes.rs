//! Eight f64 side by side: arithmetic on arrays that the compiler turns into vector instructions.
//!
//! A recursive filter is a chain of dependent additions, so one signal keeps a processor waiting: the eight lanes hold eight
//! signals that do not depend on each other (eight windows, or eight parts of one recording), step by step side by side.
//! Each lane does exactly the operations of the scalar loop in the scalar loop's order, nothing is contracted to fused
//! multiply-adds, so a lane's bits are those of the scalar loop and no instruction set changes them.
//!
//! Everything here is `#[inline(always)]`: inside a [`Task`] it is compiled for the instruction set that runs.

use heartlore_kernels::isa::{Isa, Simd, Task};
use std::sync::OnceLock;

/// Signals side by side: one register of AVX-512, two of AVX2, four of SSE2 or NEON.
pub(super) const LANES: usize = 8;
/// One sample of each of [`LANES`] signals.
pub(super) type Lanes = [f64; LANES];

/// Steps that go through a cascade at a time: 4 KiB of lanes, a part of the first cache.
const BLOCK: usize = 64;
/// Sections worked on at once: their state fills 8 of 16 vector registers of AVX2's width, twice.
const GROUP: usize = 4;

#[inline(always)]
pub(super) fn each(f: impl Fn(usize) -> f64) -> Lanes {
    std::array::from_fn(f)
}

/// One group of `N` sections over a block, in place: see [`super::sos`] for the recurrence.
#[inline(always)]
fn group<const N: usize, const BACKWARD: bool>(
    sections: &[[f64; 6]],
    state: &mut [[Lanes; 2]],
    block: &mut [Lanes],
) {
    let c: [[f64; 6]; N] = std::array::from_fn(|k| sections[k]);
    let mut now: [[Lanes; 2]; N] = std::array::from_fn(|k| state[k]);
    for i in 0..block.len() {
        let i = if BACKWARD { block.len() - 1 - i } else { i };
        let mut x = block[i];
        for k in 0..N {
            let [b0, b1, b2, _, a1, a2] = c[k];
            let [s, t] = now[k];
            let y = each(|l| b0 * x[l] + s[l]);
            now[k][0] = each(|l| b1 * x[l] - a1 * y[l] + t[l]);
            now[k][1] = each(|l| b2 * x[l] - a2 * y[l]);
            x = y;
        }
        block[i] = x;
    }
    state[..N].copy_from_slice(&now);
}

/// All sections over a block of any length, in place.
#[inline(always)]
pub(super) fn cascade<const BACKWARD: bool>(
    sections: &[[f64; 6]],
    state: &mut [[Lanes; 2]],
    steps: &mut [Lanes],
) {
    let count = steps.len().div_ceil(BLOCK);
    for b in 0..count {
        let from = BLOCK * if BACKWARD { count - 1 - b } else { b };
        let to = steps.len().min(from + BLOCK);
        let block = &mut steps[from..to];
        for (sections, state) in sections.chunks(GROUP).zip(state.chunks_mut(GROUP)) {
            match sections.len() {
                1 => group::<1, BACKWARD>(sections, state, block),
                2 => group::<2, BACKWARD>(sections, state, block),
                3 => group::<3, BACKWARD>(sections, state, block),
                _ => group::<GROUP, BACKWARD>(sections, state, block),
            }
        }
    }
}

/// A pass of a filter over one long signal, in place, its parts side by side.
///
/// Lane l takes part l of eight. Its state at the part's first sample is found by beginning `warm` samples earlier,
/// settled at the sample there: what the state then lacks of the true one has decayed by the time the part begins.
/// The state that each part leaves behind tells whether that was so. Costs `(n / 8 + warm)` steps instead of n.
pub(super) struct Pass<'a> {
    pub(super) sections: &'a [[f64; 6]],
    /// State settled at a constant 1.
    pub(super) settled: &'a [[f64; 2]],
    /// The signal, at least `8 (warm + 8)` samples.
    pub(super) y: &'a mut [f64],
    pub(super) warm: usize,
    /// From the last sample to the first.
    pub(super) backward: bool,
}

impl Task for Pass<'_> {
    /// The largest difference of a state that was assumed to the one that the part before left, over the largest state.
    type Out = f64;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        if self.backward { self.pass::<true>() } else { self.pass::<false>() }
    }
}

impl Pass<'_> {
    #[inline(always)]
    fn pass<const BACKWARD: bool>(self) -> f64 {
        let Pass { sections, settled, y, warm, .. } = self;
        let n = y.len();
        let part = n.div_ceil(LANES);
        let at = |i: usize| if BACKWARD { n - 1 - i } else { i };
        let mut block = [[0.0; LANES]; BLOCK];
        let mut state: Vec<[Lanes; 2]> = settled
            .iter()
            .map(|s| s.map(|s| each(|l| if l == 0 { 0.0 } else { s * y[at(l * part - warm)] })))
            .collect();
        for from in (0..warm).step_by(BLOCK) {
            let steps = BLOCK.min(warm - from);
            // Lane 0 reads its own part, of which nothing will be kept.
            take::<BACKWARD>(y, &mut block[..steps], |l| if l == 0 { from } else { l * part + from - warm });
            cascade::<false>(sections, &mut state, &mut block[..steps]);
        }
        for (state, s) in state.iter_mut().zip(settled) {
            state[0][0] = s[0] * y[at(0)];
            state[1][0] = s[1] * y[at(0)];
        }
        let assumed = state.clone();
        for from in (0..part).step_by(BLOCK) {
            let steps = BLOCK.min(part - from);
            let block = &mut block[..steps];
            take::<BACKWARD>(y, block, |l| l * part + from);
            cascade::<false>(sections, &mut state, block);
            put::<BACKWARD>(y, block, |l| l * part + from);
        }
        let mut worst = 0.0f64;
        for (left, began) in state.iter().zip(&assumed) {
            for (left, began) in left.iter().zip(began) {
                let size = left.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                for l in 1..LANES {
                    let off = (left[l - 1] - began[l]).abs();
                    worst = if off <= worst * size { worst } else { off / size };
                }
            }
        }
        worst
    }
}

/// Step i of lane l becomes sample i of `signal(l)`, which has at least as many samples as there are steps.
#[inline(always)]
pub(super) fn gather<'a>(steps: &mut [Lanes], signal: impl Fn(usize) -> &'a [f64]) {
    let n = steps.len();
    let signals: [&[f64]; LANES] = std::array::from_fn(|l| &signal(l)[..n]);
    for (i, step) in steps.iter_mut().enumerate() {
        *step = each(|l| signals[l][i]);
    }
}

/// The way back: lane l of step i becomes sample i of signal l.
#[inline(always)]
pub(super) fn scatter(steps: &[Lanes], signals: &mut [Vec<f64>; LANES]) {
    for (b, block) in steps.chunks(BLOCK).enumerate() {
        for (l, signal) in signals.iter_mut().enumerate() {
            signal[b * BLOCK..][..block.len()].iter_mut().zip(block).for_each(|(v, step)| *v = step[l]);
        }
    }
}

/// A block of eight parts of one signal: lane l holds samples `begin(l)..` as counted in the direction of the pass; beyond
/// the end it keeps what it has.
#[inline(always)]
fn take<const BACKWARD: bool>(y: &[f64], block: &mut [Lanes], begin: impl Fn(usize) -> usize) {
    for l in 0..LANES {
        let begin = begin(l).min(y.len());
        let n = block.len().min(y.len() - begin);
        if BACKWARD {
            let from = &y[y.len() - begin - n..y.len() - begin];
            block.iter_mut().zip(from.iter().rev()).for_each(|(b, v)| b[l] = *v);
        } else {
            block.iter_mut().zip(&y[begin..begin + n]).for_each(|(b, v)| b[l] = *v);
        }
    }
}

/// The way back of [`take`].
#[inline(always)]
fn put<const BACKWARD: bool>(y: &mut [f64], block: &[Lanes], begin: impl Fn(usize) -> usize) {
    for l in 0..LANES {
        let begin = begin(l).min(y.len());
        let n = block.len().min(y.len() - begin);
        if BACKWARD {
            let end = y.len() - begin;
            y[end - n..end].iter_mut().rev().zip(block).for_each(|(v, b)| *v = b[l]);
        } else {
            y[begin..begin + n].iter_mut().zip(block).for_each(|(v, b)| *v = b[l]);
        }
    }
}

/// Sum of `f` over a slice in eight partial sums, so that additions overlap; element i counts to sum i mod 8.
#[inline(always)]
pub(super) fn sum(x: &[f64], f: impl Fn(f64) -> f64) -> f64 {
    let (body, tail) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for v in body {
        sums = each(|l| sums[l] + f(v[l]));
    }
    tail.iter().zip(&mut sums).for_each(|(v, s)| *s += f(*v));
    total(sums)
}

/// Sum of the products of two slices of one length, as [`sum`].
#[inline(always)]
pub(super) fn dot(x: &[f64], y: &[f64]) -> f64 {
    let ((a, a_tail), (b, b_tail)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (v, w) in a.iter().zip(b) {
        sums = each(|l| sums[l] + v[l] * w[l]);
    }
    a_tail.iter().zip(b_tail).zip(&mut sums).for_each(|((v, w), s)| *s += v * w);
    total(sums)
}

/// The lanes added by halves.
#[inline(always)]
pub(super) fn total(s: Lanes) -> f64 {
    ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))
}

/// Smallest and largest element; infinities the wrong way round when there is none. NaN is passed over.
#[inline(always)]
pub(super) fn range(x: &[f64]) -> (f64, f64) {
    let (mut low, mut high) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
    let (body, tail) = x.as_chunks::<LANES>();
    let mut take = |v: Lanes| {
        low = each(|l| if v[l] < low[l] { v[l] } else { low[l] });
        high = each(|l| if v[l] > high[l] { v[l] } else { high[l] });
    };
    body.iter().for_each(|v| take(*v));
    tail.iter().for_each(|v| take([*v; LANES]));
    (low.into_iter().fold(f64::INFINITY, f64::min), high.into_iter().fold(f64::NEG_INFINITY, f64::max))
}

/// Whether all samples are finite, found without a branch for each.
struct AllFinite<'a>(&'a [f64]);

impl Task for AllFinite<'_> {
    type Out = bool;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> bool {
        // A zero of any finite number is 0, of any other NaN, and a sum keeps NaN.
        sum(self.0, |v| v * 0.0) == 0.0
    }
}

pub(super) fn all_finite(x: &[f64]) -> bool {
    best(AllFinite(x))
}

/// Runs a task on the best instruction set of this machine, which is asked for once.
pub(super) fn best<K: Task>(task: K) -> K::Out {
    static BEST: OnceLock<Isa> = OnceLock::new();
    BEST.get_or_init(Isa::best).run(task)
}
