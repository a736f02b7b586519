//! Real recordings that are not part of the source: set HEARTLORE_ECG_DATA to a directory with `packed/` and `raw/`
//! (EEGMAT, MIT-BIH, ECG-ID, CinC 2017 from PhysioNet), and run `cargo test --release --test data_real -- --ignored
//! real_data_`; `.ci/run` does it where the folder is.
#![cfg(feature = "formats")]

use std::fs;
use std::path::PathBuf;

use heartlore::data::readers::{self, ReadOptions};
use heartlore::data::recording::{Recording, Unit};
use sha2::Digest;

fn data(part: &str) -> PathBuf {
    let dir = std::env::var_os("HEARTLORE_ECG_DATA")
        .expect("HEARTLORE_ECG_DATA names the folder of real recordings");
    let dir = PathBuf::from(dir).join(part);
    assert!(dir.exists(), "{} is not there", dir.display());
    dir
}

fn open(path: &std::path::Path) -> Recording {
    readers::open(path, &ReadOptions::default()).unwrap()
}

fn files(dir: &std::path::Path, extension: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            out.extend(files(&entry, extension));
        } else if entry.extension().is_some_and(|e| e == extension) {
            out.push(entry);
        }
    }
    out.sort();
    out
}

/// EEGMAT: decoded here once more, from the format's description alone.
#[test]
#[ignore = "needs real recordings: HEARTLORE_ECG_DATA=FOLDER"]
fn real_data_eegmat_ecg_equals_an_independent_decode() {
    let dir = data("raw/eegmat");
    let list = files(&dir, "edf");
    assert!(!list.is_empty());
    for path in list {
        let r = open(&path);
        assert!(r.warnings.is_empty(), "{:?}", r.warnings);
        let ecg = r.ecg_channel(None).unwrap();
        assert_eq!(
            (ecg.label.as_str(), ecg.fs_hz, &ecg.unit, r.channels.len()),
            ("ECG ECG", 500.0, &Unit::Millivolt, 21)
        );
        let b = fs::read(&path).unwrap();
        let number = |at: usize| String::from_utf8_lossy(&b[at..at + 8]).trim().parse::<f64>().unwrap();
        // 21 signals and 57 samples of annotations a second.
        let (n, last) = (22, 20);
        let [pmin, pmax, dmin, dmax] = [104, 112, 120, 128].map(|c| number(256 + c * n + 8 * last));
        let expected: Vec<f64> = b[256 * 23..]
            .chunks_exact(21 * 1000 + 114)
            .flat_map(|record| record[20 * 1000..21 * 1000].chunks_exact(2))
            .map(|s| {
                (f64::from(i16::from_le_bytes([s[0], s[1]])) - dmin) / (dmax - dmin) * (pmax - pmin) + pmin
            })
            .collect();
        assert_eq!(ecg.samples.len(), expected.len());
        // Scales reach thousands of digital steps: 1e-12 of the range is rounding.
        let worst = ecg.samples.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst <= 1e-12 * (pmax - pmin).abs(), "{}: {worst}", path.display());
    }
}

/// Every channel of every raw file against what pyedflib and wfdb-python read, by the SHA-256 of the f64 values.
#[test]
#[ignore = "needs real recordings: HEARTLORE_ECG_DATA=FOLDER"]
fn real_data_every_value_equals_pyedflib_and_wfdb_python_to_the_last_bit() {
    let dir = data("raw");
    let list = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/data/real.csv");
    let list = fs::read_to_string(list).unwrap();
    let (mut seen, mut missing) = (0, Vec::new());
    for (name, expected) in list.lines().filter_map(|l| l.split_once(',')) {
        let path = dir.join(name);
        if !path.is_file() {
            missing.push(name);
            continue;
        }
        let mut sum = sha2::Sha256::new();
        for channel in open(&path).channels {
            channel.samples.iter().for_each(|v| sum.update(v.to_le_bytes()));
        }
        let got: String = sum.finalize().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(got, expected, "{name}");
        seen += 1;
    }
    // The folder holds a part of what was compared once.
    eprintln!("{seen} files are equal, {} are not in the folder: {missing:?}", missing.len());
    assert!(seen > 0);
}

#[test]
#[ignore = "needs real recordings: HEARTLORE_ECG_DATA=FOLDER"]
fn real_data_mitdb_checksums_beats_and_the_shipped_excerpt() {
    let dir = data("raw/mitdb");
    // Beats: the annotation counts that PhysioNet's record descriptions give for records 100 and 208.
    for (name, normal, pvc) in [("100", 2239, 1), ("208", 1586, 992)] {
        let r = open(&dir.join(format!("{name}.hea")));
        assert!(r.warnings.is_empty(), "{:?}", r.warnings);
        assert_eq!((r.channels.len(), r.channels[0].samples.len(), r.channels[0].fs_hz), (2, 650_000, 360.0));
        let count = |code: &str| r.annotations.iter().filter(|a| a.text == code).count();
        assert_eq!((count("N"), count("V")), (normal, pvc), "record {name}");
        if name == "208" {
            let shipped = open(&heartlore::data::shipped::directory().unwrap().join("mitbih208.hea"));
            assert_eq!(r.channels[0].samples[422_820..530_820], shipped.channels[0].samples);
        }
    }
}

#[test]
#[ignore = "needs real recordings: HEARTLORE_ECG_DATA=FOLDER"]
fn real_data_ecgid_and_cinc() {
    let dir = data("raw/ecgid");
    let mut wrong = 0;
    for path in files(&dir, "hea") {
        let r = open(&path);
        assert_eq!((r.channels[0].samples.len(), r.channels[0].fs_hz), (10_000, 500.0));
        assert_eq!(r.ecg_channel(None).unwrap().label, "ECG I");
        assert!(r.warnings.iter().all(|w| w.contains("checksum")), "{:?}", r.warnings);
        wrong += r.warnings.len();
    }
    eprintln!("ECG-ID: {wrong} wrong checksums in the files at hand, of the whole set 22 of 620");
    let dir = data("raw/cinc2017");
    for path in files(&dir, "hea") {
        let r = open(&path);
        // Their headers hold 0 for the checksum.
        assert!(r.warnings.iter().all(|w| w.contains("header says 0")), "{:?}", r.warnings);
        let ecg = r.ecg_channel(None).unwrap();
        let seconds = ecg.duration_s();
        assert!((ecg.fs_hz, &ecg.unit) == (300.0, &Unit::Millivolt) && (seconds == 30.0 || seconds == 60.0));
    }
}

/// The packed records against the raw files they were made from: median removed, resampled, rounded to 1 uV.
#[test]
#[ignore = "needs real recordings: HEARTLORE_ECG_DATA=FOLDER"]
fn real_data_packed_records_resemble_their_raw_files() {
    let (packed, raw) = (data("packed"), data("raw/mitdb"));
    let options = ReadOptions { record: Some("mitdb/100".into()), ..ReadOptions::default() };
    let got = readers::open(&packed, &options).unwrap();
    let got = got.ecg_channel(None).unwrap().to_millivolts(None).unwrap();
    let mv = open(&raw.join("100.hea")).ecg_channel(None).unwrap().to_millivolts(None).unwrap();
    let mut sorted = mv.clone();
    sorted.sort_by(f64::total_cmp);
    let median = sorted[sorted.len() / 2];
    let centred: Vec<f64> = mv.iter().map(|x| x - median).collect();
    let expected = heartlore::signal::resample_poly(&centred, 16, 45).unwrap();
    assert_eq!(got.len(), expected.len());
    let rms = |v: &[f64]| (v.iter().map(|x| x * x).sum::<f64>() / v.len() as f64).sqrt();
    let difference: Vec<f64> = got.iter().zip(&expected).map(|(a, b)| a - b).collect();
    // They used another Kaiser window, so equality is not to be had: 2 % of the signal.
    assert!(rms(&difference) < 0.02 * rms(&expected), "{} of {}", rms(&difference), rms(&expected));
}

/// LUDB as published: every record has lead ii, its rhythm and QRS boundaries in each lead's own annotation file.
#[test]
#[ignore = "needs real recordings: HEARTLORE_ECG_DATA=FOLDER"]
fn ludb_records_and_their_boundaries() {
    use heartlore::data::datasets::{find, ludb::qrs_spans};
    let dir = data("raw/ludb");
    let found = find("ludb").unwrap().open(&dir, false).unwrap();
    assert!(!found.items.items.is_empty());
    for item in &found.items.items {
        let r = open(&item.file);
        assert_eq!((r.channels.len(), r.channels[0].fs_hz, r.channels[0].samples.len()), (12, 500.0, 5000));
        assert!(r.warnings.is_empty(), "{:?}: {:?}", item.file, r.warnings);
        assert_eq!(r.channels[r.ecg_index().unwrap()].label, "ii");
        assert!(item.labels[0].is_some(), "{:?}", item.file);
        for lead in ["i", "ii", "v5"] {
            let spans = qrs_spans(&item.file.with_extension(lead)).unwrap();
            assert!(spans.len() > 3, "{:?} {lead}: {}", item.file, spans.len());
            for [begin, peak, end] in spans {
                assert!(begin < peak && peak < end && end - begin < 150 && end <= 5000);
            }
        }
    }
}
