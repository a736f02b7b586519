//! A disk that refuses: full (a limit on the size of files, under which a write fails as on a full disk), read-only, or not
//! a directory at all. The error names file and remedy, the exit code is 6, and the last checkpoint is whole: the run goes
//! on from it to the bits of an undisturbed one.
#![cfg(all(feature = "cli", unix))]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

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
    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
    fn run(&self, line: &str) -> Output {
        let program = env!("CARGO_BIN_EXE_heartlore");
        Command::new(program).args(line.split_whitespace()).current_dir(self.0.path()).output().unwrap()
    }
    fn ok(&self, line: &str) {
        let out = self.run(line);
        assert!(out.status.success(), "{line}\n{}", String::from_utf8_lossy(&out.stderr));
    }
    /// With files of at most `kib` KiB. The signal that comes with the limit is ignored, so that writing returns an error.
    fn limited(&self, kib: u64, line: &str) -> Output {
        let script = format!(
            "ulimit -f {}; trap '' XFSZ; exec {} {line}",
            2 * kib, // units of 512 bytes (POSIX)
            env!("CARGO_BIN_EXE_heartlore")
        );
        Command::new("sh").args(["-c", &script]).current_dir(self.0.path()).output().unwrap()
    }
    /// Exit code 6, with every one of `words`.
    fn refused(&self, out: &Output, words: &[&str]) {
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(6), "{text}");
        for word in words.iter().chain(&["remedy"]) {
            assert!(text.contains(word), "no '{word}' in\n{text}");
        }
    }
    /// Starts `line` and kills it when it has a checkpoint.
    fn killed(&self, line: &str, checkpoint: &str) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_heartlore"))
            .args(line.split_whitespace())
            .current_dir(self.0.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while !self.path(checkpoint).exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it saved");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    /// Names in a directory that a reader of the run could trip over.
    fn leftovers(&self, dir: &str) -> Vec<String> {
        let names = fs::read_dir(self.path(dir)).unwrap().map(|e| e.unwrap().file_name());
        let names = names.map(|n| n.to_string_lossy().into_owned());
        names.filter(|n| n.contains(".tmp") || n.contains(".new")).collect()
    }
}

const TINY: &str =
    "--data store --preset tiny --channels 4,4,8 --hidden 8 --layers 1 --head-hidden 4 --batch 6";

fn pretraining(epochs: u64) -> String {
    format!("pretrain {TINY} --epochs {epochs} --checkpoint-every 1")
}

const WEIGHTS: &str = "model/model.safetensors";

#[test]
fn a_full_disk_during_a_save_leaves_the_last_checkpoint_whole() {
    let p = Place::new();
    let line = pretraining(40);
    p.ok(&format!("{line} --out whole"));
    let size = p.bytes("whole/checkpoints/last.ckpt").len() as u64;
    assert!(size > 10_000, "{size}");

    // The very first save fails: nothing is there, nothing half-written either, and the run can be taken up.
    let out = p.limited(size / 2048, &format!("{line} --out first"));
    p.refused(&out, &["last.ckpt", "ulimit"]);
    assert!(!p.path("first/checkpoints/last.ckpt").exists());
    assert_eq!(p.leftovers("first/checkpoints"), Vec::<String>::new());
    p.ok("pretrain --out first --resume");
    assert!(p.bytes(&format!("first/{WEIGHTS}")) == p.bytes(&format!("whole/{WEIGHTS}")));

    // A later one fails.
    p.killed(&format!("{line} --out later"), "later/checkpoints/last.prev.ckpt");
    p.ok("inspect later/checkpoints/last.ckpt");
    let before = p.bytes("later/checkpoints/last.ckpt");
    let out = p.limited(size / 2048, "pretrain --out later --resume");
    p.refused(&out, &["last.ckpt", "ulimit", "untouched"]);
    assert!(p.bytes("later/checkpoints/last.ckpt") == before, "the last checkpoint is as it was");
    p.ok("pretrain --out later --resume");
    for file in [WEIGHTS, "checkpoints/last.ckpt"] {
        assert!(p.bytes(&format!("later/{file}")) == p.bytes(&format!("whole/{file}")), "{file}");
    }
}

#[test]
fn a_full_disk_under_the_log_stops_the_run_and_loses_nothing() {
    let p = Place::new();
    // Many epochs: the log outgrows a checkpoint.
    let line = pretraining(150);
    p.ok(&format!("{line} --out whole"));
    let (log, saved) = (p.bytes("whole/metrics.csv").len(), p.bytes("whole/checkpoints/last.ckpt").len());
    assert!(log > saved + 4096, "{log} {saved}");
    let out = p.limited((saved as u64).div_ceil(1024) + 1, &format!("{line} --out cut"));
    p.refused(&out, &["cut/", "ulimit"]);
    p.ok("pretrain --out cut --resume");
    assert!(p.bytes(&format!("cut/{WEIGHTS}")) == p.bytes(&format!("whole/{WEIGHTS}")));
    // The same losses, step by step (the last column is speed).
    let losses = |run: &str| -> Vec<String> {
        let text = String::from_utf8(p.bytes(&format!("{run}/metrics.csv"))).unwrap();
        text.lines().map(|l| l.rsplit_once(',').unwrap().0.to_string()).collect()
    };
    assert_eq!(losses("cut"), losses("whole"));
}

#[test]
fn a_full_disk_during_finetuning_and_preparation() {
    let p = Place::new();
    let line = format!("finetune {TINY} --label aroused --folds 2 --epochs 3 --resamples 50");
    p.ok(&format!("{line} --out whole"));
    let out = p.limited(8, &format!("{line} --out cut"));
    p.refused(&out, &["last.ckpt", "ulimit"]);
    p.ok("finetune --out cut --resume");
    for file in ["predictions.csv", "metrics.json", WEIGHTS] {
        assert!(p.bytes(&format!("cut/{file}")) == p.bytes(&format!("whole/{file}")), "{file}");
    }
    let out = p.limited(16, "prepare --table study/items.csv --out small --window 640 --hop 640");
    p.refused(&out, &["windows.npy"]);
    assert!(!p.path("small").exists(), "no store that looks whole");
}

#[test]
fn places_that_cannot_be_written() {
    let p = Place::new();
    let line = pretraining(20);
    fs::write(p.path("file"), "not a directory").unwrap();
    for command in [
        format!("{line} --out file/run"),
        format!("finetune {TINY} --label aroused --folds 2 --out file/run"),
        "prepare --table study/items.csv --out file/store".to_string(),
        "simulate --out file/study".to_string(),
        "quickstart --out file/quick".to_string(),
    ] {
        p.refused(&p.run(&command), &["file/"]);
    }

    // A directory in the way of the checkpoint refuses even the superuser.
    p.ok(&format!("{line} --out whole"));
    p.killed(&format!("{line} --out blocked"), "blocked/checkpoints/last.prev.ckpt");
    let _ = fs::remove_file(p.path("blocked/checkpoints/last.new.ckpt"));
    fs::create_dir(p.path("blocked/checkpoints/last.new.ckpt")).unwrap();
    let before = p.bytes("blocked/checkpoints/last.ckpt");
    p.refused(&p.run("pretrain --out blocked --resume"), &["last.ckpt"]);
    assert!(p.bytes("blocked/checkpoints/last.ckpt") == before);
    fs::remove_dir(p.path("blocked/checkpoints/last.new.ckpt")).unwrap();
    p.ok("pretrain --out blocked --resume");
    assert!(p.bytes(&format!("blocked/{WEIGHTS}")) == p.bytes(&format!("whole/{WEIGHTS}")));

    // A read-only directory, for users whom permissions bind.
    fs::create_dir(p.path("sealed")).unwrap();
    let seal = |dir: &str, mode: u32| {
        fs::set_permissions(p.path(dir), fs::Permissions::from_mode(mode)).unwrap();
    };
    seal("sealed", 0o555);
    if fs::write(p.path("sealed/probe"), "").is_ok() {
        println!("skipped: this user may write to read-only directories");
        return;
    }
    p.refused(&p.run(&format!("{line} --out sealed/run")), &["sealed/run", "permissions"]);
    p.killed(&format!("{line} --out closed"), "closed/checkpoints/last.prev.ckpt");
    let before = p.bytes("closed/checkpoints/last.ckpt");
    seal("closed/checkpoints", 0o555);
    let out = p.run("pretrain --out closed --resume");
    seal("closed/checkpoints", 0o755);
    seal("sealed", 0o755);
    p.refused(&out, &["last.ckpt", "permissions"]);
    assert!(p.bytes("closed/checkpoints/last.ckpt") == before);
    p.ok("pretrain --out closed --resume");
    assert!(p.bytes(&format!("closed/{WEIGHTS}")) == p.bytes(&format!("whole/{WEIGHTS}")));
}
