//! [`Number`]: what a formula computes in. Derivatives come from the type, not from a second spelling of the formula.
//!
//! * [`Dual`]: a + b e with e^2 = 0. f(x + v e) = f(x) + f'(x) v e: forward mode, exact to rounding, no step size.
//! * `Dual<Dual<f64>>`: both e1 and e2, with e1 e2 kept: the coefficient of e1 e2 is u' H v, exact to rounding.
//! * [`Complex`]: f(x + ih) = f(x) + i h f'(x) + O(h^2): the complex step (Squire & Trapp 1998), for smooth formulas, by other
//!   arithmetic than the dual numbers'.
//!
//! Comparisons look at the real part, so a formula with a kink takes the branch that the point lies on.

use heartlore_kernels::Real;
use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// A number that formulas of operations can be computed in.
pub trait Number:
    Copy
    + Debug
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// A constant.
    fn of(x: f64) -> Self;
    /// The real part: what comparisons look at.
    fn re(self) -> f64;
    /// e^x.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Error function.
    fn erf(self) -> Self;

    /// 0.
    fn zero() -> Self {
        Self::of(0.0)
    }
    /// Hyperbolic tangent, by exponentials of negative numbers only.
    fn tanh(self) -> Self {
        let one = Self::of(1.0);
        if self.re() < 0.0 {
            let e = (self + self).exp();
            (e - one) / (e + one)
        } else {
            let e = (-(self + self)).exp();
            (one - e) / (one + e)
        }
    }
    /// 1 / (1 + e^-x).
    fn sigmoid(self) -> Self {
        let one = Self::of(1.0);
        if self.re() < 0.0 {
            let e = self.exp();
            e / (one + e)
        } else {
            one / (one + (-self).exp())
        }
    }
    /// ln(1 + e^x) without overflow.
    fn softplus(self) -> Self {
        let one = Self::of(1.0);
        if self.re() < 0.0 { (one + self.exp()).ln() } else { self + (one + (-self).exp()).ln() }
    }
}

macro_rules! real_number {
    ($($t:ty)*) => {$(
        impl Number for $t {
            fn of(x: f64) -> Self {
                x as $t
            }
            fn re(self) -> f64 {
                Real::f64(self)
            }
            fn exp(self) -> Self {
                Real::exp(self)
            }
            fn ln(self) -> Self {
                Real::ln(self)
            }
            fn sqrt(self) -> Self {
                Real::sqrt(self)
            }
            fn erf(self) -> Self {
                Real::erf(self)
            }
        }
    )*};
}
real_number!(f32 f64);

/// value + tangent e, with e^2 = 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dual<N> {
    /// The value.
    pub value: N,
    /// Its derivative in the direction of the input's tangent.
    pub tangent: N,
}

impl<N: Number> Dual<N> {
    /// f(value) with slope f'(value).
    fn chain(self, value: N, slope: N) -> Self {
        Self { value, tangent: slope * self.tangent }
    }
}

impl<N: Number> Add for Dual<N> {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self { value: self.value + o.value, tangent: self.tangent + o.tangent }
    }
}
impl<N: Number> Sub for Dual<N> {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        Self { value: self.value - o.value, tangent: self.tangent - o.tangent }
    }
}
impl<N: Number> Mul for Dual<N> {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        Self { value: self.value * o.value, tangent: self.tangent * o.value + self.value * o.tangent }
    }
}
impl<N: Number> Div for Dual<N> {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        let value = self.value / o.value;
        Self { value, tangent: (self.tangent - value * o.tangent) / o.value }
    }
}
impl<N: Number> Neg for Dual<N> {
    type Output = Self;
    fn neg(self) -> Self {
        Self { value: -self.value, tangent: -self.tangent }
    }
}

impl<N: Number> Number for Dual<N> {
    fn of(x: f64) -> Self {
        Self { value: N::of(x), tangent: N::zero() }
    }
    fn re(self) -> f64 {
        self.value.re()
    }
    fn exp(self) -> Self {
        let e = self.value.exp();
        self.chain(e, e)
    }
    fn ln(self) -> Self {
        self.chain(self.value.ln(), N::of(1.0) / self.value)
    }
    fn sqrt(self) -> Self {
        let root = self.value.sqrt();
        self.chain(root, N::of(0.5) / root)
    }
    fn erf(self) -> Self {
        let slope = N::of(std::f64::consts::FRAC_2_SQRT_PI) * (-(self.value * self.value)).exp();
        self.chain(self.value.erf(), slope)
    }
}

/// re + i im.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Complex {
    /// Real part.
    pub re: f64,
    /// Imaginary part.
    pub im: f64,
}

impl Add for Complex {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self { re: self.re + o.re, im: self.im + o.im }
    }
}
impl Sub for Complex {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        Self { re: self.re - o.re, im: self.im - o.im }
    }
}
impl Mul for Complex {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        Self { re: self.re * o.re - self.im * o.im, im: self.re * o.im + self.im * o.re }
    }
}
impl Div for Complex {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        let norm = o.re * o.re + o.im * o.im;
        Self { re: (self.re * o.re + self.im * o.im) / norm, im: (self.im * o.re - self.re * o.im) / norm }
    }
}
impl Neg for Complex {
    type Output = Self;
    fn neg(self) -> Self {
        Self { re: -self.re, im: -self.im }
    }
}

impl Number for Complex {
    fn of(x: f64) -> Self {
        Self { re: x, im: 0.0 }
    }
    fn re(self) -> f64 {
        self.re
    }
    fn exp(self) -> Self {
        let e = self.re.exp();
        Self { re: e * self.im.cos(), im: e * self.im.sin() }
    }
    fn ln(self) -> Self {
        Self { re: self.re.hypot(self.im).ln(), im: self.im.atan2(self.re) }
    }
    fn sqrt(self) -> Self {
        let (r, half) = (self.re.hypot(self.im).sqrt(), 0.5 * self.im.atan2(self.re));
        Self { re: r * half.cos(), im: r * half.sin() }
    }
    /// The Maclaurin series (Abramowitz & Stegun 7.1.6) in complex arithmetic; beyond 5, where it cancels, erf is +-1 to 2e-12
    /// and its slope below 2e-11.
    fn erf(self) -> Self {
        if self.re.abs() > 5.0 {
            return Self { re: Real::erf(self.re), im: 0.0 };
        }
        let square = self * self;
        let (mut term, mut sum, mut n) = (self, self, 0.0);
        while term.re.abs() + term.im.abs() > 1e-18 * (sum.re.abs() + sum.im.abs()) {
            n += 1.0;
            term = term * square * Self::of(2.0 / (2.0 * n + 1.0));
            sum = sum + term;
        }
        Self::of(std::f64::consts::FRAC_2_SQRT_PI) * (-square).exp() * sum
    }
}

/// A number with a bound on its rounding error: a running error analysis (Higham 2002, section 3.3) of the formula it is put
/// through. Each operation passes on the errors of its operands and adds its own rounding, so that the bound follows from the
/// number of operations and the magnitudes that occur, to first order in the unit roundoff.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounded {
    /// The value in f64.
    pub value: f64,
    /// |computed - value| <= error u, with u the unit roundoff of the arithmetic in question.
    pub error: f64,
}

/// Roundings that an exponential, logarithm or error function is off by at most in the vector kernels.
const FUNCTION_ULPS: f64 = 4.0;

impl Rounded {
    fn new(value: f64, passed_on: f64, roundings: f64) -> Self {
        Self { value, error: passed_on + roundings * value.abs() }
    }
}

impl Add for Rounded {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Self::new(self.value + o.value, self.error + o.error, 1.0)
    }
}
impl Sub for Rounded {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        Self::new(self.value - o.value, self.error + o.error, 1.0)
    }
}
impl Mul for Rounded {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        let passed_on = self.value.abs() * o.error + o.value.abs() * self.error;
        Self::new(self.value * o.value, passed_on, 1.0)
    }
}
impl Div for Rounded {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        let value = self.value / o.value;
        Self::new(value, (self.error + value.abs() * o.error) / o.value.abs(), 1.0)
    }
}
impl Neg for Rounded {
    type Output = Self;
    fn neg(self) -> Self {
        Self { value: -self.value, ..self }
    }
}

impl Number for Rounded {
    fn of(x: f64) -> Self {
        Self::new(x, 0.0, 1.0)
    }
    fn re(self) -> f64 {
        self.value
    }
    fn exp(self) -> Self {
        let e = self.value.exp();
        Self::new(e, e * self.error, FUNCTION_ULPS)
    }
    fn ln(self) -> Self {
        Self::new(self.value.ln(), self.error / self.value.abs(), FUNCTION_ULPS)
    }
    fn sqrt(self) -> Self {
        let root = self.value.sqrt();
        Self::new(root, 0.5 * self.error / root, 1.0)
    }
    fn erf(self) -> Self {
        let slope = std::f64::consts::FRAC_2_SQRT_PI * (-self.value * self.value).exp();
        Self::new(Real::erf(self.value), slope * self.error, FUNCTION_ULPS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every function against its derivative written by hand, and against the other kinds of number.
    #[test]
    fn functions_have_their_derivatives() {
        let sech2 = |x: f64| 1.0 - x.tanh().powi(2);
        type F<N> = fn(N) -> N;
        macro_rules! each {
            ($($name:ident $slope:expr;)*) => {[$((
                stringify!($name), Number::$name as F<f64>, Number::$name as F<Dual<f64>>, Number::$name as F<Complex>,
                Number::$name as F<Dual<Dual<f64>>>, $slope as &dyn Fn(f64) -> f64,
            )),*]};
        }
        let table = each! {
            exp &|x: f64| x.exp();
            tanh &sech2;
            sigmoid &|x: f64| 0.25 * sech2(x / 2.0);
            softplus &|x: f64| 1.0 / (1.0 + (-x).exp());
            erf &|x: f64| std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp();
            ln &|x: f64| 1.0 / x;
            sqrt &|x: f64| 0.5 / x.sqrt();
        };
        for (name, real, dual, complex, second, slope) in table {
            for x in [-2.2, -0.3, 0.0, 0.7, 2.9] {
                if ["ln", "sqrt"].contains(&name) && x <= 0.0 {
                    continue;
                }
                let close = |a: f64, b: f64| (a - b).abs() <= 1e-14 * (1.0 + b.abs());
                let d = dual(Dual { value: x, tangent: 2.0 });
                assert!(close(d.value, real(x)) && close(d.tangent, 2.0 * slope(x)), "{name} {x}: {d:?}");
                let h = 1e-30;
                let c = complex(Complex { re: x, im: h });
                assert!(close(c.re, real(x)) && close(c.im / h, slope(x)), "{name} {x}: {c:?}");
                let inner = Dual { value: x, tangent: 1.0 };
                let s = second(Dual { value: inner, tangent: Dual { value: 1.0, tangent: 0.0 } });
                let numeric = (slope(x + 1e-5) - slope(x - 1e-5)) / 2e-5;
                assert!(
                    (s.tangent.tangent - numeric).abs() < 1e-9 * (1.0 + numeric.abs()),
                    "{name} {x}: {s:?}"
                );
            }
        }
    }

    #[test]
    fn arithmetic_follows_the_rules_of_calculus() {
        let (a, b) = (Dual { value: 3.0, tangent: 1.0 }, Dual { value: 2.0, tangent: 5.0 });
        assert_eq!((a * b).tangent, 1.0 * 2.0 + 3.0 * 5.0);
        assert_eq!((a / b).tangent, (1.0 * 2.0 - 3.0 * 5.0) / 4.0);
        assert_eq!((a - b).tangent, -4.0);
        assert_eq!((-(a + b)).tangent, -6.0);
        let (a, b) = (Complex { re: 3.0, im: 1.0 }, Complex { re: 2.0, im: 5.0 });
        let q = (a / b) * b - a;
        assert!(q.re.abs() + q.im.abs() < 1e-15);
    }
}
