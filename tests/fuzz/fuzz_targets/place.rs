//! Where a target puts its bytes: readers take paths.

use std::fs;
use std::path::PathBuf;

use heartlore::data::readers::{self, ReadOptions};

/// A folder of this process.
pub fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("heartlore-fuzz-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    folder
}

/// Writes `bytes` as a file of this name.
pub fn put(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    fs::write(&path, bytes).expect("a temporary file");
    path
}

/// Reads the file as a recording, with and without a rate and a record. Errors are welcome, panics are not.
#[allow(dead_code)]
pub fn read(path: &std::path::Path, record: Option<&str>) {
    let record = record.map(str::to_string);
    let _ = readers::open(path, &ReadOptions { record: record.clone(), ..ReadOptions::default() });
    let _ = readers::open(path, &ReadOptions { fs_hz: Some(128.0), record, ..ReadOptions::default() });
}

/// The parts of `bytes` between lines `====`.
#[allow(dead_code)]
pub fn parts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    const MARK: &[u8] = b"\n====\n";
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let all = rest?;
        match all.windows(MARK.len()).position(|w| w == MARK) {
            Some(at) => {
                rest = Some(&all[at + MARK.len()..]);
                Some(&all[..at])
            }
            None => {
                rest = None;
                Some(all)
            }
        }
    })
}
