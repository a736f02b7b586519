//! Matrix product with bias and ReLU in the last pass.
//!
//! | symbol | shape | meaning |
//! |---|---|---|
//! | A | `[m, k]` | left operand, any strides |
//! | B | `[k, n]` | right operand, any strides |
//! | C | `[m, n]` | result, overwritten (beta 0) or added to (beta 1) |
//! | bias | `[n]` | added to every row, optional |
//!
//! # Forward
//! ```text
//! C[i, j] = act(sum over p of A[i, p] B[p, j] + bias[j] + beta C[i, j])
//! ```
//!
//! # Derivative
//! Products again; transposes are strides, so one function serves NN, NT and TN:
//!
//! ```text
//! dA = dC B^T
//! dB = A^T dC
//! ```
//!
//! # Cost
//! 2 m n k FLOPs; at least m k + k n + 2 m n elements read or written.
//!
//! # Method
//! After Goto and van de Geijn ("Anatomy of high-performance matrix multiplication", ACM TOMS 34(3), 2008) and BLIS (van Zee
//! and van de Geijn, ACM TOMS 41(3), 2015): B is copied ("packed") into panels of `NR` columns, A into panels of `MR` rows,
//! both cut into blocks of [`KC`] along k, and a micro-kernel keeps an `MR x NR` tile of C in registers.
//!
//! | file | holds |
//! |---|---|
//! | `blocked.rs` | the loops |
//! | `pack.rs`, `words.rs` | the copies, in f32 and in bf16 |
//! | `micro.rs` | the tile in registers |
//! | `small.rs` | products of few rows or columns, read in place |
//! | `bf16.rs`, `int8.rs` | operands rounded when they are packed ([`MatmulPrecision`]) |
//!
//! # Numerics
//! The sum over p runs in order within a block of at most [`KC`], and blocks are added in order (with few rows or columns:
//! lane by lane, then the lanes), so the result depends on the dimensions and the instruction set only. NaN and infinity
//! propagate as in the plain sum, except that an instruction set may fuse multiply and add. ReLU maps NaN to NaN.

use crate::contract::{allow, at_least, len, product, require};
use crate::{Beta, Isa, Real, real};
use std::ops::Range;

mod bf16;
mod blocked;
mod column_sums;
mod int8;
mod micro;
mod pack;
mod quads;
mod reference;
mod small;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use bf16::round as round_lanes;
pub use bf16::{MatmulPrecision, round_to_bf16};
pub use blocked::KC;
pub(crate) use blocked::{multiply, multiply_packed, pack};
pub(crate) use column_sums::add_column_sums;
pub(crate) use pack::{Matrix, Strided, copy};
pub use reference::gemm as gemm_reference;

/// Strides of a matrix: (from row to row, from column to column), in elements.
pub type Strides = (usize, usize);

/// What the last pass over C adds.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a, T> {
    /// Added to every row: n elements.
    pub bias: Option<&'a [T]>,
    /// Negative results become 0.
    pub relu: bool,
}

impl<T> Epilogue<'_, T> {
    /// Nothing.
    pub const NONE: Self = Self { bias: None, relu: false };
}

/// The arguments every product shares, checked.
#[track_caller]
fn check<T>(
    (m, n, k): (usize, usize, usize),
    a: Option<(&[T], Strides)>,
    b: Option<(&[T], Strides)>,
    c: &[T],
    rsc: usize,
    epilogue: Epilogue<'_, T>,
) {
    if let Some((a, strides)) = a {
        at_least("gemm", "a", extent(m, k, strides), a.len());
    }
    if let Some((b, strides)) = b {
        at_least("gemm", "b", extent(k, n, strides), b.len());
    }
    require("gemm", "the row stride of c must be at least its columns", rsc, rsc >= n || m <= 1);
    at_least("gemm", "c", extent(m, n, (rsc, 1)), c.len());
    if let Some(bias) = epilogue.bias {
        len("gemm", "bias", n, bias.len());
    }
}

/// Elements a matrix of these strides spans.
#[track_caller]
fn extent(rows: usize, cols: usize, (rs, cs): Strides) -> usize {
    if rows == 0 || cols == 0 {
        return 0;
    }
    let (down, right) = (product("gemm", &[rows - 1, rs]), product("gemm", &[cols - 1, cs]));
    down.checked_add(right).and_then(|e| e.checked_add(1)).unwrap_or(usize::MAX)
}

/// Scratch of [`gemm`] and [`gemm_with`], in elements.
pub fn scratch_len<T: Real>(m: usize, n: usize, k: usize) -> usize {
    blocked::a_len(m) + blocked::b_len(n, k)
}

/// Length of B packed by [`pack_b`], in elements, in any precision: pairs of bf16 fill the first half, words of four
/// 8-bit integers a quarter, their scales some more.
///
/// # Panics
/// If the product overflows.
pub fn packed_len<T: Real>(k: usize, n: usize) -> usize {
    product("gemm", &[k, n.next_multiple_of(blocked::NR_MAX)])
}

/// Scratch of [`gemm_packed`], in elements.
pub fn packed_scratch_len<T: Real>(m: usize) -> usize {
    blocked::a_len(m)
}

/// C = A B + beta C for A `[m, k]`, B `[k, n]` of any strides and C `[m, n]` with rows `rsc` apart.
///
/// `scratch`: [`scratch_len`] elements.
///
/// # Panics
/// If a slice is too short for its shape, or `rsc < n`.
#[track_caller]
pub fn gemm<T: Real>(
    isa: Isa,
    m: usize,
    n: usize,
    k: usize,
    a: &[T],
    a_strides: Strides,
    b: &[T],
    b_strides: Strides,
    beta: Beta,
    c: &mut [T],
    rsc: usize,
    scratch: &mut [T],
) {
    let (precision, none) = (MatmulPrecision::F32, Epilogue::NONE);
    gemm_with(isa, precision, (m, n, k), a, a_strides, b, b_strides, beta, c, rsc, none, scratch);
}

crate::compiled::compiled! {
    /// As [`gemm`], of operands in a `precision`, with bias and ReLU applied while the result is in registers.
    ///
    /// # Panics
    /// As [`gemm`], and if the bias has not n elements. In int8, which takes a packed B, unless the operands are read in place
    /// ([`in_place`]).
    #[track_caller]
    pub fn gemm_with<T>(
        isa: Isa,
        precision: MatmulPrecision,
        shape: (usize, usize, usize),
        a: &[T],
        a_strides: Strides,
        b: &[T],
        b_strides: Strides,
        beta: Beta,
        c: &mut [T],
        rsc: usize,
        epilogue: Epilogue<'_, T>,
        scratch: &mut [T],
    ) as GemmWithEntry {
        let (m, n, k) = shape;
        check((m, n, k), Some((a, a_strides)), Some((b, b_strides)), c, rsc, epilogue);
        at_least("gemm", "scratch", scratch_len::<T>(m, n, k), scratch.len());
        if m == 0 || n == 0 {
            return;
        }
        if T::IS_F32 {
            let few = Epilogue { bias: epilogue.bias.map(real::same), relu: epilogue.relu };
            let (shape, af, bf) = ((m, n, k), real::same(a), real::same(b));
            if small::multiply(
                isa,
                precision,
                shape,
                af,
                a_strides,
                bf,
                b_strides,
                beta,
                real::same_mut(c),
                rsc,
                few,
            ) {
                return;
            }
            allow("gemm", "a product in int8 needs a packed B", precision != MatmulPrecision::Int8);
            if precision == MatmulPrecision::Bf16 {
                let (a, b) = (Strided { data: af, strides: a_strides }, Strided { data: bf, strides: b_strides });
                let (c, scratch) = (real::same_mut(c), real::same_mut(scratch));
                bf16::multiply(isa, shape, a, b, beta, c, rsc, few, scratch);
                return;
            }
        }
        let (a, b) = (Strided { data: a, strides: a_strides }, Strided { data: b, strides: b_strides });
        blocked::multiply(isa, (m, n, k), a, b, beta, c, rsc, epilogue, scratch);
    }
}

/// Whether [`gemm`] reads the operands of this shape in place: a packed B would not be used.
pub fn in_place<T: Real>(shape: (usize, usize, usize), a: Strides, b: Strides) -> bool {
    T::IS_F32 && small::suits(shape, a, b)
}

crate::compiled::compiled! {
    /// Rows of C by multiples of which a product may be cut into several without changing a bit, if no part has fewer.
    pub fn row_grain<T>(isa: Isa) -> usize as RowGrainEntry {
        (small::FEW_ROWS + 1).next_multiple_of(blocked::tile::<T>(isa).mr)
    }
}

/// Columns by multiples of which [`gemm_packed_columns`] may be asked for parts.
pub fn column_grain() -> usize {
    blocked::NR_MAX
}

/// Panics if a product of `T` in this precision has no derivative.
#[track_caller]
pub(crate) fn differentiable<T: Real>(op: &str, precision: MatmulPrecision) {
    let exact = precision != MatmulPrecision::Int8 || !T::IS_F32;
    allow(op, "a product in int8 has no derivative", exact);
}

/// Panels packed before, or, if `prepared` is empty, made by `pack` at the front of `scratch`; and the scratch left.
pub(crate) fn panels<'a, T>(
    prepared: &'a [T],
    len: usize,
    scratch: &'a mut [T],
    pack: impl FnOnce(&mut [T]),
) -> (&'a [T], &'a mut [T]) {
    if !prepared.is_empty() {
        return (&prepared[..len], scratch);
    }
    let (panels, scratch) = scratch.split_at_mut(len);
    pack(panels);
    (panels, scratch)
}

crate::compiled::compiled! {
    /// Packs B `[k, n]` for [`gemm_packed`] on the same instruction set and in the same precision; `packed`: [`packed_len`]
    /// elements. A `packed` that begins at a multiple of 64 bytes is read faster (3 % of a product, measured), with the same
    /// bits.
    ///
    /// # Panics
    /// If a slice is too short.
    #[track_caller]
    pub fn pack_b<T>(
        isa: Isa,
        precision: MatmulPrecision,
        k: usize,
        n: usize,
        b: &[T],
        strides: Strides,
        packed: &mut [T],
    ) as PackBEntry {
        at_least("gemm", "b", extent(k, n, strides), b.len());
        at_least("gemm", "packed", packed_len::<T>(k, n), packed.len());
        if T::IS_F32 {
            let (x, out) = (Strided { data: real::same(b), strides }, real::same_mut(packed));
            match precision {
                MatmulPrecision::F32 => blocked::pack(isa, k, n, x, out),
                MatmulPrecision::Bf16 => bf16::pack(isa, k, n, x, out),
                MatmulPrecision::Int8 => int8::pack(isa, k, n, x, out),
            }
            return;
        }
        blocked::pack(isa, k, n, Strided { data: b, strides }, packed);
    }
}

/// As [`gemm_with`] for a B packed by [`pack_b`]; `scratch`: [`packed_scratch_len`] elements.
///
/// # Panics
/// As [`gemm_with`].
#[track_caller]
pub fn gemm_packed<T: Real>(
    isa: Isa,
    precision: MatmulPrecision,
    shape: (usize, usize, usize),
    a: &[T],
    strides: Strides,
    packed: &[T],
    beta: Beta,
    c: &mut [T],
    rsc: usize,
    epilogue: Epilogue<'_, T>,
    scratch: &mut [T],
) {
    let columns = 0..shape.1;
    gemm_packed_columns(isa, precision, shape, columns, a, strides, packed, beta, c, rsc, epilogue, scratch);
}

crate::compiled::compiled! {
    /// [`gemm_packed`] for some columns alone, with the same bits: C and the bias hold these columns, which begin and end at
    /// multiples of [`column_grain`] or at n.
    ///
    /// # Panics
    /// As [`gemm_with`], and if the columns are cut elsewhere.
    #[track_caller]
    pub fn gemm_packed_columns<T>(
        isa: Isa,
        precision: MatmulPrecision,
        shape: (usize, usize, usize),
        columns: Range<usize>,
        a: &[T],
        strides: Strides,
        packed: &[T],
        beta: Beta,
        c: &mut [T],
        rsc: usize,
        epilogue: Epilogue<'_, T>,
        scratch: &mut [T],
    ) as GemmPackedColumnsEntry {
        let (m, n, k) = shape;
        check((m, columns.len(), k), Some((a, strides)), None, c, rsc, epilogue);
        for cut in [columns.start, columns.end] {
            let fits = cut <= n && (cut % column_grain() == 0 || cut == n);
            require("gemm", "columns must be cut at multiples of column_grain", cut, fits);
        }
        at_least("gemm", "packed", packed_len::<T>(k, n), packed.len());
        at_least("gemm", "scratch", packed_scratch_len::<T>(m), scratch.len());
        if m == 0 || columns.is_empty() {
            return;
        }
        if precision != MatmulPrecision::F32 && T::IS_F32 {
            let (a, packed) = (Strided { data: real::same(a), strides }, (real::same(packed), columns));
            let epilogue = Epilogue { bias: epilogue.bias.map(real::same), relu: epilogue.relu };
            let (c, scratch) = (real::same_mut(c), real::same_mut(scratch));
            let rounded =
                if precision == MatmulPrecision::Int8 { int8::multiply_packed } else { bf16::multiply_packed };
            rounded(isa, (m, n, k), a, packed, beta, c, rsc, epilogue, scratch);
            return;
        }
        let (a, packed) = (pack::Elements(Strided { data: a, strides }), (packed, columns));
        blocked::multiply_packed_with(isa, None, (m, n, k), 0, a, packed, beta, c, rsc, epilogue, scratch);
    }
}
