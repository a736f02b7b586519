use super::*;
use crate::proofs::{assert_gradient, assert_output, bits, dot};
use crate::testing::{Rng, assert_close, each_isa, to_f32};

const KINDS: [Pool; 5] = [Pool::Mean, Pool::Max, Pool::First, Pool::Last, Pool::MeanDeviation];

fn shapes() -> Vec<Dims> {
    let mut shapes = vec![Dims { batch: 0, rows: 2, cols: 3 }, Dims { batch: 2, rows: 2, cols: 0 }];
    for cols in [1, 7, 16, 17, 31, 32, 33, 70] {
        shapes.push(Dims { batch: 2, rows: 1, cols });
        shapes.push(Dims { batch: 2, rows: 5, cols });
    }
    shapes
}

/// Value and gradient by the definition, column by column.
fn definition(kind: Pool, d: Dims, x: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
    if kind == Pool::MeanDeviation {
        for (b, c) in (0..d.batch).flat_map(|b| (0..d.cols).map(move |c| (b, c))) {
            let at = |r: usize| (b * d.rows + r) * d.cols + c;
            let (to_mean, to_deviation) = (2 * b * d.cols + c, (2 * b + 1) * d.cols + c);
            let mean = (0..d.rows).map(|r| x[at(r)]).sum::<f64>() / d.rows as f64;
            let square = (0..d.rows).map(|r| (x[at(r)] - mean).powi(2)).sum::<f64>();
            let deviation = (square / d.rows as f64 + DEVIATION_EPS).sqrt();
            (y[to_mean], y[to_deviation]) = (mean, deviation);
            for r in 0..d.rows {
                let slope = (x[at(r)] - mean) / deviation;
                dx[at(r)] = (dy[to_mean] + dy[to_deviation] * slope) / d.rows as f64;
            }
        }
        return (y, dx);
    }
    for i in 0..d.batch * d.cols {
        let (b, c) = (i / d.cols, i % d.cols);
        let at = |r: usize| (b * d.rows + r) * d.cols + c;
        let column: Vec<f64> = (0..d.rows).map(|r| x[at(r)]).collect();
        let row = match kind {
            Pool::Mean => {
                y[i] = column.iter().sum::<f64>() / d.rows as f64;
                (0..d.rows).for_each(|r| dx[at(r)] = dy[i] / d.rows as f64);
                continue;
            }
            Pool::Max => {
                let max = column.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                column.iter().position(|&x| x == max).expect("a maximum")
            }
            Pool::First => 0,
            Pool::Last => d.rows - 1,
            Pool::MeanDeviation => unreachable!("handled above"),
        };
        y[i] = column[row];
        dx[at(row)] = dy[i];
    }
    (y, dx)
}

#[test]
fn values_and_gradients_are_the_definitions() {
    for d in shapes() {
        let mut rng = Rng((d.rows * d.cols) as u64 + 1);
        // Few distinct values, so that maxima tie.
        let x: Vec<f64> =
            rng.vec(d.batch * d.rows * d.cols).iter().map(|x| (x * 2.0).round() / 2.0).collect();
        let both = rng.vec(d.batch * 2 * d.cols);
        let x32 = to_f32(&x);
        for kind in KINDS {
            let dy = &both[..d.batch * kind.columns(d.cols)];
            let dy32 = to_f32(dy);
            let (want, dx) = definition(kind, d, &x, dy);
            let mut y64 = vec![f64::NAN; want.len()];
            forward(Isa::PORTABLE, kind, d, &x, &mut y64);
            assert_close(&format!("{kind:?} {d:?}"), &y64, &want, 1e-15, 1e-15);
            each_isa(|isa| {
                let name = format!("{kind:?} {d:?} on {isa}");
                let mut y = vec![f32::NAN; want.len()];
                forward(isa, kind, d, &x32, &mut y);
                assert_eq!(bits(&y), bits(&to_f32(&y64)), "{name}");
                assert_output(&name, &dx, if kind == Pool::MeanDeviation { 3e-7 } else { 0.0 }, 3e-7, |g| {
                    backward(isa, kind, d, &x32, &dy32, g)
                });
            });
        }
    }
}

#[test]
fn gradients_match_central_differences() {
    let d = Dims { batch: 2, rows: 4, cols: 3 };
    let mut rng = Rng(5);
    let (x, both) = (rng.vec(24), rng.vec(12));
    for kind in KINDS {
        let dy = &both[..2 * kind.columns(3)];
        let (mut y, mut dx) = (vec![0.0; dy.len()], vec![f64::NAN; 24]);
        backward(Isa::PORTABLE, kind, d, &x, dy, GradMut::overwrite(&mut dx));
        assert_gradient(&format!("{kind:?}"), &x, &dx, |x| {
            forward(Isa::PORTABLE, kind, d, x, &mut y);
            dot(&y, dy)
        });
    }
}

#[test]
fn the_first_of_equal_maxima_takes_the_gradient_and_a_nan_wins() {
    let d = Dims { batch: 1, rows: 4, cols: 1 };
    each_isa(|isa| {
        let run = |x: [f32; 4]| {
            let (mut y, mut dx) = ([0.0], [f32::NAN; 4]);
            forward(isa, Pool::Max, d, &x, &mut y);
            backward(isa, Pool::Max, d, &x, &[3.0], GradMut::overwrite(&mut dx));
            (y[0], dx)
        };
        assert_eq!(run([1.0, 2.0, 2.0, 0.0]), (2.0, [0.0, 3.0, 0.0, 0.0]));
        assert_eq!(run([f32::NEG_INFINITY; 4]), (f32::NEG_INFINITY, [3.0, 0.0, 0.0, 0.0]));
        let (y, dx) = run([1.0, f32::NAN, 9.0, f32::NAN]);
        assert!(y.is_nan());
        assert_eq!(dx, [0.0, 3.0, 0.0, 0.0]);
        let (y, _) = run([f32::NAN, 1.0, 2.0, 3.0]);
        assert!(y.is_nan());
    });
}

#[test]
#[should_panic(expected = "pool: a sample needs at least one row, got 0")]
fn no_rows_are_refused() {
    forward::<f32>(Isa::PORTABLE, Pool::Mean, Dims { batch: 1, rows: 0, cols: 1 }, &[], &mut [0.0]);
}

#[test]
#[should_panic(expected = "pool backward: dy has 3 elements, expected 2")]
fn a_wrong_cotangent_is_refused() {
    let d = Dims { batch: 1, rows: 2, cols: 2 };
    backward(Isa::PORTABLE, Pool::First, d, &[0.0; 4], &[0.0; 3], GradMut::overwrite(&mut [0.0; 4]));
}
