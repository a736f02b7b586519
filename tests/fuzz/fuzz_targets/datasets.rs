#![no_main]
//! The text files of single data sets: CASE, YAAD and its labels, the columns of MAUS, the headers of LUDB.
mod place;

use std::fs;

use heartlore::data::datasets::find;
use heartlore::data::readers::{ReadOptions, Reader, open};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let options = ReadOptions { record: Some("7".into()), ..ReadOptions::default() };
    let _ = heartlore::data::datasets::case::Interpolated.read(&place::put("case.csv", bytes), &options);
    let folder = place::folder().join("Multimodal");
    fs::create_dir_all(&folder).expect("a temporary folder");
    let signal = folder.join("ECGdata_s1p1v1.dat");
    let labels = folder.join("Self-annotation Multimodal_Use.csv");
    fs::write(&signal, bytes).expect("a temporary file");
    fs::write(&labels, bytes).expect("a temporary file");
    let _ = open(&signal, &ReadOptions::default());
    fs::write(folder.join("inf_ecg.csv"), bytes).expect("a temporary file");
    fs::write(folder.join("1.hea"), bytes).expect("a temporary file");
    for name in ["yaad", "maus", "ludb"] {
        if let Ok(set) = find(name) {
            let _ = set.open(&folder, false);
        }
    }
});
