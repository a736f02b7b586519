//! Files that a repository or a server gave in place of the data are named as what they are, wherever they are read; keys
//! that Hugging Face's tools add to a model's files are passed over, others are not.
#![cfg(feature = "formats")]

use heartlore::Model;
use heartlore::data::prepare::{PrepareSettings, prepare};
use heartlore::data::readers::{self, ReadOptions, packed};
use heartlore::data::{npy, store::Store, table};
use heartlore::model::{CONFIG, PREPROCESSOR, Preprocessing, QualityGate, Task, WEIGHTS};
use heartlore::nn::{MaskConfig, ModelConfig};
use heartlore::signal::Normalisation;
use std::fs;
use std::path::Path;

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\n\
                       oid sha256:0000000000000000000000000000000000000000000000000000000000000000\nsize 347000\n";

fn named<T>(result: heartlore::Result<T>, file: &str) {
    let Err(e) = result else { panic!("{file} is taken for data") };
    let text = e.to_string();
    for part in ["this is a git-lfs pointer", "git lfs pull", file] {
        assert!(text.contains(part), "{file}: no '{part}' in {text}");
    }
}

fn small() -> Model {
    let config = ModelConfig {
        window: 16,
        channels: vec![4],
        kernels: vec![3],
        strides: vec![4],
        layers: 1,
        heads: 2,
        hidden: 4,
        mask: MaskConfig { probability: 0.2, span: 3 },
        ..ModelConfig::tiny()
    };
    Model::init(config, Task::Pretrained, 1).unwrap().with_preprocessing(Preprocessing {
        rate_hz: 128.0,
        window: 16,
        hop: 16,
        filter: None,
        normalisation: Normalisation::None,
        unit: "mV".into(),
        quality_gate: QualityGate::Off,
    })
}

/// Replaces each of `files` in `dir` in turn, and calls `read`.
fn each<T>(dir: &Path, files: &[&str], mut read: impl FnMut() -> heartlore::Result<T>) {
    for name in files {
        let kept = fs::read(dir.join(name)).unwrap();
        for pointer in [POINTER.to_string(), POINTER.replace('\n', "\r\n"), POINTER.replace("v1", "v2")] {
            fs::write(dir.join(name), pointer).unwrap();
            named(read(), name);
        }
        fs::write(dir.join(name), kept).unwrap();
        assert!(read().is_ok(), "{name}");
    }
}

#[test]
fn every_file_of_a_model_and_of_a_store() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("model");
    small().save(&dir).unwrap();
    each(&dir, &[CONFIG, WEIGHTS, PREPROCESSOR], || Model::load(&dir));

    let csv = root.path().join("a.csv");
    let lines: String = (0..3000).map(|i| format!("{}\n", (f64::from(i) * 0.05).sin())).collect();
    fs::write(&csv, format!("ecg [mV]\n{lines}")).unwrap();
    let items = table::file_items(&[csv], "set");
    let settings = PrepareSettings { quality: None, fs_hz: Some(256.0), ..PrepareSettings::default() };
    let dir = root.path().join("store");
    prepare(&items, &settings, &dir, &mut |_| true).unwrap();
    each(&dir, &["manifest.json", "windows.npy", "index.csv"], || Store::open(&dir));
}

#[test]
fn every_kind_of_recording_and_every_file_of_it() {
    let root = tempfile::tempdir().unwrap();
    let options = ReadOptions { fs_hz: Some(100.0), ..ReadOptions::default() };
    let endings = ["csv", "tsv", "txt", "npy", "npz", "edf", "bdf", "rec", "hea", "mat", "bin", "h5", "ecg"];
    for name in endings.map(|e| format!("x.{e}")) {
        fs::write(root.path().join(&name), POINTER).unwrap();
        named(readers::open(&root.path().join(&name), &options), &name);
    }
    named(npy::read(&root.path().join("x.npy")), "x.npy");
    named(table::read_table(&root.path().join("x.csv")), "x.csv");
    named(heartlore::data::matlab::open_mat(&root.path().join("x.mat"), &Default::default()), "x.mat");

    // WFDB: the header is whole, its samples or annotations are a pointer.
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/data");
    for name in ["rec16.hea", "rec16.dat", "rec16.atr"] {
        fs::copy(from.join(name), root.path().join(name)).unwrap();
    }
    fs::write(root.path().join("rec16.dat"), POINTER).unwrap();
    let options = ReadOptions::default();
    named(readers::open(&root.path().join("rec16.hea"), &options), "rec16.dat");
    fs::copy(from.join("rec16.dat"), root.path().join("rec16.dat")).unwrap();
    readers::open(&root.path().join("rec16.hea"), &options).unwrap();

    // The packed format: both files, the samples as short and as long as a pointer.
    let manifest = "source,subject,record,lead,label,offset,n128\nset,1,a,I,,0,50\n";
    fs::write(root.path().join("manifest.csv"), manifest).unwrap();
    let open = || packed::Manifest::open(root.path()).and_then(|m| m.read(&m.entries[0]));
    for text in [POINTER.to_string(), POINTER.replace("size", "more\nsize"), "".into()] {
        fs::write(root.path().join("set.i16"), &text).unwrap();
        if text.is_empty() {
            assert!(open().is_err());
        } else {
            named(open(), "set.i16");
        }
    }
    fs::write(root.path().join("set.i16"), [0; 100]).unwrap();
    assert_eq!(open().unwrap().channels[0].samples.len(), 50);
    fs::write(root.path().join("manifest.csv"), POINTER).unwrap();
    named(packed::Manifest::open(root.path()), "manifest.csv");
}

/// Puts `more` into the JSON object of a file, first thing.
fn add(path: &Path, more: &str) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, text.replacen('{', &format!("{{{more},"), 1)).unwrap();
}

#[test]
fn keys_of_other_tools_are_passed_over_and_misspelt_ones_are_not() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("model");
    small().save(&dir).unwrap();
    let kept = fs::read_to_string(dir.join(CONFIG)).unwrap();
    add(
        &dir.join(CONFIG),
        r#""architectures":["Heartlore"],"transformers_version":"4.44.0","torch_dtype":"float32""#,
    );
    add(&dir.join(CONFIG), r#""_name_or_path":"someone/model","id2label":{"0":"calm"}"#);
    add(&dir.join(PREPROCESSOR), r#""processor_class":"X""#);
    let model = Model::load(&dir).unwrap();
    let mut keys = model.foreign_keys().to_vec();
    keys.sort();
    assert_eq!(
        keys,
        [
            "_name_or_path",
            "architectures",
            "id2label",
            "processor_class",
            "torch_dtype",
            "transformers_version"
        ]
    );
    // They are not carried on.
    model.save(&dir).unwrap();
    assert_eq!(fs::read_to_string(dir.join(CONFIG)).unwrap(), kept);
    assert!(Model::load(&dir).unwrap().foreign_keys().is_empty());

    for (file, key) in [
        (CONFIG, "treshold"),
        (CONFIG, "window"),
        (CONFIG, "sampling_rate"),
        (CONFIG, "Architectures"),
        (PREPROCESSOR, "sampling_rate"),
        (PREPROCESSOR, "quality_gates"),
        (PREPROCESSOR, "do_normalize"),
    ] {
        let kept = fs::read(dir.join(file)).unwrap();
        add(&dir.join(file), &format!("{key:?}:1"));
        let text = Model::load(&dir).unwrap_err().to_string();
        assert!(text.contains(&format!("{key}: this key is not known")) && text.contains(file), "{text}");
        fs::write(dir.join(file), kept).unwrap();
    }
}

#[test]
fn the_gate_of_training_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("model");
    let gates = [
        QualityGate::Unknown,
        QualityGate::Off,
        QualityGate::On(heartlore::signal::QualitySettings { min_beats: 7, ..Default::default() }),
    ];
    for gate in gates {
        let preprocessing = Preprocessing { quality_gate: gate, ..small().preprocessing.clone().unwrap() };
        small().with_preprocessing(preprocessing).save(&dir).unwrap();
        assert_eq!(Model::load(&dir).unwrap().preprocessing.unwrap().quality_gate, gate);
    }
    for (from, to, message) in [
        ("\"min_beats\": 7.0", "\"min_beats\": 7.5", "min_beats"),
        ("\"min_kurtosis\": ", "\"min_curtosis\": ", "quality_gate.min_kurtosis: this key is missing"),
        (
            "\"min_beats\": 7.0",
            "\"min_beats\": 7.0, \"max_beats\": 9.0",
            "quality_gate.max_beats: this key is not known",
        ),
    ] {
        let kept = fs::read_to_string(dir.join(PREPROCESSOR)).unwrap();
        assert!(kept.contains(from), "{kept}");
        fs::write(dir.join(PREPROCESSOR), kept.replace(from, to)).unwrap();
        let text = Model::load(&dir).unwrap_err().to_string();
        assert!(text.contains(message), "{text}");
        fs::write(dir.join(PREPROCESSOR), kept).unwrap();
    }
}
