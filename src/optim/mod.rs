//! Optimisation on flat slices and plain numbers; nothing here knows a model.
//!
//! * [`schedule`]: the learning rate as a pure function of the step.
//! * [`early_stop`]: when to stop waiting for a better validation score.

pub mod early_stop;
pub mod schedule;

pub use early_stop::{EarlyStop, Goal, Verdict};
pub use schedule::Schedule;
