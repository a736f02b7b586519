//! Copies into panels. Whatever the operand's layout, the source is read along its contiguous direction.
//!
//! B becomes panels of `nr` columns, each `[k][nr]`. A becomes rows of constant stride where its rows are contiguous
//! (a plain copy; the micro-kernel broadcasts single elements, so it does not mind), or panels `[k][mr]` where its
//! columns are. Missing rows and columns of the last panel are zeros.
//!
//! What need not be copied: a product whose matrices fit the second-level cache together ([`super::blocked::near`]) reads
//! whole tiles of A and whole panels of B where they lie, whichever direction of A is contiguous. In place of copies dW of
//! 161 x 128 -> 256 and 384 takes 4 to 6 % less, of 81 x 64 -> 64 and 192 about 12 % (Zen 5, `cargo bench -p
//! heartlore-kernels --bench kernels -- small tiny`). A rest of fewer rows than a tile is packed, with zeros. Rows or
//! columns that overlap (a convolution's patches) are read in place at any size, since copies would multiply them. In
//! products too large for the cache, A in place gains 1 to 2 % where all is in the third-level cache, and loses as much in
//! a pre-training pass (1281 x 256): not done.
//!
//! Tried without gain: `benches/NOTES.md`.

use super::Strides;
use super::blocked::{Form, KC, KS, LINE, first};
use crate::isa::{Simd, Task};
use crate::{Isa, Real, real};

/// A matrix that can be copied piece by piece; a strided slice, or one that exists only as a rule (im2col).
pub(crate) trait Matrix<T>: Copy {
    /// Copies elements (row, col ..) to `out`.
    fn along_row(&self, row: usize, col: usize, out: &mut [T]);
    /// Copies elements (row .., col) to `out`; only called if [`Matrix::by_columns`].
    fn along_column(&self, row: usize, col: usize, out: &mut [T]);
    /// `N` elements down a column from (row, col); only called if [`Matrix::by_columns`].
    #[inline(always)]
    fn piece<const N: usize>(&self, row: usize, col: usize) -> [T; N]
    where
        T: Real,
    {
        let mut piece = [T::ZERO; N];
        self.along_column(row, col, &mut piece);
        piece
    }
    /// A hint that (row, col) will be read soon; it may lie outside.
    #[inline(always)]
    fn prefetch<S: Simd>(&self, _: S, _row: usize, _col: usize) {}
    /// True if columns are contiguous and rows are not.
    fn by_columns(&self) -> bool;
    /// As A: the part's elements from its first on, if the tiles may read them where they lie. `near`: whether the product's
    /// matrices are likely in the second-level cache.
    #[inline(always)]
    fn in_place(&self, _part: Part, _near: bool) -> Option<(&[T], Form)> {
        None
    }
    /// As B, in a near product: the part's elements from its first on, and how far its rows are apart, if the tiles may read
    /// them where they lie: panels are whole.
    #[inline(always)]
    fn panels_in_place(&self, _nr: usize, _part: Part) -> Option<(&[T], usize)> {
        None
    }
}

/// A matrix in a slice.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) strides: Strides,
}

impl<T> Strided<'_, T> {
    /// The place of an element, the end if it lies outside. Past the last row or column even the product may overflow.
    #[inline(always)]
    fn clamped(&self, row: usize, col: usize) -> usize {
        let (rs, cs) = self.strides;
        row.wrapping_mul(rs).wrapping_add(col.wrapping_mul(cs)).min(self.data.len())
    }
}

impl<T: Real> Matrix<T> for Strided<'_, T> {
    #[inline(always)]
    fn along_row(&self, row: usize, col: usize, out: &mut [T]) {
        let (rs, cs) = self.strides;
        strided(&self.data[row * rs + col * cs..], cs, out);
    }
    #[inline(always)]
    fn along_column(&self, row: usize, col: usize, out: &mut [T]) {
        let (rs, cs) = self.strides;
        strided(&self.data[row * rs + col * cs..], rs, out);
    }
    #[inline(always)]
    fn piece<const N: usize>(&self, row: usize, col: usize) -> [T; N] {
        // Contiguous, and of constant length: a few vector moves.
        *first(&self.data[row + col * self.strides.1..])
    }
    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, row: usize, col: usize) {
        if T::IS_F32 {
            s.prefetch(&real::same(self.data)[self.clamped(row, col)..]);
        }
    }
    #[inline(always)]
    fn by_columns(&self) -> bool {
        self.strides.1 != 1 && self.strides.0 == 1
    }
    #[inline(always)]
    fn in_place(&self, part: Part, near: bool) -> Option<(&[T], Form)> {
        let (rs, cs) = self.strides;
        // What overlaps would grow when it is packed.
        let (form, fits) = if self.by_columns() {
            (Form::ColumnsInPlace(cs), near || cs < part.rows)
        } else {
            (Form::RowsInPlace(rs), cs == 1 && rs <= KC && (near || rs < part.cols))
        };
        let fits = fits && part.cols > 0;
        fits.then(|| (&self.data[part.row * rs + part.col * cs..], form))
    }
    #[inline(always)]
    fn panels_in_place(&self, nr: usize, part: Part) -> Option<(&[T], usize)> {
        let (rs, cs) = self.strides;
        let fits = cs == 1 && part.cols.is_multiple_of(nr) && part.rows > 0;
        fits.then(|| (&self.data[part.row * rs + part.col..], rs))
    }
}

#[inline(always)]
fn strided<T: Real>(data: &[T], step: usize, out: &mut [T]) {
    if step == 1 {
        copy(&data[..out.len()], out);
    } else {
        for (i, out) in out.iter_mut().enumerate() {
            *out = data[i * step];
        }
    }
}

/// `copy_from_slice` for short runs: pieces of 16 become vector moves instead of calls.
#[inline(always)]
pub(crate) fn copy<T: Real>(from: &[T], to: &mut [T]) {
    let (f, f_tail) = from.as_chunks::<16>();
    let (t, t_tail) = to.as_chunks_mut::<16>();
    for (f, t) in f.iter().zip(t) {
        *t = *f;
    }
    for (f, t) in f_tail.iter().zip(t_tail) {
        *t = *f;
    }
}

/// `rows x cols` of an operand from (row, col).
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(super) row: usize,
    pub(super) col: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

/// What can be packed as A or as B.
pub(super) trait Operand<T>: Copy {
    /// Packs a part of A for tiles of `mr` rows.
    fn pack_a(&self, isa: Isa, part: Part, mr: usize, out: &mut [T]);
    /// Packs a part of B for tiles of `nr` columns.
    fn pack_b(&self, isa: Isa, part: Part, nr: usize, out: &mut [T]);
    /// [`Matrix::by_columns`].
    fn by_columns(&self) -> bool;
    /// [`Matrix::in_place`].
    fn in_place(&self, _part: Part, _near: bool) -> Option<(&[T], Form)> {
        None
    }
    /// [`Matrix::panels_in_place`].
    fn panels_in_place(&self, _nr: usize, _part: Part) -> Option<(&[T], usize)> {
        None
    }
}

/// A matrix packed element by element.
#[derive(Clone, Copy)]
pub(super) struct Elements<M>(pub(super) M);

impl<T: Real, M: Matrix<T>> Operand<T> for Elements<M> {
    fn pack_a(&self, isa: Isa, part: Part, mr: usize, out: &mut [T]) {
        isa.run(PackA { a: self.0, part, mr, out });
    }
    fn pack_b(&self, isa: Isa, part: Part, nr: usize, out: &mut [T]) {
        isa.run(PackB { b: self.0, part, nr, out });
    }
    fn by_columns(&self) -> bool {
        self.0.by_columns()
    }
    fn in_place(&self, part: Part, near: bool) -> Option<(&[T], Form)> {
        self.0.in_place(part, near)
    }
    fn panels_in_place(&self, nr: usize, part: Part) -> Option<(&[T], usize)> {
        self.0.panels_in_place(nr, part)
    }
}

struct PackA<'a, T, A> {
    a: A,
    part: Part,
    mr: usize,
    out: &'a mut [T],
}

impl<T: Real, A: Matrix<T>> Task for PackA<'_, T, A> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { a, part: Part { row, col, rows, cols }, mr, out } = self;
        if a.by_columns() {
            match mr {
                14 => panels::<T, S, 14>(s, a, row, col, rows, cols, out),
                6 => panels::<T, S, 6>(s, a, row, col, rows, cols, out),
                _ => panels::<T, S, 4>(s, a, row, col, rows, cols, out),
            }
        } else {
            let (out, _) = out.as_chunks_mut::<KS>();
            for r in 0..rows {
                a.along_row(row + r, col, &mut out[r][..cols]);
            }
            for r in rows..rows.next_multiple_of(mr) {
                out[r][..cols].fill(T::ZERO);
            }
        }
    }
}

/// Panels `[cols][MR]` of a matrix with contiguous columns: a whole column at a time, dealt out to the panels. Pieces go
/// from the source to their panel at once: a copy of the column between them would be stored and loaded again at
/// other boundaries, which defeats store forwarding (measured: 1.7 cycles an element, 15 % of a 1024 x 256 x 1281 product).
#[inline(always)]
fn panels<T: Real, S: Simd, const MR: usize>(
    s: S,
    a: impl Matrix<T>,
    row: usize,
    col: usize,
    rows: usize,
    cols: usize,
    out: &mut [T],
) {
    let (whole, rest) = (rows / MR, rows % MR);
    let (out, last) = out.split_at_mut(whole * cols * MR);
    for p in 0..cols {
        for panel in 0..whole {
            a.prefetch(s, row + panel * MR, col + p + AHEAD);
            let at = (panel * cols + p) * MR;
            out[at..at + MR].copy_from_slice(&a.piece::<MR>(row + panel * MR, col + p));
        }
    }
    if rest > 0 {
        for (p, out) in last.as_chunks_mut::<MR>().0[..cols].iter_mut().enumerate() {
            a.along_column(row + whole * MR, col + p, &mut out[..rest]);
            out[rest..].fill(T::ZERO);
        }
    }
}

/// How many lines of the source are asked for before they are read. A part is some hundred bytes of each line, so the
/// CPU's own prefetcher sees jumps (measured on Zen 5, operands in memory: dW of 1281 x 256 -> 256 takes 0.83 instead
/// of 0.89 ms in f32, 0.49 instead of 0.70 ms in bf16; in the second-level cache, 1 % more).
pub(super) const AHEAD: usize = 16;

/// Rows of B copied to all panels before the next ones: eight lie in a first-level cache even at a 4 KiB stride.
pub(super) const STRIP: usize = 8;

/// Elements of a column that are transposed at once: a line of f32.
const COLUMN_STRIP: usize = 16;

struct PackB<'a, T, B> {
    b: B,
    part: Part,
    nr: usize,
    out: &'a mut [T],
}

impl<T: Real, B: Matrix<T>> Task for PackB<'_, T, B> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { b, part: Part { row, col, rows, cols }, nr, out } = self;
        if !b.by_columns() {
            // Some rows at a time, so that they are read along their length: down a panel, every row would be in
            // another page, and the prefetcher gives up (measured: 2 GB/s).
            for p in (0..rows).step_by(STRIP) {
                let strip = STRIP.min(rows - p);
                for (panel, out) in out.chunks_exact_mut((rows * nr).max(1)).enumerate() {
                    let out = out[p * nr..][..strip * nr].chunks_exact_mut(nr);
                    match nr {
                        32 => along::<T, S, 32>(s, b, row + p, col, panel * 32, cols, out),
                        16 => along::<T, S, 16>(s, b, row + p, col, panel * 16, cols, out),
                        _ => along::<T, S, 8>(s, b, row + p, col, panel * 8, cols, out),
                    }
                }
            }
            return;
        }
        for (panel, out) in out.chunks_exact_mut((rows * nr).max(1)).enumerate() {
            let first = panel * nr;
            let real = nr.min(cols - first);
            columns(s, b, row, col + first, real, nr, out);
        }
    }
}

/// Copies rows of one panel of NR columns.
#[inline(always)]
fn along<'a, T: Real, S: Simd, const NR: usize>(
    s: S,
    b: impl Matrix<T>,
    row: usize,
    col: usize,
    first: usize,
    cols: usize,
    out: impl Iterator<Item = &'a mut [T]>,
) {
    let real = NR.min(cols - first);
    for (p, out) in out.enumerate() {
        let out = &mut out[..NR];
        for line in (0..NR).step_by(LINE) {
            b.prefetch(s, row + p + AHEAD, col + first + line);
        }
        if real == NR {
            b.along_row(row + p, col + first, out);
        } else {
            b.along_row(row + p, col + first, &mut out[..real]);
            out[real..].fill(T::ZERO);
        }
    }
}

/// Transposes contiguous columns into a panel, [`COLUMN_STRIP`] elements of each at a time so that both sides stay in
/// cache: f32 by squares in registers. That makes a product with B by columns 2 to 5 % faster with AVX-512 (1281 x 1024 x
/// 256, 1281 x 1281 x 128) and up to 2 % with AVX2.
#[inline(always)]
fn columns<T: Real, S: Simd>(
    s: S,
    b: impl Matrix<T>,
    row: usize,
    col: usize,
    real: usize,
    nr: usize,
    out: &mut [T],
) {
    for (strip, out) in out.chunks_mut(COLUMN_STRIP * nr).enumerate() {
        let row = row + strip * COLUMN_STRIP;
        let whole = real == nr && out.len() == COLUMN_STRIP * nr;
        if T::IS_F32 && whole {
            let out = real::same_mut(out);
            for j in (0..nr).step_by(S::LANES) {
                square(s, b, row, col + j, nr, &mut out[j..]);
            }
            continue;
        }
        let depth = out.len() / nr;
        let mut strip = [T::ZERO; COLUMN_STRIP];
        for j in 0..nr {
            if j < real {
                b.along_column(row, col + j, &mut strip[..depth]);
            } else {
                strip = [T::ZERO; COLUMN_STRIP];
            }
            for p in 0..depth {
                out[p * nr + j] = strip[p];
            }
        }
    }
}

/// [`COLUMN_STRIP`] elements of `S::LANES` columns, those of a row next to each other in `out`, rows `nr` apart.
#[inline(always)]
fn square<T: Real, S: Simd>(s: S, b: impl Matrix<T>, row: usize, col: usize, nr: usize, out: &mut [f32]) {
    for p in (0..COLUMN_STRIP).step_by(S::LANES) {
        let mut v = [s.splat(0.0); 16];
        for (i, v) in v.iter_mut().enumerate().take(S::LANES) {
            b.prefetch(s, row + 2 * COLUMN_STRIP, col + i);
            let piece = b.piece::<COLUMN_STRIP>(row, col + i);
            if T::IS_F32 {
                let piece = real::same(&piece);
                *v = s.load(&piece[p..]);
            }
        }
        s.transpose(&mut v);
        for (i, v) in v.into_iter().enumerate().take(S::LANES) {
            s.store(v, &mut out[(p + i) * nr..]);
        }
    }
}
