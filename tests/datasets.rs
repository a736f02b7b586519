//! Data sets by name: small folders in their layouts (tests/oracles/datasets.py), and the real ones where they are.
#![cfg(feature = "formats")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use heartlore::data::datasets::{DATASETS, Found, find};
use heartlore::data::prepare::survey::survey;
use heartlore::data::prepare::{PrepareSettings, prepare};
use heartlore::data::readers::{self, Only, ReadOptions};
use heartlore::data::recording::{Recording, Unit};
use heartlore::data::store::Store;
use heartlore::data::table::Item;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/datasets").join(name)
}

fn open(name: &str, part: &str) -> Found {
    find(name).unwrap().open(&folder(part), false).unwrap()
}

fn read(item: &Item) -> heartlore::Result<Recording> {
    let options = ReadOptions {
        fs_hz: item.fs_hz,
        unit: item.unit.clone(),
        record: item.record.clone(),
        only: Some(item.channel.clone().map_or(Only::Ecg, Only::Label)),
        ..ReadOptions::default()
    };
    readers::open(&item.file, &options)
}

/// The script's sawtooth.
fn saw(n: usize, person: usize, recording: usize, channel: usize) -> Vec<f64> {
    (0..n).map(|i| (1000 * person + 100 * recording + 10 * channel + i % 7) as f64).collect()
}

fn item<'a>(found: &'a Found, subject: &str, trial: &str) -> &'a Item {
    let mut fits =
        found.items.items.iter().filter(|i| i.subject == subject && i.trial.as_deref() == Some(trial));
    let item = fits.next().unwrap_or_else(|| panic!("{subject} {trial} in {:#?}", found.items.items));
    assert!(fits.next().is_none());
    item
}

fn labels(found: &Found, item: &Item) -> BTreeMap<String, String> {
    let names = found.items.label_names.iter().cloned();
    names.zip(item.labels.iter().cloned()).filter_map(|(n, l)| Some((n, l?))).collect()
}

fn samples(item: &Item) -> (Vec<f64>, f64, Unit) {
    let mut recording = read(item).unwrap();
    let channel = recording.channels.pop().unwrap();
    assert!(recording.channels.is_empty());
    (channel.samples, channel.fs_hz, channel.unit)
}

fn has(list: &[String], words: &[&str]) -> bool {
    list.iter().any(|l| words.iter().all(|w| l.contains(w)))
}

fn dropped(found: &Found, what: &str, why: &str) -> bool {
    found.dropped.iter().any(|(a, b)| a.contains(what) && b.contains(why))
}

#[test]
fn amigos() {
    let found = open("amigos", "amigos");
    assert_eq!(found.items.items.len(), 6);
    // Videos have another order for each person; cell 2 of person 1 is video 18, of person 2 video 4.
    let one = item(&found, "P01", "18");
    assert_eq!(samples(one), (saw(128 * 7 + 1, 1, 1, 15), 128.0, Unit::Arbitrary));
    assert_eq!(one.start_s, Some(5.0));
    let l = labels(&found, one);
    assert_eq!((l["arousal"].as_str(), l["valence"].as_str(), l["stimulus"].as_str()), ("5.5", "4", "18"));
    assert_eq!((l["happiness"].as_str(), l["sadness"].as_str(), l["disgust"].as_str()), ("0", "1", "1"));
    let other = item(&found, "P02", "18");
    assert_eq!(samples(other).0, saw(128 * 7, 2, 0, 15));
    assert_eq!(labels(&found, other)["valence"], "5");
    assert!(dropped(&found, "P01 video N1", "empty cell") && dropped(&found, "P02 video P1", "empty cell"));
    // A column of NaN is read as it is; a trial without rating keeps its video only.
    let silent = item(&found, "P02", "N1");
    assert!(samples(silent).0.iter().all(|x| x.is_nan()));
    assert_eq!(labels(&found, silent).len(), 1);
    assert!(has(&found.warnings, &["P02 video N1", "not rated"]));
    assert!(has(&found.warnings, &["38 of 40 subjects are missing"]));
    // A damaged checksum is told with each recording of the variable, and refused when asked.
    assert!(has(&read(other).unwrap().warnings, &["joined_data", "checksum"]));
    assert!(read(one).unwrap().warnings.is_empty());
    let strict = find("amigos").unwrap().open(&folder("amigos"), true).unwrap_err().to_string();
    assert!(strict.contains("checksum") && strict.contains("P02"), "{strict}");
}

#[test]
#[ignore = "known failure: prepare says the AMIGOS-like saw signals of P01 and P02 hold the same samples; a signal that repeats itself should decide nothing (data::content)"]
fn amigos_through_prepare() {
    let found = open("amigos", "amigos");
    let settings = PrepareSettings {
        quality: None,
        filter: None,
        window: 64,
        hop: 64,
        normalisation: heartlore::signal::Normalisation::None,
        ..PrepareSettings::default()
    };
    let look = survey(&found.items, &settings, &mut |_| true).unwrap();
    let part = &look.datasets["amigos"];
    assert_eq!((part.subjects, part.trials, part.recordings, part.short), (2, 6, 6, 2));
    assert_eq!((&part.rates["128"], &part.units["arbitrary"]), (&6, &6));
    // Two columns of NaN, 2 s and 3 samples after the baseline.
    assert_eq!(part.missing, 2 * (2 * 128 + 3));
    assert!((part.seconds - (4 * 256 + 2) as f64 / 128.0).abs() < 1e-9);
    let arousal = look.labels.iter().find(|l| l.name == "arousal").unwrap();
    assert_eq!((arousal.missing, arousal.values["5.5"]), (1, 2));
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("store");
    let report = prepare(&found.items, &settings, &target, &mut |_| true).unwrap();
    // 256 or 257 samples without the baseline: four windows of 64 each.
    assert_eq!(report.counts.windows_kept, 16);
    assert_eq!(report.counts.skipped.len(), 2);
    assert!(report.counts.skipped.iter().all(|s| s.reason.contains("missing samples")));
    let store = Store::open(&target).unwrap();
    let index = store.index();
    let stimulus = index.label_column("stimulus").unwrap();
    assert_eq!((index.subject(0), index.trial(0), index.start_s(0)), ("P01", "4", 5.0));
    assert_eq!(index.label(stimulus, 0), Some("4"));
    let mut window = vec![0f32; 64];
    heartlore::data::source::WindowSource::read(&store, 0, &mut window).unwrap();
    let expected: Vec<f32> = saw(128 * 7, 1, 0, 15)[640..704].iter().map(|x| *x as f32).collect();
    assert_eq!(window, expected);
}

#[test]
fn dreamer() {
    for path in ["dreamer", "dreamer/DREAMER.mat"] {
        let found = open("dreamer", path);
        assert_eq!(found.items.items.len(), 5);
        let one = item(&found, "S03", "film02");
        assert_eq!(samples(one), (saw(301, 3, 1, 0), 256.0, Unit::Arbitrary));
        let l = labels(&found, one);
        assert_eq!((l["valence"].as_str(), l["arousal"].as_str(), l["dominance"].as_str()), ("5", "3", "4"));
        assert_eq!(labels(&found, item(&found, "S02", "film01"))["valence"], "2");
        assert!(dropped(&found, "S02 film 2", "empty cell"));
        assert!(has(&found.warnings, &["3 people where 23"]));
    }
}

#[test]
fn ascertain() {
    for path in ["ascertain", "ascertain/ASCERTAIN_Raw", "ascertain/ASCERTAIN_Raw/ECGData"] {
        let found = open("ascertain", path);
        assert_eq!(found.items.items.len(), 4);
        // Four columns: the lead is the second; seven: the fifth.
        assert_eq!(samples(item(&found, "P01", "clip02")), (saw(402, 1, 2, 1), 256.0, Unit::Arbitrary));
        assert_eq!(samples(item(&found, "P09", "clip01")).0, saw(401, 9, 1, 4));
        let l = labels(&found, item(&found, "P09", "clip01"));
        assert_eq!((l["arousal"].as_str(), l["valence"].as_str()), ("1", "-3"), "{path}");
        assert_eq!(labels(&found, item(&found, "P09", "clip02")).len(), 1);
        assert!(has(&found.warnings, &["P09 clip 1", "128.0 Hz", "256 Hz"]));
        assert!(!has(&found.warnings, &["P01 clip 1"]));
    }
}

#[test]
fn pspm() {
    let found = open("pspm-fr", "pspm");
    assert_eq!(found.items.items.len(), 2);
    let one = item(&found, "01", "PsPM-FR_spike_01");
    assert_eq!(samples(one), (saw(1500, 1, 0, 0), 500.0, Unit::Millivolt));
    // A row instead of a column, a unit that is none, a duration that contradicts the samples.
    let two = item(&found, "02", "PsPM-FR_spike_02");
    assert_eq!(samples(two).0, saw(1500, 2, 0, 0));
    let error = read(two).unwrap().channels[0].to_millivolts(None).unwrap_err().to_string();
    assert!(error.contains("2000") && error.contains("2006") && error.contains("unit"), "{error}");
    assert!(has(&found.warnings, &["PsPM-FR_spike_02", "9 s"]) && found.warnings.len() == 1);
    assert!(dropped(&found, "spike_03", "no ECG channel; the channels are scr, marker"));
    assert!(dropped(&found, "cogent_01", "not a PsPM data file"));
}

#[test]
fn case_yaad_and_wesad() {
    let found = open("case", "case");
    let one = item(&found, "sub01", "video7");
    let mv: Vec<f64> = saw(100, 1, 7, 0).iter().map(|x| x / 1000.0).collect();
    assert_eq!(samples(one), (mv, 1000.0, Unit::Millivolt));
    assert_eq!(labels(&found, one)["valence"], "5.5");
    assert_eq!(labels(&found, one)["arousal"], "3.5");
    assert!(dropped(&found, "sub01 video11", "screen") && dropped(&found, "sub02", "sub_2.csv"));
    assert!(has(&found.warnings, &["28 of 30"]));

    let found = open("yaad", "yaad");
    assert_eq!(samples(item(&found, "m01", "s1v2")), (saw(200, 1, 2, 0), 128.0, Unit::Arbitrary));
    assert_eq!(labels(&found, item(&found, "m01", "s1v2"))["emotion"], "Fear");
    assert_eq!(labels(&found, item(&found, "s01", "s1v2")).len(), 1);
    assert!(has(&found.warnings, &["Single Modal_Use.xlsx", "save it as CSV"]));

    let found = open("wesad", "wesad");
    let trials: Vec<&str> =
        found.items.items.iter().filter(|i| i.subject == "S03").filter_map(|i| i.trial.as_deref()).collect();
    assert_eq!(trials, ["baseline1", "stress1", "baseline2", "amusement1"]);
    let one = item(&found, "S03", "stress1");
    assert_eq!(samples(one), (saw(700, 3, 0, 0), 700.0, Unit::Millivolt));
    assert_eq!((one.start_s, one.end_s), (Some(300.0 / 700.0), Some(400.0 / 700.0)));
    assert_eq!(samples(item(&found, "S02", "stress1")).0, saw(700, 2, 0, 0));
}

#[test]
fn wrong_names_and_folders_are_explained() {
    let error = find("amigo").unwrap_err().to_string();
    for set in DATASETS {
        assert!(error.contains(set.name), "{error}");
        for text in [set.what, set.citation, set.obtain, set.layout, set.labels] {
            assert!(!text.is_empty());
        }
    }
    assert_eq!(find("PSPM_FR").unwrap().name, "pspm-fr");
    for (name, expected) in [
        ("amigos", "Data_Preprocessed_P01.mat"),
        ("dreamer", "DREAMER.mat"),
        ("ascertain", "Movie_P01"),
        ("pspm-vis", "infos and data"),
        ("eegmat", "Subject00_1.edf"),
        ("case", "sub_1.csv"),
        ("yaad", "ECGdata_s1p1v1.dat"),
        ("wesad", "S2.npz"),
        ("mitdb", "100.hea"),
        ("ecgid", "Person_01"),
        ("cinc2017", "A00001.hea"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("holiday.jpg"), b"x").unwrap();
        let set = find(name).unwrap();
        let error = set.open(dir.path(), false).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("holiday.jpg"), "{name}: {error}");
        let error = set.open(&dir.path().join("nothing"), false).unwrap_err().to_string();
        assert!(error.contains("no such file"), "{name}: {error}");
    }
    // Pickles are named, and never read.
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("S2.pkl"), b"\x80\x02.").unwrap();
    let error = find("wesad").unwrap().open(dir.path(), false).unwrap_err().to_string();
    assert!(error.contains("converted") && error.contains("savez"), "{error}");
}

#[test]
fn a_damaged_file_of_a_set_is_dropped_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(folder("amigos/Data_Preprocessed_P01.mat")).unwrap();
    std::fs::write(dir.path().join("Data_Preprocessed_P01.mat"), &whole).unwrap();
    std::fs::write(dir.path().join("Data_Preprocessed_P05.mat"), &whole[..whole.len() - 100]).unwrap();
    let set = find("amigos").unwrap();
    let found = set.open(dir.path(), false).unwrap();
    assert!(found.items.items.iter().all(|i| i.subject == "P01"));
    assert!(dropped(&found, "P05", "cut off"), "{:?}", found.dropped);
    assert!(set.open(dir.path(), true).unwrap_err().to_string().contains("P05"));
}

fn data(part: &str) -> PathBuf {
    let dir = std::env::var_os("HEARTLORE_ECG_DATA")
        .expect("HEARTLORE_ECG_DATA names the folder of real recordings");
    let dir = PathBuf::from(dir).join(part);
    assert!(dir.exists(), "{} is not there", dir.display());
    dir
}

#[test]
#[ignore = "needs real recordings: HEARTLORE_ECG_DATA=FOLDER"]
fn real_data_real_folders() {
    let open = |name: &str, part: &str| find(name).unwrap().open(&data(part), false).unwrap();
    {
        let found = open("eegmat", "raw/eegmat");
        let state = |s: &str| found.items.items.iter().filter(|i| i.labels == [Some(s.to_string())]).count();
        assert_eq!((found.items.items.len(), state("rest"), state("arithmetic")), (6, 3, 3));
        let r = read(&found.items.items[0]).unwrap();
        assert_eq!((r.channels.len(), r.channels[0].label.as_str()), (1, "ECG ECG"));
    }
    {
        let found = open("mitdb", "raw/mitdb");
        assert_eq!(samples(item(&found, "100", "100")).0.len(), 650_000);
        assert!(has(&found.warnings, &["2 records where 48"]));
    }
    {
        let found = open("ecgid", "raw/ecgid");
        let subjects: std::collections::BTreeSet<&str> =
            found.items.items.iter().map(|i| i.subject.as_str()).collect();
        assert_eq!(subjects.into_iter().collect::<Vec<_>>(), ["Person_01", "Person_02"]);
        assert_eq!(samples(&found.items.items[0]).1, 500.0);
    }
    {
        let found = open("cinc2017", "raw/cinc2017");
        assert_eq!(found.items.items.len(), 5);
        assert!(found.items.items.iter().all(|i| samples(i).1 == 300.0));
    }
}

#[test]
fn gudb_maus_and_drivedb_made_to_their_layouts() {
    let dir = tempfile::tempdir().unwrap();
    let put = |path: &str, bytes: &[u8]| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let rows =
        |n: usize, row: &dyn Fn(usize) -> String| -> String { (0..n).map(|i| row(i) + "\n").collect() };
    let wave = |i: usize| (i * 37 % 101) as f64 * 1e-5;
    for task in ["sitting", "maths"] {
        let text = rows(500, &|i| {
            format!("{:.6} {:.6} {:.6} 0.1 0.2 {:.3}", wave(i), -wave(i), 0.0, (i % 9) as f64)
        });
        put(&format!("gudb/subject_03/{task}/ECG.tsv"), text.as_bytes());
    }
    put("gudb/subject_03/maths/annotation_cs.tsv", b"100\n300\n");
    let found = find("gudb").unwrap().open(&dir.path().join("gudb"), false).unwrap();
    let one = item(&found, "subject_03", "maths");
    let (samples, fs, unit) = samples_of(one);
    assert!((samples[7] - wave(7)).abs() < 1e-9);
    assert_eq!((samples.len(), fs, unit), (500, 250.0, Unit::Volt));
    assert_eq!((labels(&found, one)["task"].as_str(), found.items.items.len()), ("maths", 2));
    assert!(has(&found.warnings, &["1 people where 25"]));

    // The second trial is shorter: its column ends with empty fields.
    let cell = |i: usize| if i < 300 { format!("{}", wave(i)) } else { String::new() };
    let text = "Trial 1:0back,Trial 2:2back,Trial 3:3back\n".to_string()
        + &rows(500, &|i| format!("{},{},{}", wave(i), cell(i), wave(i + 1)));
    put("maus/Data/Raw_data/004/inf_ecg.csv", text.as_bytes());
    let found = find("maus").unwrap().open(&dir.path().join("maus"), false).unwrap();
    let two = item(&found, "004", "trial2");
    let (samples, fs, unit) = samples_of(two);
    let missing = samples.iter().filter(|v| v.is_nan()).count();
    assert!((samples[5] - wave(5)).abs() < 1e-9);
    assert_eq!((missing, fs, unit), (200, 256.0, Unit::Arbitrary));
    assert_eq!(labels(&found, two)["n_back"], "2");
    assert_eq!(found.items.items.len(), 3);

    let digital: Vec<u8> = (0..4 * 300i16).flat_map(|i| (i % 97).to_le_bytes()).collect();
    // Two samples of the ECG in a frame, one of each of the others: the rate of a frame is 248 Hz here.
    put("drivedb/drive05.hea", b"drive05 3 248 300\ndrive05.dat 16x2 1000 16 0 0 0 0 ECG\ndrive05.dat 16 1000 16 0 0 0 0 EMG\ndrive05.dat 16 1 16 0 0 0 0 HR\n");
    put("drivedb/drive05.dat", &digital);
    let found = find("drivedb").unwrap().open(&dir.path().join("drivedb"), false).unwrap();
    let (samples, fs, _) = samples_of(item(&found, "drive05", "drive05"));
    assert_eq!((samples.len(), fs, &samples[..3]), (600, 496.0, &[0.0, 0.001, 0.004][..]));
    assert!(has(&found.warnings, &["1 drives count as one person each"]));
    for name in ["gudb", "maus", "drivedb", "ludb"] {
        let error = find(name).unwrap().open(&folder("amigos"), false).unwrap_err().to_string();
        assert!(error.contains(&format!("this is not {}", name.to_uppercase())), "{error}");
    }
}

/// As [`samples`], with the text options of the item.
fn samples_of(item: &Item) -> (Vec<f64>, f64, Unit) {
    let options = ReadOptions {
        fs_hz: item.fs_hz,
        unit: item.unit.clone(),
        time_column: item.time_column.clone(),
        only: Some(item.channel.clone().map_or(Only::Ecg, Only::Label)),
        text: item.text.clone(),
        ..ReadOptions::default()
    };
    let mut recording = readers::open(&item.file, &options).unwrap();
    let channel = recording.channels.pop().unwrap();
    (channel.samples, channel.fs_hz, channel.unit)
}
