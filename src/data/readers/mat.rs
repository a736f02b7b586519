//! A matrix in a MATLAB file as a recording.
//!
//! Which matrix is said by the record: a path as one would write it in MATLAB, `DREAMER.Data{1,2}.ECG.stimuli{3}` (see
//! [`crate::data::matlab`]). Samples run along the longer dimension; the other holds channels, named `channel 1`, `channel
//! 2`, ... (choose with `#2`). The rate must be given; the unit is unknown unless given.
//!
//! Plain HDF5 reads the same way. Files of OpenSignals and biosignalsnotebooks keep a device's channels at
//! `ADDRESS.raw.channel_1` (the address is the group's name, such as `00:07:80:3B:46:61`) and its rate as the attribute
//! `sampling rate` of that group, which is used; their values are counts of the converter, so the unit is `arbitrary`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::{ReadOptions, Reader, stem};
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
        let Some(record) = &options.record else {
            let list: Vec<String> =
                file.variables().iter().take(20).map(|v| format!("{} ({})", v.name, v.class)).collect();
            return Err(Error::usage("which matrix of the file is the recording?").in_file(path).remedy(
                format!(
                    "name it as the record, for example x or x{{3}}; the variables are {}",
                    list.join(", ")
                ),
            ));
        };
        let variable = record.split(['.', '{', '(']).next().unwrap_or(record);
        let own = file.attribute(variable, "sampling rate").filter(|r| r.is_finite() && *r > 0.0);
        if let Some(rate) = own {
            options.agree_fs(rate).map_err(|e| e.in_file(path))?;
        }
        let fs_hz = own.or(options.checked_fs()?).ok_or_else(|| {
            Error::usage("a matrix in a MATLAB file does not carry a sampling rate")
                .in_file(path)
                .remedy("give it: fs_hz = 256")
        })?;
        let info = file.info(record)?;
        let ([rows, columns], true) = (&info.dims[..], info.class.is_numeric()) else {
            return Err(
                Error::data(format!("'{record}' is no matrix of numbers but {}", info.class)).in_file(path)
            );
        };
        let (rows, columns) = (*rows, *columns);
        if rows == 0 || columns == 0 {
            return Err(Error::data(format!("'{record}' is empty ({rows}x{columns})")).in_file(path));
        }
        let by_row = columns > rows;
        let channels = rows.min(columns);
        let labels: Vec<String> = (1..=channels).map(|c| format!("channel {c}")).collect();
        let only = options.pick(&labels)?;
        let unit = options.unit.clone().unwrap_or(Unit::Unknown(String::new()));
        let wanted: Vec<usize> = (0..channels).filter(|c| only.is_none_or(|o| o == *c)).collect();
        let samples: Vec<Vec<f64>> = if by_row && channels > 1 {
            let all = file.value(record)?.into_numbers()?;
            wanted.iter().map(|c| all.iter().skip(*c).step_by(channels).copied().collect()).collect()
        } else if by_row {
            vec![file.value(record)?.into_numbers()?]
        } else {
            wanted.iter().map(|c| file.column(record, *c)).collect::<Result<_>>()?
        };
        // Damage of this variable only: others may lie in the same file.
        let mut warnings = file.warnings();
        warnings.retain(|w| w.contains(&format!("'{variable}'")));
        let channels = wanted.iter().zip(samples).map(|(c, samples)| Channel {
            label: labels[*c].clone(),
            unit: unit.clone(),
            fs_hz,
            samples,
        });
        Ok(Recording {
            path: path.into(),
            files: vec![path.into()],
            record: format!("{}:{record}", stem(path)),
            channels: channels.collect(),
            warnings,
            ..Recording::default()
        })
    }
}
