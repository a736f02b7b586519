//! Names beside a target: hidden, in the same directory so that renaming stays within one file system.
//!
//! Not the `tempfile` crate: the light core writes models without it, a test must be able to fail each call, and the
//! name of a directory that stepped aside must be found again after a crash.

use crate::error::{Error, Result};
use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// File systems take names of 255 bytes; what is added to a name must fit too.
const LONGEST: usize = 200;

/// `.NAME.what` beside `target`. A very long name is shortened, with a hash of it.
pub(super) fn beside(target: &Path, what: &str) -> Result<PathBuf> {
    let mut hidden = prefix(file_name(target)?);
    hidden.push(what);
    Ok(target.with_file_name(hidden))
}

/// `.NAME.RANDOM.what` beside `target`, which no other process has: not on this machine, in another container or on
/// another client of a network file system.
pub(super) fn unique(target: &Path, what: &str) -> Result<PathBuf> {
    beside(target, &format!("{:016x}.{what}", random()))
}

/// Whether `name` is one that [`unique`] gave for `target`.
pub(super) fn is_unique_of(name: &OsStr, target: &Path, what: &str) -> bool {
    let Ok(own) = file_name(target) else { return false };
    let (name, prefix) = (name.as_encoded_bytes(), prefix(own));
    name.strip_prefix(prefix.as_encoded_bytes())
        .and_then(|rest| rest.strip_suffix(what.as_bytes())?.strip_suffix(b"."))
        .is_some_and(|random| random.len() == 16 && random.iter().all(u8::is_ascii_hexdigit))
}

/// The last part of `path`.
pub(super) fn file_name(path: &Path) -> Result<&OsStr> {
    path.file_name().ok_or_else(|| {
        Error::usage("not the name of a file or directory").in_file(path).remedy("choose another name")
    })
}

/// The directory that `path` is in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

fn prefix(name: &OsStr) -> OsString {
    let mut hidden = OsString::from(".");
    if name.len() <= LONGEST {
        hidden.push(name);
    } else {
        let text = name.to_string_lossy();
        hidden.push(&text[..text.floor_char_boundary(LONGEST - 20)]);
        hidden.push(format!("~{:016x}", super::hash::hash(name.as_encoded_bytes())));
    }
    hidden.push(".");
    hidden
}

/// 64 bits that differ between processes: the keys of [`RandomState`] come from the operating system.
fn random() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(COUNT.fetch_add(1, Ordering::Relaxed));
    hasher.write_u32(std::process::id());
    hasher.finish()
}
