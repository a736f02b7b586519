//! The three small matrix products of a tile, register-blocked over vector tokens.
//!
//! Tiles lie transposed: a vector's lanes are queries, so maximum, sum and exp of the softmax act lane by lane, keys and
//! values are read in place (one element at a time, broadcast), and nothing but the query tile has to be packed.
//!
//! | product | rows (broadcast) | lanes | depth |
//! |---|---|---|---|
//! | [`scores`]: S[j, i] = sum_d k[j, d] qt[d, i] | keys | queries | head_dim |
//! | [`combine`]: out[d, i] += sum_j v[j, d] p[j, i] | columns | queries | keys |
//! | [`spread`]: dv[j, d] += sum_i p[j, i] dy[i, d] | keys | columns | queries |
//!
//! A block of R rows by N vectors stays in R N accumulators; R is 8 with 32 registers and 4 with 16, N is up to 3.

use crate::isa::Simd;

/// Vectors across a tile: the queries of a tile are `VECTORS * LANES`.
pub(super) const VECTORS: usize = 3;

/// Rows of one head in a larger buffer: row j is `data[j * stride + base ..]`.
#[derive(Clone, Copy)]
pub(super) struct HeadRows<'a> {
    pub(super) data: &'a [f32],
    pub(super) stride: usize,
    pub(super) base: usize,
}

impl<'a> HeadRows<'a> {
    /// `len` elements of row `j`, from column `column`.
    #[inline(always)]
    pub(super) fn row(&self, j: usize, column: usize, len: usize) -> &'a [f32] {
        &self.data[j * self.stride + self.base + column..][..len]
    }
}

/// As [`HeadRows`], to write.
pub(super) struct HeadRowsMut<'a> {
    pub(super) data: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) base: usize,
}

/// Runs `$block::<S, R, $n>($first, ...)` over `$count` rows in blocks of the largest R that fits.
macro_rules! row_blocks {
    ($s:ty, $n:literal, $count:expr, |$first:ident| $block:ident($($arg:expr),*)) => {{
        let mut $first = 0;
        if <$s>::REGISTERS >= 32 {
            while $first + 8 <= $count {
                $block::<$s, 8, $n>($($arg),*);
                $first += 8;
            }
        }
        while $first + 4 <= $count {
            $block::<$s, 4, $n>($($arg),*);
            $first += 4;
        }
        while $first < $count {
            $block::<$s, 1, $n>($($arg),*);
            $first += 1;
        }
    }};
}

/// out[j, i] = sum_d rows[keys[j], d] b[d, i] for the first `vectors` vectors of queries; `b` `[depth, tile]`.
#[inline(always)]
pub(super) fn scores<S: Simd>(
    s: S,
    vectors: usize,
    keys: &[usize],
    rows: HeadRows<'_>,
    depth: usize,
    b: &[f32],
    out: &mut [f32],
) {
    let b = &b[..depth * VECTORS * S::LANES];
    match vectors {
        1 => row_blocks!(S, 1, keys.len(), |j| scores_block(
            s,
            &keys[j..],
            rows,
            depth,
            b,
            tile_rows::<S>(out, j)
        )),
        2 => row_blocks!(S, 2, keys.len(), |j| scores_block(
            s,
            &keys[j..],
            rows,
            depth,
            b,
            tile_rows::<S>(out, j)
        )),
        _ => row_blocks!(S, 3, keys.len(), |j| scores_block(
            s,
            &keys[j..],
            rows,
            depth,
            b,
            tile_rows::<S>(out, j)
        )),
    }
}

/// The tile from row `j` on.
#[inline(always)]
fn tile_rows<S: Simd>(tile: &mut [f32], j: usize) -> &mut [f32] {
    &mut tile[j * VECTORS * S::LANES..]
}

#[inline(always)]
fn scores_block<S: Simd, const R: usize, const N: usize>(
    s: S,
    keys: &[usize],
    rows: HeadRows<'_>,
    depth: usize,
    b: &[f32],
    out: &mut [f32],
) {
    let mut a: [&[f32]; R] = [&[]; R];
    for r in 0..R {
        a[r] = rows.row(keys[r], 0, depth);
    }
    let mut acc = [[s.splat(0.0); N]; R];
    for (k, b) in b.chunks_exact(VECTORS * S::LANES).enumerate() {
        let mut lanes = [s.splat(0.0); N];
        for v in 0..N {
            lanes[v] = s.load(&b[v * S::LANES..]);
        }
        for r in 0..R {
            let x = s.splat(a[r][k]);
            for v in 0..N {
                acc[r][v] = s.fma(x, lanes[v], acc[r][v]);
            }
        }
    }
    for (acc, out) in acc.iter().zip(out.chunks_exact_mut(VECTORS * S::LANES)) {
        for v in 0..N {
            s.store(acc[v], &mut out[v * S::LANES..]);
        }
    }
}

/// out[d, i] += sum_j rows[keys[j], d] p[j, i] for the first `vectors` vectors of queries; `p` `[keys, tile]`, `out`
/// `[columns, tile]`.
#[inline(always)]
pub(super) fn combine<S: Simd>(
    s: S,
    vectors: usize,
    keys: &[usize],
    rows: HeadRows<'_>,
    columns: usize,
    p: &[f32],
    out: &mut [f32],
) {
    let p = &p[..keys.len() * VECTORS * S::LANES];
    match vectors {
        1 => row_blocks!(S, 1, columns, |c| combine_block(s, keys, rows, c, p, tile_rows::<S>(out, c))),
        2 => row_blocks!(S, 2, columns, |c| combine_block(s, keys, rows, c, p, tile_rows::<S>(out, c))),
        _ => row_blocks!(S, 3, columns, |c| combine_block(s, keys, rows, c, p, tile_rows::<S>(out, c))),
    }
}

#[inline(always)]
fn combine_block<S: Simd, const R: usize, const N: usize>(
    s: S,
    keys: &[usize],
    rows: HeadRows<'_>,
    column: usize,
    p: &[f32],
    out: &mut [f32],
) {
    let mut acc = [[s.splat(0.0); N]; R];
    for (p, &key) in p.chunks_exact(VECTORS * S::LANES).zip(keys) {
        let a = rows.row(key, column, R);
        let mut lanes = [s.splat(0.0); N];
        for v in 0..N {
            lanes[v] = s.load(&p[v * S::LANES..]);
        }
        for r in 0..R {
            let x = s.splat(a[r]);
            for v in 0..N {
                acc[r][v] = s.fma(x, lanes[v], acc[r][v]);
            }
        }
    }
    for (acc, out) in acc.iter().zip(out.chunks_exact_mut(VECTORS * S::LANES)) {
        for v in 0..N {
            let out = &mut out[v * S::LANES..][..S::LANES];
            s.store(s.add(s.load(out), acc[v]), out);
        }
    }
}

/// out[keys[j], d] += sum_i p[j, i] b[i, d] over the first `queries` queries; `p` `[keys, tile]`, `b`
/// `[queries, padded]` with columns past `columns` zero.
#[inline(always)]
pub(super) fn spread<S: Simd>(
    s: S,
    queries: usize,
    keys: &[usize],
    p: &[f32],
    b: &[f32],
    padded: usize,
    columns: usize,
    out: &mut HeadRowsMut<'_>,
) {
    let b = &b[..queries * padded];
    let mut c = 0;
    while c < columns {
        match (columns - c).div_ceil(S::LANES) {
            1 => row_blocks!(S, 1, keys.len(), |j| spread_block(
                s,
                queries,
                &keys[j..],
                &p[j * VECTORS * S::LANES..],
                b,
                padded,
                c,
                columns,
                out
            )),
            2 | 4 => row_blocks!(S, 2, keys.len(), |j| spread_block(
                s,
                queries,
                &keys[j..],
                &p[j * VECTORS * S::LANES..],
                b,
                padded,
                c,
                columns,
                out
            )),
            _ => row_blocks!(S, 3, keys.len(), |j| spread_block(
                s,
                queries,
                &keys[j..],
                &p[j * VECTORS * S::LANES..],
                b,
                padded,
                c,
                columns,
                out
            )),
        }
        c += S::LANES
            * match (columns - c).div_ceil(S::LANES) {
                1 => 1,
                2 | 4 => 2,
                _ => 3,
            };
    }
}

#[inline(always)]
fn spread_block<S: Simd, const R: usize, const N: usize>(
    s: S,
    queries: usize,
    keys: &[usize],
    p: &[f32],
    b: &[f32],
    padded: usize,
    column: usize,
    columns: usize,
    out: &mut HeadRowsMut<'_>,
) {
    let mut a: [&[f32]; R] = [&[]; R];
    for r in 0..R {
        a[r] = &p[r * VECTORS * S::LANES..][..queries];
    }
    let mut acc = [[s.splat(0.0); N]; R];
    for (i, b) in b.chunks_exact(padded).enumerate().take(queries) {
        let b = &b[column..][..N * S::LANES];
        let mut lanes = [s.splat(0.0); N];
        for v in 0..N {
            lanes[v] = s.load(&b[v * S::LANES..]);
        }
        for r in 0..R {
            let x = s.splat(a[r][i]);
            for v in 0..N {
                acc[r][v] = s.fma(x, lanes[v], acc[r][v]);
            }
        }
    }
    for r in 0..R {
        let row = &mut out.data[keys[r] * out.stride + out.base..][..columns];
        for v in 0..N {
            let at = column + v * S::LANES;
            if at + S::LANES <= columns {
                s.store(s.add(s.load(&row[at..]), acc[r][v]), &mut row[at..]);
            } else {
                let rest = &mut row[at..];
                s.store_partial(s.add(s.load_partial(rest), acc[r][v]), rest);
            }
        }
    }
}
