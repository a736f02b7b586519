use super::*;
use crate::testing::{Guarded, Rng, assert_close, each_isa};

fn cast<T: Real>(x: &[f64]) -> Vec<T> {
    x.iter().map(|&v| T::of(v)).collect()
}

const KEY: Key = Key { seed: 9, step: 4, sample: 2, op: 7 };

/// Forward and backward of one case in `T` against the two layers one after the other in f64.
fn check_case<T: Real>(isa: Isa, rng: &mut Rng, d: Dims, act: Activation, dropout: Dropout, beta: Beta) {
    let name = format!("{isa} {} {d:?} {act:?} {dropout:?} {beta:?}", T::NAME);
    let (n, hidden) = (d.samples * d.rows, d.samples * d.rows * d.hidden);
    let (x, dy) = (rng.vec(n * d.width), rng.vec(n * d.width));
    let p = [rng.vec(d.hidden * d.width), rng.vec(d.hidden), rng.vec(d.hidden * d.width), rng.vec(d.width)];
    let dx0 = rng.vec(x.len());
    let g0 = p.each_ref().map(|p| rng.vec(p.len()));
    let (mut want_y, mut z, mut g) = (vec![0.0; x.len()], vec![0.0; hidden], vec![0.0; hidden]);
    forward_reference(d, act, dropout, KEY, &x, &p[0], &p[1], &p[2], &p[3], &mut want_y, &mut z, &mut g);
    let (mut want_dx, mut want) = (dx0.clone(), g0.clone());
    let [w1, b1, w2, b2] = &mut want;
    let dx = Some(GradMut { data: &mut want_dx, beta });
    let mut dg = vec![0.0; hidden];
    backward_reference(
        d,
        act,
        dropout,
        KEY,
        &x,
        &p[0],
        &p[2],
        &z,
        &g,
        &mut dg,
        &dy,
        dx,
        Some(w1),
        Some(b1),
        Some(w2),
        Some(b2),
    );

    let xt = Guarded::of(&cast::<T>(&x), 1);
    let pt = p.each_ref().map(|p| Guarded::of(&cast::<T>(p), 3));
    // Two sums one after the other, values up to the square root of their lengths.
    let terms = (d.width + 8) as f64 * (d.hidden + 8) as f64;
    let tolerance = T::EPSILON.f64() * (4.0 * terms + n as f64);
    let mut scratch = Guarded::<T>::new(scratch_len::<T>(d), 2);
    let (mut y, mut saved) = (Guarded::<T>::new(x.len(), 1), Guarded::<T>::new(saved_len(d), 2));
    let [w1, b1, w2, b2] = pt.each_ref().map(Guarded::get);
    forward(
        isa,
        d,
        act,
        dropout,
        KEY,
        xt.get(),
        w1,
        b1,
        w2,
        b2,
        &[],
        y.get_mut(),
        saved.get_mut(),
        scratch.get_mut(),
    );
    scratch.check(&name);
    saved.check(&name);
    assert_close(&name, y.check(&name), &want_y, tolerance, 0.0);
    let whole = y.get().to_vec();
    let mut bare = vec![T::NAN; x.len()];
    forward(isa, d, act, dropout, KEY, xt.get(), w1, b1, w2, b2, &[], &mut bare, &mut [], scratch.get_mut());
    assert_eq!(bare, y.get(), "{name}: inference");
    // Weights prepared before give the same bits, whether or not the backward pass's are with them.
    let mut prepared = Guarded::<T>::new(0, 0);
    for back in [false, true] {
        prepared = Guarded::<T>::new(prepared_len::<T>(d, back), 1);
        prepare(isa, d, w1, w2, back, prepared.get_mut());
        prepared.check(&name);
        bare.fill(T::NAN);
        scratch.get_mut().fill(T::NAN);
        let (p, y, scratch) = (prepared.get(), &mut bare, scratch.get_mut());
        forward(isa, d, act, dropout, KEY, xt.get(), w1, b1, w2, b2, p, y, &mut [], scratch);
        assert_eq!(bare, whole, "{name}: prepared");
    }

    let before = if beta == Beta::Zero { vec![T::NAN; x.len()] } else { cast(&dx0) };
    let mut first: Option<Vec<Vec<T>>> = None;
    for prepared in [&[], prepared.get()] {
        let mut dx = Guarded::of(&before, 1);
        let mut gt = g0.each_ref().map(|g| Guarded::of(&cast::<T>(g), 1));
        scratch.get_mut().fill(T::NAN);
        let [dw1, db1, dw2, db2] = &mut gt;
        backward(
            isa,
            d,
            act,
            dropout,
            KEY,
            xt.get(),
            w1,
            b1,
            w2,
            prepared,
            saved.get(),
            &cast::<T>(&dy),
            Some(GradMut { data: dx.get_mut(), beta }),
            Some(dw1.get_mut()),
            Some(db1.get_mut()),
            Some(dw2.get_mut()),
            Some(db2.get_mut()),
            scratch.get_mut(),
        );
        scratch.check(&name);
        assert_close(&format!("{name} dx"), dx.check(&name), &want_dx, tolerance, 0.0);
        for ((got, want), what) in gt.iter().zip(&want).zip(["dw1", "db1", "dw2", "db2"]) {
            let tolerance = T::EPSILON.f64() * 16.0 * (n as f64 + (d.width + d.hidden) as f64 + 8.0);
            let tolerance = tolerance * (d.width.max(d.hidden) as f64).sqrt();
            assert_close(&format!("{name} {what}"), got.check(&name), want, tolerance, 0.0);
        }
        let all: Vec<Vec<T>> = std::iter::once(&dx).chain(&gt).map(|g| g.get().to_vec()).collect();
        if let Some(first) = &first {
            assert_eq!(first, &all, "{name}: prepared");
        }
        first = Some(all);
    }
}

#[test]
fn every_size_activation_and_dropout_equals_the_composed_layers() {
    let mut rng = Rng(31);
    for i in 0..120usize {
        let mut upto = |n: usize| 1 + rng.next() as usize % n;
        let d = Dims {
            samples: upto(3),
            rows: upto(12),
            width: upto(20),
            hidden: upto(40),
            precision: MatmulPrecision::F32,
        };
        let act = Activation::ALL[i % 5];
        let dropout = if i % 2 == 0 { Dropout::NONE } else { Dropout::new(0.3) };
        let beta = if i % 3 == 0 { Beta::Zero } else { Beta::One };
        each_isa(|isa| {
            check_case::<f32>(isa, &mut Rng(3100 + i as u64), d, act, dropout, beta);
            check_case::<f64>(isa, &mut Rng(3100 + i as u64), d, act, dropout, beta);
        });
    }
}

#[test]
fn tiles_meet_within_and_across_samples() {
    for (samples, rows) in [(1, TILE + 1), (3, 100), (0, 5), (2, 0)] {
        let d = Dims { samples, rows, width: 6, hidden: 130, precision: MatmulPrecision::F32 };
        for act in [Activation::Relu, Activation::GeluTanh] {
            each_isa(|isa| check_case::<f32>(isa, &mut Rng(32), d, act, Dropout::new(0.1), Beta::Zero));
        }
    }
}

#[test]
fn gradients_match_central_differences() {
    let mut rng = Rng(33);
    let isa = Isa::best();
    for act in Activation::ALL {
        let d = Dims { samples: 2, rows: 2, width: 3, hidden: 5, precision: MatmulPrecision::F32 };
        let dropout = Dropout::new(0.4);
        let mut p = [rng.vec(12), rng.vec(15), rng.vec(5), rng.vec(15), rng.vec(3)];
        let dy = rng.vec(12);
        let mut scratch = vec![f64::NAN; scratch_len::<f64>(d)];
        let (mut saved, mut y) = (vec![f64::NAN; saved_len(d)], vec![f64::NAN; 12]);
        let [x, w1, b1, w2, b2] = &p;
        forward(isa, d, act, dropout, KEY, x, w1, b1, w2, b2, &[], &mut y, &mut saved, &mut scratch);
        let mut g = p.each_ref().map(|p| vec![0.0; p.len()]);
        let [dx, dw1, db1, dw2, db2] = &mut g;
        let dx = Some(GradMut::overwrite(dx));
        backward(
            isa,
            d,
            act,
            dropout,
            KEY,
            x,
            w1,
            b1,
            w2,
            &[],
            &saved,
            &dy,
            dx,
            Some(dw1),
            Some(db1),
            Some(dw2),
            Some(db2),
            &mut scratch,
        );
        for which in 0..5 {
            for i in 0..p[which].len() {
                let mut loss = |step: f64| {
                    let old = p[which][i];
                    p[which][i] = old + step;
                    let [x, w1, b1, w2, b2] = &p;
                    forward(isa, d, act, dropout, KEY, x, w1, b1, w2, b2, &[], &mut y, &mut [], &mut scratch);
                    p[which][i] = old;
                    y.iter().zip(&dy).map(|(a, b)| a * b).sum::<f64>()
                };
                let numeric = (loss(1e-5) - loss(-1e-5)) / 2e-5;
                let got = g[which][i];
                assert!(
                    (got - numeric).abs() <= 1e-6 * (1.0 + numeric.abs()),
                    "{act:?} input {which} element {i}: {got} for {numeric}"
                );
            }
        }
    }
}

#[test]
fn dropout_zeroes_the_right_hidden_elements() {
    // Identity layers: y is the dropped activation itself.
    let d = Dims { samples: 2, rows: 3, width: 4, hidden: 4, precision: MatmulPrecision::F32 };
    let identity: Vec<f32> = (0..16).map(|i| if i % 5 == 0 { 1.0 } else { 0.0 }).collect();
    let dropout = Dropout::new(0.5);
    each_isa(|isa| {
        let mut y = [f32::NAN; 24];
        let mut scratch = vec![f32::NAN; scratch_len::<f32>(d)];
        let (w, b) = (&identity[..], &[0.0; 4][..]);
        forward(
            isa,
            d,
            Activation::Relu,
            dropout,
            KEY,
            &[1.0; 24],
            w,
            b,
            w,
            b,
            &[],
            &mut y,
            &mut [],
            &mut scratch,
        );
        for i in 0..24 {
            let (sample, row, c) = (i / 12, i / 4 % 3, i % 4);
            let keep = KEY.sample(sample).stream().keeps(dropout, row as u32, c);
            assert_eq!(y[i], if keep { 2.0 } else { 0.0 }, "{isa} element {i}");
        }
    });
}

#[test]
#[should_panic(expected = "feed_forward: b1 has 3 elements, expected 4")]
fn a_bias_of_another_size_is_refused() {
    let d = Dims { samples: 1, rows: 1, width: 2, hidden: 4, precision: MatmulPrecision::F32 };
    let (act, none) = (Activation::Relu, Dropout::NONE);
    forward(
        Isa::PORTABLE,
        d,
        act,
        none,
        KEY,
        &[0.0f32; 2],
        &[0.0; 8],
        &[0.0; 3],
        &[0.0; 8],
        &[0.0; 2],
        &[],
        &mut [0.0; 2],
        &mut [],
        &mut [],
    );
}

#[test]
fn bf16_gives_the_bits_of_the_layers_one_after_the_other() {
    let mut rng = Rng(34);
    let d = Dims { samples: 2, rows: 20, width: 17, hidden: 39, precision: MatmulPrecision::Bf16 };
    let (n, act, dropout) = (40, Activation::Relu, Dropout::new(0.2));
    let mut f32s = |n: usize| cast::<f32>(&rng.vec(n));
    let (x, dy) = (f32s(n * d.width), f32s(n * d.width));
    let p = [f32s(d.width * d.hidden), f32s(d.hidden), f32s(d.width * d.hidden), f32s(d.width)];
    let [w1, b1, w2, b2] = p.each_ref().map(|p| &p[..]);
    let first = linear::Dims { rows: n, inputs: d.width, outputs: d.hidden, precision: d.precision };
    let second = linear::Dims { rows: n, inputs: d.hidden, outputs: d.width, precision: d.precision };
    let drop = crate::dropout::Dims { samples: d.samples, rows: d.rows, cols: d.hidden };
    each_isa(|isa| {
        for isa in [false, true].into_iter().filter_map(|dot| isa.with_bf16_dot(dot)) {
            let mut scratch = vec![f32::NAN; scratch_len::<f32>(d)];
            let (mut y, mut saved) = (vec![f32::NAN; x.len()], vec![f32::NAN; saved_len(d)]);
            forward(isa, d, act, dropout, KEY, &x, w1, b1, w2, b2, &[], &mut y, &mut saved, &mut scratch);
            let grads = || [x.len(), w1.len(), b1.len(), w2.len(), b2.len()].map(|n| vec![0.0f32; n]);
            let mut got = grads();
            let [dx, dw1, db1, dw2, db2] = &mut got;
            let dx = Some(GradMut::overwrite(&mut dx[..]));
            let (g1, g2) =
                ((Some(&mut dw1[..]), Some(&mut db1[..])), (Some(&mut dw2[..]), Some(&mut db2[..])));
            backward(
                isa,
                d,
                act,
                dropout,
                KEY,
                &x,
                w1,
                b1,
                w2,
                &[],
                &saved,
                &dy,
                dx,
                g1.0,
                g1.1,
                g2.0,
                g2.1,
                &mut scratch,
            );

            let (mut h, mut g, mut dg) = (saved.clone(), saved.clone(), saved.clone());
            let mut dh = saved.clone();
            let mut s1 = vec![f32::NAN; linear::scratch_len::<f32>(first, Some(act))];
            let mut s2 = vec![f32::NAN; linear::scratch_len::<f32>(second, None)];
            linear::forward(isa, first, Some(act), &x, w1, &[], Some(b1), &mut h, &mut [], &mut s1);
            crate::dropout::forward(isa, drop, dropout, KEY, &h, &mut g);
            let mut want_y = vec![f32::NAN; x.len()];
            linear::forward(isa, second, None, &g, w2, &[], Some(b2), &mut want_y, &mut [], &mut s2);
            assert_eq!(y, want_y, "{isa}");
            let mut want = grads();
            let [dx, dw1, db1, dw2, db2] = &mut want;
            let into = Some(GradMut::overwrite(&mut dg[..]));
            linear::backward(
                isa,
                second,
                None,
                &g,
                w2,
                &[],
                &y,
                &[],
                &dy,
                into,
                Some(dw2),
                Some(db2),
                &mut s2,
            );
            crate::dropout::backward(isa, drop, dropout, KEY, &dg, GradMut::overwrite(&mut dh));
            let into = Some(GradMut::overwrite(&mut dx[..]));
            let (act, y1) = (Some(act), &h);
            linear::backward(isa, first, act, &x, w1, &[], y1, &[], &dh, into, Some(dw1), Some(db1), &mut s1);
            assert_eq!(got, want, "{isa}");
        }
    });
}

#[test]
fn int8_gives_the_bits_of_the_layers_one_after_the_other() {
    let mut rng = Rng(35);
    let d = Dims { samples: 2, rows: 250, width: 17, hidden: 39, precision: MatmulPrecision::Int8 };
    let (n, act) = (500, Activation::Relu);
    let mut f32s = |n: usize| cast::<f32>(&rng.vec(n));
    let x = f32s(n * d.width);
    let p = [f32s(d.width * d.hidden), f32s(d.hidden), f32s(d.width * d.hidden), f32s(d.width)];
    let [w1, b1, w2, b2] = p.each_ref().map(|p| &p[..]);
    let first = linear::Dims { rows: n, inputs: d.width, outputs: d.hidden, precision: d.precision };
    let second = linear::Dims { rows: n, inputs: d.hidden, outputs: d.width, precision: d.precision };
    each_isa(|isa| {
        for isa in [false, true].into_iter().filter_map(|dot| isa.with_int8_dot(dot)) {
            let mut prepared = vec![f32::NAN; prepared_len::<f32>(d, false)];
            prepare(isa, d, w1, w2, false, &mut prepared);
            let mut want = vec![f32::NAN; x.len()];
            let mut h = vec![f32::NAN; n * d.hidden];
            let mut s1 = vec![f32::NAN; linear::scratch_len::<f32>(first, Some(act))];
            let mut s2 = vec![f32::NAN; linear::scratch_len::<f32>(second, None)];
            linear::forward(isa, first, Some(act), &x, w1, &[], Some(b1), &mut h, &mut [], &mut s1);
            linear::forward(isa, second, None, &h, w2, &[], Some(b2), &mut want, &mut [], &mut s2);
            for prepared in [&[], &prepared[..]] {
                let mut scratch = vec![f32::NAN; scratch_len::<f32>(d)];
                let (mut y, none) = (vec![f32::NAN; x.len()], Dropout::NONE);
                forward(isa, d, act, none, KEY, &x, w1, b1, w2, b2, prepared, &mut y, &mut [], &mut scratch);
                assert_eq!(y, want, "{isa}");
            }
        }
    });
}

#[test]
#[should_panic(expected = "feed_forward backward: a product in int8 has no derivative")]
fn int8_has_no_backward_pass() {
    let d = Dims { samples: 1, rows: 1, width: 2, hidden: 4, precision: MatmulPrecision::Int8 };
    let (x, w, b1, saved) = ([0.0f32; 2], [0.0; 8], [0.0; 4], vec![0.0; saved_len(d)]);
    let none = Dropout::NONE;
    backward(
        Isa::PORTABLE,
        d,
        Activation::Relu,
        none,
        KEY,
        &x,
        &w,
        &b1,
        &w,
        &[],
        &saved,
        &x,
        None,
        None,
        None,
        None,
        None,
        &mut [],
    );
}

#[test]
fn a_row_by_columns_has_the_bits_of_the_whole() {
    fn check<T: Real>(isa: Isa, precision: MatmulPrecision, act: Activation) {
        let d = Dims { samples: 1, rows: 1, width: 70, hidden: 130, precision };
        let name = format!("{isa} {} {d:?} {act:?}", T::NAME);
        let mut rng = Rng(44);
        let [x, w1, b1, w2, b2] = [d.width, d.hidden * d.width, d.hidden, d.hidden * d.width, d.width]
            .map(|n| cast::<T>(&rng.vec(n)));
        let mut prepared = vec![T::NAN; prepared_len::<T>(d, false)];
        prepare(isa, d, &w1, &w2, false, &mut prepared);
        let mut scratch = Guarded::<T>::new(scratch_len::<T>(d), 2);
        let (mut whole, none) = (vec![T::NAN; d.width], Dropout::NONE);
        let s = scratch.get_mut();
        forward(isa, d, act, none, KEY, &x, &w1, &b1, &w2, &b2, &prepared, &mut whole, &mut [], s);
        for step in [32, 64, 130] {
            let (mut g, mut y) = (Guarded::<T>::new(d.hidden, 1), Guarded::<T>::new(d.width, 3));
            for first in (0..d.hidden).step_by(step) {
                let columns = first..d.hidden.min(first + step);
                scratch.get_mut().fill(T::NAN);
                let (g, s) = (&mut g.get_mut()[columns.clone()], scratch.get_mut());
                hidden_of_row(isa, d, act, &x, &b1, &prepared, columns, g, s);
            }
            for first in (0..d.width).step_by(step) {
                let columns = first..d.width.min(first + step);
                scratch.get_mut().fill(T::NAN);
                let (y, s) = (&mut y.get_mut()[columns.clone()], scratch.get_mut());
                row_of_hidden(isa, d, g.check(&name), &b2, &prepared, columns, y, s);
            }
            scratch.check(&name);
            assert_eq!(y.check(&name), whole, "{name}: {step} columns");
        }
    }
    each_isa(|isa| {
        for act in [Activation::Relu, Activation::Gelu] {
            check::<f32>(isa, MatmulPrecision::F32, act);
            check::<f32>(isa, MatmulPrecision::Bf16, act);
            check::<f32>(isa, MatmulPrecision::Int8, act);
            check::<f64>(isa, MatmulPrecision::F32, act);
        }
    });
}
