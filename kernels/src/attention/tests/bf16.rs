//! bf16: every body against the same arithmetic in f64, the stated bounds, and the laws that f32 is held to.

use super::*;
use crate::gemm::round_to_bf16;

/// bf16 on every set, with its dot products and without.
fn each_body(mut f: impl FnMut(Isa, &str)) {
    each_isa(|isa| {
        for isa in [false, true].into_iter().filter_map(|dot| isa.with_bf16_dot(dot)) {
            f(isa, if isa.bf16_dot().is_some() { "dot" } else { "rounded" });
        }
    });
}

fn in_bf16(d: Dims) -> Dims {
    Dims { precision: MatmulPrecision::Bf16, ..d }
}

fn round(x: f64) -> f64 {
    round_to_bf16(x as f32).into()
}

/// |a - b| / |b| as vectors.
fn distance(a: &[f32], b: &[f64]) -> f64 {
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let apart = norm(&mut a.iter().zip(b).map(|(&a, b)| f64::from(a) - b));
    if apart == 0.0 { 0.0 } else { apart / norm(&mut b.iter().copied()) }
}

/// What bf16 should give, in f64.
struct Emulated {
    y: Vec<f64>,
    lse: Vec<f64>,
    /// Of q, k, v: rows of heads side by side, as [`Case::columns`] gives them.
    grads: [Vec<f64>; 3],
    /// The sums of the terms' magnitudes, of y and of the gradients.
    y_terms: Vec<f64>,
    grad_terms: [Vec<f64>; 3],
}

/// The formulas of the module on operands rounded to bf16: q times its factor, k, v, dy times 1 / keep, and, if
/// `rounds`, the exponentials and ds. Exponentials are measured from the running maximum of their block of keys. D comes
/// from the y of rounded exponentials in either case.
fn emulate(case: &Case, rounds: bool) -> Emulated {
    let d = case.d;
    let operand = |x: f64| if rounds { round(x) } else { x };
    let factor = |f: f64, x: f64| round(f64::from(f as f32 * x as f32));
    let [q, k, v] = [0, 1, 2].map(|which| case.columns(which, &case.qkv));
    let of_key = |x: &[f64]| x.iter().map(|&x| round(x)).collect::<Vec<_>>();
    let (k, v) = (of_key(&k), of_key(&v));
    let q: Vec<f64> = q.iter().map(|&x| factor(case.scale, x)).collect();
    let kept = f64::from(case.dropout.scale::<f32>());
    let dy: Vec<f64> = case.dy.iter().map(|&x| factor(kept, x)).collect();
    let zeros = |t: usize| vec![0.0; d.batch * t * d.width()];
    let mut out = Emulated {
        y: zeros(d.tq),
        lse: vec![0.0; saved_len(d)],
        grads: [zeros(d.tq), zeros(d.tk), zeros(d.tk)],
        y_terms: zeros(d.tq),
        grad_terms: [zeros(d.tq), zeros(d.tk), zeros(d.tk)],
    };
    for (n, h, i) in
        (0..d.batch).flat_map(|n| (0..d.heads).flat_map(move |h| (0..d.tq).map(move |i| (n, h, i))))
    {
        let row = |x: usize| x * d.width() + h * d.head_dim;
        let (at, stream) = (row(n * d.tq + i), case.key.sample(n).stream());
        let dot = |a: &[f64], b: &[f64], j: usize| -> f64 {
            (0..d.head_dim).map(|c| a[at + c] * b[row(n * d.tk + j) + c]).sum()
        };
        let kept_key = |j: usize| case.mask.as_ref().is_none_or(|m| m[n * d.tk + j] == 1.0);
        let keeps = |j: usize| case.dropout.is_none() || stream.keeps(case.dropout, (h * d.tq + i) as u32, j);
        let (mut m, mut l, mut start) = (f64::NEG_INFINITY, 0.0, 0);
        let (mut sum, mut rounded, mut terms) =
            (vec![0.0; d.head_dim], vec![0.0; d.head_dim], vec![0.0; d.head_dim]);
        while start < d.tk {
            let len = if d.tk - start <= 320 { d.tk - start } else { 256 };
            let keys: Vec<usize> = (start..start + len).filter(|&j| kept_key(j)).collect();
            start += len;
            let old = m;
            m = keys.iter().fold(m, |m, &j| m.max(dot(&q, &k, j)));
            let again = if old == f64::NEG_INFINITY { 0.0 } else { (old - m).exp() };
            l *= again;
            for x in sum.iter_mut().chain(&mut rounded).chain(&mut terms) {
                *x *= again;
            }
            for j in keys {
                let e = (dot(&q, &k, j) - m).exp();
                l += e;
                for c in (0..d.head_dim).filter(|_| keeps(j)) {
                    let v = v[row(n * d.tk + j) + c];
                    sum[c] += operand(e) * v;
                    rounded[c] += round(e) * v;
                    terms[c] += e * v.abs();
                }
            }
        }
        out.lse[(n * d.heads + h) * d.tq + i] = m + l.ln();
        if l == 0.0 {
            continue;
        }
        let mut big_d = 0.0;
        for c in 0..d.head_dim {
            out.y[at + c] = sum[c] * kept / l;
            out.y_terms[at + c] = terms[c] * kept / l;
            big_d += case.dy[at + c] * rounded[c] * kept / l;
        }
        for j in (0..d.tk).filter(|&j| kept_key(j)) {
            let p = (dot(&q, &k, j) - m).exp() / l;
            let ds = p * (if keeps(j) { dot(&dy, &v, j) } else { 0.0 } - big_d);
            for c in 0..d.head_dim {
                let key = row(n * d.tk + j) + c;
                let of_q = case.scale * operand(ds) * k[key];
                let of_k = operand(ds) * q[at + c];
                let of_v = if keeps(j) { operand(p) * dy[at + c] } else { 0.0 };
                for (which, place, term) in [(0, at + c, of_q), (1, key, of_k), (2, key, of_v)] {
                    out.grads[which][place] += term;
                    out.grad_terms[which][place] += term.abs();
                }
            }
        }
    }
    out
}

#[test]
fn every_body_agrees_with_its_arithmetic_in_f64_and_keeps_the_bounds() {
    let mut worst = 0.0f64;
    for (seed, d) in sizes().into_iter().map(in_bf16).enumerate() {
        for (mask, dropout) in [
            (false, Dropout::NONE),
            (true, Dropout::NONE),
            (false, Dropout::new(0.25)),
            (true, Dropout::new(0.5)),
        ] {
            let case = Case::new(seed as u64, d, mask, dropout);
            let (want, open) = (emulate(&case, true), emulate(&case, false));
            each_body(|isa, body| {
                let name = format!("{isa} {body} {d:?} mask {mask} dropout {dropout:?}");
                let got = case.run::<f32>(isa, seed % 4, ALL, Beta::Zero);
                assert_close(&format!("{name} lse"), &got.saved, &want.lse, 4e-6, 2e-6);
                let grads = [0, 1, 2].map(|which| case.columns(which, &got.grad));
                let parts =
                    [("y", &got.y, &want.y, &open.y, &open.y_terms)].into_iter().chain([0, 1, 2].map(|i| {
                        (
                            ["dq", "dk", "dv"][i],
                            &grads[i],
                            &want.grads[i],
                            &open.grads[i],
                            &open.grad_terms[i],
                        )
                    }));
                for (what, got, want, open, terms) in parts {
                    // An exponential whose last bits differ from f64's may round to the next bf16, 2^-8 away.
                    let apart = distance(got, want);
                    worst = worst.max(apart);
                    assert!(apart < 5e-4, "{name} {what}: {apart:e}");
                    // The bound of rounding exponentials and ds.
                    let largest = terms.iter().fold(0.0f64, |m, &t| m.max(t));
                    for (i, ((&got, &open), &terms)) in got.iter().zip(open).zip(terms).enumerate() {
                        let error = (f64::from(got) - open).abs();
                        let bound = terms / 256.0 + 4e-6 * largest;
                        assert!(
                            error <= bound,
                            "{name} {what}: element {i} is {got} for {open}, bound {bound:e}"
                        );
                    }
                }
                let touched = got.grad.iter().filter(|v| !v.is_nan()).count();
                assert_eq!(touched, d.batch * (d.tq + 2 * d.tk) * d.width(), "{name}: outside its columns");
                let again = case.run::<f32>(isa, (seed + 1) % 4, ALL, Beta::Zero);
                let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&again.grad), bits(&got.grad), "{name}: a repetition differs");
                assert_eq!(bits(&again.y), bits(&got.y), "{name}: a repetition differs");
            });
        }
    }
    println!("at most {worst:.1e} apart");
}

#[test]
fn it_is_not_f32() {
    let d = dims(1, 40, 70, 2, 24);
    let plain = Case::new(80, d, false, Dropout::NONE);
    let asked = Case::new(80, in_bf16(d), false, Dropout::NONE);
    each_body(|isa, body| {
        let [f32, bf16] = [&plain, &asked].map(|c| c.run::<f32>(isa, 0, ALL, Beta::Zero));
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let mut apart = vec![distance(&bf16.y, &wide(&f32.y)), distance(&bf16.saved, &wide(&f32.saved))];
        apart.extend([0, 1, 2].map(|which| {
            distance(&plain.columns(which, &bf16.grad), &wide(&plain.columns(which, &f32.grad)))
        }));
        assert!(apart.iter().all(|&a| a > 1e-5 && a < 0.02), "{isa} {body}: {apart:?}");
    });
    // The reference, and with it f64, does not round.
    let [a, b] = [&plain, &asked].map(|c| c.run::<f64>(Isa::best(), 0, ALL, Beta::Zero));
    assert_eq!(a.y, b.y);
}

#[test]
fn scratch_does_not_depend_on_the_precision() {
    for d in sizes() {
        assert_eq!(scratch_len::<f32>(in_bf16(d)), scratch_len::<f32>(d), "{d:?}");
    }
}
