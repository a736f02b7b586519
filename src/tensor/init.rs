//! Seeded initialisation: every tensor draws from its own stream, named by seed and tensor name, so adding or reordering
//! parameters changes no other parameter.

use super::Shape;
use heartlore_kernels::Real;
use heartlore_kernels::rng::{Key, Stream};
use rand_distr::{Distribution, Normal, Uniform};

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// Normal with mean 0 and this standard deviation.
    Normal(f64),
    /// Uniform in [-bound, bound).
    Uniform(f64),
    /// Uniform in +-1/sqrt(fan_in): what PyTorch's `nn.Linear` and `nn.Conv1d` use for weight and bias. The fan-in is
    /// given because a bias cannot see it.
    FanIn(usize),
    /// Glorot & Bengio 2010: uniform in +-sqrt(6 / (fan_in + fan_out)) for a matrix [fan_out, fan_in]; PyTorch's choice
    /// for the attention input projection.
    XavierUniform,
}

impl Init {
    /// Fills `out` (of `shape`) from the stream named by `seed` and `name`.
    pub fn fill<T: Real>(self, seed: u64, name: &str, shape: &Shape, out: &mut [T]) {
        let mut rng = PhiloxRng::new(seed, name);
        let uniform = |bound: f64, rng: &mut PhiloxRng, out: &mut [T]| {
            // The bounds are finite and ordered by construction; a zero bound is all zeros.
            match Uniform::new(-bound, bound) {
                Ok(u) => out.iter_mut().for_each(|x| *x = T::of(u.sample(rng))),
                Err(_) => out.fill(T::ZERO),
            }
        };
        match self {
            Init::Zeros => out.fill(T::ZERO),
            Init::Ones => out.fill(T::ONE),
            Init::Normal(std) => match Normal::new(0.0, std) {
                Ok(n) => out.iter_mut().for_each(|x| *x = T::of(n.sample(&mut rng))),
                Err(_) => out.fill(T::NAN),
            },
            Init::Uniform(bound) => uniform(bound, &mut rng, out),
            Init::FanIn(fan_in) => uniform(1.0 / (fan_in.max(1) as f64).sqrt(), &mut rng, out),
            Init::XavierUniform => {
                let fans = shape.last() + shape.rows();
                uniform((6.0 / fans as f64).sqrt(), &mut rng, out);
            }
        }
    }
}

/// The counter-based generator of [`heartlore_kernels::rng`] as a `rand` generator, for `rand_distr`'s distributions.
#[derive(Clone, Debug)]
pub struct PhiloxRng {
    stream: Stream,
    row: u32,
    place: u32,
    buffer: [u32; 4],
    used: usize,
}

impl PhiloxRng {
    /// The stream of `seed` and `name`.
    pub fn new(seed: u64, name: &str) -> Self {
        // FNV-1a, 64 bits: names, not adversaries, are told apart here.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
        Self {
            stream: Key { seed, step: hash, sample: 0, op: 0 }.stream(),
            row: 0,
            place: 0,
            buffer: [0; 4],
            used: 4,
        }
    }

    fn next_word(&mut self) -> u32 {
        if self.used == 4 {
            self.buffer = self.stream.bits(self.row, self.place);
            self.used = 0;
            self.place = self.place.wrapping_add(1);
            if self.place == 0 {
                self.row = self.row.wrapping_add(1);
            }
        }
        self.used += 1;
        self.buffer[self.used - 1]
    }
}

impl rand::rand_core::TryRng for PhiloxRng {
    type Error = std::convert::Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(self.next_word())
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let low = u64::from(self.next_word());
        Ok((u64::from(self.next_word()) << 32) | low)
    }
    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Self::Error> {
        for chunk in dst.chunks_mut(4) {
            let word = self.next_word().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_stream_of_its_own() {
        let draw = |seed, name: &str| {
            let mut v = vec![0.0f64; 1000];
            Init::Normal(2.0).fill(seed, name, &Shape::from([1000]), &mut v);
            v
        };
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
        let v = draw(1, "a");
        let mean = v.iter().sum::<f64>() / 1000.0;
        let var = v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1000.0;
        assert!(mean.abs() < 0.35 && (var - 4.0).abs() < 1.0, "mean {mean}, variance {var}");
    }

    #[test]
    fn bounds_are_those_of_the_formulas() {
        let mut v = vec![0.0f64; 4096];
        Init::FanIn(16).fill(3, "w", &Shape::from([256, 16]), &mut v);
        let top = v.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        assert!(top <= 0.25 && top > 0.249);
        Init::XavierUniform.fill(3, "w", &Shape::from([256, 16]), &mut v);
        let top = v.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        assert!(top <= (6.0f64 / 272.0).sqrt() && top > 0.147);
    }
}
