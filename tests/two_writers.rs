//! Two or three commands started at once into one place: one works, nothing is lost, the others say who holds the place.
#![cfg(all(feature = "cli", unix))]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.ok("simulate --out study --subjects 4 --trials 2 --trial-s 15 --strength 1");
        place.ok("prepare --table study/items.csv --out store --window 640 --hop 640");
        place
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn start(&self, line: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_heartlore"))
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
    fn ok(&self, line: &str) {
        let out = self.start(line).wait_with_output().unwrap();
        assert!(out.status.success(), "{line}\n{}", String::from_utf8_lossy(&out.stderr));
    }

    /// Starts `n` of `line` at once. Every one that fails must say why in one of the `words`. Returns how many succeeded: more
    /// than one only if one came after another had ended.
    fn race(&self, line: &str, n: usize, words: &[&str]) -> usize {
        let children: Vec<Child> = (0..n).map(|_| self.start(line)).collect();
        let done: Vec<Output> = children.into_iter().map(|c| c.wait_with_output().unwrap()).collect();
        let text = |o: &Output| String::from_utf8_lossy(&o.stderr).into_owned();
        for out in done.iter().filter(|o| !o.status.success()) {
            let text = text(out);
            assert!(words.iter().any(|w| text.contains(w)) && text.contains("remedy"), "{line}: {text}");
        }
        let worked = done.iter().filter(|o| o.status.success()).count();
        assert!(worked > 0, "{line}: {:?}", done.iter().map(text).collect::<Vec<_>>());
        worked
    }

    /// Names in a directory that nobody should find when all is over.
    fn leftovers(&self, dir: &str) -> Vec<String> {
        let names = fs::read_dir(self.path(dir)).unwrap().map(|e| e.unwrap().file_name());
        let names = names.map(|n| n.to_string_lossy().into_owned());
        names.filter(|n| n.starts_with('.') || n.contains(".new") || n.contains(".tmp")).collect()
    }
}

const TINY: &str = "--data store --preset tiny --channels 4,4,8 --hidden 8 --layers 1 --head-hidden 4 --batch 6 \
                    --checkpoint-every 1 --threads 1";
const IN_USE: &str = "in use by process";

/// The log without its last column, windows per second.
fn log(place: &Place, run: &str) -> Vec<String> {
    let text = fs::read_to_string(place.path(run).join("metrics.csv")).unwrap();
    text.lines().map(|l| l.rsplit_once(',').unwrap().0.to_string()).collect()
}

fn weights(place: &Place, run: &str) -> Vec<u8> {
    fs::read(place.path(run).join("model/model.safetensors")).unwrap()
}

#[test]
fn a_held_run_store_and_model_are_refused() {
    let p = Place::new();
    let line = format!("pretrain {TINY} --epochs 100000 --out run");
    let mut first = p.start(&line);
    let start = Instant::now();
    while !p.path("run/checkpoints/last.ckpt").exists() {
        assert!(start.elapsed() < Duration::from_secs(60) && first.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    let before = fs::read(p.path("run/config.toml")).unwrap();
    for line in ["pretrain --out run --resume", &line, "evaluate run --out run", "simulate --out run"] {
        let out = p.start(line).wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&out.stderr);
        if line.starts_with("evaluate") {
            assert!(!out.status.success(), "{line}");
            continue; // there are no predictions yet
        }
        assert_eq!(out.status.code(), Some(6), "{line}: {text}");
        for part in [&format!("{IN_USE} {} on ", first.id()), " since 20", "remedy: wait"] {
            assert!(text.contains(part), "{line}: no '{part}' in {text}");
        }
    }
    assert_eq!(fs::read(p.path("run/config.toml")).unwrap(), before);
    first.kill().unwrap();
    first.wait().unwrap();
    // The killed process holds nothing.
    p.ok(&format!("pretrain {TINY} --epochs 1 --out other"));
    let mut again = p.start("pretrain --out run --resume");
    std::thread::sleep(Duration::from_millis(300));
    assert!(again.try_wait().unwrap().is_none(), "it goes on");
    again.kill().unwrap();
    again.wait().unwrap();
}

#[test]
fn ten_rounds_of_resuming_one_run() {
    let p = Place::new();
    let line = format!("pretrain {TINY} --validation 0.25 --epochs 6");
    p.ok(&format!("{line} --out whole"));
    for round in 0..10 {
        let mut first = p.start(&format!("{line} --out cut"));
        while !p.path("cut/checkpoints/last.ckpt").exists() {
            assert!(first.try_wait().unwrap().is_none_or(|s| s.success()));
            std::thread::sleep(Duration::from_millis(2));
        }
        first.kill().unwrap();
        first.wait().unwrap();
        p.race("pretrain --out cut --resume", 2 + round % 2, &[IN_USE]);
        assert_eq!(log(&p, "cut"), log(&p, "whole"), "round {round}");
        assert!(weights(&p, "cut") == weights(&p, "whole"), "round {round}");
        assert_eq!(p.leftovers("cut"), Vec::<String>::new());
        fs::remove_dir_all(p.path("cut")).unwrap();
    }
}

#[test]
fn ten_rounds_of_fine_tuning_and_preparing_into_one_place() {
    let p = Place::new();
    let line = format!("finetune {TINY} --label aroused --folds 2 --epochs 2 --resamples 20");
    p.ok(&format!("{line} --out whole"));
    let store = fs::read(p.path("store/windows.npy")).unwrap();
    for round in 0..10 {
        let n = 2 + round % 2;
        let worked = p.race(&format!("{line} --out at_once"), n, &[IN_USE, "holds something already"]);
        assert_eq!(worked, 1, "round {round}");
        assert_eq!(log(&p, "at_once"), log(&p, "whole"), "round {round}");
        assert!(weights(&p, "at_once") == weights(&p, "whole"), "round {round}");
        assert_eq!(p.leftovers("at_once"), Vec::<String>::new());
        fs::remove_dir_all(p.path("at_once")).unwrap();

        // One that comes after another has ended may replace the store again.
        let line = "prepare --table study/items.csv --out again --window 640 --hop 640 --overwrite";
        p.race(line, n, &[IN_USE]);
        assert!(fs::read(p.path("again/windows.npy")).unwrap() == store, "round {round}");
        p.ok("inspect again");
        assert!(p.path("again/config.toml").is_file() && p.path("again/overview.svg").is_file());
        assert_eq!(p.leftovers("."), Vec::<String>::new());
    }
}
