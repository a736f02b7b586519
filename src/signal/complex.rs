//! The little complex arithmetic that filter design needs.

use std::ops::{Add, Mul, Neg, Sub};

/// A complex number; only for poles and zeros, so only the operations they meet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Complex {
    pub(crate) re: f64,
    pub(crate) im: f64,
}

impl Complex {
    pub(crate) const fn new(re: f64, im: f64) -> Self {
        Self { re, im }
    }
    pub(crate) const fn real(re: f64) -> Self {
        Self { re, im: 0.0 }
    }
    /// `exp(i * angle)`.
    pub(crate) fn cis(angle: f64) -> Self {
        Self::new(angle.cos(), angle.sin())
    }
    pub(crate) const fn conj(self) -> Self {
        Self::new(self.re, -self.im)
    }
    pub(crate) fn abs(self) -> f64 {
        self.re.hypot(self.im)
    }
    pub(crate) fn is_real(self) -> bool {
        self.im == 0.0
    }
    pub(crate) fn scale(self, factor: f64) -> Self {
        Self::new(self.re * factor, self.im * factor)
    }
    /// Quotient after Smith (1962): divides by the larger part first, so nothing overflows on the way.
    pub(crate) fn div(self, d: Self) -> Self {
        if d.re.abs() >= d.im.abs() {
            let r = d.im / d.re;
            let s = 1.0 / (d.re + d.im * r);
            Self::new((self.re + self.im * r) * s, (self.im - self.re * r) * s)
        } else {
            let r = d.re / d.im;
            let s = 1.0 / (d.im + d.re * r);
            Self::new((self.re * r + self.im) * s, (self.im * r - self.re) * s)
        }
    }
    /// Principal square root (real part >= 0; for negative reals the root with the sign of the imaginary part).
    pub(crate) fn sqrt(self) -> Self {
        if self.re == 0.0 && self.im == 0.0 {
            return Self::real(0.0);
        }
        let half = ((self.abs() + self.re.abs()) * 0.5).sqrt();
        if self.re >= 0.0 {
            Self::new(half, self.im / (2.0 * half))
        } else {
            Self::new(self.im.abs() / (2.0 * half), half.copysign(self.im))
        }
    }
    /// Product of all `factors`; 1 for none.
    pub(crate) fn product(factors: impl Iterator<Item = Self>) -> Self {
        factors.fold(Self::real(1.0), |p, f| p * f)
    }
}

impl Add for Complex {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self::new(self.re + o.re, self.im + o.im)
    }
}

impl Sub for Complex {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        Self::new(self.re - o.re, self.im - o.im)
    }
}

impl Mul for Complex {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        Self::new(self.re * o.re - self.im * o.im, self.re * o.im + self.im * o.re)
    }
}

impl Neg for Complex {
    type Output = Self;
    fn neg(self) -> Self {
        Self::new(-self.re, -self.im)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_and_square_root_undo_multiplication() {
        let values = [
            Complex::new(3.0, -4.0),
            Complex::new(-2.0, 0.5),
            Complex::new(0.0, 7.0),
            Complex::new(-5.0, -0.0),
        ];
        for a in values {
            for b in values {
                let back = (a * b).div(b);
                assert!((back - a).abs() < 1e-14 * a.abs(), "{a:?} {b:?} {back:?}");
            }
            let root = a.sqrt();
            assert!((root * root - a).abs() < 1e-14 * a.abs(), "{a:?} {root:?}");
            assert!(root.re >= 0.0);
        }
    }
}
