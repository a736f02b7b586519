use super::*;
use crate::Real;
use crate::proofs::{LENGTHS, assert_gradient, assert_output, bits};
use crate::testing::{Rng, each_isa, to_f32};

const KINDS: [Reduce; 3] = [Reduce::Sum, Reduce::Mean, Reduce::Norm];

fn value<T: Real>(isa: Isa, kind: Reduce, x: &[T]) -> T {
    let mut y = [T::NAN];
    forward(isa, kind, x, &mut y);
    y[0]
}

/// The definition, summed one by one.
fn naive(kind: Reduce, x: &[f64]) -> f64 {
    let sum: f64 = x.iter().sum();
    match kind {
        Reduce::Sum => sum,
        Reduce::Mean => sum / x.len() as f64,
        Reduce::Norm => x.iter().map(|x| x * x).sum::<f64>().sqrt(),
    }
}

#[test]
fn values_match_the_definition_at_every_length() {
    each_isa(|isa| {
        for n in LENGTHS {
            let x = Rng(n as u64 + 1).vec(n);
            for kind in KINDS {
                if n == 0 && kind == Reduce::Mean {
                    continue;
                }
                let want = naive(kind, &x);
                let got = value(isa, kind, &x);
                assert!(
                    (got - want).abs() <= 1e-15 * (1.0 + n as f64),
                    "{kind:?} of {n} on {isa}: {got}, {want}"
                );
                // The f64 sum, rounded once.
                assert_eq!(value(isa, kind, &to_f32(&x)), got as f32, "{kind:?} of {n} on {isa}");
            }
        }
    });
}

#[test]
fn long_sums_lose_nothing_and_agree_on_every_instruction_set() {
    // 0.1 in f32 a million times: naive f32 summation is off by about 1 %.
    let x = vec![0.1f32; 1_000_003];
    let want = f64::from(0.1f32) * 1_000_003.0;
    each_isa(|isa| {
        assert_eq!(value(isa, Reduce::Sum, &x), want as f32, "{isa}");
        assert_eq!(value(isa, Reduce::Mean, &x), 0.1f32);
    });
    let x = to_f32(&Rng(9).vec(10_007));
    for kind in KINDS {
        each_isa(|isa| {
            assert_eq!(
                bits(&[value(isa, kind, &x)]),
                bits(&[value(Isa::PORTABLE, kind, &x)]),
                "{isa} {kind:?}"
            );
        });
    }
}

#[test]
fn the_norm_of_extreme_f32_neither_overflows_nor_vanishes() {
    each_isa(|isa| {
        for x in [[3e37f32, 4e37], [3e-37, 4e-37], [1e-44, 3e38]] {
            let want = f64::from(x[0]).hypot(f64::from(x[1])) as f32;
            assert_eq!(value(isa, Reduce::Norm, &x), want, "{isa} {x:?}");
        }
    });
}

#[test]
fn gradients_match_central_differences_and_go_where_beta_says() {
    for n in [1, 2, 17, 33] {
        let x = Rng(n as u64 + 5).vec(n);
        for kind in KINDS {
            let y = value(Isa::PORTABLE, kind, &x);
            let mut dx = vec![f64::NAN; n];
            backward(Isa::PORTABLE, kind, &x, &[y], -1.3, GradMut::overwrite(&mut dx));
            assert_gradient(&format!("{kind:?} of {n}"), &x, &dx, |x| -1.3 * value(Isa::PORTABLE, kind, x));
            each_isa(|isa| {
                let (x, y) = (to_f32(&x), [y as f32]);
                assert_output(&format!("{kind:?} of {n} on {isa}"), &dx, 0.0, 3e-7, |g| {
                    backward(isa, kind, &x, &y, -1.3f32, g);
                });
            });
        }
    }
}

#[test]
fn corners_are_defined() {
    let isa = Isa::best();
    let mut dx = [f32::NAN; 3];
    backward(isa, Reduce::Norm, &[0.0; 3], &[0.0], 2.0, GradMut::overwrite(&mut dx));
    assert_eq!(dx, [0.0; 3], "the norm's gradient at 0");
    assert_eq!(value::<f32>(isa, Reduce::Sum, &[]), 0.0);
    assert_eq!(value::<f64>(isa, Reduce::Norm, &[]), 0.0);
    for kind in KINDS {
        let mut x = [1.0f32; 40];
        x[37] = f32::NAN;
        assert!(value(isa, kind, &x).is_nan(), "{kind:?} hides a NaN");
        x[37] = f32::INFINITY;
        assert_eq!(value(isa, kind, &x), f32::INFINITY, "{kind:?}");
    }
}

#[test]
#[should_panic(expected = "the mean needs at least one element, got 0")]
fn the_mean_of_nothing_is_refused() {
    value::<f32>(Isa::PORTABLE, Reduce::Mean, &[]);
}

#[test]
#[should_panic(expected = "reduce: y has 2 elements, expected 1")]
fn a_wrong_output_is_refused() {
    forward(Isa::PORTABLE, Reduce::Sum, &[1.0], &mut [0.0; 2]);
}
