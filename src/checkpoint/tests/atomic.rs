//! Writing with every single call to the operating system failing once.

use super::faults::{Fault, Faulty, at_every_call, names};
use super::{bytes, sample};
use crate::checkpoint::atomic::{create_dirs, replace_file_with};
use crate::checkpoint::{
    Loaded, NewDir, NewFile, Os, Rotating, State, finish_replacement, replace_dir, replace_file, write_bytes,
};
use crate::error::{Error, Kind};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

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
            let ops = Faulty::new(fail_at, Fault::Fail(kind));
            let result = replace_file_with(&ops, &path, |w| {
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
                let last_call = ops.calls() == fail_at + 1 && content == big;
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
    let e = replace_file(&path, |w| {
        w.write_all(b"half").map_err(|e| Error::io("x", e))?;
        Err(Error::numeric("NaN"))
    });
    assert_eq!(e.unwrap_err().kind(), Kind::Numeric);
    assert_eq!((names(dir.path()), fs::read(&path).unwrap()), (vec!["x.bin".to_string()], b"old".to_vec()));
}

#[test]
fn bad_places_have_clear_errors() {
    let dir = tempfile::tempdir().unwrap();
    let e = replace_file(dir.path().join("none/x"), |_| Ok(())).unwrap_err();
    assert!(e.kind() == Kind::Io && e.to_string().contains("create the directory above"), "{e}");
    assert_eq!(replace_file("/", |_| Ok(())).unwrap_err().kind(), Kind::Usage);
    let full = Faulty::new(1, Fault::Fail(io::ErrorKind::StorageFull));
    let e =
        replace_file_with(&full, &dir.path().join("x"), |w| w.write_all(b"1").map_err(|e| Error::io("x", e)));
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
    let result = replace_file(inner.join("x"), |_| Ok(()));
    // The superuser may write anywhere; then there is nothing to see here (the injected fault above covers it).
    if let Err(e) = result {
        assert!(e.to_string().contains("change its permissions"), "{e}");
    }
    // A folder that refuses even the superuser.
    if Path::new("/proc/self").exists() {
        let e = replace_file("/proc/self/x", |_| Ok(())).unwrap_err();
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
            let mut bad = Rotating::with_ops(&path, Faulty::new(fail_at, Fault::Fail(kind))).unwrap();
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

/// A directory of two files that belong together: `one` and `two` hold the same text.
fn pair(new: &NewDir, text: &str) -> crate::error::Result<()> {
    for name in ["one", "two"] {
        new.write(name, |w| w.write_all(text.as_bytes()).map_err(|e| Error::new(Kind::Io, e.to_string())))?;
    }
    Ok(())
}

fn read_pair(dir: &Path) -> String {
    let [one, two] = ["one", "two"].map(|n| fs::read_to_string(dir.join(n)).unwrap());
    assert_eq!(one, two, "half old, half new");
    one
}

#[test]
fn a_directory_is_old_or_new_under_its_name_whichever_call_is_the_last() {
    for old in [true, false] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a.b");
        let faults = at_every_call(
            |ops| {
                let _ = fs::remove_dir_all(&dir);
                if old {
                    replace_dir(&dir, |new| pair(new, "old")).unwrap();
                }
                let new = NewDir::begin_with(Arc::new(ops.clone()), &dir);
                new.and_then(|new| pair(&new, "new").and_then(|()| new.commit())).is_ok()
            },
            |done, ops| {
                // Able disks swap: the name is never without a directory. On others the reader puts the old one back.
                let simple = format!("{ops:?}").contains("able: false");
                assert!(simple || !old || dir.exists(), "{ops:?}");
                finish_replacement(&dir).unwrap();
                let found = dir.exists().then(|| read_pair(&dir));
                match found.as_deref() {
                    Some("new") => {}
                    Some("old") => assert!(old && !done, "{ops:?}"),
                    None => assert!(!old && !done, "{ops:?}"),
                    other => panic!("{ops:?}: {other:?}"),
                }
                // The next replacement works and clears everything away.
                replace_dir(&dir, |new| pair(new, "next")).unwrap();
                assert_eq!(read_pair(&dir), "next");
                assert_eq!(names(root.path()), ["a.b"], "{ops:?}");
            },
        );
        assert!(faults > 50, "{faults}");
    }
}

#[test]
fn a_checkpoint_is_whole_under_its_name_whichever_call_is_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("last.ckpt");
    let faults = at_every_call(
        |ops| {
            for name in names(dir.path()) {
                fs::remove_file(dir.path().join(name)).unwrap();
            }
            let mut good = Rotating::new(&path).unwrap();
            sample(1).save(&mut good).unwrap();
            sample(2).save(&mut good).unwrap();
            sample(3).save(&mut Rotating::with_ops(&path, ops.clone()).unwrap()).is_ok()
        },
        |done, ops| {
            if !format!("{ops:?}").contains("able: false") {
                let step = State::read(&path).unwrap().number("step").unwrap();
                assert!(step == 3 || (step == 2 && !done), "{ops:?}");
            }
            let mut again = Rotating::new(&path).unwrap();
            let step = State::load(&again).unwrap().value.number("step").unwrap();
            assert!(step == 3 || (step == 2 && !done), "{ops:?}: {step}");
            State::finish_save(&again).unwrap();
            assert_eq!(State::read(&path).unwrap().number("step").unwrap(), step);
            sample(4).save(&mut again).unwrap();
            assert_eq!(State::read(again.previous()).unwrap().number("step").unwrap(), step);
            assert_eq!(names(dir.path()), ["last.ckpt", "last.prev.ckpt"], "{ops:?}");
        },
    );
    assert!(faults > 40, "{faults}");
}

#[test]
fn a_file_is_old_or_new_whichever_call_is_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    at_every_call(
        |ops| {
            write_bytes(&path, b"old").unwrap();
            replace_file_with(ops, &path, |w| w.write_all(b"new").map_err(|e| Error::io("x", e))).is_ok()
        },
        |done, ops| {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text == "new" || (text == "old" && !done), "{ops:?}: {text}");
        },
    );
}

#[test]
fn names_of_every_kind_can_be_replaced() {
    let root = tempfile::tempdir().unwrap();
    let long = "n".repeat(255);
    for name in ["with space", "\u{e9}\u{1F600}", &long, ".hidden", "a.b.c"] {
        write_bytes(root.path().join(name), b"1").unwrap();
        write_bytes(root.path().join(name), b"2").unwrap();
        assert_eq!(fs::read(root.path().join(name)).unwrap(), b"2");
        fs::remove_file(root.path().join(name)).unwrap();
        for text in ["old", "new"] {
            replace_dir(&root.path().join(name), |new| pair(new, text)).unwrap();
        }
        assert_eq!(read_pair(&root.path().join(name)), "new");
        assert_eq!(names(root.path()), [name]);
        fs::remove_dir_all(root.path().join(name)).unwrap();
    }
    // Directories above that are missing are made.
    replace_dir(&root.path().join("x/y/z"), |new| pair(new, "new")).unwrap();
    assert_eq!(names(&root.path().join("x/y")), ["z"]);
    create_dirs(&Os, &root.path().join("x/./y/../q/r/.")).unwrap();
    assert!(root.path().join("x/q/r").is_dir());
    let part = NewFile::beside(&root.path().join("file")).unwrap();
    fs::write(part.path(), "whole").unwrap();
    part.commit().unwrap();
    let part = NewFile::beside(&root.path().join("file")).unwrap();
    fs::write(part.path(), "half").unwrap();
    drop(part);
    assert_eq!(fs::read(root.path().join("file")).unwrap(), b"whole");
    assert_eq!(names(root.path()), ["file", "x"]);
}

#[cfg(unix)]
#[test]
fn a_link_to_a_directory_is_followed_and_one_to_a_file_replaced() {
    let root = tempfile::tempdir().unwrap();
    let (big, home) = (root.path().join("big"), root.path().join("home"));
    fs::create_dir(&big).unwrap();
    fs::create_dir(&home).unwrap();
    replace_dir(&big.join("store"), |new| pair(new, "old")).unwrap();
    std::os::unix::fs::symlink(big.join("store"), home.join("store")).unwrap();
    replace_dir(&home.join("store"), |new| pair(new, "new")).unwrap();
    assert_eq!(read_pair(&big.join("store")), "new");
    assert!(home.join("store").is_symlink() && names(&home) == ["store"] && names(&big) == ["store"]);
    std::os::unix::fs::symlink(big.join("store/one"), home.join("file")).unwrap();
    write_bytes(home.join("file"), b"x").unwrap();
    assert!(!home.join("file").is_symlink() && read_pair(&big.join("store")) == "new");
}

#[test]
fn what_another_target_left_is_not_touched() {
    let root = tempfile::tempdir().unwrap();
    for name in [".a.b.0123456789abcdef.new", ".a.0123456789abcdef.tmp", ".a.0123456789abcdeg.new", ".a.new"]
    {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    fs::create_dir(root.path().join(".a.0123456789abcdef.new")).unwrap();
    replace_dir(&root.path().join("a"), |new| pair(new, "new")).unwrap();
    assert_eq!(names(root.path()).len(), 5, "{:?}", names(root.path()));
}
