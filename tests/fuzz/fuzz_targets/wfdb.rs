#![no_main]
//! A WFDB record: header, signal file x.dat and annotations, parted by lines ====.
mod place;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut parts = place::parts(bytes);
    let header = place::put("x.hea", parts.next().unwrap_or(&[]));
    place::put("x.dat", parts.next().unwrap_or(&[]));
    place::put("x.atr", parts.next().unwrap_or(&[]));
    place::read(&header, None);
});
