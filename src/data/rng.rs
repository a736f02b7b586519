//! The generator behind splits and batch orders: small, ours, and therefore the same in every version.
//!
//! A crate's standard generator may change its stream between releases; a split or an order of batches must not.

/// SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"): a counter run through a
/// mixing function with full period 2^64.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix64(u64);

/// The finalising mixer of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl SplitMix64 {
    /// A stream for a pair of keys, e.g. (seed, epoch). Both pass the mixer, so neighbouring pairs are unrelated.
    pub(crate) fn keyed(seed: u64, stream: u64) -> Self {
        let a = mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
        Self(mix(a ^ mix(stream.wrapping_add(0xd1b5_4a32_d192_ed03))))
    }

    /// The next 64 bits.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform in `0..n` without bias (Lemire 2019: multiply, and reject the short stripe). `n` must not be 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        let threshold = n.wrapping_neg() % n;
        loop {
            let wide = u128::from(self.next_u64()) * u128::from(n);
            if (wide as u64) >= threshold {
                return (wide >> 64) as u64;
            }
        }
    }

    /// Uniform in [0, 1) with 53 bits.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Fisher-Yates shuffle: every order equally likely.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u64 + 1) as usize;
            items.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_outputs_of_the_published_generator() {
        // SplitMix64 from state 0: the values of Vigna's reference program splitmix64.c.
        let mut r = SplitMix64(0);
        assert_eq!(r.next_u64(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(r.next_u64(), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn orders_of_three_are_equally_likely() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..6000 {
            let mut v = [0, 1, 2];
            SplitMix64::keyed(seed, 7).shuffle(&mut v);
            *counts.entry(v).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 6);
        // Expected 1000 each; the standard deviation is 29, so 150 is five of them.
        assert!(counts.values().all(|&c| c.abs_diff(1000) < 150), "{counts:?}");
    }
}
