//! The pictures of a run.
//!
//! Every function takes one struct of plain slices and returns an [`Svg`](super::Svg) with axes in stated units, a title
//! and a description for screen readers, and colours for light and dark pages. Degenerate input gives a picture that
//! says so; no function here panics or fails.

mod bars;
mod confusion;
mod curves;
mod dataset;
mod ecg;
mod recording;
mod roc;
mod roofline;
mod subjects;
mod timeline;

pub use bars::{Bar, MethodComparison, method_comparison};
pub use confusion::{ConfusionMatrix, confusion_matrix};
pub use curves::{TrainingCurves, training_curves};
pub use dataset::{DatasetOverview, LabelCounts, PersonHours, SetLine, dataset_overview};
pub use ecg::{EcgReconstruction, ecg_reconstruction};
pub use recording::{QualitySpan, RecordingOverview, WindowMark, recording_overview};
pub use roc::{Roc, RocCurve, roc};
pub use roofline::{Bandwidth, Peak, Roofline, RooflinePoint, roofline};
pub use subjects::{ScoreGroup, SubjectScores, subject_scores};
pub use timeline::{PredictionTimeline, Trace, TrueSpan, WindowPrediction, prediction_timeline};

/// Lower and upper end of an interval, in the unit of the value it belongs to.
pub type Interval = (f64, f64);

/// `interval` if both ends are finite, ordered.
fn finite(interval: Option<Interval>) -> Option<Interval> {
    interval.filter(|(a, b)| a.is_finite() && b.is_finite()).map(|(a, b)| (a.min(b), a.max(b)))
}
