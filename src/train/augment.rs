//! Augmentation of training windows, drawn from the stream of (seed, step, number in the batch).

use heartlore_kernels::rng::{Key, Stream};

/// What is varied; all off by default.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Augment {
    /// Most samples by which a window is rotated (what leaves at one end enters at the other).
    pub shift: usize,
    /// Standard deviation of added white noise, in units of the window's own standard deviation.
    pub noise: f64,
    /// The amplitude is multiplied by a factor from 1 - scale to 1 + scale.
    pub scale: f64,
    /// Largest amplitude of an added sine of 0.05 to 0.5 Hz (at 128 Hz), in units of the window's standard deviation: baseline
    /// wander.
    pub drift: f64,
    /// Probability that the window is turned upside down, as by exchanged electrodes.
    pub flip: f64,
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
            // From -shift to shift, for any shift that a number can hold.
            let by = (stream.uniform(0, 0) * (2 * self.shift as u128 + 1) as f64) as u128;
            let n = window.len();
            let by = (by % n as u128) as usize;
            window.rotate_left((by + n - self.shift % n) % n);
        }
        let gain = 1.0 + self.scale * (2.0 * stream.uniform(0, 1) - 1.0);
        let mean = window.iter().map(|&x| f64::from(x)).sum::<f64>() / window.len() as f64;
        let power = window.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / window.len() as f64;
        let noise = self.noise * power.sqrt();
        let sign = if stream.uniform(2, 0) < self.flip { -1.0 } else { 1.0 };
        let drift = self.drift * power.sqrt() * stream.uniform(2, 1);
        // Cycles per sample: 0.05 to 0.5 Hz at 128 Hz.
        let pace = std::f64::consts::TAU * (0.05 + 0.45 * stream.uniform(2, 2)) / 128.0;
        let phase = std::f64::consts::TAU * stream.uniform(2, 3);
        for (i, x) in window.iter_mut().enumerate() {
            let mut y = f64::from(*x) * gain * sign;
            if drift > 0.0 {
                y += drift * (pace * i as f64 + phase).sin();
            }
            if noise > 0.0 {
                y += noise * normal(&stream, i);
            }
            *x = y as f32;
        }
    }
}

/// The `i`-th standard normal number of row 1 of a stream (row 0 holds shift and gain): G. E. P. Box and M. E. Muller, 1958,
/// on two uniform numbers of 53 bits from one block; odd `i` takes the sine of the block that `i - 1` takes the cosine of.
fn normal(stream: &Stream, i: usize) -> f64 {
    let b = stream.bits(1, (i / 2) as u32);
    let unit = |high: u32, low: u32| {
        (((u64::from(high) << 32) | u64::from(low)) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    };
    let radius = (-2.0 * (-unit(b[0], b[1])).ln_1p()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * unit(b[2], b[3])).sin_cos();
    radius * if i.is_multiple_of(2) { cos } else { sin }
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
        let all = Augment { shift: 10, noise: 0.1, scale: 0.2, drift: 0.3, flip: 0.5 };
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
    /// Every key names numbers of its own, also where seed, step and sample differ by what cancels under exclusive or.
    #[test]
    fn no_two_keys_share_their_noise() {
        let a = Augment { noise: 1.0, ..Augment::default() };
        let mut seen = std::collections::BTreeMap::new();
        for (seed, step, sample) in
            (0..4u64).flat_map(|s| (0..4u64).flat_map(move |t| (0..8u32).map(move |i| (s, t, i))))
        {
            let mut w: Vec<f32> = (0..16).map(|i| (i % 3) as f32).collect();
            a.apply(Key { seed, step, sample, op: 0 }, &mut w);
            let bits: Vec<u32> = w.iter().map(|x| x.to_bits()).collect();
            if let Some(other) = seen.insert(bits, (seed, step, sample)) {
                panic!("{other:?} and {:?} draw the same noise", (seed, step, sample));
            }
        }
    }

    #[test]
    fn the_noise_is_normal() {
        let stream = Key { seed: 9, step: 1, sample: 2, op: 3 }.stream();
        let z: Vec<f64> = (0..40_000).map(|i| normal(&stream, i)).collect();
        let moment = |k: i32| z.iter().map(|x| x.powi(k)).sum::<f64>() / z.len() as f64;
        // Standard deviations of the moments: 0.005, 0.007, 0.02 and 0.05.
        assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.03, "{} {}", moment(1), moment(2));
        assert!(moment(3).abs() < 0.08 && (moment(4) - 3.0).abs() < 0.2, "{} {}", moment(3), moment(4));
        let next = z.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / z.len() as f64;
        assert!(next.abs() < 0.02, "neighbours correlate: {next}");
    }
}
