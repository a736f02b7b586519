//! Flags that say how labelled windows are divided into folds.

use crate::data::split::{Group, Protocol};

/// Flags of the division into training and test parts.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Protocol")]
pub struct ProtocolArgs {
    /// kfold, loo (leave one out), single (one split), subject-stimulus (both held out), or windows, which leaks
    #[arg(long, default_value = "kfold", value_parser = ["kfold", "loo", "single", "subject-stimulus", "windows"])]
    pub protocol: String,
    /// What never lies on both sides; with all but subject people are known in the test part. elicitor is the kind of
    /// stimulus, from a label column of that name: the test part shows a kind that was never seen (across elicitor)
    #[arg(long, default_value = "subject", value_parser = ["subject", "trial", "stimulus", "elicitor"])]
    pub by: String,
    /// Number of folds (over people, with subject-stimulus)
    #[arg(long, default_value_t = 5)]
    pub folds: usize,
    /// Number of folds over stimuli, with subject-stimulus
    #[arg(long, default_value_t = 5)]
    pub stimulus_folds: usize,
    /// Share of the windows in the test part of a single split
    #[arg(long, default_value_t = 0.2)]
    pub test_fraction: f64,
    /// Share of the training part set aside to choose the best epoch; whole groups. 0 for none
    #[arg(long, default_value_t = 0.0)]
    pub validation: f64,
}

impl ProtocolArgs {
    /// The label column whose values are the stimuli.
    pub fn stimulus_column(&self) -> &'static str {
        if self.by == "elicitor" { "elicitor" } else { "stimulus" }
    }

    /// As the data room wants it.
    pub fn resolve(&self) -> Protocol {
        let group = match self.by.as_str() {
            "trial" => Group::Trial,
            "stimulus" | "elicitor" => Group::Stimulus,
            _ => Group::Subject,
        };
        match self.protocol.as_str() {
            "loo" => Protocol::LeaveOneOut { group },
            "single" => Protocol::Single { group, test_fraction: self.test_fraction },
            "subject-stimulus" => {
                Protocol::SubjectAndStimulus { subjects: self.folds, stimuli: self.stimulus_folds }
            }
            "windows" => Protocol::LeakingWindows { k: self.folds },
            _ => Protocol::KFold { group, k: self.folds },
        }
    }
}
