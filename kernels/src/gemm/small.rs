//! f32 products with few rows, or few columns: packing would cost more than it saves, so the operands are read in place.
//!
//! Two shapes of loop, by what is contiguous: [`Dots`] where both operands run along k (a linear layer on few rows, or
//! with few outputs), [`Rows`] where B's rows are contiguous (its input gradient). With `ROUND`, operands are rounded to
//! bf16 as they are read.

use super::bf16::{self, round_to_bf16};
use super::{Epilogue, MatmulPrecision, Strides};
use crate::isa::{Simd, Task};
use crate::{Beta, Isa};

/// Most rows worth it: beyond, the packed product is faster (measured on Zen 4 at 1024 x 256).
pub(super) const FEW_ROWS: usize = 8;
/// Most columns worth it.
const FEW_COLUMNS: usize = 4;
/// Vectors of the long side, or columns, handled together.
const Q: usize = 4;

/// Does the product here if it is of this kind; false if it is not.
pub(super) fn multiply(
    isa: Isa,
    precision: MatmulPrecision,
    (m, n, k): (usize, usize, usize),
    a: &[f32],
    (rsa, csa): Strides,
    b: &[f32],
    (rsb, csb): Strides,
    beta: Beta,
    c: &mut [f32],
    rsc: usize,
    epilogue: Epilogue<'_, f32>,
) -> bool {
    if !suits((m, n, k), (rsa, csa), (rsb, csb)) {
        return false;
    }
    let store = Store { c, beta, epilogue, rsc };
    let (a, b) = ((a, (rsa, csa)), (b, (rsb, csb)));
    match precision {
        MatmulPrecision::F32 | MatmulPrecision::Int8 => run::<false>(isa, (m, n, k), a, b, store),
        MatmulPrecision::Bf16 => run::<true>(isa, (m, n, k), a, b, store),
    }
    true
}

fn run<const ROUND: bool>(
    isa: Isa,
    (m, n, k): (usize, usize, usize),
    (a, (rsa, csa)): (&[f32], Strides),
    (b, (rsb, csb)): (&[f32], Strides),
    store: Store<'_>,
) {
    let along_k = csa == 1 && rsb == 1;
    if along_k && m <= FEW_ROWS {
        let (few, many) = (Lines(a, rsa, m), Lines(b, csb, n));
        isa.run(Dots::<ROUND> { k, few, many, few_are_rows: true, store });
    } else if along_k {
        let (few, many) = (Lines(b, csb, n), Lines(a, rsa, m));
        isa.run(Dots::<ROUND> { k, few, many, few_are_rows: false, store });
    } else {
        isa.run(Rows::<ROUND> { m, n, k, a, a_strides: (rsa, csa), b, rsb, store });
    }
}

/// Operands as the product takes them. A loop, because the closure of `array::map` would be compiled on its own, without
/// the instruction set (25 times as slow).
#[inline(always)]
fn operands<S: Simd, const ROUND: bool, const N: usize>(s: S, mut x: [S::V; N]) -> [S::V; N] {
    if ROUND {
        for x in &mut x {
            *x = bf16::round(s, *x);
        }
    }
    x
}

/// Whether [`multiply`] does a product of this shape.
pub(super) fn suits((m, n, k): (usize, usize, usize), a: Strides, b: Strides) -> bool {
    let along_k = a.1 == 1 && b.0 == 1;
    k > 0 && (along_k && (m <= FEW_ROWS || n <= FEW_COLUMNS) || b.1 == 1 && m <= FEW_ROWS)
}

/// Where results go.
struct Store<'a> {
    c: &'a mut [f32],
    beta: Beta,
    epilogue: Epilogue<'a, f32>,
    rsc: usize,
}

impl Store<'_> {
    #[inline(always)]
    fn one(&mut self, i: usize, j: usize, sum: f32) {
        let c = &mut self.c[i * self.rsc + j];
        let mut x = sum;
        if self.beta == Beta::One {
            x += *c;
        }
        if let Some(bias) = self.epilogue.bias {
            x += bias[j];
        }
        *c = if self.epilogue.relu && x < 0.0 { 0.0 } else { x };
    }

    #[inline(always)]
    fn vector<S: Simd>(&mut self, s: S, i: usize, j: usize, cols: usize, sum: S::V) {
        let c = &mut self.c[i * self.rsc + j..][..cols];
        let mut x = sum;
        if self.beta == Beta::One {
            x = s.add(x, s.load_partial(c));
        }
        if let Some(bias) = self.epilogue.bias {
            x = s.add(x, s.load_partial(&bias[j..j + cols]));
        }
        if self.epilogue.relu {
            let zero = s.splat(0.0);
            x = s.select(s.gt(zero, x), zero, x);
        }
        s.store_partial(x, c);
    }
}

/// Lines along k: data, distance between lines, number of lines.
#[derive(Clone, Copy)]
struct Lines<'a>(&'a [f32], usize, usize);

impl<'a> Lines<'a> {
    #[inline(always)]
    fn get(self, i: usize, k: usize) -> &'a [f32] {
        &self.0[i * self.1..][..k]
    }
}

/// Every line of `few` times every line of `many`.
struct Dots<'a, const ROUND: bool> {
    k: usize,
    few: Lines<'a>,
    many: Lines<'a>,
    few_are_rows: bool,
    store: Store<'a>,
}

impl<const ROUND: bool> Task for Dots<'_, ROUND> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (few, many) = (self.few.2, self.many.2);
        let mut i = 0;
        while i < many {
            let q = if i + Q <= many { Q } else { 1 };
            let mut j = 0;
            while j < few {
                let r = if j + 2 <= few { 2 } else { 1 };
                match (q, r) {
                    (Q, 2) => self.tile::<S, Q, 2>(s, i, j),
                    (Q, _) => self.tile::<S, Q, 1>(s, i, j),
                    (_, 2) => self.tile::<S, 1, 2>(s, i, j),
                    _ => self.tile::<S, 1, 1>(s, i, j),
                }
                j += r;
            }
            i += q;
        }
    }
}

impl<const ROUND: bool> Dots<'_, ROUND> {
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const F: usize>(&mut self, s: S, i: usize, j: usize) {
        let k = self.k;
        let many: [&[f32]; M] = std::array::from_fn(|q| self.many.get(i + q, k));
        let few: [&[f32]; F] = std::array::from_fn(|r| self.few.get(j + r, k));
        let mut acc = [[s.splat(0.0); F]; M];
        let whole = k / S::LANES * S::LANES;
        for p in (0..whole).step_by(S::LANES) {
            let y: [S::V; F] = operands::<S, ROUND, F>(s, std::array::from_fn(|r| s.load(&few[r][p..])));
            for q in 0..M {
                let [x] = operands::<S, ROUND, 1>(s, [s.load(&many[q][p..])]);
                for r in 0..F {
                    acc[q][r] = s.fma(x, y[r], acc[q][r]);
                }
            }
        }
        if whole < k {
            let y: [S::V; F] =
                operands::<S, ROUND, F>(s, std::array::from_fn(|r| s.load_partial(&few[r][whole..])));
            for q in 0..M {
                let [x] = operands::<S, ROUND, 1>(s, [s.load_partial(&many[q][whole..])]);
                for r in 0..F {
                    acc[q][r] = s.fma(x, y[r], acc[q][r]);
                }
            }
        }
        for q in 0..M {
            for r in 0..F {
                let (row, col) = if self.few_are_rows { (j + r, i + q) } else { (i + q, j + r) };
                self.store.one(row, col, s.sum(acc[q][r]));
            }
        }
    }
}

/// Rows of C as sums of rows of B, a strip of Q vectors at a time.
struct Rows<'a, const ROUND: bool> {
    m: usize,
    n: usize,
    k: usize,
    a: &'a [f32],
    a_strides: Strides,
    b: &'a [f32],
    rsb: usize,
    store: Store<'a>,
}

impl<const ROUND: bool> Task for Rows<'_, ROUND> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (m, n) = (self.m, self.n);
        let mut j = 0;
        while j < n {
            let wide = j + Q * S::LANES <= n;
            let mut i = 0;
            while i < m {
                let r = if i + 2 <= m { 2 } else { 1 };
                match (wide, r) {
                    (true, 2) => self.tile::<S, 2, Q>(s, i, j),
                    (true, _) => self.tile::<S, 1, Q>(s, i, j),
                    (false, 2) => self.tile::<S, 2, 1>(s, i, j),
                    (false, _) => self.tile::<S, 1, 1>(s, i, j),
                }
                i += r;
            }
            j += if wide { Q * S::LANES } else { S::LANES };
        }
    }
}

impl<const ROUND: bool> Rows<'_, ROUND> {
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const V: usize>(&mut self, s: S, i: usize, j: usize) {
        let (rsa, csa) = self.a_strides;
        let cols = (V * S::LANES).min(self.n - j);
        let mut acc = [[s.splat(0.0); V]; R];
        for p in 0..self.k {
            let b = &self.b[p * self.rsb + j..][..cols];
            let b: [S::V; V] = if cols == V * S::LANES {
                std::array::from_fn(|v| s.load(&b[v * S::LANES..]))
            } else {
                [s.load_partial(b); V]
            };
            let b = operands::<S, ROUND, V>(s, b);
            for r in 0..R {
                let x = self.a[(i + r) * rsa + p * csa];
                let x = s.splat(if ROUND { round_to_bf16(x) } else { x });
                for v in 0..V {
                    acc[r][v] = s.fma(x, b[v], acc[r][v]);
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                let at = v * S::LANES;
                self.store.vector(s, i + r, j + at, (cols - at).min(S::LANES), acc[r][v]);
            }
        }
    }
}
