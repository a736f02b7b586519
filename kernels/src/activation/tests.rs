//! Values against the f64 reference on every instruction set, slopes against central differences, laws, bad sizes.

use super::*;
use crate::testing::*;

/// Every length around the vectors' ends, and one that needs many.
const LENGTHS: [usize; 12] = [0, 1, 3, 4, 7, 8, 9, 15, 16, 17, 33, 1000];

/// The reference in f64.
fn oracle(kind: Activation, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
    x.iter().map(|&x| reference::value_and_slope(kind, x)).unzip()
}

#[test]
fn tabulated_values() {
    // erf, tanh and the normal distribution function at 1: Abramowitz & Stegun tables 7.1, 4.15 and 26.1.
    for (kind, x, y) in [
        (Activation::Relu, -2.0, 0.0),
        (Activation::Relu, 3.0, 3.0),
        (Activation::Gelu, 1.0, 0.841_344_746_068_543),
        (Activation::Gelu, -1.0, -0.158_655_253_931_457),
        (Activation::Sigmoid, 0.0, 0.5),
        (Activation::Tanh, 1.0, 0.761_594_155_955_765),
    ] {
        assert_close(&format!("{kind:?}({x})"), &[value_and_slope(kind, x).0], &[y], 1e-14, 1e-14);
    }
    // The tanh form is an approximation of GELU: Hendrycks & Gimpel's figure shows it within about 5e-4.
    for i in -500..=500 {
        let x = f64::from(i) * 0.01;
        let (a, b) = (value_and_slope(Activation::Gelu, x).0, value_and_slope(Activation::GeluTanh, x).0);
        assert!((a - b).abs() < 5e-4, "at {x}: {a} and {b}");
    }
}

#[test]
fn the_slope_is_the_derivative() {
    let step = 1e-5;
    for kind in Activation::ALL {
        for i in -600..600 {
            let x = (f64::from(i) + 0.5) * 0.01;
            let f = |x| value_and_slope(kind, x).0;
            let want = (f(x + step) - f(x - step)) / (2.0 * step);
            assert_close(
                &format!("{kind:?} slope at {x}"),
                &[value_and_slope(kind, x).1],
                &[want],
                1e-9,
                1e-9,
            );
        }
    }
}

#[test]
fn every_instruction_set_agrees_with_the_reference() {
    let mut rng = Rng(11);
    each_isa(|isa| {
        for kind in Activation::ALL {
            for (i, n) in LENGTHS.into_iter().enumerate() {
                let x: Vec<f64> = rng.vec(n).iter().map(|v| f64::from((v * 8.0) as f32)).collect();
                let dy = rng.vec(n);
                let (value, slope) = oracle(kind, &x);
                let (x32, dy32) = (Guarded::of(&to_f32(&x), i % 4), Guarded::of(&to_f32(&dy), (i + 1) % 4));
                let mut y = Guarded::<f32>::new(n, (i + 2) % 4);
                forward(isa, kind, x32.get(), y.get_mut());
                // Up to 8 the value is at most 8 and its terms are known to 2 ULP.
                assert_close(&format!("{kind:?} {isa} n {n}"), y.check("y"), &value, 5e-7, 4e-7);

                let want: Vec<f64> = slope.iter().zip(&dy).map(|(s, g)| s * g).collect();
                let mut dx = Guarded::<f32>::new(n, i % 4);
                backward(isa, kind, x32.get(), dy32.get(), GradMut::overwrite(dx.get_mut()));
                assert_close(&format!("{kind:?} slope {isa} n {n}"), dx.check("dx"), &want, 1e-6, 1e-6);
                let once = dx.get().to_vec();
                backward(isa, kind, x32.get(), dy32.get(), GradMut::accumulate(dx.get_mut()));
                let twice: Vec<f32> = once.iter().map(|v| v + v).collect();
                assert_eq!(dx.check("dx"), twice, "accumulation, {kind:?} {isa} n {n}");
            }
        }
    });
}

#[test]
fn the_f64_path_writes_and_accumulates() {
    let x = [-1.5, 0.25, 2.0];
    let dy = [1.0, -2.0, 0.5];
    for kind in Activation::ALL {
        let (value, slope) = oracle(kind, &x);
        let mut y = Guarded::<f64>::new(3, 1);
        forward(Isa::best(), kind, &x, y.get_mut());
        assert_eq!(y.check("y"), value);
        let mut dx = Guarded::<f64>::new(3, 2);
        backward(Isa::best(), kind, &x, &dy, GradMut::overwrite(dx.get_mut()));
        backward(Isa::best(), kind, &x, &dy, GradMut::accumulate(dx.get_mut()));
        let want: Vec<f64> = slope.iter().zip(dy).map(|(s, g)| 2.0 * s * g).collect();
        assert_eq!(dx.check("dx"), want);
    }
}

#[test]
fn symmetries_and_saturation() {
    each_isa(|isa| {
        let run = |kind, x: f32| {
            let mut y = [f32::NAN];
            forward(isa, kind, &[x], &mut y);
            y[0]
        };
        for kind in Activation::ALL {
            assert!(run(kind, f32::NAN).is_nan(), "{kind:?}(NaN) on {isa}");
        }
        for i in 0..400 {
            let x = i as f32 * 0.05;
            assert_eq!(run(Activation::Tanh, -x), -run(Activation::Tanh, x));
            // gelu(x) - gelu(-x) = x, as Phi(x) + Phi(-x) = 1.
            let both = run(Activation::Gelu, x) - run(Activation::Gelu, -x);
            assert!((both - x).abs() <= 2e-7 * (1.0 + x), "{isa} {x}");
            let both = run(Activation::Sigmoid, x) + run(Activation::Sigmoid, -x);
            assert!((both - 1.0).abs() <= 2e-7, "{isa} {x}");
        }
        for big in [100.0, 1e4, 1e9] {
            assert_eq!(run(Activation::Relu, -big), 0.0);
            for kind in [Activation::Gelu, Activation::GeluTanh, Activation::Relu] {
                assert_eq!(run(kind, big), big, "{kind:?} on {isa}");
                assert_eq!(run(kind, -big), 0.0, "{kind:?} on {isa}");
                let mut dx = [f32::NAN; 2];
                backward(isa, kind, &[big, -big], &[1.0, 1.0], GradMut::overwrite(&mut dx));
                assert_eq!(dx, [1.0, 0.0], "{kind:?} slopes on {isa}");
            }
        }
    });
}

#[test]
#[should_panic(expected = "activation: y has 3 elements, expected 2")]
fn a_short_output_is_refused() {
    forward(Isa::PORTABLE, Activation::Relu, &[1.0f32, 2.0], &mut [0.0; 3]);
}

#[test]
#[should_panic(expected = "activation backward: dx has 1 elements, expected 2")]
fn a_short_gradient_is_refused() {
    backward(Isa::PORTABLE, Activation::Relu, &[1.0f32; 2], &[1.0; 2], GradMut::overwrite(&mut [0.0]));
}
