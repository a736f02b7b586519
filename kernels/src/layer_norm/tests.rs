//! Every instruction set against the f64 reference, gradients against differences, laws, bad sizes.

use super::*;
use crate::testing::*;

const EPS: f64 = 1e-5;

/// Everything a call needs, in f64 and exactly representable in f32.
struct Case {
    d: Dims,
    x: Vec<f64>,
    residual: Vec<f64>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    dy: Vec<f64>,
    key: Key,
}

impl Case {
    fn new(seed: u64, d: Dims) -> Self {
        let mut rng = Rng(seed);
        let n = d.samples * d.rows * d.cols;
        let mut vec = |n| rng.vec(n);
        let (x, residual, gamma, beta, dy) = (vec(n), vec(n), vec(d.cols), vec(d.cols), vec(n));
        Self { d, x, residual, gamma, beta, dy, key: Key { seed, step: 3, sample: 5, op: 2 } }
    }

    /// y and saved in f64.
    fn forward(&self, dropout: Option<Dropout>) -> (Vec<f64>, Vec<f64>) {
        let (mut y, mut saved) = (vec![f64::NAN; self.x.len()], vec![f64::NAN; saved_len(self.d)]);
        let residual = dropout.map(|dropout| Residual { data: &self.residual[..], dropout, key: self.key });
        forward(Isa::best(), self.d, EPS, &self.x, residual, &self.gamma, &self.beta, &mut y, &mut saved);
        (y, saved)
    }

    /// dx, dresidual (empty without residual), dgamma, dbeta in f64.
    fn backward(&self, dropout: Option<Dropout>, saved: &[f64]) -> [Vec<f64>; 4] {
        let n = self.x.len();
        let mut g = [vec![f64::NAN; n], vec![f64::NAN; n], vec![0.0; self.d.cols], vec![0.0; self.d.cols]];
        let [dx, dres, dgamma, dbeta] = &mut g;
        let residual = dropout.map(|dropout| Residual { data: &self.residual[..], dropout, key: self.key });
        let mut scratch = vec![f64::NAN; scratch_len(self.d)];
        backward(
            Isa::best(),
            self.d,
            &self.x,
            residual,
            &self.gamma,
            saved,
            &self.dy,
            Some(GradMut::overwrite(dx)),
            dropout.map(|_| GradMut::overwrite(dres)),
            Some(dgamma),
            Some(dbeta),
            &mut scratch,
        );
        g
    }
}

const BRANCHES: [fn() -> Option<Dropout>; 3] = [|| None, || Some(Dropout::NONE), || Some(Dropout::new(0.3))];

#[test]
fn every_instruction_set_agrees_with_the_reference() {
    for (seed, cols) in
        [1usize, 2, 4, 7, 8, 9, 15, 16, 17, 32, 33, 64, 128, 130, 256, 300].into_iter().enumerate()
    {
        for (samples, rows) in [(0, 3), (1, 0), (1, 1), (2, 3), (3, 11), (1, 70)] {
            let case = Case::new(seed as u64, Dims { samples, rows, cols });
            for branch in BRANCHES {
                for shift in 0..2 {
                    compare(&case, branch(), shift + seed % 3);
                }
            }
        }
    }
}

/// One case on every instruction set, every output between guards and full of NaN.
fn compare(case: &Case, dropout: Option<Dropout>, shift: usize) {
    let d = case.d;
    let n = case.x.len();
    let (x, res) = (to_f32(&case.x), to_f32(&case.residual));
    let (gamma, beta, dy) = (to_f32(&case.gamma), to_f32(&case.beta), to_f32(&case.dy));
    let (x, dy) = (Guarded::of(&x, shift), Guarded::of(&dy, shift));
    let residual = dropout.map(|dropout| Residual { data: &res[..], dropout, key: case.key });
    let (y64, saved64) = case.forward(dropout);
    let want = case.backward(dropout, &saved64);
    // With few columns the deviations can be small beside the values: rstd amplifies the rounding of the inputs' sum.
    let rstd = saved64[d.samples * d.rows..].iter().fold(1.0f64, |m, &v| m.max(v));
    let tolerance = 5e-7 * rstd;
    each_isa(|isa| {
        let name = format!("{isa} {d:?} dropout {dropout:?}");
        let mut y = Guarded::<f32>::new(n, shift);
        let mut saved = Guarded::<f32>::new(saved_len(d), shift);
        forward(isa, d, EPS, x.get(), residual, &gamma, &beta, y.get_mut(), saved.get_mut());
        assert_close(&format!("{name} y"), y.check("y"), &y64, tolerance, 2e-6);
        assert_close(&format!("{name} saved"), saved.check("saved"), &saved64, 2e-7, 1e-6 * rstd);
        let mut inference = Guarded::<f32>::new(n, shift);
        forward(isa, d, EPS, x.get(), residual, &gamma, &beta, inference.get_mut(), &mut []);
        assert_eq!(inference.check("y"), y.get(), "{name}: inference differs");

        let mut runs = Vec::new();
        for _ in 0..2 {
            let mut dx = Guarded::<f32>::new(n, shift);
            let mut dres = Guarded::<f32>::new(n, shift);
            let (mut dgamma, mut dbeta) = (vec![0.0f32; d.cols], vec![0.0f32; d.cols]);
            let mut scratch = Guarded::<f32>::new(scratch_len(d), shift);
            for pass in 0..2 {
                let grad =
                    |data| Some(if pass == 0 { GradMut::overwrite(data) } else { GradMut::accumulate(data) });
                let dr = if dropout.is_some() { grad(dres.get_mut()) } else { None };
                backward(
                    isa,
                    d,
                    x.get(),
                    residual,
                    &gamma,
                    saved.get(),
                    dy.get(),
                    grad(dx.get_mut()),
                    dr,
                    Some(&mut dgamma),
                    Some(&mut dbeta),
                    scratch.get_mut(),
                );
                let times = f64::from(pass + 1);
                let scaled = |i: usize| want[i].iter().map(|v| v * times).collect::<Vec<_>>();
                let rows = (d.samples * d.rows) as f64;
                assert_close(&format!("{name} dx"), dx.check("dx"), &scaled(0), 6.0 * tolerance * rstd, 4e-6);
                if dropout.is_some() {
                    assert_close(
                        &format!("{name} dres"),
                        dres.check("d"),
                        &scaled(1),
                        9.0 * tolerance * rstd,
                        4e-6,
                    );
                }
                let atol = times * rows.max(1.0).sqrt() * tolerance;
                assert_close(&format!("{name} dgamma"), &dgamma, &scaled(2), 2.0 * atol, 4e-6);
                assert_close(&format!("{name} dbeta"), &dbeta, &scaled(3), atol, 4e-6);
            }
            scratch.check("scratch");
            runs.push((dx.get().iter().map(|v| v.to_bits()).collect::<Vec<_>>(), dgamma, dbeta));
        }
        assert_eq!(runs[0], runs[1], "{name}: a repetition differs");
    });
}

#[test]
fn a_table_is_added_to_every_sample() {
    for (seed, (samples, rows, cols)) in
        [(1, 3, 5), (2, 1, 16), (3, 4, 17), (2, 40, 33), (4, 3, 130)].into_iter().enumerate()
    {
        let d = Dims { samples, rows, cols };
        let one = Case::new(seed as u64, d);
        let table = one.residual[..rows * cols].to_vec();
        let repeated = Case { residual: table.repeat(samples), ..one };
        for dropout in [Dropout::NONE, Dropout::new(0.3)] {
            let (y, saved) = repeated.forward(Some(dropout));
            let [dx, dres, ..] = repeated.backward(Some(dropout), &saved);
            let mut dtable = vec![0.0; table.len()];
            dres.iter().enumerate().for_each(|(i, g)| dtable[i % table.len()] += g);
            each_isa(|isa| {
                table_case(isa, &repeated, &to_f32(&table), dropout, (&y, &saved, &dx, &dtable));
            });
            // And the readable loop.
            let residual = Some(Residual { data: &table[..], dropout, key: repeated.key });
            let mut got = vec![f64::NAN; table.len()];
            let dres = Some(GradMut::overwrite(&mut got));
            let (x, dy) = (&repeated.x, &repeated.dy);
            let mut scratch = vec![f64::NAN; scratch_len(d)];
            let (isa, gamma) = (Isa::best(), &repeated.gamma);
            backward(isa, d, x, residual, gamma, &saved, dy, None, dres, None, None, &mut scratch);
            let close = got.iter().zip(&dtable).all(|(a, b)| (a - b).abs() <= 1e-12 * (1.0 + b.abs()));
            assert!(close, "{got:?} {dtable:?}");
        }
    }
}

/// `want`: y, saved, dx and the table's gradient.
fn table_case(
    isa: Isa,
    case: &Case,
    table: &[f32],
    dropout: Dropout,
    want: (&[f64], &[f64], &[f64], &[f64]),
) {
    let d = case.d;
    let name = format!("{isa} {d:?} table, dropout {dropout:?}");
    let (x, dy) = (to_f32(&case.x), to_f32(&case.dy));
    let (gamma, beta) = (to_f32(&case.gamma), to_f32(&case.beta));
    let residual = Some(Residual { data: table, dropout, key: case.key });
    let mut y = vec![f32::NAN; x.len()];
    let mut saved = vec![f32::NAN; saved_len(d)];
    forward(isa, d, EPS, &x, residual, &gamma, &beta, &mut y, &mut saved);
    assert_close(&format!("{name} y"), &y, want.0, 4e-6, 4e-6);
    assert_close(&format!("{name} saved"), &saved, want.1, 2e-6, 2e-6);
    let (mut dx, mut dtable) = (vec![f32::NAN; x.len()], vec![f32::NAN; table.len()]);
    let mut scratch = vec![f32::NAN; scratch_len(d)];
    for times in [1.0, 2.0] {
        let grad =
            |data| Some(if times == 1.0 { GradMut::overwrite(data) } else { GradMut::accumulate(data) });
        let (to_x, to_table) = (grad(&mut dx), grad(&mut dtable));
        backward(isa, d, &x, residual, &gamma, &saved, &dy, to_x, to_table, None, None, &mut scratch);
        let scaled = |want: &[f64]| want.iter().map(|v| v * times).collect::<Vec<_>>();
        assert_close(&format!("{name} dx"), &dx, &scaled(want.2), 2e-5, 2e-5);
        assert_close(&format!("{name} dtable"), &dtable, &scaled(want.3), 4e-5, 2e-5);
    }
}

#[test]
fn the_gradient_is_the_derivative() {
    let d = Dims { samples: 2, rows: 2, cols: 5 };
    for branch in BRANCHES {
        let dropout = branch();
        let case = Case::new(31, d);
        let (_, saved) = case.forward(dropout);
        let got = case.backward(dropout, &saved);
        let loss = |c: &Case| c.forward(dropout).0.iter().zip(&c.dy).map(|(y, g)| y * g).sum::<f64>();
        let fields: [fn(&mut Case) -> &mut Vec<f64>; 4] =
            [|c| &mut c.x, |c| &mut c.residual, |c| &mut c.gamma, |c| &mut c.beta];
        for (which, field) in fields.into_iter().enumerate() {
            if which == 1 && dropout.is_none() {
                continue;
            }
            for i in 0..got[which].len() {
                let moved = |h: f64| {
                    let mut c = Case::new(31, d);
                    field(&mut c)[i] += h;
                    loss(&c)
                };
                let want = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let g = got[which][i];
                assert!(
                    (g - want).abs() <= 1e-6 * (1.0 + want.abs()),
                    "gradient {which}, element {i}: {g} for {want}"
                );
            }
        }
    }
}

#[test]
fn rows_have_mean_0_and_variance_1_and_ignore_shift_and_scale() {
    let d = Dims { samples: 1, rows: 4, cols: 67 };
    let case = Case::new(32, d);
    let (one, zero) = (vec![1.0f32; 67], vec![0.0f32; 67]);
    each_isa(|isa| {
        let run = |eps: f64, f: &dyn Fn(f64) -> f64| {
            let x: Vec<f32> = case.x.iter().map(|&v| f((v * 256.0).round() / 16.0) as f32).collect();
            let mut y = vec![f32::NAN; x.len()];
            forward(isa, d, eps, &x, None, &one, &zero, &mut y, &mut []);
            y
        };
        let y = run(0.0, &|v| v);
        for row in y.chunks(67) {
            let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / 67.0;
            let var = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / 67.0;
            assert!(mean.abs() < 1e-6 && (var - 1.0).abs() < 1e-5, "{isa}: mean {mean}, variance {var}");
        }
        let y64: Vec<f64> = y.iter().map(|&v| f64::from(v)).collect();
        // A shift of 4096 is exact on these sixteenths; one pass over squares would lose everything here.
        assert_close(&format!("{isa} shift"), &run(0.0, &|v| v + 4096.0), &y64, 1e-4, 0.0);
        assert_close(&format!("{isa} scale"), &run(0.0, &|v| v * 1024.0), &y64, 0.0, 0.0);
    });
}

#[test]
fn a_constant_row_gives_beta_and_a_nan_stays_in_its_row() {
    let d = Dims { samples: 1, rows: 3, cols: 21 };
    each_isa(|isa| {
        let mut x = vec![0.5f32; 63];
        x[30] = f32::NAN;
        let (gamma, beta) = (vec![2.0f32; 21], vec![0.75f32; 21]);
        let mut y = vec![0.0f32; 63];
        forward(isa, d, EPS, &x, None, &gamma, &beta, &mut y, &mut []);
        assert!(y[21..42].iter().all(|v| v.is_nan()), "{isa}");
        assert!(y[..21].iter().chain(&y[42..]).all(|&v| v == 0.75), "{isa}");
    });
}

#[test]
#[should_panic(expected = "layer_norm: gamma has 3 elements, expected 4")]
fn a_short_gamma_is_refused() {
    let d = Dims { samples: 1, rows: 1, cols: 4 };
    forward(Isa::PORTABLE, d, EPS, &[0.0f32; 4], None, &[1.0; 3], &[0.0; 4], &mut [0.0; 4], &mut []);
}

#[test]
#[should_panic(expected = "layer_norm backward: scratch has 7 elements, needs at least 8")]
fn short_scratch_is_refused() {
    let d = Dims { samples: 1, rows: 1, cols: 4 };
    let x = [0.0f32; 4];
    backward(Isa::PORTABLE, d, &x, None, &x, &[0.0; 2], &x, None, None, None, None, &mut [0.0; 7]);
}

#[test]
#[should_panic(expected = "dresidual needs a residual")]
fn a_gradient_of_no_residual_is_refused() {
    let d = Dims { samples: 1, rows: 1, cols: 4 };
    let x = [0.0f32; 4];
    let mut g = [0.0f32; 4];
    let grad = Some(GradMut::overwrite(&mut g));
    backward(Isa::PORTABLE, d, &x, None, &x, &[0.0; 2], &x, None, grad, None, None, &mut [0.0; 16]);
}
