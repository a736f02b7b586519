//! tests
use super::*;
use crate::testing::*;

#[test]
#[ignore = "a measurement: run in release with --ignored --nocapture"]
fn speed() {
    for (tq, tk) in [(1281, 1281), (1, 1281), (16, 1281), (128, 1281)] {
        let d = Dims { batch: 1, tq, tk, heads: 2, head_dim: 128 };
        let mut rng = Rng(1);
        let t = tq.max(tk);
        let qkv = to_f32(&rng.vec(t * 768));
        let dy = to_f32(&rng.vec(tq * 256));
        let mut y = vec![0.0; tq * 256];
        let mut saved = vec![0.0; saved_len(d)];
        let mut scratch = vec![0.0; scratch_len::<f32>(d)];
        let mut grad = vec![0.0; t * 768];
        let rows = |o| Rows { data: &qkv[..], stride: 768, offset: o };
        let g = |o| Some(GradRows { buffer: 0, stride: 768, offset: o, beta: Beta::Zero });
        let scale = 1.0 / 128f64.sqrt();
        for dropout in [Dropout::NONE, Dropout::new(0.1)] {
            for isa in Isa::available() {
                let flops = (4 * tq * tk * 256) as f64;
                let (mut f, mut b) = (f64::INFINITY, f64::INFINITY);
                for _ in 0..7 {
                    let t0 = std::time::Instant::now();
                    forward(
                        isa,
                        d,
                        scale,
                        rows(0),
                        rows(256),
                        rows(512),
                        None,
                        dropout,
                        Key::default(),
                        &mut y,
                        &mut saved,
                        &mut scratch,
                    );
                    f = f.min(t0.elapsed().as_secs_f64());
                    let t0 = std::time::Instant::now();
                    backward(
                        isa,
                        d,
                        scale,
                        rows(0),
                        rows(256),
                        rows(512),
                        None,
                        dropout,
                        Key::default(),
                        &y,
                        &saved,
                        &dy,
                        &mut [&mut grad],
                        g(0),
                        g(256),
                        g(512),
                        &mut scratch,
                    );
                    b = b.min(t0.elapsed().as_secs_f64());
                }
                println!(
                    "{isa:9} tq {tq:4} tk {tk} dropout {:.1}: forward {:8.3} ms {:6.1} GFLOP/s, backward {:8.3} ms {:6.1} GFLOP/s",
                    1.0 - dropout.keep(),
                    f * 1e3,
                    flops / f * 1e-9,
                    b * 1e3,
                    flops * 2.5 / b * 1e-9
                );
            }
        }
    }
}
