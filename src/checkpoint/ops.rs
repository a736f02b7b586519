//! The calls to the operating system that safe writing takes, as a trait, so that a test can fail or kill any one of them.

use std::fmt::Debug;
use std::fs;
use std::io::{self, Seek, Write};
use std::path::Path;

/// A file being written.
pub trait Sink: Write + Seek + Send + Debug {
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

/// The calls to the operating system that writing takes. All return its errors.
#[allow(clippy::missing_errors_doc)]
pub trait FileOps: Send + Sync + Debug {
    /// Creates or empties a file for writing.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>>;
    /// Creates a file that must not exist yet.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Sink>>;
    /// Creates a directory that must not exist yet.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Renames within a directory; a file at `to` is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Swaps two names in one step. [`io::ErrorKind::Unsupported`] where the system or the file system cannot.
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must not exist yet.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all it holds.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Forces the entries of a directory to the disk.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The operating system itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Os;

impl FileOps for Os {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(fs::File::create(path)?))
    }
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(fs::File::create_new(path)?))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        exchange(a, b)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // Only Unix can open a directory as a file; elsewhere a rename is as durable as the system makes it.
        if cfg!(unix) { fs::File::open(dir)?.sync_all() } else { Ok(()) }
    }
}

/// `renameat2(RENAME_EXCHANGE)` on Linux, `renamex_np(RENAME_SWAP)` on macOS. The light core has no crate for the call.
#[cfg(all(feature = "formats", any(target_os = "linux", target_os = "macos")))]
fn exchange(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

#[cfg(not(all(feature = "formats", any(target_os = "linux", target_os = "macos"))))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
