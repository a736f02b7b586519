use super::*;
use crate::proofs::{assert_gradient, assert_output, bits, dot};
use crate::testing::{Rng, each_isa, to_f32};

const KEY: Key = Key { seed: 11, step: 5, sample: 3, op: 2 };

fn shapes() -> Vec<Dims> {
    let mut shapes = vec![
        Dims { samples: 0, rows: 3, cols: 4 },
        Dims { samples: 2, rows: 0, cols: 4 },
        Dims { samples: 2, rows: 3, cols: 0 },
    ];
    for cols in [1, 7, 8, 9, 15, 16, 17, 127, 128, 129, 257] {
        shapes.push(Dims { samples: 2, rows: 3, cols });
    }
    shapes
}

fn size(d: Dims) -> usize {
    d.samples * d.rows * d.cols
}

/// The documented keying, spelled out: sample n, row r, column c.
fn definition(d: Dims, dropout: Dropout, key: Key, x: &[f64]) -> Vec<f64> {
    (0..size(d))
        .map(|i| {
            let (n, r, c) = (i / d.cols / d.rows, i / d.cols % d.rows, i % d.cols);
            let keep = Key { sample: key.sample + n as u32, ..key }.stream().keeps(dropout, r as u32, c);
            if keep { x[i] / dropout.keep() } else { 0.0 }
        })
        .collect()
}

#[test]
fn both_passes_and_precisions_drop_the_same_elements() {
    for d in shapes() {
        let x = Rng(size(d) as u64 + 1).vec(size(d));
        let x32 = to_f32(&x);
        for p in [0.0, 0.1, 0.5, 0.9] {
            let dropout = Dropout::new(p);
            let want = definition(d, dropout, KEY, &x);
            let name = format!("{d:?}, p {p}");
            assert_output(&name, &want, 0.0, 1e-15, |g: GradMut<'_, f64>| {
                backward(Isa::PORTABLE, d, dropout, KEY, &x, g)
            });
            let mut y64 = vec![f64::NAN; x.len()];
            forward(Isa::PORTABLE, d, dropout, KEY, &x, &mut y64);
            crate::testing::assert_close(&name, &y64, &want, 0.0, 1e-15);
            each_isa(|isa| {
                let name = format!("{name} on {isa}");
                assert_output(&name, &want, 0.0, 2e-7, |g| backward(isa, d, dropout, KEY, &x32, g));
                let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                forward(isa, d, dropout, KEY, &x32, &mut y);
                backward(isa, d, dropout, KEY, &x32, GradMut::overwrite(&mut dx));
                assert_eq!(bits(&y), bits(&dx), "{name}: the passes differ");
                // Exactly zero where dropped, never where kept (x has no zeros).
                assert!(y.iter().zip(&want).all(|(y, w)| (*y == 0.0) == (*w == 0.0)), "{name}");
            });
        }
    }
}

#[test]
fn the_gradient_matches_central_differences() {
    let d = Dims { samples: 2, rows: 2, cols: 5 };
    let dropout = Dropout::new(0.4);
    let mut rng = Rng(2);
    let (x, dy) = (rng.vec(size(d)), rng.vec(size(d)));
    let (mut y, mut dx) = (vec![0.0; size(d)], vec![f64::NAN; size(d)]);
    backward(Isa::PORTABLE, d, dropout, KEY, &dy, GradMut::overwrite(&mut dx));
    assert_gradient("dropout", &x, &dx, |x| {
        forward(Isa::PORTABLE, d, dropout, KEY, x, &mut y);
        dot(&y, &dy)
    });
}

#[test]
fn a_sample_alone_is_the_sample_in_its_batch() {
    let d = Dims { samples: 3, rows: 4, cols: 20 };
    let one = Dims { samples: 1, ..d };
    let dropout = Dropout::new(0.5);
    let x = vec![1.0f32; size(d)];
    each_isa(|isa| {
        let mut y = vec![0.0; size(d)];
        forward(isa, d, dropout, KEY, &x, &mut y);
        for n in 0..3 {
            let mut alone = vec![0.0; size(one)];
            forward(isa, one, dropout, KEY.sample(n), &x[..size(one)], &mut alone);
            assert_eq!(alone, y[n * size(one)..][..size(one)], "{isa}, sample {n}");
        }
    });
}

#[test]
fn the_mean_is_kept_and_other_keys_drop_others() {
    let d = Dims { samples: 4, rows: 50, cols: 200 };
    let n = size(d) as f64;
    let x = vec![1.0f32; size(d)];
    let dropout = Dropout::new(0.3);
    let run = |key| {
        let mut y = vec![0.0; size(d)];
        forward(Isa::best(), d, dropout, key, &x, &mut y);
        y
    };
    let y = run(KEY);
    let mean = y.iter().map(|y| f64::from(*y)).sum::<f64>() / n;
    // Variance of a multiplier: (1 - keep) / keep.
    let deviation = ((1.0 - dropout.keep()) / dropout.keep() / n).sqrt();
    assert!((mean - 1.0).abs() < 5.0 * deviation, "mean {mean}");
    for other in [Key { seed: 1, ..KEY }, Key { step: 6, ..KEY }, Key { op: 3, ..KEY }, KEY.sample(4)] {
        let same = run(other).iter().zip(&y).filter(|(a, b)| a == b).count() as f64 / n;
        // Independent decisions agree with probability 0.7^2 + 0.3^2 = 0.58.
        assert!((same - 0.58).abs() < 5.0 * (0.58f64 * 0.42 / n).sqrt(), "{other:?}: {same} alike");
    }
}

#[test]
fn nothing_dropped_is_a_copy_and_a_nan_stays() {
    let d = Dims { samples: 1, rows: 1, cols: 40 };
    each_isa(|isa| {
        let mut x = to_f32(&Rng(1).vec(40));
        let mut y = vec![0.0; 40];
        forward(isa, d, Dropout::NONE, KEY, &x, &mut y);
        assert_eq!(y, x);
        x.fill(f32::NAN);
        forward(isa, d, Dropout::new(0.5), KEY, &x, &mut y);
        assert!(y.iter().all(|y| y.is_nan()), "{isa}: a NaN was dropped silently");
    });
}

#[test]
#[should_panic(expected = "dropout: x has 5 elements, expected 6")]
fn a_short_input_is_refused() {
    let d = Dims { samples: 1, rows: 2, cols: 3 };
    forward(Isa::PORTABLE, d, Dropout::NONE, KEY, &[0.0; 5], &mut [0.0; 6]);
}

#[test]
#[should_panic(expected = "dropout backward: dx has 5 elements, expected 6")]
fn a_short_gradient_is_refused() {
    let d = Dims { samples: 1, rows: 2, cols: 3 };
    backward(Isa::PORTABLE, d, Dropout::NONE, KEY, &[0.0; 6], GradMut::overwrite(&mut [0.0; 5]));
}

#[test]
#[should_panic(expected = "overflows")]
fn impossible_sizes_are_refused() {
    let d = Dims { samples: usize::MAX, rows: 2, cols: 3 };
    forward(Isa::PORTABLE, d, Dropout::NONE, KEY, &[0.0f32; 6], &mut [0.0; 6]);
}
