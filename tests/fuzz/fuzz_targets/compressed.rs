#![no_main]
//! Gzip files and zip archives around a recording.
mod place;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    place::read(&place::put("x.csv.gz", bytes), None);
    place::read(&place::put("x.zip", bytes), None);
});
