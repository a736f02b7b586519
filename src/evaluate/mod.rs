//! Evaluation: predictions beside baselines, with figures that cannot flatter and sentences that the data support.
//!
//! * [`Predictions`], [`Design`]: test windows, and how they fall into people, folds and cells.
//! * [`scores`](Score): each figure, where it is computed, its interval over people. The page of [`Scope`] says which
//!   definition is used when.
//! * [`baselines`]: what a model must beat; a list of named baselines, fitted in the model's folds.
//! * [`comparison`]: the model against each of them, person by person.
//! * [`calibration`]: whether probabilities mean what they say.
//! * [`statements`]: every sentence, with the condition that makes it true.
//! * [`null`]: the same scores under labels permuted within people.
//!
//! Definitions of the figures are in [`crate::metrics`]. Nothing here reads files, draws or prints.

pub mod baselines;
pub mod calibration;
pub mod comparison;
mod evaluation;
mod json;
pub mod null;
mod predictions;
mod scores;
pub mod statements;

pub use baselines::{Baseline, BaselinePredictions, FoldRows, Study, WindowFeatures, fit_baselines};
pub use comparison::{Comparison, Difference, PairedTest};
pub use evaluation::{Evaluation, Mark, Method, evaluate};
pub use predictions::{Design, Predictions, Scope, Settings};
pub use scores::{Metric, Score};
pub use statements::{Statement, Weight};
