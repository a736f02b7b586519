//! One-dimensional convolution (cross-correlation, as in PyTorch), channels last.
//!
//! | symbol | shape | meaning |
//! |---|---|---|
//! | x | `[batch, length, in]` | input, 0 outside 0..length |
//! | w | `[out, in, kernel]` | weights, PyTorch's layout |
//! | b | `[out]` | bias, optional |
//! | y, z | `[batch, out_length, out]` | output, value before the activation |
//!
//! # Forward
//! ```text
//! z[n, t, o] = b[o] + sum over c, k of w[o, c, k] x[n, t stride - padding + k dilation, c]
//! y          = act(z)
//! ```
//!
//! # Derivative
//! ```text
//! dz           = dy act'(z)
//! dx[n, s, c]  = sum over o, k of w[o, c, k] dz[n, t, o]      where t stride = s + padding - k dilation
//! dw[o, c, k] += sum over n, t of dz[n, t, o] x[n, t stride - padding + k dilation, c]
//! db[o]       += sum over n, t of dz[n, t, o]
//! ```
//!
//! # Saved
//! As [`crate::linear`]: nothing without an activation and for ReLU, z for the others.
//!
//! # Cost
//! 2 batch out_length in out kernel FLOPs forward, twice that backward; the frequency domain needs 7 to 14 times fewer for
//! kernels of 17 and 33 taps.
//!
//! # Method
//! One of two, chosen by sizes and type alone, so that nothing depends on the batch:
//!
//! 1. *Frequency domain* (`overlap_save.rs`, on `fft.rs` and `spectrum.rs`): f32, stride and dilation 1, where its expected
//!    cost is at most half. The paper's kernels 33 and 17 take it, with transforms of length 128 and 64.
//! 2. *Implicit product*: everywhere else, and always in f64, which makes it the oracle of the other. Row t of the patch
//!    matrix is the part of x under the kernel at t; with dilation 1 it is contiguous memory, so the matrix is never made:
//!    x is copied once between zeros and the product reads its overlapping rows (`gemm/pack.rs`). dx is the same with dz in
//!    the place of x and the kernel reversed, one product per residue of the position modulo the stride. dw takes the
//!    transposed patches in place. With a dilation, patches are copied into the product's panels.
//!
//! Weights are rearranged and packed in scratch, or once for many calls ([`prepare`]).
//!
//! # Numerics
//! Operands are never rounded to bf16 (`gemm/bf16.rs` says why).
//!
//! *Implicit product*: sums in the order (kernel, channel), in dw of the positions, within the product's blocks. Padding
//! multiplies weights by 0, so an infinite weight gives NaN at the edges. A NaN or infinity of x reaches the outputs whose
//! kernel covers it.
//!
//! *Frequency domain*: within 1.5e-6 of the rms of the result (measured against f64; the tests allow 3e-6). The error is
//! relative to the tile: an output that is exactly 0 in the product may be of that size here. With m = [`row_grain`] and tile
//! i of a sample made of outputs i m .. (i + 1) m, a NaN or infinity at position s of x makes NaN of all outputs of the tiles
//! with i m <= s + padding < i m + m + kernel - 1, in that sample alone; one of dz those of dx at the m + kernel - 1
//! positions its tile reads, and, as in the product, dw of its channel. In a weight it makes NaN of its output channel.
//!
//! Measurements: `benches/NOTES.md`.

use crate::activation::{self, Activation};
use crate::contract::{at_least, len, product, require};
use crate::gemm::{self, Epilogue, Strided};
use crate::linear::keeps_z;
use crate::{Beta, GradMut, Isa, Real, real};
use std::ops::Range;

mod fft;
mod overlap_save;
mod patches;
mod reference;
mod spectrum;
mod steps;
#[cfg(test)]
mod tests;

use overlap_save::{Direction, OutputGradient, Plan};
use patches::{Patches, Phase, Transposed};
pub use reference::{backward as backward_reference, forward as forward_reference};
pub use steps::Steps;

/// Elements of an in-place activation's copy.
const CHUNK: usize = 1024;

/// Rows of y that the direct product may be cut by: any would do, a multiple of all tile heights (14, 6, 4) wastes none.
const ROWS: usize = 84;

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Samples.
    pub batch: usize,
    /// Positions of x.
    pub length: usize,
    /// Channels of x.
    pub in_channels: usize,
    /// Channels of y.
    pub out_channels: usize,
    /// Taps.
    pub kernel: usize,
    /// Positions between neighbouring outputs.
    pub stride: usize,
    /// Zeros put before and after x.
    pub padding: usize,
    /// Positions between neighbouring taps.
    pub dilation: usize,
}

impl Dims {
    /// Positions of y: floor((length + 2 padding - dilation (kernel - 1) - 1) / stride) + 1. `None` if the kernel is
    /// longer than the padded input, if kernel, stride or dilation is 0, or if a size overflows.
    pub fn out_length(&self) -> Option<usize> {
        if self.stride == 0 || self.dilation == 0 {
            return None;
        }
        let padded = self.padding.checked_mul(2)?.checked_add(self.length)?;
        let reach = self.kernel.checked_sub(1)?.checked_mul(self.dilation)?.checked_add(1)?;
        // Positions are signed in the loops.
        isize::try_from(padded.checked_add(reach)?).ok()?;
        Some(padded.checked_sub(reach)? / self.stride + 1)
    }

    /// Elements of x, w and y, and positions of y.
    #[track_caller]
    fn sizes(&self, op: &str) -> (usize, usize, usize, usize) {
        let out = self.out_length();
        require(
            op,
            "the kernel must fit the padded input; kernel, stride, dilation > 0",
            self.kernel,
            out.is_some(),
        );
        let out = out.unwrap_or(0);
        (
            product(op, &[self.batch, self.length, self.in_channels]),
            product(op, &[self.out_channels, self.in_channels, self.kernel]),
            product(op, &[self.batch, out, self.out_channels]),
            out,
        )
    }
}

/// Elements of `saved` a backward pass needs.
///
/// # Panics
/// If the kernel does not fit or the product overflows.
#[track_caller]
pub fn saved_len(d: Dims, act: Option<Activation>) -> usize {
    let (_, _, y, _) = d.sizes("conv1d");
    if keeps_z(act) { y } else { 0 }
}

/// Elements of `scratch` that both directions need at most.
///
/// # Panics
/// If the kernel does not fit or a product overflows.
#[track_caller]
pub fn scratch_len<T: Real>(d: Dims, act: Option<Activation>) -> usize {
    scratch_by::<T>(spectral::<T>(d), d, act)
}

/// As [`scratch_len`], for [`forward_direct`] and [`backward_direct`].
///
/// # Panics
/// As [`scratch_len`].
#[track_caller]
pub fn scratch_len_direct<T: Real>(d: Dims, act: Option<Activation>) -> usize {
    scratch_by::<T>(None, d, act)
}

#[track_caller]
fn scratch_by<T: Real>(plan: Option<Plan>, d: Dims, act: Option<Activation>) -> usize {
    let op = "conv1d";
    let (_, weights, _, out) = d.sizes(op);
    if let Some(plan) = plan {
        let forward = plan.weights_len(Direction::Forward) + plan.forward_len().max(CHUNK);
        return forward.max(plan.weights_len(Direction::Backward) + plan.backward_len(act.is_some()));
    }
    let taps = d.kernel * d.in_channels;
    let x = if d.dilation == 1 { product(op, &[d.length + 2 * d.padding, d.in_channels]) } else { 0 };
    let forward = there_len::<T>(d) + weights + (x + gemm::packed_scratch_len::<T>(out)).max(CHUNK);
    let dz = product(op, &[Margins::of(d, out).total, d.out_channels]);
    let dx = gemm::packed_scratch_len::<T>(d.length);
    let dw = x + gemm::scratch_len::<T>(taps, d.out_channels, out);
    forward.max(dz + weights + back_len::<T>(d) + dx.max(dw))
}

/// Positions of dz with the zeros around it that dx reads.
struct Margins {
    before: usize,
    total: usize,
}

impl Margins {
    fn of(d: Dims, out: usize) -> Self {
        let (mut begin, mut end) = (0, out as isize);
        for (residue, phase) in phases(d).filter(|(_, phase)| phase.in_place()) {
            let rows = (d.length - residue).div_ceil(d.stride);
            begin = begin.min(phase.offset);
            end = end.max(phase.offset + (rows - 1 + phase.taps) as isize);
        }
        Self { before: begin.unsigned_abs(), total: (end - begin) as usize }
    }
}

/// How the frequency domain serves this convolution, if it does: a matter of f32 and of sizes.
fn spectral<T: Real>(d: Dims) -> Option<Plan> {
    if T::IS_F32 { Plan::of(d) } else { None }
}

/// Rows of y by multiples of which [`forward_rows`] may be asked for parts.
///
/// # Panics
/// If the kernel does not fit.
#[track_caller]
pub fn row_grain<T: Real>(d: Dims) -> usize {
    d.sizes("conv1d");
    spectral::<T>(d).map_or(ROWS, |plan| plan.grain())
}

/// FLOPs that [`forward`] and [`backward`] (dx and dw) really execute in products and transforms: of the method that serves
/// these sizes in `T`, with weights prepared.
///
/// # Panics
/// If the kernel does not fit.
#[track_caller]
pub fn executed_flops<T: Real>(d: Dims) -> (u64, u64) {
    let (_, _, _, out) = d.sizes("conv1d");
    let sum = 2 * (d.batch * out * d.out_channels * d.in_channels * d.kernel) as u64;
    spectral::<T>(d).map_or((sum, 2 * sum), |plan| plan.flops())
}

/// Panels of the forward product.
fn there_len<T: Real>(d: Dims) -> usize {
    gemm::packed_len::<T>(d.kernel * d.in_channels, d.out_channels)
}

/// Panels of the input gradient: of one product for each residue.
fn back_len<T: Real>(d: Dims) -> usize {
    phases(d).map(|(_, phase)| gemm::packed_len::<T>(phase.taps * d.out_channels, d.in_channels)).sum()
}

/// Residues of the position modulo the stride, and the taps that touch it.
fn phases(d: Dims) -> impl Iterator<Item = (usize, Phase)> {
    (0..d.stride.min(d.length)).map(move |residue| (residue, Phase::of(d, residue)))
}

/// Elements of weights that [`prepare`] leaves. They do not depend on the batch.
///
/// # Panics
/// If the kernel does not fit or a product overflows.
#[track_caller]
pub fn prepared_len<T: Real>(d: Dims, backward: bool) -> usize {
    prepared_by::<T>(spectral::<T>(d), d, backward)
}

#[track_caller]
fn prepared_by<T: Real>(plan: Option<Plan>, d: Dims, backward: bool) -> usize {
    let (_, weights, _, _) = d.sizes("conv1d");
    if let Some(plan) = plan {
        let back = if backward { plan.weights_len(Direction::Backward) } else { 0 };
        return plan.weights_len(Direction::Forward) + back;
    }
    let back = if backward { back_len::<T>(d) } else { 0 };
    there_len::<T>(d) + back + weights
}

crate::compiled::compiled! {
    /// Rearranges and packs, or transforms, w `[out, in, kernel]` for [`forward`] and, with `backward`, for dx of [`backward`]
    /// on the same instruction set; `out`: [`prepared_len`] elements, the last of which may only help in rearranging.
    ///
    /// # Panics
    /// If a size does not fit.
    #[track_caller]
    pub fn prepare<T>(isa: Isa, d: Dims, w: &[T], backward: bool, out: &mut [T]) as PrepareEntry {
        let (_, weights, _, _) = d.sizes("conv1d");
        len("conv1d", "w", weights, w.len());
        len("conv1d", "prepared", prepared_len::<T>(d, backward), out.len());
        if let Some(plan) = spectral::<T>(d) {
            let (there, back) = out.split_at_mut(plan.weights_len(Direction::Forward));
            overlap_save::prepare(isa, &plan, Direction::Forward, real::same(w), real::same_mut(there));
            if backward {
                overlap_save::prepare(isa, &plan, Direction::Backward, real::same(w), real::same_mut(back));
            }
            return;
        }
        let (panels, rearranged) = out.split_at_mut(out.len() - weights);
        let (there, back) = panels.split_at_mut(there_len::<T>(d));
        pack_there(isa, d, w, rearranged, there);
        if backward {
            pack_back(isa, d, w, rearranged, back);
        }
    }
}

fn pack_there<T: Real>(isa: Isa, d: Dims, w: &[T], rearranged: &mut [T], panels: &mut [T]) {
    let (taps, n) = (d.kernel * d.in_channels, d.out_channels);
    patches::weights_forward(d, w, rearranged);
    gemm::pack(isa, taps, n, Strided { data: rearranged, strides: (n, 1) }, panels);
}

fn pack_back<T: Real>(isa: Isa, d: Dims, w: &[T], rearranged: &mut [T], mut panels: &mut [T]) {
    let n = d.in_channels;
    for (_, phase) in phases(d) {
        let taps = phase.taps * d.out_channels;
        let (mine, rest) = panels.split_at_mut(gemm::packed_len::<T>(taps, n));
        let rearranged = &mut rearranged[..taps * n];
        patches::weights_backward(d, phase, w, rearranged);
        gemm::pack(isa, taps, n, Strided { data: rearranged, strides: (n, 1) }, mine);
        panels = rest;
    }
}

crate::compiled::compiled! {
    /// y = act(w * x + b); b `[out]`, `prepared`: w as [`prepare`] leaves it, or empty: then it is prepared in scratch;
    /// `saved`: [`saved_len`] elements or empty, `scratch`: [`scratch_len`] elements.
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
        forward_by(spectral::<T>(d), isa, d, act, x, w, prepared, b, y, saved, scratch);
    }
}

crate::compiled::compiled! {
    /// [`forward`] by the implicit product whatever the sizes, with nothing prepared: what the frequency domain is compared
    /// with. `scratch`: [`scratch_len_direct`] elements.
    ///
    /// # Panics
    /// If a size does not fit.
    #[track_caller]
    pub fn forward_direct<T>(
        isa: Isa,
        d: Dims,
        act: Option<Activation>,
        x: &[T],
        w: &[T],
        b: Option<&[T]>,
        y: &mut [T],
        saved: &mut [T],
        scratch: &mut [T],
    ) as ForwardDirectEntry {
        forward_by(None, isa, d, act, x, w, &[], b, y, saved, scratch);
    }
}

#[track_caller]
fn forward_by<T: Real>(
    plan: Option<Plan>,
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
) {
    let out = check("conv1d", d, x, w, y);
    if let Some(b) = b {
        len("conv1d", "b", d.out_channels, b.len());
    }
    let keep = keeps_z(act) && !saved.is_empty();
    if keep {
        at_least("conv1d", "saved", y.len(), saved.len());
    }
    at_least("conv1d", "scratch", scratch_by::<T>(plan, d, act), scratch.len());
    if y.is_empty() {
        return;
    }
    let length = y.len();
    let z = if keep { &mut saved[..length] } else { &mut *y };
    let relu = act == Some(Activation::Relu);
    rows_of_z(plan, isa, d, relu, x, w, prepared, b, 0..d.batch * out, z, scratch);
    match act {
        Some(kind) if keep => activation::forward(isa, kind, &saved[..length], y),
        _ => activate(isa, act, y, scratch),
    }
}

crate::compiled::compiled! {
    /// [`forward`] at the output positions `rows` of a single sample (a batch of 1), for several threads: `y_rows` are theirs
    /// `[rows, out]`, with the bits that [`forward`] gives. Rows begin and end at multiples of [`row_grain`] or at the end.
    ///
    /// # Panics
    /// If a size does not fit, the batch is not 1, or rows are cut elsewhere.
    #[track_caller]
    pub fn forward_rows<T>(
        isa: Isa,
        d: Dims,
        act: Option<Activation>,
        x: &[T],
        w: &[T],
        prepared: &[T],
        b: Option<&[T]>,
        rows: Range<usize>,
        y_rows: &mut [T],
        scratch: &mut [T],
    ) as ForwardRowsEntry {
        let op = "conv1d rows";
        let (xs, ws, _, out) = d.sizes(op);
        let grain = row_grain::<T>(d);
        require(op, "the batch must be 1", d.batch, d.batch == 1);
        require(op, "rows must end within the output", rows.end, rows.start <= rows.end && rows.end <= out);
        for cut in [rows.start, rows.end] {
            require(op, "rows must be cut at multiples of row_grain", cut, cut % grain == 0 || cut == out);
        }
        len(op, "x", xs, x.len());
        len(op, "w", ws, w.len());
        len(op, "y_rows", product(op, &[rows.len(), d.out_channels]), y_rows.len());
        if let Some(b) = b {
            len(op, "b", d.out_channels, b.len());
        }
        at_least(op, "scratch", scratch_len::<T>(d, act), scratch.len());
        if y_rows.is_empty() {
            return;
        }
        let (plan, relu) = (spectral::<T>(d), act == Some(Activation::Relu));
        rows_of_z(plan, isa, d, relu, x, w, prepared, b, rows, y_rows, scratch);
        activate(isa, act, y_rows, scratch);
    }
}

/// z or, with `relu`, y at flat rows `[batch, out_length]`: all of them or, of a single sample, some.
#[track_caller]
fn rows_of_z<T: Real>(
    plan: Option<Plan>,
    isa: Isa,
    d: Dims,
    relu: bool,
    x: &[T],
    w: &[T],
    prepared: &[T],
    b: Option<&[T]>,
    rows: Range<usize>,
    z: &mut [T],
    scratch: &mut [T],
) {
    if let Some(plan) = plan {
        let there = plan.weights_len(Direction::Forward);
        if !prepared.is_empty() {
            at_least("conv1d", "prepared", there, prepared.len());
        }
        let prepare = |to: &mut [T]| {
            overlap_save::prepare(isa, &plan, Direction::Forward, real::same(w), real::same_mut(to));
        };
        let (h, scratch) = gemm::panels(prepared, there, scratch, prepare);
        let (x, h, b) = (real::same(x), real::same(h), b.map(real::same));
        let (z, scratch) = (real::same_mut(z), real::same_mut(scratch));
        overlap_save::forward(isa, &plan, x, h, b, relu, rows, z, scratch);
        return;
    }
    let (taps, n, there) = (d.kernel * d.in_channels, d.out_channels, there_len::<T>(d));
    if !prepared.is_empty() {
        at_least("conv1d", "prepared", there, prepared.len());
    }
    let (rearranged, scratch) = scratch.split_at_mut(w.len());
    let pack = |panels: &mut [T]| pack_there(isa, d, w, rearranged, panels);
    let (packed, scratch) = gemm::panels(prepared, there, scratch, pack);
    let (out, step, epilogue) =
        (d.out_length().unwrap_or(0), d.stride * d.in_channels, Epilogue { bias: b, relu });
    let mut z = z;
    for (sample, x) in x.chunks_exact((d.length * d.in_channels).max(1)).enumerate() {
        let rows = rows.start.max(sample * out)..rows.end.min((sample + 1) * out);
        if rows.is_empty() {
            continue;
        }
        let (mine, rest) = z.split_at_mut(rows.len() * n);
        z = rest;
        let (shape, first) = ((rows.len(), n, taps), rows.start - sample * out);
        if d.dilation == 1 {
            let positions = (rows.len() - 1) * d.stride + d.kernel;
            let (buffer, scratch) = scratch.split_at_mut(positions * d.in_channels);
            let start = (first * d.stride) as isize - d.padding as isize;
            let a = patches::overlapping(patches::padded(x, start, d.in_channels, buffer), step);
            gemm::multiply_packed(isa, shape, a, packed, Beta::Zero, mine, n, epilogue, scratch);
        } else {
            let a = Patches::of_input(d, x).starting_at(first);
            gemm::multiply_packed(isa, shape, a, packed, Beta::Zero, mine, n, epilogue, scratch);
        }
    }
}

/// An activation other than ReLU, in place.
fn activate<T: Real>(isa: Isa, act: Option<Activation>, y: &mut [T], scratch: &mut [T]) {
    let Some(kind) = act.filter(|&kind| keeps_z(Some(kind))) else { return };
    for y in y.chunks_mut(CHUNK) {
        let z = &mut scratch[..y.len()];
        z.copy_from_slice(y);
        activation::forward(isa, kind, z, y);
    }
}

crate::compiled::compiled! {
    /// Gradients of [`forward`]; dw and db are added to, `None` is not wanted. `y` is read for ReLU only; `prepared`: w as
    /// [`prepare`] with `backward` leaves it, or empty.
    ///
    /// # Panics
    /// If a size does not fit.
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
        backward_by(spectral::<T>(d), isa, d, act, x, w, prepared, y, saved, dy, dx, dw, db, scratch);
    }
}

crate::compiled::compiled! {
    /// [`backward`] by the implicit product whatever the sizes, with nothing prepared. `scratch`: [`scratch_len_direct`]
    /// elements.
    ///
    /// # Panics
    /// If a size does not fit.
    #[track_caller]
    pub fn backward_direct<T>(
        isa: Isa,
        d: Dims,
        act: Option<Activation>,
        x: &[T],
        w: &[T],
        y: &[T],
        saved: &[T],
        dy: &[T],
        dx: Option<GradMut<'_, T>>,
        dw: Option<&mut [T]>,
        db: Option<&mut [T]>,
        scratch: &mut [T],
    ) as BackwardDirectEntry {
        backward_by(None, isa, d, act, x, w, &[], y, saved, dy, dx, dw, db, scratch);
    }
}

#[track_caller]
fn backward_by<T: Real>(
    plan: Option<Plan>,
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
) {
    let op = "conv1d backward";
    let out = check(op, d, x, w, dy);
    if act == Some(Activation::Relu) {
        len(op, "y", dy.len(), y.len());
    }
    if keeps_z(act) {
        at_least(op, "saved", dy.len(), saved.len());
    }
    if let Some(dx) = &dx {
        len(op, "dx", x.len(), dx.data.len());
    }
    if let Some(dw) = &dw {
        len(op, "dw", w.len(), dw.len());
    }
    if let Some(db) = &db {
        len(op, "db", d.out_channels, db.len());
    }
    at_least(op, "scratch", scratch_by::<T>(plan, d, act), scratch.len());

    let there = plan.map_or_else(|| there_len::<T>(d), |plan| plan.weights_len(Direction::Forward));
    let prepared = if prepared.is_empty() {
        prepared
    } else {
        at_least(op, "prepared", prepared_by::<T>(plan, d, true), prepared.len());
        &prepared[there..]
    };
    if let Some(plan) = plan {
        let prepare = |to: &mut [T]| {
            if !to.is_empty() {
                overlap_save::prepare(isa, &plan, Direction::Backward, real::same(w), real::same_mut(to));
            }
        };
        // Only dx needs the weights.
        let back = if dx.is_some() { plan.weights_len(Direction::Backward) } else { 0 };
        let (h, scratch) = gemm::panels(prepared, back, scratch, prepare);
        let z = if keeps_z(act) { &saved[..dy.len()] } else { y };
        let of = OutputGradient { act, z: real::same(z), dy: real::same(dy) };
        let dx = dx.map(|dx| GradMut { data: real::same_mut(dx.data), beta: dx.beta });
        let (dw, db) = (dw.map(real::same_mut), db.map(real::same_mut));
        overlap_save::backward(
            isa,
            &plan,
            real::same(x),
            real::same(h),
            of,
            dx,
            dw,
            db,
            real::same_mut(scratch),
        );
        return;
    }
    by_products(isa, d, out, act, x, w, prepared, y, saved, dy, dx, dw, db, scratch);
}

/// [`backward`] by the implicit product, one sample after the other.
fn by_products<T: Real>(
    isa: Isa,
    d: Dims,
    out: usize,
    act: Option<Activation>,
    x: &[T],
    w: &[T],
    prepared: &[T],
    y: &[T],
    saved: &[T],
    dy: &[T],
    mut dx: Option<GradMut<'_, T>>,
    dw: Option<&mut [T]>,
    mut db: Option<&mut [T]>,
    scratch: &mut [T],
) {
    let m = d.out_channels;
    let (margins, rows) = (Margins::of(d, out), out * m);
    let (dz_buffer, scratch) = scratch.split_at_mut(margins.total * m);
    let (sums, scratch) = scratch.split_at_mut(w.len());
    // The sums are not there before the weights are packed.
    let panels_len = if dx.is_some() { back_len::<T>(d) } else { 0 };
    let (panels, scratch) = gemm::panels(prepared, panels_len, scratch, |panels| {
        if !panels.is_empty() {
            pack_back(isa, d, w, sums, panels)
        }
    });
    dz_buffer.fill(T::ZERO);
    // dy is dz, and nothing reads zeros around it.
    let in_place = act.is_none() && dx.is_none();
    for sample in 0..d.batch {
        let x = &x[sample * d.length * d.in_channels..][..d.length * d.in_channels];
        let range = sample * rows..(sample + 1) * rows;
        let inside = &mut dz_buffer[margins.before * m..][..rows];
        match act {
            None if in_place => {}
            None => inside.copy_from_slice(&dy[range.clone()]),
            Some(kind) => {
                let z = if keeps_z(act) { saved } else { y };
                let (z, dy) = (&z[range.clone()], &dy[range.clone()]);
                activation::backward(isa, kind, z, dy, GradMut::overwrite(inside));
            }
        }
        let dz = if in_place { &dy[range] } else { &*inside };
        if let Some(db) = &mut db {
            gemm::add_column_sums(isa, out, m, dz, db);
        }
        if dw.is_some() && !w.is_empty() {
            let beta = if sample == 0 { Beta::Zero } else { Beta::One };
            weight_sums(isa, d, out, x, dz, beta, sums, scratch);
        }
        if let Some(dx) = &mut dx {
            let dx = GradMut { data: &mut dx.data[sample * x.len()..][..x.len()], beta: dx.beta };
            input_gradient(isa, d, &margins, out, panels, dz_buffer, dx, scratch);
        }
    }
    if let Some(dw) = dw.filter(|dw| !dw.is_empty() && d.batch > 0) {
        patches::add_weights(isa, d, sums, dw);
    }
}

/// sums `[(kernel, in), out]` (+)= the weights' gradient of one sample: the transposed patches times dz, so that it is the
/// patches that are read in place, and the many rows that are cut into tiles.
fn weight_sums<T: Real>(
    isa: Isa,
    d: Dims,
    out: usize,
    x: &[T],
    dz: &[T],
    beta: Beta,
    sums: &mut [T],
    scratch: &mut [T],
) {
    let (taps, n, none) = (d.kernel * d.in_channels, d.out_channels, Epilogue::NONE);
    let (shape, b) = ((taps, n, out), Strided { data: dz, strides: (n, 1) });
    if d.dilation == 1 {
        let positions = (out - 1) * d.stride + d.kernel;
        let (buffer, scratch) = scratch.split_at_mut(positions * d.in_channels);
        let x = patches::padded(x, -(d.padding as isize), d.in_channels, buffer);
        let a = patches::overlapping_columns(x, d.stride * d.in_channels);
        gemm::multiply(isa, shape, a, b, beta, sums, n, none, scratch);
    } else {
        let a = Transposed(Patches::of_input(d, x));
        gemm::multiply(isa, shape, a, b, beta, sums, n, none, scratch);
    }
}

/// dx of one sample: one product for each residue of the position modulo the stride.
fn input_gradient<T: Real>(
    isa: Isa,
    d: Dims,
    margins: &Margins,
    out: usize,
    mut panels: &[T],
    dz: &[T],
    dx: GradMut<'_, T>,
    scratch: &mut [T],
) {
    let (n, m, none) = (d.in_channels, d.out_channels, Epilogue::NONE);
    if dx.data.is_empty() {
        return;
    }
    for (residue, phase) in phases(d) {
        let taps = phase.taps * m;
        let rows = (d.length - residue).div_ceil(d.stride);
        let (packed, rest) = panels.split_at(gemm::packed_len::<T>(taps, n));
        panels = rest;
        let (shape, c, rsc) = ((rows, n, taps), &mut dx.data[residue * n..], d.stride * n);
        if phase.in_place() {
            let start = (margins.before as isize + phase.offset) as usize;
            let a = patches::overlapping(&dz[start * m..], m);
            gemm::multiply_packed(isa, shape, a, packed, dx.beta, c, rsc, none, scratch);
        } else {
            let a = Patches::of_gradient(d, phase, &dz[margins.before * m..][..out * m]);
            gemm::multiply_packed(isa, shape, a, packed, dx.beta, c, rsc, none, scratch);
        }
    }
}

/// Checks x, w, y and returns the positions of y.
#[track_caller]
fn check<T>(op: &str, d: Dims, x: &[T], w: &[T], y: &[T]) -> usize {
    let (xs, ws, ys, out) = d.sizes(op);
    len(op, "x", xs, x.len());
    len(op, "w", ws, w.len());
    len(op, "y", ys, y.len());
    out
}
