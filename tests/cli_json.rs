//! With `--json` a program reads one document: on standard output when a command ends well, on standard error when it does
//! not. Notes and warnings are in it, and nothing else is printed.
#![cfg(feature = "cli")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

struct Place(tempfile::TempDir);

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn run(&self, line: &str) -> Output {
        let program = env!("CARGO_BIN_EXE_heartlore");
        Command::new(program).args(line.split_whitespace()).current_dir(self.0.path()).output().unwrap()
    }
    /// The document of a run that ends well.
    fn document(&self, line: &str) -> Value {
        let out = self.run(&format!("{line} --json"));
        let (text, err) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{line}\n{err}");
        assert!(err.is_empty(), "{line} says beside its document: {err}");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{line}: {e} in\n{text}"))
    }
    /// The document of a run that fails.
    fn failure(&self, line: &str) -> Value {
        let out = self.run(&format!("{line} --json"));
        let (text, err) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(!out.status.success() && text.is_empty(), "{line}\n{text}");
        let value: Value = serde_json::from_str(&err).unwrap_or_else(|e| panic!("{line}: {e} in\n{err}"));
        assert_eq!(value["error"]["exit_code"].as_i64(), out.status.code().map(i64::from), "{value:#}");
        assert!(!value["error"]["message"].as_str().unwrap().is_empty());
        value
    }
}

const SMALL: &str =
    "--data store --preset tiny --channels 4,4,8 --hidden 8 --head-hidden 4 --layers 1 --epochs 1 --batch 8";

#[test]
fn every_command_prints_one_document() {
    let p = Place(tempfile::tempdir().unwrap());
    p.document("simulate --out study --subjects 4 --trials 2 --trial-s 15");
    // A recording that no line names: a warning, which is in the document.
    fs::copy(p.path("study/sim01_01.csv"), p.path("study/more.csv")).unwrap();
    let prepared = p.document("prepare --table study/items.csv --out store --window 640 --hop 600");
    assert!(prepared["warnings"].to_string().contains("named by no line"), "{prepared:#}");
    let look = p.document("prepare study --dry-run --window 640");
    assert!(look["notes"].to_string().contains("a person of its own"), "{look:#}");
    assert!(look["warnings"].to_string().contains("hold the same samples"), "{look:#}");
    p.document(&format!("pretrain --out pre {SMALL}"));
    let fine = p.document(&format!(
        "finetune --out fine --label aroused --init pre/model --folds 2 --resamples 20 {SMALL}"
    ));
    assert!(fine["warnings"].to_string().contains("Pre-training saw 4 of the 4"), "{fine:#}");
    p.document("evaluate fine --resamples 30");
    p.document("predict study/sim01_01.csv --model fine/model --out said");
    let floats: Vec<f32> = (0..1280).map(|i| (i as f32 * 0.1).sin()).collect();
    heartlore::data::npy::write_f32(&p.path("x.npy"), &[2, 640], &floats).unwrap();
    heartlore::data::npy::write_f32(&p.path("t.npy"), &[2], &[0.0, 1.0]).unwrap();
    for line in [
        "embed store --model pre/model --out e.npy",
        "forward --model pre/model --input x.npy --output y.npy",
        "grad --model fine/model --input x.npy --target t.npy --out g.safetensors",
        "inspect store",
        "inspect fine/model",
        "beats study/sim01_01.csv",
        "features study/sim01_01.csv --window-s 10 --hop-s 5",
        "quality study/sim01_01.csv --window-s 5",
        "prepare --list-datasets",
    ] {
        p.document(line);
    }
}

#[test]
fn every_failure_is_one_document() {
    let p = Place(tempfile::tempdir().unwrap());
    for command in heartlore::cli::command().get_subcommands().filter(|c| c.get_name() != "help") {
        let name = command.get_name();
        let error = p.failure(&format!("{name} --no-such-flag"));
        assert_eq!(error["error"]["kind"], "usage", "{error:#}");
    }
    p.failure("no-such-command");
    // What was said before the error is in its document.
    p.document("simulate --out study --subjects 2 --trials 2 --trial-s 15");
    fs::copy(p.path("study/sim01_01.csv"), p.path("study/more.csv")).unwrap();
    let error = p.failure("prepare --table study/items.csv --out store --window 6400");
    assert!(error["warnings"].to_string().contains("named by no line"), "{error:#}");
    for line in [
        "prepare nothing --out store",
        "pretrain --data nothing --out pre",
        "finetune --data nothing --label x --out fine",
        "evaluate nothing.csv",
        "predict nothing.csv --model nothing --out said",
        "inspect nothing",
        "beats nothing.csv",
        "features nothing.csv",
        "quality nothing.csv",
    ] {
        p.failure(line);
    }
}
