#![no_main]
//! The packed format: manifest and samples s.i16, parted by a line ====.
mod place;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut parts = place::parts(bytes);
    let manifest = place::put("manifest.csv", parts.next().unwrap_or(&[]));
    place::put("s.i16", parts.next().unwrap_or(&[]));
    place::read(&manifest, Some("a"));
});
