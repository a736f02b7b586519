//! Every instruction set against the f64 reference, gradients against differences, laws, rows without a finite score.

use super::*;
use crate::testing::*;

const COLS: [usize; 12] = [0, 1, 2, 4, 7, 8, 9, 15, 16, 17, 33, 200];

fn reference_forward(d: Dims, x: &[f64]) -> Vec<f64> {
    let mut y = vec![f64::NAN; x.len()];
    reference::forward(d, x, &mut y);
    y
}

fn forward_f32(isa: Isa, cols: usize, x: &[f32]) -> Vec<f32> {
    let d = Dims { rows: x.len() / cols, cols };
    let mut y = Guarded::new(x.len(), 1);
    forward(isa, d, x, y.get_mut());
    y.check("y").to_vec()
}

#[test]
fn every_instruction_set_agrees_with_the_reference() {
    let mut rng = Rng(21);
    each_isa(|isa| {
        for rows in [0, 1, 3] {
            for (i, cols) in COLS.into_iter().enumerate() {
                let d = Dims { rows, cols };
                let x: Vec<f64> = rng.vec(rows * cols).iter().map(|v| f64::from((v * 10.0) as f32)).collect();
                let dy = rng.vec(rows * cols);
                let want = reference_forward(d, &x);
                let x32 = Guarded::of(&to_f32(&x), i % 4);
                let mut y = Guarded::<f32>::new(x.len(), (i + 1) % 4);
                forward(isa, d, x32.get(), y.get_mut());
                assert_close(&format!("{isa} {d:?}"), y.check("y"), &want, 1e-12, 3e-6);

                // The gradient is judged at the f32 output, so only its own error counts.
                let y64: Vec<f64> = y.get().iter().map(|&v| f64::from(v)).collect();
                let mut want = vec![f64::NAN; x.len()];
                reference::backward(d, &y64, &dy, GradMut::overwrite(&mut want));
                let dy32 = to_f32(&dy);
                let mut dx = Guarded::<f32>::new(x.len(), (i + 2) % 4);
                backward(isa, d, y.get(), &dy32, GradMut::overwrite(dx.get_mut()));
                assert_close(&format!("{isa} {d:?} dx"), dx.check("dx"), &want, 3e-7, 1e-6);
                backward(isa, d, y.get(), &dy32, GradMut::accumulate(dx.get_mut()));
                want.iter_mut().for_each(|v| *v *= 2.0);
                assert_close(&format!("{isa} {d:?} dx twice"), dx.check("dx"), &want, 6e-7, 1e-6);
            }
        }
    });
}

#[test]
fn the_gradient_is_the_derivative() {
    let d = Dims { rows: 2, cols: 5 };
    let mut rng = Rng(22);
    let (x, dy) = (rng.vec(10), rng.vec(10));
    let loss = |x: &[f64]| reference_forward(d, x).iter().zip(&dy).map(|(y, g)| y * g).sum::<f64>();
    let mut dx = vec![f64::NAN; 10];
    backward(Isa::best(), d, &reference_forward(d, &x), &dy, GradMut::overwrite(&mut dx));
    for i in 0..10 {
        let moved = |h: f64| {
            let mut x = x.clone();
            x[i] += h;
            loss(&x)
        };
        let want = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((dx[i] - want).abs() <= 1e-6 * (1.0 + want.abs()), "element {i}: {} for {want}", dx[i]);
    }
}

#[test]
fn rows_sum_to_one_and_ignore_a_shift() {
    let mut rng = Rng(23);
    each_isa(|isa| {
        let x: Vec<f32> = rng.vec(3 * 77).iter().map(|&v| (v * 64.0).round() as f32 / 8.0).collect();
        let y = forward_f32(isa, 77, &x);
        for row in y.chunks(77) {
            let sum: f64 = row.iter().map(|&v| f64::from(v)).sum();
            assert!((sum - 1.0).abs() < 1e-6, "{isa}: {sum}");
            assert!(row.iter().all(|&v| v >= 0.0));
        }
        // Eighths plus 1024 are exact, so the differences are the same floats.
        let shifted: Vec<f32> = x.iter().map(|v| v + 1024.0).collect();
        assert_eq!(forward_f32(isa, 77, &shifted), y, "{isa}");
    });
}

#[test]
fn extreme_scores_are_defined() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    each_isa(|isa| {
        for cols in [1, 7, 16, 40] {
            assert_eq!(forward_f32(isa, cols, &vec![-inf; cols]), vec![0.0; cols], "{isa}: all -inf");
            let mut x = vec![1e4; cols];
            x[cols - 1] = -1e4;
            let y = forward_f32(isa, cols, &x);
            let want = if cols == 1 { 1.0 } else { 1.0 / (cols - 1) as f32 };
            assert!((y[0] - want).abs() < 1e-6 && y.iter().all(|v| v.is_finite()), "{isa}: huge scores");
            // A NaN stays in its row, wherever it is and even beside -inf.
            for place in 0..cols {
                let mut x = vec![-inf; 3 * cols];
                x[..cols].fill(0.5);
                x[2 * cols..].fill(0.5);
                x[cols + place] = nan;
                let y = forward_f32(isa, cols, &x);
                assert!(y[cols..2 * cols].iter().all(|v| v.is_nan()), "{isa}: NaN at {place} of {cols}");
                assert!(
                    y[..cols].iter().chain(&y[2 * cols..]).all(|&v| (v - 1.0 / cols as f32).abs() < 1e-6)
                );
            }
            let d = Dims { rows: 1, cols };
            let mut dx = vec![nan; cols];
            backward(isa, d, &vec![0.0; cols], &vec![3.0; cols], GradMut::overwrite(&mut dx));
            assert_eq!(dx, vec![0.0; cols], "{isa}: gradient of a row without scores");
        }
    });
}

#[test]
#[should_panic(expected = "softmax: x has 5 elements, expected 6")]
fn a_short_input_is_refused() {
    forward(Isa::PORTABLE, Dims { rows: 2, cols: 3 }, &[0.0f32; 5], &mut [0.0; 6]);
}

#[test]
#[should_panic(expected = "overflows")]
fn sizes_that_overflow_are_refused() {
    forward::<f32>(Isa::PORTABLE, Dims { rows: usize::MAX, cols: 3 }, &[], &mut []);
}
