//! The program from outside: every command on small data, every bad input it can meet, every flag.
#![cfg(feature = "cli")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn run(&self, line: &str) -> Output {
        let args = line.split_whitespace();
        Command::new(env!("CARGO_BIN_EXE_heartlore")).args(args).current_dir(self.0.path()).output().unwrap()
    }
    /// Runs and expects success; returns standard output.
    fn ok(&self, line: &str) -> String {
        let out = self.run(line);
        assert!(out.status.success(), "{line}\n{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }
    /// Runs and expects `code`, with every one of `words` in the message.
    fn fails(&self, line: &str, code: i32, words: &[&str]) {
        let out = self.run(line);
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{line}\n{text}");
        for word in words {
            assert!(text.contains(word), "{line}: no '{word}' in\n{text}");
        }
    }
    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }
    /// A simulated study of five people with two trials of 20 s each, as a store called `store`.
    fn with_store() -> Self {
        let place = Self::new();
        place.ok("simulate --out study --store store --subjects 5 --trials 2 --trial-s 30 --strength 1");
        place
    }
}

const SMALL: &str =
    "--preset tiny --channels 4,4,8 --hidden 8 --head-hidden 4 --layers 1 --epochs 2 --batch 8";

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_study_goes_from_simulation_to_evaluation() {
    let p = Place::with_store();
    p.ok(&format!("pretrain --data store --out pre --validation 0.2 {SMALL}"));
    for file in [
        "config.toml",
        "run.json",
        "metrics.csv",
        "metrics.jsonl",
        "report.html",
        "model/config.json",
        "model/model.safetensors",
    ] {
        assert!(p.path("pre").join(file).is_file(), "{file}");
    }
    let events = |dir: &Path| {
        std::fs::read_dir(dir)
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains("tfevents"))
            .count()
    };
    assert_eq!(events(&p.path("pre")), 1);

    let out = p.ok(&format!("finetune --data store --label aroused --init pre/model --out fine --folds 2 --resamples 50 --json {SMALL}"));
    let scores = json(&out);
    assert_eq!(scores["people"], 5);
    assert_eq!(scores["windows"], 30);
    assert_eq!(scores["leaks"], false);
    assert!(scores["protocol"].as_str().unwrap().contains("by subject"));
    for method in ["model", "heart rate", "heart rate and variability", "majority class"] {
        assert!(scores["methods"][method]["AUC"]["estimate"].is_number(), "{method}");
    }
    let report = std::fs::read_to_string(p.path("fine/report.html")).unwrap();
    assert!(report.contains("imulated"), "a report on simulated data says so");

    // The same figures again, from the files.
    let again = json(&p.ok("evaluate fine --resamples 50 --json"));
    assert_eq!(again["methods"], scores["methods"]);
    // A CSV, worked out by hand: two people, one window wrong of four.
    p.write("four.csv", "subject,label,probability\na,1,0.9\na,0,0.6\nb,1,0.8\nb,0,0.1\n");
    let four = json(&p.ok("evaluate four.csv --out four --json"));
    let model = &four["methods"]["model"];
    assert_eq!(model["accuracy"]["estimate"], 0.75);
    assert_eq!(model["balanced accuracy"]["estimate"], 0.75);
    assert_eq!(model["AUC"]["estimate"], 1.0);
    assert_eq!(model["confusion"], serde_json::json!([[1, 1], [0, 2]]));
}

#[test]
fn a_configuration_reads_back_and_reproduces_the_run() {
    let p = Place::with_store();
    p.ok(&format!("pretrain --data store --out a {SMALL}"));
    p.ok("pretrain --config a/config.toml --out b");
    let bytes = |run: &str| std::fs::read(p.path(run).join("model/model.safetensors")).unwrap();
    assert!(bytes("a") == bytes("b"), "the same configuration gives the same bits");
    let strip = |run: &str| -> Vec<String> {
        let text = std::fs::read_to_string(p.path(run).join("config.toml")).unwrap();
        text.lines().filter(|l| !l.starts_with("out =")).map(str::to_string).collect()
    };
    assert_eq!(strip("a"), strip("b"));

    p.write("bad.toml", "data = 'store'\nlerning-rate = 1\n");
    p.fails("pretrain --config bad.toml --out c", 2, &["bad.toml", "lerning-rate", "schedule", "remedy"]);
    p.write("broken.toml", "data = 'store'\nout = = 3\n");
    p.fails("pretrain --config broken.toml --out c", 4, &["broken.toml", "line 2"]);
    p.fails("pretrain --config missing.toml --out c", 6, &["missing.toml"]);
}

#[test]
fn bad_recordings_are_named_with_place_and_remedy() {
    let p = Place::new();
    p.fails("prepare nothing.csv --out s", 6, &["nothing.csv", "remedy"]);
    p.fails("prepare --out s", 2, &["nothing to prepare", "remedy"]);
    p.write("eeg.csv", "time,EEG,RESP\n0,1,2\n0.01,1,2\n0.02,1,2\n");
    p.fails("prepare eeg.csv --out s", 5, &["eeg.csv", "EEG", "RESP", "remedy"]);
    p.write("junk.edf", "this is no EDF file at all");
    p.fails("prepare junk.edf --out s", 4, &["junk.edf"]);
    let ecg = |header: &str, n: usize, fs: f64| {
        let mut text = format!("time,{header}\n");
        (0..n).for_each(|i| text.push_str(&format!("{:.6},{:.3}\n", i as f64 / fs, (i as f64 * 0.3).sin())));
        text
    };
    p.write("unit.csv", &ecg("ecg [furlong]", 3000, 128.0));
    p.fails("prepare unit.csv --out s", 5, &["unit.csv", "furlong", "remedy"]);
    p.write("short.csv", &ecg("ecg [mV]", 300, 128.0));
    p.fails("prepare short.csv --out s", 5, &["short.csv", "shorter than a window", "remedy"]);
    p.write("slow.csv", &ecg("ecg [mV]", 3000, 64.0));
    p.fails("prepare slow.csv --out s", 2, &["slow.csv", "32 Hz", "remedy"]);
    p.write("items.csv", "file,person\nshort.csv,a\n");
    p.fails("prepare --table items.csv --out s", 4, &["items.csv", "subject", "remedy"]);
    assert!(!p.path("s").exists(), "a failed preparation leaves nothing");
}

#[test]
fn bad_labels_models_and_stores_are_refused() {
    let p = Place::with_store();
    let fine = |more: &str| format!("finetune --data store --out f {SMALL} {more}");
    p.fails(&fine("--label mood"), 5, &["mood", "state, aroused"]);
    p.fails(&fine("--label state"), 5, &["which value is the positive class", "'calm'", "--positive"]);
    p.fails(&fine("--label state --threshold 5"), 5, &["row 0", "is no number"]);
    p.fails(&fine("--label aroused --threshold 0.5 --scale 2,9"), 5, &["outside the scale", "row"]);
    p.fails(&fine("--label aroused --threshold 7"), 5, &["all 30 labelled windows"]);
    p.fails(&fine("--label aroused --folds 9"), 5, &["5 subjects", "9", "remedy"]);
    p.fails(&fine("--label aroused --patience 2"), 2, &["--patience", "--validation"]);
    p.fails(&fine("--label aroused --init nowhere"), 6, &["nowhere"]);
    p.fails(&fine("--label aroused --heads 3"), 2, &["heads"]);
    p.fails("finetune --data study --label aroused --out f", 6, &["not a prepared store", "remedy"]);

    p.ok(&format!("pretrain --data store --out pre {SMALL}"));
    p.fails(&format!("pretrain --data store --out pre {SMALL}"), 2, &["pre", "--resume"]);
    p.fails(
        "finetune --data store --out f --label aroused --init pre/model --channels 4,4,16",
        3,
        &["encoder.conv.2", "[8, 4, 5]", "[16, 4, 5]"],
    );
    p.ok("prepare --table study/items.csv --out other --low-hz 0.5");
    p.fails(
        &format!("finetune --data other --out f --label aroused --init pre/model {SMALL}"),
        5,
        &["0.8-50", "0.5-50", "remedy"],
    );
    p.write("p.csv", "subject,label,probability\na,1,1.5\n");
    p.fails("evaluate p.csv", 4, &["p.csv", "line 2", "probability"]);
    p.write("q.csv", "label,probability\n1,0.5\n");
    p.fails("evaluate q.csv", 4, &["q.csv", "subject"]);
}

#[test]
fn the_other_protocols_run_and_leaks_are_named() {
    let p = Place::with_store();
    for (more, words) in [
        ("--protocol windows --folds 2", "LEAKS"),
        ("--protocol loo --by trial", "trial"),
        ("--protocol single --test-fraction 0.4", "single split"),
        ("--folds 2 --threshold mean", "2-fold"),
    ] {
        let out = p.ok(&format!(
            "finetune --data store --label aroused --out f --resamples 20 --final-model=false --baselines=false {SMALL} {more}"
        ));
        assert!(out.contains(words), "{more}\n{out}");
        std::fs::remove_dir_all(p.path("f")).unwrap();
    }
}

#[test]
fn completions_know_the_commands_and_json_errors_are_json() {
    let p = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(p.ok(&format!("completions {shell}")).contains("pretrain"));
    }
    let out = p.run("evaluate nothing.csv --json");
    let error = json(&String::from_utf8(out.stderr).unwrap());
    assert_eq!(error["error"]["exit_code"], 6);
    assert_eq!(out.status.code(), Some(6));
}

/// Ctrl-C: the run leaves with 130 after saving, goes on with --resume alone, and ends with the bits of an undisturbed one.
#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on_to_the_same_bits() {
    let p = Place::with_store();
    let run =
        "pretrain --data store --preset tiny --channels 4,4,8 --hidden 8 --layers 1 --epochs 100 --batch 8";
    p.ok(&format!("{run} --out whole"));
    let args: Vec<String> = format!("{run} --out cut").split_whitespace().map(str::to_string).collect();
    let mut child = Command::new(env!("CARGO_BIN_EXE_heartlore"))
        .args(&args)
        .current_dir(p.0.path())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // As soon as there is a checkpoint, which is long before the end.
    while !p.path("cut/checkpoints/last.ckpt").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let signal = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signal.success());
    let out = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(130), "{text}");
    assert!(text.contains("--resume"), "{text}");
    assert!(!p.path("cut/model").exists());
    p.fails(
        "pretrain --out cut --resume --batch 4",
        2,
        &["config.toml", "key batch", "with 8", "is 4", "remedy"],
    );
    p.fails(
        "pretrain --out cut --resume --precision bf16",
        2,
        &["config.toml", "key precision", "with \"f32\"", "is \"bf16\"", "remedy"],
    );
    p.ok("pretrain --out cut --resume");
    let bytes = |run: &str| std::fs::read(p.path(run).join("model/model.safetensors")).unwrap();
    assert!(bytes("whole") == bytes("cut"));
    // The log is whole as well: the same losses, step by step (the last column is speed).
    let losses = |run: &str| -> Vec<String> {
        let text = std::fs::read_to_string(p.path(run).join("metrics.csv")).unwrap();
        text.lines().map(|l| l.rsplit_once(',').unwrap().0.to_string()).collect()
    };
    assert_eq!(losses("whole"), losses("cut"));
    // Killed between the two renames of the very last save: there is nothing left to train, but the file gets its name.
    let file = |name: &str| p.path("cut/checkpoints").join(name);
    std::fs::rename(file("last.ckpt"), file("last.new.ckpt")).unwrap();
    p.ok("pretrain --out cut --resume");
    assert!(file("last.ckpt").exists() && !file("last.new.ckpt").exists());
    assert!(bytes("whole") == bytes("cut"));
}

#[test]
#[ignore = "known failure: the report does not name mitbih208; the quickstart runs on EEGMAT now, the report was not checked"]
fn the_quickstart_ends_with_a_report_on_real_labels() {
    let p = Place::new();
    let out = json(&p.ok("quickstart --pretrain-epochs 1 --json"));
    assert_eq!(out["simulated"], false);
    let rows = out["experiment"]["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 9);
    let auc = |reading: &str, model: &str| {
        let row = rows.iter().find(|r| r["reading"] == reading && r["model"] == model).unwrap();
        assert_eq!(row["failed"].as_array().unwrap().len(), 0, "{row}");
        row["figures"]["auc"]["mean"].as_f64().unwrap()
    };
    // What is known of 36 people counts for more than what reads the window.
    assert!((auc("new person", "heart rate") - 0.76).abs() < 0.04);
    assert!(auc("30 s of own rest known", "heart rate") > 0.92);
    assert!(auc("30 s of own rest known", "pre-trained, frozen") > 0.92);
    let report = std::fs::read_to_string(p.path("quickstart/report.html")).unwrap();
    assert!(report.matches("<svg").count() >= 6);
    for words in ["Predictions over time", "no reported emotion", "mitbih208", "own past known"] {
        assert!(report.contains(words), "{words}");
    }
    assert!(!report.contains("<script") && !report.contains("http-equiv"), "self-contained");
    // As many threads as there were, not as many as were asked for (0: all).
    let threads = match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => "on one thread".to_owned(),
        n => format!("on {n} threads"),
    };
    assert!(report.contains(&threads), "{threads}");
    // Each step is a run of its own with its own configuration.
    let text = std::fs::read_to_string(p.path("quickstart/pretrain/config.toml")).unwrap();
    assert!(text.contains("heartlore pretrain"));
    // A second one does not overwrite the first.
    p.fails("quickstart --out quickstart", 2, &["exists already", "remedy"]);
}
