//! Readers against other programs' files. Against damage: tests/damage.rs.
#![cfg(feature = "formats")]

use std::fs;
use std::path::{Path, PathBuf};

use heartlore::Result;
use heartlore::data::npy;
use heartlore::data::readers::text::{TextOptions, TimeUnit};
use heartlore::data::readers::{self, Only, ReadOptions};
use heartlore::data::recording::{Channel, Recording, Unit, pick_ecg};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/data").join(name)
}

fn open(path: &Path) -> Result<Recording> {
    readers::open(path, &ReadOptions::default())
}

fn open_text(text: &str, options: &ReadOptions) -> Result<Recording> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.csv");
    fs::write(&path, text).unwrap();
    readers::open(&path, options)
}

fn fails(text: &str, options: &ReadOptions, words: &[&str]) {
    let error = open_text(text, options).unwrap_err().to_string();
    assert!(words.iter().all(|w| error.contains(w)), "{words:?} not all in: {error}");
}

fn at(fs_hz: f64) -> ReadOptions {
    ReadOptions { fs_hz: Some(fs_hz), ..ReadOptions::default() }
}

// ---------------------------------------------------------------- channels and units

#[test]
fn the_ecg_is_found_by_its_name() {
    let found = |labels: &[&str]| pick_ecg(labels, None).unwrap();
    assert_eq!(found(&["EEG Fp1", "EEG A2-A1", "ECG ECG"]), 2);
    assert_eq!(found(&["RESP", "V1", "MLII"]), 2);
    assert_eq!(found(&["V5", "V1"]), 0);
    assert_eq!(found(&["I", "II"]), 1);
    assert_eq!(found(&["ECG I", "ECG I filtered"]), 0);
    assert_eq!(found(&["gsr", "ekg1"]), 1);
    assert_eq!(found(&["column 1"]), 0);
    let error = pick_ecg(&["EEG F7", "Resp", "Resp II"], None).unwrap_err().to_string();
    assert!(error.contains("'EEG F7', 'Resp', 'Resp II'"), "{error}");
    assert!(pick_ecg(&["PPG"], None).is_err() && pick_ecg::<&str>(&[], None).is_err());
    assert_eq!(pick_ecg(&["a", "b"], Some("B")).unwrap(), 1);
    assert_eq!(pick_ecg(&["a", "b"], Some("#2")).unwrap(), 1);
    assert!(pick_ecg(&["a", "b"], Some("#3")).unwrap_err().to_string().contains("'a', 'b'"));
}

#[test]
fn units_become_millivolts_or_an_error_that_helps() {
    let channel = |unit: &str| Channel {
        label: "ECG".into(),
        unit: Unit::parse(unit),
        fs_hz: 1.0,
        samples: vec![-1.5, 2.0],
    };
    for (unit, factor) in
        [("mV", 1.0), ("uV", 1e-3), ("\u{b5}V", 1e-3), ("\u{3bc}v", 1e-3), ("V", 1e3), ("a.u.", 1.0)]
    {
        assert_eq!(channel(unit).to_millivolts(None).unwrap(), [-1.5 * factor, 2.0 * factor], "{unit}");
    }
    let error = channel("counts").to_millivolts(None).unwrap_err().to_string();
    assert!(["'counts'", "-1.5 to 2", "unit = \"mV\""].iter().all(|w| error.contains(w)), "{error}");
    assert_eq!(channel("counts").to_millivolts(Some(&Unit::Microvolt)).unwrap(), [-1.5e-3, 2e-3]);
}

// ---------------------------------------------------------------- CSV

#[test]
fn csv_in_its_many_shapes() {
    let r = open_text(
        "# made by hand\ntime_s,ECG [mV],resp\n0.000,1.5,\n0.004,nan,2\n0.008,-0.5,NA\n",
        &ReadOptions::default(),
    )
    .unwrap();
    assert_eq!(r.channels.len(), 2);
    let ecg = r.ecg_channel(None).unwrap();
    assert_eq!((ecg.label.as_str(), &ecg.unit, ecg.fs_hz), ("ECG", &Unit::Millivolt, 250.0));
    assert_eq!((ecg.samples[0], ecg.samples[2], ecg.missing()), (1.5, -0.5, 1));
    assert_eq!(r.channels[1].missing(), 2);
    // Semicolons, decimal commas, stamps in ms, rounded so that steps differ: 360 Hz is 2.777 ms.
    let rows: String =
        (0..500).map(|i| format!("{};{},5\n", (f64::from(i) * 1000.0 / 360.0).round(), i)).collect();
    let r = open_text(&format!("time_ms;ecg_uV\n{rows}"), &ReadOptions::default()).unwrap();
    assert!((r.channels[0].fs_hz - 360.0).abs() < 0.2, "{}", r.channels[0].fs_hz);
    assert_eq!((r.channels[0].samples[3], &r.channels[0].unit), (3.5, &Unit::Microvolt));
    // No header, no time; one column.
    let r = open_text("1\n2\n3\n", &at(100.0)).unwrap();
    assert_eq!((r.channels[0].label.as_str(), r.channels[0].samples.len()), ("column 1", 3));
    // Tabs, no header, the time column by number.
    let text = TextOptions { time_unit: Some(TimeUnit::Seconds), ..TextOptions::default() };
    let options = ReadOptions { time_column: Some("#1".into()), text, ..ReadOptions::default() };
    let r = open_text("0\t7\n0.5\t8\n1\t9\n", &options).unwrap();
    assert_eq!((r.channels[0].fs_hz, r.channels.len()), (2.0, 1));
}

#[test]
fn csv_mistakes_name_their_place() {
    let none = ReadOptions::default();
    fails("ecg\n1\n2\n", &none, &["sampling rate", "fs_hz"]);
    fails("x,ecg\n1,2\n1,oops\n", &at(10.0), &["line 3", "'ecg'", "oops"]);
    fails("x,ecg\n1,2\n1,inf\n", &at(10.0), &["line 3", "finite"]);
    // A column that was not asked for is no reason to refuse the file, but is not passed over in silence.
    let r = open_text("ecg,x\n1,2\n1,oops\n", &at(10.0)).unwrap();
    assert!(r.channels.len() == 1 && r.warnings[0].contains("'x' is left out"), "{:?}", r.warnings);
    fails("ecg,x\n1,2\n1\n", &at(10.0), &["line 3", "1 fields where 2"]);
    fails("ecg\n", &at(10.0), &["no rows"]);
    fails("time_s,ecg\n0,1\n0.01,2\n0.02,2\n", &at(50.0), &["50 Hz", "100 Hz"]);
    fails("time_s,ecg\n0,1\n0.01,2\n0.02,2\n5,1\n5.01,2\n", &none, &["line 5", "not evenly"]);
    fails("time_s,ecg\n0,1\n0.01,2\n0.005,2\n0.03,2\n", &none, &["line 4", "backwards"]);
    fails("time_s,ecg\n0,1\n,2\n0.02,2\n", &none, &["line 3", "time stamp"]);
    fails("time_s,ecg\n0,1\n", &none, &["do not increase"]);
    fails("a,b\n1,2\n", &ReadOptions { time_column: Some("t".into()), ..at(1.0) }, &["'a', 'b'"]);
    fails("1\n", &at(-3.0), &["-3 Hz"]);
}

#[test]
fn unknown_files_are_told_what_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.bin");
    fs::write(&path, [0u8, 159, 146, 150]).unwrap();
    let error = open(&path).unwrap_err().to_string();
    assert!(["EDF", "WFDB", "CSV", "NumPy", "x.bin"].iter().all(|w| error.contains(w)), "{error}");
    fs::write(&path, []).unwrap();
    assert!(open(&path).unwrap_err().to_string().contains("empty"));
    assert!(open(&dir.path().join("none.edf")).is_err());
}

// ---------------------------------------------------------------- npy

#[test]
fn npy_by_row_or_by_column() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    npy::write_f32(&path, &[2, 3], &[1., 2., 3., 4., 5., 6.]).unwrap();
    let r = readers::open(&path, &at(8.0)).unwrap();
    assert_eq!((r.channels.len(), &r.channels[1].samples[..]), (2, &[4., 5., 6.][..]));
    npy::write_f32(&path, &[3, 2], &[1., 2., 3., 4., 5., 6.]).unwrap();
    let r = readers::open(&path, &at(8.0)).unwrap();
    assert_eq!((r.channels.len(), &r.channels[1].samples[..]), (2, &[2., 4., 6.][..]));
    assert!(r.channels[0].to_millivolts(None).is_err());
    assert!(open(&path).unwrap_err().to_string().contains("fs_hz"));
}

// ---------------------------------------------------------------- EDF and WFDB against pyedflib and wfdb-python

fn same(got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len());
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance || (a.is_nan() && b.is_nan()), "sample {i}: {a} against {b}");
    }
}

#[test]
fn edf_plus_as_pyedflib_reads_it() {
    let r = open(&fixture("plus.edf")).unwrap();
    assert_eq!(r.warnings, Vec::<String>::new());
    let labels: Vec<&str> = r.channels.iter().map(|c| c.label.as_str()).collect();
    assert_eq!(labels, ["Resp", "ECG II"]);
    assert_eq!((r.channels[0].fs_hz, r.channels[1].fs_hz), (25.0, 100.0));
    assert_eq!((&r.channels[0].unit, &r.channels[1].unit), (&Unit::Microvolt, &Unit::Millivolt));
    same(&r.channels[0].samples, &npy::read(&fixture("plus_resp.npy")).unwrap().values, 1e-12);
    same(&r.channels[1].samples, &npy::read(&fixture("plus_ecg.npy")).unwrap().values, 1e-12);
    assert_eq!(r.subject.as_deref(), Some("P07"));
    let events: Vec<(f64, &str)> = r.annotations.iter().map(|a| (a.time_s, a.text.as_str())).collect();
    assert_eq!(events, [(1.25, "film starts"), (3.5, "gr\u{fc}n")]);
    let options = ReadOptions { only: Some(Only::Ecg), ..ReadOptions::default() };
    let one = readers::open(&fixture("plus.edf"), &options).unwrap();
    assert_eq!((one.channels.len(), &one.channels[0]), (1, &r.channels[1]));
}

#[test]
fn edf_cut_off_keeps_its_whole_records_and_gaps_become_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.edf");
    let whole = fs::read(fixture("plus.edf")).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let r = open(&path).unwrap();
    assert_eq!(r.channels[1].samples.len(), 500);
    assert!(r.warnings.iter().any(|w| w.contains("cut off")), "{:?}", r.warnings);
    // The same file called discontinuous, with the fourth record two seconds late.
    let mut gap = whole;
    gap[192..197].copy_from_slice(b"EDF+D");
    let late = gap.windows(3).rposition(|w| w == b"+3\x14").unwrap();
    gap[late + 1] = b'5';
    for (from, to) in [(b"+4\x14", b'6'), (b"+5\x14", b'7')] {
        let place = gap.windows(3).rposition(|w| w == from).unwrap();
        gap[place + 1] = to;
    }
    fs::write(&path, &gap).unwrap();
    let r = open(&path).unwrap();
    assert_eq!(r.channels[1].samples.len(), 800);
    assert_eq!(r.channels[1].missing(), 200);
    assert!(r.channels[1].samples[300..500].iter().all(|x| x.is_nan()));
}

/// Equal to the last bit, NaN where NaN is due.
fn same_bits(got: &[f64], name: &str) {
    let expected = npy::read(&fixture(name)).unwrap().values;
    assert_eq!(got.len(), expected.len(), "{name}");
    for (i, (a, b)) in got.iter().zip(&expected).enumerate() {
        assert!(a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()), "{name}, sample {i}: {a} not {b}");
    }
}

#[test]
fn edf_and_bdf_equal_pyedflib_to_the_last_bit() {
    for (file, stem) in
        [("plain.edf", "plain"), ("plain24.bdf", "plain24"), ("plus24.bdf", "plus24"), ("gaps.edf", "gaps")]
    {
        let r = open(&fixture(&format!("edf/{file}"))).unwrap();
        assert_eq!((r.channels.len(), r.channels[0].fs_hz, r.channels[1].fs_hz), (2, 20.0, 8.0), "{file}");
        for (i, channel) in r.channels.iter().enumerate() {
            same_bits(&channel.samples, &format!("edf/{stem}_{i}_expected.npy"));
        }
    }
}

#[test]
fn bdf_annotations_and_the_times_of_a_discontinuous_file() {
    let events = |name: &str| -> Vec<(f64, String)> {
        let r = open(&fixture(name)).unwrap();
        r.annotations.into_iter().map(|a| (a.time_s, a.text)).collect()
    };
    let bdf = events("edf/plus24.bdf");
    assert_eq!(bdf, [(0.5, "begin".into()), (3.25, "sp\u{e4}te Reaktion".into())]);
    // Written as 4.5 s after the header's time; the first sample is at 0.25 s.
    assert_eq!(events("edf/gaps.edf"), [(4.25, "event".into())]);
    let r = open(&fixture("edf/gaps.edf")).unwrap();
    assert!(r.warnings[0].contains("2 gaps of 4.5 s"), "{:?}", r.warnings);
    // Gaps of 2 s and 2.5 s at 20 Hz and 8 Hz.
    assert_eq!((r.channels[0].missing(), r.channels[1].missing()), (90, 36));
    let error = {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.edf");
        let mut bytes = fs::read(fixture("edf/gaps.edf")).unwrap();
        let place = bytes.windows(5).position(|w| w == b"+9.75").unwrap();
        bytes[place..place + 5].copy_from_slice(b"+9e75");
        fs::write(&path, bytes).unwrap();
        open(&path).unwrap_err().to_string()
    };
    assert!(error.contains("gaps of"), "{error}");
}

#[test]
fn opensignals_text() {
    let path = fixture("opensignals.txt");
    let r = open(&path).unwrap();
    assert_eq!(r.warnings, Vec::<String>::new());
    let labels: Vec<&str> = r.channels.iter().map(|c| c.label.as_str()).collect();
    assert_eq!(labels, ["DI", "EDA CH1", "ECG CH2"]);
    let ecg = r.ecg_channel(None).unwrap();
    assert_eq!((ecg.label.as_str(), ecg.fs_hz, ecg.samples.len()), ("ECG CH2", 1000.0, 40));
    assert_eq!((ecg.samples[39], r.start.as_deref()), (32_768.0 + 273.0, Some("2017-2-17 15:23:18.724")));
    // Counts without a scale: the user has to say what they are.
    assert!(ecg.to_millivolts(None).is_err());
    assert!(readers::open(&path, &at(500.0)).unwrap_err().to_string().contains("1000 Hz"));
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("x.txt");
    let text = fs::read_to_string(&path).unwrap();
    let with = |from: &str, to: &str| {
        fs::write(&copy, text.replacen(from, to, 1)).unwrap();
        open(&copy)
    };
    let r = with("7\t0\t1007\t32817\t\n", "").unwrap();
    assert!(r.warnings[0].contains("jumps 1 times"), "{:?}", r.warnings);
    for (from, to, words) in [
        ("\"sampling rate\": 1000", "\"sampling rate\": 0", "no sampling rate"),
        ("\"column\"", "\"colum\"", "names no columns"),
        ("# {", "# {{", "no JSON"),
        ("# {", "# [", "without its header"),
        ("\"DI\", ", "", "5 fields where 3"),
        ("1000\t32768", "1000\tx", "'ECG CH2'"),
    ] {
        let error = with(from, to).unwrap_err().to_string();
        assert!(error.contains(words), "{to}: {error}");
    }
}

#[test]
fn wfdb_as_wfdb_python_reads_it() {
    let r = open(&fixture("rec212.hea")).unwrap();
    assert_eq!(r.warnings, Vec::<String>::new());
    let expected = npy::read(&fixture("rec212_expected.npy")).unwrap();
    assert_eq!(expected.shape, [301, 3]);
    for (c, channel) in r.channels.iter().enumerate() {
        let column: Vec<f64> = expected.values.iter().skip(c).step_by(3).copied().collect();
        same(&channel.samples, &column, 1e-12);
    }
    assert!(r.channels[1].samples[5].is_nan() && r.channels[1].missing() == 1);
    assert_eq!(r.ecg_channel(None).unwrap().label, "ECG II");
    assert_eq!(r.channels[2].unit, Unit::Volt);

    // By its signal file, with annotations.
    let r = open(&fixture("rec16.dat")).unwrap();
    assert!(r.warnings.is_empty(), "{:?}", r.warnings);
    let expected = npy::read(&fixture("rec16_expected.npy")).unwrap();
    same(&r.channels[0].samples, &expected.values.iter().step_by(2).copied().collect::<Vec<_>>(), 1e-12);
    let events: Vec<(f64, &str)> = r.annotations.iter().map(|a| (a.time_s, a.text.as_str())).collect();
    assert_eq!(events, [(3.0 / 128.0, "N"), (20.0 / 128.0, "V"), (45.0 / 128.0, "+ (AFIB")]);
}

/// Copies a WFDB record into `dir` with its header changed.
fn wfdb_with(dir: &Path, name: &str, change: impl Fn(String) -> String) -> PathBuf {
    for extension in ["dat", "atr"] {
        let _ = fs::copy(fixture(&format!("{name}.{extension}")), dir.join(format!("{name}.{extension}")));
    }
    let path = dir.join(format!("{name}.hea"));
    fs::write(&path, change(fs::read_to_string(fixture(&format!("{name}.hea"))).unwrap())).unwrap();
    path
}

#[test]
fn wfdb_headers_that_lie() {
    let dir = tempfile::tempdir().unwrap();
    let with = |change: &dyn Fn(String) -> String| open(&wfdb_with(dir.path(), "rec16", change));
    let r = with(&|h| h.replace("20744", "20745")).unwrap();
    assert!(r.warnings[0].contains("checksum 20744 where the header says 20745"), "{:?}", r.warnings);
    let r = with(&|h| h.replace("128 50", "128 60")).unwrap();
    assert!(
        r.warnings[0].contains("claims 60 samples") && r.channels[0].samples.len() == 50,
        "{:?}",
        r.warnings
    );
    let r = with(&|h| h.replace("128 50", "128 40")).unwrap();
    assert_eq!((r.channels[0].samples.len(), r.warnings.len()), (40, 3), "two checksums and the length");
    // CinC 2017: date before time; comments between the lines.
    let r = with(&|h| h.replace("128 50", "128 50 2014-05-08 05:05:15 ").replacen('\n', "\n# note\n\n", 1))
        .unwrap();
    assert_eq!(r.start.as_deref(), Some("2014-05-08 05:05:15"));
    // The far annotation needs a SKIP.
    fs::copy(fixture("far.atr"), dir.path().join("rec16.atr")).unwrap();
    let hea = dir.path().join("rec16.hea");
    assert_eq!(open(&hea).unwrap().annotations[1].time_s, 5_000_000.0 / 128.0);
    for (from, to, word) in [
        ("rec16 2", "rec16/3 2", "3 segments announced"),
        ("rec16 2", "rec16 9999999", "number of signals"),
        (" 128 ", " -1 ", "sampling rate"),
        (".dat 16 ", ".dat 517 ", "not read"),
        ("rec16.dat", "../none.dat", "none.dat"),
        ("rec16.dat", "..", "no name of a signal file"),
        ("rec16.dat", "none.dat", "none.dat"),
        ("200.0(0)", "x(0)", "gain"),
        (" 16 200", " 16+99999 200", "begin at byte"),
        ("rec16 2", "rec16 3", "3 signals announced"),
    ] {
        let error = with(&|h| h.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(word), "{to}: {error}");
    }
}

// ---------------------------------------------------------------- packed

fn packed(dir: &Path, manifest: &str) -> PathBuf {
    let samples: Vec<u8> = (0..100i16).flat_map(|x| (x * 10 - 300).to_le_bytes()).collect();
    fs::write(dir.join("s.i16"), samples).unwrap();
    fs::write(dir.join("manifest.csv"), manifest).unwrap();
    dir.join("manifest.csv")
}

const PACKED: &str =
    "source,subject,record,lead,label,offset,n128,quality_ok\ns,01,a,II,rest,0,60,1\ns,02,b,,,60,40,0\n";

#[test]
fn packed_records() {
    let dir = tempfile::tempdir().unwrap();
    let path = packed(dir.path(), PACKED);
    let options = ReadOptions { record: Some("b".into()), ..ReadOptions::default() };
    for path in [path.as_path(), dir.path()] {
        let r = readers::open(path, &options).unwrap();
        let ecg = r.ecg_channel(None).unwrap();
        assert_eq!((ecg.samples.len(), ecg.fs_hz, &ecg.unit), (40, 128.0, &Unit::Microvolt));
        assert_eq!((ecg.samples[0], r.subject.as_deref()), (300.0, Some("02")));
    }
    assert!(open(&path).unwrap_err().to_string().contains("holds 2 records"));
    for (from, to, word) in [
        ("60,40", "61,40", "line 3"),
        ("60,40", "18446744073709551615,40", "line 3"),
        ("60,40", "x,40", "line 3, column 'offset'"),
        ("\ns,02", "\n../s,02", "column 'source'"),
        ("40,0", "40,maybe", "column 'quality_ok'"),
        ("offset", "begin", "offset"),
    ] {
        packed(dir.path(), &PACKED.replacen(from, to, 1));
        let error = readers::packed::Packed;
        let error = readers::Reader::read(&error, &path, &options).unwrap_err().to_string();
        assert!(error.contains(word), "{to}: {error}");
    }
}
