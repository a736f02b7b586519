//! Damage for readers: every truncation and thousands of changed bytes, under an allocator that watches.

use std::fs;
use std::path::Path;

use crate::watched::most_held;
use heartlore::Result;
use heartlore::data::recording::Recording;

/// Memory that any reader may use whatever the size of the file: messages, paths, buffers.
const FREE: usize = 64 << 10;

/// A generator for the flips; its quality does not matter.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Truncates the file `damaged` at every byte and changes bytes of it `rounds` times, calling `read` each time. `read`
/// must not panic, must never hold more than 64 KiB and `multiple` times the bytes of all files in the directory, and
/// what it delivers must have valid rates.
pub(crate) fn torture(damaged: &Path, rounds: usize, read: impl Fn() -> Result<Recording>, multiple: usize) {
    let whole = fs::read(damaged).unwrap();
    let entries = fs::read_dir(damaged.parent().unwrap()).unwrap();
    let bytes: u64 = entries.map(|e| e.unwrap().metadata().unwrap().len()).sum();
    let limit = FREE + multiple * bytes as usize;
    let mut delivered = 0;
    let mut check = |bytes: &[u8], what: &dyn Fn() -> String| {
        fs::write(damaged, bytes).unwrap();
        let (result, used) = most_held(&read);
        assert!(used <= limit, "{}: {used} bytes held where {limit} are allowed", what());
        if let Ok(r) = result {
            delivered += 1;
            assert!(r.channels.iter().all(|c| c.fs_hz.is_finite() && c.fs_hz > 0.0), "{}", what());
        }
    };
    check(&whole, &|| "undamaged".into());
    for n in 0..whole.len() {
        check(&whole[..n], &|| format!("cut at {n}"));
    }
    let mut state = 1;
    for round in 0..rounds {
        let mut bytes = whole.clone();
        for _ in 0..1 + next(&mut state) % 4 {
            let i = (next(&mut state) as usize) % bytes.len();
            // Half of the time a digit or sign: it keeps a header readable and makes its numbers lie.
            bytes[i] = match next(&mut state) % 2 {
                0 => b"0123456789-+. ,/x:("[(next(&mut state) as usize) % 19],
                _ => next(&mut state) as u8,
            };
        }
        check(&bytes, &|| format!("round {round}"));
    }
    fs::write(damaged, whole).unwrap();
    assert!(delivered > 0, "not even the undamaged file was read");
}
