//! The loops around the micro-kernel: cut, pack, multiply.

use super::Epilogue;
use super::micro::{Tile, TileOf};
use super::pack::{Elements, Matrix, Operand, Part};
use crate::isa::Bf16Dot;
use crate::{Beta, Isa, Real, real};
use std::marker::PhantomData;
use std::ops::Range;

/// Longest block along k: an A panel (14 x 384 f32, 21 KiB) stays in a 32 KiB first-level cache while the B panels
/// stream past it. Measured on Zen 4 with AVX-512: 256 is 2 to 6 % slower where k > 256, 512 is 5 % slower throughout.
pub const KC: usize = 384;
/// Row stride of an A block packed by rows: not a multiple of the 4 KiB cache way, so rows do not evict each other.
pub(super) const KS: usize = KC + 16;
/// Rows of an A block: a multiple of every tile height (14, 6, 4).
pub(super) const MC: usize = 168;
/// Longest stretch of k, and elements, of B packed at a time: 2 MiB of f32.
const DEPTH: usize = 6 * KC;
const AREA: usize = 512 << 10;
/// Largest tile of any instruction set; every tile width divides `NR_MAX`.
pub(super) const MR_MAX: usize = 14;
pub(super) const NR_MAX: usize = 32;

/// The tile of `T` under `isa`.
pub(super) fn tile<T: Real>(isa: Isa) -> Tile {
    isa.run(TileOf::<T>(PhantomData))
}

/// Length of the blocks k is cut into: equal ones, so that none is a short remainder.
pub(super) fn depth(k: usize) -> usize {
    k.div_ceil(k.div_ceil(KC).max(1)).next_multiple_of(8).clamp(1, KC)
}

/// Scratch of the packed A block for m rows, with room to begin at a cache line.
pub(super) fn a_len(m: usize) -> usize {
    (m.min(MC) + MR_MAX) * KS + LINE
}

/// Elements of a cache line, for f32.
pub(super) const LINE: usize = 16;

/// The part of scratch from a cache line's start on, so that panels are read and written in whole lines. Only speed
/// depends on it.
pub(super) fn aligned<T>(scratch: &mut [T]) -> &mut [T] {
    let skip = scratch.as_ptr().align_offset(64);
    &mut scratch[if skip < LINE { skip } else { 0 }..]
}

/// Whether operands and result fill three quarters of a second-level cache of 1 MiB at most: then they may be read where they
/// lie (see `pack.rs`).
pub(super) fn near((m, n, k): (usize, usize, usize)) -> bool {
    const NEAR: usize = 192 << 10;
    let (a, b, c) = (m.saturating_mul(k), k.saturating_mul(n), m.saturating_mul(n));
    a.saturating_add(b).saturating_add(c) <= NEAR
}

/// Columns of B packed at a time.
fn width(k: usize) -> usize {
    AREA / k.clamp(KC, DEPTH) / NR_MAX * NR_MAX
}

/// Scratch of a packed part of B, of single elements or of pairs.
pub(super) fn b_len(n: usize, k: usize) -> usize {
    let len = |k: usize| n.min(width(k)).next_multiple_of(NR_MAX) * k.min(DEPTH);
    len(k).max(len(k.div_ceil(2)))
}

/// How the elements of a block of A lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Packed rows, [`KS`] apart.
    Rows,
    /// Packed panels `[k][mr]`.
    Panels,
    /// In place, each row contiguous and so far from the next. Only for whole tiles.
    RowsInPlace(usize),
    /// In place, each column contiguous and so far from the next. Only for whole tiles.
    ColumnsInPlace(usize),
}

/// One packed block times another: C (+)= A B.
pub(super) struct Block<'a, T> {
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
    pub(super) a: &'a [T],
    pub(super) form: Form,
    /// Panels of columns, [`Block::across`] apart, and their rows, [`Block::down`] apart.
    pub(super) b: &'a [T],
    pub(super) across: usize,
    pub(super) down: usize,
    pub(super) beta: Beta,
    pub(super) c: &'a mut [T],
    pub(super) rsc: usize,
    pub(super) epilogue: Epilogue<'a, T>,
}

impl<'a, T: Real> Block<'a, T> {
    /// The same block with its type named; `U` must be `T`.
    #[inline(always)]
    pub(super) fn cast<U: Real>(self) -> Block<'a, U> {
        Block {
            m: self.m,
            n: self.n,
            k: self.k,
            a: real::same(self.a),
            form: self.form,
            b: real::same(self.b),
            across: self.across,
            down: self.down,
            beta: self.beta,
            c: real::same_mut(self.c),
            rsc: self.rsc,
            epilogue: Epilogue { bias: self.epilogue.bias.map(real::same), relu: self.epilogue.relu },
        }
    }
}

/// C = act(A B + bias + beta C), packing both operands block by block.
pub(crate) fn multiply<T: Real>(
    isa: Isa,
    shape: (usize, usize, usize),
    a: impl Matrix<T>,
    b: impl Matrix<T>,
    beta: Beta,
    c: &mut [T],
    rsc: usize,
    epilogue: Epilogue<'_, T>,
    scratch: &mut [T],
) {
    multiply_with(isa, None, shape, Elements(a), Elements(b), beta, c, rsc, epilogue, scratch);
}

/// As [`multiply`]; with `dot`, elements are pairs of bf16 (and T is f32).
pub(super) fn multiply_with<T: Real>(
    isa: Isa,
    dot: Option<Bf16Dot>,
    (m, n, k): (usize, usize, usize),
    a: impl Operand<T>,
    b: impl Operand<T>,
    beta: Beta,
    c: &mut [T],
    rsc: usize,
    epilogue: Epilogue<'_, T>,
    scratch: &mut [T],
) {
    let nr = tile::<T>(isa).nr;
    let (a_pack, b_pack) = aligned(scratch).split_at_mut(a_len(m) - LINE);
    for pc in (0..k.max(1)).step_by(DEPTH) {
        let kb = DEPTH.min(k - pc);
        let beta = if pc == 0 { beta } else { Beta::One };
        for jc in (0..n).step_by(width(k)) {
            let nb = width(k).min(n - jc);
            let epilogue = last(epilogue, jc, pc + kb == k);
            let (shape, c) = ((m, nb, kb), &mut c[jc..]);
            let part = Part { row: pc, col: jc, rows: kb, cols: nb };
            if let Some((b, down)) = b.panels_in_place(nr, part).filter(|_| near((m, n, k))) {
                let columns = |p: usize, _| (&b[p * down..], nr, down);
                by_blocks(isa, dot, shape, pc, a, columns, beta, c, rsc, epilogue, a_pack);
                continue;
            }
            pack_with(isa, (pc, jc), kb, nb, b, b_pack);
            let packed = (&*b_pack, 0..nb);
            multiply_packed_with(isa, dot, shape, pc, a, packed, beta, c, rsc, epilogue, a_pack);
        }
    }
}

/// As [`multiply`] with B packed before. A block of rows of C is finished, all along k, before the next is begun, so it
/// stays in the second-level cache.
pub(crate) fn multiply_packed<T: Real>(
    isa: Isa,
    shape: (usize, usize, usize),
    a: impl Matrix<T>,
    packed: &[T],
    beta: Beta,
    c: &mut [T],
    rsc: usize,
    epilogue: Epilogue<'_, T>,
    a_pack: &mut [T],
) {
    let packed = (packed, 0..shape.1);
    multiply_packed_with(isa, None, shape, 0, Elements(a), packed, beta, c, rsc, epilogue, a_pack);
}

/// As [`multiply_packed`], of A from column `col` on and for some columns of B, which begin at a multiple of [`NR_MAX`]: C
/// and the bias hold these alone. With `dot`, elements are pairs of bf16 (and T is f32).
pub(super) fn multiply_packed_with<T: Real>(
    isa: Isa,
    dot: Option<Bf16Dot>,
    (m, n, k): (usize, usize, usize),
    col: usize,
    a: impl Operand<T>,
    (packed, part): (&[T], Range<usize>),
    beta: Beta,
    c: &mut [T],
    rsc: usize,
    epilogue: Epilogue<'_, T>,
    a_pack: &mut [T],
) {
    let nr = tile::<T>(isa).nr;
    let (all, first, n) = (n.next_multiple_of(nr), part.start, part.len());
    let columns = |p: usize, depth: usize| (&packed[p * all + first * depth..], nr * depth, nr);
    by_blocks(isa, dot, (m, n, k), col, a, columns, beta, c, rsc, epilogue, a_pack);
}

/// The product block by block; `columns(p, depth)`: the panels of B of the block of this depth from row p on, as
/// [`Block`] takes them.
fn by_blocks<'a, T: Real>(
    isa: Isa,
    dot: Option<Bf16Dot>,
    (m, n, k): (usize, usize, usize),
    col: usize,
    a: impl Operand<T>,
    columns: impl Fn(usize, usize) -> (&'a [T], usize, usize),
    beta: Beta,
    c: &mut [T],
    rsc: usize,
    epilogue: Epilogue<'_, T>,
    a_pack: &mut [T],
) {
    let Tile { mr, .. } = tile::<T>(isa);
    let a_pack = aligned(a_pack);
    let (kc, mc) = (depth(k), MC);
    for ic in (0..m).step_by(mc) {
        let mb = mc.min(m - ic);
        for pc in (0..k.max(1)).step_by(kc) {
            let kb = kc.min(k - pc);
            let (b, across, down) = columns(pc, kb);
            let (beta, epilogue) = (if pc == 0 { beta } else { Beta::One }, last(epilogue, 0, pc + kb == k));
            let part = Part { row: ic, col: col + pc, rows: mb, cols: kb };
            // Whole tiles may be read in place; rows that fill none are packed, with zeros for those that are not there.
            let whole = a.in_place(part, near((m, n, k))).map(|(a, form)| (a, form, mb - mb % mr));
            if let Some((a, form, whole)) = whole.filter(|whole| whole.2 > 0) {
                let c = &mut c[ic * rsc..];
                run(isa, dot, Block { m: whole, n, k: kb, a, form, b, across, down, beta, c, rsc, epilogue });
            }
            let done = whole.map_or(0, |whole| whole.2);
            if done < mb {
                a.pack_a(isa, Part { row: ic + done, rows: mb - done, ..part }, mr, a_pack);
                let form = if a.by_columns() { Form::Panels } else { Form::Rows };
                let (m, a, c) = (mb - done, &*a_pack, &mut c[(ic + done) * rsc..]);
                run(isa, dot, Block { m, n, k: kb, a, form, b, across, down, beta, c, rsc, epilogue });
            }
        }
    }
}

fn run<T: Real>(isa: Isa, dot: Option<Bf16Dot>, block: Block<'_, T>) {
    match dot {
        None => isa.run(block),
        Some(dot) => dot.run(block),
    }
}

/// Packs the whole of B, block by block along k.
pub(crate) fn pack<T: Real>(isa: Isa, k: usize, n: usize, b: impl Matrix<T>, packed: &mut [T]) {
    pack_with(isa, (0, 0), k, n, Elements(b), packed);
}

/// As [`pack`], from (row, col) on.
pub(super) fn pack_with<T: Real>(
    isa: Isa,
    (row, col): (usize, usize),
    k: usize,
    n: usize,
    b: impl Operand<T>,
    packed: &mut [T],
) {
    let nr = tile::<T>(isa).nr;
    let (kc, columns) = (depth(k), n.next_multiple_of(nr));
    for pc in (0..k).step_by(kc) {
        let kb = kc.min(k - pc);
        let out = &mut packed[pc * columns..][..kb * columns];
        b.pack_b(isa, Part { row: row + pc, col, rows: kb, cols: n }, nr, out);
    }
}

/// The epilogue of the columns from `jc`, if this is the last block along k.
fn last<T>(epilogue: Epilogue<'_, T>, jc: usize, is_last: bool) -> Epilogue<'_, T> {
    if is_last {
        Epilogue { bias: epilogue.bias.map(|b| &b[jc..]), relu: epilogue.relu }
    } else {
        Epilogue::NONE
    }
}

/// The first N elements as an array.
#[inline(always)]
pub(super) fn first<X, const N: usize>(x: &[X]) -> &[X; N] {
    &x.as_chunks::<N>().0[0]
}
