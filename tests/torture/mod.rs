//! Damage for readers: every truncation and thousands of changed bytes, under an allocator that watches.

use std::fs;
use std::path::{Path, PathBuf};

use crate::watched::most_held;
use heartlore::Result;
use heartlore::data::recording::Recording;

/// Memory that any reader may use whatever the size of the file: messages, paths, buffers.
pub(crate) const FREE: usize = 64 << 10;

/// How a file is damaged.
#[derive(Clone, Copy)]
pub(crate) struct Damage {
    /// Files with changed bytes.
    pub(crate) rounds: usize,
    /// At most this many truncations, evenly spread; every byte of a file that is no longer.
    pub(crate) cuts: usize,
}

/// A reader's file, and what reading it may cost.
pub(crate) struct Victim<'a> {
    /// The file to be damaged.
    pub(crate) file: PathBuf,
    /// All files that are read lie below this folder; their sizes count.
    pub(crate) root: &'a Path,
    /// Bytes that may be held beyond what the files allow.
    pub(crate) free: usize,
    /// Bytes that may be held for each byte of the files.
    pub(crate) multiple: usize,
}

/// A generator for the flips; its quality does not matter.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries.map(|p| if p.is_dir() { size(&p) } else { p.metadata().unwrap().len() }).sum()
}

/// Damages the file again and again, and calls `read` each time. `read` must not panic, must not hold more memory than the
/// victim allows, and what it delivers must have valid rates.
pub(crate) fn torture(victim: &Victim<'_>, damage: Damage, read: impl Fn() -> Result<Recording>) {
    let file = &victim.file;
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let whole = fs::read(file).unwrap();
    let limit = victim.free + victim.multiple * size(victim.root) as usize;
    let mut delivered = 0;
    let mut most = 0;
    let mut check = |bytes: &[u8], what: &dyn Fn() -> String| {
        // Anew: some file systems flush a file to disk that is cut off and written again, at milliseconds each.
        fs::remove_file(file).unwrap();
        fs::write(file, bytes).unwrap();
        let (result, used) = most_held(&read);
        assert!(used <= limit, "{name}, {}: {used} bytes held where {limit} are allowed", what());
        most = most.max(used);
        if let Ok(r) = result {
            delivered += 1;
            assert!(r.channels.iter().all(|c| c.fs_hz.is_finite() && c.fs_hz > 0.0), "{name}, {}", what());
        }
    };
    check(&whole, &|| "undamaged".into());
    let cuts = damage.cuts.min(whole.len());
    for n in (0..cuts).map(|i| i * whole.len() / cuts) {
        check(&whole[..n], &|| format!("cut at {n}"));
    }
    let mut state = 1;
    for round in 0..damage.rounds {
        let mut bytes = whole.clone();
        for _ in 0..1 + next(&mut state) % 4 {
            let i = (next(&mut state) as usize) % bytes.len();
            match next(&mut state) % 8 {
                // A digit or sign keeps a text readable and makes its numbers lie.
                0..=2 => bytes[i] = b"0123456789-+. ,/x:("[(next(&mut state) as usize) % 19],
                // A length field gone wild.
                3 => {
                    let wild =
                        [0u32, 1, 0x7fff_ffff, 0xffff_ffff, 0x8000_0000][(next(&mut state) as usize) % 5];
                    bytes.iter_mut().skip(i & !3).zip(wild.to_le_bytes()).for_each(|(b, w)| *b = w);
                }
                4 => bytes[i] ^= 1 << (next(&mut state) % 8),
                _ => bytes[i] = next(&mut state) as u8,
            }
        }
        check(&bytes, &|| format!("round {round}"));
    }
    fs::write(file, &whole).unwrap();
    assert!(delivered > 0, "{name}: not even the undamaged file was read");
    #[allow(clippy::print_stdout, reason = "tests report what they covered")]
    {
        println!(
            "{name}: {cuts} cuts, {} changed files, {delivered} read; at most {most} bytes held, {limit} allowed",
            damage.rounds
        );
    }
}
