//! Fully connected layer.
//!
//! | symbol | shape | meaning |
//! |---|---|---|
//! | x | `[rows, inputs]` | input |
//! | W | `[outputs, inputs]` | weights, PyTorch's layout |
//! | b | `[outputs]` | bias, optional |
//! | y, z | `[rows, outputs]` | output, value before the activation |
//!
//! # Forward
//! ```text
//! z = x W^T + b             z[r, o] = b[o] + sum over i of x[r, i] W[o, i]
//! y = act(z)
//! ```
//!
//! # Derivative
//! ```text
//! dz  = dy act'(z)
//! dx  = dz W
//! dW += dz^T x
//! db += sum over rows of dz
//! ```
//!
//! # Saved
//! Without an activation nothing. ReLU derives its slope from y (y > 0 exactly where z > 0). The others keep z,
//! `rows * outputs` elements. An empty `saved` keeps nothing (inference).
//!
//! # Cost
//! 2 rows inputs outputs FLOPs forward, twice that backward.
//!
//! # Method
//! `x W^T` is the product's NT case, dx its NN and dW its TN case (see [`crate::gemm`]); bias and ReLU are applied while the
//! product is in registers. Other activations, and dz in the backward pass, are computed for [`TILE`] rows at a time, so that
//! the tile is still in the second-level cache when it is used again. Weights may be packed before ([`prepare`]), once for
//! many calls; few rows are multiplied with the plain weights in either case.
//!
//! # Numerics
//! Sums over `inputs` as in [`crate::gemm`]; dW and db add tile after tile in order of rows. With [`MatmulPrecision::Bf16`] the
//! operands of the three products are rounded: x and W, dz and W, dz and x. b, z, y, dx, dW and db are f32; db sums dz as it
//! was before rounding. [`MatmulPrecision::Int8`] is for the forward pass alone.

use crate::activation::{self, Activation};
use crate::contract::{at_least, len, product};
use crate::gemm::{self, Epilogue, MatmulPrecision};
use crate::{Beta, GradMut, Isa, Real};

mod reference;
#[cfg(test)]
mod tests;

pub use reference::{backward as backward_reference, forward as forward_reference};

/// Rows whose pre-activation gradient is held at a time.
pub const TILE: usize = 336;
/// Elements of an in-place activation's copy.
const CHUNK: usize = 1024;

/// Sizes of a fully connected layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Rows of x and y.
    pub rows: usize,
    /// Columns of x.
    pub inputs: usize,
    /// Columns of y.
    pub outputs: usize,
    /// What x, w and the gradient of z are rounded to before they are multiplied. Sums, b and results are not.
    pub precision: MatmulPrecision,
}

/// True if the backward pass needs z.
pub(crate) fn keeps_z(act: Option<Activation>) -> bool {
    !matches!(act, None | Some(Activation::Relu))
}

/// Elements of `saved` a backward pass needs.
///
/// # Panics
/// If the product overflows.
pub fn saved_len(d: Dims, act: Option<Activation>) -> usize {
    if keeps_z(act) { product("linear", &[d.rows, d.outputs]) } else { 0 }
}

/// Elements of `scratch` that both directions need at most.
///
/// # Panics
/// If a product overflows.
pub fn scratch_len<T: Real>(d: Dims, act: Option<Activation>) -> usize {
    let tile = d.rows.min(TILE);
    let (there, back) =
        (gemm::packed_len::<T>(d.inputs, d.outputs), gemm::packed_len::<T>(d.outputs, d.inputs));
    let forward = if keeps_z(act) {
        there + gemm::packed_scratch_len::<T>(tile) + CHUNK
    } else {
        let packed = there + gemm::packed_scratch_len::<T>(d.rows);
        packed.max(gemm::scratch_len::<T>(d.rows, d.outputs, d.inputs))
    };
    let backward = if act.is_some() {
        product("linear", &[tile, d.outputs])
            + back
            + gemm::packed_scratch_len::<T>(tile).max(gemm::scratch_len::<T>(d.outputs, d.inputs, tile))
    } else {
        let packed = back + gemm::packed_scratch_len::<T>(d.rows);
        packed
            .max(gemm::scratch_len::<T>(d.rows, d.inputs, d.outputs))
            .max(gemm::scratch_len::<T>(d.outputs, d.inputs, d.rows))
    };
    forward.max(backward)
}

/// Elements of weights that [`prepare`] leaves. They do not depend on the number of rows.
///
/// # Panics
/// If a product overflows.
pub fn prepared_len<T: Real>(d: Dims, backward: bool) -> usize {
    let back = if backward { gemm::packed_len::<T>(d.outputs, d.inputs) } else { 0 };
    gemm::packed_len::<T>(d.inputs, d.outputs) + back
}

crate::compiled::compiled! {
    /// Packs w `[outputs, inputs]` for [`forward`] and, with `backward`, for dx of [`backward`] on the same instruction set;
    /// `out`: [`prepared_len`] elements.
    ///
    /// # Panics
    /// If a size does not fit.
    #[track_caller]
    pub fn prepare<T>(isa: Isa, d: Dims, w: &[T], backward: bool, out: &mut [T]) as PrepareEntry {
        len("linear", "w", product("linear", &[d.outputs, d.inputs]), w.len());
        len("linear", "prepared", prepared_len::<T>(d, backward), out.len());
        let (there, back) = out.split_at_mut(gemm::packed_len::<T>(d.inputs, d.outputs));
        gemm::pack_b(isa, d.precision, d.inputs, d.outputs, w, (1, d.inputs), there);
        if backward {
            gemm::pack_b(isa, d.precision, d.outputs, d.inputs, w, (d.inputs, 1), back);
        }
    }
}

crate::compiled::compiled! {
    /// y = act(x W^T + b): x `[rows, inputs]`, w `[outputs, inputs]`, b `[outputs]`, y `[rows, outputs]`.
    ///
    /// `prepared`: w as [`prepare`] leaves it, or empty: then it is prepared in scratch. `saved`: [`saved_len`] elements or
    /// empty; `scratch`: [`scratch_len`] elements.
    ///
    /// # Panics
    /// If a size does not fit.
    #[track_caller]
    pub fn forward<T>(
        isa: Isa,
        d: Dims,
        act: Option<Activation>,
        x: &[T],
        w: &[T],
        prepared: &[T],
        b: Option<&[T]>,
        y: &mut [T],
        saved: &mut [T],
        scratch: &mut [T],
    ) as ForwardEntry {
        let Dims { rows, inputs, outputs, precision } = d;
        check("linear", d, x, w, y);
        if let Some(b) = b {
            len("linear", "b", outputs, b.len());
        }
        let keep = keeps_z(act) && !saved.is_empty();
        if keep {
            at_least("linear", "saved", rows * outputs, saved.len());
        }
        at_least("linear", "scratch", scratch_len::<T>(d, act), scratch.len());
        let there = gemm::packed_len::<T>(inputs, outputs);
        if !prepared.is_empty() {
            at_least("linear", "prepared", there, prepared.len());
        }
        let epilogue = Epilogue { bias: b, relu: act == Some(Activation::Relu) };
        let kind = act.filter(|&a| keeps_z(Some(a)));
        let (a, b, shape) = ((inputs, 1), (1, inputs), (rows, outputs, inputs));
        if kind.is_none() && gemm::in_place::<T>(shape, a, b) {
            gemm::gemm_with(isa, precision, shape, x, a, w, b, Beta::Zero, y, outputs, epilogue, scratch);
            return;
        }
        let pack = |panels: &mut [T]| gemm::pack_b(isa, precision, inputs, outputs, w, b, panels);
        let (packed, scratch) = gemm::panels(prepared, there, scratch, pack);
        let Some(kind) = kind else {
            gemm::gemm_packed(isa, precision, shape, x, a, packed, Beta::Zero, y, outputs, epilogue, scratch);
            return;
        };
        for r in (0..rows).step_by(TILE) {
            let n = TILE.min(rows - r);
            let (x, y) = (&x[r * inputs..][..n * inputs], &mut y[r * outputs..][..n * outputs]);
            let z = if keep { &mut saved[r * outputs..][..n * outputs] } else { &mut *y };
            let shape = (n, outputs, inputs);
            gemm::gemm_packed(
                isa,
                precision,
                shape,
                x,
                (inputs, 1),
                packed,
                Beta::Zero,
                z,
                outputs,
                epilogue,
                scratch,
            );
            if keep {
                activation::forward(isa, kind, &saved[r * outputs..][..n * outputs], y);
            } else {
                for y in y.chunks_mut(CHUNK) {
                    let z = &mut scratch[..y.len()];
                    z.copy_from_slice(y);
                    activation::forward(isa, kind, z, y);
                }
            }
        }
    }
}

crate::compiled::compiled! {
    /// Gradients of [`forward`]: `dx = (beta) dz W`, `dw += dz^T x`, `db += sum of dz over rows`. `None`: not wanted.
    ///
    /// `y` is the forward result (read for ReLU only), `saved` what the forward pass kept; `prepared`: w as [`prepare`] with
    /// `backward` leaves it, or empty.
    ///
    /// # Panics
    /// If a size does not fit, or in int8, which has no derivative.
    #[track_caller]
    pub fn backward<T>(
        isa: Isa,
        d: Dims,
        act: Option<Activation>,
        x: &[T],
        w: &[T],
        prepared: &[T],
        y: &[T],
        saved: &[T],
        dy: &[T],
        dx: Option<GradMut<'_, T>>,
        dw: Option<&mut [T]>,
        db: Option<&mut [T]>,
        scratch: &mut [T],
    ) as BackwardEntry {
        let mut dx = dx;
        let mut dw = dw;
        let mut db = db;
        let Dims { rows, inputs, outputs, precision } = d;
        check("linear backward", d, x, w, dy);
        gemm::differentiable::<T>("linear backward", precision);
        if act == Some(Activation::Relu) {
            len("linear backward", "y", dy.len(), y.len());
        }
        if keeps_z(act) {
            at_least("linear backward", "saved", rows * outputs, saved.len());
        }
        if let Some(dx) = &dx {
            len("linear backward", "dx", x.len(), dx.data.len());
        }
        if let Some(dw) = &dw {
            len("linear backward", "dw", w.len(), dw.len());
        }
        if let Some(db) = &db {
            len("linear backward", "db", outputs, db.len());
        }
        at_least("linear backward", "scratch", scratch_len::<T>(d, act), scratch.len());

        let back = gemm::packed_len::<T>(outputs, inputs);
        let prepared = if prepared.is_empty() {
            prepared
        } else {
            at_least("linear backward", "prepared", prepared_len::<T>(d, true), prepared.len());
            &prepared[gemm::packed_len::<T>(inputs, outputs)..]
        };
        let pack = |panels: &mut [T]| gemm::pack_b(isa, precision, outputs, inputs, w, (inputs, 1), panels);
        let Some(kind) = act else {
            if let Some(dx) = dx {
                let (a, b, shape) = ((outputs, 1), (inputs, 1), (rows, inputs, outputs));
                let none = Epilogue::NONE;
                if gemm::in_place::<T>(shape, a, b) {
                    gemm::gemm_with(isa, precision, shape, dy, a, w, b, dx.beta, dx.data, inputs, none, scratch);
                } else {
                    let (packed, scratch) = gemm::panels(prepared, back, scratch, pack);
                    gemm::gemm_packed(
                        isa, precision, shape, dy, a, packed, dx.beta, dx.data, inputs, none, scratch,
                    );
                }
            }
            weight_gradients(isa, d, x, dy, dw, db, scratch);
            return;
        };
        let (dz, scratch) = scratch.split_at_mut(rows.min(TILE) * outputs);
        let back = if dx.is_some() { back } else { 0 };
        let (packed, scratch) = gemm::panels(prepared, back, scratch, |panels| {
            if !panels.is_empty() {
                pack(panels);
            }
        });
        for r in (0..rows).step_by(TILE) {
            let n = TILE.min(rows - r);
            let (xs, ys) = (r * inputs..(r + n) * inputs, r * outputs..(r + n) * outputs);
            let dz = &mut dz[..n * outputs];
            let z = if keeps_z(act) { &saved[ys.clone()] } else { &y[ys.clone()] };
            activation::backward(isa, kind, z, &dy[ys], GradMut::overwrite(dz));
            if let Some(dx) = &mut dx {
                let (shape, data) = ((n, inputs, outputs), &mut dx.data[xs.clone()]);
                let (beta, none) = (dx.beta, Epilogue::NONE);
                gemm::gemm_packed(
                    isa,
                    precision,
                    shape,
                    dz,
                    (outputs, 1),
                    packed,
                    beta,
                    data,
                    inputs,
                    none,
                    scratch,
                );
            }
            let tile = Dims { rows: n, ..d };
            weight_gradients(isa, tile, &x[xs], dz, dw.as_deref_mut(), db.as_deref_mut(), scratch);
        }
    }
}

/// dw += dz^T x and db += column sums of dz.
pub(crate) fn weight_gradients<T: Real>(
    isa: Isa,
    d: Dims,
    x: &[T],
    dz: &[T],
    dw: Option<&mut [T]>,
    db: Option<&mut [T]>,
    scratch: &mut [T],
) {
    let Dims { rows, inputs, outputs, precision } = d;
    if let Some(dw) = dw {
        let (a, b) = ((1, outputs), (inputs, 1));
        let (shape, none) = ((outputs, inputs, rows), Epilogue::NONE);
        gemm::gemm_with(isa, precision, shape, dz, a, x, b, Beta::One, dw, inputs, none, scratch);
    }
    if let Some(db) = db {
        gemm::add_column_sums(isa, rows, outputs, dz, db);
    }
}

#[track_caller]
fn check<T>(op: &str, d: Dims, x: &[T], w: &[T], y: &[T]) {
    len(op, "x", product(op, &[d.rows, d.inputs]), x.len());
    len(op, "w", product(op, &[d.outputs, d.inputs]), w.len());
    len(op, "y", product(op, &[d.rows, d.outputs]), y.len());
}
