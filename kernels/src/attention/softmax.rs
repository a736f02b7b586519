//! What is done to a block of scores between the products: exponentials, their sums and dropout on the way there, the
//! scores' gradients on the way back. Each row passes once, two vectors at a time ([`Pass`]).

use super::Inputs;
use super::operands::Operands;
use super::product::*;
use crate::isa::Simd;
use crate::rng::{BLOCK, Dropout, OnDropped, Places, Stream, Zero};
use crate::vmath;

/// Rows of a register block, in whole vectors.
pub(super) const PER_ROW: usize = MAX_ROWS + 2;

/// Blocks of decisions that the longest block of keys takes.
const DECISIONS: usize = STRIDE / BLOCK;

/// Where a block's dropout decisions come from.
pub(super) struct Source<'a, S: Simd> {
    stream: Stream,
    dropout: Dropout,
    start: usize,
    len: usize,
    keys: &'a [usize],
    /// Of each block of decisions.
    places: [Places<S>; DECISIONS],
}

impl<'a, S: Simd> Source<'a, S> {
    /// For the `len` keys from `start` on of sequence `n`, of which `keys` take part; none without dropout.
    #[inline(always)]
    pub(super) fn new(
        s: S,
        x: &Inputs<'_, f32>,
        n: usize,
        start: usize,
        len: usize,
        keys: &'a [usize],
    ) -> Option<Self> {
        if x.dropout.is_none() {
            return None;
        }
        let stream = x.key.sample(n).stream();
        let mut places = [stream.places(s, (start / BLOCK) as u32); DECISIONS];
        for (i, places) in places.iter_mut().enumerate().skip(1) {
            *places = stream.places(s, (start / BLOCK + i) as u32);
        }
        Some(Self { stream, dropout: x.dropout, start, len, keys, places })
    }

    /// Calls `action` for the first `width` elements of row `row`, telling which are dropped.
    #[inline(always)]
    fn decide(&self, s: S, row: usize, width: usize, action: &mut impl Pass<S>) {
        if self.keys.len() < self.len {
            // Masked keys leave gaps: all decisions are drawn, some picked.
            let mut drawn = [[1.0; BLOCK]; DECISIONS];
            for (drawn, places) in drawn.iter_mut().zip(&self.places).take(self.len.div_ceil(BLOCK)) {
                self.stream.decide_at(s, self.dropout, row as u32, places, BLOCK, &mut Zero(drawn));
            }
            let mut kept = [1.0; STRIDE];
            for (kept, &j) in kept.iter_mut().zip(self.keys) {
                *kept = drawn.as_flattened()[j - self.start];
            }
            let half = s.splat(0.5);
            let mut at = 0;
            while at < width {
                let dropped = [s.gt(half, s.load(&kept[at..])), s.gt(half, s.load(&kept[at + 16..]))];
                action.pair(s, at, Some(dropped));
                at = next_pair::<S>(at);
            }
        } else {
            for (i, places) in self.places.iter().enumerate().take(width.div_ceil(BLOCK)) {
                let action = &mut InBlock { first: i * BLOCK, action: &mut *action };
                self.stream.decide_at(s, self.dropout, row as u32, places, width - i * BLOCK, action);
            }
        }
    }
}

/// What is done to a row of scores, two vectors at a time.
trait Pass<S: Simd> {
    /// To the elements `at ..` and `at + 16 ..`, of which those are dropped.
    fn pair(&mut self, s: S, at: usize, dropped: Option<[S::M; 2]>);
}

/// A pass over the elements of a block of decisions.
struct InBlock<'a, P> {
    first: usize,
    action: &'a mut P,
}

impl<S: Simd, P: Pass<S>> OnDropped<S> for InBlock<'_, P> {
    #[inline(always)]
    fn dropped(&mut self, s: S, at: usize, dropped: [S::M; 2]) {
        self.action.pair(s, self.first + at, Some(dropped));
    }
}

/// The pass over `width` elements of row `row`, in one order whether decisions are drawn or not.
#[inline(always)]
fn pass<S: Simd>(s: S, source: Option<&Source<'_, S>>, row: usize, width: usize, action: &mut impl Pass<S>) {
    match source {
        Some(source) => source.decide(s, row, width, action),
        None => {
            let mut at = 0;
            while at < width {
                action.pair(s, at, None);
                at = next_pair::<S>(at);
            }
        }
    }
}

/// Of two vectors 16 elements apart, the first one's place after `at`.
#[inline(always)]
fn next_pair<S: Simd>(at: usize) -> usize {
    let next = at + S::LANES;
    next + next % 32 / 16 * 16
}

/// Whose largest lane is the largest element of these whole vectors; a NaN may or may not show.
#[inline(always)]
fn row_max<S: Simd>(s: S, row: &[f32]) -> S::V {
    let mut max = [s.splat(f32::NEG_INFINITY); 4];
    let (fours, rest) = row.split_at(row.len() / (4 * S::LANES) * (4 * S::LANES));
    for four in fours.chunks_exact(4 * S::LANES) {
        for v in 0..4 {
            max[v] = s.max(s.load(&four[v * S::LANES..]), max[v]);
        }
    }
    for x in rest.chunks_exact(S::LANES) {
        max[0] = s.max(s.load(x), max[0]);
    }
    s.max(s.max(max[0], max[1]), s.max(max[2], max[3]))
}

/// Puts -inf behind the `keys` scores of a row, to the end of a vector, which is returned (-inf if there is none): a vector
/// at once, as a load that follows waits for stores of parts of it.
#[inline(always)]
fn end_row<S: Simd>(s: S, keys: usize, row: &mut [f32; STRIDE]) -> S::V {
    let whole = keys / S::LANES * S::LANES;
    let mut last = s.splat(f32::NEG_INFINITY);
    if whole < keys {
        let vector = &mut row[whole..][..S::LANES];
        let kept = s.lt_u31(s.iota_u32(), s.splat_u32((keys - whole) as u32));
        last = s.select(kept, s.load(vector), last);
        s.store(last, vector);
    }
    last
}

/// Where a row of scores ends within a vector, and what stands for the scores past it.
#[derive(Clone, Copy)]
struct End<S: Simd> {
    /// The first element of the vector that is not whole, if there is one.
    last: usize,
    kept: S::M,
    value: S::V,
}

impl<S: Simd> End<S> {
    #[inline(always)]
    fn new(s: S, keys: usize, value: f32) -> Self {
        let rest = keys % S::LANES;
        let last = if rest > 0 { keys - rest } else { usize::MAX };
        Self { last, kept: s.lt_u31(s.iota_u32(), s.splat_u32(rest as u32)), value: s.splat(value) }
    }

    /// The scores `x` of the elements `at ..`.
    #[inline(always)]
    fn of(&self, s: S, at: usize, x: S::V) -> S::V {
        if at == self.last { s.select(self.kept, x, self.value) } else { x }
    }
}

/// One step of the running softmax: turns the scores of `count` rows and `keys` columns into words of exp(s - m), 0 where
/// dropped, and updates m and l (of exponentials that are not rounded). Returns what the rows' sums so far are to be
/// multiplied by.
#[inline(always)]
pub(super) fn running_softmax<O: Operands>(
    ops: O,
    count: usize,
    keys: usize,
    source: Option<&Source<'_, O::S>>,
    first_row: usize,
    p: &mut [f32],
    m: &mut [f32],
    l: &mut [f32],
) -> [f32; PER_ROW] {
    let (s, lanes) = (ops.simd(), O::S::LANES);
    let width = keys.next_multiple_of(lanes);
    let mut vectors = [s.splat(f32::NEG_INFINITY); PER_ROW];
    let rows = p.as_chunks_mut::<STRIDE>().0;
    for (row, top) in rows.iter_mut().zip(&mut vectors).take(count) {
        let last = end_row(s, keys, row);
        *top = s.max(row_max(s, &row[..keys / lanes * lanes]), last);
    }
    // Of the rows past `count`, whose largest score is -inf, m and l stay what they are.
    let (mut shift, mut factor) = ([0.0; PER_ROW], [0.0; PER_ROW]);
    for at in (0..count).step_by(lanes) {
        let old = s.load(&m[at..]);
        let new = s.max(s.fold_lanes(&vectors[at..], |a, b| s.max(a, b)), old);
        s.store(new, &mut m[at..]);
        // While every score is -inf the exponents are measured from 0: -inf - -inf would be NaN.
        let none = s.gt(s.splat(f32::MIN), new);
        let new = s.select(none, s.splat(0.0), new);
        s.store(new, &mut shift[at..]);
        s.store(ops.exp(s.sub(old, new)), &mut factor[at..]);
    }
    for (r, (row, sum)) in rows.iter_mut().zip(&mut vectors).enumerate().take(count) {
        let from = s.splat(shift[r]);
        let mut e = Exponentials { ops, width, from, sums: [s.splat(0.0); 2], row };
        pass(s, source, first_row + r, width, &mut e);
        *sum = s.add(e.sums[0], e.sums[1]);
    }
    for sum in &mut vectors[count..] {
        *sum = s.splat(0.0);
    }
    for at in (0..count).step_by(lanes) {
        let sum = s.fold_lanes(&vectors[at..], |a, b| s.add(a, b));
        s.store(s.fma(s.load(&l[at..]), s.load(&factor[at..]), sum), &mut l[at..]);
    }
    factor
}

/// As [`running_softmax`], of f32 scores of at most `simd::BOUND`: the exponentials are measured from 0.
#[inline(always)]
pub(super) fn bounded_softmax<S: Simd>(
    s: S,
    count: usize,
    keys: usize,
    source: Option<&Source<'_, S>>,
    first_row: usize,
    p: &mut [f32],
    m: &mut [f32],
    l: &mut [f32],
    begun: bool,
) {
    let width = keys.next_multiple_of(S::LANES);
    // Of no weight in a sum of numbers from 2^-39 on.
    let end = End::new(s, keys, -126.0);
    let mut sums = [s.splat(0.0); PER_ROW];
    let rows = p.as_chunks_mut::<STRIDE>().0;
    for (r, (row, sum)) in rows.iter_mut().zip(&mut sums).enumerate().take(count) {
        let mut bounded = Bounded { width, end, sums: [s.splat(0.0); 2], row };
        pass(s, source, first_row + r, width, &mut bounded);
        *sum = s.add(bounded.sums[0], bounded.sums[1]);
    }
    for at in (0..count).step_by(S::LANES) {
        let sum = s.fold_lanes(&sums[at..], |a, b| s.add(a, b));
        let sum = if begun { s.add(s.load(&l[at..]), sum) } else { sum };
        s.store(sum, &mut l[at..]);
    }
    m[..count].fill(0.0);
}

/// Turns a row of scores into words of exponentials, 0 where dropped, and sums all of them.
struct Exponentials<'a, O: Operands> {
    ops: O,
    width: usize,
    from: <O::S as Simd>::V,
    sums: [<O::S as Simd>::V; 2],
    row: &'a mut [f32; STRIDE],
}

impl<O: Operands> Pass<O::S> for Exponentials<'_, O> {
    #[inline(always)]
    fn pair(&mut self, s: O::S, at: usize, dropped: Option<[<O::S as Simd>::M; 2]>) {
        let zero = s.splat(0.0);
        let mut e = [zero; 2];
        if at + 16 < self.width {
            for i in 0..2 {
                e[i] = self.ops.exp(s.sub(s.load(&self.row[at + 16 * i..]), self.from));
                self.sums[i] = s.add(self.sums[i], e[i]);
            }
        } else if at < self.width {
            e[0] = self.ops.exp(s.sub(s.load(&self.row[at..]), self.from));
            self.sums[0] = s.add(self.sums[0], e[0]);
        } else {
            return;
        }
        if let Some(dropped) = dropped {
            e = [s.select(dropped[0], zero, e[0]), s.select(dropped[1], zero, e[1])];
        }
        self.ops.put(e, at, self.row);
    }
}

/// As [`Exponentials`], of bounded scores.
struct Bounded<'a, S: Simd> {
    width: usize,
    end: End<S>,
    sums: [S::V; 2],
    row: &'a mut [f32; STRIDE],
}

impl<S: Simd> Bounded<'_, S> {
    #[inline(always)]
    fn vector(&self, s: S, at: usize) -> S::V {
        vmath::exp2_bounded(s, self.end.of(s, at, s.load(&self.row[at..])))
    }
}

impl<S: Simd> Pass<S> for Bounded<'_, S> {
    #[inline(always)]
    fn pair(&mut self, s: S, at: usize, dropped: Option<[S::M; 2]>) {
        let zero = s.splat(0.0);
        let mut e = [zero; 2];
        if at + 16 < self.width {
            for i in 0..2 {
                e[i] = self.vector(s, at + 16 * i);
                self.sums[i] = s.add(self.sums[i], e[i]);
            }
        } else if at < self.width {
            e[0] = self.vector(s, at);
            self.sums[0] = s.add(self.sums[0], e[0]);
        } else {
            return;
        }
        if let Some(dropped) = dropped {
            e = [s.select(dropped[0], zero, e[0]), s.select(dropped[1], zero, e[1])];
        }
        s.store(e[0], &mut self.row[at..]);
        s.store(e[1], &mut self.row[at + 16..]);
    }
}

/// Per element of a block: p = exp(s - lse), ds = p (m dp - D); then p becomes m p. Here m is 0 or 1. They become words,
/// or stay f32 and the words of ds along keys go to `along`.
#[inline(always)]
pub(super) fn score_gradients<O: Operands>(
    ops: O,
    count: usize,
    keys: usize,
    source: Option<&Source<'_, O::S>>,
    first_row: usize,
    lse: &[f32],
    dot: &[f32],
    p: &mut [f32],
    ds: &mut [f32],
    along: Option<&mut [f32]>,
) {
    let s = ops.simd();
    let width = keys.next_multiple_of(O::S::LANES);
    let end = End::new(s, keys, f32::NEG_INFINITY);
    let mut along = along.unwrap_or(&mut []).as_chunks_mut::<STRIDE>().0.iter_mut();
    let rows = p.as_chunks_mut::<STRIDE>().0.iter_mut().zip(ds.as_chunks_mut::<STRIDE>().0);
    for (r, (p, ds)) in rows.enumerate().take(count) {
        // A query without scores: exp(s - inf) = 0 makes all its probabilities 0.
        let lse = if lse[r] == f32::NEG_INFINITY { f32::INFINITY } else { lse[r] };
        let lse = s.splat((f64::from(lse) * (1.0 / O::UNIT)) as f32);
        let dot = s.splat(dot[r]);
        let mut gradients = Gradients { ops, width, end, lse, dot, p, ds, along: along.next() };
        pass(s, source, first_row + r, width, &mut gradients);
    }
}

/// See [`score_gradients`], of one row.
struct Gradients<'a, O: Operands> {
    ops: O,
    width: usize,
    end: End<O::S>,
    lse: <O::S as Simd>::V,
    dot: <O::S as Simd>::V,
    p: &'a mut [f32; STRIDE],
    ds: &'a mut [f32; STRIDE],
    along: Option<&'a mut [f32; STRIDE]>,
}

impl<O: Operands> Gradients<'_, O> {
    /// p and ds of the elements `at ..`.
    #[inline(always)]
    fn vector(
        &self,
        s: O::S,
        at: usize,
        dropped: Option<<O::S as Simd>::M>,
    ) -> (<O::S as Simd>::V, <O::S as Simd>::V) {
        let zero = s.splat(0.0);
        let e = self.ops.exp(s.sub(self.end.of(s, at, s.load(&self.p[at..])), self.lse));
        let dp = s.load(&self.ds[at..]);
        let (p, dp) = match dropped {
            Some(dropped) => (s.select(dropped, zero, e), s.select(dropped, zero, dp)),
            None => (e, dp),
        };
        (p, s.mul(e, s.sub(dp, self.dot)))
    }
}

impl<O: Operands> Pass<O::S> for Gradients<'_, O> {
    #[inline(always)]
    fn pair(&mut self, s: O::S, at: usize, dropped: Option<[<O::S as Simd>::M; 2]>) {
        let zero = s.splat(0.0);
        let (mut p, mut ds) = ([zero; 2], [zero; 2]);
        let [first, second] = match dropped {
            Some([first, second]) => [Some(first), Some(second)],
            None => [None; 2],
        };
        if at + 16 < self.width {
            (p[0], ds[0]) = self.vector(s, at, first);
            (p[1], ds[1]) = self.vector(s, at + 16, second);
        } else if at < self.width {
            (p[0], ds[0]) = self.vector(s, at, first);
        } else {
            return;
        }
        if let Some(along) = &mut self.along {
            for i in 0..2 {
                s.store(p[i], &mut self.p[at + 16 * i..]);
                s.store(ds[i], &mut self.ds[at + 16 * i..]);
            }
            self.ops.put(ds, at, &mut along[..]);
        } else {
            self.ops.put(p, at, &mut self.p[..]);
            self.ops.put(ds, at, &mut self.ds[..]);
        }
    }
}
