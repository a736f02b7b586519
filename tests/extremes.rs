//! Every integer flag of every command at its extremes: the command works, or says what is wrong. It never panics, never takes
//! all memory, never computes something else in silence.
#![cfg(all(feature = "cli", unix))]

use std::any::TypeId;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use heartlore::cli::config::{key_of, settings_of};

struct Place(tempfile::TempDir);

/// How a command ended.
#[derive(Debug, PartialEq)]
enum End {
    Code(i32),
    Signal(i32),
    /// It was still working, and was stopped.
    Working,
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    /// With 3 GiB of memory.
    fn run(&self, line: &str, limit: Duration) -> (End, String) {
        let script = format!("ulimit -v 3145728; exec {} {line}", env!("CARGO_BIN_EXE_heartlore"));
        let log = self.path("stderr");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .current_dir(self.0.path())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let start = Instant::now();
        let end = loop {
            if let Some(status) = child.try_wait().unwrap() {
                use std::os::unix::process::ExitStatusExt;
                break status.code().map_or_else(|| End::Signal(status.signal().unwrap()), End::Code);
            }
            if start.elapsed() > limit {
                child.kill().unwrap();
                child.wait().unwrap();
                break End::Working;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        (end, fs::read_to_string(log).unwrap())
    }
}

const SMALL: &str = "--data store --label aroused --preset tiny --channels 4,4,8 --hidden 8 --head-hidden 4 --layers 1 \
                     --epochs 1 --batch 8";
const UNLABELLED: &str =
    "--data store --preset tiny --channels 4,4,8 --hidden 8 --head-hidden 4 --layers 1 --epochs 1 --batch 8";

/// A line that works for each command that has an integer flag.
fn lines() -> Vec<(&'static str, String)> {
    vec![
        ("simulate", "--out OUT --subjects 2 --trials 1 --trial-s 10".into()),
        ("prepare", "--table study/items.csv --out OUT --window 640 --hop 640".into()),
        ("pretrain", format!("--out OUT {UNLABELLED}")),
        ("finetune", format!("--out OUT --folds 2 --resamples 20 --final-model=false {SMALL}")),
        ("evaluate", "fine --out OUT --resamples 20".into()),
        ("predict", "study/sim01_01.csv --model fine/model --out OUT".into()),
        ("embed", "study/sim01_01.csv --model fine/model --out OUT.npy".into()),
        ("forward", "--model fine/model --input x.npy --output OUT.npy".into()),
        ("inspect", "--preset tiny --program predict --batch 2".into()),
    ]
}

/// Commands that only pass their integer flags on to those above, or measure for as long as they are told.
const PASS_ON: [&str; 5] = ["quickstart", "experiment", "bench", "null-study", "selftest"];

/// Flags that may keep a command working for ever, as they ask for that much work.
const WORK: [&str; 4] = ["epochs", "resamples", "subjects", "trials"];

#[test]
#[ignore = "a minute or two; cargo test --release --test extremes -- --ignored"]
fn every_integer_flag_at_its_extremes() {
    let p = Place(tempfile::tempdir().unwrap());
    let minutes = Duration::from_secs(120);
    for line in [
        "simulate --out study --subjects 4 --trials 2 --trial-s 15 --strength 1",
        "prepare --table study/items.csv --out store --window 640 --hop 640",
        &format!("finetune --out fine --folds 2 --resamples 20 {SMALL}"),
    ] {
        let (end, text) = p.run(line, minutes);
        assert_eq!(end, End::Code(0), "{line}\n{text}");
    }
    heartlore::data::npy::write_f32(&p.path("x.npy"), &[1, 640], &[0.5; 640]).unwrap();

    let program = heartlore::cli::command();
    let lines = lines();
    let mut tried = 0;
    let mut faults = Vec::new();
    for command in program.get_subcommands() {
        let integer = |arg: &&clap::Arg| {
            let id = arg.get_value_parser().type_id();
            [TypeId::of::<usize>(), TypeId::of::<u64>(), TypeId::of::<u32>()].iter().any(|t| id == *t)
        };
        let flags: BTreeSet<String> = settings_of(command).filter(integer).map(key_of).collect();
        let name = command.get_name();
        if flags.is_empty() || PASS_ON.contains(&name) {
            continue;
        }
        let Some((_, line)) = lines.iter().find(|l| l.0 == name) else {
            panic!("{name} is in no line: {flags:?}")
        };
        for flag in &flags {
            for value in ["0", "4294967296", "9223372036854775808", "18446744073709551615"] {
                let _ = fs::remove_dir_all(p.path("OUT"));
                let _ = fs::remove_file(p.path("OUT.npy"));
                // A value already on the line gives way.
                let words: Vec<&str> = line.split_whitespace().collect();
                let at = words.iter().position(|w| *w == format!("--{flag}"));
                let kept =
                    words.iter().enumerate().filter(|(i, _)| at.is_none_or(|a| *i != a && *i != a + 1));
                let kept: Vec<&str> = kept.map(|(_, w)| *w).collect();
                let line = format!("{name} {} --{flag} {value}", kept.join(" "));
                let limit = Duration::from_secs(if WORK.contains(&flag.as_str()) { 1 } else { 60 });
                let (end, text) = p.run(&line, limit);
                tried += 1;
                let fine = match end {
                    End::Code(0) => true,
                    End::Code(code) => (2..=7).contains(&code) && text.contains("error"),
                    End::Working => WORK.contains(&flag.as_str()),
                    End::Signal(_) => false,
                };
                if !fine || text.contains("panicked") {
                    faults.push(format!("{line}: {end:?}\n{text}"));
                    continue;
                }
                // What was taken stands in the configuration as it was given.
                let file = ["OUT/config.toml", "OUT/evaluate.toml"]
                    .map(|f| p.path(f))
                    .into_iter()
                    .find(|f| f.is_file());
                if let (End::Code(0), Some(file)) = (&end, file) {
                    let table: toml::Table = toml::from_str(&fs::read_to_string(file).unwrap()).unwrap();
                    let there = table[flag].to_string();
                    if there.trim_matches('"') != value {
                        faults.push(format!("{line}: stands as {there}"));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} of {tried}:\n{}", faults.len(), faults.join("\n"));
    assert!(tried > 100, "{tried}");
}

#[test]
fn a_cap_of_any_size_keeps_everything() {
    let p = Place(tempfile::tempdir().unwrap());
    let minutes = Duration::from_secs(120);
    assert_eq!(p.run("simulate --out study --subjects 3 --trials 2 --trial-s 15", minutes).0, End::Code(0));
    let base = "prepare --table study/items.csv --window 640 --hop 640";
    assert_eq!(p.run(&format!("{base} --out all"), minutes).0, End::Code(0));
    let all = fs::read(p.path("all/windows.npy")).unwrap();
    for cap in ["--max-per-subject 18446744073709551615", "--max-per-dataset 18446744073709551615"] {
        let (end, text) = p.run(&format!("{base} --out capped --overwrite {cap}"), minutes);
        assert_eq!(end, End::Code(0), "{text}");
        assert!(fs::read(p.path("capped/windows.npy")).unwrap() == all, "{cap}");
    }
}
