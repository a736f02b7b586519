//! `heartlore stream`: a live signal from standard input, or a recording replayed, as one JSON line per event.

use std::io::{BufRead, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ecg::Ecg;
use super::windows::RecordingArgs;
use crate::cli::{Context, interrupt};
use crate::data::recording::Unit;
use crate::error::{Error, Kind, Result};
use crate::model::{Event, Model, Stream, StreamOptions, Task};

/// Flags of `stream`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  heartlore stream --model runs/fine/model --replay recording.edf --speed 1
  heartlore stream --model runs/fine/model --fs-hz 130 --unit uV < samples.txt
  heartlore stream --model runs/fine/model --fs-hz 500 --format int16 --unit uV --scale 4.88 < samples.bin

Samples go through the model's own filter, resampler, normaliser and quality gate as they come. The first line of the output
describes the stream, with the delay of each stage and every flag as `settings`; each event after it is one line: beat, window,
gap, lead_off, lead_on; the last line counts them. Times are seconds of signal. In text, one sample per line or several between commas, tabs or
blanks; nan or an empty line is a missing sample.")]
pub struct Args {
    /// Directory of a fine-tuned model.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Recording to replay; without it, samples come from standard input.
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// How many times faster than it was recorded to replay; 0 does not wait at all.
    #[arg(long, default_value_t = 1.0, value_name = "N")]
    pub speed: f64,
    /// How samples on standard input are written: text or int16 (little-endian).
    #[arg(long, default_value = "text", value_parser = ["text", "int16"], value_name = "FORMAT")]
    pub format: String,
    /// Units per step of the converter, for int16.
    #[arg(long, default_value_t = 1.0, value_name = "UNITS")]
    pub scale: f64,
    /// Seconds from one window's start to the next; the model's own by default.
    #[arg(long, value_name = "SECONDS")]
    pub hop_s: Option<f64>,
    /// Let a model trained on zero-phase windows run with the causal filter of the same edges.
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub causal: bool,
    /// Seconds without any change after which an electrode counts as off.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    pub lead_off_s: f64,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub recording: RecordingArgs,
    /// Configuration file with any of these flags as keys.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What was reported, by kind.
#[derive(Default)]
struct Counts {
    beats: u64,
    windows: u64,
    usable: u64,
    gaps: u64,
    leads_off: u64,
}

/// Runs the command.
///
/// # Errors
/// A model that cannot run on a live signal; a recording or a sample that cannot be read; a rate or a unit that is not
/// known.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    if !(args.speed >= 0.0 && args.speed.is_finite()) {
        return Err(super::bad_flag("speed", format!("{} times; use 1, or 0 to not wait", args.speed)));
    }
    let model = Model::load(&args.model)?.with_threads(1);
    let Task::Classifier { positive, threshold, .. } = model.task().clone() else {
        return Err(Error::usage("this model was only pre-trained: it has no classifier")
            .in_file(&args.model)
            .remedy("fine-tune it first: heartlore finetune --data STORE --label NAME --init DIR"));
    };
    interrupt::listen();
    let replayed = match &args.replay {
        Some(file) => Some(Ecg::read(file, &args.recording)?),
        None => None,
    };
    let (fs_hz, mv_per_unit) = match &replayed {
        Some(ecg) => (ecg.fs_hz, ecg.mv_per_unit()),
        None => (
            args.recording.fs_hz.ok_or_else(|| {
                super::bad_flag("fs-hz", "samples on standard input say no rate")
                    .remedy("give the samples per second, for example --fs-hz 130")
            })?,
            match args.recording.options(None)?.unit {
                None | Some(Unit::Arbitrary) => None,
                Some(unit) => unit.to_millivolt(),
            },
        ),
    };
    let options =
        StreamOptions { hop_s: args.hop_s, mv_per_unit, causal: args.causal, lead_off_s: args.lead_off_s };
    let mut stream = Stream::new(&model, fs_hz, options)?;
    let delays = stream.delays();
    line(
        context,
        &json!({
            "event": "start", "fs_hz": fs_hz, "positive": positive, "threshold": threshold,
            "delays": { "filter_s": delays.filter_s, "resampler_s": delays.resampler_s,
                        "window_s": delays.window_s, "beats_s": delays.beats_s },
            "settings": context.settings(),
        }),
    )?;
    let mut counts = Counts::default();
    let mut take = |stream: &mut Stream, block: &[f64]| {
        stream.push(block)?;
        report(stream, context, &mut counts)
    };
    match &replayed {
        Some(ecg) => replay(ecg, args.speed, &mut stream, &mut take)?,
        None if args.format == "int16" => read_int16(args.scale, &mut stream, &mut take)?,
        None => read_text(&mut stream, &mut take)?,
    }
    stream.finish()?;
    report(&mut stream, context, &mut counts)?;
    line(
        context,
        &json!({
            "event": "end", "duration_s": stream.seen() as f64 / fs_hz, "beats": counts.beats,
            "windows": counts.windows, "usable_windows": counts.usable, "gaps": counts.gaps,
            "leads_off": counts.leads_off,
        }),
    )
}

type Take<'a> = dyn FnMut(&mut Stream, &[f64]) -> Result<()> + 'a;

fn line(context: &Context, value: &Value) -> Result<()> {
    context.out(&format!("{value}\n"))
}

fn report(stream: &mut Stream, context: &Context, counts: &mut Counts) -> Result<()> {
    while let Some(event) = stream.next_event() {
        let value = match event {
            Event::Beat { time_s, rr_s } => {
                counts.beats += 1;
                json!({ "event": "beat", "time_s": time_s, "rr_s": rr_s })
            }
            Event::Window { start_s, end_s, probability, quality, index } => {
                counts.windows += 1;
                counts.usable += u64::from(quality == "ok");
                json!({
                    "event": "window", "start_s": start_s, "end_s": end_s, "probability": probability,
                    "quality": quality, "quality_index": index,
                })
            }
            Event::Gap { start_s, end_s, samples } => {
                counts.gaps += 1;
                json!({ "event": "gap", "start_s": start_s, "end_s": end_s, "samples": samples })
            }
            Event::LeadOff { start_s } => {
                counts.leads_off += 1;
                json!({ "event": "lead_off", "start_s": start_s })
            }
            Event::LeadOn { time_s } => json!({ "event": "lead_on", "time_s": time_s }),
        };
        line(context, &value)?;
    }
    Ok(())
}

/// Blocks of a tenth of a second, each when its last sample is due.
fn replay(ecg: &Ecg, speed: f64, stream: &mut Stream, take: &mut Take<'_>) -> Result<()> {
    let block = ((0.1 * ecg.fs_hz) as usize).max(1);
    let begin = Instant::now();
    for part in ecg.samples.chunks(block) {
        if interrupt::asked() {
            return Ok(());
        }
        take(stream, part)?;
        if speed > 0.0 {
            let due = Duration::from_secs_f64(stream.seen() as f64 / ecg.fs_hz / speed);
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
        }
    }
    Ok(())
}

fn read_text(stream: &mut Stream, take: &mut Take<'_>) -> Result<()> {
    let mut samples = Vec::new();
    for (i, text) in std::io::stdin().lock().lines().enumerate() {
        if interrupt::asked() {
            return Ok(());
        }
        let text = text.map_err(|e| Error::io("standard input", e))?;
        samples.clear();
        let words = text.split([',', ';', '\t', ' ']).map(str::trim).filter(|w| !w.is_empty());
        for word in words {
            samples.push(word.parse().map_err(|_| {
                Error::new(Kind::Format, format!("'{word}' is not a number"))
                    .in_file("standard input")
                    .at(format!("line {}", i + 1))
                    .remedy("write one sample per line, nan where one is missing, without a header")
            })?);
        }
        if samples.is_empty() {
            samples.push(f64::NAN);
        }
        take(stream, &samples)?;
    }
    Ok(())
}

fn read_int16(scale: f64, stream: &mut Stream, take: &mut Take<'_>) -> Result<()> {
    if !(scale.is_finite() && scale != 0.0) {
        return Err(super::bad_flag("scale", format!("{scale} units per step")));
    }
    let mut input = std::io::stdin().lock();
    let (mut bytes, mut held, mut samples) = ([0u8; 4096], 0, Vec::new());
    loop {
        if interrupt::asked() {
            return Ok(());
        }
        let n = match input.read(&mut bytes[held..]) {
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Error::io("standard input", e)),
        };
        if n == 0 && held == 1 {
            return Err(Error::format("the last sample has one byte of two").in_file("standard input"));
        }
        if n == 0 {
            return Ok(());
        }
        let have = held + n;
        samples.clear();
        samples.extend(
            bytes[..have].as_chunks::<2>().0.iter().map(|b| f64::from(i16::from_le_bytes(*b)) * scale),
        );
        take(stream, &samples)?;
        held = have % 2;
        bytes[0] = bytes[have - 1];
    }
}
