//! `heartlore prepare` on published data sets, from outside: names, dry run, store, refusals.
#![cfg(feature = "cli")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn run(arguments: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heartlore")).args(arguments).current_dir(dir).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn folder(name: &str) -> String {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/datasets").join(name);
    path.display().to_string()
}

#[test]
fn data_sets_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path();
    let list = run(&["prepare", "--list-datasets"], here);
    assert!(list.status.success());
    for words in ["amigos", "Miranda-Correa", "DREAMER.mat", "pspm-rrm1-2", "savez"] {
        assert!(text(&list).contains(words), "{}", text(&list));
    }
    let amigos = folder("amigos");
    let dry = run(&["prepare", "--dataset", "amigos", &amigos, "--dry-run"], here);
    assert!(dry.status.success(), "{}", text(&dry));
    for words in
        ["2 people", "6 trials", "128 Hz (6)", "arbitrary (6)", "label arousal", "empty cell", "38 of 40"]
    {
        assert!(text(&dry).contains(words), "no '{words}' in {}", text(&dry));
    }
    assert_eq!(std::fs::read_dir(here).unwrap().count(), 0);
    let json = run(&["prepare", "--dataset", "amigos", &amigos, "--dry-run", "--json"], here);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["datasets"]["amigos"]["subjects"], 2);
    let out = run(
        &[
            "prepare",
            "--dataset",
            "amigos",
            &amigos,
            "--out",
            "store",
            "--window=64",
            "--hop=64",
            "--quality=false",
        ],
        here,
    );
    assert!(out.status.success(), "{}", text(&out));
    let manifest = std::fs::read_to_string(here.join("store/manifest.json")).unwrap();
    assert!(manifest.contains("Miranda-Correa") && manifest.contains("checksum is wrong"));
    for (arguments, code, words) in [
        (
            vec!["prepare", "--dataset", "amigo", &amigos, "--dry-run"],
            2,
            ["amigos, ascertain, case", "remedy"],
        ),
        (
            vec!["prepare", "--dataset", "dreamer", &amigos, "--dry-run"],
            5,
            ["DREAMER.mat", "Data_Preprocessed_P01.mat"],
        ),
        (vec!["prepare", "--dataset", "amigos", &amigos, "--dry-run", "--strict"], 4, ["checksum", "P02"]),
        (vec!["prepare", "--dataset", "amigos", "--dry-run"], 2, ["one folder", "remedy"]),
        (vec!["prepare", "x.csv"], 2, ["--out", "required"]),
    ] {
        let output = run(&arguments, here);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output));
        for words in words {
            assert!(text(&output).contains(words), "{arguments:?}: {}", text(&output));
        }
    }
}
