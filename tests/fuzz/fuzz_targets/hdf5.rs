#![no_main]
//! MATLAB files of version 7.3, and HDF5 as OpenSignals writes it.
mod place;

use heartlore::data::matlab::{MatOptions, open_mat};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let path = place::put("x.mat", bytes);
    if let Ok(file) = open_mat(&path, &MatOptions { max_bytes: 1 << 24, ..MatOptions::default() }) {
        for v in file.variables() {
            let _ = file.info(&v.name);
            let _ = file.value(&v.name);
            let _ = file.attribute(&v.name, "sampling rate");
        }
    }
});
