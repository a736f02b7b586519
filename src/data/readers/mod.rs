//! Readers, one file per format. A new format is one file with a [`Reader`] and one line in [`READERS`].
//!
//! A reader never panics on a damaged file and never allocates what a header merely claims. Damage that leaves the
//! samples usable (a wrong checksum, a cut-off end) becomes a warning in the [`Recording`]; anything else is an error
//! that names the place.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::checkpoint::placeholder;
use crate::data::recording::{self, Channel, Recording, Unit};
use crate::error::{Error, IoContext, Result};

pub mod edf;
pub mod mat;
pub mod npy;
pub mod npz;
mod opensignals;
pub mod packed;
mod source;
pub mod text;
pub mod wfdb;

/// What the user says about a file beyond what it says itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadOptions {
    /// Sampling rate in Hz, for formats that carry none (CSV without time stamps, `.npy`). Where the file carries one,
    /// the two must agree.
    pub fs_hz: Option<f64>,
    /// Unit of all channels that have none.
    pub unit: Option<Unit>,
    /// Name (or `#number`) of the column with time stamps in a text table; `none` to ignore time stamps.
    pub time_column: Option<String>,
    /// Which record of a file that holds several (the packed format).
    pub record: Option<String>,
    /// Read one channel only: the ECG (by [`crate::data::recording::pick_ecg`], but never a channel that cannot be one by
    /// its samples while another can), or this channel. Spares the memory of the 20 others in an EEG file.
    pub only: Option<Only>,
    /// Whether damage that leaves the samples usable is an error, in formats that can tell (MATLAB).
    pub strict: bool,
    /// How a text table is written, where that is not to be found out.
    pub text: text::TextOptions,
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
    /// Reads the channels that are wanted, each by `read`: all, the one named, or the one that is the ECG by name and
    /// content. What is doubtful about the choice goes to `warnings`.
    ///
    /// # Errors
    /// No such channel; whatever `read` meets.
    pub(crate) fn choose<S: AsRef<str>>(
        &self,
        labels: &[S],
        warnings: &mut Vec<String>,
        mut read: impl FnMut(usize) -> Result<Channel>,
    ) -> Result<Vec<Channel>> {
        let labels: Vec<&str> = labels.iter().map(AsRef::as_ref).collect();
        match &self.only {
            None => (0..labels.len()).map(read).collect(),
            Some(Only::Label(label)) => {
                let i = recording::pick_ecg(&labels, Some(label))?;
                let same = labels.iter().filter(|l| **l == labels[i]).count();
                if same > 1 && !label.starts_with('#') {
                    let number = i + 1;
                    warnings.push(format!("{same} channels are called '{label}': #{number} is taken"));
                }
                Ok(vec![read(i)?])
            }
            Some(Only::Ecg) => {
                let mut kept: Vec<(usize, Channel)> = Vec::new();
                let i = recording::choose_ecg(&labels, warnings, |i| {
                    let channel = read(i)?;
                    let why_not = channel.no_ecg();
                    // The first that can be one, and the first of all in case that none can, are held.
                    if kept.is_empty()
                        || (why_not.is_none() && kept.iter().all(|(_, c)| c.no_ecg().is_some()))
                    {
                        kept.push((i, channel));
                    }
                    Ok(why_not)
                })?;
                let found = kept.into_iter().find(|(k, _)| *k == i);
                found.map(|(_, c)| vec![c]).ok_or_else(|| Error::data("no channel was read"))
            }
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

    /// The rate to use for a file that says `file_fs_hz`: the user's where it agrees within 0.5 %, else the file's.
    ///
    /// # Errors
    /// The two differ by more.
    pub(crate) fn rate_near(&self, file_fs_hz: f64) -> Result<f64> {
        match self.checked_fs()? {
            Some(given) if (given - file_fs_hz).abs() > 0.005 * file_fs_hz => Err(Error::data(format!(
                "the sampling rate given is {given} Hz, but the file says {file_fs_hz} Hz"
            ))
            .remedy("leave the rate out, or correct the file")),
            Some(given) => Ok(given),
            None => Ok(file_fs_hz),
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
    &text::Csv,
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
    open_named(path, options).map(|(recording, _)| recording)
}

/// [`open`], with the name of the format. `-` is standard input; of compressed files (`.gz`, and `.zip` that holds one
/// recording) the content is read.
///
/// # Errors
/// As [`open`].
pub fn open_named(path: &Path, options: &ReadOptions) -> Result<(Recording, String)> {
    let Some(inner) = source::unpack(path)? else {
        let reader = find(path)?;
        return Ok((reader.read(path, options).map_err(|e| e.in_file(path))?, reader.name().to_string()));
    };
    // Messages and the list of files name what the user gave, not where it was unpacked.
    let reader = find(inner.path()).map_err(|e| inner.renamed(e, path))?;
    let mut recording = reader.read(inner.path(), options).map_err(|e| inner.renamed(e, path))?;
    recording.path = path.to_path_buf();
    recording.files = if source::is_stdin(path) { Vec::new() } else { vec![path.to_path_buf()] };
    Ok((recording, format!("{} in {}", reader.name(), inner.what())))
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
