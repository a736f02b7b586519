//! The frequency domain: transforms against the sum that defines them, every tail of every loop against the reference.

use super::super::fft::{self, Tables};
use super::super::overlap_save::{self, Direction, OutputGradient, Plan, Shared};
use super::*;
use crate::isa::{Simd, Task};
use std::f64::consts::TAU;

/// The discrete Fourier transform as it is defined: X[f] = sum over j of x[j] exp(-2 pi i f j / n).
fn dft(x: &[f64]) -> Vec<(f64, f64)> {
    let n = x.len();
    let term = |f: usize, j: usize| (TAU * ((f * j) % n) as f64 / n as f64).sin_cos();
    (0..n)
        .map(|f| {
            let terms = x.iter().enumerate().map(|(j, x)| (x, term(f, j)));
            terms.fold((0.0, 0.0), |(re, im), (x, (sin, cos))| (re + x * cos, im - x * sin))
        })
        .collect()
}

/// Transforms sequences, one a lane, and back: the half spectra and n times the sequences.
struct There<'a>(&'a Tables, &'a [Vec<f64>]);

impl Task for There<'_> {
    type Out = [Vec<Vec<f32>>; 2];
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Self::Out {
        let Self(tables, x) = self;
        let lanes = |v: &[S::V]| {
            let mut out = vec![0.0; S::LANES];
            let mut each = vec![vec![]; S::LANES];
            for &v in v {
                s.store(v, &mut out);
                each.iter_mut().zip(&out).for_each(|(each, &x)| each.push(x));
            }
            each
        };
        let input = |j: usize| s.load(&(0..S::LANES).map(|lane| x[lane][j] as f32).collect::<Vec<_>>());
        let mut v: Vec<S::V> = tables.order().iter().map(|&j| input(usize::from(j))).collect();
        fft::forward(s, tables, &mut v);
        let spectra = lanes(&v);
        fft::inverse(s, tables, &mut v);
        let mut back = v.clone();
        tables.order().iter().zip(v).for_each(|(&j, v)| back[usize::from(j)] = v);
        [spectra, lanes(&back)]
    }
}

#[test]
fn the_transform_equals_its_definition_and_comes_back() {
    let mut rng = Rng(31);
    for n in [8, 16, 32, 64, 128, 256] {
        let x: Vec<Vec<f64>> = (0..16).map(|_| rng.vec(n)).collect();
        let tables = Tables::new(n);
        each_isa(|isa| {
            let [spectra, back] = isa.run(There(&tables, &x));
            for ((x, half), back) in x.iter().zip(spectra).zip(back) {
                let full = dft(x);
                let want = (0..n).map(|f| if f <= n / 2 { full[f].0 } else { full[n - f].1 });
                let want: Vec<f64> = want.collect();
                let scale = (n as f64).sqrt();
                assert_close(&format!("{isa} n = {n}"), &half, &want, 1e-6 * scale, 0.0);
                let want: Vec<f64> = x.iter().map(|x| x * n as f64).collect();
                assert_close(&format!("{isa} n = {n} back"), &back, &want, 1e-6 * n as f64, 0.0);
            }
        });
    }
}

/// Forward and backward with transforms of length `n`, whatever the rule would choose, against the reference in f64.
fn check_plan(isa: Isa, rng: &mut Rng, d: Dims, n: usize, act: Option<Activation>, beta: Beta) {
    let name = format!("{isa} n = {n} {d:?} {act:?} {beta:?}");
    let plan = Plan::with_length(d, n).unwrap();
    let out = d.out_length().unwrap();
    let x = rng.vec(d.batch * d.length * d.in_channels);
    let w = rng.vec(d.out_channels * d.in_channels * d.kernel);
    let (b, dy) = (rng.vec(d.out_channels), rng.vec(d.batch * out * d.out_channels));
    let (dx0, dw0, db0) = (rng.vec(x.len()), rng.vec(w.len()), rng.vec(b.len()));
    let (mut want_y, mut want_z) = (vec![0.0; dy.len()], vec![0.0; dy.len()]);
    forward_reference(d, act, &x, &w, Some(&b), &mut want_y, &mut want_z);
    let (mut want_dx, mut want_dw, mut want_db) = (dx0.clone(), dw0.clone(), db0.clone());
    let dx = GradMut { data: &mut want_dx, beta };
    backward_reference(d, act, &x, &w, &want_z, &dy, Some(dx), Some(&mut want_dw), Some(&mut want_db));

    let relu = act == Some(Activation::Relu);
    let (xt, bt, dyt) = (Guarded::of(&cast::<f32>(&x), 1), cast::<f32>(&b), Guarded::of(&cast(&dy), 2));
    let wt = cast::<f32>(&w);
    let [h, back] = [Direction::Forward, Direction::Backward].map(|direction| {
        let mut to = Guarded::<f32>::new(plan.weights_len(direction), 3);
        overlap_save::prepare(isa, &plan, direction, &wt, to.get_mut());
        to.check(&name);
        to
    });
    // A product of uniform numbers has an rms of 1/3.
    let tolerance = |terms: usize| 2e-6 * (terms as f64).sqrt() + 1e-6;
    let mut scratch = Guarded::<f32>::new(plan.forward_len(), 3);
    let mut y = Guarded::<f32>::new(dy.len(), 1);
    let (rows, b) = (0..d.batch * out, Some(&bt[..]));
    overlap_save::forward(isa, &plan, xt.get(), h.get(), b, relu, rows, y.get_mut(), scratch.get_mut());
    scratch.check(&name);
    let want = if relu { &want_y } else { &want_z };
    assert_close(&format!("{name} y"), y.check(&name), want, tolerance(d.in_channels * d.kernel), 0.0);

    for shared in [1, 2, 3, 5].into_iter().filter_map(|groups| Shared::of(plan, groups)) {
        let mut spectra = Guarded::<f32>::new(shared.groups() * shared.group_len(), 1);
        for (group, out) in spectra.get_mut().chunks_exact_mut(shared.group_len()).enumerate() {
            shared.analyse(isa, xt.get(), group, out);
        }
        spectra.check(&name);
        let mut products = Guarded::<f32>::new(shared.frequencies() * shared.frequency_len(), 2);
        for (part, out) in products.get_mut().chunks_mut(3 * shared.frequency_len()).enumerate() {
            let frequencies = 3 * part..shared.frequencies().min(3 * part + 3);
            shared.multiply(isa, spectra.get(), h.get(), frequencies, out);
        }
        products.check(&name);
        for parts in [1, 4] {
            let mut shared_y = Guarded::<f32>::new(dy.len(), 3);
            let mut rest = shared_y.get_mut();
            for part in 0..parts {
                let rows = out * part / parts..out * (part + 1) / parts;
                let (y, tail) = rest.split_at_mut(rows.len() * d.out_channels);
                shared.synthesise(isa, products.get(), b, relu, rows, y);
                rest = tail;
            }
            assert_eq!(shared_y.check(&name), y.get(), "{name}: {shared:?} in {parts} parts");
        }
    }

    let before = if beta == Beta::Zero { vec![f32::NAN; x.len()] } else { cast(&dx0) };
    let mut dx = Guarded::of(&before, 1);
    let (mut dw, mut db) = (Guarded::of(&cast::<f32>(&dw0), 2), Guarded::of(&cast::<f32>(&db0), 3));
    let z = cast::<f32>(if relu { &want_y } else { &want_z });
    let of = OutputGradient { act, z: &z, dy: dyt.get() };
    let mut scratch = Guarded::<f32>::new(plan.backward_len(act.is_some()), 2);
    overlap_save::backward(
        isa,
        &plan,
        xt.get(),
        back.get(),
        of,
        Some(GradMut { data: dx.get_mut(), beta }),
        Some(dw.get_mut()),
        Some(db.get_mut()),
        scratch.get_mut(),
    );
    scratch.check(&name);
    let rows = d.batch * out;
    let taps = d.out_channels * d.kernel;
    assert_close(&format!("{name} dx"), dx.check(&name), &want_dx, tolerance(taps), 0.0);
    assert_close(&format!("{name} dw"), dw.check(&name), &want_dw, tolerance(rows), 0.0);
    assert_close(&format!("{name} db"), db.check(&name), &want_db, tolerance(rows), 0.0);

    // Each gradient alone has the same bits.
    let mut alone = before;
    let one = Some(GradMut { data: &mut alone, beta });
    overlap_save::backward(isa, &plan, xt.get(), back.get(), of, one, None, None, scratch.get_mut());
    assert_eq!(alone, dx.get(), "{name}: dx alone");
    let mut alone = cast::<f32>(&dw0);
    let one = Some(&mut alone[..]);
    overlap_save::backward(isa, &plan, xt.get(), &[], of, None, one, None, scratch.get_mut());
    assert_eq!(alone, dw.get(), "{name}: dw alone");
}

#[test]
fn random_plans_equal_the_reference() {
    let mut rng = Rng(32);
    let acts = [None, Some(Activation::Relu), Some(Activation::Gelu)];
    for case in 0..150 {
        let mut upto = |n: usize| rng.next() as usize % n;
        let n = 8 << upto(6);
        let kernel = 1 + upto(n.min(40));
        let padding = upto(2 * kernel);
        let d = Dims {
            batch: 1 + upto(3),
            length: (kernel + upto(90)).saturating_sub(2 * padding).max(1),
            in_channels: [1, 2, 7, 15, 16, 17, 33][upto(7)],
            out_channels: [1, 3, 8, 16, 17, 33][upto(6)],
            kernel,
            stride: 1,
            padding,
            dilation: 1,
        };
        let beta = if case % 2 == 0 { Beta::Zero } else { Beta::One };
        let seed = 3200 + case as u64;
        each_isa(|isa| check_plan(isa, &mut Rng(seed), d, n, acts[case % 3], beta));
    }
}

#[test]
fn any_number_of_tiles_in_one_and_in_several_groups() {
    // Tiles of 4 outputs: 1 to 26 tiles take every height of the register tile, 75 and 2 x 75 several groups.
    for (batch, lengths) in [(1, (1..=104).step_by(4).collect()), (1, vec![300]), (2, vec![298])] {
        for length in lengths {
            let d = Dims {
                batch,
                length,
                in_channels: 3,
                out_channels: 2,
                kernel: 5,
                stride: 1,
                padding: 2,
                dilation: 1,
            };
            each_isa(|isa| check_plan(isa, &mut Rng(33), d, 8, Some(Activation::Relu), Beta::One));
        }
    }
}

const K33: Dims = Dims {
    batch: 1,
    length: 1280,
    in_channels: 64,
    out_channels: 128,
    kernel: 33,
    stride: 1,
    padding: 16,
    dilation: 1,
};
const K17: Dims = Dims { in_channels: 128, out_channels: 256, kernel: 17, padding: 8, ..K33 };
const SMALL: Dims = Dims { length: 400, in_channels: 31, out_channels: 47, ..K33 };

#[test]
fn the_rule_takes_the_paper_s_kernels_in_f32_and_leaves_the_others() {
    assert_eq!(Plan::of(K33), Plan::with_length(K33, 128));
    assert_eq!(Plan::of(K17), Plan::with_length(K17, 64));
    assert!(Plan::of(SMALL).is_some());
    assert_eq!((row_grain::<f32>(K33), row_grain::<f64>(K33)), (96, ROWS));
    let first = Dims { in_channels: 1, out_channels: 64, kernel: 65, padding: 32, ..K33 };
    let (narrow, strided) = (Dims { kernel: 3, padding: 1, ..K33 }, Dims { stride: 2, ..K33 });
    for d in [first, narrow, strided, Dims { dilation: 2, ..K33 }, Dims { length: 1, ..K33 }] {
        assert_eq!(Plan::of(d), None, "{d:?}");
    }
    for batch in [0, 2, 64] {
        assert_eq!(prepared_len::<f32>(Dims { batch, ..K33 }, true), prepared_len::<f32>(K33, true));
    }
    // Scratch does not grow with the batch.
    let act = Some(Activation::Relu);
    for d in [K33, K17] {
        let scratch = scratch_len::<f32>(Dims { batch: 64, ..d }, act);
        assert!(scratch < 5 << 20, "{d:?}: {scratch}");
    }
}

#[test]
fn fewer_flops_are_executed_than_the_sum_has() {
    let sum = |d: Dims| 2 * (d.batch * d.length * d.in_channels * d.out_channels * d.kernel) as u64;
    for (d, fewer) in [(K33, 12..16), (K17, 7..10)] {
        assert_eq!(executed_flops::<f64>(d), (sum(d), 2 * sum(d)));
        let (forward, backward) = executed_flops::<f32>(d);
        assert!(fewer.contains(&(sum(d) / forward)), "{d:?}: {forward} of {}", sum(d));
        assert!(backward > 2 * forward && backward < 5 * forward / 2, "{d:?}: {forward}, {backward}");
    }
}

/// Worst difference over the rms of `want`.
fn worst(got: &[f32], want: &[f64]) -> f64 {
    let rms = (want.iter().map(|w| w * w).sum::<f64>() / want.len() as f64).sqrt();
    got.iter().zip(want).fold(0.0, |worst: f64, (g, w)| {
        let e = (f64::from(*g) - w).abs() / rms;
        if e.is_nan() { f64::INFINITY } else { worst.max(e) }
    })
}

#[test]
fn the_paper_s_kernels_are_within_3e_6_of_the_rms_of_the_direct_product_in_f64() {
    for d in [Dims { length: 200, ..K33 }, Dims { length: 150, ..K17 }] {
        let mut rng = Rng(34);
        let (x, w) = (rng.vec(d.length * d.in_channels), rng.vec(d.out_channels * d.in_channels * d.kernel));
        let dy = rng.vec(d.length * d.out_channels);
        let isa = Isa::best();
        let mut scratch = vec![f64::NAN; scratch_len::<f64>(d, None)];
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), vec![0.0; w.len()]);
        forward(isa, d, None, &x, &w, &[], None, &mut y, &mut [], &mut scratch);
        let to = Some(GradMut::overwrite(&mut dx));
        backward(isa, d, None, &x, &w, &[], &[], &[], &dy, to, Some(&mut dw), None, &mut scratch);
        let (x, w, dy) = (cast::<f32>(&x), cast::<f32>(&w), cast::<f32>(&dy));
        each_isa(|isa| {
            let mut scratch = vec![f32::NAN; scratch_len::<f32>(d, None)];
            let (mut y32, mut dx32, mut dw32) = (dy.clone(), x.clone(), vec![0.0; w.len()]);
            forward(isa, d, None, &x, &w, &[], None, &mut y32, &mut [], &mut scratch);
            let to = Some(GradMut::overwrite(&mut dx32));
            backward(isa, d, None, &x, &w, &[], &[], &[], &dy, to, Some(&mut dw32), None, &mut scratch);
            let errors = [worst(&y32, &y), worst(&dx32, &dx), worst(&dw32, &dw)];
            assert!(errors.iter().all(|&e| e < 3e-6), "{isa} {d:?}: {errors:?}");
            // And of the direct product in the same precision.
            let mut scratch = vec![f32::NAN; scratch_len_direct::<f32>(d, None)];
            let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), vec![0.0; w.len()]);
            forward_direct(isa, d, None, &x, &w, None, &mut y, &mut [], &mut scratch);
            let to = Some(GradMut::overwrite(&mut dx));
            backward_direct(isa, d, None, &x, &w, &[], &[], &dy, to, Some(&mut dw), None, &mut scratch);
            let pairs = [(&y32, y), (&dx32, dx), (&dw32, dw)];
            let errors = pairs.map(|(a, b)| worst(a, &b.into_iter().map(f64::from).collect::<Vec<_>>()));
            assert!(errors.iter().all(|&e| e < 4e-6), "{isa} {d:?} beside the product: {errors:?}");
        });
    }
}

#[test]
fn a_sample_has_the_same_bits_alone_and_beside_any_neighbour() {
    for d in [SMALL, Dims { stride: 2, ..SMALL }] {
        let (three, act) = (Dims { batch: 3, ..d }, Some(Activation::Relu));
        let out = d.out_length().unwrap() * d.out_channels;
        let mut rng = Rng(35);
        let x = cast::<f32>(&rng.vec(d.length * d.in_channels));
        let w = cast::<f32>(&rng.vec(d.out_channels * d.in_channels * d.kernel));
        let dy = cast::<f32>(&rng.vec(out));
        each_isa(|isa| {
            let run = |d: Dims, x: &[f32], dy: &[f32]| {
                let mut scratch = vec![f32::NAN; scratch_len::<f32>(d, act)];
                let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
                forward(isa, d, act, x, &w, &[], None, &mut y, &mut [], &mut scratch);
                let to = Some(GradMut::overwrite(&mut dx));
                backward(isa, d, act, x, &w, &[], &y, &[], dy, to, None, None, &mut scratch);
                (y, dx)
            };
            let (y, dx) = run(d, &x, &dy);
            for place in 0..3 {
                let (mut xs, mut dys) = (vec![f32::NAN; 3 * x.len()], vec![1e20; 3 * dy.len()]);
                xs[place * x.len()..][..x.len()].copy_from_slice(&x);
                dys[place * out..][..out].copy_from_slice(&dy);
                let (ys, dxs) = run(three, &xs, &dys);
                assert_eq!(ys[place * out..][..out], y, "{isa} y at place {place}");
                assert_eq!(dxs[place * x.len()..][..x.len()], dx, "{isa} dx at place {place}");
            }
        });
    }
}

/// All cuts of a convolution in parts, in `T`.
fn check_rows<T: Real>(isa: Isa, d: Dims, act: Option<Activation>) {
    let name = format!("{isa} {} {d:?} {act:?}", T::NAME);
    let mut rng = Rng(36);
    let x = cast::<T>(&rng.vec(d.length * d.in_channels));
    let w = cast::<T>(&rng.vec(d.out_channels * d.in_channels * d.kernel));
    let b = cast::<T>(&rng.vec(d.out_channels));
    let out = d.out_length().unwrap();
    let mut scratch = vec![T::NAN; scratch_len::<T>(d, act)];
    let mut whole = vec![T::NAN; out * d.out_channels];
    forward(isa, d, act, &x, &w, &[], Some(&b), &mut whole, &mut [], &mut scratch);
    let mut prepared = vec![T::NAN; prepared_len::<T>(d, false)];
    prepare(isa, d, &w, false, &mut prepared);
    let grain = row_grain::<T>(d);
    assert!(grain < out, "{name}: nothing to cut");
    let cuts: Vec<usize> = (0..out).step_by(grain).chain([out]).collect();
    for (i, &start) in cuts.iter().enumerate() {
        for &end in &cuts[i..] {
            for prepared in [&[][..], &prepared] {
                let mut part = Guarded::<T>::new((end - start) * d.out_channels, 1);
                scratch.fill(T::NAN);
                let (y, scratch) = (part.get_mut(), &mut scratch[..]);
                forward_rows(isa, d, act, &x, &w, prepared, Some(&b), start..end, y, scratch);
                let want = &whole[start * d.out_channels..end * d.out_channels];
                assert_eq!(part.check(&name), want, "{name}: rows {start}..{end}");
            }
        }
    }
}

#[test]
fn parts_of_the_rows_have_the_bits_of_the_whole() {
    let strided = Dims { stride: 2, kernel: 5, ..SMALL };
    each_isa(|isa| {
        for act in [None, Some(Activation::Relu), Some(Activation::Gelu)] {
            check_rows::<f32>(isa, SMALL, act);
            check_rows::<f32>(isa, strided, act);
            check_rows::<f64>(isa, strided, act);
        }
    });
}

#[test]
fn three_steps_have_the_bits_of_the_whole() {
    let d = Dims { batch: 1, ..SMALL };
    let mut rng = Rng(38);
    let x = cast::<f32>(&rng.vec(d.length * d.in_channels));
    let w = cast::<f32>(&rng.vec(d.out_channels * d.in_channels * d.kernel));
    let b = cast::<f32>(&rng.vec(d.out_channels));
    let out = d.out_length().unwrap();
    let act = Some(Activation::Gelu);
    each_isa(|isa| {
        let mut prepared = vec![f32::NAN; prepared_len::<f32>(d, false)];
        prepare(isa, d, &w, false, &mut prepared);
        let mut scratch = vec![f32::NAN; scratch_len::<f32>(d, act)];
        let mut want = vec![f32::NAN; out * d.out_channels];
        forward(isa, d, act, &x, &w, &prepared, Some(&b), &mut want, &mut [], &mut scratch);
        let steps = Steps::of::<f32>(d, 2).unwrap();
        let mut spectra = vec![f32::NAN; steps.groups() * steps.group_len()];
        for (group, out) in spectra.chunks_exact_mut(steps.group_len()).enumerate() {
            steps.analyse(isa, &x, group, out);
        }
        let mut products = vec![f32::NAN; steps.frequencies() * steps.frequency_len()];
        steps.multiply(isa, &spectra, &prepared, 0..steps.frequencies(), &mut products);
        let mut y = vec![f32::NAN; want.len()];
        scratch.fill(f32::NAN);
        steps.synthesise(isa, act, &products, Some(&b), 0..out, &mut y, &mut scratch);
        assert_eq!(y, want, "{isa}");
    });
    assert_eq!(Steps::of::<f64>(d, 2), None, "a matter of f32");
    assert_eq!(Steps::of::<f32>(Dims { batch: 2, ..d }, 2), None, "of one sample");
    assert_eq!(Steps::of::<f32>(Dims { length: 40 * d.length, ..d }, 2), None, "of a short one");
}

#[test]
#[should_panic(expected = "conv1d rows: rows must be cut at multiples of row_grain, got 1")]
fn rows_cut_within_a_tile_are_refused() {
    let mut scratch = vec![0.0; scratch_len::<f32>(SMALL, None)];
    let (x, w) = (vec![0.0; 400 * 31], vec![0.0; 47 * 31 * 33]);
    forward_rows(Isa::PORTABLE, SMALL, None, &x, &w, &[], None, 0..1, &mut [0.0; 47], &mut scratch);
}

#[test]
fn a_nan_stays_in_the_tiles_that_read_it() {
    let (d, m) = (SMALL, row_grain::<f32>(SMALL));
    let n = m + d.kernel - 1;
    let mut rng = Rng(37);
    let mut x = cast::<f32>(&rng.vec(d.length * d.in_channels));
    let w = cast::<f32>(&rng.vec(d.out_channels * d.in_channels * d.kernel));
    each_isa(|isa| {
        let run = |x: &[f32]| {
            let mut scratch = vec![f32::NAN; scratch_len::<f32>(d, None)];
            let mut y = vec![f32::NAN; d.length * d.out_channels];
            forward(isa, d, None, x, &w, &[], None, &mut y, &mut [], &mut scratch);
            y
        };
        let clean = run(&x);
        for position in [0, 1, d.length / 2, d.length - 1] {
            let at = position * d.in_channels + 5;
            let old = std::mem::replace(&mut x[at], f32::NAN);
            let y = run(&x);
            x[at] = old;
            for (t, (y, clean)) in y.chunks(d.out_channels).zip(clean.chunks(d.out_channels)).enumerate() {
                let first = t / m * m;
                if (first..first + n).contains(&(position + d.padding)) {
                    assert!(y.iter().all(|y| y.is_nan()), "{isa}: NaN at {position}, output {t}");
                } else {
                    assert_eq!(y, clean, "{isa}: NaN at {position}, output {t}");
                }
            }
        }
    });
}
