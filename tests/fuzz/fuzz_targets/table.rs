#![no_main]
//! The table of a folder of one's own.
mod place;

use heartlore::data::table;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    place::put("a.npy", b"");
    if let Ok(items) = table::read_table(&place::put("items.csv", bytes)) {
        let _ = items.check();
    }
});
