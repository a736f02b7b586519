//! What keeps a user from being fooled: people who are tested can be kept out of pre-training, and are named where they
//! were not. And what a run says of itself: when, with which intervals, on which files.
#![cfg(feature = "cli")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

struct Place(tempfile::TempDir);

impl Place {
    /// With a simulated study of five people as a store.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.ok("simulate --out study --subjects 5 --trials 2 --trial-s 15 --strength 1");
        place.ok("prepare --table study/items.csv --out store --window 640 --hop 640");
        place
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn run(&self, line: &str) -> Output {
        let program = env!("CARGO_BIN_EXE_heartlore");
        Command::new(program).args(line.split_whitespace()).current_dir(self.0.path()).output().unwrap()
    }
    fn ok(&self, line: &str) -> Output {
        let out = self.run(line);
        assert!(out.status.success(), "{line}\n{}", String::from_utf8_lossy(&out.stderr));
        out
    }
    fn fails(&self, line: &str, code: i32, words: &[&str]) {
        let out = self.run(line);
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{line}\n{text}");
        for word in words {
            assert!(text.contains(word), "{line}: no '{word}' in\n{text}");
        }
    }
    fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(file)).unwrap()).unwrap()
    }
    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }
}

const TINY: &str =
    "--data store --preset tiny --channels 4,4,8 --hidden 8 --head-hidden 4 --layers 1 --epochs 1 --batch 8";

fn fine(more: &str) -> String {
    format!("finetune {TINY} --label aroused --folds 2 --resamples 50 {more}")
}

#[test]
fn people_who_are_tested_can_be_kept_out_of_pretraining() {
    let p = Place::new();
    // Two by different spellings, from the command line and from a file.
    fs::write(p.path("out.txt"), "# tested\nsimulated/sim02\n\nsim03\n").unwrap();
    p.ok(&format!("pretrain {TINY} --out pre --exclude-subject sim01 --exclude-subject @out.txt"));
    let people = &p.json("pre/model/config.json")["card"]["people"];
    assert_eq!(people, &serde_json::json!({ "simulated": ["sim04", "sim05"] }));
    assert_eq!(&p.json("pre/run.json")["results"]["people"], people);
    // The names stand in the configuration, not the file, which may change.
    let config: toml::Table = toml::from_str(&p.text("pre/config.toml")).unwrap();
    assert_eq!(
        config["exclude-subject"].to_string().replace(' ', ""),
        r#"["sim01","simulated/sim02","sim03"]"#
    );
    // Fewer people, fewer windows: the run was really without them.
    let card = p.text("pre/model/README.md");
    assert!(card.contains("simulated: 12 windows") && card.contains("2 of 'simulated'"), "{card}");
    fs::remove_file(p.path("out.txt")).unwrap();
    p.ok("pretrain --config pre/config.toml --out same");
    assert!(
        fs::read(p.path("pre/model/model.safetensors")).unwrap()
            == fs::read(p.path("same/model/model.safetensors")).unwrap()
    );

    // A slip of the pen would let a test person in: it is an error.
    p.fails(
        &format!("pretrain {TINY} --out no --exclude-subject sim9"),
        5,
        &["'sim9'", "simulated/sim01", "remedy"],
    );
    p.fails(&format!("pretrain {TINY} --out no --exclude-subject other/sim01"), 5, &["'other/sim01'"]);
    p.fails(&format!("pretrain {TINY} --out no --exclude-subject @none.txt"), 6, &["none.txt"]);
    fs::write(p.path("empty.txt"), "# nobody\n").unwrap();
    p.fails(&format!("pretrain {TINY} --out no --exclude-subject @empty.txt"), 5, &["empty.txt", "remedy"]);
    let all: String = (1..=5).map(|i| format!("--exclude-subject sim0{i} ")).collect();
    p.fails(&format!("pretrain {TINY} --out no {all}"), 5, &["no window is left"]);
    assert!(!p.path("no").exists());
}

#[test]
fn finetuning_says_whether_pretraining_saw_the_people_tested() {
    let p = Place::new();
    p.ok(&format!("pretrain {TINY} --out all"));
    p.ok(&format!("pretrain {TINY} --out some --exclude-subject sim01 --exclude-subject sim02"));

    // Everybody is tested in one of two folds; three of the five were in pre-training.
    let out = p.ok(&fine("--init some/model --out seen"));
    let said = String::from_utf8(out.stderr).unwrap();
    let words = "saw 3 of the 5 people tested, without their labels: simulated/sim03, simulated/sim04, simulated/sim05";
    assert!(said.contains("warning") && said.contains(words), "{said}");
    assert!(p.text("seen/report.html").contains("saw 3 of the 5 people tested"));
    let run = p.json("seen/run.json");
    assert_eq!(run["initial_weights"]["people_tested"], 5);
    assert_eq!(
        run["initial_weights"]["seen_before"],
        serde_json::json!(["simulated/sim03", "simulated/sim04", "simulated/sim05"])
    );
    assert!(p.json("seen/metrics.json")["warnings"][0].as_str().unwrap().contains("saw 3 of the 5"));
    // Evaluation again from its files, it says so again.
    let again = String::from_utf8(p.ok("evaluate seen --resamples 50").stdout).unwrap();
    assert!(again.contains("WARNING: Pre-training saw 3 of the 5"), "{again}");
    // The classifier has seen them all: those it was fitted on and those before.
    let people = &p.json("seen/model/config.json")["card"]["people"]["simulated"];
    assert_eq!(people.as_array().unwrap().len(), 5);

    // Only people who were left out are tested.
    let more = "--exclude-subject sim03 --exclude-subject sim04 --exclude-subject sim05";
    let out = p.ok(&fine(&format!("--init some/model --out unseen {more}")));
    assert!(!String::from_utf8(out.stderr).unwrap().contains("warning"));
    let metrics = p.json("unseen/metrics.json");
    assert_eq!(metrics["warnings"], serde_json::json!([]));
    assert!(metrics["notes"].to_string().contains("saw none of the 2 people tested"), "{metrics}");
    // Its classifier remembers whom the pre-training saw.
    assert_eq!(
        p.json("unseen/model/config.json")["card"]["people"]["simulated"].as_array().unwrap().len(),
        5
    );

    p.ok(&fine("--out fresh"));
    assert!(p.json("fresh/metrics.json")["notes"].to_string().contains("weights at the start were random"));

    // A model that does not say whom it saw.
    let path = p.path("all/model/config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config["card"].as_object_mut().unwrap().remove("people");
    fs::write(&path, config.to_string()).unwrap();
    fs::remove_file(p.path("all/model/provenance.json")).unwrap();
    let out = p.ok(&fine("--init all/model --out unknown"));
    assert!(
        String::from_utf8(out.stderr)
            .unwrap()
            .contains("Cannot tell whether pre-training saw any of the 5 people")
    );
    assert_eq!(p.json("unknown/run.json")["initial_weights"]["seen_before"], Value::Null);
    assert_eq!(p.json("unknown/model/config.json")["card"]["people"], Value::Null);
}

#[test]
fn a_run_says_when_and_gives_both_intervals() {
    let p = Place::new();
    p.ok(&fine("--out fine"));
    let run = p.json("fine/run.json");
    for time in [&run["history"][0]["started"], &run["ended"]] {
        let time = time.as_str().unwrap();
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00Z");
        assert!(time > "2025");
    }
    assert!(p.text("fine/report.html").contains(run["history"][0]["started"].as_str().unwrap()));
    let metrics = p.json("fine/metrics.json");
    let heart_rate = &metrics["methods"]["heart rate"]["Brier score"];
    let number = |v: &Value| v.as_f64().unwrap();
    let (low, high) = (number(&heart_rate["bca"]["low"]), number(&heart_rate["bca"]["high"]));
    assert!(low < high && (low, high) != (number(&heart_rate["low"]), number(&heart_rate["high"])));
    assert!(low < number(&heart_rate["estimate"]) && number(&heart_rate["estimate"]) < high);
    // Where BCa is not defined (every resample gives one half) it is null, not invented.
    assert_eq!(metrics["methods"]["majority class"]["AUC"]["bca"], Value::Null);
    assert_eq!(metrics["methods"]["majority class"]["AUC"]["estimate"], 0.5);
}

#[test]
fn predict_searches_folders() {
    let p = Place::new();
    p.ok(&fine("--out fine"));
    fs::create_dir_all(p.path("in/deep")).unwrap();
    fs::copy(p.path("study/sim01_01.csv"), p.path("in/a.csv")).unwrap();
    fs::copy(p.path("study/sim02_01.csv"), p.path("in/deep/b.csv")).unwrap();
    fs::write(p.path("in/notes.md"), "no recording").unwrap();
    fs::write(p.path("in/deep/.hidden.csv"), "no recording").unwrap();
    let out = p.ok("predict in --model fine/model --out said");
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(text.contains("2 recordings; 2 files of kinds that no reader knows"), "{text}");
    let files: Vec<String> = p
        .text("said/recordings.csv")
        .lines()
        .skip(1)
        .map(|l| l.split(',').next().unwrap().to_string())
        .collect();
    assert_eq!(files, ["in/a.csv", "in/deep/b.csv"]);
    // A folder beside a file: each once.
    p.ok("predict study/sim03_01.csv in --model fine/model --out three");
    assert_eq!(p.text("three/recordings.csv").lines().count(), 4);

    // A file of a known kind that holds no ECG stops the command, unless told otherwise.
    fs::copy(p.path("study/items.csv"), p.path("in/items.csv")).unwrap();
    let out = p.run("predict in --model fine/model --out no");
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(text.contains("items.csv") && text.contains("--skip-bad"), "{text}");
    assert!(!p.path("no").exists());
    p.ok("predict in --model fine/model --out skipped --skip-bad");
    assert_eq!(p.json("skipped/predictions.json")["skipped"].as_array().unwrap().len(), 1);

    fs::create_dir(p.path("bare")).unwrap();
    fs::write(p.path("bare/notes.md"), "").unwrap();
    p.fails("predict bare --model fine/model", 5, &["bare", "no recordings", "1 other files", "remedy"]);
}

#[test]
fn empty_and_missing_values_are_named() {
    let p = Place::new();
    p.ok(&fine("--out fine"));
    let npy = |name: &str, shape: &[usize], values: &[f32]| {
        heartlore::data::npy::write_f32(&p.path(name), shape, values).unwrap();
    };
    npy("none.npy", &[0, 640], &[]);
    p.fails(
        "forward --model fine/model --input none.npy --output y.npy",
        5,
        &["none.npy", "no window", "remedy"],
    );
    let mut values = vec![0.5f32; 1280];
    values[700] = f32::NAN;
    npy("nan.npy", &[2, 640], &values);
    p.fails(
        "forward --model fine/model --input nan.npy --output y.npy",
        5,
        &["nan.npy", "window 1, sample 60"],
    );
    assert!(!p.path("y.npy").exists());

    fs::write(p.path("empty.csv"), "").unwrap();
    p.fails("predict empty.csv --model fine/model", 4, &["empty.csv", "the file is empty"]);
    p.fails("prepare empty.csv --out s", 4, &["empty.csv", "the file is empty"]);
    fs::write(p.path("header.csv"), "time_s,ecg [mV]\n").unwrap();
    let out = p.run("predict header.csv --model fine/model");
    let text = String::from_utf8(out.stderr).unwrap();
    assert!([Some(4), Some(5)].contains(&out.status.code()) && text.contains("header.csv"), "{text}");
    let rows: String = (0..4000).map(|i| format!("{:.6},NaN\n", f64::from(i) / 128.0)).collect();
    fs::write(p.path("nothing.csv"), format!("time_s,ecg [mV]\n{rows}")).unwrap();
    p.fails("predict nothing.csv --model fine/model", 5, &["nothing.csv", "no window", "missing", "remedy"]);
    fs::write(p.path("none.csv"), "subject,label,probability\n").unwrap();
    p.fails("evaluate none.csv --out e", 5, &["none.csv", "no predictions"]);
}

/// `forward` and `embed` replace their file whole, and leave it alone when they fail.
#[cfg(unix)]
#[test]
fn outputs_appear_whole_or_not_at_all() {
    let p = Place::new();
    p.ok(&format!("pretrain {TINY} --out pre"));
    heartlore::data::npy::write_f32(&p.path("x.npy"), &[40, 640], &vec![0.25; 40 * 640]).unwrap();
    fs::write(p.path("y.npy"), "before").unwrap();
    let script = |line: &str| {
        let line = format!("ulimit -f 16; trap '' XFSZ; exec {} {line}", env!("CARGO_BIN_EXE_heartlore"));
        Command::new("sh").args(["-c", &line]).current_dir(p.0.path()).output().unwrap()
    };
    let forward = "forward --model pre/model --input x.npy --output y.npy";
    let out = script(forward);
    assert_eq!(out.status.code(), Some(6), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(p.text("y.npy"), "before");
    p.ok(forward);
    let array = heartlore::data::npy::read(&p.path("y.npy")).unwrap();
    assert_eq!(array.shape, [40, 640]);
    let names = fs::read_dir(p.0.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|n| n.ends_with(".tmp")).count(), 0);
}
