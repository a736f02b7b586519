//! Products of operands rounded to 8-bit integers.

use super::*;
use crate::gemm::int8::SMALLEST;
use MatmulPrecision::Int8;

/// The set with and, where the CPU has them, without dot products of 8-bit integers.
fn bodies(isa: Isa) -> Vec<Isa> {
    [false, true].into_iter().filter_map(|dot| isa.with_int8_dot(dot)).collect()
}

/// What a line stands for once it is rounded, and its step.
fn round(line: &[f32]) -> (Vec<f64>, f64) {
    let largest = line.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    if largest < SMALLEST {
        return (vec![0.0; line.len()], 0.0);
    }
    let (step, inverse) = (f64::from(largest / 127.0), 127.0 / largest);
    (line.iter().map(|x| f64::from((x * inverse).round_ties_even()) * step).collect(), step)
}

/// Lines `n` of `k` elements, from one to the next and along one.
fn lines(x: &[f32], n: usize, k: usize, (next, along): Strides) -> Vec<Vec<f32>> {
    (0..n).map(|i| (0..k).map(|p| x[i * next + p * along]).collect()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn multiply(
    isa: Isa,
    (m, n, k): (usize, usize, usize),
    (a, a_strides): (&[f32], Strides),
    (b, b_strides): (&[f32], Strides),
    (beta, start): (Beta, &[f32]),
    epilogue: Epilogue<'_, f32>,
    shift: usize,
) -> Vec<f32> {
    let name = format!("{m}x{n}x{k} {isa} dot {}", isa.int8_dot().is_some());
    let mut packed = Guarded::<f32>::new(packed_len::<f32>(k, n), shift % 4);
    pack_b(isa, Int8, k, n, b, b_strides, packed.get_mut());
    packed.check(&name);
    let mut c = Guarded::of(start, (shift + 1) % 4);
    let mut scratch = Guarded::<f32>::new(packed_scratch_len::<f32>(m), (shift + 2) % 4);
    let packed = packed.get();
    gemm_packed(
        isa,
        Int8,
        (m, n, k),
        a,
        a_strides,
        packed,
        beta,
        c.get_mut(),
        n,
        epilogue,
        scratch.get_mut(),
    );
    scratch.check(&name);
    c.check(&name).to_vec()
}

#[test]
fn products_equal_the_definition_of_rounded_operands() {
    let mut rng = Rng(33);
    let sizes = [1, 2, 5, 6, 7, 8, 13, 14, 15, 16, 17, 29, 31, 32, 33, 48, 65, 170];
    let depths = [0, 1, 3, 7, 8, 9, 15, 16, 17, 18, 33, 63, 64, 65, 127, 130, 256];
    for case in 0..260usize {
        let pick = |rng: &mut Rng, of: &[usize]| of[rng.next() as usize % of.len()];
        let (m, n, k) = match case {
            // More than a block along k, of words and of single elements.
            0..4 => (17, 33, 1601),
            4..8 => (3, 70, 4611),
            _ => (pick(&mut rng, &sizes), pick(&mut rng, &sizes), pick(&mut rng, &depths)),
        };
        let a = laid(&mut rng, m, k, case & 1 != 0, case % 3);
        let b = laid(&mut rng, k, n, case & 2 != 0, case % 5);
        let (bias, before) = (to_f32(&rng.vec(n)), to_f32(&rng.vec(m * n)));
        let beta = if case % 3 == 0 { Beta::One } else { Beta::Zero };
        let relu = case % 2 == 0;
        let (at, bt) = (to_f32(&a.data), to_f32(&b.data));
        let rows = lines(&at, m, k, a.strides);
        let columns = lines(&bt, n, k, (b.strides.1, b.strides.0));
        let (ra, rb): (Vec<_>, Vec<_>) =
            (rows.iter().map(|x| round(x)).collect(), columns.iter().map(|x| round(x)).collect());
        let mut want = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                let sum = dot(&ra[i].0, &rb[j].0);
                // The stated bound on what rounding does to a sum.
                let (s, t) = (ra[i].1, rb[j].1);
                let bound: f64 = rows[i]
                    .iter()
                    .zip(&columns[j])
                    .map(|(a, b)| (f64::from(a.abs()) * t + f64::from(b.abs()) * s) / 2.0 + s * t / 4.0)
                    .sum();
                let plain: f64 =
                    rows[i].iter().zip(&columns[j]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                assert!((sum - plain).abs() <= bound * 1.000_01, "{sum} {plain} {bound}");
                let old = if beta == Beta::One { f64::from(before[i * n + j]) } else { 0.0 };
                let x = sum + f64::from(bias[j]) + old;
                want[i * n + j] = if relu { x.max(0.0) } else { x };
            }
        }
        let epilogue = Epilogue { bias: Some(&bias[..]), relu };
        let start = if beta == Beta::One { before } else { vec![f32::NAN; m * n] };
        each_isa(|isa| {
            for isa in bodies(isa) {
                let name = format!("case {case} {m}x{n}x{k} {isa} dot {}", isa.int8_dot().is_some());
                let given = ((&at[..], a.strides), (&bt[..], b.strides));
                let got = multiply(isa, (m, n, k), given.0, given.1, (beta, &start), epilogue, case);
                // Sums of dot products are exact; steps, bias and C are rounded once each.
                let exact = isa.int8_dot().is_some() && (8..=1536).contains(&k);
                let few = f64::from(f32::EPSILON) * if exact { 4.0 } else { k as f64 + 6.0 };
                assert_close(&name, &got, &want, few, if exact { few } else { 0.0 });
            }
        });
    }
}

#[test]
fn rows_do_not_know_of_each_other() {
    let mut rng = Rng(34);
    let (m, n, k) = (45, 40, 70);
    let (a, b) = (to_f32(&rng.vec(m * k)), to_f32(&rng.vec(n * k)));
    each_isa(|isa| {
        for isa in bodies(isa) {
            let of = |first: usize, rows: usize| {
                let a = &a[first * k..][..rows * k];
                let start = (Beta::Zero, &vec![0.0; rows * n][..]);
                multiply(isa, (rows, n, k), (a, (k, 1)), (&b, (1, k)), start, Epilogue::NONE, first)
            };
            let whole = of(0, m);
            for (first, rows) in [(0, 1), (3, 9), (20, 25), (31, 14)] {
                assert_eq!(of(first, rows), whole[first * n..][..rows * n], "{isa} rows {first} to {rows}");
            }
        }
    });
}

#[test]
fn what_is_not_finite_stays_in_its_row_or_column_and_tiny_lines_are_zero() {
    let mut rng = Rng(35);
    let (m, n, k) = (9, 35, 37);
    let (clean_a, clean_b) = (to_f32(&rng.vec(m * k)), to_f32(&rng.vec(n * k)));
    let (mut a, mut b) = (clean_a.clone(), clean_b.clone());
    (a[2 * k + 5], a[4 * k + 36], a[7 * k]) = (f32::NAN, f32::INFINITY, -f32::INFINITY);
    (b[3 * k + 1], b[34 * k + 20]) = (f32::NAN, f32::INFINITY);
    a[5 * k..6 * k].fill(1e-37);
    b[9 * k..10 * k].fill(-1e-40);
    let epilogue = Epilogue { bias: None, relu: true };
    each_isa(|isa| {
        for isa in bodies(isa) {
            let run = |a: &[f32], b: &[f32]| {
                let start = (Beta::Zero, &vec![0.0; m * n][..]);
                multiply(isa, (m, n, k), (a, (k, 1)), (b, (1, k)), start, epilogue, 0)
            };
            let (got, clean) = (run(&a, &b), run(&clean_a, &clean_b));
            for i in 0..m {
                for j in 0..n {
                    let (x, name) = (got[i * n + j], format!("{isa} {i} {j}"));
                    if [2, 4, 7].contains(&i) || [3, 34].contains(&j) {
                        assert!(x.is_nan(), "{name}: {x}");
                    } else if i == 5 || j == 9 {
                        assert_eq!(x, 0.0, "{name}");
                    } else {
                        assert_eq!(x, clean[i * n + j], "{name}");
                    }
                }
            }
        }
    });
}

#[test]
#[should_panic(expected = "needs a packed B")]
fn a_product_of_plain_operands_is_refused() {
    let (a, mut c) = (vec![0.0f32; 20 * 20], vec![0.0; 20 * 20]);
    let mut scratch = vec![0.0; scratch_len::<f32>(20, 20, 20)];
    let (shape, none) = ((20, 20, 20), Epilogue::NONE);
    gemm_with(
        Isa::PORTABLE,
        Int8,
        shape,
        &a,
        (20, 1),
        &a,
        (20, 1),
        Beta::Zero,
        &mut c,
        20,
        none,
        &mut scratch,
    );
}
