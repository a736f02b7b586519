//! MATLAB files: an index of variables first, then only the values that are asked for.
//!
//! ```no_run
//! # fn main() -> heartlore::Result<()> {
//! use heartlore::data::matlab::{MatOptions, open_mat};
//! let file = open_mat("DREAMER.mat".as_ref(), &MatOptions::default())?;
//! for variable in file.variables() {
//!     println!("{} {:?} {}", variable.name, variable.dims, variable.class);
//! }
//! let ecg = file.value("DREAMER.Data{1,2}.ECG.stimuli{3}")?.into_numbers()?;
//! # Ok(()) }
//! ```
//!
//! **Versions.** 4 (`v4`), 5 to 7 (here), and 7.3, which is HDF5 (feature `mat73`). All through [`open_mat`], which looks at
//! the content, never at the name.
//!
//! **Why by hand.** AMIGOS, DREAMER, ASCERTAIN and PsPM are delivered in version 5. Of the crates tried on the 110 files of
//! SciPy's own tests, `matfile` and `mat5` do not read cells, structs or text, and `matrw` reads the whole file into memory,
//! refuses what SciPy writes, panics on damaged files and allocates what a length field claims. The format is small.
//!
//! **Files.** `stream`: bytes from any position, inflated or not. `element`: tags and stored numbers. `tree`: one pass
//! that finds where every value lies. `decode`: values. `path`: how a value is named. `value`: what comes out.
//!
//! **Limits.** Nothing is allocated because a header says so: lengths are checked against the bytes that are left, inflated
//! data are counted as they come. The index of a variable takes at most 64 MiB and 16 bytes per byte of the file; a decoded
//! value at most 8 bytes per stored one and never more than [`MatOptions::max_bytes`]; a sparse matrix of version 4 at
//! most 65,536 columns and 64 for each value. Nesting is limited to 64.
//!
//! **Damage.** A zlib checksum that does not match, or bytes after an array's end, are warnings ([`MatFile::warnings`]),
//! because published files have them; with [`MatOptions::strict`] they are errors. Damaged compressed data are an error.
//! Function handles and objects of MATLAB classes hold code: they are passed over with a warning.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::error::{Error, IoContext, Result};

mod decode;
mod element;
#[cfg(feature = "mat73")]
mod hdf;
mod path;
mod stream;
mod tree;
mod v4;
mod value;

pub use path::{Step, ValuePath};
pub use value::{Array, Class, Data, Numbers};

use decode::{Decoder, pick};
use element::{COMPRESSED, MATRIX, Tag};
use stream::{Cursor, Ending, Input, Stream};
use tree::{Body, Node, Walk};

/// How to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatOptions {
    /// Whether damage that leaves the values readable (a wrong checksum) is an error. Default: no, a warning.
    pub strict: bool,
    /// Most memory of one decoded value, in bytes. Default: 1 GiB.
    pub max_bytes: u64,
}

impl Default for MatOptions {
    fn default() -> Self {
        Self { strict: false, max_bytes: 1 << 30 }
    }
}

/// Version of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Level 4.
    V4,
    /// Levels 5, 6 and 7.
    V5,
    /// Level 7.3: HDF5.
    V73,
}

/// A variable of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: Class,
    /// At least two dimensions.
    pub dims: Vec<usize>,
    /// Whether its numbers are complex.
    pub complex: bool,
    /// Whether it was global in the session that saved it.
    pub global: bool,
    /// Whether it is compressed.
    pub compressed: bool,
}

/// What stands at a path, without its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Info {
    /// Class.
    pub class: Class,
    /// At least two dimensions.
    pub dims: Vec<usize>,
    /// Names of the fields of a struct.
    pub fields: Vec<String>,
}

/// An open MATLAB file. Values can be read from several threads at once.
#[derive(Debug)]
pub struct MatFile {
    path: PathBuf,
    version: Version,
    variables: Vec<Variable>,
    warnings: Mutex<Vec<String>>,
    options: MatOptions,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Elements {
        input: Input,
        big: bool,
        entries: Vec<Entry>,
    },
    #[cfg(feature = "mat73")]
    Hdf(hdf::Hdf),
}

/// Where one variable lies; its index is made when the first value is asked for.
#[derive(Debug)]
struct Entry {
    tag: Tag,
    index: Mutex<Option<Arc<Index>>>,
}

#[derive(Debug)]
struct Index {
    stream: Stream,
    root: Node,
}

/// Opens a MATLAB file of any version and lists its variables.
///
/// # Errors
/// Not a MATLAB file, a damaged one, or a version whose feature was not built in; each names the file and the place.
pub fn open_mat(path: &Path, options: &MatOptions) -> Result<MatFile> {
    let open = || {
        if path.is_dir() {
            return Err(Error::format("a folder, where a MATLAB file is expected"));
        }
        let mut file = File::open(path).with_file(path)?;
        let mut head = Vec::new();
        (&mut file).take(1024).read_to_end(&mut head).with_file(path)?;
        crate::checkpoint::placeholder::refuse(&head)?;
        if is_hdf5(&head) {
            return hdf_file(path, options);
        }
        MatFile::of(Input::file(file).with_file(path)?, &head, options)
    };
    let mut file = open().map_err(|e| e.in_file(path))?;
    file.path = path.to_path_buf();
    Ok(file)
}

#[cfg(feature = "mat73")]
fn hdf_file(path: &Path, options: &MatOptions) -> Result<MatFile> {
    let (content, variables, warnings) = hdf::Hdf::open(path)?;
    Ok(MatFile {
        path: PathBuf::new(),
        version: Version::V73,
        variables,
        warnings: Mutex::new(warnings),
        options: options.clone(),
        content: Content::Hdf(content),
    })
}

#[cfg(not(feature = "mat73"))]
fn hdf_file(_: &Path, _: &MatOptions) -> Result<MatFile> {
    Err(Error::format("a MATLAB 7.3 file (HDF5), which this build does not read")
        .remedy("build with the feature mat73, or save the file with -v7 in MATLAB"))
}

/// Whether a file that begins so is HDF5 (MATLAB puts a header of its own of 512 bytes before it).
pub(crate) fn is_hdf5(head: &[u8]) -> bool {
    const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";
    head.starts_with(SIGNATURE) || head.get(512..).is_some_and(|h| h.starts_with(SIGNATURE))
}

/// Whether a file that begins so is certainly a MATLAB file. (Version 4 has no mark that could make one certain.)
#[cfg(feature = "formats")]
pub(crate) fn is_mat(head: &[u8]) -> bool {
    let end = head.get(124..128);
    end == Some(b"\x00\x01IM") || end == Some(b"\x01\x00MI") || (is_hdf5(head) && head.starts_with(b"MATLAB"))
}

impl MatFile {
    /// Opens a file of version 4 or 5 that is in memory.
    ///
    /// # Errors
    /// As [`open_mat`].
    pub fn from_bytes(bytes: Vec<u8>, options: &MatOptions) -> Result<Self> {
        let head = bytes[..bytes.len().min(1024)].to_vec();
        Self::of(Input::memory(bytes), &head, options)
    }

    fn of(input: Input, head: &[u8], options: &MatOptions) -> Result<Self> {
        let file = Self {
            path: PathBuf::new(),
            version: Version::V5,
            variables: Vec::new(),
            warnings: Mutex::default(),
            options: options.clone(),
            content: Content::Elements { input: Input::memory(Vec::new()), big: false, entries: Vec::new() },
        };
        let mark = head.get(126..128);
        let big = mark == Some(b"MI");
        if !big && mark != Some(b"IM") || head.get(..4).is_some_and(|b| b.contains(&0)) {
            // The text at the beginning of a version 5 file has no zero byte; a version 4 file has one there.
            return match v4::sniff(head) {
                Some(big) => file.list_v4(input, big),
                None => Err(Error::format("not a MATLAB file (no mark of version 4, 5 or 7.3)")),
            };
        }
        let version = [head[124], head[125]];
        let version = if big { u16::from_be_bytes(version) } else { u16::from_le_bytes(version) };
        if version >> 8 != 1 {
            return Err(
                Error::format(format!("version {version:#06x} of the format is not known")).at("byte 124")
            );
        }
        file.list_v5(input, big)
    }

    fn list_v4(mut self, input: Input, big: bool) -> Result<Self> {
        let mut entries = Vec::new();
        for (head, root) in v4::read(&input, big)? {
            self.note_variable(head, false);
            let index = Arc::new(Index { stream: Stream::Plain, root });
            let tag = Tag { code: MATRIX, at: 0, bytes: 0, next: 0 };
            entries.push(Entry { tag, index: Mutex::new(Some(index)) });
        }
        self.version = Version::V4;
        self.content = Content::Elements { input, big, entries };
        Ok(self)
    }

    fn list_v5(mut self, input: Input, big: bool) -> Result<Self> {
        let mut entries = Vec::new();
        let mut cursor = Cursor::plain(&input, 128);
        while cursor.at() < input.len() {
            let start = cursor.at();
            let cut_off = |e: Error| e.remedy("the file is cut off or damaged; copy or download it again");
            let tag = Tag::read(&mut cursor, big, input.len()).map_err(cut_off)?;
            let (mut from, end) = match tag.code {
                MATRIX => (Cursor::plain(&input, tag.at), tag.at + tag.bytes),
                COMPRESSED => {
                    let mut inside = Cursor::inflated(&input, tag.at, tag.bytes, false);
                    let array = Tag::read(&mut inside, big, u64::MAX).map_err(cut_off)?;
                    if array.code != MATRIX {
                        return Err(Error::format(format!("type {} where an array is due", array.code))
                            .at(format!("byte {start}, inflated")));
                    }
                    (inside, array.at + array.bytes)
                }
                other => {
                    return Err(Error::format(format!("type {other} where a variable is due"))
                        .at(format!("byte {start}")));
                }
            };
            if end > from.at() {
                from.seek(from.at())?;
                let mut walk = Walk { cursor: from, big, nodes_left: 0, warnings: Vec::new() };
                let head = walk.head(end)?;
                // MATLAB keeps data of its own in an array without a name.
                if !head.name.is_empty() {
                    self.note_variable(head, tag.code == COMPRESSED);
                    entries.push(Entry { tag, index: Mutex::default() });
                }
            }
            // A compressed element is not padded.
            cursor.seek(if tag.code == COMPRESSED { tag.at + tag.bytes } else { tag.next })?;
        }
        self.content = Content::Elements { input, big, entries };
        Ok(self)
    }

    fn note_variable(&mut self, head: tree::Head, compressed: bool) {
        if self.variables.iter().any(|v| v.name == head.name) {
            self.warn(format!("two variables are named '{}'; the later counts", head.name));
        }
        self.variables.push(Variable {
            name: head.name,
            class: head.class,
            dims: head.dims,
            complex: head.complex,
            global: head.global,
            compressed,
        });
    }

    fn warn(&self, text: String) {
        let mut warnings = self.warnings.lock().unwrap_or_else(|e| e.into_inner());
        if warnings.len() < 1000 && !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// Path of the file; empty if it was read from memory.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Version of the format.
    pub fn version(&self) -> Version {
        self.version
    }
    /// The variables, in the order of the file.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }
    /// Damage met so far that did not prevent reading. It grows as values are read.
    pub fn warnings(&self) -> Vec<String> {
        self.warnings.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Number of the variable `name`.
    fn find(&self, name: &str) -> Result<usize> {
        self.variables.iter().rposition(|v| v.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.variables.iter().take(20).map(|v| v.name.as_str()).collect();
            let names = if names.is_empty() { "none".to_string() } else { names.join(", ") };
            Error::data(format!("there is no variable '{name}'; the variables are: {names}"))
        })
    }

    /// The variable's index, made on first use.
    fn index(&self, input: &Input, big: bool, entry: &Entry, name: &str) -> Result<Arc<Index>> {
        let mut slot = entry.index.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(index) = slot.as_ref() {
            return Ok(Arc::clone(index));
        }
        let Tag { code, at, bytes, .. } = entry.tag;
        let compressed = code == COMPRESSED;
        let (cursor, limit) = match compressed {
            true => (Cursor::inflated(input, at, bytes, true), u64::MAX),
            false => (Cursor::plain(input, at - 8), at + bytes),
        };
        let nodes_left = 250_000 + input.len() / 16;
        let mut walk = Walk { cursor, big, nodes_left, warnings: Vec::new() };
        let (root, _) = walk.array(limit, 0)?;
        for warning in walk.warnings {
            self.warn(format!("variable '{name}': {warning}"));
        }
        let (ending, points) = walk.cursor.finish()?;
        let defect = match ending {
            Ending::Whole => None,
            Ending::WrongChecksum => Some("its zlib checksum is wrong"),
            Ending::CutOff => {
                Some("its compressed data end without a checksum, or are damaged after the last value")
            }
            Ending::Trailing => Some("bytes follow its compressed data"),
        };
        if let Some(defect) = defect {
            if self.options.strict {
                return Err(Error::format(defect)
                    .at(format!("variable '{name}'"))
                    .remedy("copy or download the file again, or read it without --strict"));
            }
            self.warn(format!("variable '{name}': {defect}"));
        }
        let stream =
            if compressed { Stream::Inflated { start: at, len: bytes, points } } else { Stream::Plain };
        Ok(Arc::clone(slot.insert(Arc::new(Index { stream, root }))))
    }

    /// Runs `f` with the index of the path's variable.
    fn with<T>(
        &self,
        path: &str,
        elements: impl FnOnce(&Index, &ValuePath, Decoder<'_>) -> Result<(T, Vec<String>)>,
        #[cfg(feature = "mat73")] hdf: impl FnOnce(&hdf::Hdf, &ValuePath) -> Result<T>,
    ) -> Result<T> {
        let run = || {
            let value = ValuePath::parse(path)?;
            let number = match (&self.content, self.find(&value.variable)) {
                // A group that cannot be listed still gives its members by name.
                #[cfg(feature = "mat73")]
                (Content::Hdf(_), Err(_)) => 0,
                (_, found) => found?,
            };
            match &self.content {
                Content::Elements { input, big, entries } => {
                    let index = self.index(input, *big, &entries[number], &value.variable)?;
                    let cursor = Cursor::of(input, &index.stream);
                    let left = self.options.max_bytes;
                    let decoder = Decoder { cursor, big: *big, left, warnings: Vec::new() };
                    let (out, warnings) = elements(&index, &value, decoder)?;
                    for warning in warnings {
                        self.warn(format!("{path}: {warning}"));
                    }
                    Ok(out)
                }
                #[cfg(feature = "mat73")]
                Content::Hdf(file) => hdf(file, &value),
            }
        };
        let named = |e: Error| if self.path.as_os_str().is_empty() { e } else { e.in_file(&self.path) };
        run().map_err(|e: Error| named(e.at(path)))
    }

    /// A number that an HDF5 file keeps as attribute `name` of a variable or top group. Other files have none.
    #[cfg_attr(not(feature = "mat73"), allow(unused_variables))]
    pub fn attribute(&self, variable: &str, name: &str) -> Option<f64> {
        match &self.content {
            Content::Elements { .. } => None,
            #[cfg(feature = "mat73")]
            Content::Hdf(file) => file.attribute(variable, name),
        }
    }

    /// What stands at `path`, without reading its values.
    ///
    /// # Errors
    /// No such variable, field or element (the message says which there are); a damaged file.
    pub fn info(&self, path: &str) -> Result<Info> {
        self.with(
            path,
            |index, value, _| {
                let picked = pick(&index.root, &value.steps)?;
                let info = Info { class: picked.class(), dims: picked.dims(), fields: picked.fields() };
                Ok((info, Vec::new()))
            },
            #[cfg(feature = "mat73")]
            |file, value| file.info(value),
        )
    }

    /// The value at `path`, such as `DREAMER.Data{1,2}.ECG.stimuli{3}`. Nothing else is decoded.
    ///
    /// # Errors
    /// As [`MatFile::info`], and a value larger than [`MatOptions::max_bytes`].
    pub fn value(&self, path: &str) -> Result<Array> {
        self.with(
            path,
            |index, value, mut decoder| {
                let array = decoder.picked(pick(&index.root, &value.steps)?)?;
                Ok((array, decoder.warnings))
            },
            #[cfg(feature = "mat73")]
            |file, value| file.value(value, self.options.max_bytes),
        )
    }

    /// Column `column` (from 0) of the matrix of real numbers at `path`: only that column is decoded.
    ///
    /// # Errors
    /// As [`MatFile::value`]; not a matrix of real numbers, or one with fewer columns.
    pub fn column(&self, path: &str, column: usize) -> Result<Vec<f64>> {
        let check = |class: Class, dims: &[usize]| match *dims {
            [rows, columns] if class.is_numeric() && column < columns => Ok(rows),
            _ => Err(Error::data(format!(
                "{} where a matrix of at least {} columns is due",
                value::describe(class, dims),
                column + 1
            ))),
        };
        self.with(
            path,
            |index, value, mut decoder| {
                let picked = pick(&index.root, &value.steps)?;
                let rows = check(picked.class(), &picked.dims())?;
                let decode::Picked::Whole(Node { class, body: Body::Numeric { re, im: None }, .. }) = picked
                else {
                    return Err(Error::data("the numbers are complex where real ones are due"));
                };
                // Below the number of elements, which fits.
                let numbers = decoder.numbers(*re, (column * rows) as u64, rows, *class)?;
                Ok((numbers.into_f64(), decoder.warnings))
            },
            #[cfg(feature = "mat73")]
            |file, value| {
                let info = file.info(value)?;
                check(info.class, &info.dims)?;
                file.column(value, column, self.options.max_bytes)
            },
        )
    }
}
