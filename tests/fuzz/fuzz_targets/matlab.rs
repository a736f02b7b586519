#![no_main]
//! MATLAB files of versions 4 and 5, every variable; in memory.

use heartlore::data::matlab::{MatFile, MatOptions};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) =
        MatFile::from_bytes(bytes.to_vec(), &MatOptions { max_bytes: 1 << 24, ..MatOptions::default() })
    {
        for v in file.variables() {
            let _ = file.info(&v.name);
            let _ = file.value(&v.name);
            let _ = file.column(&v.name, 0);
        }
    }
});
