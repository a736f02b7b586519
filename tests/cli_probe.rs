//! Probes, references, objectives and experiments from outside: what they leave, and what they say to bad input.
#![cfg(feature = "cli")]

use std::path::PathBuf;
use std::process::{Command, Output};

struct Place(tempfile::TempDir);

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn run(&self, line: &str) -> Output {
        let args = line.split_whitespace();
        Command::new(env!("CARGO_BIN_EXE_heartlore")).args(args).current_dir(self.0.path()).output().unwrap()
    }
    fn ok(&self, line: &str) -> String {
        let out = self.run(line);
        assert!(out.status.success(), "{line}\n{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }
    fn fails(&self, line: &str, code: i32, words: &[&str]) {
        let out = self.run(line);
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{line}\n{text}");
        for word in words {
            assert!(text.contains(word), "{line}: no '{word}' in\n{text}");
        }
    }
    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
    /// A simulated study of five people with four trials of 30 s, as a store.
    fn with_store() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.ok("simulate --out study --store store --subjects 5 --trials 4 --trial-s 30 --strength 1");
        place
    }
}

const SMALL: &str = "--preset tiny --channels 4,4,8 --hidden 8 --layers 1";
const PROBE: &str = "finetune --data store --label aroused --mode probe --folds 5 --resamples 50";

#[test]
fn a_probe_is_evaluated_saved_and_predicts() {
    let p = Place::with_store();
    p.ok(&format!("{PROBE} --out plain {SMALL}"));
    let split = p.text("plain/split.json");
    assert!(split.contains("no reference"), "{split}");
    assert!(p.text("plain/metrics.json").contains("heart rate"));
    let config = p.text("plain/model/config.json");
    assert!(config.contains("\"reference\": \"none\"") && config.contains("mean_deviation"), "{config}");
    p.ok("predict study/sim01_01.csv --model plain/model --out said");
    let lines = p.text("said/windows.csv");
    let probability = |line: &str| line.split(',').nth(5).and_then(|v| v.parse::<f64>().ok());
    let found: Vec<Option<f64>> = lines.lines().skip(1).map(probability).collect();
    assert!(found.len() >= 2 && found.iter().all(|q| q.is_some_and(|q| q > 0.0 && q < 1.0)), "{lines}");
    // Threads change nothing.
    p.ok(&format!("{PROBE} --out again --threads 1 {SMALL}"));
    assert_eq!(p.text("plain/predictions.csv"), p.text("again/predictions.csv"));
    p.fails(
        "predict study/sim01_01.csv --model plain/model --rest study/sim01_02.csv --out no",
        2,
        &["reads no rest", "leave the flag out"],
    );
}

#[test]
fn a_known_rest_is_not_scored_and_is_needed_to_predict() {
    let p = Place::with_store();
    p.ok(&format!("{PROBE} --out plain {SMALL}"));
    p.ok(&format!("{PROBE} --out rest --reference rest --rest aroused=0 --reference-s 20 {SMALL}"));
    assert!(p.text("rest/split.json").contains("20 s of the person's own rest known"));
    let starts = |run: &str| -> Vec<String> {
        let text = p.text(&format!("{run}/predictions.csv"));
        text.lines().skip(1).map(|l| l.split(',').next().unwrap().to_string()).collect()
    };
    // Two windows of ten seconds for each of five people are known, and none of them is scored.
    let (all, scored) = (starts("plain"), starts("rest"));
    assert_eq!(all.len() - scored.len(), 10);
    let rest: Vec<&String> = all.iter().filter(|r| !scored.contains(r)).collect();
    let labels = p.text("plain/predictions.csv");
    for line in labels.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        assert!(!rest.contains(&&fields[0].to_string()) || fields[8] == "0", "{line}");
    }
    p.fails("predict study/sim01_02.csv --model rest/model", 2, &["own rest known", "--rest RECORDING"]);
    p.ok("predict study/sim01_02.csv --model rest/model --rest study/sim01_01.csv --out said");
    p.fails("predict study/sim01_02.csv --model rest/model --rest no.csv", 6, &["no.csv"]);
}

#[test]
fn the_past_is_causal_from_outside_too() {
    let p = Place::with_store();
    p.ok(&format!("{PROBE} --out past --reference past --reference-s 20 --context-s 20 {SMALL}"));
    p.ok("predict study/sim01_02.csv --model past/model --out said");
    let text = p.text("said/windows.csv");
    let first = text.lines().nth(1).unwrap();
    // Ten seconds are too little past: the window is there, without a probability.
    assert_eq!(first.split(',').nth(5), Some(""), "{text}");
    assert!(text.lines().nth(2).unwrap().split(',').nth(5).unwrap().parse::<f64>().is_ok(), "{text}");
}

#[test]
fn references_that_cannot_be_had_are_refused() {
    let p = Place::with_store();
    for (flags, code, words) in [
        ("--reference rest --reference-s 5", 2, &["shorter than a window of 10 s", "--reference-s 10"][..]),
        ("--context-s 3", 2, &["shorter than a window", "--context-s 10"]),
        ("--reference rest --rest nonsense", 2, &["does not say which windows are rest", "label=rest"]),
        ("--reference rest --rest aroused=7", 5, &["no window has the value '7'", "its values are 0, 1"]),
        ("--reference rest --rest mood=0", 5, &["no label 'mood'"]),
        (
            "--reference rest --rest aroused=0 --reference-s 600",
            5,
            &["nobody has 600 s", "shorter --reference-s"],
        ),
        ("--reference past --reference-s 600", 5, &["no window has 600 s", "shorter --reference-s"]),
    ] {
        p.fails(&format!("{PROBE} --out no {flags} {SMALL}"), code, words);
    }
    p.fails(
        &format!("finetune --data store --label aroused --reference rest --out no {SMALL}"),
        2,
        &["--mode tune reads windows alone", "--mode probe"],
    );
    assert!(!p.path("no").exists(), "a refused run leaves nothing");
}

#[test]
fn physiology_is_an_objective() {
    let p = Place::with_store();
    let pre = format!("pretrain --data store --epochs 2 --batch 8 --validation 0.2 {SMALL}");
    p.ok(&format!(
        "{pre} --objective physiology=1 --augment-flip 0.5 --augment-drift 0.2 --out phys --threads 1"
    ));
    p.ok(&format!(
        "{pre} --objective physiology=1 --augment-flip 0.5 --augment-drift 0.2 --out two --threads 2"
    ));
    let weights = |run: &str| std::fs::read(p.path(&format!("{run}/model/model.safetensors"))).unwrap();
    assert!(weights("phys") == weights("two"), "threads change nothing");
    assert!(p.text("phys/model/config.json").contains("\"encoder\""));
    p.ok(&format!("{pre} --objective masked=1,physiology=0.5 --normalise-patches --out both"));
    assert!(p.text("both/model/config.json").contains("\"pretrained\""));
    p.ok(&format!("{PROBE} --init phys/model --out probe"));
    p.ok("embed store --model phys/model --out e.npy");
    p.fails(
        &format!("{pre} --objective phsiology=1 --out no"),
        2,
        &["'phsiology' is no pre-training objective"],
    );
    p.fails(&format!("{pre} --objective masked=0 --out no"), 2, &["no objective has a positive weight"]);
    p.fails(
        &format!("{pre} --objective physiology --augment-shift 9 --out no"),
        2,
        &["rotated windows do not fit their beat maps", "--augment-shift"],
    );
}

const MATRIX: &str = r#"
title = "simulated"
data = "store"
label = "aroused"
positive = "1"
negative = "0"
protocol = "kfold"
folds = 5
seeds = [1, 2]
people = [2, 0]
resamples = 50
against = "heart rate"
[[reading]]
name = "new person"
[[reading]]
name = "rest known"
reference = "rest"
rest = "aroused=0"
reference-s = 20
[[model]]
name = "heart rate"
baseline = "heart rate"
[[model]]
name = "random"
random = "tiny"
"#;

#[test]
fn an_experiment_is_run_once_and_goes_on_where_it_stopped() {
    let p = Place::with_store();
    std::fs::write(p.path("m.toml"), MATRIX).unwrap();
    let first = p.ok("experiment m.toml --out r --threads 1");
    assert!(first.contains("16 cells, 16 of them run now") && first.contains("0 failed"), "{first}");
    let csv = p.text("r/results.csv");
    assert_eq!(csv.lines().count(), 9, "{csv}");
    assert!(p.text("r/report.html").contains("Labels needed"));
    // As if it had been killed half way: three cells are gone, and come back to the same bits.
    let cells: Vec<PathBuf> =
        std::fs::read_dir(p.path("r/cells")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(cells.len(), 16);
    let content = |i: usize| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(&cells[i]).unwrap()).unwrap()
    };
    let before: Vec<serde_json::Value> = (0..3).map(content).collect();
    cells[..3].iter().for_each(|c| std::fs::remove_file(c).unwrap());
    // A cell that is damaged is run again, too.
    std::fs::write(&cells[3], b"{").unwrap();
    let second = p.ok("experiment m.toml --out r --threads 2");
    assert!(second.contains("4 of them run now"), "{second}");
    for (i, old) in before.iter().enumerate() {
        assert_eq!(content(i)["probability"], old["probability"]);
    }
    let without_time = |csv: &str| -> Vec<String> {
        csv.lines().map(|l| l.rsplit_once(',').unwrap().0.to_string()).collect()
    };
    assert_eq!(without_time(&csv), without_time(&p.text("r/results.csv")));
    // Another seed runs what it adds.
    std::fs::write(p.path("m.toml"), MATRIX.replace("[1, 2]", "[1, 2, 3]")).unwrap();
    let third = p.ok("experiment m.toml --out r");
    assert!(third.contains("24 cells, 8 of them run now"), "{third}");
}

#[test]
fn a_failing_cell_leaves_a_hole_and_the_others_go_on() {
    let p = Place::with_store();
    let text = MATRIX.replace("random = \"tiny\"", "init = \"nowhere\"").replace("[2, 0]", "[0]");
    std::fs::write(p.path("m.toml"), &text).unwrap();
    let said = p.ok("experiment m.toml --out r");
    assert!(said.contains("8 cells, 4 of them run now") && said.contains("4 failed"), "{said}");
    assert!(p.text("r/report.html").contains("no model here"));
    std::fs::write(p.path("m.toml"), text.replace("folds = 5", "fold = 5")).unwrap();
    p.fails("experiment m.toml --out r", 2, &["m.toml", "unknown field `fold`", "quick.toml"]);
}

#[test]
fn tuning_starts_from_the_probe() {
    let p = Place::with_store();
    let tune = "finetune --data store --label aroused --folds 5 --resamples 50 --mode probe-then-tune --epochs 1 --batch 16 \
                --threads 1";
    p.ok(&format!("{PROBE} --pooling mean-deviation --out probe {SMALL}"));
    // At a learning rate of nearly nothing the heads stay where the probe put them.
    p.ok(&format!("{tune} --schedule constant(rate=1e-12) --dropout 0 --head-dropout 0 --out still {SMALL}"));
    p.ok(&format!("{tune} --encoder-rate 0.05 --layer-decay 0.7 --label-smoothing 0.1 --out moved {SMALL}"));
    assert!(p.text("still/predictions.csv") != p.text("moved/predictions.csv"));
    let config = p.text("moved/model/config.json");
    assert!(config.contains("mean_deviation") && config.contains("\"head_hidden\": []"), "{config}");
    p.ok("predict study/sim01_01.csv --model moved/model --out said");
    p.fails(&format!("{tune} --layer-decay 0 --out no {SMALL}"), 2, &["layer decay of 0 is not in (0, 1]"]);
    p.fails(&format!("{tune} --label-smoothing 1 --out no2 {SMALL}"), 2, &["label smoothing of 1"]);
}
