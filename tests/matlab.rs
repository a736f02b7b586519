//! MATLAB files: every value against SciPy's (tests/oracles/matlab.py), and damage of every sort.
#![cfg(feature = "formats")]

mod watched;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use heartlore::data::matlab::{Array, Class, Data, MatFile, MatOptions, Numbers, ValuePath, open_mat};
use serde_json::Value;
use watched::most_held;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/matlab")
}

fn oracle(path: &Path) -> BTreeMap<String, Value> {
    let all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    all["files"].as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// A number as the script writes it: floats and large integers as text.
fn same_number(x: f64, exact: Option<i128>, json: &Value) -> bool {
    match json {
        Value::String(s) => match s.parse::<i128>() {
            Ok(whole) => exact == Some(whole),
            // Rust reads exactly, to the last bit.
            Err(_) => {
                let json: f64 = s.parse().unwrap();
                json.to_bits() == x.to_bits() || (json.is_nan() && x.is_nan())
            }
        },
        n => n.as_f64() == Some(x),
    }
}

fn same_numbers(numbers: &Numbers, json: &Value, at: &str) {
    let json = json.as_array().unwrap();
    assert_eq!(numbers.len(), json.len(), "{at}");
    for (i, j) in json.iter().enumerate() {
        let (x, exact) = match numbers {
            Numbers::F64(v) => (v[i], (v[i].fract() == 0.0).then_some(v[i] as i128)),
            Numbers::I64(v) => (v[i] as f64, Some(v[i].into())),
            Numbers::U64(v) => (v[i] as f64, Some(v[i].into())),
        };
        assert!(same_number(x, exact, j), "{at}: value {i} is {x}, SciPy has {j}");
    }
}

/// Compares an array with what SciPy read. `old` is a version 4 file, in which SciPy keeps the type of storage.
fn same(array: &Array, json: &Value, old: bool, at: &str) {
    let class = json["class"].as_str().unwrap();
    if class == "unknown" || class == "function" || class == "opaque" {
        return assert!(matches!(array.data, Data::Skipped(_)), "{at}");
    }
    // SciPy shows an empty text of any shape as one of shape 0 or 0x0.
    let dims: Vec<usize> =
        json["dims"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap() as usize).collect();
    if matches!(&array.data, Data::Struct { fields, .. } if fields.is_empty()) {
        // SciPy shows a struct without fields as objects of Python.
        return assert!(["struct", "cell"].contains(&class), "{at}");
    }
    let numeric = array.class.is_numeric();
    if !(old && numeric) {
        assert_eq!(array.class.name(), class, "{at}");
    }
    if array.class != Class::Char || !array.is_empty() {
        // `[]` without any content is 1x0 in SciPy; MATLAB says 0x0.
        let nothing = array.dims == [0, 0] && dims == [1, 0];
        assert!(array.dims == dims || nothing, "{at}: {:?}, SciPy has {dims:?}", array.dims);
    }
    match &array.data {
        Data::Numeric { re, im } => {
            same_numbers(re, &json["re"], at);
            match im {
                Some(im) => same_numbers(im, &json["im"], at),
                None => assert!(json.get("im").is_none(), "{at}"),
            }
        }
        Data::Char(rows) => {
            if let Some(text) = json.get("text") {
                let text: Vec<&str> = text.as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
                // NumPy drops zero characters at the end of a text.
                let rows: Vec<&str> = rows.iter().map(|r| r.trim_end_matches('\0')).collect();
                let text: Vec<&str> = text.iter().map(|r| r.trim_end_matches('\0')).collect();
                assert_eq!(rows, text, "{at}");
            }
        }
        Data::Cell(cells) => {
            let list = json["values"].as_array().unwrap();
            assert_eq!(cells.len(), list.len(), "{at}");
            for (i, (c, j)) in cells.iter().zip(list).enumerate() {
                same(c, j, old, &format!("{at}{{{}}}", i + 1));
            }
        }
        Data::Struct { fields, values, .. } => {
            let names: Vec<&str> =
                json["fields"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
            let list = json["values"].as_array().unwrap();
            assert_eq!(values.len(), list.len(), "{at}");
            if at.starts_with("v73") {
                // HDF5 has its own order of members.
                for (name, j) in names.iter().zip(list) {
                    same(array.field(name).unwrap(), j, old, &format!("{at}.{name}"));
                }
                return;
            }
            assert_eq!(fields, &names, "{at}");
            for (i, (c, j)) in values.iter().zip(list).enumerate() {
                same(c, j, old, &format!("{at}({}).{}", i / names.len() + 1, names[i % names.len()]));
            }
        }
        Data::Sparse { rows, columns, re, im } => {
            // SciPy may leave out stored zeros: compare the values' places.
            let places = |rows: &[usize], columns: &[usize]| -> Vec<(usize, usize)> {
                let column = |i: usize| columns.iter().rposition(|c| *c <= i).unwrap();
                rows.iter().enumerate().map(|(i, r)| (column(i), *r)).collect()
            };
            let list = |key: &str| -> Vec<usize> {
                json[key].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
            };
            assert_eq!(places(rows, columns), places(&list("rows"), &list("columns")), "{at}");
            same_numbers(&Numbers::F64(re.clone()), &json["re"], at);
            match im {
                Some(im) => same_numbers(&Numbers::F64(im.clone()), &json["im"], at),
                None => assert!(json.get("im").is_none(), "{at}"),
            }
        }
        Data::Skipped(why) => panic!("{at}: not read ({why}), SciPy has {json}"),
    }
}

/// Compares all variables.
fn same_file(file: &MatFile, json: &Value, at: &str) {
    let expected = json["variables"].as_object().unwrap();
    let old = file.version() == heartlore::data::matlab::Version::V4;
    let mut seen = 0;
    for variable in file.variables() {
        let path = format!("{at}: {}", variable.name);
        // SciPy does not name an object of a class.
        let Some(json) = expected.get(&variable.name) else {
            assert_eq!(variable.class, Class::Opaque, "{path}");
            continue;
        };
        seen += 1;
        let array = file.value(&variable.name).unwrap();
        assert_eq!((array.class, &array.dims), (variable.class, &variable.dims), "{path}");
        same(&array, json, old, &path);
    }
    assert_eq!(seen, expected.len(), "{at}: {:?}", expected.keys());
}

#[test]
fn every_variant_equals_scipy() {
    let files = oracle(&folder().join("values.json"));
    assert!(files.len() >= 14);
    for (name, json) in &files {
        let file = open_mat(&folder().join(name), &MatOptions::default()).unwrap();
        same_file(&file, json, name);
    }
}

/// All 110 files of SciPy's tests: values equal SciPy's, or refused.
#[test]
#[ignore = "needs the files of SciPy's tests and their values: HEARTLORE_SCIPY_MAT=FOLDER (tests/oracles/matlab.py)"]
fn scipys_own_files() {
    let folder = std::env::var_os("HEARTLORE_SCIPY_MAT").expect("HEARTLORE_SCIPY_MAT names the folder");
    let folder = PathBuf::from(folder);
    let files = oracle(&folder.join("values.json"));
    let (mut equal, mut refused, mut more, mut fewer) = (0, Vec::new(), Vec::new(), Vec::new());
    for (name, json) in &files {
        let read = open_mat(&folder.join(name), &MatOptions::default());
        let read = read.and_then(|file| {
            for v in file.variables() {
                file.value(&v.name)?;
            }
            Ok(file)
        });
        match (read, json.get("refused")) {
            (Ok(file), None) => {
                same_file(&file, json, name);
                equal += 1;
            }
            (Ok(file), Some(why)) => more.push(format!("{name}: {why}; read with {:?}", file.warnings())),
            (Err(e), Some(_)) => refused.push(format!("{name}: {e}")),
            (Err(e), None) => fewer.push(format!("{name}: {e}")),
        }
    }
    assert!(fewer.is_empty(), "SciPy reads these: {fewer:#?}");
    eprintln!("{equal} of {} equal; both refuse {refused:#?}; SciPy alone refuses {more:#?}", files.len());
    assert!(equal >= 100);
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn memory(bytes: Vec<u8>) -> heartlore::Result<MatFile> {
    MatFile::from_bytes(bytes, &MatOptions::default())
}

#[test]
fn paths_lead_to_parts() {
    for name in ["v5.mat", "v7.mat"] {
        let file = open_mat(&folder().join(name), &MatOptions::default()).unwrap();
        let value = |path: &str| file.value(path);
        assert_eq!(value("mixed{1,2}").unwrap().text().unwrap(), "text");
        assert_eq!(value("mixed{3}").unwrap(), value("mixed{1,2}").unwrap());
        assert_eq!(value("mixed{2,1}.c.d").unwrap().into_numbers().unwrap(), [3.0, 4.0]);
        assert_eq!(value("mixed{2,1}.a").unwrap().number().unwrap(), 1.0);
        assert_eq!(value("records(2,1).name").unwrap().text().unwrap(), "r10");
        assert_eq!(value("records(3).name").unwrap().text().unwrap(), "r01");
        assert_eq!(file.info("records").unwrap().fields, ["x", "name"]);
        assert_eq!(value("records(4)").unwrap().field("name").unwrap().text().unwrap(), "r11");
        let deep = format!("deep{}", "{1}".repeat(20));
        assert_eq!(value(&deep).unwrap().number().unwrap(), 1.0);
        let second: Vec<f64> = (0..1500).map(|i| f64::from(2 * i + 1)).collect();
        assert_eq!(file.column("long", 1).unwrap(), second);
        for (path, words) in [
            ("nothing", "no variable 'nothing'"),
            ("mixed{7}", "outside 2x3"),
            ("mixed{3,1}", "outside 2x3"),
            ("mixed.a", "no field"),
            ("records.x", "choose one element"),
            ("records(1).y", "the fields are x, name"),
            ("double{1}", "no cell array"),
            ("double(1)", "struct arrays"),
        ] {
            let error = value(path).unwrap_err();
            assert!(error.to_string().contains(words) && error.to_string().contains(path), "{path}: {error}");
        }
        assert!(file.column("long", 2).unwrap_err().to_string().contains("3 columns"));
    }
    for bad in ["", ".a", "a{", "a{0}", "a{1", "a(x)", "a..b", "a{1}b"] {
        assert!(ValuePath::parse(bad).is_err(), "{bad}");
    }
    let text = "DREAMER.Data{1,2}.ECG.stimuli{3}";
    assert_eq!(ValuePath::parse(text).unwrap().to_string(), text);
}

/// A compressed variable of 24 MB, read here and there: the copies of the inflater's state must agree with a reading from
/// the beginning.
#[test]
fn a_long_compressed_variable_is_read_from_anywhere() {
    let n = 3_000_000usize;
    // Ever-changing values that still compress: a reading that begins at a wrong place cannot go unnoticed.
    let value = |i: usize| ((i * 7919) % 65_521) as u16;
    let mut data = Vec::with_capacity(2 * n);
    (0..n).for_each(|i| data.extend_from_slice(&value(i).to_le_bytes()));
    let element = |code: u32, bytes: &[u8]| {
        let mut out = [code.to_le_bytes(), (bytes.len() as u32).to_le_bytes()].concat();
        out.extend_from_slice(bytes);
        out.resize(out.len().next_multiple_of(8), 0);
        out
    };
    let ints = |v: &[i32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let mut inner = element(6, &ints(&[11, 0]));
    inner.extend(element(5, &ints(&[n as i32 / 3, 3])));
    inner.extend(element(1, b"long"));
    inner.extend(element(4, &data));
    // Four times over, in a cell.
    let cell = element(14, &inner);
    let mut outer = element(6, &ints(&[1, 0]));
    outer.extend(element(5, &ints(&[2, 2])));
    outer.extend(element(1, b"cells"));
    (0..4).for_each(|_| outer.extend_from_slice(&cell));
    let plain = element(14, &outer);
    let zlib = miniz_oxide::deflate::compress_to_vec_zlib(&plain, 1);
    let mut file = b"MATLAB 5.0 MAT-file".to_vec();
    file.resize(124, b' ');
    file.extend_from_slice(&[0, 1, b'I', b'M']);
    file.extend_from_slice(&15u32.to_le_bytes());
    file.extend_from_slice(&(zlib.len() as u32).to_le_bytes());
    file.extend_from_slice(&zlib);
    let size = file.len();
    let ((), held) = most_held(|| {
        let file = memory(file).unwrap();
        for cell in [3, 1, 4, 2, 2] {
            for column in [2, 0, 1] {
                let got = file.column(&format!("cells{{{cell}}}"), column).unwrap();
                assert_eq!(got.len(), n / 3);
                let wrong = got.iter().enumerate().find(|(i, x)| **x != f64::from(value(column * n / 3 + i)));
                assert_eq!(wrong, None);
            }
        }
        assert!(file.warnings().is_empty());
    });
    // The file's head, one column of 8 MB twice while it is handed on, and the states.
    assert!(held < size + (18 << 20), "{held} bytes held");
}

#[test]
fn damage_that_leaves_values_is_told_or_refused() {
    let strict = MatOptions { strict: true, ..MatOptions::default() };
    for (name, words) in [
        ("bad_checksum.mat", "checksum is wrong"),
        ("no_checksum.mat", "without a checksum"),
        ("trailing.mat", "bytes follow"),
    ] {
        let file = open_mat(&folder().join(name), &MatOptions::default()).unwrap();
        assert_eq!(file.value("x").unwrap().into_numbers().unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(file.value("y").unwrap().number().unwrap(), 4.0);
        let warnings = file.warnings();
        assert!(
            warnings.len() == 1 && warnings[0].contains(words) && warnings[0].contains("'x'"),
            "{warnings:?}"
        );
        let file = open_mat(&folder().join(name), &strict).unwrap();
        let error = file.value("x").unwrap_err().to_string();
        assert!(error.contains(words) && error.contains(name) && error.contains("remedy"), "{error}");
        assert_eq!(file.value("y").unwrap().number().unwrap(), 4.0);
    }
    let file = open_mat(&folder().join("code.mat"), &MatOptions::default()).unwrap();
    assert!(matches!(file.value("handle").unwrap().data, Data::Skipped(_)));
    assert!(file.warnings()[0].contains("function handle"));
}

#[test]
fn what_is_no_matlab_file_is_named() {
    for (bytes, words) in [
        (b"".to_vec(), "not a MATLAB file"),
        (b"hello, this is text".to_vec(), "not a MATLAB file"),
        (vec![0u8; 3], "not a MATLAB file"),
        (vec![0xffu8; 300], "not a MATLAB file"),
        ([&[b' '; 124][..], &[0, 9, b'I', b'M']].concat(), "0x0900"),
        ([&2000i32.to_le_bytes()[..], &[0; 60]].concat(), "VAX"),
    ] {
        let error = memory(bytes).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// Reads everything; errors are welcome.
fn read_all(bytes: Vec<u8>) {
    if let Ok(file) = memory(bytes) {
        for v in file.variables() {
            let _ = file.value(&v.name);
            let _ = file.column(&v.name, 0);
        }
    }
}

/// The stated bound: the index, and values at 8 bytes and more for a stored one, in a file that unfolds.
fn bound(len: usize) -> usize {
    (1 << 20) + 64 * len
}

#[test]
fn a_cut_off_file_is_an_error() {
    for name in ["hand_big.mat", "hand_little_z.mat", "v4_little.mat", "v4_big.mat", "code.mat"] {
        let whole = bytes(name);
        for len in 0..whole.len() {
            let part = whole[..len].to_vec();
            let ((), held) = most_held(|| read_all(part.clone()));
            assert!(held < bound(len), "{name} cut at {len}: {held} bytes held");
            // Nothing may be told of a variable that is not whole.
            if let Ok(file) = memory(part) {
                for v in file.variables() {
                    if let Ok(array) = file.value(&v.name) {
                        let whole = memory(whole.clone()).unwrap().value(&v.name).unwrap();
                        assert_eq!(array, whole, "{name} cut at {len}");
                    }
                }
            }
        }
    }
}

#[test]
fn nesting_and_size_are_limited() {
    // 200 cells in each other.
    let ints = |v: &[i32]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let head = |class: i32, rows: i32, columns: i32| {
        let mut out = ints(&[6, 8, class, 0, 5, 8, rows, columns]);
        out.extend(ints(&[1 << 16 | 1, i32::from(b'x')]));
        out
    };
    let wrap = |inner: Vec<u8>| [ints(&[14, inner.len() as i32]), inner].concat();
    let mut nested = wrap([head(6, 1, 1), ints(&[9, 8, 0, 0])].concat());
    for _ in 0..200 {
        nested = wrap([head(1, 1, 1), nested].concat());
    }
    let mut start = vec![b' '; 124];
    start.extend_from_slice(&[0, 1, b'I', b'M']);
    let file = memory([start.clone(), nested].concat()).unwrap();
    assert!(file.value("x").unwrap_err().to_string().contains("64 deep"));
    // Two thousand million elements claimed.
    for class in [1, 2, 4, 5, 6] {
        let claim = wrap([head(class, 50_000, 40_000), ints(&[9, 8, 0, 0])].concat());
        let file = [start.clone(), claim].concat();
        let ((), held) = most_held(|| {
            let file = memory(file).unwrap();
            assert!(file.value("x").is_err(), "class {class}");
        });
        assert!(held < 1 << 20, "class {class}: {held}");
    }
    // A value larger than the limit.
    let options = MatOptions { max_bytes: 1000, ..MatOptions::default() };
    let file = open_mat(&folder().join("v7.mat"), &options).unwrap();
    assert!(file.value("long").unwrap_err().to_string().contains("limit"));
    assert_eq!(file.value("scalar").unwrap().number().unwrap(), 2.0);
}

#[test]
fn matrices_and_arrays_are_recordings() {
    use heartlore::data::readers::{Only, ReadOptions, open};
    let options = |record: &str, fs_hz: Option<f64>, only: &str| ReadOptions {
        record: Some(record.into()),
        fs_hz,
        only: Some(Only::Label(only.into())),
        ..ReadOptions::default()
    };
    for name in ["v5.mat", "v7.mat"] {
        let path = folder().join(name);
        let r = open(&path, &options("long", Some(100.0), "#2")).unwrap();
        let second: Vec<f64> = (0..1500).map(|i| f64::from(2 * i + 1)).collect();
        assert_eq!((r.channels.len(), &r.channels[0].samples, r.channels[0].fs_hz), (1, &second, 100.0));
        let error = |o: &ReadOptions| open(&path, o).unwrap_err().to_string();
        assert!(error(&options("long", None, "#1")).contains("sampling rate"));
        assert!(error(&options("text", Some(1.0), "#1")).contains("no matrix"));
        assert!(error(&options("empty", Some(1.0), "#1")).contains("empty"));
        assert!(error(&ReadOptions::default()).contains("double (double)"));
    }
    let path = folder().join("opensignals.h5");
    let r = open(&path, &options("00:07:80:3B:46:61.raw.channel_2", None, "#1")).unwrap();
    let counts: Vec<f64> = (0..500).map(|i| f64::from(34768 + i % 11)).collect();
    assert_eq!((&r.channels[0].samples, r.channels[0].fs_hz), (&counts, 1000.0));
    let error = open(&path, &options("00:07:80:3B:46:61.raw.channel_2", Some(500.0), "#1")).unwrap_err();
    assert!(error.to_string().contains("1000 Hz"), "{error}");
    // NumPy archives, stored and deflated.
    let sets = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/datasets/wesad");
    for (name, base) in [("S2.npz", 2000), ("S3.npz", 3000)] {
        let path = sets.join(name);
        let r = open(&path, &options("ecg", None, "#1")).unwrap();
        let saw: Vec<f64> = (0..700).map(|i| f64::from(base + i % 7)).collect();
        assert_eq!((&r.channels[0].samples, r.channels[0].fs_hz), (&saw, 700.0));
        let error = open(&path, &options("nothing", None, "#1")).unwrap_err().to_string();
        assert!(error.contains("ecg, label"), "{error}");
        assert!(open(&path, &options("ecg", Some(256.0), "#1")).is_err());
        // Truncation at every 50th byte: an error, or the same values.
        let whole = std::fs::read(&path).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for len in (0..whole.len()).step_by(50) {
            let part = dir.path().join("part.npz");
            std::fs::write(&part, &whole[..len]).unwrap();
            assert!(open(&part, &options("ecg", None, "#1")).is_err());
        }
    }
}
