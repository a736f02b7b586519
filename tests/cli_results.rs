//! What the program says of results, on studies where it used to say something untrue, broken or of no use.
#![cfg(feature = "cli")]

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
    fn with_study(people: usize, trials: usize) -> Self {
        let p = Self::new();
        p.ok(&format!(
            "simulate --out study --store store --subjects {people} --trials {trials} --trial-s 30 --strength 1"
        ));
        p
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
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
    fn fails(&self, line: &str) -> String {
        let out = self.run(line);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success(), "{line} succeeds");
        text
    }
}

const FINE: &str = "finetune --label aroused --preset tiny --channels 4,4,8 --hidden 8 --head-hidden 4 --layers 1 \
                    --epochs 1 --batch 8 --final-model=false --resamples 50";

#[test]
fn one_person_gets_a_report_without_nan_and_without_a_circle() {
    let p = Place::with_study(1, 6);
    // By person it is impossible, whatever the number of folds and the protocol; the remedy works as typed.
    for more in ["", "--folds 1", "--folds 2", "--folds 0", "--protocol loo", "--protocol single"] {
        let text = p.fails(&format!("{FINE} --data store --out f {more}"));
        assert!(text.contains("one person: folds by person are impossible"), "{more}: {text}");
        assert!(text.contains("--by trial gives a subject-dependent score"), "{more}: {text}");
        assert!(!text.contains("at most 1") && !text.contains("at least 2"), "{more}: {text}");
    }
    let text = p.ok(&format!("{FINE} --data store --out f --by trial --folds 3"));
    assert!(text.contains("subject-dependent") && text.contains("There is one person only"), "{text}");
    assert!(text.contains("(no interval)") && !text.contains("NaN"), "{text}");
    for file in ["f/report.html", "f/metrics.json", "f/run.json"] {
        assert!(!p.text(file).contains("NaN"), "{file}");
    }
    assert!(p.text("f/report.html").contains("no interval"));
    // Two people are one too few for a validation part of their own.
    let p = Place::with_study(2, 4);
    let text = p.fails(&format!("{FINE} --data store --out g --folds 2 --validation 0.3"));
    assert!(text.contains("one subject only") && text.contains("leave out --validation"), "{text}");
    let text = p.fails(&format!("{FINE} --data store --out g --folds 1"));
    assert!(text.contains("use 2 to 2 folds"), "{text}");
}

/// Tables of predictions at the edge of what can be scored.
#[test]
fn no_table_of_predictions_gives_nan() {
    let p = Place::new();
    for (name, rows) in [
        ("two", "a,1,0.9\nb,0,0.2\n"),
        ("one", "a,1,0.9\n"),
        ("one_state", "a,1,0.9\nb,1,0.2\nc,1,0.4\n"),
        ("one_person", "a,1,0.9\na,0,0.2\n"),
        ("constant", "a,1,0.5\na,0,0.5\nb,0,0.5\nb,1,0.5\nc,0,0.5\nc,1,0.5\n"),
        ("perfect", "a,1,1\na,0,0\nb,0,0\nb,1,1\n"),
    ] {
        std::fs::write(p.path("p.csv"), format!("subject,label,probability\n{rows}")).unwrap();
        let text = p.ok(&format!("evaluate p.csv --out {name}"));
        for text in [text, p.text(&format!("{name}/report.html")), p.text(&format!("{name}/metrics.json"))] {
            assert!(!text.contains("NaN") && !text.contains("inf)"), "{name}: {text}");
        }
        let json: Value = serde_json::from_str(&p.text(&format!("{name}/metrics.json"))).unwrap();
        let warnings = json["warnings"].to_string();
        let constant = ["constant", "one_state_constant"].contains(&name);
        assert_eq!(warnings.contains("gives all test windows the same probability"), constant, "{warnings}");
    }
}

#[test]
fn equal_scores_of_everybody_are_said_to_be_equal() {
    let p = Place::with_study(6, 4);
    // At a rate of 0 the weights stay what they are: nearly the same output for every window.
    let text = p.ok(&format!("{FINE} --data store --out f --folds 3 --schedule constant(rate=1e-12)"));
    assert!(!text.contains("Too few people") && !text.contains("needs two"), "{text}");
    let json: Value = serde_json::from_str(&p.text("f/metrics.json")).unwrap();
    assert_eq!(json["people_with_both_states"], 6);
    assert_eq!(json["against_heart_rate"]["people_with_both_states"], 6);
    let zero = json["against_heart_rate"]["all_differences_zero"] == true;
    assert_eq!(text.contains("are zero for all 6 people: no test"), zero, "{text}");
}

/// Any flag that takes a number takes a negative one; whether it makes sense is another question.
#[test]
fn a_negative_number_is_a_value_and_not_a_flag() {
    let program = heartlore::cli::command();
    let mut tried = 0;
    for command in program.get_subcommands() {
        for arg in command.get_arguments().filter(|a| a.get_action().takes_values()) {
            let Some(long) = arg.get_long().filter(|_| !arg.is_require_equals_set()) else { continue };
            for value in ["-0.5", "-3"] {
                let line = ["heartlore", command.get_name(), &format!("--{long}"), value];
                let Err(e) = program.clone().try_get_matches_from(line) else { continue };
                assert_ne!(e.kind(), clap::error::ErrorKind::UnknownArgument, "{line:?}: {e}");
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");

    let p = Place::with_study(6, 4);
    let table: String = p
        .text("study/items.csv")
        .lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| match l.rsplit_once(',') {
            Some((rest, "1")) => format!("{rest},-2\n"),
            Some((rest, "0")) => format!("{rest},1.5\n"),
            Some((rest, _)) => format!("{rest},valence\n"),
            None => String::new(),
        })
        .collect();
    std::fs::write(p.path("study/v.csv"), table).unwrap();
    p.ok("prepare --table study/v.csv --out rated");
    let fine = FINE.replace("--label aroused", "--label valence --folds 3 --data rated");
    for (name, threshold) in [("a", "-0.5"), ("b", "-.5"), ("c", "-5e-1"), ("d", "-5E-01")] {
        p.ok(&format!("{fine} --threshold {threshold} --out {name}"));
    }
    p.ok(&format!("{fine} --threshold=-0.5 --out e"));
    for other in ["b", "c", "d", "e"] {
        assert_eq!(p.text("a/predictions.csv"), p.text(&format!("{other}/predictions.csv")));
    }
    let text = p.fails(&format!("{fine} --threshold -0.5 --drop-middle -1 --out f"));
    assert!(text.contains("--drop-middle") && text.contains("-1"), "{text}");
    let text = p.fails("evaluate a --threshold -0.5");
    assert!(text.contains("--threshold") && text.contains("0 to 1"), "{text}");
}

#[test]
fn a_null_study_shows_what_there_is_without_an_effect() {
    let p = Place::with_study(6, 4);
    p.ok(&format!("{FINE} --data store --out f --folds 3"));
    let text = p.ok("null-study f --permutations 40 --model-permutations 2");
    for words in [
        "40 permutations of the labels of whole trials, within 6 people who have both states",
        "heart rate, centred",
        "heart rate and variability, centred",
        "majority class",
        "the model was trained again under 2 permutations",
    ] {
        assert!(text.contains(words), "no '{words}' in {text}");
    }
    let json: Value = serde_json::from_str(&p.text("f/null/null.json")).unwrap();
    let all = json["distributions"].as_array().unwrap();
    assert_eq!(all.len(), 2 * 6);
    let run: Value = serde_json::from_str(&p.text("f/metrics.json")).unwrap();
    for d in all {
        let (method, metric) = (d["method"].as_str().unwrap(), d["metric"].as_str().unwrap());
        let n = d["permuted"].as_array().unwrap().len();
        assert_eq!(n, if method == "model" { 2 } else { 40 }, "{method}");
        // The true labels' scores are those of the run.
        if !method.contains("centred") {
            assert_eq!(d["observed"], run["methods"][method][metric]["estimate"], "{method} {metric}");
        }
        let (p, above) = (d["p"].as_f64().unwrap(), |v: &&Value| v.as_f64() >= d["observed"].as_f64());
        let hits = d["permuted"].as_array().unwrap().iter().filter(above).count();
        assert!((p - (hits + 1) as f64 / (n + 1) as f64).abs() < 1e-12, "{method} {metric}");
        let interval = &d["interval"];
        if method == "model" {
            assert!(interval.is_null(), "two permutations bound nothing: {interval}");
        } else {
            let (low, high) = (interval["low"].as_f64().unwrap(), interval["high"].as_f64().unwrap());
            assert!(low <= high, "{method}: {interval}");
        }
        if method == "majority class" {
            assert!(d["observed"] == 0.5 && d["expected"] == 0.5 && p == 1.0);
        }
        // What was simulated shows in the heart rate, and does not under permuted labels.
        if method == "heart rate" {
            assert!(p < 0.2 && (d["expected"].as_f64().unwrap() - 0.5).abs() < 0.1, "{d}");
        }
    }
    let rows = p.text("f/null/null.csv").lines().count();
    assert_eq!(rows, 1 + 12 + 2 * 2 + 10 * 40);
    assert!(
        !std::fs::read_dir(p.path("f/null"))
            .unwrap()
            .any(|e| { e.unwrap().file_name().to_string_lossy().starts_with('.') })
    );
    // The same seed, the same permutations; another, others.
    p.ok("null-study f --permutations 40 --out again --model-permutations 2");
    p.ok("null-study f --permutations 40 --out other --seed 2");
    assert_eq!(p.text("f/null/null.csv"), p.text("again/null.csv"));
    assert_ne!(p.text("f/null/null.csv"), p.text("other/null.csv"));
    let text = p.fails("null-study f --permutations 0");
    assert!(text.contains("--permutations"), "{text}");
    assert!(p.fails("null-study study").contains("split.json"));
}

/// The card says which model the figures are of.
#[test]
fn a_card_does_not_claim_another_model() {
    let p = Place::with_study(5, 2);
    p.ok(&format!("{FINE} --data store --out one --protocol single --test-fraction 0.4"));
    let card = p.text("one/model/README.md");
    assert!(card.contains("fitted on the training part of the split"), "{card}");
    assert!(!card.contains("fitted on all labelled windows"), "{card}");
    p.ok(&format!("{} --data store --out all --folds 2", FINE.replace("--final-model=false", "")));
    assert!(p.text("all/model/README.md").contains("this model was fitted on all labelled windows"));
}

/// Weights by which the output is one constant look healthy: every number is finite. It is said.
#[test]
fn a_model_whose_output_is_a_constant_is_found_out() {
    use heartlore::evaluate::statements::constant_output;
    assert_eq!(constant_output(&[]), None);
    assert_eq!(constant_output(&[0.5]), None);
    assert_eq!(constant_output(&[0.5, 0.5f64.next_up()]), None);
    assert!(
        constant_output(&[0.7, 0.7, 0.7]).is_some_and(|s| s.contains("all 3 windows") && s.contains("0.7"))
    );
    let p = Place::with_study(5, 2);
    let line = format!("{} --data store --out f --folds 2", FINE.replace("--final-model=false", ""));
    p.ok(&line);
    let model = heartlore::Model::load(p.path("f/model")).unwrap();
    let program = heartlore::nn::classify(model.config(), 1, 1.0).unwrap();
    let layout = program.graph.layout();
    let zero = vec![0.0; model.weights_for(layout).unwrap().len()];
    let preprocessing = model.preprocessing.clone().unwrap();
    heartlore::Model::from_weights(model.config().clone(), model.task().clone(), layout, &zero)
        .unwrap()
        .with_preprocessing(preprocessing)
        .save(p.path("zero"))
        .unwrap();
    let json: Value = serde_json::from_str(&p.ok("predict study/sim01_01.csv --model zero --json")).unwrap();
    assert!(json["warnings"][0].as_str().unwrap().contains("same probability, 0.5"), "{json}");
    let json: Value =
        serde_json::from_str(&p.ok("predict study/sim01_01.csv --model f/model --json")).unwrap();
    assert_eq!(json["warnings"], serde_json::json!([]));
}
