//! Every instruction set against the f64 reference, the reference against a second spelling with the whole matrix and
//! against differences; laws; rows without a key; bad sizes; a measurement.

use super::*;
use crate::testing::*;

/// A call's inputs in f64, exactly representable in f32, as column blocks of one wide buffer.
struct Case {
    d: Dims,
    scale: f64,
    /// `[batch * max(tq, tk), 3 width + 5]`: q, k and v begin at columns 1, width + 2, 2 width + 3.
    qkv: Vec<f64>,
    dy: Vec<f64>,
    mask: Option<Vec<f64>>,
    dropout: Dropout,
    key: Key,
}

struct Output<T> {
    y: Vec<T>,
    saved: Vec<T>,
    /// In the layout of `qkv`.
    grad: Vec<T>,
}

impl Case {
    fn new(seed: u64, d: Dims, mask: bool, dropout: Dropout) -> Self {
        let mut rng = Rng(seed);
        let rows = d.batch * d.tq.max(d.tk);
        let qkv = rng.vec(rows * (3 * d.width() + 5)).iter().map(|v| f64::from((2.0 * v) as f32)).collect();
        let dy = rng.vec(d.batch * d.tq * d.width());
        let mask =
            mask.then(|| (0..d.batch * d.tk).map(|_| f64::from(u8::from(rng.uniform() > -0.4))).collect());
        let key = Key { seed, step: 4, sample: 9, op: 1 };
        Self { d, scale: 0.9 / (d.head_dim as f64).sqrt(), qkv, dy, mask, dropout, key }
    }

    fn stride(&self) -> usize {
        3 * self.d.width() + 5
    }

    fn offset(&self, which: usize) -> usize {
        which * (self.d.width() + 1) + 1
    }

    /// Forward and backward in precision T, into NaN-filled guarded buffers; `wanted` gradients of q, k, v.
    fn run<T: Real>(&self, isa: Isa, shift: usize, wanted: [bool; 3], beta: Beta) -> Output<T> {
        let d = self.d;
        let cast = |x: &[f64]| x.iter().map(|&v| T::of(v)).collect::<Vec<T>>();
        let qkv = Guarded::of(&cast(&self.qkv), shift);
        let dy = Guarded::of(&cast(&self.dy), shift);
        let mask = self.mask.as_deref().map(cast);
        let rows = |which| Rows { data: qkv.get(), stride: self.stride(), offset: self.offset(which) };
        let (q, k, v) = (rows(0), rows(1), rows(2));
        let mut y = Guarded::<T>::new(dy.get().len(), shift);
        let mut saved = Guarded::<T>::new(saved_len(d), shift);
        let mut scratch = Guarded::<T>::new(scratch_len::<T>(d), shift);
        let (mask, dropout, key) = (mask.as_deref(), self.dropout, self.key);
        forward(
            isa,
            d,
            self.scale,
            q,
            k,
            v,
            mask,
            dropout,
            key,
            y.get_mut(),
            saved.get_mut(),
            scratch.get_mut(),
        );
        let mut inference = Guarded::<T>::new(dy.get().len(), shift);
        forward(
            isa,
            d,
            self.scale,
            q,
            k,
            v,
            mask,
            dropout,
            key,
            inference.get_mut(),
            &mut [],
            scratch.get_mut(),
        );
        let bits = |x: &[T]| x.iter().map(|v| v.f64().to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(inference.check("inference")), bits(y.check("y")), "inference differs");

        let mut grad = Guarded::<T>::new(self.qkv.len(), shift);
        if beta == Beta::One {
            grad.get_mut().fill(T::ONE);
        }
        let place = |which: usize| {
            let rows = GradRows { buffer: 1, stride: self.stride(), offset: self.offset(which), beta };
            wanted[which].then_some(rows)
        };
        scratch.get_mut().fill(T::NAN);
        backward(
            isa,
            d,
            self.scale,
            q,
            k,
            v,
            mask,
            dropout,
            key,
            y.get(),
            saved.check("saved"),
            dy.get(),
            &mut [&mut [], grad.get_mut()],
            place(0),
            place(1),
            place(2),
            scratch.get_mut(),
        );
        scratch.check("scratch");
        Output { y: y.get().to_vec(), saved: saved.get().to_vec(), grad: grad.check("grad").to_vec() }
    }

    /// The columns of q, k or v in a buffer laid out as `qkv`.
    fn columns<T: Real>(&self, which: usize, x: &[T]) -> Vec<T> {
        let t = if which == 0 { self.d.tq } else { self.d.tk };
        (0..self.d.batch * t)
            .flat_map(|row| x[row * self.stride() + self.offset(which)..][..self.d.width()].to_vec())
            .collect()
    }

    /// y with the whole matrix of probabilities: the second spelling.
    fn naive(&self) -> Vec<f64> {
        let d = self.d;
        let [q, k, v] = [0, 1, 2].map(|which| self.columns(which, &self.qkv));
        let mut y = vec![0.0; self.dy.len()];
        for n in 0..d.batch {
            for h in 0..d.heads {
                let at = |row: usize, c: usize| row * d.width() + h * d.head_dim + c;
                let mut p = vec![0.0; d.tq * d.tk];
                for i in 0..d.tq {
                    for j in 0..d.tk {
                        let kept = self.mask.as_ref().is_none_or(|m| m[n * d.tk + j] == 1.0);
                        let dot: f64 =
                            (0..d.head_dim).map(|c| q[at(n * d.tq + i, c)] * k[at(n * d.tk + j, c)]).sum();
                        p[i * d.tk + j] = if kept { (self.scale * dot).exp() } else { 0.0 };
                    }
                    let row = &mut p[i * d.tk..][..d.tk];
                    let sum: f64 = row.iter().sum();
                    let stream = self.key.sample(n).stream();
                    for (j, p) in row.iter_mut().enumerate() {
                        let keep = stream.keeps(self.dropout, (h * d.tq + i) as u32, j);
                        *p = if keep && sum > 0.0 { *p / sum / self.dropout.keep() } else { 0.0 };
                        for c in 0..d.head_dim {
                            y[at(n * d.tq + i, c)] += *p * v[at(n * d.tk + j, c)];
                        }
                    }
                }
            }
        }
        y
    }
}

const ALL: [bool; 3] = [true; 3];

fn dims(batch: usize, tq: usize, tk: usize, heads: usize, head_dim: usize) -> Dims {
    Dims { batch, tq, tk, heads, head_dim, precision: MatmulPrecision::F32 }
}

/// Sizes around the ends of everything that is cut.
fn sizes() -> Vec<Dims> {
    // Queries go in blocks of 14, 6 or 4 (half of it at the end), backward in tiles of 112, one by one where one or two
    // are left past a multiple of 28; keys in blocks of 256 (the last up to 320) and panels of 32, 16 or 8; head_dim in
    // panels and pieces of 320: sizes around each end.
    vec![
        dims(1, 1, 1, 1, 1),
        dims(2, 3, 2, 2, 3),
        dims(1, 0, 4, 1, 8),
        dims(1, 4, 0, 1, 8),
        dims(0, 4, 4, 2, 8),
        dims(1, 1, 130, 2, 16),
        dims(1, 7, 127, 1, 17),
        dims(2, 8, 128, 2, 15),
        dims(1, 9, 129, 1, 32),
        dims(1, 15, 5, 2, 33),
        dims(1, 16, 9, 1, 48),
        dims(1, 17, 33, 1, 64),
        dims(1, 23, 40, 1, 7),
        dims(1, 24, 257, 1, 9),
        dims(1, 25, 12, 2, 20),
        dims(1, 47, 31, 1, 12),
        dims(1, 48, 256, 1, 128),
        dims(2, 49, 49, 2, 10),
        dims(1, 100, 300, 1, 65),
        dims(1, 2, 321, 2, 33),
        dims(1, 29, 320, 1, 6),
        dims(1, 58, 385, 1, 130),
        dims(1, 113, 255, 1, 32),
        dims(1, 14, 40, 1, 321),
        dims(2, 1, 300, 2, 328),
        dims(1, 230, 577, 1, 5),
    ]
}

/// Every way that f32 tensors are attended: in f32 and in bf16 on every set, with dot products and without.
fn each_way(mut f: impl FnMut(Isa, MatmulPrecision)) {
    each_isa(|isa| {
        f(isa, MatmulPrecision::F32);
        for isa in [false, true].into_iter().filter_map(|dot| isa.with_bf16_dot(dot)) {
            f(isa, MatmulPrecision::Bf16);
        }
    });
}

#[test]
fn every_instruction_set_agrees_with_the_reference() {
    for (seed, d) in sizes().into_iter().enumerate() {
        for (mask, dropout) in [
            (false, Dropout::NONE),
            (true, Dropout::NONE),
            (false, Dropout::new(0.25)),
            (true, Dropout::new(0.5)),
        ] {
            let case = Case::new(seed as u64, d, mask, dropout);
            let want = case.run::<f64>(Isa::best(), 0, ALL, Beta::Zero);
            each_isa(|isa| {
                let name = format!("{isa} {d:?} mask {mask} dropout {dropout:?}");
                let got = case.run::<f32>(isa, seed % 4, ALL, Beta::Zero);
                assert_close(&format!("{name} y"), &got.y, &want.y, 3e-6, 2e-6);
                assert_close(&format!("{name} lse"), &got.saved, &want.saved, 2e-6, 1e-6);
                for which in 0..3 {
                    let (g, w) = (case.columns(which, &got.grad), case.columns(which, &want.grad));
                    let largest = w.iter().fold(1.0f64, |m, v| m.max(v.abs()));
                    assert_close(&format!("{name} gradient {which}"), &g, &w, 4e-6 * largest, 2e-6);
                }
                let touched = got.grad.iter().filter(|v| !v.is_nan()).count();
                assert_eq!(
                    touched,
                    d.batch * (d.tq + 2 * d.tk) * d.width(),
                    "{name}: wrote outside its columns"
                );
                let again = case.run::<f32>(isa, (seed + 1) % 4, ALL, Beta::Zero);
                let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&again.grad), bits(&got.grad), "{name}: a repetition differs");
                assert_eq!(bits(&again.y), bits(&got.y), "{name}: a repetition differs");
            });
        }
    }
}

#[test]
fn queries_may_be_split_at_multiples_of_the_grain() {
    let grain = row_grain();
    // One query past a multiple (done alone), more than that, and keys that are masked.
    for (seed, tq, mask) in [(70, 4 * grain + 1, false), (71, 3 * grain + 9, true), (72, 2 * grain, false)] {
        let d = dims(1, tq, 330, 2, 20);
        let mut case = Case::new(seed, d, mask, Dropout::NONE);
        let qkv: Vec<f32> = to_f32(&case.qkv);
        let mask = case.mask.as_deref().map(to_f32);
        each_way(|isa, precision| {
            case.d.precision = precision;
            let rows = |which| Rows { data: &qkv[..], stride: case.stride(), offset: case.offset(which) };
            let whole = case.run::<f32>(isa, 0, ALL, Beta::Zero);
            for part in [grain, 2 * grain, 3 * grain] {
                let mut y = vec![f32::NAN; whole.y.len()];
                for first in (0..tq).step_by(part) {
                    let d = Dims { tq: part.min(tq - first), ..case.d };
                    let q = Rows { offset: case.offset(0) + first * case.stride(), ..rows(0) };
                    let mut scratch = vec![f32::NAN; scratch_len::<f32>(d)];
                    let y = &mut y[first * d.width()..][..d.tq * d.width()];
                    let (mask, none, key) = (mask.as_deref(), Dropout::NONE, case.key);
                    forward(
                        isa,
                        d,
                        case.scale,
                        q,
                        rows(1),
                        rows(2),
                        mask,
                        none,
                        key,
                        y,
                        &mut [],
                        &mut scratch,
                    );
                }
                let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert!(bits(&y) == bits(&whole.y), "{isa} {precision:?}: {tq} queries in parts of {part}");
            }
        });
    }
}

#[test]
fn keys_packed_before_change_no_bit() {
    // One block of keys, two, and five, the last longer than the others; all keys of a block masked.
    for (seed, (batch, tq, tk, mask, dropout)) in [
        (2, 29, 40, false, 0.3),
        (1, 57, 330, true, 0.0),
        (1, 30, 1281, false, 0.2),
        (3, 1, 576, true, 0.0),
        (1, 20, 0, false, 0.0),
    ]
    .into_iter()
    .enumerate()
    {
        let d = dims(batch, tq, tk, 2, 20);
        let dropout = if dropout == 0.0 { Dropout::NONE } else { Dropout::new(dropout) };
        let mut case = Case::new(80 + seed as u64, d, mask, dropout);
        if let Some(mask) = &mut case.mask {
            mask[..256].fill(0.0);
        }
        let qkv: Vec<f32> = to_f32(&case.qkv);
        let mask = case.mask.as_deref().map(to_f32);
        each_way(|isa, precision| {
            case.d.precision = precision;
            let (d, mask) = (case.d, mask.as_deref());
            let rows = |which| Rows { data: &qkv[..], stride: case.stride(), offset: case.offset(which) };
            let len = key_piece_len(d);
            let mut packed = Guarded::<f32>::new(key_pieces::<f32>(d) * len, seed % 3);
            for (piece, out) in packed.get_mut().chunks_exact_mut(len.max(1)).enumerate() {
                pack_keys(isa, d, rows(1), rows(2), mask, piece, out);
            }
            let packed = packed.check("packed");
            let mut runs = Vec::new();
            for packed in [&[][..], packed] {
                let mut y = Guarded::<f32>::new(d.batch * d.tq * d.width(), 0);
                let mut scratch = Guarded::<f32>::new(scratch_len::<f32>(d), 1);
                let (q, k, v) = (rows(0), rows(1), rows(2));
                let (y_now, scratch) = (y.get_mut(), scratch.get_mut());
                let (scale, key, none) = (case.scale, case.key, &mut [][..]);
                forward_packed(isa, d, scale, q, k, v, mask, dropout, key, packed, y_now, none, scratch);
                runs.push(y.check("y").iter().map(|v| v.to_bits()).collect::<Vec<_>>());
            }
            assert!(runs[0] == runs[1], "{isa} {d:?}");
        });
    }
}

#[test]
#[should_panic(expected = "no such piece")]
fn a_piece_past_the_last_is_refused() {
    let d = dims(1, 0, 40, 2, 20);
    let rows = Rows { data: &[0.0f32; 1600][..], stride: 40, offset: 0 };
    pack_keys(Isa::best(), d, rows, rows, None, 2, &mut vec![0.0; key_piece_len(d)]);
}

#[test]
fn a_sequence_does_not_depend_on_its_batch() {
    let d = dims(3, 31, 70, 2, 9);
    let mut case = Case::new(73, d, true, Dropout::new(0.2));
    each_way(|isa, precision| {
        case.d.precision = precision;
        let d = case.d;
        let whole = case.run::<f32>(isa, 0, ALL, Beta::Zero);
        for n in 0..d.batch {
            // q rows of sequence n begin at n tq, k and v rows at n tk.
            let mut alone = Case::new(73, Dims { batch: 1, ..d }, false, Dropout::new(0.2));
            let width = case.stride();
            for (row, to) in alone.qkv.chunks_mut(width).enumerate() {
                for which in 0..3 {
                    let t = if which == 0 { d.tq } else { d.tk };
                    if row < t {
                        let at = case.offset(which);
                        let from = (n * t + row) * width + at;
                        to[at..at + d.width()].copy_from_slice(&case.qkv[from..from + d.width()]);
                    }
                }
            }
            let len = d.tq * d.width();
            alone.dy = case.dy[n * len..][..len].to_vec();
            alone.mask = case.mask.as_ref().map(|m| m[n * d.tk..][..d.tk].to_vec());
            alone.key = case.key.sample(n);
            let got = alone.run::<f32>(isa, 0, ALL, Beta::Zero);
            assert!(got.y == whole.y[n * len..][..len], "{isa} {precision:?} sequence {n}");
            for which in 0..3 {
                let t = if which == 0 { d.tq } else { d.tk };
                let want = &case.columns(which, &whole.grad)[n * t * d.width()..][..t * d.width()];
                let got = alone.columns(which, &got.grad);
                assert!(got == want, "{isa} {precision:?} sequence {n} gradient {which}");
            }
        }
    });
}

#[test]
fn scratch_grows_with_the_length_and_never_with_its_square() {
    let len = |t: usize| scratch_len::<f32>(dims(1, t, t, 2, 128));
    let step = len(2 * 1281) - len(1281);
    assert_eq!(len(4 * 1281) - len(3 * 1281), step);
    assert_eq!(step, 1281 * (128 + 2));
}

#[test]
fn the_reference_agrees_with_the_whole_matrix() {
    for (seed, d) in [dims(2, 5, 7, 2, 3), dims(1, 9, 4, 3, 6)].into_iter().enumerate() {
        for (mask, dropout) in [(false, Dropout::NONE), (true, Dropout::new(0.3))] {
            let case = Case::new(40 + seed as u64, d, mask, dropout);
            let got = case.run::<f64>(Isa::best(), 0, ALL, Beta::Zero);
            assert_close("y", &got.y, &case.naive(), 1e-13, 1e-12);
        }
    }
}

#[test]
fn the_gradient_is_the_derivative() {
    let d = dims(2, 3, 4, 2, 3);
    for (mask, dropout) in [(false, Dropout::NONE), (true, Dropout::NONE), (true, Dropout::new(0.3))] {
        let mut case = Case::new(50, d, mask, dropout);
        let got = case.run::<f64>(Isa::best(), 0, ALL, Beta::Zero).grad;
        let mut checked = 0;
        for i in 0..case.qkv.len() {
            if got[i].is_nan() {
                continue; // between the columns
            }
            let here = case.qkv[i];
            let mut moved = |h: f64| {
                case.qkv[i] = here + h;
                case.naive().iter().zip(&case.dy).map(|(y, g)| y * g).sum::<f64>()
            };
            let want = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            case.qkv[i] = here;
            assert!((got[i] - want).abs() <= 1e-6 * (1.0 + want.abs()), "element {i}: {} for {want}", got[i]);
            checked += 1;
        }
        assert_eq!(checked, 2 * (3 + 4 + 4) * 6);
    }
}

#[test]
fn wanted_gradients_do_not_depend_on_the_others_and_accumulate() {
    let mut case = Case::new(51, dims(1, 20, 140, 2, 18), true, Dropout::new(0.2));
    each_way(|isa, precision| {
        case.d.precision = precision;
        let all = case.run::<f32>(isa, 0, ALL, Beta::Zero).grad;
        let added = case.run::<f32>(isa, 0, ALL, Beta::One).grad;
        for which in 0..3 {
            let mut wanted = [false; 3];
            wanted[which] = true;
            let alone = case.run::<f32>(isa, 0, wanted, Beta::Zero).grad;
            assert_eq!(
                case.columns(which, &alone),
                case.columns(which, &all),
                "{isa} {precision:?} gradient {which} alone"
            );
            let want: Vec<f64> = case.columns(which, &all).iter().map(|&v| 1.0 + f64::from(v)).collect();
            assert_close(
                &format!("{isa} {precision:?} {which} added"),
                &case.columns(which, &added),
                &want,
                1e-6,
                1e-6,
            );
        }
    });
}

#[test]
fn equal_keys_average_the_values() {
    let mut case = Case::new(52, dims(1, 6, 131, 1, 10), false, Dropout::NONE);
    let (stride, at) = (case.stride(), case.offset(1));
    let first = case.qkv[at..at + 10].to_vec();
    for row in case.qkv.chunks_mut(stride) {
        row[at..at + 10].copy_from_slice(&first);
    }
    let v = case.columns(2, &case.qkv);
    let mean: Vec<f64> = (0..10).map(|c| (0..131).map(|j| v[j * 10 + c]).sum::<f64>() / 131.0).collect();
    each_way(|isa, precision| {
        case.d.precision = precision;
        // Values of at most 2 are rounded by at most 2^-8.
        let tolerance = if precision == MatmulPrecision::F32 { 1e-6 } else { 2f64.powi(-8) };
        for y in case.run::<f32>(isa, 0, ALL, Beta::Zero).y.chunks(10) {
            assert_close(&format!("{isa} {precision:?}"), y, &mean, tolerance, 0.0);
        }
    });
}

#[test]
fn probabilities_sum_to_one_and_the_order_of_keys_does_not_matter() {
    let mut case = Case::new(53, dims(1, 5, 150, 2, 9), false, Dropout::NONE);
    let plain: Vec<Vec<f64>> = [Isa::PORTABLE, Isa::best()]
        .map(|isa| case.run::<f32>(isa, 0, ALL, Beta::Zero).y.iter().map(|&v| f64::from(v)).collect())
        .to_vec();
    // Reverse the rows of keys and values together.
    let (stride, from) = (case.stride(), case.offset(1));
    for j in 0..75 {
        for c in from..stride {
            case.qkv.swap(j * stride + c, (149 - j) * stride + c);
        }
    }
    for (isa, want) in [Isa::PORTABLE, Isa::best()].into_iter().zip(plain) {
        assert_close(
            &format!("{isa} reversed"),
            &case.run::<f32>(isa, 0, ALL, Beta::Zero).y,
            &want,
            1e-6,
            1e-6,
        );
    }
    // Values of 1 come out as 1.
    let at = case.offset(2);
    case.qkv.chunks_mut(stride).for_each(|row| row[at..at + 18].fill(1.0));
    each_isa(|isa| {
        let y = case.run::<f32>(isa, 0, ALL, Beta::Zero).y;
        assert_close(&format!("{isa} ones"), &y, &vec![1.0; y.len()], 1e-6, 0.0);
    });
}

#[test]
fn a_masked_key_is_as_if_absent() {
    // NaN in masked keys and values must not be read; the result is that of the kept keys alone.
    let d = dims(1, 11, 140, 1, 6);
    let mut case = Case::new(54, d, true, Dropout::NONE);
    let mask = case.mask.clone().unwrap_or_default();
    let want = case.run::<f64>(Isa::best(), 0, ALL, Beta::Zero);
    let (stride, k) = (case.stride(), case.offset(1));
    for (j, row) in case.qkv.chunks_mut(stride).enumerate().take(d.tk) {
        if mask[j] == 0.0 {
            row[k..].fill(f64::NAN);
        }
    }
    each_way(|isa, precision| {
        case.d.precision = precision;
        let tolerance = if precision == MatmulPrecision::F32 { 2e-6 } else { 0.02 };
        let got = case.run::<f32>(isa, 0, ALL, Beta::Zero);
        assert_close(&format!("{isa} {precision:?} y"), &got.y, &want.y, tolerance, 1e-6);
        for which in 1..3 {
            let g = case.columns(which, &got.grad);
            assert!(g.iter().all(|v| v.is_finite()), "{isa} {precision:?} gradient {which}");
            for j in (0..d.tk).filter(|&j| mask[j] == 0.0) {
                assert_eq!(
                    g[j * 6..][..6],
                    [0.0; 6],
                    "{isa} {precision:?} gradient {which} of masked key {j}"
                );
            }
        }
    });
}

#[test]
fn rows_without_a_score_are_zero_with_zero_gradients() {
    let d = dims(2, 5, 130, 1, 8);
    each_way(|isa, precision| {
        let d = Dims { precision, ..d };
        // Sequence 1 is fully masked.
        let mut case = Case::new(55, d, true, Dropout::new(0.1));
        if let Some(mask) = &mut case.mask {
            mask[130..].fill(0.0);
        }
        for got in [case.run::<f32>(isa, 0, ALL, Beta::Zero), {
            let o = case.run::<f64>(isa, 0, ALL, Beta::Zero);
            let f = |x: Vec<f64>| x.iter().map(|&v| v as f32).collect();
            Output { y: f(o.y), saved: f(o.saved), grad: f(o.grad) }
        }] {
            assert_eq!(got.y[40..], [0.0; 40], "{isa}");
            assert_eq!(got.saved[5..], [f32::NEG_INFINITY; 5]);
            for which in 0..3 {
                let g = case.columns(which, &got.grad);
                assert!(g[g.len() / 2..].iter().all(|&v| v == 0.0), "{isa} gradient {which}");
                assert!(g[..g.len() / 2].iter().any(|&v| v != 0.0));
            }
        }
        // All scores -inf without a mask: q = 1, one column of every key -inf, the others finite.
        let mut case = Case::new(56, d, false, Dropout::NONE);
        let (stride, q, k) = (case.stride(), case.offset(0), case.offset(1));
        for row in case.qkv.chunks_mut(stride) {
            row[q..q + 8].fill(1.0);
            row[k] = f64::NEG_INFINITY;
        }
        let got = case.run::<f32>(isa, 0, [false, true, true], Beta::Zero);
        assert_eq!(got.y, vec![0.0; 80], "{isa}");
        assert_eq!(got.saved, vec![f32::NEG_INFINITY; 10]);
        for which in 1..3 {
            assert!(case.columns(which, &got.grad).iter().all(|&v| v == 0.0), "{isa} gradient {which}");
        }
    });
}

#[test]
fn extreme_inputs_stay_in_their_row_and_do_not_overflow() {
    let d = dims(1, 50, 140, 1, 8);
    each_way(|isa, precision| {
        let d = Dims { precision, ..d };
        let mut case = Case::new(57, d, false, Dropout::NONE);
        let clean = case.run::<f32>(isa, 0, ALL, Beta::Zero);
        let at = 13 * case.stride() + case.offset(0) + 2;
        case.qkv[at] = f64::NAN;
        let got = case.run::<f32>(isa, 0, ALL, Beta::Zero);
        for i in 0..50 {
            let (y, want) = (&got.y[i * 8..][..8], &clean.y[i * 8..][..8]);
            // Rows done with it may be measured from elsewhere.
            let near = y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5);
            let fine = if i == 13 { y.iter().all(|v| v.is_nan()) } else { near && (i < 18 || y == want) };
            assert!(fine, "{isa} {precision:?} row {i}");
        }
        // Scores of about 1e4 and more: the largest one takes all, nothing overflows, the reference agrees.
        let mut case = Case::new(58, d, false, Dropout::NONE);
        case.scale = 1e4;
        let (got, want) =
            (case.run::<f32>(isa, 0, ALL, Beta::Zero), case.run::<f64>(isa, 0, ALL, Beta::Zero));
        assert!(want.saved.iter().any(|v| v.abs() > 1e4));
        assert!(got.y.iter().chain(&got.saved).all(|v| v.is_finite()), "{isa}");
        let tolerance = if precision == MatmulPrecision::F32 { 2e-6 } else { 2f64.powi(-7) };
        assert_close(&format!("{isa} {precision:?} lse"), &got.saved, &want.saved, 0.0, tolerance);
        for which in 0..3 {
            assert!(case.columns(which, &got.grad).iter().all(|v| v.is_finite()), "{isa}");
        }
    });
}

#[test]
fn blocks_of_keys_whose_scores_are_bounded_meet_others() {
    // Per block of keys: whether its scores are large, in the first block of queries or in the others.
    for (seed, large) in (0..8usize).map(|bits| [0, 1, 2].map(|i| bits >> i & 1 == 1)).enumerate() {
        let (d, few) = (dims(1, 61, 600, 1, 20), seed % 2 == 1);
        let mut case = Case::new(90 + seed as u64, d, false, Dropout::new(0.1));
        let (stride, q, k) = (case.stride(), case.offset(0), case.offset(1));
        for (i, row) in case.qkv.chunks_mut(stride).enumerate() {
            if few && (14..31).contains(&i) {
                row[q..q + 20].iter_mut().for_each(|x| *x /= 64.0);
            }
            // Scores of up to 100, and blocks of them all below 0: what comes before or after is larger.
            if large[(i / 256).min(2)] {
                row[k..k + 20].iter_mut().for_each(|x| *x *= 32.0);
            }
        }
        let want = case.run::<f64>(Isa::best(), 0, ALL, Beta::Zero);
        assert!(!large.contains(&true) || want.saved.iter().any(|l| *l > 50.0));
        each_isa(|isa| {
            let name = format!("{isa} {large:?}");
            let got = case.run::<f32>(isa, 0, ALL, Beta::Zero);
            assert_close(&format!("{name} y"), &got.y, &want.y, 6e-5, 2e-6);
            assert_close(&format!("{name} lse"), &got.saved, &want.saved, 2e-5, 1e-6);
            for which in 0..3 {
                let (g, w) = (case.columns(which, &got.grad), case.columns(which, &want.grad));
                let largest = w.iter().fold(1.0f64, |m, v| m.max(v.abs()));
                assert_close(&format!("{name} gradient {which}"), &g, &w, 6e-5 * largest, 2e-6);
            }
        });
    }
}

fn refused(change: impl Fn(&mut Dims, &mut usize, &mut Vec<f32>)) -> String {
    let mut d = dims(1, 2, 3, 1, 4);
    let (mut stride, mut y) = (4, vec![0.0f32; 8]);
    change(&mut d, &mut stride, &mut y);
    let data = [0.0f32; 12];
    let run = std::panic::AssertUnwindSafe(|| {
        let rows = Rows { data: &data, stride, offset: 0 };
        let (key, mut scratch) = (Key::default(), vec![0.0; 300_000]);
        forward(
            Isa::PORTABLE,
            d,
            1.0,
            rows,
            rows,
            rows,
            None,
            Dropout::NONE,
            key,
            &mut y,
            &mut [],
            &mut scratch,
        );
    });
    let payload = std::panic::catch_unwind(run).expect_err("must be refused");
    payload.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn bad_sizes_are_refused_with_both_numbers() {
    assert_eq!(refused(|_, _, y| y.truncate(7)), "attention: y has 7 elements, expected 8");
    assert_eq!(refused(|d, _, _| d.tk = 4), "attention: k has 12 elements, needs at least 16");
    assert_eq!(refused(|d, _, _| d.head_dim = 0), "attention: head_dim must be at least 1, got 0");
    assert_eq!(
        refused(|_, s, _| *s = 3),
        "attention: rows must not overlap: stride is less than the width, got 3"
    );
    assert!(refused(|d, _, _| d.heads = usize::MAX).contains("overflows"));
}

#[test]
#[should_panic(expected = "attention backward: a gradient's buffer index is out of range, got 1")]
fn a_missing_buffer_is_refused() {
    let (d, x) = (dims(1, 1, 1, 1, 1), [0.0f32]);
    let rows = Rows { data: &x, stride: 1, offset: 0 };
    let g = Some(GradRows { buffer: 1, stride: 1, offset: 0, beta: Beta::Zero });
    let (mut grad, mut scratch) = ([0.0f32], vec![0.0; 300_000]);
    let buffers: &mut [&mut [f32]] = &mut [&mut grad];
    let (none, key) = (Dropout::NONE, Key::default());
    backward(
        Isa::PORTABLE,
        d,
        1.0,
        rows,
        rows,
        rows,
        None,
        none,
        key,
        &x,
        &x,
        &x,
        buffers,
        g,
        None,
        None,
        &mut scratch,
    );
}

mod bf16;
mod speed;
