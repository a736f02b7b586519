//! SIGKILL at random moments: a run that is killed and resumed until it ends leaves the files of an undisturbed one.
//!
//! The runs are tiny and save after every step, so most of their time is spent saving. Moments are drawn from a seeded
//! generator over the length of an undisturbed run. `HEARTLORE_KILLS=500 cargo test --release --test kill -- --ignored`
//! kills more often.
#![cfg(all(feature = "cli", unix))]
#![allow(clippy::print_stdout, reason = "the number of kills is part of the result")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng};

struct Place(tempfile::TempDir);

impl Place {
    /// With a simulated study as a store of 24 windows of 5 s.
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

    fn ok(&self, line: &str) -> Duration {
        let clock = Instant::now();
        let out = self.start(line).wait_with_output().unwrap();
        assert!(out.status.success(), "{line}\n{}", String::from_utf8_lossy(&out.stderr));
        clock.elapsed()
    }

    /// Runs `line --out out`, killing it at random moments within `length`, until it ends; returns the kills.
    fn run_killed(&self, line: &str, out: &str, length: Duration, rng: &mut impl Rng) -> usize {
        let fresh = format!("{line} --out {out}");
        let again = format!("{} --out {out} --resume", line.split_whitespace().next().unwrap());
        for kills in 0.. {
            assert!(kills < 1000, "{out} makes no progress");
            // What the user does: go on if there is something to go on with.
            let resume = self.path(out).join("config.toml").is_file();
            let mut child = self.start(if resume { &again } else { &fresh });
            std::thread::sleep(length.mul_f64(rng.random::<f64>()));
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
            }
            let done = child.wait_with_output().unwrap();
            if done.status.code().is_some() {
                let text = String::from_utf8_lossy(&done.stderr);
                assert!(done.status.success(), "after {kills} kills: {text}");
                return kills;
            }
        }
        unreachable!()
    }

    /// Everything of a run that must not depend on how it went, by file.
    fn outcome(&self, run: &str) -> BTreeMap<String, Vec<u8>> {
        let root = self.path(run);
        let mut all = BTreeMap::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_string();
                let bytes = fs::read(&path).unwrap();
                let kept = match name.as_str() {
                    "metrics.csv" => without_speed(&bytes),
                    "metrics.jsonl" => without_speed_json(&bytes),
                    // Times, the command line, the pictures made of both; the directory's own name.
                    "run.json" | "report.html" | "config.toml" => Vec::new(),
                    // Which save before the last was whole depends on the kills.
                    n if n.ends_with(".prev.ckpt") => continue,
                    n if n.starts_with("events.out") => continue,
                    _ => bytes,
                };
                all.insert(name, kept);
            }
        }
        all
    }
}

/// `metrics.csv` without its last column, windows per second.
fn without_speed(bytes: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines().flat_map(|l| [l.rsplit_once(',').unwrap().0, "\n"].concat().into_bytes()).collect()
}

fn without_speed_json(bytes: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).unwrap();
    let line = |l: &str| {
        let mut row: serde_json::Value = serde_json::from_str(l).unwrap();
        row.as_object_mut().unwrap().remove("windows_per_s");
        format!("{row}\n").into_bytes()
    };
    text.lines().flat_map(line).collect()
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

/// Fields of a protocol buffer message: number, and the bytes (of a varint, its eight).
fn fields(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                out.push((key >> 3, varint(&mut bytes).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (value, rest) = bytes.split_at(length);
        out.push((key >> 3, value.to_vec()));
        bytes = rest;
    }
    out
}

/// The points TensorBoard shows for a run, sorted: files in the order of their names; a session log with status START at
/// step s drops all points at s or later (tensorboard/backend/event_processing/event_accumulator.py).
fn tensorboard(run: &Path) -> Vec<(String, u64, u32)> {
    let names = fs::read_dir(run).unwrap().map(|e| e.unwrap().path());
    let names: BTreeSet<PathBuf> = names.filter(|p| p.to_str().unwrap().contains("tfevents")).collect();
    let mut points: Vec<(String, u64, u32)> = Vec::new();
    for name in names {
        let bytes = fs::read(name).unwrap();
        let mut rest = &bytes[..];
        // A killed process leaves at most the last record of its file unfinished.
        while let Some((head, tail)) = rest.split_at_checked(12) {
            let length = u64::from_le_bytes(head[..8].try_into().unwrap()) as usize;
            let Some((payload, tail)) = tail.split_at_checked(length + 4) else { break };
            rest = tail;
            let event = fields(&payload[..length]);
            let step = event.iter().find(|f| f.0 == 2);
            let step = step.map_or(0, |f| u64::from_le_bytes(f.1[..].try_into().unwrap()));
            if event.iter().any(|f| f.0 == 7) {
                points.retain(|p| p.1 < step);
            }
            for (_, summary) in event.iter().filter(|f| f.0 == 5) {
                for (_, value) in fields(summary) {
                    let value = fields(&value);
                    let tag = String::from_utf8(value[0].1.clone()).unwrap();
                    if tag != "windows_per_s" {
                        points.push((tag, step, u32::from_le_bytes(value[1].1[..].try_into().unwrap())));
                    }
                }
            }
        }
    }
    points.sort();
    points
}

/// Kills runs of `line` until there were `kills` of them, each run to its end; compares each with an undisturbed one.
fn kill_and_compare(place: &Place, line: &str, kills: usize, seed: u64) {
    let length = place.ok(&format!("{line} --out whole"));
    let want = place.outcome("whole");
    let points = tensorboard(&place.path("whole"));
    assert!(want.len() > 8 && points.len() > 10);
    let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
    let (mut killed, mut runs) = (0, 0);
    while killed < kills {
        runs += 1;
        killed += place.run_killed(line, "cut", length, &mut rng);
        let have = place.outcome("cut");
        let names = |o: &BTreeMap<String, Vec<u8>>| o.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&have), names(&want), "run {runs}");
        for (name, bytes) in &want {
            let have = &have[name];
            if name.starts_with("metrics.") {
                assert_eq!(
                    String::from_utf8_lossy(have),
                    String::from_utf8_lossy(bytes),
                    "run {runs} {name}"
                );
            }
            assert!(have == bytes, "run {runs}, {killed} kills: {name} differs");
        }
        assert_eq!(tensorboard(&place.path("cut")), points, "run {runs}");
        fs::remove_dir_all(place.path("cut")).unwrap();
    }
    fs::remove_dir_all(place.path("whole")).unwrap();
    println!("{killed} kills in {runs} runs of {length:?}");
}

const TINY: &str = "--data store --preset tiny --channels 4,4,8 --hidden 8 --layers 1 --head-hidden 4 --batch 6 \
                    --checkpoint-every 1 --threads 2";

fn pretraining() -> String {
    format!("pretrain {TINY} --validation 0.25 --epochs 12")
}

fn finetuning(more: &str) -> String {
    format!("finetune {TINY} --label aroused --folds 2 --validation 0.25 --epochs 4 --resamples 50 {more}")
}

fn kills(default: usize) -> usize {
    std::env::var("HEARTLORE_KILLS").ok().map_or(default, |n| n.parse().unwrap())
}

#[test]
fn a_killed_pretraining_ends_with_the_same_files() {
    kill_and_compare(&Place::new(), &pretraining(), 40, 1);
}

#[test]
fn a_killed_finetuning_ends_with_the_same_files() {
    let place = Place::new();
    kill_and_compare(&place, &finetuning(""), 24, 2);
    // Each fold has classes of its own, and a trainer of its own.
    kill_and_compare(&place, &finetuning("--threshold mean --patience 2"), 16, 3);
}

#[test]
#[ignore = "minutes; HEARTLORE_KILLS=500 cargo test --release --test kill -- --ignored --nocapture"]
fn many_kills() {
    let place = Place::new();
    kill_and_compare(&place, &pretraining(), kills(100), 4);
    kill_and_compare(&place, &finetuning(""), kills(100), 5);
    kill_and_compare(&place, &finetuning("--threshold mean --patience 2"), kills(100), 6);
}
