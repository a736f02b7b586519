//! Writing with every single call to the operating system failing once.

use super::{bytes, sample};
use crate::checkpoint::atomic::{FileOps, Os, Rotating, Sink, write_atomic, write_atomic_with};
use crate::checkpoint::{Loaded, State};
use crate::error::{Error, Kind};
use std::cell::Cell;
use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

/// Fails the `fail_at`-th call; a write that fails has written half of its bytes.
#[derive(Clone)]
struct Faulty {
    calls: Rc<Cell<usize>>,
    fail_at: usize,
    kind: io::ErrorKind,
}

impl Faulty {
    fn new(fail_at: usize, kind: io::ErrorKind) -> Self {
        Self { calls: Rc::default(), fail_at, kind }
    }
    fn call(&self) -> io::Result<()> {
        let n = self.calls.get();
        self.calls.set(n + 1);
        if n == self.fail_at { Err(self.kind.into()) } else { Ok(()) }
    }
}

struct FaultySink(Faulty, fs::File);

impl Write for FaultySink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(e) = self.0.call() {
            self.1.write_all(&bytes[..bytes.len() / 2])?;
            return Err(e);
        }
        self.1.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }
}

impl Sink for FaultySink {
    fn sync(&mut self) -> io::Result<()> {
        self.0.call()?;
        self.1.sync_all()
    }
}

impl FileOps for Faulty {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Sink>> {
        self.call()?;
        Ok(Box::new(FaultySink(self.clone(), fs::File::create(path)?)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call()?;
        Os.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Os.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call()?;
        Os.sync_dir(dir)
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const KINDS: [io::ErrorKind; 3] =
    [io::ErrorKind::StorageFull, io::ErrorKind::Other, io::ErrorKind::PermissionDenied];

#[test]
fn whichever_call_fails_the_file_is_whole_and_no_temporary_remains() {
    let big = vec![7u8; 300_000];
    for kind in KINDS {
        let mut finished = false;
        for fail_at in 0..100 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.bin");
            fs::write(&path, b"old").unwrap();
            let ops = Faulty::new(fail_at, kind);
            let result = write_atomic_with(&ops, &path, |w| {
                for piece in big.chunks(100_000) {
                    w.write_all(piece).map_err(|e| Error::new(Kind::Io, e.to_string()).caused_by(e))?;
                }
                Ok(())
            });
            assert_eq!(names(dir.path()), ["x.bin"]);
            let content = fs::read(&path).unwrap();
            if let Err(e) = &result {
                assert!(
                    e.kind() == Kind::Io
                        && e.to_string().contains("x.bin")
                        && e.to_string().contains("remedy")
                );
                // Only when the very last call fails, the folder's sync, is the new content in place.
                let last_call = ops.calls.get() == fail_at + 1 && content == big;
                assert!(content == b"old" || last_call, "call {fail_at}");
            } else {
                assert_eq!(content, big);
                // create, 3 writes, sync, rename, sync of the folder
                assert_eq!(fail_at, 7, "the number of calls changed");
                finished = true;
                break;
            }
        }
        assert!(finished);
    }
}

#[test]
fn an_error_of_the_content_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.bin");
    fs::write(&path, b"old").unwrap();
    let e = write_atomic(&path, |w| {
        w.write_all(b"half").map_err(|e| Error::io("x", e))?;
        Err(Error::numeric("NaN"))
    });
    assert_eq!(e.unwrap_err().kind(), Kind::Numeric);
    assert_eq!((names(dir.path()), fs::read(&path).unwrap()), (vec!["x.bin".to_string()], b"old".to_vec()));
}

#[test]
fn bad_places_have_clear_errors() {
    let dir = tempfile::tempdir().unwrap();
    let e = write_atomic(dir.path().join("none/x"), |_| Ok(())).unwrap_err();
    assert!(e.kind() == Kind::Io && e.to_string().contains("create the folder first"), "{e}");
    assert_eq!(write_atomic("/", |_| Ok(())).unwrap_err().kind(), Kind::Usage);
    let full = Faulty::new(1, io::ErrorKind::StorageFull);
    let e =
        write_atomic_with(&full, &dir.path().join("x"), |w| w.write_all(b"1").map_err(|e| Error::io("x", e)));
    assert!(e.unwrap_err().to_string().contains("free some space"));
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_has_a_clear_error() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("ro");
    fs::create_dir(&inner).unwrap();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o555)).unwrap();
    let result = write_atomic(inner.join("x"), |_| Ok(()));
    // The superuser may write anywhere; then there is nothing to see here (the injected fault above covers it).
    if let Err(e) = result {
        assert!(e.to_string().contains("change its permissions"), "{e}");
    }
    // A folder that refuses even the superuser.
    if Path::new("/proc/self").exists() {
        let e = write_atomic("/proc/self/x", |_| Ok(())).unwrap_err();
        assert!(e.kind() == Kind::Io && e.to_string().contains("remedy"), "{e}");
    }
}

#[test]
fn rotating_survives_the_failure_of_any_call() {
    for kind in KINDS {
        let mut finished = false;
        for fail_at in 0..100 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("last.ckpt");
            let mut good = Rotating::new(&path).unwrap();
            sample(1).save(&mut good).unwrap();
            sample(2).save(&mut good).unwrap();
            assert_eq!(names(dir.path()), ["last.ckpt", "last.prev.ckpt"]);
            let mut bad = Rotating::with_ops(&path, Faulty::new(fail_at, kind)).unwrap();
            let result = sample(3).save(&mut bad);
            let Loaded { value, warning, .. } = State::load(&good).unwrap();
            assert_eq!(warning, None);
            let step = value.number("step").unwrap();
            assert!(step == 2 || step == 3);
            assert!(!good.staging().exists());
            if result.is_ok() {
                assert_eq!(step, 3);
                finished = true;
                break;
            }
            // And the next save works.
            sample(4).save(&mut good).unwrap();
            assert_eq!(State::load(&good).unwrap().value.number("step").unwrap(), 4);
        }
        assert!(finished);
    }
}

#[test]
fn falls_back_to_the_previous_one_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut r = Rotating::new(dir.path().join("last.ckpt")).unwrap();
    assert!(State::load(&r).unwrap_err().to_string().contains("there is no checkpoint"));
    sample(1).save(&mut r).unwrap();
    sample(2).save(&mut r).unwrap();
    let mut damaged = fs::read(r.last()).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    fs::write(r.last(), &damaged).unwrap();
    let loaded = State::load(&r).unwrap();
    assert_eq!((loaded.value.number("step").unwrap(), loaded.from.as_path()), (1, r.previous()));
    let warning = loaded.warning.unwrap();
    assert!(warning.contains("last.prev.ckpt, because:") && warning.contains("checksum"), "{warning}");
    // A save by a later process does not let the damaged file push out the whole one.
    let mut again = Rotating::new(r.last()).unwrap();
    sample(3).save(&mut again).unwrap();
    assert_eq!(State::read(r.last()).unwrap().number("step").unwrap(), 3);
    assert_eq!(State::read(r.previous()).unwrap().number("step").unwrap(), 1);
    // Both damaged.
    fs::write(r.last(), b"").unwrap();
    fs::write(r.previous(), b"x").unwrap();
    let e = State::load(&r).unwrap_err();
    assert!(e.kind() == Kind::Format && e.to_string().contains("last.prev.ckpt"), "{e}");
}

#[test]
fn a_kill_between_the_two_renames_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut r = Rotating::new(dir.path().join("last.ckpt")).unwrap();
    sample(1).save(&mut r).unwrap();
    fs::rename(r.last(), r.previous()).unwrap();
    fs::write(r.staging(), bytes(&sample(2))).unwrap();
    let loaded = State::load(&r).unwrap();
    assert_eq!(loaded.value.number("step").unwrap(), 2);
    assert!(loaded.warning.unwrap().contains("last.ckpt: missing"));
    // A run that has nothing more to save.
    State::finish_save(&r).unwrap();
    assert_eq!(names(dir.path()), ["last.ckpt", "last.prev.ckpt"]);
    let loaded = State::load(&r).unwrap();
    assert!(loaded.value.number("step").unwrap() == 2 && loaded.warning.is_none());
    // One that has.
    fs::rename(r.last(), r.staging()).unwrap();
    let mut again = Rotating::new(r.last()).unwrap();
    sample(3).save(&mut again).unwrap();
    assert_eq!(names(dir.path()), ["last.ckpt", "last.prev.ckpt"]);
    assert_eq!(State::read(r.previous()).unwrap().number("step").unwrap(), 2);
}

#[test]
fn a_copy_that_does_not_read_back_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut r = Rotating::new(dir.path().join("last")).unwrap();
    sample(1).save(&mut r).unwrap();
    let e = r.save(|w| w.write_all(b"rubbish").map_err(|e| Error::io("x", e)), State::verify).unwrap_err();
    assert!(e.to_string().contains("does not read back"), "{e}");
    assert_eq!(State::load(&r).unwrap().value.number("step").unwrap(), 1);
    assert_eq!(names(dir.path()), ["last"]);
    assert_eq!(r.previous(), dir.path().join("last.prev"));
}
