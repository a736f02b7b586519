//! `heartlore simulate`: a labelled study of simulated ECG, as recordings with a table, or as a prepared store too.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::checkpoint::write_bytes;
use crate::cli::{Context, config, prepare};
use crate::data::prepare::PrepareSettings;
use crate::data::table::{Items, read_table};
use crate::error::{Error, Result};
use crate::signal::simulate::{SimulatedStudy, StateShift, SubjectSpread};

/// Data set name of everything that is simulated.
pub const DATASET: &str = "simulated";
/// Note that goes into manifests, cards and reports.
pub const NOTE: &str = "simulated: ECG by the dynamical model of McSharry et al. 2003 with states and subjects of our own \
                        choice; no person was recorded";

const EXAMPLES: &str = "\
Examples:
  heartlore simulate --out study
  heartlore simulate --out study --subjects 40 --strength 1 --store study-store
  heartlore prepare --table study/items.csv --out study-store

Everything written is simulated and says so: the data set is called 'simulated'.";

/// Flags of `simulate`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Directory for the recordings (CSV) and items.csv
    #[arg(long, short)]
    pub out: PathBuf,
    /// Also prepare the recordings, with default settings, into this store
    #[arg(long)]
    pub store: Option<PathBuf>,
    /// Subjects
    #[arg(long, default_value_t = 20)]
    pub subjects: usize,
    /// Trials per subject, half calm and half aroused, in shuffled order
    #[arg(long, default_value_t = 6)]
    pub trials: usize,
    /// Length of a trial, in seconds
    #[arg(long, default_value_t = 60.0)]
    pub trial_s: f64,
    /// Sampling rate, in Hz
    #[arg(long, default_value_t = 128.0)]
    pub fs_hz: f64,
    /// Names the study
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Share of the full shift between states that acts; 0 makes a study in which nothing can be learnt
    #[arg(long, default_value_t = StateShift::default().strength)]
    pub strength: f64,
    /// Arousal: factor on mean heart rate
    #[arg(long, default_value_t = StateShift::default().heart_rate_factor)]
    pub heart_rate_factor: f64,
    /// Arousal: factor on the standard deviation of RR intervals
    #[arg(long, default_value_t = StateShift::default().rr_sd_factor)]
    pub rr_sd_factor: f64,
    /// Arousal: factor on LF/HF
    #[arg(long, default_value_t = StateShift::default().lf_hf_factor)]
    pub lf_hf_factor: f64,
    /// Arousal: factor on respiration rate
    #[arg(long, default_value_t = StateShift::default().respiration_factor)]
    pub respiration_factor: f64,
    /// Spread over subjects of the logarithm of the heart-rate factor
    #[arg(long, default_value_t = StateShift::default().response_log_sd)]
    pub response_log_sd: f64,
    /// Median resting heart rate, in beats per minute
    #[arg(long, default_value_t = SubjectSpread::default().heart_rate_bpm)]
    pub heart_rate_bpm: f64,
    /// Spread over subjects of the logarithm of resting heart rate
    #[arg(long, default_value_t = SubjectSpread::default().heart_rate_log_sd)]
    pub heart_rate_log_sd: f64,
    /// Configuration file with any of these flags as keys
    #[arg(long)]
    pub config: Option<PathBuf>,
}

impl Args {
    fn study(&self) -> SimulatedStudy {
        SimulatedStudy {
            subjects: self.subjects,
            trials: self.trials,
            trial_s: self.trial_s,
            fs_hz: self.fs_hz,
            seed: self.seed,
            shift: StateShift {
                strength: self.strength,
                heart_rate_factor: self.heart_rate_factor,
                rr_sd_factor: self.rr_sd_factor,
                lf_hf_factor: self.lf_hf_factor,
                respiration_factor: self.respiration_factor,
                response_log_sd: self.response_log_sd,
            },
            spread: SubjectSpread {
                heart_rate_bpm: self.heart_rate_bpm,
                heart_rate_log_sd: self.heart_rate_log_sd,
                ..SubjectSpread::default()
            },
        }
    }
}

/// Writes the study.
///
/// # Errors
/// Settings no heart has, an existing study, a full disk.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let study = args.study();
    let items = write_study(&study, study.subjects, &args.out, context)?;
    context.write_config(&args.out, config::FILE)?;
    let mut text = format!(
        "{}: {} simulated recordings of {} simulated subjects, {} s each at {} Hz; labels in items.csv\n",
        args.out.display(),
        items.items.len(),
        study.subjects,
        study.trial_s,
        study.fs_hz
    );
    if let Some(store) = &args.store {
        let settings = PrepareSettings { notes: vec![NOTE.into()], ..PrepareSettings::default() };
        let place = prepare::lock(store, false, context)?;
        let report = prepare::into_store(place, &items, &settings, 0, context, |_, _, _| Ok(()))?;
        text.push_str(&prepare::summary(&report, &settings, store));
    }
    context.result(&text, || {
        serde_json::json!({
            "simulated": true,
            "table": args.out.join("items.csv").display().to_string(),
            "store": args.store.as_ref().map(|s| s.display().to_string()),
            "recordings": items.items.len(),
            "subjects": study.subjects,
        })
    })
}

/// Writes the first `subjects` of the study as CSV recordings with a table, and reads the table back.
///
/// # Errors
/// As [`run`].
pub(crate) fn write_study(
    study: &SimulatedStudy,
    subjects: usize,
    out: &Path,
    context: &Context,
) -> Result<Items> {
    if subjects == 0 || study.trials == 0 {
        return Err(Error::usage("a study needs at least one subject and one trial"));
    }
    if subjects.checked_mul(study.trials).is_none_or(|n| n > 1_000_000) {
        return Err(Error::usage(format!("{subjects} subjects with {} trials each", study.trials))
            .remedy("at most a million recordings are simulated at once"));
    }
    let _lock = super::rundir::lock(out, context)?;
    let table = out.join("items.csv");
    if table.exists() {
        return Err(Error::usage("there is a study already")
            .in_file(table)
            .remedy("choose another directory"));
    }
    let bar = context.progress((subjects * study.trials) as u64, "simulating");
    let mut rows = format!("# {NOTE}\nfile,dataset,subject,trial,state,aroused\n");
    for subject in 0..subjects {
        for trial in 0..study.trials {
            let t = study.trial(subject, trial)?;
            let file = format!("sim{:02}_{:02}.csv", subject + 1, trial + 1);
            let label = t.state.label();
            // Writing to a String cannot fail.
            let _ = writeln!(
                rows,
                "{file},{DATASET},sim{:02},trial{:02},{},{label}",
                subject + 1,
                trial + 1,
                t.state
            );
            write_recording(&out.join(&file), t.ecg.fs_hz, &t.ecg.signal_mv)?;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    write_bytes(&table, rows.as_bytes())?;
    read_table(&table)
}

/// One simulated recording as CSV with time stamps.
///
/// # Errors
/// A full disk.
pub(crate) fn write_recording(path: &Path, fs_hz: f64, signal_mv: &[f64]) -> Result<()> {
    let mut text = format!("# {NOTE}\ntime_s,ecg [mV]\n");
    for (i, v) in signal_mv.iter().enumerate() {
        // A microsecond and a tenth of a microvolt are finer than anything later uses.
        let _ = writeln!(text, "{:.6},{v:.4}", i as f64 / fs_hz);
    }
    write_bytes(path, text.as_bytes())
}
