#![no_main]
//! The sniffer of text tables, with what a user may say about them: the first byte chooses.
mod place;

use heartlore::data::readers::text::{Decimal, Delimiter, Encoding, TextOptions, TimeUnit};
use heartlore::data::readers::{ReadOptions, open};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let path = place::put("x.txt", rest);
    let pick = |shift: u32| choice >> shift & 1 == 1;
    let text = TextOptions {
        delimiter: pick(0).then_some(if pick(1) { Delimiter::Comma } else { Delimiter::Blanks }),
        decimal: pick(2).then_some(if pick(3) { Decimal::Comma } else { Decimal::Point }),
        encoding: pick(4).then_some(if pick(1) { Encoding::Windows1252 } else { Encoding::Utf16Le }),
        time_unit: pick(5).then_some(TimeUnit::Milliseconds),
        skip_rows: usize::from(pick(6)),
    };
    let fs_hz = pick(7).then_some(250.0);
    let _ = open(&path, &ReadOptions { fs_hz, text: text.clone(), ..ReadOptions::default() });
    let time_column = Some(if pick(3) { "none" } else { "#1" }.to_string());
    let _ = open(&path, &ReadOptions { fs_hz, text, time_column, ..ReadOptions::default() });
});
