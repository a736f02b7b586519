//! Reverse-mode automatic differentiation of a recorded program.
//!
//! 1. **Record** ([`Graph`]): methods append operations to a list; shapes are checked there and then. The program is
//!    plain data: it can be printed, compared, planned, run in f32 or f64.
//! 2. **Plan** ([`Plan`]): from the shapes alone, decides what is kept for the backward pass, how long every buffer
//!    lives, where in one arena it lies and who writes each gradient first.
//! 3. **Run** ([`Exec`]): walks the list forward, then backward. Each operation's rule (one file each, [`ops`]) fetches slices and calls one
//!    kernel; nothing is allocated after construction. Weights may be packed once for many passes ([`PackedWeights`]), and a
//!    [`ThreadPool`] of threads may share a forward pass; neither changes a bit. The operands of products may be rounded to bf16
//!    ([`Plan::with_precision`]).
//!
//! The derivative rule (chain rule in reverse): with L a scalar and y = f(x), the backward pass of f takes dL/dy and adds
//! (dy/dx)^T dL/dy to dL/dx. A value used twice receives two contributions: the first writer overwrites, later ones add.
//!
//! [`check`] proves gradients against central differences; [`trace`] prints programs, values and gradients.

mod aligned;
mod builder;
pub mod check;
mod exec;
mod formula;
mod id;
pub mod number;
mod operation;
pub mod ops;
mod packed;
mod params;
mod parts;
mod plan;
mod pool;
mod step;
pub mod trace;
mod views;

pub use heartlore_kernels::gemm::MatmulPrecision;

pub use builder::Graph;
pub use exec::{Exec, ExecContext, ParamGrads};
pub use id::{Columns, Id};
pub use operation::{Node, Op, Precision};
pub use ops::{AttentionSpec, Conv1dSpec, FeedForwardParams, OpKind};
pub use packed::{Packed, PackedParams, PackedPart, PackedWeights};
pub use params::{Layout, ParamInfo};
pub use plan::{BufferKind, Lifetime, Memory, OutputRequest, Plan};
pub use pool::ThreadPool;
