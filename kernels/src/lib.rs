//! Numerical kernels of heartlore: pure functions on slices, forward and backward side by side.
//!
//! A kernel allocates nothing, starts no thread and reads no global ([`measure`], for benchmarks, is no kernel). It takes an [`Isa`] (which vector instructions to
//! use), its dimensions, input slices and output slices. Rules that hold everywhere:
//!
//! * Row-major, contiguous slices; the last dimension varies fastest. `x: [rows, cols]` in the docs is a shape.
//! * One folder per operation: `mod.rs` holds formula, derivative and the public functions, `reference.rs` the loop to
//!   study (generic over [`Real`]), `simd.rs` the vector body (only where measured to pay), `tests.rs` the proofs.
//! * Gradient outputs come as [`GradMut`]: [`Beta::Zero`] overwrites and never reads what was there (it may be NaN),
//!   [`Beta::One`] accumulates. Parameter gradients always accumulate: the caller clears them once per step.
//! * Sizes are checked at entry; a misfit panics with the operation, the expected and the actual size ([`contract`]).

pub mod absorbed_attention;
pub mod activation;
pub mod adam;
pub mod attention;
mod compiled;
pub mod contract;
pub mod conv1d;
pub mod dropout;
pub mod elementwise;
pub mod embed;
pub mod feed_forward;
pub mod gemm;
pub mod isa;
pub mod layer_norm;
pub mod linear;
pub mod losses;
pub mod measure;
pub mod pool;
pub mod real;
pub mod reduce;
pub mod rms_norm;
pub mod rng;
pub mod softmax;
pub mod vmath;

#[cfg(test)]
mod proofs;
#[cfg(test)]
mod testing;

pub use contract::{Beta, GradMut};
pub use isa::Isa;
pub use real::Real;
