//! A live signal.

use heartlore::model::{Event, Stream, StreamOptions};
use heartlore::signal::Preparation;

use crate::error::{guard, heartlore_error};
use crate::handle::{borrow, borrow_mut, clear, free, give, slice};
use crate::model::{given, heartlore_model};
use crate::quality_code;

/// A model on a live signal. One thread at a time. It keeps what it needs of the model, which may be freed before it.
#[derive(Debug)]
pub struct heartlore_stream(Stream);

/// What a stream is told. Fill it with zeros for the usual.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct heartlore_stream_options {
    /// Samples per second.
    pub fs_hz: f64,
    /// Millivolts per unit of the samples; 0 if nobody knows.
    pub mv_per_unit: f64,
    /// Seconds from one window's start to the next; 0 for the model's own.
    pub hop_s: f64,
    /// Seconds without any change after which an electrode counts as off; 0 for 1.
    pub lead_off_s: f64,
    /// Not 0: a model trained on zero-phase windows may run with the causal filter of the same edges.
    pub causal: u8,
}

/// An R peak: `time_s`, `rr_s`.
pub const HEARTLORE_EVENT_BEAT: i32 = 1;
/// A complete window: `time_s`, `end_s`, `probability`, `quality`, `index`.
pub const HEARTLORE_EVENT_WINDOW: i32 = 2;
/// Samples were missing: `time_s`, `end_s`, `samples`.
pub const HEARTLORE_EVENT_GAP: i32 = 3;
/// The samples stopped changing at `time_s`: an electrode is off.
pub const HEARTLORE_EVENT_LEAD_OFF: i32 = 4;
/// They change again since `time_s`.
pub const HEARTLORE_EVENT_LEAD_ON: i32 = 5;

/// What a stream reports. Numbers that the kind does not have are NaN or 0. Times are seconds of signal since the first sample.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct heartlore_event {
    /// HEARTLORE_EVENT_BEAT, ...
    pub kind: i32,
    /// Quality of a window: see heartlore_quality_name.
    pub quality: i32,
    /// When, or since when.
    pub time_s: f64,
    /// Until when.
    pub end_s: f64,
    /// Seconds since the beat before.
    pub rr_s: f64,
    /// From 0 (no ECG) to 1 (clean).
    pub index: f64,
    /// How many samples were missing.
    pub samples: u64,
    /// Probability of the positive state.
    pub probability: f32,
}

impl heartlore_event {
    fn of(event: &Event) -> Option<Self> {
        let nan = f64::NAN;
        let empty = Self {
            kind: 0,
            quality: 0,
            time_s: nan,
            end_s: nan,
            rr_s: nan,
            index: nan,
            samples: 0,
            probability: f32::NAN,
        };
        Some(match *event {
            Event::Beat { time_s, rr_s } => {
                Self { kind: HEARTLORE_EVENT_BEAT, time_s, rr_s: rr_s.unwrap_or(nan), ..empty }
            }
            Event::Window { start_s, end_s, probability, quality, index } => Self {
                kind: HEARTLORE_EVENT_WINDOW,
                quality: quality_code(quality),
                time_s: start_s,
                end_s,
                index,
                probability: probability.unwrap_or(f32::NAN),
                ..empty
            },
            Event::Gap { start_s, end_s, samples } => {
                Self { kind: HEARTLORE_EVENT_GAP, time_s: start_s, end_s, samples, ..empty }
            }
            Event::LeadOff { start_s } => Self { kind: HEARTLORE_EVENT_LEAD_OFF, time_s: start_s, ..empty },
            Event::LeadOn { time_s } => Self { kind: HEARTLORE_EVENT_LEAD_ON, time_s, ..empty },
            _ => return None,
        })
    }
}

impl heartlore_stream_options {
    fn options(&self) -> StreamOptions {
        StreamOptions {
            hop_s: given(self.hop_s),
            mv_per_unit: given(self.mv_per_unit),
            causal: self.causal != 0,
            lead_off_s: given(self.lead_off_s).unwrap_or(StreamOptions::default().lead_off_s),
        }
    }
}

/// A stream through `model`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_stream_new(
    model: *const heartlore_model,
    options: *const heartlore_stream_options,
    out: *mut *mut heartlore_stream,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: pointers are null or valid, as the header asks.
    unsafe {
        guard(error, || {
            clear(out, "out")?;
            let (model, o) = (&borrow(model, "model")?.0, borrow(options, "options")?);
            give(heartlore_stream(Stream::new(model, o.fs_hz, o.options())?), out, "out")
        })
    }
}

/// A stream that reports beats and the quality of windows of 10 s, without probabilities. `causal` is not looked at.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_stream_without_model(
    options: *const heartlore_stream_options,
    out: *mut *mut heartlore_stream,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: pointers are null or valid, as the header asks.
    unsafe {
        guard(error, || {
            clear(out, "out")?;
            let o = borrow(options, "options")?;
            let mut preparation = Preparation::default();
            if let Some(hop_s) = given(o.hop_s) {
                preparation.hop = (hop_s * preparation.rate_hz).round() as usize;
            }
            let options = StreamOptions { causal: true, ..o.options() };
            give(heartlore_stream(Stream::without_model(preparation, o.fs_hz, options)?), out, "out")
        })
    }
}

/// Takes the next samples, in a block of any size; one that is not finite is missing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_stream_push(
    stream: *mut heartlore_stream,
    samples: *const f64,
    samples_len: usize,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: pointers are null or valid for their lengths, as the header asks.
    unsafe {
        guard(error, || {
            let stream = borrow_mut(stream, "stream")?;
            stream.0.push(slice(samples, samples_len, "samples")?)
        })
    }
}

/// Takes the next samples as integers of a converter, `scale` units each.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_stream_push_int16(
    stream: *mut heartlore_stream,
    samples: *const i16,
    samples_len: usize,
    scale: f64,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: pointers are null or valid for their lengths, as the header asks.
    unsafe {
        guard(error, || {
            let stream = borrow_mut(stream, "stream")?;
            stream.0.push_i16(slice(samples, samples_len, "samples")?, scale)
        })
    }
}

/// `samples` samples were lost.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_stream_lost(
    stream: *mut heartlore_stream,
    samples: u64,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: null or a live handle, as the header says.
    unsafe { guard(error, || borrow_mut(stream, "stream")?.0.lost(samples)) }
}

/// The signal has ended: reports what was waiting for more. The stream can go on afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_stream_finish(
    stream: *mut heartlore_stream,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: null or a live handle, as the header says.
    unsafe { guard(error, || borrow_mut(stream, "stream")?.0.finish()) }
}

/// Copies the oldest event that was not yet taken to `out`; its kind is 0 when there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_stream_next(
    stream: *mut heartlore_stream,
    out: *mut heartlore_event,
    error: *mut heartlore_error,
) -> i32 {
    // SAFETY: pointers are null or valid, as the header asks.
    unsafe {
        guard(error, || {
            let (stream, out) = (borrow_mut(stream, "stream")?, borrow_mut(out, "out")?);
            out.kind = 0;
            while let Some(event) = stream.0.next_event() {
                if let Some(known) = heartlore_event::of(&event) {
                    *out = known;
                    break;
                }
            }
            Ok(())
        })
    }
}

/// Frees *stream and sets it to null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartlore_stream_free(stream: *mut *mut heartlore_stream) {
    // SAFETY: as for every handle.
    unsafe { free(stream) };
}
