//! A sum in f64 over a fixed number of lanes.
//!
//! Element i goes to lane i mod 16, and the lanes are added by halves at the end. Sixteen independent chains let the
//! compiler use any vector width (two registers of AVX-512, eight of SSE2) without changing the order of additions:
//! the result depends on the data alone, not on the instruction set. Widening f32 to f64 is exact.

use crate::Real;

const LANES: usize = 16;

/// Sixteen partial sums.
pub(crate) struct Lanes([f64; LANES]);

impl Lanes {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self([0.0; LANES])
    }

    /// Adds f(x) for every x.
    #[inline(always)]
    pub(crate) fn add_all<T: Real>(&mut self, x: &[T], f: impl Fn(T) -> f64) {
        let blocks = x.chunks_exact(LANES);
        let tail = blocks.remainder();
        for x in blocks {
            for lane in 0..LANES {
                self.0[lane] += f(x[lane]);
            }
        }
        for (lane, &x) in tail.iter().enumerate() {
            self.0[lane] += f(x);
        }
    }

    /// Adds f(a, b) for every pair; the slices have one length.
    #[inline(always)]
    pub(crate) fn add_pairs<T: Real>(&mut self, a: &[T], b: &[T], f: impl Fn(T, T) -> f64) {
        let blocks = a.chunks_exact(LANES).zip(b.chunks_exact(LANES));
        for (a, b) in blocks {
            for lane in 0..LANES {
                self.0[lane] += f(a[lane], b[lane]);
            }
        }
        let done = a.len() - a.len() % LANES;
        for (lane, (&a, &b)) in a[done..].iter().zip(&b[done..]).enumerate() {
            self.0[lane] += f(a, b);
        }
    }

    /// Adds f(a, b, c) for every triple; the slices have one length.
    #[inline(always)]
    pub(crate) fn add_triples<T: Real>(&mut self, a: &[T], b: &[T], c: &[T], f: impl Fn(T, T, T) -> f64) {
        let blocks = a.chunks_exact(LANES).zip(b.chunks_exact(LANES)).zip(c.chunks_exact(LANES));
        for ((a, b), c) in blocks {
            for lane in 0..LANES {
                self.0[lane] += f(a[lane], b[lane], c[lane]);
            }
        }
        let done = a.len() - a.len() % LANES;
        for (lane, ((&a, &b), &c)) in a[done..].iter().zip(&b[done..]).zip(&c[done..]).enumerate() {
            self.0[lane] += f(a, b, c);
        }
    }

    /// The sum of the lanes, by halves.
    #[inline(always)]
    pub(crate) fn total(mut self) -> f64 {
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                self.0[lane] += self.0[lane + half];
            }
            half /= 2;
        }
        self.0[0]
    }
}
