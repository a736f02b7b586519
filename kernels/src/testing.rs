//! What the kernel tests share: a comparator that can fail, buffers that notice stray reads and writes, seeded numbers.

use crate::{Isa, Real};

/// A small seeded generator for test data (SplitMix64).
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// Uniform in [-1, 1).
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
    /// `n` uniform numbers in [-1, 1), exactly representable in f32.
    pub(crate) fn vec(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| f64::from(self.uniform() as f32)).collect()
    }
}

/// The same numbers in f32 (they come from [`Rng::vec`], so nothing is rounded).
pub(crate) fn to_f32(x: &[f64]) -> Vec<f32> {
    x.iter().map(|&v| v as f32).collect()
}

/// Every instruction set of this CPU.
pub(crate) fn each_isa(mut f: impl FnMut(Isa)) {
    for isa in Isa::available() {
        f(isa);
    }
}

/// |got - want| <= atol + rtol |want| for every element, NaN failing; the worst element is in the message.
#[track_caller]
pub(crate) fn assert_close<T: Real>(what: &str, got: &[T], want: &[f64], atol: f64, rtol: f64) {
    assert_eq!(got.len(), want.len(), "{what}: lengths differ");
    let mut worst = (0.0, 0);
    for (i, (g, &w)) in got.iter().zip(want).enumerate() {
        let g = g.f64();
        if g == w {
            continue;
        }
        let ratio = (g - w).abs() / (atol + rtol * w.abs());
        let ratio = if ratio.is_nan() { f64::INFINITY } else { ratio };
        if ratio > worst.0 {
            worst = (ratio, i);
        }
    }
    let (ratio, i) = worst;
    assert!(
        ratio <= 1.0,
        "{what}: element {i} is {} for {}, {ratio:.3} times the tolerance",
        got[i],
        want[i]
    );
}

/// A buffer at any alignment, filled with NaN, between guard zones that must stay untouched.
pub(crate) struct Guarded<T> {
    all: Vec<T>,
    start: usize,
    len: usize,
}

const GUARD: usize = 24;

impl<T: Real> Guarded<T> {
    /// `len` NaN elements, `shift` elements away from the allocation's alignment.
    pub(crate) fn new(len: usize, shift: usize) -> Self {
        let start = GUARD + shift;
        let mut all = vec![T::of(1234.5); start + len + GUARD];
        all[start..start + len].fill(T::NAN);
        Self { all, start, len }
    }
    /// The same with this content.
    pub(crate) fn of(content: &[T], shift: usize) -> Self {
        let mut g = Self::new(content.len(), shift);
        g.get_mut().copy_from_slice(content);
        g
    }
    pub(crate) fn get(&self) -> &[T] {
        &self.all[self.start..self.start + self.len]
    }
    pub(crate) fn get_mut(&mut self) -> &mut [T] {
        &mut self.all[self.start..self.start + self.len]
    }
    /// The content, after checking the guard zones.
    #[track_caller]
    pub(crate) fn check(&self, what: &str) -> &[T] {
        let guards = self.all[..self.start].iter().chain(&self.all[self.start + self.len..]);
        assert!(guards.copied().all(|x| x == T::of(1234.5)), "{what}: wrote outside its slice");
        self.get()
    }
}

#[test]
fn the_comparator_rejects_what_it_should() {
    let fails = |got: &[f32], want: &[f64]| {
        std::panic::catch_unwind(|| assert_close("x", got, want, 1e-6, 1e-5)).is_err()
    };
    assert!(!fails(&[1.0, 0.0], &[1.000_005, 1e-7]));
    assert!(fails(&[1.0], &[1.000_1]));
    assert!(fails(&[0.0], &[1e-5]));
    assert!(fails(&[f32::NAN], &[0.0]));
    assert!(fails(&[0.0], &[f64::NAN]));
    assert!(fails(&[1.0], &[1.0, 2.0]));
    assert!(fails(&[f32::INFINITY], &[1.0]));
    assert!(!fails(&[f32::INFINITY], &[f64::INFINITY]));
}

#[test]
fn a_guarded_buffer_notices_a_stray_write() {
    let mut g = Guarded::<f32>::new(4, 1);
    g.all[GUARD + 5] = 0.0;
    assert!(std::panic::catch_unwind(|| g.check("x").len()).is_err());
}
