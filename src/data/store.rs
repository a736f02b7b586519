//! The prepared store: one directory that NumPy and a spreadsheet can open.
//!
//! | file | content |
//! |---|---|
//! | `windows.npy` | f32 `[windows, samples]`; `numpy.load("windows.npy", mmap_mode="r")` |
//! | `index.csv` | one line per window: row, data set, subject, trial, record, start, quality, labels (empty = missing) |
//! | `manifest.json` | exact processing, unit, counts kept and dropped, sources, licences, SHA-256 of the two files |
//!
//! **Why positional reads and not a memory map.** Windows are fetched with one `pread` each (`seek_read` on Windows).
//! Mapping a file is `unsafe` in Rust, because another process that truncates the file turns an ordinary load into a
//! SIGBUS or changes bytes behind a reference; this crate forbids `unsafe`. A positional read goes through the same page
//! cache, needs no lock (`&self` from any thread), keeps memory just as flat, and turns a truncated file into an error.
//! A window of 5 kB costs about a microsecond once cached, which is nothing beside its training step.
//!
//! **Why a store is never half there.** [`StoreWriter`] writes into a directory beside the target, syncs every file and
//! the directory, and swaps the two as its last act, under the target's lock ([`crate::checkpoint::NewDir`]). A process
//! that is killed leaves at most a directory `.NAME.RANDOM.new`, which the next that writes the target removes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use crate::checkpoint::{NewDir, Sink, finish_replacement, placeholder};
use crate::data::index::{COLUMNS, Index, Row};
use crate::data::manifest::{FORMAT, FORMAT_VERSION, Manifest, sha256_file};
use crate::data::npy;
use crate::data::source::{WindowSource, check_read};
use crate::error::{Error, IoContext, Result};

const WINDOWS: &str = "windows.npy";
const INDEX: &str = "index.csv";
const MANIFEST: &str = "manifest.json";

/// An open store. Reads are thread-safe.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    file: File,
    windows_path: PathBuf,
    data_offset: u64,
    len: usize,
    samples: usize,
    index: Index,
    manifest: Manifest,
}

impl Store {
    /// Opens and checks a store: the array's header and length, the index's rows, and that all agree with the manifest.
    /// Checksums are left to [`Store::verify`].
    ///
    /// # Errors
    /// Missing or damaged files, or files that do not belong together.
    pub fn open(dir: &Path) -> Result<Self> {
        finish_replacement(dir)?;
        let manifest_path = dir.join(MANIFEST);
        if !manifest_path.is_file() {
            return Err(Error::new(crate::error::Kind::Io, "not a prepared store: it has no manifest.json")
                .in_file(dir)
                .remedy("give a directory made by `heartlore prepare`"));
        }
        let text = fs::read(&manifest_path).with_file(&manifest_path)?;
        placeholder::refuse(&text).map_err(|e| e.in_file(&manifest_path))?;
        let bad = |what: String| Error::format(what).in_file(&manifest_path);
        // The version first: a later version may not parse as this one.
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
        let (format, version) = (value["format"].as_str(), value["format_version"].as_u64());
        if format != Some(FORMAT) {
            return Err(bad("not the manifest of a heartlore store".into()));
        }
        if version != Some(u64::from(FORMAT_VERSION)) {
            let version = version.map_or("an unreadable version".into(), |v| format!("version {v}"));
            return Err(bad(format!("{version} of the store; this program reads version {FORMAT_VERSION}"))
                .remedy("prepare the data again, or use the program that made the store"));
        }
        let manifest: Manifest = serde_json::from_value(value).map_err(|e| bad(e.to_string()))?;

        let windows_path = dir.join(WINDOWS);
        let mut file = File::open(&windows_path).with_file(&windows_path)?;
        let header = npy::read_header_exact(&mut file, &windows_path)?;
        let (len, samples) = match (&header.shape[..], header.dtype, header.big_endian) {
            ([len, samples], npy::Dtype::F32, false) if *samples > 0 => (*len, *samples),
            _ => {
                return Err(
                    Error::format("not a little-endian f32 array [windows, samples]").in_file(&windows_path)
                );
            }
        };
        let index_path = dir.join(INDEX);
        let text = fs::read(&index_path).with_file(&index_path)?;
        placeholder::refuse(&text).map_err(|e| e.in_file(&index_path))?;
        let index = Index::parse(&text).map_err(|e| e.in_file(&index_path))?;
        let stale = |what: String| bad(what).remedy("the store is damaged; prepare the data again");
        if index.len() != len {
            return Err(stale(format!("{len} windows, but {} rows in the index", index.len())));
        }
        if manifest.windows != len as u64 || manifest.samples != samples as u64 {
            return Err(stale(format!(
                "the manifest says {} windows of {} samples, the array holds {len} of {samples}",
                manifest.windows, manifest.samples
            )));
        }
        if manifest.labels != index.label_names() {
            return Err(stale("the manifest's labels are not those of the index".into()));
        }
        let data_offset = header.data_offset as u64;
        Ok(Self { dir: dir.to_path_buf(), file, windows_path, data_offset, len, samples, index, manifest })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    /// Where each window comes from.
    pub fn index(&self) -> &Index {
        &self.index
    }
    /// How the windows were made.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Copies window `i` into `out`.
    ///
    /// # Errors
    /// As [`WindowSource::read`].
    pub fn read_window(&self, i: usize, out: &mut [f32]) -> Result<()> {
        check_read(i, out.len(), self.len, self.samples)?;
        // Within the file's length, which was checked when it was opened: no overflow.
        let at = self.data_offset + (i as u64) * (self.samples as u64) * 4;
        read_exact_at(&self.file, bytemuck::cast_slice_mut(out), at).with_file(&self.windows_path)?;
        if cfg!(target_endian = "big") {
            for value in out {
                *value = f32::from_bits(value.to_bits().swap_bytes());
            }
        }
        Ok(())
    }

    /// Copies windows `rows` into `out`, `[rows.len(), samples]`.
    ///
    /// # Errors
    /// As [`WindowSource::read`].
    pub fn read_windows(&self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        if rows.len().checked_mul(self.samples) != Some(out.len()) {
            return Err(Error::shape(format!(
                "{} windows of {} samples into a buffer of {}",
                rows.len(),
                self.samples,
                out.len()
            )));
        }
        rows.iter().zip(out.chunks_exact_mut(self.samples)).try_for_each(|(i, o)| self.read_window(*i, o))
    }

    /// Recomputes the checksums of the array and the index.
    ///
    /// # Errors
    /// Names the first file that differs.
    pub fn verify(&self) -> Result<()> {
        for name in [WINDOWS, INDEX] {
            let path = self.dir.join(name);
            let (have, _) = sha256_file(&path)?;
            if self.manifest.sha256.get(name) != Some(&have) {
                let due = self.manifest.sha256.get(name).map_or("none", String::as_str);
                return Err(Error::format(format!("SHA-256 is {have}, the manifest says {due}"))
                    .in_file(path)
                    .remedy("the store was changed or damaged; prepare the data again"));
            }
        }
        Ok(())
    }
}

impl WindowSource for Store {
    fn len(&self) -> usize {
        self.len
    }
    fn samples(&self) -> usize {
        self.samples
    }
    fn read(&self, i: usize, out: &mut [f32]) -> Result<()> {
        self.read_window(i, out)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, at)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut at: u64) -> std::io::Result<()> {
    use std::os::windows::fs::FileExt;
    // seek_read takes its own offset, so threads do not disturb each other.
    while !out.is_empty() {
        match file.seek_read(out, at) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                out = &mut out[n..];
                at += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Elsewhere: seek and read under one lock for the process, since the position belongs to the file.
#[cfg(not(any(unix, windows)))]
fn read_exact_at(mut file: &File, out: &mut [u8], at: u64) -> std::io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = LOCK.lock().unwrap_or_else(|e| e.into_inner());
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(out)
}

/// Writes a store window by window, in memory that does not grow.
#[derive(Debug)]
pub struct StoreWriter {
    overwrite: bool,
    /// Taken by `seal`.
    windows: Option<npy::Writer>,
    /// Taken by `seal`: some systems cannot rename a directory with open files.
    index: Option<csv::Writer<BufWriter<Box<dyn Sink>>>>,
    samples: usize,
    label_names: Vec<String>,
    /// Rows and checksums, once sealed.
    sealed: Option<(usize, BTreeMap<String, String>)>,
    /// The target, locked, and the directory beside it that is being written. Dropped after the open files in it.
    place: NewDir,
}

impl StoreWriter {
    /// Begins a store at `target`.
    ///
    /// # Errors
    /// The target exists and `overwrite` is false, or is no store (then it is never replaced); another process is writing
    /// it; the directory above it is not writable; a bad name of a label.
    pub fn create(target: &Path, samples: usize, label_names: &[String], overwrite: bool) -> Result<Self> {
        Index::new(label_names)?;
        Self::create_in(Self::lock(target, overwrite)?, samples, label_names, overwrite)
    }

    /// Locks `target` for a store to come: for a caller that has work to do before it knows the store's shape, and wants to
    /// be refused before that work.
    ///
    /// # Errors
    /// As [`StoreWriter::create`].
    pub fn lock(target: &Path, overwrite: bool) -> Result<NewDir> {
        check_target(target, overwrite)?;
        let place = NewDir::begin(target)?;
        // Another process may have made it before the lock was ours.
        check_target(target, overwrite).map(|()| place)
    }

    /// Begins a store in the place that [`StoreWriter::lock`] gave, or one with other file operations.
    ///
    /// # Errors
    /// As [`StoreWriter::create`].
    pub fn create_in(place: NewDir, samples: usize, label_names: &[String], overwrite: bool) -> Result<Self> {
        Index::new(label_names)?;
        let windows = npy::Writer::create_with(&**place.ops(), &place.path().join(WINDOWS), samples)?;
        let path = place.path().join(INDEX);
        let file = place.ops().create_new(&path).with_file(&path)?;
        let mut index = csv::Writer::from_writer(BufWriter::new(file));
        let header = COLUMNS.iter().copied().chain(label_names.iter().map(String::as_str));
        index.write_record(header).map_err(|e| csv_error(e, &path))?;
        let (windows, index, label_names) = (Some(windows), Some(index), label_names.to_vec());
        Ok(Self { overwrite, windows, index, samples, label_names, sealed: None, place })
    }

    /// Windows written so far.
    pub fn len(&self) -> usize {
        self.windows.as_ref().map_or(0, npy::Writer::rows)
    }
    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a window.
    ///
    /// # Errors
    /// A wrong length, a value that is not finite, a wrong number of labels, a full disk.
    pub fn push(&mut self, row: &Row, window: &[f32]) -> Result<()> {
        // Without a branch for each sample.
        if !window.iter().fold(true, |all, x| all & x.is_finite()) {
            let i = window.iter().position(|x| !x.is_finite()).unwrap_or(0);
            return Err(Error::numeric(format!(
                "sample {i} of a window of '{}' is {}",
                row.record, window[i]
            )));
        }
        if row.labels.len() != self.label_names.len() {
            return Err(Error::shape(format!(
                "{} labels for {} columns",
                row.labels.len(),
                self.label_names.len()
            )));
        }
        if !row.start_s.is_finite() {
            return Err(Error::data(format!("a window starts at {} s", row.start_s)));
        }
        let number = self.len();
        if let Some(windows) = &mut self.windows {
            windows.write_row(window)?;
        }
        let path = self.place.path().join(INDEX);
        match &mut self.index {
            Some(index) => index.write_record(Index::fields(number, row)).map_err(|e| csv_error(e, &path)),
            None => Ok(()),
        }
    }

    /// Writes what is left to the disk and forms the checksums; no window can be appended after. [`StoreWriter::finish`]
    /// does it if it was not done.
    ///
    /// # Errors
    /// A full disk.
    pub(crate) fn seal(&mut self) -> Result<()> {
        let index_path = self.place.path().join(INDEX);
        if let Some(index) = self.index.take() {
            let buffer = index.into_inner().map_err(|e| csv_error(e.into_error().into(), &index_path))?;
            let mut file = buffer.into_inner().map_err(|e| Error::io(&index_path, e.into_error()))?;
            file.sync().with_file(&index_path)?;
        }
        let Some(windows) = self.windows.take() else { return Ok(()) };
        let (rows, mut file) = windows.close()?;
        let dir = self.place.path();
        let windows_path = dir.join(WINDOWS);
        // The disk writes while the processor reads: the pages are in memory.
        let (synced, sha256) = std::thread::scope(|scope| {
            let synced = scope.spawn(|| file.sync());
            let mut sha256 = BTreeMap::new();
            let formed = [WINDOWS, INDEX].into_iter().try_for_each(|name| {
                sha256.insert(name.to_string(), sha256_file(&dir.join(name))?.0);
                Ok(())
            });
            let synced = synced.join().unwrap_or_else(|_| Err(std::io::Error::other("the sync panicked")));
            (synced, formed.map(|()| sha256))
        });
        synced.with_file(&windows_path)?;
        self.sealed = Some((rows, sha256?));
        Ok(())
    }

    /// Completes the store and makes it visible. The manifest's format, version, sizes, labels and checksums are filled
    /// in here.
    ///
    /// # Errors
    /// A full disk, or a target that appeared meanwhile. The target is then as it was.
    pub fn finish(self, manifest: Manifest) -> Result<()> {
        self.finish_with(manifest, |_, _| Ok(()))
    }

    /// [`StoreWriter::finish`] with more files: `more` gets the finished store, before it takes its place, and the directory
    /// to write them into.
    ///
    /// # Errors
    /// As [`StoreWriter::finish`], and what `more` returns.
    pub fn finish_with(
        mut self,
        mut manifest: Manifest,
        more: impl FnOnce(&Store, &NewDir) -> Result<()>,
    ) -> Result<()> {
        if self.sealed.is_none() {
            self.seal()?;
        }
        let (rows, sha256) = self.sealed.take().unwrap_or_default();
        manifest.format = FORMAT.into();
        manifest.format_version = FORMAT_VERSION;
        manifest.heartlore_version = env!("CARGO_PKG_VERSION").into();
        manifest.windows = rows as u64;
        manifest.samples = self.samples as u64;
        manifest.labels = self.label_names.clone();
        manifest.sha256 = sha256;
        let mut text = serde_json::to_vec_pretty(&manifest).map_err(|e| Error::format(e.to_string()))?;
        text.push(b'\n');
        let path = self.place.path().join(MANIFEST);
        self.place.write(MANIFEST, |sink| sink.write_all(&text).with_file(&path))?;
        // What is about to be shown must open.
        let store = Store::open(self.place.path())?;
        more(&store, &self.place)?;
        drop(store);
        check_target(self.place.named(), self.overwrite)?;
        self.place.commit()
    }
}

/// Whether `target` may be written.
fn check_target(target: &Path, overwrite: bool) -> Result<()> {
    if !target.exists() {
        return Ok(());
    }
    if !overwrite {
        return Err(Error::usage("the target exists already")
            .in_file(target)
            .remedy("choose another directory, or allow it to be overwritten"));
    }
    let empty = || fs::read_dir(target).is_ok_and(|mut d| d.next().is_none());
    if !target.join(MANIFEST).is_file() && !empty() {
        return Err(Error::usage("the target exists and is no prepared store, so it is not replaced")
            .in_file(target)
            .remedy("choose another directory"));
    }
    Ok(())
}

fn csv_error(e: csv::Error, path: &Path) -> Error {
    match e.into_kind() {
        csv::ErrorKind::Io(io) => Error::io(path, io),
        other => Error::format(format!("{other:?}")).in_file(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::faults::{Faulty, at_every_call, names};
    use std::sync::Arc;

    fn manifest() -> Manifest {
        serde_json::from_value(serde_json::json!({
            "format": "", "format_version": 0, "heartlore_version": "", "windows": 0, "samples": 0, "unit": "mV",
            "processing": { "rate_hz": 128.0, "window": 4, "hop": 4, "filter": null, "normalisation": "none" },
            "quality_gate": null, "caps": {}, "labels": [],
            "counts": { "recordings": 1, "windows_kept": 0, "windows_dropped": {}, "samples_missing": 0,
                        "samples_left_over": 0, "skipped": [], "warnings": [] },
            "sources": [], "notes": [], "sha256": {},
        }))
        .unwrap()
    }

    /// A store of `n` windows, with a further file.
    fn write(place: NewDir, n: usize) -> Result<()> {
        let mut writer = StoreWriter::create_in(place, 4, &["calm".into()], true)?;
        for i in 0..n {
            let row = Row { subject: i.to_string(), labels: vec![None], ..Row::default() };
            writer.push(&row, &[n as f32; 4])?;
        }
        writer.finish_with(manifest(), |store, place| {
            place.write("more", |sink| sink.write_all(store.len().to_string().as_bytes()).with_file("more"))
        })
    }

    #[test]
    fn a_store_is_old_or_new_under_its_name_whichever_call_is_the_last() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("store");
        let faults = at_every_call(
            |ops: &Faulty| {
                write(StoreWriter::lock(&dir, true).unwrap(), 2).unwrap();
                NewDir::begin_with(Arc::new(ops.clone()), &dir).and_then(|place| write(place, 3)).is_ok()
            },
            |done, ops| {
                let store = Store::open(&dir).unwrap();
                store.verify().unwrap();
                assert!(store.len() == 3 || (store.len() == 2 && !done), "{ops:?}");
                assert_eq!(fs::read_to_string(dir.join("more")).unwrap(), store.len().to_string());
                let mut window = [0.0; 4];
                store.read_window(1, &mut window).unwrap();
                assert_eq!(window, [store.len() as f32; 4]);
            },
        );
        assert!(faults > 60, "{faults}");
        write(StoreWriter::lock(&dir, true).unwrap(), 2).unwrap();
        assert_eq!(names(root.path()), ["store"]);
    }

    #[test]
    fn a_second_writer_is_refused_before_it_has_done_anything() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("store");
        let first = StoreWriter::create(&dir, 4, &[], false).unwrap();
        for overwrite in [false, true] {
            let e = StoreWriter::create(&dir, 4, &[], overwrite).unwrap_err();
            assert!(e.to_string().contains("in use by process"), "{e}");
        }
        assert!(first.place.path().is_dir(), "what the first writes is untouched");
        drop(first);
        assert!(names(root.path()).is_empty());
    }
}
