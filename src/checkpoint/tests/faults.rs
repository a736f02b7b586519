//! File operations of which any single one fails, or after any of which the process is as good as dead.

use crate::checkpoint::{FileOps, Os, Sink};
use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What happens at the call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It fails with this error; a write that fails has written half of its bytes. Clearing away always works.
    Fail(io::ErrorKind),
    /// Neither it nor any later one does anything, as after SIGKILL; a write in progress has written half of its bytes.
    Kill,
}

#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    calls: Arc<AtomicUsize>,
    at: usize,
    fault: Fault,
    /// Whether the file system can swap two names and give second names.
    able: bool,
}

impl Faulty {
    /// Works as the system does up to call `at`, counted from 0.
    pub(crate) fn new(at: usize, fault: Fault) -> Self {
        Self { calls: Arc::default(), at, fault, able: true }
    }
    /// On a file system that can neither swap two names nor link.
    pub(crate) fn on_a_simple_disk(mut self) -> Self {
        self.able = false;
        self
    }
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
    fn call(&self) -> io::Result<()> {
        let n = self.calls.fetch_add(1, Ordering::Relaxed);
        match self.fault {
            Fault::Fail(kind) if n == self.at => Err(kind.into()),
            Fault::Kill if n >= self.at => Err(io::Error::other("killed")),
            _ => Ok(()),
        }
    }
    fn clear_away(&self) -> io::Result<()> {
        if matches!(self.fault, Fault::Kill) { self.call() } else { Ok(()) }
    }
    fn if_able(&self) -> io::Result<()> {
        if self.able { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
    }
    fn sink(&self, sink: io::Result<Box<dyn Sink>>) -> io::Result<Box<dyn Sink>> {
        Ok(Box::new(FaultySink { ops: self.clone(), sink: sink? }))
    }
}

#[derive(Debug)]
struct FaultySink {
    ops: Faulty,
    sink: Box<dyn Sink>,
}

impl Write for FaultySink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(e) = self.ops.call() {
            if self.ops.calls() == self.ops.at + 1 {
                self.sink.write_all(&bytes[..bytes.len() / 2])?;
            }
            return Err(e);
        }
        self.sink.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

impl Seek for FaultySink {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.sink.seek(to)
    }
}

impl Sink for FaultySink {
    fn sync(&mut self) -> io::Result<()> {
        self.ops.call()?;
        self.sink.sync()
    }
}

impl FileOps for Faulty {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        self.call()?;
        self.sink(Os.create(path))
    }
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        self.call()?;
        self.sink(Os.create_new(path))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.call()?;
        Os.create_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        Os.rename(from, to)
    }
    fn exchange(&self, a: &Path, b: &Path) -> io::Result<()> {
        self.call()?;
        self.if_able()?;
        Os.exchange(a, b)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        self.if_able()?;
        Os.link(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.clear_away()?;
        Os.remove(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.clear_away()?;
        Os.remove_dir_all(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call()?;
        Os.sync_dir(dir)
    }
}

/// Sorted names in a directory.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Calls `replace` with a fault at each call in turn, on able and on simple disks, killed and failing, until it succeeds;
/// after each, `check` gets the outcome: whether it succeeded, and whether the disk could swap and link. Returns the number of faults.
pub(crate) fn at_every_call(
    mut replace: impl FnMut(&Faulty) -> bool,
    mut check: impl FnMut(bool, &Faulty),
) -> usize {
    let mut faults = 0;
    for fault in [Fault::Kill, Fault::Fail(io::ErrorKind::StorageFull), Fault::Fail(io::ErrorKind::Other)] {
        for able in [true, false] {
            for at in 0.. {
                assert!(at < 500, "it never succeeds");
                let ops = Faulty::new(at, fault);
                let ops = if able { ops } else { ops.on_a_simple_disk() };
                let done = replace(&ops);
                check(done, &ops);
                if ops.calls() <= at {
                    assert!(done, "an error without a fault");
                    break;
                }
                faults += 1;
            }
        }
    }
    faults
}
