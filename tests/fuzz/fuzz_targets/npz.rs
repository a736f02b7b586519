#![no_main]
//! NumPy archives.
mod place;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| place::read(&place::put("x.npz", bytes), Some("ecg")));
