//! Pictures, one self-contained HTML page, and the logs of a run. Takes plain numbers; knows no model and no data.
//!
//! * [`plots`]: each function takes one struct of slices and returns an [`Svg`]. They never fail: what cannot be drawn
//!   (nothing there, NaN, lengths that differ) is said in the picture.
//! * [`Report`]: title, notices, key figures, tables, pictures and provenance in one HTML5 file without script or
//!   external resource.
//! * [`MetricsLog`]: `metrics.csv` and `metrics.jsonl`, row by row, cut back on resuming.
//! * [`EventWriter`]: scalars as a TensorBoard event file.
//!
//! Same input, same bytes: nothing here reads a clock, a random number or the environment. Nothing here prints.

mod chart;
mod html;
mod log;
pub mod plots;
mod scale;
mod style;
mod svg;
mod tensorboard;
#[cfg(test)]
mod tests;

pub use html::{Align, Figure, NoticeKind, Provenance, Report, Section, Table, Tile};
pub use log::{Kept, LoggedRow, MetricsLog, Value};
pub use svg::{Svg, escape};
pub use tensorboard::EventWriter;
