//! Every reader against damage: files cut off at every byte, and files with changed bytes. None may panic, and none may hold
//! more memory than a stated multiple of the files' size (the number beside each file below; 64 KiB, or what is stated, are
//! free). By default a few hundred changed files each; with 10,000 of each:
//!
//!     cargo test --release --test damage -- --ignored --nocapture
#![cfg(feature = "formats")]
#![allow(clippy::print_stdout, reason = "what was held, shown by --nocapture")]

mod torture;
mod watched;

use std::fs;
use std::path::{Path, PathBuf};

use heartlore::Result;
use heartlore::data::datasets::find;
use heartlore::data::matlab::{MatOptions, open_mat};
use heartlore::data::readers::{self, Only, ReadOptions, Reader};
use heartlore::data::recording::Recording;
use heartlore::data::{npy, table};
use torture::{Damage, FREE, Victim, torture};

const FEW: Damage = Damage { rounds: 300, cuts: 700 };
const MANY: Damage = Damage { rounds: 10_000, cuts: usize::MAX };

/// A quick test of this name, and one of all rounds.
macro_rules! both {
    ($($name:ident),* $(,)?) => {
        mod few { $(#[test] fn $name() { super::$name(super::FEW) })* }
        mod ten_thousand {
            $(#[test] #[ignore = "10,000 changed files of each kind, minutes"] fn $name() { super::$name(super::MANY) })*
        }
    };
}

both!(
    csv,
    text_layouts,
    compressed,
    opensignals,
    npy_files,
    npz,
    edf,
    bdf,
    wfdb,
    wfdb_formats,
    wfdb_flac,
    wfdb_segments,
    wfdb_annotations,
    packed,
    matlab_v4,
    matlab_v5,
    matlab_v73,
    opensignals_hdf5,
    data_sets,
    tables
);

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles").join(name)
}

/// Copies of these files, in a folder of their own.
fn copied(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let file = fixture(name);
        fs::copy(&file, dir.path().join(file.file_name().unwrap())).unwrap();
    }
    dir
}

fn open(path: &Path) -> Result<Recording> {
    readers::open(path, &ReadOptions::default())
}

fn at(fs_hz: f64) -> ReadOptions {
    ReadOptions { fs_hz: Some(fs_hz), ..ReadOptions::default() }
}

/// Damages one file of `dir` while `read` reads the record.
fn hurt(
    dir: &tempfile::TempDir,
    name: &str,
    multiple: usize,
    damage: Damage,
    read: impl Fn() -> Result<Recording>,
) {
    let victim = Victim { file: dir.path().join(name), root: dir.path(), free: FREE, multiple };
    torture(&victim, damage, read);
}

/// A value takes 8 bytes, and at least two in the text; the file, its text and growing vectors come on top, and gaps of up
/// to three times the samples.
const TEXT: usize = 48;

fn csv(damage: Damage) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.csv");
    let rows: String = (0..40).map(|i| format!("{:.2},{},{}\n", f64::from(i) * 0.01, i * 3, i % 7)).collect();
    fs::write(&path, format!("# c\ntime_s,ecg_mV,x\n{rows}")).unwrap();
    hurt(&dir, "x.csv", TEXT, damage, || open(&path));
    let tsv = rows.replace(',', "\t");
    fs::write(&path, format!("time_s\tECG [uV]\tx\n{tsv}")).unwrap();
    hurt(&dir, "x.csv", TEXT, damage, || open(&path));
}

/// Tables in other layouts: header blocks, UTF-16, stamps with a gap, decimal commas, text beside numbers, blanks, rows of
/// units.
fn text_layouts(damage: Damage) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.csv");
    let value = |i: u32| f64::from(i * 37 % 101) / 100.0;
    let rows = |row: &dyn Fn(u32) -> String| -> String { (0..40).map(|i| row(i) + "\n").collect() };
    let late = |i: u32| f64::from(i) * 0.01 + if i < 20 { 0.0 } else { 0.3 };
    let tables = [
        "Sample Rate,512 hertz\nLead,Lead I\nUnit,mV\n\n".to_string()
            + &rows(&|i| format!("{:.2}", value(i))),
        "t;ecg [mV];event\n".to_string()
            + &rows(&|i| {
                format!("{:.2};{:.2};{}", late(i), value(i), if i == 3 { "go" } else { "" }).replace('.', ",")
            }),
        "time ecg\n".to_string() + &rows(&|i| format!("2021-05-05 09:00:{:06.3} {:.2}", late(i), value(i))),
        "'Elapsed time','MLII'\n'seconds','mV'\n".to_string()
            + &rows(&|i| format!("{:.2},{:.2}", late(i), value(i))),
        "a.acq\n4 msec/sample\n1 channels\nECG\nmV\nmin\tCH1\t\n\t40\t\n".to_string()
            + &rows(&|i| format!("{:.8}\t{:.2}\t", f64::from(i) * 0.004 / 60.0, value(i))),
        rows(&|i| format!("{:.2}", value(i)).replace('.', ",")),
    ];
    for (k, table) in tables.iter().enumerate() {
        let wide = k % 2 == 1;
        let bytes: Vec<u8> = match wide {
            true => [0xfeffu16].into_iter().chain(table.encode_utf16()).flat_map(u16::to_le_bytes).collect(),
            false => table.clone().into_bytes(),
        };
        fs::write(&path, bytes).unwrap();
        // The lines that the sniffer looks at, and their tallies, are free.
        let options = if k == 5 { at(100.0) } else { ReadOptions::default() };
        let victim = Victim { file: path.clone(), root: dir.path(), free: 1 << 18, multiple: TEXT };
        torture(&victim, damage, || readers::open(&path, &options));
    }
}

/// Archives whose content is stored as it is; what a deflated one unfolds to counts as its size.
fn compressed(damage: Damage) {
    use std::io::Write;
    let table: String = (0..40).map(|i| format!("{:.2},{}\n", f64::from(i) * 0.01, i * 3 % 7)).collect();
    let table = format!("time_s,ecg_mV\n{table}");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    gzip.write_all(table.as_bytes()).unwrap();
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("x.csv", stored).unwrap();
    zip.write_all(table.as_bytes()).unwrap();
    for (name, bytes) in [("x.csv.gz", gzip.finish().unwrap()), ("x.zip", zip.finish().unwrap().into_inner())]
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        // The inflater's window and the buffers of copying are free.
        let few = Damage { rounds: damage.rounds / 3, cuts: damage.cuts / 3 };
        let victim = Victim { file: path.clone(), root: dir.path(), free: 1 << 20, multiple: TEXT };
        torture(&victim, few, || open(&path));
    }
}

fn opensignals(damage: Damage) {
    let dir = copied(&["data/opensignals.txt"]);
    let path = dir.path().join("opensignals.txt");
    hurt(&dir, "opensignals.txt", TEXT, damage, || open(&path));
}

fn npy_files(damage: Damage) {
    for name in ["a_lef8.npy", "a_bei2.npy", "a_bef4.npy", "version3.npy", "a_bef8.npy"] {
        let dir = copied(&[&format!("data/{name}")]);
        let path = dir.path().join(name);
        hurt(&dir, name, TEXT, damage, || readers::open(&path, &at(10.0)));
    }
}

/// Deflated data unfold to at most 1,032 times their size; what is held for each byte of that is as for `.npy`. The
/// inflater's own window and tables are free.
fn npz(damage: Damage) {
    for name in ["S2.npz", "S3.npz"] {
        let dir = copied(&[&format!("datasets/wesad/{name}")]);
        let path = dir.path().join(name);
        let options = ReadOptions { record: Some("ecg".into()), ..ReadOptions::default() };
        let victim = Victim { file: path.clone(), root: dir.path(), free: 1 << 20, multiple: 64 };
        torture(&victim, damage, || readers::open(&path, &options));
    }
}

/// A sample takes 8 bytes, and at least two in the file.
const BINARY: usize = 24;

fn edf(damage: Damage) {
    for name in ["data/plus.edf", "data/edf/gaps.edf", "data/edf/plain.edf"] {
        let dir = copied(&[name]);
        fs::rename(dir.path().join(name.rsplit('/').next().unwrap()), dir.path().join("x.edf")).unwrap();
        let path = dir.path().join("x.edf");
        hurt(&dir, "x.edf", BINARY, damage, || open(&path));
    }
}

fn bdf(damage: Damage) {
    for name in ["plus24.bdf", "plain24.bdf"] {
        let dir = copied(&[&format!("data/edf/{name}")]);
        let path = dir.path().join(name);
        hurt(&dir, name, BINARY, damage, || open(&path));
    }
}

fn wfdb(damage: Damage) {
    for (name, files) in [("rec16", &["hea", "dat", "atr"][..]), ("rec212", &["hea", "dat"])] {
        let all: Vec<String> = files.iter().map(|e| format!("data/{name}.{e}")).collect();
        let dir = copied(&all.iter().map(String::as_str).collect::<Vec<_>>());
        let hea = dir.path().join(format!("{name}.hea"));
        for extension in files {
            hurt(&dir, &format!("{name}.{extension}"), BINARY, damage, || open(&hea));
        }
    }
}

fn wfdb_formats(damage: Damage) {
    for name in ["f8_30", "f24_20", "f32_20", "f61_20", "f80_20", "f160_20", "f310_25", "f311_25"] {
        let (hea, dat) = (format!("{name}.hea"), format!("{name}.dat"));
        let dir = copied(&[&format!("data/wfdb/{hea}"), &format!("data/wfdb/{dat}")]);
        let path = dir.path().join(&hea);
        hurt(&dir, &hea, BINARY, damage, || open(&path));
        hurt(&dir, &dat, BINARY, damage, || open(&path));
    }
    let dir = copied(&["data/wfdb/many.hea", "data/wfdb/many_1.dat", "data/wfdb/many_2.dat"]);
    let path = dir.path().join("many.hea");
    hurt(&dir, "many.hea", BINARY, damage, || open(&path));
}

/// FLAC may unfold to 1024 samples of 12 bytes for each byte; a block is held twice while it is unpacked.
const UNFOLDED: usize = 24 * 1024;

fn wfdb_flac(damage: Damage) {
    for name in ["flac516", "flac508", "flac524", "flac2"] {
        let (hea, dat) = (format!("{name}.hea"), format!("{name}.dat"));
        let dir = copied(&[&format!("data/wfdb/{hea}"), &format!("data/wfdb/{dat}")]);
        let path = dir.path().join(&hea);
        hurt(&dir, &hea, UNFOLDED, damage, || open(&path));
        hurt(&dir, &dat, UNFOLDED, damage, || open(&path));
    }
}

/// With segments 15 of 16 samples may be missing.
const SEGMENTED: usize = 16 * BINARY;

const SEGMENTS: [&str; 6] = [
    "data/wfdb/var.hea",
    "data/wfdb/var_layout.hea",
    "data/wfdb/var_1.hea",
    "data/wfdb/var_1.dat",
    "data/wfdb/var_2.hea",
    "data/wfdb/var_2.dat",
];

fn wfdb_segments(damage: Damage) {
    let dir = copied(&SEGMENTS);
    let path = dir.path().join("var.hea");
    for file in ["var.hea", "var_layout.hea", "var_1.hea", "var_2.dat"] {
        hurt(&dir, file, SEGMENTED, damage, || open(&path));
    }
    let dir = copied(
        &["fix.hea", "fix_1.hea", "fix_1.dat", "fix_2.hea", "fix_2.dat"]
            .map(|f| ["data/wfdb/", f].concat())
            .each_ref()
            .map(String::as_str),
    );
    let path = dir.path().join("fix.hea");
    for file in ["fix.hea", "fix_1.hea"] {
        hurt(&dir, file, SEGMENTED, damage, || open(&path));
    }
}

fn wfdb_annotations(damage: Damage) {
    for name in ["full.atr", "own.atr"] {
        let dir = copied(&SEGMENTS);
        fs::copy(fixture(&format!("data/wfdb/{name}")), dir.path().join("var.atr")).unwrap();
        let path = dir.path().join("var.hea");
        hurt(&dir, "var.atr", SEGMENTED, damage, || open(&path));
    }
}

fn packed(damage: Damage) {
    let dir = tempfile::tempdir().unwrap();
    let samples: Vec<u8> = (0..100i16).flat_map(|x| (x * 10 - 300).to_le_bytes()).collect();
    fs::write(dir.path().join("s.i16"), samples).unwrap();
    let manifest =
        "source,subject,record,lead,label,offset,n128,quality_ok\ns,01,a,II,rest,0,60,1\ns,02,b,,,60,40,0\n";
    let path = dir.path().join("manifest.csv");
    fs::write(&path, manifest).unwrap();
    let options = ReadOptions { record: Some("b".into()), ..ReadOptions::default() };
    for file in ["manifest.csv", "s.i16"] {
        hurt(&dir, file, TEXT, damage, || readers::packed::Packed.read(&path, &options));
    }
}

/// Everything that a MATLAB or HDF5 file holds, by name; errors are welcome.
fn everything(path: &Path, options: &MatOptions) -> Result<Recording> {
    let file = open_mat(path, options)?;
    for v in file.variables() {
        let _ = file.info(&v.name);
        let _ = file.value(&v.name);
        let _ = file.column(&v.name, 0);
        let _ = file.attribute(&v.name, "sampling rate");
    }
    Ok(Recording::default())
}

/// 1 MiB is free for the inflater and the index; values take 8 bytes and more for a stored one, in data that unfold.
fn matlab(names: &[&str], damage: Damage) {
    for name in names {
        let dir = copied(&[&format!("matlab/{name}")]);
        let path = dir.path().join(name);
        let victim = Victim { file: path.clone(), root: dir.path(), free: 1 << 20, multiple: 64 };
        torture(&victim, damage, || everything(&path, &MatOptions::default()));
    }
}

fn matlab_v4(damage: Damage) {
    matlab(&["v4_little.mat", "v4_big.mat"], damage);
}

fn matlab_v5(damage: Damage) {
    matlab(&["hand_little.mat", "hand_big.mat", "hand_little_z.mat", "hand_big_z.mat"], damage);
    matlab(&["code.mat", "surrogate.mat", "trailing.mat", "bad_checksum.mat"], damage);
    // As a recording, through a path.
    let dir = copied(&["matlab/v7.mat"]);
    let path = dir.path().join("v7.mat");
    let options =
        ReadOptions { record: Some("long".into()), only: Some(Only::Label("#2".into())), ..at(100.0) };
    let victim = Victim { file: path.clone(), root: dir.path(), free: 1 << 20, multiple: 64 };
    torture(&victim, damage, || readers::open(&path, &options));
}

/// The crate that reads HDF5 is asked for no more than `max_bytes`, 1 MiB here; it may hold that several times over (chunk,
/// filter, result), whatever the file claims.
fn hdf5(name: &str, damage: Damage) {
    let dir = copied(&[&format!("matlab/{name}")]);
    let path = dir.path().join(name);
    let victim = Victim { file: path.clone(), root: dir.path(), free: 8 << 20, multiple: 64 };
    torture(&victim, damage, || {
        everything(&path, &MatOptions { max_bytes: 1 << 20, ..MatOptions::default() })
    });
}

fn matlab_v73(damage: Damage) {
    hdf5("v73.mat", damage);
}

fn opensignals_hdf5(damage: Damage) {
    hdf5("opensignals.h5", damage);
}

/// Everything below a folder, copied.
fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|e| e.unwrap().path()) {
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy_tree(&entry, &target);
        } else {
            fs::copy(&entry, &target).unwrap();
        }
    }
}

/// The data sets' own readers: finding the recordings, and reading the first of each file.
fn data_sets(damage: Damage) {
    // Cheap enough to be called thousands of times each, but not cheap.
    let damage = Damage { rounds: damage.rounds / 2, ..damage };
    for (name, folder, file) in [
        ("amigos", "amigos", "Data_Preprocessed_P01.mat"),
        ("dreamer", "dreamer", "DREAMER.mat"),
        ("ascertain", "ascertain", "ASCERTAIN_Raw/ECGData/Movie_P09/ECG_Clip1.mat"),
        ("ascertain", "ascertain", "ASCERTAIN_Features/Dt_SelfReports.mat"),
        ("pspm-fr", "pspm", "Data/PsPM-FR_spike_01.mat"),
        ("wesad", "wesad", "S2.npz"),
        ("case", "case", "data/interpolated/physiological/sub_2.csv"),
        ("case", "case", "data/interpolated/annotations/sub_1.csv"),
        ("yaad", "yaad", "ECG_GSR_Emotions/Raw Data/Multimodal/ECG/ECGdata_s1p1v1.dat"),
        ("yaad", "yaad", "ECG_GSR_Emotions/Self-Annotation Labels/Self-annotation Multimodal_Use.csv"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        copy_tree(&fixture("datasets").join(folder), dir.path());
        let file = dir.path().join(file);
        assert!(file.is_file(), "{}", file.display());
        let victim = Victim { file, root: dir.path(), free: 2 << 20, multiple: 64 };
        torture(&victim, damage, || {
            let found = find(name)?.open(dir.path(), false)?;
            for item in found.items.items.iter().filter(|i| i.file == victim.file).take(2) {
                let options = ReadOptions {
                    fs_hz: item.fs_hz,
                    unit: item.unit.clone(),
                    record: item.record.clone(),
                    only: Some(item.channel.clone().map_or(Only::Ecg, Only::Label)),
                    ..ReadOptions::default()
                };
                let _ = readers::open(&item.file, &options);
            }
            Ok(Recording::default())
        });
    }
}

fn tables(damage: Damage) {
    let dir = tempfile::tempdir().unwrap();
    npy::write_f32(&dir.path().join("a.npy"), &[3], &[1.0, 2.0, 3.0]).unwrap();
    let text =
        "file,subject,trial,start_s,end_s,unit,arousal\na.npy,P1,x,0,1.5,mV,7\na.npy,P1,y,1.5,3,mV,2\n";
    let path = dir.path().join("items.csv");
    fs::write(&path, text).unwrap();
    hurt(&dir, "items.csv", 64, damage, || {
        let items = table::read_table(&path)?;
        let _ = items.check();
        Ok(Recording::default())
    });
}
