//! Files that are whole or not there: write beside, sync, rename, sync the folder.
//!
//! A rename inside one folder is atomic (POSIX `rename`), so a reader, or the next run after a kill, sees the old file
//! or the new one. The file is synced before the rename, or a power cut could leave the new name with old blocks; the
//! folder is synced after it, or the rename itself could be lost. A path that is a symbolic link is replaced, not
//! followed. One process writes a given path at a time.
//!
//! [`FileOps`] stands between this code and the operating system only so that tests can fail any single call.

use crate::error::{Error, Kind, Result};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A file being written.
pub trait Sink: Write {
    /// Forces what was written to the disk.
    ///
    /// # Errors
    /// The operating system's.
    fn sync(&mut self) -> io::Result<()>;
}

impl Sink for fs::File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// The calls to the operating system that writing takes.
pub trait FileOps {
    /// Creates or empties a file for writing.
    ///
    /// # Errors
    /// The operating system's, as for all methods here.
    #[allow(clippy::missing_errors_doc)]
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>>;
    /// Renames within a folder, replacing `to`.
    #[allow(clippy::missing_errors_doc)]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    #[allow(clippy::missing_errors_doc)]
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Forces the entries of a folder to the disk.
    #[allow(clippy::missing_errors_doc)]
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The real thing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Os;

impl FileOps for Os {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(fs::File::create(path)?))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // Elsewhere than on Unix a folder cannot be opened as a file, and the rename alone must do.
        if cfg!(unix) { fs::File::open(dir)?.sync_all() } else { Ok(()) }
    }
}

/// Writes the file at `path` whole or not at all; `fill` writes its content.
///
/// On error the former file is untouched and no temporary remains. Only if the very last step fails, syncing the
/// folder, the new file may already be in place, whole, although an error is returned. A process killed on the way
/// can leave a temporary `.NAME.PID-COUNT.tmp`, which nothing reads.
///
/// # Errors
/// [`Kind::Io`] with file and remedy, or whatever `fill` returns.
pub fn write_atomic(path: impl AsRef<Path>, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    write_atomic_with(&Os, path.as_ref(), fill)
}

/// [`write_atomic`] with other file operations.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_atomic_with(
    ops: &dyn FileOps,
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = file_name(path)?;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_file_name(format!(".{name}.{}-{count}.tmp", std::process::id()));
    write_synced(ops, &temporary, path, fill)?;
    if let Err(e) = ops.rename(&temporary, path) {
        let _ = ops.remove(&temporary); // the error to report is the rename's
        return Err(explain(io_error(e), path));
    }
    ops.sync_dir(folder(path)).map_err(|e| explain(io_error(e), path))
}

/// Writes `temporary` and syncs it; removes it on error. Errors name `path`, which is what the user knows.
fn write_synced(
    ops: &dyn FileOps,
    temporary: &Path,
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let attempt = || {
        let mut sink = BufWriter::with_capacity(1 << 16, ops.create(temporary).map_err(io_error)?);
        fill(&mut sink)?;
        let mut file = sink.into_inner().map_err(|e| io_error(e.into_error()))?;
        file.sync().map_err(io_error)
    };
    attempt().map_err(|e| {
        let _ = ops.remove(temporary); // it may not even exist; the error to report is the first one
        explain(e, path)
    })
}

fn io_error(e: io::Error) -> Error {
    Error::new(Kind::Io, e.to_string()).caused_by(e)
}

/// Adds the file and, for the usual troubles, what to do.
fn explain(e: Error, path: &Path) -> Error {
    let kind = std::error::Error::source(&e).and_then(|s| s.downcast_ref::<io::Error>()).map(io::Error::kind);
    let remedy = match kind {
        Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            "free some space on the disk or choose another folder; the file that was there is untouched"
        }
        Some(io::ErrorKind::FileTooLarge) => {
            "raise the limit on the size of files (ulimit -f); the file that was there is untouched"
        }
        Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
            "the folder cannot be written: change its permissions or choose another folder"
        }
        Some(io::ErrorKind::NotFound) => "create the folder first or choose another one",
        Some(_) => "check the disk; the file that was there is untouched",
        None => return e.in_file(path),
    };
    e.in_file(path).remedy(remedy)
}

fn file_name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|n| n.to_str()).ok_or_else(|| {
        Error::usage("not the name of a file, or not UTF-8").in_file(path).remedy("choose another file name")
    })
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// A checkpoint kept twice: the last one, and the previous one until the next has been verified.
///
/// For `last.ckpt` the files are `last.ckpt`, `last.prev.ckpt` and, while saving, `last.new.ckpt`. A save writes and
/// syncs `new`, reads it back, renames `last` to `prev` and `new` to `last`. At every moment at least one of the three
/// is whole, once the first save has returned.
#[derive(Debug)]
pub struct Rotating<O = Os> {
    last: PathBuf,
    previous: PathBuf,
    new: PathBuf,
    ops: O,
    /// `last` was verified by this value, so it need not be read again before it becomes `prev`.
    last_is_whole: bool,
}

/// What [`Rotating::load`] found.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The newest whole checkpoint.
    pub value: T,
    /// Its file.
    pub from: PathBuf,
    /// Set if it is not the last one that was saved: says why, to be shown to the user.
    pub warning: Option<String>,
}

impl Rotating<Os> {
    /// A rotating checkpoint whose newest copy is at `path`.
    ///
    /// # Errors
    /// [`Kind::Usage`] if `path` names no file.
    pub fn new(path: impl AsRef<Path>) -> Result<Self> {
        Self::with_ops(path, Os)
    }
}

impl<O: FileOps> Rotating<O> {
    /// [`Rotating::new`] with other file operations.
    ///
    /// # Errors
    /// As [`Rotating::new`].
    pub fn with_ops(path: impl AsRef<Path>, ops: O) -> Result<Self> {
        let last = path.as_ref().to_path_buf();
        let name = file_name(&last)?;
        let beside = |tag: &str| {
            last.with_file_name(match name.rsplit_once('.') {
                Some((stem, extension)) if !stem.is_empty() => format!("{stem}.{tag}.{extension}"),
                _ => format!("{name}.{tag}"),
            })
        };
        Ok(Self { previous: beside("prev"), new: beside("new"), last, ops, last_is_whole: false })
    }

    /// Path of the newest copy.
    pub fn last(&self) -> &Path {
        &self.last
    }

    /// Path of the copy before it.
    pub fn previous(&self) -> &Path {
        &self.previous
    }

    /// Path of the copy that is being written.
    pub fn staging(&self) -> &Path {
        &self.new
    }

    /// Saves what `fill` writes; `verify` reads a file back and fails if it is not whole.
    ///
    /// # Errors
    /// [`Kind::Io`] with file and remedy, or what `fill` or `verify` return; then the last checkpoint is as before.
    pub fn save(
        &mut self,
        fill: impl FnOnce(&mut dyn Write) -> Result<()>,
        verify: impl Fn(&Path) -> Result<()>,
    ) -> Result<()> {
        self.finish_save(&verify)?;
        let Self { last, previous, new, ops, .. } = self;
        let at_last = |e: io::Error| explain(io_error(e), last);
        write_synced(ops, new, last, fill)?;
        if let Err(e) = verify(new) {
            let _ = ops.remove(new);
            return Err(Error::new(e.kind(), format!("the new checkpoint does not read back: {e}"))
                .in_file(last.as_path())
                .remedy("check the disk; the last checkpoint is untouched"));
        }
        // A damaged `last` must not push out a whole `prev`.
        let demote = last.exists() && (self.last_is_whole || verify(last).is_ok());
        self.last_is_whole = false;
        if demote && let Err(e) = ops.rename(last, previous) {
            let _ = ops.remove(new);
            return Err(at_last(e));
        }
        if let Err(e) = ops.rename(new, last) {
            // Back to the state before; if even that fails, all that is whole stays and `load` finds it.
            if !demote || ops.rename(previous, last).is_ok() {
                let _ = ops.remove(new);
            }
            return Err(at_last(e));
        }
        ops.sync_dir(folder(last)).map_err(at_last)?;
        self.last_is_whole = true;
        Ok(())
    }

    /// Finishes a save that was killed between its two renames, which left `new` as the newest: for a run that goes on, since
    /// it may have nothing more to save.
    ///
    /// # Errors
    /// [`Kind::Io`] with file and remedy; all that is whole stays.
    pub fn finish_save(&self, verify: impl Fn(&Path) -> Result<()>) -> Result<()> {
        let Self { last, new, ops, .. } = self;
        if !last.exists() && new.exists() && verify(new).is_ok() {
            ops.rename(new, last).map_err(|e| explain(io_error(e), last))?;
        }
        Ok(())
    }

    /// Loads the newest whole checkpoint with `read`, which must fail on any damage (and only then: a file that does
    /// not fit the model is to be refused afterwards, or an older one would be tried in vain).
    ///
    /// # Errors
    /// [`Kind::Io`] if there is none, [`Kind::Format`] with each file's trouble if none is whole.
    pub fn load<T>(&self, read: impl Fn(&Path) -> Result<T>) -> Result<Loaded<T>> {
        let mut troubles: Vec<String> = Vec::new();
        let mut present = false;
        for path in [&self.last, &self.new, &self.previous] {
            // An absent `new` is the normal case and no news; `prev` is absent after the first save.
            if !path.exists() {
                if path == &self.last {
                    troubles.push(format!("{}: missing", path.display()));
                }
                continue;
            }
            present = true;
            match read(path) {
                Ok(value) => {
                    let warning = (path != &self.last).then(|| {
                        format!("fell back to {}, because: {}", path.display(), troubles.join("; "))
                    });
                    return Ok(Loaded { value, from: path.clone(), warning });
                }
                Err(e) => troubles.push(e.in_file(path).to_string()),
            }
        }
        let error = if present {
            Error::format(format!("no whole checkpoint: {}", troubles.join("; ")))
                .remedy("the run cannot be resumed: start it again in another folder")
        } else {
            Error::new(Kind::Io, "there is no checkpoint")
                .remedy("check the folder, or start without resuming")
        };
        Err(error.in_file(&self.last))
    }
}
