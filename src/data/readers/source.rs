//! Where a recording's bytes come from: a file, standard input (`-`), a gzip file, or a zip archive that holds one.
//!
//! Readers take paths, and some read a file several times or files beside it; so what is not a plain file is unpacked into
//! a temporary directory, which is removed when the recording has been read. What is unpacked counts, not what an archive
//! claims; at most 4 GiB.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use super::MAX_FILE;
use crate::error::{Error, IoContext, Result};

/// A recording in a temporary directory.
#[derive(Debug)]
pub(super) struct Unpacked {
    dir: tempfile::TempDir,
    path: PathBuf,
    what: &'static str,
}

impl Unpacked {
    /// The file to read.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it was unpacked from.
    pub(super) fn what(&self) -> &'static str {
        self.what
    }

    /// An error about the unpacked file as one about `path`.
    pub(super) fn renamed(&self, error: Error, path: &Path) -> Error {
        error.replace_file(self.dir.path(), path)
    }
}

/// Whether `path` stands for standard input.
pub(super) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Extensions of recordings in an archive.
const RECORDINGS: [&str; 14] =
    ["csv", "tsv", "txt", "asc", "dat", "npy", "npz", "edf", "bdf", "rec", "hea", "mat", "h5", "hdf5"];

/// Unpacks `path`; None for a plain file, which is read where it is.
///
/// # Errors
/// A damaged archive, one with several recordings or none, more than 4 GiB.
pub(super) fn unpack(path: &Path) -> Result<Option<Unpacked>> {
    if is_stdin(path) {
        let (dir, to) = place("standard_input")?;
        copy(&mut io::stdin().lock(), &to, path)?;
        // What is piped in may be compressed itself.
        return match compressed(&to)? {
            None => Ok(Some(Unpacked { dir, path: to, what: "standard input" })),
            Some(kind) => expand(&to, kind).map(Some).map_err(|e| e.replace_file(dir.path(), path)),
        };
    }
    if path.is_dir() {
        return Ok(None);
    }
    match compressed(path)? {
        None => Ok(None),
        Some(kind) => expand(path, kind).map(Some).map_err(|e| e.in_file(path)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compressed {
    Gzip,
    Zip,
}

fn compressed(path: &Path) -> Result<Option<Compressed>> {
    let mut head = Vec::new();
    File::open(path).and_then(|f| f.take(4).read_to_end(&mut head)).with_file(path)?;
    let is_npz = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz"));
    Ok(match head[..] {
        [0x1f, 0x8b, ..] => Some(Compressed::Gzip),
        [b'P', b'K', 3, 4] if !is_npz => Some(Compressed::Zip),
        _ => None,
    })
}

fn place(name: &str) -> Result<(tempfile::TempDir, PathBuf)> {
    let dir = tempfile::tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))?;
    let to = dir.path().join(name);
    Ok((dir, to))
}

/// Writes what `from` holds to `to`.
fn copy(from: &mut dyn Read, to: &Path, named: &Path) -> Result<u64> {
    let mut out = File::create(to).with_file(to)?;
    let mut limited = from.take(MAX_FILE + 1);
    let bytes = io::copy(&mut limited, &mut out)
        .map_err(|e| Error::format(format!("cannot be unpacked: {e}")).in_file(named).caused_by(e))?;
    out.flush().with_file(to)?;
    if bytes > MAX_FILE {
        return Err(Error::format(format!("more than {MAX_FILE} bytes when unpacked"))
            .in_file(named)
            .remedy("cut the recording into parts"));
    }
    Ok(bytes)
}

fn expand(path: &Path, kind: Compressed) -> Result<Unpacked> {
    match kind {
        Compressed::Gzip => {
            let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            let (dir, to) = place(&plain(&name))?;
            let file = BufReader::new(File::open(path).with_file(path)?);
            copy(&mut flate2::read::MultiGzDecoder::new(file), &to, path)?;
            if compressed(&to)?.is_some() {
                return Err(Error::format("an archive within an archive")
                    .in_file(path)
                    .remedy("unpack it once"));
            }
            Ok(Unpacked { dir, path: to, what: "gzip" })
        }
        Compressed::Zip => zip_archive(path),
    }
}

/// A name that is a plain file name, whatever an archive calls it.
fn plain(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or("");
    let plain: String = last.chars().filter(|c| !c.is_control() && *c != ':').collect();
    if plain.is_empty() || plain.starts_with('.') { format!("recording{plain}") } else { plain }
}

fn zip_archive(path: &Path) -> Result<Unpacked> {
    let file = BufReader::new(File::open(path).with_file(path)?);
    let bad = |e: zip::result::ZipError| Error::format(format!("zip: {e}")).in_file(path);
    let mut archive = zip::ZipArchive::new(file).map_err(bad)?;
    let mut entries: Vec<(usize, String)> = Vec::new();
    for i in 0..archive.len().min(10_000) {
        let entry = archive.by_index_raw(i).map_err(bad)?;
        let name = entry.name().map_err(bad)?.into_owned();
        if name == "[Content_Types].xml" {
            return Err(Error::format(
                "a spreadsheet or document (its file is a zip archive), not a text table",
            )
            .in_file(path)
            .remedy("save the sheet as CSV"));
        }
        let hidden = name.split('/').any(|p| p.starts_with('.') && p != "." && p != ".." || p == "__MACOSX");
        if !entry.is_dir() && !hidden {
            entries.push((i, plain(&name)));
        }
    }
    let extension = |name: &str| name.rsplit_once('.').map_or(String::new(), |(_, e)| e.to_lowercase());
    let word = |name: &str| name.to_lowercase().split(['.', '-', '_']).next().unwrap_or("").to_string();
    let is_text =
        |name: &str| ["readme", "license", "licence", "info", "notes"].contains(&word(name).as_str());
    let is_wfdb = entries.iter().any(|(_, n)| extension(n) == "hea");
    let recordings: Vec<&(usize, String)> = entries
        .iter()
        .filter(|(_, n)| match is_wfdb {
            true => extension(n) == "hea",
            false => RECORDINGS.contains(&extension(n).as_str()) && !is_text(n),
        })
        .collect();
    let [(_, name)] = recordings[..] else {
        let names: Vec<&str> = recordings.iter().take(8).map(|(_, n)| n.as_str()).collect();
        let list = if names.is_empty() { "none".to_string() } else { names.join(", ") };
        return Err(Error::data(format!(
            "an archive with {} recordings where one is due: {list}",
            recordings.len()
        ))
        .in_file(path)
        .remedy("unpack the archive and name the recording"));
    };
    let (dir, to) = place(name)?;
    for (i, entry_name) in &entries {
        // Signals and annotations lie beside a WFDB header.
        if !is_wfdb && entry_name != name {
            continue;
        }
        let mut entry = archive.by_index(*i).map_err(bad)?;
        copy(&mut entry, &dir.path().join(entry_name), path)?;
    }
    Ok(Unpacked { dir, path: to, what: "zip" })
}
