//! A measurement beside the machine's multiply-add peak and a composition of whole matrix products.
#![allow(clippy::print_stdout)]

use super::*;
use crate::isa::{Simd, Task};
use std::hint::black_box;
use std::time::Instant;

/// Best of several runs, in seconds.
fn best(mut f: impl FnMut()) -> f64 {
    (0..7).fold(f64::INFINITY, |best, _| {
        let start = Instant::now();
        f();
        best.min(start.elapsed().as_secs_f64())
    })
}

/// Independent multiply-adds on registers: what the core can do at most.
struct Peak;
impl Task for Peak {
    type Out = f64;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        const CHAINS: usize = 12;
        let n = 4_000_000;
        let (a, b) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
        let mut seconds = f64::INFINITY;
        // No closure here: one that is not inlined would be compiled without the instruction set.
        for _ in 0..5 {
            let start = Instant::now();
            let mut acc = [s.splat(1.0); CHAINS];
            for _ in 0..n {
                for i in 0..CHAINS {
                    acc[i] = s.fma(acc[i], a, b);
                }
            }
            let mut total = acc[0];
            for i in 1..CHAINS {
                total = s.add(total, acc[i]);
            }
            black_box(s.sum(total));
            seconds = seconds.min(start.elapsed().as_secs_f64());
        }
        (2 * CHAINS * n * S::LANES) as f64 / seconds * 1e-9
    }
}

/// C = A B with strides, by the matrixmultiply crate.
#[allow(unsafe_code)]
fn product(
    (m, k, n): (usize, usize, usize),
    a: &[f32],
    (rsa, csa): (isize, isize),
    b: &[f32],
    (rsb, csb): (isize, isize),
    c: &mut [f32],
    rsc: isize,
) {
    // SAFETY: the callers below pass matrices that lie inside their slices at these strides.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.as_ptr(),
            rsa,
            csa,
            b.as_ptr(),
            rsb,
            csb,
            0.0,
            c.as_mut_ptr(),
            rsc,
            1,
        );
    }
}

#[test]
#[ignore = "a measurement: run in release with --ignored --nocapture"]
fn speed() {
    for isa in Isa::available() {
        println!("{isa}: multiply-add peak {:.1} GFLOP/s", isa.run(Peak));
    }
    for (tq, tk) in [(1281, 1281), (1, 1281), (16, 1281), (128, 1281)] {
        let d = dims(1, tq, tk, 2, 128);
        let (mut rng, t, scale) = (Rng(1), tq.max(tk), 1.0 / 128f64.sqrt());
        let (qkv, dy) = (to_f32(&rng.vec(t * 768)), to_f32(&rng.vec(tq * 256)));
        let (mut y, mut saved) = (vec![0.0; tq * 256], vec![0.0; saved_len(d)]);
        let mut scratch = vec![0.0; scratch_len::<f32>(d)];
        let mut grad = vec![0.0; t * 768];
        let rows = |offset| Rows { data: &qkv[..], stride: 768, offset };
        let (q, k, v) = (rows(0), rows(256), rows(512));
        let g = |offset| Some(GradRows { buffer: 0, stride: 768, offset, beta: Beta::Zero });
        let flops = (4 * tq * tk * 256) as f64;
        let show = |name: &str, f: f64, b: f64| {
            let rate = |n: f64, s: f64| n / s * 1e-9;
            println!(
                "{name:24} tq {tq:4} tk {tk}: forward {:8.3} ms {:6.1} GFLOP/s, backward {:8.3} ms {:6.1} GFLOP/s",
                f * 1e3,
                rate(flops, f),
                b * 1e3,
                rate(2.5 * flops, b)
            );
        };
        for drop in [Dropout::NONE, Dropout::new(0.1)] {
            for isa in Isa::available() {
                let key = Key::default();
                let f = best(|| {
                    forward(isa, d, scale, q, k, v, None, drop, key, &mut y, &mut saved, &mut scratch)
                });
                let b = best(|| {
                    let buffers: &mut [&mut [f32]] = &mut [&mut grad];
                    let (dq, dk, dv) = (g(0), g(256), g(512));
                    backward(
                        isa,
                        d,
                        scale,
                        q,
                        k,
                        v,
                        None,
                        drop,
                        key,
                        &y,
                        &saved,
                        &dy,
                        buffers,
                        dq,
                        dk,
                        dv,
                        &mut scratch,
                    );
                });
                show(&format!("{isa} dropout {:.1}", 1.0 - drop.keep()), f, b);
            }
        }
        // Composed: whole matrix of scores, softmax kernel, products by matrixmultiply.
        let isa = Isa::best();
        let (mut p, mut dp) = (vec![0.0f32; tq * tk], vec![0.0f32; tq * tk]);
        let softmax_dims = crate::softmax::Dims { rows: tq, cols: tk };
        let (mut f, mut b) = (0.0, 0.0);
        for h in 0..2 {
            let (q, k, v) = (&qkv[h * 128..], &qkv[256 + h * 128..], &qkv[512 + h * 128..]);
            f += best(|| {
                product((tq, 128, tk), q, (768, 1), k, (1, 768), &mut dp, tk as isize);
                dp.iter_mut().for_each(|s| *s *= scale as f32);
                crate::softmax::forward(isa, softmax_dims, &dp, &mut p);
                product((tq, tk, 128), &p, (tk as isize, 1), v, (768, 1), &mut y[h * 128..], 256);
            });
            let dy = &dy[h * 128..];
            let mut ds = vec![0.0f32; tq * tk];
            b += best(|| {
                product((tk, tq, 128), &p, (1, tk as isize), dy, (256, 1), &mut grad[512 + h * 128..], 768);
                product((tq, 128, tk), dy, (256, 1), v, (1, 768), &mut dp, tk as isize);
                crate::softmax::backward(isa, softmax_dims, &p, &dp, crate::GradMut::overwrite(&mut ds));
                ds.iter_mut().for_each(|s| *s *= scale as f32);
                product((tq, tk, 128), &ds, (tk as isize, 1), k, (768, 1), &mut grad[h * 128..], 768);
                product((tk, tq, 128), &ds, (1, tk as isize), q, (768, 1), &mut grad[256 + h * 128..], 768);
            });
        }
        show("composed, matrixmultiply", f, b);
    }
}
