//! Augmentation of training windows, drawn from the stream of (seed, step, number in the batch).

use heartlore_kernels::rng::Key;
use rand_distr::{Distribution, StandardNormal};

/// What is varied; all off by default.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Augment {
    /// Most samples by which a window is rotated (what leaves at one end enters at the other).
    pub shift: usize,
    /// Standard deviation of added white noise, in units of the window's own standard deviation.
    pub noise: f64,
    /// The amplitude is multiplied by a factor from 1 - scale to 1 + scale.
    pub scale: f64,
}

impl Augment {
    /// True if nothing is varied.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Varies `window` in place.
    pub fn apply(&self, key: Key, window: &mut [f32]) {
        if self.is_none() || window.is_empty() {
            return;
        }
        // The operation number u32::MAX - 1 is far beyond any program's; u32::MAX is the masks'.
        let stream = Key { op: u32::MAX - 1, ..key }.stream();
        if self.shift > 0 {
            let by = (stream.uniform(0, 0) * (2 * self.shift + 1) as f64) as usize;
            let n = window.len();
            window.rotate_left((by + n - self.shift % n) % n);
        }
        let gain = 1.0 + self.scale * (2.0 * stream.uniform(0, 1) - 1.0);
        let mean = window.iter().map(|&x| f64::from(x)).sum::<f64>() / window.len() as f64;
        let power = window.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / window.len() as f64;
        let noise = self.noise * power.sqrt();
        let name = "noise";
        let mut rng =
            crate::tensor::PhiloxRng::new(key.seed ^ key.step.rotate_left(32) ^ u64::from(key.sample), name);
        for x in window {
            let mut y = f64::from(*x) * gain;
            if noise > 0.0 {
                let n: f64 = StandardNormal.sample(&mut rng);
                y += noise * n;
            }
            *x = y as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_varied_by_its_key_alone_and_by_the_stated_amount() {
        let original: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.1).sin()).collect();
        let vary = |a: Augment, sample| {
            let mut w = original.clone();
            a.apply(Key { seed: 1, step: 2, sample, op: 0 }, &mut w);
            w
        };
        let all = Augment { shift: 10, noise: 0.1, scale: 0.2 };
        assert_eq!(vary(all, 3), vary(all, 3));
        assert_ne!(vary(all, 3), vary(all, 4));
        assert_eq!(vary(Augment::default(), 3), original);
        let shifts: std::collections::BTreeSet<usize> = (0..200)
            .map(|s| {
                let w = vary(Augment { shift: 10, ..Augment::default() }, s);
                (0..1000)
                    .find(|&k| {
                        let mut o = original.clone();
                        o.rotate_left(k);
                        o == w
                    })
                    .unwrap()
            })
            .collect();
        assert!(shifts.iter().all(|&k| k <= 10 || k >= 990) && shifts.len() > 15, "{shifts:?}");
        let noisy = vary(Augment { noise: 0.1, ..Augment::default() }, 0);
        let power = |x: &[f32]| x.iter().map(|v| f64::from(v * v)).sum::<f64>() / 1000.0;
        let difference: Vec<f32> = noisy.iter().zip(&original).map(|(a, b)| a - b).collect();
        let ratio = (power(&difference) / power(&original)).sqrt();
        assert!((ratio - 0.1).abs() < 0.01, "noise is {ratio} of the window");
    }
}
