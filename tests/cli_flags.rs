//! Every flag of every command, through clap's own description of the program: it has help, and a run leaves it, with the
//! value in force, in a file that `--config` takes back (or, where a command leaves no directory, in its JSON).
#![cfg(feature = "cli")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use heartlore::cli::config::{key_of, settings_of};

struct Place(tempfile::TempDir);

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn run(&self, line: &str) -> Output {
        let program = env!("CARGO_BIN_EXE_heartlore");
        Command::new(program).args(line.split_whitespace()).current_dir(self.0.path()).output().unwrap()
    }
    fn ok(&self, line: &str) -> String {
        let out = self.run(line);
        assert!(out.status.success(), "{line}\n{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }
}

const SMALL: &str =
    "--data store --preset tiny --channels 4,4,8 --hidden 8 --head-hidden 4 --layers 1 --epochs 1 --batch 8";

/// Commands that leave a directory, with a line that runs them, the configuration they leave, and a flag whose change
/// must show there.
const LEAVE_A_FILE: [(&str, &str, &str); 9] = [
    ("simulate", "--out study --subjects 4 --trials 2 --trial-s 15 --fs-hz 160", "study/config.toml"),
    ("prepare", "--table study/items.csv --out store --window 640 --hop 600", "store/config.toml"),
    ("pretrain", "--out pre --exclude-subject sim01 --cap-per-dataset 9 --precision bf16", "pre/config.toml"),
    ("finetune", "--out fine --label aroused --init pre/model --folds 2 --resamples 20", "fine/config.toml"),
    ("experiment", "matrix.toml --out matrix --threads 1", "matrix/config.toml"),
    ("evaluate", "fine --resamples 30 --level 0.9", "fine/evaluate.toml"),
    ("null-study", "fine --permutations 3 --model-permutations 1 --seed 2", "fine/null/null-study.toml"),
    (
        "predict",
        "study/sim01_01.csv study/sim02_01.csv --model fine/model --out said --precision bf16 --skip-bad",
        "said/config.toml",
    ),
    ("quickstart", "--out quick --pretrain-epochs 1 --seed 4", "quick/config.toml"),
];

/// Commands that write one file or none: their flags are in the JSON.
const TELL_IN_JSON: [(&str, &str); 10] = [
    ("export", "--model pre/model --onnx e.onnx --what embed"),
    ("embed", "store --model pre/model --out e.npy --overwrite"),
    ("forward", "--model pre/model --input x.npy --output y.npy --threads 1"),
    ("grad", "--model fine/model --input x.npy --target t.npy --out g.safetensors --pos-weight 2"),
    ("inspect", "--preset tiny --program predict --batch 2"),
    ("selftest", "--cases 1 --seed 3"),
    ("beats", "study/sim01_01.csv --unit mV --out beats.csv"),
    ("features", "study/sim01_01.csv --window-s 10 --hop-s 5 --unit mV --out features.csv"),
    ("quality", "study/sim01_01.csv --window-s 5 --channel #1 --out quality.csv"),
    ("bench", "--preset tiny --what predict --threads 1 --batch 1 --precision f32,bf16 --seconds 0.1"),
];

/// Commands that print a script, whose flags are not repeated there, or lines of JSON, of which the first holds them.
const PRINT_ONLY: [&str; 2] = ["completions", "stream"];

#[test]
fn every_flag_of_every_command_has_help() {
    let program = heartlore::cli::command();
    let mut names = BTreeSet::new();
    let mut flags = 0;
    for command in std::iter::once(&program).chain(program.get_subcommands()) {
        assert!(command.get_about().is_some(), "{} is not described", command.get_name());
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(after.contains("Examples:"), "{} has no examples", command.get_name());
        for arg in command.get_arguments() {
            flags += 1;
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.len() > 3, "{} --{} has no help", command.get_name(), arg.get_id());
            assert!(
                names.insert((command.get_name().to_string(), key_of(arg))),
                "{} has --{} twice",
                command.get_name(),
                key_of(arg)
            );
        }
    }
    assert!(flags > 150, "{flags} flags");
    // No command is forgotten below.
    let listed: BTreeSet<&str> =
        LEAVE_A_FILE.iter().map(|c| c.0).chain(TELL_IN_JSON.iter().map(|c| c.0)).chain(PRINT_ONLY).collect();
    let there: BTreeSet<&str> =
        program.get_subcommands().map(clap::Command::get_name).filter(|n| *n != "help").collect();
    assert_eq!(listed, there);
    for name in LEAVE_A_FILE.map(|c| c.0) {
        let command = program.find_subcommand(name).unwrap();
        let takes = command.get_arguments().any(|a| a.get_long() == Some("config"));
        assert!(takes, "{name} does not take --config");
    }
}

/// Words of a line that clap could not have put into the configuration by default.
fn given(line: &str) -> Vec<(&str, &str)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let flags = words.windows(2).filter(|w| w[0].starts_with("--") && !w[1].starts_with("--"));
    flags.map(|w| (w[0].trim_start_matches("--"), w[1])).collect()
}

/// Whether `there`, in TOML or JSON, is the `value` of the command line: the same text, list or number.
fn says(there: &str, value: &str) -> bool {
    let plain: String = there.chars().filter(|c| !"[]\" ".contains(*c)).collect();
    plain == value || plain.parse::<f64>().ok().is_some_and(|v| value.parse() == Ok(v))
}

#[test]
fn every_flag_stands_in_what_a_run_leaves() {
    let p = Place(tempfile::tempdir().unwrap());
    let matrix = "title = \"t\"\ndata = \"store\"\nlabel = \"aroused\"\npositive = \"1\"\nnegative = \"0\"\n\
                  protocol = \"kfold\"\nfolds = 2\nresamples = 20\nagainst = \"hr\"\n[[reading]]\nname = \"none\"\n\
                  [[model]]\nname = \"hr\"\nbaseline = \"heart rate\"\n";
    fs::write(p.path("matrix.toml"), matrix).unwrap();
    let program = heartlore::cli::command();
    for (name, line, file) in LEAVE_A_FILE {
        let more = if ["pretrain", "finetune"].contains(&name) { SMALL } else { "" };
        let line = format!("{line} {more}");
        p.ok(&format!("{name} {line}"));
        let text = fs::read_to_string(p.path(file)).unwrap();
        let table: toml::Table = toml::from_str(&text).unwrap();
        let command = program.find_subcommand(name).unwrap();
        for arg in settings_of(command) {
            let key = key_of(arg);
            let silent = text.lines().any(|l| l == format!("# {key} is not set"));
            assert!(table.contains_key(&key) != silent, "{name} --{key} is not in {file}");
        }
        for (flag, value) in given(&line) {
            let there = table[flag].to_string();
            assert!(says(&there, value), "{name} --{flag} {value} stands as {there}");
        }
    }
    // What is left reads back as a configuration, and gives the same again.
    let bytes = |name: &str| fs::read(p.path(name)).unwrap();
    p.ok("predict --config said/config.toml --out again");
    assert!(bytes("said/windows.csv") == bytes("again/windows.csv"));
    let before = bytes("fine/metrics.json");
    p.ok("evaluate --config fine/evaluate.toml --out judged");
    assert!(bytes("judged/metrics.json") == before);
    p.ok("prepare --config store/config.toml --out store2");
    assert!(bytes("store/windows.npy") == bytes("store2/windows.npy"));

    let window = |n: usize| -> Vec<f32> { (0..n * 640).map(|i| (i as f32 * 0.1).sin()).collect() };
    heartlore::data::npy::write_f32(&p.path("x.npy"), &[2, 640], &window(2)).unwrap();
    heartlore::data::npy::write_f32(&p.path("t.npy"), &[2], &[0.0, 1.0]).unwrap();
    for (name, line) in TELL_IN_JSON {
        let json: serde_json::Value = serde_json::from_str(&p.ok(&format!("{name} {line} --json"))).unwrap();
        let settings = json["settings"].as_object().unwrap_or_else(|| panic!("{name} tells no settings"));
        let command = program.find_subcommand(name).unwrap();
        for arg in settings_of(command) {
            assert!(settings.contains_key(&key_of(arg)), "{name} --{} is not in the JSON", key_of(arg));
        }
        for (flag, value) in given(line) {
            let there = settings[flag].to_string();
            assert!(says(&there, value), "{name} --{flag} {value} stands as {there}");
        }
        let help = command.get_after_help().unwrap().to_string();
        assert!(help.contains("`settings`"), "{name} --help does not say where its flags are kept");
    }
    // An unknown key is an error everywhere.
    fs::write(p.path("bad.toml"), "modell = 'x'\n").unwrap();
    for (name, ..) in LEAVE_A_FILE {
        let out = p.run(&format!("{name} --config bad.toml --out nowhere"));
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.code() == Some(2) && text.contains("unknown key 'modell'"), "{name}: {text}");
        assert!(!p.path("nowhere").exists());
    }
}
