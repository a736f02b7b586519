//! `heartlore quickstart`: the whole job in a few minutes, on real ECG that comes with the program.
//!
//! A tiny model is pre-trained from scratch on 18 unlabelled minutes, so that one can watch it learn. Then the encoder that
//! comes with the program, which saw none of these people, is probed on 36 people at rest and doing mental arithmetic
//! (EEGMAT), in six folds over people, beside counting heart beats: for a new person, with 30 s of the person's own
//! rest known, and with the person's past. The matrix is `examples/experiments/quickstart.toml`; nothing in it was chosen on
//! these people (`examples/experiments/README.md` has the full comparison, with seeds, and says what was tried).

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::checkpoint::write_bytes;
use crate::cli::experiment::{self, Finished};
use crate::cli::rundir::{self, curves, peak_memory_bytes, provenance};
use crate::cli::{Command, Context, prepare, pretrain, reports};
use crate::data::prepare::PrepareSettings;
use crate::data::shipped;
use crate::data::source::WindowSource;
use crate::data::store::Store;
use crate::error::{Error, IoContext, Result};
use crate::report::plots::{PredictionTimeline, Trace, TrueSpan, WindowPrediction, prediction_timeline};
use crate::report::{Figure, NoticeKind, Report, Section, Tile};
use crate::signal::physiology;
use crate::train::shard;

const EXAMPLES: &str = "\
Examples:
  heartlore quickstart
  heartlore quickstart --out try --seed 7

All recordings are real and come with the program: 18 minutes without labels for pre-training, and 36 people at rest and
doing mental arithmetic. `heartlore simulate` writes a simulated labelled study.";

/// Flags of `quickstart`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Directory to make [default: quickstart, or quickstart-2, ... if it exists]
    #[arg(long, short)]
    pub out: Option<PathBuf>,
    /// Seed of the pre-training from scratch
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads, 0 for all cores
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Epochs of pre-training
    #[arg(long, default_value_t = 60)]
    pub pretrain_epochs: u64,
    /// Configuration file with any of these flags as keys
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// The recordings, inside the program so that an installed copy has them too.
const FILES: [(&str, &[u8]); 9] = [
    ("README.md", include_bytes!("../../examples/data/README.md")),
    ("mitbih208.hea", include_bytes!("../../examples/data/mitbih208.hea")),
    ("mitbih208.dat", include_bytes!("../../examples/data/mitbih208.dat")),
    ("plux_5min.hea", include_bytes!("../../examples/data/plux_5min.hea")),
    ("plux_5min.dat", include_bytes!("../../examples/data/plux_5min.dat")),
    ("plux_7min.hea", include_bytes!("../../examples/data/plux_7min.hea")),
    ("plux_7min.dat", include_bytes!("../../examples/data/plux_7min.dat")),
    ("plux_supine.hea", include_bytes!("../../examples/data/plux_supine.hea")),
    ("plux_supine.dat", include_bytes!("../../examples/data/plux_supine.dat")),
];

/// The labelled recordings.
const EEGMAT: [(&str, &[u8]); 3] = [
    ("README.md", include_bytes!("../../examples/data/eegmat/README.md")),
    ("manifest.csv", include_bytes!("../../examples/data/eegmat/manifest.csv")),
    ("eegmat.i16", include_bytes!("../../examples/data/eegmat/eegmat.i16")),
];

/// What is compared.
const MATRIX: &str = include_str!("../../examples/experiments/quickstart.toml");

/// Names in the matrix, for the timeline.
const KNOWN: [&str; 2] = ["new person", "30 s of own rest known"];
const SHOWN: &str = "pre-trained, frozen";

/// Writes files into a new folder.
fn unpack(files: &[(&str, &[u8])], dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_file(dir)?;
    for (name, bytes) in files {
        let path = dir.join(name);
        std::fs::write(&path, bytes).with_file(&path)?;
    }
    Ok(())
}

/// Runs every step and writes the report.
///
/// # Errors
/// A directory that exists, a full disk, an interruption.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let clock = Instant::now();
    let out = directory(args)?;
    let _lock = rundir::lock(&out, context)?;
    write_bytes(out.join("config.toml"), context.config.borrow().to_toml().as_bytes())?;
    let step = |n: usize, what: &str| {
        context.note(format!("[{n}/3] {what} ({:.0} s)", clock.elapsed().as_secs_f64()))
    };

    step(1, "pre-training a tiny model on 18 minutes of real ECG, without labels");
    let (unlabelled, pre) = (out.join("recordings/unlabelled"), out.join("pretrain"));
    unpack(&FILES, &unlabelled)?;
    let mut settings = PrepareSettings { hop: 320, ..PrepareSettings::default() };
    settings.notes = shipped::notes();
    let store = out.join("stores/unlabelled");
    std::fs::create_dir_all(out.join("stores")).with_file(&out)?;
    let (place, items) = (prepare::lock(&store, false, context)?, shipped::items(&unlabelled));
    prepare::into_store(place, &items, &settings, args.threads, context, |_, _, _| Ok(()))?;
    let store = Store::open(&store)?;
    let pretrained = pretrained(args, &store, &pre, context)?;

    step(2, "probing the shipped encoder on 36 people, beside counting heart beats");
    let labelled = out.join("recordings/eegmat");
    unpack(&EEGMAT, &labelled)?;
    let matrix = out.join("quickstart.toml");
    write_bytes(&matrix, MATRIX.as_bytes())?;
    let mut file = experiment::File::parse(MATRIX, &matrix)?;
    file.data = labelled;
    let finished = experiment::carry_out(&file, &out.join("experiment"), args.threads, context)?;
    let (sections, table, figures) = finished.sections()?;

    step(3, "writing the report");
    let wall_s = clock.elapsed().as_secs_f64();
    let threads = match shard::threads(args.threads) {
        1 => "on one thread".to_owned(),
        n => format!("on {n} threads"),
    };
    let mut tiles = vec![Tile::new("Time", format!("{wall_s:.0} s"), threads)];
    tiles.extend(
        peak_memory_bytes().map(|b| Tile::new("Memory", format!("{} MB", b / 1_000_000), "largest resident")),
    );
    let validation = pretrained.validation_loss.is_some();
    let mut report = Report::new("heartlore quickstart")
        .subtitle("Real ECG: pre-training one can watch, then 36 people at rest and doing mental arithmetic")
        .notice(
            NoticeKind::Info,
            "What the labels are",
            "Rest or mental arithmetic stands for arousal or mental load; it is no reported emotion. Rest always comes \
             first, so time and state are confounded. The encoder saw none of these people.",
        )
        .tiles(tiles);
    for section in sections {
        report = report.section(section);
    }
    let file = out.join("report.html");
    report
        .section(timeline(&finished)?)
        .section(reports::reconstructions(
            &pretrained.model,
            &store,
            &pretrained.shown,
            validation,
            args.seed,
        )?)
        .section(reports::training(
            "Pre-training from scratch on 18 minutes",
            "masked mean squared error",
            &curves(&pre)?,
            Some(pretrained.epoch),
        ))
        .section(next_steps(&out))
        .provenance(provenance(context, Some(&finished.store)))
        .save(&file)?;
    let shown = std::path::absolute(&file).unwrap_or_else(|_| file.clone());
    context.result(&format!("{table}report: {}\n", shown.display()), || {
        serde_json::json!({
            "report": shown.display().to_string(),
            "model": out.join("pretrain/model").display().to_string(),
            "simulated": false,
            "wall_s": wall_s,
            "peak_memory_bytes": peak_memory_bytes(),
            "experiment": figures,
        })
    })
}

/// The model pre-trained from scratch.
fn pretrained(args: &Args, store: &Store, pre: &Path, context: &Context) -> Result<pretrain::Done> {
    let (seed, threads) = (args.seed.to_string(), args.threads.to_string());
    let path = |p: &Path| p.to_string_lossy().into_owned();
    let epochs = args.pretrain_epochs.to_string();
    let (data, into) = (path(store.dir()), path(pre));
    let mut flags = vec!["pretrain", "--data", &data, "--out", &into, "--preset", "tiny", "--batch", "32"];
    flags.extend(["--epochs", &epochs, "--validation", "0.05", "--seed", &seed, "--threads", &threads]);
    let (command, inner) = context.nested(&flags)?;
    let Command::Pretrain(flags) = command else { return Err(Error::usage("not pretrain")) };
    pretrain::train(&flags, store, &inner)
}

/// The directory asked for, or the first free `quickstart`, `quickstart-2`, ...
fn directory(args: &Args) -> Result<PathBuf> {
    if let Some(out) = &args.out {
        if out.exists() {
            return Err(Error::usage("the directory exists already")
                .in_file(out)
                .remedy("choose another --out"));
        }
        return Ok(out.clone());
    }
    let name = |n: usize| PathBuf::from(if n == 1 { "quickstart".into() } else { format!("quickstart-{n}") });
    (1..1000)
        .map(name)
        .find(|p| !p.exists())
        .ok_or_else(|| Error::usage("a thousand quickstarts are here already").remedy("give --out"))
}

/// One person over time, judged as a new person and with 30 s of their rest known; the person was in no training part.
fn timeline(finished: &Finished<'_>) -> Result<Section> {
    let store = &finished.store;
    let index = store.index();
    let states = index.label_column("label")?;
    let is_positive = |row: usize| index.label(states, row) == Some("arith");
    let name = |row: usize| format!("{}/{}", index.dataset(row), index.subject(row));
    // The first person, in the order of the data, of whom there is something to show in both.
    let mut people: Vec<String> = (0..index.len()).map(name).collect();
    people.dedup();
    let whole = |p: &&String| {
        KNOWN.iter().all(|r| {
            let rows = finished.of_person(r, SHOWN, p);
            rows.iter().any(|w| is_positive(w.0)) && rows.iter().any(|w| !is_positive(w.0))
        })
    };
    let Some(person) = people.iter().find(whole) else {
        return Ok(Section::new("Predictions over time").paragraph("No person has windows of both states."));
    };
    let rows: Vec<usize> = (0..index.len()).filter(|&r| name(r) == *person).collect();
    let p = &store.manifest().processing;
    let window_s = p.window as f64 / p.rate_hz;
    // Recordings follow each other on one axis.
    let (mut at, mut offset, mut before) = (std::collections::BTreeMap::new(), 0.0, None);
    let mut end = 0.0;
    let (mut truth, mut rate): (Vec<TrueSpan>, Vec<(f64, f64)>) = (Vec::new(), Vec::new());
    let mut window = vec![0.0f32; store.samples()];
    for &row in &rows {
        if before.is_some_and(|b: &str| b != index.record(row)) {
            offset = end;
        }
        before = Some(index.record(row));
        let start_s = offset + index.start_s(row);
        end = start_s + window_s;
        at.insert(row, start_s);
        match truth.last_mut() {
            Some(t) if t.positive == is_positive(row) && (t.end_s - start_s).abs() < window_s => {
                t.end_s = end
            }
            _ => truth.push(TrueSpan { start_s, end_s: end, positive: is_positive(row) }),
        }
        store.read(row, &mut window)?;
        let wide: Vec<f64> = window.iter().map(|v| f64::from(*v)).collect();
        rate.extend(physiology(&wide, p.rate_hz)?.heart_rate_bpm.map(|bpm| (start_s + 0.5 * window_s, bpm)));
    }
    let mut section = Section::new("Predictions over time").paragraph(format!(
        "Subject {}, whom neither the encoder nor the probe had seen. Shaded: truly doing arithmetic. Heart rate for comparison.",
        person.rsplit('/').next().unwrap_or(person)
    ));
    for reading in KNOWN {
        let predictions: Vec<WindowPrediction> = finished
            .of_person(reading, SHOWN, person)
            .into_iter()
            .map(|(row, probability)| WindowPrediction {
                start_s: at[&row],
                end_s: at[&row] + window_s,
                probability,
            })
            .collect();
        let svg = prediction_timeline(&PredictionTimeline {
            title: reading,
            positive: "arithmetic",
            windows: &predictions,
            threshold: 0.5,
            trace: Trace::HeartRate(&rate),
            truth: &truth,
        });
        section = section.figure(Figure::new(
            svg,
            format!("Probability of arithmetic for each window of 10 s; {reading}."),
        ));
    }
    Ok(section)
}

fn next_steps(out: &Path) -> Section {
    Section::new("Going on")
        .paragraph("The same with your own recordings: a table items.csv with file, subject and a label per recording, then")
        .code(
            "heartlore prepare --table items.csv --out store\n\
             heartlore finetune --data store --label LABEL --init pretrained --mode probe --out runs/probe\n\
             heartlore finetune --data store --label LABEL --init pretrained --mode probe \\\n    \
             --reference rest --rest LABEL=VALUE --out runs/known-rest\n\
             heartlore predict recording.edf --model runs/known-rest/model --rest rest.edf",
        )
        .paragraph(format!("Everything this run made is in {}.", out.display()))
}
