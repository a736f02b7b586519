use super::*;
use crate::isa::{Simd, Task};
use crate::testing::{Guarded, Rng, assert_close, each_isa, to_f32};

mod int8;

/// A matrix of random numbers laid out by columns or by rows with `gap` unused elements between lines (NaN there).
struct Laid {
    data: Vec<f64>,
    strides: Strides,
}

fn laid(rng: &mut Rng, rows: usize, cols: usize, by_columns: bool, gap: usize) -> Laid {
    let (lines, line) = if by_columns { (cols, rows) } else { (rows, cols) };
    let mut data = vec![f64::NAN; lines * (line + gap)];
    for l in 0..lines {
        data[l * (line + gap)..][..line].copy_from_slice(&rng.vec(line));
    }
    Laid { data, strides: if by_columns { (1, line + gap) } else { (line + gap, 1) } }
}

/// Checks one product on every instruction set and both precisions against the definition in f64.
fn check_case(rng: &mut Rng, (m, n, k): (usize, usize, usize), layout: u64, beta: Beta, with: bool) {
    let a = laid(rng, m, k, layout & 1 != 0, (layout >> 2 & 1) as usize * 3);
    let b = laid(rng, k, n, layout & 2 != 0, (layout >> 3 & 1) as usize * 5);
    let rsc = n + (layout >> 4 & 1) as usize * 2;
    let bias = rng.vec(n);
    let before: Vec<f64> = match beta {
        Beta::One => rng.vec(m * rsc),
        Beta::Zero => vec![f64::NAN; m * rsc],
    };
    let epilogue = if with { Epilogue { bias: Some(&bias[..]), relu: true } } else { Epilogue::NONE };
    let mut want = before.clone();
    gemm_reference((m, n, k), &a.data, a.strides, &b.data, b.strides, beta, &mut want, rsc, epilogue);
    let name = format!("{m}x{n}x{k} layout {layout} {beta:?}");
    each_isa(|isa| {
        run::<f64>(
            isa,
            &name,
            (m, n, k),
            &a,
            &b,
            beta,
            &before,
            &want,
            rsc,
            &bias,
            with,
            layout as usize % 4,
        );
        run::<f32>(
            isa,
            &name,
            (m, n, k),
            &a,
            &b,
            beta,
            &before,
            &want,
            rsc,
            &bias,
            with,
            layout as usize % 4,
        );
    });
}

fn run<T: Real>(
    isa: Isa,
    name: &str,
    (m, n, k): (usize, usize, usize),
    a: &Laid,
    b: &Laid,
    beta: Beta,
    before: &[f64],
    want: &[f64],
    rsc: usize,
    bias: &[f64],
    with: bool,
    shift: usize,
) {
    let name = format!("{name} {isa} {}", T::NAME);
    let cast = |x: &[f64]| x.iter().map(|&v| T::of(v)).collect::<Vec<T>>();
    let (at, bt) = (Guarded::of(&cast(&a.data), shift), Guarded::of(&cast(&b.data), (shift + 1) % 4));
    let bias = cast(bias);
    let epilogue = if with { Epilogue { bias: Some(&bias[..]), relu: true } } else { Epilogue::NONE };
    // Sums of k products of numbers below 1: rounding errors grow as the square root of k at most half an epsilon each.
    let tolerance = T::EPSILON.f64() * (k as f64 + 4.0);
    let rows = |c: &[T]| -> Vec<T> { (0..m).flat_map(|i| c[i * rsc..i * rsc + n].to_vec()).collect() };
    let want: Vec<f64> = (0..m).flat_map(|i| want[i * rsc..i * rsc + n].to_vec()).collect();

    let mut c = Guarded::of(&cast(before), (shift + 2) % 4);
    let mut scratch = Guarded::<T>::new(scratch_len::<T>(m, n, k), (shift + 3) % 4);
    gemm_with(
        isa,
        MatmulPrecision::F32,
        (m, n, k),
        at.get(),
        a.strides,
        bt.get(),
        b.strides,
        beta,
        c.get_mut(),
        rsc,
        epilogue,
        scratch.get_mut(),
    );
    scratch.check(&name);
    assert_close(&name, &rows(c.check(&name)), &want, tolerance, 0.0);
    for i in 0..m {
        let gap = i * rsc + n..(i + 1) * rsc;
        assert!(
            c.get()[gap.clone()]
                .iter()
                .zip(&before[gap])
                .all(|(x, y)| x.f64().to_bits() == T::of(*y).f64().to_bits()),
            "{name}: wrote between rows"
        );
    }

    // The same with B packed first, twice, to the bit.
    let mut packed = Guarded::<T>::new(packed_len::<T>(k, n), shift);
    pack_b(isa, MatmulPrecision::F32, k, n, bt.get(), b.strides, packed.get_mut());
    packed.check(&name);
    let mut again: Option<Vec<T>> = None;
    for _ in 0..2 {
        let mut c = Guarded::of(&cast(before), shift);
        let mut scratch = Guarded::<T>::new(packed_scratch_len::<T>(m), shift);
        gemm_packed(
            isa,
            MatmulPrecision::F32,
            (m, n, k),
            at.get(),
            a.strides,
            packed.get(),
            beta,
            c.get_mut(),
            rsc,
            epilogue,
            scratch.get_mut(),
        );
        scratch.check(&name);
        let got = rows(c.check(&name));
        assert_close(&name, &got, &want, tolerance, 0.0);
        if let Some(first) = again.replace(got.clone()) {
            assert!(
                first.iter().zip(&got).all(|(x, y)| x.f64().to_bits() == y.f64().to_bits()),
                "{name}: repeat"
            );
        }
    }
}

#[test]
fn every_layout_and_tail_equals_the_definition() {
    let mut rng = Rng(1);
    let sizes = [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 28, 31, 32, 33, 48, 63, 65];
    let depths = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 64];
    for case in 0..700u64 {
        let pick = |rng: &mut Rng, of: &[usize]| of[rng.next() as usize % of.len()];
        let dims = (pick(&mut rng, &sizes), pick(&mut rng, &sizes), pick(&mut rng, &depths));
        let beta = if rng.next().is_multiple_of(2) { Beta::Zero } else { Beta::One };
        check_case(&mut rng, dims, case % 32, beta, case % 3 == 0);
    }
}

#[test]
fn blocks_along_every_dimension_meet() {
    let mut rng = Rng(2);
    for (i, dims) in [
        (3, 5, 257),
        (15, 33, 513),
        (169, 20, 40),
        (337, 17, 400),
        (5, 1025, 9),
        (20, 2049, 260),
        (9, 300, 2305),
    ]
    .into_iter()
    .enumerate()
    {
        for layout in 0..4 {
            let beta = if (i + layout) % 2 == 0 { Beta::Zero } else { Beta::One };
            check_case(&mut rng, dims, layout as u64, beta, layout == 1);
        }
    }
}

#[test]
fn strides_of_neither_kind_and_overlapping_rows_work() {
    // Toeplitz: rows one element apart, as in a convolution; columns two apart in B.
    let mut rng = Rng(3);
    let (x, y) = (rng.vec(40), rng.vec(200));
    let mut want = vec![0.0; 20 * 9];
    gemm_reference((20, 9, 11), &x, (1, 1), &y, (18, 2), Beta::Zero, &mut want, 9, Epilogue::NONE);
    each_isa(|isa| {
        let mut c = vec![f32::NAN; 20 * 9];
        let mut scratch = vec![f32::NAN; scratch_len::<f32>(20, 9, 11)];
        gemm(isa, 20, 9, 11, &to_f32(&x), (1, 1), &to_f32(&y), (18, 2), Beta::Zero, &mut c, 9, &mut scratch);
        assert_close("toeplitz", &c, &want, 2e-6, 0.0);
    });
}

#[test]
fn bf16_strides_of_neither_kind_and_overlapping_rows_work() {
    let mut rng = Rng(23);
    let rounded = |x: &[f64]| to_f32(x).iter().map(|&x| round_to_bf16(x)).collect::<Vec<f32>>();
    // Longer than a vector of words, and odd.
    let (m, n, k) = (20, 9, 43);
    let (x, y) = (rounded(&rng.vec(m + k)), rounded(&rng.vec(2 * n * k)));
    let wide = |x: &[f32]| x.iter().map(|&x| x.into()).collect::<Vec<f64>>();
    let mut want = vec![0.0; m * n];
    let (a, b, none) = ((1, 1), (2 * n, 2), Epilogue::NONE);
    gemm_reference((m, n, k), &wide(&x), a, &wide(&y), b, Beta::Zero, &mut want, n, none);
    each_isa(|isa| {
        for isa in bodies(isa) {
            let mut c = vec![f32::NAN; m * n];
            let mut scratch = vec![f32::NAN; scratch_len::<f32>(m, n, k)];
            let (shape, precision, none) = ((m, n, k), MatmulPrecision::Bf16, Epilogue::NONE);
            gemm_with(isa, precision, shape, &x, a, &y, b, Beta::Zero, &mut c, n, none, &mut scratch);
            assert_close("toeplitz", &c, &want, 1e-5, 0.0);
        }
    });
}

/// Some rows of a product too large to be read in place, and the same rows as a product of their own, which is.
fn near_and_far<T: Real>(isa: Isa, rng: &mut Rng, by_columns: bool, n: usize) {
    let (all, rows, k) = (600, 20..65, 400);
    assert!(!blocked::near((all, n, k)) && blocked::near((rows.len(), n, k)));
    let (a, b) = (laid(rng, all, k, by_columns, 2), laid(rng, k, n, false, 3));
    let cast = |x: &[f64]| x.iter().map(|&v| T::of(v)).collect::<Vec<T>>();
    let (at, bt) = (cast(&a.data), cast(&b.data));
    let product = |m: usize, a_data: &[T]| {
        let (mut c, mut scratch) = (vec![T::NAN; m * n], vec![T::NAN; scratch_len::<T>(m, n, k)]);
        gemm(isa, m, n, k, a_data, a.strides, &bt, b.strides, Beta::Zero, &mut c, n, &mut scratch);
        c
    };
    let far = product(all, &at);
    let near = product(rows.len(), &at[rows.start * a.strides.0..]);
    assert_eq!(near, far[rows.start * n..rows.end * n], "{isa} {} by columns {by_columns} {n}", T::NAME);
}

#[test]
fn products_read_in_place_have_the_bits_of_packed_ones() {
    each_isa(|isa| {
        for by_columns in [false, true] {
            for n in [64, 70] {
                near_and_far::<f32>(isa, &mut Rng(33), by_columns, n);
            }
        }
    });
    near_and_far::<f64>(Isa::best(), &mut Rng(34), true, 64);
}

#[test]
fn the_stride_of_a_single_line_does_not_matter() {
    each_isa(|isa| {
        for precision in [MatmulPrecision::F32, MatmulPrecision::Bf16] {
            let (a, b, none) = ([1.0f32, 0.0, 2.0, 0.0, 3.0], [4.0f32, 5.0, 6.0], Epilogue::NONE);
            // One row of A, and of B one column; then one column of A and one row of B.
            let mut c = [f32::NAN; 1];
            let mut scratch = vec![f32::NAN; scratch_len::<f32>(20, 20, 3)];
            let (sa, sb) = ((usize::MAX, 2), (1, usize::MAX));
            gemm_with(isa, precision, (1, 1, 3), &a, sa, &b, sb, Beta::Zero, &mut c, 1, none, &mut scratch);
            assert_eq!(c, [32.0], "{isa}");
            let (a, b, mut c) = ([2.0f32; 20], [3.0f32; 20], [f32::NAN; 400]);
            let (sa, sb) = ((1, usize::MAX), (usize::MAX, 1));
            gemm_with(
                isa,
                precision,
                (20, 20, 1),
                &a,
                sa,
                &b,
                sb,
                Beta::Zero,
                &mut c,
                20,
                none,
                &mut scratch,
            );
            assert_eq!(c, [6.0; 400], "{isa}");
        }
    });
}

#[test]
fn column_sums_of_every_strip() {
    each_isa(|isa| {
        for cols in [1, 63, 64, 65, 255, 256, 257, 321, 835] {
            // Whole numbers: exact in any order.
            let x: Vec<f32> = (0..3 * cols).map(|i| (i % 1013) as f32).collect();
            let mut sums: Vec<f32> = (0..cols).map(|j| j as f32).collect();
            add_column_sums(isa, 3, cols, &x, &mut sums);
            for (j, sum) in sums.iter().enumerate() {
                assert_eq!(*sum, j as f32 + x[j] + x[cols + j] + x[2 * cols + j], "{isa} {cols} column {j}");
            }
        }
    });
}

#[test]
fn nan_reaches_its_row_only_and_infinity_survives() {
    each_isa(|isa| {
        let mut a = vec![1.0f32; 16 * 20];
        a[3 * 20 + 7] = f32::NAN;
        a[5 * 20 + 2] = f32::INFINITY;
        let b = vec![1.0f32; 20 * 33];
        let mut c = vec![0.0f32; 16 * 33];
        let mut scratch = vec![f32::NAN; scratch_len::<f32>(16, 33, 20)];
        let epilogue = Epilogue { bias: None, relu: true };
        gemm_with(
            isa,
            MatmulPrecision::F32,
            (16, 33, 20),
            &a,
            (20, 1),
            &b,
            (33, 1),
            Beta::Zero,
            &mut c,
            33,
            epilogue,
            &mut scratch,
        );
        for i in 0..16 {
            let row = &c[i * 33..(i + 1) * 33];
            match i {
                3 => assert!(row.iter().all(|x| x.is_nan()), "{isa}"),
                5 => assert!(row.iter().all(|x| *x == f32::INFINITY), "{isa}"),
                _ => assert!(row.iter().all(|x| *x == 20.0), "{isa}"),
            }
        }
    });
}

#[test]
#[should_panic(expected = "gemm: a has 5 elements, needs at least 6")]
fn a_short_operand_is_refused() {
    gemm(
        Isa::PORTABLE,
        2,
        2,
        3,
        &[0.0f32; 5],
        (3, 1),
        &[0.0; 6],
        (2, 1),
        Beta::Zero,
        &mut [0.0; 4],
        2,
        &mut [],
    );
}

#[test]
#[should_panic(expected = "gemm: scratch has 0 elements")]
fn short_scratch_is_refused() {
    gemm(
        Isa::PORTABLE,
        2,
        2,
        3,
        &[0.0f32; 6],
        (3, 1),
        &[0.0; 6],
        (2, 1),
        Beta::Zero,
        &mut [0.0; 4],
        2,
        &mut [],
    );
}

#[test]
#[should_panic(expected = "overflows")]
fn sizes_that_overflow_are_refused() {
    gemm(
        Isa::PORTABLE,
        usize::MAX,
        1,
        2,
        &[0.0f32; 6],
        (3, 1),
        &[0.0; 6],
        (1, 1),
        Beta::Zero,
        &mut [0.0; 4],
        1,
        &mut [],
    );
}

#[test]
#[should_panic(expected = "the row stride of c must be at least its columns, got 1")]
fn overlapping_rows_of_the_result_are_refused() {
    gemm(
        Isa::PORTABLE,
        2,
        2,
        1,
        &[0.0f32; 2],
        (1, 1),
        &[0.0; 2],
        (2, 1),
        Beta::Zero,
        &mut [0.0; 4],
        1,
        &mut [],
    );
}

/// The set with and, where the CPU has them, without dot products of bf16.
fn bodies(isa: Isa) -> Vec<Isa> {
    [false, true].into_iter().filter_map(|dot| isa.with_bf16_dot(dot)).collect()
}

#[test]
fn rounding_to_bf16_is_to_the_nearest_even_and_keeps_nan() {
    for upper in 0..=u32::from(u16::MAX) {
        let low = f32::from_bits(upper << 16);
        for tail in [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
            let x = f32::from_bits(upper << 16 | tail);
            let got = round_to_bf16(x);
            assert_eq!(got.to_bits() & 0xffff, 0, "{x:e}");
            if x.is_nan() {
                assert!(got.is_nan(), "{:#x}", x.to_bits());
                continue;
            }
            // The next bf16 away from 0; after the largest, what would be the next if the exponents went on.
            let next = f32::from_bits((upper << 16).wrapping_add(1 << 16));
            let wide = if next.is_infinite() { 2f64.powi(128).copysign(x.into()) } else { next.into() };
            let (below, above) = ((f64::from(x) - f64::from(low)).abs(), (wide - f64::from(x)).abs());
            let even = if upper % 2 == 0 { low } else { next };
            let want = match below.total_cmp(&above) {
                std::cmp::Ordering::Less => low,
                std::cmp::Ordering::Equal => even,
                std::cmp::Ordering::Greater => next,
            };
            let want = if x.is_infinite() { x } else { want };
            assert_eq!(got.to_bits(), want.to_bits(), "{x:e}");
        }
    }
}

#[test]
fn every_set_rounds_lanes_as_single_numbers_are_rounded() {
    struct Lanes<'a>(&'a [f32], &'a mut [f32]);
    impl Task for Lanes<'_> {
        type Out = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            for (x, out) in self.0.chunks(S::LANES).zip(self.1.chunks_mut(S::LANES)) {
                s.store_partial(bf16::round(s, s.load_partial(x)), out);
            }
        }
    }
    let tails = [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
    let x: Vec<f32> = (0..=u32::from(u16::MAX))
        .flat_map(|upper| tails.map(|tail| f32::from_bits(upper << 16 | tail)))
        .collect();
    each_isa(|isa| {
        let mut got = vec![0.0; x.len()];
        isa.run(Lanes(&x, &mut got));
        for (x, got) in x.iter().zip(&got) {
            assert_eq!(got.to_bits(), round_to_bf16(*x).to_bits(), "{isa} {:#x}", x.to_bits());
        }
    });
}

#[test]
fn bf16_products_equal_the_definition_of_rounded_operands() {
    let mut rng = Rng(21);
    let sizes = [1, 2, 5, 7, 8, 9, 13, 14, 15, 16, 17, 29, 31, 32, 33, 48, 65, 170];
    let depths = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 33, 64, 129];
    for case in 0..260usize {
        let pick = |rng: &mut Rng, of: &[usize]| of[rng.next() as usize % of.len()];
        let (m, n, k) = match case {
            // More than a block along k, of words and of single elements, and more than B's area.
            0..4 => (17, 33, 1601),
            4..8 => (3, 300, 4611),
            8..12 => (15, 1400, 800),
            _ => (pick(&mut rng, &sizes), pick(&mut rng, &sizes), pick(&mut rng, &depths)),
        };
        let a = laid(&mut rng, m, k, case & 1 != 0, case % 3);
        let b = laid(&mut rng, k, n, case & 2 != 0, case % 5);
        let (bias, before) = (rng.vec(n), rng.vec(m * n));
        let beta = if case % 3 == 0 { Beta::One } else { Beta::Zero };
        let relu = case % 2 == 0;
        let (at, bt) = (to_f32(&a.data), to_f32(&b.data));
        let rounded = |x: &[f32]| x.iter().map(|&x| round_to_bf16(x).into()).collect::<Vec<f64>>();
        let wide = |x: &[f64]| to_f32(x).iter().map(|&x| x.into()).collect::<Vec<f64>>();
        let (mut want, a64, b64, bias64) = (wide(&before), rounded(&at), rounded(&bt), wide(&bias));
        let exact = Epilogue { bias: Some(&bias64[..]), relu };
        gemm_reference((m, n, k), &a64, a.strides, &b64, b.strides, beta, &mut want, n, exact);
        // The stated bound on what rounding does to a sum.
        if !relu && beta == Beta::Zero {
            let (a_strides, b_strides) = (a.strides, b.strides);
            let (aw, bw) = (wide(&a.data), wide(&b.data));
            let abs = |x: &[f64]| x.iter().map(|x| x.abs()).collect::<Vec<_>>();
            let product = |a: &[f64], b: &[f64], bias| {
                let (mut c, epilogue) = (vec![0.0; m * n], Epilogue { bias, relu: false });
                gemm_reference((m, n, k), a, a_strides, b, b_strides, Beta::Zero, &mut c, n, epilogue);
                c
            };
            let (plain, size) = (product(&aw, &bw, Some(&bias64[..])), product(&abs(&aw), &abs(&bw), None));
            for ((rounded, plain), size) in want.iter().zip(&plain).zip(&size) {
                let bound = size * 2f64.powi(-7) * (1.0 + 2f64.powi(-9)) + 1e-14;
                assert!((rounded - plain).abs() <= bound, "{rounded} {plain} {size}");
            }
        }
        let bias = to_f32(&bias);
        let epilogue = Epilogue { bias: Some(&bias[..]), relu };
        let tolerance = f64::from(f32::EPSILON) * (k as f64 + 4.0);
        let start = match beta {
            Beta::One => to_f32(&before),
            Beta::Zero => vec![f32::NAN; m * n],
        };
        each_isa(|isa| {
            for isa in bodies(isa) {
                let dot = isa.bf16_dot().is_some();
                let name = format!("bf16 {m}x{n}x{k} case {case} {isa} dot {dot}");
                let mut c = Guarded::of(&start, case % 4);
                let mut scratch = Guarded::<f32>::new(scratch_len::<f32>(m, n, k), (case + 1) % 4);
                gemm_with(
                    isa,
                    MatmulPrecision::Bf16,
                    (m, n, k),
                    &at,
                    a.strides,
                    &bt,
                    b.strides,
                    beta,
                    c.get_mut(),
                    n,
                    epilogue,
                    scratch.get_mut(),
                );
                scratch.check(&name);
                assert_close(&name, c.check(&name), &want, tolerance, 0.0);

                let mut packed = Guarded::<f32>::new(packed_len::<f32>(k, n), case % 4);
                pack_b(isa, MatmulPrecision::Bf16, k, n, &bt, b.strides, packed.get_mut());
                packed.check(&name);
                let mut c = Guarded::of(&start, case % 4);
                let mut scratch = Guarded::<f32>::new(packed_scratch_len::<f32>(m), (case + 2) % 4);
                gemm_packed(
                    isa,
                    MatmulPrecision::Bf16,
                    (m, n, k),
                    &at,
                    a.strides,
                    packed.get(),
                    beta,
                    c.get_mut(),
                    n,
                    epilogue,
                    scratch.get_mut(),
                );
                scratch.check(&name);
                assert_close(&name, c.check(&name), &want, tolerance, 0.0);
            }
        });
    }
}

#[test]
fn bf16_products_keep_nan_and_infinity_in_their_rows() {
    let (m, n, k) = (20, 33, 31);
    let mut a = vec![1.0f32; m * k];
    a[3 * k + 7] = f32::from_bits(0x7f80_0001);
    a[5 * k + 2] = f32::INFINITY;
    // Rounds to infinity.
    a[6 * k + k - 1] = f32::MAX;
    let b = vec![1.0f32; k * n];
    each_isa(|isa| {
        for isa in bodies(isa) {
            let mut packed = vec![f32::NAN; packed_len::<f32>(k, n)];
            pack_b(isa, MatmulPrecision::Bf16, k, n, &b, (n, 1), &mut packed);
            let (mut c, mut scratch) = (vec![0.0; m * n], vec![f32::NAN; packed_scratch_len::<f32>(m)]);
            let none = Epilogue::NONE;
            let (precision, beta) = (MatmulPrecision::Bf16, Beta::Zero);
            gemm_packed(isa, precision, (m, n, k), &a, (k, 1), &packed, beta, &mut c, n, none, &mut scratch);
            for (i, row) in c.chunks_exact(n).enumerate() {
                match i {
                    3 => assert!(row.iter().all(|x| x.is_nan()), "{isa}"),
                    5 | 6 => assert!(row.iter().all(|x| *x == f32::INFINITY), "{isa}"),
                    _ => assert!(row.iter().all(|x| *x == k as f32), "{isa}"),
                }
            }
        }
    });
}

#[test]
fn f64_products_ignore_the_precision() {
    let mut rng = Rng(22);
    let (m, n, k) = (9, 17, 12);
    let (a, b) = (rng.vec(m * k), rng.vec(k * n));
    let mut scratch = vec![f64::NAN; scratch_len::<f64>(m, n, k)];
    let mut product = |precision| {
        let (mut c, none) = (vec![f64::NAN; m * n], Epilogue::NONE);
        let isa = Isa::best();
        gemm_with(
            isa,
            precision,
            (m, n, k),
            &a,
            (k, 1),
            &b,
            (n, 1),
            Beta::Zero,
            &mut c,
            n,
            none,
            &mut scratch,
        );
        c
    };
    assert_eq!(product(MatmulPrecision::F32), product(MatmulPrecision::Bf16));
}

#[test]
fn columns_alone_have_the_bits_of_the_whole() {
    fn check<T: Real>(isa: Isa, precision: MatmulPrecision, (m, n, k): (usize, usize, usize)) {
        let name = format!("{isa} {} {precision:?} {m}x{n}x{k}", T::NAME);
        let mut rng = Rng(58);
        let mut random = |len: usize| -> Vec<T> { rng.vec(len).into_iter().map(T::of).collect() };
        let (a, b, bias, before) = (random(m * k), random(k * n), random(n), random(m * n));
        let mut packed = vec![T::NAN; packed_len::<T>(k, n)];
        pack_b(isa, precision, k, n, &b, (n, 1), &mut packed);
        let mut scratch = Guarded::<T>::new(packed_scratch_len::<T>(m), 1);
        let (shape, a_strides, mut whole) = ((m, n, k), (k, 1), before.clone());
        let epilogue = Epilogue { bias: Some(&bias[..]), relu: true };
        let s = scratch.get_mut();
        gemm_packed(isa, precision, shape, &a, a_strides, &packed, Beta::One, &mut whole, n, epilogue, s);
        for columns in [0..n.min(32), n.min(64)..n, n.min(32)..n.min(96), 0..n] {
            let count = columns.len();
            let mut c = Guarded::<T>::new(m * count, 2);
            for (c, before) in c.get_mut().chunks_mut(count.max(1)).zip(before.chunks(n)) {
                c.copy_from_slice(&before[columns.clone()]);
            }
            let epilogue = Epilogue { bias: Some(&bias[columns.clone()]), relu: true };
            scratch.get_mut().fill(T::NAN);
            let (to, s, beta) = (c.get_mut(), scratch.get_mut(), Beta::One);
            let part = columns.clone();
            gemm_packed_columns(
                isa, precision, shape, part, &a, a_strides, &packed, beta, to, count, epilogue, s,
            );
            scratch.check(&name);
            let want: Vec<T> = whole.chunks(n).flat_map(|row| row[columns.clone()].to_vec()).collect();
            assert_eq!(c.check(&name), want, "{name}: columns {columns:?}");
        }
    }
    each_isa(|isa| {
        for shape in [(1, 131, 40), (17, 70, 1001), (3, 32, 7)] {
            check::<f32>(isa, MatmulPrecision::F32, shape);
            check::<f32>(isa, MatmulPrecision::Bf16, shape);
            check::<f32>(isa, MatmulPrecision::Int8, shape);
            check::<f64>(isa, MatmulPrecision::F32, shape);
        }
    });
}

#[test]
#[should_panic(expected = "gemm: columns must be cut at multiples of column_grain, got 8")]
fn columns_cut_within_a_panel_are_refused() {
    let (shape, none, strides) = ((1, 40, 1), Epilogue::NONE, (1, 1));
    let (packed, mut c) = (vec![0.0f32; packed_len::<f32>(1, 40)], [0.0; 8]);
    let mut scratch = vec![0.0; packed_scratch_len::<f32>(1)];
    let (isa, precision, beta) = (Isa::PORTABLE, MatmulPrecision::F32, Beta::Zero);
    let s = &mut scratch[..];
    gemm_packed_columns(isa, precision, shape, 0..8, &[1.0], strides, &packed, beta, &mut c, 8, none, s);
}
