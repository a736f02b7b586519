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

/// An error with file, place and remedy. Build it with [`Error::new`] and the chained methods.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    file: Option<PathBuf>,
    place: Option<String>,
    remedy: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` that says `what` happened.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), file: None, place: None, remedy: None, source: None }
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
        self.file.get_or_insert_with(|| file.as_ref().to_path_buf());
        self
    }
    /// An error about a file below `dir` (where something was unpacked) as one about `file`.
    #[must_use]
    pub(crate) fn replace_file(mut self, dir: &Path, file: &Path) -> Self {
        if self.file.as_ref().is_none_or(|f| f.starts_with(dir)) {
            self.file = Some(file.to_path_buf());
        }
        self
    }
    /// Names the place inside the file: a line, a byte offset, a field, a tensor.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.place.get_or_insert_with(|| place.to_string());
        self
    }
    /// Says what the user can do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
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
        self.kind
    }
    /// What happened, without file, place and remedy.
    pub fn what(&self) -> &str {
        &self.what
    }
    /// The file, if one is to blame.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
    /// The program's exit code for this error.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
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
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}", self.what)?;
        if let Some(remedy) = &self.remedy {
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
