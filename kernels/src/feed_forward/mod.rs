//! Feed-forward block of a transformer layer: two linear layers with activation and dropout between.
//!
//! | symbol | shape | meaning |
//! |---|---|---|
//! | x, y | `[samples, rows, width]` | input, output |
//! | W1, b1 | `[hidden, width]`, `[hidden]` | first layer |
//! | W2, b2 | `[width, hidden]`, `[width]` | second layer |
//! | z, h, g | `[samples, rows, hidden]` | before the activation, after it, after dropout |
//! | m | as z | dropout multiplier: 0 or 1 / keep; 1 without dropout |
//!
//! # Forward
//! ```text
//! z = x W1^T + b1
//! h = act(z)
//! g = m h
//! y = g W2^T + b2
//! ```
//!
//! # Derivative
//! ```text
//! dg   = dy W2
//! dW2 += dy^T g
//! db2 += sum over rows of dy
//! dz   = dg m act'(z)
//! dx   = dz W1
//! dW1 += dz^T x
//! db1 += sum over rows of dz
//! ```
//!
//! # Saved
//! `samples * rows * hidden` elements. ReLU keeps g: it is positive exactly where z > 0 and m is not 0, so dz = dg / keep
//! there and 0 elsewhere; the backward pass draws no decisions and makes no g. The other activations keep z, from which the
//! backward pass makes g and dz in one pass that draws m once. An empty `saved` keeps nothing (inference).
//!
//! # Cost
//! 4 samples rows width hidden FLOPs forward, twice that backward.
//!
//! # Method
//! 1. [`TILE`] rows at a time: the hidden tile (672 KiB at 1024) is made, used and forgotten in the second-level cache.
//! 2. Between the products, one pass over the tile does everything, db1 included (`hidden.rs`).
//! 3. Dropout decisions of a block of columns share their first rounds over the rows of a sample.
//! 4. Both weight matrices are packed once per call, or once for many calls ([`prepare`]).
//! 5. A single row cannot be cut by rows: threads cut the columns of its two products ([`hidden_of_row`], [`row_of_hidden`]).
//!
//! # Numerics
//! As [`crate::gemm`], and with [`MatmulPrecision::Bf16`] the bits of the two layers one after the other in that precision.
//! Parameter gradients add tile after tile in order of rows. A dropped element counts as exactly 0 unless h is infinite or
//! NaN (0 times infinity is NaN).
//!
//! Source: Vaswani et al. 2017, section 3.3, with dropout inside as in PyTorch's `TransformerEncoderLayer`. Measurements:
//! `benches/NOTES.md`.

use crate::activation::Activation;
use crate::contract::{at_least, len, product, require};
use crate::gemm::{self, Epilogue, MatmulPrecision};
use crate::linear;
use crate::rng::{Dropout, Key};
use crate::{Beta, GradMut, Isa, Real};
use std::ops::Range;

mod hidden;
mod reference;
#[cfg(test)]
mod tests;

pub use reference::{backward as backward_reference, forward as forward_reference};

/// Rows whose hidden values are held at a time.
pub const TILE: usize = 168;

/// Sizes of a feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Samples: dropout is keyed by sample.
    pub samples: usize,
    /// Rows of each sample.
    pub rows: usize,
    /// Columns of x and y.
    pub width: usize,
    /// Columns of the hidden layer.
    pub hidden: usize,
    /// What the operands of the products are rounded to before they are multiplied: x, g, the weights and the gradients
    /// that meet them. Sums, biases, saved values and results are not.
    pub precision: MatmulPrecision,
}

impl Dims {
    fn all_rows(self) -> usize {
        product("feed_forward", &[self.samples, self.rows])
    }
}

/// Elements of `saved` a backward pass needs.
///
/// # Panics
/// If the product overflows.
pub fn saved_len(d: Dims) -> usize {
    product("feed_forward", &[d.samples, d.rows, d.hidden])
}

/// Elements of `scratch` that both directions need at most.
///
/// # Panics
/// If a product overflows.
pub fn scratch_len<T: Real>(d: Dims) -> usize {
    let tile = d.all_rows().min(TILE);
    let weights = gemm::packed_len::<T>(d.width, d.hidden) + gemm::packed_len::<T>(d.hidden, d.width);
    let products = gemm::packed_scratch_len::<T>(tile)
        .max(gemm::scratch_len::<T>(d.width, d.hidden, tile))
        .max(gemm::scratch_len::<T>(d.hidden, d.width, tile));
    2 * product("feed_forward", &[tile, d.hidden]) + d.hidden + weights + products
}

/// Elements of weights that [`prepare`] leaves. They do not depend on samples and rows.
///
/// # Panics
/// If a product overflows.
pub fn prepared_len<T: Real>(d: Dims, backward: bool) -> usize {
    let one_way = gemm::packed_len::<T>(d.width, d.hidden) + gemm::packed_len::<T>(d.hidden, d.width);
    if backward { 2 * one_way } else { one_way }
}

crate::compiled::compiled! {
    /// Packs w1 `[hidden, width]` and w2 `[width, hidden]` for [`forward`] and, with `backward`, for the input gradients of
    /// [`backward`] on the same instruction set; `out`: [`prepared_len`] elements.
    ///
    /// # Panics
    /// If a size does not fit.
    #[track_caller]
    pub fn prepare<T>(isa: Isa, d: Dims, w1: &[T], w2: &[T], backward: bool, out: &mut [T]) as PrepareEntry {
        let weights = product("feed_forward", &[d.width, d.hidden]);
        len("feed_forward", "w1", weights, w1.len());
        len("feed_forward", "w2", weights, w2.len());
        len("feed_forward", "prepared", prepared_len::<T>(d, backward), out.len());
        let (there, back) = out.split_at_mut(prepared_len::<T>(d, false));
        pack_there(isa, d, w1, w2, there);
        if backward {
            pack_back(isa, d, w1, w2, back);
        }
    }
}

/// Panels of the two forward products, one after the other.
fn pack_there<T: Real>(isa: Isa, d: Dims, w1: &[T], w2: &[T], out: &mut [T]) {
    let (packed1, packed2) = out.split_at_mut(gemm::packed_len::<T>(d.width, d.hidden));
    gemm::pack_b(isa, d.precision, d.width, d.hidden, w1, (1, d.width), packed1);
    gemm::pack_b(isa, d.precision, d.hidden, d.width, w2, (1, d.hidden), packed2);
}

/// Panels of the two input gradients, one after the other.
fn pack_back<T: Real>(isa: Isa, d: Dims, w1: &[T], w2: &[T], out: &mut [T]) {
    let (packed1, packed2) = out.split_at_mut(gemm::packed_len::<T>(d.hidden, d.width));
    gemm::pack_b(isa, d.precision, d.hidden, d.width, w1, (d.width, 1), packed1);
    gemm::pack_b(isa, d.precision, d.width, d.hidden, w2, (d.hidden, 1), packed2);
}

crate::compiled::compiled! {
    /// y = drop(act(x W1^T + b1)) W2^T + b2: x and y `[samples, rows, width]`, w1 `[hidden, width]`, w2 `[width, hidden]`.
    ///
    /// `prepared`: the weights as [`prepare`] leaves them, or empty: then they are prepared in scratch. `saved`: [`saved_len`]
    /// elements or empty; `scratch`: [`scratch_len`] elements.
    ///
    /// # Panics
    /// If a size does not fit.
    #[track_caller]
    pub fn forward<T>(
        isa: Isa,
        d: Dims,
        act: Activation,
        dropout: Dropout,
        key: Key,
        x: &[T],
        w1: &[T],
        b1: &[T],
        w2: &[T],
        b2: &[T],
        prepared: &[T],
        y: &mut [T],
        saved: &mut [T],
        scratch: &mut [T],
    ) as ForwardEntry {
        check("feed_forward", d, x, w1, b1, w2, y);
        len("feed_forward", "b2", d.width, b2.len());
        let (rows, width, hidden, precision) = (d.all_rows(), d.width, d.hidden, d.precision);
        let keep = !saved.is_empty();
        if keep {
            at_least("feed_forward", "saved", saved_len(d), saved.len());
        }
        at_least("feed_forward", "scratch", scratch_len::<T>(d), scratch.len());

        let tile = rows.min(TILE) * hidden;
        let (g_tile, scratch) = scratch.split_at_mut(tile);
        let (z_tile, scratch) = scratch.split_at_mut(tile);
        let there = prepared_len::<T>(d, false);
        if !prepared.is_empty() {
            at_least("feed_forward", "prepared", there, prepared.len());
        }
        let pack = |panels: &mut [T]| pack_there(isa, d, w1, w2, panels);
        let (packed, scratch) = gemm::panels(prepared, there, scratch, pack);
        let (packed1, packed2) = packed.split_at(gemm::packed_len::<T>(width, hidden));
        let relu = act == Activation::Relu;
        for r in (0..rows).step_by(TILE) {
            let n = TILE.min(rows - r);
            let (xs, hs) = (r * width..(r + n) * width, r * hidden..(r + n) * hidden);
            let kept = if keep { &mut saved[hs] } else { &mut z_tile[..n * hidden] };
            let epilogue = Epilogue { bias: Some(b1), relu };
            let shape = (n, hidden, width);
            gemm::gemm_packed(
                isa,
                precision,
                shape,
                &x[xs.clone()],
                (width, 1),
                packed1,
                Beta::Zero,
                kept,
                hidden,
                epilogue,
                scratch,
            );
            let tile = hidden::Tile { d, act, dropout, key, first: r };
            let g: &[T] = if relu {
                hidden::drop(isa, tile, kept);
                kept
            } else {
                let g = &mut g_tile[..n * hidden];
                hidden::activate(isa, tile, kept, g);
                g
            };
            let (shape, epilogue) = ((n, width, hidden), Epilogue { bias: Some(b2), relu: false });
            gemm::gemm_packed(
                isa,
                precision,
                shape,
                g,
                (hidden, 1),
                packed2,
                Beta::Zero,
                &mut y[xs],
                width,
                epilogue,
                scratch,
            );
        }
    }
}

/// What both halves of a row's pass ask for.
#[track_caller]
fn check_row<T: Real>(op: &str, d: Dims, prepared: &[T], scratch: &[T]) {
    require(op, "there must be one row", d.all_rows(), d.all_rows() == 1);
    at_least(op, "prepared", prepared_len::<T>(d, false), prepared.len());
    at_least(op, "scratch", scratch_len::<T>(d), scratch.len());
}

crate::compiled::compiled! {
    /// The first half of [`forward`] without dropout for a single row, for several threads: `g`, h at some `columns` of the
    /// hidden layer, from the weights as [`prepare`] leaves them. Columns begin and end at multiples of
    /// [`gemm::column_grain`] or at the end. A row's time is that of reading the weights, which rows cannot share.
    ///
    /// # Panics
    /// If a size does not fit, or columns are cut elsewhere.
    #[track_caller]
    pub fn hidden_of_row<T>(
        isa: Isa,
        d: Dims,
        act: Activation,
        x: &[T],
        b1: &[T],
        prepared: &[T],
        columns: Range<usize>,
        g: &mut [T],
        scratch: &mut [T],
    ) as HiddenOfRowEntry {
        let op = "feed_forward hidden";
        check_row::<T>(op, d, prepared, scratch);
        require(op, "columns must end within the hidden layer", columns.end, columns.end <= d.hidden);
        len(op, "x", d.width, x.len());
        len(op, "b1", d.hidden, b1.len());
        len(op, "g", columns.len(), g.len());
        let (z, scratch) = scratch.split_at_mut(columns.len());
        let relu = act == Activation::Relu;
        let epilogue = Epilogue { bias: Some(&b1[columns.clone()]), relu };
        let (shape, strides) = ((1, d.hidden, d.width), (d.width, 1));
        let (packed, hidden) = (&prepared[..gemm::packed_len::<T>(d.width, d.hidden)], columns.len());
        let to = if relu { &mut *g } else { &mut *z };
        gemm::gemm_packed_columns(
            isa,
            d.precision,
            shape,
            columns,
            x,
            strides,
            packed,
            Beta::Zero,
            to,
            hidden,
            epilogue,
            scratch,
        );
        if !relu && hidden > 0 {
            let (dropout, key) = (Dropout::NONE, Key::default());
            let tile = hidden::Tile { d: Dims { hidden, ..d }, act, dropout, key, first: 0 };
            hidden::activate(isa, tile, z, g);
        }
    }
}

crate::compiled::compiled! {
    /// The second half: `y` at some `columns` from all of [`hidden_of_row`].
    ///
    /// # Panics
    /// As [`hidden_of_row`].
    #[track_caller]
    pub fn row_of_hidden<T>(
        isa: Isa,
        d: Dims,
        g: &[T],
        b2: &[T],
        prepared: &[T],
        columns: Range<usize>,
        y: &mut [T],
        scratch: &mut [T],
    ) as RowOfHiddenEntry {
        let op = "feed_forward of hidden";
        check_row::<T>(op, d, prepared, scratch);
        require(op, "columns must end within the width", columns.end, columns.end <= d.width);
        len(op, "g", d.hidden, g.len());
        len(op, "b2", d.width, b2.len());
        len(op, "y", columns.len(), y.len());
        let epilogue = Epilogue { bias: Some(&b2[columns.clone()]), relu: false };
        let (shape, strides, width) = ((1, d.width, d.hidden), (d.hidden, 1), columns.len());
        let packed = &prepared[gemm::packed_len::<T>(d.width, d.hidden)..];
        gemm::gemm_packed_columns(
            isa,
            d.precision,
            shape,
            columns,
            g,
            strides,
            packed,
            Beta::Zero,
            y,
            width,
            epilogue,
            scratch,
        );
    }
}

crate::compiled::compiled! {
    /// Gradients of [`forward`]; parameter gradients are added to, `None` is not wanted. `prepared`: the weights as [`prepare`]
    /// with `backward` leaves them, or empty.
    ///
    /// # Panics
    /// If a size does not fit, or in int8, which has no derivative.
    #[track_caller]
    pub fn backward<T>(
        isa: Isa,
        d: Dims,
        act: Activation,
        dropout: Dropout,
        key: Key,
        x: &[T],
        w1: &[T],
        b1: &[T],
        w2: &[T],
        prepared: &[T],
        saved: &[T],
        dy: &[T],
        dx: Option<GradMut<'_, T>>,
        dw1: Option<&mut [T]>,
        db1: Option<&mut [T]>,
        dw2: Option<&mut [T]>,
        db2: Option<&mut [T]>,
        scratch: &mut [T],
    ) as BackwardEntry {
        let mut dx = dx;
        let mut dw1 = dw1;
        let mut db1 = db1;
        let mut dw2 = dw2;
        let mut db2 = db2;
        let op = "feed_forward backward";
        check(op, d, x, w1, b1, w2, dy);
        gemm::differentiable::<T>(op, d.precision);
        at_least(op, "saved", saved_len(d), saved.len());
        for (what, expected, actual) in [
            ("dx", x.len(), dx.as_ref().map(|g| g.data.len())),
            ("dw1", w1.len(), dw1.as_ref().map(|g| g.len())),
            ("db1", d.hidden, db1.as_ref().map(|g| g.len())),
            ("dw2", w2.len(), dw2.as_ref().map(|g| g.len())),
            ("db2", d.width, db2.as_ref().map(|g| g.len())),
        ] {
            len(op, what, expected, actual.unwrap_or(expected));
        }
        at_least(op, "scratch", scratch_len::<T>(d), scratch.len());

        let (rows, width, hidden, precision) = (d.all_rows(), d.width, d.hidden, d.precision);
        let tile = rows.min(TILE) * hidden;
        let relu = act == Activation::Relu;
        let (dg_tile, scratch) = scratch.split_at_mut(tile);
        let (g_tile, scratch) = scratch.split_at_mut(tile);
        let (sums, scratch) = scratch.split_at_mut(hidden);
        let hidden_wanted = dx.is_some() || dw1.is_some() || db1.is_some();
        let one_way = prepared_len::<T>(d, false);
        let prepared = if prepared.is_empty() {
            prepared
        } else {
            at_least(op, "prepared", 2 * one_way, prepared.len());
            &prepared[one_way..]
        };
        let pack = |panels: &mut [T]| pack_back(isa, d, w1, w2, panels);
        let (packed, scratch) = gemm::panels(prepared, one_way, scratch, pack);
        let (packed1, packed2) = packed.split_at(gemm::packed_len::<T>(hidden, width));
        for r in (0..rows).step_by(TILE) {
            let n = TILE.min(rows - r);
            let (xs, hs) = (r * width..(r + n) * width, r * hidden..(r + n) * hidden);
            let (x, dy, kept) = (&x[xs.clone()], &dy[xs.clone()], &saved[hs]);
            let (g, dg) = (&mut g_tile[..n * hidden], &mut dg_tile[..n * hidden]);
            let (shape, none) = ((n, hidden, width), Epilogue::NONE);
            if hidden_wanted {
                gemm::gemm_packed(
                    isa,
                    precision,
                    shape,
                    dy,
                    (width, 1),
                    packed2,
                    Beta::Zero,
                    dg,
                    hidden,
                    none,
                    scratch,
                );
            }
            let tile = hidden::Tile { d, act, dropout, key, first: r };
            sums.fill(T::ZERO);
            let g = match (relu, hidden_wanted) {
                (true, false) => kept,
                (true, true) => {
                    hidden::gate(isa, tile, kept, dg, sums);
                    kept
                }
                (false, false) => {
                    hidden::activate(isa, tile, kept, g);
                    g
                }
                (false, true) => {
                    hidden::slope(isa, tile, kept, g, dg, sums);
                    g
                }
            };
            let dz = &*dg;
            let layer = linear::Dims { rows: n, inputs: hidden, outputs: width, precision };
            linear::weight_gradients(isa, layer, g, dy, dw2.as_deref_mut(), db2.as_deref_mut(), scratch);
            if !hidden_wanted {
                continue;
            }
            if let Some(dx) = &mut dx {
                let (shape, beta, data) = ((n, width, hidden), dx.beta, &mut dx.data[xs]);
                gemm::gemm_packed(
                    isa,
                    precision,
                    shape,
                    dz,
                    (hidden, 1),
                    packed1,
                    beta,
                    data,
                    width,
                    none,
                    scratch,
                );
            }
            let layer = linear::Dims { rows: n, inputs: width, outputs: hidden, precision };
            linear::weight_gradients(isa, layer, x, dz, dw1.as_deref_mut(), None, scratch);
            if let Some(db1) = &mut db1 {
                for (db, sum) in db1.iter_mut().zip(&*sums) {
                    *db += *sum;
                }
            }
        }
    }
}

#[track_caller]
fn check<T>(op: &str, d: Dims, x: &[T], w1: &[T], b1: &[T], w2: &[T], y: &[T]) {
    let (values, weights) = (product(op, &[d.samples, d.rows, d.width]), product(op, &[d.width, d.hidden]));
    len(op, "x", values, x.len());
    len(op, "w1", weights, w1.len());
    len(op, "b1", d.hidden, b1.len());
    len(op, "w2", weights, w2.len());
    len(op, if op == "feed_forward" { "y" } else { "dy" }, values, y.len());
}
