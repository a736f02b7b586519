//! One writer at a time: an advisory lock on a run, a store, a model directory.
//!
//! The lock is the operating system's (`flock` on Unix, `LockFileEx` on Windows) on a small file. It ends with the process
//! that holds it, killed or not, so it is never stale. The file's text says who holds it, for the message that a second
//! process gives; the text alone locks nothing.
//!
//! | what | lock file |
//! |---|---|
//! | a directory that is written into, such as a run | `.lock` inside ([`Lock::inside`]) |
//! | a file or directory that is replaced as a whole, such as a store or a model | `.NAME.lock` beside ([`Lock::beside`]) |
//!
//! **Network file systems.** Linux turns `flock` on NFS into a byte-range lock that the server keeps: processes on several
//! machines exclude each other if the export supports locks (NFSv4, or NFSv3 with lockd). If a client machine dies, the
//! server frees its locks when the lease runs out, typically after 90 seconds. Where a file system has no locks at all
//! (NFS mounted with `nolock` keeps them to one machine; some FUSE file systems refuse), [`Lock::is_enforced`] is false,
//! the program warns, and keeping other writers away is left to the user.

use super::time::{now_s, utc};
use super::{atomic, names};
use crate::error::{Error, Kind, Result};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Name of the lock file of [`Lock::inside`].
pub const LOCK_FILE: &str = ".lock";

/// A held lock; dropping it frees it.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// Locked as long as it is open.
    file: File,
    enforced: bool,
}

impl Lock {
    /// Locks the existing directory `dir` for writing into it.
    ///
    /// # Errors
    /// [`Kind::Io`] that says who holds the lock; or the operating system's.
    pub fn inside(dir: &Path) -> Result<Self> {
        Self::acquire(dir.join(LOCK_FILE), dir)
    }

    /// Locks `target`, a file or directory that need not exist, for replacing it; the directory above it must exist.
    ///
    /// # Errors
    /// As [`Lock::inside`]; [`Kind::Usage`] if `target` has no name.
    pub fn beside(target: &Path) -> Result<Self> {
        let real = atomic::resolve(target)?;
        Self::acquire(names::beside(&real, "lock")?, target)
    }

    /// [`Lock::beside`], waiting up to `limit` for another holder to end.
    pub(super) fn wait_beside(target: &Path, limit: Duration) -> Result<Self> {
        let step = Duration::from_millis(10);
        for _ in 0..limit.as_millis() / step.as_millis() {
            match Self::beside(target) {
                Err(e) if e.kind() == Kind::Io && std::error::Error::source(&e).is_none() => {
                    std::thread::sleep(step);
                }
                result => return result,
            }
        }
        Self::beside(target)
    }

    /// Whether the file system keeps other processes from taking the lock too.
    pub fn is_enforced(&self) -> bool {
        self.enforced
    }

    fn acquire(path: PathBuf, what: &Path) -> Result<Self> {
        let io = |e: io::Error| {
            Error::io(what, e)
                .remedy("check that the place exists, can be written and has space, or choose another")
        };
        // A holder removes the file when it is done. Whoever opened it before that has a lock on a file without a name,
        // which excludes nobody, and has to open the new one.
        for _ in 0..1000 {
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
            let mut file = file.map_err(io)?;
            let enforced = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => return Err(busy(&mut file, what)),
                Err(TryLockError::Error(e)) if has_no_locks(&e) => false,
                Err(TryLockError::Error(e)) => return Err(io(e)),
            };
            if !enforced || is_named(&file, &path) {
                // A full disk must not stop a run for the sake of a message to others.
                let _ = file.set_len(0).and_then(|()| file.write_all(holder().as_bytes()));
                return Ok(Self { path, file, enforced });
            }
        }
        Err(Error::new(Kind::Io, "the lock is taken and freed by other processes all the time").in_file(what))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Elsewhere than on Unix nobody could tell that the file they opened has lost its name: it stays.
        if cfg!(unix) && self.enforced {
            let _ = fs::remove_file(&self.path);
        }
        let _ = self.file.unlock(); // closing the file does the same
    }
}

/// What the holder writes into the file.
fn holder() -> String {
    format!("process {} on {} since {}\n", std::process::id(), host_name(), utc(now_s()))
}

/// This machine's name, or that of the container.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = name.or_else(|| fs::read_to_string("/etc/hostname").ok());
    let name = name.or_else(|| ["HOSTNAME", "COMPUTERNAME"].iter().find_map(|v| std::env::var(v).ok()));
    name.map(|n| n.trim().to_string())
        .filter(|n| !n.is_empty())
        .unwrap_or_else(|| "an unnamed machine".into())
}

/// The error of who comes second.
fn busy(file: &mut File, what: &Path) -> Error {
    let mut text = String::new();
    // The holder writes its text just after it took the lock.
    for _ in 0..20 {
        let read = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| Read::take(&mut *file, 1000).read_to_string(&mut text));
        if read.is_ok() && text.ends_with('\n') {
            break;
        }
        text.clear();
        std::thread::sleep(Duration::from_millis(5));
    }
    let holder = if text.is_empty() { "another process" } else { text.trim() };
    Error::new(Kind::Io, format!("in use by {holder}"))
        .in_file(what)
        .remedy("wait until that process has ended, or choose another place")
}

fn has_no_locks(e: &io::Error) -> bool {
    const ENOLCK: i32 = 37;
    e.kind() == io::ErrorKind::Unsupported || (cfg!(target_os = "linux") && e.raw_os_error() == Some(ENOLCK))
}

/// Whether `path` still names the open `file`.
#[cfg(unix)]
fn is_named(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |m: io::Result<fs::Metadata>| m.ok().map(|m| (m.dev(), m.ino()));
    id(fs::metadata(path)).is_some_and(|named| id(file.metadata()) == Some(named))
}

#[cfg(not(unix))]
fn is_named(_: &File, _: &Path) -> bool {
    true
}
