//! Files and directories that are whole or not there: write beside, sync, rename, sync the directory.
//!
//! **A file** ([`replace_file`], [`NewFile`]). A rename inside one directory is atomic (POSIX `rename`), so a reader, or
//! the next run after a kill, sees the old file or the new one. The file is synced before the rename, or a power cut could
//! leave the new name with old blocks; the directory is synced after it, or the rename itself could be lost. A path that is
//! a symbolic link is replaced, not followed.
//!
//! **A directory** ([`replace_dir`], [`NewDir`]) whose files belong together, such as a store or a model. It is written
//! beside its target, as `.NAME.RANDOM.new`, and takes its place in one step that swaps the two names (`renameat2` on
//! Linux, `renamex_np` on macOS). Where the system or the file system cannot swap, the old directory steps aside as
//! `.NAME.old` first; a kill between these two renames leaves nothing under the target's name, so whoever opens or replaces
//! the target calls [`finish_replacement`], which puts the old one back. A path that is a symbolic link to a directory
//! is followed. Replacing holds the target's [`Lock`]; what a killed process left is removed by the next that has it.
//!
//! [`FileOps`] stands between this code and the operating system only so that tests can fail or kill any single call.

use super::lock::Lock;
use super::names::{self, parent};
use super::ops::{FileOps, Os, Sink};
use crate::error::{Error, Kind, Result};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Writes the file at `path` whole or not at all; `fill` writes its content.
///
/// On error the former file is untouched and no temporary remains. Only if the very last step fails, syncing the
/// directory, the new file may already be in place, whole, although an error is returned. A process killed on the way
/// can leave a temporary `.NAME.RANDOM.tmp`, which nothing reads.
///
/// # Errors
/// [`Kind::Io`] with file and remedy, or whatever `fill` returns.
pub fn replace_file(path: impl AsRef<Path>, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    replace_file_with(&Os, path.as_ref(), fill)
}

/// [`replace_file`] with other file operations.
///
/// # Errors
/// As [`replace_file`].
pub fn replace_file_with(
    ops: &dyn FileOps,
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let temporary = names::unique(path, TEMPORARY)?;
    let written = ops.create_new(&temporary).map_err(io_error).and_then(|sink| fill_synced(sink, fill));
    written.and_then(|()| ops.rename(&temporary, path).map_err(io_error)).map_err(|e| {
        let _ = ops.remove(&temporary); // it may not even exist; the error to report is the first one
        explain(e, path)
    })?;
    ops.sync_dir(parent(path)).map_err(|e| explain(io_error(e), path))
}

/// [`replace_file`] with `bytes` as the content.
///
/// # Errors
/// As [`replace_file`].
pub fn write_bytes(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    replace_file(path, |sink| sink.write_all(bytes).map_err(io_error))
}

/// Ending of temporary files.
const TEMPORARY: &str = "tmp";
/// Ending of directories that are being written.
const STAGING: &str = "new";
/// Ending of a directory that stepped aside.
const ASIDE: &str = "old";

/// Whether a name in a directory is that of a file that a killed process left unfinished.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".tmp")
}

/// A file that is written under a temporary name: for writers that take a path. It is gone unless it is committed.
#[derive(Debug)]
pub struct NewFile {
    path: PathBuf,
    target: PathBuf,
}

impl NewFile {
    /// A name beside `target`; nothing is created yet.
    ///
    /// # Errors
    /// [`Kind::Usage`] if `target` is not the name of a file.
    pub fn beside(target: &Path) -> Result<Self> {
        Ok(Self { path: names::unique(target, TEMPORARY)?, target: target.to_path_buf() })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the finished file and puts it in its place.
    ///
    /// # Errors
    /// [`Kind::Io`] with file and remedy; the target is then as it was.
    pub fn commit(self) -> Result<()> {
        let sync = |path: &Path| fs::OpenOptions::new().append(true).open(path).and_then(|f| f.sync_all());
        let placed = sync(&self.path).and_then(|()| Os.rename(&self.path, &self.target));
        placed
            .and_then(|()| Os.sync_dir(parent(&self.target)))
            .map_err(|e| explain(io_error(e), &self.target))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // it is not there after a commit
    }
}

/// Makes `target` the directory that `fill` writes, whole or not at all; `fill` gets it to write into.
///
/// # Errors
/// As [`NewDir::begin`] and [`NewDir::commit`], or whatever `fill` returns; the target is then as it was.
pub fn replace_dir(target: &Path, fill: impl FnOnce(&NewDir) -> Result<()>) -> Result<()> {
    let new = NewDir::begin(target)?;
    fill(&new)?;
    new.commit()
}

/// A directory that is being written beside its target, under the target's lock. It is gone unless it is committed.
#[derive(Debug)]
pub struct NewDir {
    /// As the caller named it, for messages.
    named: PathBuf,
    target: PathBuf,
    staging: PathBuf,
    ops: Arc<dyn FileOps>,
    done: bool,
    lock: Lock,
}

impl NewDir {
    /// Locks `target`, finishes or clears away what a killed process left there, and creates the directory to write into.
    /// The directories above are created where they are missing.
    ///
    /// # Errors
    /// [`Kind::Io`] if another process is writing the target (it says which) or the operating system refuses;
    /// [`Kind::Usage`] if `target` has no name.
    pub fn begin(target: &Path) -> Result<Self> {
        Self::begin_with(Arc::new(Os), target)
    }

    /// [`NewDir::begin`] with other file operations.
    ///
    /// # Errors
    /// As [`NewDir::begin`].
    pub fn begin_with(ops: Arc<dyn FileOps>, target: &Path) -> Result<Self> {
        let refuse = |e: io::Error| explain(io_error(e), target);
        names::file_name(&resolve(target)?)?;
        create_each(&*ops, &parent(target).components().collect::<PathBuf>()).map_err(refuse)?;
        let lock = Lock::beside(target)?;
        let real = resolve(target)?;
        put_back(&*ops, &real).map_err(refuse)?;
        // Without a real lock, what is there may belong to a process that is alive.
        if lock.is_enforced() {
            for entry in fs::read_dir(parent(&real)).map_err(refuse)?.flatten() {
                if names::is_unique_of(&entry.file_name(), &real, STAGING) {
                    let _ = ops.remove_dir_all(&entry.path());
                }
            }
            let aside = names::beside(&real, ASIDE)?;
            if aside.exists() {
                ops.remove_dir_all(&aside).map_err(refuse)?;
            }
        }
        let staging = names::unique(&real, STAGING)?;
        ops.create_dir(&staging).map_err(refuse)?;
        Ok(Self { named: target.to_path_buf(), target: real, staging, ops, done: false, lock })
    }

    /// The directory to write into.
    pub fn path(&self) -> &Path {
        &self.staging
    }

    /// The target as the caller named it.
    pub fn named(&self) -> &Path {
        &self.named
    }

    /// The file operations.
    pub fn ops(&self) -> &Arc<dyn FileOps> {
        &self.ops
    }

    /// Whether the file system keeps other processes from writing the target at the same time; see [`Lock`].
    pub fn is_locked(&self) -> bool {
        self.lock.is_enforced()
    }

    /// Writes and syncs the file `name` in the new directory.
    ///
    /// # Errors
    /// [`Kind::Io`] with file and remedy, or whatever `fill` returns.
    pub fn write(&self, name: &str, fill: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let created = self.ops.create_new(&self.staging.join(name)).map_err(io_error);
        created.and_then(|sink| fill_synced(sink, fill)).map_err(|e| explain(e, &self.named.join(name)))
    }

    /// Puts the directory in its place. Its files must have been synced, as [`NewDir::write`] does.
    ///
    /// # Errors
    /// [`Kind::Io`] with file and remedy; the target is then as it was. Only if the very last step fails, syncing the
    /// directory above, the new one may already be in place, whole.
    pub fn commit(mut self) -> Result<()> {
        self.place().map_err(|e| explain(io_error(e), &self.named))
    }

    fn place(&mut self) -> io::Result<()> {
        let Self { target, staging, ops, .. } = self;
        ops.sync_dir(staging)?;
        if !target.exists() {
            ops.rename(staging, target)?;
            self.done = true;
            return ops.sync_dir(parent(target));
        }
        if ops.exchange(staging, target).is_ok() {
            // The old directory has the other name now, and goes when this value is dropped.
            return ops.sync_dir(parent(target));
        }
        let aside = names::beside(target, ASIDE).map_err(io::Error::other)?;
        ops.rename(target, &aside)?;
        if let Err(e) = ops.rename(staging, target) {
            let _ = ops.rename(&aside, target); // else `finish_replacement` does it
            return Err(e);
        }
        self.done = true;
        ops.sync_dir(parent(target))?;
        // What cannot be removed now is removed at the next replacement.
        let _ = ops.remove_dir_all(&aside);
        Ok(())
    }
}

impl Drop for NewDir {
    fn drop(&mut self) {
        if !self.done {
            let _ = self.ops.remove_dir_all(&self.staging);
        }
    }
}

/// Puts a directory back under its name that a killed [`NewDir::commit`] had moved aside. Readers call this before they
/// open `target`; it does nothing if the target is there, or if there is nothing to put back.
///
/// # Errors
/// [`Kind::Io`]: the directory is there under the other name, but cannot be renamed; the remedy says how to do it.
pub fn finish_replacement(target: &Path) -> Result<()> {
    let Ok(real) = resolve(target) else { return Ok(()) };
    let aside = names::beside(&real, ASIDE)?;
    if real.exists() || !aside.exists() {
        return Ok(());
    }
    // A living process that replaces the target needs no more than a moment between its two renames.
    let put = Lock::wait_beside(target, Duration::from_secs(2));
    let put = put.and_then(|_lock| put_back(&Os, &real).map_err(|e| Error::io(target, e)));
    put.map_err(|e| e.remedy(format!("a replacement was interrupted: rename {} to {0}", aside.display())))?;
    Ok(())
}

fn put_back(ops: &dyn FileOps, real: &Path) -> io::Result<()> {
    let aside = names::beside(real, ASIDE).map_err(io::Error::other)?;
    if real.exists() || !aside.exists() {
        return Ok(());
    }
    ops.rename(&aside, real)?;
    ops.sync_dir(parent(real))
}

/// `target` with symbolic links followed, so that every path to a directory has the same lock.
///
/// # Errors
/// [`Kind::Usage`] if it has no name.
pub(super) fn resolve(target: &Path) -> Result<PathBuf> {
    if let Ok(real) = fs::canonicalize(target) {
        return Ok(real);
    }
    let name = names::file_name(target)?;
    Ok(fs::canonicalize(parent(target)).unwrap_or_else(|_| parent(target).to_path_buf()).join(name))
}

/// Creates `dir` and the directories above it that are missing, and syncs the directory above each new one: without that
/// a power cut could lose it with all that was written into it.
///
/// # Errors
/// [`Kind::Io`] with the directory and a remedy.
pub fn create_dirs(ops: &dyn FileOps, dir: &Path) -> Result<()> {
    // Without `.`, of which no directory can be made.
    create_each(ops, &dir.components().collect::<PathBuf>()).map_err(|e| Error::io(dir, e))
}

fn create_each(ops: &dyn FileOps, dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if dir.exists() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let above = parent(dir);
    create_each(ops, above)?;
    match ops.create_dir(dir) {
        // Another process may have been faster, or the path ends in `..`.
        Err(_) if dir.is_dir() => Ok(()),
        made => made.and_then(|()| ops.sync_dir(above)),
    }
}

/// Lets `fill` write the content of a new file and syncs it.
pub(super) fn fill_synced(
    sink: Box<dyn Sink>,
    fill: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let mut sink = BufWriter::with_capacity(1 << 16, sink);
    fill(&mut sink)?;
    let mut file = sink.into_inner().map_err(|e| io_error(e.into_error()))?;
    file.sync().map_err(io_error)
}

pub(super) fn io_error(e: io::Error) -> Error {
    Error::new(Kind::Io, e.to_string()).caused_by(e)
}

/// Adds the file and, for the usual troubles, what to do.
pub(super) fn explain(e: Error, path: &Path) -> Error {
    let kind = std::error::Error::source(&e).and_then(|s| s.downcast_ref::<io::Error>()).map(io::Error::kind);
    let remedy = match kind {
        Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            "free some space on the disk or choose another place; the file that was there is untouched"
        }
        Some(io::ErrorKind::FileTooLarge) => {
            "raise the limit on the size of files (ulimit -f); the file that was there is untouched"
        }
        Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
            "the directory cannot be written: change its permissions or choose another place"
        }
        Some(io::ErrorKind::NotFound) => "create the directory above it first, or choose another place",
        Some(_) => "check the disk; the file that was there is untouched",
        None => return e.in_file(path),
    };
    e.in_file(path).remedy(remedy)
}
