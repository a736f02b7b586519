#![no_main]
//! NumPy arrays.
mod place;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| place::read(&place::put("x.npy", bytes), None));
