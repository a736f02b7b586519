//! One error type for the whole crate: what went wrong, in which file, at which place, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

/// What sort of failure it is; decides the exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The caller asked for something that makes no sense: a flag, a setting, a combination. Exit code 2.
    Usage,
    /// Shapes or sizes that do not fit. Exit code 3.
    Shape,
    /// A file's content is not what it should be. Exit code 4.
    Format,
    /// The data are readable but cannot be used for the purpose: no ECG channel, one class only. Exit code 5.
    Data,
    /// The operating system refused: missing file, full disk, no permission. Exit code 6.
    Io,
    /// The computation went wrong: NaN loss, non-finite gradient. Exit code 7.
    Numeric,
    /// Interrupted by the user after saving. Exit code 130.
    Interrupted,
}

/// An error with file, place and remedy. Build it with [`Error::new`] and the chained methods; [`Error::fields`] gives what
/// its text is made of.
///
/// ```
/// use heartlore::error::{Error, Kind};
/// let e = Error::shape("the windows do not fit the model").shapes(&[8, 1280], &[8, 640]).remedy("prepare them anew");
/// assert_eq!(e.kind(), Kind::Shape);
/// assert_eq!(e.fields().expected_shape.as_deref(), Some(&[8, 1280][..]));
/// assert_eq!(e.fields().found_shape.as_deref(), Some(&[8, 640][..]));
/// assert_eq!(e.to_string(), "the windows do not fit the model\n  remedy: prepare them anew");
/// ```
#[derive(Debug)]
pub struct Error {
    // In a box, so that a `Result` stays small.
    fields: Box<ErrorFields>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What an [`Error`] says, field by field. Absent where it makes no sense or nobody said it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorFields {
    /// What sort of failure it is.
    pub kind: Kind,
    /// What happened, without file, place and remedy.
    pub what: String,
    /// The file to blame.
    pub file: Option<PathBuf>,
    /// The place inside the file: a line, a byte offset, a field, a tensor.
    pub place: Option<String>,
    /// The place as a byte offset, if it is one.
    pub byte: Option<u64>,
    /// What would have been right.
    pub expected: Option<String>,
    /// What was there instead.
    pub found: Option<String>,
    /// The shape that would have been right.
    pub expected_shape: Option<Vec<usize>>,
    /// The shape that was there instead.
    pub found_shape: Option<Vec<usize>>,
    /// What the user can do.
    pub remedy: Option<String>,
}

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` that says `what` happened.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        let fields = ErrorFields {
            kind,
            what: what.into(),
            file: None,
            place: None,
            byte: None,
            expected: None,
            found: None,
            expected_shape: None,
            found_shape: None,
            remedy: None,
        };
        Self { fields: Box::new(fields), source: None }
    }
    /// [`Kind::Usage`].
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Kind::Usage, what)
    }
    /// [`Kind::Shape`].
    pub fn shape(what: impl Into<String>) -> Self {
        Self::new(Kind::Shape, what)
    }
    /// [`Kind::Format`].
    pub fn format(what: impl Into<String>) -> Self {
        Self::new(Kind::Format, what)
    }
    /// [`Kind::Data`].
    pub fn data(what: impl Into<String>) -> Self {
        Self::new(Kind::Data, what)
    }
    /// [`Kind::Io`] for `file`, with the operating system's own words, and what can be done about the usual troubles.
    pub fn io(file: impl AsRef<Path>, source: std::io::Error) -> Self {
        let what = source.to_string();
        let e = match io_remedy(source.kind()) {
            Some(remedy) => Self::new(Kind::Io, what).remedy(remedy),
            None => Self::new(Kind::Io, what),
        };
        e.in_file(file).caused_by(source)
    }
    /// [`Kind::Numeric`].
    pub fn numeric(what: impl Into<String>) -> Self {
        Self::new(Kind::Numeric, what)
    }
    /// Names the file; the innermost name given wins.
    #[must_use]
    pub fn in_file(mut self, file: impl AsRef<Path>) -> Self {
        self.fields.file.get_or_insert_with(|| file.as_ref().to_path_buf());
        self
    }
    /// An error about a file below `dir` (where something was unpacked) as one about `file`.
    #[cfg(feature = "formats")]
    #[must_use]
    pub(crate) fn replace_file(mut self, dir: &Path, file: &Path) -> Self {
        if self.fields.file.as_ref().is_none_or(|f| f.starts_with(dir)) {
            self.fields.file = Some(file.to_path_buf());
        }
        self
    }
    /// Names the place inside the file: a line, a byte offset, a field, a tensor; the innermost place given wins. One that
    /// reads `byte N` is kept as a number too.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        if self.fields.place.is_none() {
            let place = place.to_string();
            let digits = place.strip_prefix("byte ").map(|t| t.split(|c: char| !c.is_ascii_digit()).next());
            self.fields.byte = digits.flatten().and_then(|d| d.parse().ok());
            self.fields.place = Some(place);
        }
        self
    }
    /// Keeps what would have been right and what was there instead, beside the text.
    #[must_use]
    pub fn values(mut self, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        (self.fields.expected, self.fields.found) = (Some(expected.to_string()), Some(found.to_string()));
        self
    }
    /// [`Error::values`] for shapes.
    #[must_use]
    pub fn shapes(mut self, expected: &[usize], found: &[usize]) -> Self {
        self.fields.expected_shape = Some(expected.to_vec());
        self.fields.found_shape = Some(found.to_vec());
        self.values(format_args!("{expected:?}"), format_args!("{found:?}"))
    }
    /// Says what the user can do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.fields.remedy = Some(remedy.into());
        self
    }
    /// Keeps the underlying error.
    #[must_use]
    pub fn caused_by(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
    /// The kind.
    pub fn kind(&self) -> Kind {
        self.fields.kind
    }
    /// Everything the error says, field by field.
    pub fn fields(&self) -> &ErrorFields {
        &self.fields
    }
    /// What happened, without file, place and remedy.
    pub fn what(&self) -> &str {
        &self.fields.what
    }
    /// The file, if one is to blame.
    pub fn file(&self) -> Option<&Path> {
        self.fields.file.as_deref()
    }
    /// The program's exit code for this error.
    pub fn exit_code(&self) -> u8 {
        match self.fields.kind {
            Kind::Usage => 2,
            Kind::Shape => 3,
            Kind::Format => 4,
            Kind::Data => 5,
            Kind::Io => 6,
            Kind::Numeric => 7,
            Kind::Interrupted => 130,
        }
    }
}

/// What the user can do about a failure of the operating system.
fn io_remedy(kind: std::io::ErrorKind) -> Option<&'static str> {
    use std::io::ErrorKind as K;
    Some(match kind {
        K::StorageFull | K::QuotaExceeded => "free some space on the disk, or choose another place",
        K::FileTooLarge => "raise the limit on the size of files (ulimit -f), or choose another place",
        K::PermissionDenied | K::ReadOnlyFilesystem => "change the permissions, or choose another place",
        K::NotADirectory => "a part of the path is a file: choose another place",
        K::IsADirectory => "this is a directory where a file is expected",
        K::NotFound => "check the path",
        _ => return None,
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ErrorFields { what, file, place, remedy, .. } = &*self.fields;
        if let Some(file) = file {
            write!(f, "{}: ", file.display())?;
        }
        if let Some(place) = place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{what}")?;
        if let Some(remedy) = remedy {
            write!(f, "\n  remedy: {remedy}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

/// Adds the file to an I/O result.
pub trait IoContext<T> {
    /// Turns `std::io::Error` into [`Error::io`] for `file`.
    fn with_file(self, file: impl AsRef<Path>) -> Result<T>;
}

impl<T> IoContext<T> for std::io::Result<T> {
    fn with_file(self, file: impl AsRef<Path>) -> Result<T> {
        self.map_err(|e| Error::io(file, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_place_wins_and_a_byte_is_a_number() {
        let e = Error::format("x")
            .at("byte 17, inflated")
            .at("byte 3")
            .in_file("a")
            .in_file("b")
            .values(1, "two");
        let f = e.fields();
        assert_eq!(
            (f.byte, f.place.as_deref(), e.file()),
            (Some(17), Some("byte 17, inflated"), Some("a".as_ref()))
        );
        assert_eq!((f.expected.as_deref(), f.found.as_deref()), (Some("1"), Some("two")));
        assert_eq!(e.to_string(), "a: byte 17, inflated: x");
        for place in ["bytes 3", "byte", "byte x", "line 3"] {
            assert_eq!(Error::format("x").at(place).fields().byte, None, "{place}");
        }
        assert!(size_of::<Result<()>>() <= 24, "{}", size_of::<Result<()>>());
    }
}
