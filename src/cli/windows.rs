//! Windows for a trained model: cut from recordings exactly as the model's own were, or read from files of prepared
//! windows. Shared by `predict`, `embed`, `forward` and `grad`.

use std::path::Path;

use super::options::text::TextArgs;
use crate::checkpoint::{Os, atomic::create_dirs};
use crate::cli::Context;
use crate::data::npy;
use crate::data::readers::{Only, ReadOptions};
use crate::data::recording::Unit;
use crate::error::{Error, Result};
use crate::model::{Model, Output, RecordingOptions};

/// What the user says about recordings beyond what they say themselves.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RecordingArgs {
    /// Channel to use instead of the one that looks like an ECG: its label, or #2 for the second.
    #[arg(long, value_name = "LABEL")]
    pub channel: Option<String>,
    /// Unit of recordings that name none: mV, uV, V or arbitrary.
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<String>,
    /// Sampling rate of recordings that name none, in Hz.
    #[arg(long, value_name = "HZ")]
    pub fs_hz: Option<f64>,
    /// Record to read from a file that holds several: packed, or a variable of a MATLAB, HDF5 or .npz file.
    #[arg(long, value_name = "NAME")]
    pub record: Option<String>,
    /// How text tables are written.
    #[command(flatten)]
    pub text: TextArgs,
}

impl RecordingArgs {
    /// The unit, if one was given.
    ///
    /// # Errors
    /// A unit that is not known.
    pub fn unit(&self) -> Result<Option<Unit>> {
        match self.unit.as_deref().map(Unit::parse) {
            Some(Unit::Unknown(text)) => {
                Err(super::bad_flag("unit", format!("the unit '{text}' is not known"))
                    .remedy("use mV, uV, V or arbitrary"))
            }
            unit => Ok(unit),
        }
    }

    /// As the readers want them; `only` is what to read.
    ///
    /// # Errors
    /// A unit that is not known.
    pub fn read_options(&self, only: Option<Only>) -> Result<ReadOptions> {
        Ok(ReadOptions {
            fs_hz: self.fs_hz,
            unit: self.unit()?,
            time_column: self.text.time_column.clone(),
            record: self.record.clone(),
            only,
            strict: false,
            text: self.text.options(),
        })
    }
}

impl RecordingArgs {
    /// The same as the library takes it; `hop_s` overrules the step between windows.
    ///
    /// # Errors
    /// A unit that is not known.
    pub fn options(&self, hop_s: Option<f64>) -> Result<RecordingOptions> {
        Ok(RecordingOptions {
            hop_s,
            channel: self.channel.clone(),
            unit: self.unit()?,
            fs_hz: self.fs_hz,
            record: self.record.clone(),
            time_column: self.text.time_column.clone(),
            text: self.text.options(),
        })
    }
}

/// Runs `read`, which brings the first windows for `output`, while another thread prepares the model's weights, if it may
/// have two threads: of the ten minutes of `heartlore bench --what start` either takes some 15 ms.
///
/// # Errors
/// What the model refuses, as its first run would.
pub fn while_warming<R>(model: &Model, output: Output, read: impl FnOnce() -> R) -> Result<R> {
    if model.threads() == 1 {
        return Ok(read());
    }
    std::thread::scope(|scope| {
        // Without another thread the first run prepares them.
        let warming = std::thread::Builder::new().spawn_scoped(scope, || model.warm(output));
        let result = read();
        match warming.map(std::thread::ScopedJoinHandle::join) {
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Ok(Ok(warm)) => warm.map(|()| result),
            Err(_) => Ok(result),
        }
    })
}

/// Loads the model in `dir`, with a note if its files hold keys of other tools.
///
/// # Errors
/// As [`Model::load`].
pub fn load_model(dir: &Path, context: &Context) -> Result<Model> {
    let model = Model::load(dir)?;
    if !model.foreign_keys().is_empty() {
        context.note(format!(
            "{}: passed over what other tools have added: {}",
            dir.display(),
            model.foreign_keys().join(", ")
        ));
    }
    Ok(model)
}

/// Reads an array of windows `[n, window]`; one dimension is taken as a single window.
///
/// # Errors
/// Another shape, or a value that is not finite (named).
pub fn of_npy(path: &Path, window: usize, what: &str) -> Result<(usize, Vec<f64>)> {
    let array = npy::read(path)?;
    let n = match array.shape[..] {
        [n, samples] if samples == window => n,
        [samples] if samples == window => 1,
        _ => {
            return Err(Error::shape(format!("{what} of shape {:?}; wanted [n, {window}]", array.shape))
                .values(format!("[n, {window}]"), format!("{:?}", array.shape))
                .in_file(path)
                .remedy("the model takes windows of that many samples: cut them so, or choose its model"));
        }
    };
    if n == 0 {
        return Err(Error::data(format!("{what} of shape {:?}: there is no window", array.shape))
            .in_file(path)
            .remedy(format!("give at least one window of {window} samples")));
    }
    require_finite(&array.values, path, |i| format!("window {}, sample {}", i / window, i % window))?;
    Ok((n, array.values))
}

/// Fails naming the first value that is not finite.
///
/// # Errors
/// [`crate::error::Kind::Data`] with the place.
pub fn require_finite(values: &[f64], path: &Path, place: impl Fn(usize) -> String) -> Result<()> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(i) => {
            Err(Error::data(format!("{} is not a finite number", values[i])).in_file(path).at(place(i)))
        }
    }
}

/// Refuses to write over `path` unless allowed.
///
/// # Errors
/// [`crate::error::Kind::Usage`] if it exists.
pub fn check_free(path: &Path, overwrite: bool) -> Result<()> {
    if path.exists() && !overwrite {
        return Err(Error::usage("the file exists already")
            .in_file(path)
            .remedy("choose another name, or give --overwrite"));
    }
    Ok(())
}

/// Creates `dir` and the directories above it.
///
/// # Errors
/// The operating system's.
pub fn create_dir(dir: &Path) -> Result<()> {
    create_dirs(&Os, dir).map_err(|e| e.remedy("choose a directory that can be written, or another name"))
}

/// Lines of fields as CSV text.
///
/// # Errors
/// Lines of different lengths.
pub fn csv_text(header: &[&str], lines: impl IntoIterator<Item = Vec<String>>) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let bad = |e: csv::Error| Error::format(e.to_string());
    writer.write_record(header).map_err(bad)?;
    for line in lines {
        writer.write_record(line).map_err(bad)?;
    }
    writer.into_inner().map_err(|e| Error::format(e.to_string()))
}

/// Seconds to the millisecond.
pub fn seconds(s: f64) -> String {
    format!("{s:.3}")
}
