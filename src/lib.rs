//! heartlore learns emotion from the heartbeat: a hand-written numerical library and, on it, a complete system.
//!
//! # Embed a model
//!
//! ```
//! # fn main() -> heartlore::Result<()> {
//! use heartlore::prelude::*;
//!
//! // A trained model comes from `Model::load("runs/fine/model")?`; here one with random weights.
//! let task = Task::Classifier { positive: "aroused".into(), negative: "calm".into(), threshold: 0.5 };
//! let model = Model::init(ModelConfig::tiny(), task, 1)?;
//! let windows = vec![0.5f32; 3 * model.config().window]; // [3, window]
//! let probabilities = model.predict(&windows)?; // [3]
//! assert_eq!(probabilities.len(), 3);
//! # Ok(()) }
//! ```
//!
//! # Check a gradient
//!
//! ```
//! # fn main() -> heartlore::Result<()> {
//! use heartlore::graph::check::{self, Point, Settings};
//! use heartlore::prelude::*;
//!
//! let mut g = Graph::new();
//! let x = g.input("x", [4, 3])?;
//! let y = g.softmax(x)?;
//! let loss = g.mul(y, x)?;
//! let report = check::gradients(&g, loss, &Point::random(&g, 1), Settings::default())?;
//! assert!(report.passed(), "{report}");
//! # Ok(()) }
//! ```
//!
//! # Call one kernel
//!
//! ```
//! use heartlore::kernels::{Isa, softmax};
//!
//! let (x, mut y) = ([1.0f32, 2.0, 3.0], [0.0; 3]);
//! softmax::forward(Isa::best(), softmax::Dims { rows: 1, cols: 3 }, &x, &mut y);
//! assert!((y.iter().sum::<f32>() - 1.0).abs() < 1e-6);
//! ```
//!
//! # Modules
//!
//! From the ground up: [`kernels`], [`tensor`], [`graph`], [`nn`], [`model`], [`train`]; and beside them, without a graph,
//! [`signal`], [`data`], [`optim`], [`metrics`], [`checkpoint`]. A module uses only those below it; `tests/architecture.rs`
//! holds that.
#![forbid(unsafe_code)]

pub mod checkpoint;
// The program; not part of the library's interface.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod data;
pub mod error;
#[cfg(feature = "formats")]
pub mod evaluate;
pub mod graph;
pub mod metrics;
pub mod model;
pub mod nn;
pub mod optim;
#[cfg(feature = "report")]
pub mod report;
pub mod signal;
pub mod tensor;
pub mod train;

pub use error::{Error, Result};
pub use heartlore_kernels as kernels;
pub use model::Model;

/// What most programs on this library name.
pub mod prelude {
    pub use crate::error::{Error, Result};
    pub use crate::graph::{Exec, Graph, Id, OutputRequest, Plan};
    pub use crate::kernels::Isa;
    pub use crate::model::{Model, Task};
    pub use crate::nn::ModelConfig;
    pub use crate::tensor::{Init, Shape};
}
