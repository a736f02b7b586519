//! A small random generator whose numbers never change.
//!
//! The simulator's output is compared with committed numbers, and a data set is named by its seed, so its generator must
//! give the same numbers in every version of every dependency; `rand`'s standard generator promises no such thing.
//! xoshiro256++ 1.0 (Blackman and Vigna, ACM TOMS 47(4), 2021), its state filled from the seed by SplitMix64 (Steele, Lea
//! and Flood 2014) as its authors advise. Not for secrets.

use std::f64::consts::TAU;

/// xoshiro256++ seeded by SplitMix64.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
    spare_normal: Option<f64>,
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut s = seed;
        Self { state: std::array::from_fn(|_| split_mix(&mut s)), spare_normal: None }
    }

    /// A stream of its own for the `index`-th part of something with this `seed`: parts can be made in any order.
    pub fn stream(seed: u64, index: u64) -> Self {
        let mut s = seed;
        let mut mixed = split_mix(&mut s) ^ index.wrapping_mul(0xd134_2543_de82_ef95);
        Self::new(split_mix(&mut mixed))
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in [0, 1), with 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Normal with mean 0 and standard deviation 1 (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        if let Some(z) = self.spare_normal.take() {
            return z;
        }
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let angle = TAU * self.uniform();
        self.spare_normal = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sequences() {
        // SplitMix64 from seed 1234567, and xoshiro256++ from the state 1, 2, 3, 4, by the authors' C programs.
        let mut s = 1_234_567;
        let got = [split_mix(&mut s), split_mix(&mut s), split_mix(&mut s)];
        assert_eq!(got, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
        let mut r = Rng { state: [1, 2, 3, 4], spare_normal: None };
        let got: [u64; 4] = std::array::from_fn(|_| r.next_u64());
        assert_eq!(got, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn moments() {
        let n = 200_000;
        let mut r = Rng::new(7);
        let u: f64 = (0..n).map(|_| r.uniform()).sum::<f64>() / n as f64;
        assert!((u - 0.5).abs() < 4.0 * (1.0 / 12.0f64 / n as f64).sqrt());
        let z: Vec<f64> = (0..n).map(|_| r.normal()).collect();
        let moment = |k| z.iter().map(|v| v.powi(k)).sum::<f64>() / n as f64;
        // Standard errors of the first four moments of n normal numbers: sqrt of 1, 2, 15, 96 over n.
        for (k, want, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0f64)] {
            assert!(
                (moment(k) - want).abs() < 4.0 * (variance / n as f64).sqrt(),
                "moment {k}: {}",
                moment(k)
            );
        }
        let lag: f64 = z.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / n as f64;
        assert!(lag.abs() < 4.0 / (n as f64).sqrt());
    }

    #[test]
    fn neighbouring_streams_are_unrelated() {
        let n = 50_000;
        let (mut a, mut b) = (Rng::stream(1, 0), Rng::stream(1, 1));
        let c: f64 = (0..n).map(|_| a.normal() * b.normal()).sum::<f64>() / n as f64;
        assert!(c.abs() < 4.0 / (n as f64).sqrt(), "{c}");
        assert_ne!(Rng::stream(1, 0).next_u64(), Rng::stream(0, 1).next_u64());
    }
}
