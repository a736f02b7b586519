//! Readers, one file per format. A new format is one file with a [`Reader`] and one line in [`READERS`].
//!
//! A reader never panics on a damaged file and never allocates what a header merely claims. Damage that leaves the
//! samples usable (a wrong checksum, a cut-off end) becomes a warning in the [`Recording`]; anything else is an error
//! that names the place.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::checkpoint::placeholder;
use crate::data::recording::{Recording, Unit};
use crate::error::{Error, IoContext, Result};

pub mod csv;
pub mod edf;
pub mod mat;
pub mod npy;
pub mod npz;
mod opensignals;
pub mod packed;
pub mod wfdb;

/// What the user says about a file beyond what it says itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadOptions {
    /// Sampling rate in Hz, for formats that carry none (CSV without time stamps, `.npy`). Where the file carries one,
    /// the two must agree.
    pub fs_hz: Option<f64>,
    /// Unit of all channels that have none.
    pub unit: Option<Unit>,
    /// Name (or `#number`) of the column with time stamps in a CSV.
    pub time_column: Option<String>,
    /// Which record of a file that holds several (the packed format).
    pub record: Option<String>,
    /// Read one channel only: the ECG by [`crate::data::recording::pick_ecg`], or this channel. Spares the memory of
    /// the 20 others in an EEG file.
    pub only: Option<Only>,
    /// Whether damage that leaves the samples usable is an error, in formats that can tell (MATLAB).
    pub strict: bool,
}

/// Which single channel to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Only {
    /// The one that looks like an ECG.
    Ecg,
    /// The one with this label.
    Label(String),
}

impl ReadOptions {
    /// Index of the only channel to be read; None when all are wanted.
    pub(crate) fn pick<S: AsRef<str>>(&self, labels: &[S]) -> Result<Option<usize>> {
        match &self.only {
            None => Ok(None),
            Some(Only::Ecg) => crate::data::recording::pick_ecg(labels, None).map(Some),
            Some(Only::Label(label)) => crate::data::recording::pick_ecg(labels, Some(label)).map(Some),
        }
    }

    /// Checks a rate given by the user.
    pub(crate) fn checked_fs(&self) -> Result<Option<f64>> {
        match self.fs_hz {
            Some(fs) if !(fs.is_finite() && fs > 0.0 && fs <= MAX_FS_HZ) => {
                Err(Error::usage(format!("a sampling rate of {fs} Hz"))
                    .remedy("give the number of samples per second, for example 256"))
            }
            other => Ok(other),
        }
    }

    /// `error` if the rate given by the user differs from the file's by more than 0.5 %.
    pub(crate) fn agree_fs(&self, file_fs_hz: f64) -> Result<()> {
        match self.checked_fs()? {
            Some(given) if (given - file_fs_hz).abs() > 0.005 * file_fs_hz => Err(Error::data(format!(
                "the sampling rate given is {given} Hz, but the file says {file_fs_hz} Hz"
            ))
            .remedy("leave the rate out, or correct the file")),
            _ => Ok(()),
        }
    }
}

/// Rates above this are taken for an error: 1 MHz.
pub(crate) const MAX_FS_HZ: f64 = 1e6;

/// Reads one format.
pub trait Reader: Sync {
    /// Name of the format.
    fn name(&self) -> &'static str;
    /// Usual extensions, lower case, without the dot.
    fn extensions(&self) -> &'static [&'static str];
    /// Whether the first bytes of the file (up to 1024) are certainly of this format.
    fn sniff(&self, path: &Path, head: &[u8]) -> bool;
    /// Reads the file.
    ///
    /// # Errors
    /// Anything that makes the samples, their rate or their scale unreliable.
    fn read(&self, path: &Path, options: &ReadOptions) -> Result<Recording>;
}

/// Every reader, in the order in which they look at a file. CSV is last: it has no signature.
pub const READERS: [&dyn Reader; 9] = [
    &npy::Npy,
    &npz::Npz,
    &mat::Mat,
    &edf::Edf,
    &wfdb::Wfdb,
    &packed::Packed,
    &crate::data::datasets::case::Interpolated,
    &crate::data::datasets::yaad::Samples,
    &csv::Csv,
];

/// Finds the reader for a file, by content, then by extension.
///
/// # Errors
/// No reader knows the file: the message lists the formats.
pub fn find(path: &Path) -> Result<&'static dyn Reader> {
    let mut head = Vec::new();
    if !path.is_dir() {
        File::open(path).and_then(|f| f.take(1024).read_to_end(&mut head)).with_file(path)?;
        if head.is_empty() {
            return Err(Error::format("the file is empty").in_file(path));
        }
        placeholder::refuse(&head).map_err(|e| e.in_file(path))?;
    }
    if let Some(reader) = READERS.iter().find(|r| r.sniff(path, &head)) {
        return Ok(*reader);
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_lowercase();
    let by_name = READERS.iter().find(|r| r.extensions().contains(&extension.as_str()));
    by_name.copied().ok_or_else(|| {
        let known: Vec<String> =
            READERS.iter().map(|r| format!("{} (.{})", r.name(), r.extensions().join(", ."))).collect();
        Error::format("the format is not known")
            .in_file(path)
            .remedy(format!("known formats: {}; convert the recording to one of them", known.join("; ")))
    })
}

/// Reads a recording of any known format.
///
/// # Errors
/// As [`find`] and the format's [`Reader::read`].
pub fn open(path: &Path, options: &ReadOptions) -> Result<Recording> {
    find(path)?.read(path, options).map_err(|e| e.in_file(path))
}

/// Largest file that is read as a whole: 4 GiB.
const MAX_FILE: u64 = 4 << 30;

/// The bytes of a file, which bounds everything that a reader may allocate.
pub(crate) fn read_whole(path: &Path) -> Result<Vec<u8>> {
    let meta = std::fs::metadata(path).with_file(path)?;
    if !meta.is_file() {
        return Err(Error::format("not a file").in_file(path));
    }
    if meta.len() > MAX_FILE {
        return Err(Error::format(format!("{} bytes; at most {MAX_FILE} are read", meta.len()))
            .in_file(path)
            .remedy("cut the recording into parts"));
    }
    let bytes = std::fs::read(path).with_file(path)?;
    placeholder::refuse(&bytes).map_err(|e| e.in_file(path))?;
    Ok(bytes)
}

/// The file's name without directory and extension.
pub(crate) fn stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}
