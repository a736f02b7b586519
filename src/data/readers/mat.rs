//! A matrix in a MATLAB file as a recording.
//!
//! Which matrix is said by the record: a path as one would write it in MATLAB, `DREAMER.Data{1,2}.ECG.stimuli{3}` (see
//! [`crate::data::matlab`]); without one it is the only matrix of the file. Samples run along the longer dimension; the
//! other holds channels, named `channel 1`, `channel 2`, ... (choose with `#2`). Dimensions of length 1 are left out. The
//! rate is that of a variable `fs` (`Fs`, `sfreq`, `srate`, `sampling_rate`, ...), or must be given; the unit is unknown
//! unless given.
//!
//! Plain HDF5 reads the same way. Files of OpenSignals and biosignalsnotebooks keep a device's channels at
//! `ADDRESS.raw.channel_1` (the address is the group's name, such as `00:07:80:3B:46:61`) and its rate as the attribute
//! `sampling rate` of that group, which is used; their values are counts of the converter, so the unit is `arbitrary`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::{MAX_FS_HZ, ReadOptions, Reader, stem};
use crate::data::matlab::{MatFile, MatOptions, is_hdf5, is_mat, open_mat};
use crate::data::recording::{Channel, Recording, Unit};
use crate::error::{Error, IoContext, Result};

/// The MATLAB reader.
#[derive(Debug)]
pub struct Mat;

/// A file that stays open: path, length and time of change, strictness, and the file.
type Open = (PathBuf, u64, Option<SystemTime>, bool, Arc<MatFile>);

/// The files used last. A data set keeps dozens of recordings in one file, and finding out where they lie means inflating
/// the file once: too dear to do for each.
static OPEN: Mutex<Vec<Open>> = Mutex::new(Vec::new());
/// Most files kept open; their indices are small.
const MOST_OPEN: usize = 8;

/// Opens a MATLAB file, or returns it if it is open and has not changed.
///
/// # Errors
/// As [`open_mat`].
pub fn open_shared(path: &Path, strict: bool) -> Result<Arc<MatFile>> {
    let meta = std::fs::metadata(path).with_file(path)?;
    let (len, changed) = (meta.len(), meta.modified().ok());
    let mut open = OPEN.lock().unwrap_or_else(|e| e.into_inner());
    let known = open.iter().position(|(p, l, c, s, _)| p == path && (*l, *c, *s) == (len, changed, strict));
    let entry = match known {
        Some(i) => open.remove(i),
        None => {
            let file = open_mat(path, &MatOptions { strict, ..MatOptions::default() })?;
            (path.to_path_buf(), len, changed, strict, Arc::new(file))
        }
    };
    let file = Arc::clone(&entry.4);
    // Last used, last in the list.
    open.push(entry);
    if open.len() > MOST_OPEN {
        open.remove(0);
    }
    Ok(file)
}

impl Reader for Mat {
    fn name(&self) -> &'static str {
        "MATLAB"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["mat", "h5", "hdf5"]
    }
    fn sniff(&self, _path: &Path, head: &[u8]) -> bool {
        is_mat(head) || is_hdf5(head)
    }
    fn read(&self, path: &Path, options: &ReadOptions) -> Result<Recording> {
        let file = open_shared(path, options.strict)?;
        read(&file, path, options).map_err(|e| e.in_file(path))
    }
}

/// Names of variables that hold a sampling rate, in lower case.
const RATES: [&str; 10] = [
    "fs",
    "fs_hz",
    "sfreq",
    "srate",
    "samplerate",
    "sample_rate",
    "samplingrate",
    "sampling_rate",
    "samplefreq",
    "freq",
];

/// A matrix of numbers: where its samples run, and how many channels there are.
struct Matrix {
    channels: usize,
    samples: usize,
    /// Whether the channels are the first of the two dimensions.
    by_row: bool,
    /// Whether it has more than two dimensions, of which all but two are 1.
    squeezed: bool,
}

impl Matrix {
    /// The dimensions `dims` of `record` as samples and channels.
    fn of(dims: &[usize], record: &str) -> Result<Self> {
        let long: Vec<usize> = dims.iter().copied().filter(|d| *d != 1).collect();
        let by = |d: &[usize]| d.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        if dims.contains(&0) {
            return Err(Error::data(format!("'{record}' is empty ({})", by(dims))));
        }
        if long.len() > 2 {
            return Err(Error::data(format!(
                "'{record}' has {} dimensions ({}); a recording has samples and channels",
                dims.len(),
                by(dims)
            ))
            .remedy(format!("save one page as a matrix of its own: in MATLAB page = {record}(:,:,1)")));
        }
        let squeezed = dims.len() > 2;
        let (rows, columns) = match (dims, &long[..]) {
            ([rows, columns], _) => (*rows, *columns),
            (_, [a, b]) => (*a, *b),
            (_, [a]) => (*a, 1),
            _ => (1, 1),
        };
        let by_row = columns > rows;
        Ok(Self { channels: rows.min(columns), samples: rows.max(columns), by_row, squeezed })
    }

    /// One channel.
    fn channel(&self, file: &MatFile, record: &str, c: usize) -> Result<Vec<f64>> {
        if !self.by_row && !self.squeezed {
            return file.column(record, c);
        }
        let all = file.value(record)?.into_numbers()?;
        Ok(match self.by_row {
            true => all.iter().skip(c).step_by(self.channels).copied().collect(),
            false => all[c * self.samples..(c + 1) * self.samples].to_vec(),
        })
    }
}

/// The variable that is the recording when none is named: the only one with more than one number.
fn only_matrix(file: &MatFile) -> Result<String> {
    let is_matrix = |v: &&crate::data::matlab::Variable| {
        v.class.is_numeric()
            && v.dims.iter().product::<usize>() > 1
            && !RATES.contains(&v.name.to_lowercase().as_str())
    };
    let found: Vec<&crate::data::matlab::Variable> = file.variables().iter().filter(is_matrix).collect();
    if let [one] = found[..] {
        return Ok(one.name.clone());
    }
    let list: Vec<String> =
        file.variables().iter().take(20).map(|v| format!("{} ({})", v.name, v.class)).collect();
    let example = found.first().map_or("x", |v| &v.name);
    Err(Error::usage("which matrix of the file is the recording?").remedy(format!(
        "name it with --record (in a table column record), for example --record {example}, or x{{3}} for a cell; the \
         variables are {}",
        list.join(", ")
    )))
}

fn read(file: &MatFile, path: &Path, options: &ReadOptions) -> Result<Recording> {
    let record = match &options.record {
        Some(record) => record.clone(),
        None => only_matrix(file)?,
    };
    let variable = record.split(['.', '{', '(']).next().unwrap_or(&record);
    let own = file.attribute(variable, "sampling rate").filter(|r| r.is_finite() && *r > 0.0);
    let own = own.or_else(|| stored_rate(file));
    let fs_hz = match own {
        Some(rate) => options.rate_near(rate)?,
        None => options.checked_fs()?.ok_or_else(|| {
            Error::usage("a matrix in a MATLAB file does not carry a sampling rate")
                .remedy("give it: --fs-hz 256, in a table column fs_hz")
        })?,
    };
    let info = file.info(&record)?;
    if !info.class.is_numeric() {
        return Err(Error::data(format!("'{record}' is no matrix of numbers but {}", info.class)));
    }
    let matrix = Matrix::of(&info.dims, &record)?;
    let labels: Vec<String> = (1..=matrix.channels).map(|c| format!("channel {c}")).collect();
    let unit = options.unit.clone().unwrap_or(Unit::Unknown(String::new()));
    let mut doubts = Vec::new();
    let channels = options.choose(&labels, &mut doubts, |c| {
        let samples = matrix.channel(file, &record, c)?;
        Ok(Channel { label: labels[c].clone(), unit: unit.clone(), fs_hz, samples })
    })?;
    // Damage of this variable only: others may lie in the same file.
    let mut warnings = file.warnings();
    warnings.retain(|w| w.contains(&format!("'{variable}'")) || w.contains("cannot be followed"));
    warnings.extend(doubts);
    Ok(Recording {
        path: path.into(),
        files: vec![path.into()],
        record: format!("{}:{record}", stem(path)),
        channels,
        warnings,
        ..Recording::default()
    })
}

/// The sampling rate that a variable of its own holds.
fn stored_rate(file: &MatFile) -> Option<f64> {
    let is_rate = |v: &&crate::data::matlab::Variable| {
        RATES.contains(&v.name.to_lowercase().as_str())
            && v.class.is_numeric()
            && v.dims.iter().product::<usize>() == 1
    };
    let found = file.variables().iter().find(is_rate)?;
    let value = file.value(&found.name).ok()?.into_numbers().ok()?;
    value.first().copied().filter(|fs| *fs > 0.0 && *fs <= MAX_FS_HZ)
}
