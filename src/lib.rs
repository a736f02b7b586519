//! heartlore learns emotion from the heartbeat: a hand-written numerical library and, on it, a complete system.
//!
//! Rooms, from the ground up (an arrow never runs backwards; `tests/architecture.rs` holds that):
//! `heartlore_kernels` <- [`tensor`] <- [`graph`] <- [`nn`] <- [`train`] <- `cli`, and beside them, knowing no graph,
//! [`signal`], [`data`], [`optim`], [`metrics`], [`report`], [`checkpoint`].
#![forbid(unsafe_code)]

pub mod checkpoint;
#[cfg(feature = "cli")]
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
