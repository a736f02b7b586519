#![no_main]
//! EDF, EDF+, BDF and BDF+; by content, not by name.
mod place;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| place::read(&place::put("x.edf", bytes), None));
