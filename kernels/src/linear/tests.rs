use super::*;
use crate::activation::Activation;
use crate::testing::{Guarded, Rng, assert_close, each_isa};

struct Case {
    d: Dims,
    act: Option<Activation>,
    bias: bool,
    beta: Beta,
}

fn cast<T: Real>(x: &[f64]) -> Vec<T> {
    x.iter().map(|&v| T::of(v)).collect()
}

/// Forward and backward of one case in `T` against the reference in f64.
fn check_case<T: Real>(isa: Isa, rng: &mut Rng, case: &Case) {
    let &Case { d, act, bias, beta } = case;
    let name = format!("{isa} {} {d:?} {act:?} {beta:?}", T::NAME);
    let (x, w, b) = (rng.vec(d.rows * d.inputs), rng.vec(d.outputs * d.inputs), rng.vec(d.outputs));
    let dy = rng.vec(d.rows * d.outputs);
    let (dx0, dw0, db0) = (rng.vec(x.len()), rng.vec(w.len()), rng.vec(b.len()));
    let mut want_y = vec![0.0; dy.len()];
    let mut z = want_y.clone();
    forward_reference(d, act, &x, &w, bias.then_some(&b[..]), &mut want_y, &mut z);
    let (mut want_dx, mut want_dw, mut want_db) = (dx0.clone(), dw0.clone(), db0.clone());
    let dx = GradMut { data: &mut want_dx, beta };
    backward_reference(d, act, &x, &w, &z, &dy, Some(dx), Some(&mut want_dw), Some(&mut want_db));

    let (xt, wt, bt) = (Guarded::of(&cast::<T>(&x), 1), Guarded::of(&cast::<T>(&w), 2), cast::<T>(&b));
    let tolerance = |terms: usize| T::EPSILON.f64() * 4.0 * (terms as f64 + 8.0);
    // The slope is taken at a z that carries the forward sum's error.
    let through = |terms: usize| tolerance(terms + if act.is_some() { d.inputs } else { 0 });
    let mut scratch = Guarded::<T>::new(scratch_len::<T>(d, act), 3);
    let mut y = Guarded::<T>::new(dy.len(), 1);
    let mut saved = Guarded::<T>::new(saved_len(d, act), 2);
    let b = bias.then_some(&bt[..]);
    forward(isa, d, act, xt.get(), wt.get(), &[], b, y.get_mut(), saved.get_mut(), scratch.get_mut());
    scratch.check(&name);
    saved.check(&name);
    assert_close(&name, y.check(&name), &want_y, tolerance(d.inputs), 0.0);
    // Inference keeps nothing and gives the same bits.
    let mut bare = vec![T::NAN; dy.len()];
    forward(isa, d, act, xt.get(), wt.get(), &[], b, &mut bare, &mut [], scratch.get_mut());
    assert_eq!(bare, y.get(), "{name}: inference");
    // Weights prepared before give the same bits, whether or not the backward pass's are with them.
    let mut prepared = Guarded::<T>::new(0, 0);
    for back in [false, true] {
        prepared = Guarded::<T>::new(prepared_len::<T>(d, back), 1);
        prepare(isa, d, wt.get(), back, prepared.get_mut());
        prepared.check(&name);
        bare.fill(T::NAN);
        scratch.get_mut().fill(T::NAN);
        forward(isa, d, act, xt.get(), wt.get(), prepared.get(), b, &mut bare, &mut [], scratch.get_mut());
        assert_eq!(bare, y.get(), "{name}: prepared");
    }

    let before = |x: &[f64], beta| if beta == Beta::Zero { vec![T::NAN; x.len()] } else { cast(x) };
    let mut first: Option<[Vec<T>; 3]> = None;
    for prepared in [&[], prepared.get(), prepared.get()] {
        let mut dx = Guarded::of(&before(&dx0, beta), 1);
        let (mut dw, mut db) = (Guarded::of(&cast::<T>(&dw0), 2), Guarded::of(&cast::<T>(&db0), 3));
        scratch.get_mut().fill(T::NAN);
        backward(
            isa,
            d,
            act,
            xt.get(),
            wt.get(),
            prepared,
            y.get(),
            saved.get(),
            &cast::<T>(&dy),
            Some(GradMut { data: dx.get_mut(), beta }),
            Some(dw.get_mut()),
            Some(db.get_mut()),
            scratch.get_mut(),
        );
        scratch.check(&name);
        assert_close(&format!("{name} dx"), dx.check(&name), &want_dx, through(d.outputs), 0.0);
        assert_close(&format!("{name} dw"), dw.check(&name), &want_dw, through(d.rows), 0.0);
        assert_close(&format!("{name} db"), db.check(&name), &want_db, through(d.rows), 0.0);
        let all = [dx.get().to_vec(), dw.get().to_vec(), db.get().to_vec()];
        if let Some(first) = &first {
            assert_eq!(first, &all, "{name}: repeat");
        }
        first = Some(all);
    }
}

#[test]
fn every_size_activation_and_precision_equals_the_reference() {
    let mut rng = Rng(11);
    let sizes = [1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 40];
    let acts: Vec<_> = std::iter::once(None).chain(Activation::ALL.into_iter().map(Some)).collect();
    for i in 0..240usize {
        let mut pick = || sizes[rng.next() as usize % sizes.len()];
        let d = Dims { rows: pick(), inputs: pick(), outputs: pick(), precision: MatmulPrecision::F32 };
        let beta = if i % 2 == 0 { Beta::Zero } else { Beta::One };
        let case = Case { d, act: acts[i % acts.len()], bias: i % 5 != 0, beta };
        each_isa(|isa| {
            // The same numbers for every set, so that a machine with other sets meets no other ones.
            check_case::<f32>(isa, &mut Rng(1100 + i as u64), &case);
            check_case::<f64>(isa, &mut Rng(1100 + i as u64), &case);
        });
    }
}

#[test]
fn rows_beyond_a_tile_and_no_rows_at_all() {
    for (rows, act) in
        [(TILE + 1, Some(Activation::Relu)), (2 * TILE + 3, Some(Activation::Gelu)), (300, None), (0, None)]
    {
        let case = Case {
            d: Dims { rows, inputs: 9, outputs: 19, precision: MatmulPrecision::F32 },
            act,
            bias: true,
            beta: Beta::One,
        };
        each_isa(|isa| check_case::<f32>(isa, &mut Rng(12), &case));
        let case = Case {
            d: Dims { rows: rows.min(1), inputs: 700, outputs: 300, precision: MatmulPrecision::F32 },
            ..case
        };
        each_isa(|isa| check_case::<f32>(isa, &mut Rng(12), &case));
    }
}

#[test]
fn gradients_match_central_differences() {
    let mut rng = Rng(13);
    let isa = Isa::best();
    for act in std::iter::once(None).chain(Activation::ALL.into_iter().map(Some)) {
        for (rows, inputs, outputs) in [(1, 1, 1), (3, 4, 2), (2, 5, 7)] {
            let d = Dims { rows, inputs, outputs, precision: MatmulPrecision::F32 };
            let mut p = [rng.vec(rows * inputs), rng.vec(outputs * inputs), rng.vec(outputs)];
            let dy = rng.vec(rows * outputs);
            let mut scratch = vec![f64::NAN; scratch_len::<f64>(d, act)];
            let mut saved = vec![f64::NAN; saved_len(d, act)];
            let mut y = vec![f64::NAN; dy.len()];
            forward(isa, d, act, &p[0], &p[1], &[], Some(&p[2]), &mut y, &mut saved, &mut scratch);
            let mut g = [vec![f64::NAN; p[0].len()], vec![0.0; p[1].len()], vec![0.0; p[2].len()]];
            let [dx, dw, db] = &mut g;
            let dx = Some(GradMut::overwrite(dx));
            backward(isa, d, act, &p[0], &p[1], &[], &y, &saved, &dy, dx, Some(dw), Some(db), &mut scratch);
            for which in 0..3 {
                for i in 0..p[which].len() {
                    let mut loss = |step: f64| {
                        let old = p[which][i];
                        p[which][i] = old + step;
                        forward(isa, d, act, &p[0], &p[1], &[], Some(&p[2]), &mut y, &mut [], &mut scratch);
                        p[which][i] = old;
                        y.iter().zip(&dy).map(|(a, b)| a * b).sum::<f64>()
                    };
                    let numeric = (loss(1e-5) - loss(-1e-5)) / 2e-5;
                    let got = g[which][i];
                    assert!(
                        (got - numeric).abs() <= 1e-6 * (1.0 + numeric.abs()),
                        "{act:?} {d:?} input {which} element {i}: {got} for {numeric}"
                    );
                }
            }
        }
    }
}

#[test]
fn unwanted_gradients_do_not_change_the_others() {
    let mut rng = Rng(14);
    let d = Dims { rows: 20, inputs: 10, outputs: 18, precision: MatmulPrecision::F32 };
    let act = Some(Activation::Relu);
    let (x, w, dy) = (rng.vec(200), rng.vec(180), rng.vec(360));
    each_isa(|isa| {
        let (mut y, mut s) = (vec![0.0; 360], vec![f64::NAN; scratch_len::<f64>(d, act)]);
        forward(isa, d, act, &x, &w, &[], None, &mut y, &mut [], &mut s);
        let mut all = [vec![0.0; 200], vec![0.0; 180], vec![0.0; 18]];
        let [a, b, c] = &mut all;
        let da = Some(GradMut::overwrite(a));
        backward(isa, d, act, &x, &w, &[], &y, &[], &dy, da, Some(b), Some(c), &mut s);
        let mut one = [vec![0.0; 200], vec![0.0; 180], vec![0.0; 18]];
        let [a, b, c] = &mut one;
        let da = Some(GradMut::overwrite(a));
        backward(isa, d, act, &x, &w, &[], &y, &[], &dy, da, None, None, &mut s);
        backward(isa, d, act, &x, &w, &[], &y, &[], &dy, None, Some(b), None, &mut s);
        backward(isa, d, act, &x, &w, &[], &y, &[], &dy, None, None, Some(c), &mut s);
        assert_eq!(all, one);
    });
}

#[test]
fn rows_cut_at_the_grain_give_the_same_bits() {
    for act in [None, Some(Activation::Relu), Some(Activation::Gelu)] {
        each_isa(|isa| {
            let (grain, mut rng) = (gemm::row_grain::<f32>(isa), Rng(15));
            let d = Dims { rows: 5 * grain + 3, inputs: 70, outputs: 45, precision: MatmulPrecision::F32 };
            let (x, w) = (cast::<f32>(&rng.vec(d.rows * 70)), cast::<f32>(&rng.vec(45 * 70)));
            let mut scratch = vec![f32::NAN; scratch_len::<f32>(d, act)];
            let (mut whole, mut parts) = (vec![f32::NAN; d.rows * 45], vec![f32::NAN; d.rows * 45]);
            forward(isa, d, act, &x, &w, &[], None, &mut whole, &mut [], &mut scratch);
            for rows in [0..grain, grain..3 * grain, 3 * grain..d.rows] {
                let (x, y) = (&x[rows.start * 70..rows.end * 70], &mut parts[rows.start * 45..rows.end * 45]);
                let d = Dims { rows: rows.len(), ..d };
                forward(isa, d, act, x, &w, &[], None, y, &mut [], &mut scratch);
            }
            assert_eq!(whole, parts, "{isa} {act:?}");
        });
    }
}

#[test]
#[should_panic(expected = "linear: prepared has 5 elements, needs at least")]
fn prepared_weights_of_another_size_are_refused() {
    let d = Dims { rows: 1, inputs: 2, outputs: 3, precision: MatmulPrecision::F32 };
    let mut s = vec![0.0; scratch_len::<f32>(d, None)];
    forward(Isa::PORTABLE, d, None, &[0.0; 2], &[0.0; 6], &[0.0; 5], None, &mut [0.0; 3], &mut [], &mut s);
}

#[test]
#[should_panic(expected = "linear: w has 5 elements, expected 6")]
fn weights_of_another_size_are_refused() {
    let d = Dims { rows: 1, inputs: 2, outputs: 3, precision: MatmulPrecision::F32 };
    forward(Isa::PORTABLE, d, None, &[0.0f32; 2], &[0.0; 5], &[], None, &mut [0.0; 3], &mut [], &mut []);
}

#[test]
#[should_panic(expected = "linear backward: saved has 0 elements, needs at least 3")]
fn a_missing_pre_activation_is_refused() {
    let d = Dims { rows: 1, inputs: 2, outputs: 3, precision: MatmulPrecision::F32 };
    let act = Some(Activation::Gelu);
    backward(
        Isa::PORTABLE,
        d,
        act,
        &[0.0f32; 2],
        &[0.0; 6],
        &[],
        &[0.0; 3],
        &[],
        &[0.0; 3],
        None,
        None,
        None,
        &mut [],
    );
}

#[test]
fn bf16_rounds_the_operands_of_every_product_and_nothing_else() {
    let mut rng = Rng(15);
    let d = Dims { rows: 40, inputs: 19, outputs: 23, precision: MatmulPrecision::Bf16 };
    let f32s = |rng: &mut Rng, n: usize| cast::<f32>(&rng.vec(n));
    let (x, w, b) = (f32s(&mut rng, 40 * 19), f32s(&mut rng, 23 * 19), f32s(&mut rng, 23));
    let dy = f32s(&mut rng, 40 * 23);
    let wide = |x: &[f32]| x.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
    let rounded = |x: &[f32]| x.iter().map(|&v| f64::from(gemm::round_to_bf16(v))).collect::<Vec<_>>();
    let (mut want_y, mut none) = (vec![0.0; dy.len()], vec![]);
    forward_reference(d, None, &rounded(&x), &rounded(&w), Some(&wide(&b)), &mut want_y, &mut none);
    let mut want = [vec![0.0; x.len()], vec![0.0; w.len()], vec![0.0; b.len()]];
    let [dx, dw, db] = &mut want;
    let (xr, wr, dx) = (rounded(&x), rounded(&w), Some(GradMut::overwrite(&mut dx[..])));
    backward_reference(d, None, &xr, &wr, &[], &rounded(&dy), dx, Some(dw), None);
    backward_reference(d, None, &xr, &wr, &[], &wide(&dy), None, None, Some(db));
    let tolerance = f64::from(f32::EPSILON) * 50.0;
    each_isa(|isa| {
        for isa in [false, true].into_iter().filter_map(|dot| isa.with_bf16_dot(dot)) {
            let mut prepared = vec![f32::NAN; prepared_len::<f32>(d, true)];
            prepare(isa, d, &w, true, &mut prepared);
            for prepared in [&[], &prepared[..]] {
                let mut scratch = vec![f32::NAN; scratch_len::<f32>(d, None)];
                let mut y = vec![f32::NAN; dy.len()];
                forward(isa, d, None, &x, &w, prepared, Some(&b), &mut y, &mut [], &mut scratch);
                assert_close(&format!("{isa} y"), &y, &want_y, tolerance, 0.0);
                let mut got = [vec![f32::NAN; x.len()], vec![0.0; w.len()], vec![0.0; b.len()]];
                let [dx, dw, db] = &mut got;
                let dx = Some(GradMut::overwrite(&mut dx[..]));
                backward(isa, d, None, &x, &w, prepared, &y, &[], &dy, dx, Some(dw), Some(db), &mut scratch);
                for ((got, want), what) in got.iter().zip(&want).zip(["dx", "dw", "db"]) {
                    assert_close(&format!("{isa} {what}"), got, want, tolerance, 0.0);
                }
            }
        }
    });
}

#[test]
fn int8_rounds_both_operands_of_many_rows_and_leaves_few_rows_alone() {
    let mut rng = Rng(16);
    for (rows, act) in [(40, None), (40, Some(Activation::Gelu)), (1, None)] {
        let d = Dims { rows, inputs: 19, outputs: 23, precision: MatmulPrecision::Int8 };
        let mut f32s = |n: usize| cast::<f32>(&rng.vec(n));
        let (x, w, b) = (f32s(rows * 19), f32s(23 * 19), f32s(23));
        let few = rows == 1;
        let wide = |x: &[f32]| {
            let lines = x.chunks(19).flat_map(|line| {
                let largest = line.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                let step = f64::from(largest / 127.0);
                let round = move |x: &f32| f64::from((x * (127.0 / largest)).round_ties_even()) * step;
                line.iter().map(move |x| if few { f64::from(*x) } else { round(x) })
            });
            lines.collect::<Vec<f64>>()
        };
        let b64: Vec<f64> = b.iter().map(|&b| b.into()).collect();
        let mut want = vec![0.0; rows * 23];
        let mut z = vec![0.0; saved_len(d, act)];
        forward_reference(d, act, &wide(&x), &wide(&w), Some(&b64), &mut want, &mut z);
        each_isa(|isa| {
            for isa in [false, true].into_iter().filter_map(|dot| isa.with_int8_dot(dot)) {
                let mut prepared = vec![f32::NAN; prepared_len::<f32>(d, false)];
                prepare(isa, d, &w, false, &mut prepared);
                for prepared in [&[], &prepared[..]] {
                    let mut scratch = vec![f32::NAN; scratch_len::<f32>(d, act)];
                    let mut y = vec![f32::NAN; want.len()];
                    forward(isa, d, act, &x, &w, prepared, Some(&b), &mut y, &mut [], &mut scratch);
                    assert_close(&format!("{isa} {rows} rows {act:?}"), &y, &want, 5e-6, 0.0);
                }
            }
        });
    }
}

#[test]
#[should_panic(expected = "linear backward: a product in int8 has no derivative")]
fn int8_has_no_backward_pass() {
    let d = Dims { rows: 1, inputs: 2, outputs: 3, precision: MatmulPrecision::Int8 };
    let (x, w, y) = ([0.0f32; 2], [0.0; 6], [0.0; 3]);
    backward(Isa::PORTABLE, d, None, &x, &w, &[], &y, &[], &y, None, None, None, &mut []);
}
