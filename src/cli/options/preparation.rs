//! Flags of the preparation: filter, rate, windows, normalisation, quality gate.

use super::text::TextArgs;
use crate::data::manifest::Filter;
use crate::data::prepare::PrepareSettings;
use crate::data::recording::Unit;
use crate::signal::{Normalisation, QualitySettings};

/// Flags of the preparation.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Preparation")]
pub struct PreparationArgs {
    /// Sampling rate of the windows, in Hz
    #[arg(long, default_value_t = 128.0)]
    pub rate_hz: f64,
    /// Samples per window
    #[arg(long, default_value_t = 1280)]
    pub window: usize,
    /// Samples from one window's start to the next; smaller than the window makes them overlap
    #[arg(long, default_value_t = 1280)]
    pub hop: usize,
    /// Band-pass the recordings
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub filter: bool,
    /// Order of the Butterworth band-pass per edge (4 makes 8 poles)
    #[arg(long, default_value_t = 4)]
    pub filter_order: usize,
    /// Lower cut-off, in Hz
    #[arg(long, default_value_t = 0.8)]
    pub low_hz: f64,
    /// Upper cut-off, in Hz
    #[arg(long, default_value_t = 50.0)]
    pub high_hz: f64,
    /// Filter forward and backward, without delay; false filters causally
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub zero_phase: bool,
    /// Over what samples windows are scaled: window, recording, subject (these two can leak labels) or none
    #[arg(long, default_value = "window", value_parser = ["window", "recording", "subject", "none"])]
    pub normalisation: String,
    /// Drop windows that fail the quality gate
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub quality: bool,
    /// Gate: shortest stretch judged, in seconds; shorter ones are dropped
    #[arg(long, default_value_t = QualitySettings::default().min_length_s)]
    pub min_length_s: f64,
    /// Gate: a run of equal samples this long is flat, in seconds
    #[arg(long, default_value_t = QualitySettings::default().flat_run_s)]
    pub flat_run_s: f64,
    /// Gate: largest share of flat samples
    #[arg(long, default_value_t = QualitySettings::default().max_flat_share)]
    pub max_flat_share: f64,
    /// Gate: a run at the extreme value this long is clipped, in seconds
    #[arg(long, default_value_t = QualitySettings::default().clip_run_s)]
    pub clip_run_s: f64,
    /// Gate: largest share of clipped samples
    #[arg(long, default_value_t = QualitySettings::default().max_clip_share)]
    pub max_clip_share: f64,
    /// Gate: smallest peak-to-peak amplitude, in mV
    #[arg(long, default_value_t = QualitySettings::default().min_peak_to_peak_mv)]
    pub min_peak_to_peak_mv: f64,
    /// Gate: largest peak-to-peak amplitude, in mV
    #[arg(long, default_value_t = QualitySettings::default().max_peak_to_peak_mv)]
    pub max_peak_to_peak_mv: f64,
    /// Gate: largest ratio of the full range to the 1st-to-99th percentile range
    #[arg(long, default_value_t = QualitySettings::default().max_spike_ratio)]
    pub max_spike_ratio: f64,
    /// Gate: fewest beats in a window
    #[arg(long, default_value_t = QualitySettings::default().min_beats)]
    pub min_beats: usize,
    /// Gate: lowest heart rate, in beats per minute
    #[arg(long, default_value_t = QualitySettings::default().min_heart_rate_bpm)]
    pub min_heart_rate_bpm: f64,
    /// Gate: highest heart rate, in beats per minute
    #[arg(long, default_value_t = QualitySettings::default().max_heart_rate_bpm)]
    pub max_heart_rate_bpm: f64,
    /// Gate: smallest median correlation of the beats with their median
    #[arg(long, default_value_t = QualitySettings::default().min_template_correlation)]
    pub min_template_correlation: f64,
    /// Gate: smallest kurtosis in the QRS band
    #[arg(long, default_value_t = QualitySettings::default().min_kurtosis)]
    pub min_kurtosis: f64,
    /// Gate: largest share of the variance that is power-line interference (50 or 60 Hz)
    #[arg(long, default_value_t = QualitySettings::default().max_powerline_share)]
    pub max_powerline_share: f64,
    /// Channel to use, by label or as #1, #2, ... [default: the one that looks like an ECG]
    #[arg(long)]
    pub channel: Option<String>,
    /// Unit of the samples where a file gives none, or one that its amplitudes rule out: mV, uV, V or arbitrary
    #[arg(long, value_parser = parse_unit)]
    pub unit: Option<Unit>,
    /// Sampling rate of files that give none, in Hz
    #[arg(long)]
    pub fs_hz: Option<f64>,
    /// Record to read of files that hold several: a variable of a MATLAB, HDF5 or .npz file
    #[arg(long, value_name = "NAME")]
    pub record: Option<String>,
    /// Most windows of one person
    #[arg(long)]
    pub max_per_subject: Option<usize>,
    /// Most windows of one data set
    #[arg(long)]
    pub max_per_dataset: Option<usize>,
    /// Skip and report recordings that cannot be used, instead of stopping
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub skip_bad: bool,
    /// Stop at damage and deviations that would else be reported: a wrong checksum, a missing subject
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub strict: bool,
    /// Replace an existing store
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub overwrite: bool,
    /// Licence or attribution to keep in the manifest; may be repeated
    #[arg(long = "note", value_name = "TEXT")]
    pub notes: Vec<String>,
    /// How text tables are written
    #[command(flatten)]
    pub text: TextArgs,
}

fn parse_unit(text: &str) -> Result<Unit, String> {
    match Unit::parse(text) {
        Unit::Unknown(text) => Err(format!("'{text}' is none of mV, uV, V, arbitrary")),
        unit => Ok(unit),
    }
}

impl PreparationArgs {
    /// As the data room wants them.
    ///
    /// # Errors
    /// An unknown normalisation.
    pub fn resolve(&self) -> crate::error::Result<PrepareSettings> {
        let filter = Filter {
            order: self.filter_order,
            low_hz: self.low_hz,
            high_hz: self.high_hz,
            zero_phase: self.zero_phase,
        };
        let gate = QualitySettings {
            min_length_s: self.min_length_s,
            flat_run_s: self.flat_run_s,
            max_flat_share: self.max_flat_share,
            clip_run_s: self.clip_run_s,
            max_clip_share: self.max_clip_share,
            min_peak_to_peak_mv: self.min_peak_to_peak_mv,
            max_peak_to_peak_mv: self.max_peak_to_peak_mv,
            max_spike_ratio: self.max_spike_ratio,
            min_beats: self.min_beats,
            min_heart_rate_bpm: self.min_heart_rate_bpm,
            max_heart_rate_bpm: self.max_heart_rate_bpm,
            min_template_correlation: self.min_template_correlation,
            min_kurtosis: self.min_kurtosis,
            max_powerline_share: self.max_powerline_share,
        };
        Ok(PrepareSettings {
            rate_hz: self.rate_hz,
            filter: self.filter.then_some(filter),
            window: self.window,
            hop: self.hop,
            normalisation: self.normalisation.parse::<Normalisation>()?,
            quality: self.quality.then_some(gate),
            channel: self.channel.clone(),
            unit: self.unit.clone(),
            fs_hz: self.fs_hz,
            record: self.record.clone(),
            time_column: self.text.time_column.clone(),
            text: self.text.options(),
            max_per_subject: self.max_per_subject,
            max_per_dataset: self.max_per_dataset,
            skip_bad: self.skip_bad,
            strict: self.strict,
            overwrite: self.overwrite,
            notes: self.notes.clone(),
        })
    }
}
