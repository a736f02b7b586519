//! WFDB records in every format, layout and annotation field, against wfdb-python, bit for bit. Damaged: tests/damage.rs.
#![cfg(feature = "formats")]

use std::fs;
use std::path::{Path, PathBuf};

use heartlore::Result;
use heartlore::data::npy;
use heartlore::data::readers::wfdb::annotations;
use heartlore::data::readers::{self, Only, ReadOptions};
use heartlore::data::recording::{Recording, Unit};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/data/wfdb").join(name)
}

fn open(path: &Path) -> Result<Recording> {
    readers::open(path, &ReadOptions::default())
}

/// Equal to the last bit, NaN where NaN is due.
fn same_bits(got: &[f64], expected: &[f64], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!(a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()), "{what}, sample {i}: {a} not {b}");
    }
}

fn same_columns(r: &Recording, expected: &npy::Array, what: &str) {
    let n = r.channels.len();
    assert_eq!(expected.shape, [r.channels[0].samples.len(), n], "{what}");
    for (c, channel) in r.channels.iter().enumerate() {
        let column: Vec<f64> = expected.values.iter().skip(c).step_by(n).copied().collect();
        same_bits(&channel.samples, &column, &format!("{what}, channel {c}"));
    }
}

fn expected(name: &str) -> npy::Array {
    npy::read(&fixture(&format!("{name}_expected.npy"))).unwrap()
}

const FORMATS: [&str; 10] =
    ["f8_30", "f24_20", "f32_20", "f61_20", "f80_20", "f160_20", "f310_20", "f310_25", "f311_20", "f311_25"];

#[test]
fn every_format_as_wfdb_python_reads_it() {
    for name in FORMATS {
        let r = open(&fixture(&format!("{name}.hea"))).unwrap();
        // No warning: length and both checksums agree, those of the differences too.
        assert_eq!(r.warnings, Vec::<String>::new(), "{name}");
        same_columns(&r, &expected(name), name);
        let missing = usize::from(name != "f8_30");
        assert_eq!((r.channels[0].missing(), r.channels[1].missing()), (0, missing), "{name}");
    }
}

#[test]
fn flac_as_wfdb_python_reads_it() {
    for (name, missing) in [("flac508", 1), ("flac516", 1), ("flac524", 0), ("flacstereo", 0)] {
        let r = open(&fixture(&format!("{name}.hea"))).unwrap();
        assert_eq!(r.warnings, Vec::<String>::new(), "{name}");
        same_columns(&r, &expected(name), name);
        assert_eq!(r.channels[0].missing(), missing, "{name}");
    }
    // Several samples per frame, from a sample within the stream on.
    let r = open(&fixture("flac2.hea")).unwrap();
    assert_eq!((r.warnings.len(), r.channels[0].fs_hz), (0, 250.0), "{:?}", r.warnings);
    for (i, channel) in r.channels.iter().enumerate() {
        same_bits(&channel.samples, &expected(&format!("flac2_{i}")).values, &channel.label);
    }
    for (from, to, words) in [
        ("flac516 4", "flac516 3", "4 channels of 16 bits where the header describes 3"),
        (" 516 ", " 508 ", "of 16 bits where the header describes 4 of at most 8"),
        ("flac516.dat 516 200", "flac516.dat 516x2 200", "different rates"),
        ("flac516 4 250 600", "flac516 4 250 700", ""),
    ] {
        let dir = copied(&["flac516.hea", "flac516.dat"]);
        let path = dir.path().join("flac516.hea");
        fs::write(&path, fs::read_to_string(&path).unwrap().replace(from, to)).unwrap();
        match open(&path) {
            Ok(r) => {
                assert!(words.is_empty() && r.warnings[0].contains("claims 700 samples"), "{:?}", r.warnings)
            }
            Err(e) => assert!(!words.is_empty() && e.to_string().contains(words), "{to}: {e}"),
        }
    }
}

#[test]
fn several_files_rates_offsets_and_skew() {
    let r = open(&fixture("many.hea")).unwrap();
    assert_eq!(r.warnings, Vec::<String>::new());
    let rates: Vec<f64> = r.channels.iter().map(|c| c.fs_hz).collect();
    assert_eq!(rates, [50.0, 200.0, 100.0]);
    for (i, channel) in r.channels.iter().enumerate() {
        same_bits(&channel.samples, &expected(&format!("many_{i}")).values, &channel.label);
    }
    assert_eq!((r.channels[0].missing(), r.channels[2].missing(), r.files.len()), (3, 4, 3));
    let one = ReadOptions { only: Some(Only::Ecg), ..ReadOptions::default() };
    let one = readers::open(&fixture("many.hea"), &one).unwrap();
    assert_eq!((&one.channels[..], one.files.len()), (&r.channels[1..2], 2));
}

#[test]
fn segments_of_fixed_and_variable_layout() {
    let r = open(&fixture("fix.hea")).unwrap();
    assert_eq!(r.warnings, Vec::<String>::new());
    same_columns(&r, &expected("fix"), "fixed");
    let r = open(&fixture("var.hea")).unwrap();
    assert_eq!(r.warnings, Vec::<String>::new());
    assert_eq!(r.record, "var");
    same_columns(&r, &expected("var"), "variable");
    let one = ReadOptions { only: Some(Only::Label("III".into())), ..ReadOptions::default() };
    let one = readers::open(&fixture("var.hea"), &one).unwrap();
    assert_eq!((one.channels.len(), one.channels[0].missing()), (1, 17));
}

#[test]
fn annotations_with_every_field() {
    let read = annotations::parse(&fs::read(fixture("full.atr")).unwrap(), 1.0);
    // The file states its own rate.
    assert_eq!((read.fs_hz, read.warnings.len()), (360.0, 0));
    let lines: Vec<String> = read
        .list
        .iter()
        .map(|a| format!("{},{},{},{},{},{}", a.sample, a.symbol, a.subtype, a.channel, a.number, a.aux))
        .collect();
    let expected = fs::read_to_string(fixture("full_expected.csv")).unwrap();
    assert_eq!(lines, expected.lines().collect::<Vec<_>>());
    let beats: Vec<i64> = read.list.iter().filter(|a| a.is_beat()).map(|a| a.sample).collect();
    assert_eq!(beats, [5, 90, 3000, 70_010]);
    let own = annotations::parse(&fs::read(fixture("own.atr")).unwrap(), 1.0);
    let own: Vec<(i64, &str)> = own.list.iter().map(|a| (a.sample, a.symbol.as_str())).collect();
    assert_eq!(own, [(4, "N"), (8, "W")]);
}

#[test]
fn other_annotators_serve_where_there_is_no_atr() {
    let dir = copied(&["fix.hea", "fix_1.hea", "fix_1.dat", "fix_2.hea", "fix_2.dat"]);
    fs::copy(fixture("full.atr"), dir.path().join("fix.qrs")).unwrap();
    let r = open(&dir.path().join("fix.hea")).unwrap();
    assert_eq!((r.annotations[0].time_s, r.annotations[2].text.as_str()), (5.0 / 360.0, "+ (VT"));
    fs::copy(fixture("own.atr"), dir.path().join("fix.atr")).unwrap();
    assert_eq!(open(&dir.path().join("fix.hea")).unwrap().annotations.len(), 2);
}

fn copied(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        fs::copy(fixture(name), dir.path().join(name)).unwrap();
    }
    dir
}

#[test]
fn records_that_cannot_be_read_say_why() {
    let names = ["var.hea", "var_layout.hea", "var_1.hea", "var_1.dat", "var_2.hea", "var_2.dat"];
    for (file, from, to, words) in [
        ("var.hea", "~ 7", "~ 99999999", &["signal 'II'", "less than 1 in 16", "one by one"][..]),
        ("var.hea", "var_2 12", "var_1 10", &["'var_1' occurs twice"]),
        ("var.hea", "var_1", "../var_1", &["no name of a segment"]),
        ("var.hea", "var_1", "none", &["none.hea"]),
        ("var.hea", "var/4", "var/5", &["5 segments announced, 4 described"]),
        ("var.hea", "var/4", "var/x", &["number of segments"]),
        ("var.hea", "var_1 10", "var_1 0", &["'var_1' has no number of samples"]),
        ("var_1.hea", "125", "250", &["250 Hz", "125 Hz", "var_1.hea"]),
        ("var_1.hea", "var_1 2", "var_1/1 2", &["a segment"]),
        ("var_1.hea", "250/mV", "250/uV", &["'II' is in uV here and in mV before"]),
        ("var_1.hea", " 16 ", " 16x2 ", &["changes its sampling rate"]),
        ("var_1.hea", " 16 ", " 516 ", &["not a FLAC stream", "var_1.dat"]),
        ("var_1.hea", " 16 ", " 17 ", &["format '17'"]),
    ] {
        let dir = copied(&names);
        let path = dir.path().join(file);
        fs::write(&path, fs::read_to_string(&path).unwrap().replace(from, to)).unwrap();
        let error = open(&dir.path().join("var.hea")).unwrap_err().to_string();
        assert!(words.iter().all(|w| error.contains(w)), "{to}: {error}");
    }
    // A unit given by the user serves where the file's is unknown.
    let dir = copied(&["f61_20.hea", "f61_20.dat"]);
    let path = dir.path().join("f61_20.hea");
    fs::write(&path, fs::read_to_string(&path).unwrap().replace("/mV", "/hop")).unwrap();
    let options = ReadOptions { unit: Some(Unit::Microvolt), ..ReadOptions::default() };
    assert_eq!(readers::open(&path, &options).unwrap().channels[0].unit, Unit::Microvolt);
}
