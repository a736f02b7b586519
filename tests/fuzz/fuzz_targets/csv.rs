#![no_main]
//! CSV, TSV and OpenSignals text.
mod place;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| place::read(&place::put("x.csv", bytes), None));
