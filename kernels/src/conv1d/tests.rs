use super::*;
use crate::activation::Activation;
use crate::testing::{Guarded, Rng, assert_close, each_isa};

mod spectral;

fn cast<T: Real>(x: &[f64]) -> Vec<T> {
    x.iter().map(|&v| T::of(v)).collect()
}

/// Forward and backward of one case in `T` against the reference in f64.
fn check_case<T: Real>(isa: Isa, rng: &mut Rng, d: Dims, act: Option<Activation>, beta: Beta) {
    let name = format!("{isa} {} {d:?} {act:?} {beta:?}", T::NAME);
    let out = d.out_length().unwrap();
    let x = rng.vec(d.batch * d.length * d.in_channels);
    let w = rng.vec(d.out_channels * d.in_channels * d.kernel);
    let (b, dy) = (rng.vec(d.out_channels), rng.vec(d.batch * out * d.out_channels));
    let (dx0, dw0, db0) = (rng.vec(x.len()), rng.vec(w.len()), rng.vec(b.len()));
    let mut want_y = vec![0.0; dy.len()];
    let mut z = want_y.clone();
    forward_reference(d, act, &x, &w, Some(&b), &mut want_y, &mut z);
    let (mut want_dx, mut want_dw, mut want_db) = (dx0.clone(), dw0.clone(), db0.clone());
    let dx = GradMut { data: &mut want_dx, beta };
    backward_reference(d, act, &x, &w, &z, &dy, Some(dx), Some(&mut want_dw), Some(&mut want_db));

    let (xt, wt) = (Guarded::of(&cast::<T>(&x), 1), Guarded::of(&cast::<T>(&w), 2));
    let tolerance = |terms: usize| T::EPSILON.f64() * 4.0 * (terms as f64 + 8.0);
    // The slope is taken at a z that carries the forward sum's error.
    let forward_terms = if act.is_some() { d.in_channels * d.kernel } else { 0 };
    let through = |terms: usize| tolerance(terms + forward_terms);
    let mut scratch = Guarded::<T>::new(scratch_len::<T>(d, act), 3);
    let mut y = Guarded::<T>::new(dy.len(), 1);
    let mut saved = Guarded::<T>::new(saved_len(d, act), 2);
    let b = cast::<T>(&b);
    forward(isa, d, act, xt.get(), wt.get(), &[], Some(&b), y.get_mut(), saved.get_mut(), scratch.get_mut());
    scratch.check(&name);
    saved.check(&name);
    assert_close(&name, y.check(&name), &want_y, tolerance(d.in_channels * d.kernel), 0.0);
    let first_y = y.get().to_vec();
    let mut bare = vec![T::NAN; dy.len()];
    forward(isa, d, act, xt.get(), wt.get(), &[], Some(&b), &mut bare, &mut [], scratch.get_mut());
    assert_eq!(bare, y.get(), "{name}: inference");
    // Weights prepared before give the same bits, whether or not the backward pass's are with them.
    let mut prepared = Guarded::<T>::new(0, 0);
    for back in [false, true] {
        prepared = Guarded::<T>::new(prepared_len::<T>(d, back), 1);
        prepare(isa, d, wt.get(), back, prepared.get_mut());
        prepared.check(&name);
        bare.fill(T::NAN);
        scratch.get_mut().fill(T::NAN);
        let (y, scratch) = (&mut bare, scratch.get_mut());
        forward(isa, d, act, xt.get(), wt.get(), prepared.get(), Some(&b), y, &mut [], scratch);
        assert_eq!(bare, first_y, "{name}: prepared");
    }

    let mut first: Option<[Vec<T>; 3]> = None;
    for prepared in [&[], prepared.get(), prepared.get()] {
        let before = if beta == Beta::Zero { vec![T::NAN; x.len()] } else { cast(&dx0) };
        let mut dx = Guarded::of(&before, 1);
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
        let terms = d.out_channels * d.kernel;
        assert_close(&format!("{name} dx"), dx.check(&name), &want_dx, through(terms), 0.0);
        assert_close(&format!("{name} dw"), dw.check(&name), &want_dw, through(d.batch * out), 0.0);
        assert_close(&format!("{name} db"), db.check(&name), &want_db, through(d.batch * out), 0.0);
        let all = [dx.get().to_vec(), dw.get().to_vec(), db.get().to_vec()];
        if let Some(first) = &first {
            assert_eq!(first, &all, "{name}: repeat");
        }
        first = Some(all);
    }
}

#[test]
fn random_geometries_equal_the_reference() {
    let mut rng = Rng(21);
    let acts = [None, Some(Activation::Relu), Some(Activation::Gelu)];
    let mut done = 0;
    while done < 250 {
        let mut upto = |n: usize| rng.next() as usize % n;
        let d = Dims {
            batch: 1 + upto(3),
            length: 1 + upto(40),
            in_channels: [1, 2, 3, 7, 16, 17][upto(6)],
            out_channels: [1, 3, 8, 17, 33][upto(5)],
            kernel: 1 + upto(9),
            stride: 1 + upto(5),
            padding: upto(12),
            dilation: 1 + upto(5),
        };
        if d.out_length().is_none() {
            continue;
        }
        let beta = if done % 2 == 0 { Beta::Zero } else { Beta::One };
        // The same numbers for every set, so that a machine with other sets meets no other ones.
        let seed = 2100 + done as u64;
        each_isa(|isa| check_case::<f32>(isa, &mut Rng(seed), d, acts[done % 3], beta));
        check_case::<f64>(Isa::best(), &mut Rng(seed), d, acts[done % 3], beta);
        done += 1;
    }
}

#[test]
fn the_paper_s_kernels_on_a_short_signal() {
    for (in_channels, out_channels, kernel) in [(1, 64, 65), (64, 128, 33), (128, 256, 17)] {
        let (padding, stride, dilation) = (kernel / 2, 1, 1);
        let d = Dims { batch: 1, length: 30, in_channels, out_channels, kernel, stride, padding, dilation };
        assert_eq!(d.out_length(), Some(30));
        each_isa(|isa| check_case::<f32>(isa, &mut Rng(22), d, Some(Activation::Relu), Beta::Zero));
    }
}

#[test]
fn out_length_agrees_with_counting() {
    let d = |length, kernel, stride, padding, dilation| Dims {
        batch: 1,
        length,
        in_channels: 1,
        out_channels: 1,
        kernel,
        stride,
        padding,
        dilation,
    };
    for length in 0..12 {
        for kernel in 0..5 {
            for stride in 0..4 {
                for padding in 0..4 {
                    for dilation in 0..4 {
                        let d = d(length, kernel, stride, padding, dilation);
                        let valid = kernel > 0 && stride > 0 && dilation > 0;
                        let fits = |t: usize| t * stride + (kernel - 1) * dilation < length + 2 * padding;
                        let count = if valid { (0..100).take_while(|&t| fits(t)).count() } else { 0 };
                        assert_eq!(d.out_length(), (count > 0).then_some(count), "{d:?}");
                    }
                }
            }
        }
    }
    assert_eq!(d(usize::MAX, 3, 1, 1, 1).out_length(), None);
    assert_eq!(d(8, usize::MAX, 1, 1, 2).out_length(), None);
}

#[test]
fn a_unit_tap_shifts_and_a_shifted_input_shifts_the_output() {
    let d = Dims {
        batch: 1,
        length: 50,
        in_channels: 1,
        out_channels: 1,
        kernel: 5,
        stride: 1,
        padding: 2,
        dilation: 1,
    };
    let x = Rng(23).vec(50);
    each_isa(|isa| {
        let mut scratch = vec![f64::NAN; scratch_len::<f64>(d, None)];
        for k in 0..5usize {
            let mut w = [0.0; 5];
            w[k] = 1.0;
            let mut y = vec![f64::NAN; 50];
            forward(isa, d, None, &x, &w, &[], None, &mut y, &mut [], &mut scratch);
            for t in 0..50usize {
                let want = (t + k).checked_sub(2).and_then(|s| x.get(s)).copied().unwrap_or(0.0);
                assert_eq!(y[t], want, "{isa} tap {k} position {t}");
            }
        }
    });
}

#[test]
fn gradients_match_central_differences() {
    let mut rng = Rng(24);
    let isa = Isa::best();
    for (act, stride, padding, dilation) in [
        (None, 1, 1, 1),
        (None, 3, 4, 2),
        (Some(Activation::Relu), 2, 0, 1),
        (Some(Activation::Tanh), 2, 2, 4),
    ] {
        let d = Dims {
            batch: 2,
            length: 11,
            in_channels: 2,
            out_channels: 3,
            kernel: 3,
            stride,
            padding,
            dilation,
        };
        let mut p = [rng.vec(44), rng.vec(18), rng.vec(3)];
        let dy = rng.vec(2 * d.out_length().unwrap() * 3);
        let mut scratch = vec![f64::NAN; scratch_len::<f64>(d, act)];
        let mut saved = vec![f64::NAN; saved_len(d, act)];
        let mut y = vec![f64::NAN; dy.len()];
        forward(isa, d, act, &p[0], &p[1], &[], Some(&p[2]), &mut y, &mut saved, &mut scratch);
        let mut g = [vec![f64::NAN; 44], vec![0.0; 18], vec![0.0; 3]];
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

#[test]
#[should_panic(
    expected = "conv1d: the kernel must fit the padded input; kernel, stride, dilation > 0, got 9"
)]
fn a_kernel_longer_than_the_input_is_refused() {
    let d = Dims {
        batch: 1,
        length: 4,
        in_channels: 1,
        out_channels: 1,
        kernel: 9,
        stride: 1,
        padding: 2,
        dilation: 1,
    };
    forward(Isa::PORTABLE, d, None, &[0.0f32; 4], &[0.0; 9], &[], None, &mut [], &mut [], &mut []);
}
