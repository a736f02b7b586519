//! Scalars as a TensorBoard event file.
//!
//! The file is a TFRecord stream (tensorflow/core/lib/io/record_writer.cc): per record the length as u64, the masked
//! CRC-32C of those eight bytes, the payload, the masked CRC-32C of the payload, all little-endian. The payload is a
//! protocol buffer `Event` (tensorflow/core/util/event.proto), of which five fields are needed and written here by hand:
//!
//! | message | field | number | wire type |
//! |---|---|---|---|
//! | Event | wall_time | 1 | 64-bit (double) |
//! | Event | step | 2 | varint (int64) |
//! | Event | file_version | 3 | bytes |
//! | Event | summary | 5 | bytes: repeated Summary.Value = 1 { tag = 1, simple_value = 2 (float) } |
//! | Event | session_log | 7 | bytes: SessionLog { status = 1, START = 1 } |

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Error, IoContext, Result};

/// Writes scalars to one event file; each call is one write to the file, so nothing is lost when the process dies.
#[derive(Debug)]
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Starts a new file `events.out.tfevents.<seconds>.heartlore` in `dir`, which must exist. `wall_time_s` is the time
    /// since the Unix epoch; if a file of that second exists already, the seconds in the name are raised until one is
    /// free, since TensorBoard reads the files of a directory in the order of their names.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) when the file cannot be written,
    /// [`Kind::Usage`](crate::error::Kind::Usage) for a time that is negative or not finite.
    pub fn create(dir: impl AsRef<Path>, wall_time_s: f64) -> Result<Self> {
        if !(0.0..1e12).contains(&wall_time_s) {
            return Err(Error::usage(format!("{wall_time_s} is no time since the Unix epoch in seconds")));
        }
        let mut second = wall_time_s as u64;
        let (file, path) = loop {
            let path = dir.as_ref().join(format!("events.out.tfevents.{second:010}.heartlore"));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => break (file, path),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => second += 1,
                Err(e) => return Err(Error::io(&path, e)),
            }
        };
        let mut writer = Self { file, path };
        let mut event = event_head(wall_time_s, 0);
        bytes_field(&mut event, 3, b"brain.Event:2");
        writer.write(&event)?;
        Ok(writer)
    }
    /// Tells TensorBoard that the run starts anew at `step`: points of earlier files at this step or later are dropped.
    /// Call it first after resuming from the state before `step`.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) when the file cannot be written.
    pub fn restart_at(&mut self, step: i64, wall_time_s: f64) -> Result<()> {
        let mut event = event_head(wall_time_s, step);
        bytes_field(&mut event, 7, &[0x08, 0x01]);
        self.write(&event)
    }
    /// Writes `value` of `tag` ("loss/train") at `step`. NaN and infinity are written as they are; TensorBoard marks them.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) when the file cannot be written.
    pub fn scalar(&mut self, tag: &str, step: i64, value: f32, wall_time_s: f64) -> Result<()> {
        self.scalars(&[(tag, value)], step, wall_time_s)
    }
    /// Writes several tags of one step in one event.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) when the file cannot be written.
    pub fn scalars(&mut self, values: &[(&str, f32)], step: i64, wall_time_s: f64) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut v = Vec::new();
            bytes_field(&mut v, 1, tag.as_bytes());
            v.push(2 << 3 | 5);
            v.extend_from_slice(&value.to_le_bytes());
            bytes_field(&mut summary, 1, &v);
        }
        let mut event = event_head(wall_time_s, step);
        bytes_field(&mut event, 5, &summary);
        self.write(&event)
    }
    /// The file being written.
    pub fn path(&self) -> &Path {
        &self.path
    }
    fn write(&mut self, event: &[u8]) -> Result<()> {
        self.file.write_all(&record(event)).with_file(&self.path)
    }
}

fn event_head(wall_time_s: f64, step: i64) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend_from_slice(&wall_time_s.to_le_bytes());
    if step != 0 {
        event.push(2 << 3);
        // int64 on the wire is the two's complement as an unsigned varint.
        varint(&mut event, step as u64);
    }
    event
}

fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn record(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(payload.len() + 16);
    out.extend_from_slice(&length);
    out.extend_from_slice(&mask(crc32c(&length)).to_le_bytes());
    out.extend_from_slice(payload);
    out.extend_from_slice(&mask(crc32c(payload)).to_le_bytes());
    out
}

/// The mask of tensorflow/core/lib/hash/crc32c.h: storing a CRC next to the data it covers makes CRCs of CRCs weak.
fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli; RFC 3720 section 12.1), reflected, bit by bit: event records are a few dozen bytes.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0x82f6_3b78 } else { c >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_known_values() {
        // RFC 3720 appendix B.4, and the check value of the CRC catalogue.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn varints() {
        for (v, bytes) in [(0u64, &[0u8][..]), (127, &[127]), (300, &[0xac, 2]), (128, &[0x80, 1])] {
            let mut out = vec![];
            varint(&mut out, v);
            assert_eq!(out, bytes);
        }
        let mut out = vec![];
        varint(&mut out, -1i64 as u64);
        assert_eq!(out.len(), 10);
    }

    #[test]
    fn bad_times_and_places_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        assert!(EventWriter::create(dir.path(), f64::NAN).is_err());
        assert!(EventWriter::create(dir.path(), -1.0).is_err());
        assert_eq!(EventWriter::create(dir.path().join("none"), 1.0).unwrap_err().exit_code(), 6);
        let a = EventWriter::create(dir.path(), 5.9).unwrap();
        let b = EventWriter::create(dir.path(), 5.1).unwrap();
        assert!(a.path() < b.path(), "never overwritten, and later in the order of names");
    }
}
