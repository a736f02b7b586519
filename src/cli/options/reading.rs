//! Flags of the probe: what its head reads.

use crate::error::Result;
use crate::model::reading::{Reading, Reference};
use crate::train::read::Rest;

/// What the head of a probe reads beside the window.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Probe")]
pub struct ReadingArgs {
    /// What is known of a person: none, rest (the first seconds of the person's own rest, which are not scored), or past (the
    /// person's earlier windows, without labels)
    #[arg(long, default_value_t = Reference::None)]
    pub reference: Reference,
    /// Seconds of rest, or of past that must be there before a window is judged
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub reference_s: f64,
    /// Which windows are rest: first (the person's first windows), or COLUMN=VALUE of a label column
    #[arg(long, default_value = "first", value_name = "WHICH")]
    pub rest: String,
    /// Average features over the last so many seconds of the recording; 0 for the window alone
    #[arg(long, default_value_t = 0.0, value_name = "SECONDS")]
    pub context_s: f64,
    /// Folds over the training people in which a probe's penalty is chosen
    #[arg(long, default_value_t = 4)]
    pub inner_folds: usize,
}

impl ReadingArgs {
    /// As the library wants them.
    ///
    /// # Errors
    /// A rest of another form.
    pub(crate) fn resolve(&self) -> Result<(Reading, Rest)> {
        let Self { reference, reference_s, context_s, .. } = *self;
        Ok((Reading { reference, reference_s, context_s }, Rest::parse(&self.rest)?))
    }
}
