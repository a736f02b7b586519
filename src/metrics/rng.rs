//! A small seeded generator for resampling: SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, "Fast splittable
//! pseudorandom number generators", OOPSLA 2014). By hand, because an interval in a report must stay the same when a
//! library changes its generator.

#[derive(Clone, Debug)]
pub(super) struct SplitMix64(u64);

impl SplitMix64 {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform below `n` > 0, without bias: the upper half of a 128-bit product, the few uneven draws rejected
    /// (D. Lemire, "Fast random integer generation in an interval", 2019).
    pub(super) fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        let uneven = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next()) * u128::from(n);
            if product as u64 >= uneven {
                return (product >> 64) as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sequence() {
        // First outputs for seed 1234567, as printed by the reference implementation.
        let mut r = SplitMix64::new(1_234_567);
        let want = [6_457_827_717_110_365_317u64, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([r.next(), r.next(), r.next()], want);
    }

    #[test]
    fn below_is_even() {
        let mut r = SplitMix64::new(1);
        let mut counts = [0u32; 7];
        (0..70_000).for_each(|_| counts[r.below(7)] += 1);
        // Standard deviation of a count is 93.
        assert!(counts.iter().all(|&c| c.abs_diff(10_000) < 400), "{counts:?}");
    }
}
