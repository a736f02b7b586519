//! Checkpoints: named tensors in a file that is whole or not there.
//!
//! * [`safetensors`]: the container for weights, exchanged with Python.
//! * [`State`]: what a run needs to resume to the bit, in the same container with a checksum.
//! * [`write_atomic`], [`Rotating`]: no half-written file is ever visible, the previous one is kept until the new one
//!   has been read back.
//! * [`compare_shapes`]: which tensors do not fit a model, and how.
//! * [`json`]: the strict JSON that headers and `config.json` need, so that the light core can load a model.
//!
//! This room knows no graph and no model. Its readers never panic and never allocate what a header merely claims.

pub mod atomic;
pub mod crc;
pub mod dtype;
pub mod json;
pub mod safetensors;
mod shapes;
mod state;
#[cfg(test)]
mod tests;

pub use atomic::{Loaded, Rotating, write_atomic};
pub use dtype::Dtype;
pub use safetensors::TensorView;
pub use shapes::compare_shapes;
pub use state::{Data, State, Stored};
