//! `heartlore pretrain`: learns, without labels, to reconstruct masked spans.

use std::path::{Path, PathBuf};

use super::options::{model, selection, training};
use crate::cli::rundir::{self, RunDir, RunLogger, curves};
use crate::cli::{Context, reports, simulate};
use crate::data::batch::{Batches, Sampling};
use crate::data::source::WindowSource;
use crate::data::split::{Group, Protocol, Split};
use crate::data::store::Store;
use crate::error::Result;
use crate::model::Model;
use crate::model::{Card, Preprocessing, Task, provenance};
use crate::report::{NoticeKind, Report, Tile};
use crate::train::{Objective, PretrainData, PretrainSettings, pretrain, pretrain_objectives};

const EXAMPLES: &str = "\
Examples:
  heartlore pretrain --data store --out runs/pre
  heartlore pretrain --data store --out runs/paper --preset paper --checkpoint-every 500
  heartlore pretrain --out runs/pre --resume
  heartlore pretrain --config runs/pre/config.toml --out runs/again --seed 2
  heartlore pretrain --data store --out runs/pre --exclude-dataset labelled   # nobody who will be tested
  heartlore pretrain --data store --out runs/pre --exclude-subject @testees.txt

Whoever will be tested should not be pre-trained on, not even without labels. The model remembers, by name and by content,
whom it saw, and finetune says whether any of them is tested.
Ctrl-C finishes the step, saves and leaves with exit code 130; --resume goes on to the same bits.";

/// Flags of `pretrain`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Prepared store
    #[arg(long)]
    pub data: PathBuf,
    /// Directory of the run
    #[arg(long, short)]
    pub out: PathBuf,
    /// Go on with the interrupted run in --out
    #[arg(long)]
    pub resume: bool,
    /// Whose windows
    #[command(flatten)]
    pub selection: selection::SelectionArgs,
    /// Most windows of one data set per epoch, drawn afresh each epoch [default: no limit]
    #[arg(long)]
    pub cap_per_dataset: Option<usize>,
    /// Share of the windows set aside, whole people at a time, to choose the best epoch; 0 for none
    #[arg(long, default_value_t = 0.0)]
    pub validation: f64,
    /// Objectives with their weights: masked, physiology, or both, as masked=1,physiology=0.5
    #[arg(long, default_value = "masked=1", value_name = "LIST")]
    pub objective: Objective,
    /// Each patch of the masked target has mean 0 and variance 1
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub normalise_patches: bool,
    /// The model
    #[command(flatten)]
    pub model: model::ModelArgs,
    /// The run
    #[command(flatten)]
    pub training: training::TrainingArgs,
    /// Configuration file with any of these flags as keys
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// Pre-trains, saves the model and writes the report.
///
/// # Errors
/// Settings or data that make no sense, a failing disk, an interruption.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let store = Store::open(&args.data)?;
    let done = train(args, &store, context)?;
    let text = format!(
        "{}: {} parameters, epoch {}, training loss {:.4}{}\n  model   {}\n  report  {}\n",
        args.out.display(),
        done.model.parameters(),
        done.epoch + 1,
        done.train_loss,
        done.validation_loss.map(|l| format!(", validation loss {l:.4}")).unwrap_or_default(),
        args.out.join("model").display(),
        args.out.join("report.html").display()
    );
    context.result(&text, || {
        serde_json::json!({
            "run": args.out.display().to_string(),
            "model": args.out.join("model").display().to_string(),
            "parameters": done.model.parameters(),
            "epoch": done.epoch + 1,
            "train_loss": done.train_loss,
            "validation_loss": done.validation_loss,
        })
    })
}

/// What pre-training left.
pub(crate) struct Done {
    pub(crate) model: Model,
    pub(crate) epoch: u64,
    pub(crate) train_loss: f64,
    pub(crate) validation_loss: Option<f64>,
    /// Rows to show reconstructions of: not trained on, if there are any.
    pub(crate) shown: Vec<usize>,
    people: usize,
    people_left_out: usize,
}

/// Names the windows and the index: a resumed run must have the same.
pub(crate) fn fingerprint(store: &Store) -> String {
    let parts = store.manifest().sha256.iter().map(|(name, hash)| format!("{name} {hash}"));
    parts.collect::<Vec<_>>().join(" ")
}

/// Whether any of the data are simulated.
pub(crate) fn is_simulated(store: &Store) -> bool {
    let index = store.index();
    store.manifest().notes.iter().any(|n| n.starts_with("simulated"))
        || (0..index.len()).any(|i| index.dataset(i) == simulate::DATASET)
}

/// One line per data set for the model card.
pub(crate) fn training_data(store: &Store, rows: &[usize]) -> Vec<String> {
    let mut counts = std::collections::BTreeMap::new();
    for &i in rows {
        *counts.entry(store.index().dataset(i)).or_insert(0usize) += 1;
    }
    counts.iter().map(|(name, n)| format!("{name}: {n} windows")).collect()
}

/// Pre-trains into `args.out` and writes everything there.
pub(crate) fn train(args: &Args, store: &Store, context: &Context) -> Result<Done> {
    let mut config = args.model.resolve(None)?;
    if args.model.window.is_none() {
        config.window = store.samples();
        config.validate()?;
    }
    let preset = args.model.preset.as_deref().unwrap_or("small");
    let (run, augment) = args.training.resolve(training::pretraining(preset))?;
    let left_out = args.selection.people_out()?;
    {
        let mut echoed = context.config.borrow_mut();
        model::echo(&config, &mut echoed)?;
        training::echo(&run, &mut echoed)?;
        echoed.set("preset", preset)?;
        // The names, not the file they came from.
        echoed.set("exclude-subject", left_out.clone())?;
    }
    let rows = args.selection.rows(store, &left_out)?;
    let (seen, seen_recordings) = provenance::of_rows(store, rows.iter().copied(), false);
    let (train, validation) = set_aside(store, &rows, args.validation, run.seed)?;
    let sampling = match args.cap_per_dataset {
        None => Sampling::All,
        Some(cap) => {
            let mut ids = std::collections::HashMap::new();
            let mut id = |name: &str| {
                let next = ids.len() as u32;
                *ids.entry(name.to_string()).or_insert(next)
            };
            Sampling::Capped { groups: train.iter().map(|&i| id(store.index().dataset(i))).collect(), cap }
        }
    };
    let per_epoch =
        Batches::new(train.clone(), run.batch, false, run.seed, sampling.clone())?.batches_per_epoch() as u64;
    let mut dir = RunDir::open(&args.out, args.resume, store, context)?;
    let settings = PretrainSettings { model: config.clone(), run: run.clone(), augment };
    let shown = if validation.is_empty() { train.clone() } else { validation.clone() };
    let unseen = !validation.is_empty();
    let data = PretrainData { source: store, train, sampling, validation, fingerprint: fingerprint(store) };
    let mut watch = RunLogger::new(dir.dir(), args.resume, &[per_epoch.saturating_mul(run.epochs)], context);
    let objective = Objective { normalise_patches: args.normalise_patches, ..args.objective };
    let outcome = if objective.is_masked_alone() {
        pretrain(&settings, &data, dir.dir(), args.resume, &mut watch)
    } else {
        let fs_hz = store.manifest().processing.rate_hz;
        pretrain_objectives(&settings, &objective, fs_hz, &data, dir.dir(), args.resume, &mut watch)
    };
    let summary = watch.settle(outcome)?;
    let task = if objective.masked > 0.0 { Task::Pretrained } else { Task::Encoder };
    let mut metrics = vec![("training loss".to_string(), format!("{:.4}", summary.train_loss))];
    metrics.extend(summary.validation_loss.map(|l| ("validation loss".to_string(), format!("{l:.4}"))));
    let model = Model::from_weights(config, task, &summary.weights.layout, &summary.weights.values)?
        .with_threads(run.threads)
        .with_preprocessing(Preprocessing::of_store(store.manifest())?)
        .with_card(Card {
            training_data: training_data(store, &rows),
            simulated: is_simulated(store),
            metrics,
            notes: store.manifest().notes.clone(),
            licence: None,
            people: Some(seen.clone()),
            provenance: seen_recordings,
        });
    model.save(dir.dir().join("model"))?;
    let done = Done {
        model,
        epoch: summary.best_epoch,
        train_loss: summary.train_loss,
        validation_loss: summary.validation_loss,
        shown,
        people: provenance::count(&seen),
        people_left_out: left_out.len(),
    };
    write_report(&done, dir.dir(), store, unseen, run.seed, context)?;
    dir.finish(serde_json::json!({
        "epoch": done.epoch + 1,
        "train_loss": done.train_loss,
        "validation_loss": done.validation_loss,
        "people": seen,
    }))?;
    Ok(done)
}

/// Training and validation rows, whole people at a time.
fn set_aside(store: &Store, rows: &[usize], fraction: f64, seed: u64) -> Result<(Vec<usize>, Vec<usize>)> {
    if fraction == 0.0 {
        return Ok((rows.to_vec(), Vec::new()));
    }
    let all = store.index().split_keys();
    let keys = crate::data::split::Keys {
        subject: rows.iter().map(|&i| all.subject[i]).collect(),
        trial: rows.iter().map(|&i| all.trial[i]).collect(),
        ..Default::default()
    };
    let split =
        Split::new(&keys, Protocol::Single { group: Group::Subject, test_fraction: fraction }, 0.0, seed)
            .map_err(|e| e.at("--validation"))?;
    let of = |list: &[usize]| list.iter().map(|&i| rows[i]).collect::<Vec<_>>();
    let fold = &split.folds[0];
    Ok((of(&fold.train), of(&fold.test)))
}

fn write_report(
    done: &Done,
    dir: &Path,
    store: &Store,
    unseen: bool,
    seed: u64,
    context: &Context,
) -> Result<()> {
    let mut report = Report::new("Pre-training").subtitle(format!(
        "Masked spans of {} windows reconstructed by a 1D-CNN and Transformer",
        store.len()
    ));
    if is_simulated(store) {
        report = report.notice(NoticeKind::Simulated, "Simulated data", simulate::NOTE);
    }
    let mut tiles = vec![
        Tile::new("Parameters", done.model.parameters().to_string(), ""),
        Tile::new(
            "Training loss",
            format!("{:.3}", done.train_loss),
            "mean squared error over masked points; 1 = predicting zero",
        ),
    ];
    tiles.extend(
        done.validation_loss
            .map(|l| Tile::new("Validation loss", format!("{l:.3}"), format!("epoch {}", done.epoch + 1))),
    );
    tiles.push(Tile::new(
        "People",
        done.people.to_string(),
        match done.people_left_out {
            0 => "nobody left out by name".to_string(),
            n => format!("{n} left out by name"),
        },
    ));
    let mut report = report.tiles(tiles);
    let masked = *done.model.task() == Task::Pretrained;
    if masked {
        report = report.section(reports::reconstructions(&done.model, store, &done.shown, unseen, seed)?);
    }
    let what = if masked { "masked mean squared error" } else { "loss of the objectives" };
    let report = report
        .section(reports::training("Training", what, &curves(dir)?, Some(done.epoch)))
        .provenance(rundir::provenance(context, Some(store)));
    report.save(dir.join("report.html"))
}
