//! One holder at a time; a dead one holds nothing.

use crate::checkpoint::{Lock, NewDir};
use crate::error::Kind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const DIR: &str = "HEARTLORE_TEST_LOCK_DIR";

/// The child: does nothing in an ordinary run, else holds the lock until it is killed.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let _lock = Lock::inside(Path::new(&dir)).unwrap();
    std::fs::write(Path::new(&dir).join("held"), "").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn the_second_is_told_who_holds_it() {
    let root = tempfile::tempdir().unwrap();
    let target = root.path().join("store");
    for inside in [false, true] {
        let take = || if inside { Lock::inside(root.path()) } else { Lock::beside(&target) };
        let first = take().unwrap();
        assert!(first.is_enforced());
        let e = take().unwrap_err();
        assert_eq!(e.kind(), Kind::Io);
        let text = e.to_string();
        let year = crate::checkpoint::time::utc(crate::checkpoint::time::now_s());
        for part in
            [&format!("in use by process {} on ", std::process::id()), " since ", &year[..10], "remedy"]
        {
            assert!(text.contains(part), "no '{part}' in {text}");
        }
        drop(first);
        drop(take().unwrap());
        if cfg!(unix) {
            assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "the lock file is gone");
        }
    }
}

#[test]
fn every_path_to_a_directory_has_the_same_lock() {
    let root = tempfile::tempdir().unwrap();
    let store = root.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let held = NewDir::begin(&store).unwrap();
    for other in ["store/.", "./store", "store/../store"] {
        let e = NewDir::begin(&root.path().join(other)).unwrap_err();
        assert!(e.to_string().contains("in use by process"), "{other}: {e}");
    }
    drop(held);
    NewDir::begin(&root.path().join("store/.")).unwrap();
}

#[test]
fn a_killed_process_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "checkpoint::tests::lock::child", "--test-threads=1"])
        .env(DIR, dir.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !dir.path().join("held").exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "the child takes no lock");
        std::thread::sleep(Duration::from_millis(5));
    }
    let e = Lock::inside(dir.path()).unwrap_err();
    assert!(e.to_string().contains(&format!("process {} on", child.id())), "{e}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(dir.path().join(crate::checkpoint::lock::LOCK_FILE).exists(), "its file is left");
    Lock::inside(dir.path()).unwrap();
}

#[test]
fn never_two_at_once_though_the_file_comes_and_goes() {
    let root = tempfile::tempdir().unwrap();
    let target = root.path().join("model");
    let (inside, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..300 {
                    if let Ok(lock) = Lock::beside(&target) {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders");
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        taken.fetch_add(1, Ordering::SeqCst);
                        drop(lock);
                    }
                }
            });
        }
    });
    assert!(taken.load(Ordering::SeqCst) > 0);
}
