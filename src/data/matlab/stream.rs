//! Bytes of a variable, from any position: straight from the file, or inflated on the way.
//!
//! A deflate stream can only be read from its beginning: each match refers to the 32 KiB before it. So while a variable is
//! indexed, once, the inflater's state (its tables and those 32 KiB) is copied every few MiB of output; a value is later
//! inflated from the nearest copy before it. That is why this module stands on `miniz_oxide` itself, the inflater under
//! flate2's rust backend: flate2 cannot copy a state, and reports a wrong checksum as it reports damaged data.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Mutex;

use miniz_oxide::inflate::TINFLStatus as Status;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_COMPUTE_ADLER32, TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_PARSE_ZLIB_HEADER,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::error::{Error, Kind, Result};

/// The file, or its bytes in memory.
#[derive(Debug)]
pub(super) struct Input {
    len: u64,
    kind: InputKind,
}

#[derive(Debug)]
enum InputKind {
    Memory(Vec<u8>),
    File(Mutex<File>),
}

impl Input {
    pub(super) fn memory(bytes: Vec<u8>) -> Self {
        Self { len: bytes.len() as u64, kind: InputKind::Memory(bytes) }
    }

    pub(super) fn file(file: File) -> std::io::Result<Self> {
        Ok(Self { len: file.metadata()?.len(), kind: InputKind::File(Mutex::new(file)) })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Fills `out` from position `at`.
    pub(super) fn read_at(&self, at: u64, out: &mut [u8]) -> Result<()> {
        if out.len() as u64 > self.len.saturating_sub(at) {
            return Err(Error::format(format!("the file ends at byte {}", self.len))
                .at(format!("byte {at}"))
                .remedy("the file is cut off or damaged; copy or download it again"));
        }
        match &self.kind {
            InputKind::Memory(bytes) => {
                let from = at as usize;
                out.copy_from_slice(&bytes[from..from + out.len()]);
                Ok(())
            }
            InputKind::File(file) => {
                let mut file = file.lock().unwrap_or_else(|e| e.into_inner());
                let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(out));
                read.map_err(|e| Error::new(Kind::Io, e.to_string()).caused_by(e))
            }
        }
    }
}

/// Window of a deflate stream.
const WINDOW: usize = 32 << 10;
/// Inflated bytes from one copy of the state to the next, to begin with.
const APART: u64 = 4 << 20;
/// Most copies kept per variable; each is about 44 KiB. When they are full, every second is dropped.
const MOST_POINTS: usize = 256;

/// Where inflating can begin: the state after `out` bytes of output from `used` bytes of input.
pub(super) struct Point {
    out: u64,
    used: u64,
    state: DecompressorOxide,
    ring: Vec<u8>,
    ring_at: usize,
}

/// The bytes in which one variable lies.
pub(super) enum Stream {
    /// As in the file; positions are the file's.
    Plain,
    /// A zlib stream at `start..start + len` of the file.
    Inflated { start: u64, len: u64, points: Vec<Point> },
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stream::Plain => f.write_str("Plain"),
            Stream::Inflated { start, len, points } => {
                write!(f, "Inflated {{ start: {start}, len: {len}, points: {} }}", points.len())
            }
        }
    }
}

/// How a zlib stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Whole,
    WrongChecksum,
    CutOff,
    /// Bytes of the element follow the stream, or inflated bytes follow the array.
    Trailing,
}

/// A place from which a stream is read forwards. Going backwards, or far forwards, starts from a [`Point`].
pub(super) struct Cursor<'a> {
    input: &'a Input,
    /// Position of the next byte to be delivered.
    at: u64,
    inner: Inner<'a>,
}

enum Inner<'a> {
    Plain { buffer: Vec<u8>, begins: u64 },
    Inflated(Box<Inflating<'a>>),
}

struct Inflating<'a> {
    start: u64,
    len: u64,
    /// Compressed bytes consumed.
    used: u64,
    state: Box<DecompressorOxide>,
    ring: Vec<u8>,
    /// Where the next output goes.
    ring_at: usize,
    /// Output not yet delivered: `ring[ready.0..ready.1]`.
    ready: (usize, usize),
    ended: Option<Status>,
    /// Compressed bytes read ahead, which begin at `buffer_at` of the stream.
    buffer: Vec<u8>,
    buffer_at: u64,
    /// Copies to start from when reading, or being made.
    points: Option<&'a [Point]>,
    made: Option<Vec<Point>>,
    apart: u64,
}

const PLAIN_BUFFER: usize = 8 << 10;
const DEFLATED_BUFFER: usize = 32 << 10;

impl<'a> Cursor<'a> {
    /// Reads the file itself, from `at`.
    pub(super) fn plain(input: &'a Input, at: u64) -> Self {
        Self { input, at, inner: Inner::Plain { buffer: Vec::new(), begins: 0 } }
    }

    /// Reads a zlib stream from its beginning; with `index`, copies of the state are made on the way.
    pub(super) fn inflated(input: &'a Input, start: u64, len: u64, index: bool) -> Self {
        let mut inflating = Inflating::new(start, len);
        if index {
            inflating.made = Some(Vec::new());
        }
        Self { input, at: 0, inner: Inner::Inflated(Box::new(inflating)) }
    }

    /// Reads an indexed stream.
    pub(super) fn of(input: &'a Input, stream: &'a Stream) -> Self {
        match stream {
            Stream::Plain => Self::plain(input, 0),
            Stream::Inflated { start, len, points } => {
                let mut inflating = Inflating::new(*start, *len);
                inflating.points = Some(points);
                Self { input, at: 0, inner: Inner::Inflated(Box::new(inflating)) }
            }
        }
    }

    /// Position in the stream.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Fills `out`.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<()> {
        match &mut self.inner {
            Inner::Plain { buffer, begins } => {
                let wanted = out.len() as u64;
                let inside = self.at >= *begins && self.at + wanted <= *begins + buffer.len() as u64;
                if !inside && out.len() < PLAIN_BUFFER {
                    let n = (PLAIN_BUFFER as u64).min(self.input.len().saturating_sub(self.at));
                    if n >= wanted {
                        buffer.resize(n as usize, 0);
                        self.input.read_at(self.at, buffer)?;
                        *begins = self.at;
                    }
                }
                if self.at >= *begins && self.at + wanted <= *begins + buffer.len() as u64 {
                    let from = (self.at - *begins) as usize;
                    out.copy_from_slice(&buffer[from..from + out.len()]);
                } else {
                    self.input.read_at(self.at, out)?;
                }
                self.at += wanted;
            }
            Inner::Inflated(inflating) => {
                let mut done = 0;
                while done < out.len() {
                    let part = inflating.chunk(self.input, self.at)?;
                    let n = part.len().min(out.len() - done);
                    out[done..done + n].copy_from_slice(&part[..n]);
                    inflating.ready.0 += n;
                    done += n;
                    self.at += n as u64;
                }
            }
        }
        Ok(())
    }

    /// Goes to `to`.
    pub(super) fn seek(&mut self, to: u64) -> Result<()> {
        match &mut self.inner {
            Inner::Plain { .. } => self.at = to,
            Inner::Inflated(inflating) => {
                if let Some(at) = inflating.start_near(self.at, to) {
                    self.at = at;
                }
                while self.at < to {
                    let part = inflating.chunk(self.input, self.at)?;
                    let n = (part.len() as u64).min(to - self.at) as usize;
                    inflating.ready.0 += n;
                    self.at += n as u64;
                }
            }
        }
        Ok(())
    }

    /// Reads to the end of a zlib stream. Returns how it ended and the states copied.
    pub(super) fn finish(self) -> Result<(Ending, Vec<Point>)> {
        let Inner::Inflated(mut inflating) = self.inner else { return Ok((Ending::Whole, Vec::new())) };
        let mut at = self.at;
        let mut left_over = 0;
        while inflating.ended.is_none() || inflating.ready.0 < inflating.ready.1 {
            match inflating.chunk(self.input, at).map(<[u8]>::len) {
                Ok(n) => {
                    left_over += n;
                    at += n as u64;
                    inflating.ready.0 += n;
                }
                Err(e) if inflating.ended.is_none() => return Err(e),
                Err(_) => {}
            }
        }
        let ending = match inflating.ended {
            Some(Status::Done) if left_over > 0 || inflating.used < inflating.len => Ending::Trailing,
            Some(Status::Done) => Ending::Whole,
            Some(Status::Adler32Mismatch) => Ending::WrongChecksum,
            _ => Ending::CutOff,
        };
        Ok((ending, inflating.made.unwrap_or_default()))
    }
}

impl Inflating<'_> {
    fn new(start: u64, len: u64) -> Self {
        Self {
            start,
            len,
            used: 0,
            state: Box::default(),
            ring: vec![0; WINDOW],
            ring_at: 0,
            ready: (0, 0),
            ended: None,
            buffer: Vec::new(),
            buffer_at: 0,
            points: None,
            made: None,
            apart: APART,
        }
    }

    /// Starts from the best point for going from `at` to `to`, if that spares anything. Returns the new position.
    fn start_near(&mut self, at: u64, to: u64) -> Option<u64> {
        let points = self.points?;
        let next = points.partition_point(|p| p.out <= to);
        let best = next.checked_sub(1).and_then(|i| points.get(i));
        if to >= at && best.is_none_or(|p| p.out <= at) {
            return None;
        }
        match best {
            Some(p) => {
                *self.state = p.state.clone();
                self.ring.copy_from_slice(&p.ring);
                (self.ring_at, self.used, self.ended) = (p.ring_at, p.used, None);
                self.ready = (0, 0);
                Some(p.out)
            }
            None => {
                *self.state = DecompressorOxide::new();
                (self.ring_at, self.used, self.ended, self.ready) = (0, 0, None, (0, 0));
                Some(0)
            }
        }
    }

    /// Output not yet delivered, at least one byte. `at` is its position.
    fn chunk(&mut self, input: &Input, at: u64) -> Result<&[u8]> {
        while self.ready.0 == self.ready.1 {
            if let Some(status) = self.ended {
                let what = match status {
                    Status::Done | Status::Adler32Mismatch => "the inflated data end too early",
                    Status::FailedCannotMakeProgress => "the compressed data are cut off",
                    _ => "the compressed data are damaged",
                };
                return Err(Error::format(format!("{what} (after {at} inflated bytes)"))
                    .at(format!("byte {}", self.start + self.used))
                    .remedy("the file is damaged; copy or download it again"));
            }
            self.note_point(at);
            self.inflate(input)?;
        }
        Ok(&self.ring[self.ready.0..self.ready.1])
    }

    /// Copies the state when the last copy is far enough behind. Nothing is waiting to be delivered then.
    fn note_point(&mut self, at: u64) {
        let Some(made) = &mut self.made else { return };
        if at < made.last().map_or(0, |p| p.out) + self.apart {
            return;
        }
        made.push(Point {
            out: at,
            used: self.used,
            state: (*self.state).clone(),
            ring: self.ring.clone(),
            ring_at: self.ring_at,
        });
        if made.len() >= MOST_POINTS {
            let mut i = 0;
            made.retain(|_| {
                i += 1;
                i % 2 == 0
            });
            self.apart *= 2;
        }
    }

    fn inflate(&mut self, input: &Input) -> Result<()> {
        let behind = self.used.checked_sub(self.buffer_at).filter(|b| *b < self.buffer.len() as u64);
        let from = match behind {
            Some(from) => from as usize,
            None => {
                let n = (DEFLATED_BUFFER as u64).min(self.len - self.used) as usize;
                self.buffer.resize(n, 0);
                input.read_at(self.start + self.used, &mut self.buffer)?;
                self.buffer_at = self.used;
                0
            }
        };
        let more = self.buffer_at + (self.buffer.len() as u64) < self.len;
        let flags = TINFL_FLAG_PARSE_ZLIB_HEADER
            | TINFL_FLAG_COMPUTE_ADLER32
            | if more { TINFL_FLAG_HAS_MORE_INPUT } else { 0 };
        let (status, read, written) =
            decompress(&mut self.state, &self.buffer[from..], &mut self.ring, self.ring_at, flags);
        self.used += read as u64;
        self.ready = (self.ring_at, self.ring_at + written);
        self.ring_at = (self.ring_at + written) % WINDOW;
        match status {
            // It has room and input, so it must move; should it not, better an error than a loop.
            Status::HasMoreOutput | Status::NeedsMoreInput if more && read + written == 0 => {
                self.ended = Some(Status::Failed);
            }
            Status::HasMoreOutput => {}
            // At the end of the buffer the next call brings more input.
            Status::NeedsMoreInput if more => {}
            Status::NeedsMoreInput => self.ended = Some(Status::FailedCannotMakeProgress),
            ended => self.ended = Some(ended),
        }
        Ok(())
    }
}
