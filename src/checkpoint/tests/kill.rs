//! Killed while writing: this test runs itself as a child that saves in a loop, and kills it at random moments.

use crate::checkpoint::{Rotating, State};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const DIR: &str = "HEARTLORE_TEST_KILL_DIR";

/// One float per element, equal to the step everywhere, so that a mixture of two saves would show.
fn state(step: u64) -> State {
    let mut state = State::default();
    state.put_f32("w", &[300_000], &vec![step as f32; 300_000]);
    state.numbers.insert("step".into(), step);
    state
}

/// The child: does nothing in an ordinary run.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let mut rotating = Rotating::new(Path::new(&dir).join("last.ckpt")).unwrap();
    let first = State::load(&rotating).map_or(0, |l| l.value.number("step").unwrap());
    for step in first + 1.. {
        state(step).save(&mut rotating).unwrap();
    }
}

/// Kills a child `times` times and checks after each kill that a whole checkpoint loads, never older than before.
fn kill(times: u64) {
    let dir = tempfile::tempdir().unwrap();
    let rotating = Rotating::new(dir.path().join("last.ckpt")).unwrap();
    let mut reached = 0;
    for round in 0..times {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "checkpoint::tests::kill::child", "--test-threads=1"])
            .env(DIR, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Wait until it saves, then a moment that differs from round to round by a fraction of one save.
        let start = Instant::now();
        while State::load(&rotating).map_or(0, |l| l.value.number("step").unwrap()) <= reached {
            assert!(start.elapsed() < Duration::from_secs(60), "the child saves nothing");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_micros(round * 7919 % 50_000));
        child.kill().unwrap(); // SIGKILL on Unix
        child.wait().unwrap();
        let loaded = State::load(&rotating).unwrap().value;
        let step = loaded.number("step").unwrap();
        assert!(step > reached);
        assert!(loaded.f32("w", &[300_000]).unwrap().iter().all(|&x| x == step as f32));
        reached = step;
    }
}

#[test]
fn ten_kills_leave_a_whole_checkpoint() {
    kill(10);
}

#[test]
#[ignore = "takes about a minute"]
fn two_hundred_kills_leave_a_whole_checkpoint() {
    kill(200);
}
