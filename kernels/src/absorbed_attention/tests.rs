//! Every instruction set against the f64 reference; the reference against projection and attention composed, and against
//! differences; laws; sequences without a key; bad sizes.

use super::*;
use crate::gemm::MatmulPrecision;
use crate::proofs::{assert_gradient, bits, dot};
use crate::testing::*;
use crate::{Beta, attention, linear};

/// A call's inputs in f64, exactly representable in f32.
#[derive(Clone)]
struct Case {
    d: Dims,
    scale: f64,
    q: Vec<f64>,
    x: Vec<f64>,
    w: Vec<f64>,
    b: Option<Vec<f64>>,
    mask: Option<Vec<f64>>,
    dy: Vec<f64>,
    dropout: Dropout,
    key: Key,
}

struct Output<T> {
    y: Vec<T>,
    saved: Vec<T>,
    /// Of q, x, w, b; what was not wanted is NaN, or 0 for w and b.
    gradients: [Vec<T>; 4],
}

impl Case {
    fn new(seed: u64, d: Dims, bias: bool, mask: bool, dropout: Dropout) -> Self {
        let mut rng = Rng(seed);
        let queries = d.batch * d.tq * d.inner();
        let q = rng.vec(queries);
        let x = rng.vec(d.batch * d.tk * d.width);
        // Scores of order one at any width.
        let root = (3.0 / d.width as f64).sqrt();
        let w = rng.vec(2 * d.inner() * d.width).iter().map(|v| f64::from((root * v) as f32)).collect();
        let b = bias.then(|| rng.vec(2 * d.inner()));
        let dy = rng.vec(queries);
        let mask =
            mask.then(|| (0..d.batch * d.tk).map(|_| f64::from(u8::from(rng.uniform() > -0.4))).collect());
        let key = Key { seed, step: 4, sample: 9, op: 1 };
        Self { d, scale: 1.9 / (d.head_dim as f64).sqrt(), q, x, w, b, mask, dy, dropout, key }
    }

    /// Forward and backward in precision T, into NaN-filled guarded buffers.
    fn run<T: Real>(&self, isa: Isa, shift: usize, wanted: [bool; 4], beta: Beta) -> Output<T> {
        let (d, dropout, key, scale) = (self.d, self.dropout, self.key, self.scale);
        let cast = |x: &[f64]| Guarded::of(&x.iter().map(|&v| T::of(v)).collect::<Vec<T>>(), shift);
        let (q, x, w, dy) = (cast(&self.q), cast(&self.x), cast(&self.w), cast(&self.dy));
        let (b, mask) = (self.b.as_deref().map(cast), self.mask.as_deref().map(cast));
        let (b, mask) = (b.as_ref().map(Guarded::get), mask.as_ref().map(Guarded::get));
        let (q, x, w, dy) = (q.get(), x.get(), w.get(), dy.get());
        let mut y = Guarded::<T>::new(q.len(), shift);
        let mut inference = Guarded::<T>::new(q.len(), shift);
        let mut saved = Guarded::<T>::new(saved_len(d), shift);
        let mut scratch = Guarded::<T>::new(scratch_len::<T>(d), shift);
        let s = scratch.get_mut();
        forward(isa, d, scale, q, x, w, b, mask, dropout, key, y.get_mut(), saved.get_mut(), s);
        s.fill(T::NAN);
        forward(isa, d, scale, q, x, w, b, mask, dropout, key, inference.get_mut(), &mut [], s);
        assert_eq!(bits(inference.check("inference")), bits(y.check("y")), "inference differs");
        let mut out = [q.len(), x.len(), w.len(), 2 * d.inner()].map(|n| Guarded::<T>::new(n, shift));
        for (i, out) in out.iter_mut().enumerate() {
            // Parameters' gradients are always added to.
            match beta {
                Beta::One => out.get_mut().fill(T::ONE),
                Beta::Zero if i >= 2 => out.get_mut().fill(T::ZERO),
                Beta::Zero => {}
            }
        }
        s.fill(T::NAN);
        let [dq, dx, dw, db] = &mut out;
        let [dq, dx] = [(dq, wanted[0]), (dx, wanted[1])]
            .map(|(g, wanted)| wanted.then(|| GradMut { data: g.get_mut(), beta }));
        let [dw, db] = [(dw, wanted[2]), (db, wanted[3])].map(|(g, wanted)| wanted.then(|| g.get_mut()));
        let saved = saved.check("saved");
        backward(isa, d, scale, q, x, w, b, mask, dropout, key, saved, dy, dq, dx, dw, db, s);
        scratch.check("scratch");
        let gradients = out.map(|g| g.check("gradient").to_vec());
        Output { y: y.get().to_vec(), saved: saved.to_vec(), gradients }
    }

    fn all<T: Real>(&self, isa: Isa) -> Output<T> {
        self.run(isa, 0, [true; 4], Beta::Zero)
    }

    /// y and the gradients by a linear layer and attention, in f64.
    fn composed(&self) -> (Vec<f64>, [Vec<f64>; 4]) {
        let (d, isa, inner) = (self.d, Isa::best(), self.d.inner());
        let precision = MatmulPrecision::F32;
        let l = linear::Dims { rows: d.batch * d.tk, inputs: d.width, outputs: 2 * inner, precision };
        let Dims { batch, tq, tk, heads, head_dim, .. } = d;
        let a = attention::Dims { batch, tq, tk, heads, head_dim, precision: MatmulPrecision::F32 };
        let mut kv = vec![0.0; l.rows * l.outputs];
        let mut scratch = vec![0.0; linear::scratch_len::<f64>(l, None) + attention::scratch_len::<f64>(a)];
        let s = &mut scratch[..];
        linear::forward(isa, l, None, &self.x, &self.w, &[], self.b.as_deref(), &mut kv, &mut [], s);
        let (mut y, mut saved) = (vec![0.0; self.q.len()], vec![0.0; attention::saved_len(a)]);
        let rows = |data, stride, offset| attention::Rows { data, stride, offset };
        let (q, k, v) = (rows(&self.q, inner, 0), rows(&kv, 2 * inner, 0), rows(&kv, 2 * inner, inner));
        let (mask, dropout, key, scale) = (self.mask.as_deref(), self.dropout, self.key, self.scale);
        attention::forward(isa, a, scale, q, k, v, mask, dropout, key, &mut y, &mut saved, s);
        let (mut dq, mut dkv) = (vec![0.0; self.q.len()], vec![0.0; kv.len()]);
        let place =
            |buffer, stride, offset| Some(attention::GradRows { buffer, stride, offset, beta: Beta::Zero });
        let [gq, gk, gv] = [place(0, inner, 0), place(1, 2 * inner, 0), place(1, 2 * inner, inner)];
        let buffers: &mut [&mut [f64]] = &mut [&mut dq, &mut dkv];
        let dy = &self.dy;
        attention::backward(
            isa, a, scale, q, k, v, mask, dropout, key, &y, &saved, dy, buffers, gq, gk, gv, s,
        );
        let (mut dx, mut dw) = (vec![0.0; self.x.len()], vec![0.0; self.w.len()]);
        let mut db = vec![0.0; 2 * inner];
        let (gx, gw, gb) = (Some(GradMut::overwrite(&mut dx)), Some(&mut dw[..]), Some(&mut db[..]));
        linear::backward(isa, l, None, &self.x, &self.w, &[], &kv, &[], &dkv, gx, gw, gb, s);
        (y, [dq, dx, dw, db])
    }
}

fn dims(batch: usize, tq: usize, tk: usize, heads: usize, head_dim: usize, width: usize) -> Dims {
    Dims { batch, tq, tk, heads, head_dim, width }
}

/// Without mask and dropout, with each, and with both.
fn variants() -> [(bool, Dropout); 4] {
    [(false, Dropout::NONE), (true, Dropout::NONE), (false, Dropout::new(0.25)), (true, Dropout::new(0.5))]
}

#[test]
fn every_instruction_set_agrees_with_the_reference() {
    // Rows go in blocks of 32 and by fours, queries of all heads by twos and fours, columns by vectors of 4, 8 or 16;
    // decisions of dropout by 128: sizes around each end.
    let sizes = [
        dims(1, 1, 1, 1, 1, 1),
        dims(2, 3, 2, 2, 3, 5),
        dims(1, 0, 4, 1, 8, 6),
        dims(1, 4, 0, 2, 8, 6),
        dims(0, 4, 4, 2, 8, 6),
        dims(1, 1, 31, 2, 16, 32),
        dims(2, 1, 33, 1, 17, 15),
        dims(1, 2, 64, 3, 5, 17),
        dims(1, 1, 127, 4, 3, 31),
        dims(1, 5, 128, 1, 33, 33),
        dims(2, 1, 129, 2, 128, 64),
        dims(1, 3, 258, 2, 7, 48),
        dims(1, 1, 1281, 2, 128, 256),
        dims(1, 9, 70, 3, 2, 9),
    ];
    for (seed, d) in sizes.into_iter().enumerate() {
        for (mask, dropout) in variants() {
            let case = Case::new(seed as u64, d, seed % 3 != 1, mask, dropout);
            let want = case.all::<f64>(Isa::best());
            each_isa(|isa| {
                let name = format!("{isa} {d:?} mask {mask} dropout {dropout:?}");
                let got = case.run::<f32>(isa, seed % 4, [true; 4], Beta::Zero);
                assert_close(&format!("{name} y"), &got.y, &want.y, 4e-6, 3e-6);
                assert_close(&format!("{name} saved"), &got.saved, &want.saved, 4e-6, 3e-6);
                for (which, (got, want)) in got.gradients.iter().zip(&want.gradients).enumerate() {
                    let largest = want.iter().fold(1.0f64, |m, v| m.max(v.abs()));
                    assert_close(&format!("{name} gradient {which}"), got, want, 5e-6 * largest, 3e-6);
                }
                let again = case.run::<f32>(isa, (seed + 1) % 4, [true; 4], Beta::Zero);
                assert_eq!(bits(&again.y), bits(&got.y), "{name}: a repetition differs");
                assert_eq!(bits(&again.gradients.concat()), bits(&got.gradients.concat()), "{name}");
            });
        }
    }
}

#[test]
fn it_is_projection_and_attention() {
    let sizes = [dims(2, 3, 7, 2, 3, 5), dims(1, 1, 40, 3, 4, 9), dims(2, 2, 131, 1, 6, 4)];
    for (seed, d) in sizes.into_iter().enumerate() {
        for (mask, dropout) in variants() {
            let case = Case::new(30 + seed as u64, d, seed != 1, mask, dropout);
            let (got, (y, gradients)) = (case.all::<f64>(Isa::best()), case.composed());
            assert_close("y", &got.y, &y, 1e-9, 1e-9);
            for (which, (got, want)) in got.gradients.iter().zip(&gradients).enumerate() {
                assert_close(&format!("gradient {which} of {d:?}"), got, want, 1e-9, 1e-9);
                assert!(which == 3 || got.iter().all(|v| *v != 0.0) || mask || !dropout.is_none());
            }
            let (keys, values) = got.gradients[3].split_at(d.inner());
            assert!(keys.iter().all(|v| *v == 0.0) && values.iter().all(|v| *v != 0.0));
        }
    }
}

#[test]
fn the_gradient_is_the_derivative() {
    let d = dims(2, 2, 4, 2, 3, 5);
    for (mask, dropout) in variants() {
        let case = Case::new(50, d, true, mask, dropout);
        let got = case.all::<f64>(Isa::best()).gradients;
        let loss = |case: &Case| {
            let mut y = vec![0.0; case.q.len()];
            let mut scratch = vec![f64::NAN; scratch_len::<f64>(d)];
            let (b, mask, saved) = (case.b.as_deref(), case.mask.as_deref(), &mut []);
            let (q, x, w, s) = (&case.q, &case.x, &case.w, &mut scratch);
            forward_reference(d, case.scale, q, x, w, b, mask, dropout, case.key, &mut y, saved, s);
            dot(&y, &case.dy)
        };
        let with = |change: &dyn Fn(&mut Case)| {
            let mut moved = case.clone();
            change(&mut moved);
            loss(&moved)
        };
        assert_gradient("q", &case.q, &got[0], |v| with(&|c| c.q = v.to_vec()));
        assert_gradient("x", &case.x, &got[1], |v| with(&|c| c.x = v.to_vec()));
        assert_gradient("w", &case.w, &got[2], |v| with(&|c| c.w = v.to_vec()));
        let b = case.b.clone().unwrap();
        assert_gradient("b", &b, &got[3], |v| with(&|c| c.b = Some(v.to_vec())));
    }
}

#[test]
fn wanted_gradients_do_not_depend_on_the_others_and_accumulate() {
    let case = Case::new(51, dims(2, 3, 140, 2, 18, 21), true, true, Dropout::new(0.2));
    each_isa(|isa| {
        let all = case.all::<f32>(isa).gradients;
        let added = case.run::<f32>(isa, 0, [true; 4], Beta::One).gradients;
        for which in 0..4 {
            let mut wanted = [false; 4];
            wanted[which] = true;
            let alone = case.run::<f32>(isa, 0, wanted, Beta::Zero).gradients;
            assert_eq!(bits(&alone[which]), bits(&all[which]), "{isa} gradient {which} alone");
            let want: Vec<f64> = all[which].iter().map(|&v| 1.0 + f64::from(v)).collect();
            let largest = want.iter().fold(1.0f64, |m, v| m.max(v.abs()));
            assert_close(&format!("{isa} {which} added"), &added[which], &want, 1e-6 * largest, 0.0);
            for other in (0..4).filter(|&o| o != which) {
                let untouched = |v: &f32| if other < 2 { v.is_nan() } else { *v == 0.0 };
                assert!(alone[other].iter().all(untouched), "{isa}: {other} is not wanted");
            }
        }
    });
}

#[test]
fn a_sequence_does_not_depend_on_its_batch_nor_a_query_on_the_others() {
    let d = dims(3, 5, 70, 2, 9, 20);
    let case = Case::new(73, d, true, true, Dropout::new(0.2));
    each_isa(|isa| {
        let whole = case.all::<f32>(isa);
        for n in 0..d.batch {
            let part = |x: &[f64]| x[n * x.len() / 3..(n + 1) * x.len() / 3].to_vec();
            let alone = Case {
                d: Dims { batch: 1, ..d },
                q: part(&case.q),
                x: part(&case.x),
                dy: part(&case.dy),
                mask: case.mask.as_deref().map(part),
                key: case.key.sample(n),
                ..case.clone()
            };
            let got = alone.all::<f32>(isa);
            assert_eq!(bits(&got.y), bits(&whole.y[n * got.y.len()..][..got.y.len()]), "{isa} {n}");
            for (got, whole) in got.gradients.iter().zip(&whole.gradients).take(2) {
                assert_eq!(bits(got), bits(&whole[n * got.len()..][..got.len()]), "{isa} {n}");
            }
        }
        // One query of five, without dropout, whose rows would be numbered anew.
        let all = Case { dropout: Dropout::NONE, ..case.clone() };
        let whole = all.all::<f32>(isa).y;
        for i in 0..5 {
            let part = |x: &[f64]| (0..3).flat_map(|n| x[(n * 5 + i) * 18..][..18].to_vec()).collect();
            let alone = Case { d: Dims { tq: 1, ..d }, q: part(&all.q), dy: part(&all.dy), ..all.clone() };
            let got = alone.all::<f32>(isa).y;
            for n in 0..3 {
                assert_eq!(
                    bits(&got[n * 18..][..18]),
                    bits(&whole[(n * 5 + i) * 18..][..18]),
                    "{isa} {n} {i}"
                );
            }
        }
    });
}

#[test]
fn a_query_in_sections_has_the_bits_of_the_whole() {
    for (case, tk) in [1, 128, 129, 257, 700, 1281].into_iter().enumerate() {
        for mask in [false, true] {
            let d = dims(1, 1, tk, 3, 5, 21);
            let c = Case::new(70 + case as u64, d, true, mask, Dropout::NONE);
            let [q, x, w, b] = [&c.q, &c.x, &c.w, c.b.as_ref().unwrap()].map(|v| to_f32(v));
            let mut mask = c.mask.as_deref().map(to_f32);
            if let Some(mask) = &mut mask {
                // A section without keys.
                mask[tk / 3..].fill(0.0);
            }
            each_isa(|isa| {
                let name = format!("{isa} {d:?}");
                let (mask, none) = (mask.as_deref(), Dropout::NONE);
                let mut scratch = Guarded::<f32>::new(scratch_len::<f32>(d), 3);
                let mut whole = vec![f32::NAN; q.len()];
                let s = scratch.get_mut();
                forward(isa, d, c.scale, &q, &x, &w, Some(&b), mask, none, c.key, &mut whole, &mut [], s);
                let (sections, len) = (sections::<f32>(d), sums_len(d));
                assert_eq!(sections, tk.div_ceil(256), "{name}");
                let mut u = Guarded::<f32>::new(d.heads * d.width, 1);
                let mut sums = Guarded::<f32>::new(sections * len, 2);
                let mut y = Guarded::<f32>::new(q.len(), 1);
                for heads in [2..3, 0..2] {
                    let u = &mut u.get_mut()[heads.start * d.width..heads.end * d.width];
                    absorb_query(isa, d, c.scale, &q, &x, &w, heads, u);
                }
                for section in (0..sections).rev() {
                    scratch.get_mut().fill(f32::NAN);
                    let (sums, s) = (&mut sums.get_mut()[section * len..][..len], scratch.get_mut());
                    attend_section(isa, d, &q, &x, &w, mask, u.check(&name), section, sums, s);
                }
                for heads in [2..3, 0..2] {
                    scratch.get_mut().fill(f32::NAN);
                    let to = &mut y.get_mut()[heads.start * d.head_dim..heads.end * d.head_dim];
                    let (sums, s) = (sums.check(&name), scratch.get_mut());
                    values_of_sections(isa, d, &q, &x, &w, Some(&b), sums, heads, to, s);
                }
                scratch.check(&name);
                assert_eq!(bits(y.check(&name)), bits(&whole), "{name}");
            });
        }
    }
    assert_eq!(sections::<f64>(dims(1, 1, 700, 3, 5, 21)), 0, "a matter of f32");
    assert_eq!(sections::<f32>(dims(1, 2, 700, 3, 5, 21)), 0, "of one query");
    assert_eq!(sections::<f32>(dims(2, 1, 700, 3, 5, 21)), 0, "of one sequence");
}

#[test]
fn equal_rows_give_their_projection_and_the_bias_of_keys_does_nothing() {
    let d = dims(1, 3, 67, 2, 5, 11);
    let mut case = Case::new(52, d, true, false, Dropout::NONE);
    for j in 1..d.tk {
        case.x.copy_within(..d.width, j * d.width);
    }
    let b = case.b.clone().unwrap();
    let value = |c: usize| b[10 + c] + dot(&case.w[(10 + c) * 11..][..11], &case.x[..11]);
    let want: Vec<f64> = (0..30).map(|i| value(i % 10)).collect();
    each_isa(|isa| {
        let got = case.all::<f32>(isa);
        assert_close(&format!("{isa}"), &got.y, &want, 3e-6, 0.0);
        let mut other = case.clone();
        other.b.as_mut().unwrap()[..10].fill(7.0);
        let other = other.all::<f32>(isa);
        assert_eq!(bits(&got.y), bits(&other.y), "{isa}");
        assert_eq!(bits(&got.gradients.concat()), bits(&other.gradients.concat()), "{isa}");
    });
}

#[test]
fn a_masked_key_is_as_if_absent() {
    let d = dims(1, 3, 140, 2, 6, 10);
    let mut case = Case::new(54, d, true, true, Dropout::new(0.3));
    let mask = case.mask.clone().unwrap();
    let want = case.all::<f64>(Isa::best());
    // NaN in masked rows must not be read.
    for j in (0..d.tk).filter(|&j| mask[j] == 0.0) {
        case.x[j * 10..][..10].fill(f64::NAN);
    }
    each_isa(|isa| {
        for beta in [Beta::Zero, Beta::One] {
            let got = case.run::<f32>(isa, 0, [true; 4], beta);
            assert_close(&format!("{isa} y"), &got.y, &want.y, 3e-6, 2e-6);
            let before = if beta == Beta::One { 1.0 } else { 0.0 };
            for j in (0..d.tk).filter(|&j| mask[j] == 0.0) {
                assert_eq!(got.gradients[1][j * 10..][..10], [before; 10], "{isa} masked row {j}");
            }
        }
    });
}

#[test]
fn a_sequence_without_a_key_is_zero_with_zero_gradients() {
    let d = dims(2, 2, 130, 2, 8, 12);
    let mut case = Case::new(55, d, true, true, Dropout::new(0.1));
    // Sequence 1 is fully masked.
    case.mask.as_mut().unwrap()[130..].fill(0.0);
    let check = |isa: Isa, got: Output<f32>| {
        assert!(got.y[32..].iter().all(|&v| v == 0.0) && got.y[..32].iter().any(|&v| v != 0.0), "{isa}");
        assert_eq!(got.saved[4..8], [f32::NEG_INFINITY; 4], "{isa}");
        for gradient in &got.gradients[..2] {
            let (first, second) = gradient.split_at(gradient.len() / 2);
            assert!(first.iter().any(|&v| v != 0.0) && second.iter().all(|&v| v == 0.0), "{isa}");
        }
        assert!(got.gradients[2].iter().all(|v| v.is_finite()), "{isa}");
    };
    each_isa(|isa| {
        check(isa, case.all(isa));
        let Output { y, saved, gradients } = case.all::<f64>(isa);
        check(isa, Output { y: to_f32(&y), saved: to_f32(&saved), gradients: gradients.map(|g| to_f32(&g)) });
        let empty = Case::new(56, dims(1, 2, 0, 1, 4, 3), true, false, Dropout::NONE).all::<f32>(isa);
        assert_eq!((empty.y, &empty.saved[..2]), (vec![0.0; 8], &[f32::NEG_INFINITY; 2][..]));
        assert!(empty.gradients.concat().iter().all(|&v| v == 0.0), "{isa}");
    });
}

#[test]
fn extreme_inputs_stay_in_their_place_and_do_not_overflow() {
    let d = dims(1, 5, 140, 2, 8, 16);
    each_isa(|isa| {
        let mut case = Case::new(57, d, true, false, Dropout::NONE);
        let clean = case.all::<f32>(isa).y;
        // Query 3, head 1.
        case.q[3 * 16 + 9] = f64::NAN;
        let got = case.all::<f32>(isa).y;
        for (i, (got, want)) in got.iter().zip(&clean).enumerate() {
            let hit = (3 * 16 + 8..4 * 16).contains(&i);
            assert!(if hit { got.is_nan() } else { got == want }, "{isa} element {i}");
        }
        let mut case = Case::new(58, d, true, false, Dropout::NONE);
        case.scale = 1e4;
        let (got, want) = (case.all::<f32>(isa), case.all::<f64>(isa));
        assert!(want.saved[..10].iter().any(|v| v.abs() > 1e4));
        assert_close(&format!("{isa} lse"), &got.saved[..10], &want.saved[..10], 0.0, 3e-6);
        let finite = |x: &[f32]| x.iter().all(|v| v.is_finite());
        assert!(finite(&got.y) && got.gradients.iter().all(|g| finite(g)), "{isa}");
    });
}

#[test]
fn scratch_does_not_grow_with_the_keys_and_the_rule_follows_the_sizes() {
    let d = dims(1, 1, 1281, 2, 128, 256);
    assert_eq!(scratch_len::<f32>(d), scratch_len::<f32>(Dims { tk: 20_481, ..d }));
    assert!(pays(d) && pays(Dims { tk: 81, head_dim: 32, width: 64, ..d }));
    // As many queries as keys, or a head for every column: projecting is cheaper.
    assert!(!pays(Dims { tq: 1281, ..d }) && !pays(Dims { heads: 256, head_dim: 1, ..d }));
    assert!(!pays(Dims { tq: usize::MAX, ..d }));
}

fn refused(change: impl Fn(&mut Dims, &mut Vec<f32>)) -> String {
    let mut d = dims(1, 2, 3, 1, 4, 5);
    let mut y = vec![0.0f32; 8];
    change(&mut d, &mut y);
    let run = std::panic::AssertUnwindSafe(|| {
        let (q, x, w, none) = ([0.0f32; 8], [0.0; 15], [0.0; 40], Dropout::NONE);
        let mut scratch = vec![0.0; 3000];
        let (isa, key) = (Isa::PORTABLE, Key::default());
        forward(isa, d, 1.0, &q, &x, &w, None, None, none, key, &mut y, &mut [], &mut scratch);
    });
    let payload = std::panic::catch_unwind(run).expect_err("must be refused");
    payload.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn bad_sizes_are_refused_with_both_numbers() {
    assert_eq!(refused(|_, y| y.truncate(7)), "absorbed attention: y has 7 elements, expected 8");
    assert_eq!(refused(|d, _| d.tk = 4), "absorbed attention: x has 15 elements, expected 20");
    assert_eq!(refused(|d, _| d.head_dim = 0), "absorbed attention: head_dim must be at least 1, got 0");
    assert_eq!(refused(|d, _| d.width = 0), "absorbed attention: width must be at least 1, got 0");
    assert!(refused(|d, _| d.heads = usize::MAX).contains("overflows"));
}
