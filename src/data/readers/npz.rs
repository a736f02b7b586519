//! NumPy archives (`numpy.savez`, `numpy.savez_compressed`): a zip file of `.npy` arrays, read through the crate `zip`.
//!
//! The record names the array; without one the archive must hold a single array of samples. An array `fs_hz` with one
//! value gives the rate. Object arrays are Python pickles, which run code when loaded: they are refused, as in `.npy`.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::{ReadOptions, Reader, npy, stem};
use crate::checkpoint::placeholder;
use crate::data::npy::{Array, parse};
use crate::data::recording::Recording;
use crate::error::{Error, IoContext, Result};

/// The `.npz` reader.
#[derive(Debug)]
pub struct Npz;

/// Largest array that is read, unpacked: 2 GiB.
const MOST_BYTES: u64 = 2 << 30;

/// The array `name` of an archive, or None.
///
/// # Errors
/// No zip file, a damaged one, or an array that is not read.
pub fn array(path: &Path, name: &str) -> Result<Option<Array>> {
    let mut archive = open(path)?;
    entry(&mut archive, name).map_err(|e| e.in_file(path))
}

type Archive = zip::ZipArchive<BufReader<File>>;

fn open(path: &Path) -> Result<Archive> {
    let mut file = File::open(path).with_file(path)?;
    let mut head = Vec::new();
    (&mut file).take(placeholder::HEAD as u64).read_to_end(&mut head).with_file(path)?;
    placeholder::refuse(&head).map_err(|e| e.in_file(path))?;
    zip::ZipArchive::new(BufReader::new(file)).map_err(|e| Error::format(format!("zip: {e}")).in_file(path))
}

fn entry(archive: &mut Archive, name: &str) -> Result<Option<Array>> {
    let wanted = format!("{name}.npy");
    let Some(i) = archive.index_for_name(&wanted) else { return Ok(None) };
    let at = |e: Error| e.at(format!("array '{name}'"));
    let file = archive.by_index(i).map_err(|e| at(Error::format(format!("zip: {e}"))))?;
    // What is read counts, not what the archive claims.
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| at(Error::format(format!("zip: {e}")).caused_by(e)))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(at(Error::format(format!("more than {MOST_BYTES} bytes"))));
    }
    parse(&bytes).map(Some).map_err(at)
}

impl Reader for Npz {
    fn name(&self) -> &'static str {
        "NumPy archive"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &["npz"]
    }
    fn sniff(&self, path: &Path, head: &[u8]) -> bool {
        let named = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz"));
        named && (head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06"))
    }
    fn read(&self, path: &Path, options: &ReadOptions) -> Result<Recording> {
        let mut archive = open(path)?;
        let mut names: Vec<String> = Vec::new();
        for name in archive.file_names() {
            let name = name.map_err(|e| Error::format(format!("zip: {e}")).in_file(path))?;
            names.extend(name.strip_suffix(".npy").map(str::to_string));
        }
        names.retain(|n| n != "fs_hz");
        let list = names.join(", ");
        let name = match (&options.record, &names[..]) {
            (Some(name), _) => name.clone(),
            (None, [one]) => one.clone(),
            _ => {
                return Err(Error::usage("which array of the archive is the recording?")
                    .in_file(path)
                    .remedy(format!(
                        "name it with --record (in a table column record); the arrays are: {list}"
                    )));
            }
        };
        let array = entry(&mut archive, &name).map_err(|e| e.in_file(path))?.ok_or_else(|| {
            Error::data(format!("there is no array '{name}'; the arrays are: {list}")).in_file(path)
        })?;
        let mut options = options.clone();
        if let Some(rate) = entry(&mut archive, "fs_hz").map_err(|e| e.in_file(path))? {
            let [rate] = rate.values[..] else {
                return Err(Error::format("more than one value").at("array 'fs_hz'").in_file(path));
            };
            options.fs_hz = Some(options.rate_near(rate).map_err(|e| e.in_file(path))?);
        }
        npy::recording(array, path, format!("{}:{name}", stem(path)), &options)
    }
}
