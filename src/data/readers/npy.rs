//! NumPy arrays as recordings: `[samples]`, or `[samples, channels]` when the first dimension is the longer one, or
//! `[channels, samples]` when the second is. The rate must be given; the unit is unknown unless given.

use std::path::Path;

use super::{ReadOptions, Reader, read_whole, stem};
use crate::data::npy;
use crate::data::recording::{Channel, Recording, Unit};
use crate::error::{Error, Result};

/// The `.npy` reader.
#[derive(Debug)]
pub struct Npy;

impl Reader for Npy {
    fn name(&self) -> &'static str {
        "NumPy"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["npy"]
    }
    fn sniff(&self, _path: &Path, head: &[u8]) -> bool {
        head.starts_with(b"\x93NUMPY")
    }
    fn read(&self, path: &Path, options: &ReadOptions) -> Result<Recording> {
        let array = npy::parse(&read_whole(path)?).map_err(|e| e.in_file(path))?;
        recording(array, path, stem(path), options)
    }
}

/// A recording of an array; `record` is its name.
pub(super) fn recording(
    array: npy::Array,
    path: &Path,
    record: String,
    options: &ReadOptions,
) -> Result<Recording> {
    let fs_hz = options.checked_fs()?.ok_or_else(|| {
        Error::usage("an array does not carry a sampling rate")
            .in_file(path)
            .remedy("give it: --fs-hz 256, in a table column fs_hz")
    })?;
    let mut warnings = Vec::new();
    if array.trailing_bytes > 0 {
        warnings.push(format!("{} bytes after the array were ignored", array.trailing_bytes));
    }
    let (rows, columns) = (array.shape[0], array.shape.get(1).copied().unwrap_or(1));
    let (samples, channels, by_row) = if array.shape.len() == 1 || rows >= columns {
        (rows, columns, false)
    } else {
        (columns, rows, true)
    };
    if samples == 0 || channels == 0 {
        return Err(Error::data(format!("shape {:?} holds no samples", array.shape)).in_file(path));
    }
    let labels: Vec<String> = (1..=channels).map(|c| format!("channel {c}")).collect();
    let unit = options.unit.clone().unwrap_or(Unit::Unknown(String::new()));
    let channels = options
        .choose(&labels, &mut warnings, |c| {
            Ok(Channel {
                label: labels[c].clone(),
                unit: unit.clone(),
                fs_hz,
                samples: match by_row {
                    true => array.values[c * samples..(c + 1) * samples].to_vec(),
                    false => array.values.iter().skip(c).step_by(columns).copied().collect(),
                },
            })
        })
        .map_err(|e| e.in_file(path))?;
    Ok(Recording {
        path: path.into(),
        files: vec![path.into()],
        record,
        channels,
        warnings,
        ..Recording::default()
    })
}
