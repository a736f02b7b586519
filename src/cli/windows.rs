//! Windows for a trained model: cut from recordings exactly as the model's own were, or read from files of prepared
//! windows. Shared by `predict`, `embed`, `forward` and `grad`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::options::text::TextArgs;
use crate::checkpoint::atomic::{FileOps, Os};
use crate::data::npy;
use crate::data::prepare::{PrepareSettings, cut};
use crate::data::readers::{Only, ReadOptions};
use crate::data::recording::Unit;
use crate::data::table::Item;
use crate::error::{Error, IoContext, Kind, Result};
use crate::model::Model;
use crate::model::{Output, Preprocessing};
use crate::signal::{Normalisation, Scaler};

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

/// One recording in windows, as the model wants them.
#[derive(Debug)]
pub struct PreparedRecording {
    /// Path as given.
    pub file: PathBuf,
    /// What cutting gave; windows that fail the quality gate are there, with the reason.
    pub cut: cut::Cut,
    /// The windows' values, `[n, window]`.
    pub values: Vec<f32>,
    /// Seconds of one window.
    pub window_s: f64,
    /// Rate of the windows, Hz.
    pub rate_hz: f64,
}

/// Reads and cuts one recording as `model` was trained on; `hop_s` overrules the step between windows.
///
/// # Errors
/// A model that does not know how its windows were made; whatever reading and cutting refuse.
pub fn of_recording(
    model: &Model,
    file: &Path,
    args: &RecordingArgs,
    hop_s: Option<f64>,
) -> Result<PreparedRecording> {
    let p = preprocessing(model)?;
    let processing = p.processing();
    let hop = match hop_s {
        None => p.hop,
        Some(s) if s.is_finite() && s * p.rate_hz >= 1.0 => (s * p.rate_hz).round() as usize,
        Some(s) => return Err(super::bad_flag("hop-s", format!("a step of {s} s is less than a sample"))),
    };
    let settings = PrepareSettings {
        rate_hz: p.rate_hz,
        filter: processing.filter,
        window: p.window,
        hop,
        normalisation: p.normalisation,
        channel: args.channel.clone(),
        unit: args.unit()?,
        fs_hz: args.fs_hz,
        time_column: args.text.time_column.clone(),
        text: args.text.options(),
        ..PrepareSettings::default()
    };
    let item = Item { file: file.to_path_buf(), record: args.record.clone(), ..Item::default() };
    let subject: Option<Scaler> = match p.normalisation {
        Normalisation::Subject => Some(cut::moments(&item, &settings).map_err(|e| e.in_file(file))?.scaler()),
        _ => None,
    };
    let mut cut = cut::cut_flagged(&item, &settings, subject.as_ref()).map_err(|e| e.in_file(file))?;
    if subject.is_some() {
        cut.warnings.push(
            "the model was trained on windows normalised per subject; this recording is taken for all there is of \
             its subject"
                .into(),
        );
    }
    let values = cut.windows.iter_mut().flat_map(|w| std::mem::take(&mut w.2)).collect();
    Ok(PreparedRecording {
        file: file.to_path_buf(),
        cut,
        values,
        window_s: p.window as f64 / p.rate_hz,
        rate_hz: p.rate_hz,
    })
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

/// How the model's windows were made.
///
/// # Errors
/// The model does not say.
pub fn preprocessing(model: &Model) -> Result<&Preprocessing> {
    model.preprocessing.as_ref().ok_or_else(|| {
        Error::data(
            "the model does not say how its windows were prepared: preprocessor_config.json is missing",
        )
        .remedy("put the file beside config.json, or prepare windows yourself and use `heartlore forward`")
    })
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
/// [`Kind::Data`] with the place.
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
/// [`Kind::Usage`] if it exists.
pub fn check_free(path: &Path, overwrite: bool) -> Result<()> {
    if path.exists() && !overwrite {
        return Err(Error::usage("the file exists already")
            .in_file(path)
            .remedy("choose another name, or give --overwrite"));
    }
    Ok(())
}

/// Creates `dir` and the folders above it.
///
/// # Errors
/// The operating system's.
pub fn create_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)
        .map_err(|e| Error::io(dir, e).remedy("choose a folder that can be written, or another name"))
}

/// Writes bytes whole or not at all.
///
/// # Errors
/// As [`crate::checkpoint::write_atomic`].
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    crate::checkpoint::write_atomic(path, |sink: &mut dyn Write| {
        sink.write_all(bytes).map_err(|e| Error::new(Kind::Io, e.to_string()).caused_by(e))
    })
}

/// A file being written: synced and renamed when it is whole, gone otherwise.
#[derive(Debug)]
pub struct Partial {
    /// Where to write.
    pub path: PathBuf,
}

impl Partial {
    /// A name beside `out`, which the flag `flag` gave.
    ///
    /// # Errors
    /// `out` is not the name of a file.
    pub fn beside(out: &Path, flag: &str) -> Result<Self> {
        let name = out.file_name().ok_or_else(|| super::bad_flag(flag, "not the name of a file"))?;
        let path = out.with_file_name(format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id()));
        if path.exists() {
            // Only a killed process of the same number can have left it.
            fs::remove_file(&path).with_file(&path)?;
        }
        Ok(Self { path })
    }

    /// Puts the finished file in its place.
    ///
    /// # Errors
    /// The operating system's; `out` is then as it was.
    pub fn rename(self, out: &Path) -> Result<()> {
        fs::File::open(&self.path).and_then(|f| f.sync_all()).with_file(out)?;
        fs::rename(&self.path, out).with_file(out)?;
        let folder = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Os.sync_dir(folder).with_file(folder)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // it is not there after a rename
    }
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
