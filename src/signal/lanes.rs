//! Eight f64 side by side: arithmetic on arrays that the compiler turns into vector instructions.
//!
//! A recursive filter is a chain of dependent additions, so one signal keeps a processor waiting: the eight lanes hold eight
//! signals that do not depend on each other (eight windows, or eight parts of one recording), step by step side by side.
//! Each lane does exactly the operations of the scalar loop in the scalar loop's order, nothing is contracted to fused
//! multiply-adds, so a lane's bits are those of the scalar loop and no instruction set changes them.
//!
//! Everything here is `#[inline(always)]`: inside a [`Task`] it is compiled for the instruction set that runs.

use heartlore_kernels::isa::{Isa, Simd, Task};

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
fn group<const N: usize>(sections: &[[f64; 6]], state: &mut [[Lanes; 2]], block: &mut [Lanes]) {
    let c: [[f64; 6]; N] = std::array::from_fn(|k| sections[k]);
    let mut now: [[Lanes; 2]; N] = std::array::from_fn(|k| state[k]);
    for v in block {
        let mut x = *v;
        for k in 0..N {
            let [b0, b1, b2, _, a1, a2] = c[k];
            let [s, t] = now[k];
            let y = each(|l| b0 * x[l] + s[l]);
            now[k][0] = each(|l| b1 * x[l] - a1 * y[l] + t[l]);
            now[k][1] = each(|l| b2 * x[l] - a2 * y[l]);
            x = y;
        }
        *v = x;
    }
    state[..N].copy_from_slice(&now);
}

/// All sections over a block of any length, in place.
#[inline(always)]
pub(super) fn cascade(sections: &[[f64; 6]], state: &mut [[Lanes; 2]], steps: &mut [Lanes]) {
    for block in steps.chunks_mut(BLOCK) {
        for (sections, state) in sections.chunks(GROUP).zip(state.chunks_mut(GROUP)) {
            match sections.len() {
                1 => group::<1>(sections, state, block),
                2 => group::<2>(sections, state, block),
                3 => group::<3>(sections, state, block),
                _ => group::<GROUP>(sections, state, block),
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
        // Lane 0 has nothing before its part; it waits.
        for from in (0..warm).step_by(BLOCK) {
            let steps = BLOCK.min(warm - from);
            gather::<BACKWARD>(y, &mut block[..steps], 1, |l| l * part + from - if l == 0 { 0 } else { warm });
            cascade(sections, &mut state, &mut block[..steps]);
        }
        for (state, s) in state.iter_mut().zip(settled) {
            state[0][0] = s[0] * y[at(0)];
            state[1][0] = s[1] * y[at(0)];
        }
        let assumed = state.clone();
        let short = n - (LANES - 1) * part;
        let mut last = Vec::new();
        for from in (0..part).step_by(BLOCK) {
            let steps = BLOCK.min(part - from);
            let block = &mut block[..steps];
            gather::<BACKWARD>(y, block, 0, |l| l * part + from);
            cascade(sections, &mut state, block);
            scatter::<BACKWARD>(y, block, |l| l * part + from);
        }
        let _ = (short, &mut last as &mut Vec<u8>);
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

/// Brings samples `begin(l)..` of the signal into lane l, for lanes from `first` on.
#[inline(always)]
fn gather<const BACKWARD: bool>(y: &[f64], block: &mut [Lanes], first: usize, begin: impl Fn(usize) -> usize) {
    for l in first..LANES {
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

/// The way back; lanes that reach beyond the end are cut there.
#[inline(always)]
fn scatter<const BACKWARD: bool>(y: &mut [f64], block: &[Lanes], begin: impl Fn(usize) -> usize) {
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

/// Runs a task on the best instruction set of this machine.
pub(super) fn best<K: Task>(task: K) -> K::Out {
    Isa::best().run(task)
}
