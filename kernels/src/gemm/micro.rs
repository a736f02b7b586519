//! The tile of C in registers, and the loop over the tiles of one packed block.
//!
//! Tried without gain: `benches/NOTES.md`.

use super::blocked::{Block, Form, KS, first};
use crate::isa::{Bf16, DotTask, Portable, Simd, Task};
use crate::{Beta, Real};
use std::any::TypeId;

/// Vectors of `T`: what the micro-kernel needs, for the f32 tokens and for f64 arrays.
trait Lanes: Copy {
    type T: Real;
    type V: Copy;
    const N: usize;
    fn splat(self, x: Self::T) -> Self::V;
    fn load(self, x: &[Self::T]) -> Self::V;
    fn load_partial(self, x: &[Self::T]) -> Self::V;
    fn store(self, v: Self::V, x: &mut [Self::T]);
    fn store_partial(self, v: Self::V, x: &mut [Self::T]);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    fn relu(self, a: Self::V) -> Self::V;
}

/// A token as f32 lanes.
#[derive(Clone, Copy)]
struct Single<S>(S);

impl<S: Simd> Lanes for Single<S> {
    type T = f32;
    type V = S::V;
    const N: usize = S::LANES;
    #[inline(always)]
    fn splat(self, x: f32) -> S::V {
        self.0.splat(x)
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> S::V {
        self.0.load(x)
    }
    #[inline(always)]
    fn load_partial(self, x: &[f32]) -> S::V {
        self.0.load_partial(x)
    }
    #[inline(always)]
    fn store(self, v: S::V, x: &mut [f32]) {
        self.0.store(v, x);
    }
    #[inline(always)]
    fn store_partial(self, v: S::V, x: &mut [f32]) {
        self.0.store_partial(v, x);
    }
    #[inline(always)]
    fn add(self, a: S::V, b: S::V) -> S::V {
        self.0.add(a, b)
    }
    #[inline(always)]
    fn fma(self, a: S::V, b: S::V, c: S::V) -> S::V {
        self.0.fma(a, b, c)
    }
    #[inline(always)]
    fn relu(self, a: S::V) -> S::V {
        // Not max: a NaN must stay NaN.
        let zero = self.0.splat(0.0);
        self.0.select(self.0.gt(zero, a), zero, a)
    }
}

/// Words that hold two bf16 each: the product of two words is the sum of two products. Only operands are such words; the
/// tile holds f32.
#[derive(Clone, Copy)]
struct Paired<D>(D);

impl<D: Bf16> Lanes for Paired<D> {
    type T = f32;
    type V = <D::S as Simd>::V;
    const N: usize = D::S::LANES;
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        self.0.simd().splat(x)
    }
    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::V {
        self.0.simd().load(x)
    }
    #[inline(always)]
    fn load_partial(self, x: &[f32]) -> Self::V {
        self.0.simd().load_partial(x)
    }
    #[inline(always)]
    fn store(self, v: Self::V, x: &mut [f32]) {
        self.0.simd().store(v, x);
    }
    #[inline(always)]
    fn store_partial(self, v: Self::V, x: &mut [f32]) {
        self.0.simd().store_partial(v, x);
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        self.0.simd().add(a, b)
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        self.0.dot(a, b, c)
    }
    #[inline(always)]
    fn relu(self, a: Self::V) -> Self::V {
        Single(self.0.simd()).relu(a)
    }
}

/// Eight f64, left to the compiler to vectorise for the instruction set around it.
#[derive(Clone, Copy)]
struct Double;

impl Lanes for Double {
    type T = f64;
    type V = [f64; 8];
    const N: usize = 8;
    #[inline(always)]
    fn splat(self, x: f64) -> [f64; 8] {
        [x; 8]
    }
    #[inline(always)]
    fn load(self, x: &[f64]) -> [f64; 8] {
        std::array::from_fn(|i| x[..8][i])
    }
    #[inline(always)]
    fn load_partial(self, x: &[f64]) -> [f64; 8] {
        std::array::from_fn(|i| if i < x.len() { x[i] } else { 0.0 })
    }
    #[inline(always)]
    fn store(self, v: [f64; 8], x: &mut [f64]) {
        x[..8].copy_from_slice(&v);
    }
    #[inline(always)]
    fn store_partial(self, v: [f64; 8], x: &mut [f64]) {
        let n = x.len().min(8);
        x[..n].copy_from_slice(&v[..n]);
    }
    #[inline(always)]
    fn add(self, a: [f64; 8], b: [f64; 8]) -> [f64; 8] {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn fma(self, a: [f64; 8], b: [f64; 8], c: [f64; 8]) -> [f64; 8] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn relu(self, a: [f64; 8]) -> [f64; 8] {
        std::array::from_fn(|i| if a[i] < 0.0 { 0.0 } else { a[i] })
    }
}

/// Rows and columns of the register tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile {
    pub(super) mr: usize,
    pub(super) nr: usize,
}

/// The tile of `T` under an instruction set.
pub(super) struct TileOf<T>(pub(super) std::marker::PhantomData<T>);

impl<T: Real> Task for TileOf<T> {
    type Out = Tile;
    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> Tile {
        if !T::IS_F32 {
            return Tile { mr: 4, nr: 8 };
        }
        match shape::<S>() {
            Shape::Wide => Tile { mr: 14, nr: 2 * S::LANES },
            Shape::Half => Tile { mr: 6, nr: 2 * S::LANES },
            Shape::Narrow => Tile { mr: 6, nr: 4 * S::LANES },
            Shape::Plain => Tile { mr: 4, nr: S::LANES },
        }
    }
}

/// Which tile fits the registers: MR x NV accumulators + NV of B + 1 of A.
enum Shape {
    /// 32 registers of 16 lanes (AVX-512): 14 x 2.
    Wide,
    /// 16 registers of 8 lanes (AVX2): 6 x 2.
    Half,
    /// 32 registers of 4 lanes (NEON): 6 x 4.
    Narrow,
    /// Plain Rust: 4 x 1 arrays of 8 (eight SSE registers).
    Plain,
}

#[inline(always)]
fn shape<S: Simd>() -> Shape {
    if TypeId::of::<S>() == TypeId::of::<Portable>() {
        Shape::Plain
    } else if S::LANES >= 16 {
        Shape::Wide
    } else if S::LANES >= 8 {
        Shape::Half
    } else {
        Shape::Narrow
    }
}

impl<T: Real> Task for Block<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if T::IS_F32 {
            let block = self.cast::<f32>();
            match shape::<S>() {
                Shape::Wide => tiles::<_, 14, 7, 2>(Single(s), block),
                Shape::Half => tiles::<_, 6, 3, 2>(Single(s), block),
                Shape::Narrow => tiles::<_, 6, 3, 4>(Single(s), block),
                Shape::Plain => tiles::<_, 4, 2, 1>(Single(s), block),
            }
        } else {
            tiles::<_, 4, 2, 1>(Double, self.cast::<f64>());
        }
    }
}

impl<T: Real> DotTask for Block<'_, T> {
    type Out = ();
    #[inline(always)]
    fn run<D: Bf16>(self, d: D) {
        // The tile of the vectors below the dot product, as [`TileOf`] gives it.
        match shape::<D::S>() {
            Shape::Wide => tiles::<_, 14, 7, 2>(Paired(d), self.cast::<f32>()),
            _ => unreachable!("dot products of bf16 come with vectors of sixteen lanes"),
        }
    }
}

/// All tiles of a block. The last rows use a tile of half the height where it suffices, the last columns one vector.
#[inline(always)]
fn tiles<L: Lanes, const MR: usize, const HALF: usize, const NV: usize>(l: L, mut t: Block<'_, L::T>) {
    let nr = NV * L::N;
    for i in (0..t.m).step_by(MR) {
        let rows = MR.min(t.m - i);
        for j in (0..t.n).step_by(nr) {
            let b = &t.b[j / nr * t.across..];
            let cols = nr.min(t.n - j);
            match (rows <= HALF, cols <= L::N) {
                (false, false) => tile::<L, MR, NV, MR>(l, &mut t, b, i, rows, j, cols),
                (true, false) => tile::<L, HALF, NV, MR>(l, &mut t, b, i, rows, j, cols),
                (false, true) => tile::<L, MR, 1, MR>(l, &mut t, b, i, rows, j, cols),
                (true, true) => tile::<L, HALF, 1, MR>(l, &mut t, b, i, rows, j, cols),
            }
        }
    }
}

/// One tile of `M x V` vectors out of panels `PM` rows high; `rows x cols` of it are stored.
#[inline(always)]
fn tile<L: Lanes, const M: usize, const V: usize, const PM: usize>(
    l: L,
    t: &mut Block<'_, L::T>,
    b: &[L::T],
    i: usize,
    rows: usize,
    j: usize,
    cols: usize,
) {
    let mut acc = [[l.splat(L::T::ZERO); V]; M];
    let row = |p: usize| &b[p * t.down..][..V * L::N];
    match t.form {
        Form::Rows => {
            // Arrays of constant length, so that the row offsets are constants and the index needs no check.
            let a: &[[L::T; KS]; PM] = first(&t.a.as_chunks::<KS>().0[i..]);
            for p in 0..t.k.min(KS) {
                step::<L, M, V>(l, &mut acc, |r| a[r][p], row(p));
            }
        }
        Form::Panels => {
            let a = t.a[i * t.k..][..PM * t.k].as_chunks::<PM>().0;
            for (p, a) in a.iter().enumerate() {
                step::<L, M, V>(l, &mut acc, |r| a[r], row(p));
            }
        }
        Form::RowsInPlace(apart) => {
            // Slices of one length, so that the index needs no check.
            let mut a = [&t.a[..0]; M];
            for (r, a) in a.iter_mut().enumerate() {
                *a = &t.a[(i + r) * apart..][..t.k];
            }
            for p in 0..t.k {
                step::<L, M, V>(l, &mut acc, |r| a[r][p], row(p));
            }
        }
        Form::ColumnsInPlace(apart) => {
            for p in 0..t.k {
                let a: &[L::T; M] = first(&t.a[p * apart + i..]);
                step::<L, M, V>(l, &mut acc, |r| a[r], row(p));
            }
        }
    }
    if rows == M && cols == V * L::N {
        store_whole(l, acc, t, i, j);
    } else {
        store_part(l, acc, t, i, rows, j, cols);
    }
}

/// Stores a whole tile; every index is a constant once unrolled, so the tile never leaves the registers.
#[inline(always)]
fn store_whole<L: Lanes, const M: usize, const V: usize>(
    l: L,
    mut acc: [[L::V; V]; M],
    t: &mut Block<'_, L::T>,
    i: usize,
    j: usize,
) {
    let c = &mut t.c[i * t.rsc + j..];
    let width = V * L::N;
    if t.beta == Beta::One {
        for r in 0..M {
            let c = &c[r * t.rsc..][..width];
            for v in 0..V {
                acc[r][v] = l.add(l.load(&c[v * L::N..]), acc[r][v]);
            }
        }
    }
    if let Some(bias) = t.epilogue.bias {
        let bias = &bias[j..j + width];
        for v in 0..V {
            let bias = l.load(&bias[v * L::N..]);
            for r in 0..M {
                acc[r][v] = l.add(acc[r][v], bias);
            }
        }
    }
    if t.epilogue.relu {
        for r in 0..M {
            for v in 0..V {
                acc[r][v] = l.relu(acc[r][v]);
            }
        }
    }
    for r in 0..M {
        let c = &mut c[r * t.rsc..][..width];
        for v in 0..V {
            l.store(acc[r][v], &mut c[v * L::N..]);
        }
    }
}

/// Stores the first `rows` rows and `cols` columns of a tile.
#[inline(always)]
fn store_part<L: Lanes, const M: usize, const V: usize>(
    l: L,
    acc: [[L::V; V]; M],
    t: &mut Block<'_, L::T>,
    i: usize,
    rows: usize,
    j: usize,
    cols: usize,
) {
    for r in 0..M {
        if r == rows {
            return;
        }
        let c = &mut t.c[(i + r) * t.rsc + j..][..cols];
        for v in 0..V {
            let at = v * L::N;
            if at >= cols {
                break;
            }
            let mut x = acc[r][v];
            let c = &mut c[at..];
            if t.beta == Beta::One {
                x = l.add(l.load_partial(c), x);
            }
            if let Some(bias) = t.epilogue.bias {
                x = l.add(x, l.load_partial(&bias[j + at..j + cols]));
            }
            if t.epilogue.relu {
                x = l.relu(x);
            }
            l.store_partial(x, c);
        }
    }
}

/// acc += a column of the A panel times a row of the B panel.
#[inline(always)]
fn step<L: Lanes, const M: usize, const V: usize>(
    l: L,
    acc: &mut [[L::V; V]; M],
    a: impl Fn(usize) -> L::T,
    b: &[L::T],
) {
    let b: [L::V; V] = std::array::from_fn(|v| l.load(&b[v * L::N..]));
    for (r, acc) in acc.iter_mut().enumerate() {
        let x = l.splat(a(r));
        for v in 0..V {
            acc[v] = l.fma(x, b[v], acc[v]);
        }
    }
}
