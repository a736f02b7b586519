//! Reverse-mode automatic differentiation of a recorded program.
//!
//! 1. **Record** ([`Graph`]): methods append operations to a list; shapes are checked there and then. The program is
//!    plain data: it can be printed, compared, planned, run in f32 or f64.
//! 2. **Plan** ([`Plan`]): from the shapes alone, decides what is kept for the backward pass, how long every buffer
//!    lives, where in one arena it lies and who writes each gradient first.
//! 3. **Run** ([`Exec`]): walks the list forward, then backward. One arm per operation fetches slices and calls one
//!    kernel; nothing is allocated after construction. Weights may be prepared once for many passes ([`PackedWeights`]), and a
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
mod cost;
mod exec;
mod op;
mod packed;
mod params;
mod plan;
mod pool;
mod split;
pub mod trace;
mod views;

pub use heartlore_kernels::gemm::MatmulPrecision;

pub use builder::{AttentionSpec, Conv1dSpec, FeedForwardParams, Graph, Node};
pub use exec::{Exec, ExecContext, ParamGrads, Precision};
pub use op::{Columns, Id, Op, OpKind};
pub use packed::{PackedPart, PackedWeights};
pub use params::{Layout, ParamInfo};
pub use plan::{Lifetime, Memory, OutputRequest, Plan, Use};
pub use pool::ThreadPool;
