//! Random numbers that belong to a computation: Philox4x32, a counter-based generator.
//!
//! Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A block cipher turns a
//! 128-bit counter and a 64-bit key into 128 random bits; there is no state, so any number can be drawn alone, in any
//! order, on any thread. The paper reports that Philox4x32 passes BigCrush from 7 rounds on; 10 is its safe default, and is
//! used here for all numbers but one kind: decisions of dropout, by far the most, take 7. What that gives up is the authors'
//! margin of three rounds, against regularities that BigCrush does not look for, in numbers of which one comparison with a
//! threshold is all that is used.
//!
//! Here the key is mixed from (seed, step), and the counter is `[place, row, sample, op]`: a training step, a window or a
//! single operation can be replayed alone. Decisions of dropout take 16 random bits each, eight to a counter: the keep
//! probability is a multiple of 2^-16 ([`Dropout::keep`]), and the scale is its exact inverse, so the mean is exact.
//!
//! The bits are the same on every instruction set: a row's decisions come in blocks of [`BLOCK`] elements whose layout
//! does not depend on the vector width.
//!
//! What a block's places alone decide, 2.5 rounds, is shared by all rows ([`Stream::places`]), and two vectors of
//! counters take turns, as a round waits for the one before. Measured: `benches/NOTES.md`.

use crate::Real;
use crate::isa::Simd;

/// Names the random numbers of one operation on one sample in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Key {
    /// The run's seed.
    pub seed: u64,
    /// The optimiser step (or any number that changes from pass to pass).
    pub step: u64,
    /// The sample's number in the whole batch, not in a worker's share of it.
    pub sample: u32,
    /// The operation's number in the program.
    pub op: u32,
}

impl Key {
    /// The same key for the sample `n` places on.
    #[must_use]
    pub fn sample(self, n: usize) -> Self {
        Self { sample: self.sample.wrapping_add(n as u32), ..self }
    }

    /// The generator this key names.
    pub fn stream(self) -> Stream {
        let k = mix(self.seed ^ mix(self.step.wrapping_add(0x9E37_79B9_7F4A_7C15)));
        Stream { key: [k as u32, (k >> 32) as u32], sample: self.sample, op: self.op }
    }
}

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): a bijection that spreads every input bit over the output.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Multipliers and key increments of Philox4x32 (table 2 of the paper).
const M0: u32 = 0xD251_1F53;
const M1: u32 = 0xCD9E_8D57;
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;
/// Rounds of every number but a dropout decision: the authors' default.
const ROUNDS: usize = 10;
/// Rounds of a dropout decision: the fewest that pass BigCrush.
const DECISION_ROUNDS: usize = 7;

/// One block: 128 random bits for `counter` under `key` after this many rounds.
#[inline]
pub fn philox<const ROUNDS: usize>(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let p0 = u64::from(M0) * u64::from(counter[0]);
        let p1 = u64::from(M1) * u64::from(counter[2]);
        counter = [
            (p1 >> 32) as u32 ^ counter[1] ^ key[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ counter[3] ^ key[1],
            p0 as u32,
        ];
        key = [key[0].wrapping_add(W0), key[1].wrapping_add(W1)];
    }
    counter
}

/// The random numbers of one [`Key`].
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    key: [u32; 2],
    sample: u32,
    op: u32,
}

/// Elements whose dropout decisions one call of [`Stream::multipliers`] draws: 16 counters of eight 16-bit numbers.
pub const BLOCK: usize = 128;

impl Stream {
    /// 128 random bits at (`row`, `place`).
    #[inline]
    pub fn bits(&self, row: u32, place: u32) -> [u32; 4] {
        self.block::<ROUNDS>(row, place)
    }

    #[inline]
    fn block<const N: usize>(&self, row: u32, place: u32) -> [u32; 4] {
        philox::<N>([place, row, self.sample, self.op], self.key)
    }

    /// A uniform number in [0, 1) with 53 random bits, for index `i` of `row`.
    #[inline]
    pub fn uniform(&self, row: u32, i: u32) -> f64 {
        let b = self.bits(row, i);
        (((u64::from(b[0]) << 32) | u64::from(b[1])) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Whether element `i` of `row` is kept: the scalar definition of the layout.
    #[inline]
    pub fn keeps(&self, dropout: Dropout, row: u32, i: usize) -> bool {
        let (block, r) = (i / BLOCK, i % BLOCK);
        let (slot, lane) = (r / 16, r % 16);
        let word = self.block::<DECISION_ROUNDS>(row, (block * 16 + lane) as u32)[slot / 2];
        let number = if slot % 2 == 0 { word & 0xffff } else { word >> 16 };
        number < dropout.threshold
    }

    /// Multipliers of the elements `block * BLOCK ..` of `row`: `1 / keep` where kept, 0 where dropped.
    #[inline(always)]
    pub fn multipliers<S: Simd>(&self, s: S, d: Dropout, row: u32, block: u32, out: &mut [f32; BLOCK]) {
        *out = [d.scale::<f32>(); BLOCK];
        self.decide(s, d, row, block, &mut Zero(out));
    }

    /// Tells `action` which of the elements `block * BLOCK ..` of `row` are dropped, two vectors at a time.
    #[inline(always)]
    pub fn decide<S: Simd>(&self, s: S, d: Dropout, row: u32, block: u32, action: &mut impl OnDropped<S>) {
        self.decide_at(s, d, row, &self.places(s, block), BLOCK, action);
    }

    /// What the decisions of a block share, whatever the row: rounds 1 and 2 and half of round 3.
    #[inline(always)]
    pub fn places<S: Simd>(&self, s: S, block: u32) -> Places<S> {
        let (m0, m1) = (s.splat_u32(M0), s.splat_u32(M1));
        let [k1, k2, k3] = [self.round_key(0), self.round_key(1), self.round_key(2)];
        let sample = u64::from(M1) * u64::from(self.sample);
        let mut groups = [[[m0; 4]; 2]; GROUPS];
        for (i, group) in groups.iter_mut().enumerate().take(16 / S::LANES) {
            for (odd, c) in group.iter_mut().enumerate() {
                let first = block * 16 + (i * S::LANES + odd) as u32;
                // Round 1: of c0 the place knows nothing, c1 is the same everywhere.
                let c3 = s.mul_even_u32(s.add_u32(s.splat_u32(first), s.iota_u32()), m0);
                let c2 = s.xor_u32(s.swap_u32(c3), s.splat_u32(self.op ^ k1[1]));
                // Round 2: c2 is c3 of round 1 and a number of the row, c3 a number of the row.
                let c1 = s.mul_even_u32(c2, m1);
                let c0 = s.xor_u32(s.swap_u32(c1), s.splat_u32(sample as u32 ^ k2[0]));
                let p0 = s.mul_even_u32(c0, m0);
                let high = s.xor_u32(s.swap_u32(p0), s.splat_u32(k3[1]));
                *c = [c3, s.xor_u32(c1, s.splat_u32(k3[0])), high, p0];
            }
        }
        Places { groups, sample: (sample >> 32) as u32 }
    }

    /// [`Stream::decide`] for the block of these [`Stream::places`]. Only the first `len` elements need be told of: a last
    /// block of up to 64 is spared the second half of what comes out of the last round.
    ///
    /// The counters lie in the even lanes of two vectors (even and odd places), where a 32 by 32 bit product is one
    /// instruction and its halves are a word and its neighbour; the odd lanes carry rubbish until the end. A round waits
    /// for the one before, so the two vectors take turns.
    #[inline(always)]
    pub fn decide_at<S: Simd>(
        &self,
        s: S,
        d: Dropout,
        row: u32,
        places: &Places<S>,
        len: usize,
        action: &mut impl OnDropped<S>,
    ) {
        // number >= threshold as threshold - 1 < number, of the higher half in place.
        let limit = s.splat_u32(d.threshold - 1);
        let high_limit = s.splat_u32((d.threshold << 16).wrapping_sub(1));
        let (m0, m1) = (s.splat_u32(M0), s.splat_u32(M1));
        let p0 = u64::from(M0) * u64::from(places.sample ^ row ^ self.key[0]);
        let high = s.splat_u32((p0 >> 32) as u32 ^ self.round_key(1)[1]);
        let low_word = s.splat_u32(p0 as u32);
        for (i, mut group) in places.groups.into_iter().enumerate().take(16 / S::LANES) {
            for c in &mut group {
                let p1 = s.mul_even_u32(s.xor_u32(c[0], high), m1);
                *c = [s.xor_u32(s.swap_u32(p1), c[1]), p1, s.xor_u32(c[2], low_word), c[3]];
            }
            for round in 3..DECISION_ROUNDS - 1 {
                let keys = self.round_key(round as u32);
                let keys = [s.splat_u32(keys[0]), s.splat_u32(keys[1])];
                for c in &mut group {
                    let (p0, p1) = (s.mul_even_u32(c[0], m0), s.mul_even_u32(c[2], m1));
                    *c = [
                        s.xor_u32(s.xor_u32(s.swap_u32(p1), c[1]), keys[0]),
                        p1,
                        s.xor_u32(s.xor_u32(s.swap_u32(p0), c[3]), keys[1]),
                        p0,
                    ];
                }
            }
            // The last round: words 0 and 1 come of c2, words 2 and 3 of c0.
            let [k0, k1] = self.round_key(DECISION_ROUNDS as u32 - 1);
            let [even, odd] = group;
            let limits = [limit, high_limit];
            let at = i * S::LANES;
            tell(s, [even[2], even[1]], [odd[2], odd[1]], m1, k0, limits, at, action);
            if len > BLOCK / 2 {
                tell(s, [even[0], even[3]], [odd[0], odd[3]], m0, k1, limits, BLOCK / 2 + at, action);
            }
        }
    }

    /// The key of a round, from 0.
    #[inline(always)]
    fn round_key(&self, round: u32) -> [u32; 2] {
        [self.key[0].wrapping_add(W0.wrapping_mul(round)), self.key[1].wrapping_add(W1.wrapping_mul(round))]
    }
}

/// Two words of a block's counters from two of before the last round, in even and odd places, and what they decide of the
/// elements `at ..`.
#[inline(always)]
fn tell<S: Simd>(
    s: S,
    even: [S::U; 2],
    odd: [S::U; 2],
    multiplier: S::U,
    key: u32,
    limits: [S::U; 2],
    at: usize,
    action: &mut impl OnDropped<S>,
) {
    let (low, key) = (s.splat_u32(0xffff), s.splat_u32(key));
    let (p, q) = (s.mul_even_u32(even[0], multiplier), s.mul_even_u32(odd[0], multiplier));
    let first = s.xor_u32(s.xor_u32(s.swap_u32(p), even[1]), key);
    let second = s.xor_u32(s.xor_u32(s.swap_u32(q), odd[1]), key);
    let c = s.blend_u32(first, s.swap_u32(second));
    action.dropped(s, at, [s.lt_u31(limits[0], s.and_u32(c, low)), s.lt_u32(limits[1], c)]);
    let c = s.blend_u32(p, s.swap_u32(q));
    action.dropped(s, at + 32, [s.lt_u31(limits[0], s.and_u32(c, low)), s.lt_u32(limits[1], c)]);
}

/// Most pairs of vectors that a block's 16 counters take.
const GROUPS: usize = 4;

/// See [`Stream::places`].
#[derive(Clone, Copy)]
pub struct Places<S: Simd> {
    /// Per pair of vectors, of each: c2 of round 2 but for the row, c1 of round 2 with the key of round 3, the high and the
    /// low half of round 3's product of c0 (the high one with its key).
    groups: [[[S::U; 4]; 2]; GROUPS],
    /// The high half of round 1's product of the sample.
    sample: u32,
}

/// Blocks whose [`Places`] are kept for all rows: those of rows of up to 256 elements.
const KEPT: usize = 2;

/// The decisions of the rows of one stream: [`Stream::decide`], but what the rows share is computed once.
#[derive(Clone, Copy)]
pub struct RowDecisions<S: Simd> {
    stream: Stream,
    dropout: Dropout,
    places: [Places<S>; KEPT],
}

impl<S: Simd> RowDecisions<S> {
    /// Of the rows of `stream`.
    #[inline(always)]
    pub fn new(s: S, stream: Stream, dropout: Dropout) -> Self {
        let mut places = [stream.places(s, 0); KEPT];
        for (block, places) in places.iter_mut().enumerate().skip(1) {
            *places = stream.places(s, block as u32);
        }
        Self { stream, dropout, places }
    }

    /// Tells `action` which of the elements `block * BLOCK ..` of `row` are dropped, two vectors at a time.
    #[inline(always)]
    pub fn decide(&self, s: S, row: u32, block: usize, action: &mut impl OnDropped<S>) {
        match self.places.get(block) {
            Some(places) => self.stream.decide_at(s, self.dropout, row, places, BLOCK, action),
            None => self.stream.decide(s, self.dropout, row, block as u32, action),
        }
    }
}

/// What happens to dropped elements, see [`Stream::decide`]. Implementations are `#[inline(always)]`.
pub trait OnDropped<S: Simd> {
    /// Of the elements `at .. at + S::LANES` of the block, those where `dropped[0]` are dropped; of those from `at + 16` on,
    /// those where `dropped[1]`.
    fn dropped(&mut self, s: S, at: usize, dropped: [S::M; 2]);
}

/// Dropped elements become 0.
pub struct Zero<'a>(pub &'a mut [f32; BLOCK]);

impl<S: Simd> OnDropped<S> for Zero<'_> {
    #[inline(always)]
    fn dropped(&mut self, s: S, at: usize, dropped: [S::M; 2]) {
        s.store_where(dropped[0], s.splat(0.0), &mut self.0[at..]);
        s.store_where(dropped[1], s.splat(0.0), &mut self.0[at + 16..]);
    }
}

/// A dropout probability, quantised to 2^-16.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    threshold: u32,
}

impl Dropout {
    /// Nothing is dropped.
    pub const NONE: Dropout = Dropout { threshold: 1 << 16 };

    /// Drops with probability `p`, rounded to the nearest multiple of 2^-16.
    ///
    /// # Panics
    /// Unless `0 <= p < 1` and the rounded keep probability is above 0.
    pub fn new(p: f64) -> Self {
        assert!((0.0..1.0).contains(&p), "dropout: probability must be in [0, 1), got {p}");
        let threshold = ((1.0 - p) * 65536.0).round() as u32;
        assert!(threshold > 0, "dropout: probability {p} rounds to 1");
        Self { threshold }
    }

    /// The keep probability actually used.
    pub fn keep(self) -> f64 {
        f64::from(self.threshold) / 65536.0
    }

    /// 1 / keep: what a kept element is multiplied by.
    pub fn scale<T: Real>(self) -> T {
        T::of(65536.0 / f64::from(self.threshold))
    }

    /// True if nothing is dropped.
    pub fn is_none(self) -> bool {
        self.threshold == 1 << 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::isa::Task;

    #[test]
    fn philox_gives_the_published_known_answers() {
        // kat_vectors of the authors' Random123 distribution, philox4x32 7 and 10.
        let pi = ([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]);
        for ((counter, key), seven, ten) in [
            (
                ([0; 4], [0; 2]),
                [0x5f6f_b709, 0x0d89_3f64, 0x4f12_1f81, 0x4f73_0a48],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                ([!0; 4], [!0; 2]),
                [0x5207_ddc2, 0x4516_5e59, 0x4d8e_e751, 0x8c52_f662],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                pi,
                [0x4dfc_caba, 0x190a_87f0, 0xc473_62ba, 0xb6b5_242a],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            assert_eq!(philox::<DECISION_ROUNDS>(counter, key), seven);
            assert_eq!(philox::<ROUNDS>(counter, key), ten);
        }
    }

    struct Multipliers(Stream, Dropout, u32, u32);
    impl Task for Multipliers {
        type Out = [f32; BLOCK];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [f32; BLOCK] {
            let mut out = [f32::NAN; BLOCK];
            self.0.multipliers(s, self.1, self.2, self.3, &mut out);
            out
        }
    }

    #[test]
    fn every_instruction_set_draws_the_scalar_layout() {
        let d = Dropout::new(0.3);
        for (sample, op, row, block) in [(0, 0, 0, 0), (7, 3, 11, 2), (u32::MAX, 9, 1280, 5)] {
            let stream = Key { seed: 42, step: 17, sample, op }.stream();
            for isa in Isa::available() {
                let got = isa.run(Multipliers(stream, d, row, block));
                for (i, g) in got.iter().enumerate() {
                    let keep = stream.keeps(d, row, block as usize * BLOCK + i);
                    assert_eq!(*g, if keep { d.scale() } else { 0.0 }, "{isa} element {i}");
                }
            }
        }
    }

    /// Adds 1 where dropped.
    struct Count([f32; BLOCK]);
    impl<S: Simd> OnDropped<S> for Count {
        #[inline(always)]
        fn dropped(&mut self, s: S, at: usize, dropped: [S::M; 2]) {
            for (at, dropped) in [at, at + 16].into_iter().zip(dropped) {
                let one = s.select(dropped, s.splat(1.0), s.splat(0.0));
                let sum = s.add(s.load(&self.0[at..]), one);
                s.store(sum, &mut self.0[at..]);
            }
        }
    }

    struct Decide(Stream, Dropout);
    impl Task for Decide {
        type Out = [f32; BLOCK];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [f32; BLOCK] {
            let mut count = Count([0.0; BLOCK]);
            self.0.decide(s, self.1, 3, 1, &mut count);
            count.0
        }
    }

    #[test]
    fn a_decision_is_told_once_per_element_at_the_extreme_probabilities_too() {
        let stream = Key { seed: 7, ..Key::default() }.stream();
        // Keeps one number in 65536, all but one, and half of them.
        for p in [1.0 - 1.0 / 65536.0, 1.0 / 65536.0, 0.5] {
            let d = Dropout::new(p);
            for isa in Isa::available() {
                for (i, n) in isa.run(Decide(stream, d)).iter().enumerate() {
                    let keep = stream.keeps(d, 3, BLOCK + i);
                    assert_eq!(*n, if keep { 0.0 } else { 1.0 }, "{isa} p {p} element {i}");
                }
            }
        }
    }

    #[test]
    fn uniform_numbers_have_the_right_moments() {
        let stream = Key { seed: 1, step: 2, sample: 3, op: 4 }.stream();
        let n = 200_000;
        moments((0..n).map(|i| stream.uniform(0, i) - 0.5).collect());
        // The halves of a decision's words, to the middle of their cells.
        for half in 0..8 {
            let number =
                |i| stream.block::<DECISION_ROUNDS>(i / 1000, i % 1000)[half / 2] >> (half % 2 * 16) & 0xffff;
            moments((0..n).map(|i| (f64::from(number(i)) + 0.5) / 65536.0 - 0.5).collect());
        }
    }

    fn moments(x: Vec<f64>) {
        let n = x.len() as u32;
        let moment = |k: i32| x.iter().map(|v| v.powi(k)).sum::<f64>() / f64::from(n);
        // Moments of the uniform distribution on [-1/2, 1/2]: 0, 1/12, 0, 1/80; five standard errors.
        let root = f64::from(n).sqrt();
        assert!(moment(1).abs() < 5.0 * (1.0f64 / 12.0).sqrt() / root);
        assert!((moment(2) - 1.0 / 12.0).abs() < 5.0 * (1.0f64 / 180.0).sqrt() / root);
        assert!(moment(3).abs() < 5.0 * (1.0f64 / 448.0).sqrt() / root);
        assert!((moment(4) - 1.0 / 80.0).abs() < 5.0 * (1.0f64 / 2304.0 - 1.0 / 6400.0).sqrt() / root);
        // Chi-square over 256 cells: mean 255, standard deviation sqrt(510) = 22.6.
        let mut cells = [0u32; 256];
        x.iter().for_each(|v| cells[((v + 0.5) * 256.0) as usize] += 1);
        let e = f64::from(n) / 256.0;
        let chi: f64 = cells.iter().map(|&c| (f64::from(c) - e).powi(2) / e).sum();
        assert!((chi - 255.0).abs() < 5.0 * 22.6, "chi-square {chi}");
    }

    /// Correlation of the keep decisions of two streams over many elements.
    fn correlation(a: Stream, b: Stream, lag: usize) -> f64 {
        let d = Dropout::new(0.5);
        let n = 20_000;
        let sign = |s: Stream, i: usize| if s.keeps(d, (i / 1000) as u32, i % 1000) { 1.0 } else { -1.0 };
        (0..n).map(|i| sign(a, i) * sign(b, i + lag)).sum::<f64>() / n as f64
    }

    #[test]
    fn neighbouring_streams_are_independent() {
        let base = Key { seed: 5, step: 6, sample: 7, op: 8 };
        let bound = 5.0 / (20_000f64).sqrt();
        for (name, other) in [
            ("seed", Key { seed: 6, ..base }),
            ("step", Key { step: 7, ..base }),
            ("sample", Key { sample: 8, ..base }),
            ("op", Key { op: 9, ..base }),
            ("seed and step swapped", Key { seed: 6, step: 5, ..base }),
        ] {
            let c = correlation(base.stream(), other.stream(), 0);
            assert!(c.abs() < bound, "{name}: correlation {c}");
        }
        for lag in [1, 16, 128] {
            let c = correlation(base.stream(), base.stream(), lag);
            assert!(c.abs() < bound, "lag {lag}: correlation {c}");
        }
        assert_eq!(correlation(base.stream(), base.stream(), 0), 1.0);
    }

    #[test]
    fn the_keep_rate_is_the_quantised_probability_and_the_mean_is_kept() {
        for p in [0.0, 0.1, 0.3, 0.5, 0.9] {
            let d = Dropout::new(p);
            assert!((d.keep() - (1.0 - p)).abs() <= 0.5 / 65536.0);
            let stream = Key { seed: 3, ..Key::default() }.stream();
            let n = 100_000usize;
            let kept = (0..n).filter(|&i| stream.keeps(d, 0, i)).count() as f64 / n as f64;
            let se = (d.keep() * (1.0 - d.keep()) / n as f64).sqrt();
            assert!((kept - d.keep()).abs() <= 5.0 * se, "p {p}: kept {kept}");
            assert!((d.keep() * d.scale::<f64>() - 1.0).abs() < 1e-15);
        }
        assert!(Dropout::new(0.0).is_none());
    }

    #[test]
    #[should_panic(expected = "probability must be in [0, 1)")]
    fn dropping_everything_is_refused() {
        Dropout::new(1.0);
    }
}
