//! Damage for readers: every truncation and thousands of changed bytes, under an allocator that watches.
#![allow(
    unsafe_code,
    reason = "a global allocator can only be written with unsafe; this one forwards to the system's"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::Path;

use heartlore::Result;
use heartlore::data::recording::Recording;

thread_local! {
    /// Bytes this thread holds now (may be negative: other threads' memory is freed here), and the most since reset.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Watching;

fn count(change: isize) {
    // A thread that is ending has no counter any more, and nothing to measure.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call is handed to the system's allocator unchanged; the counters are plain thread-local cells without
// destructor, so counting allocates nothing and cannot recurse.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, p: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `p` came from `System` with this layout, as every allocation here does.
        unsafe { System.dealloc(p, layout) }
    }
    unsafe fn realloc(&self, p: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both blocks may exist for a moment.
        count(size as isize);
        count(-(layout.size() as isize));
        // SAFETY: `p` came from `System` with this layout; the caller's promise about `size` is passed on.
        unsafe { System.realloc(p, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

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
        let before = LIVE.get();
        PEAK.set(before);
        let result = read();
        let used = (PEAK.get() - before) as usize;
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
