//! The packed format: many short recordings in a few files, for experiments on mixed public data.
//!
//! A directory with `manifest.csv` and, for each source in it, `<source>.i16`: the samples of all its records one after
//! the other, little-endian int16, 128 Hz, 1 LSB = 1 uV. Columns of the manifest that are used: `source`, `subject`,
//! `record`, `lead`, `label`, `offset` and `n128` (in samples of the `.i16` file), `quality_ok` (0 or 1, may be absent).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::{ReadOptions, Reader};
use crate::checkpoint::placeholder;
use crate::data::recording::{Channel, Recording, Unit};
use crate::error::{Error, IoContext, Result};

/// Sampling rate of every record, in Hz.
pub const FS_HZ: f64 = 128.0;

/// The reader of single records; [`Manifest`] reads the list.
#[derive(Debug)]
pub struct Packed;

impl Reader for Packed {
    fn name(&self) -> &'static str {
        "packed"
    }
    fn extensions(&self) -> &'static [&'static str] {
        &[]
    }
    fn sniff(&self, path: &Path, head: &[u8]) -> bool {
        if path.is_dir() {
            return path.join("manifest.csv").is_file();
        }
        let first = head.split(|b| *b == b'\n').next().unwrap_or(&[]);
        let first = String::from_utf8_lossy(first);
        ["source", "record", "offset", "n128"].iter().all(|c| first.trim().split(',').any(|f| f == *c))
    }
    fn read(&self, path: &Path, options: &ReadOptions) -> Result<Recording> {
        let manifest = Manifest::open(path)?;
        let entry = match &options.record {
            Some(name) => manifest.entries.iter().find(|e| e.record == *name || e.qualified() == *name),
            None if manifest.entries.len() == 1 => manifest.entries.first(),
            None => None,
        };
        let entry = entry.ok_or_else(|| {
            let shown: Vec<&str> = manifest.entries.iter().take(5).map(|e| e.record.as_str()).collect();
            let what = match &options.record {
                Some(name) => format!("there is no record '{name}' among {}", manifest.entries.len()),
                None => format!("the file holds {} records", manifest.entries.len()),
            };
            Error::usage(what).in_file(path).remedy(format!("name one, such as {}", shown.join(", ")))
        })?;
        options.rate_near(FS_HZ)?;
        manifest.read(entry)
    }
}

/// One line of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Data set.
    pub source: String,
    /// Person within the data set.
    pub subject: String,
    /// Name of the record.
    pub record: String,
    /// Lead, used as the channel's label.
    pub lead: String,
    /// Label, if any.
    pub label: Option<String>,
    /// First sample in the source's file.
    pub offset: u64,
    /// Samples.
    pub samples: u64,
    /// What the maker's quality gate said, if the manifest tells.
    pub quality_ok: Option<bool>,
}

impl Entry {
    /// `source/record`, which is unique where the record's name alone is not.
    pub fn qualified(&self) -> String {
        format!("{}/{}", self.source, self.record)
    }
}

/// The list of records and where they lie.
#[derive(Clone, Debug)]
pub struct Manifest {
    path: PathBuf,
    /// The records in the order of the file.
    pub entries: Vec<Entry>,
}

/// The samples of a source, and how many there are.
fn open_samples(path: &Path) -> Result<(File, u64)> {
    let mut file = File::open(path).with_file(path)?;
    let mut head = Vec::new();
    (&mut file).take(placeholder::HEAD as u64).read_to_end(&mut head).with_file(path)?;
    placeholder::refuse(&head).map_err(|e| e.in_file(path))?;
    let have = file.metadata().with_file(path)?.len() / 2;
    Ok((file, have))
}

impl Manifest {
    /// Reads `manifest.csv`, or the one in the directory `path`, and checks that every record lies inside its file.
    ///
    /// # Errors
    /// A missing column or file, a bad number (with its line), a record beyond the end of its file.
    pub fn open(path: &Path) -> Result<Self> {
        let path = if path.is_dir() { path.join("manifest.csv") } else { path.to_path_buf() };
        let text = String::from_utf8(super::read_whole(&path)?)
            .map_err(|_| Error::format("not UTF-8 text").in_file(&path))?;
        Self::parse(&text, &path).map_err(|e| e.in_file(&path))
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
        let bad = |e: csv::Error| {
            let line = e.position().map_or(0, |p| p.line());
            Error::format(e.to_string()).at(format!("line {line}"))
        };
        let header = reader.headers().map_err(bad)?.clone();
        let column = |name: &str| header.iter().position(|h| h == name);
        let need = |name: &str| {
            column(name)
                .ok_or_else(|| Error::format(format!("the manifest has no column '{name}'")).at("line 1"))
        };
        let (source, subject, record) = (need("source")?, need("subject")?, need("record")?);
        let (offset, samples) = (need("offset")?, need("n128")?);
        let (lead, label, quality) = (column("lead"), column("label"), column("quality_ok"));
        let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
        let mut entries = Vec::new();
        for row in reader.records() {
            let row = row.map_err(bad)?;
            let line = row.position().map_or(0, |p| p.line());
            let text = |c: Option<usize>| c.and_then(|c| row.get(c)).unwrap_or("").trim().to_string();
            let number = |c: usize, name: &str| {
                text(Some(c)).parse::<u64>().map_err(|_| {
                    Error::format(format!("'{}' is no whole number", text(Some(c)).escape_default()))
                        .at(format!("line {line}, column '{name}'"))
                })
            };
            let entry = Entry {
                source: text(Some(source)),
                subject: text(Some(subject)),
                record: text(Some(record)),
                lead: text(lead),
                label: Some(text(label)).filter(|l| !l.is_empty()),
                offset: number(offset, "offset")?,
                samples: number(samples, "n128")?,
                quality_ok: match text(quality).as_str() {
                    "" => None,
                    "1" => Some(true),
                    "0" => Some(false),
                    other => {
                        return Err(Error::format(format!(
                            "'{}' is neither 0 nor 1",
                            other.escape_default()
                        ))
                        .at(format!("line {line}, column 'quality_ok'")));
                    }
                },
            };
            let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
            if entry.source.is_empty() || entry.source.starts_with('.') || !entry.source.chars().all(plain) {
                return Err(Error::format(format!(
                    "'{}' is no name of a source",
                    entry.source.escape_default()
                ))
                .at(format!("line {line}, column 'source'")));
            }
            let file = path.with_file_name(format!("{}.i16", entry.source));
            let have = match sizes.get(&entry.source) {
                Some(have) => *have,
                None => {
                    let have = open_samples(&file)?.1;
                    sizes.insert(entry.source.clone(), have);
                    have
                }
            };
            if entry.offset.checked_add(entry.samples).is_none_or(|end| end > have) {
                return Err(Error::format(format!(
                    "record '{}' takes samples {} and {} more, '{}' holds {have}",
                    entry.record,
                    entry.offset,
                    entry.samples,
                    file.display()
                ))
                .at(format!("line {line}")));
            }
            entries.push(entry);
        }
        Ok(Self { path: path.to_path_buf(), entries })
    }

    /// The file with the samples of `source`.
    pub fn source_file(&self, source: &str) -> PathBuf {
        self.path.with_file_name(format!("{source}.i16"))
    }

    /// Where the list was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads one record: a single channel in uV at 128 Hz.
    ///
    /// # Errors
    /// The file became shorter, or cannot be read.
    pub fn read(&self, entry: &Entry) -> Result<Recording> {
        let file = self.source_file(&entry.source);
        if entry.samples == 0 {
            return Err(
                Error::data(format!("record '{}' holds no samples", entry.record)).in_file(&self.path)
            );
        }
        let (mut handle, have) = open_samples(&file)?;
        if entry.offset.checked_add(entry.samples).is_none_or(|end| end > have) {
            return Err(
                Error::format(format!("record '{}' lies beyond the end", entry.record)).in_file(&file)
            );
        }
        handle.seek(SeekFrom::Start(entry.offset * 2)).with_file(&file)?;
        let mut bytes = vec![0u8; entry.samples as usize * 2];
        handle.read_exact(&mut bytes).with_file(&file)?;
        let samples = bytes.chunks_exact(2).map(|b| f64::from(i16::from_le_bytes([b[0], b[1]]))).collect();
        let label = if entry.lead.is_empty() { "ECG".to_string() } else { format!("ECG {}", entry.lead) };
        Ok(Recording {
            path: self.path.clone(),
            files: vec![self.path.clone(), file],
            subject: Some(entry.subject.clone()),
            record: entry.record.clone(),
            channels: vec![Channel { label, unit: Unit::Microvolt, fs_hz: FS_HZ, samples }],
            ..Recording::default()
        })
    }
}
