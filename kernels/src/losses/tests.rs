use super::*;
use crate::proofs::{LENGTHS, assert_gradient, assert_output, bits};
use crate::testing::{Rng, assert_close, each_isa, to_f32};
use crate::{GradMut, Isa};

const BOTH: [Reduction; 2] = [Reduction::Mean, Reduction::Sum];
const ISA: Isa = Isa::PORTABLE;

fn mse<T: Real>(isa: Isa, red: Reduction, p: &[T], t: &[T], m: Option<&[T]>) -> T {
    let mut y = [T::NAN];
    masked_mse::forward(isa, red, p, t, m, &mut y);
    y[0]
}

fn bce<T: Real>(isa: Isa, red: Reduction, w: f64, x: &[T], t: &[T], m: Option<&[T]>) -> T {
    let mut y = [T::NAN];
    bce_logits::forward(isa, red, w, x, t, m, &mut y);
    y[0]
}

fn bce_slope(red: Reduction, w: f64, x: &[f64], t: &[f64], m: Option<&[f64]>) -> Vec<f64> {
    let mut dx = vec![f64::NAN; x.len()];
    bce_logits::backward(ISA, red, w, x, t, m, 1.0, GradMut::overwrite(&mut dx));
    dx
}

fn ce<T: Real>(d: cross_entropy::Dims, red: Reduction, x: &[T], labels: &[u32]) -> T {
    let mut y = [T::NAN];
    cross_entropy::forward(ISA, d, red, x, labels, &mut y);
    y[0]
}

fn ce_slope(d: cross_entropy::Dims, red: Reduction, x: &[f64], labels: &[u32]) -> Vec<f64> {
    let mut dx = vec![f64::NAN; x.len()];
    cross_entropy::backward(ISA, d, red, x, labels, 1.0, GradMut::overwrite(&mut dx));
    dx
}

/// 1 and 0, a third of them 0, the first always 1.
fn mask(rng: &mut Rng, n: usize) -> Vec<f64> {
    (0..n).map(|i| if i == 0 || rng.uniform() > -0.3 { 1.0 } else { 0.0 }).collect()
}

#[test]
fn values_and_gradients_are_pytorchs() {
    let text = include_str!("../../tests/oracles/losses.txt");
    let array = |name: &str| -> Vec<f64> {
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).expect(name);
        line.split(' ').map(|v| v.parse().expect("a number")).collect()
    };
    let [x, t, hard] = ["x", "t", "hard"].map(array);
    let labels: Vec<u32> = array("labels").iter().map(|&l| l as u32).collect();
    let d = cross_entropy::Dims { rows: 4, classes: 5 };
    let close = |name: &str, y: f64, dx: &[f64]| {
        assert_close(name, &[y], &array(name), 0.0, 1e-14);
        // PyTorch's slope for a far-away logit is a difference near 0 with an absolute error of one rounding of 1.
        assert_close(&format!("{name}_grad"), dx, &array(&format!("{name}_grad")), 1e-15, 1e-14);
    };
    for (red, name) in [(Reduction::Mean, "mean"), (Reduction::Sum, "sum")] {
        let n = |op: &str| format!("{op}_{name}");
        close(&n("bce"), bce(ISA, red, 1.0, &x, &hard, None), &bce_slope(red, 1.0, &x, &hard, None));
        close(&n("bce_weighted"), bce(ISA, red, 2.5, &x, &t, None), &bce_slope(red, 2.5, &x, &t, None));
        close(&n("ce"), ce(d, red, &x, &labels), &ce_slope(d, red, &x, &labels));
        let mut dx = vec![f64::NAN; 20];
        masked_mse::backward(ISA, red, &x, &t, None, 1.0, Some(GradMut::overwrite(&mut dx)), None);
        close(&n("mse"), mse(ISA, red, &x, &t, None), &dx);
    }
}

#[test]
fn masked_mse_is_its_definition_at_every_length() {
    for n in LENGTHS {
        let mut rng = Rng(n as u64 + 1);
        let (p, t, m) = (rng.vec(n), rng.vec(n), mask(&mut rng, n));
        let [p32, t32, m32] = [&p, &t, &m].map(|x| to_f32(x));
        for red in BOTH {
            for masked in [false, true] {
                let weight = |i: usize| if masked { m[i] } else { 1.0 };
                let total: f64 = (0..n).map(weight).sum();
                let f = if red == Reduction::Sum { 1.0 } else { 1.0 / total.max(1.0) };
                let want: f64 = f * (0..n).map(|i| weight(i) * (p[i] - t[i]).powi(2)).sum::<f64>();
                let slope: Vec<f64> = (0..n).map(|i| 2.0 * f * weight(i) * (p[i] - t[i]) * 0.7).collect();
                let minus: Vec<f64> = slope.iter().map(|s| -s).collect();
                let (m, m32) = (masked.then_some(&m[..]), masked.then_some(&m32[..]));
                let y = mse(ISA, red, &p, &t, m);
                assert!((y - want).abs() <= 1e-14 * (1.0 + want), "{red:?} of {n}: {y}, {want}");
                each_isa(|isa| {
                    let name = format!("{red:?} of {n}, masked {masked}, on {isa}");
                    assert_eq!(mse(isa, red, &p, &t, m).to_bits(), y.to_bits(), "{name}");
                    assert_eq!(mse(isa, red, &p32, &t32, m32), y as f32, "{name}");
                    assert_output(&name, &slope, 1e-7, 4e-7, |g| {
                        masked_mse::backward(isa, red, &p32, &t32, m32, 0.7, Some(g), None);
                    });
                    assert_output(&name, &minus, 1e-7, 4e-7, |g| {
                        masked_mse::backward(isa, red, &p32, &t32, m32, 0.7, None, Some(g));
                    });
                });
            }
        }
    }
}

#[test]
fn bce_in_f32_is_the_f64_value_rounded() {
    for n in LENGTHS {
        let mut rng = Rng(n as u64 + 3);
        let x: Vec<f64> = rng.vec(n).iter().map(|x| 8.0 * x).collect();
        let (t, m) = (rng.vec(n).iter().map(|t| t.abs()).collect::<Vec<_>>(), mask(&mut rng, n));
        let [x32, t32, m32] = [&x, &t, &m].map(|x| to_f32(x));
        for red in BOTH {
            let slope = bce_slope(red, 3.0, &x, &t, Some(&m));
            each_isa(|isa| {
                let y = bce(isa, red, 3.0, &x, &t, Some(&m));
                assert_eq!(bce(isa, red, 3.0, &x32, &t32, Some(&m32)), y as f32);
                assert_output("bce", &slope, 0.0, 2e-7, |g| {
                    bce_logits::backward(isa, red, 3.0, &x32, &t32, Some(&m32), 1.0f32, g);
                });
            });
        }
    }
}

#[test]
fn cross_entropy_in_f32_is_the_f64_value_rounded() {
    for (rows, classes) in [(0, 3), (1, 1), (1, 2), (3, 9), (5, 17)] {
        let d = cross_entropy::Dims { rows, classes };
        let mut rng = Rng(rows as u64 + 3);
        let x: Vec<f64> = rng.vec(rows * classes).iter().map(|x| 8.0 * x).collect();
        let labels: Vec<u32> = (0..rows).map(|r| ((r * 5 + 1) % classes) as u32).collect();
        let x32 = to_f32(&x);
        for red in BOTH {
            assert_eq!(ce(d, red, &x32, &labels), ce(d, red, &x, &labels) as f32);
            let slope = ce_slope(d, red, &x, &labels);
            assert_output("cross_entropy", &slope, 0.0, 2e-7, |g| {
                cross_entropy::backward(ISA, d, red, &x32, &labels, 1.0f32, g);
            });
            // The slopes of a row sum to 0: probabilities sum to 1.
            assert!(slope.chunks(classes).all(|row| row.iter().sum::<f64>().abs() < 1e-15));
        }
    }
}

#[test]
fn gradients_match_central_differences() {
    let n = 7;
    let mut rng = Rng(12);
    let (x, t) = (rng.vec(n), rng.vec(n));
    let weights: Vec<f64> =
        rng.vec(n).iter().enumerate().map(|(i, w)| if i == 2 { 0.0 } else { w.abs() }).collect();
    for red in BOTH {
        for m in [None, Some(&weights[..])] {
            let (mut dp, mut dt) = (vec![f64::NAN; n], vec![f64::NAN; n]);
            let out = (Some(GradMut::overwrite(&mut dp)), Some(GradMut::overwrite(&mut dt)));
            masked_mse::backward(ISA, red, &x, &t, m, -1.4, out.0, out.1);
            assert_gradient("mse, prediction", &x, &dp, |x| -1.4 * mse(ISA, red, x, &t, m));
            assert_gradient("mse, target", &t, &dt, |t| -1.4 * mse(ISA, red, &x, t, m));
            let mut dx = vec![f64::NAN; n];
            bce_logits::backward(ISA, red, 2.0, &x, &t, m, -1.4, GradMut::overwrite(&mut dx));
            assert_gradient("bce", &x, &dx, |x| -1.4 * bce(ISA, red, 2.0, x, &t, m));
        }
        let d = cross_entropy::Dims { rows: 2, classes: 3 };
        let (x, labels) = (&x[..6], [2, 0]);
        let mut dx = vec![f64::NAN; 6];
        cross_entropy::backward(ISA, d, red, x, &labels, -1.4, GradMut::overwrite(&mut dx));
        assert_gradient("cross_entropy", x, &dx, |x| -1.4 * ce(d, red, x, &labels));
    }
}

#[test]
fn what_is_masked_out_contributes_exactly_nothing_whatever_it_is() {
    let n = 37;
    let mut rng = Rng(2);
    let (p, m) = (to_f32(&rng.vec(n)), to_f32(&mask(&mut rng, n)));
    let t: Vec<f32> = rng.vec(n).iter().map(|t| t.abs() as f32).collect();
    let kept: Vec<usize> = (0..n).filter(|&i| m[i] != 0.0).collect();
    assert!(kept.len() < n);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (mut q, mut u) = (p.clone(), t.clone());
        for i in (0..n).filter(|i| !kept.contains(i)) {
            if i % 2 == 0 { q[i] = bad } else { u[i] = bad }
        }
        each_isa(|isa| {
            for red in BOTH {
                assert_eq!(mse(isa, red, &q, &u, Some(&m)), mse(isa, red, &p, &t, Some(&m)), "{isa}");
                assert_eq!(
                    bce(isa, red, 2.0, &q, &u, Some(&m)),
                    bce(isa, red, 2.0, &p, &t, Some(&m)),
                    "{isa}"
                );
                let (mut dp, mut dt, mut dx) = (vec![1.0f32; n], vec![1.0; n], vec![1.0; n]);
                let out = (Some(GradMut::overwrite(&mut dp)), Some(GradMut::overwrite(&mut dt)));
                masked_mse::backward(isa, red, &q, &u, Some(&m), 1.0, out.0, out.1);
                bce_logits::backward(isa, red, 2.0, &q, &u, Some(&m), 1.0, GradMut::overwrite(&mut dx));
                for i in 0..n {
                    for (g, name) in [(dp[i], "dpred"), (dt[i], "dtarget"), (dx[i], "dlogits")] {
                        assert!(g.is_finite(), "{name}[{i}] on {isa}");
                        assert_eq!(g == 0.0, m[i] == 0.0, "{name}[{i}] is {g} on {isa}");
                    }
                }
            }
        });
        // What is not masked out shows.
        q[kept[5]] = bad;
        each_isa(|isa| assert!(!mse(isa, Reduction::Mean, &q, &u, Some(&m)).is_finite()));
    }
}

#[test]
fn an_empty_mask_gives_zero() {
    let (x, t, m) = ([1.0, f32::NAN], [0.0, 1.0], [0.0; 2]);
    for red in BOTH {
        assert_eq!(mse(ISA, red, &x, &t, Some(&m)), 0.0);
        assert_eq!(bce(ISA, red, 1.0, &x, &t, Some(&m)), 0.0);
        assert_eq!(mse::<f32>(ISA, red, &[], &[], None), 0.0);
        let (mut dx, mut dt) = ([f32::NAN; 2], [f32::NAN; 2]);
        let out = (Some(GradMut::overwrite(&mut dx)), Some(GradMut::overwrite(&mut dt)));
        masked_mse::backward(ISA, red, &x, &t, Some(&m), 1.0, out.0, out.1);
        assert_eq!((dx, dt), ([0.0; 2], [0.0; 2]));
        dx = [f32::NAN; 2];
        bce_logits::backward(ISA, red, 1.0, &x, &t, Some(&m), 1.0, GradMut::overwrite(&mut dx));
        assert_eq!(dx, [0.0; 2]);
    }
}

#[test]
fn bce_is_stable_far_out() {
    for x in [1e4, 1e3, 100.0f64] {
        let one = |x: f64, t: f64| bce(ISA, Reduction::Sum, 2.0, &[x], &[t], None);
        // The wrong side costs |x| (twice for a missed positive), the right side next to nothing.
        assert_eq!(one(x, 0.0), x);
        assert_eq!(one(-x, 1.0), 2.0 * x);
        assert_eq!(one(x, 1.0), 2.0 * (-x).exp());
        assert_eq!(one(-x, 0.0), (-x).exp());
        let slope = |x: f64, t: f64| bce_slope(Reduction::Sum, 2.0, &[x], &[t], None)[0];
        assert_eq!([slope(x, 0.0), slope(-x, 1.0)], [1.0, -2.0]);
        assert_close(
            "right side",
            &[slope(x, 1.0), slope(-x, 0.0)],
            &[-2.0 * (-x).exp(), (-x).exp()],
            0.0,
            1e-15,
        );
    }
    let one = |x: f32, t: f32| bce(ISA, Reduction::Sum, 1.0, &[x], &[t], None);
    assert_eq!([one(f32::INFINITY, 1.0), one(f32::NEG_INFINITY, 0.0)], [0.0; 2]);
    assert_eq!([one(f32::INFINITY, 0.0), one(f32::NEG_INFINITY, 1.0)], [f32::INFINITY; 2]);
    assert!(one(f32::NAN, 1.0).is_nan() && one(0.0, f32::NAN).is_nan());
}

#[test]
fn cross_entropy_ignores_a_shift_and_survives_large_logits() {
    let d = cross_entropy::Dims { rows: 1, classes: 3 };
    let y = ce(d, Reduction::Sum, &[0.5, -1.0, 0.25], &[1]);
    let shifted = ce(d, Reduction::Sum, &[1024.5, 1023.0, 1024.25], &[1]);
    assert_eq!(y, shifted);
    assert_eq!(ce(d, Reduction::Sum, &[1e4, -1e4, 0.0], &[1]), 2e4);
    assert_eq!(ce(d, Reduction::Sum, &[f32::MAX, 0.0, 0.0], &[0]), 0.0);
    // Equal logits: ln of the number of classes.
    assert!((ce(d, Reduction::Mean, &[7.0; 3], &[2]) - 3f64.ln()).abs() < 1e-15);
}

#[test]
fn cross_entropy_with_infinite_logits_is_defined() {
    let d = cross_entropy::Dims { rows: 1, classes: 3 };
    let no = f64::NEG_INFINITY;
    let both =
        |x: [f64; 3], label| (ce(d, Reduction::Sum, &x, &[label]), ce_slope(d, Reduction::Sum, &x, &[label]));
    // An impossible class does not count.
    assert_eq!(both([0.0, no, 0.0], 0), (2f64.ln(), vec![-0.5, 0.0, 0.5]));
    // It is the label: infinite loss, and still a direction.
    assert_eq!(both([0.0, no, 0.0], 1), (f64::INFINITY, vec![0.5, -1.0, 0.5]));
    assert_eq!(both([no; 3], 2), (f64::INFINITY, vec![0.0, 0.0, -1.0]));
    for x in [[0.0, f64::INFINITY, 0.0], [0.0, f64::NAN, 0.0], [no, f64::NAN, no]] {
        for label in 0..3 {
            let (y, dx) = both(x, label);
            assert!(y.is_nan() && dx.iter().all(|g| g.is_nan()), "{x:?}, label {label}: {y}, {dx:?}");
        }
    }
}

#[test]
fn losses_repeat_bit_for_bit() {
    let mut rng = Rng(77);
    let (p, t) = (to_f32(&rng.vec(10_001)), to_f32(&rng.vec(10_001)));
    let want = bits(&[mse(ISA, Reduction::Mean, &p, &t, None)]);
    each_isa(|isa| assert_eq!(bits(&[mse(isa, Reduction::Mean, &p, &t, None)]), want, "{isa}"));
}

#[test]
#[should_panic(expected = "cross_entropy: row 1 has label 3, there are 3 classes")]
fn a_label_out_of_range_is_refused() {
    ce(cross_entropy::Dims { rows: 2, classes: 3 }, Reduction::Mean, &[0.0; 6], &[2, 3]);
}

#[test]
#[should_panic(expected = "masked_mse: mask has 1 elements, expected 2")]
fn a_short_mask_is_refused() {
    mse(ISA, Reduction::Mean, &[0.0; 2], &[0.0; 2], Some(&[1.0]));
}

#[test]
#[should_panic(expected = "bce_logits: targets has 3 elements, expected 2")]
fn unequal_lengths_are_refused() {
    bce(ISA, Reduction::Mean, 1.0, &[0.0; 2], &[0.0; 3], None);
}

#[test]
#[should_panic(expected = "masked_mse backward: dtarget has 1 elements, expected 2")]
fn a_short_gradient_is_refused() {
    let mut dt = [0.0];
    masked_mse::backward(
        ISA,
        Reduction::Sum,
        &[0.0; 2],
        &[0.0; 2],
        None,
        1.0,
        None,
        Some(GradMut::overwrite(&mut dt)),
    );
}
