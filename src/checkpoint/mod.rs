//! Checkpoints: named tensors in a file that is whole or not there.
//!
//! * [`safetensors`]: the container for weights, exchanged with Python.
//! * [`State`]: what a run needs to resume to the bit, in the same container with a checksum.
//! * [`replace_file`], [`replace_dir`]: no half-written file or directory is ever visible.
//! * [`Rotating`]: the previous checkpoint is kept until the new one has been read back.
//! * [`Lock`]: one writer at a time.
//! * [`compare_shapes`]: which tensors do not fit a model, and how.
//! * [`json`]: the strict JSON that headers and `config.json` need, so that the light core can load a model.
//!
//! This room knows no graph and no model. Its readers never panic and never allocate what a header merely claims.

pub mod atomic;
pub mod crc;
pub mod dtype;
pub mod hash;
pub mod json;
pub mod lock;
mod names;
pub mod ops;
pub mod placeholder;
mod rotating;
pub mod safetensors;
mod shapes;
mod state;
#[cfg(test)]
pub(crate) mod tests;
pub mod time;

pub use atomic::{NewDir, NewFile, finish_replacement, replace_dir, replace_file, write_bytes};
pub use dtype::Dtype;
pub use lock::Lock;
pub use ops::{FileOps, Os, Sink};
pub use rotating::{Loaded, Rotating};
pub use safetensors::TensorView;
pub use shapes::compare_shapes;
pub use state::{Data, State, Stored};
