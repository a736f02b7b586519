//! Every function on every instruction set against f64, in ULP: a sample by default, all 2^32 floats on demand.

#![allow(clippy::print_stdout)]

use crate::isa::{Isa, Simd, Task};
use crate::testing::each_isa;

#[derive(Clone, Copy, Debug)]
enum Function {
    Exp,
    Tanh,
    Sigmoid,
    Erf,
    ExpNonpositive,
    Exp2Nonpositive,
    Exp2Bounded,
}
use Function::{Erf, Exp, Exp2Bounded, Exp2Nonpositive, ExpNonpositive, Sigmoid, Tanh};

const ALL: [Function; 7] = [Exp, Tanh, Sigmoid, Erf, ExpNonpositive, Exp2Nonpositive, Exp2Bounded];

/// Domain and worst error in ULP: what the module's table promises.
const PROMISES: [(Function, f32, f32, f64); 7] = [
    (Exp, -86.9, 88.722_83, 1.06),
    (Tanh, f32::NEG_INFINITY, f32::INFINITY, 2.5),
    (Sigmoid, -88.722_83, f32::INFINITY, 2.5),
    (Erf, f32::NEG_INFINITY, f32::INFINITY, 1.48),
    (ExpNonpositive, -87.336_54, 0.5, 1.18),
    (Exp2Nonpositive, -126.0, 0.5, 2.5),
    (Exp2Bounded, -126.0, 126.0, 2.5),
];

struct Map<'a>(Function, &'a [f32], &'a mut [f32]);
impl Task for Map<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, y) in self.1.chunks(S::LANES).zip(self.2.chunks_mut(S::LANES)) {
            let v = s.load_partial(x);
            let v = match self.0 {
                Exp => super::exp(s, v),
                Tanh => super::tanh(s, v),
                Sigmoid => super::sigmoid(s, v),
                Erf => super::erf(s, v),
                ExpNonpositive => super::exp_nonpositive(s, v),
                Exp2Nonpositive => super::exp2_nonpositive(s, v),
                Exp2Bounded => super::exp2_bounded(s, v),
            };
            s.store_partial(v, y);
        }
    }
}

/// The value in f64, far more accurate than the bounds need.
fn exact(f: Function, x: f32) -> f64 {
    let x = f64::from(x);
    match f {
        Exp | ExpNonpositive => x.exp(),
        Exp2Nonpositive | Exp2Bounded => x.exp2(),
        Tanh => x.tanh(),
        Sigmoid => 1.0 / (1.0 + (-x).exp()),
        // Two terms of the Maclaurin series: the third is below 1e-17 relative.
        Erf if x.abs() < 1e-4 => std::f64::consts::FRAC_2_SQRT_PI * (x - x * x * x / 3.0),
        Erf if x.abs() > 6.0 => x.signum(),
        Erf => crate::Real::erf(x),
    }
}

/// |got - want| in units in the last place of want as f32.
fn ulps(got: f32, want: f64) -> f64 {
    if f64::from(got) == want {
        return 0.0;
    }
    // The exponent from the bits; subnormal results are measured in the spacing at 2^-126.
    let exponent = ((want.abs().to_bits() >> 52) as i32 - 1023).max(-126);
    let ulp = f64::from_bits(((exponent - 23 + 1023) as u64) << 52);
    let error = (f64::from(got) - want).abs() / ulp;
    if error.is_nan() { f64::INFINITY } else { error }
}

/// The worst error over the floats with these bits, and where.
fn worst(isa: Isa, f: Function, low: f32, high: f32, bits: impl Iterator<Item = u32>) -> (f64, f32) {
    let mut bits = bits.map(f32::from_bits).filter(|x| (low..=high).contains(x));
    let (mut x, mut y) = (Vec::with_capacity(4096), vec![0.0; 4096]);
    let mut worst = (0.0, 0.0);
    loop {
        x.clear();
        x.extend(bits.by_ref().take(4096));
        if x.is_empty() {
            return worst;
        }
        isa.run(Map(f, &x, &mut y[..x.len()]));
        for (&x, &y) in x.iter().zip(&y) {
            let error = ulps(y, exact(f, x));
            if error > worst.0 {
                worst = (error, x);
            }
        }
    }
}

#[test]
fn the_worst_error_is_the_promised_one_on_a_sample() {
    each_isa(|isa| {
        for (f, low, high, promise) in PROMISES {
            // A stride prime to 2^32: every exponent and both signs are met about 3,300 times.
            let (error, x) = worst(isa, f, low, high, (0..=u32::MAX).step_by(5003));
            assert!(error <= promise, "{f:?} on {isa}: {error:.3} ULP at {x:e}, promised {promise}");
        }
        // Where most arguments lie, densely.
        for (f, low, high, promise) in PROMISES {
            let dense = (0..400_000u32).map(|i| (-20.0 + i as f32 * 1e-4).to_bits());
            let (error, x) = worst(isa, f, low, high, dense);
            assert!(error <= promise, "{f:?} on {isa}: {error:.3} ULP at {x:e}, promised {promise}");
        }
    });
}

/// The portable token rounds multiply-adds twice; the hardware sets round once and give equal bits.
fn exhaustive(f: Function) {
    let (_, low, high, promise) = PROMISES[f as usize];
    for isa in [Isa::PORTABLE, Isa::best()] {
        let (error, x) = worst(isa, f, low, high, 0..=u32::MAX);
        println!("{f:?} on {isa}: {error:.3} ULP at {x:e}");
        assert!(error <= promise, "{f:?} on {isa}: {error:.3} ULP at {x:e}, promised {promise}");
    }
}

#[test]
#[ignore = "all 2^32 floats: minutes in release"]
fn exhaustive_exp() {
    exhaustive(Exp);
}

#[test]
#[ignore = "all 2^32 floats: minutes in release"]
fn exhaustive_tanh() {
    exhaustive(Tanh);
}

#[test]
#[ignore = "all 2^32 floats: minutes in release"]
fn exhaustive_sigmoid() {
    exhaustive(Sigmoid);
}

#[test]
#[ignore = "all 2^32 floats: minutes in release"]
fn exhaustive_erf() {
    exhaustive(Erf);
}

#[test]
#[ignore = "all floats of the domain: minutes in release"]
fn exhaustive_exp_nonpositive() {
    exhaustive(ExpNonpositive);
}

#[test]
#[ignore = "all floats of the domain: minutes in release"]
fn exhaustive_exp2() {
    exhaustive(Exp2Nonpositive);
    exhaustive(Exp2Bounded);
}

#[test]
fn hardware_sets_give_equal_bits() {
    let x: Vec<f32> = (0..=u32::MAX).step_by(40_009).map(f32::from_bits).filter(|x| !x.is_nan()).collect();
    let run = |isa: Isa, f| {
        let mut y = vec![f32::NAN; x.len()];
        isa.run(Map(f, &x, &mut y));
        y.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
    };
    for f in ALL {
        let want = run(Isa::best(), f);
        for isa in Isa::available().into_iter().skip(1) {
            assert!(run(isa, f) == want, "{f:?}: {isa} differs from {}", Isa::best());
        }
    }
}

fn at(isa: Isa, f: Function, x: f32) -> f32 {
    let mut y = [0.0];
    isa.run(Map(f, &[x], &mut y));
    y[0]
}

#[test]
fn special_arguments() {
    let inf = f32::INFINITY;
    each_isa(|isa| {
        for f in ALL.into_iter().filter(|f| !matches!(f, Exp2Bounded)) {
            // Quiet NaN, both signs, and one with a payload.
            for bits in [0x7fc0_0000, 0xffc0_0000, 0x7fc1_2345] {
                assert!(at(isa, f, f32::from_bits(bits)).is_nan(), "{f:?}(NaN) on {isa}");
            }
        }
        for (f, x, y) in [
            (Exp, 0.0, 1.0),
            (Exp, -0.0, 1.0),
            (Exp, inf, inf),
            (Exp, -inf, 0.0),
            (Exp, 89.0, inf),
            (Exp, f32::MAX, inf),
            (Exp, -87.0, 0.0),
            (Exp, -f32::MAX, 0.0),
            (ExpNonpositive, 0.0, 1.0),
            (ExpNonpositive, -0.0, 1.0),
            (ExpNonpositive, -inf, 0.0),
            (ExpNonpositive, -f32::MAX, 0.0),
            (ExpNonpositive, -87.7, 0.0),
            (Exp2Nonpositive, 0.0, 1.0),
            (Exp2Nonpositive, -0.0, 1.0),
            (Exp2Nonpositive, -3.0, 0.125),
            (Exp2Nonpositive, -inf, 0.0),
            (Exp2Nonpositive, -f32::MAX, 0.0),
            (Exp2Nonpositive, -126.6, 0.0),
            (Exp2Bounded, 0.0, 1.0),
            (Exp2Bounded, -126.0, f32::MIN_POSITIVE),
            (Exp2Bounded, 126.0, 2f32.powi(126)),
            (Tanh, inf, 1.0),
            (Tanh, -inf, -1.0),
            (Tanh, -f32::MAX, -1.0),
            (Sigmoid, 0.0, 0.5),
            (Sigmoid, inf, 1.0),
            (Sigmoid, -inf, 0.0),
            (Sigmoid, -f32::MAX, 0.0),
            (Erf, inf, 1.0),
            (Erf, -inf, -1.0),
            (Erf, 5.0, 1.0),
            (Erf, f32::MAX, 1.0),
        ] {
            assert_eq!(at(isa, f, x), y, "{f:?}({x}) on {isa}");
        }
        for f in [Tanh, Erf] {
            assert_eq!(at(isa, f, 0.0).to_bits(), 0.0f32.to_bits());
            assert_eq!(at(isa, f, -0.0).to_bits(), (-0.0f32).to_bits());
        }
    });
}

#[test]
fn odd_functions_are_odd_to_the_bit() {
    each_isa(|isa| {
        for f in [Tanh, Erf] {
            for i in 0..20_000 {
                let x = i as f32 * 3.3e-4;
                assert_eq!(at(isa, f, -x), -at(isa, f, x), "{f:?}({x}) on {isa}");
            }
        }
    });
}
